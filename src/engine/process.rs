//! A process that writes credentials to its standard output.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use crate::model::retry::{Fault, FaultKind};
use crate::store::credentials::answer::BYTES_MAX;

/// How often a process that has closed its output is asked whether it has ended.
const ASK_EVERY: Duration = Duration::from_millis(10);

/// Runs `sh -c COMMAND` and gives what it wrote. Its standard input is empty, its standard error that of this process. It
/// and all it started are killed after `limit`. Waits: not for a thread of the runtime.
///
/// # Errors
/// A fault that says how it ended, and nothing of what it wrote.
pub(super) fn run(command: &str, limit: Duration) -> Result<Zeroizing<Vec<u8>>, Fault> {
    let until = Instant::now() + limit;
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(command).stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0);
    let mut child = shell.spawn().map_err(|e| failed(format!("cannot run sh: {e}")))?;
    let written = output(&mut child, until).inspect_err(|_| kill(&mut child))?;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(written),
            Ok(Some(status)) => return Err(failed(format!("the process ended with {status}"))),
            Ok(None) if Instant::now() < until => std::thread::sleep(ASK_EVERY),
            _ => {
                kill(&mut child);
                return Err(failed(format!("the process did not end within {limit:?}")));
            }
        }
    }
}

/// All that the process writes, up to one byte more than is believed.
fn output(child: &mut Child, until: Instant) -> Result<Zeroizing<Vec<u8>>, Fault> {
    let stdout = child.stdout.take().ok_or_else(|| failed("the process has no output".into()))?;
    let (sender, receiver) = mpsc::channel();
    let read = move || {
        // Large enough from the start: a buffer that grows leaves copies behind.
        let mut text = Zeroizing::new(Vec::with_capacity(BYTES_MAX + 1));
        let result = stdout.take(BYTES_MAX as u64 + 1).read_to_end(&mut text).map(|_| text);
        let _ = sender.send(result);
    };
    std::thread::Builder::new()
        .spawn(read)
        .map_err(|e| failed(format!("its output cannot be read: no thread: {e}")))?;
    match receiver.recv_timeout(until.saturating_duration_since(Instant::now())) {
        Ok(Ok(text)) if text.len() > BYTES_MAX => Err(failed(format!("the process wrote more than {BYTES_MAX} bytes"))),
        Ok(Ok(text)) => Ok(text),
        Ok(Err(e)) => Err(failed(format!("the output of the process cannot be read: {e}"))),
        Err(_) => Err(failed("the process did not end in the time it has".into())),
    }
}

fn kill(child: &mut Child) {
    if let Ok(group) = i32::try_from(child.id())
        && let Some(group) = rustix::process::Pid::from_raw(group)
    {
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    let _ = child.wait();
}

fn failed(message: String) -> Fault {
    Fault::new(FaultKind::Credentials, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn what_a_process_writes_is_given_if_it_ends_well() {
        assert_eq!(run("echo key", LONG).unwrap().as_slice(), b"key\n");
        let fault = run("echo canary; exit 3", LONG).unwrap_err();
        assert!(fault.message.contains("exit status: 3") && !fault.message.contains("canary"), "{fault}");
    }

    #[test]
    fn a_process_that_writes_or_lasts_too_long_is_killed_with_all_it_started() {
        assert!(run("yes", LONG).unwrap_err().message.contains("65536"));
        let begun = Instant::now();
        assert!(run("sleep 600 & sleep 600", Duration::from_millis(100)).is_err());
        assert!(run("exec >&-; sleep 600", Duration::from_millis(100)).is_err());
        assert!(begun.elapsed() < LONG);
    }
}
