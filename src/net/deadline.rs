//! When an exchange is given up: nothing may hang, and a trickle is a hang that looks busy.
//!
//! | while | at most |
//! |---|---|
//! | the body is sent | a window in which less than [`RATE_MIN`] a second left this machine |
//! | the answer is due | a window, and the time in which full socket buffers drain at [`DRAIN_RATE`] |
//! | the answer comes | a window in which less than [`RATE_MIN`] a second came |
//! | all of it | two windows, and the time that the body takes at [`RATE_MIN`] |

use std::time::Duration;

use tokio::time::Instant;

use super::watch::Traffic;
use crate::model::event::Step;

/// Bytes a second below which nothing is worth waiting for.
///
/// # Source
/// The limit of the C SDK (specification, section 5.3).
pub const RATE_MIN: u64 = 1 << 10;
/// Bytes a second at which what the kernel still holds is believed to go on.
pub const DRAIN_RATE: u64 = 64 << 10;
/// What the kernel and hyper hold at most when a body is gone (`tcp_wmem` of Linux, and a chunk).
const BUFFERED_MAX: u64 = 5 << 20;

/// Watches one exchange.
pub(super) struct Deadline {
    window: Duration,
    body_bytes: u64,
    begun: Instant,
    step: Step,
    /// Begin of the current window, and what had moved then.
    mark: (Instant, Traffic),
}

/// Whoever wants to wait for longer waits for so long.
const WINDOW_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

impl Deadline {
    /// - `window`: longest time without progress.
    /// - `body_bytes`: length of the request's body.
    pub fn new(window: Duration, body_bytes: u64, now: Instant, traffic: Traffic) -> Self {
        // Twice as long must still be a time.
        let window = window.min(WINDOW_MAX);
        Self { window, body_bytes, begun: now, step: Step::Sending, mark: (now, traffic) }
    }

    /// Why the exchange has to end, if it has to.
    pub fn overdue(&mut self, now: Instant, step: Step, traffic: Traffic) -> Option<String> {
        let all = 2 * self.window + Duration::from_secs(self.body_bytes / RATE_MIN);
        if now - self.begun >= all {
            return Some(format!("it was not over in {all:?}"));
        }
        // HTTP tells of an answer when its whole head is there; it begins with its first byte.
        let begins = self.step == Step::Answer && traffic.read > self.mark.1.read;
        let step =
            if step == Step::Answer && (begins || self.step == Step::Receiving) { Step::Receiving } else { step };
        if step != self.step {
            (self.step, self.mark) = (step, (now, traffic));
        }
        let (since, before) = self.mark;
        if step == Step::Answer {
            let due = self.window + Duration::from_secs(self.body_bytes.min(BUFFERED_MAX) / DRAIN_RATE);
            return (now - since >= due).then(|| format!("no answer within {due:?}"));
        }
        if now - since < self.window {
            return None;
        }
        let moved = if step == Step::Receiving { traffic.read - before.read } else { traffic.written - before.written };
        if moved < RATE_MIN * self.window.as_secs().max(1) {
            return Some(format!("only {moved} bytes moved in {:?}", now - since));
        }
        self.mark = (now, traffic);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(60);
    const PART: u64 = 8 << 20;

    /// When an exchange ends that moves `written` and `read` bytes in every second of a step.
    fn end(steps: &[(Step, u64, u64, u64)]) -> Option<(u64, String)> {
        let begun = Instant::now();
        let mut traffic = Traffic::default();
        let mut deadline = Deadline::new(WINDOW, PART, begun, traffic);
        let mut second = 0;
        for (step, seconds, written, read) in steps {
            for _ in 0..*seconds {
                second += 1;
                traffic.written += written;
                traffic.read += read;
                if let Some(why) = deadline.overdue(begun + Duration::from_secs(second), *step, traffic) {
                    return Some((second, why));
                }
            }
        }
        None
    }

    #[test]
    fn a_body_that_moves_on_is_waited_for_and_a_trickle_is_not() {
        assert_eq!(end(&[(Step::Sending, 4000, 2048, 0)]), None);
        assert_eq!(end(&[(Step::Sending, 4000, 5, 0)]).unwrap().0, 60);
        assert_eq!(end(&[(Step::Sending, 4000, 0, 0)]).unwrap().0, 60);
        assert_eq!(end(&[(Step::Sending, 500, 100_000, 0), (Step::Sending, 500, 0, 0)]).unwrap().0, 600);
    }

    #[test]
    fn the_answer_to_a_big_body_may_wait_for_full_buffers_to_drain() {
        let (second, why) = end(&[(Step::Sending, 10, 800_000, 0), (Step::Answer, 1000, 0, 0)]).unwrap();
        assert_eq!(second, 10 + 1 + 60 + 80, "{why}");
    }

    #[test]
    fn an_answer_that_trickles_ends() {
        let steps = [(Step::Sending, 10, 800_000, 0), (Step::Answer, 5, 0, 0), (Step::Receiving, 1000, 0, 5)];
        assert_eq!(end(&steps).unwrap().0, 16 + 60);
    }

    #[test]
    fn an_answer_whose_head_trickles_has_begun() {
        let steps = [(Step::Sending, 10, 800_000, 0), (Step::Answer, 5, 0, 0), (Step::Answer, 1000, 0, 5)];
        assert_eq!(end(&steps).unwrap().0, 16 + 60);
    }

    #[test]
    fn an_exchange_that_is_just_fast_enough_for_ever_ends_all_the_same() {
        assert_eq!(end(&[(Step::Receiving, 100_000, 0, 1024)]).unwrap().0, 120 + PART / 1024);
    }

    #[test]
    fn a_window_without_end_is_no_trouble() {
        let now = Instant::now();
        let mut deadline = Deadline::new(Duration::MAX, u64::MAX, now, Traffic::default());
        assert_eq!(deadline.overdue(now, Step::Sending, Traffic::default()), None);
    }
}
