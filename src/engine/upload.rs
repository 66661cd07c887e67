//! One upload, from top to bottom.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use http::HeaderMap;

use super::Engine;
use super::attempt::{Failure, Upload, compare, send_range};
use super::prepare::{Prepared, prepare};
use super::resume::{Inventory, abort_abandoned, take_stock};
use super::transfer::Transfer;
use super::worker::send_missing;
use crate::checkpoint::{Binding, Checkpoint, Found, Journal, Record, StoredPart};
use crate::error::Error;
use crate::model::crc64::combine_all;
use crate::model::event::Event;
use crate::model::object::{ETag, UploadId};
use crate::model::part::{PartNumber, PartPlan};
use crate::model::retry::{Fault, FaultKind};
use crate::model::settings::{ReaderKind, UploadRequest};
use crate::store::Operation;
use crate::store::operations::ObjectStored;
use crate::store::operations::abort::Abort;
use crate::store::operations::complete::Complete;
use crate::store::operations::head::Head;
use crate::store::operations::initiate::Initiate;
use crate::store::operations::put::Put;

/// Longest time that cleaning up after a failure may take.
const ABORT_TIMEOUT: Duration = Duration::from_secs(10);

/// What a finished upload left in the store.
#[derive(Debug, Clone)]
pub struct Uploaded {
    /// HTTP status of the last answer: 200, or 203 when the store could not deliver the callback.
    pub status: u16,
    /// Headers of the last answer.
    pub headers: HeaderMap,
    /// What the callback's server answered, if a callback was asked for.
    pub callback_body: Option<bytes::Bytes>,
    pub request_id: Option<String>,
    pub version_id: Option<String>,
    pub etag: ETag,
    /// CRC64 of the bytes that were read.
    pub crc64: u64,
    /// Whether the store's checksum of the whole object was there and equal.
    pub crc64_verified: bool,
    /// Parts whose answer carried no checksum.
    pub parts_unverified: u32,
    pub bytes: u64,
    /// 0 for a single PUT.
    pub parts_sent: u32,
    pub parts_resumed: u32,
    pub part_bytes: u64,
    pub parallel: u32,
    pub reader: ReaderKind,
    pub upload_id: Option<UploadId>,
    pub elapsed: Duration,
}

/// What every step of one upload needs.
pub(super) struct Job<'a> {
    pub engine: &'a Arc<Engine>,
    pub transfer: &'a Arc<Transfer>,
    pub request: &'a UploadRequest,
    pub prepared: &'a Prepared,
    pub begun: Instant,
}

/// Uploads a file: in one PUT if it is smaller than a part, else in parts, going on where a checkpoint says.
pub(crate) async fn upload(
    engine: &Arc<Engine>,
    transfer: &Arc<Transfer>,
    request: UploadRequest,
) -> Result<Uploaded, Error> {
    let begun = Instant::now();
    let prepared = blocking({
        let (engine, request) = (engine.clone(), request.clone());
        move || prepare(&engine, &request)
    })
    .await?;
    transfer.counters.bytes_total.store(prepared.file.bytes(), Relaxed);
    transfer.counters.parts_total.store(prepared.plan.map_or(0, |p| p.count()), Relaxed);
    transfer.tell(prepared.event(engine, &request));
    let job = Job { engine, transfer, request: &request, prepared: &prepared, begun };
    match &prepared.plan {
        None => job.put().await,
        Some(plan) => job.multipart(plan).await,
    }
}

/// Runs what waits for the disk on a thread that may wait.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(panic) if panic.is_panic() => std::panic::resume_unwind(panic.into_panic()),
        Err(_) => Err(Error::Cancelled),
    }
}

