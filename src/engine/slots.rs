//! Places for parts in flight: a number that the caller gave, or one that all transfers to the endpoint share and that is
//! tuned to what the line carries.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::model::event::Event;
use crate::model::window::{Seen, Window};
use crate::net::limit::Limiter;

/// An epoch takes two round trips or so, within these bounds: what was changed must have had time to show.
const EPOCH_MIN: Duration = Duration::from_millis(100);
const EPOCH_MAX: Duration = Duration::from_secs(1);
/// A path on which an answer takes longer is a long one: its connections are slow, and many are needed.
const LONG_PATH: Duration = Duration::from_millis(20);
/// Parts in flight to begin with, on a short path and on a long one.
const START: (u32, u32) = (8, 32);
/// Never tuned beyond this. On the slowest path of `tuning/profiles` 256 connections carry 6 Gbit/s.
pub(crate) const TUNED_MAX: u32 = 256;

/// Places for parts in flight.
pub(crate) struct Slots {
    free: Arc<Semaphore>,
    state: Mutex<State>,
}

struct State {
    limit: u32,
    /// Places that are taken and will not be free again.
    owed: u32,
    tuning: Option<Tuning>,
}

struct Tuning {
    max: u32,
    /// `None` until the first part asks for a place: what was seen by then decides how to begin.
    window: Option<Window>,
    /// Shortest exchange so far.
    latency: Option<Duration>,
    epoch_begun: Instant,
    /// Bytes that went to the network.
    sent: Arc<AtomicU64>,
    sent_before: u64,
    limiter: Option<Arc<Limiter>>,
    throttled: bool,
}

