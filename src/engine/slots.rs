//! Places for parts in flight: a number that the caller gave, or one that all transfers to the endpoint share and that is
//! tuned to what the line carries.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::model::event::Event;
use crate::model::window::{Seen, Window};
use crate::net::limit::Limiter;

/// A round takes a round trip at least, within these bounds: what was changed must have had time to show.
const ROUND_MIN: Duration = Duration::from_millis(100);
const ROUND_TRIP_MAX: Duration = Duration::from_secs(1);
/// Parts in flight to begin with, at least and at most.
const START: (u32, u32) = (8, 64);
/// Of them, for each second that an exchange takes with its connection, of two round trips or three: the longer the path,
/// the less a connection carries. With half a MiB under way on each these start with some 250 MB/s.
const START_PER_SECOND: f64 = 250.0;
/// Never tuned beyond this. On the slowest path of `tuning/profiles` 256 connections carry 6 Gbit/s.
pub(crate) const TUNED_MAX: u32 = 256;

/// Places for parts in flight.
pub(crate) struct Slots {
    free: Arc<Semaphore>,
    state: Mutex<State>,
}

struct State {
    limit: u32,
    /// Places that are taken.
    taken: u32,
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
    round: Round,
    limiter: Option<Arc<Limiter>>,
    throttled: bool,
    /// The last change, until somebody tells it.
    news: Option<Event>,
}

/// The time in which as many parts as there are places began and ended.
///
/// What the store has confirmed in it is what the line carries. What sockets have taken is not: they take parts of a few
/// MiB whole, and then nothing until the line has carried them (seen: 156 MB/s in one second, 2 in the next).
struct Round {
    number: u64,
    begun: Instant,
    /// Parts that began in this round and have ended.
    ended: u32,
    /// Bytes of all parts that ended in it.
    bytes: u64,
    /// All places were taken at some time in it: more parts were there to be sent.
    full: bool,
}

/// A place, free again when it is dropped.
pub(crate) struct Slot {
    slots: Arc<Slots>,
    permit: Option<OwnedSemaphorePermit>,
    round: u64,
}

impl Slots {
    /// Always `limit` places.
    pub fn fixed(limit: u32) -> Arc<Self> {
        Self::new(limit, None)
    }

    /// As many places as carry more than fewer did.
    ///
    /// - `max`: never more.
    /// - `limiter`: what holds parts up on our side.
    pub fn tuned(max: u32, limiter: Option<Arc<Limiter>>) -> Arc<Self> {
        let round = Round::new(0);
        let tuning = Tuning { max, window: None, latency: None, round, limiter, throttled: false, news: None };
        Self::new(START.0.min(max), Some(tuning))
    }

    fn new(limit: u32, tuning: Option<Tuning>) -> Arc<Self> {
        Arc::new(Self {
            free: Arc::new(Semaphore::new(limit as usize)),
            state: Mutex::new(State { limit, taken: 0, owed: 0, tuning }),
        })
    }

    /// Waits for a place.
    pub async fn take(self: &Arc<Self>) -> Slot {
        self.begin();
        let permit = self.free.clone().acquire_owned().await.expect("never closed");
        let mut state = self.lock();
        state.taken += 1;
        let (first, full) = (state.taken == 1, state.taken >= state.limit);
        let round = state.tuning.as_mut().map_or(0, |tuning| {
            if first {
                // The time in which nothing was to be sent says nothing of the line.
                tuning.round = Round::new(tuning.round.number + 1);
            }
            tuning.round.full |= full;
            tuning.round.number
        });
        Slot { slots: self.clone(), permit: Some(permit), round }
    }

    /// Most places there will ever be.
    pub fn max(&self) -> u32 {
        let state = self.lock();
        state.tuning.as_ref().map_or(state.limit, |tuning| tuning.max)
    }

    /// How many places there are.
    pub fn limit(&self) -> u32 {
        self.lock().limit
    }

    /// The store asked for less.
    pub fn throttled(&self) {
        let mut state = self.lock();
        if let Some(tuning) = &mut state.tuning {
            tuning.throttled = true;
            self.judge(&mut state);
        }
    }

    /// An exchange without a body of its own took so long.
    pub fn answered(&self, time: Duration) {
        if let Some(tuning) = &mut self.lock().tuning {
            tuning.latency = Some(tuning.latency.map_or(time, |shortest| shortest.min(time)));
        }
    }

    /// How many there are now, if that has changed since anybody asked.
    pub fn news(&self) -> Option<Event> {
        self.lock().tuning.as_mut()?.news.take()
    }

    /// At the end of a round, changes the number of places if that seems good.
    fn judge(&self, state: &mut State) {
        let limit_before = state.limit;
        let Some(tuning) = &mut state.tuning else { return };
        let Some(window) = &mut tuning.window else { return };
        let took = tuning.round.begun.elapsed();
        let least = tuning.latency.map_or(ROUND_MIN, |latency| latency.clamp(ROUND_MIN, ROUND_TRIP_MAX));
        if took < least || (!tuning.throttled && tuning.round.ended < limit_before) {
            return;
        }
        let goodput = tuning.round.bytes as f64 / took.as_secs_f64();
        // What our own limit lets through says nothing of the line.
        let own_limit = tuning.limiter.as_ref().is_some_and(|limiter| limiter.explains(goodput));
        let full = tuning.round.full && !own_limit;
        window.round(Seen { goodput, full, throttled: std::mem::take(&mut tuning.throttled) });
        tuning.round = Round::new(tuning.round.number + 1);
        let limit = window.limit();
        if limit != limit_before {
            tuning.news = Some(Event::Window { parallel: limit, bytes_per_second: goodput as u64 });
            self.resize(state, limit);
        }
    }

