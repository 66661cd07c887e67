//! What happens past Complete: a kill, a receipt that cannot be written, a checkpoint that cannot be removed. The object is
//! stored, so nothing is sent again, and the same command does what is left.

use std::path::Path;
use std::process::Command;

use crate::common::traced::{may_trace, traced};
use crate::common::*;
use serde_json::Value;

const KIB: usize = 1 << 10;
const PARTS: [&str; 4] = ["--part-size", "100KiB", "--reader", "pread"];

/// Kills the run when it begins to read the file again: the object is stored by then.
fn killed_while_rereading(plain: &Command) {
    let output = traced(plain, "fadvise64", "signal=KILL:when=1", None);
    assert!(!output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}

/// What the run says that follows such a kill.
fn after_kill(scratch: &Path, first: &[&str], second: &[&str]) -> (Vec<Value>, Served) {
    let store = Served::start(scratch);
    let (file, content) = random_file(scratch, 350 * KIB, 1);
    let options = |more: &[&'static str]| [&PARTS[..], &["--verify-reread"], more].concat();
    let leak = |more: &[&str]| more.iter().map(|o| &*o.to_string().leak()).collect::<Vec<&'static str>>();
    killed_while_rereading(&put(&file, &store.endpoint, &options(&leak(first))));
    assert!(store.holds(&content) && file.with_added_extension("cp").exists());
    let events = put_well(&file, &store.endpoint, &options(&leak(second)));
    assert!(store.holds(&content) && !file.with_added_extension("cp").exists());
    (events, store)
}

#[test]
fn a_kill_while_the_file_is_read_again_costs_no_part_and_reading_is_repeated() {
    if !may_trace() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let (events, _store) = after_kill(scratch.path(), &[], &[]);
    assert_eq!((parts_sent(&events).len(), named(&events, "initiated").len()), (0, 0), "{events:?}");
    assert_eq!(named(&events, "rereading").len(), 1);
    let done = events.last().unwrap();
    assert_eq!((&done["event"], &done["parts_resumed"]), (&"done".into(), &4.into()));
}

#[test]
fn an_object_that_may_not_be_replaced_is_known_as_our_own_after_a_kill() {
    if !may_trace() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let receipt = scratch.path().join("receipt.json");
    let options = ["--forbid-overwrite", "--receipt", receipt.to_str().unwrap()];
    let (events, _store) = after_kill(scratch.path(), &options, &options);
    assert_eq!(parts_sent(&events).len(), 0);
    let json: Value = serde_json::from_slice(&std::fs::read(receipt).unwrap()).unwrap();
    assert_eq!(json["parts"].as_array().map(Vec::len), Some(4));
}

#[test]
fn what_complete_says_of_the_object_is_what_was_typed_last() {
    if !may_trace() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let (events, _store) = after_kill(scratch.path(), &["--acl", "private"], &["--acl", "public-read"]);
    let reason = named(&events, "started_over")[0]["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("x-oss-object-acl"), "{reason}");
    assert_eq!(parts_sent(&events).len(), 4);
}

#[test]
fn an_object_that_is_there_no_longer_is_sent_again() {
    if !may_trace() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    let (file, content) = random_file(scratch.path(), 350 * KIB, 1);
    let (other, _) = random_file(scratch.path(), 350 * KIB, 2);
    let options = [&PARTS[..], &["--verify-reread"]].concat();
    killed_while_rereading(&put(&file, &store.endpoint, &options));
    put_well(&other, &store.endpoint, &PARTS);
    let events = put_well(&file, &store.endpoint, &options);
    assert_eq!(parts_sent(&events).len(), 4);
    assert!(named(&events, "started_over")[0]["reason"].as_str().unwrap().contains("there no longer"));
    assert!(store.holds(&content));
}

#[test]
fn a_receipt_that_cannot_be_written_says_that_the_object_is_stored_and_is_written_alone_later() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    let (file, content) = random_file(scratch.path(), 350 * KIB, 1);
    let output = put(&file, &store.endpoint, &[&PARTS[..], &["--receipt", "/dev/full"]].concat()).output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(exit_code(&output), 8, "{said}");
    assert!(said.contains("the object is stored") && said.contains("/dev/full"), "{said}");
    assert!(store.holds(&content));
    let receipt = scratch.path().join("receipt.json");
    let events = put_well(&file, &store.endpoint, &[&PARTS[..], &["--receipt", receipt.to_str().unwrap()]].concat());
    assert_eq!((parts_sent(&events).len(), receipt.exists()), (0, true));
    assert!(!file.with_added_extension("cp").exists());
}

#[test]
fn a_checkpoint_that_cannot_be_removed_is_a_warning_and_the_next_run_sends_nothing() {
    if !may_trace() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    let (file, content) = random_file(scratch.path(), 350 * KIB, 1);
    let checkpoint = file.with_added_extension("cp");
    let output = traced(&put(&file, &store.endpoint, &PARTS), "unlink", "error=EIO", Some(&checkpoint));
    let events = json_lines(&output.stdout);
    assert_eq!(exit_code(&output), 0, "{}", text(&output.stderr));
    let warned = named(&events, "warning");
    assert!(warned[0]["message"].as_str().unwrap().contains("the object is stored"), "{warned:?}");
    assert!(store.holds(&content) && checkpoint.exists());
    let events = put_well(&file, &store.endpoint, &PARTS);
    assert_eq!((parts_sent(&events).len(), checkpoint.exists()), (0, false));
}

#[test]
fn a_record_that_fails_past_complete_does_not_make_a_failure_of_the_upload() {
    if !may_trace() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    let (file, content) = random_file(scratch.path(), 350 * KIB, 1);
    let checkpoint = file.with_added_extension("cp");
    // The writes of one part at a time: id, four parts, what is about to be completed, what was.
    let options = [&PARTS[..], &["--parallel", "1"]].concat();
    let mut completed = 0;
    for nth in 1..=7 {
        let plain = put(&file, &store.endpoint, &options);
        let output = traced(&plain, "write", &format!("error=ENOSPC:when={nth}+"), Some(&checkpoint));
        match exit_code(&output) {
            0 => completed += 1,
            code => assert_eq!(code, 8, "write {nth}: {}", text(&output.stderr)),
        }
        put_well(&file, &store.endpoint, &options);
        assert!(store.holds(&content) && !checkpoint.exists(), "write {nth}");
        assert_eq!(store.open_uploads().len(), 0, "write {nth}");
    }
    assert!((1..7).contains(&completed), "{completed} of 7 runs ended well");
}
