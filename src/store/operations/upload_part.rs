//! Sends one part; the body is streamed by the caller (specification, section 4.10).

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Method, Response};

use super::{etag_of, lacks};
use crate::model::object::{Bucket, ETag, Key, UploadId};
use crate::model::part::PartNumber;
use crate::model::retry::Fault;
use crate::model::settings::ObjectOptions;
use crate::store::{Call, Dialect, Operation, Stage};

pub struct UploadPart<'a> {
    pub bucket: &'a Bucket,
    pub key: &'a Key,
    pub upload_id: &'a UploadId,
    pub number: PartNumber,
    /// Length of the body that the caller sends.
    pub bytes: u64,
    pub options: &'a ObjectOptions,
}

/// What the store says of a part it took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartReceived {
    pub etag: ETag,
    /// Checksum of the part, if the store named one.
    pub crc64: Option<u64>,
    pub request_id: Option<String>,
}

impl Operation for UploadPart<'_> {
    const NAME: &'static str = "UploadPart";
    type Reply = PartReceived;

    fn call<'a>(&'a self, dialect: &dyn Dialect) -> Call<'a> {
        let mut call = Call::new(Method::PUT, self.bucket, Some(self.key))
            .query("partNumber", self.number.to_string())
            .query("uploadId", self.upload_id.0.as_str());
        dialect.describe(self.options, self.key, Stage::UploadPart, &mut call.headers);
        call.headers.insert(CONTENT_LENGTH, HeaderValue::from(self.bytes));
        call
    }

    fn read(&self, dialect: &dyn Dialect, response: &Response<Bytes>) -> Result<PartReceived, Fault> {
        let etag = etag_of(response.headers())?.ok_or_else(|| lacks("an ETag"))?;
        let marks = dialect.marks(response.headers());
        Ok(PartReceived { etag, crc64: marks.crc64, request_id: marks.request_id })
    }
}
