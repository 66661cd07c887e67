//! What exists and the rules about it. All calls block; the medium underneath decides for how long.
//!
//! One object, one part and one upload are each changed by one caller at a time, so that the order on the medium is
//! the order in the catalog. An upload that is being completed or aborted takes no more parts.

mod overview;

use std::collections::BTreeMap;
use std::collections::hash_map::{DefaultHasher, HashMap};
use std::hash::{Hash, Hasher};
use std::io;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::SystemTime;

use super::checksums::{Sums, appended_etag, joined_etag};
use super::{Address, Blob, BucketRecord, Content, Headers, Kind, Medium, Object, StoredPart, Upload};
use crate::model::crc64;
use crate::model::object::{Bucket, ETag, UploadId};
use crate::model::part::Limits;
use crate::server::xml::ListedPart;

pub(crate) use overview::{BucketView, UploadView};

/// The header with the access control list of an object.
const ACL: &str = "x-oss-object-acl";

/// Why the catalog did not do it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("The specified bucket does not exist.")]
    NoSuchBucket,
    #[error("The specified key does not exist.")]
    NoSuchKey,
    #[error(
        "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or \
         completed."
    )]
    NoSuchUpload,
    #[error(
        "What this store knew of the object is damaged; its log names the file. Put the object again, or delete it."
    )]
    DamagedObject,
    #[error("What this store knew of the upload is damaged; its log names the file. Abort it and begin another.")]
    DamagedUpload,
    #[error("The bucket exists with another storage class or redundancy, which cannot be changed.")]
    BucketExists,
    #[error("The bucket is not empty: delete its objects and abort its uploads first.")]
    BucketNotEmpty,
    #[error("The object you specified already exists and can not be overwritten.")]
    AlreadyExists,
    #[error("The object is not appendable")]
    NotAppendable,
    #[error("Position is not equal to file length: append at {bytes}.")]
    Position { bytes: u64 },
    #[error("The list of parts was not in ascending order. Parts list must specified in order by part number.")]
    PartOrder,
    #[error("For sequential multipart upload, you must upload or complete parts with sequential part number.")]
    PartNotSequential(u32),
    #[error("For sequential multipart upload, you can't overwrite uploaded parts.")]
    PartExists { number: u32, etag: String },
    #[error(
        "One or more of the specified parts could not be found or the specified entity tag might not have matched the \
         part's entity tag."
    )]
    Part(u32),
    #[error("Your proposed upload is smaller than the minimum allowed size.")]
    PartTooSmall { number: u32, bytes: u64 },
    #[error(transparent)]
    Io(#[from] io::Error),
}

type Result<T> = std::result::Result<T, Refusal>;

const TURNS: usize = 4096;

pub(crate) struct Catalog {
    medium: Box<dyn Medium>,
    buckets: RwLock<BTreeMap<Bucket, BucketState>>,
    uploads: RwLock<HashMap<UploadId, Arc<UploadState>>>,
    /// One of these is held while an object or part is changed, chosen by its name. There are many more than requests
    /// at a time: two that meet by chance cannot share a flush.
    turns: Box<[Mutex<()>]>,
}

struct BucketState {
    record: BucketRecord,
    objects: BTreeMap<String, Arc<Object>>,
}

struct UploadState {
    upload: Upload,
    parts: Mutex<BTreeMap<u32, StoredPart>>,
    /// False once completed or aborted; held for reading while a part is taken in.
    open: RwLock<bool>,
}

/// An object about to be stored.
pub(crate) struct NewObject {
    pub sums: Sums,
    pub headers: Headers,
    pub kind: Kind,
}

impl NewObject {
    fn at(self, at: &Address) -> Object {
        Object {
            key: at.key.clone(),
            bytes: self.sums.bytes,
            etag: self.sums.etag(),
            crc64: self.sums.crc64,
            content_md5: self.sums.content_md5(),
            kind: self.kind,
            headers: self.headers,
            modified: SystemTime::now(),
        }
    }
}

/// What is said of an upload only when it is completed.
pub(crate) struct Last {
    /// An access control list of its own.
    pub acl: Option<String>,
    /// An object that exists is kept.
    pub keep: bool,
}

