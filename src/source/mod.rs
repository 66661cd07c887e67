//! Where the bytes of an upload come from: three readers of one file, and the choice between them.
//!
//! | file | subject |
//! |---|---|
//! | `file.rs` | the open file and its fingerprint |
//! | `buffer.rs` | pooled, aligned buffers that become `Bytes` without a copy |
//! | `pread.rs` | reads that never wait for the disk on the caller's thread; works everywhere |
//! | `mmap.rs` | windows of the mapped file, and what happens when it is truncated |
//! | `reread.rs` | the file once more, from the disk |
//! | `settled.rs` | when the times of a file are proof |
//! | `uring.rs` | io_uring, past the page cache where the filesystem allows it |
//! | `watched.rs` | a reader that looks whether the file is still the same |

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::model::settings::ReaderKind;

#[allow(unsafe_code, reason = "one of the three files that lib.rs lists")]
pub mod buffer;
pub mod file;
#[allow(unsafe_code, reason = "one of the three files that lib.rs lists")]
pub mod mmap;
pub mod pread;
pub mod reread;
mod residency;
mod settled;
#[allow(unsafe_code, reason = "one of the three files that lib.rs lists")]
pub mod uring;
pub mod watched;

use buffer::{BufferPool, Lease};
use file::SourceFile;

/// Why a file cannot be read, named by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// Name a file that exists and that you may read.
    #[error("cannot open {path}: {cause}")]
    Open { path: String, cause: io::Error },
    /// Only regular files can be uploaded.
    #[error("{path} is {what}: only regular files can be uploaded")]
    NotAFile { path: String, what: &'static str },
    /// Start again: the file is not the one that the transfer began with.
    #[error("{path} changed while it was read: {what}")]
    Changed { path: String, what: String },
    /// Send it from its start again: its metadata were changed, which may hide that it was written to.
    #[error("the metadata of {path} were changed while it was read")]
    Touched { path: String },
    /// Copy it to a regular file and upload that: how long it is cannot be known before it was read.
    #[error(
        "the filesystem reports {reported} bytes for {path}, and reading gives {what}: copy it to a regular file first"
    )]
    Length { path: String, reported: u64, what: &'static str },
    /// The disk or the filesystem failed.
    #[error("cannot read {path} at byte {at}: {cause}")]
    Read { path: String, at: u64, cause: io::Error },
    /// Allow this process more memory, or let it hold less at a time. The file may be well.
    #[error("no memory to read the file: {cause}")]
    NoMemory { cause: io::Error },
    /// Choose another reader.
    #[error("cannot read {path} through {reader}: {cause}")]
    Reader { path: String, reader: ReaderKind, cause: io::Error },
}

/// A read that has begun, or that waits for a buffer to begin.
pub struct Reading {
    result: BoxFuture<'static, Result<Bytes, SourceError>>,
    /// `None`: it has begun.
    waits_for_buffer: Option<Arc<AtomicBool>>,
}

impl Reading {
    pub fn new(result: impl Future<Output = Result<Bytes, SourceError>> + Send + 'static) -> Self {
        Self { result: Box::pin(result), waits_for_buffer: None }
    }

    /// Waits for a buffer of `pool`, then goes on with `read`.
    pub fn with_lease<F>(pool: &BufferPool, read: impl FnOnce(Lease) -> F + Send + 'static) -> Self
    where
        F: Future<Output = Result<Bytes, SourceError>> + Send,
    {
        let waits = Arc::new(AtomicBool::new(true));
        let (pool, still) = (pool.clone(), waits.clone());
        let result = async move {
            let lease = pool.lease().await.map_err(|cause| SourceError::NoMemory { cause })?;
            still.store(false, Relaxed);
            read(lease).await
        };
        Self { result: Box::pin(result), waits_for_buffer: Some(waits) }
    }

    /// Handed on once `check`, which begins when it was read, is well.
    fn then(self, check: impl Future<Output = Result<(), SourceError>> + Send + 'static) -> Self {
        let Self { result, waits_for_buffer } = self;
        let checked = async move {
            let chunk = result.await?;
            check.await.map(|()| chunk)
        };
        Self { result: Box::pin(checked), waits_for_buffer }
    }

    /// Whether what it waits for is a buffer, as of when it was polled last.
    pub fn waits_for_buffer(&self) -> bool {
        self.waits_for_buffer.as_ref().is_some_and(|waits| waits.load(Relaxed))
    }
}

impl Future for Reading {
    type Output = Result<Bytes, SourceError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.result.as_mut().poll(cx)
    }
}

