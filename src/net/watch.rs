//! A stream that counts what moves through it, so that a stalled connection can be told from a slow one.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that a connection has moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Traffic {
    pub written: u64,
    pub read: u64,
}

/// How much of what comes first is kept: enough to tell a protocol.
const FIRST_BYTES: usize = 24;

/// What a connection moves, seen from outside.
#[derive(Clone, Default)]
pub(super) struct Moved(Arc<Counts>);

#[derive(Default)]
struct Counts {
    written: AtomicU64,
    read: AtomicU64,
    first: OnceLock<Vec<u8>>,
}

impl Moved {
    pub fn traffic(&self) -> Traffic {
        Traffic { written: self.0.written.load(Ordering::Relaxed), read: self.0.read.load(Ordering::Relaxed) }
    }

    /// What the other end said first: up to [`FIRST_BYTES`] bytes of the first piece that came.
    pub fn first(&self) -> &[u8] {
        self.0.first.get().map_or(&[], Vec::as_slice)
    }

    fn count_read(&self, bytes: &[u8]) {
        if self.0.read.fetch_add(bytes.len() as u64, Ordering::Relaxed) == 0 && !bytes.is_empty() {
            let _ = self.0.first.set(bytes[..bytes.len().min(FIRST_BYTES)].to_vec());
        }
    }
}

/// `S`, watched.
pub(super) struct Watched<S> {
    stream: S,
    moved: Moved,
}

impl<S> Watched<S> {
    pub fn new(stream: S) -> (Self, Moved) {
        let moved = Moved::default();
        (Self { stream, moved: moved.clone() }, moved)
    }
}

impl<S: AsyncRead + Unpin> Watched<S> {
    fn count_written(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &result {
            Poll::Ready(Ok(bytes)) => drop(self.moved.0.written.fetch_add(*bytes as u64, Ordering::Relaxed)),
            Poll::Ready(Err(_)) => self.hear_out(cx),
            Poll::Pending => {}
        }
        result
    }

    /// What a peer said before it hung up can be read still when a write to it fails, and tells why it did.
    fn hear_out(&mut self, cx: &mut Context<'_>) {
        let mut piece = [0; FIRST_BYTES];
        let mut buf = ReadBuf::new(&mut piece);
        if self.moved.traffic().read == 0 && Pin::new(&mut self.stream).poll_read(cx, &mut buf).is_ready() {
            self.moved.count_read(buf.filled());
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.moved.count_read(&buf.filled()[before..]);
        result
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.count_written(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.count_written(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
