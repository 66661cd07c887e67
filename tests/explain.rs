//! `haul put --explain` against a real store that is made slow in one way: the way is named.

use crate::common::*;
use serde_json::Value;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// Uploads a file to a store that was started with `server`; gives the event, and all of them.
fn explained(bytes: usize, server: &[&str], options: &[&str]) -> (Value, Vec<Value>) {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start_null_with(server);
    let (file, _) = random_file(scratch.path(), bytes, 1);
    let events = put_well(&file, &store.endpoint, &[&["--explain", "--no-checkpoint"], options].concat());
    let of_them = named(&events, "explained");
    assert_eq!(of_them.len(), 1, "{events:?}");
    (of_them[0].clone(), events)
}

fn seconds(event: &Value, stage: &str) -> f64 {
    event["stages"][stage].as_f64().unwrap_or_else(|| panic!("{stage}: {event}"))
}

/// Fails with all figures unless this is the limit and the sentence names the knob.
fn says(event: &Value, limit: &str, knob: &str) {
    assert_eq!(event["limit"], limit, "{event}");
    assert!(event["sentence"].as_str().unwrap().contains(knob), "{event}");
}

#[test]
fn a_slow_store_is_named_and_more_parts_in_flight_would_hide_it() {
    let late = ["--fault", "UploadPart:always:late,by=200ms"];
    let (event, events) = explained(10 * 100 * KIB, &late, &["--part-size", "100KiB", "--parallel", "2"]);
    says(&event, "store", "--parallel, now 2");
    assert!(seconds(&event, "store") >= 10.0 * 0.2, "{event}");
    assert_eq!(events.last().unwrap()["event"], "done", "the last line stays what it was");
}

#[test]
fn one_slow_connection_is_named_and_more_of_them_might_carry_more() {
    let (event, _) =
        explained(8 * MIB, &["--shape", "connection-rate=4MB/s"], &["--part-size", "4MiB", "--parallel", "1"]);
    says(&event, "connections", "--parallel, now 1");
}

#[test]
fn a_store_that_throttles_is_named() {
    let (event, _) = explained(
        20 * 100 * KIB,
        &["--fault", "UploadPart:#1-3:error,code=UploadTrafficRateLimitExceeded,delay-ms=500"],
        &["--part-size", "100KiB", "--parallel", "4"],
    );
    says(&event, "throttling", "quota");
}

/// Half a second's worth is sent in not much less than half a second, and the rest of the machinery holds still meanwhile.
#[test]
fn our_own_limit_is_named_and_kept_and_nothing_takes_it_for_a_slow_network() {
    let options = ["--part-size", "100KiB", "--parallel", "4", "--max-rate", "200KB/s", "--idle-timeout", "1s"];
    let (event, events) = explained(600 * KIB, &[], &options);
    says(&event, "rate", "--max-rate");
    let least = 600.0 * 1024.0 / 200_000.0 - 0.1;
    assert!(event["seconds"].as_f64().unwrap() >= least, "{event}");
    for name in ["retrying", "hedged"] {
        assert!(named(&events, name).is_empty(), "{events:?}");
    }
}

#[test]
fn a_rate_is_shared_by_as_many_parts_as_it_is_enough_for() {
    let (_, events) = explained(200 * KIB, &[], &["--part-size", "100KiB", "--max-rate", "200KB/s"]);
    assert_eq!(events.last().unwrap()["parallel"], 3);
}

#[test]
fn our_own_share_of_the_processor_is_named_and_kept() {
    let (event, _) = explained(48 * MIB, &[], &["--part-size", "1MiB", "--parallel", "2", "--max-cpu", "10"]);
    says(&event, "cpu_share", "--max-cpu");
    let (cpu, seconds) = (event["cpu_seconds"].as_f64().unwrap(), event["seconds"].as_f64().unwrap());
    // What may be kept for later, and two chunks.
    assert!(cpu <= seconds * 0.1 + 0.1, "{event}");
}

#[test]
fn few_buffers_are_named() {
    let options = ["--part-size", "1MiB", "--parallel", "8", "--reader", "pread", "--memory", "2MiB"];
    let (event, _) = explained(12 * MIB, &["--shape", "connection-rate=4MB/s"], &options);
    says(&event, "buffers", "--memory");
}

#[test]
fn a_limit_that_leaves_parts_less_than_what_hangs_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start_null();
    let (file, _) = random_file(scratch.path(), 500 * KIB, 1);
    for (options, why) in [
        (["--max-rate", "1000B/s", "--parallel", "1"], "a request needs 1024 bytes/s at least"),
        (["--max-rate", "8191B/s", "--parallel", "8"], "so have 7 in flight"),
    ] {
        let output = put(&file, &store.endpoint, &options).output().unwrap();
        assert_eq!(exit_code(&output), 2);
        assert!(text(&output.stderr).contains(why), "{}", text(&output.stderr));
    }
}

#[test]
fn faults_are_named_where_they_cost_most() {
    let (event, _) = explained(
        4 * 100 * KIB,
        &["--fault", "UploadPart:#1-12:error,code=InternalError"],
        &["--part-size", "100KiB", "--parallel", "4", "--attempts", "9"],
    );
    says(&event, "failures", "-v");
}

#[test]
fn an_upload_that_fails_is_explained_before_the_error() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start_null_with(&[
        "--fault",
        "UploadPart:#3:error,code=AccessDenied",
        "--fault",
        "UploadPart:always:late,by=200ms",
    ]);
    let (file, _) = random_file(scratch.path(), 500 * KIB, 1);
    let output =
        put(&file, &store.endpoint, &["--explain", "--part-size", "100KiB", "--parallel", "1"]).output().unwrap();
    assert_eq!(exit_code(&output), 4);
    let events = json_lines(&output.stdout);
    let [.., explained, error] = &events[..] else { panic!("{events:?}") };
    assert_eq!((&explained["event"], &error["event"]), (&"explained".into(), &"error".into()));
    says(explained, "store", "--parallel, now 1");
}

#[test]
fn nothing_is_explained_unasked() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start_null();
    let (file, _) = random_file(scratch.path(), 500 * KIB, 1);
    assert!(named(&put_well(&file, &store.endpoint, &[]), "explained").is_empty());
}

#[test]
fn a_person_reads_a_table_and_a_sentence() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start_null_with(&["--fault", "UploadPart:always:late,by=100ms"]);
    let (file, _) = random_file(scratch.path(), 500 * KIB, 1);
    let mut command = haul();
    command.arg("put").arg(&file).args(["oss://demo/object", "--endpoint", &store.endpoint, "--region", "cn-hangzhou"]);
    let output = command.args(["--explain", "--part-size", "100KiB", "--parallel", "1"]).output().unwrap();
    let said = text(&output.stderr);
    assert!(said.contains("the parts in flight spent") && said.contains("\n  store "), "{said}");
    assert!(said.contains("\nThe store thinks ") && said.contains("--parallel, now 1"), "{said}");
}
