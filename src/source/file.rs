//! The file of a transfer: one open descriptor, and the fingerprint it had when the transfer began.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, StatxFlags, statx};

use super::SourceError;
use super::settled::{Clock, unsettled};
use crate::model::object::Fingerprint;

/// How often a file that changes while its fingerprint is settling is given another chance.
const SETTLE_TRIES: u32 = 5;

/// An open regular file.
#[derive(Debug)]
pub struct SourceFile {
    file: File,
    path: PathBuf,
    fingerprint: Fingerprint,
}

impl SourceFile {
    /// Opens a regular file. Never waits, as opening a FIFO would.
    ///
    /// # Errors
    /// [`SourceError::Open`] if it cannot be opened, [`SourceError::NotAFile`] if it is something else.
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        let refused = |cause| SourceError::Open { path: path.display().to_string(), cause };
        // A socket cannot even be opened; say what it is instead.
        check_kind(path, &std::fs::metadata(path).map_err(refused)?)?;
        let file = open_to_read(path).map_err(refused)?;
        let metadata = file.metadata().map_err(refused)?;
        check_kind(path, &metadata)?;
        Ok(Self { file, path: path.to_owned(), fingerprint: fingerprint(&metadata) })
    }

    /// Opens a regular file as [`SourceFile::open`] does, with a fingerprint from which every later write differs: waits for
    /// that, if the file was written just now, or its filesystem's clock cannot be known. Blocks on the disk.
    ///
    /// - `pause`: waits that long, 2.02 s at most, and answers whether the file is still wanted. If not, `None` is given.
    ///
    /// # Errors
    /// As [`SourceFile::open`]; [`SourceError::Changed`] if the file is written to all the time.
    pub fn open_settled(path: &Path, pause: impl Fn(Duration) -> bool) -> Result<Option<Self>, SourceError> {
        let mut tries = 1;
        loop {
            let file = Self::open(path)?;
            match file.settle(&pause) {
                Err(SourceError::Changed { .. }) if tries < SETTLE_TRIES => tries += 1,
                settled => return Ok(settled?.then_some(file)),
            }
        }
    }

    /// Waits until every later write would show in the fingerprint, see [`super::settled`]; `false` if `pause` said no.
    fn settle(&self, pause: impl Fn(Duration) -> bool) -> Result<bool, SourceError> {
        let now = SystemTime::now();
        self.check_unchanged()?;
        let wait = unsettled(&self.fingerprint, now, Clock::of(&self.file));
        if wait.is_zero() {
            return Ok(true);
        }
        let wanted = pause(wait);
        self.check_unchanged().map(|()| wanted)
    }

    /// State of the file when it was opened.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Length in bytes when it was opened.
    pub fn bytes(&self) -> u64 {
        self.fingerprint.bytes
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn changed(&self, what: impl Into<String>) -> SourceError {
        SourceError::Changed { path: self.path.display().to_string(), what: what.into() }
    }

    /// The error of a read at `at`; one behind the end of the file means that it shrank.
    pub(super) fn unreadable(&self, at: u64, cause: io::Error) -> SourceError {
        match cause.kind() {
            io::ErrorKind::UnexpectedEof => self.changed(format!("it ends before byte {}", self.bytes())),
            _ => SourceError::Read { path: self.path.display().to_string(), at, cause },
        }
    }

    /// Why a page of the mapped file is not there: the file was cut, or the disk failed. The kernel tells neither which
    /// nor, of a page that was touched, where: `at` is where reading began.
    pub(super) fn missing_page(&self, at: u64) -> SourceError {
        match self.check_unchanged() {
            Err(changed) => changed,
            Ok(()) => self.unreadable(at, io::Error::from_raw_os_error(libc::EIO)),
        }
    }

    /// Compares the file, and what its path names now, with the state when it was opened. Blocks on the network, if the
    /// file is behind one: its server is asked anew.
    ///
    /// # Errors
    /// [`SourceError::Changed`] says what differs.
    pub fn check_unchanged(&self) -> Result<(), SourceError> {
        // Whoever opens a file is told its true attributes, and so is who insists. Without an answer the old ones are left.
        let _ = Self::open(&self.path);
        let _ = statx(&self.file, "", AtFlags::EMPTY_PATH | AtFlags::STATX_FORCE_SYNC, StatxFlags::BASIC_STATS);
        self.look()
    }

    /// The same by what is known here, which may be some seconds old on a network filesystem.
    pub(super) fn look(&self) -> Result<(), SourceError> {
        let now = self.file.metadata().map_err(|cause| self.unreadable(0, cause))?;
        match std::fs::metadata(&self.path) {
            Ok(there) if (there.dev(), there.ino()) == (now.dev(), now.ino()) => {}
            Ok(_) => return Err(self.changed("another file has taken its place")),
            Err(cause) => return Err(self.changed(format!("its path leads to it no longer: {cause}"))),
        }
        match difference(&self.fingerprint, &fingerprint(&now)) {
            Some(what) => Err(self.changed(what)),
            None => Ok(()),
        }
    }
}

