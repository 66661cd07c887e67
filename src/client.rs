//! The async face: a client of one endpoint, and the transfers it runs.
//!
//! A client has its own threads, so its futures work on any executor and in none (see [`crate::blocking`]); several
//! transfers share its connections, buffers and threads.

use std::sync::Arc;

use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

pub use crate::engine::Uploaded;
pub use crate::engine::keyring::{Identity, Keyring};
use crate::engine::memory::Memory;
use crate::engine::{Endpoint, Engine, Slots, TUNED_MAX, plan, transfer, upload};
use crate::error::Error;
use crate::model::event::{Activity, Event, Observer, Progress};
use crate::model::object::{Bucket, Key, UploadId};
use crate::model::retry::{Fault, FaultKind};
use crate::model::settings::{ClientSettings, UploadRequest};
use crate::net::connect::Connector;
use crate::net::limit::Limiter;
use crate::net::pool::Pool;
use crate::net::{DRAIN_RATE, RATE_MIN, tls};
use crate::source::buffer::BufferPool;
use crate::store::credentials::Credentials;
use crate::store::operations::abort::Abort;
use crate::store::operations::create_bucket::CreateBucket;
use crate::store::operations::delete::Delete;
use crate::store::operations::head::Head;
pub use crate::store::operations::head::ObjectInfo;
use crate::store::operations::list_uploads::ListUploads;
pub use crate::store::operations::list_uploads::{ListedKey, UploadInfo};
use crate::store::{Operation, Store};

/// Events that a transfer keeps for a caller who does not take them; later ones are dropped.
const EVENTS_MAX: usize = 16 << 10;
/// Pages of unfinished uploads that are read of a bucket: a million uploads. The list of a hostile store need not end.
const UPLOAD_PAGES_MAX: usize = 1000;

/// A client of one endpoint. Cheap to clone; clones share connections, buffers and threads.
#[derive(Clone)]
pub struct Client {
    engine: Arc<Engine>,
    threads: Arc<Threads>,
}

/// The threads of a client. They end with its last clone, without waiting for what still runs.
struct Threads(Option<Runtime>);

