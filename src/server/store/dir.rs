//! Keeps everything in a directory, durably: written aside, flushed, renamed, directory flushed, in groups (`commit`).
//!
//! ```text
//! DIR/haul-store                              marks the directory as ours; locked while a server runs
//! DIR/incoming/…                              bodies on their way in; emptied at start
//! DIR/buckets/BUCKET/bucket.json              when it was made, who may read it
//! DIR/buckets/BUCKET/objects/NAME             the bytes of an object, nothing else
//! DIR/buckets/BUCKET/meta/NAME.STAMP.json     what is known of it
//! DIR/uploads/UPLOADID/upload.json            an upload that is under way
//! DIR/uploads/UPLOADID/NUMBER.CRC64.MD5.BYTES the bytes of one of its parts
//! ```
//!
//! NAME is the key with every byte but `A-Z a-z 0-9 - _ ~` and inner dots percent-encoded, so that it is one harmless
//! file name; beyond 180 bytes it is its beginning, `%%`, and the SHA-256 of the key.
//!
//! STAMP is the time of modification of the data file in nanoseconds. It binds the two files of an object: the meta
//! file is made durable first, and the rename of the data file is the one moment at which the object changes. A meta
//! file whose stamp is not that of the data file belongs to a version that is gone or never came.
//!
//! A file that turns out to be damaged at start (`load`) stays where it is until a client replaces or deletes what it
//! belongs to.

mod commit;
mod layout;
mod load;
#[cfg(test)]
mod power;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::mem;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use serde::Serialize;

use self::commit::{Change, Committer, HostDisk, Switch};
use self::layout::{Layout, PartName, part_name};
use self::load::at_path;
use super::{
    Address, Blob, BucketRecord, Content, HELD_MAX, Medium, Numbered, Object, StoredPart, Survivors, Upload,
    foreign_blob,
};
use crate::model::object::{Bucket, UploadId};

const MARKER: &str = "haul-store";
/// Bodies up to this length are flushed with their group; longer ones by whoever sends them, so that nobody else waits.
const SHARED_MAX: u64 = 256 << 10;

pub(crate) struct DirMedium {
    layout: Layout,
    committer: Committer,
    /// Places that were found damaged and not replaced since: data files, directories of buckets and of uploads.
    damaged: Mutex<HashSet<PathBuf>>,
    /// Locked as long as it is open.
    _marker: File,
    next_incoming: AtomicU64,
}

/// A process that was killed keeps its locks until its last system call has returned, which may be a sync of many
/// bytes.
const PATIENCE: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(20);

fn lock(file: &File) -> rustix::io::Result<()> {
    let begun = Instant::now();
    loop {
        match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::INTR) => {}
            Err(Errno::WOULDBLOCK) if begun.elapsed() < PATIENCE => std::thread::sleep(LOOK_EVERY),
            result => return result,
        }
    }
}

impl DirMedium {
    /// Takes possession of `root`, making it if it is missing.
    ///
    /// # Errors
    /// If the directory is in use, holds something that is not a store, or cannot be written.
    pub fn open(root: &Path) -> io::Result<Self> {
        Self::open_on(root, || Committer::start(Box::new(HostDisk::new(root)?)))
    }

    fn open_on(root: &Path, committer: impl FnOnce() -> io::Result<Committer>) -> io::Result<Self> {
        let marker = take(root)?;
        let layout = Layout::new(root);
        // A number that no file has which could not be removed.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let first = u64::try_from(now.as_nanos()).unwrap_or_default();
        empty(&layout.incoming(), &root.join(format!("incoming.{first}")));
        for dir in [layout.incoming(), layout.buckets(), layout.uploads()] {
            fs::create_dir_all(&dir).map_err(|error| at_path(&dir, error))?;
        }
        File::open(root)?.sync_all()?;
        Ok(Self {
            layout,
            committer: committer()?,
            damaged: Mutex::default(),
            _marker: marker,
            next_incoming: AtomicU64::new(first),
        })
    }

    fn aside(&self) -> Aside {
        let number = self.next_incoming.fetch_add(1, Ordering::Relaxed);
        Aside { path: self.layout.incoming().join(number.to_string()), is_gone: false }
    }

    fn new_blob(&self) -> FileBlob {
        FileBlob { held: Vec::new(), file: None, aside: self.aside(), bytes: 0, is_ended: false, is_durable: false }
    }

