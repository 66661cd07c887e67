//! Listings of a bucket: its objects, its uploads.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;

use super::{Answer, Context, restore};
use crate::model::object::{Bucket, UploadId};
use crate::server::errors::Failure;
use crate::server::request::Request;
use crate::server::store::{Object, Page, PageQuery, page, storage_class};
use crate::server::xml::Document;

/// Version 1 of the listing: goes on after a key that anybody can name.
pub(super) async fn list_objects(context: Context<'_>, bucket: &Bucket) -> Result<Answer, Failure> {
    let request = context.request;
    let (query, max) = query_of(request, text(request, "marker"))?;
    let page = context.catalog.list_objects(bucket, &query)?;
    let mut xml = Document::listing("ListBucketResult", request.encodes_keys()?);
    xml.text("Name", bucket.as_str());
    xml.key("Prefix", &query.prefix);
    xml.key("Marker", &query.after);
    xml.number("MaxKeys", max);
    xml.key("Delimiter", &query.delimiter);
    xml.number("IsTruncated", page.next.is_some());
    if let Some(next) = &page.next {
        xml.key("NextMarker", next);
    }
    contents(&mut xml, &page, true);
    Ok(Answer::new(StatusCode::OK).xml(xml.finish()))
}

/// Version 2: goes on after an opaque token.
pub(super) async fn list_objects_v2(context: Context<'_>, bucket: &Bucket) -> Result<Answer, Failure> {
    let request = context.request;
    if request.query("list-type") != Some("2") {
        return Err(Failure::argument("list-type", &text(request, "list-type"), "The only type is 2."));
    }
    let token = request.query("continuation-token").filter(|token| !token.is_empty());
    let after = token.map_or_else(|| Ok(text(request, "start-after")), decode_token)?;
    let (query, max) = query_of(request, after)?;
    let page = context.catalog.list_objects(bucket, &query)?;
    let mut xml = Document::listing("ListBucketResult", request.encodes_keys()?);
    xml.text("Name", bucket.as_str());
    xml.key("Prefix", &query.prefix);
    if let Some(start) = request.query("start-after") {
        xml.key("StartAfter", start);
    }
    xml.number("MaxKeys", max);
    xml.key("Delimiter", &query.delimiter);
    xml.number("IsTruncated", page.next.is_some());
    if let Some(token) = token {
        xml.key("ContinuationToken", token);
    }
    if let Some(next) = &page.next {
        xml.key("NextContinuationToken", &URL_SAFE_NO_PAD.encode(next));
    }
    xml.number("KeyCount", page.items.len() + page.prefixes.len());
    contents(&mut xml, &page, request.is_query_true("fetch-owner"));
    Ok(Answer::new(StatusCode::OK).xml(xml.finish()))
}

/// Every object is a version of its own, and the latest: the version that is called `null`.
pub(super) async fn list_versions(context: Context<'_>, bucket: &Bucket) -> Result<Answer, Failure> {
    let request = context.request;
    let (query, max) = query_of(request, text(request, "key-marker"))?;
    let id_marker = text(request, "version-id-marker");
    if query.after.is_empty() && !id_marker.is_empty() {
        return Err(Failure::argument("version-id-marker", &id_marker, "It needs a key-marker."));
    }
    let page = context.catalog.list_objects(bucket, &query)?;
    let mut xml = Document::listing("ListVersionsResult", request.encodes_keys()?);
    xml.text("Name", bucket.as_str());
    xml.key("Prefix", &query.prefix);
    xml.key("KeyMarker", &query.after);
    xml.text("VersionIdMarker", &id_marker);
    xml.number("MaxKeys", max);
    xml.key("Delimiter", &query.delimiter);
    xml.number("IsTruncated", page.next.is_some());
    if let Some(next) = &page.next {
        let is_object = page.items.last().is_some_and(|object| object.key == *next);
        xml.key("NextKeyMarker", next);
        xml.text("NextVersionIdMarker", if is_object { "null" } else { "" });
    }
    for object in &page.items {
        xml.open("Version");
        xml.key("Key", &object.key);
        xml.text("VersionId", "null");
        xml.text("IsLatest", "true");
        describe(&mut xml, object);
        xml.owner();
        xml.close("Version");
    }
    common_prefixes(&mut xml, &page.prefixes);
    Ok(Answer::new(StatusCode::OK).xml(xml.finish()))
}

