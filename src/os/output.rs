//! Files that are written for whoever asked for them: receipts, profiles, reports.
//!
//! A regular file is replaced whole and durably, and keeps its mode and, where that is allowed, its owner. A link is
//! followed. Whatever else stands there (FIFO, device, a descriptor of this process such as `/dev/stdout`) is written into.
//! A file that the same run reads or needs is never replaced, whatever name it is given.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{Access, OFlags, fcntl_getfl, fcntl_setfl};

use super::name::{directory_of, followed, is_descriptor, with_suffix};
use super::replace::replace;

/// How long the reader of a FIFO is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Whether a file could be written at `path`, as far as can be said before there is one: hours later it would be too late.
/// Nothing is changed.
///
/// - `kept`: files that must stay as they are; known by device and inode, or by their directory while they are not there.
///
/// # Errors
/// What would keep it from being written.
pub fn check(path: &Path, kept: &[&Path]) -> io::Result<()> {
    look(path, kept).map(drop)
}

/// Writes a file: whole or not at all, and durable. Blocks on the disk, and on a FIFO.
///
/// - `mode`: of a file that is new, before the umask.
/// - `kept`: see [`check`].
///
/// # Errors
/// As [`check`], and what the system says.
pub fn write(path: &Path, bytes: &[u8], mode: u32, kept: &[&Path]) -> io::Result<()> {
    match look(path, kept)? {
        Place::Into(path) => open_special(&path)?.write_all(bytes),
        Place::Over(path) => overwrite(&path, bytes),
        Place::Anew(path, old) => match replace_like(&path, bytes, mode, old.as_ref()) {
            // A file that is a mount point of its own, as containers have them.
            Err(e) if e.kind() == ErrorKind::ResourceBusy && old.is_some() => overwrite(&path, bytes),
            result => result,
        },
    }
}

/// How a file comes to be at a place.
enum Place {
    /// It is no regular file, or a descriptor that is open.
    Into(PathBuf),
    /// It is a regular file in a directory where nothing can be made.
    Over(PathBuf),
    /// A new file takes this name, from the old one if there is one.
    Anew(PathBuf, Option<Metadata>),
}

fn look(path: &Path, kept: &[&Path]) -> io::Result<Place> {
    let path = followed(path)?;
    let directory = directory_of(&path);
    let meta = match std::fs::metadata(&path) {
        Ok(meta) => meta,
        Err(e) if e.kind() == ErrorKind::NotFound => {
            refuse_kept(&path, kept)?;
            rustix::fs::access(directory, Access::WRITE_OK | Access::EXEC_OK)?;
            return Ok(Place::Anew(path, None));
        }
        Err(e) => return Err(e),
    };
    let kind = meta.file_type();
    let is_open = is_descriptor(&path);
    let refused = |why: &str| Err(io::Error::new(ErrorKind::InvalidInput, why));
    match () {
        () if kind.is_dir() => return Err(ErrorKind::IsADirectory.into()),
        () if kind.is_block_device() => return refused("it is a disk"),
        () if kind.is_socket() && !is_open => return refused("it is a socket"),
        () if kind.is_file() => refuse_kept(&path, kept)?,
        () => {}
    }
    if is_open && stream(&path)?.is_some() {
        return Ok(Place::Into(path));
    }
    rustix::fs::access(&path, Access::WRITE_OK)?;
    Ok(match () {
        () if is_open || !kind.is_file() => Place::Into(path),
        () if rustix::fs::access(directory, Access::WRITE_OK | Access::EXEC_OK).is_err() => Place::Over(path),
        () => Place::Anew(path, Some(meta)),
    })
}

fn refuse_kept(path: &Path, kept: &[&Path]) -> io::Result<()> {
    let identity = identity(path);
    match kept
        .iter()
        .find(|kept| identity.is_some() && followed(kept).is_ok_and(|kept| self::identity(&kept) == identity))
    {
        None => Ok(()),
        Some(kept) => {
            let why = format!("it is the same file as {}, which this command needs", kept.display());
            Err(io::Error::new(ErrorKind::InvalidInput, why))
        }
    }
}

/// Device and inode of a regular file; those of its directory and the name while it is not there.
fn identity(path: &Path) -> Option<(u64, u64, Option<&std::ffi::OsStr>)> {
    match std::fs::metadata(path) {
        Ok(meta) => meta.is_file().then_some((meta.dev(), meta.ino(), None)),
        Err(_) => {
            let directory = std::fs::metadata(directory_of(path)).ok()?;
            Some((directory.dev(), directory.ino(), path.file_name()))
        }
    }
}

fn replace_like(path: &Path, bytes: &[u8], mode: u32, old: Option<&Metadata>) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let (aside, file) = loop {
        let aside = path.with_file_name(with_suffix(&name, &format!(".{:08x}.new", fastrand::u32(..))));
        match new_file(if old.is_some() { 0o600 } else { mode }).open(&aside) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            made => break (aside, made?),
        }
    };
    if let Some(old) = old {
        // Only the superuser may give a file away; whoever else replaces it owns it.
        let _ = std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid()));
        if let Err(e) = file.set_permissions(std::fs::Permissions::from_mode(old.mode() & 0o7777)) {
            let _ = std::fs::remove_file(&aside);
            return Err(e);
        }
    }
    replace(path, &aside, file, bytes)
}

fn new_file(mode: u32) -> OpenOptions {
    let mut options = File::options();
    options.write(true).create_new(true).mode(mode);
    options
}

