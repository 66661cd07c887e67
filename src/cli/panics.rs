//! A panic of whatever thread ends the process: others may wait for what that thread will never do. But for a server, where
//! it ends the connection that it came from.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use signal_hook::low_level::exit;

use super::exit::OTHER;
use super::report::say;

static ENDS: AtomicBool = AtomicBool::new(true);

/// Ends the process after a panic, with a documented exit code.
pub fn end_the_process() {
    std::panic::set_hook(Box::new(|info| {
        let why = info.payload_as_str().unwrap_or("no reason was given");
        let place = info.location().map(|place| format!(" ({place})")).unwrap_or_default();
        say(format_args!("haul: met what it is not made for: {why}{place}"));
        say("  if memory and threads are plenty here, this is a defect of haul: please report it");
        let trace = Backtrace::capture();
        if trace.status() == BacktraceStatus::Captured {
            say(trace);
        }
        if ENDS.load(Relaxed) {
            exit(OTHER.into());
        }
    }));
}

/// From now on, a panic is only told.
pub fn survive() {
    ENDS.store(false, Relaxed);
}
