//! One upload, from top to bottom.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Instant, SystemTime};

use super::Engine;
use super::attempt::Upload;
use super::explain::Stopwatch;
use super::job::{Job, RESTARTS_MAX, Uploaded, blocking};
use super::one_state::confirm;
use super::prepare::prepare;
use super::receipt;
use super::resume::{Inventory, abort_or_tell, bears_out, take_stock};
use super::session::Session;
use super::slots::Slots;
use super::transfer::Transfer;
use super::worker::send_missing;
use crate::checkpoint::{self, Completed, Journal, Record, described_otherwise};
use crate::error::Error;
use crate::model::crc64::combine_all;
use crate::model::event::Event;
use crate::model::object::UploadId;
use crate::model::part::PartPlan;
use crate::model::settings::{IfChanged, Parallel, UploadRequest};
use crate::net::exposure;
use crate::source::SourceError;
use crate::source::file::SourceFile;
use crate::store::Stage;
use crate::store::operations::initiate::Initiate;

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
            let settled =
                |path: &Path| SourceFile::open_settled(path, |wait| transfer.settles(wait))?.ok_or(Error::Cancelled);
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
    let job = Job { engine, transfer, request, prepared: &prepared, slots: &slots, begun, begun_at };
    let session = match &prepared.checkpoint {
        // A single PUT needs none; an earlier, longer state of the file may have left an upload open.
        Some(path) if prepared.plan.is_some() || checkpoint::is_one(path) => Some(job.open_session(path).await?),
        _ => None,
    };
    job.run(session).await
}

