//! What the engine meets in a simulation, and what it must not do there: a store, a disk, faults, crashes, judges.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;

use super::plant::Plant;
use crate::checkpoint::wal::sim::Disk;
use crate::checkpoint::{Checkpoint, OpenUpload, StoredPart};
use crate::model::crc64::Digest;
use crate::model::object::{ETag, UploadId};
use crate::model::part::PartNumber;

/// The name of the log on the disk.
pub const LOG: &str = "log";

/// An upload that the store has open.
#[derive(Default)]
pub struct Open {
    pub parts: BTreeMap<u32, Bytes>,
    /// Whether any part ever came.
    pub had_parts: bool,
    /// Parts that the last listing left out though they are there or in the log: they may be sent again.
    pub hidden: BTreeSet<u32>,
}

/// Everything that outlives a process, and what is known about the one that runs.
pub struct World {
    pub random: fastrand::Rng,
    pub plant: Plant,
    pub disk: Disk,
    /// What the file holds now.
    pub content: Bytes,
    /// What every file held, by its path: one that comes back is what it was.
    pub contents: BTreeMap<PathBuf, Bytes>,
    pub uploads: BTreeMap<String, Open>,
    pub object: Option<Bytes>,
    next_upload: u32,
    /// Of 1,000 exchanges, how many go wrong.
    pub faults: u32,
    /// Steps until the process dies; `None`: it does not.
    pub steps_left: Option<u32>,
    pub dead: bool,
    /// Every part that the store ever took, as it would confirm it.
    pub taken: BTreeSet<(u32, String, u64)>,
    /// The log as it stands, and as it is promised to stand after a power loss.
    pub live: Option<Checkpoint>,
    pub promised: Option<Checkpoint>,
    /// Uploads that were durable once.
    ever_promised: BTreeSet<String>,
    /// ETags of parts that the log had when the file's identity changed, by upload and number: they are in the log no
    /// more, and a part that is the same in the file as it is now must not be sent again.
    pub claims: BTreeMap<(String, u32), String>,
    /// An upload whose id this process was told and has not made durable.
    pub told: Option<String>,
    /// Uploads of which the user was told that they stay open.
    pub warned: String,
    /// The promises that were broken.
    pub broken: Vec<String>,
}

/// A world, shared by everything in it.
#[derive(Clone)]
pub struct Shared(Arc<Mutex<World>>);

impl Shared {
    pub fn new(seed: u64, plant: Plant) -> Self {
        let disk = Disk::default();
        Self(Arc::new(Mutex::new(World {
            random: fastrand::Rng::with_seed(seed),
            plant,
            disk,
            content: Bytes::new(),
            contents: BTreeMap::new(),
            uploads: BTreeMap::new(),
            object: None,
            next_upload: 0,
            faults: 0,
            steps_left: None,
            dead: false,
            taken: BTreeSet::new(),
            live: None,
            promised: None,
            ever_promised: BTreeSet::new(),
            claims: BTreeMap::new(),
            told: None,
            warned: String::new(),
            broken: Vec::new(),
        })))
    }

