//! Conditions on an object: `If-Match` and its relatives, for reading and, with a prefix, for the source of a copy.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::model::object::ETag;
use crate::server::errors::{Code, Failure};
use crate::server::request::Request;
use crate::server::store::Object;

/// The four headers of a kind of request.
pub(super) struct Names {
    matches: &'static str,
    none_match: &'static str,
    modified: &'static str,
    unmodified: &'static str,
}

pub(super) const OF_READING: Names = Names {
    matches: "if-match",
    none_match: "if-none-match",
    modified: "if-modified-since",
    unmodified: "if-unmodified-since",
};

pub(super) const OF_COPYING: Names = Names {
    matches: "x-oss-copy-source-if-match",
    none_match: "x-oss-copy-source-if-none-match",
    modified: "x-oss-copy-source-if-modified-since",
    unmodified: "x-oss-copy-source-if-unmodified-since",
};

/// Whether the object is to be given; false stands for "not modified".
///
/// # Errors
/// `PreconditionFailed` if it is not the one that was meant.
pub(super) fn hold(request: &Request, object: &Object, names: &Names) -> Result<bool, Failure> {
    let listed = |list: &str| list.split(',').any(|tag| tag.trim() == "*" || ETag::new(tag) == ETag::new(&object.etag));
    let time = |name: &str| request.header(name).and_then(|text| httpdate::parse_http_date(text).ok());
    let modified = whole_seconds(object.modified);
    let failed = |name: &'static str| {
        Failure::new(Code::PreconditionFailed, format!("{name} does not hold.")).with("Condition", name)
    };
    if request.header(names.matches).is_some_and(|list| !listed(list)) {
        return Err(failed(names.matches));
    }
    if time(names.unmodified).is_some_and(|limit| modified > limit) {
        return Err(failed(names.unmodified));
    }
    let same = match request.header(names.none_match) {
        Some(list) => listed(list),
        None => time(names.modified).is_some_and(|limit| modified <= limit),
    };
    Ok(!same)
}

/// As precise as the header `Last-Modified`.
fn whole_seconds(time: SystemTime) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
}
