//! The headers that an object keeps from its creation, and the header arguments that several operations take.

use crate::server::errors::{Code, Failure};
use crate::server::request::Request;
use crate::server::store::{Acl, Headers};

use super::{Answer, Context};
use crate::model::object::Bucket;

const CLASS: &str = "x-oss-storage-class";
const ENCRYPTION: &str = "x-oss-server-side-encryption";
const ENCRYPTION_KEY: &str = "x-oss-server-side-encryption-key-id";
/// What encrypts where KMS is asked for without a key: the service has such a key for every account.
const DEFAULT_KEY: &str = "6861756c-0000-4000-8000-000000000000";
/// Kept and echoed, beside every `x-oss-meta-*`.
const KEPT: &[&str] = &[
    "content-type",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "expires",
    "x-oss-storage-class",
    "x-oss-server-side-encryption",
    "x-oss-server-side-data-encryption",
    "x-oss-server-side-encryption-key-id",
    "x-oss-tagging",
    "x-oss-object-acl",
];
/// What these headers may say, in any case (section 8): clients write directives in capitals.
const CHOICES: &[(&str, &[&str])] = &[
    ("x-oss-storage-class", CLASSES),
    ("StorageClass", CLASSES),
    ("DataRedundancyType", &["LRS", "ZRS"]),
    ("x-oss-server-side-encryption", &["AES256", "KMS", "SM4"]),
    ("x-oss-server-side-data-encryption", &["SM4"]),
    ("x-oss-object-acl", &["default", "private", "public-read", "public-read-write"]),
    ("x-oss-acl", &["private", "public-read", "public-read-write"]),
    ("x-oss-metadata-directive", &["COPY", "REPLACE"]),
    ("x-oss-tagging-directive", &["Copy", "Replace"]),
];
const CLASSES: &[&str] = &["Standard", "IA", "Archive", "ColdArchive", "DeepColdArchive"];
/// Most bytes of user metadata, names included (section 4.0).
const METADATA_MAX: usize = 8 << 10;
const TAGS_MAX: usize = 10;

/// What the object will be given back with. Without a storage class of its own it has that of its bucket.
///
/// # Errors
/// `NoSuchBucket`, `InvalidArgument` for values that a header cannot have.
pub(super) fn kept_headers(context: Context<'_>, bucket: &Bucket) -> Result<Headers, Failure> {
    let mut kept = sent_headers(context.request)?;
    let class = context.catalog.bucket(bucket)?.storage_class.filter(|_| find(&kept, CLASS).is_none());
    kept.extend(class.map(|class| (CLASS.to_owned(), class)));
    if find(&kept, ENCRYPTION) == Some("KMS") && find(&kept, ENCRYPTION_KEY).is_none() {
        kept.push((ENCRYPTION_KEY.to_owned(), DEFAULT_KEY.to_owned()));
    }
    Ok(kept)
}

fn find<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
}

fn sent_headers(request: &Request) -> Result<Headers, Failure> {
    let mut kept = Headers::new();
    let mut metadata = 0;
    for name in request.headers.keys().map(|name| name.as_str()) {
        let is_metadata = name.starts_with("x-oss-meta-");
        if !is_metadata && !KEPT.contains(&name) {
            continue;
        }
        let value = request.headers.get(name).and_then(|value| std::str::from_utf8(value.as_bytes()).ok());
        let value = value.ok_or_else(|| Failure::argument(name, "", "The value of the header is not UTF-8."))?;
        let value = chosen(name, value)?;
        metadata += if is_metadata { name.len() + value.len() } else { 0 };
        kept.push((name.to_owned(), value.to_owned()));
    }
    if metadata > METADATA_MAX {
        let message = format!("User metadata may have {METADATA_MAX} bytes in total.");
        return Err(Failure::argument("x-oss-meta", &metadata.to_string(), message));
    }
    if let Some(tags) = request.header("x-oss-tagging") {
        check_tags(&parse_tags(tags)?)?;
    }
    Ok(kept)
}

