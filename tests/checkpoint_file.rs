//! The checkpoint on a real directory: mode, lock, litter, foreign files, places that cannot be written.

use std::fs;
use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use haul::checkpoint::{self, Binding, CheckpointError, Found, Journal, Record, StoredPart};
use haul::model::object::{Bucket, ETag, Fingerprint, Key, UploadId};
use haul::model::part::PartNumber;

fn binding(file_bytes: u64) -> Binding {
    let source = Fingerprint { device: 1, inode: 2, bytes: file_bytes, mtime_ns: 3, ctime_ns: 4 };
    let (bucket, key) = (Bucket::new("demo").unwrap(), Key::new("key").unwrap());
    Binding { source, endpoint: "https://e".into(), bucket, key, part_bytes: 4, description: Some([].into()) }
}

fn stored(n: u32) -> Record {
    let part = StoredPart { bytes: 4, etag: ETag::new(&format!("{n:032X}")), crc64: u64::from(n) };
    Record::PartStored(PartNumber::new(n).unwrap(), part)
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file.cp");
    (dir, path)
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_transfer_goes_on_where_it_stopped_and_leaves_no_litter() {
    let (dir, path) = place();
    let (journal, _, found) = Journal::open(&path, binding(10)).unwrap();
    assert_eq!(found, Found::Nothing);
    wait(journal.record_durably(Record::Initiated(UploadId("id".into())))).unwrap();
    journal.record(stored(2)).unwrap();
    drop(journal);
    assert_eq!(names(dir.path()), ["file.cp"]);

    let (journal, checkpoint, found) = Journal::open(&path, binding(10)).unwrap();
    assert_eq!(found, Found::Resumed);
    assert_eq!((checkpoint.upload_id, checkpoint.parts.len()), (Some(UploadId("id".into())), 1));
    wait(journal.remove()).unwrap();
    assert_eq!(names(dir.path()), [""; 0]);
}

#[test]
fn only_its_owner_may_read_it() {
    let (dir, path) = place();
    let (journal, ..) = Journal::open(&path, binding(10)).unwrap();
    wait(journal.record_durably(stored(1))).unwrap();
    for name in names(dir.path()) {
        let mode = fs::metadata(dir.path().join(&name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn a_second_opener_is_refused_and_told_by_whom() {
    let (_dir, path) = place();
    let first = Journal::open(&path, binding(10)).unwrap();
    match Journal::open(&path, binding(10)).map(drop) {
        Err(CheckpointError::Busy { pid, .. }) => assert_eq!(pid, Some(std::process::id())),
        other => panic!("{other:?}"),
    }
    drop(first);
    Journal::open(&path, binding(10)).map(drop).unwrap();
}

/// As a process does that was killed and whose last sync takes its time.
#[test]
fn a_lock_that_is_let_go_of_within_a_moment_is_waited_for() {
    let (_dir, path) = place();
    let lock = path.with_file_name(format!("{}.lock", path.file_name().unwrap().to_str().unwrap()));
    let handles = || {
        let all = fs::read_dir("/proc/self/fd").unwrap().filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
        all.filter(|open| *open == lock).count()
    };
    let first = Journal::open(&path, binding(10)).unwrap();
    let second = std::thread::spawn({
        let path = path.clone();
        move || Journal::open(&path, binding(10)).map(drop)
    });
    while handles() < 2 {
        assert!(!second.is_finished(), "it was refused at once");
        std::thread::yield_now();
    }
    drop(first);
    second.join().unwrap().unwrap();
}

#[test]
fn openers_that_race_never_both_succeed() {
    let (_dir, path) = place();
    let inside = std::sync::atomic::AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let Ok((journal, ..)) = Journal::open(&path, binding(10)) else { continue };
                    assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                    inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                    drop(journal);
                }
            });
        }
    });
}

#[test]
fn the_lock_file_of_a_killed_process_is_taken_over() {
    let (dir, path) = place();
    let half_a_snapshot = b"\x99\x00\x00\x00\x01\x02\x03\x04haul-cp\n\x01";
    for (lock, new) in [("12345\n", &half_a_snapshot[..]), ("", b"")] {
        fs::write(dir.path().join("file.cp.lock"), lock).unwrap();
        fs::write(dir.path().join("file.cp.new"), new).unwrap();
        Journal::open(&path, binding(10)).map(drop).unwrap();
        assert_eq!(names(dir.path()), ["file.cp"]);
    }
}

