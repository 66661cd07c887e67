//! One upload, from top to bottom.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime};

use http::HeaderMap;

use super::Engine;
use super::attempt::{Failure, Upload, compare, read_crc64, send_range};
use super::exchange::Exchange;
use super::explain::Stopwatch;
use super::prepare::{Prepared, prepare};
use super::receipt;
use super::resume::{Inventory, abort_abandoned, abort_or_tell, bears_out, take_stock};
use super::slots::Slots;
use super::transfer::Transfer;
use super::worker::send_missing;
use crate::checkpoint::{Binding, Checkpoint, Claims, Found, Journal, OpenUpload, Record, StoredPart};
use crate::error::Error;
use crate::model::crc64::combine_all;
use crate::model::event::Event;
use crate::model::object::{ETag, UploadId};
use crate::model::part::{PartNumber, PartPlan};
use crate::model::receipt::PartReceipt;
use crate::model::retry::{Fault, FaultKind};
use crate::model::settings::{IfChanged, Parallel, ReaderKind, UploadRequest};
use crate::net::exposure;
use crate::source::SourceError;
use crate::source::file::SourceFile;
use crate::store::Operation;
use crate::store::operations::ObjectStored;
use crate::store::operations::complete::Complete;
use crate::store::operations::head::Head;
use crate::store::operations::initiate::Initiate;
use crate::store::operations::list_parts::ListParts;
use crate::store::operations::put::Put;

/// How often an upload is begun again because the file changed. A file that somebody keeps writing to must end it.
const RESTARTS_MAX: u32 = 5;

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
    /// Parts that could be in flight at the end.
    pub parallel: u32,
    pub reader: ReaderKind,
    pub upload_id: Option<UploadId>,
    /// In the order of the file; empty for a single PUT.
    pub parts: Vec<PartReceipt>,
    pub elapsed: Duration,
}

/// What every step of one upload needs.
pub(super) struct Job<'a> {
    pub engine: &'a Arc<Engine>,
    pub transfer: &'a Arc<Transfer>,
    pub request: &'a UploadRequest,
    pub prepared: &'a Prepared,
    pub slots: &'a Arc<Slots>,
    pub begun: Instant,
}

/// Uploads a file: in one PUT if it is smaller than a part, else in parts, going on where a checkpoint says. Starts over
/// when the file changes, if that is wanted. Explains at the end where the time went, if that is.
pub(crate) async fn upload(
    engine: &Arc<Engine>,
    transfer: &Arc<Transfer>,
    request: UploadRequest,
) -> Result<Uploaded, Error> {
    let stopwatch = Stopwatch::start();
    let result = upload_some_state(engine, transfer, &request).await;
    if engine.explain {
        transfer.tell(stopwatch.explain(engine, transfer, &request));
    }
    result
}

async fn upload_some_state(
    engine: &Arc<Engine>,
    transfer: &Arc<Transfer>,
    request: &UploadRequest,
) -> Result<Uploaded, Error> {
    let begun = (Instant::now(), SystemTime::now());
    if let Some(message) = exposure::warning(engine.store.endpoint()) {
        transfer.tell(Event::Warning { message });
    }
    let mut restarts = 0;
    loop {
        let changed = match upload_one_state(engine, transfer, request, begun).await {
            Err(Error::Source(changed @ SourceError::Changed { .. })) => changed,
            result => return result,
        };
        if request.if_changed == IfChanged::Fail || restarts == RESTARTS_MAX {
            return Err(changed.into());
        }
        restarts += 1;
        transfer.counters.reset();
        transfer.take_confirmed_by();
        transfer.tell(Event::StartedOver { reason: format!("{changed} (time {restarts} of {RESTARTS_MAX})") });
    }
}