/// How much is in a bucket.
pub(crate) struct Totals {
    pub objects: usize,
    pub bytes: u64,
    pub uploads: usize,
}

/// Which page of a listing.
pub(crate) struct PageQuery {
    pub prefix: String,
    pub delimiter: String,
    /// Only what comes after this, in byte order.
    pub after: String,
    pub max: usize,
}

/// One page: items and the prefixes that stand for many, in order.
pub(crate) struct Page<T> {
    pub items: Vec<T>,
    pub prefixes: Vec<String>,
    /// Where the next page goes on; `None` on the last.
    pub next: Option<String>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

impl Catalog {
    /// Reads what survived on the medium.
    pub fn open(medium: Box<dyn Medium>) -> io::Result<Self> {
        let survivors = medium.load()?;
        let named = |object: Object| (object.key.clone(), Arc::new(object));
        let bucket = |(name, (record, objects)): (Bucket, (BucketRecord, Vec<Object>))| {
            (name, BucketState { record, objects: objects.into_iter().map(named).collect() })
        };
        let upload = |(id, upload, parts)| (id, Arc::new(UploadState::new(upload, parts)));
        Ok(Self {
            medium,
            buckets: RwLock::new(survivors.buckets.into_iter().map(bucket).collect()),
            uploads: RwLock::new(survivors.uploads.into_iter().map(upload).collect()),
            turns: (0..TURNS).map(|_| Mutex::new(())).collect(),
        })
    }

    pub fn waits(&self) -> bool {
        self.medium.waits()
    }

    pub fn wants_md5(&self) -> bool {
        self.medium.wants_md5()
    }

    /// Does not wait for a disk.
    pub fn blob(&self) -> io::Result<Box<dyn Blob>> {
        self.medium.blob()
    }

    /// Makes the bucket unless it exists; one that exists and is another kind of bucket is not what was asked for.
    pub fn make_bucket(&self, bucket: &Bucket, record: BucketRecord) -> Result<()> {
        let _turn = self.turn(bucket);
        if let Some(there) = read(&self.buckets).get(bucket) {
            return if there.record.is_as(&record) { Ok(()) } else { Err(Refusal::BucketExists) };
        }
        self.medium.make_bucket(bucket, &record)?;
        let state = BucketState { record, objects: BTreeMap::new() };
        self.write_buckets().insert(bucket.clone(), state);
        Ok(())
    }

    /// Changes what is known of the bucket.
    pub fn amend_bucket(&self, bucket: &Bucket, change: impl FnOnce(&mut BucketRecord)) -> Result<()> {
        let _turn = self.turn(bucket);
        let mut record = self.bucket(bucket)?;
        change(&mut record);
        self.medium.amend_bucket(bucket, &record)?;
        self.write_buckets().get_mut(bucket).ok_or(Refusal::NoSuchBucket)?.record = record;
        Ok(())
    }

    /// Deletes the bucket, which must have neither objects nor uploads.
    pub fn delete_bucket(&self, bucket: &Bucket) -> Result<()> {
        let _turn = self.turn(bucket);
        let mut buckets = self.write_buckets();
        let state = buckets.get(bucket).ok_or(Refusal::NoSuchBucket)?;
        let has_uploads = read(&self.uploads).values().any(|upload| upload.upload.bucket == *bucket);
        if has_uploads || !state.objects.is_empty() {
            return Err(Refusal::BucketNotEmpty);
        }
        self.medium.delete_bucket(bucket).map_err(|error| match error.kind() {
            io::ErrorKind::DirectoryNotEmpty => Refusal::BucketNotEmpty,
            _ => error.into(),
        })?;
        buckets.remove(bucket);
        Ok(())
    }

    pub fn bucket(&self, bucket: &Bucket) -> Result<BucketRecord> {
        read(&self.buckets).get(bucket).map(|state| state.record.clone()).ok_or(Refusal::NoSuchBucket)
    }

    /// All buckets by name.
    pub fn list_buckets(&self) -> Vec<(Bucket, BucketRecord)> {
        read(&self.buckets).iter().map(|(name, state)| (name.clone(), state.record.clone())).collect()
    }

