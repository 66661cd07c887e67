//! GetObject and HeadObject: conditions, ranges, and the headers of an object.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{Method, StatusCode};

use super::range::{Selection, select};
use super::{Answer, Context, body, call};
use crate::model::object::ETag;
use crate::server::errors::{Code, Failure};
use crate::server::request::Request;
use crate::server::store::{Address, Object};

/// Query parameters that replace a header of the answer: `response-` and its name.
pub(super) const OVERRIDES: &[&str] = &[
    "response-content-type",
    "response-content-language",
    "response-expires",
    "response-cache-control",
    "response-content-disposition",
    "response-content-encoding",
];

pub(super) async fn get_object(context: Context<'_>, at: Address) -> Result<Answer, Failure> {
    let request = context.request;
    let wants_body = request.method == Method::GET;
    let (object, content) = if wants_body {
        let (object, content) = call(context.catalog, move |catalog| catalog.open_object(&at)).await?;
        (object, Some(content))
    } else {
        (context.catalog.object(&at)?, None)
    };
    if let Some(answer) = check_conditions(request, &object)? {
        return Ok(answer);
    }
    let standard = request.header("x-oss-range-behavior") == Some("standard");
    let (status, range) = match select(request.header("range"), object.bytes, standard) {
        Selection::Whole => (StatusCode::OK, 0..object.bytes),
        Selection::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
        Selection::Nothing => return Err(invalid_range(request, &object)),
    };
    let mut answer = describe(request, &object, status);
    if status == StatusCode::PARTIAL_CONTENT {
        answer.set("content-range", &format!("bytes {}-{}/{}", range.start, range.end - 1, object.bytes));
    }
    answer.bytes = Some(range.end - range.start);
    if let Some(content) = content {
        answer.body = body::content(content, range.start, range.end, context.catalog.waits());
    }
    Ok(answer)
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
            "x-oss-object-acl" => {}
            name => answer.set(name, value),
        }
    }
    answer.set("etag", &format!("\"{}\"", object.etag));
    answer.set("last-modified", &httpdate::fmt_http_date(object.modified));
    answer.set("accept-ranges", "bytes");
    answer.set("x-oss-object-type", object.kind.name());
    answer.set("x-oss-hash-crc64ecma", &object.crc64.to_string());
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

/// `None` to go on, an answer for "not modified".
fn check_conditions(request: &Request, object: &Object) -> Result<Option<Answer>, Failure> {
    let names = |list: &str| list.split(',').any(|tag| tag.trim() == "*" || ETag::new(tag) == ETag::new(&object.etag));
    let time = |name: &str| request.header(name).and_then(|text| httpdate::parse_http_date(text).ok());
    let modified = whole_seconds(object.modified);
    let failed =
        |name: &str| Failure::new(Code::PreconditionFailed, format!("{name} does not hold.")).with("Condition", name);
    if request.header("if-match").is_some_and(|list| !names(list)) {
        return Err(failed("If-Match"));
    }
    if time("if-unmodified-since").is_some_and(|limit| modified > limit) {
        return Err(failed("If-Unmodified-Since"));
    }
    let same = match request.header("if-none-match") {
        Some(list) => names(list),
        None => time("if-modified-since").is_some_and(|limit| modified <= limit),
    };
    Ok(same.then(|| {
        let mut answer = describe(request, object, StatusCode::NOT_MODIFIED);
        answer.bytes = None;
        answer
    }))
}

/// As precise as the header `Last-Modified`.
fn whole_seconds(time: SystemTime) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
}
