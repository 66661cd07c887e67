//! The durable memory of a transfer: which upload it is, and which parts the store has confirmed.
//!
//! [`Checkpoint`] is pure state; a [`Record`] is one fact that changes it. [`journal::Journal`] keeps both in a
//! write-ahead log ([`wal`]); [`record`] knows their bytes. Knows nothing of files to send, requests or answers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, io};

use serde::{Deserialize, Serialize};

use crate::model::object::{Bucket, Description, ETag, Fingerprint, Key, UploadId};
use crate::model::part::PartNumber;
use crate::os::name::followed;

pub mod journal;
pub mod record;
pub mod recovery;
pub mod wal;

pub use journal::{Found, Journal};
pub(crate) use recovery::described_otherwise;

/// Why the durable memory of a transfer cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// Choose another place for the checkpoint, or make room.
    #[error("cannot write the checkpoint {}: {cause}; {}", path.display(), advice(cause))]
    Unwritable { path: PathBuf, cause: Arc<io::Error> },
    /// Choose another place, or make it readable.
    #[error("cannot read the checkpoint {}: {cause}", path.display())]
    Unreadable { path: PathBuf, cause: Arc<io::Error> },
    /// Another process runs this transfer: wait for it.
    #[error("the checkpoint {} is in use by {}", path.display(), Owner(*pid))]
    Busy { path: PathBuf, pid: Option<u32> },
    /// Name another place: what stands there is not haul's, and was left as it is.
    #[error("{} is not a checkpoint of haul and stays as it is: {why}", path.display())]
    NotOurs { path: PathBuf, why: String },
    /// Use the version of haul that wrote it, or remove it.
    #[error("the checkpoint {} has format {found}, written by a later haul; this one reads format {ours}", path.display())]
    LaterFormat { path: PathBuf, found: u32, ours: u32 },
    /// Allow this process more threads, or memory for them; nothing was changed.
    #[error("cannot start the thread of the checkpoint: {cause}")]
    NoThread { cause: Arc<io::Error> },
    /// A bug: the thread that writes the journal is gone.
    #[error("the journal of {} has stopped", path.display())]
    Stopped { path: PathBuf },
}

/// What helps against what the system said. Room helps only where it is missing.
fn advice(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room or choose another place for it",
        io::ErrorKind::FileTooLarge => "allow longer files (ulimit -f) or choose another place for it",
        io::ErrorKind::OutOfMemory | io::ErrorKind::WouldBlock => "allow this process more memory and processes",
        _ if matches!(cause.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => "allow more open files (ulimit -n)",
        _ => "choose another place for it",
    }
}

struct Owner(Option<u32>);

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(pid) => write!(f, "process {pid}"),
            None => f.write_str("another process"),
        }
    }
}

/// What a checkpoint belongs to. Another file, destination, description or part length is another transfer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    pub source: Fingerprint,
    pub endpoint: String,
    pub bucket: Bucket,
    pub key: Key,
    /// Length of every part but the last, in bytes.
    pub part_bytes: u64,
    /// What Initiate said about the object. `None`: an earlier haul wrote the checkpoint and did not record it.
    pub description: Option<Description>,
}

/// A part that the store confirmed with the checksum we computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPart {
    pub bytes: u64,
    pub etag: ETag,
    pub crc64: u64,
}

/// Parts that were recorded for a file which may be another one now. None counts before the file was read again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claims {
    /// How the file's identity changed.
    pub why: String,
    pub parts: BTreeMap<PartNumber, StoredPart>,
}

/// Names an upload that may still have to be aborted, wherever it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenUpload {
    pub endpoint: String,
    pub bucket: Bucket,
    pub key: Key,
    pub upload_id: UploadId,
}

/// The object that the store made of the parts, its checksum compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completed {
    /// HTTP status of the answer: 200, or 203 when the store could not deliver the callback.
    pub status: u16,
    pub etag: ETag,
    pub version_id: Option<String>,
    pub request_id: Option<String>,
    /// Whether the store named a checksum of the whole object, which then was equal.
    pub crc64_verified: bool,
    /// Whether the file may be another one since: the parts are [`Claims`] until the object is found to be the file.
    pub claimed: bool,
}