/// A place, free again when it is dropped.
pub(crate) struct Slot {
    slots: Arc<Slots>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Slots {
    /// Always `limit` places.
    pub fn fixed(limit: u32) -> Arc<Self> {
        Self::new(limit, None)
    }

    /// As many places as carry more than fewer did.
    ///
    /// - `max`: never more.
    /// - `sent`: counts the bytes that go to the network.
    /// - `limiter`: what holds them up there.
    pub fn tuned(max: u32, sent: Arc<AtomicU64>, limiter: Option<Arc<Limiter>>) -> Arc<Self> {
        let tuning = Tuning {
            max,
            window: None,
            latency: None,
            epoch_begun: Instant::now(),
            sent,
            sent_before: 0,
            limiter,
            throttled: false,
        };
        Self::new(START.0.min(max), Some(tuning))
    }

    fn new(limit: u32, tuning: Option<Tuning>) -> Arc<Self> {
        Arc::new(Self {
            free: Arc::new(Semaphore::new(limit as usize)),
            state: Mutex::new(State { limit, owed: 0, tuning }),
        })
    }

    /// Waits for a place.
    pub async fn take(self: &Arc<Self>) -> Slot {
        self.begin();
        let permit = self.free.clone().acquire_owned().await.expect("never closed");
        Slot { slots: self.clone(), permit: Some(permit) }
    }

    /// How many places there are.
    pub fn limit(&self) -> u32 {
        self.lock().limit
    }

    /// The store asked for less.
    pub fn throttled(&self) {
        if let Some(tuning) = &mut self.lock().tuning {
            tuning.throttled = true;
        }
    }

    /// An exchange without a body of its own took so long.
    pub fn answered(&self, time: Duration) {
        if let Some(tuning) = &mut self.lock().tuning {
            tuning.latency = Some(tuning.latency.map_or(time, |shortest| shortest.min(time)));
        }
    }

    /// Waits for the end of an epoch and changes the number of places if that seems good. For ever, where they are fixed.
    pub async fn epoch(&self) -> Option<Event> {
        let end = self.lock().tuning.as_ref().map(|tuning| tuning.epoch_begun + tuning.epoch());
        match end {
            None => std::future::pending().await,
            Some(end) => tokio::time::sleep_until(end).await,
        }
        self.judge(Instant::now())
    }

    /// Another transfer may have done it already.
    fn judge(&self, now: Instant) -> Option<Event> {
        let mut state = self.lock();
        let tuning = state.tuning.as_mut()?;
        let took = now - tuning.epoch_begun;
        if took < tuning.epoch() {
            return None;
        }
        let sent = tuning.sent.load(Relaxed);
        let goodput = (sent - tuning.sent_before) as f64 / took.as_secs_f64();
        (tuning.epoch_begun, tuning.sent_before) = (now, sent);
        // What passed while nobody looked, such as between two transfers, says nothing of the line, nor does our own limit.
        let own_limit = tuning.limiter.as_ref().is_some_and(|limiter| limiter.explains(goodput));
        let full = took < 2 * tuning.epoch() && self.free.available_permits() == 0 && !own_limit;
        let throttled = std::mem::take(&mut tuning.throttled);
        let window = tuning.window.as_mut()?;
        window.epoch(Seen { goodput, full, throttled });
        let limit = window.limit();
        if limit == state.limit {
            return None;
        }
        self.resize(&mut state, limit);
        Some(Event::Window { parallel: limit, bytes_per_second: goodput as u64 })
    }

    fn begin(&self) {
        let mut state = self.lock();
        let Some(tuning) = state.tuning.as_mut().filter(|tuning| tuning.window.is_none()) else { return };
        let long = tuning.latency.is_some_and(|latency| latency > LONG_PATH);
        let window = Window::new(if long { START.1 } else { START.0 }, tuning.max);
        let limit = window.limit();
        (tuning.window, tuning.epoch_begun) = (Some(window), Instant::now());
        self.resize(&mut state, limit);
    }

    fn resize(&self, state: &mut State, limit: u32) {
        if limit >= state.limit {
            let more = limit - state.limit;
            let forgiven = more.min(state.owed);
            state.owed -= forgiven;
            self.free.add_permits((more - forgiven) as usize);
        } else {
            let less = state.limit - limit;
            state.owed += less - self.free.forget_permits(less as usize) as u32;
        }
        state.limit = limit;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Tuning {
    fn epoch(&self) -> Duration {
        self.latency.map_or(EPOCH_MIN, |latency| latency.clamp(EPOCH_MIN, EPOCH_MAX))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.slots.lock();
        if state.owed > 0 {
            state.owed -= 1;
            if let Some(permit) = self.permit.take() {
                permit.forget();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn take(slots: &Arc<Slots>, count: usize) -> Vec<Slot> {
        let mut taken = Vec::new();
        for _ in 0..count {
            taken.push(slots.take().await);
        }
        taken
    }

    #[tokio::test(start_paused = true)]
    async fn a_number_that_was_given_stays() {
        let slots = Slots::fixed(3);
        let taken = take(&slots, 3).await;
        slots.throttled();
        let minute = Duration::from_secs(60);
        assert!(tokio::time::timeout(minute, slots.take()).await.is_err());
        assert!(tokio::time::timeout(minute, slots.epoch()).await.is_err());
        drop(taken);
        take(&slots, 3).await;
    }

    #[tokio::test(start_paused = true)]
    async fn places_grow_with_what_they_carry_and_shrink_as_parts_end() {
        let sent = Arc::<AtomicU64>::default();
        let slots = Slots::tuned(64, sent.clone(), None);
        let mut taken = take(&slots, 8).await;
        while slots.limit() < 64 {
            sent.fetch_add(1_000_000 * taken.len() as u64, Relaxed);
            slots.epoch().await;
            let more = slots.limit() as usize - taken.len();
            taken.extend(take(&slots, more).await);
        }
        slots.throttled();
        assert!(slots.epoch().await.is_some());
        let limit = slots.limit() as usize;
        assert!(limit < 64);
        taken.truncate(limit);
        assert_eq!(slots.free.available_permits(), 0, "those that are too many are not given out again");
        taken.pop();
        assert_eq!(slots.free.available_permits(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_hour_between_two_transfers_is_not_judged() {
        let sent = Arc::<AtomicU64>::default();
        let slots = Slots::tuned(64, sent.clone(), None);
        let mut taken = take(&slots, 8).await;
        while slots.limit() < 32 {
            sent.fetch_add(1_000_000 * taken.len() as u64, Relaxed);
            slots.epoch().await;
            let more = slots.limit() as usize - taken.len();
            taken.extend(take(&slots, more).await);
        }
        slots.epoch().await;
        sent.fetch_add(1, Relaxed);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert!(slots.epoch().await.is_none());
        assert_eq!(slots.limit(), 32);
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_path_begins_with_more() {
        let slots = Slots::tuned(256, Arc::default(), None);
        slots.answered(Duration::from_millis(120));
        let _slot = slots.take().await;
        assert_eq!(slots.limit(), START.1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_our_own_limit_lets_through_changes_nothing() {
        let sent = Arc::<AtomicU64>::default();
        let slots = Slots::tuned(64, sent.clone(), Limiter::new(Some(10_000_000), None));
        let _taken = take(&slots, 8).await;
        for tenth in 0..200 {
            // As much as is allowed, now a little more and now a little less.
            sent.fetch_add(1_000_000 + [0, 100_000, 0, 140_000][tenth % 4] - 70_000, Relaxed);
            assert!(slots.epoch().await.is_none());
        }
        sent.fetch_add(500_000, Relaxed);
        assert!(slots.epoch().await.is_some(), "less than that is the line's doing");
    }
}
