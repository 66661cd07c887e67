//! What a transfer does when the network or the store misbehaves.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::common::meddler::{Fate, Meddler, meddle};
use crate::common::*;
use http::StatusCode;

const KIB: usize = 1 << 10;
const PARTS: [&str; 2] = ["--part-size", "100KiB"];

fn wrong_crc(headers: &mut http::HeaderMap) {
    headers.insert("x-oss-hash-crc64ecma", "1".parse().unwrap());
}

fn no_crc(headers: &mut http::HeaderMap) {
    headers.remove("x-oss-hash-crc64ecma");
}

#[test]
fn a_part_that_arrives_corrupted_is_sent_again_from_a_fresh_read() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    let (_runtime, meddler) = meddle(store.address(), |seen| match seen.is_part_number(2) && seen.before < 2 {
        true => Fate::Edit(wrong_crc),
        false => Fate::Forward,
    });
    let (file, content) = random_file(scratch.path(), 350 * KIB, 1);
    let events = put_well(&file, &meddler.endpoint(), &PARTS);
    assert!(store.holds(&content));
    let part2 = named(&events, "part_done").into_iter().find(|e| e["part"] == 2).unwrap();
    assert_eq!(part2["attempts"], 3);
}

#[test]
fn a_part_that_stays_corrupted_ends_with_6_and_keeps_the_checkpoint() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    let (_runtime, meddler) = meddle(store.address(), |seen| match seen.is_part_number(2) {
        true => Fate::Edit(wrong_crc),
        false => Fate::Forward,
    });
    let (file, content) = random_file(scratch.path(), 350 * KIB, 1);
    let output = put(&file, &meddler.endpoint(), &PARTS).output().unwrap();
    assert_eq!(exit_code(&output), 6, "{}", text(&output.stderr));
    let tries = meddler.requests().iter().filter(|r| r.contains("partNumber=2")).count();
    assert_eq!(tries, 4, "the first and three fresh reads");
    assert!(file.with_added_extension("cp").exists());
    assert!(!store.holds(&content));
}

#[test]
fn an_object_that_is_not_the_file_ends_with_6() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    let (_runtime, meddler) = meddle(store.address(), |seen| match seen.is_complete() {
        true => Fate::Edit(wrong_crc),
        false => Fate::Forward,
    });
    let (file, _) = random_file(scratch.path(), 350 * KIB, 1);
    let output = put(&file, &meddler.endpoint(), &PARTS).output().unwrap();
    assert_eq!(exit_code(&output), 6, "{}", text(&output.stderr));
}

#[test]
fn passing_errors_and_broken_connections_are_tried_again() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    let (_runtime, meddler) = meddle(store.address(), |seen| match seen.before {
        0 if seen.is_part_number(1) => Fate::Answer(StatusCode::SERVICE_UNAVAILABLE, ""),
        0 if seen.is_part_number(2) => Fate::Hangup,
        0 if seen.is_part_number(3) => Fate::LoseAnswer,
        0 if seen.method == "POST" => {
            Fate::Answer(StatusCode::INTERNAL_SERVER_ERROR, "<Error><Code>InternalError</Code></Error>")
        }
        _ => Fate::Forward,
    });
    let (file, content) = random_file(scratch.path(), 350 * KIB, 1);
    let events = put_well(&file, &meddler.endpoint(), &PARTS);
    assert!(store.holds(&content));
    assert!(named(&events, "retrying").len() >= 5, "{events:?}");
}

#[test]
fn one_part_that_never_goes_through_does_not_cost_the_others() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    let broken = Arc::new(AtomicBool::new(true));
    let (_runtime, meddler) = meddle(store.address(), {
        let broken = broken.clone();
        move |seen| match seen.is_part_number(1) && broken.load(Ordering::SeqCst) {
            true => Fate::Answer(StatusCode::SERVICE_UNAVAILABLE, ""),
            false => Fate::Forward,
        }
    });
    let (file, content) = random_file(scratch.path(), 3000 * KIB, 1);
    let first = put(&file, &meddler.endpoint(), &[&PARTS[..], &["--parallel", "2"]].concat()).output().unwrap();
    assert_eq!(exit_code(&first), 7, "{}", text(&first.stderr));
    assert_eq!(parts_sent(&json_lines(&first.stdout)).len(), 29);
    broken.store(false, Ordering::SeqCst);
    let second = put_well(&file, &meddler.endpoint(), &PARTS);
    assert_eq!(parts_sent(&second), [1].into());
    assert!(store.holds(&content));
}

