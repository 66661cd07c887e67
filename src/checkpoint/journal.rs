//! The journal: one thread that owns the log of a transfer.
//!
//! Records are queued, written in groups within some 10 ms (so that a killed process loses next to nothing) and synced
//! at most every 200 ms, unless somebody waits: then at once. Opening recovers, binds
//! and compacts in one atomic replace. After the first failed write every later call gives that error.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{io, mem};

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::wal::dir::{Directory, LockError};
use super::wal::log::Log;
use super::wal::{Storage, dir, frame};
use super::{Binding, Checkpoint, CheckpointError, Claims, Record, record, recovery};
use crate::os::name::{directory_of, followed};

/// Longest time that a written record waits for its sync. Losing it costs only one more listing of parts.
const SYNC_EVERY: Duration = Duration::from_millis(200);
/// How long a group gathers when nobody waits: one wake-up and one write for all parts that end in it.
const GATHER: Duration = Duration::from_millis(10);

/// What stood at the place of the checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// No upload to go on with.
    Nothing,
    /// This transfer, begun earlier.
    Resumed,
    /// This transfer, but the file's identity changed. What stands in the log now is bound to the file as it is, and has
    /// the upload but no part: a part is recorded again when the file was read again and agrees.
    Moved(Claims),
    /// Something else; uploads it named are in [`Checkpoint::abandoned`].
    StartedOver { reason: String },
}

type Done = oneshot::Sender<Result<(), CheckpointError>>;

pub(crate) enum Command {
    Record(Vec<u8>),
    Barrier(Done),
    Remove(Done),
}

/// A checkpoint that is being written. Dropping it writes and syncs what is queued, which may block on the disk.
pub struct Journal {
    path: PathBuf,
    /// Unbounded: a transfer has at most one record of about 50 bytes for each confirmed part.
    commands: Option<Sender<Command>>,
    failed: Arc<OnceLock<CheckpointError>>,
    writer: Option<JoinHandle<()>>,
}

impl Journal {
    /// Locks the checkpoint at `path`, recovers what stands there, binds it to this transfer and makes the result
    /// durable. Blocks on the disk.
    ///
    /// A link is followed. A file that is not haul's is left as it is.
    ///
    /// # Errors
    /// [`CheckpointError::Busy`] if a process has it open; [`CheckpointError::NotOurs`] if what stands there, or at the
    /// place of its lock, is not haul's, or too large; [`CheckpointError::LaterFormat`]; [`CheckpointError::Unwritable`].
    pub fn open(path: &Path, binding: Binding) -> Result<(Self, Checkpoint, Found), CheckpointError> {
        let path = &followed(path).map_err(|cause| unwritable(path, cause))?;
        let (parent, name) = split(path)?;
        let thread = Idle::start()?;
        let directory = Directory::lock(parent, name, recovery::has_magic).map_err(|e| lock_error(path, e))?;
        refuse_foreign(path, &binding)?;
        Self::open_with(thread, directory, path, name, binding)
    }

    /// [`Journal::open`] on any storage; `path` is what errors call it.
    #[doc(hidden)]
    pub fn open_on(
        storage: impl Storage + 'static,
        path: &Path,
        name: &str,
        binding: Binding,
    ) -> Result<(Self, Checkpoint, Found), CheckpointError> {
        Self::open_with(Idle::start()?, storage, path, name, binding)
    }

