//! Who asked for what, and what became of it: counters for the status page, and the access log, one JSON line for every
//! request. Neither ever holds a query, a signature or a secret.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use serde::Serialize;

use super::outgoing::Outgoing;

/// Lines that wait for the disk, at most; more are dropped and counted, so that a slow disk does not slow down requests.
const WAITING_MAX: usize = 16 << 10;

/// Where the access log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTarget {
    Stdout,
    /// Appended to.
    File(PathBuf),
}

/// What passed since the start.
#[derive(Default)]
pub(crate) struct Meter {
    pub bytes_in: AtomicU64,
    pub bytes_out: AtomicU64,
    pub requests: AtomicU64,
}

impl Meter {
    /// Requests, bytes in and bytes out.
    pub fn read(&self) -> [u64; 3] {
        [&self.requests, &self.bytes_in, &self.bytes_out].map(|counter| counter.load(Ordering::Relaxed))
    }
}

/// One request, as the log writes it.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Entry {
    /// When it was answered: RFC 3339, with milliseconds.
    pub time: String,
    pub request_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    pub method: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bucket: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    pub status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// From the head of the request to the end of the answer.
    pub milliseconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

/// Now, as logs write it: RFC 3339 with milliseconds.
pub(crate) fn timestamp() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

/// A time as HTTP writes it. It knows none before 1970 and none after 9999: the nearest that it knows is written then.
pub(crate) fn http_date(at: SystemTime) -> String {
    let last = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    httpdate::fmt_http_date(at.clamp(SystemTime::UNIX_EPOCH, last))
}

/// A thread that writes lines.
pub(crate) struct AccessLog {
    lines: SyncSender<Vec<u8>>,
    dropped: AtomicU64,
}

impl AccessLog {
    /// Opens the target and starts its thread, which ends with the log.
    pub fn open(target: &LogTarget) -> io::Result<Arc<Self>> {
        let (lines, waiting) = sync_channel(WAITING_MAX);
        match target {
            LogTarget::Stdout => spawn(io::stdout(), waiting)?,
            LogTarget::File(path) => spawn(File::options().create(true).append(true).open(path)?, waiting)?,
        }
        Ok(Arc::new(Self { lines, dropped: AtomicU64::new(0) }))
    }

    fn write(&self, entry: &Entry) {
        let Ok(mut line) = serde_json::to_vec(entry) else { return };
        line.push(b'\n');
        if let Err(TrySendError::Full(_)) = self.lines.try_send(line) {
            let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            if dropped.is_power_of_two() {
                tracing::warn!(dropped, "the access log cannot be written as fast as requests come");
            }
        }
    }
}

/// Lines are written together when there are many, and at once when there are few.
fn spawn(target: impl Write + Send + 'static, waiting: Receiver<Vec<u8>>) -> io::Result<()> {
    let mut target = BufWriter::new(target);
    let write = move || {
        while let Ok(line) = waiting.recv() {
            let lines = std::iter::once(line).chain(waiting.try_iter());
            let written = lines.into_iter().try_for_each(|line| target.write_all(&line)).and_then(|()| target.flush());
            if let Err(error) = written {
                tracing::error!(%error, "the access log cannot be written");
            }
        }
    };
    std::thread::Builder::new().name("access-log".to_owned()).spawn(write).map(drop)
}

/// A request on its way; noted when its answer has passed or is given up.
pub(crate) struct Visit {
    pub entry: Entry,
    begin: Instant,
    meter: Arc<Meter>,
    log: Option<Arc<AccessLog>>,
}

impl Visit {
    pub fn begin(meter: Arc<Meter>, log: Option<Arc<AccessLog>>) -> Self {
        meter.requests.fetch_add(1, Ordering::Relaxed);
        Self { entry: Entry::default(), begin: Instant::now(), meter, log }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let Some(log) = &self.log else { return };
        self.entry.time = timestamp();
        self.entry.milliseconds = (self.begin.elapsed().as_secs_f64() * 1e6).round() / 1e3;
        log.write(&self.entry);
    }
}

/// The body of an answer, counted; the visit ends with it.
pub(crate) fn watched(body: Outgoing, visit: Visit) -> Outgoing {
    Watched { body, visit }.boxed_unsync()
}

struct Watched {
    body: Outgoing,
    visit: Visit,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let polled = Pin::new(&mut self.body).poll_frame(task);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            let bytes = frame.data_ref().map_or(0, |chunk| chunk.len() as u64);
            self.visit.entry.bytes_out += bytes;
            self.visit.meter.bytes_out.fetch_add(bytes, Ordering::Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