    /// How much is in a bucket.
    pub fn totals(&self, bucket: &Bucket) -> Result<Totals> {
        let uploads = read(&self.uploads).values().filter(|state| state.upload.bucket == *bucket).count();
        let buckets = read(&self.buckets);
        let objects = &buckets.get(bucket).ok_or(Refusal::NoSuchBucket)?.objects;
        Ok(Totals { objects: objects.len(), bytes: objects.values().map(|object| object.bytes).sum(), uploads })
    }

    /// Stores finished bytes as an object, in place of an older one unless `keep`.
    pub fn put_object(&self, at: &Address, blob: Box<dyn Blob>, new: NewObject, keep: bool) -> Result<Arc<Object>> {
        let _turn = self.turn(at);
        self.check_overwrite(at, keep)?;
        self.show(at, blob, new.at(at))
    }

    /// Appends finished bytes to an object of `position` bytes; makes the object if there is none.
    pub fn append(&self, at: &Address, position: u64, blob: Box<dyn Blob>, new: NewObject) -> Result<Arc<Object>> {
        let _turn = self.turn(at);
        let object = match self.appendable(at, position)? {
            None => new.at(at),
            Some(old) => Object {
                headers: with_acl(old.headers.clone(), new.headers.into_iter().find(|(name, _)| name == ACL)),
                bytes: old.bytes + new.sums.bytes,
                etag: appended_etag(&old.etag, &new.sums),
                crc64: crc64::combine_all([(old.crc64, old.bytes), (new.sums.crc64, new.sums.bytes)]),
                ..(*old).clone()
            },
        };
        let blob = if position == 0 { blob } else { self.medium.extend(at, blob)? };
        let object = Object { content_md5: None, kind: Kind::Appendable, ..object };
        self.show(at, blob, object)
    }

    /// The object that may be appended to at `position`; `None` where one may be begun.
    pub fn appendable(&self, at: &Address, position: u64) -> Result<Option<Arc<Object>>> {
        match self.object(at) {
            Err(Refusal::NoSuchKey) if position == 0 => Ok(None),
            Err(Refusal::NoSuchKey) => Err(Refusal::Position { bytes: 0 }),
            Err(refusal) => Err(refusal),
            Ok(old) if old.kind != Kind::Appendable => Err(Refusal::NotAppendable),
            Ok(old) if old.bytes != position => Err(Refusal::Position { bytes: old.bytes }),
            Ok(old) => Ok(Some(old)),
        }
    }

    /// Changes the headers of an object; its bytes stay.
    pub fn amend_object(&self, at: &Address, change: impl FnOnce(&mut Headers)) -> Result<Arc<Object>> {
        let _turn = self.turn(at);
        let mut object = (*self.object(at)?).clone();
        change(&mut object.headers);
        self.medium.amend_object(at, &object)?;
        self.insert(at, object)
    }

    pub fn object(&self, at: &Address) -> Result<Arc<Object>> {
        let buckets = read(&self.buckets);
        let bucket = buckets.get(&at.bucket).ok_or(Refusal::NoSuchBucket)?;
        let missing = || if self.medium.hides(at) { Refusal::DamagedObject } else { Refusal::NoSuchKey };
        bucket.objects.get(&at.key).cloned().ok_or_else(missing)
    }

    /// An object and its bytes, of one and the same version.
    pub fn open_object(&self, at: &Address) -> Result<(Arc<Object>, Box<dyn Content>)> {
        let _turn = self.turn(at);
        let object = self.object(at)?;
        let content = self.medium.open_object(at)?.ok_or(Refusal::NoSuchKey)?;
        Ok((object, content))
    }

    /// Deletes the object if it exists.
    pub fn delete_object(&self, at: &Address) -> Result<()> {
        let _turn = self.turn(at);
        match self.object(at) {
            Ok(_) | Err(Refusal::DamagedObject) => self.medium.delete_object(at)?,
            Err(Refusal::NoSuchKey) => return Ok(()),
            Err(refusal) => return Err(refusal),
        }
        if let Some(bucket) = self.write_buckets().get_mut(&at.bucket) {
            bucket.objects.remove(&at.key);
        }
        Ok(())
    }

