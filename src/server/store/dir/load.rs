//! Reads a store at its start. What is damaged is left where it is and told; everything else is served.
//!
//! Damaged is what cannot be read, is not a record, or is not the record of what it is named for.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::layout::{Layout, PartName, file_name, parse_meta_name, stamp};
use crate::model::object::{Bucket, UploadId};
use crate::server::store::{BucketRecord, Object, StoredPart, Sums, Survivors, Upload};

/// Longer than any record: a request has no more headers.
const RECORD_MAX: u64 = 4 << 20;
const OBJECT: &str =
    "an object is neither listed nor served: put it again, delete it, or repair this file and start again";
const BUCKET: &str =
    "a bucket is served as a private one made now: set its ACL again, or repair this file and start again";
const CONTENTS: &str = "the objects of a bucket cannot be served: repair this and start again";
const UPLOAD: &str = "an upload cannot be resumed: abort it and begin another, or repair this and start again";
const PART: &str = "a part is missing from its upload: send it again, or repair this file and start again";
const LEFTOVER: &str = "what an earlier version left could not be removed; it does no harm";

/// What was found, and the places that are damaged: data files, directories of buckets and of uploads.
#[derive(Default)]
pub(super) struct Found {
    pub survivors: Survivors,
    pub damaged: HashSet<PathBuf>,
}

/// # Errors
/// If the directories of buckets or of uploads cannot be read.
pub(super) fn load(layout: &Layout) -> io::Result<Found> {
    let mut found = Found::default();
    for (name, path) in entries(&layout.buckets())? {
        match Bucket::new(name) {
            Ok(bucket) => found.bucket(layout, bucket),
            Err(_) => tracing::warn!(file = %path.display(), "not a bucket: its name cannot be that of one"),
        }
    }
    for (name, path) in entries(&layout.uploads())? {
        found.upload(UploadId(name), path);
    }
    Ok(found)
}

impl Found {
    /// Every entry with the name of a bucket is one: nothing else can be made there.
    fn bucket(&mut self, layout: &Layout, bucket: Bucket) {
        let path = layout.bucket_record(&bucket);
        let record = read_record(&path).unwrap_or_else(|error| {
            damaged(&path, &error, BUCKET);
            BucketRecord::new()
        });
        let objects = self.objects(layout, &bucket).unwrap_or_else(|error| {
            let path = layout.bucket(&bucket);
            damaged(&path, &error, CONTENTS);
            self.damaged.insert(path);
            Vec::new()
        });
        self.survivors.buckets.insert(bucket, (record, objects));
    }

    /// # Errors
    /// If the directories of the bucket cannot be read.
    fn objects(&mut self, layout: &Layout, bucket: &Bucket) -> io::Result<Vec<Object>> {
        let data = layout.objects(bucket);
        let mut metas: BTreeMap<String, Vec<(u128, PathBuf)>> = BTreeMap::new();
        for (name, _) in entries(&data)? {
            metas.insert(name, Vec::new());
        }
        for (name, path) in entries(&layout.metas(bucket))? {
            if let Some((object, stamp)) = parse_meta_name(&name) {
                metas.entry(object.to_owned()).or_default().push((stamp, path));
            }
        }
        let mut objects = Vec::new();
        for (name, metas) in metas {
            let path = data.join(&name);
            match load_object(&path, &name, metas) {
                Ok(object) => objects.extend(object),
                Err((place, error)) => {
                    damaged(&place, &error, OBJECT);
                    self.damaged.insert(path);
                }
            }
        }
        Ok(objects)
    }

    fn upload(&mut self, id: UploadId, path: PathBuf) {
        let record = path.join("upload.json");
        match read_record(&record).and_then(|upload: Upload| Ok((upload, load_parts(&path)?))) {
            Ok((upload, (parts, lost))) => {
                self.survivors.uploads.push((id, upload, parts));
                self.damaged.extend(lost);
            }
            Err(error) => {
                damaged(&record, &error, UPLOAD);
                self.damaged.insert(path);
            }
        }
    }
}

