//! The file underneath: it changes while it is sent, or is none that can be sent.

use std::ffi::OsStr;
use std::fs::{File, FileTimes, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::SystemTime;

use crate::common::meddler::{Fate, Meddler, meddle};
use crate::common::*;
use serde_json::Value;

const KIB: usize = 1 << 10;
const PARTS: [&str; 4] = ["--part-size", "100KiB", "--parallel", "2"];

/// A proxy that does `harm` when part 3 arrives, the first `times` times.
fn harm_at_part_3(
    store: &Served,
    times: u32,
    harm: impl Fn(u32) + Send + Sync + 'static,
) -> (tokio::runtime::Runtime, Meddler) {
    let done = AtomicU32::new(0);
    meddle(store.address(), move |seen| {
        if seen.is_part_number(3) && done.load(SeqCst) < times {
            harm(done.fetch_add(1, SeqCst));
        }
        Fate::Forward
    })
}

#[test]
fn a_file_that_is_replaced_grown_or_deleted_ends_with_3_and_makes_no_object_in_any_reader() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    type Harm = fn(&Path);
    let harms: [(&str, Harm); 3] = [
        ("place", |file| {
            std::fs::write(file.with_extension("other"), vec![1; 2000 * KIB]).unwrap();
            std::fs::rename(file.with_extension("other"), file).unwrap();
        }),
        ("bytes", |file| File::options().append(true).open(file).unwrap().write_all(b"more").unwrap()),
        ("no longer", |file| std::fs::remove_file(file).unwrap()),
    ];
    for reader in ["mmap", "uring", "pread"] {
        for (seed, (expected, harm)) in harms.into_iter().enumerate() {
            let (file, content) = random_file(scratch.path(), 2000 * KIB, seed as u64);
            let victim = file.clone();
            let (_runtime, meddler) = harm_at_part_3(&store, 1, move |_| harm(&victim));
            let output =
                put(&file, &meddler.endpoint(), &[&PARTS[..], &["--reader", reader]].concat()).output().unwrap();
            let said = text(&output.stderr);
            assert_eq!(exit_code(&output), 3, "{reader}: {said}");
            assert!(said.contains("changed while it was read") && said.contains(expected), "{reader}: {said}");
            assert!(!meddler.requests().iter().any(|r| r.starts_with("POST") && r.contains("uploadId")), "{reader}");
            assert!(!store.holds(&content));
        }
    }
}

#[test]
fn a_single_put_whose_file_changes_makes_no_object() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    for reader in ["mmap", "uring", "pread"] {
        // More than sockets hold, so that the client is still sending when the proxy takes the first byte.
        let (file, _) = random_file(scratch.path(), 64 << 20, 1);
        let victim = file.clone();
        let (_runtime, meddler) = meddle(store.address(), move |seen| {
            if seen.method == "PUT" {
                File::options().append(true).open(&victim).unwrap().write_all(b"more").unwrap();
            }
            Fate::Forward
        });
        let options = ["--part-size", "1GiB", "--reader", reader];
        let output = put(&file, &meddler.endpoint(), &options).output().unwrap();
        assert_eq!(exit_code(&output), 3, "{reader}: {}", text(&output.stderr));
        let stat = haul()
            .args(["stat", "oss://demo/object", "--endpoint", &store.endpoint, "--region", "cn-hangzhou"])
            .output()
            .unwrap();
        assert_eq!(exit_code(&stat), 5, "{reader}: there is an object: {}", text(&stat.stdout));
    }
}

type Touch = fn(&Path);

/// What changes the file's metadata and no byte of it.
const TOUCHES: [(&str, Touch); 5] = [
    ("a link", |file| std::fs::hard_link(file, file.with_extension("link")).unwrap()),
    ("rights", |file| std::fs::set_permissions(file, Permissions::from_mode(0o600)).unwrap()),
    ("an owner", |file| std::os::unix::fs::chown(file, None, Some(rustix::process::getgid().as_raw())).unwrap()),
    ("a time of access", |file| {
        File::open(file).unwrap().set_times(FileTimes::new().set_accessed(SystemTime::UNIX_EPOCH)).unwrap();
    }),
    ("a name", |file| std::fs::rename(file, file.with_extension("renamed")).unwrap()),
];

