//! Who sent a request: verification of both signatures with code of its own.
//!
//! Nothing here is shared with the client: a store that signs with the client's code agrees with the client's
//! mistakes. A form of signature ([`Form`]) yields a [`Claim`]; keys, clock and comparison are the same for all.
//!
//! # Source
//! Specification, sections 2.7, 3.5, 3.6 and 5.1.

mod v1;
mod v4;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use hmac::{Hmac, KeyInit, Mac};
use zeroize::Zeroizing;

use super::AccessKey;
use super::access::http_date;
use super::errors::{Code, Failure};
use super::request::Request;

/// How far the date of a request may be from ours.
const SKEW_MAX: Duration = Duration::from_secs(15 * 60);

/// What a signature claims, before it is believed.
struct Claim {
    access_key_id: String,
    validity: Validity,
    security_token: Option<String>,
    /// As text: base64 or hex.
    signature: String,
    /// The texts that may have been signed; the first is the one shown on a mismatch.
    strings_to_sign: Vec<String>,
    /// Version 4 only.
    canonical_request: Option<String>,
    form: Form,
}

/// When a signature holds.
enum Validity {
    /// Within [`SKEW_MAX`] of this date: signed in the headers.
    Around(SystemTime),
    /// Signed in the URL; from [`SKEW_MAX`] before `from`, if it says so.
    Until { from: Option<SystemTime>, end: SystemTime },
}

/// Who sent a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caller {
    /// The owner of everything here.
    Owner,
    Anonymous,
}

/// How the signature is computed from the text.
enum Form {
    V1,
    V4 { scope: v4::Scope },
}

impl Form {
    /// Computes whether `signature` is that of `text`, without leaking by its timing where they differ.
    fn agrees(&self, secret: &str, text: &str, signature: &str) -> bool {
        match self {
            Self::V1 => v1::agrees(secret, text, signature),
            Self::V4 { scope } => v4::agrees(secret, scope, text, signature),
        }
    }
}

/// Knows the keys and the region, and judges requests.
pub(crate) struct Verifier {
    keys: HashMap<String, Secret>,
    region: String,
}

struct Secret {
    secret: Zeroizing<String>,
    security_token: Option<Zeroizing<String>>,
    expires: Option<SystemTime>,
}

impl Verifier {
    pub fn new(keys: Vec<AccessKey>, region: String) -> Self {
        let secret = |key: AccessKey| {
            (key.id, Secret { secret: key.secret, security_token: key.security_token, expires: key.token_expires })
        };
        Self { keys: keys.into_iter().map(secret).collect(), region }
    }

    /// Believes the request or says why not. A request without any signature is believed to be anonymous.
    ///
    /// # Errors
    /// `InvalidArgument` for malformed signatures, `AccessDenied` without a date, then `InvalidAccessKeyId`, the codes
    /// of security tokens, of the clock and `SignatureDoesNotMatch`, in this order.
    pub fn verify(&self, request: &Request, now: SystemTime) -> Result<Caller, Failure> {
        let Some(claim) = self.claim(request)? else { return Ok(Caller::Anonymous) };
        let key = self.keys.get(&claim.access_key_id).ok_or_else(|| unknown_key(&claim.access_key_id))?;
        self.check_token(key, &claim, now)?;
        claim.validity.check(now)?;
        let agrees = |text: &String| claim.form.agrees(&key.secret, text, &claim.signature);
        if claim.strings_to_sign.iter().any(agrees) { Ok(Caller::Owner) } else { Err(mismatch(claim)) }
    }

    /// Finds the one signature that is on the request.
    fn claim(&self, request: &Request) -> Result<Option<Claim>, Failure> {
        let has = |name: &str| request.query(name).is_some();
        let (v4_url, v1_url) = (has("x-oss-signature-version") || has("x-oss-signature"), has("Signature"));
        let header = request.headers.get(http::header::AUTHORIZATION);
        match header.map(|value| value.to_str().unwrap_or("")) {
            Some(_) if v4_url || v1_url => {
                Err(Failure::new(Code::InvalidArgument, "The request is signed both in its headers and in its URL."))
            }
            Some(value) => match (value.strip_prefix("OSS4-HMAC-SHA256 "), value.strip_prefix("OSS ")) {
                (Some(rest), _) => v4::claim(request, rest, &self.region).map(Some),
                (_, Some(rest)) => v1::claim(request, rest).map(Some),
                _ => Err(malformed("Authorization starts with neither OSS4-HMAC-SHA256 nor OSS.")),
            },
            None if v4_url => v4::claim_in_url(request, &self.region).map(Some),
            None if v1_url => v1::claim_in_url(request).map(Some),
            None => Ok(None),
        }
    }