#[test]
fn a_file_that_is_not_ours_is_refused_and_left_as_it_is() {
    let (dir, path) = place();
    for content in ["a precious text", "short", "{\"format\":1}"] {
        fs::write(&path, content).unwrap();
        let refused = Journal::open(&path, binding(10)).map(drop).unwrap_err();
        assert!(matches!(refused, CheckpointError::NotOurs { .. }), "{refused}");
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), names(dir.path())), (content, vec!["file.cp".into()]));
    }
}

#[test]
fn a_lock_file_that_is_not_ours_is_refused_and_left_as_it_is() {
    let (dir, path) = place();
    let lock = dir.path().join("file.cp.lock");
    let refused = || match Journal::open(&path, binding(10)).map(drop).unwrap_err() {
        CheckpointError::NotOurs { path, .. } => assert_eq!(path, lock),
        other => panic!("{other}"),
    };
    for content in ["mine", "12345\nand more", " 7\n", "12345\n\n", "99999999999999999999\n"] {
        fs::write(&lock, content).unwrap();
        refused();
        assert_eq!(fs::read_to_string(&lock).unwrap(), content);
    }
    fs::remove_file(&lock).unwrap();
    for target in ["precious", "nothing"] {
        fs::write(dir.path().join("precious"), "12345\n").unwrap();
        std::os::unix::fs::symlink(target, &lock).unwrap();
        refused();
        assert_eq!(fs::read_link(&lock).unwrap(), Path::new(target));
        fs::remove_file(&lock).unwrap();
    }
    rustix::fs::mknodat(rustix::fs::CWD, &lock, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    refused();
    fs::remove_file(&lock).unwrap();
    fs::create_dir(&lock).unwrap();
    refused();
    assert_eq!(names(dir.path()), ["file.cp.lock", "precious"]);
}

#[test]
fn a_file_of_others_at_the_name_of_a_new_snapshot_stays() {
    let (dir, path) = place();
    fs::write(dir.path().join("file.cp.new"), "mine").unwrap();
    std::os::unix::fs::symlink("file.cp.new", dir.path().join("file.cp.1.new")).unwrap();
    let (journal, ..) = Journal::open(&path, binding(10)).unwrap();
    wait(journal.record_durably(stored(1))).unwrap();
    wait(journal.remove()).unwrap();
    assert_eq!(names(dir.path()), ["file.cp.1.new", "file.cp.new"]);
    assert_eq!(fs::read_to_string(dir.path().join("file.cp.new")).unwrap(), "mine");
}

#[test]
fn a_link_at_its_place_is_followed_and_stays() {
    let (dir, path) = place();
    fs::create_dir(dir.path().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink("elsewhere/log", &path).unwrap();
    let (journal, ..) = Journal::open(&path, binding(10)).unwrap();
    wait(journal.record_durably(stored(1))).unwrap();
    assert_eq!(names(&dir.path().join("elsewhere")), ["log", "log.lock"]);
    drop(journal);
    let (journal, checkpoint, _) = Journal::open(&path, binding(10)).unwrap();
    assert_eq!(checkpoint.parts.len(), 0, "no upload was opened");
    wait(journal.remove()).unwrap();
    assert_eq!(
        (names(dir.path()), names(&dir.path().join("elsewhere"))),
        (vec!["elsewhere".into(), "file.cp".into()], vec![])
    );
}

#[test]
fn a_name_as_long_as_names_may_be_has_its_lock_and_its_snapshots() {
    let dir = tempfile::tempdir().unwrap();
    for bytes in [247, 250, 251, 252, 255] {
        let path = dir.path().join("x".repeat(bytes));
        let (journal, ..) = Journal::open(&path, binding(10)).unwrap();
        wait(journal.record_durably(Record::Initiated(UploadId("id".into())))).unwrap();
        assert!(matches!(Journal::open(&path, binding(10)), Err(CheckpointError::Busy { .. })));
        drop(journal);
        let (journal, _, found) = Journal::open(&path, binding(10)).unwrap();
        assert_eq!(found, Found::Resumed);
        wait(journal.remove()).unwrap();
        assert_eq!(names(dir.path()), [""; 0]);
    }
}

#[test]
fn a_file_of_100_gib_is_not_read_whoever_it_pretends_to_be() {
    let (_dir, path) = place();
    let (journal, ..) = Journal::open(&path, binding(10)).unwrap();
    drop(journal);
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(100 << 30).unwrap();
    for refused in
        [Journal::open(&path, binding(10)).map(drop).unwrap_err(), checkpoint::read(&path).map(drop).unwrap_err()]
    {
        assert!(matches!(refused, CheckpointError::NotOurs { .. }), "{refused}");
    }
    let grown = checkpoint::wal::dir::read(&path).unwrap_err();
    assert_eq!(grown.kind(), std::io::ErrorKind::FileTooLarge, "one that grew since it was looked at");
}

#[test]
fn the_source_itself_is_never_taken_for_a_checkpoint() {
    use std::os::unix::fs::MetadataExt;
    let (dir, path) = place();
    fs::write(&path, "the file to upload").unwrap();
    let meta = fs::metadata(&path).unwrap();
    let mut binding = binding(meta.len());
    (binding.source.device, binding.source.inode) = (meta.dev(), meta.ino());
    let refused = Journal::open(&path, binding).map(drop).unwrap_err();
    assert!(matches!(refused, CheckpointError::NotOurs { .. }), "{refused}");
    assert_eq!(names(dir.path()), ["file.cp"]);
    assert_eq!(fs::read_to_string(&path).unwrap(), "the file to upload");
}

#[test]
fn a_later_format_is_refused_and_kept() {
    let (_dir, path) = place();
    let mut payload = b"haul-cp\n".to_vec();
    payload.extend_from_slice(&7u32.to_le_bytes());
    let mut log = Vec::new();
    checkpoint::wal::frame::push(&mut log, &payload);
    fs::write(&path, &log).unwrap();
    let refused = Journal::open(&path, binding(10)).map(drop).unwrap_err();
    assert!(matches!(refused, CheckpointError::LaterFormat { found: 7, .. }), "{refused}");
    assert_eq!(fs::read(&path).unwrap(), log);
}

#[test]
fn places_that_cannot_be_written_are_named() {
    let (dir, path) = place();
    fs::write(dir.path().join("plain"), "").unwrap();
    fs::create_dir(&path).unwrap();
    let places = [
        dir.path().join("missing/file.cp"),
        dir.path().join("plain/file.cp"),
        path,
        "/proc/haul.cp".into(),
        "/".into(),
    ];
    for place in places {
        let refused = Journal::open(&place, binding(10)).map(drop).unwrap_err();
        assert!(matches!(refused, CheckpointError::Unwritable { .. }), "{refused}");
        assert!(
            refused.to_string().contains(&place.display().to_string()) && refused.to_string().contains("another place")
        );
    }
}

#[test]
fn looking_at_a_checkpoint_changes_nothing() {
    let (dir, path) = place();
    assert!(matches!(checkpoint::read(&path), Err(CheckpointError::Unreadable { .. })));
    let (journal, ..) = Journal::open(&path, binding(10)).unwrap();
    wait(journal.record_durably(stored(1))).unwrap();
    assert_eq!(checkpoint::read(&path).unwrap().checkpoint.parts.len(), 1, "while the transfer runs");
    drop(journal);

    let mut bytes = fs::read(&path).unwrap();
    bytes.extend_from_slice(&[9; 5]);
    fs::write(&path, &bytes).unwrap();
    let seen = checkpoint::read(&path).unwrap();
    assert_eq!((seen.torn_bytes, seen.checkpoint.parts.len()), (5, 1));
    assert_eq!((fs::read(&path).unwrap(), names(dir.path())), (bytes, vec!["file.cp".to_owned()]));
    fs::write(&path, "something else").unwrap();
    assert!(matches!(checkpoint::read(&path), Err(CheckpointError::NotOurs { .. })));
}
