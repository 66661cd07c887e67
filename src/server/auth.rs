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

pub(crate) use v1::is_subresource;

use super::AccessKey;
use super::errors::{Code, Failure};
use super::request::Request;

/// How far the date of a request may be from ours.
const SKEW_MAX: Duration = Duration::from_secs(15 * 60);

/// What a signature claims, before it is believed.
struct Claim {
    access_key_id: String,
    /// When the client says it signed.
    date: SystemTime,
    /// As text: base64 or hex.
    signature: String,
    /// The texts that may have been signed; the first is the one shown on a mismatch.
    strings_to_sign: Vec<String>,
    /// Version 4 only.
    canonical_request: Option<String>,
    form: Form,
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
}

impl Verifier {
    pub fn new(keys: Vec<AccessKey>, region: String) -> Self {
        let secret = |key: AccessKey| (key.id, Secret { secret: key.secret, security_token: key.security_token });
        Self { keys: keys.into_iter().map(secret).collect(), region }
    }

    /// Believes the request or says why not.
    ///
    /// # Errors
    /// `AccessDenied` without signature or date, `InvalidArgument` for malformed ones, then `InvalidAccessKeyId`,
    /// `InvalidSecurityToken`, `RequestTimeTooSkewed` and `SignatureDoesNotMatch`, in this order.
    pub fn verify(&self, request: &Request, now: SystemTime) -> Result<(), Failure> {
        let claim = self.claim(request)?;
        let key = self.keys.get(&claim.access_key_id).ok_or_else(|| {
            Failure::new(Code::InvalidAccessKeyId, "The access key id is not known here.")
                .with("OSSAccessKeyId", &claim.access_key_id)
        })?;
        key.check_token(request.header("x-oss-security-token"))?;
        check_clock(claim.date, now)?;
        let agrees = |text: &String| claim.form.agrees(&key.secret, text, &claim.signature);
        if claim.strings_to_sign.iter().any(agrees) { Ok(()) } else { Err(mismatch(claim)) }
    }

    /// Finds the one signature that is on the request.
    fn claim(&self, request: &Request) -> Result<Claim, Failure> {
        let in_url =
            ["x-oss-signature-version", "x-oss-signature", "Signature"].iter().any(|n| request.query(n).is_some());
        let header = request.headers.get(http::header::AUTHORIZATION);
        match header.map(|value| value.to_str().unwrap_or("")) {
            Some(_) if in_url => {
                Err(Failure::new(Code::InvalidArgument, "The request is signed both in its headers and in its URL."))
            }
            Some(value) => match (value.strip_prefix("OSS4-HMAC-SHA256 "), value.strip_prefix("OSS ")) {
                (Some(rest), _) => v4::claim(request, rest, &self.region),
                (_, Some(rest)) => v1::claim(request, rest),
                _ => Err(malformed("Authorization starts with neither OSS4-HMAC-SHA256 nor OSS.")),
            },
            None if in_url => Err(Failure::not_implemented("signed URLs")),
            None => Err(Failure::new(Code::AccessDenied, "Anonymous access is forbidden: sign the request.")),
        }
    }
}

impl Secret {
    fn check_token(&self, sent: Option<&str>) -> Result<(), Failure> {
        let same = match (&self.security_token, sent) {
            (None, None) => true,
            (Some(token), Some(sent)) => token.as_str() == sent,
            _ => false,
        };
        let refused = || Failure::new(Code::InvalidSecurityToken, "The security token does not belong to this key.");
        if same { Ok(()) } else { Err(refused()) }
    }
}

fn check_clock(date: SystemTime, now: SystemTime) -> Result<(), Failure> {
    let apart = now.duration_since(date).or_else(|_| date.duration_since(now)).unwrap_or(Duration::MAX);
    if apart <= SKEW_MAX {
        return Ok(());
    }
    let message = "The date of the request differs from the time of the server by more than 15 minutes.";
    Err(Failure::new(Code::RequestTimeTooSkewed, message)
        .with("RequestTime", httpdate::fmt_http_date(date))
        .with("ServerTime", httpdate::fmt_http_date(now)))
}

/// The single most useful debugging aid: both sides can compare what was signed.
fn mismatch(claim: Claim) -> Failure {
    let text = claim.strings_to_sign.into_iter().next().unwrap_or_default();
    let message = "The signature is not the one computed here: compare StringToSign with yours, then the secret.";
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
