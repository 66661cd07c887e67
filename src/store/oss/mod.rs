//! What only OSS does so: addresses, header names, signatures, errors.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderName};
use http::{HeaderMap, HeaderValue, Request, Response};
use md5::{Digest, Md5};

use super::credentials::Credentials;
use super::shown::shown;
use super::{Call, Dialect, Marks, Stage};
use crate::model::object::{ETag, Key};
use crate::model::part::Limits;
use crate::model::retry::Fault;
use crate::model::settings::{ClientSettings, ObjectOptions, Signature};

pub mod address;
pub mod encode;
pub mod errors;
pub mod sign_v1;
pub mod sign_v4;

use address::{Address, AddressError};

const METADATA_PREFIX: &str = "x-oss-meta-";
/// The last second that dates of four digits reach: 9999-12-31T23:59:59Z, in seconds since the epoch.
const LAST_SECOND: u64 = 253_402_300_799;

/// An OSS endpoint.
pub struct Oss {
    address: Address,
    signature: Signature,
}

impl Oss {
    /// # Errors
    /// See [`AddressError`].
    pub fn new(settings: &ClientSettings) -> Result<Self, AddressError> {
        Ok(Self { address: Address::new(settings)?, signature: settings.signature })
    }

    /// `scheme://host[:port]`.
    pub fn endpoint(&self) -> String {
        self.address.endpoint()
    }

    fn sign(&self, call: &Call<'_>, headers: &mut HeaderMap, credentials: &Credentials, at: SystemTime) {
        let (bucket, key) = (call.bucket.as_str(), call.key.map(Key::as_str).unwrap_or_default());
        let request = ToSign { method: call.method.as_str(), bucket, key, query: &call.query };
        match self.signature {
            Signature::V1 => sign_v1::sign(&request, headers, credentials, at),
            Signature::V4 => sign_v4::sign(&request, headers, credentials, at, &self.address.scope()),
        }
    }
}

/// What both signatures cover besides headers.
pub struct ToSign<'a, N: AsRef<str>> {
    pub method: &'a str,
    pub bucket: &'a str,
    /// Empty for the bucket itself.
    pub key: &'a str,
    pub query: &'a [(N, String)],
}

/// Sets a header whose value is known to be legal: checked by [`super::options`] or made here.
fn set(headers: &mut HeaderMap, name: impl AsRef<str>, value: &str) {
    insert(headers, name.as_ref(), value, false);
}

/// As [`set`], for a value that is left out where headers are shown.
fn set_secret(headers: &mut HeaderMap, name: impl AsRef<str>, value: &str) {
    insert(headers, name.as_ref(), value, true);
}

