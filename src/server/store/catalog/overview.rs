//! What there is, as the status page shows it.

use std::sync::Arc;

use serde::Serialize;

use super::{BucketState, Catalog, UploadState, lock, read};
use crate::model::object::Bucket;
use crate::server::store::Object;
use crate::server::xml::iso;

/// A bucket as the status page shows it.
#[derive(Serialize)]
pub(crate) struct BucketView {
    name: String,
    acl: &'static str,
    objects: usize,
    bytes: u64,
    uploads: usize,
    /// Its first objects by key.
    first: Vec<ObjectView>,
}

#[derive(Serialize)]
pub(crate) struct ObjectView {
    key: String,
    bytes: u64,
    kind: &'static str,
    /// As text: not every reader of JSON has numbers of 64 bits.
    crc64: String,
    modified: String,
}

/// An unfinished upload as the status page shows it.
#[derive(Serialize)]
pub(crate) struct UploadView {
    bucket: String,
    key: String,
    id: String,
    initiated: String,
    parts: usize,
    bytes: u64,
    /// Of the parts, such as `1-5, 7`.
    numbers: String,
}

impl Catalog {
    /// What there is, up to `max` buckets, uploads, and objects of all buckets together.
    pub fn overview(&self, max: usize) -> (Vec<BucketView>, Vec<UploadView>) {
        let mut open: Vec<Arc<UploadState>> = Vec::new();
        let mut ids = Vec::new();
        for (id, state) in read(&self.uploads).iter() {
            open.push(state.clone());
            ids.push(id.0.clone());
        }
        let mut left = max;
        let view = |(name, state): (&Bucket, &BucketState)| {
            let first: Vec<ObjectView> =
                state.objects.values().take(left).map(|object| ObjectView::of(object)).collect();
            left -= first.len();
            BucketView {
                name: name.as_str().to_owned(),
                acl: state.record.acl.name(),
                objects: state.objects.len(),
                bytes: state.objects.values().map(|object| object.bytes).sum(),
                uploads: open.iter().filter(|upload| upload.upload.bucket == *name).count(),
                first,
            }
        };
        let buckets = read(&self.buckets).iter().take(max).map(view).collect();
        let mut uploads: Vec<UploadView> = ids.iter().zip(&open).map(|(id, state)| UploadView::of(id, state)).collect();
        uploads.sort_by(|a, b| b.initiated.cmp(&a.initiated).then_with(|| a.id.cmp(&b.id)));
        uploads.truncate(max);
        (buckets, uploads)
    }
}

impl ObjectView {
    fn of(object: &Object) -> Self {
        Self {
            key: object.key.clone(),
            bytes: object.bytes,
            kind: object.kind.name(),
            crc64: format!("{:016x}", object.crc64),
            modified: iso(object.modified),
        }
    }
}

impl UploadView {
    fn of(id: &str, state: &UploadState) -> Self {
        let parts = lock(&state.parts);
        Self {
            bucket: state.upload.bucket.as_str().to_owned(),
            key: state.upload.key.clone(),
            id: id.to_owned(),
            initiated: iso(state.upload.initiated),
            parts: parts.len(),
            bytes: parts.values().map(|part| part.bytes).sum(),
            numbers: ranges(parts.keys().copied()),
        }
    }
}

/// Ascending numbers as people write them: `1-5, 7`.
fn ranges(numbers: impl Iterator<Item = u32>) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => runs.push((number, number)),
        }
    }
    let text = |(first, last): (u32, u32)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    runs.into_iter().map(text).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_runs() {
        assert_eq!(ranges([1, 2, 3, 5, 7, 8].into_iter()), "1-3, 5, 7-8");
        assert_eq!(ranges([].into_iter()), "");
    }
}