/// Never waits, as opening a FIFO would.
fn open_to_read(path: &Path) -> io::Result<File> {
    File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)
}

fn check_kind(path: &Path, metadata: &Metadata) -> Result<(), SourceError> {
    let kind = metadata.file_type();
    let what = match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_dir() => "a directory",
        () if kind.is_fifo() => "a FIFO",
        () if kind.is_socket() => "a socket",
        () => "a device",
    };
    Err(SourceError::NotAFile { path: path.display().to_string(), what })
}

fn fingerprint(metadata: &Metadata) -> Fingerprint {
    let ns = |seconds: i64, ns: i64| i128::from(seconds) * 1_000_000_000 + i128::from(ns);
    Fingerprint {
        device: metadata.dev(),
        inode: metadata.ino(),
        bytes: metadata.len(),
        mtime_ns: ns(metadata.mtime(), metadata.mtime_nsec()),
        ctime_ns: ns(metadata.ctime(), metadata.ctime_nsec()),
    }
}

fn difference(then: &Fingerprint, now: &Fingerprint) -> Option<String> {
    if then.bytes != now.bytes {
        return Some(format!("it had {} bytes, it has {} now", then.bytes, now.bytes));
    }
    if then.mtime_ns != now.mtime_ns {
        return Some("it was written to".into());
    }
    (then != now).then(|| "its metadata were changed".into())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn what_is_no_regular_file_is_named_and_never_waited_for() {
        let scratch = tempfile::tempdir().unwrap();
        let fifo = scratch.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let socket = scratch.path().join("socket");
        let _listener = UnixListener::bind(&socket).unwrap();
        let cases = [
            (scratch.path(), "a directory"),
            (&fifo, "a FIFO"),
            (&socket, "a socket"),
            (Path::new("/dev/null"), "a device"),
        ];
        for (path, expected) in cases {
            match SourceFile::open(path) {
                Err(SourceError::NotAFile { what, .. }) => assert_eq!(what, expected),
                other => panic!("{path:?}: {other:?}"),
            }
        }
        let missing = SourceFile::open(&scratch.path().join("missing"));
        assert!(matches!(missing, Err(SourceError::Open { .. })));
    }

    #[test]
    fn growing_rewriting_replacing_and_deleting_count_as_changes() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("f");
        let fresh = || {
            std::fs::write(&path, "four").unwrap();
            SourceFile::open(&path).unwrap()
        };
        let file = fresh();
        file.check_unchanged().unwrap();
        let said = |file: &SourceFile| file.check_unchanged().unwrap_err().to_string();
        File::options().append(true).open(&path).unwrap().write_all(b"!").unwrap();
        assert!(said(&file).contains("it had 4 bytes, it has 5 now"));
        let file = fresh();
        File::open(&path).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        assert!(said(&file).contains("written"));
        let file = fresh();
        std::fs::write(scratch.path().join("g"), "four").unwrap();
        std::fs::rename(scratch.path().join("g"), &path).unwrap();
        assert!(said(&file).contains("place"));
        let file = fresh();
        std::fs::remove_file(&path).unwrap();
        assert!(said(&file).contains("no longer"));
    }
}