/// Writes to a part that was sent, and puts the time of modification back.
fn change_in_secret(file: &Path) {
    let time = std::fs::metadata(file).unwrap().modified().unwrap();
    let open = File::options().write(true).open(file).unwrap();
    open.write_all_at(b"new", 100).unwrap();
    open.set_modified(time).unwrap();
}

#[test]
fn a_file_that_gets_another_name_rights_owner_or_time_of_access_is_compared_and_goes_on_in_any_reader() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    for reader in ["mmap", "uring", "pread"] {
        for (seed, (what, touch)) in TOUCHES.into_iter().enumerate() {
            let directory = scratch.path().join(format!("{reader}-{seed}"));
            std::fs::create_dir(&directory).unwrap();
            let (file, content) = random_file(&directory, 1000 * KIB, seed as u64);
            let victim = file.clone();
            let (_runtime, meddler) = harm_at_part_3(&store, 1, move |_| touch(&victim));
            let place = if seed % 2 == 0 { &[][..] } else { &["--no-checkpoint"] };
            let options = [&PARTS[..], &["--reader", reader], place].concat();
            let events = put_well(&file, &meddler.endpoint(), &options);
            assert!(store.holds(&content), "{reader}, {what}");
            let compared = named(&events, "comparing");
            assert_eq!(compared.len(), 1, "{reader}, {what}: {events:?}");
            assert_eq!(compared[0]["parts"], 10, "{reader}, {what}");
            assert_eq!(events.last().unwrap()["parts_sent"], 10, "{reader}, {what}");
            assert!(!file.with_added_extension("cp").exists());
        }
    }
}

#[test]
fn a_file_whose_time_is_put_back_after_it_was_written_to_ends_with_3_and_makes_no_object_in_any_reader() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    for (seed, reader) in ["mmap", "uring", "pread"].into_iter().enumerate() {
        let (file, _) = random_file(scratch.path(), 1000 * KIB, seed as u64);
        let victim = file.clone();
        // A link explains another time of status change, and is not all that happened.
        let (_runtime, meddler) = harm_at_part_3(&store, 1, move |_| {
            change_in_secret(&victim);
            TOUCHES[0].1(&victim);
        });
        let options = [&PARTS[..], &["--reader", reader]].concat();
        let output = put(&file, &meddler.endpoint(), &options).output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(exit_code(&output), 3, "{reader}: {}{said}", text(&output.stdout));
        assert!(said.contains("its time of modification set back"), "{reader}: {said}");
        assert!(!meddler.requests().iter().any(|r| r.starts_with("POST") && r.contains("uploadId")), "{reader}");
        let changed = std::fs::read(&file).unwrap();
        let events = put_well(&file, &store.endpoint, &options);
        assert!(store.holds(&changed), "{reader}: {events:?}");
    }
}

#[test]
fn a_single_put_of_a_file_that_is_touched_begins_again_and_is_one_state() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    for (seed, reader) in ["mmap", "uring", "pread"].into_iter().enumerate() {
        for harm in [change_in_secret, TOUCHES[4].1] {
            // More than sockets hold, so that the client is still sending when the proxy takes the first byte.
            let (file, _) = random_file(scratch.path(), 32 << 20, seed as u64);
            let kept = scratch.path().join("kept");
            std::fs::hard_link(&file, &kept).unwrap();
            let victim = file.clone();
            let (_runtime, meddler) = meddle(store.address(), move |seen| {
                if seen.method == "PUT" && seen.before == 0 {
                    harm(&victim);
                }
                Fate::Forward
            });
            let options = ["--part-size", "1GiB", "--reader", reader, "--no-checkpoint"];
            let events = put_well(&file, &meddler.endpoint(), &options);
            assert!(store.holds(&std::fs::read(&kept).unwrap()), "{reader}");
            assert_eq!(named(&events, "started_over").len(), 1, "{reader}: {events:?}");
            std::fs::remove_file(kept).unwrap();
        }
    }
}

