//! What can be asked of a store: one file per operation.

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};

use crate::model::object::{ETag, GIVEN_BYTES_MAX, UploadId};
use crate::model::retry::{Fault, FaultKind};
use crate::store::Dialect;

pub mod abort;
pub mod complete;
pub mod create_bucket;
pub mod delete;
pub mod head;
pub mod initiate;
pub mod list_parts;
pub mod list_uploads;
pub mod put;
pub mod upload_part;

/// Longest key, in bytes (specification, section 1.4).
const KEY_BYTES_MAX: usize = 1023;

/// An object that came into being.
#[derive(Debug, Clone)]
pub struct ObjectStored {
    /// HTTP status: 200, or 203 when the object is there but the callback failed.
    pub status: u16,
    /// Empty if the callback failed and the answer named none.
    pub etag: ETag,
    /// The tag that an object joined of its parts has by the store's rule, where the rule is known.
    pub etag_by_rule: Option<ETag>,
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
        let unnamed = || callback_failed(response, callback).then(|| ETag::new(""));
        let etag = etag_of(response.headers())?.or(etag).or_else(unnamed).ok_or_else(|| lacks("an ETag"))?;
        Ok(Self {
            status: response.status().as_u16(),
            etag,
            etag_by_rule: None,
            crc64: marks.crc64,
            version_id: marks.version_id,
            request_id: marks.request_id,
            callback_body: callback.then(|| response.body().clone()),
            headers: response.headers().clone(),
        })
    }
}

/// Whether the object is there though its callback failed: such an answer is an error document, and may name no tag
/// (specification, section 4.14).
fn callback_failed(response: &Response<Bytes>, callback: bool) -> bool {
    callback && response.status() == StatusCode::NON_AUTHORITATIVE_INFORMATION
}

fn etag_of(headers: &HeaderMap) -> Result<Option<ETag>, Fault> {
    let text = headers.get(http::header::ETAG).and_then(|value| value.to_str().ok());
    text.map(etag).transpose()
}

/// A tag, as a store gave it.
fn etag(text: &str) -> Result<ETag, Fault> {
    let etag = ETag::new(text);
    if etag.is_credible() { Ok(etag) } else { Err(absurd("ETag", etag.as_str())) }
}

/// An upload id, as a store gave it.
fn upload_id(text: String) -> Result<UploadId, Fault> {
    let id = UploadId(text);
    if id.is_credible() { Ok(id) } else { Err(absurd("upload id", &id.0)) }
}

/// The fault of an answer that contradicts itself or what was asked.
fn wrong(what: impl std::fmt::Display) -> Fault {
    Fault::new(FaultKind::Protocol, format!("the answer makes no sense: {what}"))
}

fn absurd(what: &str, text: &str) -> Fault {
    let why = match text.len() {
        0 => "is empty".to_owned(),
        bytes if bytes > GIVEN_BYTES_MAX => format!("has {bytes} bytes"),
        _ => "holds control characters".to_owned(),
    };
    Fault::new(FaultKind::Protocol, format!("the answer has an {what} that {why}"))
}

fn lacks(what: &str) -> Fault {
    Fault::new(FaultKind::Protocol, format!("the answer lacks {what}"))
}
