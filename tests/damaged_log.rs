//! One flipped bit in a checkpoint, wherever it is: the upload is resumed or aborted, and no parts are left in an upload
//! that nothing names.

use crate::common::traced::{may_trace, traced};
use crate::common::*;

const KIB: usize = 1 << 10;
const PARTS: [&str; 4] = ["--part-size", "100KiB", "--parallel", "1"];

#[test]
fn a_flipped_bit_leaves_no_parts_in_an_open_upload() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start_with(scratch.path(), &["--fault", "UploadPart:every3:error,code=AccessDenied"]);
    let (file, content) = random_file(scratch.path(), 1000 * KIB, 1);
    let checkpoint = file.with_added_extension("cp");
    let broken_off = || put(&file, &store.endpoint, &PARTS).output().unwrap();
    let mut at = 0;
    loop {
        // A fresh log, and one that a second run has compacted.
        (0..=at % 2).for_each(|_| drop(broken_off()));
        let mut log = std::fs::read(&checkpoint).unwrap();
        if at >= log.len() {
            break;
        }
        log[at] ^= 1;
        std::fs::write(&checkpoint, log).unwrap();
        while put(&file, &store.endpoint, &PARTS).output().unwrap().status.code() != Some(0) {}
        assert!(store.holds(&content) && !checkpoint.exists());
        assert_eq!(store.stored_parts(), 0, "byte {at}");
        at += 11;
    }
    assert!(at > 200, "the log has {at} bytes");
}

#[test]
fn an_upload_whose_id_cannot_be_written_down_is_aborted() {
    if !may_trace() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    let (file, _) = random_file(scratch.path(), 350 * KIB, 1);
    for call in ["write", "fdatasync"] {
        let checkpoint = file.with_added_extension("cp");
        let output = traced(&put(&file, &store.endpoint, &PARTS), call, "error=ENOSPC:when=1+", Some(&checkpoint));
        assert_eq!(exit_code(&output), 8, "{}", text(&output.stderr));
        assert_eq!(store.open_uploads().len(), 0, "{call}");
    }
}