impl Threads {
    fn runtime(&self) -> &Runtime {
        self.0.as_ref().expect("taken only by drop")
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Client {
    /// Makes a client; nothing is sent. Without credentials, requests are not signed.
    ///
    /// # Errors
    /// [`Error::Settings`] for settings that cannot work, [`Error::Tls`] for certificates that cannot be used,
    /// [`Error::System`] if the system gives no threads.
    pub fn new(settings: ClientSettings, credentials: Option<Credentials>) -> Result<Self, Error> {
        let keyring = credentials.map(|key| Keyring::fixed(key, &settings)).transpose()?;
        Self::make(settings, keyring.map(Arc::new))
    }

    /// Makes a client whose requests are signed with what `keyring` holds: renewed before it ends, and when the store says
    /// that it has. Nothing is asked or sent yet.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn with_keyring(settings: ClientSettings, keyring: Arc<Keyring>) -> Result<Self, Error> {
        Self::make(settings, Some(keyring))
    }

    fn make(settings: ClientSettings, keyring: Option<Arc<Keyring>>) -> Result<Self, Error> {
        check_rate(settings.max_rate)?;
        let store = Store::new(&settings).map_err(|e| Error::Settings(e.to_string()))?;
        let https = store.endpoint().starts_with("https:");
        let memory = Memory::new(settings.memory, https, settings.buffer_bytes);
        let memory = memory.map_err(|e| Error::Settings(e.to_string()))?;
        let tls = if https { Some(tls::client_config(&settings)?) } else { None };
        let connector = Connector::new(tls, &settings.proxy, settings.connect_timeout, settings.idle_timeout);
        let connector = if settings.explain { connector.watchful() } else { connector };
        let threads = settings.threads.max(1);
        let runtime = crate::os::threads::runtime(threads, "haul").map_err(Error::threads)?;
        let limiter = Limiter::new(settings.max_rate, settings.max_cpu);
        let pool = Pool::new(connector, settings.idle_timeout, limiter.clone());
        let slots = Slots::tuned(connections_max(settings.max_rate, &memory), limiter);
        let engine = Engine {
            transport: Arc::new(pool),
            endpoint_name: settings.endpoint_name.unwrap_or_else(|| store.endpoint().to_owned()),
            store,
            keyring,
            retry: settings.retry,
            endpoint: Endpoint::new(slots),
            buffers: BufferPool::new(memory.buffer_bytes),
            memory,
            threads,
            explain: settings.explain,
            max_rate: settings.max_rate,
        };
        Ok(Self { engine: Arc::new(engine), threads: Arc::new(Threads(Some(runtime))) })
    }

    /// Starts an upload on the client's own threads.
    pub fn upload(&self, request: UploadRequest) -> Transfer {
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let (transfer, cancel) = transfer::Transfer::new(Box::new(Queue(sender)));
        let (counters, activities) = (transfer.counters.clone(), transfer.activities.clone());
        let engine = self.engine.clone();
        let running = self.threads.runtime().spawn(async move { upload(&engine, &transfer, request).await });
        Transfer { counters, activities, cancel, events, running: Some(running), _threads: self.threads.clone() }
    }

    /// Most parts in flight that uploads have unasked ([`crate::model::settings::Parallel::Auto`]): as memory, open files
    /// and rate allow, 256 at most.
    pub fn parallel_max(&self) -> u32 {
        self.engine.endpoint.slots.max()
    }

    /// Makes the plan of an upload, an [`Event::Planned`], and sends nothing.
    pub async fn plan(&self, request: &UploadRequest) -> Result<Event, Error> {
        let (engine, request) = (self.engine.clone(), request.clone());
        joined(self.threads.runtime().spawn_blocking(move || plan(&engine, &request))).await
    }

    /// Asks for an object's size, checksum and metadata.
    pub async fn stat(&self, bucket: &Bucket, key: &Key) -> Result<ObjectInfo, Error> {
        let (bucket, key) = (bucket.clone(), key.clone());
        self.run(|engine| async move { engine.exchange(&Head { bucket: &bucket, key: &key }, None).await }).await
    }

    /// Lists the unfinished uploads of all keys that start with `prefix`, those included that cannot be asked for: see
    /// [`UploadInfo::named`].
    ///
    /// # Errors
    /// [`Error::Exchange`], also for a list of more than 1,000 pages of 1,000: name a longer prefix.
    pub async fn list_uploads(&self, bucket: &Bucket, prefix: &str) -> Result<Vec<UploadInfo>, Error> {
        let (bucket, prefix) = (bucket.clone(), prefix.to_owned());
        self.run(|engine| async move {
            let (mut uploads, mut after) = (Vec::new(), None);
            for _ in 0..UPLOAD_PAGES_MAX {
                let operation = ListUploads { bucket: &bucket, prefix: &prefix, after };
                let page = engine.exchange(&operation, None).await?;
                uploads.extend(page.uploads);
                match page.next {
                    None => return Ok(uploads),
                    next => after = next,
                }
            }
            let message = format!("the list of uploads has more than {UPLOAD_PAGES_MAX} pages: name a longer prefix");
            let fault = Box::new(Fault::new(FaultKind::Protocol, message));
            Err(Error::Exchange { operation: ListUploads::NAME, attempts: 1, fault })
        })
        .await
    }

    /// Aborts one upload; gives whether there was one. One that is already gone is no error.
    pub async fn abort_upload(&self, bucket: &Bucket, key: &Key, upload_id: &UploadId) -> Result<bool, Error> {
        let (bucket, key, upload_id) = (bucket.clone(), key.clone(), upload_id.clone());
        self.run(|engine| async move {
            engine.exchange(&Abort { bucket: &bucket, key: &key, upload_id: &upload_id }, None).await
        })
        .await
    }

    /// Deletes an object; one that is not there is a success. With `version_id`, in a bucket that keeps versions, that version
    /// and no other.
    pub async fn delete_object(&self, bucket: &Bucket, key: &Key, version_id: Option<&str>) -> Result<(), Error> {
        let (bucket, key, version_id) = (bucket.clone(), key.clone(), version_id.map(str::to_owned));
        self.run(|engine| async move {
            let operation = Delete { bucket: &bucket, key: &key, version_id: version_id.as_deref() };
            engine.exchange(&operation, None).await
        })
        .await
    }

    /// Makes a bucket; one that is already yours is a success.
    pub async fn create_bucket(&self, bucket: &Bucket) -> Result<(), Error> {
        let bucket = bucket.clone();
        self.run(|engine| async move { engine.exchange(&CreateBucket { bucket: &bucket }, None).await }).await
    }

    /// Runs `work` on the client's threads, so that the caller may be on any executor.
    async fn run<T: Send + 'static, F>(&self, work: impl FnOnce(Arc<Engine>) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        joined(self.threads.runtime().spawn(work(self.engine.clone()))).await
    }
}

