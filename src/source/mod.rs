//! Where the bytes of an upload come from.

use bytes::Bytes;
use futures_util::future::BoxFuture;

/// Why a file cannot be read, named by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// Name a file that exists and that you may read.
    #[error("cannot open {path}: {cause}")]
    Open { path: String, cause: std::io::Error },
    /// Only regular files can be uploaded.
    #[error("{path} is {what}: only regular files can be uploaded")]
    NotAFile { path: String, what: &'static str },
    /// Start again: the file is not the one that the transfer began with.
    #[error("{path} changed while it was read: {what}")]
    Changed { path: String, what: String },
    /// The disk or the filesystem failed.
    #[error("cannot read {path} at byte {at}: {cause}")]
    Read { path: String, at: u64, cause: std::io::Error },
    /// Choose another reader.
    #[error("cannot read {path} through {reader}: {cause}")]
    Reader { path: String, reader: &'static str, cause: std::io::Error },
}

/// Reads chunks of one file.
pub trait Source: Send + Sync {
    /// Reads `bytes` bytes (at most one chunk) at `at`. Starts at once, so that a future that is not yet polled is a
    /// read-ahead. Never short: a file that ended is an error.
    fn read(&self, at: u64, bytes: usize) -> BoxFuture<'static, Result<Bytes, SourceError>>;

    /// How much to ask for at a time, in bytes: a multiple of 4 KiB.
    fn chunk_bytes(&self) -> usize;

    /// How many chunks are worth starting ahead of the one that is on the wire: 0 when the pages are in memory.
    fn read_ahead(&self) -> usize;
}
