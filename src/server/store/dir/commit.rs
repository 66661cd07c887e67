//! Makes changes durable in groups: requests that come together share their flushes.
//!
//! Whoever wants a change first writes its new files, under names that nothing refers to yet. One thread takes all the
//! changes that wait and
//!
//! 1. flushes what was written for them: the files, and the directories that name them;
//! 2. makes each by its one rename or removal;
//! 3. flushes the directories in which that happened, each once;
//! 4. answers those who wait.
//!
//! A kill or a power loss before a change is made leaves files that nothing refers to, and the next start removes them.
//! The change itself is one operation that happens or does not, and all that it brings to light is durable since 1. A
//! power loss between 2 and 3 may undo it; nobody was told of it yet. After 3 it stays. Changes of one group do not
//! depend on each other: the catalog changes one object, part or upload at a time, and waits for the answer.
//!
//! A flush or a rename that fails fails the changes that need it, and no other.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::thread::JoinHandle;

/// What one object takes: so many files and directories are flushed one by one. For more, one flush of all there is on
/// the filesystem costs less, although it includes what others write.
const FEW: usize = 3;
/// Most changes of one group: bounds how long the first of them waits for the others.
const GROUP_MAX: usize = 1024;
/// Filesystems whose `syncfs` is known to do what `fsync` of every file does: ext4, xfs, btrfs, f2fs, tmpfs. Others may
/// keep it from whoever holds the bytes, as FUSE does.
const WHOLE: [u64; 5] = [0xEF53, 0x5846_5342, 0x9123_683E, 0xF2F5_2010, 0x0102_1994];
/// The first Linux whose `syncfs` tells of failed writes.
const TELLS: (u32, u32) = (5, 8);

