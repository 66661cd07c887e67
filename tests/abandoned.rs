//! Uploads that are not gone on with: aborted, if need be a second time, or named with the command that aborts them. And
//! checkpoints that know no upload.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::*;
use haul::checkpoint::{Binding, Journal};
use haul::model::object::{Bucket, Fingerprint, Key};

const KIB: usize = 1 << 10;
const BROKEN_OFF: &str = "UploadPart:#3:error,code=AccessDenied";

/// A store with faults, and a file whose upload broke off behind its second part.
fn broken_off(scratch: &Path, abort_fault: &str) -> (Served, PathBuf, Vec<u8>) {
    let store = Served::start_with(scratch, &["--fault", BROKEN_OFF, "--fault", abort_fault]);
    let (file, content) = random_file(scratch, 350 * KIB, 1);
    let output = put(&file, &store.endpoint, &["--part-size", "100KiB", "--parallel", "1"]).output().unwrap();
    assert_eq!(exit_code(&output), 4, "{}", text(&output.stderr));
    assert_eq!(store.open_uploads().len(), 1);
    (store, file, content)
}

/// Another part size: the upload is not gone on with.
const ANEW: [&str; 4] = ["--part-size", "200KiB", "--attempts", "2"];

#[test]
fn an_upload_that_could_not_be_aborted_at_first_is_aborted_when_the_new_one_is_done() {
    let scratch = tempfile::tempdir().unwrap();
    let (store, file, content) = broken_off(scratch.path(), "AbortMultipartUpload:#1-2:error,code=InternalError");
    let events = put_well(&file, &store.endpoint, &ANEW);
    assert_eq!(named(&events, "started_over").len(), 1);
    assert_eq!((named(&events, "left_open").len(), &events.last().unwrap()["warnings"]), (0, &0.into()));
    assert!(store.holds(&content));
    assert_eq!(store.open_uploads().len(), 0);
    assert!(!file.with_added_extension("cp").exists());
}

#[test]
fn an_upload_that_cannot_be_aborted_is_told_with_the_command_that_does_it() {
    let scratch = tempfile::tempdir().unwrap();
    let (store, file, content) = broken_off(scratch.path(), "AbortMultipartUpload:#1-4:error,code=InternalError");
    let mut as_text = haul();
    as_text.arg("put").arg(&file).args(["oss://demo/object", "--endpoint", &store.endpoint, "--region", "cn-hangzhou"]);
    let output = as_text.args(ANEW).output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(exit_code(&output), 0, "{said}");
    assert!(store.holds(&content) && !file.with_added_extension("cp").exists());
    assert!(said.contains("stays open in the store") && said.contains("InternalError"), "{said}");
    assert_eq!(store.open_uploads().len(), 1);

    let command = said.lines().find_map(|line| line.trim().strip_prefix("haul ")).expect("a command to paste");
    let paste = format!("{} {command}", env!("CARGO_BIN_EXE_haul"));
    let keys = [("OSS_ACCESS_KEY_ID", ID), ("OSS_ACCESS_KEY_SECRET", SECRET)];
    let pasted = Command::new("sh").args(["-c", &paste]).envs(keys).output().unwrap();
    assert!(pasted.status.success(), "{paste}: {}", text(&pasted.stderr));
    assert_eq!(store.open_uploads().len(), 0);
}

#[test]
fn what_a_program_is_told_names_the_upload_and_counts_as_a_warning() {
    let scratch = tempfile::tempdir().unwrap();
    let (store, file, _) = broken_off(scratch.path(), "AbortMultipartUpload:always:error,code=InternalError");
    let open = store.open_uploads();
    let events = put_well(&file, &store.endpoint, &ANEW);
    let told = named(&events, "left_open")[0];
    assert_eq!(
        (&told["bucket"], &told["key"], &told["upload_id"]),
        (&"demo".into(), &"object".into(), &open[0]["upload_id"])
    );
    assert_eq!(events.last().unwrap()["warnings"], 1);
}

#[test]
fn a_run_that_was_refused_before_it_had_an_upload_leaves_no_checkpoint() {
    let scratch = tempfile::tempdir().unwrap();
    let store =
        Served::start_with(scratch.path(), &["--fault", "InitiateMultipartUpload:always:error,code=AccessDenied"]);
    let (file, _) = random_file(scratch.path(), 350 * KIB, 1);
    let output = put(&file, &store.endpoint, &["--part-size", "100KiB"]).output().unwrap();
    assert_eq!(exit_code(&output), 4, "{}", text(&output.stderr));
    let names = std::fs::read_dir(scratch.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let beside: Vec<_> = names.filter(|name| name.to_str().is_some_and(|name| name.starts_with("file-1."))).collect();
    assert!(beside.is_empty(), "{beside:?}");
}

/// A run that was killed before it had an upload does leave one.
#[test]
fn a_checkpoint_that_knows_no_upload_is_replaced_without_a_word() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    let (file, content) = random_file(scratch.path(), 350 * KIB, 1);
    let checkpoint = file.with_added_extension("cp");
    let source = Fingerprint { device: 1, inode: 2, bytes: 3, mtime_ns: 4, ctime_ns: 5 };
    let (bucket, key) = (Bucket::new("demo").unwrap(), Key::new("another").unwrap());
    let binding =
        Binding { source, endpoint: store.endpoint.clone(), bucket, key, part_bytes: 6, description: Some([].into()) };
    drop(Journal::open(&checkpoint, binding).unwrap());
    assert!(checkpoint.exists());
    let events = put_well(&file, &store.endpoint, &["--part-size", "100KiB"]);
    assert_eq!(named(&events, "started_over").len(), 0, "{events:?}");
    assert!(store.holds(&content) && !checkpoint.exists());
}
