//! Waiting more exactly than by whole milliseconds, which is what the runtime's timers do: half a millisecond is a round
//! trip within a region.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_timer::Delay;
use tokio::time::Instant;

/// Waking up takes about as long, from the timer's thread to the connection's: alarms ring as much earlier, and what is
/// due within this time is due.
const EARLY: Duration = Duration::from_micros(150);

/// Costs nothing until the first wait.
#[derive(Default)]
pub(super) struct Alarm {
    delay: Option<Delay>,
    set_to: Option<Instant>,
}

impl Alarm {
    /// Ready at `at`.
    pub fn poll(&mut self, at: Instant, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let left = at.saturating_duration_since(Instant::now() + EARLY);
            if left.is_zero() {
                return Poll::Ready(());
            }
            let delay = self.delay.get_or_insert_with(|| Delay::new(left));
            if self.set_to != Some(at) {
                delay.reset(left);
                self.set_to = Some(at);
            }
            ready!(Pin::new(delay).poll(cx));
            self.set_to = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn an_alarm_is_not_early_and_can_be_set_again() {
        let mut alarm = Alarm::default();
        for micros in [300, 0, 1500, 200] {
            let at = Instant::now() + Duration::from_micros(micros);
            poll_fn(|cx| alarm.poll(at, cx)).await;
            assert!(Instant::now() + EARLY >= at, "{micros} us");
        }
    }

    #[tokio::test]
    async fn an_alarm_that_was_set_to_a_later_time_rings_at_the_earlier_one() {
        let mut alarm = Alarm::default();
        let hour = Instant::now() + Duration::from_secs(3600);
        assert!(poll_fn(|cx| Poll::Ready(alarm.poll(hour, cx).is_pending())).await);
        let soon = Instant::now() + Duration::from_millis(1);
        poll_fn(|cx| alarm.poll(soon, cx)).await;
    }
}
