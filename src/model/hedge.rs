//! When a request is slow enough to be sent once more on another connection.

use std::time::Duration;

/// Learns how long requests of one kind take, and allows for few to be doubled. Only for requests that may be repeated
/// without harm.
///
/// # Source
/// Hedged requests: Dean and Barroso, "The Tail at Scale", 2013. The estimate of what is late is that of TCP for its
/// retransmissions (RFC 6298, section 2).
#[derive(Debug, Clone, Default)]
pub struct Hedge {
    /// Smoothed duration and deviation, in seconds.
    mean: f64,
    deviation: f64,
    seen: u32,
    begun: u32,
    doubled: u32,
}

impl Hedge {
    /// At most one of so many requests is doubled: 5 %.
    pub const SHARE: u32 = 20;
    /// Durations that must have been seen before anything counts as late.
    const SEEN_MIN: u32 = 8;
    /// What is not late in any case.
    const PATIENCE_MIN: Duration = Duration::from_secs(1);

    /// A request begins; gives how long it may take before it is late, once that is known.
    pub fn begin(&mut self) -> Option<Duration> {
        self.begun += 1;
        (self.seen >= Self::SEEN_MIN)
            .then(|| Duration::from_secs_f64(self.mean + 4.0 * self.deviation).max(Self::PATIENCE_MIN))
    }

    /// A request is late: whether it may be doubled.
    pub fn double(&mut self) -> bool {
        let allowed = (self.doubled + 1).saturating_mul(Self::SHARE) <= self.begun;
        self.doubled += u32::from(allowed);
        allowed
    }

    /// A request took so long.
    pub fn took(&mut self, time: Duration) {
        let time = time.as_secs_f64();
        if self.seen == 0 {
            (self.mean, self.deviation) = (time, time / 2.0);
        } else {
            self.deviation = 0.75 * self.deviation + 0.25 * (self.mean - time).abs();
            self.mean = 0.875 * self.mean + 0.125 * time;
        }
        self.seen = self.seen.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_late_before_it_is_known_what_is_usual() {
        let mut hedge = Hedge::default();
        for _ in 0..Hedge::SEEN_MIN {
            assert_eq!(hedge.begin(), None);
            hedge.took(Duration::from_secs(2));
        }
        let patience = hedge.begin().unwrap();
        assert!(patience > Duration::from_secs(2) && patience < Duration::from_secs(4), "{patience:?}");
    }

    #[test]
    fn fast_requests_are_not_doubled_for_a_blink() {
        let mut hedge = Hedge::default();
        (0..100).for_each(|_| hedge.took(Duration::from_millis(3)));
        assert_eq!(hedge.begin(), Some(Hedge::PATIENCE_MIN));
    }

    #[test]
    fn one_in_twenty_at_most_is_doubled() {
        let mut hedge = Hedge::default();
        let mut doubled = 0;
        for begun in 1..=1000 {
            hedge.begin();
            doubled += u32::from(hedge.double());
            assert!(doubled * Hedge::SHARE <= begun);
        }
        assert_eq!(doubled, 50);
    }
}