#[test]
fn a_lost_answer_to_complete_is_asked_about_not_repeated_blindly() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    let (_runtime, meddler) = meddle(store.address(), |seen| match seen.is_complete() && seen.before == 0 {
        true => Fate::LoseAnswer,
        false => Fate::Forward,
    });
    let (file, content) = random_file(scratch.path(), 350 * KIB, 1);
    let events = put_well(&file, &meddler.endpoint(), &PARTS);
    assert!(store.holds(&content));
    assert_eq!(events.last().unwrap()["verified"], true);
}

#[test]
fn a_run_that_ended_behind_complete_is_recognised_by_the_next() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    let (_runtime, meddler) = meddle(store.address(), |seen| match seen.method {
        "POST" if seen.is_complete() => Fate::LoseAnswer,
        "HEAD" => Fate::Hangup,
        _ => Fate::Forward,
    });
    let (file, content) = random_file(scratch.path(), 350 * KIB, 1);
    let checkpoint = scratch.path().join("shared.cp");
    let first =
        put(&file, &meddler.endpoint(), &[&PARTS[..], &["--checkpoint", checkpoint.to_str().unwrap()]].concat());
    // Both runs must speak of the same endpoint, so the second goes through a proxy that has turned honest.
    let output = { first }.output().unwrap();
    assert_eq!(exit_code(&output), 7, "{}", text(&output.stderr));
    assert!(store.holds(&content));
    drop(_runtime);
    let address = meddler.address;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let honest = runtime.block_on(Meddler::start_at(address, store.address(), |_| Fate::Forward));
    let events =
        put_well(&file, &honest.endpoint(), &[&PARTS[..], &["--checkpoint", checkpoint.to_str().unwrap()]].concat());
    assert_eq!(events.last().unwrap()["parts_sent"], 0);
    assert!(
        !honest.requests().iter().any(|r| r.starts_with("PUT") || r.starts_with("POST")),
        "{:?}",
        honest.requests()
    );
    assert!(!checkpoint.exists());
}

#[test]
fn missing_checksums_are_reported() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    let (_runtime, meddler) = meddle(store.address(), |_| Fate::Edit(no_crc));
    let (file, _) = random_file(scratch.path(), 350 * KIB, 1);
    let events = put_well(&file, &meddler.endpoint(), &PARTS);
    let done = events.last().unwrap();
    assert_eq!(done["verified"], false);
    assert_eq!(done["parts_unverified"], 4);
}

#[test]
fn an_upload_that_the_store_forgot_is_started_over() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    let stop = Arc::new(AtomicBool::new(true));
    let (_runtime, meddler) = meddle(store.address(), {
        let stop = stop.clone();
        move |seen| match seen.is_part_number(3) && stop.load(Ordering::SeqCst) {
            true => Fate::Answer(StatusCode::FORBIDDEN, "<Error><Code>AccessDenied</Code></Error>"),
            false => Fate::Forward,
        }
    });
    let (file, content) = random_file(scratch.path(), 350 * KIB, 1);
    let first = put(&file, &meddler.endpoint(), &PARTS).output().unwrap();
    assert_eq!(exit_code(&first), 4);
    let open = store.open_uploads();
    assert_eq!(open.len(), 1);
    let id = open[0]["upload_id"].as_str().unwrap();
    let options = ["--upload-id", id, "--endpoint", &store.endpoint, "--region", "cn-hangzhou"];
    let abort = haul().args(["uploads", "abort", "oss://demo/object"]).args(options).output().unwrap();
    assert!(abort.status.success(), "{}", text(&abort.stderr));
    stop.store(false, Ordering::SeqCst);
    let events = put_well(&file, &meddler.endpoint(), &PARTS);
    assert_eq!(named(&events, "started_over").len(), 1);
    assert_eq!(parts_sent(&events).len(), 4);
    assert!(store.holds(&content));
}

#[test]
fn without_a_checkpoint_a_failed_upload_is_aborted() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    let (_runtime, meddler) = meddle(store.address(), |seen| match seen.is_part_number(3) {
        true => Fate::Answer(StatusCode::FORBIDDEN, "<Error><Code>AccessDenied</Code></Error>"),
        false => Fate::Forward,
    });
    let (file, _) = random_file(scratch.path(), 350 * KIB, 1);
    let output = put(&file, &meddler.endpoint(), &[&PARTS[..], &["--no-checkpoint"]].concat()).output().unwrap();
    assert_eq!(exit_code(&output), 4);
    assert_eq!(store.open_uploads().len(), 0);
    assert!(!file.with_added_extension("cp").exists());
}

