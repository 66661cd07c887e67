//! How the endpoint is, as all exchanges with it have seen it: its clock, its pace, how much may be tried again, and how
//! many parts at a time are worth it.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::slots::Slots;
use crate::model::pace::Pace;
use crate::model::retry::{Fault, FaultKind, RetryBudget};

/// A clock that is off by less is right: requests are signed to the second and may be minutes old.
const CLOCK_TOLERANCE_MS: i64 = 60_000;

/// The last day that is believed, after 1970: HTTP has no years after 9999, and clocks go on.
const DATE_MAX: Duration = Duration::from_secs(253_370_764_800);

pub(crate) struct Endpoint {
    origin: Instant,
    pace: Mutex<Pace>,
    budget: Mutex<RetryBudget>,
    /// How far the store's clock is ahead of ours.
    clock_ahead_ms: AtomicI64,
    /// For the transfers that leave the number of parts in flight to us.
    pub slots: Arc<Slots>,
}

impl Endpoint {
    pub fn new(slots: Arc<Slots>) -> Self {
        Self {
            origin: Instant::now(),
            pace: Mutex::default(),
            budget: Mutex::new(RetryBudget::new(Duration::ZERO)),
            clock_ahead_ms: AtomicI64::new(0),
            slots,
        }
    }

    /// Waits until one more request may be sent.
    pub async fn turn(&self) {
        let wait = lock(&self.pace).turn(self.origin.elapsed());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    /// Takes in how a request ended.
    ///
    /// - `took`: how long, if it had no part of the file to carry.
    pub fn learn<T>(&self, outcome: &Result<T, Fault>, took: Option<Duration>) {
        match outcome {
            Ok(_) => {
                lock(&self.pace).succeeded(self.origin.elapsed());
                lock(&self.budget).succeeded();
                took.into_iter().for_each(|took| self.slots.answered(took));
            }
            Err(fault) if fault.kind == FaultKind::Throttled => {
                lock(&self.pace).throttled(self.origin.elapsed());
                self.slots.throttled();
            }
            Err(_) => {}
        }
    }

    /// How long one more retry has to wait, whatever its own delay.
    pub fn retry_wait(&self) -> Duration {
        lock(&self.budget).take(self.origin.elapsed())
    }

    /// What time it is at the store, as far as we know.
    pub fn time(&self) -> SystemTime {
        let ahead = self.clock_ahead_ms.load(Relaxed);
        let by = Duration::from_millis(ahead.unsigned_abs());
        let now = SystemTime::now();
        let shifted = if ahead < 0 { now.checked_sub(by) } else { now.checked_add(by) };
        shifted.unwrap_or(now)
    }

    /// Sets our idea of the store's clock. Gives by how many seconds it is ahead of this machine's, unless that was known.
    /// A date that HTTP could not write a moment later is that of no clock.
    pub fn set_clock(&self, date: SystemTime) -> Option<i64> {
        if date > SystemTime::UNIX_EPOCH + DATE_MAX {
            return None;
        }
        let ahead = match date.duration_since(SystemTime::now()) {
            Ok(ahead) => i64::try_from(ahead.as_millis()).ok()?,
            Err(behind) => -i64::try_from(behind.duration().as_millis()).ok()?,
        };
        let before = self.clock_ahead_ms.swap(ahead, Relaxed);
        (before.abs_diff(ahead) > CLOCK_TOLERANCE_MS as u64).then_some(ahead / 1000)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_of_the_store_is_told_once_and_kept() {
        let endpoint = Endpoint::new(Slots::fixed(1));
        let hours = Duration::from_secs(3 * 3600);
        assert!(endpoint.set_clock(SystemTime::now() + hours).is_some_and(|s| (10_798..=10_800).contains(&s)));
        assert_eq!(endpoint.set_clock(SystemTime::now() + hours), None);
        assert!(endpoint.time() > SystemTime::now() + hours - Duration::from_secs(60));
        assert!(endpoint.set_clock(SystemTime::now() - hours).is_some());
        assert!(endpoint.time() < SystemTime::now() - hours + Duration::from_secs(60));
        let last = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
        assert_eq!(endpoint.set_clock(last), None, "a moment later there is no date that HTTP can write");
        assert!(endpoint.time() < SystemTime::now());
    }

    #[test]
    fn a_clock_at_either_end_of_the_calendar_is_taken_without_harm() {
        for date in ["Thu, 31 Dec 9998 23:59:59 GMT", "Thu, 01 Jan 1970 00:00:00 GMT"] {
            let endpoint = Endpoint::new(Slots::fixed(1));
            let date = httpdate::parse_http_date(date).unwrap();
            assert!(endpoint.set_clock(date).is_some());
            let apart = endpoint.time().duration_since(date).or_else(|_| date.duration_since(endpoint.time()));
            assert!(apart.unwrap() < Duration::from_secs(60));
        }
    }
}
