//! Bodies in and out: streamed, checksummed on the way, with bounded memory.

use std::error::Error as StdError;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use http::header::{CONTENT_LENGTH, EXPECT, HeaderName, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::Instant;

use super::call;
use crate::model::part::Limits;
use crate::server::access::Meter;
use crate::server::errors::{Code, Failure};
use crate::server::outgoing::Outgoing;
use crate::server::request::Request;
use crate::server::store::{Blob, Catalog, Checksums, Content, HELD_MAX, Sums};
use crate::server::wire::{Pace, there_since};

/// A body as it comes from the connection, or from whatever stands in for it.
pub(crate) type RawBody = UnsyncBoxBody<Bytes, Box<dyn StdError + Send + Sync>>;

/// Bytes gathered before they are given to a thread that may wait for the disk.
const BATCH: usize = 1 << 20;
/// Bytes that all bodies of the process gather together. When they are spent, bodies are written piece by piece.
const BATCHES: usize = 4 << 20;
static GATHERED: AtomicUsize = AtomicUsize::new(0);
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
    /// The body was coded before it was chunked.
    coded: bool,
    /// The client waits to be asked for the body.
    waits_for_go: bool,
    timeout: Duration,
    damage: Option<Damage>,
    meter: Arc<Meter>,
    received: u64,
    pace: Option<Pace>,
    /// How long the pace has held the body up.
    held: Duration,
}

/// One flipped bit, the lowest of a byte counted from 0.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Damage {
    /// On the way: the checksums are those of what arrived.
    Arrived { at: u64 },
    /// At rest: the checksums are those of what was sent.
    Stored { at: u64 },
}

/// Whether the `n`th `Transfer-Encoding` asks for more than one layer of chunks.
fn is_coding((n, coding): (usize, &HeaderValue)) -> bool {
    n > 0 || !coding.as_bytes().eq_ignore_ascii_case(b"chunked")
}

/// A body that was taken in whole.
pub(crate) struct Received {
    pub blob: Box<dyn Blob>,
    pub sums: Sums,
}

impl Incoming {
    pub fn new(body: RawBody, headers: &HeaderMap, timeout: Duration, meter: Arc<Meter>) -> Self {
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        Self {
            body: Some(body),
            announced: text(CONTENT_LENGTH).and_then(|bytes| bytes.parse().ok()),
            chunked: headers.contains_key(TRANSFER_ENCODING),
            coded: headers.get_all(TRANSFER_ENCODING).iter().enumerate().any(is_coding),
            waits_for_go: headers.contains_key(EXPECT),
            timeout,
            damage: None,
            meter,
            received: 0,
            pace: None,
            held: Duration::ZERO,
        }
    }

    /// Length that the client announced.
    pub fn announced(&self) -> Option<u64> {
        self.announced
    }

    /// How many bytes came so far.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Harms what will be received.
    pub fn damage(&mut self, damage: Damage) {
        self.damage = Some(damage);
    }

    /// Reads and forgets up to `bytes`.
    pub async fn skip(&mut self, bytes: u64) {
        let mut skipped = 0;
        while skipped < bytes {
            let Ok(Some(chunk)) = self.chunk().await else { return };
            skipped += chunk.len() as u64;
        }
    }

    /// Takes the body in at this rate, in bytes per second.
    pub fn slow_down(&mut self, rate: u64) {
        self.pace = Some(Pace::new(rate));
    }

    /// How long the body was held up so far.
    pub fn held(&self) -> Duration {
        self.held
    }

    async fn hold(&mut self, bytes: usize, busy: &mut Option<Instant>) {
        let Some(pace) = &self.pace else { return };
        let now = Instant::now();
        let at = pace.book(bytes as u64, there_since(*busy, now));
        *busy = Some(at);
        tokio::time::sleep_until(at).await;
        self.held += now.elapsed();
    }