/// Leaves an upload open in the store, and its checkpoint beside the file.
fn break_off(file: &std::path::Path, store: &Served) {
    let (_runtime, meddler) = meddle(store.address(), |seen| match seen.is_part_number(3) {
        true => Fate::Answer(StatusCode::FORBIDDEN, "<Error><Code>AccessDenied</Code></Error>"),
        false => Fate::Forward,
    });
    // The same store under the same name, so that the checkpoint belongs to it: the proxy is named, not the endpoint.
    let proxy = meddler.endpoint();
    let output = put(file, &store.endpoint, &[&PARTS[..], &["--proxy", &proxy]].concat()).output().unwrap();
    assert_eq!(exit_code(&output), 4, "{}", text(&output.stderr));
    assert_eq!(store.open_uploads().len(), 1);
    assert!(file.with_added_extension("cp").exists());
}

#[test]
fn another_part_size_starts_over_says_so_and_aborts_the_old_upload() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    let (file, content) = random_file(scratch.path(), 350 * KIB, 1);
    break_off(&file, &store);
    let events = put_well(&file, &store.endpoint, &["--part-size", "200KiB"]);
    let reason = named(&events, "started_over")[0]["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("part size"), "{reason}");
    assert!(store.holds(&content));
    assert_eq!(store.open_uploads().len(), 0);
}

#[test]
fn a_file_that_changed_starts_over_and_one_that_became_small_still_aborts_the_old_upload() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    let (file, _) = random_file(scratch.path(), 350 * KIB, 1);
    for content in [vec![1; 350 * KIB], vec![2; 10]] {
        break_off(&file, &store);
        std::fs::write(&file, &content).unwrap();
        let events = put_well(&file, &store.endpoint, &PARTS);
        assert!(named(&events, "started_over")[0]["reason"].as_str().unwrap().contains("changed"), "{events:?}");
        assert!(store.holds(&content));
        assert_eq!(store.open_uploads().len(), 0);
        assert!(!file.with_added_extension("cp").exists());
        random_file(scratch.path(), 350 * KIB, 1);
    }
}

#[test]
fn an_interrupted_run_ends_with_130_says_how_to_go_on_and_goes_on() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    let held = Arc::new(AtomicBool::new(true));
    let (_runtime, meddler) = meddle(store.address(), {
        let held = held.clone();
        move |seen| match seen.is_part_number(6) && held.load(Ordering::SeqCst) {
            true => Fate::Hang,
            false => Fate::Forward,
        }
    });
    let (file, content) = random_file(scratch.path(), 1000 * KIB, 1);
    let options = [&PARTS[..], &["--parallel", "1"]].concat();
    let mut child =
        put(&file, &meddler.endpoint(), &options).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("part_done") && line.contains("\"part\":5")));
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let rest: Vec<_> = lines.collect();
    let output = child.wait_with_output().unwrap();
    assert_eq!(exit_code(&output), 130);
    assert!(rest.last().unwrap().contains("\"exit\":130"), "{rest:?}");
    assert!(text(&output.stderr).contains("same command"), "{}", text(&output.stderr));
    held.store(false, Ordering::SeqCst);
    let events = put_well(&file, &meddler.endpoint(), &PARTS);
    assert_eq!(parts_sent(&events), (6..=10).collect());
    assert!(store.holds(&content));
}

#[test]
fn a_file_that_is_cut_or_written_to_while_it_is_sent_ends_with_3_and_makes_no_object() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    for (i, (reader, cut)) in
        [("mmap", true), ("uring", true), ("pread", true), ("mmap", false), ("pread", false)].into_iter().enumerate()
    {
        let (file, content) = random_file(scratch.path(), 4000 * KIB, i as u64);
        let (_runtime, meddler) = meddle(store.address(), {
            let file = file.clone();
            move |seen| {
                if seen.is_part_number(3) && seen.before == 0 {
                    let open = std::fs::File::options().append(true).open(&file).unwrap();
                    if cut { open.set_len(100).unwrap() } else { (&open).write_all(b"more").unwrap() }
                }
                Fate::Forward
            }
        });
        let options = [&PARTS[..], &["--reader", reader, "--parallel", "2"]].concat();
        let output = put(&file, &meddler.endpoint(), &options).output().unwrap();
        assert_eq!(exit_code(&output), 3, "{reader}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains("changed"), "{}", text(&output.stderr));
        assert!(!meddler.requests().iter().any(|r| r.starts_with("POST") && r.contains("uploadId")), "{reader}");
        assert!(!store.holds(&content));
    }
}
