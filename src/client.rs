//! The async face: a client of one endpoint, and the transfers it runs.

use std::sync::Arc;

use http::HeaderMap;

use crate::error::Error;
use crate::model::event::{Event, Progress};
use crate::model::object::{Bucket, ETag, Key, UploadId};
use crate::model::settings::{ClientSettings, ReaderKind, UploadRequest};
use crate::store::credentials::Credentials;

/// A client of one endpoint. Cheap to clone; clones share connections, buffers and threads.
#[derive(Clone)]
pub struct Client {}

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
    pub elapsed: std::time::Duration,
}

/// What the store says of an object (HEAD).
#[derive(Debug, Clone)]
pub struct ObjectInfo {
    pub bytes: u64,
    pub etag: Option<ETag>,
    pub crc64: Option<u64>,
    pub content_type: Option<String>,
    pub last_modified: Option<String>,
    pub object_type: Option<String>,
    pub storage_class: Option<String>,
    /// `x-oss-meta-*`, names without the prefix, sorted.
    pub metadata: Vec<(String, String)>,
    pub request_id: Option<String>,
    pub headers: HeaderMap,
}

/// An unfinished multipart upload.
#[derive(Debug, Clone)]
pub struct UploadInfo {
    pub key: Key,
    pub upload_id: UploadId,
    /// As the store wrote it, `2025-01-01T00:00:00.000Z`.
    pub initiated: String,
}

/// A running upload. Dropping it cancels the upload; its checkpoint stays.
pub struct Transfer {}

impl Client {
    /// Makes a client; nothing is sent. `None` sends unsigned requests.
    ///
    /// # Errors
    /// [`Error::Settings`] for settings that cannot work, [`Error::Address`] for an endpoint that is no address.
    pub fn new(_settings: ClientSettings, _credentials: Option<Credentials>) -> Result<Self, Error> {
        Ok(Self {})
    }

    /// Starts an upload on the client's own threads. Works on any executor and on none.
    pub fn upload(&self, _request: UploadRequest) -> Transfer {
        Transfer {}
    }

    /// Makes the plan of an upload and sends nothing.
    pub async fn plan(&self, _request: &UploadRequest) -> Result<Event, Error> {
        Err(Error::Cancelled)
    }

    /// Asks for an object's size, checksum and metadata.
    pub async fn stat(&self, _bucket: &Bucket, _key: &Key) -> Result<ObjectInfo, Error> {
        Err(Error::Cancelled)
    }

    /// Lists unfinished uploads of all keys that start with `prefix`, all pages.
    pub async fn list_uploads(&self, _bucket: &Bucket, _prefix: &str) -> Result<Vec<UploadInfo>, Error> {
        Err(Error::Cancelled)
    }

    /// Aborts one upload. An upload that is already gone is a success.
    pub async fn abort_upload(&self, _bucket: &Bucket, _key: &Key, _upload_id: &UploadId) -> Result<(), Error> {
        Err(Error::Cancelled)
    }

    /// Makes a bucket; one that is already yours is a success.
    pub async fn create_bucket(&self, _bucket: &Bucket) -> Result<(), Error> {
        Err(Error::Cancelled)
    }
}

impl Transfer {
    /// How far the transfer is now.
    pub fn progress(&self) -> Progress {
        Progress::default()
    }

    /// The next event, or `None` when the transfer has ended. Events that nobody takes are kept (at most 16 Ki; then
    /// the oldest are dropped).
    pub async fn next_event(&mut self) -> Option<Arc<Event>> {
        None
    }

    /// Stops taking parts, aborts those in flight and syncs the checkpoint; [`Transfer::wait`] then gives
    /// [`Error::Cancelled`].
    pub fn cancel(&self) {}

    /// Waits for the end.
    pub async fn wait(&mut self) -> Result<Uploaded, Error> {
        Err(Error::Cancelled)
    }
}