    /// A page of the objects of a bucket, in byte order of their keys.
    pub fn list_objects(&self, bucket: &Bucket, query: &PageQuery) -> Result<Page<Arc<Object>>> {
        let buckets = read(&self.buckets);
        let objects = &buckets.get(bucket).ok_or(Refusal::NoSuchBucket)?.objects;
        let from =
            if query.after >= query.prefix { Bound::Excluded(&query.after) } else { Bound::Included(&query.prefix) };
        let items = objects.range::<String, _>((from, Bound::Unbounded));
        Ok(page(items.map(|(key, object)| (key.as_str(), object.clone())), query))
    }

    pub fn begin_upload(&self, upload: Upload) -> Result<UploadId> {
        let at = Address { bucket: upload.bucket.clone(), key: upload.key.clone() };
        self.bucket(&at.bucket)?;
        self.check_overwrite(&at, upload.forbid_overwrite)?;
        let id = UploadId(format!("{:032X}", fastrand::u128(..)));
        self.medium.begin_upload(&id, &upload)?;
        let state = Arc::new(UploadState::new(upload, BTreeMap::new()));
        self.uploads.write().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), state);
        // The bucket may have been deleted meanwhile, with no upload to be seen in it.
        self.bucket(&at.bucket).or_else(|refusal| self.forget(&id).and(Err(refusal)))?;
        Ok(id)
    }

    /// What was fixed when the upload began.
    pub fn upload(&self, at: &Address, id: &UploadId) -> Result<Upload> {
        Ok(self.upload_state(at, id)?.upload.clone())
    }

    /// What was fixed when the upload began, if it takes a part of this number now.
    pub fn upload_for(&self, at: &Address, id: &UploadId, number: u32) -> Result<Upload> {
        let state = self.upload_state(at, id)?;
        state.admit(number)?;
        Ok(state.upload.clone())
    }

    /// Takes a part in place of an earlier one of that number.
    pub fn put_part(&self, at: &Address, id: &UploadId, number: u32, blob: Box<dyn Blob>, sums: Sums) -> Result<()> {
        let state = self.upload_state(at, id)?;
        let open = read(&state.open);
        if !*open {
            return Err(Refusal::NoSuchUpload);
        }
        // Parts that come in order wait for each other, others only for those of their number.
        let _turn = self.turn(&(id, if state.upload.sequential { 0 } else { number }));
        state.admit(number)?;
        let part = StoredPart { bytes: sums.bytes, sums, modified: SystemTime::now() };
        let old = lock(&state.parts).get(&number).cloned();
        self.medium.put_part(id, blob, (number, &part), old.as_ref().map(|old| (number, old)))?;
        lock(&state.parts).insert(number, part);
        Ok(())
    }

    /// Forgets a part, as a store must not: of this number, or the one with the highest.
    pub fn lose_part(&self, at: &Address, id: &UploadId, number: Option<u32>) -> Result<()> {
        let state = self.upload_state(at, id)?;
        let mut parts = lock(&state.parts);
        let number = number.or(parts.last_key_value().map(|(number, _)| *number));
        match number.and_then(|number| Some((number, parts.remove(&number)?))) {
            Some((number, part)) => Ok(self.medium.delete_part(id, (number, &part))?),
            None => Ok(()),
        }
    }

    /// Up to `max` parts with numbers above `after`, and whether there are more.
    pub fn list_parts(
        &self,
        at: &Address,
        id: &UploadId,
        after: u32,
        max: usize,
    ) -> Result<(Vec<(u32, StoredPart)>, bool)> {
        let state = self.upload_state(at, id)?;
        let parts = lock(&state.parts);
        let mut rest = parts.range((Bound::Excluded(after), Bound::Unbounded));
        let taken = rest.by_ref().take(max).map(|(number, part)| (*number, part.clone())).collect();
        Ok((taken, rest.next().is_some()))
    }

    /// All uploads of a bucket by key and id.
    pub fn list_uploads(&self, bucket: &Bucket) -> Result<Vec<(UploadId, Upload)>> {
        self.bucket(bucket)?;
        let uploads = read(&self.uploads);
        let of_bucket = uploads.iter().filter(|(_, state)| state.upload.bucket == *bucket);
        let mut all: Vec<_> = of_bucket.map(|(id, state)| (id.clone(), state.upload.clone())).collect();
        all.sort_by(|(a_id, a), (b_id, b)| (&a.key, a_id).cmp(&(&b.key, b_id)));
        Ok(all)
    }

    /// Makes the object of the listed parts (`None`: of all parts), in the order of checks of section 4.14.
    pub fn complete(
        &self,
        at: &Address,
        id: &UploadId,
        list: Option<&[ListedPart]>,
        last: Last,
    ) -> Result<Arc<Object>> {
        let state = self.upload_state(at, id)?;
        let mut open = state.open.write().unwrap_or_else(PoisonError::into_inner);
        if !*open {
            return Err(Refusal::NoSuchUpload);
        }
        if list.is_none() && self.medium.lacks_part(id) {
            return Err(Refusal::DamagedUpload);
        }
        let parts = state.chosen(list)?;
        let _turn = self.turn(at);
        self.check_overwrite(at, last.keep || state.upload.forbid_overwrite)?;
        let blob = self.medium.join(id, &parts)?;
        let mut object = joined(&state.upload, &parts);
        if state.upload.sequential && self.medium.wants_md5() {
            object.content_md5 = Sums::read(&*blob)?.content_md5();
        }
        object.headers = with_acl(object.headers, last.acl.map(|acl| (ACL.to_owned(), acl)));
        let object = self.show(at, blob, object)?;
        *open = false;
        self.forget(id)?;
        Ok(object)
    }

    pub fn abort(&self, at: &Address, id: &UploadId) -> Result<()> {
        let state = match self.upload_state(at, id) {
            Err(Refusal::DamagedUpload) => return Ok(self.medium.end_upload(id)?),
            state => state?,
        };
        let mut open = state.open.write().unwrap_or_else(PoisonError::into_inner);
        if !*open {
            return Err(Refusal::NoSuchUpload);
        }
        *open = false;
        self.forget(id)
    }

    fn forget(&self, id: &UploadId) -> Result<()> {
        self.uploads.write().unwrap_or_else(PoisonError::into_inner).remove(id);
        Ok(self.medium.end_upload(id)?)
    }

    fn upload_state(&self, at: &Address, id: &UploadId) -> Result<Arc<UploadState>> {
        self.bucket(&at.bucket)?;
        let uploads = read(&self.uploads);
        let state = uploads.get(id).filter(|state| state.upload.bucket == at.bucket && state.upload.key == at.key);
        let missing = || if self.medium.hides_upload(id) { Refusal::DamagedUpload } else { Refusal::NoSuchUpload };
        state.cloned().ok_or_else(missing)
    }

    fn check_overwrite(&self, at: &Address, keep: bool) -> Result<()> {
        match self.object(at) {
            Ok(_) | Err(Refusal::DamagedObject) if keep => Err(Refusal::AlreadyExists),
            Ok(_) | Err(Refusal::NoSuchKey | Refusal::DamagedObject) => Ok(()),
            Err(refusal) => Err(refusal),
        }
    }

    /// First durable on the medium, then in the catalog. The caller has the turn of the object.
    fn show(&self, at: &Address, blob: Box<dyn Blob>, mut object: Object) -> Result<Arc<Object>> {
        object.modified = self.medium.put_object(at, blob, &object)?;
        self.insert(at, object)
    }

    fn insert(&self, at: &Address, object: Object) -> Result<Arc<Object>> {
        let object = Arc::new(object);
        let mut buckets = self.write_buckets();
        let bucket = buckets.get_mut(&at.bucket).ok_or(Refusal::NoSuchBucket)?;
        bucket.objects.insert(at.key.clone(), object.clone());
        Ok(object)
    }

    fn write_buckets(&self) -> RwLockWriteGuard<'_, BTreeMap<Bucket, BucketState>> {
        self.buckets.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self, name: &impl Hash) -> MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        lock(&self.turns[(hasher.finish() % self.turns.len() as u64) as usize])
    }
}

