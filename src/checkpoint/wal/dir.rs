//! A storage that is a directory of the filesystem, locked for one file of it.
//!
//! The lock is on a sidecar, `<name>.lock`, because replacing a file changes its inode and a lock on the old one would
//! guard nothing. The sidecar holds the owner's process id and is removed with the lock; one that a killed process left
//! is taken over. All files have mode 0600. A file that somebody else put at one of these names is left as it is.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags, flock};

use super::Storage;
use crate::os::name::with_suffix;
use crate::os::replace::{replace, sync_directory};

/// Largest file that is read, in bytes: a log of 10,000 parts has 0.5 MiB.
pub const FILE_BYTES_MAX: u64 = 64 << 20;
/// What [`head`] reads, in bytes: enough to know a file by.
pub const HEAD_BYTES: u64 = 64;
/// Names that are tried for a file that is to take the place of another.
const ASIDE_NAMES: u32 = 100;

/// Why a file could not be locked.
#[derive(Debug)]
pub enum LockError {
    /// Another process, or this one, holds it.
    Held {
        pid: Option<u32>,
    },
    /// What stands at the name of the sidecar is somebody else's.
    Foreign {
        path: PathBuf,
    },
    Io(io::Error),
}

/// What stands in a directory under a name.
pub struct Head {
    /// The first bytes, at most [`HEAD_BYTES`].
    pub first: Vec<u8>,
    pub bytes: u64,
    pub device: u64,
    pub inode: u64,
}

/// A directory, locked for one of its files.
pub struct Directory {
    path: PathBuf,
    lock_path: PathBuf,
    _lock: File,
    /// Whether a file that begins so is one of ours.
    is_ours: fn(&[u8]) -> bool,
    appending: Option<(String, File)>,
}

impl Directory {
    /// Locks `name` in the directory `path`.
    ///
    /// - `is_ours`: tells from its first [`HEAD_BYTES`] whether a file is one that this storage wrote.
    ///
    /// # Errors
    /// [`LockError::Held`] if somebody else has it, and keeps it for 2 s; [`LockError::Foreign`] if the sidecar is none of
    /// ours; [`LockError::Io`] if it cannot be made.
    pub fn lock(path: &Path, name: &str, is_ours: fn(&[u8]) -> bool) -> Result<Self, LockError> {
        let lock_path = path.join(lock_name(name));
        let lock = take_lock(&lock_path)?;
        Ok(Self { path: path.to_owned(), lock_path, _lock: lock, is_ours, appending: None })
    }

    /// A new file for what is to take the place of `name`, under a name that is free: what a killed process left there
    /// is removed, what somebody else put there is not.
    fn aside(&self, name: &str) -> io::Result<(PathBuf, File)> {
        let free = |n| if n == 0 { ".new".to_owned() } else { format!(".{n}.new") };
        for path in (0..ASIDE_NAMES).map(|n| self.path.join(with_suffix(name, &free(n)))) {
            loop {
                // Created, not truncated, so that a planted link is never followed.
                match private().write(true).create_new(true).open(&path) {
                    Ok(file) => return Ok((path, file)),
                    Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
                    Err(_) if self.is_left_by_us(&path)? => remove_if_there(&path)?,
                    Err(_) => break,
                }
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// A process that is killed between two calls leaves an empty file, or a whole one.
    fn is_left_by_us(&self, path: &Path) -> io::Result<bool> {
        let Some(meta) = none_if_missing(std::fs::symlink_metadata(path))? else { return Ok(true) };
        if !meta.is_file() {
            return Ok(false);
        }
        Ok(meta.len() == 0 || head(path)?.is_none_or(|head| (self.is_ours)(&head.first)))
    }

    /// The file opened for appending; kept open, because every group of records appends to it.
    fn appending(&mut self, name: &str) -> io::Result<&mut File> {
        if self.appending.as_ref().is_none_or(|(open, _)| open != name) {
            let file = private().append(true).create(true).open(self.path.join(name))?;
            self.appending = Some((name.to_owned(), file));
        }
        Ok(&mut self.appending.as_mut().expect("set above").1)
    }
}

impl Drop for Directory {
    /// Removes the sidecar while the lock is still held: whoever opened it meanwhile sees that its name is gone.
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.lock_path);
    }
}

impl Storage for Directory {
    fn read(&mut self, name: &str) -> io::Result<Option<Vec<u8>>> {
        read(&self.path.join(name))
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.appending(name)?.write_all(bytes)
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        self.appending(name)?.sync_data()
    }