/// All that is known of one transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    pub binding: Binding,
    pub upload_id: Option<UploadId>,
    /// Confirmed parts of that upload.
    pub parts: BTreeMap<PartNumber, StoredPart>,
    /// Uploads of earlier transfers at this place, not known to be aborted.
    pub abandoned: Vec<OpenUpload>,
    /// Set when the store may have been asked to merge the parts: what Complete then said about the object.
    pub completing: Option<Description>,
    /// Set when the object is stored: the upload is open no more, and only what follows Complete is left to do.
    pub completed: Option<Completed>,
}

/// One fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// The store opened this upload; it has no parts.
    Initiated(UploadId),
    /// The store confirmed a part.
    PartStored(PartNumber, StoredPart),
    /// The store is going to be asked to merge the parts into an object described so.
    Completing(Description),
    /// The store merged the parts into the object.
    Completed(Completed),
    /// The upload does not exist any more, nor do its parts.
    UploadGone,
    /// This upload is not gone on with and must be aborted; if it is the current one, its parts are forgotten.
    Abandoned(OpenUpload),
    /// That upload is aborted, or was already gone.
    AbandonedAborted(UploadId),
}

impl Record {
    /// Whether losing this fact could leave an upload open that nothing remembers. Such facts are written twice.
    pub fn names_upload(&self) -> bool {
        matches!(self, Self::Initiated(_) | Self::Abandoned(_))
    }
}

impl Checkpoint {
    /// A transfer that has not begun.
    pub fn new(binding: Binding) -> Self {
        let (parts, abandoned) = (BTreeMap::new(), Vec::new());
        Self { binding, upload_id: None, parts, abandoned, completing: None, completed: None }
    }

    /// Takes a fact in. Every fact may be applied again with the same result.
    pub fn apply(&mut self, record: Record) {
        match record {
            Record::Initiated(id) => self.set_upload(Some(id)),
            Record::PartStored(number, part) => drop(self.parts.insert(number, part)),
            Record::Completing(description) => self.completing = Some(description),
            Record::Completed(completed) => self.completed = Some(completed),
            Record::UploadGone => self.set_upload(None),
            Record::Abandoned(upload) => self.abandon(upload),
            Record::AbandonedAborted(id) => self.abandoned.retain(|open| open.upload_id != id),
        }
    }

    /// The current upload, if it is still open, with everything needed to abort it.
    pub fn open_upload(&self) -> Option<OpenUpload> {
        let Binding { endpoint, bucket, key, .. } = self.binding.clone();
        let open = self.upload_id.clone().filter(|_| self.completed.is_none());
        open.map(|upload_id| OpenUpload { endpoint, bucket, key, upload_id })
    }

    /// The facts that name the uploads which may be open.
    pub fn naming_records(&self) -> impl Iterator<Item = Record> {
        let current = self.open_upload().map(|open| Record::Initiated(open.upload_id));
        current.into_iter().chain(self.abandoned.iter().cloned().map(Record::Abandoned))
    }

    /// Whether there is nothing in the store that must be remembered.
    pub fn names_no_upload(&self) -> bool {
        self.upload_id.is_none() && self.abandoned.is_empty()
    }

    fn set_upload(&mut self, id: Option<UploadId>) {
        if self.upload_id != id {
            self.parts.clear();
            (self.completing, self.completed) = (None, None);
        }
        self.upload_id = id;
    }

    fn abandon(&mut self, upload: OpenUpload) {
        if self.upload_id.as_ref() == Some(&upload.upload_id) {
            self.set_upload(None);
        }
        if !self.abandoned.contains(&upload) {
            self.abandoned.push(upload);
        }
    }
}

/// A checkpoint as it stands on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    pub checkpoint: Checkpoint,
    /// Bytes at the end that a crash tore; the next transfer ignores and removes them.
    pub torn_bytes: u64,
}

