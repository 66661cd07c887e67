//! Merging the parts into the object, and telling whether the object in the store is ours.

use std::sync::atomic::Ordering::Relaxed;

use super::exchange::Exchange;
use super::job::{Job, Uploaded};
use super::resume::abort_abandoned;
use super::session::Session;
use crate::checkpoint::{Completed, Record, StoredPart};
use crate::error::Error;
use crate::model::crc64::combine_all;
use crate::model::event::Event;
use crate::model::object::{ETag, UploadId};
use crate::model::part::{PartNumber, PartPlan};
use crate::model::receipt::PartReceipt;
use crate::model::retry::{Fault, FaultKind};
use crate::model::settings::UploadRequest;
use crate::store::operations::ObjectStored;
use crate::store::operations::complete::Complete;
use crate::store::operations::head::Head;
use crate::store::operations::list_parts::ListParts;
use crate::store::{Operation, Stage};

/// All parts of an upload, in ascending order.
pub(super) type Parts = [(PartNumber, StoredPart)];

impl Job<'_> {
    /// Merges the parts, compares the object, and has the checkpoint know both before anything relies on it.
    pub async fn merge(
        &self,
        plan: &PartPlan,
        mut session: Option<&mut Session>,
        upload_id: &UploadId,
        parts: &Parts,
    ) -> Result<Uploaded, Error> {
        if let Some(session) = session.as_deref_mut() {
            // A run that dies past Complete can then tell that the object is its own.
            session.record_durably(Record::Completing(self.description(Stage::Complete))).await?;
        }
        let crc64 = combine_all(parts.iter().map(|(_, part)| (part.crc64, part.bytes)));
        self.transfer.tell(Event::Completing { parts: plan.count() });
        let complete = self.complete(plan, upload_id, parts, crc64);
        let stored = match self.transfer.unless_cancelled(complete).await? {
            Err(error) if self.has_lost(&error) => return Err(self.give_up(session, upload_id, error).await?),
            stored => stored?,
        };
        let verified = verify_object(crc64, &stored, self.transfer.counters.parts_unverified.load(Relaxed))?;
        if let Some(expected) = stored.etag_by_rule.as_ref().filter(|expected| **expected != stored.etag) {
            let message = format!("the object has the ETag {}; that of its parts would be {expected}", stored.etag);
            self.transfer.tell(Event::Warning { message });
        }
        let completed = completed(&stored, verified);
        let uploaded = self.uploaded(stored, crc64, verified, Some((upload_id, parts)));
        if let Some(session) = session
            && let Err(error) = session.record_durably(Record::Completed(completed)).await
        {
            let message = format!("the object is stored, but the checkpoint does not say so: {error}");
            self.transfer.tell(Event::Warning { message });
        }
        Ok(uploaded)
    }

    /// Whether another object was there first, and may not be replaced.
    fn has_lost(&self, error: &Error) -> bool {
        self.request.options.forbid_overwrite && error.fault_kind() == Some(FaultKind::Conflict)
    }

    /// Aborts an upload that can never be completed; returns why.
    async fn give_up(&self, session: Option<&mut Session>, upload_id: &UploadId, why: Error) -> Result<Error, Error> {
        if let Some(session) = session {
            session.record(Record::Abandoned(self.open_upload(upload_id)))?;
            abort_abandoned(self, session).await?;
        }
        Ok(why)
    }

    /// Merges the parts. After a fault that leaves it open whether the store did, the store is asked before the next try.
    async fn complete(
        &self,
        plan: &PartPlan,
        upload_id: &UploadId,
        parts: &[(PartNumber, StoredPart)],
        crc64: u64,
    ) -> Result<ObjectStored, Error> {
        let UploadRequest { bucket, key, options, .. } = self.request;
        let parts: Vec<_> = parts.iter().map(|(number, part)| (*number, part.etag.clone())).collect();
        let operation = Complete { bucket, key, upload_id, parts: &parts, options };
        let mut exchange = Exchange::new(self.engine, Some(self.transfer), Complete::NAME);
        loop {
            let fault = match exchange.send(&operation, None).await {
                Ok(stored) => return Ok(stored),
                Err(fault) => fault,
            };
            if (fault.leaves_doubt() || fault.kind == FaultKind::NoSuchUpload) && self.is_gone(upload_id).await? {
                let stored = self.object_is(plan.object_bytes(), crc64, None).await?;
                let gone = || exchange.failed(Fault { kind: FaultKind::NoSuchUpload, ..fault });
                return stored.ok_or_else(gone);
            }
            if !exchange.again(&fault).await {
                return Err(exchange.failed(fault));
            }
        }
    }

    /// Whether the store does not know the upload any more: merged, or aborted.
    async fn is_gone(&self, upload_id: &UploadId) -> Result<bool, Error> {
        let UploadRequest { bucket, key, .. } = self.request;
        let operation = ListParts { bucket, key, upload_id, after: None };
        match self.engine.exchange(&operation, Some(self.transfer)).await {
            Err(error) if error.fault_kind() == Some(FaultKind::NoSuchUpload) => Ok(true),
            listed => listed.map(|_| false),
        }
    }

    /// The object under our key, if it has this length and checksum. Where the store names no checksum, the ETag of the
    /// object that we were told is stored decides.
    pub async fn object_is(&self, bytes: u64, crc64: u64, told: Option<&ETag>) -> Result<Option<ObjectStored>, Error> {
        let UploadRequest { bucket, key, .. } = self.request;
        let info = match self.engine.exchange(&Head { bucket, key }, Some(self.transfer)).await {
            Err(error) if error.fault_kind() == Some(FaultKind::NotFound) => return Ok(None),
            info => info?,
        };
        let same = match info.crc64 {
            Some(found) => found == crc64,
            None => told.is_some() && told == info.etag.as_ref(),
        };
        if info.bytes != bytes || !same {
            return Ok(None);
        }
        let Some(etag) = info.etag else {
            let fault = Fault::new(FaultKind::Protocol, "the answer has no ETag");
            return Err(Error::Exchange { operation: Head::NAME, attempts: 1, fault: Box::new(fault) });
        };
        Ok(Some(ObjectStored {
            status: 200,
            etag,
            etag_by_rule: None,
            crc64: info.crc64,
            version_id: info.version_id,
            request_id: info.request_id,
            callback_body: None,
            headers: info.headers,
        }))
    }

    pub fn uploaded(
        &self,
        stored: ObjectStored,
        crc64: u64,
        crc64_verified: bool,
        multipart: Option<(&UploadId, &[(PartNumber, StoredPart)])>,
    ) -> Uploaded {
        let counters = &self.transfer.counters;
        Uploaded {
            status: stored.status,
            headers: stored.headers,
            callback_body: stored.callback_body,
            request_id: stored.request_id,
            version_id: stored.version_id,
            etag: stored.etag,
            crc64,
            crc64_verified,
            parts_unverified: counters.parts_unverified.load(Relaxed),
            bytes: self.prepared.file.bytes(),
            parts_sent: counters.parts_done.load(Relaxed) - counters.parts_resumed.load(Relaxed),
            parts_resumed: counters.parts_resumed.load(Relaxed),
            part_bytes: self.prepared.part_bytes,
            parallel: self.slots.limit(),
            reader: self.prepared.chosen.kind,
            upload_id: multipart.map(|(upload_id, _)| upload_id.clone()),
            parts: multipart.map_or_else(Vec::new, |(_, parts)| self.part_receipts(parts)),
            elapsed: self.begun.elapsed(),
        }
    }

    fn part_receipts(&self, parts: &[(PartNumber, StoredPart)]) -> Vec<PartReceipt> {
        let mut sent = self.transfer.take_confirmed_by();
        let mut end = 0;
        let receipt = |(number, stored): &(PartNumber, StoredPart)| {
            let offset = end;
            end += stored.bytes;
            let (bytes, crc64, etag) = (stored.bytes, stored.crc64, stored.etag.clone());
            let request = sent.remove(number);
            PartReceipt {
                part: *number,
                offset,
                bytes,
                crc64,
                etag,
                sent: request.is_some(),
                request_id: request.flatten(),
            }
        };
        parts.iter().map(receipt).collect()
    }
}

/// What the checkpoint keeps of the answer.
fn completed(stored: &ObjectStored, crc64_verified: bool) -> Completed {
    let ObjectStored { status, etag, version_id, request_id, .. } = stored.clone();
    Completed { status, etag, version_id, request_id, crc64_verified, claimed: false }
}

/// Whether the store named a checksum of the whole object; an error if it is not that of the file.
fn verify_object(sent: u64, stored: &ObjectStored, parts_unverified: u32) -> Result<bool, Error> {
    match stored.crc64 {
        Some(received) if received != sent => Err(Error::ObjectCorrupted { sent, received, parts_unverified }),
        received => Ok(received.is_some()),
    }
}