/// Uploads the file as it is now, and no other state of it.
async fn upload_one_state(
    engine: &Arc<Engine>,
    transfer: &Arc<Transfer>,
    request: &UploadRequest,
    (begun, begun_at): (Instant, SystemTime),
) -> Result<Uploaded, Error> {
    let prepared = blocking({
        let (engine, transfer, request) = (engine.clone(), transfer.clone(), request.clone());
        move || {
            let settled = |path: &Path| {
                SourceFile::open_settled(path, |wait| transfer.settles(wait))?.ok_or(Error::Cancelled)
            };
            prepare(&engine, &request, settled)
        }
    })
    .await?;
    transfer.counters.bytes_total.store(prepared.file.bytes(), Relaxed);
    transfer.counters.parts_total.store(prepared.plan.map_or(0, |p| p.count()), Relaxed);
    transfer.tell(prepared.event(engine, request));
    let slots = match request.parallel {
        Parallel::Auto => engine.endpoint.slots.clone(),
        Parallel::Parts(parts) => Slots::fixed(parts),
    };
    let job = Job { engine, transfer, request, prepared: &prepared, slots: &slots, begun };
    let uploaded = match &prepared.plan {
        None => job.put().await,
        Some(plan) => job.multipart(plan).await,
    }?;
    // The reader ends here: pages that it has mapped could not be dropped from the page cache.
    let file = prepared.file;
    drop(prepared.chosen);
    let (engine, transfer, request) = (engine.clone(), transfer.clone(), request.clone());
    blocking(move || {
        if request.verify_reread {
            transfer.tell(Event::Rereading { bytes: uploaded.bytes });
            receipt::reread(&transfer, &file, &uploaded)?;
        }
        if let Some(path) = &request.receipt {
            receipt::write(path, &receipt::receipt(&engine, &request, &file, &uploaded, begun_at))?;
        }
        Ok(Uploaded { elapsed: begun.elapsed(), ..uploaded })
    })
    .await
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
        if !stale {
            return self.put_checked().await;
        }
        let (journal, mut checkpoint, found) = self.open_journal().await?;
        let result = match self.take_up(&journal, &mut checkpoint, found).await {
            Ok(_) => self.put_checked().await,
            Err(error) => Err(error),
        };
        self.leave(journal, &checkpoint, result).await
    }

    async fn put_checked(&self) -> Result<Uploaded, Error> {
        let (stored, crc64) = self.transfer.unless_cancelled(self.put_object()).await??;
        self.prepared.file.check_unchanged()?;
        let verified = stored.crc64.is_some();
        self.transfer.counters.bytes_confirmed.store(self.prepared.file.bytes(), Relaxed);
        Ok(self.uploaded(stored, crc64, verified, None))
    }

    async fn put_object(&self) -> Result<(ObjectStored, u64), Error> {
        let bytes = self.prepared.file.bytes();
        let source = &self.prepared.chosen.source;
        let UploadRequest { bucket, key, options, .. } = self.request;
        let operation = Put { bucket, key, bytes, options };
        let mut exchange = Exchange::of_file(self.engine, self.transfer, Put::NAME, None);
        let mut may_be_there = false;
        loop {
            let sent = send_range(&exchange, self.transfer, source, &operation, 0, bytes).await;
            let failure = match sent {
                Ok((stored, crc64)) => match compare(crc64, stored.crc64) {
                    Ok(_) => return Ok((stored, crc64)),
                    Err(failure) => failure,
                },
                Err(failure) => failure,
            };
            let corrupted = match failure {
                Failure::Corrupted { sent, received } => Some(Error::PutCorrupted { sent, received }),
                _ => None,
            };
            let fault = failure.into_fault()?;
            if may_be_there && fault.kind == FaultKind::Conflict {
                // What is in the way may be what an earlier try left without our hearing of it.
                let crc64 = read_crc64(source, 0, bytes).await?;
                return self.object_is(bytes, crc64).await?.map(|stored| (stored, crc64)).ok_or(exchange.failed(fault));
            }
            may_be_there |= fault.leaves_doubt();
            if !exchange.again(&fault).await {
                return Err(corrupted.unwrap_or_else(|| exchange.failed(fault)));
            }
        }
    }

    /// In parts. The order of the steps is what makes an upload survive a crash at any point.
    async fn multipart(&self, plan: &PartPlan) -> Result<Uploaded, Error> {
        let Some(_) = &self.prepared.checkpoint else { return self.multipart_without_checkpoint(plan).await };
        self.multipart_from(plan, self.open_journal().await?).await
    }

    /// Goes on from what stood at the place of the checkpoint.
    pub(super) async fn multipart_from(&self, plan: &PartPlan, opened: Opened) -> Result<Uploaded, Error> {
        let (journal, mut checkpoint, found) = opened;
        let result = self.multipart_with(plan, &journal, &mut checkpoint, found).await;
        if let Err(Error::Checkpoint(_)) = result {
            self.tell_what_is_stored(plan);
        }
        self.leave(journal, &checkpoint, result).await
    }

    /// Ends the checkpoint of a run that ended with `result`: it is removed after a success, and if it knows no upload.
    async fn leave(
        &self,
        journal: Journal,
        checkpoint: &Checkpoint,
        result: Result<Uploaded, Error>,
    ) -> Result<Uploaded, Error> {
        match &result {
            Ok(_) => {
                abort_or_tell(self, &checkpoint.abandoned).await;
                journal.remove().await?;
            }
            // What is in the store stays known, whatever ended the run; the first error is the one to report.
            Err(_) if checkpoint.names_no_upload() => drop(journal.remove().await),
            Err(_) => drop(journal.barrier().await),
        }
        result
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
        found: Found,
    ) -> Result<Uploaded, Error> {
        let claims = self.take_up(journal, checkpoint, found).await?;
        let (upload_id, inventory) = match self.resume(plan, journal, checkpoint, &claims).await? {
            Resume::GoOn(upload_id, inventory) => (upload_id, inventory),
            Resume::AlreadyDone(uploaded) => return Ok(*uploaded),
            Resume::FromStart => {
                let upload_id = self.transfer.unless_cancelled(self.initiate()).await??;
                let initiated = Record::Initiated(upload_id.clone());
                checkpoint.apply(initiated.clone());
                journal.record_durably(initiated).await?;
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
            let Binding { endpoint, bucket, key, .. } = self.binding();
            abort_or_tell(self, &[OpenUpload { endpoint, bucket, key, upload_id }]).await;
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
    async fn take_up(&self, journal: &Journal, checkpoint: &mut Checkpoint, found: Found) -> Result<Claims, Error> {
        let claims = match found {
            Found::Moved(claims) => claims,
            Found::Nothing | Found::Resumed => Claims::default(),
            Found::StartedOver { reason } => {
                self.transfer.tell(Event::StartedOver { reason });
                Claims::default()
            }
        };
        self.transfer.unless_cancelled(abort_abandoned(self, journal, checkpoint)).await??;
        Ok(claims)
    }

    async fn resume(
        &self,
        plan: &PartPlan,
        journal: &Journal,
        checkpoint: &mut Checkpoint,
        claims: &Claims,
    ) -> Result<Resume, Error> {
        let Some(upload_id) = checkpoint.upload_id.clone() else { return Ok(Resume::FromStart) };
        let stock = take_stock(self, plan, &upload_id, checkpoint, claims);
        if let Some(inventory) = self.transfer.unless_cancelled(stock).await?? {
            return Ok(Resume::GoOn(upload_id, inventory));
        }
        // Unknown to the store: aborted by someone, or completed by a run that could not say so.
        if let Some(uploaded) = self.completed_before(plan, &upload_id, checkpoint, claims).await? {
            return Ok(Resume::AlreadyDone(Box::new(uploaded)));
        }
        let reason = format!("the store does not know the upload {upload_id} any more");
        self.transfer.tell(Event::StartedOver { reason });
        journal.record(Record::UploadGone)?;
        checkpoint.apply(Record::UploadGone);
        Ok(Resume::FromStart)
    }

    /// Whether the object in the store is the one that the checkpoint's parts make, be they facts or claims.
    async fn completed_before(
        &self,
        plan: &PartPlan,
        upload_id: &UploadId,
        checkpoint: &Checkpoint,
        claims: &Claims,
    ) -> Result<Option<Uploaded>, Error> {
        let claimed = !claims.parts.is_empty();
        let parts = if claimed { &claims.parts } else { &checkpoint.parts };
        if parts.len() != plan.count() as usize {
            return Ok(None);
        }
        let crc64 = combine_all(parts.values().map(|p| (p.crc64, p.bytes)));
        let Some(stored) = self.object_is(plan.object_bytes(), crc64).await? else { return Ok(None) };
        if claimed && !bears_out(self, plan, claims).await? {
            return Ok(None);
        }
        self.prepared.file.check_unchanged()?;
        for part in parts.values() {
            self.transfer.counters.resumed(part.bytes);
        }
        let parts: Vec<_> = parts.iter().map(|(number, part)| (*number, part.clone())).collect();
        Ok(Some(self.uploaded(stored, crc64, true, Some((upload_id, &parts)))))
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
        parts.extend(send_missing(&upload, journal, missing, self.slots).await?);
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
        let verified = verify_object(crc64, &stored, self.transfer.counters.parts_unverified.load(Relaxed))?;
        Ok(self.uploaded(stored, crc64, verified, Some((upload_id, &parts))))
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
                let stored = self.object_is(plan.object_bytes(), crc64).await?;
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

/// A journal, and what it begins with.
pub(super) type Opened = (Journal, Checkpoint, Found);

/// How an upload begins.
enum Resume {
    GoOn(UploadId, Inventory),
    AlreadyDone(Box<Uploaded>),
    FromStart,
}

/// Whether the store named a checksum of the whole object; an error if it is not that of the file.
fn verify_object(sent: u64, stored: &ObjectStored, parts_unverified: u32) -> Result<bool, Error> {
    match stored.crc64 {
        Some(received) if received != sent => Err(Error::ObjectCorrupted { sent, received, parts_unverified }),
        received => Ok(received.is_some()),
    }
}
