//! Keeps everything in a directory, durably: written aside, synced, renamed, directory synced.
//!
//! ```text
//! DIR/haul-store                              marks the directory as ours; locked while a server runs
//! DIR/incoming/…                              bodies on their way in; emptied at start
//! DIR/buckets/BUCKET/bucket.json              when it was made, who may read it
//! DIR/buckets/BUCKET/objects/NAME             the bytes of an object, nothing else
//! DIR/buckets/BUCKET/meta/NAME.STAMP.json     what is known of it
//! DIR/uploads/UPLOADID/upload.json            an upload that is under way
//! DIR/uploads/UPLOADID/NUMBER.CRC64.MD5       the bytes of one of its parts
//! ```
//!
//! NAME is the key with every byte but `A-Z a-z 0-9 - _ ~` and inner dots percent-encoded, so that it is one harmless
//! file name; beyond 180 bytes it is its beginning, `%%`, and the SHA-256 of the key.
//!
//! STAMP is the time of modification of the data file in nanoseconds. It binds the two files of an object: the meta
//! file is made durable first, and the rename of the data file is the one moment at which the object changes. A meta
//! file whose stamp is not that of the data file belongs to a version that is gone or never came.

use std::any::Any;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::{
    Address, Blob, BucketRecord, Content, Medium, Numbered, Object, StoredPart, Sums, Survivors, Upload, foreign_blob,
};
use crate::model::object::{Bucket, UploadId};

const MARKER: &str = "haul-store";
/// Every byte but these is encoded; a leading dot too, see [`file_name`].
const NAME: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'~').remove(b'.');
/// Longest encoded key used as it is: leaves room for a stamp below the 255 bytes of a file name.
const NAME_MAX: usize = 180;

pub(crate) struct DirMedium {
    root: PathBuf,
    /// Locked as long as it is open.
    _marker: File,
    next_incoming: AtomicU64,
}

/// A process that was killed keeps its locks until its last system call has returned, which may be a sync of many bytes.
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

/// A body in `incoming`, removed when it is dropped before it has a name.
struct FileBlob {
    file: File,
    path: PathBuf,
    named: bool,
}

impl DirMedium {
    /// Takes possession of `root`, making it if it is missing.
    ///
    /// # Errors
    /// If the directory is in use, holds something that is not a store, or cannot be written.
    pub fn open(root: &Path) -> io::Result<Self> {
        fs::create_dir_all(root)?;
        let marker = root.join(MARKER);
        if !marker.exists() && fs::read_dir(root)?.next().is_some() {
            let text = format!("{} is neither empty nor a store of haul: name another directory", root.display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
        }
        let marker = File::options().create(true).truncate(false).write(true).open(marker)?;
        lock(&marker).map_err(|error| {
            let text = format!("{} cannot be locked; another haul is probably using it: {error}", root.display());
            io::Error::new(io::ErrorKind::ResourceBusy, text)
        })?;
        let incoming = root.join("incoming");
        match fs::remove_dir_all(&incoming) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        for name in ["incoming", "buckets", "uploads"] {
            fs::create_dir_all(root.join(name))?;
        }
        sync_dir(root)?;
        Ok(Self { root: root.to_owned(), _marker: marker, next_incoming: AtomicU64::new(0) })
    }

    fn incoming(&self) -> PathBuf {
        let number = self.next_incoming.fetch_add(1, Ordering::Relaxed);
        self.root.join("incoming").join(number.to_string())
    }

    fn bucket_dir(&self, bucket: &Bucket) -> PathBuf {
        self.root.join("buckets").join(bucket.as_str())
    }

    fn upload_dir(&self, id: &UploadId) -> PathBuf {
        self.root.join("uploads").join(&id.0)
    }

    fn data_path(&self, at: &Address) -> PathBuf {
        self.bucket_dir(&at.bucket).join("objects").join(file_name(&at.key))
    }

    fn meta_path(&self, at: &Address, modified: SystemTime) -> PathBuf {
        self.bucket_dir(&at.bucket).join("meta").join(format!("{}.{}.json", file_name(&at.key), stamp(modified)))
    }

    /// Makes a directory with one file in it appear as a whole.
    fn make_dir(&self, target: &Path, children: &[&str], name: &str, record: &impl Serialize) -> io::Result<()> {
        let aside = self.incoming();
        fs::create_dir(&aside)?;
        for child in children {
            fs::create_dir(aside.join(child))?;
        }
        write_record(&aside.join(name), record)?;
        sync_dir(&aside)?;
        fs::rename(&aside, target)?;
        sync_parent(target)
    }

    /// Takes a directory out of sight as a whole, then removes it.
    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        let aside = self.incoming();
        fs::rename(dir, &aside)?;
        sync_parent(dir)?;
        fs::remove_dir_all(&aside)
    }