    /// A temporary key comes with its token, every other without one.
    fn check_token(&self, key: &Secret, claim: &Claim, now: SystemTime) -> Result<(), Failure> {
        match (&key.security_token, &claim.security_token) {
            (None, None) => Ok(()),
            (Some(_), None) => Err(unknown_key(&claim.access_key_id)),
            (Some(token), Some(sent)) if token.as_str() == sent => match key.expires {
                Some(end) if now >= end => {
                    Err(Failure::new(Code::SecurityTokenExpired, "The security token has expired: get a new one."))
                }
                _ => Ok(()),
            },
            (_, Some(sent)) => {
                let of_another = |key: &Secret| key.security_token.as_ref().is_some_and(|token| token.as_str() == sent);
                let (code, message) = match self.keys.values().any(of_another) {
                    true => (Code::AccessKeyIdAndSecurityTokenNotMatch, "The security token is that of another key."),
                    false => (Code::InvalidSecurityToken, "The security token is not known here."),
                };
                Err(Failure::new(code, message))
            }
        }
    }
}

/// The token of a request, from its headers or from where its URL has it. One official client (Python v2, version 1)
/// sends it as `security-token`.
fn token_of(request: &Request, in_url: Option<&str>) -> Result<Option<String>, Failure> {
    match (request.header("x-oss-security-token").or_else(|| request.header("security-token")), in_url) {
        (Some(_), Some(_)) => {
            let message = "The security token is both in the headers and in the URL.";
            Err(Failure::new(Code::InvalidArgument, message).ec("0002-00000010"))
        }
        (header, url) => Ok(header.or(url).map(str::to_owned)),
    }
}

fn unknown_key(id: &str) -> Failure {
    Failure::new(Code::InvalidAccessKeyId, "The OSS Access Key Id you provided does not exist in our records.")
        .with("OSSAccessKeyId", id)
}

impl Validity {
    fn check(&self, now: SystemTime) -> Result<(), Failure> {
        match self {
            Self::Around(date) => check_clock(*date, now),
            Self::Until { from: Some(from), .. } if *from > now + SKEW_MAX => {
                Err(Failure::new(Code::AccessDenied, "The signed URL is not valid yet."))
            }
            Self::Until { end, .. } if now > *end => Err(Failure::new(Code::AccessDenied, "Request has expired.")
                .with("Expires", http_date(*end))
                .with("ServerTime", http_date(now))),
            Self::Until { .. } => Ok(()),
        }
    }
}

fn check_clock(date: SystemTime, now: SystemTime) -> Result<(), Failure> {
    let apart = now.duration_since(date).or_else(|_| date.duration_since(now)).unwrap_or(Duration::MAX);
    if apart <= SKEW_MAX {
        return Ok(());
    }
    let message = "The date of the request differs from the time of the server by more than 15 minutes.";
    Err(Failure::new(Code::RequestTimeTooSkewed, message)
        .with("RequestTime", http_date(date))
        .with("ServerTime", http_date(now)))
}

/// The single most useful debugging aid: both sides can compare what was signed.
fn mismatch(claim: Claim) -> Failure {
    let text = claim.strings_to_sign.into_iter().next().unwrap_or_default();
    let message = "The request signature we calculated does not match the signature you provided. Check your key and \
                   signing method.";
    let failure = Failure::new(Code::SignatureDoesNotMatch, message)
        .with("OSSAccessKeyId", claim.access_key_id)
        .with("SignatureProvided", claim.signature)
        .with("StringToSignBytes", spaced_hex(text.as_bytes()))
        .with("StringToSign", text);
    match claim.canonical_request {
        Some(canonical) => failure.with("CanonicalRequest", canonical),
        None => failure,
    }
}

fn spaced_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 3), |mut text, byte| {
        let _ = write!(text, "{byte:02X} ");
        text
    })
}

fn malformed(message: &str) -> Failure {
    Failure::new(Code::InvalidArgument, format!("The Authorization header is malformed: {message}"))
}

fn bad_date() -> Failure {
    Failure::new(Code::AccessDenied, "The request needs a valid x-oss-date or Date header.")
}

/// The `x-oss-*` headers and those `also` named, as both versions write them: `name:value\n`, sorted by name.
fn canonical_headers(request: &Request, also: impl Fn(&str) -> bool) -> String {
    let mut names: Vec<&str> = request.headers.keys().map(|name| name.as_str()).collect();
    names.retain(|name| name.starts_with("x-oss-") || also(name));
    names.sort_unstable();
    names.iter().map(|name| format!("{name}:{}\n", header_text(request, name))).collect()
}

/// A header's values, trimmed and joined with commas.
fn header_text(request: &Request, name: &str) -> String {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).trim().to_owned();
    request.headers.get_all(name).iter().map(text).collect::<Vec<_>>().join(",")
}

/// HMAC of `text`; any key length is a key.
fn hmac<M: Mac + KeyInit>(key: &[u8], text: &[u8]) -> M {
    let mut mac = <M as KeyInit>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text);
    mac
}

type Sha1 = Hmac<sha1::Sha1>;
type Sha256 = Hmac<sha2::Sha256>;

#[cfg(test)]
mod tests;
