//! The names of a store's files; see [`super`].

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest, Sha256};

use crate::model::object::{Bucket, UploadId};
use crate::server::store::{Address, Numbered};

/// Every byte but these is encoded; a leading dot too, see [`file_name`].
const NAME: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'~').remove(b'.');
/// Longest encoded key used as it is: leaves room for a stamp below the 255 bytes of a file name.
pub(super) const NAME_MAX: usize = 180;

pub(super) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub fn incoming(&self) -> PathBuf {
        self.root.join("incoming")
    }

    pub fn buckets(&self) -> PathBuf {
        self.root.join("buckets")
    }

    pub fn uploads(&self) -> PathBuf {
        self.root.join("uploads")
    }

    pub fn bucket(&self, bucket: &Bucket) -> PathBuf {
        self.buckets().join(bucket.as_str())
    }

    pub fn bucket_record(&self, bucket: &Bucket) -> PathBuf {
        self.bucket(bucket).join("bucket.json")
    }

    pub fn objects(&self, bucket: &Bucket) -> PathBuf {
        self.bucket(bucket).join("objects")
    }

    pub fn metas(&self, bucket: &Bucket) -> PathBuf {
        self.bucket(bucket).join("meta")
    }

    pub fn data(&self, at: &Address) -> PathBuf {
        self.objects(&at.bucket).join(file_name(&at.key))
    }

    pub fn meta(&self, at: &Address, modified: SystemTime) -> PathBuf {
        self.metas(&at.bucket).join(format!("{}.{}.json", file_name(&at.key), stamp(modified)))
    }

    pub fn upload(&self, id: &UploadId) -> PathBuf {
        self.uploads().join(&id.0)
    }
}

/// One harmless file name for any key.
pub(super) fn file_name(key: &str) -> String {
    let encoded = utf8_percent_encode(key, NAME).to_string();
    let encoded = match encoded.strip_prefix('.') {
        Some(rest) => format!("%2E{rest}"),
        None => encoded,
    };
    if encoded.len() <= NAME_MAX {
        return encoded;
    }
    let hash: String = Sha256::digest(key.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}%%{hash}", &encoded[..100])
}

/// The name of the data file and the stamp, of the name of a meta file.
pub(super) fn parse_meta_name(name: &str) -> Option<(&str, u128)> {
    let (object, stamp) = name.strip_suffix(".json")?.rsplit_once('.')?;
    Some((object, stamp.parse().ok()?))
}

pub(super) fn stamp(modified: SystemTime) -> u128 {
    modified.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()
}

pub(super) fn part_name((number, part): Numbered<'_>) -> String {
    let md5 = u128::from_be_bytes(part.sums.md5.unwrap_or_default());
    format!("{number:05}.{:016x}.{md5:032x}.{}", part.sums.crc64, part.bytes)
}

/// What the name of a part says of it.
pub(super) struct PartName {
    pub number: u32,
    pub crc64: u64,
    pub md5: u128,
    /// Earlier versions did not say it.
    pub bytes: Option<u64>,
}

impl PartName {
    pub fn parse(name: &str) -> Option<Self> {
        let mut fields = name.split('.');
        let number = fields.next()?.parse().ok()?;
        let crc64 = u64::from_str_radix(fields.next()?, 16).ok()?;
        let md5 = u128::from_str_radix(fields.next()?, 16).ok()?;
        let bytes = fields.next().map(str::parse).transpose().ok()?;
        fields.next().is_none().then_some(Self { number, crc64, md5, bytes })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn long_keys_with_one_beginning_have_names_of_their_own() {
        let beginning = "x".repeat(1000);
        assert_ne!(file_name(&format!("{beginning}a")), file_name(&format!("{beginning}b")));
    }

    proptest! {
        #[test]
        fn the_name_of_any_key_is_one_harmless_file_name(key in "(?s).{1,300}") {
            let name = file_name(&key);
            prop_assert!(name.len() <= NAME_MAX && !name.starts_with('.'));
            prop_assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_~.%".contains(&b)), "{}", name);
            if !name.contains("%%") {
                let back = percent_encoding::percent_decode_str(&name).decode_utf8().unwrap();
                prop_assert_eq!(back, key);
            }
        }
    }
}
