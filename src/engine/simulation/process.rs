//! One run of the engine: until it ends, or until the world says that it is dead.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::TryRecvError;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::storage::SimStorage;
use super::transport::SimTransport;
use super::world::{LOG, Shared, World};
use crate::checkpoint::Journal;
use crate::checkpoint::journal::Writer;
use crate::engine::job::{Job, Uploaded};
use crate::engine::memory;
use crate::engine::prepare::Prepared;
use crate::engine::session::Session;
use crate::engine::slots::Slots;
use crate::engine::transfer::Transfer;
use crate::engine::{Endpoint, Engine};
use crate::error::Error;
use crate::model::event::{Event, Observer};
use crate::model::object::{Bucket, Key, UploadId};
use crate::model::part::{Limits, PartPlan};
use crate::model::retry::RetryPolicy;
use crate::model::settings::{ClientSettings, Parallel, ReaderKind, UploadRequest};
use crate::source::buffer::BufferPool;
use crate::source::file::SourceFile;
use crate::source::{Chosen, Reading, Source};
use crate::store::Store;

/// Length of a part, in bytes.
const PART: usize = 8;
/// Most parts of a file.
const PARTS_MAX: usize = 8;
const LIMITS: Limits = Limits { part_bytes_min: 1, part_bytes_max: 1 << 20, parts_max: 1000, put_bytes_max: 1 << 20 };

/// How a process ended.
pub enum Ended {
    Died,
    Failed,
    Done { crc64: u64 },
}

/// What all transfers share: what is costly to make and never changes.
pub struct Machine {
    store: Store,
    buffers: BufferPool,
    request: UploadRequest,
    /// Real files, for their fingerprints only: what they hold is in the world. Two of each length.
    files: Vec<Arc<SourceFile>>,
    /// For each file another one of its length and time.
    copies: Vec<Arc<SourceFile>>,
    _directory: tempfile::TempDir,
}

impl Machine {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = |n: usize, kind: &str| {
            let path = directory.path().join(format!("{kind}-{n}"));
            std::fs::write(&path, vec![0; n / 2 + 1]).unwrap();
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(n as u64);
            std::fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
            Arc::new(SourceFile::open(&path).unwrap())
        };
        let all = 0..2 * PART * PARTS_MAX;
        Self {
            store: Store::new(&ClientSettings {
                region: Some("cn-hangzhou".into()),
                ..ClientSettings::new("http://127.0.0.1:1")
            })
            .unwrap(),
            buffers: BufferPool::new(0),
            request: UploadRequest {
                parallel: Parallel::Parts(3),
                ..UploadRequest::new("file", Bucket::new("demo").unwrap(), Key::new("key").unwrap())
            },
            files: all.clone().map(|n| file(n, "file")).collect(),
            copies: all.map(|n| file(n, "copy")).collect(),
            _directory: directory,
        }
    }

    /// A file with content that the seed decides.
    pub fn some_file(&self, world: &mut World) -> Arc<SourceFile> {
        let file = self.files[world.random.usize(0..self.files.len())].clone();
        world.take_file(file.path(), file.bytes() as usize);
        file
    }

    /// Another file of the same length takes the place of `old`.
    pub fn other_file(&self, world: &mut World, old: &Arc<SourceFile>) -> Arc<SourceFile> {
        let same = |file: &&Arc<SourceFile>| file.bytes() == old.bytes() && file.path() != old.path();
        let other = self.files.iter().find(same).expect("there are two of each length").clone();
        world.take_file(other.path(), other.bytes() as usize);
        other
    }

    /// The file is copied, or comes back from where it was copied to.
    pub fn moved_file(&self, world: &mut World, old: &Arc<SourceFile>) -> Arc<SourceFile> {
        let is_old = |file: &Arc<SourceFile>| file.path() == old.path();
        let pairs = self.files.iter().zip(&self.copies);
        let mut others = pairs.flat_map(|(file, copy)| [(file, copy), (copy, file)]);
        let (_, other) = others.find(|(file, _)| is_old(file)).expect("every file has a copy");
        world.move_file(other.path());
        other.clone()
    }

    /// Starts a process and waits for its end.
    pub fn run(&self, world: &Shared, file: &Arc<SourceFile>) -> Ended {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(self.process(world, file))
    }

    async fn process(&self, world: &Shared, file: &Arc<SourceFile>) -> Ended {
        let engine = Arc::new(self.engine(world));
        let (transfer, _cancel) = Transfer::new(Box::new(Ear(world.clone())));
        let plan = PartPlan::new(file.bytes(), PART as u64, LIMITS).expect("it is short");
        let prepared = prepared(world, file, plan);
        let (begun, begun_at) = (std::time::Instant::now(), SystemTime::now());
        let slots = Slots::fixed(3);
        let (engine, transfer, request) = (&engine, &transfer, &self.request);
        let job = Job { engine, transfer, request, prepared: &prepared, slots: &slots, begun, begun_at };
        let storage = SimStorage::new(world, file.fingerprint());
        let opened = Journal::recover(storage, Path::new(LOG), LOG, job.binding());
        let Ok((journal, mut writer, checkpoint, found)) = opened else { return Ended::Died };
        let upload = job.run(Some(Session::new(journal, checkpoint, found)));
        let ended = until_death(world, upload, &mut writer).await;
        if let Ended::Failed = ended {
            // The journal is dropped: what it was told is written and synced before the process ends.
            while let Ok(first) = writer.next_by_hand() {
                writer.group_by_hand(first);
            }
            writer.sync_by_hand();
        }
        if world.lock().dead { Ended::Died } else { ended }
    }

    fn engine(&self, world: &Shared) -> Engine {
        let (base, cap) = (Duration::from_millis(2), Duration::from_millis(20));
        Engine {
            transport: Arc::new(SimTransport(world.clone())),
            store: self.store.clone(),
            keyring: None,
            endpoint: Endpoint::new(Slots::fixed(1)),
            retry: RetryPolicy { base, cap, ..RetryPolicy::default() },
            buffers: self.buffers.clone(),
            endpoint_name: self.store.endpoint().to_owned(),
            threads: 1,
            explain: false,
            max_rate: None,
            memory: memory::Memory::new(None, false, 0).expect("a part has room"),
        }
    }
}