    /// The next bytes; `None` at the end.
    async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        if self.coded {
            return Err(Failure::not_implemented("a Transfer-Encoding but chunked"));
        }
        let Some(body) = &mut self.body else { return Ok(None) };
        self.waits_for_go = false;
        loop {
            match tokio::time::timeout(self.timeout, body.frame()).await {
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(chunk) => {
                        let bytes = chunk.len() as u64;
                        self.received += bytes;
                        self.meter.bytes_in.fetch_add(bytes, Ordering::Relaxed);
                        return Ok(Some(chunk));
                    }
                    Err(_trailers) => continue,
                },
                Ok(Some(Err(error))) if is_malformed(&*error) => return Err(self.malformed(&error)),
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

    fn malformed(&mut self, why: &impl std::fmt::Display) -> Failure {
        self.body = None;
        Failure::new(Code::BadRequest, format!("The chunks of the body are malformed: {why}. Nothing was stored."))
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
    /// `MissingContentLength`, `EntityTooLarge`, `RequestTimeout` for a short body, `BadRequest` for malformed chunks,
    /// `InvalidDigest`.
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
        let rots_at = self.damage.and_then(|damage| if let Damage::Stored { at } = damage { Some(at) } else { None });
        let mut intake = Intake::new(Writer::new(catalog.blob()?, with_md5, rots_at), catalog.waits());
        let (mut taken, mut busy) = (0, None);
        while let Some(chunk) = self.chunk().await? {
            let chunk = match self.damage {
                Some(Damage::Arrived { at }) => flipped(chunk, taken, at),
                _ => chunk,
            };
            taken += chunk.len() as u64;
            if taken > max {
                return Err(too_large());
            }
            self.hold(chunk.len(), &mut busy).await;
            intake.push(chunk).await?;
        }
        let received = intake.finish(digest).await?;
        check_digest(digest, &received.sums)?;
        Ok(received)
    }

    /// Takes in a small document.
    pub async fn document(&mut self, request: &Request) -> Result<Vec<u8>, Failure> {
        let document = self.small().await?;
        check_digest(announced_md5(request)?, &Sums::of(&document))?;
        Ok(document)
    }

    /// Takes in a small document of which an official client encodes more bytes than its MD5 has: the first ones count.
    pub async fn document_with_long_md5(&mut self, request: &Request) -> Result<Vec<u8>, Failure> {
        let document = self.small().await?;
        let announced = decoded_md5(request)?.map(|bytes| bytes.first_chunk().copied().ok_or_else(not_an_md5));
        check_digest(announced.transpose()?, &Sums::of(&document))?;
        Ok(document)
    }

    async fn small(&mut self) -> Result<Vec<u8>, Failure> {
        let mut document = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            if document.len() as u64 + chunk.len() as u64 > DOCUMENT_MAX {
                return Err(Failure::new(Code::MalformedXML, format!("The document exceeds {DOCUMENT_MAX} bytes.")));
            }
            document.extend_from_slice(&chunk);
        }
        Ok(document)
    }
}

/// Whether a body ended because it is not framed as it should be, and not because nothing more came.
fn is_malformed(error: &(dyn StdError + 'static)) -> bool {
    let causes = std::iter::successors(Some(error), |error| (*error).source());
    let mut kinds = causes.filter_map(|error| error.downcast_ref::<io::Error>()).map(io::Error::kind);
    kinds.any(|kind| matches!(kind, io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput))
}

fn announced_md5(request: &Request) -> Result<Option<[u8; 16]>, Failure> {
    decoded_md5(request)?.map(|bytes| bytes.try_into().map_err(|_| not_an_md5())).transpose()
}

fn decoded_md5(request: &Request) -> Result<Option<Vec<u8>>, Failure> {
    let text = request.header("content-md5");
    text.map(|text| STANDARD.decode(text).map_err(|_| not_an_md5())).transpose()
}

fn not_an_md5() -> Failure {
    Failure::new(Code::InvalidDigest, "The Content-MD5 you specified was invalid: it is the base64 of 16 bytes.")
}

fn check_digest(announced: Option<[u8; 16]>, sums: &Sums) -> Result<(), Failure> {
    match announced {
        Some(md5) if sums.md5 != Some(md5) => Err(Failure::new(
            Code::InvalidDigest,
            "The Content-MD5 you specified was invalid: the body that arrived has another.",
        )),
        _ => Ok(()),
    }
}

/// A blob and the checksums of what went into it.
struct Writer {
    blob: Box<dyn Blob>,
    sums: Checksums,
    /// The byte that is harmed after its checksum was taken.
    rots_at: Option<u64>,
}

impl Writer {
    fn new(blob: Box<dyn Blob>, with_md5: bool, rots_at: Option<u64>) -> Self {
        Self { blob, sums: Checksums::new(with_md5), rots_at }
    }

    fn write(&mut self, chunk: Bytes) -> io::Result<()> {
        let from = self.sums.bytes();
        self.sums.update(&chunk);
        self.blob.write(match self.rots_at {
            Some(at) => flipped(chunk, from, at),
            None => chunk,
        })
    }

    /// Makes the bytes durable.
    fn finish(mut self) -> io::Result<Received> {
        self.blob.sync()?;
        Ok(Received { blob: self.blob, sums: self.sums.finish() })
    }

    fn write_all(mut self, mut batch: Batch) -> io::Result<Self> {
        batch.chunks.drain(..).try_for_each(|chunk| self.write(chunk))?;
        Ok(self)
    }
}

/// Pieces of a body on their way to the disk.
#[derive(Default)]
struct Batch {
    chunks: Vec<Bytes>,
    /// What they take of [`BATCHES`].
    gathered: usize,
}

impl Batch {
    /// Answers whether there was room to gather it; if not, it is there all the same.
    fn push(&mut self, chunk: Bytes) -> bool {
        let bytes = chunk.len();
        self.chunks.push(chunk);
        let take = |gathered: usize| (gathered + bytes <= BATCHES).then_some(gathered + bytes);
        let has_room = GATHERED.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok();
        self.gathered += if has_room { bytes } else { 0 };
        has_room
    }

    fn bytes(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.len() as u64).sum()
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        GATHERED.fetch_sub(self.gathered, Ordering::Relaxed);
    }
}

