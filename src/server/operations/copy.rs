//! CopyObject and UploadPartCopy: the bytes are read and stored again, so that every copy has checksums of its own.

use std::sync::Arc;

use http::StatusCode;

use super::body::{self, Received};
use super::headers::{choice, decoded, echo_encryption, forbids_overwrite, kept_headers, set};
use super::range::{Selection, select};
use super::{Answer, Context, call, conditions, get, restore};
use crate::model::object::{Bucket, UploadId};
use crate::server::errors::{Code, Failure};
use crate::server::request::Request;
use crate::server::store::{Address, Headers, Kind, NewObject, Object};
use crate::server::xml::Document;

const SOURCE: &str = "x-oss-copy-source";
const RANGE: &str = "x-oss-copy-source-range";
/// What a copy has of its own, or has from its bucket.
const OF_THE_SOURCE_ALONE: [&str; 3] = ["x-oss-object-acl", "x-oss-restore", "x-oss-storage-class"];

pub(super) async fn copy_object(context: Context<'_>, at: Address) -> Result<Answer, Failure> {
    let request = context.request;
    let keep = forbids_overwrite(request)?;
    let own = kept_headers(context, &at.bucket)?;
    let source = source_of(request)?;
    let from_itself = source == at;
    let Some((object, received)) = read_source(context, source, None).await? else { return Ok(not_modified()) };
    let headers = headers_of_copy(request, own, &object, from_itself)?;
    let mut answer_headers = Answer::new(StatusCode::OK);
    echo_encryption(&mut answer_headers, &headers);
    let new = NewObject { sums: received.sums, headers, kind: Kind::Normal };
    let copy = call(context.catalog, move |catalog| catalog.put_object(&at, received.blob, new, keep)).await?;
    let mut xml = Document::new("CopyObjectResult");
    xml.etag(&copy.etag);
    xml.time("LastModified", copy.modified);
    let mut answer = answer_headers.xml(xml.finish());
    answer.set("etag", &format!("\"{}\"", copy.etag));
    answer.set("x-oss-hash-crc64ecma", &copy.crc64.to_string());
    Ok(answer)
}

pub(super) async fn upload_part_copy(
    context: Context<'_>,
    at: Address,
    id: UploadId,
    number: u32,
) -> Result<Answer, Failure> {
    let upload = context.catalog.upload_for(&at, &id, number)?;
    let source = source_of(context.request)?;
    let range = context.request.header(RANGE);
    let Some((_, received)) = read_source(context, source, range).await? else { return Ok(not_modified()) };
    let etag = received.sums.etag();
    let mut answer = Answer::new(StatusCode::OK);
    echo_encryption(&mut answer, &upload.headers);
    answer.set("x-oss-hash-crc64ecma", &received.sums.crc64.to_string());
    let keep = move |catalog: &super::Catalog| catalog.put_part(&at, &id, number, received.blob, received.sums);
    call(context.catalog, keep).await?;
    let mut xml = Document::new("CopyPartResult");
    xml.time("LastModified", std::time::SystemTime::now());
    xml.etag(&etag);
    answer.set("etag", &format!("\"{etag}\""));
    Ok(answer.xml(xml.finish()))
}

/// `/BUCKET/KEY`, percent-encoded; the leading slash may be missing.
fn source_of(request: &Request) -> Result<Address, Failure> {
    let text = request.header(SOURCE).unwrap_or("");
    let refused = |message: &str| Failure::argument(SOURCE, text, message);
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    if !["", "versionId=null"].contains(&query) {
        return Err(Failure::not_implemented("copies of a version: the only one is null"));
    }
    let path = decoded(path).ok_or_else(|| refused("It is not percent-encoded UTF-8."))?;
    let path = path.strip_prefix('/').unwrap_or(&path);
    let (bucket, key) =
        path.split_once('/').filter(|(_, key)| !key.is_empty()).ok_or_else(|| refused("It is /BUCKET/KEY."))?;
    let bucket =
        Bucket::new(bucket).map_err(|_| Failure::new(Code::InvalidBucketName, "The source bucket is not valid."))?;
    Ok(Address { bucket, key: key.to_owned() })
}

/// 304: nothing was copied, as the source is what the client has.
fn not_modified() -> Answer {
    let mut answer = Answer::new(StatusCode::NOT_MODIFIED);
    answer.bytes = None;
    answer
}

/// Reads the source, or a range of it, into a blob of its own; `None` if it is not modified.
async fn read_source(
    context: Context<'_>,
    source: Address,
    range: Option<&str>,
) -> Result<Option<(Arc<Object>, Received)>, Failure> {
    let opened = get::open(context, source.clone()).await;
    let (object, content) = opened.map_err(|failure| match failure.code {
        Code::NoSuchBucket => failure.with("BucketName", source.bucket.as_str()),
        Code::NoSuchKey => failure.with("Key", source.key),
        _ => failure,
    })?;
    restore::check_readable(&object)?;
    if !conditions::hold(context.request, &object, &conditions::OF_COPYING)? {
        return Ok(None);
    }
    let (from, to) = match select(range, object.bytes, true) {
        Selection::Whole => (0, object.bytes),
        Selection::Part(range) => (range.start, range.end),
        Selection::Nothing => {
            return Err(Failure::argument(RANGE, range.unwrap_or(""), "It is not within the source."));
        }
    };
    let received = body::copy(context.catalog, content, from, to).await?;
    Ok(Some((object, received)))
}

/// Metadata comes from the source or from the request; tags and encryption follow rules of their own.
fn headers_of_copy(request: &Request, own: Headers, source: &Object, from_itself: bool) -> Result<Headers, Failure> {
    let replaces = choice(request, "x-oss-metadata-directive")? == Some("REPLACE");
    let replaces_tags = choice(request, "x-oss-tagging-directive")? == Some("Replace");
    let mut headers = if replaces || from_itself && own.iter().any(|(name, _)| name.starts_with("x-oss-meta-")) {
        own.clone()
    } else {
        source.headers.iter().filter(|(name, _)| !OF_THE_SOURCE_ALONE.contains(&name.as_str())).cloned().collect()
    };
    for (name, value) in own.iter().filter(|(name, _)| name.starts_with("x-oss-") && !name.starts_with("x-oss-meta-")) {
        set(&mut headers, name, Some(value.clone()));
    }
    let tags = if replaces_tags { request.header("x-oss-tagging") } else { source.header("x-oss-tagging") };
    set(&mut headers, "x-oss-tagging", tags.map(str::to_owned));
    Ok(headers)
}
