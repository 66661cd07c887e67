//! PutObject, and the headers that an object keeps from its creation.

use http::StatusCode;

use super::body::Incoming;
use super::{Answer, Context, call};
use crate::server::errors::Failure;
use crate::server::request::Request;
use crate::server::store::{Address, Headers, Sums};

/// Kept and echoed, beside every `x-oss-meta-*`.
const KEPT: &[&str] = &[
    "content-type",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "expires",
    "x-oss-storage-class",
    "x-oss-server-side-encryption",
    "x-oss-server-side-data-encryption",
    "x-oss-server-side-encryption-key-id",
    "x-oss-tagging",
    "x-oss-object-acl",
];
/// Most bytes of user metadata, names included (section 4.0).
const METADATA_MAX: usize = 8 << 10;

pub(super) async fn put_object(context: Context<'_>, at: Address, body: &mut Incoming) -> Result<Answer, Failure> {
    let request = context.request;
    refuse_callback(request)?;
    let headers = kept_headers(request)?;
    context.catalog.bucket(&at.bucket)?;
    let keep = request.is_true("x-oss-forbid-overwrite");
    let received = body.receive(context.catalog, request).await?;
    let sums = received.sums.clone();
    call(context.catalog, move |catalog| catalog.put_object(&at, received.blob, &received.sums, headers, keep)).await?;
    Ok(stored(&sums))
}

/// The answer to bytes that were stored as they came.
pub(super) fn stored(sums: &Sums) -> Answer {
    let mut answer = Answer::new(StatusCode::OK);
    answer.set("etag", &format!("\"{}\"", sums.etag()));
    answer.set("x-oss-hash-crc64ecma", &sums.crc64.to_string());
    if let Some(md5) = sums.content_md5() {
        answer.set("content-md5", &md5);
    }
    answer
}

/// A callback that is silently not made would be a wrong 200.
pub(super) fn refuse_callback(request: &Request) -> Result<(), Failure> {
    let asked = request.headers.contains_key("x-oss-callback");
    if asked { Err(Failure::not_implemented("x-oss-callback")) } else { Ok(()) }
}

/// What the object will be given back with.
pub(super) fn kept_headers(request: &Request) -> Result<Headers, Failure> {
    let mut kept = Headers::new();
    let mut metadata = 0;
    for name in request.headers.keys().map(|name| name.as_str()) {
        let is_metadata = name.starts_with("x-oss-meta-");
        if !is_metadata && !KEPT.contains(&name) {
            continue;
        }
        let value = request.headers.get(name).and_then(|value| std::str::from_utf8(value.as_bytes()).ok());
        let value = value.ok_or_else(|| Failure::argument(name, "", "The value of the header is not UTF-8."))?;
        metadata += if is_metadata { name.len() + value.len() } else { 0 };
        kept.push((name.to_owned(), value.to_owned()));
    }
    if metadata > METADATA_MAX {
        let message = format!("User metadata may have {METADATA_MAX} bytes in total.");
        return Err(Failure::argument("x-oss-meta", &metadata.to_string(), message));
    }
    Ok(kept)
}
