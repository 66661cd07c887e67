//! The receipt of an upload: what was stored where, from which file, with the checksum of every part.
//!
//! It is JSON, so that it can be read without haul, and holds no secret. Whoever has it and the file can tell years later,
//! without asking any store, whether the file is still the one that was uploaded, and if not, where it differs.

use std::fmt::Display;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::crc64::combine_all;
use super::object::{ETag, Fingerprint, UploadId};
use super::part::{Limits, PartNumber};

/// The form of the receipts that this version writes, and the only one it reads.
pub const FORMAT: u32 = 1;

/// Why a receipt cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiptError {
    /// Name a receipt that `haul put --receipt` wrote.
    #[error("it is no receipt: {0}")]
    NotOne(#[from] serde_json::Error),
    /// Use the version of haul that wrote it.
    #[error("its format is {0}, and this version of haul reads {FORMAT}")]
    Format(u32),
    /// It was damaged or edited: do not rely on it.
    #[error("it contradicts itself: {0}")]
    Contradiction(String),
}

/// What a finished upload left in the store, and where that came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// [`FORMAT`].
    pub format: u32,
    /// Version of haul that wrote it.
    pub haul: String,
    /// `oss://BUCKET/KEY`.
    pub url: String,
    /// Endpoint as checkpoints name it.
    pub endpoint: String,
    /// Length of the object and of the file, in bytes.
    pub bytes: u64,
    /// CRC64 of the whole, as decimal text.
    #[serde(with = "decimal")]
    pub crc64: u64,
    /// Whether the store named the checksum of the whole object and it was this one.
    pub crc64_verified: bool,
    pub etag: ETag,
    pub version_id: Option<String>,
    /// None for a single PUT.
    pub upload_id: Option<UploadId>,
    /// Of the answer with which the object came into being.
    pub request_id: Option<String>,
    pub source: SourceIdentity,
    /// Length of every part but the last, in bytes.
    pub part_bytes: u64,
    /// In the order of the file, without gaps. Empty for a single PUT.
    pub parts: Vec<PartReceipt>,
    /// When the run began that finished the upload, and when it ended: RFC 3339, UTC.
    pub begun: String,
    pub ended: String,
}

/// The file as it was when it was uploaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceIdentity {
    /// As it was given; what is not UTF-8 in it is replaced by U+FFFD.
    pub path: String,
    pub device: u64,
    pub inode: u64,
    pub bytes: u64,
    /// Nanoseconds since the epoch, as decimal text.
    #[serde(with = "decimal")]
    pub mtime_ns: i128,
    #[serde(with = "decimal")]
    pub ctime_ns: i128,
}

impl SourceIdentity {
    pub fn new(path: String, fingerprint: &Fingerprint) -> Self {
        let &Fingerprint { device, inode, bytes, mtime_ns, ctime_ns } = fingerprint;
        Self { path, device, inode, bytes, mtime_ns, ctime_ns }
    }
}

/// One part of an upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartReceipt {
    pub part: PartNumber,
    /// Where it begins in the file, in bytes.
    pub offset: u64,
    pub bytes: u64,
    /// As decimal text.
    #[serde(with = "decimal")]
    pub crc64: u64,
    pub etag: ETag,
    /// Whether the run that finished the upload sent it; else an earlier one had.
    pub sent: bool,
    /// Of the answer that confirmed it; known only for parts of that run.
    pub request_id: Option<String>,
}

impl Receipt {
    /// Reads a receipt and checks that it can be true.
    ///
    /// # Errors
    /// See [`ReceiptError`].
    pub fn from_json(json: &[u8]) -> Result<Self, ReceiptError> {
        /// Read first, so that a receipt of a later version is not taken for garbage.
        #[derive(Deserialize)]
        struct Form {
            format: u32,
        }
        let Form { format } = serde_json::from_slice(json)?;
        if format != FORMAT {
            return Err(ReceiptError::Format(format));
        }
        let receipt: Self = serde_json::from_slice(json)?;
        receipt.check().map_err(ReceiptError::Contradiction)?;
        Ok(receipt)
    }

