//! How many requests a second an endpoint is sent once it has asked for less.

use std::time::Duration;

/// No limit until the store throttles; then a rate that falls by a third with each time it does and rises steadily in
/// between, until nothing holds it any more. What was sent within less than a second is no rate but a burst: if that was
/// refused, the rate rises in proportion to itself until the store throttles once more. Moments are durations since any
/// fixed origin.
///
/// # Source
/// Additive increase, multiplicative decrease (Chiu and Jain, 1989); the factor is that of CUBIC (RFC 9438, section 4.6).
/// Growth after a burst: slow start (RFC 5681, section 3.1).
#[derive(Debug, Clone, Default)]
pub struct Pace {
    limit: Option<Limit>,
    /// When the next request may begin.
    next: Duration,
    /// Begin of the second that is being counted, requests begun in it, and in the one before.
    second: Duration,
    begun: u32,
    begun_before: u32,
}

#[derive(Debug, Clone)]
struct Limit {
    /// Requests a second.
    rate: f64,
    /// The rate at which the store throttled last.
    ceiling: f64,
    /// That was a burst.
    burst: bool,
    cut_at: Duration,
    raised_at: Duration,
}

/// What is left of the rate when the store throttles.
const FALL: f64 = 0.7;
/// Share of the ceiling that comes back every second.
const RISE: f64 = 0.05;
/// Requests a second that are always sent.
const FLOOR: f64 = 0.5;
/// Answers to requests that began before the rate fell say nothing of the new rate.
const SETTLE: Duration = Duration::from_millis(500);
/// How far above the last ceiling the limit is forgotten.
const FORGET: f64 = 3.0;
const SECOND: Duration = Duration::from_secs(1);

impl Pace {
    /// Counts a request that is about to begin; gives how long it has to wait for its turn.
    pub fn turn(&mut self, now: Duration) -> Duration {
        self.count(now);
        let Some(limit) = &self.limit else { return Duration::ZERO };
        let at = self.next.max(now);
        self.next = at + Duration::from_secs_f64(1.0 / limit.rate);
        at - now
    }

    /// The store asked for less.
    pub fn throttled(&mut self, now: Duration) {
        let seen = self.seen(now);
        let (ceiling, burst) = match &self.limit {
            Some(limit) if now < limit.cut_at + SETTLE => return,
            Some(limit) => (limit.rate.min(seen).max(FLOOR), false),
            None => (seen.max(FLOOR), self.begun_before == 0),
        };
        let rate = (ceiling * FALL).max(FLOOR);
        self.limit = Some(Limit { rate, ceiling, burst, cut_at: now, raised_at: now });
        self.next = self.next.max(now);
    }

    /// The store took a request.
    pub fn succeeded(&mut self, now: Duration) {
        let Some(limit) = &mut self.limit else { return };
        let passed = now.saturating_sub(limit.raised_at).min(SECOND).as_secs_f64();
        limit.rate += passed * if limit.burst { limit.rate } else { limit.ceiling * RISE };
        limit.raised_at = limit.raised_at.max(now);
        if limit.rate > limit.ceiling * FORGET {
            self.limit = None;
        }
    }

    fn count(&mut self, now: Duration) {
        if now >= self.second + SECOND {
            self.begun_before = if now < self.second + 2 * SECOND { self.begun } else { 0 };
            (self.second, self.begun) = (now, 0);
        }
        self.begun += 1;
    }

    /// Requests begun in about the last second.
    fn seen(&self, now: Duration) -> f64 {
        if now >= self.second + SECOND {
            return f64::from(self.begun);
        }
        let share = now.saturating_sub(self.second).as_secs_f64();
        f64::from(self.begun) + f64::from(self.begun_before) * (1.0 - share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A store that takes `limit` requests in every second, and a client that always has one more. Gives the requests
    /// taken and refused in `seconds`.
    fn drive(pace: &mut Pace, from: u64, seconds: u64, limit: u32) -> (u32, u32) {
        let (mut taken, mut refused, mut in_second, mut second) = (0, 0, 0, 0);
        let mut now = Duration::from_secs(from);
        let end = Duration::from_secs(from + seconds);
        while now < end {
            now += pace.turn(now);
            if now.as_secs() != second {
                (second, in_second) = (now.as_secs(), 0);
            }
            in_second += 1;
            if in_second <= limit {
                taken += 1;
                pace.succeeded(now);
            } else {
                refused += 1;
                pace.throttled(now);
            }
            now += Duration::from_millis(1);
        }
        (taken, refused)
    }

    #[test]
    fn nothing_waits_before_the_store_asks_for_less() {
        let mut pace = Pace::default();
        assert!((0..10_000).all(|i| pace.turn(Duration::from_micros(i)).is_zero()));
    }

    #[test]
    fn a_throttling_store_gets_most_of_what_it_takes_and_little_that_it_refuses() {
        let mut pace = Pace::default();
        drive(&mut pace, 0, 20, 100);
        let (taken, refused) = drive(&mut pace, 20, 60, 100);
        assert!(taken > 60 * 70 && refused < taken / 10, "{taken} taken, {refused} refused");
    }

    /// Sixteen parts begin at once, of which ten are let in; from then on a hundred a second would be.
    #[test]
    fn a_burst_that_is_refused_is_not_taken_for_the_rate() {
        let mut pace = Pace::default();
        let at = Duration::from_millis(5);
        assert!((0..16).all(|_| pace.turn(at).is_zero()));
        (0..6).for_each(|_| pace.throttled(at));
        let (taken, refused) = drive(&mut pace, 1, 2, 100);
        assert!(taken > 140 && refused < 20, "{taken} taken, {refused} refused");
    }

    #[test]
    fn the_limit_is_forgotten_when_the_store_takes_everything_again() {
        let mut pace = Pace::default();
        drive(&mut pace, 0, 20, 10);
        drive(&mut pace, 20, 120, u32::MAX);
        assert!(pace.limit.is_none());
    }

    #[test]
    fn a_store_that_refuses_everything_is_still_asked_now_and_then() {
        let mut pace = Pace::default();
        let (taken, refused) = drive(&mut pace, 0, 600, 0);
        assert!(taken == 0 && (200..2000).contains(&refused), "{refused}");
    }
}
