//! Parts are taken from one queue, as many at a time as there are places, until none is left or one shows that the rest
//! cannot be sent either.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{Either, select};
use futures_util::stream::FuturesUnordered;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::attempt::{Confirmed, Failure, Upload, read_crc64};
use super::exchange::Exchange;
use super::slots::{Slot, Slots};
use crate::checkpoint::{Journal, Record, StoredPart};
use crate::error::Error;
use crate::model::event::Event;
use crate::model::hedge::Hedge;
use crate::model::part::{Part, PartNumber};
use crate::model::retry::FaultKind;
use crate::net::stage::Stage;

/// A part that is not known to be in the store.
pub(super) struct Missing {
    pub part: Part,
    /// What the store has under its number, if that may be the part: reading the file again tells.
    pub found: Option<StoredPart>,
}

/// What the parts share.
struct Work<'a> {
    upload: &'a Upload<'a>,
    journal: Option<&'a Journal>,
    slots: &'a Arc<Slots>,
    parts: u32,
    state: Mutex<State>,
    /// Told when the transfer cannot succeed any more.
    is_lost: Notify,
}

struct State {
    queue: VecDeque<Missing>,
    done: Vec<(PartNumber, StoredPart)>,
    /// Parts given up since the last one that was confirmed.
    given_up: u32,
    error: Option<Error>,
    hedge: Hedge,
}

/// Sends `missing`, one part in each of the `slots`; gives those confirmed.
///
/// A part that fails for good ends the transfer at once, and those in flight with it. A part that the retry policy gives
/// up leaves the others their chance, until as many as are in flight were given up with none confirmed in between: then
/// nothing goes any more.
pub(super) async fn send_missing(
    upload: &Upload<'_>,
    journal: Option<&Journal>,
    missing: Vec<Missing>,
    slots: &Arc<Slots>,
) -> Result<Vec<(PartNumber, StoredPart)>, Error> {
    let parts = missing.len() as u32;
    let state = State { queue: missing.into(), done: Vec::new(), given_up: 0, error: None, hedge: Hedge::default() };
    let work = Work { upload, journal, slots, parts, state: Mutex::new(state), is_lost: Notify::new() };
    upload.transfer.unless_cancelled(work.run()).await?;
    let state = work.state.into_inner().unwrap_or_else(|e| e.into_inner());
    state.error.map_or(Ok(state.done), Err)
}

impl Work<'_> {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    async fn run(&self) {
        let mut in_flight = FuturesUnordered::new();
        loop {
            let more = !self.lock().queue.is_empty();
            if !more && in_flight.is_empty() {
                return;
            }
            tokio::select! {
                biased;
                () = self.is_lost.notified() => return,
                Some(()) = in_flight.next() => self.tell_news(),
                slot = self.slots.take(), if more => in_flight.push(self.fill(slot)),
            }
        }
    }

    fn tell_news(&self) {
        if let Some(event) = self.slots.news() {
            self.upload.transfer.tell(event);
        }
    }

    /// Sends the next part, if there still is one.
    async fn fill(&self, slot: Slot) {
        let next = self.lock().queue.pop_front();
        if let Some(next) = next {
            let result = self.send(&next, &slot).await;
            self.note(&next.part, result);
        }
    }

    fn note(&self, part: &Part, result: Result<StoredPart, Error>) {
        let result = result.and_then(|stored| {
            if let Some(journal) = self.journal {
                journal.record(Record::PartStored(part.number, stored.clone()))?;
            }
            Ok(stored)
        });
        let mut state = self.lock();
        match result {
            Ok(stored) => {
                state.done.push((part.number, stored));
                state.given_up = 0;
            }
            Err(error) => {
                state.given_up += 1;
                let passing = error.fault_kind().is_some_and(|k| k.is_passing() && k != FaultKind::Corrupted);
                if !passing {
                    self.is_lost.notify_one();
                }
                if state.given_up >= self.slots.limit().min(self.parts) {
                    state.queue.clear();
                }
                state.error.get_or_insert(error);
            }
        }
    }

    /// Sends one part, or adopts it if the store has just these bytes already.
    async fn send(&self, missing: &Missing, slot: &Slot) -> Result<StoredPart, Error> {
        let (upload, part) = (self.upload, &missing.part);
        if let Some(stored) = adopt(upload, missing).await? {
            let verified = true;
            upload.transfer.counters.resumed(part.bytes);
            tell_done(upload, part, &stored, 0, verified);
            return Ok(stored);
        }
        let mut exchange = upload.exchange(part);
        loop {
            let failure = match self.attempt(part, &exchange).await {
                Ok(Confirmed { part: stored, verified }) => {
                    upload.transfer.counters.confirmed(part.bytes, verified);
                    slot.carried(part.bytes);
                    tell_done(upload, part, &stored, exchange.number(), verified);
                    return Ok(stored);
                }
                Err(failure) => failure,
            };
            let corrupted = match failure {
                Failure::Corrupted { sent, received } => {
                    Some(Error::PartCorrupted { part: part.number, sent, received })
                }
                _ => None,
            };
            let fault = failure.into_fault()?;
            if !exchange.again(&fault).await {
                return Err(corrupted.unwrap_or_else(|| exchange.failed(fault)));
            }
        }
    }

    /// One try, and a second one beside it if the first takes much longer than others did: what is slow is often one
    /// connection or one server. The same bytes under the same number may be sent twice; with encryption by the store
    /// their ETags may differ, so not there.
    async fn attempt(&self, part: &Part, exchange: &Exchange<'_>) -> Result<Confirmed, Failure> {
        let stage = exchange.stage();
        let begun = stage.time();
        let patience = self.lock().hedge.begin().filter(|_| self.upload.options.sse.is_none());
        let mut first = pin!(self.upload.attempt(part, exchange));
        let result = match patience {
            None => first.await,
            Some(patience) => match unless_late(&stage, begun + patience, &mut first).await {
                Some(result) => result,
                None if !self.lock().hedge.double() => first.await,
                None => {
                    let after_ms = patience.as_millis() as u64;
                    self.upload.transfer.tell(Event::Hedged { part: part.number.get(), after_ms });
                    let twin = self.upload.exchange(part);
                    let second = pin!(self.upload.attempt(part, &twin));
                    first_success(first, second).await
                }
            },
        };
        if result.is_ok() {
            self.lock().hedge.took(stage.time() - begun);
        }
        result
    }
}

