//! What the metadata server, credential URLs and processes answer: one JSON object (specification, sections 7.3 and 7.6).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use serde::Deserialize;

use super::{Credentials, assemble};
use crate::model::retry::{Fault, FaultKind};

/// Largest answer that is believed, in bytes. Tokens have a few thousand.
pub const BYTES_MAX: usize = 64 << 10;

/// Both spellings: that of the service and that of CLI profiles.
#[derive(Deserialize)]
struct Document {
    #[serde(rename = "Code")]
    code: Option<String>,
    mode: Option<String>,
    #[serde(flatten)]
    key: KeyDocument,
}

#[derive(Deserialize)]
pub(super) struct KeyDocument {
    #[serde(rename = "AccessKeyId", alias = "access_key_id")]
    id: Option<String>,
    #[serde(rename = "AccessKeySecret", alias = "access_key_secret")]
    secret: Option<String>,
    #[serde(rename = "SecurityToken", alias = "sts_token")]
    token: Option<String>,
    #[serde(rename = "Expiration", alias = "expiration")]
    expiration: Option<Expiration>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Expiration {
    Text(String),
    Seconds(i64),
}

impl KeyDocument {
    pub(super) fn credentials(self) -> Result<Credentials, Fault> {
        let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
        let names = [("AccessKeyId", filled(self.id)), ("AccessKeySecret", filled(self.secret))];
        let key = assemble(names, filled(self.token)).map_err(|e| refused(e.to_string()))?;
        let key = key.ok_or_else(|| refused("the answer holds no key"))?;
        Ok(Credentials { expires: self.expiration.map_or(Ok(None), Expiration::time)?, ..key })
    }
}

impl Expiration {
    /// Empty and 0 mean that there is none.
    fn time(self) -> Result<Option<SystemTime>, Fault> {
        match self {
            Self::Text(text) if text.is_empty() => Ok(None),
            Self::Text(text) => {
                let at = text.parse::<jiff::Timestamp>().ok().and_then(|at| SystemTime::try_from(at).ok());
                at.map(Some).ok_or_else(|| refused("the time when the key ends cannot be read"))
            }
            Self::Seconds(seconds) => match u64::try_from(seconds) {
                Ok(0) => Ok(None),
                Ok(seconds) => Ok(UNIX_EPOCH.checked_add(Duration::from_secs(seconds))),
                Err(_) => Err(refused("the time when the key ends cannot be read")),
            },
        }
    }
}

/// Reads such an object.
///
/// # Errors
/// A fault of the kind [`FaultKind::Credentials`]; it repeats nothing of the answer but an error code.
pub fn read(body: &[u8]) -> Result<Credentials, Fault> {
    let document: Document = json(body)?;
    if let Some(code) = document.code.filter(|code| code != "Success") {
        return Err(refused(format!("the answer is {}", shown(&code))));
    }
    match document.mode.as_deref() {
        None | Some("" | "AK" | "StsToken") => document.key.credentials(),
        Some(mode) => Err(refused(format!("the answer has mode {}: only AK and StsToken can be used", shown(mode)))),
    }
}

/// The body of an answer that is a success and not too large.
///
/// # Errors
/// A passing fault for 5xx, 408 and 429, else one of the kind [`FaultKind::Credentials`].
pub fn body(response: &Response<Bytes>) -> Result<&[u8], Fault> {
    let status = response.status();
    let passing = matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
    if passing || status.is_server_error() {
        return Err(Fault { status: Some(status.as_u16()), ..Fault::new(FaultKind::Server, "not available now") });
    }
    if !status.is_success() {
        return Err(Fault { status: Some(status.as_u16()), ..refused("refused") });
    }
    if response.body().len() > BYTES_MAX {
        return Err(refused(format!("an answer of {} bytes is too long", response.body().len())));
    }
    Ok(response.body())
}

/// serde's own message may repeat a value, so only the place is told.
pub(super) fn json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Fault> {
    if body.len() > BYTES_MAX {
        return Err(refused(format!("an answer of {} bytes is too long", body.len())));
    }
    serde_json::from_slice(body)
        .map_err(|e| refused(format!("the answer is not the expected JSON: line {}, column {}", e.line(), e.column())))
}

/// The request for what `uri` answers.
///
/// # Errors
/// A fault for what is no address; it is not shown.
pub fn request(method: Method, uri: &str, body: Bytes) -> Result<Request<Bytes>, Fault> {
    let length = body.len();
    let request = Request::builder().method(method).uri(uri).header("content-length", length).body(body);
    request.map_err(|_| refused("what is to be asked has no address that works"))
}

pub(super) fn refused(message: impl Into<String>) -> Fault {
    Fault::new(FaultKind::Credentials, message)
}

/// A code, short and clean.
pub(super) fn shown(code: &str) -> String {
    code.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')).take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_are_read_with_and_without_token_and_end() {
        let service = br#"{"Code":"Success","AccessKeyId":"a","AccessKeySecret":"s","SecurityToken":"t",
            "Expiration":"2025-01-01T06:00:00Z","LastUpdated":"2025-01-01T00:00:00Z"}"#;
        let end = UNIX_EPOCH + Duration::from_secs(1_735_711_200);
        let found = read(service).unwrap();
        assert_eq!((found.access_key_id.as_str(), found.access_key_secret.as_str()), ("a", "s"));
        assert_eq!((found.session_token.unwrap().as_str(), found.expires), ("t", Some(end)));
        let profile = br#"{"mode":"AK","access_key_id":"a","access_key_secret":"s","sts_token":"","expiration":""}"#;
        let found = read(profile).unwrap();
        assert!(found.session_token.is_none() && found.expires.is_none());
        let seconds = br#"{"access_key_id":"a","access_key_secret":"s","expiration":1735711200}"#;
        assert_eq!(read(seconds).unwrap().expires, Some(end));
    }

    #[test]
    fn answers_that_are_no_key_are_refused_without_showing_them() {
        let long = format!("{{\"AccessKeyId\":\"{}\"}}", "canary".repeat(BYTES_MAX));
        for body in [
            "",
            "canary",
            "[]",
            "{}",
            "{\"AccessKeyId\":\"canary\"}",
            "{\"AccessKeyId\":[\"canary\"]}",
            "{\"Code\":\"Failed\",\"AccessKeyId\":\"canary\",\"AccessKeySecret\":\"canary\"}",
            "{\"AccessKeyId\":\"a\",\"AccessKeySecret\":\"canary\",\"Expiration\":\"canary\"}",
            "{\"AccessKeyId\":\"a\",\"AccessKeySecret\":\"canary\",\"Expiration\":-1}",
            "{\"AccessKeyId\":\"a\",\"AccessKeySecret\":\"s\",\"SecurityToken\":\"canary\\r\\nx: y\"}",
            "{\"mode\":\"RamRoleArn\",\"access_key_id\":\"a\",\"access_key_secret\":\"canary\"}",
            &long,
        ] {
            let fault = read(body.as_bytes()).unwrap_err();
            assert_eq!(fault.kind, FaultKind::Credentials);
            assert!(!fault.to_string().contains("canary"), "{fault}");
        }
    }

    #[test]
    fn a_server_in_trouble_is_a_passing_fault_and_a_refusal_is_not() {
        let kind = |status| body(&Response::builder().status(status).body(Bytes::new()).unwrap()).unwrap_err().kind;
        assert_eq!([kind(503), kind(429)], [FaultKind::Server; 2]);
        assert_eq!([kind(404), kind(403), kind(302)], [FaultKind::Credentials; 3]);
    }

    #[test]
    fn what_is_nested_without_end_is_refused() {
        let deep = format!("{{\"x\":{}{}}}", "[".repeat(30_000), "]".repeat(30_000));
        assert!(deep.len() < BYTES_MAX && read(deep.as_bytes()).is_err());
    }
}
