//! Workers take parts from one queue until none is left or one shows that the rest cannot be sent either.

use std::collections::VecDeque;
use std::sync::Mutex;

use futures_util::future::join_all;

use super::attempt::{Confirmed, Failure, Upload};
use crate::checkpoint::{Journal, Record, StoredPart};
use crate::error::Error;
use crate::model::event::Event;
use crate::model::part::{Part, PartNumber};
use crate::model::retry::{Fault, FaultKind};
use crate::store::Operation;
use crate::store::operations::list_parts::ListedPart;
use crate::store::operations::upload_part::UploadPart;

/// A part that is not known to be in the store, with what the store lists under its number, if anything.
pub(super) struct Missing {
    pub part: Part,
    pub listed: Option<ListedPart>,
}

/// What the workers share.
struct Work {
    queue: VecDeque<Missing>,
    done: Vec<(PartNumber, StoredPart)>,
    /// Parts given up since the last one that was confirmed.
    given_up: u32,
    error: Option<Error>,
}

/// Sends `missing` with `parallel` parts in flight; gives those confirmed.
///
/// A part that fails for good ends the transfer at once. A part that the retry policy gives up leaves the others their
/// chance, until as many as are in flight were given up with none confirmed in between: then nothing goes any more.
pub(super) async fn send_missing(
    upload: &Upload<'_>,
    journal: Option<&Journal>,
    missing: Vec<Missing>,
    parallel: u32,
) -> Result<Vec<(PartNumber, StoredPart)>, Error> {
    let workers = (parallel as usize).min(missing.len());
    let work = Mutex::new(Work { queue: missing.into(), done: Vec::new(), given_up: 0, error: None });
    let worker = async || {
        while let Some(next) = take(&work) {
            let result = send(upload, &next).await;
            note(&work, journal, &next.part, result, workers as u32);
        }
    };
    upload.transfer.unless_cancelled(join_all((0..workers).map(|_| worker()))).await?;
    let work = work.into_inner().unwrap_or_else(|e| e.into_inner());
    work.error.map_or(Ok(work.done), Err)
}

fn take(work: &Mutex<Work>) -> Option<Missing> {
    work.lock().unwrap_or_else(|e| e.into_inner()).queue.pop_front()
}

fn note(work: &Mutex<Work>, journal: Option<&Journal>, part: &Part, result: Result<StoredPart, Error>, workers: u32) {
    let result = result.and_then(|stored| {
        if let Some(journal) = journal {
            journal.record(Record::PartStored(part.number, stored.clone()))?;
        }
        Ok(stored)
    });
    let mut work = work.lock().unwrap_or_else(|e| e.into_inner());
    match result {
        Ok(stored) => {
            work.done.push((part.number, stored));
            work.given_up = 0;
        }
        Err(error) => {
            work.given_up += 1;
            let passing = error.fault_kind().is_some_and(|k| k.is_passing() && k != FaultKind::Corrupted);
            if !passing || work.given_up >= workers {
                work.queue.clear();
            }
            work.error.get_or_insert(error);
        }
    }
}

/// Sends one part, or adopts it if the store has just these bytes already.
async fn send(upload: &Upload<'_>, missing: &Missing) -> Result<StoredPart, Error> {
    let part = &missing.part;
    if let Some(stored) = adopt(upload, missing).await? {
        let verified = true;
        upload.transfer.counters.resumed(part.bytes);
        tell_done(upload, part, &stored, 0, verified);
        return Ok(stored);
    }
    let mut attempt = 1;
    loop {
        let failure = match upload.attempt(part).await {
            Ok(Confirmed { part: stored, verified }) => {
                upload.transfer.counters.confirmed(part.bytes, verified);
                tell_done(upload, part, &stored, attempt, verified);
                return Ok(stored);
            }
            Err(failure) => failure,
        };
        let corrupted = match failure {
            Failure::Corrupted { sent, received } => Some((sent, received)),
            _ => None,
        };
        let fault = failure.into_fault()?;
        let again = upload.engine.back_off(UploadPart::NAME, Some(part.number), &fault, attempt, Some(upload.transfer));
        if !again.await {
            return Err(final_error(part, attempt, fault, corrupted));
        }
        attempt += 1;
    }
}

fn final_error(part: &Part, attempts: u32, fault: Fault, corrupted: Option<(u64, u64)>) -> Error {
    match corrupted {
        Some((sent, received)) => Error::PartCorrupted { part: part.number, sent, received },
        None => Error::Exchange { operation: UploadPart::NAME, attempts, fault: Box::new(fault) },
    }
}

/// A part that the store lists but the journal does not know is good if the file, read again, has the listed checksum.
async fn adopt(upload: &Upload<'_>, missing: &Missing) -> Result<Option<StoredPart>, Error> {
    let Some(listed) = &missing.listed else { return Ok(None) };
    let Some(crc64) = listed.crc64.filter(|_| listed.bytes == missing.part.bytes) else { return Ok(None) };
    let same = upload.read_crc64(&missing.part).await? == crc64;
    Ok(same.then(|| StoredPart { bytes: listed.bytes, etag: listed.etag.clone(), crc64 }))
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
