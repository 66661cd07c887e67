//! The blocking face: the same client for callers without an executor.
//!
//! Every call waits for its result on the caller's thread. Do not call from inside an async runtime: use
//! [`crate::client`] there.

use crate::client::{self, ObjectInfo, UploadInfo, Uploaded};
use crate::error::Error;
use crate::model::event::{Event, Progress};
use crate::model::object::{Bucket, Key, UploadId};
use crate::model::settings::{ClientSettings, UploadRequest};
use crate::store::credentials::Credentials;
use std::sync::Arc;

use futures_util::FutureExt;

/// Waits for `future` on this thread; the client's own threads do the work.
fn wait<T>(future: impl Future<Output = T>) -> T {
    futures_executor::block_on(future)
}

/// See [`client::Client`].
#[derive(Clone)]
pub struct Client(client::Client);

impl Client {
    /// See [`client::Client::new`].
    pub fn new(settings: ClientSettings, credentials: Option<Credentials>) -> Result<Self, Error> {
        client::Client::new(settings, credentials).map(Self)
    }

    /// See [`client::Client::with_keyring`].
    pub fn with_keyring(settings: ClientSettings, keyring: Arc<client::Keyring>) -> Result<Self, Error> {
        client::Client::with_keyring(settings, keyring).map(Self)
    }

    /// Starts an upload; it runs whether or not anybody waits. See [`client::Client::upload`].
    pub fn upload(&self, request: UploadRequest) -> Transfer {
        Transfer(self.0.upload(request))
    }

    /// See [`client::Client::plan`].
    pub fn plan(&self, request: &UploadRequest) -> Result<Event, Error> {
        wait(self.0.plan(request))
    }

    /// See [`client::Client::stat`].
    pub fn stat(&self, bucket: &Bucket, key: &Key) -> Result<ObjectInfo, Error> {
        wait(self.0.stat(bucket, key))
    }

    /// See [`client::Client::list_uploads`].
    pub fn list_uploads(&self, bucket: &Bucket, prefix: &str) -> Result<Vec<UploadInfo>, Error> {
        wait(self.0.list_uploads(bucket, prefix))
    }

    /// See [`client::Client::abort_upload`].
    pub fn abort_upload(&self, bucket: &Bucket, key: &Key, upload_id: &UploadId) -> Result<bool, Error> {
        wait(self.0.abort_upload(bucket, key, upload_id))
    }

    /// See [`client::Client::delete_object`].
    pub fn delete_object(&self, bucket: &Bucket, key: &Key, version_id: Option<&str>) -> Result<(), Error> {
        wait(self.0.delete_object(bucket, key, version_id))
    }

    /// See [`client::Client::create_bucket`].
    pub fn create_bucket(&self, bucket: &Bucket) -> Result<(), Error> {
        wait(self.0.create_bucket(bucket))
    }
}

/// See [`client::Transfer`].
pub struct Transfer(client::Transfer);

impl Transfer {
    /// How far the transfer is now.
    pub fn progress(&self) -> Progress {
        self.0.progress()
    }

    /// The next event; waits for one. `None` when the transfer has ended.
    pub fn next_event(&mut self) -> Option<Arc<Event>> {
        wait(self.0.next_event())
    }

    /// An event that is already there.
    pub fn try_event(&mut self) -> Option<Arc<Event>> {
        self.0.next_event().now_or_never().flatten()
    }

    /// See [`client::Transfer::cancel`].
    pub fn cancel(&self) {
        self.0.cancel();
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// Why the upload stopped.
    pub fn wait(mut self) -> Result<Uploaded, Error> {
        wait(self.0.wait())
    }
}