/// Most parts in flight that are tried unasked: each has a buffer, half of the files that the process may open are left to
/// others, and of a rate each gets what a connection is believed to carry at least.
fn connections_max(max_rate: Option<u64>, memory: &Memory) -> u32 {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    let shares = max_rate.map_or(u64::MAX, |rate| (rate / DRAIN_RATE).max(1));
    TUNED_MAX.min(memory.parts_with_buffers).min(u32::try_from(shares.min(files / 2)).unwrap_or(u32::MAX))
}

/// A request that moves less is taken for one that hangs, by the store too.
fn check_rate(max_rate: Option<u64>) -> Result<(), Error> {
    match max_rate {
        Some(rate) if rate < RATE_MIN => {
            Err(Error::Settings(format!("a rate of {rate} bytes/s: a request needs {RATE_MIN} bytes/s at least")))
        }
        _ => Ok(()),
    }
}

async fn joined<T>(running: JoinHandle<Result<T, Error>>) -> Result<T, Error> {
    match running.await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(Error::Cancelled),
    }
}

struct Queue(mpsc::Sender<Arc<Event>>);

impl Observer for Queue {
    fn event(&self, event: &Event) {
        let _ = self.0.try_send(Arc::new(event.clone()));
    }
}

/// A running upload. Dropping it cancels the upload; its checkpoint stays.
pub struct Transfer {
    counters: Arc<transfer::Counters>,
    activities: Arc<transfer::Activities>,
    cancel: transfer::Cancel,
    events: mpsc::Receiver<Arc<Event>>,
    running: Option<JoinHandle<Result<Uploaded, Error>>>,
    _threads: Arc<Threads>,
}

impl Transfer {
    /// How far the transfer is now.
    pub fn progress(&self) -> Progress {
        self.counters.snapshot()
    }

    /// What every exchange in flight is waiting for now, in the order in which they began.
    pub fn activities(&self) -> Vec<Activity> {
        self.activities.snapshot()
    }

    /// The next event, or `None` when the transfer has ended. Events that nobody takes are kept, up to 16,384; later
    /// ones are dropped.
    pub async fn next_event(&mut self) -> Option<Arc<Event>> {
        self.events.recv().await
    }

    /// Stops taking parts, drops those in flight and syncs the checkpoint; [`Transfer::wait`] then gives
    /// [`Error::Cancelled`].
    pub fn cancel(&self) {
        self.cancel.send_replace(true);
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// Why the upload stopped; [`Error::Cancelled`] also if its result was taken before.
    pub async fn wait(&mut self) -> Result<Uploaded, Error> {
        match self.running.take() {
            Some(running) => joined(running).await,
            None => Err(Error::Cancelled),
        }
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.cancel();
    }
}
