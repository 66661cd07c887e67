//! Ends an upload and frees its parts (specification, section 4.15).

use bytes::Bytes;
use http::{Method, Response};

use crate::model::object::{Bucket, Key, UploadId};
use crate::model::retry::{Fault, FaultKind};
use crate::store::{Call, Dialect, Operation};

pub struct Abort<'a> {
    pub bucket: &'a Bucket,
    pub key: &'a Key,
    pub upload_id: &'a UploadId,
}

impl Operation for Abort<'_> {
    const NAME: &'static str = "AbortMultipartUpload";
    /// Whether there was such an upload.
    type Reply = bool;

    fn call<'a>(&'a self, _: &dyn Dialect) -> Call<'a> {
        Call::new(Method::DELETE, self.bucket, Some(self.key)).query("uploadId", self.upload_id.0.as_str())
    }

    fn read(&self, _: &dyn Dialect, _: &Response<Bytes>) -> Result<bool, Fault> {
        Ok(true)
    }

    /// An upload that is gone already is what was wanted.
    fn forgive(&self, fault: &Fault) -> Option<bool> {
        (fault.kind == FaultKind::NoSuchUpload).then_some(false)
    }
}
