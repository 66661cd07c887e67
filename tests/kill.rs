//! `kill -9` at random moments, also under faults: the same command goes on, nothing durable is sent twice, the object
//! equals the file. `HAUL_KILLS=200` sets the number of kills under faults.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use crate::common::*;
use serde_json::Value;

const KILLS: u32 = 50;
/// Kills under faults, unless `HAUL_KILLS` says otherwise.
const KILLS_UNDER_FAULTS: u32 = 20;
/// Together they harm 5 % of all requests.
const FAULTS: [&str; 5] = [
    "any:1%:reset",
    "any:1%:reset-after",
    "any:1%:lose-answer",
    "any:1%:error,code=InternalError",
    "write:1%:wrong-crc",
];
const PART: usize = 100 << 10;
const PARTS: usize = 60;

/// Runs until `after` events were seen, then kills; gives `None` if the run ended by itself before.
fn run_and_kill(file: &Path, endpoint: &str, after: usize) -> Option<Vec<Value>> {
    let mut child =
        put(file, endpoint, &["--part-size", "100KiB", "--parallel", "3"]).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let events: Vec<Value> = lines.take(after).map(|line| serde_json::from_str(&line).unwrap()).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    let ended = events.last().is_some_and(|e| e["event"] == "done");
    (!ended).then_some(events)
}

/// Parts that the checkpoint holds.
fn durable(checkpoint: &Path) -> BTreeSet<u64> {
    let Ok(checkpoint) = haul::checkpoint::read(checkpoint) else { return BTreeSet::new() };
    checkpoint.checkpoint.parts.keys().map(|number| u64::from(number.get())).collect()
}

/// Kills that many runs, each file some four times before the run that finishes; `tries` is how many that may take.
fn kill_and_go_on(store: &Served, scratch: &Path, kills: u32, tries: u32) {
    let options = ["--part-size", "100KiB", "--parallel", "3"];
    let mut random = fastrand::Rng::with_seed(0x6b69_6c6c);
    let (mut killed, mut seed) = (0, 0);
    while killed < kills {
        seed += 1;
        let (file, content) = random_file(scratch, PART * PARTS - 777, seed);
        let checkpoint = file.with_added_extension("cp");
        for _ in 0..4 {
            let before = durable(&checkpoint);
            let Some(events) = run_and_kill(&file, &store.endpoint, random.usize(0..PARTS / 2)) else { break };
            killed += 1;
            let sent = parts_sent(&events);
            assert!(sent.is_disjoint(&before), "seed {seed}: sent again: {:?}", sent.intersection(&before));
            let now = durable(&checkpoint);
            assert!(now.is_superset(&before), "seed {seed}: forgotten: {:?}", before.difference(&now));
        }
        let finished = (0..tries).any(|_| {
            let before = durable(&checkpoint);
            let output = put(&file, &store.endpoint, &options).output().unwrap();
            let sent = parts_sent(&json_lines(&output.stdout));
            assert!(sent.is_disjoint(&before), "seed {seed}: sent again: {:?}", sent.intersection(&before));
            output.status.success()
        });
        assert!(finished, "seed {seed}");
        assert!(store.holds(&content), "seed {seed}");
        assert!(!checkpoint.exists());
        assert_eq!(store.stored_parts(), 0, "seed {seed}: parts were left behind");
        std::fs::remove_file(file).unwrap();
    }
}

#[test]
fn an_upload_killed_at_fifty_random_moments_loses_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    kill_and_go_on(&Served::start(scratch.path()), scratch.path(), KILLS, 1);
}

#[test]
fn an_upload_killed_at_random_moments_under_faults_loses_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let faults: Vec<&str> = FAULTS.iter().flat_map(|rule| ["--fault", *rule]).chain(["--seed", "1"]).collect();
    let kills = std::env::var("HAUL_KILLS").map_or(KILLS_UNDER_FAULTS, |n| n.parse().expect("HAUL_KILLS is a number"));
    kill_and_go_on(&Served::start_with(scratch.path(), &faults), scratch.path(), kills, 5);
}
