//! Records and their bytes; the only file that names bincode.
//!
//! The first frame of a log is a snapshot: `magic | version:u32 | Checkpoint`. Every other frame is one [`Record`].
//! ETags that are 32 hex digits, as those of OSS are, take 16 bytes; a part takes about 45 with its frame.

use bincode::config::{self, Config};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Binding, Checkpoint, Completed, OpenUpload, Record, StoredPart};
use crate::model::object::{Bucket, Description, ETag, Fingerprint, Key, UploadId};
use crate::model::part::PartNumber;

/// What every snapshot begins with.
pub const MAGIC: [u8; 8] = *b"haul-cp\n";

/// The format written. Format 1 is read too: it lacks [`Binding::description`], and what is known of Complete.
pub const VERSION: u32 = 2;
const VERSION_1: u32 = 1;

/// Longest record in bytes: an upload id, a key and an endpoint fit many times over.
pub const RECORD_BYTES_MAX: usize = 64 << 10;

/// Why a payload is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotDecoded {
    /// Does not begin with the magic.
    Foreign,
    /// Written by a later version of this program.
    Version(u32),
    /// Anything else.
    Damaged,
}

#[derive(Serialize, Deserialize)]
enum TagBytes {
    Lower([u8; 16]),
    Upper([u8; 16]),
    Text(String),
}

#[derive(Serialize, Deserialize)]
struct PartBytes {
    number: u32,
    bytes: u64,
    etag: TagBytes,
    crc64: [u8; 8],
}

#[derive(Serialize, Deserialize)]
enum RecordBytes {
    Initiated(UploadId),
    PartStored(PartBytes),
    Completed(Completed),
    UploadGone,
    Abandoned(OpenUpload),
    AbandonedAborted(UploadId),
    Completing(Description),
}

#[derive(Serialize, Deserialize)]
struct SnapshotBytes {
    binding: Binding,
    upload_id: Option<UploadId>,
    parts: Vec<PartBytes>,
    abandoned: Vec<OpenUpload>,
    completing: Option<Description>,
    completed: Option<Completed>,
}

#[derive(Deserialize)]
struct BindingV1 {
    source: Fingerprint,
    endpoint: String,
    bucket: Bucket,
    key: Key,
    part_bytes: u64,
}

#[derive(Deserialize)]
struct SnapshotV1 {
    binding: BindingV1,
    upload_id: Option<UploadId>,
    parts: Vec<PartBytes>,
    abandoned: Vec<OpenUpload>,
}

impl From<SnapshotV1> for SnapshotBytes {
    fn from(old: SnapshotV1) -> Self {
        let BindingV1 { source, endpoint, bucket, key, part_bytes } = old.binding;
        let binding = Binding { source, endpoint, bucket, key, part_bytes, description: None };
        let SnapshotV1 { upload_id, parts, abandoned, .. } = old;
        Self { binding, upload_id, parts, abandoned, completing: None, completed: None }
    }
}

/// The payload of the first frame.
pub fn encode_snapshot(checkpoint: &Checkpoint) -> Vec<u8> {
    let body = encode(&SnapshotBytes {
        binding: checkpoint.binding.clone(),
        upload_id: checkpoint.upload_id.clone(),
        parts: checkpoint.parts.iter().map(|(number, part)| pack_part(*number, part)).collect(),
        abandoned: checkpoint.abandoned.clone(),
        completing: checkpoint.completing.clone(),
        completed: checkpoint.completed.clone(),
    });
    [MAGIC.as_slice(), &VERSION.to_le_bytes(), &body].concat()
}

/// Reads the payload of the first frame.
///
/// # Errors
/// [`NotDecoded`] says what it is instead.
pub fn decode_snapshot(payload: &[u8]) -> Result<Checkpoint, NotDecoded> {
    let rest = payload.strip_prefix(&MAGIC).ok_or(NotDecoded::Foreign)?;
    let (version, body) = rest.split_first_chunk::<4>().ok_or(NotDecoded::Damaged)?;
    let raw: Option<SnapshotBytes> = match u32::from_le_bytes(*version) {
        VERSION => decode(body),
        VERSION_1 => decode::<SnapshotV1>(body).map(SnapshotBytes::from),
        other => return Err(NotDecoded::Version(other)),
    };
    let SnapshotBytes { binding, upload_id, parts, abandoned, completing, completed } =
        raw.ok_or(NotDecoded::Damaged)?;
    let parts = parts.into_iter().map(unpack_part).collect::<Option<_>>().ok_or(NotDecoded::Damaged)?;
    Ok(Checkpoint { binding, upload_id, parts, abandoned, completing, completed })
}

