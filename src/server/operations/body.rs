//! Bodies in and out: streamed, checksummed on the way, with bounded memory.

use std::error::Error as StdError;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, EXPECT, HeaderName, TRANSFER_ENCODING};
use http_body::{Body, Frame};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use tokio::task::{JoinHandle, spawn_blocking};

use super::call;
use crate::model::part::Limits;
use crate::server::errors::{Code, Failure};
use crate::server::request::Request;
use crate::server::store::{Blob, Catalog, Checksums, Content, Sums};

/// A body as it comes from the connection, or from whatever stands in for it.
pub(crate) type RawBody = UnsyncBoxBody<Bytes, Box<dyn StdError + Send + Sync>>;
pub(crate) type Outgoing = UnsyncBoxBody<Bytes, io::Error>;

/// Bytes gathered before they are given to a thread that may wait for the disk.
const BATCH: usize = 1 << 20;
/// Bytes of one chunk on the way out.
const CHUNK: u64 = 256 << 10;
/// Longest document taken: a Complete of 10,000 parts in its longest spelling is half of it.
const DOCUMENT_MAX: u64 = 4 << 20;
/// How long the rest of a refused body is read, so that the client gets to see the refusal.
const DRAIN_TIME: Duration = Duration::from_secs(10);

/// The body of a request.
pub(crate) struct Incoming {
    body: Option<RawBody>,
    /// `Content-Length`; `None` for chunked bodies and for none.
    announced: Option<u64>,
    chunked: bool,
    /// The client waits to be asked for the body.
    waits_for_go: bool,
    timeout: Duration,
}

/// A body that was taken in whole.
pub(crate) struct Received {
    pub blob: Box<dyn Blob>,
    pub sums: Sums,
}

impl Incoming {
    pub fn new(body: RawBody, headers: &HeaderMap, timeout: Duration) -> Self {
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        Self {
            body: Some(body),
            announced: text(CONTENT_LENGTH).and_then(|bytes| bytes.parse().ok()),
            chunked: headers.contains_key(TRANSFER_ENCODING),
            waits_for_go: headers.contains_key(EXPECT),
            timeout,
        }
    }

    /// The next bytes; `None` at the end.
    async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        let Some(body) = &mut self.body else { return Ok(None) };
        self.waits_for_go = false;
        loop {
            match tokio::time::timeout(self.timeout, body.frame()).await {
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(chunk) => return Ok(Some(chunk)),
                    Err(_trailers) => continue,
                },
                Ok(Some(Err(error))) => return Err(self.broken(&error.to_string())),
                Err(_) => return Err(self.broken("nothing came for too long")),
                Ok(None) => {
                    self.body = None;
                    return Ok(None);
                }
            }
        }
    }

    fn broken(&mut self, why: &str) -> Failure {
        self.body = None;
        Failure::new(Code::RequestTimeout, format!("The body ended early: {why}. Nothing was stored; send it again."))
    }

    /// Throws away what was not read, beside the answer: a client that is still sending gets to read it.
    pub fn drain(self) {
        if let Some(mut body) = self.body.filter(|body| !self.waits_for_go && !body.is_end_stream()) {
            tokio::spawn(tokio::time::timeout(
                DRAIN_TIME,
                async move { while let Some(Ok(_)) = body.frame().await {} },
            ));
        }
    }

    /// Takes in the bytes of an object or part, up to [`Limits::OSS`].
    ///
    /// # Errors
    /// `MissingContentLength`, `EntityTooLarge`, `RequestTimeout` for a short body, `InvalidDigest`.
    pub async fn receive(&mut self, catalog: &Arc<Catalog>, request: &Request) -> Result<Received, Failure> {
        if self.announced.is_none() && !self.chunked {
            return Err(Failure::new(Code::MissingContentLength, "Send Content-Length or chunks."));
        }
        let max = Limits::OSS.put_bytes_max;
        let too_large = || Failure::new(Code::EntityTooLarge, format!("One body may have {max} bytes at most."));
        if self.announced.is_some_and(|bytes| bytes > max) {
            return Err(too_large());
        }
        let digest = announced_md5(request)?;
        let with_md5 = digest.is_some() || catalog.wants_md5();
        let writer = call(catalog, move |catalog| catalog.blob().map(|blob| Writer::new(blob, with_md5))).await?;
        let mut intake = Intake::new(writer, catalog.waits());
        let mut taken = 0;
        while let Some(chunk) = self.chunk().await? {
            taken += chunk.len() as u64;
            if taken > max {
                return Err(too_large());
            }
            intake.push(chunk).await?;
        }
        let received = intake.finish(digest).await?;
        check_digest(digest, &received.sums)?;
        Ok(received)
    }

    /// Takes in a small document.
    pub async fn document(&mut self, request: &Request) -> Result<Vec<u8>, Failure> {
        let mut document = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            if document.len() as u64 + chunk.len() as u64 > DOCUMENT_MAX {
                return Err(Failure::new(Code::MalformedXML, format!("The document exceeds {DOCUMENT_MAX} bytes.")));
            }
            document.extend_from_slice(&chunk);
        }
        check_digest(announced_md5(request)?, &Sums::of(&document))?;
        Ok(document)
    }
}

