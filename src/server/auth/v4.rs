//! Signature version 4: HMAC-SHA256 of a canonical request under a key for day, region and product.
//!
//! # Source
//! Specification, section 3.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hmac::Mac;
use percent_encoding::utf8_percent_encode;
use sha2::Digest;

use super::{Claim, Form, Sha256, Validity, bad_date, canonical_headers, hmac, malformed, token_of};
use crate::server::errors::Failure;
use crate::server::request::Request;
use crate::server::xml::{ENCODED, ENCODED_PATH};

const PAYLOAD: &str = "UNSIGNED-PAYLOAD";
const TERMINATOR: &str = "aliyun_v4_request";
const PRODUCT: &str = "oss";
/// Longest time a URL may be valid, in seconds: seven days (section 3.4).
const EXPIRES_MAX: u64 = 604_800;

/// `YYYYMMDD/region/product/aliyun_v4_request`, as the client wrote it and already checked.
pub(super) struct Scope {
    day: String,
    region: String,
}

impl Scope {
    fn text(&self) -> String {
        format!("{}/{}/{PRODUCT}/{TERMINATOR}", self.day, self.region)
    }
}

/// The three items of the header; `rest` is what follows the algorithm.
struct Items<'a> {
    credential: &'a str,
    additional: Vec<&'a str>,
    signature: &'a str,
}

/// Reads the header form.
pub(super) fn claim(request: &Request, rest: &str, region: &str) -> Result<Claim, Failure> {
    let items = parse_items(rest)?;
    let (access_key_id, scope) = parse_credential(items.credential, region)?;
    match request.header("x-oss-content-sha256") {
        Some(PAYLOAD) => {}
        sent => {
            let message = format!("The payload is not signed: send {PAYLOAD}.");
            let failure = Failure::argument("x-oss-content-sha256", sent.unwrap_or(""), message);
            return Err(failure.ec("0002-00000214"));
        }
    }
    let timestamp = request.header("x-oss-date").or_else(|| request.header("date")).ok_or_else(bad_date)?.trim();
    let date = dated(timestamp, &scope, items.credential)?;
    let token = token_of(request, request.query("x-oss-security-token"))?;
    Ok(claimed(request, items, scope, timestamp, access_key_id, Validity::Around(date), token))
}

/// Reads the URL form.
pub(super) fn claim_in_url(request: &Request, region: &str) -> Result<Claim, Failure> {
    let given = |name: &'static str| {
        let text = request.query(name).filter(|text| !text.is_empty());
        text.ok_or_else(|| Failure::argument(name, "", format!("{name} is missing in the signed URL.")))
    };
    if given("x-oss-signature-version")? != "OSS4-HMAC-SHA256" {
        return Err(Failure::argument("x-oss-signature-version", "", "The only version is OSS4-HMAC-SHA256."));
    }
    let items = Items {
        credential: given("x-oss-credential")?,
        additional: request
            .query("x-oss-additional-headers")
            .map(|names| names.split(';').collect())
            .unwrap_or_default(),
        signature: given("x-oss-signature")?,
    };
    let (access_key_id, scope) = parse_credential(items.credential, region)?;
    let (timestamp, expires) = (given("x-oss-date")?, given("x-oss-expires")?);
    let from = dated(timestamp, &scope, items.credential)?;
    let lasts = expires.parse().ok().filter(|seconds| (1..=EXPIRES_MAX).contains(seconds));
    let lasts = lasts.ok_or_else(|| {
        Failure::argument("x-oss-expires", expires, format!("It is a number of seconds from 1 to {EXPIRES_MAX}."))
    })?;
    let validity = Validity::Until { from: Some(from), end: from + Duration::from_secs(lasts) };
    let token = token_of(request, request.query("x-oss-security-token"))?;
    Ok(claimed(request, items, scope, timestamp, access_key_id, validity, token))
}

/// The date of a timestamp, which must be of the day of the scope.
fn dated(timestamp: &str, scope: &Scope, credential: &str) -> Result<SystemTime, Failure> {
    let date = parse_date(timestamp).ok_or_else(bad_date)?;
    match day_of(date).as_deref() == Some(&scope.day) {
        true => Ok(date),
        false => Err(Failure::argument("Credential", credential, "The day of the scope is not that of the date.")),
    }
}

fn claimed(
    request: &Request,
    items: Items<'_>,
    scope: Scope,
    timestamp: &str,
    access_key_id: String,
    validity: Validity,
    security_token: Option<String>,
) -> Claim {
    let canonical = canonical_request(request, &items.additional);
    let hash = hex(&sha2::Sha256::digest(canonical.as_bytes()));
    Claim {
        access_key_id,
        validity,
        security_token,
        signature: items.signature.to_owned(),
        strings_to_sign: vec![format!("OSS4-HMAC-SHA256\n{timestamp}\n{}\n{hash}", scope.text())],
        canonical_request: Some(canonical),
        form: Form::V4 { scope },
    }
}