fn damaged(path: &Path, error: &io::Error, what_now: &str) {
    tracing::warn!(file = %path.display(), %error, "damaged: {what_now}");
}

/// The object of a data file: the one whose meta file has its stamp. Meta files of other versions are removed, but
/// none if no version fits, so that a directory copied without its times can be repaired.
///
/// # Errors
/// What is damaged, and how.
fn load_object(data: &Path, name: &str, metas: Vec<(u128, PathBuf)>) -> Result<Option<Object>, (PathBuf, io::Error)> {
    let in_data = |error| (data.to_owned(), error);
    let (modified, bytes) = match fs::metadata(data) {
        Ok(found) if found.is_file() => (found.modified().map_err(in_data)?, found.len()),
        Ok(_) => return Err(in_data(io::Error::other("not a file"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            remove(metas);
            return Ok(None);
        }
        Err(error) => return Err(in_data(error)),
    };
    let (mut fitting, others): (Vec<_>, Vec<_>) = metas.into_iter().partition(|(of, _)| stamp(modified) == *of);
    let Some((_, path)) = fitting.pop() else {
        return Err(in_data(io::Error::other("changed by something else than this store: no record has its time")));
    };
    let object = read_record(&path).and_then(|object: Object| match file_name(&object.key) == name {
        true => Ok(Object { modified, ..object }),
        false => Err(io::Error::other("the record of another object")),
    });
    let object = object.map_err(|error| (path, error))?;
    if object.bytes != bytes {
        let error = format!("{bytes} bytes, and its record says {}", object.bytes);
        return Err(in_data(io::Error::other(error)));
    }
    remove(others);
    Ok(Some(object))
}

fn remove(metas: Vec<(u128, PathBuf)>) {
    for (_, path) in metas {
        if let Err(error) = fs::remove_file(&path) {
            tracing::warn!(file = %path.display(), %error, "{LEFTOVER}");
        }
    }
}

/// The parts of an upload, of two with one number, which a kill can leave, the younger; and the files of those that are
/// lost.
fn load_parts(dir: &Path) -> io::Result<(BTreeMap<u32, StoredPart>, Vec<PathBuf>)> {
    let mut parts: BTreeMap<u32, StoredPart> = BTreeMap::new();
    let mut lost = Vec::new();
    for (name, path) in entries(dir)? {
        let Some(name) = PartName::parse(&name) else { continue };
        match load_part(&name, &path) {
            Ok(part) if parts.get(&name.number).is_none_or(|other| other.modified < part.modified) => {
                parts.insert(name.number, part);
            }
            Ok(_) => {}
            Err(error) => {
                damaged(&path, &error, PART);
                lost.push((name.number, path));
            }
        }
    }
    let lost = lost.into_iter().filter(|(number, _)| !parts.contains_key(number)).map(|(_, path)| path).collect();
    Ok((parts, lost))
}

fn load_part(name: &PartName, path: &Path) -> io::Result<StoredPart> {
    let found = fs::metadata(path)?;
    let bytes = found.len();
    if !found.is_file() || name.bytes.is_some_and(|named| named != bytes) {
        return Err(io::Error::other(format!("not a file of the length in its name, but {bytes} bytes")));
    }
    let sums = Sums { crc64: name.crc64, md5: Some(name.md5.to_be_bytes()), bytes };
    Ok(StoredPart { bytes, sums, modified: found.modified()? })
}

/// What a directory holds, but for names that this store cannot have given.
pub(super) fn entries(dir: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(dir).map_err(|error| at_path(dir, error))? {
        let entry = entry.map_err(|error| at_path(dir, error))?;
        if let Ok(name) = entry.file_name().into_string() {
            entries.push((name, entry.path()));
        }
    }
    Ok(entries)
}

fn read_record<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a file"));
    }
    let mut text = Vec::new();
    File::open(path)?.take(RECORD_MAX).read_to_end(&mut text)?;
    serde_json::from_slice(&text).map_err(|error| match text.is_empty() {
        true => io::Error::other("empty"),
        false => io::Error::other(format!("not a record: {error}")),
    })
}

pub(super) fn at_path(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
