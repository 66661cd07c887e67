//! A checkpoint that cannot be written, and one that is in use: the upload stops with exit code 8 and says what is
//! known to be in the store. `strace` has the system calls fail that a full, broken or read-only disk fails.

use std::path::{Path, PathBuf};

use crate::common::traced::{may_trace, traced};
use crate::common::*;
use haul::checkpoint::{Binding, Journal};
use haul::model::object::{Bucket, Fingerprint, Key};

const OPTIONS: [&str; 4] = ["--part-size", "100KiB", "--parallel", "1"];

/// Runs a put whose `call`s on the file's `suffix` fail with `error` from the `nth` on; gives what it says.
fn refused(file: &Path, endpoint: &str, suffix: &str, call: &str, error: &str, nth: u32) -> String {
    let on = PathBuf::from(format!("{}{suffix}", file.display()));
    let inject = format!("error={error}:when={nth}+");
    let output = traced(&put(file, endpoint, &OPTIONS), call, &inject, Some(&on));
    let said = text(&output.stdout) + &text(&output.stderr);
    assert_eq!(exit_code(&output), 8, "{call} {error}: {said}");
    said
}

#[test]
fn a_disk_that_fails_stops_the_upload_which_says_what_is_in_the_store_and_goes_on_later() {
    if !may_trace() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    for (seed, call, error) in [(1, "write", "ENOSPC"), (2, "fdatasync", "EIO")] {
        let (file, content) = random_file(scratch.path(), (100 << 10) * 6 - 777, seed);
        let said = refused(&file, &store.endpoint, ".cp", call, error, 2);
        assert!(said.contains(" of 6 parts are known to be in the store"), "{said}");
        put_well(&file, &store.endpoint, &OPTIONS);
        assert!(store.holds(&content));
        assert_eq!(store.open_uploads().len(), 0);
    }
}

#[test]
fn a_place_that_is_read_only_is_refused_before_anything_is_sent() {
    if !may_trace() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    let (file, _) = random_file(scratch.path(), (100 << 10) * 6 - 777, 3);
    let said = refused(&file, &store.endpoint, ".cp.lock", "openat", "EROFS", 1);
    assert!(said.contains("Read-only file system") && said.contains("another place"), "{said}");
    assert_eq!(store.open_uploads().len(), 0);
}

#[test]
fn a_second_upload_from_the_same_checkpoint_is_told_who_holds_it() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    let (file, _) = random_file(scratch.path(), (100 << 10) * 6 - 777, 4);
    let source = Fingerprint { device: 1, inode: 2, bytes: 3, mtime_ns: 4, ctime_ns: 5 };
    let (bucket, key) = (Bucket::new("demo").unwrap(), Key::new("object").unwrap());
    let binding = Binding { source, endpoint: "e".into(), bucket, key, part_bytes: 6, description: Some([].into()) };
    let _held = Journal::open(&file.with_added_extension("cp"), binding).unwrap();
    let output = put(&file, &store.endpoint, &OPTIONS).output().unwrap();
    let said = text(&output.stdout) + &text(&output.stderr);
    assert_eq!(exit_code(&output), 8, "{said}");
    assert!(said.contains(&format!("in use by process {}", std::process::id())), "{said}");
    assert_eq!(store.open_uploads().len(), 0);
}
