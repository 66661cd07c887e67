//! Reads a store at its start.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::layout::{Layout, PartName, parse_meta_name, stamp};
use crate::model::object::{Bucket, UploadId};
use crate::server::store::{Object, StoredPart, Sums, Survivors};

/// # Errors
/// If something of the store cannot be read.
pub(super) fn load(layout: &Layout) -> io::Result<Survivors> {
    let mut survivors = Survivors::default();
    for (name, _) in entries(&layout.buckets())? {
        let Ok(bucket) = Bucket::new(name) else { continue };
        let record = read_record(&layout.bucket_record(&bucket))?;
        let objects = load_objects(layout, &bucket)?;
        survivors.buckets.insert(bucket, (record, objects));
    }
    for (name, path) in entries(&layout.uploads())? {
        let upload = read_record(&path.join("upload.json"))?;
        survivors.uploads.push((UploadId(name), upload, load_parts(&path)?));
    }
    Ok(survivors)
}

fn load_objects(layout: &Layout, bucket: &Bucket) -> io::Result<Vec<Object>> {
    let mut metas: BTreeMap<String, Vec<(u128, PathBuf)>> = BTreeMap::new();
    for (name, path) in entries(&layout.metas(bucket))? {
        if let Some((object, stamp)) = parse_meta_name(&name) {
            metas.entry(object.to_owned()).or_default().push((stamp, path));
        }
    }
    let data = layout.objects(bucket);
    let loaded = metas.into_iter().map(|(name, metas)| load_object(&data.join(name), metas));
    loaded.filter_map(Result::transpose).collect()
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

/// The parts of an upload; of two with one number, which a kill can leave, the younger.
fn load_parts(dir: &Path) -> io::Result<BTreeMap<u32, StoredPart>> {
    let mut parts: BTreeMap<u32, StoredPart> = BTreeMap::new();
    for (name, path) in entries(dir)? {
        let Some(name) = PartName::parse(&name) else { continue };
        let found = fs::metadata(path)?;
        let (bytes, modified) = (found.len(), found.modified()?);
        let sums = Sums { crc64: name.crc64, md5: Some(name.md5.to_be_bytes()), bytes };
        if parts.get(&name.number).is_none_or(|other| other.modified < modified) {
            parts.insert(name.number, StoredPart { bytes, sums, modified });
        }
    }
    Ok(parts)
}

pub(super) fn entries(dir: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if let Ok(name) = entry.file_name().into_string() {
            entries.push((name, entry.path()));
        }
    }
    Ok(entries)
}

fn read_record<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    let mut text = Vec::new();
    File::open(path).and_then(|mut file| file.read_to_end(&mut text)).map_err(|error| at_path(path, error))?;
    serde_json::from_slice(&text).map_err(|error| at_path(path, error.into()))
}

pub(super) fn at_path(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