fn overwrite(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::options().write(true).truncate(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Standard output or standard error, if `path` is a descriptor and that one: opened anew, a file would be written from its
/// beginning.
fn stream(path: &Path) -> io::Result<Option<File>> {
    let opened = match path.file_name().and_then(|name| name.to_str()) {
        _ if std::fs::canonicalize(directory_of(path))? != std::fs::canonicalize("/proc/self/fd")? => return Ok(None),
        Some("1") => io::stdout().as_fd().try_clone_to_owned()?,
        Some("2") => io::stderr().as_fd().try_clone_to_owned()?,
        _ => return Ok(None),
    };
    Ok(Some(opened.into()))
}

/// Opens what is no regular file. A FIFO is given to its reader only: one that nobody comes to read is an error.
fn open_special(path: &Path) -> io::Result<File> {
    if is_descriptor(path)
        && let Some(stream) = stream(path)?
    {
        return Ok(stream);
    }
    let begun = Instant::now();
    let mut options = File::options();
    options.append(true).custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY).bits() as i32);
    let no_reader = |e: &io::Error| e.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error());
    let file = loop {
        match options.open(path) {
            Err(e) if no_reader(&e) && begun.elapsed() < PATIENCE => std::thread::sleep(LOOK_EVERY),
            Err(e) if no_reader(&e) => return Err(io::Error::new(ErrorKind::BrokenPipe, "nobody reads it")),
            opened => break opened?,
        }
    };
    fcntl_setfl(&file, fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn scratch() -> (tempfile::TempDir, impl Fn(&str) -> PathBuf) {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().to_owned();
        (scratch, move |name: &str| root.join(name))
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn a_file_that_is_replaced_keeps_its_mode_and_a_new_one_gets_the_one_that_is_wanted() {
        let (scratch, at) = scratch();
        for old in [0o600, 0o640, 0o666] {
            std::fs::write(at("old"), "old").unwrap();
            std::fs::set_permissions(at("old"), std::fs::Permissions::from_mode(old)).unwrap();
            write(&at("old"), b"new", 0o644, &[]).unwrap();
            assert_eq!((std::fs::read(at("old")).unwrap().as_slice(), mode(&at("old"))), (&b"new"[..], old));
        }
        write(&at("private"), b"x", 0o600, &[]).unwrap();
        assert_eq!(mode(&at("private")), 0o600);
        let long = at(&"x".repeat(255));
        write(&long, b"x", 0o600, &[]).unwrap();
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 3, "nothing else is left");
    }

    #[test]
    fn links_are_followed_and_what_is_no_file_is_written_into() {
        let (_scratch, at) = scratch();
        std::fs::write(at("target"), "old").unwrap();
        symlink("target", at("link")).unwrap();
        symlink("made", at("dangling")).unwrap();
        for (link, target) in [("link", "target"), ("dangling", "made")] {
            write(&at(link), b"new", 0o644, &[]).unwrap();
            assert_eq!(
                (std::fs::read_link(at(link)).unwrap(), std::fs::read(at(target)).unwrap()),
                (target.into(), b"new".into())
            );
        }
        let fifo = at("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let reader = std::thread::spawn({
            let fifo = fifo.clone();
            move || std::fs::read(fifo).unwrap()
        });
        write(&fifo, &[7; 200_000], 0o644, &[]).unwrap();
        assert_eq!(reader.join().unwrap(), [7; 200_000]);
        write(Path::new("/dev/null"), b"x", 0o644, &[Path::new("/dev/null")]).unwrap();
        for name in ["fifo", "/dev/null"] {
            assert!(!std::fs::symlink_metadata(at(name)).unwrap().is_file(), "{name}");
        }
    }

    #[test]
    fn a_file_that_is_open_in_this_process_is_written_into() {
        use std::os::fd::AsRawFd;
        let (_scratch, at) = scratch();
        let open = File::create(at("open")).unwrap();
        let inode = open.metadata().unwrap().ino();
        (&open).write_all(b"before ").unwrap();
        write(&PathBuf::from(format!("/dev/fd/{}", open.as_raw_fd())), b"after", 0o644, &[]).unwrap();
        assert_eq!(std::fs::read(at("open")).unwrap(), b"before after");
        assert_eq!(std::fs::metadata(at("open")).unwrap().ino(), inode);
    }

    #[test]
    fn what_is_needed_is_refused_by_whatever_name_it_is_given() {
        let (_scratch, at) = scratch();
        std::fs::write(at("source"), "precious").unwrap();
        symlink("source", at("link")).unwrap();
        std::fs::hard_link(at("source"), at("hard")).unwrap();
        symlink("log", at("link-to-log")).unwrap();
        std::fs::create_dir(at("d")).unwrap();
        let (source, log) = (at("source"), at("log"));
        let kept = [&*source, &*log];
        for name in ["source", "link", "hard", "d/../source", "log", "link-to-log", "d/../log"] {
            let error = write(&at(name), b"new", 0o644, &kept).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name}: {error}");
            assert!(check(&at(name), &kept).is_err());
        }
        assert_eq!(std::fs::read(at("source")).unwrap(), b"precious");
        assert!(!at("log").exists());
        check(&at("free"), &kept).unwrap();
    }

    #[test]
    fn a_place_that_cannot_be_written_is_refused_before() {
        let (scratch, at) = scratch();
        let refused = |path: &Path| check(path, &[]).unwrap_err().kind();
        assert_eq!(refused(scratch.path()), ErrorKind::IsADirectory);
        assert_eq!(refused(&at("missing/file")), ErrorKind::NotFound);
        std::fs::write(at("plain"), "").unwrap();
        assert_eq!(refused(&at("plain/file")), ErrorKind::NotADirectory);
        assert_eq!(refused(&at(&"x".repeat(256))), ErrorKind::InvalidFilename);
    }
}