    fn check(&self) -> Result<(), String> {
        if self.parts.is_empty() {
            return Ok(());
        }
        if self.parts.len() > Limits::OSS.parts_max as usize {
            return Err(format!("{} parts are more than an object can have", self.parts.len()));
        }
        let mut next = 0u64;
        for (part, number) in self.parts.iter().zip(1..) {
            if part.part.get() != number || part.offset != next {
                return Err(format!("part {number} does not begin at byte {next}"));
            }
            next = next.checked_add(part.bytes).filter(|end| *end <= self.bytes).ok_or("its parts are too long")?;
        }
        let crc64 = combine_all(self.parts.iter().map(|part| (part.crc64, part.bytes)));
        match () {
            () if next != self.bytes => Err(format!("its parts end at byte {next}, the object at {}", self.bytes)),
            () if crc64 != self.crc64 => Err("the checksums of its parts do not make that of the object".into()),
            () => Ok(()),
        }
    }
}

/// Numbers as decimal text, as OSS writes checksums: JSON numbers lose digits in many readers.
mod decimal {
    use super::*;

    pub fn serialize<T: Display, S: Serializer>(number: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(number)
    }

    pub fn deserialize<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::crc64::crc64;

    fn receipt() -> Receipt {
        let part = |number, offset, bytes: &[u8]| PartReceipt {
            part: PartNumber::new(number).unwrap(),
            offset,
            bytes: bytes.len() as u64,
            crc64: crc64(bytes),
            etag: ETag::new("E"),
            sent: number == 1,
            request_id: None,
        };
        let fingerprint = Fingerprint { device: 1, inode: 2, bytes: 9, mtime_ns: i128::MAX, ctime_ns: -1 };
        Receipt {
            format: FORMAT,
            haul: "0".into(),
            url: "oss://demo/k".into(),
            endpoint: "e".into(),
            bytes: 9,
            crc64: crc64(b"123456789"),
            crc64_verified: true,
            etag: ETag::new("E"),
            version_id: None,
            upload_id: None,
            request_id: Some("R".into()),
            source: SourceIdentity::new("f".into(), &fingerprint),
            part_bytes: 5,
            parts: vec![part(1, 0, b"12345"), part(2, 5, b"6789")],
            begun: String::new(),
            ended: String::new(),
        }
    }

    fn json(receipt: &Receipt) -> Vec<u8> {
        serde_json::to_vec(receipt).unwrap()
    }

    #[test]
    fn a_receipt_is_read_as_it_was_written_and_checksums_are_text() {
        let written = json(&receipt());
        assert_eq!(Receipt::from_json(&written).unwrap(), receipt());
        let value: serde_json::Value = serde_json::from_slice(&written).unwrap();
        assert_eq!(value["crc64"], crc64(b"123456789").to_string());
        assert_eq!(value["source"]["ctime_ns"], "-1");
    }

    #[test]
    fn a_receipt_that_cannot_be_true_is_refused() {
        let edits: [fn(&mut Receipt); 6] = [
            |r| r.crc64 += 1,
            |r| r.parts[1].crc64 += 1,
            |r| r.parts[1].offset = 4,
            |r| r.parts.truncate(1),
            |r| r.parts[0].bytes = u64::MAX,
            |r| r.bytes = 10,
        ];
        for (i, edit) in edits.into_iter().enumerate() {
            let mut edited = receipt();
            edit(&mut edited);
            let refused = Receipt::from_json(&json(&edited));
            assert!(matches!(refused, Err(ReceiptError::Contradiction(_))), "edit {i}: {refused:?}");
        }
        let later = Receipt { format: 2, ..receipt() };
        assert!(matches!(Receipt::from_json(&json(&later)), Err(ReceiptError::Format(2))));
        assert!(matches!(Receipt::from_json(b"{}"), Err(ReceiptError::NotOne(_))));
    }
}