    pub fn lock(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// A place where the process may die; it then never returns.
    pub async fn step(&self) {
        if self.lock().dies() {
            std::future::pending::<()>().await;
        }
    }

    /// The network takes its time.
    pub async fn delay(&self) {
        let ms = self.lock().random.u64(0..4);
        if ms > 0 {
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
    }
}

impl World {
    /// The file at `path` is the one to send from now on.
    pub fn take_file(&mut self, path: &Path, bytes: usize) {
        let random = &mut self.random;
        let fresh = || {
            let mut content = vec![0; bytes];
            random.fill(&mut content);
            content.into()
        };
        self.content = self.contents.entry(path.to_owned()).or_insert_with(fresh).clone();
    }

    /// The file is at `path` from now on. Half of those that were never there have lost a bit on the way.
    pub fn move_file(&mut self, path: &Path) {
        let mut content = self.content.to_vec();
        if self.random.bool() {
            let at = self.random.usize(0..content.len());
            // Another bit than the one that the network flips, lest one undo the other.
            content[at] ^= 2;
        }
        self.content = self.contents.entry(path.to_owned()).or_insert(content.into()).clone();
        if let Some(Checkpoint { upload_id: Some(UploadId(id)), parts, .. }) = &self.live {
            let claimed = parts.iter().map(|(n, part)| ((id.clone(), n.get()), part.etag.as_str().to_owned()));
            self.claims.extend(claimed);
        }
    }

    /// Counts a step; true when it is the last.
    pub fn dies(&mut self) -> bool {
        if let Some(left) = &mut self.steps_left {
            if *left == 0 {
                self.dead = true;
            }
            *left = left.saturating_sub(1);
        }
        self.dead
    }

    pub fn chance(&mut self, in_1000: u32) -> bool {
        self.random.u32(0..1000) < in_1000
    }

    pub fn break_promise(&mut self, what: impl Into<String>) {
        self.broken.push(what.into());
    }

    /// The log now reads so; `durable`: for good.
    pub fn log_is(&mut self, checkpoint: Checkpoint, durable: bool) {
        self.live = Some(checkpoint);
        if durable {
            self.promise();
        }
    }

    /// What stands in the log is durable from now on, or so the engine was told.
    pub fn promise(&mut self) {
        self.promised = self.live.clone();
        let known = self.promised.as_ref().map(known_uploads).unwrap_or_default();
        if self.told.as_ref().is_some_and(|id| known.contains(id)) {
            self.told = None;
        }
        self.ever_promised.extend(known);
    }

    pub fn initiate(&mut self) -> String {
        if let Some(id) = self.told.clone() {
            self.break_promise(format!("upload {id} was opened for nothing"));
        }
        self.next_upload += 1;
        let id = format!("upload-{:06}", self.next_upload);
        self.uploads.insert(id.clone(), Open::default());
        id
    }

    /// Judges and keeps a part; `None`: no such upload.
    pub fn put_part(&mut self, id: &str, number: u32, body: Bytes) -> Option<(String, u64)> {
        let (etag, crc64) = marks(&body);
        self.judge_part(id, number, &etag);
        let open = self.uploads.get_mut(id)?;
        open.parts.insert(number, body);
        open.had_parts = true;
        self.taken.insert((number, etag.clone(), crc64));
        Some((etag, crc64))
    }

    fn judge_part(&mut self, id: &str, number: u32, etag: &str) {
        let Some(open) = self.uploads.get(id) else { return };
        let durable = self.disk.durable(LOG).unwrap_or_default();
        if !durable.windows(id.len()).any(|window| window == id.as_bytes()) {
            self.break_promise(format!("part {number} of {id} was sent before the id was durable"));
            return;
        }
        let known = self.live.as_ref().filter(|log| log.upload_id.as_ref().is_some_and(|u| u.0 == id));
        let known = known.and_then(|log| log.parts.get(&PartNumber::new(number)?));
        let there = open.parts.get(&number).filter(|_| !open.hidden.contains(&number)).map(|body| marks(body).0);
        let claim = (id.to_owned(), number);
        let claimed = self.claims.get(&claim).filter(|claimed| *claimed == etag);
        let known = known.map(|part| part.etag.as_str()).or(claimed.map(String::as_str));
        if known.is_some() && known == there.as_deref() {
            self.break_promise(format!("part {number} of {id} is durable and was sent again"));
        } else if claimed.is_none() {
            self.claims.remove(&claim);
        }
    }

    /// A part is recorded only after the store had it.
    pub fn judge_record(&mut self, number: PartNumber, part: &StoredPart) {
        if !self.taken.contains(&(number.get(), part.etag.as_str().to_owned(), part.crc64)) {
            self.break_promise(format!("part {number} was recorded before the store had it"));
        }
    }

    /// Merges; `None`: the list is not what is there.
    pub fn complete(&mut self, id: &str, listed: &[(u32, String)]) -> Option<()> {
        let open = self.uploads.get(id)?;
        let bodies = listed.iter().map(|(number, etag)| open.parts.get(number).filter(|body| marks(body).0 == *etag));
        let whole: Vec<u8> = bodies.collect::<Option<Vec<_>>>()?.into_iter().flatten().copied().collect();
        self.uploads.remove(id);
        self.object = Some(whole.into());
        Some(())
    }

    /// What must hold whenever no process runs: an upload that is open is the one of the log, one that the log has to be
    /// aborted, one that the user was told of, or one without parts whose id was never durable. The log is what the next
    /// process will find.
    pub fn judge_rest(&mut self) {
        let known = self.live.as_ref().map(known_uploads).unwrap_or_default();
        let mut wrong = None;
        for (id, open) in &self.uploads {
            let forgotten = self.ever_promised.contains(id) && !self.warned.contains(id.as_str());
            if !known.contains(id) && (forgotten || open.had_parts && !self.warned.contains(id.as_str())) {
                wrong = Some(format!("{id} is open and nobody knows of it"));
            }
        }
        wrong.into_iter().for_each(|what| self.break_promise(what));
    }
}

fn known_uploads(log: &Checkpoint) -> BTreeSet<String> {
    let ids = log.upload_id.iter().chain(log.abandoned.iter().map(|OpenUpload { upload_id, .. }| upload_id));
    ids.map(|UploadId(id)| id.clone()).collect()
}

/// ETag and CRC64 of a body.
pub fn marks(body: &[u8]) -> (String, u64) {
    let mut digest = Digest::new();
    digest.update(body);
    let crc64 = digest.finish();
    (ETag::new(&format!("{crc64:032X}")).as_str().to_owned(), crc64)
}
