//! The file of a transfer: one open descriptor, and the fingerprint of the state that is sent.
//!
//! Another length or time of modification is another state. Another time of status change alone leaves a *doubt*: a new
//! link, other rights, another owner or an attribute change no byte, but somebody may have written and then put the time of
//! modification back. Whoever relies on the state reads again and compares, see [`super::reread::prove`].

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, StatxFlags, statx};

use super::SourceError;
use super::settled::{Clock, unsettled};
use crate::model::object::Fingerprint;

/// How often something is begun for a file that does not stay as it is.
pub(super) const LOOKS_MAX: u32 = 5;

/// An open regular file.
#[derive(Debug)]
pub struct SourceFile {
    file: File,
    path: PathBuf,
    opened: Fingerprint,
    status: Mutex<Status>,
}

/// What may become another without the file being another.
#[derive(Debug)]
struct Status {
    /// As of the last look.
    ctime_ns: i128,
    in_doubt: bool,
}

impl SourceFile {
    /// Opens a regular file. Never waits, as opening a FIFO would.
    ///
    /// # Errors
    /// [`SourceError::Open`] if it cannot be opened, [`SourceError::NotAFile`] if it is something else,
    /// [`SourceError::Length`] if reading it gives more or less than its filesystem reports.
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        let refused = |cause| SourceError::Open { path: path.display().to_string(), cause };
        // A socket cannot even be opened; say what it is instead.
        check_kind(path, &std::fs::metadata(path).map_err(refused)?)?;
        let file = open_to_read(path).map_err(refused)?;
        let metadata = file.metadata().map_err(refused)?;
        check_kind(path, &metadata)?;
        let opened = fingerprint(&metadata);
        let status = Mutex::new(Status { ctime_ns: opened.ctime_ns, in_doubt: false });
        let opened = Self { file, path: path.to_owned(), opened, status };
        opened.check_end()?;
        Ok(opened)
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
                Err(SourceError::Changed { .. }) if tries < LOOKS_MAX => tries += 1,
                settled => return Ok(settled?.then_some(file)),
            }
        }
    }

    /// From here on every later write shows in the fingerprint, see [`super::settled`]: waits for that. What was in doubt
    /// is of the past. `false` if `pause`, see [`SourceFile::open_settled`], said no. Blocks on the disk.
    ///
    /// # Errors
    /// [`SourceError::Changed`] if it is not the state that was opened, or if its metadata are changed all the time.
    pub fn settle(&self, pause: impl Fn(Duration) -> bool) -> Result<bool, SourceError> {
        for _ in 0..LOOKS_MAX {
            let now = SystemTime::now();
            self.check_unchanged()?;
            self.status().in_doubt = false;
            let wait = unsettled(&self.fingerprint(), now, Clock::of(&self.file));
            if wait.is_zero() {
                return Ok(true);
            }
            if !pause(wait) {
                return Ok(false);
            }
            self.check_unchanged()?;
            if !self.is_in_doubt() {
                return Ok(true);
            }
        }
        Err(self.never_settles())
    }

    /// State of the file, as far as is known.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint { ctime_ns: self.status().ctime_ns, ..self.opened }
    }

    /// Whether something happened to the file, since it settled, that may have changed bytes and need not.
    pub fn is_in_doubt(&self) -> bool {
        self.status().in_doubt
    }

    fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Length in bytes when it was opened.
    pub fn bytes(&self) -> u64 {
        self.opened.bytes
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

    pub(super) fn never_settles(&self) -> SourceError {
        self.changed("its metadata are changed all the time")
    }

    /// The error of a read at `at`; one behind the end of the file means that it shrank, or never was that long.
    pub(super) fn unreadable(&self, at: u64, cause: io::Error) -> SourceError {
        match cause.kind() {
            io::ErrorKind::UnexpectedEof => self.has_other_length("fewer"),
            io::ErrorKind::OutOfMemory => SourceError::NoMemory { cause },
            _ => SourceError::Read { path: self.path.display().to_string(), at, cause },
        }
    }

    /// A file ends where a read gives nothing more, whatever its filesystem reports: procfs, FUSE and others guess. Reads
    /// its last byte and the one after it.
    fn check_end(&self) -> Result<(), SourceError> {
        let last = self.bytes().saturating_sub(1);
        let read = loop {
            match self.file.read_at(&mut [0; 2], last) {
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                read => break read.map_err(|cause| self.unreadable(last, cause))? as u64,
            }
        };
        match last + read {
            end if end < self.bytes() => Err(self.has_other_length("fewer")),
            end if end > self.bytes() => Err(self.has_other_length("more")),
            _ => Ok(()),
        }
    }

    /// The error where the file has another length than was reported: it changed, or the report is wrong.
    fn has_other_length(&self, what: &'static str) -> SourceError {
        self.refresh();
        match self.look() {
            Err(changed @ SourceError::Changed { .. }) => changed,
            _ => SourceError::Length { path: self.path.display().to_string(), reported: self.bytes(), what },
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
    /// Another name or other rights are no change; what may be one is noted, see [`SourceFile::is_in_doubt`].
    ///
    /// # Errors
    /// [`SourceError::Changed`] says what differs; [`SourceError::Length`] if it has not the length that is reported.
    pub fn check_unchanged(&self) -> Result<(), SourceError> {
        // Some ask when a file is opened, and only then.
        let _ = Self::open(&self.path);
        self.refresh();
        self.look()?;
        self.check_end()
    }

    /// Has a network filesystem ask its server for the attributes. Without an answer those that it remembers are left.
    fn refresh(&self) {
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_FORCE_SYNC;
        let _ = statx(&self.file, "", flags, StatxFlags::BASIC_STATS);
    }

    /// The same by what is known here, which may be some seconds old on a network filesystem.
    pub(super) fn look(&self) -> Result<(), SourceError> {
        let now = self.file.metadata().map_err(|cause| self.unreadable(0, cause))?;
        match std::fs::metadata(&self.path) {
            Ok(there) if (there.dev(), there.ino()) == (now.dev(), now.ino()) => {}
            Ok(_) => return Err(self.changed("another file has taken its place")),
            // It, or a directory above it, has another name or other rights now.
            Err(_) if now.nlink() > 0 => {}
            Err(cause) => return Err(self.changed(format!("its path leads to it no longer: {cause}"))),
        }
        let now = fingerprint(&now);
        if let Some(what) = difference(&self.opened, &now) {
            return Err(self.changed(what));
        }
        let mut status = self.status();
        if status.ctime_ns != now.ctime_ns {
            *status = Status { ctime_ns: now.ctime_ns, in_doubt: true };
        }
        Ok(())
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

/// Why `now` is another state of the file than `then`.
fn difference(then: &Fingerprint, now: &Fingerprint) -> Option<String> {
    if then.bytes != now.bytes {
        return Some(format!("it had {} bytes, it has {} now", then.bytes, now.bytes));
    }
    if then.mtime_ns != now.mtime_ns {
        return Some("it was written to".into());
    }
    let same = (then.device, then.inode) == (now.device, now.inode);
    (!same).then(|| "its filesystem shows another file".into())
}

#[cfg(test)]
mod tests {
    use std::fs::{FileTimes, Permissions};
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;
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

    type Touch = fn(&Path);

    /// What changes no byte, as far as anybody can see.
    const TOUCHES: [(&str, Touch); 4] = [
        ("a link", |path| std::fs::hard_link(path, path.with_extension("link")).unwrap()),
        ("rights", |path| std::fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap()),
        ("a time of access", |path| {
            let times = FileTimes::new().set_accessed(std::time::UNIX_EPOCH);
            File::open(path).unwrap().set_times(times).unwrap();
        }),
        ("a name", |path| std::fs::rename(path, path.with_extension("renamed")).unwrap()),
    ];

    /// A file whose fingerprint has settled, so that everything later shows.
    fn settled(path: &Path) -> SourceFile {
        std::fs::write(path, "four").unwrap();
        SourceFile::open_settled(path, sleep).unwrap().unwrap()
    }

    fn sleep(time: Duration) -> bool {
        std::thread::sleep(time);
        true
    }

    #[test]
    fn another_name_other_rights_and_a_time_of_access_leave_a_doubt_until_the_file_has_settled_again() {
        for (what, touch) in TOUCHES {
            let scratch = tempfile::tempdir().unwrap();
            let path = scratch.path().join("f");
            let file = settled(&path);
            let before = file.fingerprint();
            file.check_unchanged().unwrap();
            assert!(!file.is_in_doubt(), "{what}");
            touch(&path);
            file.check_unchanged().unwrap();
            assert!(file.is_in_doubt(), "{what}");
            assert_ne!(file.fingerprint(), before, "{what}: later changes are seen against what is there now");
            assert!(file.settle(sleep).unwrap());
            assert!(!file.is_in_doubt(), "{what}");
        }
    }

    #[test]
    fn a_file_that_is_touched_all_the_time_never_settles() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("f");
        let file = settled(&path);
        let modes = std::cell::Cell::new(0o600);
        let touched = || {
            modes.set(modes.get() ^ 0o100);
            std::fs::set_permissions(&path, Permissions::from_mode(modes.get())).unwrap();
        };
        touched();
        let result = file.settle(|wait| {
            sleep(wait);
            touched();
            true
        });
        assert!(result.unwrap_err().to_string().contains("all the time"));
    }

    #[test]
    fn a_file_that_is_no_longer_wanted_is_not_waited_for() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("f");
        std::fs::write(&path, "four").unwrap();
        let file = SourceFile::open(&path).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert!(!file.settle(|_| false).unwrap());
    }
}