/// A clock that stands is looked at again after so much time.
const LATE_TICK: Duration = Duration::from_millis(10);

/// The result of `attempt`, unless it is later than `end` by the clock of its exchange.
async fn unless_late<T>(stage: &Stage, end: Instant, mut attempt: impl Future<Output = T> + Unpin) -> Option<T> {
    loop {
        let left = end.saturating_duration_since(stage.time()).max(LATE_TICK);
        match tokio::time::timeout(left, &mut attempt).await {
            Ok(result) => return Some(result),
            Err(_) if stage.time() >= end => return None,
            // The clock stood for a while.
            Err(_) => {}
        }
    }
}

/// The first of two that succeeds; if neither does, how the last one failed.
async fn first_success<T, E>(
    a: impl Future<Output = Result<T, E>> + Unpin,
    b: impl Future<Output = Result<T, E>> + Unpin,
) -> Result<T, E> {
    match select(a, b).await {
        Either::Left((Err(_), other)) => other.await,
        Either::Right((Err(_), other)) => other.await,
        Either::Left((done, _)) | Either::Right((done, _)) => done,
    }
}

/// What the store has is the part if the file, read again, has its checksum.
async fn adopt(upload: &Upload<'_>, Missing { part, found }: &Missing) -> Result<Option<StoredPart>, Error> {
    let Some(found) = found else { return Ok(None) };
    let crc64 = read_crc64(upload.source, part.offset, part.bytes).await?;
    Ok((crc64 == found.crc64).then(|| found.clone()))
}

fn tell_done(upload: &Upload<'_>, part: &Part, stored: &StoredPart, attempts: u32, verified: bool) {
    upload.transfer.tell(Event::PartDone {
        part: part.number.get(),
        bytes: part.bytes,
        crc64: stored.crc64,
        attempts,
        verified,
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::Step;
    use crate::model::explain::Cost;

    #[tokio::test(start_paused = true)]
    async fn a_part_that_our_own_limit_holds_back_is_not_late() {
        let stage = Stage::new(Step::Sending);
        let slow = |held: Duration, more: Duration| {
            let stage = stage.clone();
            Box::pin(async move {
                stage.enter(Cost::Rate);
                tokio::time::sleep(held).await;
                stage.rest();
                tokio::time::sleep(more).await;
            })
        };
        let second = Duration::from_secs(1);
        let patience = || stage.time() + 3 * second;
        assert!(unless_late(&stage, patience(), slow(3600 * second, 2 * second)).await.is_some());
        assert!(unless_late(&stage, patience(), slow(3600 * second, 4 * second)).await.is_none());
        assert!(unless_late(&stage, patience(), slow(second / 2, 4 * second)).await.is_none());
    }
}