fn prepared(world: &Shared, file: &Arc<SourceFile>, plan: PartPlan) -> Prepared {
    let source = Arc::new(Memory(world.lock().content.clone()));
    Prepared {
        file: file.clone(),
        chosen: Chosen { source, kind: ReaderKind::Pread, reason: String::new() },
        part_bytes: plan.part_bytes(),
        plan: Some(plan),
        checkpoint: Some(PathBuf::from(LOG)),
        wanted_bytes: plan.part_bytes(),
    }
}

/// Polls the engine and gives the journal its turns, until one of them is at its end.
async fn until_death(
    world: &Shared,
    upload: impl Future<Output = Result<Uploaded, Error>>,
    writer: &mut Writer<SimStorage>,
) -> Ended {
    let mut upload = pin!(upload);
    let mut journal = pin!(write(world, writer));
    std::future::poll_fn(|cx| {
        let result = upload.as_mut().poll(cx);
        if world.lock().dead {
            return Poll::Ready(Ended::Died);
        }
        match result {
            Poll::Ready(Ok(done)) => return Poll::Ready(Ended::Done { crc64: done.crc64 }),
            Poll::Ready(Err(_)) => return Poll::Ready(Ended::Failed),
            Poll::Pending => {}
        }
        let _ = journal.as_mut().poll(cx);
        if world.lock().dead { Poll::Ready(Ended::Died) } else { Poll::Pending }
    })
    .await
}

/// The journal's thread, as a future: it is polled whenever the engine was.
async fn write(world: &Shared, writer: &mut Writer<SimStorage>) {
    loop {
        let mut sync = writer.sync_due().map(|due| Box::pin(tokio::time::sleep_until(due)));
        let next = std::future::poll_fn(|cx| match writer.next_by_hand() {
            Ok(command) => Poll::Ready(Some(command)),
            Err(TryRecvError::Disconnected) => Poll::Ready(None),
            Err(TryRecvError::Empty) => match &mut sync {
                Some(due) => due.as_mut().poll(cx).map(|()| None),
                None => Poll::Pending,
            },
        });
        match next.await {
            Some(first) => {
                world.delay().await;
                writer.group_by_hand(first);
            }
            None => writer.sync_by_hand(),
        }
    }
}

/// Reads from memory.
struct Memory(Bytes);

impl Source for Memory {
    fn read(&self, at: u64, bytes: usize) -> Reading {
        Reading::new(std::future::ready(Ok(self.0.slice(at as usize..at as usize + bytes))))
    }

    fn chunk_bytes(&self) -> usize {
        4096
    }

    fn read_ahead(&self) -> usize {
        0
    }
}

/// Hears which uploads the user is told of.
struct Ear(Shared);

impl Observer for Ear {
    fn event(&self, event: &Event) {
        if let Event::LeftOpen { upload_id: UploadId(id), .. } = event {
            self.0.lock().warned += id;
        }
    }
}
