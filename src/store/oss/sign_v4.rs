//! Signature version 4: HMAC-SHA256 over a canonical request (specification, section 3).

use std::time::SystemTime;

use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use http::header::{AUTHORIZATION, DATE};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::address::Scope;
use super::{ToSign, encode, set, set_secret};
use crate::store::credentials::Credentials;

const ALGORITHM: &str = "OSS4-HMAC-SHA256";
const TERMINATOR: &str = "aliyun_v4_request";
const PAYLOAD: &str = "UNSIGNED-PAYLOAD";

/// Adds the dates, the token, the payload's mark and `Authorization`.
pub fn sign<N: AsRef<str>>(
    request: &ToSign<'_, N>,
    headers: &mut HeaderMap,
    credentials: &Credentials,
    at: SystemTime,
    scope: &Scope<'_>,
) {
    let timestamp = timestamp(at);
    set(headers, DATE, &httpdate::fmt_http_date(at));
    set(headers, "x-oss-date", &timestamp);
    set(headers, "x-oss-content-sha256", PAYLOAD);
    if let Some(token) = &credentials.session_token {
        set_secret(headers, "x-oss-security-token", token);
    }
    let scope_text = scope_text(&timestamp, scope);
    let string = string_to_sign(&timestamp, &scope_text, &canonical_request(request, headers));
    let signature = signature(&string, &credentials.access_key_secret, &timestamp, scope);
    let id = &credentials.access_key_id;
    set_secret(headers, AUTHORIZATION, &format!("{ALGORITHM} Credential={id}/{scope_text},Signature={signature}"));
}

/// `YYYYMMDDTHHMMSSZ`; the first eight characters are the day of the scope.
fn timestamp(at: SystemTime) -> String {
    let at = jiff::Timestamp::try_from(at).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    at.strftime("%Y%m%dT%H%M%SZ").to_string()
}

fn day(timestamp: &str) -> &str {
    timestamp.get(..8).unwrap_or_default()
}

fn scope_text(timestamp: &str, scope: &Scope<'_>) -> String {
    format!("{}/{}/{}/{TERMINATOR}", day(timestamp), scope.region, scope.product)
}

/// Step 1. No additional headers are signed, so their line is empty.
fn canonical_request<N: AsRef<str>>(request: &ToSign<'_, N>, headers: &HeaderMap) -> String {
    let mut query: Vec<_> = request.query.iter().map(|(n, v)| (encode::all(n.as_ref()), encode::all(v))).collect();
    query.sort_unstable();
    let pair = |(name, value): (String, String)| if value.is_empty() { name } else { format!("{name}={value}") };
    let query = query.into_iter().map(pair).collect::<Vec<_>>().join("&");
    let signed = |name: &&str| name.starts_with("x-oss-") || matches!(*name, "content-type" | "content-md5");
    let mut names: Vec<_> = headers.keys().map(|name| name.as_str()).filter(signed).collect();
    names.sort_unstable();
    let line = |name: &str| {
        let values: Vec<_> = headers.get_all(name).iter().filter_map(|v| v.to_str().ok()).map(str::trim).collect();
        format!("{name}:{}\n", values.join(","))
    };
    let lines: String = names.into_iter().map(line).collect();
    let path = encode::path(request.key);
    format!("{}\n/{}/{path}\n{query}\n{lines}\n\n{PAYLOAD}", request.method, request.bucket)
}

/// Step 2.
fn string_to_sign(timestamp: &str, scope: &str, canonical_request: &str) -> String {
    format!("{ALGORITHM}\n{timestamp}\n{scope}\n{}", hex(&Sha256::digest(canonical_request)))
}

/// Step 3.
fn signature(string: &str, secret: &str, timestamp: &str, scope: &Scope<'_>) -> String {
    let start = Zeroizing::new(format!("aliyun_v4{secret}"));
    let by_day = hmac(start.as_bytes(), day(timestamp));
    let by_region = hmac(&*by_day, scope.region);
    let by_product = hmac(&*by_region, scope.product);
    hex(&*hmac(&*hmac(&*by_product, TERMINATOR), string))
}

fn hmac(key: &[u8], text: &str) -> Zeroizing<[u8; 32]> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text.as_bytes());
    Zeroizing::new(mac.finalize().into_bytes().into())
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)])).collect()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use serde_json::Value;

    use super::*;

    #[test]
    fn every_vector_of_sign_v4_header_json_without_additional_headers_reproduces() {
        let file: Value = serde_json::from_str(include_str!("../../../tests/vectors/sign_v4_header.json")).unwrap();
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        let plain = |v: &&Value| v["additional_headers"].as_array().unwrap().is_empty();
        let vectors: Vec<_> = file["vectors"].as_array().unwrap().iter().filter(plain).collect();
        assert!(vectors.len() >= 5);
        for vector in vectors {
            let mut headers = HeaderMap::new();
            for pair in vector["headers"].as_array().unwrap() {
                set(&mut headers, text(&pair[0]), &text(&pair[1]));
            }
            let mut credentials = Credentials::new(text(&vector["access_key_id"]), text(&vector["access_key_secret"]));
            credentials.session_token = vector["security_token"].as_str().map(|t| Zeroizing::new(t.to_owned()));
            let query: Vec<_> =
                vector["query"].as_array().unwrap().iter().map(|p| (text(&p[0]), text(&p[1]))).collect();
            let (method, bucket, key) = (text(&vector["method"]), text(&vector["bucket"]), text(&vector["key"]));
            let request = ToSign { method: &method, bucket: &bucket, key: &key, query: &query };
            let (region, product) = (text(&vector["region"]), text(&vector["product"]));
            let at = UNIX_EPOCH + Duration::from_secs(vector["sign_time_unix"].as_u64().unwrap());
            sign(&request, &mut headers, &credentials, at, &Scope { region: &region, product: &product });
            let expected = &vector["expect"];
            assert_eq!(canonical_request(&request, &headers), text(&expected["canonical_request"]), "{}", vector["id"]);
            assert_eq!(headers[AUTHORIZATION], text(&expected["authorization"]), "{}", vector["id"]);
        }
    }

    #[test]
    fn steps_2_and_3_of_every_vector_of_sign_v4_header_json_reproduce() {
        let file: Value = serde_json::from_str(include_str!("../../../tests/vectors/sign_v4_header.json")).unwrap();
        let vectors = file["vectors"].as_array().unwrap();
        assert_eq!(vectors.len() as u64, file["count"].as_u64().unwrap());
        for vector in vectors {
            let text = |v: &Value| v.as_str().unwrap().to_owned();
            let (region, product) = (text(&vector["region"]), text(&vector["product"]));
            let scope = Scope { region: &region, product: &product };
            let at = UNIX_EPOCH + Duration::from_secs(vector["sign_time_unix"].as_u64().unwrap());
            let (timestamp, expected) = (timestamp(at), &vector["expect"]);
            let canonical = text(&expected["canonical_request"]);
            let string = string_to_sign(&timestamp, &scope_text(&timestamp, &scope), &canonical);
            assert_eq!(string, text(&expected["string_to_sign"]), "{}", vector["id"]);
            let signature = signature(&string, &text(&vector["access_key_secret"]), &timestamp, &scope);
            assert_eq!(signature, text(&expected["signature"]), "{}", vector["id"]);
        }
    }
}