    /// Replaces a record at once.
    fn replace_record(&self, path: &Path, record: &impl Serialize) -> io::Result<()> {
        let aside = self.incoming();
        write_record(&aside, record)?;
        fs::rename(&aside, path)?;
        sync_parent(path)
    }

    fn new_blob(&self) -> io::Result<FileBlob> {
        let path = self.incoming();
        let file = File::options().create_new(true).read(true).write(true).open(&path)?;
        Ok(FileBlob { file, path, named: false })
    }

    fn load_objects(&self, bucket: &Bucket) -> io::Result<Vec<Object>> {
        let mut metas: BTreeMap<String, Vec<(u128, PathBuf)>> = BTreeMap::new();
        for (name, path) in entries(&self.bucket_dir(bucket).join("meta"))? {
            let parts = name.strip_suffix(".json").and_then(|name| name.rsplit_once('.'));
            if let Some((object, Ok(stamp))) = parts.map(|(object, stamp)| (object, stamp.parse())) {
                metas.entry(object.to_owned()).or_default().push((stamp, path));
            }
        }
        let data = self.bucket_dir(bucket).join("objects");
        let loaded = metas.into_iter().map(|(name, metas)| load_object(&data.join(name), metas));
        loaded.filter_map(Result::transpose).collect()
    }
}

