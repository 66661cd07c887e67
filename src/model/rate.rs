//! How many bytes may go out when, if there are to be no more than so many in a second.

use std::time::Duration;

/// A token bucket whose tokens are lent: who takes some is told when they are due, and later takers queue up behind.
/// Moments are durations since any fixed origin.
///
/// What is not used is kept for 60 ms and granted in pieces of 10 ms, so that at most 70 ms' worth goes out at once.
///
/// # Source
/// The generic cell rate algorithm (ITU-T I.371), with bytes for cells.
#[derive(Debug, Clone)]
pub struct Rate {
    bytes_per_second: f64,
    /// When the next byte is due.
    next: Duration,
}

const KEPT: Duration = Duration::from_millis(60);
const PIECE: Duration = Duration::from_millis(10);

impl Rate {
    /// - `bytes_per_second`: at least 1.
    pub fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1) as f64, next: Duration::ZERO }
    }

    /// Lends some of the `wanted` bytes, at least one if any are wanted; gives how many, and how long they have to wait.
    pub fn take(&mut self, wanted: usize, now: Duration) -> (usize, Duration) {
        let piece = (self.bytes_per_second * PIECE.as_secs_f64()).max(1.0) as usize;
        let bytes = wanted.min(piece);
        let at = self.next.max(now.saturating_sub(KEPT));
        self.next = at + self.time_of(bytes);
        (bytes, at.saturating_sub(now))
    }

    /// What was taken and not used.
    pub fn give_back(&mut self, bytes: usize) {
        self.next = self.next.saturating_sub(self.time_of(bytes));
    }

    fn time_of(&self, bytes: usize) -> Duration {
        Duration::from_secs_f64(bytes as f64 / self.bytes_per_second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Bytes that go out at each of `times` to one who always wants more.
    fn drive(rate: &mut Rate, times: impl Iterator<Item = Duration>) -> Vec<(Duration, usize)> {
        let mut due: Option<(usize, Duration)> = None;
        times
            .map(|now| {
                let mut out = 0;
                loop {
                    let (bytes, at) = *due.get_or_insert_with(|| {
                        let (bytes, wait) = rate.take(1 << 20, now);
                        (bytes, now + wait)
                    });
                    if at > now {
                        return (now, out);
                    }
                    (out, due) = (out + bytes, None);
                }
            })
            .collect()
    }

    #[test]
    fn nobody_gets_more_than_the_rate_in_the_long_run_or_a_tenth_of_a_second_of_it_at_once() {
        for bytes_per_second in [1 << 10, 100_000, 10_000_000, 1_000_000_000] {
            let mut rate = Rate::new(bytes_per_second);
            // Idle for an hour, then busy for a minute, woken every 3 ms.
            let begun = Duration::from_secs(3600);
            let out = drive(&mut rate, (0..20_000).map(|i| begun + i * 3 * MS));
            let all: usize = out.iter().map(|(_, bytes)| bytes).sum();
            let wanted = bytes_per_second as f64 * 60.0;
            assert!((all as f64 / wanted - 1.0).abs() < 0.03, "{bytes_per_second}: {all}");
            let most = out.iter().map(|(_, bytes)| *bytes).max().unwrap();
            assert!(most as u64 <= bytes_per_second / 10, "{bytes_per_second}: {most} at once");
        }
    }

    #[test]
    fn who_wakes_late_catches_up_within_what_is_kept() {
        let mut rate = Rate::new(1_000_000);
        let out = drive(&mut rate, (1..100).map(|i| i * 40 * MS));
        let all: usize = out.iter().map(|(_, bytes)| bytes).sum();
        assert!((3_900_000..4_100_000).contains(&all), "{all}");
    }

    #[test]
    fn what_is_given_back_is_not_lost() {
        let mut rate = Rate::new(1_000_000);
        for _ in 0..1000 {
            let (bytes, _) = rate.take(10_000, Duration::ZERO);
            rate.give_back(bytes);
        }
        assert_eq!(rate.take(10_000, Duration::ZERO), (10_000, Duration::ZERO));
        assert_eq!(rate.take(10_000, Duration::ZERO).1, 10 * MS);
    }
}
