//! Rates: when bytes may pass. Nothing here waits or asks for the time; both come in as arguments.
//!
//! A booking is exact whatever the timers are: it counts from when bytes were ready, not from when somebody woke up to
//! pass them. So a late wake-up costs nothing, and a line that had nothing to carry is owed nothing.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A rate in bytes per second that one or more connections keep together, in the order in which they book.
pub(crate) struct Pace {
    bytes_per_second: u64,
    /// The rate is a quota of the account, which the service tells of, and not the width of a line.
    pub is_quota: bool,
    /// When all that was booked has passed.
    free: Mutex<Option<Instant>>,
}

impl Pace {
    /// - `bytes_per_second`: 0 stands for no limit.
    pub fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second, is_quota: false, free: Mutex::new(None) }
    }

    /// A rate whose delays the service tells of in `x-oss-qos-delay-time`.
    pub fn quota(bytes_per_second: u64) -> Self {
        Self { is_quota: true, ..Self::new(bytes_per_second) }
    }

    /// `None` for no limit.
    pub fn rate(&self) -> Option<u64> {
        Some(self.bytes_per_second).filter(|rate| *rate > 0)
    }

    /// Books `bytes` that are there at `ready`; answers when the last of them has passed.
    pub fn book(&self, bytes: u64, ready: Instant) -> Instant {
        let Some(rate) = self.rate() else { return ready };
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = free.map_or(ready, |free| free.max(ready));
        let end = begin + Duration::from_secs_f64(bytes as f64 / rate as f64);
        *free = Some(end);
        end
    }
}

/// A sender that pauses for longer had nothing to send.
const PAUSE: Duration = Duration::from_millis(20);

/// Since when bytes that somebody wants to send now are there: since it was last `busy`, unless it paused.
pub(crate) fn there_since(busy: Option<Instant>, now: Instant) -> Instant {
    let earliest = now.checked_sub(PAUSE).unwrap_or(now);
    busy.filter(|busy| *busy >= earliest).unwrap_or(now)
}

/// What a sender adds to the round trip before it takes an answer for lost (RFC 6298, as Linux sets it).
const TIMEOUT_MIN: Duration = Duration::from_millis(200);

/// The slow start of one direction of a connection: a window of bytes each round trip, which grows by what was sent in
/// it until the line is full.
///
/// # Source
/// Growth: RFC 5681, 3.1. After idling the window halves with every retransmission timeout: RFC 2861, and Linux with
/// `tcp_slow_start_after_idle`.
pub(super) struct Ramp {
    initial: u64,
    /// At this window the start is over.
    full: u64,
    round_trip: Duration,
    window: u64,
    /// What passed in this round.
    sent: u64,
    /// Begin and end of this round, from the first bytes on.
    round: Option<(Instant, Instant)>,
}

impl Ramp {
    pub fn new(initial: u64, full: u64, round_trip: Duration) -> Self {
        Self { initial, full, round_trip, window: initial, sent: 0, round: None }
    }

    /// Books up to `bytes` that are there at `ready`: how many, at least one, and when they may pass.
    pub fn book(&mut self, bytes: u64, ready: Instant) -> (u64, Instant) {
        let ready = match self.round {
            Some((_, end)) if ready >= end => self.begin_round(ready, ready - end),
            Some((_, end)) if self.sent >= self.window && self.window < self.full => {
                self.begin_round(end, Duration::ZERO)
            }
            Some((begin, _)) => ready.max(begin),
            None => self.begin_round(ready, Duration::ZERO),
        };
        let room = if self.window < self.full { self.window - self.sent } else { u64::MAX };
        let bytes = bytes.min(room);
        self.sent += bytes;
        (bytes, ready)
    }