/// The object of a data file: the one whose meta file has its stamp. Meta files of other versions are removed, but
/// none if no version fits, so that a directory copied without its times can be repaired.
fn load_object(data: &Path, metas: Vec<(u128, PathBuf)>) -> io::Result<Option<Object>> {
    let modified = match fs::metadata(data) {
        Ok(found) => Some(found.modified()?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let (fitting, others): (Vec<_>, Vec<_>) =
        metas.into_iter().partition(|(stamp_of_meta, _)| modified.is_some_and(|time| stamp(time) == *stamp_of_meta));
    let Some((_, path)) = fitting.first() else {
        match modified {
            Some(_) => tracing::warn!(file = %data.display(), "not shown: changed by something else than this store"),
            None => others.iter().try_for_each(|(_, path)| fs::remove_file(path))?,
        }
        return Ok(None);
    };
    others.iter().try_for_each(|(_, path)| fs::remove_file(path))?;
    let mut object: Object = read_record(path)?;
    object.modified = modified.unwrap_or(object.modified);
    Ok(Some(object))
}

impl Medium for DirMedium {
    fn waits(&self) -> bool {
        true
    }

    fn wants_md5(&self) -> bool {
        true
    }

    fn load(&self) -> io::Result<Survivors> {
        let mut survivors = Survivors::default();
        for (name, path) in entries(&self.root.join("buckets"))? {
            let Ok(bucket) = Bucket::new(name) else { continue };
            let record = read_record(&path.join("bucket.json"))?;
            let objects = self.load_objects(&bucket)?;
            survivors.buckets.insert(bucket, (record, objects));
        }
        for (name, path) in entries(&self.root.join("uploads"))? {
            let upload = read_record(&path.join("upload.json"))?;
            survivors.uploads.push((UploadId(name), upload, load_parts(&path)?));
        }
        Ok(survivors)
    }

    fn make_bucket(&self, bucket: &Bucket, record: &BucketRecord) -> io::Result<()> {
        self.make_dir(&self.bucket_dir(bucket), &["objects", "meta"], "bucket.json", record)
    }

    fn amend_bucket(&self, bucket: &Bucket, record: &BucketRecord) -> io::Result<()> {
        self.replace_record(&self.bucket_dir(bucket).join("bucket.json"), record)
    }

    fn delete_bucket(&self, bucket: &Bucket) -> io::Result<()> {
        self.remove_dir(&self.bucket_dir(bucket))
    }

    fn blob(&self) -> io::Result<Box<dyn Blob>> {
        Ok(Box::new(self.new_blob()?))
    }

    fn put_object(&self, at: &Address, blob: Box<dyn Blob>, object: &Object) -> io::Result<SystemTime> {
        let blob = file_blob(blob)?;
        let data = self.data_path(at);
        let old = fs::metadata(&data).and_then(|found| found.modified()).ok();
        let mut modified = blob.file.metadata()?.modified()?;
        if old == Some(modified) {
            // Two versions within one tick of the filesystem's clock: no filesystem ticks slower than two seconds.
            blob.file.set_modified(modified.checked_add(Duration::from_secs(2)).unwrap_or(modified))?;
            blob.file.sync_all()?;
            modified = blob.file.metadata()?.modified()?;
        }
        let meta = self.meta_path(at, modified);
        write_record(&meta, object)?;
        sync_parent(&meta)?;
        blob.rename(&data)?;
        if let Some(old) = old {
            remove_if_there(&self.meta_path(at, old))?;
        }
        Ok(modified)
    }

    fn amend_object(&self, at: &Address, object: &Object) -> io::Result<()> {
        let modified = fs::metadata(self.data_path(at))?.modified()?;
        self.replace_record(&self.meta_path(at, modified), object)
    }

    fn extend(&self, at: &Address, blob: Box<dyn Blob>) -> io::Result<Box<dyn Blob>> {
        let (mut whole, tail) = (self.new_blob()?, file_blob(blob)?);
        for path in [&self.data_path(at), &tail.path] {
            io::copy(&mut File::open(path)?, &mut whole.file)?;
        }
        whole.sync()?;
        Ok(Box::new(whole))
    }

    fn open_object(&self, at: &Address) -> io::Result<Option<Box<dyn Content>>> {
        match File::open(self.data_path(at)) {
            Ok(file) => Ok(Some(Box::new(file))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn delete_object(&self, at: &Address) -> io::Result<()> {
        let data = self.data_path(at);
        let modified = fs::metadata(&data)?.modified()?;
        fs::remove_file(&data)?;
        sync_parent(&data)?;
        remove_if_there(&self.meta_path(at, modified))
    }

    fn begin_upload(&self, id: &UploadId, upload: &Upload) -> io::Result<()> {
        self.make_dir(&self.upload_dir(id), &[], "upload.json", upload)
    }

    fn put_part(
        &self,
        id: &UploadId,
        blob: Box<dyn Blob>,
        part: Numbered<'_>,
        old: Option<Numbered<'_>>,
    ) -> io::Result<()> {
        let dir = self.upload_dir(id);
        let name = part_name(part);
        file_blob(blob)?.rename(&dir.join(&name))?;
        match old.map(part_name).filter(|old| *old != name) {
            Some(old) => remove_if_there(&dir.join(old)),
            None => Ok(()),
        }
    }

    fn delete_part(&self, id: &UploadId, part: Numbered<'_>) -> io::Result<()> {
        remove_if_there(&self.upload_dir(id).join(part_name(part)))
    }

    fn join(&self, id: &UploadId, parts: &[(u32, StoredPart)]) -> io::Result<Box<dyn Blob>> {
        let mut blob = self.new_blob()?;
        for (number, part) in parts {
            let mut file = File::open(self.upload_dir(id).join(part_name((*number, part))))?;
            // Between two files this is copy_file_range: nothing passes through this process.
            let copied = io::copy(&mut file, &mut blob.file)?;
            if copied != part.bytes {
                return Err(io::Error::other(format!("part {number} has {copied} bytes instead of {}", part.bytes)));
            }
        }
        blob.sync()?;
        Ok(Box::new(blob))
    }

    fn end_upload(&self, id: &UploadId) -> io::Result<()> {
        self.remove_dir(&self.upload_dir(id))
    }
}

impl Blob for FileBlob {
    fn write(&mut self, chunk: Bytes) -> io::Result<()> {
        self.file.write_all(&chunk)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.set_modified(SystemTime::now())?;
        self.file.sync_all()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

impl Content for FileBlob {
    fn read(&self, at: u64, max: usize) -> io::Result<Bytes> {
        Content::read(&self.file, at, max)
    }
}

impl FileBlob {
    fn rename(mut self, target: &Path) -> io::Result<()> {
        fs::rename(&self.path, target)?;
        self.named = true;
        sync_parent(target)
    }
}

impl Drop for FileBlob {
    fn drop(&mut self) {
        if !self.named {
            let _ = fs::remove_file(&self.path);
        }
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

/// One harmless file name for any key.
fn file_name(key: &str) -> String {
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

fn part_name((number, part): Numbered<'_>) -> String {
    let md5 = u128::from_be_bytes(part.sums.md5.unwrap_or_default());
    format!("{number:05}.{:016x}.{md5:032x}", part.sums.crc64)
}

/// The parts of an upload; of two with one number, which a kill can leave, the younger.
fn load_parts(dir: &Path) -> io::Result<BTreeMap<u32, StoredPart>> {
    let mut parts: BTreeMap<u32, StoredPart> = BTreeMap::new();
    for (name, path) in entries(dir)? {
        let Some((number, crc64, md5)) = parse_part_name(&name) else { continue };
        let found = fs::metadata(path)?;
        let (bytes, modified) = (found.len(), found.modified()?);
        let part = StoredPart { bytes, sums: Sums { crc64, md5: Some(md5.to_be_bytes()), bytes }, modified };
        if parts.get(&number).is_none_or(|other| other.modified < modified) {
            parts.insert(number, part);
        }
    }
    Ok(parts)
}

fn parse_part_name(name: &str) -> Option<(u32, u64, u128)> {
    let (number, sums) = name.split_once('.')?;
    let (crc64, md5) = sums.split_once('.')?;
    Some((number.parse().ok()?, u64::from_str_radix(crc64, 16).ok()?, u128::from_str_radix(md5, 16).ok()?))
}

fn stamp(modified: SystemTime) -> u128 {
    modified.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()
}

fn entries(dir: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if let Ok(name) = entry.file_name().into_string() {
            entries.push((name, entry.path()));
        }
    }
    Ok(entries)
}

fn write_record(path: &Path, record: &impl Serialize) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(&serde_json::to_vec(record)?)?;
    file.sync_all()
}

fn read_record<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    let mut text = Vec::new();
    File::open(path).and_then(|mut file| file.read_to_end(&mut text)).map_err(|error| at_path(path, error))?;
    serde_json::from_slice(&text).map_err(|error| at_path(path, error.into()))
}

fn at_path(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), sync_dir)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Catalog, Checksums, Kind, NewObject};
    use super::*;

    fn at(key: &str) -> Address {
        Address { bucket: Bucket::new("demo").unwrap(), key: key.to_owned() }
    }

    fn open(root: &Path) -> Catalog {
        let catalog = Catalog::open(Box::new(DirMedium::open(root).unwrap())).unwrap();
        catalog.make_bucket(&Bucket::new("demo").unwrap(), BucketRecord::new()).unwrap();
        catalog
    }

    fn put(catalog: &Catalog, key: &str, text: &'static str) {
        let mut blob = catalog.blob().unwrap();
        blob.write(Bytes::from_static(text.as_bytes())).unwrap();
        blob.sync().unwrap();
        let mut sums = Checksums::new(true);
        sums.update(text.as_bytes());
        let new = NewObject { sums: sums.finish(), headers: Vec::new(), kind: Kind::Normal };
        catalog.put_object(&at(key), blob, new, false).unwrap();
    }

    fn metas(root: &Path) -> Vec<PathBuf> {
        entries(&root.join("buckets/demo/meta")).unwrap().into_iter().map(|(_, path)| path).collect()
    }

    #[test]
    fn a_kill_between_the_two_files_of_an_object_leaves_the_old_version() {
        let dir = tempfile::tempdir().unwrap();
        put(&open(dir.path()), "k", "old");
        let never_came = dir.path().join("buckets/demo/meta/k.12345.json");
        fs::write(&never_came, b"{ torn").unwrap();
        fs::write(dir.path().join("buckets/demo/meta/other.1.json"), b"").unwrap();
        let catalog = open(dir.path());
        assert_eq!(catalog.object(&at("k")).unwrap().bytes, 3);
        assert_eq!(catalog.open_object(&at("k")).unwrap().1.read(0, 9).unwrap(), "old");
        assert!(catalog.object(&at("other")).is_err());
        assert_eq!(metas(dir.path()).len(), 1);
    }

    #[test]
    fn overwriting_leaves_one_pair_of_files_and_deleting_none() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = open(dir.path());
        for text in ["one", "two", "three"] {
            put(&catalog, "k", text);
        }
        assert_eq!(metas(dir.path()).len(), 1);
        assert_eq!(fs::read(dir.path().join("buckets/demo/objects/k")).unwrap(), b"three");
        catalog.delete_object(&at("k")).unwrap();
        assert_eq!(metas(dir.path()).len(), 0);
        assert_eq!(entries(&dir.path().join("incoming")).unwrap().len(), 0);
    }

    #[test]
    fn a_file_changed_by_hand_is_not_shown_and_not_destroyed() {
        let dir = tempfile::tempdir().unwrap();
        put(&open(dir.path()), "k", "text");
        let data = dir.path().join("buckets/demo/objects/k");
        fs::write(&data, "edited").unwrap();
        File::options().write(true).open(&data).unwrap().set_modified(UNIX_EPOCH).unwrap();
        assert!(open(dir.path()).object(&at("k")).is_err());
        assert_eq!(fs::read(&data).unwrap(), b"edited");
        assert_eq!(metas(dir.path()).len(), 1);
    }

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