    fn replace(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.appending = None;
        let (aside, file) = self.aside(name)?;
        replace(&self.path.join(name), &aside, file, bytes)
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.appending = None;
        remove_if_there(&self.path.join(name))?;
        sync_directory(&self.path)
    }
}

/// Reads a whole file, or `None` if there is none.
///
/// # Errors
/// `FileTooLarge` for more than [`FILE_BYTES_MAX`].
pub fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let Some(file) = none_if_missing(File::open(path))? else { return Ok(None) };
    let mut bytes = Vec::with_capacity(file.metadata()?.len().min(FILE_BYTES_MAX) as usize);
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(Some(bytes)) }
}

/// How a file begins and what identifies it, or `None` if there is none.
///
/// # Errors
/// `InvalidInput` for anything but a regular file, which is not opened (a pipe would block).
pub fn head(path: &Path) -> io::Result<Option<Head>> {
    let Some(meta) = none_if_missing(std::fs::metadata(path))? else { return Ok(None) };
    if !meta.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut first = Vec::new();
    File::open(path)?.take(HEAD_BYTES).read_to_end(&mut first)?;
    Ok(Some(Head { first, bytes: meta.len(), device: meta.dev(), inode: meta.ino() }))
}

/// A process that was killed keeps its locks until its last system call has returned, which may be a sync.
const PATIENCE: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(20);

fn take_lock(path: &Path) -> Result<File, LockError> {
    let begun = Instant::now();
    loop {
        let mut file = open_lock(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(rustix::io::Errno::WOULDBLOCK) if begun.elapsed() < PATIENCE => {
                std::thread::sleep(LOOK_EVERY);
                continue;
            }
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(LockError::Held { pid: owner(&mut file) }),
            Err(other) => return Err(LockError::Io(other.into())),
        }
        if is_still_named(&file, path).map_err(LockError::Io)? {
            // Who holds the lock is only told to the one who is refused: not knowing it harms nothing.
            let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
            return Ok(file);
        }
    }
}

/// Opens the sidecar, or makes it; one that holds anything but what is written here stays as it is.
fn open_lock(path: &Path) -> Result<File, LockError> {
    let foreign = || LockError::Foreign { path: path.to_owned() };
    let without_waiting = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
    let mut options = private();
    options.read(true).write(true).create(true).truncate(false).custom_flags(without_waiting);
    let mut file = match options.open(path) {
        Err(_) if std::fs::symlink_metadata(path).is_ok_and(|meta| !meta.is_file()) => return Err(foreign()),
        opened => opened.map_err(LockError::Io)?,
    };
    let meta = file.metadata().map_err(LockError::Io)?;
    // A process that was killed before it wrote its id left it empty.
    if !meta.is_file() || (meta.len() > 0 && owner(&mut file).is_none()) {
        return Err(foreign());
    }
    file.rewind().map_err(LockError::Io)?;
    Ok(file)
}

/// False if the last owner removed the sidecar between our open and our lock.
fn is_still_named(file: &File, path: &Path) -> io::Result<bool> {
    let Some(named) = none_if_missing(std::fs::metadata(path))? else { return Ok(false) };
    let ours = file.metadata()?;
    Ok((named.dev(), named.ino()) == (ours.dev(), ours.ino()))
}

/// The process whose id a sidecar holds; `None` if it holds anything else.
fn owner(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.rewind().and_then(|()| file.take(16).read_to_string(&mut text)).ok()?;
    text.strip_suffix('\n').unwrap_or(&text).parse().ok()
}

/// The name of the sidecar of `name`.
pub fn lock_name(name: &str) -> String {
    with_suffix(name, ".lock")
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    none_if_missing(std::fs::remove_file(path)).map(|_| ())
}

fn none_if_missing<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}
