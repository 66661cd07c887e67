//! Where buckets, objects and uploads are kept: a [`Catalog`] in memory that knows the rules, over a [`Medium`]
//! that keeps the bytes.
//!
//! The medium makes a change durable first, then the catalog shows it: what a client was told survives, what it was
//! not told may or may not.

mod catalog;
mod checksums;
mod dir;
mod memory;
mod null;

use std::collections::BTreeMap;
use std::io;
use std::time::SystemTime;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::model::object::{Bucket, UploadId};

pub(crate) use catalog::{BucketView, Catalog, Last, NewObject, Page, PageQuery, Refusal, UploadView, page};
pub(crate) use checksums::{Checksums, Sums};
pub(crate) use dir::DirMedium;
pub(crate) use memory::MemoryMedium;
pub(crate) use null::NullMedium;

/// Bucket and key: where an object is. The key is not checked here; a medium must hold any text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Address {
    pub bucket: Bucket,
    pub key: String,
}

/// Headers given at creation and echoed by GET and HEAD; names in lower case.
pub(crate) type Headers = Vec<(String, String)>;

/// `Standard` unless another class was asked for.
pub(crate) fn storage_class(headers: &Headers) -> &str {
    headers.iter().find(|(name, _)| name == "x-oss-storage-class").map_or("Standard", |(_, class)| class)
}

/// What is known of an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Object {
    pub key: String,
    pub bytes: u64,
    /// Without quotes.
    pub etag: String,
    pub crc64: u64,
    /// Base64 of the MD5 of the content; `None` for objects joined from parts that came in any order and for stores
    /// without MD5.
    pub content_md5: Option<String>,
    pub kind: Kind,
    pub headers: Headers,
    pub modified: SystemTime,
}

impl Object {
    /// A header that it was given.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// How an object was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    Normal,
    Multipart,
    Appendable,
    Symlink,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Multipart => "Multipart",
            Self::Appendable => "Appendable",
            Self::Symlink => "Symlink",
        }
    }
}

/// Who may do what without a signature.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Acl {
    #[default]
    #[serde(rename = "private")]
    Private,
    #[serde(rename = "public-read")]
    PublicRead,
    #[serde(rename = "public-read-write")]
    PublicReadWrite,
}

impl Acl {
    /// As headers and documents spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::PublicRead => "public-read",
            Self::PublicReadWrite => "public-read-write",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        [Self::Private, Self::PublicRead, Self::PublicReadWrite].into_iter().find(|acl| acl.name() == name)
    }
}

/// What is known of a bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BucketRecord {
    #[serde(flatten)]
    pub created: SystemTime,
    #[serde(default)]
    pub acl: Acl,
    /// `None`: `Standard`.
    #[serde(default)]
    pub storage_class: Option<String>,
    /// `None`: `LRS`.
    #[serde(default)]
    pub redundancy: Option<String>,
}

impl BucketRecord {
    /// A private bucket made now.
    pub fn new() -> Self {
        Self { created: SystemTime::now(), acl: Acl::Private, storage_class: None, redundancy: None }
    }

    pub fn storage_class(&self) -> &str {
        self.storage_class.as_deref().unwrap_or("Standard")
    }

    pub fn redundancy(&self) -> &str {
        self.redundancy.as_deref().unwrap_or("LRS")
    }

    /// Whether it is what was asked for, as far as something was.
    fn is_as(&self, wanted: &Self) -> bool {
        wanted.storage_class.as_deref().is_none_or(|class| class == self.storage_class())
            && wanted.redundancy.as_deref().is_none_or(|redundancy| redundancy == self.redundancy())
    }
}

/// What is known of a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredPart {
    pub bytes: u64,
    pub sums: Sums,
    pub modified: SystemTime,
}

/// A part with its number.
pub(crate) type Numbered<'a> = (u32, &'a StoredPart);

/// What is fixed when an upload begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Upload {
    pub bucket: Bucket,
    pub key: String,
    pub headers: Headers,
    pub forbid_overwrite: bool,
    /// Parts come in the order of their numbers, from 1 and each once.
    #[serde(default)]
    pub sequential: bool,
    pub initiated: SystemTime,
}

/// Everything that survived, read once at start.
#[derive(Default)]
pub(crate) struct Survivors {
    pub buckets: BTreeMap<Bucket, (BucketRecord, Vec<Object>)>,
    pub uploads: Vec<(UploadId, Upload, BTreeMap<u32, StoredPart>)>,
}