fn text(request: &Request, name: &str) -> String {
    request.query(name).unwrap_or("").to_owned()
}

/// The page asked for, and its size.
fn query_of(request: &Request, after: String) -> Result<(PageQuery, u32), Failure> {
    let max = request.number("max-keys", 1..=1000)?.unwrap_or(100);
    let (prefix, delimiter) = (text(request, "prefix"), text(request, "delimiter"));
    Ok((PageQuery { prefix, delimiter, after, max: max as usize }, max))
}

fn contents(xml: &mut Document, page: &Page<Arc<Object>>, with_owner: bool) {
    for object in &page.items {
        xml.open("Contents");
        xml.key("Key", &object.key);
        describe(xml, object);
        if with_owner {
            xml.owner();
        }
        xml.close("Contents");
    }
    common_prefixes(xml, &page.prefixes);
}

/// What every listing of objects says of one.
fn describe(xml: &mut Document, object: &Object) {
    xml.time("LastModified", object.modified);
    xml.etag(&object.etag);
    xml.text("Type", object.kind.name());
    xml.number("Size", object.bytes);
    xml.text("StorageClass", storage_class(&object.headers));
    restore::told(object).iter().for_each(|state| xml.text("RestoreInfo", state));
}

fn decode_token(token: &str) -> Result<String, Failure> {
    let decoded = URL_SAFE_NO_PAD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    decoded.ok_or_else(|| Failure::argument("continuation-token", token, "The token is not one of this server."))
}

fn common_prefixes(xml: &mut Document, prefixes: &[String]) {
    for prefix in prefixes {
        xml.open("CommonPrefixes");
        xml.key("Prefix", prefix);
        xml.close("CommonPrefixes");
    }
}

/// Where a listing of uploads goes on: after all uploads of a key, or after one of them.
struct UploadMarker {
    key: String,
    id: Option<UploadId>,
}

impl UploadMarker {
    fn of(request: &Request) -> Self {
        let text = |name: &str| request.query(name).filter(|text| !text.is_empty()).map(str::to_owned);
        let key = text("key-marker");
        let id = text("upload-id-marker").filter(|_| key.is_some()).map(UploadId);
        Self { key: key.unwrap_or_default(), id }
    }

    fn passes(&self, key: &str, id: &UploadId) -> bool {
        key > self.key.as_str() || (key == self.key && self.id.as_ref().is_some_and(|marker| id > marker))
    }
}

pub(super) async fn list_uploads(context: Context<'_>, bucket: &Bucket) -> Result<Answer, Failure> {
    let request = context.request;
    let max = request.number("max-uploads", 1..=1000)?.unwrap_or(1000);
    let marker = UploadMarker::of(request);
    let query = PageQuery {
        prefix: text(request, "prefix"),
        delimiter: text(request, "delimiter"),
        after: marker.key.clone(),
        max: max as usize,
    };
    let all = context.catalog.list_uploads(bucket)?;
    let wanted =
        all.iter().filter(|(id, upload)| upload.key.starts_with(&query.prefix) && marker.passes(&upload.key, id));
    let page = page(wanted.map(|(id, upload)| (upload.key.as_str(), (id, upload))), &query);
    let mut xml = Document::listing("ListMultipartUploadsResult", request.encodes_keys()?);
    xml.text("Bucket", bucket.as_str());
    xml.key("KeyMarker", &marker.key);
    xml.text("UploadIdMarker", marker.id.as_ref().map_or("", |id| &id.0));
    let last_id = page.items.last().filter(|(_, upload)| Some(&upload.key) == page.next.as_ref()).map(|(id, _)| *id);
    xml.key("NextKeyMarker", page.next.as_deref().unwrap_or(""));
    xml.text("NextUploadIdMarker", last_id.map_or("", |id| &id.0));
    xml.key("Delimiter", &query.delimiter);
    xml.key("Prefix", &query.prefix);
    xml.number("MaxUploads", max);
    xml.number("IsTruncated", page.next.is_some());
    for (id, upload) in &page.items {
        xml.open("Upload");
        xml.key("Key", &upload.key);
        xml.text("UploadId", &id.0);
        xml.text("StorageClass", storage_class(&upload.headers));
        xml.time("Initiated", upload.initiated);
        xml.close("Upload");
    }
    common_prefixes(&mut xml, &page.prefixes);
    Ok(Answer::new(StatusCode::OK).xml(xml.finish()))
}
