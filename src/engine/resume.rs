//! What of an interrupted upload is still good: the checkpoint knows what was sent, the store knows what it has.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Engine;
use super::transfer::Transfer;
use super::upload::Job;
use super::worker::Missing;
use crate::checkpoint::{Checkpoint, Journal, OpenUpload, Record, StoredPart};
use crate::error::Error;
use crate::model::event::Event;
use crate::model::object::UploadId;
use crate::model::part::{Part, PartNumber, PartPlan};
use crate::model::retry::FaultKind;
use crate::store::operations::abort::Abort;
use crate::store::operations::list_parts::{ListParts, ListedPart};

/// Parts in the store, and parts to send.
pub(super) struct Inventory {
    pub stored: Vec<(PartNumber, StoredPart)>,
    pub missing: Vec<Missing>,
}

impl Inventory {
    /// Of an upload that has just begun.
    pub fn empty(plan: &PartPlan) -> Self {
        Self { stored: Vec::new(), missing: plan.parts().map(|part| Missing { part, listed: None }).collect() }
    }

    /// Keeps every part on which checkpoint and store agree by number, length, ETag and checksum. Holes are normal.
    fn of(plan: &PartPlan, recorded: &BTreeMap<PartNumber, StoredPart>, mut listed: Listing) -> Self {
        let mut inventory = Self { stored: Vec::new(), missing: Vec::new() };
        for part in plan.parts() {
            let listed = listed.remove(&part.number);
            match recorded.get(&part.number) {
                Some(known) if listed.as_ref().is_some_and(|l| agree(&part, known, l)) => {
                    inventory.stored.push((part.number, known.clone()));
                }
                _ => inventory.missing.push(Missing { part, listed }),
            }
        }
        inventory
    }
}

type Listing = BTreeMap<PartNumber, ListedPart>;

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
    checkpoint: &Checkpoint,
) -> Result<Option<Inventory>, Error> {
    let Some(listed) = list_parts(job, upload_id).await? else { return Ok(None) };
    let inventory = Inventory::of(plan, &checkpoint.parts, listed);
    let mut bytes = 0;
    for (_, part) in &inventory.stored {
        bytes += part.bytes;
        job.transfer.counters.resumed(part.bytes);
    }
    job.transfer.tell(Event::Resumed { upload_id: upload_id.clone(), parts: inventory.stored.len() as u32, bytes });
    Ok(Some(inventory))
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

/// Aborts uploads that an older checkpoint left open, so that their parts are not paid for.
pub(super) async fn abort_abandoned(
    engine: &Engine,
    transfer: &Arc<Transfer>,
    journal: &Journal,
    abandoned: &[OpenUpload],
) -> Result<(), Error> {
    for upload in abandoned {
        let OpenUpload { endpoint, bucket, key, upload_id } = upload;
        let result = if *endpoint == engine.endpoint_name {
            engine.exchange(&Abort { bucket, key, upload_id }, Some(transfer)).await.map_err(|e| e.to_string())
        } else {
            Err(format!("it is at another endpoint, {endpoint}"))
        };
        match result {
            Ok(()) => journal.record(Record::AbandonedAborted(upload_id.clone()))?,
            Err(why) => transfer.tell(Event::Warning {
                message: format!("the upload {upload_id} of oss://{bucket}/{key} stays open in the store: {why}"),
            }),
        }
    }
    Ok(())
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
        let inventory = Inventory::of(&plan, &recorded, listing);
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
        let inventory = Inventory::of(&plan, &recorded, listing.into());
        assert!(inventory.stored.is_empty());
        assert_eq!(inventory.missing.len(), 5);
        assert!(inventory.missing[3].listed.is_none(), "the store lost part 4");
        assert!(inventory.missing[4].listed.is_some(), "part 5 may be adopted");
    }

    #[test]
    fn a_listing_without_checksums_is_believed_by_etag() {
        let plan = PartPlan::new(FULL, FULL, Limits::OSS).unwrap();
        let recorded = [(number(1), known(FULL, "A", 7))].into();
        let inventory = Inventory::of(&plan, &recorded, [listed(1, FULL, "A", None)].into());
        assert_eq!(inventory.stored.len(), 1);
    }
}
