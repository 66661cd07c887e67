//! What a running transfer shares among its tasks: progress, events, cancellation.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::error::Error;
use crate::model::event::{Activity, Event, Observer, Progress};
use crate::model::part::PartNumber;
use crate::net::meter::Totals;
use crate::net::stage::Stage;

/// What a person does not notice, and the longest time in which a cancellation is not noticed either.
const BLINK: Duration = Duration::from_millis(100);

/// The running counts behind [`Progress`].
#[derive(Default)]
pub(crate) struct Counters {
    pub bytes_total: AtomicU64,
    pub bytes_sent: AtomicU64,
    pub bytes_confirmed: AtomicU64,
    pub parts_total: AtomicU32,
    pub parts_done: AtomicU32,
    pub parts_resumed: AtomicU32,
    pub parts_unverified: AtomicU32,
}

impl Counters {
    pub fn snapshot(&self) -> Progress {
        let bytes_total = self.bytes_total.load(Relaxed);
        Progress {
            bytes_total,
            // A try that is being dropped may count its last chunk after it was taken out.
            bytes_sent: self.bytes_sent.load(Relaxed).min(bytes_total),
            bytes_confirmed: self.bytes_confirmed.load(Relaxed),
            parts_total: self.parts_total.load(Relaxed),
            parts_done: self.parts_done.load(Relaxed),
            parts_resumed: self.parts_resumed.load(Relaxed),
        }
    }

    /// Back to nothing: another state of the file is sent.
    pub fn reset(&self) {
        for count in [&self.bytes_total, &self.bytes_sent, &self.bytes_confirmed] {
            count.store(0, Relaxed);
        }
        for count in [&self.parts_total, &self.parts_done, &self.parts_resumed, &self.parts_unverified] {
            count.store(0, Relaxed);
        }
    }

    /// A part that an earlier run left in the store.
    pub fn resumed(&self, bytes: u64) {
        self.bytes_sent.fetch_add(bytes, Relaxed);
        self.bytes_confirmed.fetch_add(bytes, Relaxed);
        self.parts_done.fetch_add(1, Relaxed);
        self.parts_resumed.fetch_add(1, Relaxed);
    }

    /// A part that the store confirmed just now.
    pub fn confirmed(&self, bytes: u64, verified: bool) {
        self.bytes_confirmed.fetch_add(bytes, Relaxed);
        self.parts_done.fetch_add(1, Relaxed);
        if !verified {
            self.parts_unverified.fetch_add(1, Relaxed);
        }
    }
}

/// The exchanges in flight.
#[derive(Default)]
pub(crate) struct Activities(Mutex<BTreeMap<u64, Entry>>);

struct Entry {
    operation: &'static str,
    part: Option<PartNumber>,
    attempt: u32,
    stage: Stage,
}

impl Activities {
    /// In the order in which they began.
    pub fn snapshot(&self) -> Vec<Activity> {
        let activity = |entry: &Entry| {
            let now = entry.stage.now();
            Activity {
                operation: entry.operation,
                part: entry.part.map(PartNumber::get),
                attempt: entry.attempt,
                step: now.step,
                since: now.since.elapsed(),
                bytes_sent: now.bytes_sent,
            }
        };
        self.lock().values().map(activity).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Entry>> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// Keeps an exchange among the activities until it is dropped.
pub(super) struct InFlight {
    activities: Arc<Activities>,
    id: u64,
}

impl InFlight {
    /// The exchange goes into its `number`th try.
    pub fn attempt(&self, number: u32) {
        if let Some(entry) = self.activities.lock().get_mut(&self.id) {
            entry.attempt = number;
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.activities.lock().remove(&self.id);
    }
}

/// One running transfer.
pub(crate) struct Transfer {
    pub counters: Arc<Counters>,
    pub activities: Arc<Activities>,
    /// What the exchanges that carry the file have spent their time on.
    pub spent: Arc<Totals>,
    /// Ids of the requests by which this run sent its parts, where the answers named one.
    confirmed_by: Mutex<BTreeMap<PartNumber, Option<String>>>,
    observer: Box<dyn Observer>,
    cancelled: watch::Receiver<bool>,
}

/// Outside of a transfer: cancels it.
pub(crate) type Cancel = watch::Sender<bool>;

impl Transfer {
    /// A transfer, and what cancels it when `true` is sent.
    pub fn new(observer: Box<dyn Observer>) -> (Arc<Self>, Cancel) {
        let (cancel, cancelled) = watch::channel(false);
        let activities = Arc::default();
        (
            Arc::new(Self {
                counters: Arc::default(),
                activities,
                spent: Arc::default(),
                confirmed_by: Mutex::default(),
                observer,
                cancelled,
            }),
            cancel,
        )
    }

    /// Notes that an exchange begins; `stage` is where it stands.
    pub(super) fn begin(&self, operation: &'static str, part: Option<PartNumber>, stage: Stage) -> InFlight {
        let mut entries = self.activities.lock();
        let id = entries.last_key_value().map_or(0, |(last, _)| last + 1);
        entries.insert(id, Entry { operation, part, attempt: 1, stage });
        InFlight { activities: self.activities.clone(), id }
    }

    /// Notes that this run sent a part, and by which request.
    pub fn confirmed_by(&self, part: PartNumber, request_id: Option<String>) {
        self.confirmed_by.lock().unwrap_or_else(|e| e.into_inner()).insert(part, request_id);
    }

    /// The parts that this run has sent and by which requests; they are forgotten.
    pub fn take_confirmed_by(&self) -> BTreeMap<PartNumber, Option<String>> {
        std::mem::take(&mut *self.confirmed_by.lock().unwrap_or_else(|e| e.into_inner()))
    }

    pub fn tell(&self, event: Event) {
        tracing::debug!(?event);
        self.observer.event(&event);
    }

    /// Whether somebody asked for the end, or nobody waits for the result any more.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.has_changed().is_err() || *self.cancelled.borrow()
    }

    /// Waits for a file whose fingerprint takes so long to be proof, and says so if a person would notice. Blocks; `false` if
    /// the transfer is cancelled before.
    pub fn settles(&self, wait: Duration) -> bool {
        if wait > BLINK {
            self.tell(Event::Settling { wait_ms: wait.as_millis() as u64 });
        }
        let end = Instant::now() + wait;
        while !self.is_cancelled() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            std::thread::sleep(left.min(BLINK));
        }
        false
    }

    /// Runs `work` unless and until the transfer is cancelled.
    pub async fn unless_cancelled<T>(&self, work: impl Future<Output = T>) -> Result<T, Error> {
        let mut cancelled = self.cancelled.clone();
        tokio::select! {
            biased;
            // The sender gone means that nobody will cancel, or that nobody waits for the result any more: both end here.
            _ = cancelled.wait_for(|on| *on) => Err(Error::Cancelled),
            value = work => Ok(value),
        }
    }
}
