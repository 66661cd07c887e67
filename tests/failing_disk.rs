//! A disk that fails, one that lies, and one that is slow: a file of a filesystem in this process (FUSE), whose reads do what the test says.
//!
//! The kernel takes its errors for those of a disk, so this is what each reader really sees: `EIO` from `pread`, `EIO` in
//! a completion of io_uring, `SIGBUS` or `EFAULT` for mapped pages. Needs `/dev/fuse` and the right to mount; where
//! either is missing the tests say so and prove nothing.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::time::{Duration, UNIX_EPOCH};

use crate::common::*;
use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner, OpenFlags,
    ReplyAttr, ReplyData, ReplyEntry, ReplyOpen, Request,
};

const KIB: usize = 1 << 10;
const FILE: INodeNo = INodeNo(2);
const TTL: Duration = Duration::from_secs(3600);

/// What a read does that touches byte `at`.
#[derive(Clone, Copy)]
enum Harm {
    Eio,
    /// The byte is wrong the first time.
    WrongOnce,
    /// Every read takes its time, whatever it touches.
    Slow(Duration),
    /// So many bytes less than there are, or more, are reported as its length.
    Reports(i64),
    /// The last byte is not reported, and comes to light when more than two bytes were read at a time.
    Hides,
}

impl Harm {
    /// Whether reads are answered without the kernel's having its own idea of the length.
    fn is_direct(self) -> bool {
        matches!(self, Self::Reports(_) | Self::Hides)
    }
}

/// One file, `f`.
struct Disk {
    content: Vec<u8>,
    harm: Harm,
    at: usize,
    reads_of_at: AtomicU32,
    is_read: AtomicBool,
}

impl Disk {
    fn attributes(&self, ino: INodeNo) -> FileAttr {
        let is_file = ino == FILE;
        let bytes = match self.harm {
            Harm::Reports(more) => self.content.len().strict_add_signed(more as isize),
            Harm::Hides => self.content.len() - 1,
            _ => self.content.len(),
        };
        FileAttr {
            ino,
            size: if is_file { bytes as u64 } else { 0 },
            blocks: 0,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: if is_file { FileType::RegularFile } else { FileType::Directory },
            perm: 0o755,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

impl Filesystem for Disk {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match name == "f" {
            true => reply.entry(&TTL, &self.attributes(FILE), Generation(0)),
            false => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&TTL, &self.attributes(ino));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let flags = if self.harm.is_direct() { FopenFlags::FOPEN_DIRECT_IO } else { FopenFlags::empty() };
        reply.opened(FileHandle(0), flags);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let start = (offset as usize).min(self.content.len());
        let range = start..(start + size as usize).min(self.content.len());
        let mut bytes = self.content[range.clone()].to_vec();
        if let Harm::Slow(time) = self.harm {
            std::thread::sleep(time);
        }
        if size > 2 {
            self.is_read.store(true, SeqCst);
        }
        if range.contains(&self.at) {
            match self.harm {
                Harm::Eio => return reply.error(Errno::EIO),
                Harm::WrongOnce if self.reads_of_at.fetch_add(1, SeqCst) == 0 => bytes[self.at - start] ^= 1,
                Harm::Hides if !self.is_read.load(SeqCst) => drop(bytes.pop()),
                _ => {}
            }
        }
        reply.data(&bytes);
    }
}

/// The mounted file; unmounted when the session is dropped. `None` where nothing can be mounted.
fn mounted(directory: &Path, content: &[u8], harm: Harm, at: usize) -> Option<(fuser::BackgroundSession, PathBuf)> {
    let disk =
        Disk { content: content.to_vec(), harm, at, reads_of_at: AtomicU32::new(0), is_read: AtomicBool::new(false) };
    std::fs::create_dir_all(directory).unwrap();
    match fuser::spawn_mount(disk, directory, &Config::default()) {
        Ok(session) => Some((session, directory.join("f"))),
        Err(cause) => {
            eprintln!("NOT TESTED: no filesystem can be mounted here: {cause}");
            None
        }
    }
}

#[test]
fn a_disk_that_returns_eio_ends_with_3_and_no_object_in_every_reader() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    let (_, content) = random_file(scratch.path(), 3000 * KIB, 1);
    for (reader, part_size) in [
        ("mmap", "100KiB"),
        ("uring", "100KiB"),
        ("pread", "100KiB"),
        ("mmap", "8MiB"),
        ("uring", "8MiB"),
        ("pread", "8MiB"),
    ] {
        let directory = scratch.path().join(format!("{reader}-{part_size}"));
        let Some((_session, file)) = mounted(&directory, &content, Harm::Eio, 1500 * KIB) else { return };
        let checkpoint = scratch.path().join("f.cp");
        let options = [
            "--part-size",
            part_size,
            "--reader",
            reader,
            "--checkpoint",
            checkpoint.to_str().unwrap(),
            "--parallel",
            "2",
        ];
        let output = put(&file, &store.endpoint, &options).output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(exit_code(&output), 3, "{reader}: {said}");
        assert!(said.contains("cannot read") && said.contains("Input/output error"), "{reader}: {said}");
        assert!(!said.contains("changed while"), "{reader}: nobody changed the file: {said}");
        assert!(!store.holds(&content));
    }
}

#[test]
fn a_file_that_is_longer_or_shorter_than_reported_ends_with_3_names_the_way_out_and_makes_no_object() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    let (_, content) = random_file(scratch.path(), 350 * KIB, 1);
    let none = -(content.len() as i64);
    let refused = |file: &Path, options: &[&str], what: &str| {
        let options = [&["--no-checkpoint"], options].concat();
        let output = put(file, &store.endpoint, &options).output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(exit_code(&output), 3, "{options:?}: {}{said}", text(&output.stdout));
        assert!(said.contains(what) && said.contains("copy it to a regular file"), "{options:?}: {said}");
    };
    for options in [&[][..], &["--reader", "mmap"], &["--reader", "uring"], &["--reader", "pread"], &["--dry-run"]] {
        refused(Path::new("/proc/version"), options, "reports 0 bytes");
        for reports in [none, -1, -(300 * KIB as i64)] {
            let Some((_session, file)) = mounted(&scratch.path().join("m"), &content, Harm::Reports(reports), 0) else {
                return;
            };
            refused(&file, options, "gives more");
        }
    }
    // Mapping wants a kernel that knows the length.
    for reader in ["uring", "pread"] {
        for (harm, part_size, what) in [
            (Harm::Reports(5), "100KiB", "gives fewer"),
            (Harm::Hides, "100KiB", "gives more"),
            (Harm::Hides, "1MiB", "gives more"),
        ] {
            let last = content.len() - 1;
            let Some((_session, file)) = mounted(&scratch.path().join("m"), &content, harm, last) else { return };
            refused(&file, &["--reader", reader, "--part-size", part_size], what);
        }
    }
    let mut stat = haul();
    stat.args(["stat", "oss://demo/object", "--endpoint", &store.endpoint, "--region", "cn-hangzhou"]);
    assert_eq!(exit_code(&stat.output().unwrap()), 5, "there is an object");
}