fn insert(headers: &mut HeaderMap, name: &str, value: &str, secret: bool) {
    if let (Ok(name), Ok(mut value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
        value.set_sensitive(secret);
        headers.insert(name, value);
    }
}

impl Dialect for Oss {
    fn limits(&self) -> Limits {
        Limits::OSS
    }

    fn describe(&self, options: &ObjectOptions, key: &Key, stage: Stage, headers: &mut HeaderMap) {
        if matches!(stage, Stage::Put | Stage::Initiate) {
            describe_content(options, key, headers);
            describe_storage(options, headers);
        }
        if matches!(stage, Stage::Put | Stage::Complete) {
            describe_arrival(options, headers);
        }
        if stage != Stage::UploadPart && options.forbid_overwrite {
            set(headers, "x-oss-forbid-overwrite", "true");
        }
        if let (Stage::Put | Stage::UploadPart, Some(limit)) = (stage, options.traffic_limit) {
            set(headers, "x-oss-traffic-limit", &limit.to_string());
        }
    }

    fn marks(&self, headers: &HeaderMap) -> Marks {
        let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).map(shown);
        let metadata = headers.iter().filter_map(|(name, value)| {
            let name = name.as_str().strip_prefix(METADATA_PREFIX)?;
            Some((name.to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        });
        let mut metadata: Vec<_> = metadata.collect();
        metadata.sort();
        Marks {
            request_id: text("x-oss-request-id"),
            version_id: text("x-oss-version-id"),
            crc64: text("x-oss-hash-crc64ecma").and_then(|text| text.trim().parse().ok()),
            object_type: text("x-oss-object-type"),
            storage_class: text("x-oss-storage-class"),
            metadata,
        }
    }

    /// The MD5 of the parts' tags as upper-case text, and their number (specification, section 4.14). Tags of encrypted
    /// objects are none of MD5s.
    fn joined_etag(&self, parts: &[&ETag], headers: &HeaderMap) -> Option<ETag> {
        let is_md5 = |etag: &&ETag| etag.as_str().len() == 32 && etag.as_str().bytes().all(|c| c.is_ascii_hexdigit());
        if headers.contains_key("x-oss-server-side-encryption") || !parts.iter().all(is_md5) {
            return None;
        }
        let mut digest = Md5::new();
        parts.iter().for_each(|etag| digest.update(etag.as_str().to_ascii_uppercase()));
        let hex: String = digest.finalize().iter().map(|byte| format!("{byte:02X}")).collect();
        Some(ETag::new(&format!("{hex}-{}", parts.len())))
    }

    fn fault(&self, response: &Response<Bytes>) -> Fault {
        errors::fault(response)
    }

    fn not_of_the_store(&self, response: &Response<Bytes>) -> Option<Fault> {
        errors::not_of_the_store(response)
    }

    fn fault_in_success(&self, body: &[u8]) -> Option<Fault> {
        errors::fault_in_success(body)
    }

    fn request(&self, mut call: Call<'_>, credentials: Option<&Credentials>, at: SystemTime) -> Request<Bytes> {
        let mut headers = std::mem::take(&mut call.headers);
        if !call.body.is_empty() {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(call.body.len()));
        }
        if let Some(credentials) = credentials {
            let at = at.clamp(UNIX_EPOCH, UNIX_EPOCH + Duration::from_secs(LAST_SECOND));
            self.sign(&call, &mut headers, credentials, at);
        }
        let mut request = Request::new(call.body.clone());
        *request.method_mut() = call.method.clone();
        *request.uri_mut() = self.address.uri(&call);
        *request.headers_mut() = headers;
        request
    }
}

/// Content type and the headers that an HTTP client will see.
fn describe_content(options: &ObjectOptions, key: &Key, headers: &mut HeaderMap) {
    set(headers, "content-type", options.content_type.as_deref().unwrap_or_else(|| guessed_type(key)));
    let texts = [
        ("cache-control", &options.cache_control),
        ("content-disposition", &options.content_disposition),
        ("content-encoding", &options.content_encoding),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            set(headers, name, text);
        }
    }
    for (name, value) in &options.metadata {
        set(headers, format!("{METADATA_PREFIX}{}", name.to_ascii_lowercase()), value);
    }
}

/// The content type that the extension of `key` tells. `.ts` is what the official clients say it is (specification,
/// section 9.1, item 24); tables of types know it under another name.
fn guessed_type(key: &Key) -> &'static str {
    match key.as_str().rsplit_once('.') {
        Some((_, extension)) if extension.eq_ignore_ascii_case("ts") => "video/MP2T",
        _ => mime_guess::from_path(key.as_str()).first_raw().unwrap_or("application/octet-stream"),
    }
}

/// How the object is kept.
fn describe_storage(options: &ObjectOptions, headers: &mut HeaderMap) {
    let texts = [
        ("x-oss-storage-class", &options.storage_class),
        ("x-oss-server-side-encryption", &options.sse),
        ("x-oss-server-side-encryption-key-id", &options.sse_key_id),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            set(headers, name, text);
        }
    }
    if !options.tags.is_empty() {
        let pair = |(name, value): &(String, String)| format!("{}={}", encode::all(name), encode::all(value));
        set(headers, "x-oss-tagging", &options.tags.iter().map(pair).collect::<Vec<_>>().join("&"));
    }
}

