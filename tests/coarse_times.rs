//! A filesystem whose times are coarse: it keeps every second second, by a clock that may be wrong. A change within the
//! same two seconds leaves all attributes of the file as they are, and must be seen nevertheless.
//!
//! It is one of this process (FUSE). Needs `/dev/fuse` and the right to mount; where either is missing the tests say so
//! and prove nothing.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::common::meddler::{Fate, meddle};
use crate::common::*;
use fuser::{
    BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, Generation, INodeNo, LockOwner, OpenFlags,
    ReplyAttr, ReplyData, ReplyEntry, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

const KIB: usize = 1 << 10;
const HOUR: i64 = 3600;
const FILE: INodeNo = INodeNo(2);
const OPTIONS: [&str; 4] = ["--part-size", "100KiB", "--parallel", "2"];

/// One file, `f`.
struct Disk {
    state: Mutex<State>,
    /// By how much its clock is ahead of ours, in seconds.
    ahead: i64,
}

struct State {
    content: Vec<u8>,
    written: SystemTime,
}

impl Disk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn now(&self) -> SystemTime {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        UNIX_EPOCH + Duration::from_secs(now.checked_add_signed(self.ahead).unwrap() / 2 * 2)
    }

    fn attributes(&self, ino: INodeNo) -> FileAttr {
        let State { content, written } = &*self.state();
        let is_file = ino == FILE;
        FileAttr {
            ino,
            size: if is_file { content.len() as u64 } else { 0 },
            blocks: 0,
            atime: *written,
            mtime: *written,
            ctime: *written,
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
            true => reply.entry(&Duration::ZERO, &self.attributes(FILE), Generation(0)),
            false => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&Duration::ZERO, &self.attributes(ino));
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        reply.attr(&Duration::ZERO, &self.attributes(ino));
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
        let content = &self.state().content;
        let start = (offset as usize).min(content.len());
        reply.data(&content[start..(start + size as usize).min(content.len())]);
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut state = self.state();
        state.content[offset as usize..offset as usize + data.len()].copy_from_slice(data);
        state.written = self.now();
        reply.written(data.len() as u32);
    }
}

/// The mounted file, written just now; unmounted when the session is dropped. `None` where nothing can be mounted.
fn mounted(directory: &Path, content: &[u8], ahead: i64) -> Option<(fuser::BackgroundSession, PathBuf)> {
    let disk = Disk { state: Mutex::new(State { content: content.to_vec(), written: UNIX_EPOCH }), ahead };
    let written = disk.now();
    disk.state().written = written;
    std::fs::create_dir_all(directory).unwrap();
    match fuser::spawn_mount(disk, directory, &Config::default()) {
        Ok(session) => Some((session, directory.join("f"))),
        Err(cause) => {
            eprintln!("NOT TESTED: no filesystem can be mounted here: {cause}");
            None
        }
    }
}

/// Writes to the first part and to the last.
fn change(file: &Path, bytes: usize) {
    let open = File::options().write(true).open(file).unwrap();
    open.write_all_at(&[1; KIB], 0).unwrap();
    open.write_all_at(&[1; KIB], (bytes - KIB) as u64).unwrap();
}

#[test]
fn a_change_within_the_granule_of_the_times_is_seen_with_every_reader_whatever_the_clock_says() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    let (_, content) = random_file(scratch.path(), 1000 * KIB, 1);
    let run = |reader: &str, ahead: i64| {
        let directory = scratch.path().join(reader);
        let Some((_session, file)) = mounted(&directory, &content, ahead) else { return };
        let (victim, bytes) = (file.clone(), content.len());
        let (_runtime, meddler) = meddle(store.address(), move |seen| {
            if seen.is_part_number(3) && seen.before == 0 {
                change(&victim, bytes);
            }
            Fate::Forward
        });
        let options = [&OPTIONS[..], &["--reader", reader, "--no-checkpoint"]].concat();
        let output = put(&file, &meddler.endpoint(), &options).output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(exit_code(&output), 3, "{reader}: {}{said}", text(&output.stdout));
        assert!(said.contains("it was written to"), "{reader}: {said}");
        assert!(!meddler.requests().iter().any(|r| r.starts_with("POST") && r.contains("uploadId")), "{reader}");
    };
    std::thread::scope(|scope| {
        for (reader, ahead) in [("mmap", 0), ("uring", HOUR), ("pread", -HOUR)] {
            scope.spawn(move || run(reader, ahead));
        }
    });
}

#[test]
fn parts_of_before_a_change_within_the_granule_are_not_resumed() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    let (_, content) = random_file(scratch.path(), 1000 * KIB, 1);
    let Some((_session, file)) = mounted(&scratch.path().join("m"), &content, 0) else { return };
    let checkpoint = scratch.path().join("f.cp");
    let options = [&OPTIONS[..], &["--checkpoint", checkpoint.to_str().unwrap()]].concat();
    let (_runtime, meddler) = meddle(store.address(), |seen| match seen.is_part_number(6) {
        true => Fate::Hang,
        false => Fate::Forward,
    });
    let mut child = put(&file, &meddler.endpoint(), &options).stdout(Stdio::null()).spawn().unwrap();
    let recorded = || haul::checkpoint::read(&checkpoint).map_or(0, |found| found.checkpoint.parts.len());
    while recorded() < 4 {
        assert!(child.try_wait().unwrap().is_none(), "it ended before its parts were recorded");
        std::thread::sleep(Duration::from_millis(2));
    }
    change(&file, content.len());
    child.kill().unwrap();
    child.wait().unwrap();
    let changed = std::fs::read(&file).unwrap();
    let events = put_well(&file, &store.endpoint, &options);
    assert!(store.holds(&changed), "{events:?}");
    assert_eq!(named(&events, "started_over").len(), 1, "{events:?}");
}

#[test]
fn a_file_that_was_written_just_now_is_waited_for_which_is_said_and_can_be_cancelled() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    let Some((_session, file)) = mounted(&scratch.path().join("m"), b"content", 0) else { return };
    let mut child = put(&file, &store.endpoint, &["--no-checkpoint"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let first = json_lines(lines.next().unwrap().as_bytes()).remove(0);
    assert_eq!(first["event"], "settling", "{first}");
    assert!((100..=2020).contains(&first["wait_ms"].as_u64().unwrap()), "{first}");
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM).unwrap();
    assert!(!lines.any(|line| line.contains("planned")), "it was not waited for to the end");
    child.wait().unwrap();
    assert!(!store.holds(b"content"));
}