impl UploadState {
    fn new(upload: Upload, parts: BTreeMap<u32, StoredPart>) -> Self {
        Self { upload, parts: Mutex::new(parts), open: RwLock::new(true) }
    }

    /// An upload whose parts come in order takes only the next one.
    fn admit(&self, number: u32) -> Result<()> {
        if !self.upload.sequential {
            return Ok(());
        }
        let parts = lock(&self.parts);
        let next = parts.last_key_value().map_or(1, |(last, _)| last + 1);
        match parts.get(&number) {
            Some(part) => Err(Refusal::PartExists { number, etag: part.sums.etag() }),
            None if number == next => Ok(()),
            None => Err(Refusal::PartNotSequential(number)),
        }
    }

    /// Numbers ascend, and where parts came in order there is no gap.
    fn check_order(&self, list: &[ListedPart]) -> Result<()> {
        if !list.is_sorted_by(|a, b| a.number < b.number) {
            return Err(Refusal::PartOrder);
        }
        let mut numbered = list.iter().map(|listed| listed.number).zip(1..);
        match numbered.find(|(number, wanted)| self.upload.sequential && number != wanted) {
            Some((number, _)) => Err(Refusal::PartNotSequential(number)),
            None => Ok(()),
        }
    }

    /// The parts to join, checked.
    fn chosen(&self, list: Option<&[ListedPart]>) -> Result<Vec<(u32, StoredPart)>> {
        self.check_order(list.unwrap_or_default())?;
        let parts = lock(&self.parts);
        let chosen = match list {
            None => parts.iter().map(|(number, part)| (*number, part.clone())).collect(),
            Some(list) => list.iter().map(|listed| pick(&parts, listed)).collect::<Result<Vec<_>>>()?,
        };
        let small = |(_, part): &&(u32, StoredPart)| part.bytes < Limits::OSS.part_bytes_min;
        match chosen.iter().rev().skip(1).rev().find(small) {
            Some((number, part)) => Err(Refusal::PartTooSmall { number: *number, bytes: part.bytes }),
            None => Ok(chosen),
        }
    }
}