/// Room for the record of a part, of which there are many; others grow.
const PART_RECORD_BYTES: usize = 64;

/// The payload of a later frame.
pub fn encode_record(record: &Record) -> Vec<u8> {
    encode(&match record {
        Record::Initiated(id) => RecordBytes::Initiated(id.clone()),
        Record::PartStored(number, part) => RecordBytes::PartStored(pack_part(*number, part)),
        Record::Completing(description) => RecordBytes::Completing(description.clone()),
        Record::Completed(completed) => RecordBytes::Completed(completed.clone()),
        Record::UploadGone => RecordBytes::UploadGone,
        Record::Abandoned(upload) => RecordBytes::Abandoned(upload.clone()),
        Record::AbandonedAborted(id) => RecordBytes::AbandonedAborted(id.clone()),
    })
}

/// Reads the payload of a later frame, or `None` if it is no record.
pub fn decode_record(payload: &[u8]) -> Option<Record> {
    if payload.len() > RECORD_BYTES_MAX {
        return None;
    }
    Some(match decode(payload)? {
        RecordBytes::Initiated(id) => Record::Initiated(id),
        RecordBytes::PartStored(part) => {
            let (number, part) = unpack_part(part)?;
            Record::PartStored(number, part)
        }
        RecordBytes::Completing(description) => Record::Completing(description),
        RecordBytes::Completed(completed) => Record::Completed(completed),
        RecordBytes::UploadGone => Record::UploadGone,
        RecordBytes::Abandoned(upload) => Record::Abandoned(upload),
        RecordBytes::AbandonedAborted(id) => Record::AbandonedAborted(id),
    })
}

fn pack_part(number: PartNumber, part: &StoredPart) -> PartBytes {
    let (bytes, etag, crc64) = (part.bytes, pack_tag(&part.etag), part.crc64.to_le_bytes());
    PartBytes { number: number.get(), bytes, etag, crc64 }
}

fn unpack_part(raw: PartBytes) -> Option<(PartNumber, StoredPart)> {
    let etag = match raw.etag {
        TagBytes::Lower(digest) => ETag::new(&format!("{:032x}", u128::from_be_bytes(digest))),
        TagBytes::Upper(digest) => ETag::new(&format!("{:032X}", u128::from_be_bytes(digest))),
        TagBytes::Text(text) => ETag::new(&text),
    };
    Some((PartNumber::new(raw.number)?, StoredPart { bytes: raw.bytes, etag, crc64: u64::from_le_bytes(raw.crc64) }))
}

/// Packs a tag of 32 hex digits if the very same text comes out again.
fn pack_tag(etag: &ETag) -> TagBytes {
    let text = etag.as_str();
    let hex_without = |case: fn(&u8) -> bool| text.bytes().all(|c| c.is_ascii_hexdigit() && !case(&c));
    match u128::from_str_radix(text, 16) {
        Ok(digest) if text.len() == 32 && hex_without(u8::is_ascii_uppercase) => TagBytes::Lower(digest.to_be_bytes()),
        Ok(digest) if text.len() == 32 && hex_without(u8::is_ascii_lowercase) => TagBytes::Upper(digest.to_be_bytes()),
        _ => TagBytes::Text(text.to_owned()),
    }
}

fn encode(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(PART_RECORD_BYTES);
    let encoded = bincode::serde::encode_into_std_write(value, &mut bytes, config::standard());
    encoded.expect("plain data of known length always encodes");
    bytes
}

/// Decodes the whole of `bytes`. The limit follows their number, so that a length field cannot ask for more memory than
/// a few times what was read.
fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    if bytes.len() <= 4 << 10 {
        decode_within(bytes, config::standard().with_limit::<{ 64 << 10 }>())
    } else if bytes.len() <= 256 << 10 {
        decode_within(bytes, config::standard().with_limit::<{ 4 << 20 }>())
    } else {
        decode_within(bytes, config::standard().with_limit::<{ 64 << 20 }>())
    }
}

