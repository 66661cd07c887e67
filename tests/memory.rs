//! `--memory` bounds the plan, and what cannot work is refused with the least that does.

use crate::common::*;

const MIB: usize = 1 << 20;

#[test]
fn a_memory_in_which_nothing_fits_is_refused_with_the_least_that_works() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    let (file, content) = random_file(scratch.path(), 9 * MIB, 1);
    let refused = |options: &[&str], why: &str| {
        let output = put(&file, &store.endpoint, options).output().unwrap();
        let said = text(&output.stderr);
        assert_eq!((exit_code(&output), said.contains(why)), (2, true), "{said}");
    };
    refused(&["--memory", "1MiB"], "not enough for one part in flight: allow 1114112 bytes at least");
    refused(
        &["--memory", "2MiB", "--parallel", "64"],
        "not enough for 64 parts in flight: allow 8388608 bytes at least",
    );
    let events = put_well(&file, &store.endpoint, &["--memory", "1114112", "--reader", "pread"]);
    assert_eq!(events.last().unwrap()["parallel"], 1, "by itself it has as many parts in flight as fit");
    assert!(store.holds(&content));
}

#[test]
fn the_plan_keeps_within_its_memory_and_shows_it() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start_null();
    let (file, _) = random_file(scratch.path(), 9 * MIB, 1);
    let plan = put_well(&file, &store.endpoint, &["--memory", "8MiB", "--reader", "pread", "--dry-run"]);
    assert_eq!(plan[0]["memory_bytes"], 8 * MIB);
    assert!((1..=4 * MIB as u64).contains(&plan[0]["buffer_bytes"].as_u64().unwrap()), "{plan:?}");
    let mut command = haul();
    command.arg("put").arg(&file).args(["oss://demo/object", "--endpoint", &store.endpoint, "--region", "cn-hangzhou"]);
    let output = command.args(["--memory", "8MiB", "--reader", "pread", "--dry-run"]).output().unwrap();
    assert!(text(&output.stdout).contains("MiB of 8.00 MiB of memory\n"), "{}", text(&output.stdout));
}