    fn damaged(&self) -> MutexGuard<'_, HashSet<PathBuf>> {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a directory with one file in it appear as a whole.
    fn make_dir(&self, target: &Path, children: &[&str], name: &str, record: &impl Serialize) -> io::Result<()> {
        let aside = self.aside();
        fs::create_dir(&aside.path)?;
        let mut names = vec![aside.path.clone()];
        for child in children {
            let child = aside.path.join(child);
            fs::create_dir(&child)?;
            names.push(child);
        }
        let files = vec![write_record(&aside.path.join(name), record)?];
        self.bring(aside, target, files, names)
    }

    /// Takes a directory out of sight as a whole, then removes it.
    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        let mut aside = self.aside();
        let switch = Switch::Rename { from: dir.to_owned(), to: aside.path.clone() };
        let removed =
            self.committer.commit(Change { files: Vec::new(), names: Vec::new(), switch, place: parent(dir) });
        // What is not known to be out of sight for good is left to the next start.
        aside.is_gone = removed.is_err();
        removed
    }

    /// Replaces a record at once.
    fn replace_record(&self, path: &Path, record: &impl Serialize) -> io::Result<()> {
        let aside = self.aside();
        let files = vec![write_record(&aside.path, record)?];
        self.bring(aside, path, files, Vec::new())
    }

    /// Gives what lies aside its name, once `files` and the names in the directories `names` are durable.
    fn bring(&self, mut aside: Aside, to: &Path, files: Vec<File>, names: Vec<PathBuf>) -> io::Result<()> {
        let switch = Switch::Rename { from: aside.path.clone(), to: to.to_owned() };
        self.committer.commit(Change { files, names, switch, place: parent(to) })?;
        aside.is_gone = true;
        Ok(())
    }
}

/// Makes the directory, or finds a store in it, and locks it.
fn take(root: &Path) -> io::Result<File> {
    let at_root = |error| at_path(root, error);
    fs::create_dir_all(root).map_err(at_root)?;
    let path = root.join(MARKER);
    if !path.exists() && fs::read_dir(root).map_err(at_root)?.next().is_some() {
        let text = format!("{} is neither empty nor a store of haul: name another directory", root.display());
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
    }
    let marker = File::options().create(true).truncate(false).write(true).open(&path);
    let marker = marker.map_err(|error| at_path(&path, error))?;
    lock(&marker).map_err(|error| {
        let text = format!("{} cannot be locked; another haul is probably using it: {error}", root.display());
        io::Error::new(io::ErrorKind::ResourceBusy, text)
    })?;
    Ok(marker)
}

/// Removes what an earlier process left on its way in. What cannot be removed is in nobody's way; what is no directory
/// is not ours, and set aside.
fn empty(incoming: &Path, aside: &Path) {
    let emptied = match fs::symlink_metadata(incoming) {
        Ok(found) if !found.is_dir() => fs::rename(incoming, aside),
        _ => fs::remove_dir_all(incoming),
    };
    match emptied {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(dir = %incoming.display(), %error, "what was left of an earlier run could not be removed");
        }
        _ => {}
    }
}

impl Medium for DirMedium {
    fn waits(&self) -> bool {
        true
    }

    fn wants_md5(&self) -> bool {
        true
    }

    fn load(&self) -> io::Result<Survivors> {
        let found = load::load(&self.layout)?;
        *self.damaged() = found.damaged;
        Ok(found.survivors)
    }

    fn hides(&self, at: &Address) -> bool {
        let damaged = self.damaged();
        !damaged.is_empty()
            && (damaged.contains(&self.layout.data(at)) || damaged.contains(&self.layout.bucket(&at.bucket)))
    }

    fn hides_upload(&self, id: &UploadId) -> bool {
        let damaged = self.damaged();
        !damaged.is_empty() && damaged.contains(&self.layout.upload(id))
    }

    fn lacks_part(&self, id: &UploadId) -> bool {
        let dir = self.layout.upload(id);
        self.damaged().iter().any(|path| path.parent() == Some(dir.as_path()))
    }

    fn make_bucket(&self, bucket: &Bucket, record: &BucketRecord) -> io::Result<()> {
        self.make_dir(&self.layout.bucket(bucket), &["objects", "meta"], "bucket.json", record)
    }

