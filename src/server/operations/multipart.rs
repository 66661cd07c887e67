//! The multipart operations on one object.

use std::time::SystemTime;

use http::StatusCode;
use percent_encoding::utf8_percent_encode;

use super::body::Incoming;
use super::callback::Callback;
use super::headers::{choice, echo_encryption, forbids_overwrite, kept_headers};
use super::put::stored;
use super::{Answer, Context, call};
use crate::model::object::UploadId;
use crate::model::part::Limits;
use crate::server::errors::{Code, Failure};
use crate::server::request::Request;
use crate::server::store::{Address, Last, Upload, storage_class};
use crate::server::xml::{Document, ENCODED_PATH, ListedPart, parse_complete};

pub(super) async fn initiate(context: Context<'_>, at: Address) -> Result<Answer, Failure> {
    let request = context.request;
    let mut xml = Document::listing("InitiateMultipartUploadResult", request.encodes_keys()?);
    let upload = Upload {
        bucket: at.bucket.clone(),
        key: at.key.clone(),
        headers: kept_headers(context, &at.bucket)?,
        forbid_overwrite: forbids_overwrite(request)?,
        sequential: request.query("sequential").is_some(),
        initiated: SystemTime::now(),
    };
    let mut answer = Answer::new(StatusCode::OK);
    echo_encryption(&mut answer, &upload.headers);
    let id = call(context.catalog, move |catalog| catalog.begin_upload(upload)).await?;
    xml.text("Bucket", at.bucket.as_str());
    xml.key("Key", &at.key);
    xml.text("UploadId", &id.0);
    Ok(answer.xml(xml.finish()))
}

pub(super) async fn upload_part(
    context: Context<'_>,
    at: Address,
    id: UploadId,
    body: &mut Incoming,
) -> Result<Answer, Failure> {
    let request = context.request;
    let number = part_number(request)?;
    let upload = context.catalog.upload_for(&at, &id, number)?;
    let received = body.receive(context.catalog, request).await?;
    let mut answer = stored(&received.sums);
    let keep = move |catalog: &super::Catalog| catalog.put_part(&at, &id, number, received.blob, received.sums);
    call(context.catalog, keep).await?;
    echo_encryption(&mut answer, &upload.headers);
    Ok(answer)
}

/// `partNumber`, from 1 to 10,000.
pub(super) fn part_number(request: &Request) -> Result<u32, Failure> {
    let missing = || Failure::argument("partNumber", "", "partNumber must be given with uploadId.");
    request.number("partNumber", 1..=Limits::OSS.parts_max)?.ok_or_else(missing)
}

pub(super) async fn list_parts(context: Context<'_>, at: Address, id: UploadId) -> Result<Answer, Failure> {
    let request = context.request;
    let max = request.number("max-parts", 1..=1000)?.unwrap_or(1000);
    let after = request.number("part-number-marker", 0..=u32::MAX)?.unwrap_or(0);
    let upload = context.catalog.upload(&at, &id)?;
    let (parts, more) = context.catalog.list_parts(&at, &id, after, max as usize)?;
    let mut xml = Document::listing("ListPartsResult", request.encodes_keys()?);
    xml.text("Bucket", at.bucket.as_str());
    xml.key("Key", &at.key);
    xml.text("UploadId", &id.0);
    xml.text("StorageClass", storage_class(&upload.headers));
    xml.number("PartNumberMarker", after);
    // One official client needs the element even when there is nothing to say.
    xml.text("NextPartNumberMarker", &parts.last().map_or_else(String::new, |(last, _)| last.to_string()));
    xml.number("MaxParts", max);
    xml.number("IsTruncated", more);
    for (number, part) in &parts {
        xml.open("Part");
        xml.number("PartNumber", number);
        xml.time("LastModified", part.modified);
        xml.etag(&part.sums.etag());
        xml.number("Size", part.bytes);
        xml.number("HashCrc64ecma", part.sums.crc64);
        xml.close("Part");
    }
    Ok(Answer::new(StatusCode::OK).xml(xml.finish()))
}

pub(super) async fn complete(
    context: Context<'_>,
    at: Address,
    id: UploadId,
    body: &mut Incoming,
) -> Result<Answer, Failure> {
    let request = context.request;
    let callback = Callback::of(request)?;
    let acl = choice(request, "x-oss-object-acl")?.map(str::to_owned);
    context.catalog.upload(&at, &id)?;
    let mut xml = Document::listing("CompleteMultipartUploadResult", request.encodes_keys()?);
    let list = listed_parts(context, body).await?;
    let last = Last { acl, keep: forbids_overwrite(request)? };
    let (to, upload) = (at.clone(), id);
    let join = move |catalog: &super::Catalog| catalog.complete(&to, &upload, list.as_deref(), last);
    let object = call(context.catalog, join).await?;
    xml.text("Location", &location(context, &at));
    xml.text("Bucket", at.bucket.as_str());
    xml.key("Key", &at.key);
    xml.etag(&object.etag);
    let mut answer = Answer::new(StatusCode::OK).xml(xml.finish());
    answer.set("etag", &format!("\"{}\"", object.etag));
    answer.set("x-oss-hash-crc64ecma", &object.crc64.to_string());
    if let Some(md5) = &object.content_md5 {
        answer.set("content-md5", md5);
    }
    echo_encryption(&mut answer, &object.headers);
    match callback {
        Some(callback) => callback.make(&at, &object, answer).await,
        None => Ok(answer),
    }
}

/// The parts named in the body; `None` for all there are (`x-oss-complete-all: yes`).
async fn listed_parts(context: Context<'_>, body: &mut Incoming) -> Result<Option<Vec<ListedPart>>, Failure> {
    let document = body.document(context.request).await?;
    match context.request.header("x-oss-complete-all") {
        Some(yes) if yes.eq_ignore_ascii_case("yes") && document.is_empty() => Ok(None),
        Some(value) => {
            let message = "It must be yes, and the request must then have no body.";
            Err(Failure::argument("x-oss-complete-all", value, message).ec("0042-00000216"))
        }
        None => parse_complete(&document).map(Some).map_err(|why| Failure::new(Code::MalformedXML, why)),
    }
}

fn location(context: Context<'_>, at: &Address) -> String {
    let key = utf8_percent_encode(&at.key, ENCODED_PATH);
    let bucket = if context.request.path_style { format!("{}/", at.bucket) } else { String::new() };
    format!("{}://{}/{bucket}{key}", context.scheme, context.request.host)
}

pub(super) async fn abort(context: Context<'_>, at: Address, id: UploadId) -> Result<Answer, Failure> {
    call(context.catalog, move |catalog| catalog.abort(&at, &id)).await?;
    Ok(Answer::new(StatusCode::NO_CONTENT))
}