impl Job<'_> {
    /// The whole file in one request.
    async fn put(&self) -> Result<Uploaded, Error> {
        // An earlier, longer state of the file may have left an upload open.
        let stale = self.prepared.checkpoint.as_ref().is_some_and(|path| path.exists());
        let journal = if stale { Some(self.take_up(self.open_journal().await?).await?) } else { None };
        let (stored, crc64) = self.transfer.unless_cancelled(self.put_object()).await??;
        self.prepared.file.check_unchanged()?;
        let verified = verify_object(crc64, &stored)?;
        self.transfer.counters.bytes_confirmed.store(self.prepared.file.bytes(), Relaxed);
        if let Some((journal, _)) = journal {
            journal.remove().await?;
        }
        Ok(self.uploaded(stored, crc64, verified, None))
    }

    async fn put_object(&self) -> Result<(ObjectStored, u64), Error> {
        let bytes = self.prepared.file.bytes();
        let UploadRequest { bucket, key, options, .. } = self.request;
        let operation = Put { bucket, key, bytes, options };
        let mut attempt = 1;
        loop {
            let sent = send_range(self.engine, self.transfer, &self.prepared.chosen.source, &operation, 0, bytes).await;
            let failure = match sent {
                Ok((stored, crc64)) => match compare(crc64, stored.crc64) {
                    Ok(_) => return Ok((stored, crc64)),
                    Err(failure) => failure,
                },
                Err(failure) => failure,
            };
            let corrupted = match failure {
                Failure::Corrupted { sent, received } => Some(Error::ObjectCorrupted { sent, received }),
                _ => None,
            };
            let fault = failure.into_fault()?;
            if !self.engine.back_off(Put::NAME, None, &fault, attempt, Some(self.transfer)).await {
                let gave_up = || Error::Exchange { operation: Put::NAME, attempts: attempt, fault: Box::new(fault) };
                return Err(corrupted.unwrap_or_else(gave_up));
            }
            attempt += 1;
        }
    }

    /// In parts. The order of the steps is what makes an upload survive a crash at any point.
    async fn multipart(&self, plan: &PartPlan) -> Result<Uploaded, Error> {
        let Some(_) = &self.prepared.checkpoint else { return self.multipart_without_checkpoint(plan).await };
        self.multipart_from(plan, self.open_journal().await?).await
    }

    /// Goes on from what stood at the place of the checkpoint.
    pub(super) async fn multipart_from(&self, plan: &PartPlan, opened: Opened) -> Result<Uploaded, Error> {
        let (journal, mut checkpoint) = self.take_up(opened).await?;
        let result = self.multipart_with(plan, &journal, &mut checkpoint).await;
        match result {
            Ok(uploaded) => {
                journal.remove().await?;
                Ok(uploaded)
            }
            Err(error) => {
                // What is in the store stays known, whatever ended the run; the first error is the one to report.
                let _ = journal.barrier().await;
                if matches!(error, Error::Checkpoint(_)) {
                    self.tell_what_is_stored(plan);
                }
                Err(error)
            }
        }
    }

    /// The upload id is durable before any part is sent, so that a listing finds even parts that are not recorded.
    fn tell_what_is_stored(&self, plan: &PartPlan) {
        let (known, all) = (self.transfer.counters.parts_done.load(Relaxed), plan.count());
        let message = format!(
            "{known} of {all} parts are known to be in the store; the same command goes on from them once the checkpoint \
             can be written"
        );
        self.transfer.tell(Event::Warning { message });
    }

    async fn multipart_with(
        &self,
        plan: &PartPlan,
        journal: &Journal,
        checkpoint: &mut Checkpoint,
    ) -> Result<Uploaded, Error> {
        let (upload_id, inventory) = match self.resume(plan, journal, checkpoint).await? {
            Resume::GoOn(upload_id, inventory) => (upload_id, inventory),
            Resume::AlreadyDone(uploaded) => return Ok(*uploaded),
            Resume::FromStart => {
                let upload_id = self.transfer.unless_cancelled(self.initiate()).await??;
                journal.record_durably(Record::Initiated(upload_id.clone())).await?;
                self.transfer.tell(Event::Initiated { upload_id: upload_id.clone() });
                (upload_id, Inventory::empty(plan))
            }
        };
        self.send_and_complete(plan, Some(journal), &upload_id, inventory).await
    }

    /// Without a checkpoint nothing can go on later, so a failed upload is aborted.
    async fn multipart_without_checkpoint(&self, plan: &PartPlan) -> Result<Uploaded, Error> {
        let upload_id = self.transfer.unless_cancelled(self.initiate()).await??;
        self.transfer.tell(Event::Initiated { upload_id: upload_id.clone() });
        let result = self.send_and_complete(plan, None, &upload_id, Inventory::empty(plan)).await;
        if result.is_err() {
            let UploadRequest { bucket, key, .. } = self.request;
            let operation = Abort { bucket, key, upload_id: &upload_id };
            let aborted = tokio::time::timeout(ABORT_TIMEOUT, self.engine.exchange(&operation, None)).await;
            if !matches!(aborted, Ok(Ok(()))) {
                self.transfer.tell(Event::Warning {
                    message: format!("the upload {upload_id} of oss://{bucket}/{key} may stay open in the store"),
                });
            }
        }
        result
    }

    async fn open_journal(&self) -> Result<Opened, Error> {
        let path = self.prepared.checkpoint.clone().expect("called only where a checkpoint is wanted");
        let binding = self.binding();
        blocking(move || Journal::open(&path, binding).map_err(Error::from)).await
    }

    pub(super) fn binding(&self) -> Binding {
        Binding {
            source: self.prepared.file.fingerprint(),
            endpoint: self.engine.endpoint_name.clone(),
            bucket: self.request.bucket.clone(),
            key: self.request.key.clone(),
            part_bytes: self.prepared.part_bytes,
        }
    }

    /// Says what was found, and ends the uploads that are not gone on with.
    async fn take_up(&self, (journal, checkpoint, found): Opened) -> Result<(Journal, Checkpoint), Error> {
        if let Found::StartedOver { reason } = found {
            self.transfer.tell(Event::StartedOver { reason });
        }
        let cleared = abort_abandoned(self.engine, self.transfer, &journal, &checkpoint.abandoned);
        self.transfer.unless_cancelled(cleared).await??;
        Ok((journal, checkpoint))
    }

    async fn resume(&self, plan: &PartPlan, journal: &Journal, checkpoint: &mut Checkpoint) -> Result<Resume, Error> {
        let Some(upload_id) = checkpoint.upload_id.clone() else { return Ok(Resume::FromStart) };
        let stock = take_stock(self, plan, &upload_id, checkpoint);
        if let Some(inventory) = self.transfer.unless_cancelled(stock).await?? {
            return Ok(Resume::GoOn(upload_id, inventory));
        }
        // Unknown to the store: aborted by someone, or completed by a run that could not say so.
        if let Some(uploaded) = self.completed_before(plan, &upload_id, checkpoint).await? {
            return Ok(Resume::AlreadyDone(Box::new(uploaded)));
        }
        let reason = format!("the store does not know the upload {upload_id} any more");
        self.transfer.tell(Event::StartedOver { reason });
        journal.record(Record::UploadGone)?;
        checkpoint.apply(Record::UploadGone);
        Ok(Resume::FromStart)
    }

    /// Whether the object in the store is the one that the checkpoint's parts make.
    async fn completed_before(
        &self,
        plan: &PartPlan,
        upload_id: &UploadId,
        checkpoint: &Checkpoint,
    ) -> Result<Option<Uploaded>, Error> {
        if checkpoint.parts.len() != plan.count() as usize {
            return Ok(None);
        }
        let crc64 = combine_all(checkpoint.parts.values().map(|p| (p.crc64, p.bytes)));
        let Some(stored) = self.object_is(plan.object_bytes(), crc64).await? else { return Ok(None) };
        self.prepared.file.check_unchanged()?;
        for part in checkpoint.parts.values() {
            self.transfer.counters.resumed(part.bytes);
        }
        Ok(Some(self.uploaded(stored, crc64, true, Some(upload_id.clone()))))
    }

    async fn initiate(&self) -> Result<UploadId, Error> {
        let UploadRequest { bucket, key, options, .. } = self.request;
        self.engine.exchange(&Initiate { bucket, key, options }, Some(self.transfer)).await
    }

    async fn send_and_complete(
        &self,
        plan: &PartPlan,
        journal: Option<&Journal>,
        upload_id: &UploadId,
        inventory: Inventory,
    ) -> Result<Uploaded, Error> {
        let upload = Upload {
            engine: self.engine,
            transfer: self.transfer,
            source: &self.prepared.chosen.source,
            bucket: &self.request.bucket,
            key: &self.request.key,
            options: &self.request.options,
            upload_id,
        };
        let Inventory { stored: mut parts, missing } = inventory;
        parts.extend(send_missing(&upload, journal, missing, self.request.parallel).await?);
        parts.sort_unstable_by_key(|(number, _)| *number);
        // The object must be one state of the file: the one that the plan was made for.
        self.prepared.file.check_unchanged()?;
        if let Some(journal) = journal {
            // A run that dies behind Complete can then tell that the object is its own.
            journal.barrier().await?;
        }
        let crc64 = combine_all(parts.iter().map(|(_, part)| (part.crc64, part.bytes)));
        self.transfer.tell(Event::Completing { parts: plan.count() });
        let complete = self.complete(plan, upload_id, &parts, crc64);
        let stored = self.transfer.unless_cancelled(complete).await??;
        let verified = verify_object(crc64, &stored)?;
        Ok(self.uploaded(stored, crc64, verified, Some(upload_id.clone())))
    }

    /// Merges the parts. A lost answer leaves it unknown whether the store did, so an upload that is gone is looked for
    /// under its key before it is given up.
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
        let error = match self.engine.exchange(&operation, Some(self.transfer)).await {
            Err(error) if error.fault_kind() == Some(FaultKind::NoSuchUpload) => error,
            result => return result,
        };
        self.object_is(plan.object_bytes(), crc64).await?.ok_or(error)
    }

    /// The object under our key, if it has this length and checksum.
    async fn object_is(&self, bytes: u64, crc64: u64) -> Result<Option<ObjectStored>, Error> {
        let UploadRequest { bucket, key, .. } = self.request;
        let info = match self.engine.exchange(&Head { bucket, key }, Some(self.transfer)).await {
            Err(error) if error.fault_kind() == Some(FaultKind::NotFound) => return Ok(None),
            info => info?,
        };
        if info.bytes != bytes || info.crc64 != Some(crc64) {
            return Ok(None);
        }
        let Some(etag) = info.etag else {
            let fault = Fault::new(FaultKind::Protocol, "the answer has no ETag");
            return Err(Error::Exchange { operation: Head::NAME, attempts: 1, fault: Box::new(fault) });
        };
        Ok(Some(ObjectStored {
            status: 200,
            etag,
            crc64: info.crc64,
            version_id: info.version_id,
            request_id: info.request_id,
            callback_body: None,
            headers: info.headers,
        }))
    }

    fn uploaded(
        &self,
        stored: ObjectStored,
        crc64: u64,
        crc64_verified: bool,
        upload_id: Option<UploadId>,
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
            parallel: self.request.parallel,
            reader: self.prepared.chosen.kind,
            upload_id,
            elapsed: self.begun.elapsed(),
        }
    }
}

/// A journal, and what it begins with.
pub(super) type Opened = (Journal, Checkpoint, Found);

/// How an upload begins.
enum Resume {
    GoOn(UploadId, Inventory),
    AlreadyDone(Box<Uploaded>),
    FromStart,
}

/// Whether the store named a checksum of the whole object; an error if it is not that of the file.
fn verify_object(sent: u64, stored: &ObjectStored) -> Result<bool, Error> {
    match stored.crc64 {
        Some(received) if received != sent => Err(Error::ObjectCorrupted { sent, received }),
        received => Ok(received.is_some()),
    }
}