    fn begin_round(&mut self, begin: Instant, idle: Duration) -> Instant {
        let timeouts = idle.as_micros() / (self.round_trip + TIMEOUT_MIN).as_micros();
        let grown = self.window.saturating_add(self.sent).min(self.full);
        let kept = grown.checked_shr(u32::try_from(timeouts).unwrap_or(u32::MAX)).unwrap_or(0);
        self.window = if timeouts > 0 { kept.max(self.initial) } else { grown };
        self.sent = 0;
        self.round = Some((begin, begin + self.round_trip));
        begin
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_pace_passes_its_rate_and_no_more() {
        let (pace, begin) = (Pace::new(40_000_000), Instant::now());
        let end = (0..1000).map(|_| pace.book(40_000, begin)).last().expect("bookings");
        assert_eq!(end, begin + 1000 * MS);
    }

    #[test]
    fn an_idle_time_is_not_made_up_for() {
        let (pace, begin) = (Pace::new(1_000_000), Instant::now());
        assert_eq!(pace.book(1000, begin), begin + MS);
        assert_eq!(pace.book(1000, begin + 500 * MS), begin + 501 * MS);
    }

    #[test]
    fn a_late_waking_is_made_up_for_in_whole() {
        let (pace, begin) = (Pace::new(1_000_000), Instant::now());
        // The bytes were there all the time; whoever passes them asks 7 ms too late each time.
        let ends: Vec<_> = (0..10).map(|_| pace.book(10_000, begin)).collect();
        assert_eq!(*ends.last().expect("bookings"), begin + 100 * MS);
    }

    #[test]
    fn a_sender_is_owed_what_it_waited_for_and_not_its_pauses() {
        let now = Instant::now();
        assert_eq!(there_since(None, now), now);
        assert_eq!(there_since(Some(now - 19 * MS), now), now - 19 * MS);
        assert_eq!(there_since(Some(now - 21 * MS), now), now);
    }

    #[test]
    fn no_limit_is_no_limit() {
        let begin = Instant::now();
        assert_eq!(Pace::new(0).book(u64::MAX, begin), begin);
    }

    /// Passes `total` bytes that are all there at `begin`; answers with what passed in each round trip.
    fn rounds(ramp: &mut Ramp, total: u64, begin: Instant, round_trip: Duration) -> Vec<u64> {
        let (mut left, mut rounds) = (total, Vec::new());
        while left > 0 {
            let (bytes, at) = ramp.book(left.min(1000), begin);
            let round = ((at - begin).as_micros() / round_trip.as_micros()) as usize;
            rounds.resize(round + 1, 0);
            rounds[round] += bytes;
            left -= bytes;
        }
        rounds
    }

    #[test]
    fn a_slow_start_doubles_every_round_trip_until_the_line_is_full() {
        let begin = Instant::now();
        let mut ramp = Ramp::new(14_600, 100_000, 60 * MS);
        let seen = rounds(&mut ramp, 500_000, begin, 60 * MS);
        assert_eq!(seen, [14_600, 29_200, 58_400, 397_800], "after the fourth round only the rate limits");
    }

    #[test]
    fn a_pause_shorter_than_a_timeout_keeps_the_window_and_a_long_one_starts_anew() {
        let begin = Instant::now();
        let mut ramp = Ramp::new(14_600, 1 << 20, 60 * MS);
        rounds(&mut ramp, 14_600 + 29_200, begin, 60 * MS);
        let soon = begin + 121 * MS;
        assert_eq!(rounds(&mut ramp, 58_400, soon, 60 * MS), [58_400]);
        let later = soon + 60 * MS + 260 * MS;
        assert_eq!(rounds(&mut ramp, 60_000, later, 60 * MS)[0], 58_400, "one timeout halves 116,800");
        let much_later = later + Duration::from_secs(60);
        assert_eq!(rounds(&mut ramp, 20_000, much_later, 60 * MS)[0], 14_600);
    }

    #[test]
    fn a_trickle_does_not_grow_the_window_beyond_what_it_used() {
        let begin = Instant::now();
        let mut ramp = Ramp::new(10_000, 1 << 20, 10 * MS);
        for i in 0..10 {
            assert_eq!(ramp.book(100, begin + 10 * i * MS).0, 100);
        }
        let after = begin + 100 * MS;
        assert_eq!(rounds(&mut ramp, 50_000, after, 10 * MS)[0], 11_000);
    }

    /// Connections that always have bytes, each with a pace of its own and all with one more; bytes passed in a second.
    fn passed_in_a_second(connections: usize, own: u64, total: u64) -> Vec<u64> {
        let begin = Instant::now();
        let end = begin + 1000 * MS;
        let shared = Pace::new(total);
        let own: Vec<_> = (0..connections).map(|_| Pace::new(own)).collect();
        let mut next = vec![begin; connections];
        let mut passed = vec![0; connections];
        loop {
            let turn = (0..connections).min_by_key(|i| next[*i]).expect("a connection");
            if next[turn] >= end {
                return passed;
            }
            let ready = next[turn];
            next[turn] = own[turn].book(16_384, ready).max(shared.book(16_384, ready));
            passed[turn] += 16_384;
        }
    }

    #[test]
    fn the_total_follows_the_lesser_of_connections_times_rate_and_total_and_is_shared_fairly() {
        for connections in [1, 4, 16, 64] {
            let passed = passed_in_a_second(connections, 12_000_000, 250_000_000);
            let wanted = (connections as u64 * 12_000_000).min(250_000_000);
            let total: u64 = passed.iter().sum();
            assert!(total.abs_diff(wanted) * 50 < wanted, "{connections} connections: {total}, not {wanted}");
            let (least, most) = (passed.iter().min().expect("one"), passed.iter().max().expect("one"));
            assert!(most - least <= 2 * 16_384, "{connections} connections: {least} to {most}");
        }
    }
}
