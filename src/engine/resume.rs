//! What of an interrupted upload is still good: the checkpoint knows what was sent, the store knows what it has.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::time::Instant;

use super::attempt::read_crc64;
use super::job::Job;
use super::session::Session;
use super::worker::Missing;
use crate::checkpoint::{Claims, OpenUpload, Record, StoredPart};
use crate::error::Error;
use crate::model::event::Event;
use crate::model::object::UploadId;
use crate::model::part::{Part, PartNumber, PartPlan};
use crate::model::retry::FaultKind;
use crate::store::operations::abort::Abort;
use crate::store::operations::list_parts::{ListParts, ListedPart};

/// Longest time that cleaning up at the end of a run may take.
const ABORT_TIMEOUT: Duration = Duration::from_secs(10);

/// Parts in the store, and parts to send.
pub(super) struct Inventory {
    pub stored: Vec<(PartNumber, StoredPart)>,
    pub missing: Vec<Missing>,
}

impl Inventory {
    /// Of an upload that has just begun.
    pub fn empty(plan: &PartPlan) -> Self {
        Self { stored: Vec::new(), missing: plan.parts().map(|part| Missing { part, found: None }).collect() }
    }

    /// Keeps every part on which checkpoint and store agree by number, length, ETag and checksum. Holes are normal.
    fn of(plan: &PartPlan, recorded: &Parts, claimed: &Parts, mut listed: Listing) -> Self {
        let mut inventory = Self { stored: Vec::new(), missing: Vec::new() };
        for part in plan.parts() {
            let listed = listed.remove(&part.number);
            let agreed = |parts: &Parts| {
                parts.get(&part.number).filter(|known| listed.as_ref().is_some_and(|l| agree(&part, known, l))).cloned()
            };
            match agreed(recorded) {
                Some(known) => inventory.stored.push((part.number, known)),
                None => {
                    let found = agreed(claimed).or_else(|| by_itself(&part, listed.as_ref()?));
                    inventory.missing.push(Missing { part, found });
                }
            }
        }
        inventory
    }

    /// The parts that are compared with the file before they count: how many, and their bytes.
    fn to_compare(&self) -> (u32, u64) {
        let found = self.missing.iter().filter_map(|missing| missing.found.as_ref());
        found.fold((0, 0), |(parts, bytes), part| (parts + 1, bytes + part.bytes))
    }
}

type Parts = BTreeMap<PartNumber, StoredPart>;
type Listing = BTreeMap<PartNumber, ListedPart>;

/// What is listed, if it has the length of the part and a checksum to compare.
fn by_itself(part: &Part, listed: &ListedPart) -> Option<StoredPart> {
    let crc64 = listed.crc64.filter(|_| listed.bytes == part.bytes)?;
    Some(StoredPart { bytes: listed.bytes, etag: listed.etag.clone(), crc64 })
}

fn agree(part: &Part, known: &StoredPart, listed: &ListedPart) -> bool {
    part.bytes == known.bytes
        && part.bytes == listed.bytes
        && known.etag == listed.etag
        && listed.crc64.is_none_or(|crc64| crc64 == known.crc64)
}

/// Compares the checkpoint with the store. `None`: the store does not know the upload.
pub(super) async fn take_stock(
    job: &Job<'_>,
    plan: &PartPlan,
    upload_id: &UploadId,
    Session { checkpoint, claims, .. }: &Session,
) -> Result<Option<Inventory>, Error> {
    let Some(listed) = list_parts(job, upload_id).await? else { return Ok(None) };
    let inventory = Inventory::of(plan, &checkpoint.parts, &claims.parts, listed);
    let mut bytes = 0;
    for (_, part) in &inventory.stored {
        bytes += part.bytes;
        job.transfer.counters.resumed(part.bytes);
    }
    job.transfer.tell(Event::Resumed { upload_id: upload_id.clone(), parts: inventory.stored.len() as u32, bytes });
    let (parts, bytes) = inventory.to_compare();
    if parts > 0 {
        let forgotten = || "the checkpoint does not know them".to_owned();
        let why = Some(claims.why.clone()).filter(|why| !why.is_empty()).unwrap_or_else(forgotten);
        job.transfer.tell(Event::Comparing { parts, bytes, why });
    }
    Ok(Some(inventory))
}

/// Whether the file, read again, has every part of `claims`, which are all parts of the plan.
pub(super) async fn bears_out(job: &Job<'_>, plan: &PartPlan, claims: &Claims) -> Result<bool, Error> {
    let (parts, bytes, why) = (plan.count(), plan.object_bytes(), claims.why.clone());
    job.transfer.tell(Event::Comparing { parts, bytes, why });
    let source = &job.prepared.chosen.source;
    let parts: Vec<_> = plan.parts().zip(claims.parts.values().map(|claim| claim.crc64)).collect();
    let same = stream::iter(parts)
        .map(|(part, crc64)| {
            let source = source.clone();
            async move { Ok(read_crc64(&source, part.offset, part.bytes).await? == crc64) }
        })
        .buffer_unordered(job.slots.limit() as usize)
        .try_all(std::future::ready);
    job.transfer.unless_cancelled(same).await?
}

async fn list_parts(job: &Job<'_>, upload_id: &UploadId) -> Result<Option<Listing>, Error> {
    let mut listing = Listing::new();
    let mut after = None;
    loop {
        let operation = ListParts { bucket: &job.request.bucket, key: &job.request.key, upload_id, after };
        let page = match job.engine.exchange(&operation, Some(job.transfer)).await {
            Err(error) if error.fault_kind() == Some(FaultKind::NoSuchUpload) => return Ok(None),
            page => page?,
        };
        listing.extend(page.parts.into_iter().map(|part| (part.number, part)));
        match page.next {
            None => return Ok(Some(listing)),
            next => after = next,
        }
    }
}