#[test]
fn restart_sends_the_new_state_leaves_nothing_behind_and_says_so() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    for (seed, place) in [&[][..], &["--no-checkpoint"]].into_iter().enumerate() {
        let (file, _) = random_file(scratch.path(), 1000 * KIB, seed as u64);
        let (_, new) = random_file(scratch.path(), 1200 * KIB, 7 + seed as u64);
        let (victim, content) = (file.clone(), new.clone());
        let (_runtime, meddler) = harm_at_part_3(&store, 1, move |_| std::fs::write(&victim, &content).unwrap());
        let options = [&PARTS[..], &["--if-changed", "restart"], place].concat();
        let events = put_well(&file, &meddler.endpoint(), &options);
        assert!(store.holds(&new));
        let reason = named(&events, "started_over")[0]["reason"].as_str().unwrap();
        assert!(reason.contains("changed while it was read"), "{reason}");
        assert_eq!(named(&events, "planned").last().unwrap()["bytes"], new.len());
        assert_eq!(events.last().unwrap()["parts_sent"], 12, "those of the old state do not count");
        assert_eq!(store.open_uploads().len(), 0);
        assert!(!file.with_added_extension("cp").exists());
    }
}

#[test]
fn a_file_that_is_always_written_to_ends_the_restarts() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    let (file, _) = random_file(scratch.path(), 1000 * KIB, 1);
    let victim = file.clone();
    let harms = Arc::new(AtomicU32::new(0));
    let count = harms.clone();
    let (_runtime, meddler) = harm_at_part_3(&store, u32::MAX, move |i| {
        count.fetch_add(1, SeqCst);
        std::fs::write(&victim, vec![i as u8; 1000 * KIB + i as usize + 1]).unwrap();
    });
    let options = [&PARTS[..], &["--if-changed", "restart", "--no-checkpoint"]].concat();
    let output = put(&file, &meddler.endpoint(), &options).output().unwrap();
    assert_eq!(exit_code(&output), 3, "{}", text(&output.stderr));
    assert_eq!(named(&json_lines(&output.stdout), "started_over").len(), 5);
    assert!(harms.load(SeqCst) >= 6);
    assert_eq!(store.open_uploads().len(), 0);
}

