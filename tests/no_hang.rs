//! Nothing hangs: what is silent, slow or lost is given up, doubled or asked about, and a person can see what is waited for.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::common::*;

const KIB: usize = 1 << 10;

/// Uploads `parts` parts of 100 KiB to a store with these rules; events and exit code. The object must be there if it is 0.
fn under(rules: &[&str], parts: usize, options: &[&str]) -> (Vec<serde_json::Value>, i32) {
    let scratch = tempfile::tempdir().unwrap();
    let faults: Vec<&str> = rules.iter().flat_map(|rule| ["--fault", *rule]).collect();
    let store = Served::start_with(scratch.path(), &faults);
    let (file, content) = random_file(scratch.path(), parts * 100 * KIB, 1);
    let output = put(&file, &store.endpoint, &[&["--part-size", "100KiB"], options].concat()).output().unwrap();
    let code = exit_code(&output);
    assert_eq!(store.holds(&content), code == 0, "{}{}", text(&output.stdout), text(&output.stderr));
    (json_lines(&output.stdout), code)
}

fn faults_of(events: &[serde_json::Value]) -> Vec<&str> {
    named(events, "retrying").iter().map(|e| e["fault"].as_str().unwrap()).collect()
}

#[test]
fn a_part_that_is_never_answered_is_given_up_and_sent_again() {
    let (events, code) = under(&["UploadPart:#3:hang"], 6, &["--idle-timeout", "1s"]);
    assert_eq!(code, 0, "{events:?}");
    assert!(faults_of(&events).iter().any(|fault| fault.contains("no answer within")), "{events:?}");
}

#[test]
fn a_trickle_is_given_up_in_either_direction() {
    for way in ["in", "out"] {
        let (events, code) =
            under(&[&format!("connect:#2:trickle,rate=5,way={way}")], 6, &["--idle-timeout", "1s", "--parallel", "2"]);
        assert_eq!(code, 0, "{way}: {events:?}");
        assert!(faults_of(&events).iter().any(|fault| fault.contains("gave up on 127.0.0.1")), "{way}: {events:?}");
    }
}

#[test]
fn a_store_that_hangs_for_ever_ends_the_run_with_7() {
    let (events, code) = under(&["UploadPart:always:hang"], 3, &["--idle-timeout", "1s", "--attempts", "2"]);
    assert_eq!(code, 7);
    assert!(events.last().unwrap()["message"].as_str().unwrap().contains("gave up after 2 attempts"), "{events:?}");
}

/// With the default of 60 s nothing is given up here: only a second connection can end it.
#[test]
fn a_part_that_is_late_is_sent_on_another_connection_too() {
    let (events, code) = under(&["UploadPart:#30:hang"], 60, &["--parallel", "3"]);
    assert_eq!(code, 0);
    assert!(!named(&events, "hedged").is_empty());
    assert_eq!(faults_of(&events), [""; 0]);
}

#[test]
fn an_error_that_stays_ends_the_run_without_waiting_for_the_other_parts() {
    let (events, code) = under(&["UploadPart:#1-3:hang", "UploadPart:always:error,code=AccessDenied"], 8, &[]);
    assert_eq!(code, 4);
    assert_eq!(faults_of(&events), [""; 0], "those that hang were dropped, not given up");
}

#[test]
fn being_throttled_many_times_is_not_being_refused() {
    let rule = "UploadPart:#1-12:error,code=UploadTrafficRateLimitExceeded,delay-ms=10";
    let (events, code) = under(&[rule], 6, &["--attempts", "2"]);
    assert_eq!(code, 0, "{events:?}");
    assert!(faults_of(&events).len() >= 12);
}

#[test]
fn a_clock_that_is_off_by_hours_is_corrected_once() {
    for by in ["3h", "-3h"] {
        let (events, code) = under(&[&format!("any:always:clock,by={by}")], 6, &["--parallel", "1"]);
        assert_eq!(code, 0, "{events:?}");
        let warnings = named(&events, "warning");
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0]["message"].as_str().unwrap().contains("clock"), "{warnings:?}");
    }
}

#[test]
fn what_took_effect_without_an_answer_is_not_taken_for_somebody_elses() {
    let keep = ["--forbid-overwrite"];
    assert_eq!(under(&["CompleteMultipartUpload:#1:lose-answer"], 6, &keep).1, 0);
    assert_eq!(under(&["CompleteMultipartUpload:#1:error-in-200,done=yes"], 6, &keep).1, 0);
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start_with(scratch.path(), &["--fault", "PutObject:#1:lose-answer"]);
    let (file, content) = random_file(scratch.path(), 50 * KIB, 1);
    put_well(&file, &store.endpoint, &keep);
    assert!(store.holds(&content));
    let (other, content) = random_file(scratch.path(), 50 * KIB, 2);
    let output = put(&other, &store.endpoint, &keep).output().unwrap();
    assert_eq!(exit_code(&output), 5);
    assert!(!store.holds(&content), "what was there is still there");
}

#[test]
fn a_merge_in_doubt_is_asked_about_before_it_is_asked_for_again() {
    let scratch = tempfile::tempdir().unwrap();
    let log = scratch.path().join("access.jsonl");
    let options = ["--access-log", log.to_str().unwrap(), "--fault", "CompleteMultipartUpload:#1:lose-answer"];
    let store = Served::start_with(scratch.path(), &options);
    let (file, content) = random_file(scratch.path(), 300 * KIB, 1);
    put_well(&file, &store.endpoint, &["--part-size", "100KiB"]);
    assert!(store.holds(&content));
    // The log is written by a thread of its own; the object was asked for last.
    let mut log = std::io::BufReader::new(std::fs::File::open(log).unwrap());
    let mut seen = String::new();
    while !seen.contains("HeadObject") {
        log.read_line(&mut seen).unwrap();
    }
    assert_eq!(seen.matches(r#""operation":"CompleteMultipartUpload""#).count(), 1, "{seen}");
}

#[test]
fn a_signal_shows_what_every_part_is_waiting_for() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start_with(scratch.path(), &["--fault", "UploadPart:always:hang,part=2"]);
    let (file, _) = random_file(scratch.path(), 300 * KIB, 1);
    let mut child = put(&file, &store.endpoint, &["--part-size", "100KiB"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let events = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert_eq!(events.filter(|line| line.contains("part_done")).take(2).count(), 2);
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    // The request may still be on its way when the first signal comes.
    loop {
        Command::new("kill").args(["-USR1", &child.id().to_string()]).status().unwrap();
        let line = said.find(|line| line.contains("UploadPart of part 2")).unwrap();
        if line.contains("try 1: waits for the answer, 102400 bytes sent, for ") {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
}
