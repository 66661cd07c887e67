//! Signature version 1: HMAC-SHA1 of a text with the raw key and the decoded sub-resources.
//!
//! # Source
//! Specification, section 2.

use std::time::{Duration, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::Mac;

use super::{Claim, Form, Sha1, Validity, bad_date, canonical_headers, header_text, hmac, malformed, token_of};
use crate::server::errors::{Code, Failure};
use crate::server::request::Request;

/// Query parameters that are part of what is signed, beside every `x-oss-*` (section 2.4).
#[rustfmt::skip]
const SIGNED: &[&str] = &[
    "acl", "append", "asyncFetch", "bucketInfo", "callback", "callback-var", "cloudboxes", "cname", "comp",
    "continuation-token", "cors", "delete", "encryption", "endTime", "img", "inventory", "inventoryId", "lifecycle",
    "live", "location", "logging", "metaQuery", "objectMeta", "partNumber", "policy", "position", "qos", "qosInfo",
    "referer", "regionList", "replication", "replicationLocation", "replicationProgress", "requestPayment",
    "resourceGroup", "response-cache-control", "response-content-disposition", "response-content-encoding",
    "response-content-language", "response-content-type", "response-expires", "responseHeader", "restore", "rtc",
    "security-token", "sequential", "startTime", "stat", "status", "style", "styleName", "symlink", "tagging",
    "transferAcceleration", "udf", "udfApplication", "udfApplicationLog", "udfId", "udfImage", "udfImageDesc",
    "udfName", "uploadId", "uploads", "versionId", "versioning", "versions", "vod", "website", "withHashContext",
    "worm", "wormExtend", "wormId",
];

/// Query parameters that are never part of what is signed.
#[rustfmt::skip]
const UNSIGNED: &[&str] = &[
    "encoding-type", "list-type", "prefix", "delimiter", "marker", "max-keys", "start-after", "fetch-owner",
    "max-parts", "part-number-marker", "max-uploads", "key-marker", "upload-id-marker", "OSSAccessKeyId", "Expires",
    "Signature",
];

/// The parameter selects what is done, so it is signed.
fn is_subresource(name: &str) -> bool {
    name.starts_with("x-oss-") || SIGNED.binary_search(&name).is_ok()
}

/// As [`is_subresource`], and those that the service may have got since the list was written.
fn may_be_subresource(name: &str) -> bool {
    !UNSIGNED.contains(&name)
}

/// Reads `OSS ID:SIGNATURE` (`rest` is what follows `OSS `).
pub(super) fn claim(request: &Request, rest: &str) -> Result<Claim, Failure> {
    let (id, signature) = rest.trim().split_once(':').ok_or_else(|| malformed("there is no ':' in it."))?;
    if id.is_empty() || signature.is_empty() {
        return Err(malformed("the id or the signature is empty."));
    }
    let text = ["x-oss-date", "date"].iter().find_map(|name| request.header(name)).ok_or_else(bad_date)?;
    let date = httpdate::parse_http_date(text.trim()).map_err(|_| bad_date())?;
    Ok(Claim {
        access_key_id: id.to_owned(),
        validity: Validity::Around(date),
        security_token: token_of(request, None)?,
        signature: signature.to_owned(),
        strings_to_sign: strings_to_sign(request, text.trim()),
        canonical_request: None,
        form: Form::V1,
    })
}

/// Reads `OSSAccessKeyId`, `Expires` and `Signature` of a URL.
pub(super) fn claim_in_url(request: &Request) -> Result<Claim, Failure> {
    if request.key.is_none() {
        let message = "Only operations on objects can be signed in a URL with version 1.";
        return Err(Failure::new(Code::AccessDenied, message).ec("0002-00000079"));
    }
    let given = |name: &str| {
        let text = request.query(name).filter(|text| !text.is_empty());
        text.ok_or_else(|| Failure::new(Code::AccessDenied, format!("{name} is missing in the signed URL.")))
    };
    let (id, expires, signature) = (given("OSSAccessKeyId")?, given("Expires")?, given("Signature")?);
    let seconds = expires.parse().ok().map(Duration::from_secs);
    let end = seconds.and_then(|seconds| UNIX_EPOCH.checked_add(seconds));
    let end = end.ok_or_else(|| Failure::new(Code::AccessDenied, "Expires is not a time in seconds."))?;
    Ok(Claim {
        access_key_id: id.to_owned(),
        validity: Validity::Until { from: None, end },
        security_token: token_of(request, request.query("security-token"))?,
        signature: signature.to_owned(),
        strings_to_sign: strings_to_sign(request, expires),
        canonical_request: None,
        form: Form::V1,
    })
}

pub(super) fn agrees(secret: &str, text: &str, signature: &str) -> bool {
    let Ok(signature) = STANDARD.decode(signature) else { return false };
    hmac::<Sha1>(secret.as_bytes(), text.as_bytes()).verify_slice(&signature).is_ok()
}

fn strings_to_sign(request: &Request, date: &str) -> Vec<String> {
    resources(request).iter().map(|resource| string_to_sign(request, date, resource)).collect()
}

fn string_to_sign(request: &Request, date: &str, resource: &str) -> String {
    let md5 = header_text(request, "content-md5");
    let content_type = header_text(request, "content-type");
    let headers = canonical_headers(request, |_| false);
    format!("{}\n{md5}\n{content_type}\n{date}\n{headers}{resource}", request.method)
}

/// CanonicalizedResource. Two spellings for a bucket in the path: the C SDK leaves its slash out. Two more where there is
/// a parameter that is not in the list: younger clients sign it, and are to hear that it is not known rather than that
/// their signature is wrong.
fn resources(request: &Request) -> Vec<String> {
    let is_young = |name: &str| may_be_subresource(name) && !is_subresource(name);
    let mut parameters = vec![signed_parameters(request, is_subresource)];
    if request.query.iter().any(|(name, _)| is_young(name)) {
        parameters.push(signed_parameters(request, may_be_subresource));
    }
    let Some(bucket) = &request.bucket else { return parameters.iter().map(|names| format!("/{names}")).collect() };
    let key = request.key.as_deref().unwrap_or("");
    let mut resources: Vec<String> = parameters.iter().map(|names| format!("/{bucket}/{key}{names}")).collect();
    if request.key.is_none() && request.path_style {
        resources.extend(parameters.iter().map(|names| format!("/{bucket}{names}")));
    }
    resources
}

/// `?name&name=value…`, sorted by name, values as they are; empty if none is signed.
fn signed_parameters(request: &Request, is_signed: fn(&str) -> bool) -> String {
    let mut pairs: Vec<&(String, String)> = request.query.iter().filter(|(name, _)| is_signed(name)).collect();
    pairs.sort();
    let write =
        |(name, value): &(String, String)| if value.is_empty() { name.clone() } else { format!("{name}={value}") };
    let joined = pairs.into_iter().map(write).collect::<Vec<_>>().join("&");
    if joined.is_empty() { joined } else { format!("?{joined}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signed_parameters_are_those_of_the_table() {
        let tables: serde_json::Value =
            serde_json::from_str(include_str!("../../../tests/vectors/tables.json")).expect("tables.json is JSON");
        let table: Vec<&str> =
            tables["v1_signed_subresources"].as_array().expect("a list").iter().filter_map(|v| v.as_str()).collect();
        assert_eq!(SIGNED, table);
        assert!(SIGNED.is_sorted(), "the search needs the order");
        for name in tables["v1_never_signed"].as_array().expect("a list") {
            let name = name.as_str().expect("a name");
            assert!(!is_subresource(name) && !may_be_subresource(name), "{name}");
        }
    }
}