#[test]
fn a_disk_that_lies_once_is_caught_by_reading_again_which_names_the_part() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    let (_, content) = random_file(scratch.path(), 350 * KIB, 1);
    for reader in ["mmap", "uring", "pread"] {
        let directory = scratch.path().join(reader);
        let Some((_session, file)) = mounted(&directory, &content, Harm::WrongOnce, 250 * KIB) else { return };
        let options = ["--part-size", "100KiB", "--reader", reader, "--no-checkpoint", "--verify-reread"];
        let output = put(&file, &store.endpoint, &options).output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(exit_code(&output), 6, "{reader}: {}{said}", text(&output.stdout));
        assert!(said.contains("part 3 of the file") && said.contains("suspect the disk"), "{reader}: {said}");
        let right = format!("{:016x}", haul::model::crc64::crc64(&content[200 * KIB..300 * KIB]));
        assert!(said.contains(&format!("it is {right}")), "{reader}: {said}");
        assert!(!store.holds(&content), "{reader}: the first read was wrong");
    }
}

#[test]
fn a_disk_that_is_slow_is_named_as_the_limit_with_every_reader() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start_null();
    let (_, content) = random_file(scratch.path(), 1500 * KIB, 1);
    for reader in ["mmap", "uring", "pread"] {
        let directory = scratch.path().join(reader);
        let slow = Harm::Slow(Duration::from_millis(30));
        let Some((_session, file)) = mounted(&directory, &content, slow, 0) else { return };
        let options = ["--part-size", "100KiB", "--reader", reader, "--no-checkpoint", "--parallel", "2", "--explain"];
        let events = put_well(&file, &store.endpoint, &options);
        let explained = named(&events, "explained")[0];
        assert_eq!(explained["limit"], "disk", "{reader}: {explained}");
        assert!(explained["sentence"].as_str().unwrap().contains("--reader"), "{reader}: {explained}");
    }
}