/// Reads chunks of one file. Called from tokio tasks, which it never keeps waiting for a disk.
pub trait Source: Send + Sync {
    /// Reads `bytes` bytes (at most one chunk) at `at`. Starts at once if a buffer is free, so that a future that is
    /// not yet polled is a read-ahead. Never short: a file that ended is an error.
    fn read(&self, at: u64, bytes: usize) -> Reading;

    /// How much to ask for at a time, in bytes: a multiple of 4 KiB.
    fn chunk_bytes(&self) -> usize;

    /// How much to ask for at `at` of a stretch that goes on to `end`: up to where the file's own chunk ends, so that all
    /// reads but the first are aligned.
    fn chunk_at(&self, at: u64, end: u64) -> usize {
        let chunk_bytes = self.chunk_bytes() as u64;
        (chunk_bytes - at % chunk_bytes).min(end - at) as usize
    }

    /// How many chunks are worth starting ahead of the one that is wanted now. None while the pages are in memory: a
    /// chunk that was just read is in the processor's cache for the checksum and the socket.
    fn read_ahead(&self) -> usize;

    /// Lets go of what is kept of the file for chunks to come: there will be none.
    fn let_go(&self) {}

    /// Whether bytes that were handed out may have been none of the file's: a mapped file that was cut.
    fn check(&self) -> Result<(), SourceError> {
        Ok(())
    }
}

/// A reader, and why it was chosen.
pub struct Chosen {
    pub source: Arc<dyn Source>,
    pub kind: ReaderKind,
    pub reason: String,
}

/// Share of a file that must be in the page cache for reading through it to be cheaper than past it.
const RESIDENT_SHARE: f64 = 0.9;

/// Opens the wanted reader, or the one that suits the file.
///
/// A file whose pages are in memory is mapped, which saves the copy out of the page cache (a tenth of an upload's CPU
/// against pread, 12 rounds in turn); any other is read through io_uring, which leaves the page cache as it is. Blocks on
/// the disk.
///
/// - `mapped_bytes`: so much of the file may stay mapped, for the chunks to come. With 0, none is mapped unasked.
///
/// # Errors
/// [`SourceError::Reader`] if the wanted reader is not to be had here. Without a wish there always is one.
pub fn choose(
    wanted: Option<ReaderKind>,
    file: &Arc<SourceFile>,
    pool: &BufferPool,
    mapped_bytes: u64,
) -> Result<Chosen, SourceError> {
    let refused = |kind, cause| SourceError::Reader { path: file.path().display().to_string(), reader: kind, cause };
    let pread = || Arc::new(pread::PreadSource::new(file.clone(), pool.clone()));
    let with_spare = |source: mmap::MmapSource| source.with_spare(pread());
    if let Some(kind) = wanted {
        let source: Arc<dyn Source> = match kind {
            ReaderKind::Pread => pread(),
            ReaderKind::Mmap => {
                let source = mmap::MmapSource::new(file.clone(), mapped_bytes).map(with_spare);
                Arc::new(source.map_err(|e| refused(kind, e))?)
            }
            ReaderKind::Uring => {
                Arc::new(uring::UringSource::new(file.clone(), pool.clone()).map_err(|e| refused(kind, e))?)
            }
        };
        return Ok(Chosen { source, kind, reason: "as asked".into() });
    }
    let resident = residency::share(file);
    let percent = (resident * 100.0) as u32;
    if resident >= RESIDENT_SHARE {
        let reason = format!("{percent} % of the file is in the page cache");
        if mapped_bytes == 0 {
            let reason = format!("{reason}, but the address space of this process is limited");
            return Ok(Chosen { source: pread(), kind: ReaderKind::Pread, reason });
        }
        return Ok(match mmap::MmapSource::new(file.clone(), mapped_bytes).map(with_spare) {
            Ok(source) => Chosen { source: Arc::new(source), kind: ReaderKind::Mmap, reason },
            Err(cause) => {
                let reason = format!("{reason}, but mapping is refused: {cause}");
                Chosen { source: pread(), kind: ReaderKind::Pread, reason }
            }
        });
    }
    match uring::UringSource::new(file.clone(), pool.clone()) {
        Ok(source) => {
            let how = if source.is_direct() { "past the page cache" } else { "buffered, since O_DIRECT is refused" };
            let reason = format!("only {percent} % of the file is in the page cache; read {how}");
            Ok(Chosen { source: Arc::new(source), kind: ReaderKind::Uring, reason })
        }
        Err(cause) => {
            let reason = format!("io_uring is refused here: {cause}");
            Ok(Chosen { source: pread(), kind: ReaderKind::Pread, reason })
        }
    }
}
