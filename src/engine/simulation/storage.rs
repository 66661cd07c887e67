//! The disk of a world at the seam of the storage: every operation may be the last, and what is written is read along.

use std::io;

use super::plant::Plant;
use super::world::{LOG, Shared, World};
use crate::checkpoint::wal::{Storage, frame};
use crate::checkpoint::{Checkpoint, Record, record};
use crate::model::object::Fingerprint;

pub struct SimStorage {
    world: Shared,
    /// The file that is sent.
    file: Fingerprint,
    /// A sync that was answered and not done yet.
    owed: bool,
}

impl SimStorage {
    pub fn new(world: &Shared, file: Fingerprint) -> Self {
        Self { world: world.clone(), file, owed: false }
    }

    /// Does an operation unless the process dies before it; the disk is a handle of its own, so no lock is held.
    fn on_disk<T>(&mut self, operate: impl FnOnce(&mut dyn Storage) -> io::Result<T>) -> io::Result<T> {
        let mut world = self.world.lock();
        let mut disk = world.disk.clone();
        let dies = world.dies();
        if dies && world.random.bool() {
            return Err(io::Error::other("killed before the operation"));
        }
        if std::mem::take(&mut self.owed) {
            disk.sync(LOG)?;
        }
        let done = operate(&mut disk);
        if dies { Err(io::Error::other("killed behind the operation")) } else { done }
    }
}

impl Storage for SimStorage {
    fn read(&mut self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let bytes = self.on_disk(|disk| disk.read(name))?;
        let trusts = self.world.lock().plant == Plant::TrustsTheFile;
        Ok(if trusts { bytes.map(|bytes| as_log_of(&self.file, bytes)) } else { bytes })
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.world.lock().written(bytes);
        self.on_disk(|disk| disk.append(name, bytes))
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        let plant = self.world.lock().plant;
        let done = match plant {
            Plant::SyncsLate | Plant::SyncLies => self.on_disk(|_| Ok(())),
            _ => self.on_disk(|disk| disk.sync(name)),
        };
        self.owed = plant == Plant::SyncsLate;
        done.inspect(|()| self.world.lock().promise())
    }

    fn replace(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.on_disk(|disk| disk.replace(name, bytes))?;
        let (payloads, _) = frame::scan(bytes);
        let checkpoint = record::decode_snapshot(payloads[0]).expect("the engine writes what it can read");
        self.world.lock().log_is(checkpoint, true);
        Ok(())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.on_disk(|disk| disk.remove(name))?;
        let mut world = self.world.lock();
        (world.live, world.promised) = (None, None);
        Ok(())
    }
}

impl World {
    /// Reads along what is appended.
    fn written(&mut self, frames: &[u8]) {
        for payload in frame::scan(frames).0 {
            let fact = record::decode_record(payload).expect("the engine writes what it can read");
            if let Record::PartStored(number, part) = &fact {
                self.judge_record(*number, part);
                for open in self.uploads.values_mut() {
                    open.hidden.remove(&number.get());
                }
            }
            let log = self.live.as_mut().expect("appended behind a snapshot");
            let forgets = fact == Record::UploadGone && log.completed.is_some();
            log.apply(fact);
            if forgets && self.object.as_ref() == Some(&self.content) {
                self.break_promise("an object that is stored was forgotten");
            }
        }
    }

    /// What a new process finds, the power having stayed on or not; and what is then owed to it.
    pub fn restart(&mut self, power_lost: bool) {
        let (disk, random) = (self.disk.clone(), &mut self.random);
        self.disk = if power_lost { disk.after_power_loss(|n| random.usize(0..n)) } else { disk.after_kill() };
        let bytes = self.disk.clone().read(LOG).expect("the power is back");
        let found = bytes.and_then(|bytes| fold(&bytes));
        let kept = |number, part| found.as_ref().is_some_and(|log| log.parts.get(number) == Some(part));
        let owed = self.promised.iter().filter(|log| log.upload_id.is_some());
        // Bound to the file under another identity, the log has no part: see `claims`.
        let same = |f: &Checkpoint, log: &Checkpoint| (&f.upload_id, &f.binding) == (&log.upload_id, &log.binding);
        let owed = owed.filter(|log| found.as_ref().is_some_and(|f| same(f, log)));
        let lost = owed.flat_map(|log| &log.parts).find(|(number, part)| !kept(number, part)).map(|(n, _)| *n);
        if let Some(number) = lost {
            self.break_promise(format!("part {number} was durable and is forgotten"));
        }
        // What a killed process wrote and did not sync is there, and a power loss may still take it.
        let durable = self.disk.durable(LOG).and_then(|bytes| fold(&bytes));
        (self.live, self.promised, self.told, self.dead) = (found, durable, None, false);
    }
}

/// The log, bound to `file` if that has the length and the time of the file that it is bound to.
fn as_log_of(file: &Fingerprint, bytes: Vec<u8>) -> Vec<u8> {
    let Some(mut log) = fold(&bytes) else { return bytes };
    let source = &mut log.binding.source;
    if (source.bytes, source.mtime_ns) == (file.bytes, file.mtime_ns) {
        *source = *file;
    }
    let mut bound = Vec::new();
    frame::push(&mut bound, &record::encode_snapshot(&log));
    bound
}

/// The log as a reader other than the engine's folds it.
fn fold(bytes: &[u8]) -> Option<Checkpoint> {
    let (payloads, _) = frame::scan(bytes);
    let mut checkpoint = record::decode_snapshot(payloads.first()?).ok()?;
    payloads[1..].iter().map_while(|payload| record::decode_record(payload)).for_each(|fact| checkpoint.apply(fact));
    Some(checkpoint)
}