    fn amend_bucket(&self, bucket: &Bucket, record: &BucketRecord) -> io::Result<()> {
        self.replace_record(&self.layout.bucket_record(bucket), record)
    }

    fn delete_bucket(&self, bucket: &Bucket) -> io::Result<()> {
        if fs::read_dir(self.layout.objects(bucket))?.next().is_some() {
            return Err(io::Error::new(io::ErrorKind::DirectoryNotEmpty, "files that are not shown are in it"));
        }
        self.remove_dir(&self.layout.bucket(bucket))
    }

    fn blob(&self) -> io::Result<Box<dyn Blob>> {
        Ok(Box::new(self.new_blob()))
    }

    fn put_object(&self, at: &Address, blob: Box<dyn Blob>, object: &Object) -> io::Result<SystemTime> {
        let mut blob = file_blob(blob)?;
        let data = self.layout.data(at);
        let old = fs::metadata(&data).and_then(|found| found.modified()).ok();
        let mut modified = blob.ended()?.metadata()?.modified()?;
        if old == Some(modified) {
            // Two versions within one tick of the filesystem's clock: no filesystem ticks slower than two seconds.
            let later = modified.checked_add(Duration::from_secs(2)).unwrap_or(modified);
            blob.file()?.set_modified(later)?;
            blob.is_durable = false;
            modified = blob.file()?.metadata()?.modified()?;
        }
        let meta = write_record(&self.layout.meta(at, modified), object)?;
        let (aside, file) = blob.finish()?;
        self.bring(aside, &data, file.into_iter().chain([meta]).collect(), vec![self.layout.metas(&at.bucket)])?;
        self.damaged().remove(&data);
        if let Some(old) = old {
            tidy(&self.layout.meta(at, old));
        }
        Ok(modified)
    }

    fn amend_object(&self, at: &Address, object: &Object) -> io::Result<()> {
        let modified = fs::metadata(self.layout.data(at))?.modified()?;
        self.replace_record(&self.layout.meta(at, modified), object)
    }

    fn extend(&self, at: &Address, blob: Box<dyn Blob>) -> io::Result<Box<dyn Blob>> {
        let (mut whole, tail) = (self.new_blob(), file_blob(blob)?.finish()?);
        for path in [&self.layout.data(at), &tail.0.path] {
            whole.take_in(&mut File::open(path)?)?;
        }
        whole.sync()?;
        Ok(Box::new(whole))
    }