fn announced_md5(request: &Request) -> Result<Option<[u8; 16]>, Failure> {
    let Some(text) = request.header("content-md5") else { return Ok(None) };
    let decoded = STANDARD.decode(text).ok().and_then(|sum| sum.try_into().ok());
    let refused = || Failure::new(Code::InvalidDigest, "Content-MD5 is not the base64 of 16 bytes.");
    decoded.map(Some).ok_or_else(refused)
}

fn check_digest(announced: Option<[u8; 16]>, sums: &Sums) -> Result<(), Failure> {
    match announced {
        Some(md5) if sums.md5 != Some(md5) => {
            Err(Failure::new(Code::InvalidDigest, "The body that arrived does not have the MD5 of Content-MD5."))
        }
        _ => Ok(()),
    }
}

/// A blob and the checksums of what went into it.
struct Writer {
    blob: Box<dyn Blob>,
    sums: Checksums,
}

impl Writer {
    fn new(blob: Box<dyn Blob>, with_md5: bool) -> Self {
        Self { blob, sums: Checksums::new(with_md5) }
    }

    fn write(&mut self, chunk: Bytes) -> io::Result<()> {
        self.sums.update(&chunk);
        self.blob.write(chunk)
    }

    fn write_all(mut self, chunks: Vec<Bytes>) -> io::Result<Self> {
        chunks.into_iter().try_for_each(|chunk| self.write(chunk))?;
        Ok(self)
    }
}

/// Between the socket and the blob. Where the medium waits for a disk, one batch is written while the next comes in.
struct Intake {
    waits: bool,
    idle: Option<Writer>,
    busy: Option<JoinHandle<io::Result<Writer>>>,
    batch: Vec<Bytes>,
    batch_bytes: usize,
}

impl Intake {
    fn new(writer: Writer, waits: bool) -> Self {
        Self { waits, idle: Some(writer), busy: None, batch: Vec::new(), batch_bytes: 0 }
    }

    async fn push(&mut self, chunk: Bytes) -> io::Result<()> {
        if let (false, Some(writer)) = (self.waits, &mut self.idle) {
            return writer.write(chunk);
        }
        self.batch_bytes += chunk.len();
        self.batch.push(chunk);
        if self.batch_bytes >= BATCH {
            let writer = self.writer().await?;
            let batch = std::mem::take(&mut self.batch);
            self.batch_bytes = 0;
            self.busy = Some(spawn_blocking(move || writer.write_all(batch)));
        }
        Ok(())
    }

    async fn writer(&mut self) -> io::Result<Writer> {
        match (self.idle.take(), self.busy.take()) {
            (Some(writer), _) => Ok(writer),
            (None, Some(busy)) => busy.await.map_err(io::Error::other)?,
            (None, None) => Err(io::Error::other("an earlier write failed")),
        }
    }

    /// Writes the rest and makes it durable, unless `digest` already shows that it will be refused.
    async fn finish(mut self, digest: Option<[u8; 16]>) -> io::Result<Received> {
        let writer = self.writer().await?;
        let batch = std::mem::take(&mut self.batch);
        let last = move || {
            let Writer { mut blob, sums } = writer.write_all(batch)?;
            let sums = sums.finish();
            if digest.is_none() || digest == sums.md5 {
                blob.sync()?;
            }
            Ok(Received { blob, sums })
        };
        if self.waits { spawn_blocking(last).await.map_err(io::Error::other)? } else { last() }
    }
}

/// A whole body at hand.
pub(crate) fn outgoing(bytes: Bytes) -> Outgoing {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// Bytes `from..to` of an open object.
pub(crate) fn content(content: Box<dyn Content>, from: u64, to: u64, waits: bool) -> Outgoing {
    Stream { content: content.into(), at: from, to, waits, reading: None }.boxed_unsync()
}

struct Stream {
    content: Arc<dyn Content>,
    at: u64,
    to: u64,
    waits: bool,
    reading: Option<BoxFuture<'static, io::Result<Bytes>>>,
}

impl Stream {
    fn read(&self) -> BoxFuture<'static, io::Result<Bytes>> {
        let (content, at, waits) = (self.content.clone(), self.at, self.waits);
        let max = usize::try_from((self.to - self.at).min(CHUNK)).unwrap_or(0);
        Box::pin(async move {
            let read = move || content.read(at, max);
            if waits { spawn_blocking(read).await.map_err(io::Error::other)? } else { read() }
        })
    }
}

impl Body for Stream {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.at >= self.to {
            return Poll::Ready(None);
        }
        let mut reading = self.reading.take().unwrap_or_else(|| self.read());
        match reading.as_mut().poll(task) {
            Poll::Pending => {
                self.reading = Some(reading);
                Poll::Pending
            }
            Poll::Ready(Ok(chunk)) if chunk.is_empty() => {
                self.at = self.to;
                Poll::Ready(Some(Err(io::Error::other("the stored object is shorter than its record"))))
            }
            Poll::Ready(outcome) => {
                self.at = outcome.as_ref().map_or(self.to, |chunk| self.at + chunk.len() as u64);
                Poll::Ready(Some(outcome.map(Frame::data)))
            }
        }
    }
}
