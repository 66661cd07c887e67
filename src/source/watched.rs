//! A reader that looks at the file while it is read, so that a file that changed ends a transfer within moments and not
//! at its end, hours later.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::file::SourceFile;
use super::{Reading, Source, SourceError};

/// Time between two looks. One costs two system calls that need no disk, some 2 microseconds.
const EVERY: Duration = Duration::from_millis(200);

/// Hands on the chunks of another reader as long as the file is the one that the transfer began with.
///
/// It is looked at every 200 ms of reading, and always when its last byte is handed on: a single PUT, whose body is the
/// whole file, then ends before the store has all of it, so that no object is made of two states of the file. A doubt
/// ends it as well: what was sent cannot be compared before the object is there.
pub struct Watched {
    source: Arc<dyn Source>,
    chunk_bytes: usize,
    watch: Arc<Watch>,
}

struct Watch {
    file: Arc<SourceFile>,
    /// The file goes in one body.
    is_whole: bool,
    begun: Instant,
    /// When to look again, in milliseconds after `begun`.
    due_ms: AtomicU64,
}

impl Watched {
    /// - `chunk_bytes`: length of a chunk, a power of two; the reader's own, if that is less or none is named.
    /// - `is_whole`: the file is sent in one body, so that a doubt is an error: [`SourceError::Touched`].
    pub fn new(source: Arc<dyn Source>, file: Arc<SourceFile>, chunk_bytes: Option<u32>, is_whole: bool) -> Self {
        let own = source.chunk_bytes();
        let chunk_bytes = chunk_bytes.map_or(own, |bytes| own.min(bytes as usize));
        let watch = Watch { file, is_whole, begun: Instant::now(), due_ms: AtomicU64::new(0) };
        Self { source, chunk_bytes, watch: Arc::new(watch) }
    }
}

impl Watch {
    /// Looks at the file if it is time, and asks for the truth if the bytes up to `end` are its last.
    async fn look(self: Arc<Self>, end: u64) -> Result<(), SourceError> {
        if end >= self.file.bytes() {
            let file = self.file.clone();
            let looked = tokio::task::spawn_blocking(move || file.check_unchanged()).await;
            looked.unwrap_or_else(|e| Err(self.file.unreadable(end, std::io::Error::other(e))))?;
        } else if self.is_due(Instant::now()) {
            self.file.look()?;
        }
        match self.is_whole && self.file.is_in_doubt() {
            true => Err(SourceError::Touched { path: self.file.path().display().to_string() }),
            false => Ok(()),
        }
    }

    /// Whether it is time to look; `true` for one of many who ask at a time.
    fn is_due(&self, now: Instant) -> bool {
        let now_ms = now.saturating_duration_since(self.begun).as_millis() as u64;
        let due_ms = self.due_ms.load(Relaxed);
        let next_ms = now_ms + EVERY.as_millis() as u64;
        now_ms >= due_ms && self.due_ms.compare_exchange(due_ms, next_ms, Relaxed, Relaxed).is_ok()
    }
}

impl Source for Watched {
    fn read(&self, at: u64, bytes: usize) -> Reading {
        // Begun before the future is polled, as the trait promises.
        let reading = self.source.read(at, bytes);
        reading.then(self.watch.clone().look(at + bytes as u64))
    }

    fn chunk_bytes(&self) -> usize {
        self.chunk_bytes
    }

    fn read_ahead(&self) -> usize {
        self.source.read_ahead()
    }

    fn let_go(&self) {
        self.source.let_go();
    }

    fn check(&self) -> Result<(), SourceError> {
        self.source.check()
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::source::buffer::BufferPool;
    use crate::source::pread::PreadSource;

    const FILE_BYTES: usize = 1 << 20;

    fn watched(directory: &tempfile::TempDir) -> (PathBuf, Watched) {
        let path = directory.path().join("f");
        std::fs::write(&path, vec![1; FILE_BYTES]).unwrap();
        let file = Arc::new(SourceFile::open(&path).unwrap());
        (path, Watched::new(Arc::new(PreadSource::new(file.clone(), BufferPool::new(0))), file, None, false))
    }

    #[test]
    fn the_file_is_looked_at_once_an_interval_whoever_asks() {
        let scratch = tempfile::tempdir().unwrap();
        let (_, Watched { watch, .. }) = watched(&scratch);
        assert!(watch.is_due(watch.begun));
        assert!(!watch.is_due(watch.begun + EVERY / 2));
        assert!(watch.is_due(watch.begun + EVERY));
        assert!(!watch.is_due(watch.begun + EVERY));
    }

    #[tokio::test]
    async fn a_change_is_seen_when_a_look_is_due_and_in_any_case_with_the_last_byte() {
        let scratch = tempfile::tempdir().unwrap();
        let (path, source) = watched(&scratch);
        std::fs::File::open(&path).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        assert!(matches!(source.read(0, 100).await, Err(SourceError::Changed { .. })));
        source.watch.due_ms.store(u64::MAX / 2, Relaxed);
        source.read(0, 100).await.unwrap();
        let last = source.read(FILE_BYTES as u64 - 100, 100).await;
        assert!(matches!(last, Err(SourceError::Changed { .. })));
    }
}