    fn begin(&self) {
        let mut state = self.lock();
        let Some(tuning) = state.tuning.as_mut().filter(|tuning| tuning.window.is_none()) else { return };
        let due = tuning.latency.map_or(0.0, |latency| latency.as_secs_f64() * START_PER_SECOND);
        let window = Window::new((due as u32).clamp(START.0, START.1), tuning.max);
        let limit = window.limit();
        tuning.window = Some(window);
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

impl Round {
    fn new(number: u64) -> Self {
        Self { number, begun: Instant::now(), ended: 0, bytes: 0, full: false }
    }
}

impl Slot {
    /// The part that has this place is in the store, with so many bytes.
    pub fn carried(&self, bytes: u64) {
        let mut state = self.slots.lock();
        if let Some(tuning) = &mut state.tuning {
            tuning.round.bytes += bytes;
            tuning.round.ended += u32::from(self.round == tuning.round.number);
            self.slots.judge(&mut state);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.slots.lock();
        state.taken -= 1;
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
    use futures_util::StreamExt;
    use futures_util::stream::FuturesUnordered;

    use super::*;

    const MIB: u64 = 1 << 20;

    async fn take(slots: &Arc<Slots>, count: usize) -> Vec<Slot> {
        let mut taken = Vec::new();
        for _ in 0..count {
            taken.push(slots.take().await);
        }
        taken
    }

    /// Sends parts of 4 MiB for `time`, always as many as allowed, over connections that carry `each` bytes per second
    /// and no more than `all` together.
    async fn send(slots: &Arc<Slots>, time: Duration, each: f64, all: f64) {
        let end = Instant::now() + time;
        let sending = |slot: Slot, share: f64| async move {
            tokio::time::sleep(Duration::from_secs_f64(4.0 * MIB as f64 / share)).await;
            slot.carried(4 * MIB);
        };
        let mut in_flight = FuturesUnordered::new();
        while Instant::now() < end {
            tokio::select! {
                biased;
                Some(()) = in_flight.next() => {}
                slot = slots.take() => in_flight.push(sending(slot, each.min(all / f64::from(slots.limit())))),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_number_that_was_given_stays() {
        let slots = Slots::fixed(3);
        let taken = take(&slots, 3).await;
        slots.throttled();
        let minute = Duration::from_secs(60);
        assert!(tokio::time::timeout(minute, slots.take()).await.is_err());
        drop(taken);
        send(&slots, minute, 3e6, f64::INFINITY).await;
        assert_eq!(slots.limit(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn slow_connections_are_many_after_a_few_parts_each() {
        let slots = Slots::tuned(256, None);
        slots.answered(Duration::from_millis(180));
        send(&slots, Duration::from_secs(7), 3e6, f64::INFINITY).await;
        assert_eq!(slots.limit(), 256);
        assert!(matches!(slots.news(), Some(Event::Window { parallel: 256, .. })));
        assert!(slots.news().is_none(), "told once");
    }

    #[tokio::test(start_paused = true)]
    async fn files_of_one_part_one_after_the_other_say_nothing_of_the_line() {
        let slots = Slots::tuned(256, None);
        for _ in 0..100 {
            let slot = slots.take().await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            slot.carried(MIB);
        }
        assert_eq!(slots.limit(), START.0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_line_is_not_crowded() {
        let slots = Slots::tuned(256, None);
        send(&slots, Duration::from_secs(120), 12e6, 250e6).await;
        assert!((20..=80).contains(&slots.limit()), "{}", slots.limit());
    }

    #[tokio::test(start_paused = true)]
    async fn places_shrink_as_parts_end_when_the_store_throttles() {
        let slots = Slots::tuned(64, None);
        let mut taken = take(&slots, 8).await;
        tokio::time::advance(ROUND_MIN).await;
        slots.throttled();
        let limit = slots.limit() as usize;
        assert!(limit < 8);
        slots.throttled();
        assert_eq!(slots.limit() as usize, limit, "once a round");
        taken.truncate(limit);
        assert_eq!(slots.free.available_permits(), 0, "those that are too many are not given out again");
        taken.pop();
        assert_eq!(slots.free.available_permits(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_hour_between_two_transfers_is_not_judged() {
        let slots = Slots::tuned(64, None);
        send(&slots, Duration::from_secs(30), 12e6, 250e6).await;
        let before = slots.limit();
        tokio::time::advance(Duration::from_secs(3600)).await;
        send(&slots, Duration::from_secs(1), 12e6, 250e6).await;
        assert!(slots.limit() >= before, "{before} -> {}", slots.limit());
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_path_begins_with_more() {
        let slots = Slots::tuned(256, None);
        slots.answered(Duration::from_millis(120));
        let _slot = slots.take().await;
        assert_eq!(slots.limit(), 30);
    }

    #[tokio::test(start_paused = true)]
    async fn what_our_own_limit_lets_through_changes_nothing() {
        let slots = Slots::tuned(64, Limiter::new(Some(10_000_000), None));
        send(&slots, Duration::from_secs(60), 12e6, 9.7e6).await;
        assert!(slots.news().is_none());
        send(&slots, Duration::from_secs(60), 12e6, 7e6).await;
        assert!(slots.news().is_some(), "less than that is the line's doing");
    }
}
