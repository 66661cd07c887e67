//! Standard output and standard error, which nobody may be reading.
//!
//! What is written waits until there is room for it, but no longer than the process is wanted: once its end is asked for,
//! what finds no room is dropped, and all that comes later. A full pipe then keeps nothing from its end.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, OnceLock};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, write};

use super::signals;

/// How much is written at a time, in bytes: a pipe that has room takes so much without a wait (`PIPE_BUF`).
const PIECE: usize = 4096;
/// How long room is waited for before it is asked again whether the process is still wanted.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

static OUT: Output = Output::new();
static ERR: Output = Output::new();

/// Writes to standard output.
pub fn out(text: &str) {
    OUT.write(io::stdout().as_fd(), text.as_bytes());
}

/// Writes to standard error.
pub fn err(text: &str) {
    ERR.write(io::stderr().as_fd(), text.as_bytes());
}

/// Why something is missing on standard output.
pub fn lost() -> Option<io::Error> {
    OUT.failed.get().map(|errno| io::Error::from(*errno))
}

/// Standard error, for whoever takes a writer.
pub struct Log;

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        ERR.write(io::stderr().as_fd(), bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Output {
    /// Lines are not mixed.
    turn: Mutex<()>,
    /// Why nothing more is written.
    failed: OnceLock<Errno>,
}

impl Output {
    const fn new() -> Self {
        Self { turn: Mutex::new(()), failed: OnceLock::new() }
    }

    fn write(&self, to: BorrowedFd<'_>, bytes: &[u8]) {
        let _turn = self.turn.lock().unwrap_or_else(|e| e.into_inner());
        if self.failed.get().is_none()
            && let Err(errno) = write_all(to, bytes)
        {
            let _ = self.failed.set(errno);
        }
    }
}

fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        wait_for_room(to)?;
        match write(to, &bytes[..bytes.len().min(PIECE)]) {
            Ok(written) => bytes = &bytes[written..],
            // Room that was there is taken by somebody else who writes to it.
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn wait_for_room(to: BorrowedFd<'_>) -> rustix::io::Result<()> {
    loop {
        match poll(&mut [PollFd::from_borrowed_fd(to, PollFlags::OUT)], Some(&PATIENCE)) {
            Ok(0) if signals::is_asked() => return Err(Errno::TIMEDOUT),
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return Ok(()),
            Err(errno) => return Err(errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_once_is_remembered_and_tried_no_more() {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let output = Output::new();
        output.write(full.as_fd(), b"x");
        assert_eq!(output.failed.get(), Some(&Errno::NOSPC));
    }

    #[test]
    fn a_slow_reader_gets_all_of_it() {
        use std::io::Read;
        let (mut reader, writer) = io::pipe().unwrap();
        let text: Vec<u8> = (0..300_000u32).map(|n| n as u8).collect();
        let sent = text.clone();
        let writing = std::thread::spawn(move || write_all(writer.as_fd(), &sent));
        let mut read = Vec::new();
        reader.read_to_end(&mut read).unwrap();
        writing.join().unwrap().unwrap();
        assert_eq!(read, text);
    }
}
