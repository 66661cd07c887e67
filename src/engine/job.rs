//! What every step of one upload needs, and what it ends with.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::HeaderMap;

use super::Engine;
use super::prepare::Prepared;
use super::slots::Slots;
use super::transfer::Transfer;
use crate::checkpoint::{Binding, OpenUpload};
use crate::error::Error;
use crate::model::object::{Description, ETag, UploadId};
use crate::model::receipt::PartReceipt;
use crate::model::settings::{ReaderKind, UploadRequest};
use crate::store::Stage;

/// How often an upload is begun again because the file changed. A file that somebody keeps writing to must end it.
pub(super) const RESTARTS_MAX: u32 = 5;

/// Runs what waits for the disk on a thread that may wait.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(panic) if panic.is_panic() => std::panic::resume_unwind(panic.into_panic()),
        Err(_) => Err(Error::Cancelled),
    }
}

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
    pub begun_at: SystemTime,
}

impl Job<'_> {
    /// What a checkpoint of this upload belongs to.
    pub fn binding(&self) -> Binding {
        Binding {
            source: self.prepared.file.fingerprint(),
            endpoint: self.engine.endpoint_name.clone(),
            bucket: self.request.bucket.clone(),
            key: self.request.key.clone(),
            part_bytes: self.prepared.part_bytes,
            description: Some(self.description(Stage::Initiate)),
        }
    }

    /// What the request of `stage` says about the object.
    pub fn description(&self, stage: Stage) -> Description {
        self.engine.store.description(&self.request.options, &self.request.key, stage)
    }

    /// One of our uploads, with everything needed to abort it.
    pub fn open_upload(&self, upload_id: &UploadId) -> OpenUpload {
        OpenUpload {
            endpoint: self.engine.endpoint_name.clone(),
            bucket: self.request.bucket.clone(),
            key: self.request.key.clone(),
            upload_id: upload_id.clone(),
        }
    }
}
