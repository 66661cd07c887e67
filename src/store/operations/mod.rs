//! What can be asked of a store: one file per operation.

use bytes::Bytes;
use http::{HeaderMap, Response};

use crate::model::object::ETag;
use crate::model::retry::{Fault, FaultKind};
use crate::store::Dialect;

pub mod abort;
pub mod complete;
pub mod create_bucket;
pub mod head;
pub mod initiate;
pub mod list_parts;
pub mod list_uploads;
pub mod put;
pub mod upload_part;

/// An object that came into being.
#[derive(Debug, Clone)]
pub struct ObjectStored {
    /// HTTP status: 200, or 203 when the object is there but the callback failed.
    pub status: u16,
    pub etag: ETag,
    /// Checksum of the object, if the store named one.
    pub crc64: Option<u64>,
    pub version_id: Option<String>,
    pub request_id: Option<String>,
    /// What the callback's server answered, if one was asked for.
    pub callback_body: Option<Bytes>,
    pub headers: HeaderMap,
}

impl ObjectStored {
    /// - `etag`: the tag in the body, where the header has none.
    /// - `callback`: whether one was asked for; the body then is its answer.
    fn read(
        dialect: &dyn Dialect,
        response: &Response<Bytes>,
        etag: Option<ETag>,
        callback: bool,
    ) -> Result<Self, Fault> {
        let marks = dialect.marks(response.headers());
        let etag = etag_of(response.headers()).or(etag).ok_or_else(|| lacks("an ETag"))?;
        Ok(Self {
            status: response.status().as_u16(),
            etag,
            crc64: marks.crc64,
            version_id: marks.version_id,
            request_id: marks.request_id,
            callback_body: callback.then(|| response.body().clone()),
            headers: response.headers().clone(),
        })
    }
}

fn etag_of(headers: &HeaderMap) -> Option<ETag> {
    let text = headers.get(http::header::ETAG)?.to_str().ok()?;
    Some(ETag::new(text))
}

fn lacks(what: &str) -> Fault {
    Fault::new(FaultKind::Protocol, format!("the answer lacks {what}"))
}