/// What happens when the object comes into being.
fn describe_arrival(options: &ObjectOptions, headers: &mut HeaderMap) {
    if let Some(acl) = &options.acl {
        set(headers, "x-oss-object-acl", acl);
    }
    for (name, json) in [("x-oss-callback", &options.callback), ("x-oss-callback-var", &options.callback_var)] {
        if let Some(json) = json {
            set(headers, name, &STANDARD.encode(json));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(stage: Stage) -> HeaderMap {
        let text = |t: &str| Some(t.to_owned());
        let options = ObjectOptions {
            acl: text("private"),
            metadata: vec![("Origin".into(), "rack 7".into())],
            tags: vec![("a b".into(), "c&d".into())],
            forbid_overwrite: true,
            callback: text("{}"),
            traffic_limit: Some(819_200),
            storage_class: text("IA"),
            ..ObjectOptions::default()
        };
        let oss = Oss::new(&ClientSettings::new("oss-cn-hangzhou.aliyuncs.com")).unwrap();
        let mut headers = HeaderMap::new();
        oss.describe(&options, &Key::new("dir/movie.ts").unwrap(), stage, &mut headers);
        headers
    }

    fn names(stage: Stage) -> Vec<String> {
        let mut names: Vec<_> = headers(stage).keys().map(ToString::to_string).collect();
        names.sort();
        names
    }

    #[test]
    fn every_header_goes_on_the_operation_that_the_specification_names() {
        let created =
            ["content-type", "x-oss-forbid-overwrite", "x-oss-meta-origin", "x-oss-storage-class", "x-oss-tagging"];
        assert_eq!(names(Stage::Initiate), created);
        assert_eq!(names(Stage::UploadPart), ["x-oss-traffic-limit"]);
        assert_eq!(names(Stage::Complete), ["x-oss-callback", "x-oss-forbid-overwrite", "x-oss-object-acl"]);
        assert_eq!(names(Stage::Put).len(), 8);
    }

    #[test]
    fn tags_are_encoded_and_callbacks_are_base64() {
        assert_eq!(headers(Stage::Put)["x-oss-tagging"], "a%20b=c%26d");
        assert_eq!(headers(Stage::Put)["x-oss-callback"], "e30=");
    }

    #[test]
    fn the_tag_of_a_joined_object_follows_from_those_of_its_parts() {
        let oss = Oss::new(&ClientSettings::new("oss-cn-hangzhou.aliyuncs.com")).unwrap();
        let [a, b] = ["5D41402ABC4B2A76B9719D911017C592", "7d793037a0760186574b0282f2f435e7"].map(ETag::new);
        let mut headers = HeaderMap::new();
        let expected = ETag::new("42B84D75CCD1176E729FC310B961AF25-2");
        assert_eq!(oss.joined_etag(&[&a, &b], &headers), Some(expected));
        assert_eq!(oss.joined_etag(&[&a, &ETag::new("opaque")], &headers), None);
        headers.insert("x-oss-server-side-encryption", HeaderValue::from_static("KMS"));
        assert_eq!(oss.joined_etag(&[&a, &b], &headers), None);
    }

    #[test]
    fn a_checksum_beyond_64_bits_is_none_and_marks_are_short() {
        let oss = Oss::new(&ClientSettings::new("oss-cn-hangzhou.aliyuncs.com")).unwrap();
        let marks = |crc64: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-oss-hash-crc64ecma", crc64.parse().unwrap());
            headers.insert("x-oss-request-id", "R".repeat(10_000).parse().unwrap());
            oss.marks(&headers)
        };
        assert_eq!(marks("18446744073709551615").crc64, Some(u64::MAX));
        for beyond in ["18446744073709551616", "-1", "1e3", "0x1", ""] {
            assert_eq!(marks(beyond).crc64, None, "{beyond}");
        }
        assert_eq!(marks("1").request_id.map(|id| id.len()), Some(200));
    }
}