#[test]
fn what_cannot_be_uploaded_is_named_and_ends_with_3() {
    let scratch = tempfile::tempdir().unwrap();
    let place = |name: &str| scratch.path().join(name);
    rustix::fs::mknodat(rustix::fs::CWD, place("fifo"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let _listener = UnixListener::bind(place("socket")).unwrap();
    std::os::unix::fs::symlink(place("loop"), place("loop")).unwrap();
    let cases = [
        (scratch.path().to_owned(), "a directory"),
        (place("fifo"), "a FIFO"),
        (place("socket"), "a socket"),
        ("/dev/zero".into(), "a device"),
        (place("missing"), "No such file"),
        (place("fifo/below"), "Not a directory"),
        (place("loop"), "symbolic link"),
    ];
    for (path, expected) in cases {
        let output = put(&path, "http://127.0.0.1:9", &[]).output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(exit_code(&output), 3, "{path:?}: {said}");
        assert!(said.contains(expected), "{path:?}: {said}");
    }
}

/// Root may read everything, so it becomes somebody else, with a copy of the binary that he can reach.
#[test]
fn a_file_that_may_not_be_read_ends_with_3() {
    let scratch = tempfile::tempdir().unwrap();
    std::fs::set_permissions(scratch.path(), Permissions::from_mode(0o755)).unwrap();
    let (file, _) = random_file(scratch.path(), 10, 1);
    std::fs::set_permissions(&file, Permissions::from_mode(0o000)).unwrap();
    let binary = scratch.path().join("haul");
    std::fs::copy(env!("CARGO_BIN_EXE_haul"), &binary).unwrap();
    let mut command = Command::new(binary);
    command.args([OsStr::new("put"), file.as_os_str()]);
    command.args(["oss://demo/object", "--endpoint", "http://127.0.0.1:9", "--region", "cn-hangzhou"]);
    command.env("OSS_ACCESS_KEY_ID", ID).env("OSS_ACCESS_KEY_SECRET", SECRET).env("HOME", "/").current_dir("/");
    if rustix::process::geteuid().is_root() {
        command.uid(65534);
    }
    let output = command.output().unwrap();
    assert_eq!(exit_code(&output), 3, "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("Permission denied"), "{}", text(&output.stderr));
}

#[test]
fn a_name_that_is_not_utf_8_is_uploaded_under_a_whole_key() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    let (file, content) = random_file(scratch.path(), 300 * KIB, 1);
    let odd = scratch.path().join(OsStr::from_bytes(b"f\xff"));
    std::fs::rename(file, &odd).unwrap();
    put_well(&odd, &store.endpoint, &PARTS);
    assert!(store.holds(&content));
    let mut prefix = haul();
    prefix.arg("put").arg(&odd).args(["oss://demo/", "--endpoint", &store.endpoint, "--region", "cn-hangzhou"]);
    let output = prefix.output().unwrap();
    assert_eq!(exit_code(&output), 2);
    assert!(text(&output.stderr).contains("write the key out"), "{}", text(&output.stderr));
}

fn sparse(directory: &Path, bytes: u64) -> std::path::PathBuf {
    let path = directory.join("sparse");
    File::create(&path).unwrap().set_len(bytes).unwrap();
    path
}

fn planned(file: &Path, part_size: &str) -> Value {
    let output = put(file, "http://127.0.0.1:9", &["--dry-run", "--part-size", part_size]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    json_lines(&output.stdout).remove(0)
}

/// Runs until `count` events of that name were seen, then kills; gives all events seen.
fn run_until(file: &Path, endpoint: &str, options: &[&str], name: &str, count: usize) -> Vec<Value> {
    let mut child = put(file, endpoint, options).stdout(Stdio::piped()).spawn().unwrap();
    let mut events = Vec::<Value>::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
        events.push(serde_json::from_str(&line).unwrap());
        if named(&events, name).len() == count {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    events
}

#[test]
fn a_sparse_file_of_1_tib_is_planned_and_resumed() {
    let scratch = tempfile::tempdir().unwrap();
    let file = sparse(scratch.path(), 1 << 40);
    let plan = planned(&file, "100MiB");
    assert_eq!((plan["part_bytes"].as_u64(), plan["parts"].as_u64()), (Some(105 << 20), Some(9987)), "{plan}");
    assert_eq!(plan["part_bytes_wanted"], 100 << 20);
    assert!(planned(&file, "auto")["parts"].as_u64().unwrap() <= 10_000);

    let store = Served::start_null();
    let options = ["--part-size", "105MiB", "--parallel", "2"];
    let first = run_until(&file, &store.endpoint, &options, "part_done", 3);
    assert_eq!(parts_sent(&first).len(), 3, "{first:?}");
    let second = run_until(&file, &store.endpoint, &options, "resumed", 1);
    let resumed = named(&second, "resumed")[0];
    assert!(resumed["parts"].as_u64().unwrap() >= 2, "{resumed}");
    assert_eq!(resumed["bytes"].as_u64().unwrap(), resumed["parts"].as_u64().unwrap() * (105 << 20));
}

#[test]
fn exactly_10_000_parts_are_sent_and_one_byte_more_makes_larger_parts() {
    let scratch = tempfile::tempdir().unwrap();
    let most = 10_000 * 100 * KIB as u64;
    let store = Served::start_null();
    let done = put_well(&sparse(scratch.path(), most), &store.endpoint, &["--part-size", "100KiB"]);
    let done = done.last().unwrap();
    assert_eq!((done["parts_sent"].as_u64(), done["verified"].as_bool()), (Some(10_000), Some(true)), "{done}");
    let plan = planned(&sparse(scratch.path(), most + 1), "100KiB");
    assert_eq!((plan["part_bytes"].as_u64(), plan["parts"].as_u64()), (Some(1 << 20), Some(977)), "{plan}");
    assert_eq!(plan["part_bytes_wanted"], 100 * KIB);
}