/// Between the socket and the blob. Where the medium waits for a disk, one batch is written while the next comes in.
struct Intake {
    waits: bool,
    idle: Option<Writer>,
    busy: Option<JoinHandle<io::Result<Writer>>>,
    batch: Batch,
}

impl Intake {
    fn new(writer: Writer, waits: bool) -> Self {
        Self { waits, idle: Some(writer), busy: None, batch: Batch::default() }
    }

    async fn push(&mut self, chunk: Bytes) -> io::Result<()> {
        if let (false, Some(writer)) = (self.waits, &mut self.idle) {
            return writer.write(chunk);
        }
        let has_room = self.batch.push(chunk);
        if has_room && self.batch.gathered < BATCH {
            return Ok(());
        }
        let writer = self.writer().await?;
        let batch = std::mem::take(&mut self.batch);
        self.busy = Some(spawn_blocking(move || writer.write_all(batch)));
        if !has_room {
            self.idle = Some(self.writer().await?);
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
        let waits = self.waits && writer.sums.bytes() + batch.bytes() > HELD_MAX as u64;
        let last = move || {
            let Writer { mut blob, sums, .. } = writer.write_all(batch)?;
            let sums = sums.finish();
            if digest.is_none() || digest == sums.md5 {
                blob.sync()?;
            }
            Ok(Received { blob, sums })
        };
        if waits { spawn_blocking(last).await.map_err(io::Error::other)? } else { last() }
    }
}

/// Stores bytes `from..to` of an open object again.
pub(crate) async fn copy(
    catalog: &Arc<Catalog>,
    content: Box<dyn Content>,
    from: u64,
    to: u64,
) -> Result<Received, Failure> {
    call(catalog, move |catalog| {
        let mut writer = Writer::new(catalog.blob()?, catalog.wants_md5(), None);
        let mut at = from;
        while at < to {
            let max = usize::try_from((to - at).min(CHUNK)).unwrap_or(usize::MAX);
            let chunk = content.read(at, max)?;
            if chunk.is_empty() {
                return Err(io::Error::other("the stored object is shorter than its record"));
            }
            at += chunk.len() as u64;
            writer.write(chunk)?;
        }
        writer.finish()
    })
    .await
}

/// `chunk`, which begins at byte `from`, with the lowest bit of byte `at` flipped if it has that byte.
pub(crate) fn flipped(chunk: Bytes, from: u64, at: u64) -> Bytes {
    match at.checked_sub(from).and_then(|at| usize::try_from(at).ok()).filter(|at| *at < chunk.len()) {
        None => chunk,
        Some(at) => {
            let mut copy = BytesMut::from(&chunk[..]);
            copy[at] ^= 1;
            copy.freeze()
        }
    }
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