pub(super) fn agrees(secret: &str, scope: &Scope, text: &str, signature: &str) -> bool {
    let Some(signature) = unhex(signature) else { return false };
    let mut key = zeroize::Zeroizing::new(format!("aliyun_v4{secret}").into_bytes());
    for step in [scope.day.as_str(), &scope.region, PRODUCT, TERMINATOR] {
        *key = hmac::<Sha256>(&key, step.as_bytes()).finalize().into_bytes().to_vec();
    }
    hmac::<Sha256>(&key, text.as_bytes()).verify_slice(&signature).is_ok()
}

/// Items in any order, with or without spaces after the commas.
fn parse_items(rest: &str) -> Result<Items<'_>, Failure> {
    let (mut credential, mut additional, mut signature) = (None, None, None);
    for item in rest.split(',') {
        let (name, value) = item.trim().split_once('=').ok_or_else(|| malformed("an item has no '='."))?;
        let place = match name {
            "Credential" => &mut credential,
            "AdditionalHeaders" => &mut additional,
            "Signature" => &mut signature,
            _ => return Err(malformed("it has an item that is not known.")),
        };
        if value.is_empty() || place.replace(value).is_some() {
            let failure = malformed("an item is empty or repeated.");
            return Err(if name == "AdditionalHeaders" { failure.ec("0002-00000209") } else { failure });
        }
    }
    let additional: Vec<&str> = additional.map(|names| names.split(';').collect()).unwrap_or_default();
    if additional.contains(&"") {
        return Err(malformed("AdditionalHeaders names an empty header.").ec("0002-00000210"));
    }
    match (credential, signature) {
        (Some(credential), Some(signature)) => Ok(Items { credential, additional, signature }),
        _ => Err(malformed("Credential or Signature is missing.")),
    }
}

/// `ID/day/region/product/terminator`; the scope must be the server's own.
fn parse_credential(text: &str, region: &str) -> Result<(String, Scope), Failure> {
    let fields: Vec<&str> = text.rsplitn(5, '/').collect();
    let [terminator, product, sent_region, day, id] = fields[..] else {
        return Err(malformed("Credential is not ID/DAY/REGION/oss/aliyun_v4_request."));
    };
    if id.is_empty() || terminator != TERMINATOR || product != PRODUCT {
        return Err(malformed("Credential is not ID/DAY/REGION/oss/aliyun_v4_request."));
    }
    if sent_region != region {
        return Err(Failure::argument("Credential", text, format!("The region of this server is {region}.")));
    }
    Ok((id.to_owned(), Scope { day: day.to_owned(), region: sent_region.to_owned() }))
}

fn canonical_request(request: &Request, additional: &[&str]) -> String {
    let signed_anyway = |name: &str| name == "content-type" || name == "content-md5";
    let mut names: Vec<String> = additional.iter().map(|name| name.to_ascii_lowercase()).collect();
    names.retain(|name| !name.starts_with("x-oss-") && !signed_anyway(name) && request.headers.contains_key(name));
    names.sort_unstable();
    names.dedup();
    let headers = canonical_headers(request, |name| signed_anyway(name) || names.iter().any(|n| n == name));
    let (uri, query) = (canonical_uri(request), canonical_query(request));
    format!("{}\n{uri}\n{query}\n{headers}\n{}\n{PAYLOAD}", request.method, names.join(";"))
}

fn canonical_uri(request: &Request) -> String {
    let Some(bucket) = &request.bucket else { return "/".to_owned() };
    let key = request.key.as_deref().unwrap_or("");
    format!("/{bucket}/{}", utf8_percent_encode(key, ENCODED_PATH))
}

fn canonical_query(request: &Request) -> String {
    let encode = |text: &String| utf8_percent_encode(text, ENCODED).to_string();
    let signed = request.query.iter().filter(|(name, _)| name != "x-oss-signature");
    let mut pairs: Vec<(String, String)> = signed.map(|(n, v)| (encode(n), encode(v))).collect();
    pairs.sort();
    let write = |(name, value): (String, String)| if value.is_empty() { name } else { format!("{name}={value}") };
    pairs.into_iter().map(write).collect::<Vec<_>>().join("&")
}

/// `YYYYMMDDTHHMMSSZ`, or the GMT form that some clients send.
fn parse_date(text: &str) -> Option<SystemTime> {
    parse_basic(text).or_else(|| httpdate::parse_http_date(text).ok())
}

fn parse_basic(text: &str) -> Option<SystemTime> {
    let shape = text.len() == 16 && text.is_ascii() && text.as_bytes()[8] == b'T' && text.ends_with('Z');
    let digits = text.bytes().enumerate().all(|(at, byte)| at == 8 || at == 15 || byte.is_ascii_digit());
    if !shape || !digits {
        return None;
    }
    let number = |range: std::ops::Range<usize>| text[range].parse::<i8>().ok();
    let date = jiff::civil::DateTime::new(
        text[..4].parse().ok()?,
        number(4..6)?,
        number(6..8)?,
        number(9..11)?,
        number(11..13)?,
        number(13..15)?,
        0,
    );
    let seconds = jiff::tz::TimeZone::UTC.to_timestamp(date.ok()?).ok()?.as_second();
    UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(seconds).ok()?))
}

/// The day in UTC as the scope writes it.
fn day_of(date: SystemTime) -> Option<String> {
    Some(jiff::Timestamp::try_from(date).ok()?.strftime("%Y%m%d").to_string())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}