/// Whether a checkpoint of haul stands at `path`, be it damaged or not. Nothing is changed.
pub fn is_one(path: &Path) -> bool {
    recovery::is_one(path)
}

/// The files of the checkpoint at `path`, be they there or not: itself and its lock.
pub fn files_of(path: &Path) -> Vec<PathBuf> {
    let path = followed(path).unwrap_or_else(|_| path.to_owned());
    let lock = path.file_name().map(|name| path.with_file_name(wal::dir::lock_name(&name.to_string_lossy())));
    [Some(path), lock].into_iter().flatten().collect()
}

/// Reads a checkpoint and changes nothing: no lock is taken, so a running transfer may be looked at.
///
/// # Errors
/// [`CheckpointError::Unreadable`] (also if there is none), [`CheckpointError::NotOurs`],
/// [`CheckpointError::LaterFormat`].
pub fn read(path: &Path) -> Result<Inspection, CheckpointError> {
    recovery::inspect(path)
}

#[cfg(test)]
mod testing {
    //! Values that the tests of this module share.

    use super::*;

    pub fn sample() -> Checkpoint {
        let source = Fingerprint { device: 1, inode: 2, bytes: 10, mtime_ns: 1 << 90, ctime_ns: -4 };
        let (bucket, key) = (Bucket::new("demo").unwrap(), Key::new("dir/key").unwrap());
        let description = Some([("content-type".to_owned(), 7)].into());
        let binding = Binding { source, endpoint: "https://e".into(), bucket, key, part_bytes: 8 << 20, description };
        let mut checkpoint = Checkpoint::new(binding);
        checkpoint.apply(Record::Initiated(UploadId("first".into())));
        checkpoint
    }

    pub fn completed() -> Completed {
        let (etag, request_id) = (ETag::new("E-1"), Some("R".to_owned()));
        Completed { status: 200, etag, version_id: None, request_id, crc64_verified: true, claimed: false }
    }

    pub fn part(n: u32) -> StoredPart {
        StoredPart { bytes: 8 << 20, etag: ETag::new(&format!("{n:032X}")), crc64: u64::from(n) << 40 }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{completed, part, sample};
    use super::*;

    #[test]
    fn abandoning_the_current_upload_forgets_its_parts_and_remembers_its_name() {
        let mut checkpoint = sample();
        let open = checkpoint.open_upload().unwrap();
        checkpoint.apply(Record::PartStored(PartNumber::new(1).unwrap(), part(1)));
        checkpoint.apply(Record::Abandoned(open.clone()));
        assert_eq!((checkpoint.upload_id.as_ref(), checkpoint.parts.len()), (None, 0));
        assert_eq!(checkpoint.abandoned, std::slice::from_ref(&open));
        checkpoint.apply(Record::AbandonedAborted(open.upload_id));
        assert_eq!(checkpoint.abandoned, []);
    }

    #[test]
    fn a_completed_upload_is_open_no_more_and_stays_known() {
        let mut checkpoint = sample();
        checkpoint.apply(Record::PartStored(PartNumber::new(1).unwrap(), part(1)));
        checkpoint.apply(Record::Completed(completed()));
        assert_eq!((checkpoint.open_upload(), checkpoint.parts.len()), (None, 1));
        assert!(!checkpoint.names_no_upload());
        checkpoint.apply(Record::UploadGone);
        assert_eq!((checkpoint.completed.as_ref(), checkpoint.names_no_upload()), (None, true));
    }

    #[test]
    fn parts_belong_to_one_upload() {
        let mut checkpoint = sample();
        checkpoint.apply(Record::PartStored(PartNumber::new(1).unwrap(), part(1)));
        checkpoint.apply(Record::Initiated(UploadId("first".into())));
        assert_eq!(checkpoint.parts.len(), 1, "the same fact again");
        checkpoint.apply(Record::Initiated(UploadId("second".into())));
        assert_eq!(checkpoint.parts.len(), 0);
    }
}