/// What a group asks of a disk: each call is a place where the power can fail.
pub(super) trait Disk: Send {
    fn sync_file(&self, file: &File) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes everything durable that was written anywhere in the store; `None` if this disk cannot promise it.
    fn sync_all(&self) -> Option<io::Result<()>>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// The filesystem of a store.
pub(super) struct HostDisk {
    /// Open as long as the store: errors of writes are told to whoever had it open before they happened.
    root: File,
    flushes_whole: bool,
}

impl HostDisk {
    pub fn new(root: &Path) -> io::Result<Self> {
        let root = File::open(root)?;
        let kind = rustix::fs::fstatfs(&root)?.f_type as u64;
        let flushes_whole = WHOLE.contains(&kind) && kernel() >= TELLS;
        Ok(Self { root, flushes_whole })
    }
}

/// Major and minor version of this Linux; zeros if it does not say.
fn kernel() -> (u32, u32) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

impl Disk for HostDisk {
    fn sync_file(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn sync_all(&self) -> Option<io::Result<()>> {
        self.flushes_whole.then(|| Ok(rustix::fs::syncfs(&self.root)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
}

/// One change, all of it written but not yet made.
pub(super) struct Change {
    /// What must be durable before: new files …
    pub files: Vec<File>,
    /// … and directories that got new names.
    pub names: Vec<PathBuf>,
    pub switch: Switch,
    /// The directory in which the switch must be durable.
    pub place: PathBuf,
}

/// The one moment at which a change happens.
pub(super) enum Switch {
    Rename { from: PathBuf, to: PathBuf },
    Remove(PathBuf),
}

pub(super) struct Waiting {
    pub change: Change,
    pub done: SyncSender<io::Result<()>>,
}

/// Hands changes to the thread that makes them; dropped, it waits until the last is made.
pub(super) struct Committer {
    queue: Option<Sender<Waiting>>,
    thread: Option<JoinHandle<()>>,
}

impl Committer {
    /// # Errors
    /// If no thread can be started.
    pub fn start(disk: Box<dyn Disk>) -> io::Result<Self> {
        let (queue, waiting) = mpsc::channel();
        let thread = std::thread::Builder::new().name("haul-store".into()).spawn(move || run(disk, &waiting))?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    /// One without a thread: a test makes the groups.
    #[cfg(test)]
    pub fn by_hand() -> (Self, Receiver<Waiting>) {
        let (queue, waiting) = mpsc::channel();
        (Self { queue: Some(queue), thread: None }, waiting)
    }

    /// Returns when the change is made and durable.
    ///
    /// # Errors
    /// Those of the disk. The change may have been made all the same, but is not promised to stay.
    pub fn commit(&self, change: Change) -> io::Result<()> {
        let (done, answer) = mpsc::sync_channel(1);
        let ended = || io::Error::other("the thread that makes changes durable has ended");
        let queue = self.queue.as_ref().ok_or_else(ended)?;
        queue.send(Waiting { change, done }).map_err(|_| ended())?;
        answer.recv().map_err(|_| ended())?
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(disk: Box<dyn Disk>, queue: &Receiver<Waiting>) {
    let mut group = Group::new(disk);
    while let Ok(first) = queue.recv() {
        group.make(std::iter::once(first).chain(queue.try_iter().take(GROUP_MAX - 1)));
    }
}

/// What makes one group after the other.
pub(super) struct Group {
    disk: Box<dyn Disk>,
    /// Until a flush of everything fails: it tells of an error once, and not whose it is. From then on each file is
    /// asked.
    trusts_whole: bool,
}

impl Group {
    pub fn new(disk: Box<dyn Disk>) -> Self {
        Self { disk, trusts_whole: true }
    }

    /// Makes the changes and answers those who wait.
    pub fn make(&mut self, waiting: impl Iterator<Item = Waiting>) {
        let (changes, waiting): (Vec<_>, Vec<_>) = waiting.map(|waiting| (waiting.change, waiting.done)).unzip();
        for (result, done) in self.commit(&changes).into_iter().zip(waiting) {
            // Nobody waits for a request that was given up.
            let _ = done.send(result);
        }
    }

    /// In the order of the changes.
    fn commit(&mut self, changes: &[Change]) -> Vec<io::Result<()>> {
        let written = self.flush(changes);
        let make = |(written, change): (io::Result<()>, _)| written.and_then(|()| self.switch(change));
        let made: Vec<_> = written.into_iter().zip(changes).map(make).collect();
        let mut places = Directories::default();
        let settled = made.into_iter().zip(changes);
        settled.map(|(made, change)| made.and_then(|()| places.sync(&*self.disk, &change.place))).collect()
    }

    /// Makes durable what was written for the changes: with one flush of everything, or one by one.
    fn flush(&mut self, changes: &[Change]) -> Vec<io::Result<()>> {
        let flushes: usize = changes.iter().map(|change| change.files.len() + change.names.len()).sum();
        if flushes > FEW && self.trusts_whole {
            match self.disk.sync_all() {
                Some(Ok(())) => return changes.iter().map(|_| Ok(())).collect(),
                Some(Err(error)) => tracing::error!(%error, "a write failed somewhere on the filesystem of the store"),
                None => {}
            }
            self.trusts_whole = false;
        }
        let mut names = Directories::default();
        let written = changes.iter().map(|change| {
            change.files.iter().try_for_each(|file| self.disk.sync_file(file))?;
            change.names.iter().try_for_each(|dir| names.sync(&*self.disk, dir))
        });
        written.collect()
    }

    fn switch(&self, change: &Change) -> io::Result<()> {
        match &change.switch {
            Switch::Rename { from, to } => self.disk.rename(from, to),
            Switch::Remove(path) => self.disk.remove(path),
        }
    }
}

/// Directories that were flushed already, and how that ended.
#[derive(Default)]
struct Directories<'a>(BTreeMap<&'a Path, io::Result<()>>);

impl<'a> Directories<'a> {
    fn sync(&mut self, disk: &dyn Disk, dir: &'a Path) -> io::Result<()> {
        let outcome = self.0.entry(dir).or_insert_with(|| disk.sync_dir(dir));
        outcome.as_ref().copied().map_err(|error| io::Error::new(error.kind(), error.to_string()))
    }
}