/// Replaces a kept header, or adds it; `None` removes it.
pub(super) fn set(headers: &mut Headers, name: &str, value: Option<String>) {
    headers.retain(|(n, _)| n != name);
    headers.extend(value.map(|value| (name.to_owned(), value)));
}

/// One of a header's few values, as the specification spells it; `None` if it is not sent.
pub(super) fn choice<'a>(request: &'a Request, name: &str) -> Result<Option<&'a str>, Failure> {
    request.header(name).map(|value| chosen(name, value)).transpose()
}

/// The value of a header, or of the element of a document that means the same, as the specification spells it.
///
/// # Errors
/// `InvalidArgument` for a value that it cannot have.
pub(super) fn chosen<'a>(name: &str, value: &'a str) -> Result<&'a str, Failure> {
    let Some((_, values)) = CHOICES.iter().find(|(n, _)| *n == name) else { return Ok(value) };
    let known = values.iter().find(|known| known.eq_ignore_ascii_case(value)).copied();
    known.ok_or_else(|| Failure::argument(name, value, format!("{name} is one of {}.", values.join(", "))))
}

/// Percent-decodes what clients encode as they encode a query: `+` is a blank, and `%2B` is a plus.
pub(super) fn decoded(text: &str) -> Option<String> {
    percent_encoding::percent_decode_str(&text.replace('+', " ")).decode_utf8().ok().map(String::from)
}

/// `x-oss-acl` of a bucket; `None` if it is not sent.
pub(super) fn bucket_acl(request: &Request) -> Result<Option<Acl>, Failure> {
    Ok(choice(request, "x-oss-acl")?.and_then(Acl::parse))
}

/// `x-oss-forbid-overwrite`.
pub(super) fn forbids_overwrite(request: &Request) -> Result<bool, Failure> {
    match request.header("x-oss-forbid-overwrite") {
        None => Ok(false),
        Some(value) if value.eq_ignore_ascii_case("true") => Ok(true),
        Some(value) if value.eq_ignore_ascii_case("false") => Ok(false),
        Some(value) => {
            Err(Failure::argument("x-oss-forbid-overwrite", value, "It is true or false.").ec("0017-00000279"))
        }
    }
}

/// Tells how the object is encrypted, as the answers to all that writes do.
pub(super) fn echo_encryption(answer: &mut Answer, headers: &Headers) {
    let encryption = headers.iter().filter(|(name, _)| name.starts_with("x-oss-server-side-"));
    encryption.for_each(|(name, value)| answer.set(name, value));
}

/// Tags as the header writes them, `k1=v1&k2=v2`, decoded.
pub(super) fn parse_tags(text: &str) -> Result<Vec<(String, String)>, Failure> {
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        Some((decoded(key)?, decoded(value)?))
    };
    let pairs: Option<_> = text.split('&').filter(|pair| !pair.is_empty()).map(pair).collect();
    pairs.ok_or_else(|| Failure::argument("x-oss-tagging", text, "The tags are not percent-encoded UTF-8."))
}

/// At most ten tags, keys of 1 to 128 and values of up to 256 bytes, each key once (section 8): letters, digits, blanks
/// and `+-=._:/`.
pub(super) fn check_tags(tags: &[(String, String)]) -> Result<(), Failure> {
    let known = |text: &str| text.chars().all(|c| c.is_alphanumeric() || " +-=._:/".contains(c));
    let good = |(key, value): &(String, String)| {
        (1..=128).contains(&key.len()) && value.len() <= 256 && known(key) && known(value)
    };
    let twice = |at: usize| tags[..at].iter().any(|(key, _)| *key == tags[at].0);
    if tags.len() > TAGS_MAX || !tags.iter().all(good) || (0..tags.len()).any(twice) {
        let message = format!(
            "At most {TAGS_MAX} tags, keys of 1 to 128 and values of up to 256 bytes, each key once, of letters, \
             digits, blanks and +-=._:/."
        );
        return Err(Failure::new(Code::InvalidArgument, message).with("ArgumentName", "x-oss-tagging"));
    }
    Ok(())
}
