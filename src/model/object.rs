//! Names: buckets, keys, upload ids, ETags, and the fingerprint that tells one state of a file from another.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a name was refused. Nothing was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Choose a bucket name the service accepts.
    #[error("bucket name {0:?} is not valid: 3 to 63 of a-z, 0-9 and '-', not starting or ending with '-'")]
    Bucket(String),
    /// Choose a key the service accepts.
    #[error("key {0:?} is not valid: 1 to 1023 bytes of UTF-8, not starting with '/' or '\\'")]
    Key(String),
    /// Write the address as `oss://BUCKET/KEY`.
    #[error("{0:?} is not an object address: write oss://BUCKET/KEY")]
    Url(String),
}

/// A bucket name: 3 to 63 characters of `a-z 0-9 -`, not starting or ending with `-`.
///
/// # Source
/// Specification, section 1.3; list of good and bad names in `tests/vectors/misc.json`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Bucket(String);

impl Bucket {
    /// Checks `name`.
    ///
    /// # Errors
    /// [`NameError::Bucket`] if the service would refuse it.
    pub fn new(name: impl Into<String>) -> Result<Self, NameError> {
        let name = name.into();
        let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let fits = (3..=63).contains(&name.len()) && name.bytes().all(legal);
        if !fits || name.starts_with('-') || name.ends_with('-') {
            return Err(NameError::Bucket(name));
        }
        Ok(Self(name))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An object name: 1 to 1023 bytes of UTF-8 that do not start with `/` or `\`. Nothing in it is ever normalised.
///
/// # Source
/// Specification, section 1.4.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key(String);

impl Key {
    /// Checks `name`.
    ///
    /// # Errors
    /// [`NameError::Key`] if the service would refuse to store under it.
    pub fn new(name: impl Into<String>) -> Result<Self, NameError> {
        let name = name.into();
        if name.is_empty() || name.len() > 1023 || name.starts_with(['/', '\\']) {
            return Err(NameError::Key(name));
        }
        Ok(Self(name))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! text_name {
    ($name:ident, $new:path) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(name: String) -> Result<Self, NameError> {
                $new(name)
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
    };
}
text_name!(Bucket, Bucket::new);
text_name!(Key, Key::new);

/// `oss://BUCKET/KEY` as a user writes it. The key may be empty (a bucket) or end in `/` (a prefix).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectUrl {
    pub bucket: Bucket,
    /// Everything behind the slash after the bucket, verbatim; not percent-decoded.
    pub key: String,
}

impl ObjectUrl {
    /// The key to store `file_name` under: the key itself, or the key with the name appended if it is
    /// empty or ends in `/`.
    ///
    /// # Errors
    /// [`NameError::Key`] if the result is not a valid key.
    pub fn key_for(&self, file_name: &str) -> Result<Key, NameError> {
        if self.key.is_empty() || self.key.ends_with('/') {
            Key::new(format!("{}{file_name}", self.key))
        } else {
            Key::new(self.key.clone())
        }
    }
}

impl FromStr for ObjectUrl {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let rest = text.strip_prefix("oss://").ok_or_else(|| NameError::Url(text.to_owned()))?;
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        Ok(Self { bucket: Bucket::new(bucket)?, key: key.to_owned() })
    }
}

impl fmt::Display for ObjectUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "oss://{}/{}", self.bucket, self.key)
    }
}

/// Longest name that a store gives and that is believed, in bytes: upload ids and tags have 32 to 40 in practice. They
/// become part of requests, are kept for good, and are shown.
pub const GIVEN_BYTES_MAX: usize = 1 << 10;

/// Whether a text of a store may be one of its names: there, short, and without control characters.
fn is_credible(text: &str) -> bool {
    (1..=GIVEN_BYTES_MAX).contains(&text.len()) && !text.contains(char::is_control)
}

/// The store's name of one multipart upload. Opaque.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UploadId(pub String);

impl UploadId {
    /// Whether a store may have given it: 1 to [`GIVEN_BYTES_MAX`] bytes without control characters.
    pub fn is_credible(&self) -> bool {
        is_credible(&self.0)
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An entity tag without its quotes. Two tags are equal whatever their case (specification, section 4.2).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ETag(String);

impl ETag {
    /// Takes the tag as it came, quoted or not. What was taken once is taken to the same again.
    pub fn new(text: &str) -> Self {
        Self(text.trim_matches(|c: char| c.is_whitespace() || c == '"').to_owned())
    }

    /// Whether a store may have given it: 1 to [`GIVEN_BYTES_MAX`] bytes without control characters.
    pub fn is_credible(&self) -> bool {
        is_credible(&self.0)
    }

    /// The tag without quotes, in the case the store sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl PartialEq for ETag {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}
impl Eq for ETag {}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What identifies one state of one file: equal fingerprints mean that the content has not been touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    pub device: u64,
    pub inode: u64,
    /// Length of the file in bytes.
    pub bytes: u64,
    /// Time of the last change of the content, in nanoseconds since the epoch.
    pub mtime_ns: i128,
    /// Time of the last change of content or metadata, in nanoseconds since the epoch.
    pub ctime_ns: i128,
}

/// What a request says about the object that it makes: a digest of each value, by the name of its header. Equal digests
/// mean equal values; no value can be read from them.
pub type Description = BTreeMap<String, u64>;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_tag_is_what_is_within_its_quotes_however_often_it_is_taken() {
        for text in ["A-2", "\"A-2\"", " \"A-2\" ", "\"\r\"A-2\" \""] {
            let once = ETag::new(text);
            assert_eq!((once.as_str(), ETag::new(once.as_str()).as_str()), ("A-2", "A-2"), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn every_address_that_is_read_is_written_the_same(text in "oss://[a-z0-9-]{1,8}(/.{0,20})?", any in ".{0,40}") {
            let _ = any.parse::<ObjectUrl>();
            if let Ok(url) = text.parse::<ObjectUrl>() {
                let written = url.to_string();
                prop_assert_eq!(written.trim_end_matches('/'), text.trim_end_matches('/'));
                prop_assert_eq!(written.parse::<ObjectUrl>().unwrap(), url);
            }
        }
    }

    #[test]
    fn a_key_that_is_a_prefix_gets_the_name_of_the_file() {
        let name = |url: &str| url.parse::<ObjectUrl>().unwrap().key_for("f.bin").unwrap().to_string();
        assert_eq!(name("oss://demo"), "f.bin");
        assert_eq!(name("oss://demo/"), "f.bin");
        assert_eq!(name("oss://demo/dir/"), "dir/f.bin");
        assert_eq!(name("oss://demo/dir/x"), "dir/x");
        assert_eq!(name("oss://demo/a//b/../%41"), "a//b/../%41");
    }

    #[test]
    fn addresses_that_are_not_object_addresses_are_refused() {
        for bad in ["", "demo/key", "s3://demo/key", "oss://", "oss:///key", "oss://UP/key", "oss://a/k"] {
            assert!(bad.parse::<ObjectUrl>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn etags_are_compared_without_quotes_and_case() {
        assert_eq!(ETag::new("\"ABC\""), ETag::new("abc"));
        assert_ne!(ETag::new("abc"), ETag::new("abd"));
    }
}