impl Job<'_> {
    async fn open_session(&self, path: &Path) -> Result<Session, Error> {
        let (path, binding) = (path.to_owned(), self.binding());
        blocking(move || {
            let (journal, checkpoint, found) = Journal::open(&path, binding)?;
            Ok(Session::new(journal, checkpoint, found))
        })
        .await
    }

    /// From the open checkpoint to the closed one: the object is stored, what was asked for after that is done, and only
    /// then nothing is remembered any more.
    pub async fn run(&self, mut session: Option<Session>) -> Result<Uploaded, Error> {
        let stored = self.store(session.as_mut()).await;
        let result = match stored {
            Ok(uploaded) => self.follow_up(uploaded).await,
            Err(error) => Err(error),
        };
        match session {
            Some(session) => session.close(self, result).await,
            None => result,
        }
    }

    async fn store(&self, mut session: Option<&mut Session>) -> Result<Uploaded, Error> {
        if let Some(session) = &mut session {
            session.begin(self).await?;
        }
        let Some(plan) = &self.prepared.plan else { return self.put().await };
        let result = self.multipart(plan, session).await;
        if let Err(Error::Checkpoint(_)) = result {
            self.tell_what_is_stored(plan);
        }
        result
    }

    /// In parts. The order of the steps is what makes an upload survive a crash at any point.
    async fn multipart(&self, plan: &PartPlan, mut session: Option<&mut Session>) -> Result<Uploaded, Error> {
        let resumed = match session.as_deref_mut() {
            Some(session) => self.resume(plan, session).await?,
            None => Resume::FromStart,
        };
        let (upload_id, inventory) = match resumed {
            Resume::With(upload_id, inventory) => (upload_id, inventory),
            Resume::Done(uploaded) => return Ok(*uploaded),
            Resume::FromStart => (self.initiate(session.as_deref_mut()).await?, Inventory::empty(plan)),
        };
        let remembered = session.is_some();
        let result = self.send_and_merge(plan, session, &upload_id, inventory).await;
        if result.is_err() && !remembered {
            // Nothing can resume it.
            abort_or_tell(self, &[self.open_upload(&upload_id)]).await;
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

    /// Opens an upload. One whose id cannot be made durable would be forgotten, so it is aborted or told of.
    async fn initiate(&self, session: Option<&mut Session>) -> Result<UploadId, Error> {
        let UploadRequest { bucket, key, options, .. } = self.request;
        let initiate = Initiate { bucket, key, options };
        let initiated = self.engine.exchange(&initiate, Some(self.transfer));
        let upload_id = self.transfer.unless_cancelled(initiated).await??;
        if let Some(session) = session
            && let Err(error) = session.record_durably(Record::Initiated(upload_id.clone())).await
        {
            abort_or_tell(self, &[self.open_upload(&upload_id)]).await;
            return Err(error.into());
        }
        self.transfer.tell(Event::Initiated { upload_id: upload_id.clone() });
        Ok(upload_id)
    }

    async fn resume(&self, plan: &PartPlan, session: &mut Session) -> Result<Resume, Error> {
        let Some(upload_id) = session.checkpoint.upload_id.clone() else { return Ok(Resume::FromStart) };
        if session.checkpoint.completed.is_none() {
            let stock = take_stock(self, plan, &upload_id, session);
            if let Some(inventory) = self.transfer.unless_cancelled(stock).await?? {
                return Ok(Resume::With(upload_id, inventory));
            }
        }
        // Completed; or unknown to the store: aborted by someone, or completed by a run that could not say so.
        let why_not = match self.completed_before(plan, &upload_id, session).await? {
            Ok(uploaded) => return Ok(Resume::Done(Box::new(uploaded))),
            Err(why_not) => why_not,
        };
        self.transfer.tell(Event::StartedOver { reason: why_not });
        session.record(Record::UploadGone)?;
        Ok(Resume::FromStart)
    }

    /// The object in the store, if it is the one that the checkpoint's parts make, be they facts or claims, and described
    /// as it is to be now; else why it is not.
    async fn completed_before(
        &self,
        plan: &PartPlan,
        upload_id: &UploadId,
        session: &Session,
    ) -> Result<Result<Uploaded, String>, Error> {
        let Session { checkpoint, claims, .. } = session;
        let why_not = match &checkpoint.completed {
            Some(_) => "the object that was stored is there no longer".to_owned(),
            None => format!("the store does not know the upload {upload_id} any more"),
        };
        let said = checkpoint.completing.as_ref();
        if let Some(difference) = said.and_then(|said| described_otherwise(said, &self.description(Stage::Complete))) {
            return Ok(Err(difference));
        }
        let claimed = !claims.parts.is_empty();
        let parts = if claimed { &claims.parts } else { &checkpoint.parts };
        if parts.len() != plan.count() as usize {
            return Ok(Err(why_not));
        }
        let crc64 = combine_all(parts.values().map(|p| (p.crc64, p.bytes)));
        let told = checkpoint.completed.as_ref();
        let object = self.object_is(plan.object_bytes(), crc64, told.map(|told| &told.etag)).await?;
        let Some(stored) = object else { return Ok(Err(why_not)) };
        if claimed && !bears_out(self, plan, claims).await? {
            return Ok(Err(why_not));
        }
        confirm(self, parts.values().map(|part| (part.bytes, part.crc64)).collect()).await?;
        let parts: Vec<_> = parts.iter().map(|(number, part)| (*number, part.clone())).collect();
        parts.iter().for_each(|(_, part)| self.transfer.counters.resumed(part.bytes));
        let (parts_resumed, bytes) = (plan.count(), plan.object_bytes());
        self.transfer.tell(Event::Resumed { upload_id: upload_id.clone(), parts: parts_resumed, bytes });
        let uploaded = self.uploaded(stored, crc64, true, Some((upload_id, &parts)));
        Ok(Ok(told.map_or(uploaded.clone(), |told| as_told(uploaded, told))))
    }

    async fn send_and_merge(
        &self,
        plan: &PartPlan,
        session: Option<&mut Session>,
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
        let journal = session.as_deref().map(Session::journal);
        parts.extend(send_missing(&upload, journal, missing, self.slots).await?);
        parts.sort_unstable_by_key(|(number, _)| *number);
        // The object must be one state of the file: the one that the plan was made for.
        confirm(self, parts.iter().map(|(_, part)| (part.bytes, part.crc64)).collect()).await?;
        self.merge(plan, session, upload_id, &parts).await
    }

    /// What was asked for after the object is stored: the file is read once more, the receipt is written.
    async fn follow_up(&self, uploaded: Uploaded) -> Result<Uploaded, Error> {
        // Pages that are mapped could not be dropped from the page cache.
        self.prepared.chosen.source.let_go();
        let (engine, transfer, request) = (self.engine.clone(), self.transfer.clone(), self.request.clone());
        let (file, begun, begun_at) = (self.prepared.file.clone(), self.begun, self.begun_at);
        let checkpoint = self.prepared.checkpoint.clone();
        blocking(move || {
            if request.verify_reread {
                transfer.tell(Event::Rereading { bytes: uploaded.bytes });
                receipt::reread(&transfer, &file, &uploaded)?;
            }
            if let Some(path) = &request.receipt {
                let receipt = receipt::receipt(&engine, &request, &file, &uploaded, begun_at);
                receipt::write(path, &receipt, &file, checkpoint.as_deref())?;
            }
            Ok(Uploaded { elapsed: begun.elapsed(), ..uploaded })
        })
        .await
    }
}

/// How an upload begins.
enum Resume {
    With(UploadId, Inventory),
    Done(Box<Uploaded>),
    FromStart,
}

/// An object that is there, as the run that completed it was told.
fn as_told(uploaded: Uploaded, told: &Completed) -> Uploaded {
    let Completed { status, etag, version_id, request_id, crc64_verified, .. } = told.clone();
    Uploaded { status, etag, version_id, request_id, crc64_verified, ..uploaded }
}