    fn open_object(&self, at: &Address) -> io::Result<Option<Box<dyn Content>>> {
        match File::open(self.layout.data(at)) {
            Ok(file) => Ok(Some(Box::new(file))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn delete_object(&self, at: &Address) -> io::Result<()> {
        let data = self.layout.data(at);
        let modified = fs::metadata(&data)?.modified()?;
        let switch = Switch::Remove(data.clone());
        self.committer.commit(Change { files: Vec::new(), names: Vec::new(), switch, place: parent(&data) })?;
        self.damaged().remove(&data);
        tidy(&self.layout.meta(at, modified));
        Ok(())
    }

    fn begin_upload(&self, id: &UploadId, upload: &Upload) -> io::Result<()> {
        self.make_dir(&self.layout.upload(id), &[], "upload.json", upload)
    }

    fn put_part(
        &self,
        id: &UploadId,
        blob: Box<dyn Blob>,
        part: Numbered<'_>,
        old: Option<Numbered<'_>>,
    ) -> io::Result<()> {
        let dir = self.layout.upload(id);
        let name = part_name(part);
        let (aside, file) = file_blob(blob)?.finish()?;
        self.bring(aside, &dir.join(&name), file.into_iter().collect(), Vec::new())?;
        if let Some(old) = old.map(part_name).filter(|old| *old != name) {
            tidy(&dir.join(old));
        }
        self.damaged().retain(|path| path.parent() != Some(dir.as_path()) || number_of(path) != Some(part.0));
        Ok(())
    }

    fn delete_part(&self, id: &UploadId, part: Numbered<'_>) -> io::Result<()> {
        remove_if_there(&self.layout.upload(id).join(part_name(part)))
    }

    fn join(&self, id: &UploadId, parts: &[(u32, StoredPart)]) -> io::Result<Box<dyn Blob>> {
        let mut blob = self.new_blob();
        for (number, part) in parts {
            let mut file = File::open(self.layout.upload(id).join(part_name((*number, part))))?;
            let copied = blob.take_in(&mut file)?;
            if copied != part.bytes {
                return Err(io::Error::other(format!("part {number} has {copied} bytes instead of {}", part.bytes)));
            }
        }
        blob.sync()?;
        Ok(Box::new(blob))
    }

    fn end_upload(&self, id: &UploadId) -> io::Result<()> {
        let dir = self.layout.upload(id);
        self.remove_dir(&dir)?;
        self.damaged().retain(|path| !path.starts_with(&dir));
        Ok(())
    }
}

/// Of which part a file is.
fn number_of(path: &Path) -> Option<u32> {
    PartName::parse(path.file_name()?.to_str()?).map(|name| name.number)
}

/// A name in `incoming`; what has it is removed with it, unless it is gone from there.
struct Aside {
    path: PathBuf,
    is_gone: bool,
}

impl Drop for Aside {
    fn drop(&mut self) {
        if !self.is_gone && fs::remove_file(&self.path).is_err() {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// A body: held while it is short, else in `incoming`.
struct FileBlob {
    held: Vec<u8>,
    file: Option<File>,
    aside: Aside,
    bytes: u64,
    /// Nothing more comes, and the file has the time that it is known by.
    is_ended: bool,
    is_durable: bool,
}

impl FileBlob {
    /// The file, with all there is in it.
    fn file(&mut self) -> io::Result<&mut File> {
        if self.file.is_none() {
            let mut file = File::options().create_new(true).read(true).write(true).open(&self.aside.path)?;
            file.write_all(&mem::take(&mut self.held))?;
            self.file = Some(file);
        }
        self.file.as_mut().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Copies a file to the end. Between two files this is copy_file_range: nothing passes through this process.
    fn take_in(&mut self, file: &mut File) -> io::Result<u64> {
        let copied = io::copy(file, self.file()?)?;
        self.bytes += copied;
        Ok(copied)
    }

    /// The whole file, with the time that it is known by.
    fn ended(&mut self) -> io::Result<&mut File> {
        if !self.is_ended {
            self.file()?.set_modified(SystemTime::now())?;
            self.is_ended = true;
        }
        self.file()
    }

    /// Where the body lies, and the file if it must still be flushed.
    fn finish(mut self) -> io::Result<(Aside, Option<File>)> {
        self.ended()?;
        Ok((self.aside, self.file.filter(|_| !self.is_durable)))
    }
}

impl Blob for FileBlob {
    fn write(&mut self, chunk: Bytes) -> io::Result<()> {
        self.bytes += chunk.len() as u64;
        if self.file.is_none() && self.bytes <= HELD_MAX as u64 {
            self.held.extend_from_slice(&chunk);
            return Ok(());
        }
        self.file()?.write_all(&chunk)
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.bytes > SHARED_MAX {
            self.ended()?.sync_all()?;
            self.is_durable = true;
        }
        Ok(())
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

impl Content for FileBlob {
    fn read(&self, at: u64, max: usize) -> io::Result<Bytes> {
        if let Some(file) = &self.file {
            return Content::read(file, at, max);
        }
        let from = usize::try_from(at).unwrap_or(usize::MAX).min(self.held.len());
        Ok(Bytes::copy_from_slice(&self.held[from..self.held.len().min(from.saturating_add(max))]))
    }
}

impl Content for File {
    fn read(&self, at: u64, max: usize) -> io::Result<Bytes> {
        let mut chunk = vec![0; max];
        let bytes = self.read_at(&mut chunk, at)?;
        chunk.truncate(bytes);
        Ok(chunk.into())
    }
}

fn file_blob(blob: Box<dyn Blob>) -> io::Result<FileBlob> {
    blob.into_any().downcast().map(|blob| *blob).map_err(|_| foreign_blob())
}

/// Writes a record; not yet durable.
fn write_record(path: &Path, record: &impl Serialize) -> io::Result<File> {
    let mut file = File::create(path)?;
    file.write_all(&serde_json::to_vec(record)?)?;
    Ok(file)
}

/// The directory of a file; every path here has one.
fn parent(path: &Path) -> PathBuf {
    path.parent().unwrap_or(path).to_owned()
}

/// Removes what nothing refers to any more. What stays is in nobody's way, and the next start tries again.
fn tidy(path: &Path) {
    if let Err(error) = remove_if_there(path) {
        tracing::warn!(file = %path.display(), %error, "not removed");
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
