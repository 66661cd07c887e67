//! Signature version 1: HMAC-SHA1 over a text of headers and resource (specification, section 2).

use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use http::header::{AUTHORIZATION, CONTENT_TYPE, DATE};
use sha1::Sha1;

use super::{ToSign, set, set_secret};
use crate::store::credentials::Credentials;

/// Query parameters that are signed, besides all whose names start with `x-oss-` (section 2.4).
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

/// Adds `Date`, the token and `Authorization`.
pub fn sign<N: AsRef<str>>(
    request: &ToSign<'_, N>,
    headers: &mut HeaderMap,
    credentials: &Credentials,
    at: SystemTime,
) {
    set(headers, DATE, &httpdate::fmt_http_date(at));
    if let Some(token) = &credentials.session_token {
        set_secret(headers, "x-oss-security-token", token);
    }
    let signature = signature(&string_to_sign(request, headers), &credentials.access_key_secret);
    set_secret(headers, AUTHORIZATION, &format!("OSS {}:{signature}", credentials.access_key_id));
}

fn string_to_sign<N: AsRef<str>>(request: &ToSign<'_, N>, headers: &HeaderMap) -> String {
    // HTTP takes blanks at both ends away.
    let header = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().trim();
    let date = if headers.contains_key("x-oss-date") { header("x-oss-date") } else { header(DATE.as_str()) };
    let mut text =
        format!("{}\n{}\n{}\n{date}\n", request.method, header("content-md5"), header(CONTENT_TYPE.as_str()));
    let mut names: Vec<_> = headers.keys().map(|n| n.as_str()).filter(|n| n.starts_with("x-oss-")).collect();
    names.sort_unstable();
    for name in names {
        let values: Vec<_> = headers.get_all(name).iter().filter_map(|v| v.to_str().ok()).map(str::trim).collect();
        text += &format!("{name}:{}\n", values.join(","));
    }
    text + &resource(request)
}

/// Bucket and key, not encoded, with the signed query parameters.
fn resource<N: AsRef<str>>(request: &ToSign<'_, N>) -> String {
    let signed = |name: &str| SIGNED.contains(&name) || name.starts_with("x-oss-");
    let query = request.query.iter().map(|(name, value)| (name.as_ref(), value)).filter(|(name, _)| signed(name));
    let mut query: Vec<_> = query.collect();
    query.sort_unstable();
    let pairs = query.iter().map(|(name, value)| match value.as_str() {
        "" => (*name).to_owned(),
        value => format!("{name}={value}"),
    });
    let pairs = pairs.collect::<Vec<_>>().join("&");
    let mark = if pairs.is_empty() { "" } else { "?" };
    format!("/{}/{}{mark}{pairs}", request.bucket, request.key)
}

fn signature(text: &str, secret: &str) -> String {
    let mut mac = Hmac::<Sha1>::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(text.as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn every_vector_of_sign_v1_header_json_reproduces() {
        let file: Value = serde_json::from_str(include_str!("../../../tests/vectors/sign_v1_header.json")).unwrap();
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        for vector in file["vectors"].as_array().unwrap() {
            let mut headers = HeaderMap::new();
            for pair in vector["headers"].as_array().unwrap() {
                set(&mut headers, text(&pair[0]), &text(&pair[1]));
            }
            if let Some(token) = vector["security_token"].as_str() {
                set(&mut headers, "x-oss-security-token", token);
            }
            let query = vector["query"].as_array().unwrap().iter().map(|p| (text(&p[0]), text(&p[1])));
            let (bucket, key) = (text(&vector["bucket"]), text(&vector["key"]));
            let query: Vec<_> = query.collect();
            let request = ToSign { method: &text(&vector["method"]), bucket: &bucket, key: &key, query: &query };
            let string = string_to_sign(&request, &headers);
            assert_eq!(string, text(&vector["expect"]["string_to_sign"]), "{}", vector["id"]);
            let signature = signature(&string, &text(&vector["access_key_secret"]));
            assert_eq!(signature, text(&vector["expect"]["signature"]), "{}", vector["id"]);
        }
    }

    #[test]
    fn the_signed_parameters_are_those_of_tables_json() {
        let file: Value = serde_json::from_str(include_str!("../../../tests/vectors/tables.json")).unwrap();
        let listed: Vec<_> =
            file["v1_signed_subresources"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert_eq!(listed, SIGNED);
    }

    #[test]
    fn the_worked_example_of_section_2_8_reproduces() {
        let mut headers = HeaderMap::new();
        set(&mut headers, "content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==");
        set(&mut headers, "x-oss-date", "Wed, 01 Jan 2025 00:00:00 GMT");
        set(&mut headers, "x-oss-traffic-limit", "819200");
        let query = [("uploadId", "0004B9895DBBB6EC98E36".to_owned()), ("partNumber", "10".to_owned())];
        let request =
            ToSign { method: "PUT", bucket: "bucket", key: "dir/大文件 +&=?#%~.bin", query: query.as_slice() };
        assert_eq!(signature(&string_to_sign(&request, &headers), "sk"), "/W11qP1xxzbj26CiaSey1G07lo4=");
    }
}