fn decode_within<T: DeserializeOwned>(bytes: &[u8], config: impl Config) -> Option<T> {
    let (value, used) = bincode::serde::decode_from_slice(bytes, config).ok()?;
    (used == bytes.len()).then_some(value)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::testing::{completed, part, sample};
    use super::*;
    use crate::checkpoint::wal::frame;

    fn tag_after(text: &str) -> String {
        let stored = StoredPart { bytes: 1, etag: ETag::new(text), crc64: 2 };
        let number = PartNumber::new(1).unwrap();
        match decode_record(&encode_record(&Record::PartStored(number, stored))) {
            Some(Record::PartStored(_, part)) => part.etag.as_str().to_owned(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_tag_comes_back_letter_by_letter() {
        let digest = "0123456789abcdef0123456789abcdef";
        let mixed = "0123456789ABCDEF0123456789abcdef";
        let signed = "+123456789abcdef0123456789abcdef";
        for text in
            [digest, &digest.to_uppercase(), mixed, signed, "", "x", "5B3C1A2E-2", "00000000000000000000000000000000"]
        {
            assert_eq!(tag_after(text), text);
        }
    }

    #[test]
    fn a_part_takes_at_most_54_bytes() {
        let mut frames = Vec::new();
        let mut stored = part(u32::MAX);
        stored.bytes = 5 << 30;
        frame::push(&mut frames, &encode_record(&Record::PartStored(PartNumber::new(10_000).unwrap(), stored)));
        assert!(frames.len() <= 54, "{} bytes", frames.len());
    }

    #[test]
    fn a_snapshot_comes_back_whole() {
        let mut checkpoint = sample();
        (1..=300).for_each(|n| {
            checkpoint.parts.insert(PartNumber::new(n).unwrap(), part(n));
        });
        checkpoint.apply(Record::Completing([("acl".to_owned(), 8)].into()));
        checkpoint.apply(Record::Completed(completed()));
        assert_eq!(decode_snapshot(&encode_snapshot(&checkpoint)), Ok(checkpoint));
    }

    #[test]
    fn a_completed_upload_comes_back_from_its_record() {
        for record in [Record::Completing([("acl".to_owned(), 8)].into()), Record::Completed(completed())] {
            assert_eq!(decode_record(&encode_record(&record)), Some(record));
        }
    }

    #[test]
    fn a_snapshot_of_format_1_is_read_without_what_it_lacks() {
        /// As format 1 laid them out: device, inode, length, times; then the rest of the binding.
        type Source = (u64, u64, u64, i128, i128);
        type Bound = (Source, String, Bucket, Key, u64);
        #[derive(Serialize)]
        struct Old(Bound, Option<UploadId>, Vec<PartBytes>, Vec<OpenUpload>);
        let mut wanted = sample();
        wanted.binding.description = None;
        let Fingerprint { device, inode, bytes, mtime_ns, ctime_ns } = wanted.binding.source;
        let Binding { endpoint, bucket, key, part_bytes, .. } = wanted.binding.clone();
        let binding = ((device, inode, bytes, mtime_ns, ctime_ns), endpoint, bucket, key, part_bytes);
        let body = encode(&Old(binding, wanted.upload_id.clone(), vec![], vec![]));
        let payload = [MAGIC.as_slice(), &1u32.to_le_bytes(), &body].concat();
        assert_eq!(decode_snapshot(&payload), Ok(wanted));
    }

    #[test]
    fn a_later_version_is_told_from_damage() {
        let mut payload = encode_snapshot(&sample());
        payload[8] = 9;
        assert_eq!(decode_snapshot(&payload), Err(NotDecoded::Version(9)));
        assert_eq!(decode_snapshot(b"something else"), Err(NotDecoded::Foreign));
        assert_eq!(decode_snapshot(&encode_snapshot(&sample())[..40]), Err(NotDecoded::Damaged));
    }

    proptest! {
        #[test]
        fn decoding_never_panics(bytes in vec(any::<u8>(), 0..200)) {
            let _ = decode_record(&bytes);
            let _ = decode_snapshot(&[MAGIC.as_slice(), &VERSION.to_le_bytes(), &bytes].concat());
        }
    }
}
