//! The multipart operations on one object.

use std::time::SystemTime;

use http::StatusCode;
use percent_encoding::utf8_percent_encode;

use super::body::Incoming;
use super::put::{kept_headers, refuse_callback, stored};
use super::{Answer, Context, call};
use crate::model::object::UploadId;
use crate::model::part::Limits;
use crate::server::errors::{Code, Failure};
use crate::server::store::{Address, Upload, storage_class};
use crate::server::xml::{Document, ENCODED_PATH, ListedPart, parse_complete};

pub(super) async fn initiate(context: Context<'_>, at: Address) -> Result<Answer, Failure> {
    let request = context.request;
    let mut xml = Document::listing("InitiateMultipartUploadResult", request.encodes_keys()?);
    let upload = Upload {
        bucket: at.bucket.clone(),
        key: at.key.clone(),
        headers: kept_headers(request)?,
        forbid_overwrite: request.is_true("x-oss-forbid-overwrite"),
        initiated: SystemTime::now(),
    };
    let id = call(context.catalog, move |catalog| catalog.begin_upload(upload)).await?;
    xml.text("Bucket", at.bucket.as_str());
    xml.key("Key", &at.key);
    xml.text("UploadId", &id.0);
    Ok(Answer::new(StatusCode::OK).xml(xml.finish()))
}

pub(super) async fn upload_part(
    context: Context<'_>,
    at: Address,
    id: UploadId,
    body: &mut Incoming,
) -> Result<Answer, Failure> {
    let request = context.request;
    let missing = || Failure::argument("partNumber", "", "partNumber must be given with uploadId.");
    let number = request.number("partNumber", 1..=Limits::OSS.parts_max)?.ok_or_else(missing)?;
    let upload = context.catalog.upload(&at, &id)?;
    let received = body.receive(context.catalog, request).await?;
    let mut answer = stored(&received.sums);
    let keep = move |catalog: &super::Catalog| catalog.put_part(&at, &id, number, received.blob, received.sums);
    call(context.catalog, keep).await?;
    let encryption = upload.headers.iter().filter(|(name, _)| name.starts_with("x-oss-server-side-encryption"));
    encryption.for_each(|(name, value)| answer.set(name, value));
    Ok(answer)
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
    if let Some((last, _)) = parts.last() {
        xml.number("NextPartNumberMarker", last);
    }
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
    refuse_callback(request)?;
    context.catalog.upload(&at, &id)?;
    let mut xml = Document::listing("CompleteMultipartUploadResult", request.encodes_keys()?);
    let list = listed_parts(context, body).await?;
    let keep = request.is_true("x-oss-forbid-overwrite");
    let (to, upload) = (at.clone(), id);
    let join = move |catalog: &super::Catalog| catalog.complete(&to, &upload, list.as_deref(), keep);
    let object = call(context.catalog, join).await?;
    xml.text("Location", &location(context, &at));
    xml.text("Bucket", at.bucket.as_str());
    xml.key("Key", &at.key);
    xml.etag(&object.etag);
    let mut answer = Answer::new(StatusCode::OK).xml(xml.finish());
    answer.set("etag", &format!("\"{}\"", object.etag));
    answer.set("x-oss-hash-crc64ecma", &object.crc64.to_string());
    Ok(answer)
}

/// The parts named in the body; `None` for all there are (`x-oss-complete-all: yes`).
async fn listed_parts(context: Context<'_>, body: &mut Incoming) -> Result<Option<Vec<ListedPart>>, Failure> {
    let document = body.document(context.request).await?;
    match context.request.header("x-oss-complete-all") {
        Some(yes) if yes.eq_ignore_ascii_case("yes") && document.is_empty() => Ok(None),
        Some(value) => {
            let message = "It must be yes, and the request must then have no body.";
            Err(Failure::argument("x-oss-complete-all", value, message))
        }
        None => parse_complete(&document).map(Some).map_err(|why| Failure::new(Code::MalformedXML, why)),
    }
}

fn location(context: Context<'_>, at: &Address) -> String {
    let key = utf8_percent_encode(&at.key, ENCODED_PATH);
    let bucket = if context.request.path_style { format!("{}/", at.bucket) } else { String::new() };
    format!("http://{}/{bucket}{key}", context.request.host)
}

pub(super) async fn abort(context: Context<'_>, at: Address, id: UploadId) -> Result<Answer, Failure> {
    call(context.catalog, move |catalog| catalog.abort(&at, &id)).await?;
    Ok(Answer::new(StatusCode::NO_CONTENT))
}
