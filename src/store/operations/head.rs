//! Asks for an object's size, checksum and metadata (specification, section 4.3).

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, LAST_MODIFIED};
use http::{HeaderMap, Method, Response};

use super::{etag_of, lacks};
use crate::model::object::{Bucket, ETag, Key};
use crate::model::retry::Fault;
use crate::store::{Call, Dialect, Marks, Operation};

pub struct Head<'a> {
    pub bucket: &'a Bucket,
    pub key: &'a Key,
}

/// What the store says of an object.
#[derive(Debug, Clone)]
pub struct ObjectInfo {
    pub bytes: u64,
    pub etag: Option<ETag>,
    /// Checksum of the whole object, if the store knows one.
    pub crc64: Option<u64>,
    pub content_type: Option<String>,
    /// As the store wrote it, `Wed, 01 Jan 2025 00:00:00 GMT`.
    pub last_modified: Option<String>,
    /// `Normal`, `Multipart`, `Appendable` or `Symlink`.
    pub object_type: Option<String>,
    pub storage_class: Option<String>,
    /// User metadata: names without prefix, sorted.
    pub metadata: Vec<(String, String)>,
    pub version_id: Option<String>,
    pub request_id: Option<String>,
    pub headers: HeaderMap,
}

impl Operation for Head<'_> {
    const NAME: &'static str = "HeadObject";
    type Reply = ObjectInfo;

    fn call<'a>(&'a self, _: &dyn Dialect) -> Call<'a> {
        Call::new(Method::HEAD, self.bucket, Some(self.key))
    }

    fn read(&self, dialect: &dyn Dialect, response: &Response<Bytes>) -> Result<ObjectInfo, Fault> {
        let headers = response.headers();
        let text = |name| headers.get(name).and_then(|v: &http::HeaderValue| v.to_str().ok()).map(str::to_owned);
        let Marks { request_id, version_id, crc64, object_type, storage_class, metadata } = dialect.marks(headers);
        Ok(ObjectInfo {
            bytes: text(CONTENT_LENGTH).and_then(|t| t.parse().ok()).ok_or_else(|| lacks("a length"))?,
            etag: etag_of(headers)?,
            crc64,
            content_type: text(CONTENT_TYPE),
            last_modified: text(LAST_MODIFIED),
            object_type,
            storage_class,
            metadata,
            version_id,
            request_id,
            headers: headers.clone(),
        })
    }
}
