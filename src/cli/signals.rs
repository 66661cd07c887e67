//! Signals that end a process, one way for all commands: SIGHUP (unless it is ignored from the start, as `nohup` has it),
//! SIGINT, SIGQUIT and SIGTERM.
//!
//! A command that cleans up takes a [`Stop`] before it makes anything: the first signal asks for the end. Without one, and
//! from the second signal on, the handler itself ends the process, whatever the threads are waiting for.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::Poll;

use haul::error::Error;
use signal_hook::consts::{SIGABRT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGXFSZ};
use signal_hook::flag;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::exit::{INTERRUPTED, OTHER};

static ASKED: AtomicBool = AtomicBool::new(false);
/// Whether the next signal ends the process at once.
static AT_ONCE: AtomicBool = AtomicBool::new(true);
static ALWAYS: AtomicBool = AtomicBool::new(true);
static UNHEEDED: AtomicBool = AtomicBool::new(false);

/// Handles the signals of this process.
///
/// # Errors
/// What the system says when it refuses a handler.
pub fn handle() -> io::Result<()> {
    for number in ending() {
        flag::register_conditional_shutdown(number, INTERRUPTED.into(), &AT_ONCE)?;
        flag::register(number, &AT_ONCE)?;
        flag::register(number, &ASKED)?;
    }
    // A file that gets too long is an error of the write then, and memory that is refused an exit code.
    flag::register(SIGXFSZ, &UNHEEDED)?;
    flag::register_conditional_shutdown(SIGABRT, OTHER.into(), &ALWAYS).map(drop)
}

fn ending() -> Vec<i32> {
    let mut numbers = vec![SIGINT, SIGQUIT, SIGTERM];
    if !is_ignored(SIGHUP, &std::fs::read_to_string("/proc/self/status").unwrap_or_default()) {
        numbers.push(SIGHUP);
    }
    numbers
}

/// Whether `/proc/self/status` counts a signal among those that are ignored.
fn is_ignored(number: i32, status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    mask >> (number - 1) & 1 == 1
}

/// Whether the end was asked for.
pub fn is_asked() -> bool {
    ASKED.load(Relaxed)
}

/// As long as it lives, the first signal asks for the end instead of ending the process.
pub struct Stop(Vec<Signal>);

impl Stop {
    /// To be called on a runtime of tokio, or within its context.
    ///
    /// # Errors
    /// [`Error::System`] if the system refuses to tell.
    pub fn listen() -> Result<Self, Error> {
        let signals: io::Result<_> = ending().into_iter().map(SignalKind::from_raw).map(signal).collect();
        let signals = signals.map_err(|cause| Error::System { what: "listen for signals", cause })?;
        AT_ONCE.store(false, Relaxed);
        Ok(Self(signals))
    }

    /// Waits until the end is asked for; done at once if it was.
    pub async fn asked(&mut self) {
        std::future::poll_fn(|task| {
            // All of them, as each wakes for itself.
            let told = self.0.iter_mut().filter_map(|signal| signal.poll_recv(task).is_ready().then_some(())).count();
            if told > 0 || is_asked() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        AT_ONCE.store(true, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_ignored_if_its_bit_is_set() {
        let status = "Name:\thaul\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\nSigCgt:\t0000000000000000\n";
        assert!(is_ignored(SIGHUP, status) && !is_ignored(SIGINT, status));
        assert!(!is_ignored(SIGHUP, ""));
    }
}