    fn open_with<S: Storage + 'static>(
        thread: Idle<S>,
        storage: S,
        path: &Path,
        name: &str,
        binding: Binding,
    ) -> Result<(Self, Checkpoint, Found), CheckpointError> {
        let (mut journal, writer, checkpoint, found) = Self::recover(storage, path, name, binding)?;
        journal.writer = Some(thread.run(writer));
        Ok((journal, checkpoint, found))
    }

    /// Everything of [`Journal::open_on`] but the thread: whoever calls it has the writer write.
    pub(crate) fn recover<S: Storage>(
        storage: S,
        path: &Path,
        name: &str,
        binding: Binding,
    ) -> Result<(Self, Writer<S>, Checkpoint, Found), CheckpointError> {
        let mut log = Log::new(storage, name);
        let unwritable = |cause| CheckpointError::Unwritable { path: path.to_owned(), cause };
        let bytes = log.read().map_err(|cause| CheckpointError::Unreadable { path: path.to_owned(), cause })?;
        let (checkpoint, found) =
            recovery::resume(bytes.as_deref(), binding).map_err(|version| recovery::later_format(path, version))?;
        // The uploads that may be open are named a second time, after the snapshot: see `recovery`.
        let naming = checkpoint.naming_records().map(|record| record::encode_record(&record));
        log.compact(std::iter::once(record::encode_snapshot(&checkpoint)).chain(naming)).map_err(unwritable)?;
        let failed = Arc::new(OnceLock::new());
        let (commands, queue) = mpsc::channel();
        let writer = Writer {
            log,
            path: path.to_owned(),
            queue,
            failed: failed.clone(),
            unsynced_since: None,
            frames: Vec::new(),
            gather: GATHER,
        };
        let journal = Self { path: path.to_owned(), commands: Some(commands), failed, writer: None };
        Ok((journal, writer, checkpoint, found))
    }

    /// Queues a fact. It is written soon and durable soon after; see [`Journal::barrier`].
    ///
    /// # Errors
    /// The first error of the journal, if it has failed. A fact that is too long is refused and harms nothing.
    pub fn record(&self, record: Record) -> Result<(), CheckpointError> {
        let payload = record::encode_record(&record);
        if payload.len() > record::RECORD_BYTES_MAX {
            let cause = io::Error::new(io::ErrorKind::InvalidInput, format!("a record of {} bytes", payload.len()));
            return Err(CheckpointError::Unwritable { path: self.path.clone(), cause: Arc::new(cause) });
        }
        if record.names_upload() {
            self.send(Command::Record(payload.clone()))?;
        }
        self.send(Command::Record(payload))
    }

    /// Records a fact and returns when it, and every fact before it, is durable.
    ///
    /// # Errors
    /// As [`Journal::record`].
    pub async fn record_durably(&self, record: Record) -> Result<(), CheckpointError> {
        self.record(record)?;
        self.barrier().await
    }

    /// Returns when every fact so far is durable.
    ///
    /// # Errors
    /// The first error of the journal.
    pub async fn barrier(&self) -> Result<(), CheckpointError> {
        self.ask(Command::Barrier).await
    }

    /// Removes the checkpoint durably, and its lock: the transfer is finished.
    ///
    /// # Errors
    /// The first error of the journal; the checkpoint then stays.
    pub async fn remove(mut self) -> Result<(), CheckpointError> {
        let removed = self.ask(Command::Remove).await;
        self.stop();
        removed
    }

    async fn ask(&self, command: impl FnOnce(Done) -> Command) -> Result<(), CheckpointError> {
        let (done, answer) = oneshot::channel();
        self.send(command(done))?;
        answer.await.unwrap_or_else(|_| Err(self.why_stopped()))
    }

    fn send(&self, command: Command) -> Result<(), CheckpointError> {
        if let Some(error) = self.failed.get() {
            return Err(error.clone());
        }
        let sent = self.commands.as_ref().is_some_and(|c| c.send(command).is_ok());
        if sent { Ok(()) } else { Err(self.why_stopped()) }
    }

    fn why_stopped(&self) -> CheckpointError {
        self.failed.get().cloned().unwrap_or_else(|| CheckpointError::Stopped { path: self.path.clone() })
    }

    fn stop(&mut self) {
        self.commands = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The thread before it has a log. It is started before anything on the disk is touched, as the system may refuse it.
struct Idle<S> {
    work: Sender<Writer<S>>,
    thread: JoinHandle<()>,
}

impl<S: Storage + 'static> Idle<S> {
    fn start() -> Result<Self, CheckpointError> {
        let (work, given) = mpsc::channel::<Writer<S>>();
        let run = move || given.into_iter().for_each(Writer::run);
        let thread = std::thread::Builder::new().name("haul-journal".into()).spawn(run);
        let refused = |cause| CheckpointError::NoThread { cause: Arc::new(cause) };
        Ok(Self { work, thread: thread.map_err(refused)? })
    }

    fn run(self, writer: Writer<S>) -> JoinHandle<()> {
        // It waits for just this. Were it gone, the journal would say that it has stopped.
        let _ = self.work.send(writer);
        self.thread
    }
}

/// The thread's side.
pub(crate) struct Writer<S> {
    log: Log<S>,
    path: PathBuf,
    queue: Receiver<Command>,
    failed: Arc<OnceLock<CheckpointError>>,
    unsynced_since: Option<Instant>,
    /// Frames of the group being gathered.
    frames: Vec<u8>,
    gather: Duration,
}