/// Aborts uploads that an older checkpoint left open, so that their parts are not paid for. What cannot be aborted stays
/// known, and is tried again when the transfer is done.
pub(super) async fn abort_abandoned(job: &Job<'_>, session: &mut Session) -> Result<(), Error> {
    for upload in session.checkpoint.abandoned.clone() {
        if abort(job, &upload).await.is_ok() {
            session.record(Record::AbandonedAborted(upload.upload_id))?;
        }
    }
    Ok(())
}

/// Aborts uploads that nothing will remember, and tells of those that stay open. Takes [`ABORT_TIMEOUT`] at most.
pub(super) async fn abort_or_tell(job: &Job<'_>, uploads: &[OpenUpload]) {
    let end = Instant::now() + ABORT_TIMEOUT;
    for upload in uploads {
        let late = |_| Err(format!("the store did not do it in {} s", ABORT_TIMEOUT.as_secs()));
        if let Err(why) = tokio::time::timeout_at(end, abort(job, upload)).await.unwrap_or_else(late) {
            let OpenUpload { endpoint, bucket, key, upload_id } = upload.clone();
            job.transfer.tell(Event::LeftOpen { endpoint, bucket, key, upload_id, why });
        }
    }
}

async fn abort(job: &Job<'_>, upload: &OpenUpload) -> Result<(), String> {
    let OpenUpload { endpoint, bucket, key, upload_id } = upload;
    if *endpoint != job.engine.endpoint_name {
        return Err(format!("it is at another endpoint, {endpoint}"));
    }
    let aborted = job.engine.exchange(&Abort { bucket, key, upload_id }, Some(job.transfer)).await;
    aborted.map(drop).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::object::ETag;
    use crate::model::part::Limits;

    fn number(n: u32) -> PartNumber {
        PartNumber::new(n).unwrap()
    }

    fn known(bytes: u64, etag: &str, crc64: u64) -> StoredPart {
        StoredPart { bytes, etag: ETag::new(etag), crc64 }
    }

    fn listed(n: u32, bytes: u64, etag: &str, crc64: Option<u64>) -> (PartNumber, ListedPart) {
        (number(n), ListedPart { number: number(n), bytes, etag: ETag::new(etag), crc64 })
    }

    const FULL: u64 = 100 << 10;

    #[test]
    fn a_gap_in_the_parts_costs_only_the_gap() {
        let plan = PartPlan::new(4 * FULL, FULL, Limits::OSS).unwrap();
        let recorded = [1, 3, 4].map(|n| (number(n), known(FULL, "A", 7))).into();
        let listing = [1, 3, 4].map(|n| listed(n, FULL, "\"a\"", Some(7))).into();
        let inventory = Inventory::of(&plan, &recorded, &Parts::new(), listing);
        assert_eq!(inventory.stored.iter().map(|(n, _)| n.get()).collect::<Vec<_>>(), [1, 3, 4]);
        assert_eq!(inventory.missing.iter().map(|m| m.part.number.get()).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn a_part_on_which_checkpoint_and_store_disagree_is_sent_again() {
        let plan = PartPlan::new(5 * FULL, FULL, Limits::OSS).unwrap();
        let recorded = (1..=4).map(|n| (number(n), known(FULL, "A", 7))).collect();
        let listing = [
            listed(1, FULL, "B", Some(7)),
            listed(2, FULL - 1, "A", Some(7)),
            listed(3, FULL, "A", Some(8)),
            listed(5, FULL, "A", Some(9)),
        ];
        let inventory = Inventory::of(&plan, &recorded, &Parts::new(), listing.into());
        assert!(inventory.stored.is_empty());
        assert_eq!(inventory.missing.len(), 5);
        let found = |n: usize| inventory.missing[n - 1].found.as_ref().map(|part| part.crc64);
        assert_eq!([found(1), found(3)], [Some(7), Some(8)], "they may be of the file as the store has them");
        assert_eq!([found(2), found(4)], [None, None], "another length, and a part that the store lost");
        assert_eq!(found(5), Some(9), "a part that the checkpoint does not know may be adopted");
    }

    #[test]
    fn a_part_that_is_claimed_is_compared_and_counts_before_that_for_nothing() {
        let plan = PartPlan::new(4 * FULL, FULL, Limits::OSS).unwrap();
        let claimed = (1..=4).map(|n| (number(n), known(FULL, "A", 7))).collect();
        let listing = [listed(1, FULL, "A", Some(7)), listed(2, FULL, "A", None), listed(3, FULL, "B", None)];
        let inventory = Inventory::of(&plan, &Parts::new(), &claimed, listing.into());
        assert!(inventory.stored.is_empty());
        let found: Vec<_> = inventory.missing.iter().map(|missing| missing.found.is_some()).collect();
        assert_eq!(found, [true, true, false, false], "by its claim where the store lists no checksum");
        assert_eq!(inventory.to_compare(), (2, 2 * FULL));
    }

    #[test]
    fn a_listing_without_checksums_is_believed_by_etag() {
        let plan = PartPlan::new(FULL, FULL, Limits::OSS).unwrap();
        let recorded = [(number(1), known(FULL, "A", 7))].into();
        let inventory = Inventory::of(&plan, &recorded, &Parts::new(), [listed(1, FULL, "A", None)].into());
        assert_eq!(inventory.stored.len(), 1);
    }
}
