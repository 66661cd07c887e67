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

#[test]
fn files_of_others_beside_the_source_stay_as_they_are() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    let (file, content) = random_file(scratch.path(), (100 << 10) * 3, 5);
    let one_put: &[&str] = &["--part-size", "1MiB"];
    let suffixes = [".cp", ".cp.lock", ".cp.new", ".cp.bad"];
    for suffix in suffixes {
        for options in [one_put, &OPTIONS] {
            let theirs = PathBuf::from(format!("{}{suffix}", file.display()));
            std::fs::write(&theirs, "mine\n").unwrap();
            let output = put(&file, &store.endpoint, options).output().unwrap();
            let said = text(&output.stdout) + &text(&output.stderr);
            let refused = options == OPTIONS && [".cp", ".cp.lock"].contains(&suffix);
            assert_eq!(exit_code(&output), if refused { 8 } else { 0 }, "{suffix}: {said}");
            let advice = ["--checkpoint PATH", "--checkpoint-dir DIR", &theirs.display().to_string()];
            assert!(!refused || advice.iter().all(|part| said.contains(part)), "{said}");
            let names =
                |path: PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("file-5").then_some(path);
            let beside = std::fs::read_dir(scratch.path()).unwrap().filter_map(|entry| names(entry.unwrap().path()));
            let beside: Vec<_> = beside.filter(|path| *path != file).collect();
            assert_eq!(beside, std::slice::from_ref(&theirs), "{suffix}");
            assert_eq!(std::fs::read_to_string(&theirs).unwrap(), "mine\n", "{suffix}");
            std::fs::remove_file(theirs).unwrap();
        }
    }
    assert!(store.holds(&content));
    assert_eq!(store.open_uploads().len(), 0);
}

#[test]
fn a_file_of_any_name_has_a_checkpoint_beside_it_and_in_a_directory() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    let checkpoints = scratch.path().join("checkpoints");
    std::fs::create_dir(&checkpoints).unwrap();
    for name in ["x".repeat(235), "x".repeat(247), "x".repeat(252), "x".repeat(255), "語".repeat(85)] {
        let (made, content) = random_file(scratch.path(), (100 << 10) * 3, name.len() as u64);
        let file = scratch.path().join(name);
        std::fs::rename(made, &file).unwrap();
        let in_directory = [&OPTIONS[..], &["--checkpoint-dir", checkpoints.to_str().unwrap()]].concat();
        for options in [&OPTIONS[..], &in_directory] {
            put_well(&file, &store.endpoint, options);
            assert!(store.holds(&content));
        }
        std::fs::remove_file(file).unwrap();
    }
    assert_eq!(std::fs::read_dir(&checkpoints).unwrap().count(), 0);
}