/// Length of a body up to which no medium waits for a disk before it takes the blob.
pub(crate) const HELD_MAX: usize = 64 << 10;

/// Bytes on their way in, which can be read again. Dropped before it was handed to its medium, it leaves nothing.
pub(crate) trait Blob: Content {
    /// Waits for a disk, if ever, from the byte on that makes it longer than [`HELD_MAX`].
    fn write(&mut self, chunk: Bytes) -> io::Result<()>;
    /// Ends the bytes. They are durable at the latest when the medium has taken the blob. Waits as [`Self::write`]
    /// does.
    fn sync(&mut self) -> io::Result<()>;
    fn into_any(self: Box<Self>) -> Box<dyn std::any::Any>;
}

/// Bytes that stay: those of an open object are of one version whatever happens to its name.
pub(crate) trait Content: Send + Sync {
    /// Up to `max` bytes from `at`; empty only at the end.
    fn read(&self, at: u64, max: usize) -> io::Result<Bytes>;
}

/// Keeps bytes. The catalog never calls it twice at once for one object, part or upload. What has a body here is for
/// media that outlive the process: the catalog knows it already.
pub(crate) trait Medium: Send + Sync {
    /// Calls may wait for a disk: keep them off the threads of the network.
    fn waits(&self) -> bool;
    /// MD5 is computed whether or not a client asks.
    fn wants_md5(&self) -> bool;
    fn load(&self) -> io::Result<Survivors>;
    /// Whether there is an object that cannot be shown because what is known of it is damaged.
    fn hides(&self, _: &Address) -> bool {
        false
    }
    /// Whether there is an upload that cannot be shown because what is known of it is damaged.
    fn hides_upload(&self, _: &UploadId) -> bool {
        false
    }
    /// Whether an upload had a part that is damaged and was not sent again: who wants all parts cannot have them.
    fn lacks_part(&self, _: &UploadId) -> bool {
        false
    }
    fn make_bucket(&self, _: &Bucket, _: &BucketRecord) -> io::Result<()> {
        Ok(())
    }
    /// Replaces what is known of the bucket.
    fn amend_bucket(&self, _: &Bucket, _: &BucketRecord) -> io::Result<()> {
        Ok(())
    }
    /// Forgets an empty bucket.
    ///
    /// # Errors
    /// [`io::ErrorKind::DirectoryNotEmpty`] if it holds something that is not shown.
    fn delete_bucket(&self, _: &Bucket) -> io::Result<()> {
        Ok(())
    }
    /// Does not wait for a disk.
    fn blob(&self) -> io::Result<Box<dyn Blob>>;
    /// Shows `blob` as the object, in place of an older one. Answers with the time that it is known by.
    fn put_object(&self, at: &Address, blob: Box<dyn Blob>, object: &Object) -> io::Result<SystemTime>;
    /// Replaces what is known of an object whose bytes stay.
    fn amend_object(&self, _: &Address, _: &Object) -> io::Result<()> {
        Ok(())
    }
    /// The bytes of the object followed by those of `blob`, as one blob. The object stays as it is.
    fn extend(&self, at: &Address, blob: Box<dyn Blob>) -> io::Result<Box<dyn Blob>>;
    fn open_object(&self, at: &Address) -> io::Result<Option<Box<dyn Content>>>;
    fn delete_object(&self, at: &Address) -> io::Result<()>;
    fn begin_upload(&self, id: &UploadId, upload: &Upload) -> io::Result<()>;
    /// Keeps `blob` as the part, in place of the part `old` of that number.
    fn put_part(
        &self,
        id: &UploadId,
        blob: Box<dyn Blob>,
        part: Numbered<'_>,
        old: Option<Numbered<'_>>,
    ) -> io::Result<()>;
    /// Forgets a part.
    fn delete_part(&self, id: &UploadId, part: Numbered<'_>) -> io::Result<()>;
    /// The bytes of the parts in this order, as one blob. The parts stay.
    fn join(&self, id: &UploadId, parts: &[(u32, StoredPart)]) -> io::Result<Box<dyn Blob>>;
    /// Forgets the upload and its parts.
    fn end_upload(&self, id: &UploadId) -> io::Result<()>;
}

/// A blob made by another medium: a mistake of the caller.
fn foreign_blob() -> io::Error {
    io::Error::other("the blob belongs to another store")
}
