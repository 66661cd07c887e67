//! One log on a storage, with a latch: after a failed write nothing is known about the file, so every later call fails.

use std::io;
use std::sync::Arc;

use super::{Storage, frame};

/// A log that is being written.
pub struct Log<S> {
    storage: S,
    name: String,
    failed: Option<Arc<io::Error>>,
}

impl<S: Storage> Log<S> {
    pub fn new(storage: S, name: impl Into<String>) -> Self {
        Self { storage, name: name.into(), failed: None }
    }

    /// All bytes of the log, or `None` if there is none. Cut them with [`frame::scan`].
    pub fn read(&mut self) -> Result<Option<Vec<u8>>, Arc<io::Error>> {
        self.latched(Storage::read)
    }

    /// Makes the log these frames, the first a snapshot, atomically and durably. Creates it, repairs it, shortens it.
    pub fn compact<P: AsRef<[u8]>>(&mut self, payloads: impl IntoIterator<Item = P>) -> Result<(), Arc<io::Error>> {
        let mut bytes = Vec::new();
        payloads.into_iter().for_each(|payload| frame::push(&mut bytes, payload.as_ref()));
        self.latched(|storage, name| storage.replace(name, &bytes))
    }

    /// Adds whole frames in one write; durable after [`Log::sync`]. Only behind a [`Log::compact`] of this process, so
    /// that nothing ever stands behind a torn tail.
    pub fn append(&mut self, frames: &[u8]) -> Result<(), Arc<io::Error>> {
        self.latched(|storage, name| storage.append(name, frames))
    }

    /// Makes all frames durable.
    pub fn sync(&mut self) -> Result<(), Arc<io::Error>> {
        self.latched(Storage::sync)
    }

    /// Removes the log durably.
    pub fn remove(&mut self) -> Result<(), Arc<io::Error>> {
        self.latched(Storage::remove)
    }

    fn latched<T>(&mut self, io: impl FnOnce(&mut S, &str) -> io::Result<T>) -> Result<T, Arc<io::Error>> {
        if let Some(first) = &self.failed {
            return Err(first.clone());
        }
        io(&mut self.storage, &self.name).map_err(|cause| self.failed.insert(Arc::new(cause)).clone())
    }
}

#[cfg(test)]
mod tests {
    use super::super::sim::{Disk, Trouble};
    use super::*;

    #[test]
    fn after_a_failed_write_every_later_call_gives_the_first_error() {
        let disk = Disk::default();
        disk.trouble(Trouble::NoSpaceAt { operation: 1, after_bytes: 3 });
        let mut log = Log::new(disk.clone(), "log");
        log.compact([b"snapshot"]).unwrap();
        let mut frames = Vec::new();
        frame::push(&mut frames, b"fact");
        for error in [log.append(&frames), log.append(&frames), log.sync(), log.compact([b"s"]), log.remove()] {
            assert_eq!(error.unwrap_err().kind(), io::ErrorKind::StorageFull);
        }
        assert_eq!(disk.operations(), 2, "nothing reached the disk after the failure");
    }
}
