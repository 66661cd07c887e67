//! How long to sleep, so that a process takes no more than its share of the processor.

use std::time::Duration;

/// Earns processor time as time passes and owes what is spent beyond it; who owes sleeps until it is earned. Moments are
/// durations since any fixed origin.
#[derive(Debug, Clone)]
pub struct CpuShare {
    /// Of one core: 1 is a whole one.
    share: f64,
    /// Seconds of processor time that may be spent; below 0, are owed.
    credit: f64,
    /// When it was asked last, and what had been spent by then.
    now: Duration,
    spent: Duration,
}

/// What was earned in so much time is kept for later.
const KEPT: Duration = Duration::from_millis(200);
/// Longest sleep at a time. Shorter than what the number of parts in flight is judged by, so that none is judged asleep.
const SLEEP_MAX: Duration = Duration::from_millis(80);

impl CpuShare {
    /// - `percent`: of one core, at least 1.
    /// - `spent`: processor time until now.
    pub fn new(percent: u32, now: Duration, spent: Duration) -> Self {
        Self { share: f64::from(percent.max(1)) / 100.0, credit: 0.0, now, spent }
    }

    /// How long to sleep before anything more is done.
    ///
    /// - `spent`: processor time until now.
    pub fn wait(&mut self, now: Duration, spent: Duration) -> Duration {
        let earned = self.share * now.saturating_sub(self.now).as_secs_f64();
        let kept = (self.credit + earned).min(self.share * KEPT.as_secs_f64());
        self.credit = kept - spent.saturating_sub(self.spent).as_secs_f64();
        (self.now, self.spent) = (self.now.max(now), self.spent.max(spent));
        Duration::from_secs_f64((-self.credit / self.share).max(0.0)).min(SLEEP_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Works in pieces that take `cores` cores for `piece`, for `seconds`, after `idle`; gives the processor time that was
    /// spent in each second.
    fn drive(share: &mut CpuShare, idle: Duration, piece: Duration, cores: u32, seconds: usize) -> Vec<f64> {
        let mut per_second = vec![0.0; seconds];
        let (mut now, mut spent) = (idle, Duration::ZERO);
        while now < idle + Duration::from_secs(seconds as u64) {
            let sleep = share.wait(now, spent);
            if !sleep.is_zero() {
                now += sleep;
                continue;
            }
            let second = (now - idle).as_secs() as usize;
            per_second[second] += (piece * cores).as_secs_f64();
            (now, spent) = (now + piece, spent + piece * cores);
        }
        per_second
    }

    #[test]
    fn no_second_takes_more_than_its_share_and_little_is_left_unused() {
        for (percent, cores) in [(5, 1), (50, 1), (50, 4), (150, 2), (250, 4)] {
            let mut share = CpuShare::new(percent, Duration::ZERO, Duration::ZERO);
            let per_second = drive(&mut share, Duration::ZERO, 2 * MS, cores, 20);
            let allowed = f64::from(percent) / 100.0;
            assert!(per_second.iter().all(|spent| *spent < allowed * 1.2), "{percent} %: {per_second:?}");
            let all = per_second.iter().sum::<f64>() / 20.0;
            assert!((allowed * 0.95..allowed * 1.02).contains(&all), "{percent} %: {all}");
        }
    }

    #[test]
    fn an_idle_hour_is_not_made_up_for() {
        let mut share = CpuShare::new(50, Duration::ZERO, Duration::ZERO);
        let per_second = drive(&mut share, Duration::from_secs(3600), 2 * MS, 1, 3);
        assert!(per_second[0] < 0.62, "{per_second:?}");
        assert!(per_second[2] < 0.55, "{per_second:?}");
    }

    #[test]
    fn who_takes_less_never_sleeps() {
        let mut share = CpuShare::new(50, Duration::ZERO, Duration::ZERO);
        assert!((0..1000).all(|i| share.wait(i * 10 * MS, i * 4 * MS).is_zero()));
    }
}
