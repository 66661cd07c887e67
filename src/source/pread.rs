//! The reader that works everywhere: `preadv2` with `RWF_NOWAIT` serves what is in the page cache on the caller's thread,
//! straight into a pooled buffer; what is not there is read on a thread that may wait.

use std::io::IoSliceMut;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::ready;
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use super::buffer::{BufferPool, CHUNK_BYTES, Lease};
use super::file::SourceFile;
use super::{Reading, Source};

/// Chunks in a row that must come from memory before a file counts as warm again.
const WARM_AFTER: usize = 16;

pub struct PreadSource {
    file: Arc<SourceFile>,
    pool: BufferPool,
    /// 0: warm. Counts down with every chunk that came from memory.
    cold: AtomicUsize,
}

impl PreadSource {
    pub fn new(file: Arc<SourceFile>, pool: BufferPool) -> Self {
        Self { file, pool, cold: AtomicUsize::new(0) }
    }

    /// Notes whether a read was served from memory.
    fn note(&self, from_memory: bool) {
        if !from_memory {
            self.cold.store(WARM_AFTER, Ordering::Relaxed);
        } else if self.cold.load(Ordering::Relaxed) > 0 {
            self.cold.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Source for PreadSource {
    fn read(&self, at: u64, bytes: usize) -> Reading {
        let Some(mut lease) = self.pool.try_lease() else {
            let file = self.file.clone();
            return Reading::with_lease(&self.pool, move |lease| read_on_thread(file, lease, at, 0, bytes));
        };
        let there = read_from_memory(&self.file, &mut lease, at, bytes);
        self.note(there == bytes);
        if there == bytes {
            return Reading::new(ready(Ok(lease.freeze(0..bytes))));
        }
        read_on_thread(self.file.clone(), lease, at, there, bytes)
    }

    fn chunk_bytes(&self) -> usize {
        CHUNK_BYTES
    }

    fn read_ahead(&self) -> usize {
        if self.cold.load(Ordering::Relaxed) > 0 { 2 } else { 0 }
    }
}

/// Reads what is in memory, from the start; gives how much that was.
fn read_from_memory(file: &SourceFile, lease: &mut Lease, at: u64, bytes: usize) -> usize {
    let mut there = 0;
    while there < bytes {
        let rest = &mut lease.bytes_mut()[there..bytes];
        match preadv2(file.file(), &mut [IoSliceMut::new(rest)], at + there as u64, ReadWriteFlags::NOWAIT) {
            Err(Errno::INTR) => {}
            // Not in memory, the end of the file, or a filesystem that cannot tell: all are for the one who may wait.
            Ok(0) | Err(_) => break,
            Ok(read) => there += read,
        }
    }
    there
}

/// Reads the rest, from byte `there` of the chunk, on a thread that may wait for the disk. Starts at once.
fn read_on_thread(file: Arc<SourceFile>, mut lease: Lease, at: u64, there: usize, bytes: usize) -> Reading {
    let reader = file.clone();
    let reading = tokio::task::spawn_blocking(move || {
        reader.file().read_exact_at(&mut lease.bytes_mut()[there..bytes], at + there as u64)?;
        Ok(lease.freeze(0..bytes))
    });
    Reading::new(async move {
        let result = reading.await.unwrap_or_else(|e| Err(std::io::Error::other(e)));
        result.map_err(|cause| file.unreadable(at, cause))
    })
}