impl<S: Storage> Writer<S> {
    fn run(mut self) {
        loop {
            match self.next() {
                Ok(first) => {
                    if self.group(first) {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => drop(self.sync()),
                Err(RecvTimeoutError::Disconnected) => {
                    let _ = self.sync();
                    return;
                }
            }
        }
    }

    /// Waits for a command, but no longer than a written record may wait for its sync.
    fn next(&self) -> Result<Command, RecvTimeoutError> {
        match self.unsynced_since {
            None => self.queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(since) => self.queue.recv_timeout(SYNC_EVERY.saturating_sub(since.elapsed())),
        }
    }

    /// Takes everything that is queued, writes it at once and syncs if somebody waits. True when the log is removed.
    fn group(&mut self, first: Command) -> bool {
        let mut waiting = Vec::new();
        let (mut next, mut gathered) = (Some(first), false);
        while let Some(command) = next {
            match command {
                Command::Record(payload) => frame::push(&mut self.frames, &payload),
                Command::Barrier(done) => waiting.push(done),
                Command::Remove(done) => return self.finish(waiting, done),
            }
            next = self.queue.try_recv().ok();
            if next.is_none() && waiting.is_empty() && !gathered {
                gathered = true;
                std::thread::sleep(self.gather);
                next = self.queue.try_recv().ok();
            }
        }
        let overdue = self.unsynced_since.is_some_and(|since| since.elapsed() >= SYNC_EVERY);
        let mut result = self.write();
        if !waiting.is_empty() || overdue {
            result = result.and_then(|()| self.sync());
        }
        waiting.into_iter().for_each(|done| drop(done.send(result.clone())));
        false
    }

    /// The last command: what it removes need not be written first.
    fn finish(&mut self, waiting: Vec<Done>, done: Done) -> bool {
        let result = self.log.remove();
        let result = self.noted(result);
        waiting.into_iter().chain([done]).for_each(|done| drop(done.send(result.clone())));
        self.unsynced_since = None;
        true
    }

    fn write(&mut self) -> Result<(), CheckpointError> {
        if self.frames.is_empty() {
            return self.failed.get().map_or(Ok(()), |error| Err(error.clone()));
        }
        let frames = mem::take(&mut self.frames);
        let result = self.log.append(&frames);
        self.noted(result)?;
        self.unsynced_since.get_or_insert_with(Instant::now);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), CheckpointError> {
        if self.unsynced_since.take().is_none() {
            return self.failed.get().map_or(Ok(()), |error| Err(error.clone()));
        }
        let result = self.log.sync();
        self.noted(result)
    }

    /// Keeps the first error for every later caller.
    fn noted(&self, result: Result<(), Arc<io::Error>>) -> Result<(), CheckpointError> {
        result.map_err(|cause| {
            self.failed.get_or_init(|| CheckpointError::Unwritable { path: self.path.clone(), cause }).clone()
        })
    }
}

/// A writer without a thread, for a simulation that decides when the disk gets its turn.
#[cfg(test)]
impl<S: Storage> Writer<S> {
    /// The next command, if one is queued; [`mpsc::TryRecvError::Disconnected`] when the journal is dropped.
    pub fn next_by_hand(&mut self) -> Result<Command, mpsc::TryRecvError> {
        self.gather = Duration::ZERO;
        self.queue.try_recv()
    }

    /// Does `first` and what is queued behind it, as the thread would.
    pub fn group_by_hand(&mut self, first: Command) {
        self.group(first);
    }

    /// When what is written must be synced, if anything is.
    pub fn sync_due(&self) -> Option<Instant> {
        self.unsynced_since.map(|since| since + SYNC_EVERY)
    }

    pub fn sync_by_hand(&mut self) {
        let _ = self.sync();
    }
}

fn unwritable(path: &Path, cause: io::Error) -> CheckpointError {
    CheckpointError::Unwritable { path: path.to_owned(), cause: Arc::new(cause) }
}

fn split(path: &Path) -> Result<(&Path, &str), CheckpointError> {
    let no_name = || unwritable(path, io::Error::new(io::ErrorKind::InvalidInput, "it has no file name in UTF-8"));
    let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(no_name)?;
    Ok((directory_of(path), name))
}

fn lock_error(path: &Path, error: LockError) -> CheckpointError {
    match error {
        LockError::Held { pid } => CheckpointError::Busy { path: path.to_owned(), pid },
        LockError::Foreign { path } => {
            CheckpointError::NotOurs { path, why: "its name is that of a lock, but it holds something else".to_owned() }
        }
        LockError::Io(cause) => unwritable(path, cause),
    }
}

/// A user may have named a precious file by mistake, or have one of that name: only what carries the magic is touched.
fn refuse_foreign(path: &Path, binding: &Binding) -> Result<(), CheckpointError> {
    let not_ours = |why: String| Err(CheckpointError::NotOurs { path: path.to_owned(), why });
    let head = dir::head(path).map_err(|cause| unwritable(path, cause))?;
    let Some(head) = head.filter(|head| head.bytes > 0) else { return Ok(()) };
    if (head.device, head.inode) == (binding.source.device, binding.source.inode) {
        return not_ours("it is the file to upload".to_owned());
    }
    if !recovery::has_magic(&head.first) {
        return not_ours("it holds something else".to_owned());
    }
    if head.bytes > dir::FILE_BYTES_MAX {
        return not_ours(format!("it has {} bytes", head.bytes));
    }
    Ok(())
}
