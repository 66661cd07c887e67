//! GetObject, HeadObject and GetObjectMeta: ranges, and the headers of an object.

use std::sync::Arc;

use http::StatusCode;

use super::range::{Selection, select};
use super::table::OVERRIDES;
use super::{Answer, Context, body, call, conditions, restore, symlink};
use crate::server::access::http_date;
use crate::server::errors::{Code, Failure};
use crate::server::request::Request;
use crate::server::store::{Address, Content, Object};

pub(super) async fn get_object(context: Context<'_>, at: Address) -> Result<Answer, Failure> {
    let (object, content) = open(context, at).await?;
    restore::check_readable(&object)?;
    let (mut answer, range) = describe_range(context.request, &object)?;
    if let Some(range) = range {
        answer.body = body::content(content, range.start, range.end, context.catalog.waits());
    }
    Ok(answer)
}

pub(super) async fn head_object(context: Context<'_>, at: Address) -> Result<Answer, Failure> {
    let object = symlink::followed(context, &at)?;
    describe_range(context.request, &object).map(|(answer, _)| answer)
}

/// What is known without looking closely: length, tag, time and checksum.
pub(super) async fn get_object_meta(context: Context<'_>, at: Address) -> Result<Answer, Failure> {
    let object = context.catalog.object(&at)?;
    let mut answer = Answer::new(StatusCode::OK);
    identify(&mut answer, &object);
    answer.bytes = Some(object.bytes);
    Ok(answer)
}

/// An object and its bytes, of one version; through a symbolic link those of its target.
pub(super) async fn open(context: Context<'_>, at: Address) -> Result<(Arc<Object>, Box<dyn Content>), Failure> {
    let target = symlink::target_of(context, &at)?;
    let (object, content) = call(context.catalog, {
        let at = target.clone().unwrap_or_else(|| at.clone());
        move |catalog| catalog.open_object(&at)
    })
    .await
    .map_err(|failure| symlink::dangling(failure, target.is_some()))?;
    match target {
        Some(_) => Ok((symlink::seen_through(context, &at, &object)?, content)),
        None => Ok((object, content)),
    }
}

/// Headers, and which bytes; no bytes for "not modified".
fn describe_range(request: &Request, object: &Object) -> Result<(Answer, Option<std::ops::Range<u64>>), Failure> {
    if !conditions::hold(request, object, &conditions::OF_READING)? {
        let mut answer = describe(request, object, StatusCode::NOT_MODIFIED);
        answer.bytes = None;
        return Ok((answer, None));
    }
    let standard = request.header("x-oss-range-behavior").is_some_and(|text| text.eq_ignore_ascii_case("standard"));
    let (status, range) = match select(request.header("range"), object.bytes, standard) {
        Selection::Whole => (StatusCode::OK, 0..object.bytes),
        Selection::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
        Selection::Nothing => return Err(invalid_range(request, object)),
    };
    let mut answer = describe(request, object, status);
    if status == StatusCode::PARTIAL_CONTENT {
        answer.set("content-range", &format!("bytes {}-{}/{}", range.start, range.end - 1, object.bytes));
    }
    answer.bytes = Some(range.end - range.start);
    Ok((answer, Some(range)))
}

fn invalid_range(request: &Request, object: &Object) -> Failure {
    Failure::new(Code::InvalidRange, "The range is not within the object.")
        .with("RangeRequested", request.header("range").unwrap_or(""))
        .with("ActualObjectSize", object.bytes.to_string())
}

/// Status and headers of an object.
fn describe(request: &Request, object: &Object, status: StatusCode) -> Answer {
    let mut answer = Answer::new(status);
    answer.set("content-type", "application/octet-stream");
    answer.set("x-oss-storage-class", "Standard");
    for (name, value) in &object.headers {
        match name.as_str() {
            "x-oss-tagging" => {
                answer.set("x-oss-tagging-count", &value.split('&').filter(|t| !t.is_empty()).count().to_string())
            }
            restore::RESTORED => restore::told(object).iter().for_each(|state| answer.set(name, state)),
            "x-oss-object-acl" | symlink::TARGET => {}
            name => answer.set(name, value),
        }
    }
    identify(&mut answer, object);
    answer.set("accept-ranges", "bytes");
    answer.set("x-oss-object-type", object.kind.name());
    if object.kind == crate::server::store::Kind::Appendable {
        answer.set("x-oss-next-append-position", &object.bytes.to_string());
    }
    if let Some(md5) = &object.content_md5 {
        answer.set("content-md5", md5);
    }
    for parameter in OVERRIDES {
        if let (Some(name), Some(value)) = (parameter.strip_prefix("response-"), request.query(parameter)) {
            answer.set(name, value);
        }
    }
    answer
}

fn identify(answer: &mut Answer, object: &Object) {
    answer.set("etag", &format!("\"{}\"", object.etag));
    answer.set("last-modified", &http_date(object.modified));
    answer.set("x-oss-hash-crc64ecma", &object.crc64.to_string());
}