/// The access control list may be said anew by a later request than the one that fixed the other headers.
fn with_acl(mut headers: Headers, acl: Option<(String, String)>) -> Headers {
    if acl.is_some() {
        headers.retain(|(name, _)| name != ACL);
    }
    headers.extend(acl);
    headers
}

fn pick(parts: &BTreeMap<u32, StoredPart>, listed: &ListedPart) -> Result<(u32, StoredPart)> {
    let same = |part: &&StoredPart| ETag::new(&part.sums.etag()) == listed.etag;
    let part = parts.get(&listed.number).filter(same).ok_or(Refusal::Part(listed.number))?;
    Ok((listed.number, part.clone()))
}

fn joined(upload: &Upload, parts: &[(u32, StoredPart)]) -> Object {
    Object {
        key: upload.key.clone(),
        bytes: parts.iter().map(|(_, part)| part.bytes).sum(),
        etag: joined_etag(parts.iter().map(|(_, part)| part.sums.etag())),
        crc64: crc64::combine_all(parts.iter().map(|(_, part)| (part.sums.crc64, part.bytes))),
        content_md5: None,
        kind: Kind::Multipart,
        headers: upload.headers.clone(),
        modified: SystemTime::now(),
    }
}

/// Cuts one page out of items in byte order of their keys, the first not before the prefix.
pub(crate) fn page<'a, T>(items: impl Iterator<Item = (&'a str, T)>, query: &PageQuery) -> Page<T> {
    let mut page = Page { items: Vec::new(), prefixes: Vec::new(), next: None };
    let mut last = String::new();
    for (key, item) in items.take_while(|(key, _)| key.starts_with(&query.prefix)) {
        let common = common_prefix(key, query);
        if common.is_some_and(|common| common == query.after || page.prefixes.last().is_some_and(|p| p == common)) {
            continue;
        }
        if page.items.len() + page.prefixes.len() == query.max {
            page.next = Some(last);
            break;
        }
        last = common.unwrap_or(key).to_owned();
        match common {
            Some(common) => page.prefixes.push(common.to_owned()),
            None => page.items.push(item),
        }
    }
    page
}

/// The key up to and with the first delimiter behind the prefix.
fn common_prefix<'a>(key: &'a str, query: &PageQuery) -> Option<&'a str> {
    let rest = key.get(query.prefix.len()..).filter(|_| !query.delimiter.is_empty())?;
    let end = rest.find(&query.delimiter)? + query.prefix.len() + query.delimiter.len();
    key.get(..end)
}
