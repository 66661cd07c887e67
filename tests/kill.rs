//! `kill -9` at random moments: the same command goes on, nothing durable is sent twice, the object equals the file.

mod common;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use common::*;
use serde_json::Value;

const KILLS: u32 = 50;
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

#[test]
fn an_upload_killed_at_fifty_random_moments_loses_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    let mut random = fastrand::Rng::with_seed(0x6b69_6c6c);
    let (mut killed, mut seed) = (0, 0);
    while killed < KILLS {
        seed += 1;
        let (file, content) = random_file(scratch.path(), PART * PARTS - 777, seed);
        let checkpoint = file.with_added_extension("cp");
        // Some four kills, then the run that finishes.
        for _ in 0..4 {
            let before = durable(&checkpoint);
            let Some(events) = run_and_kill(&file, &store.endpoint, random.usize(0..PARTS / 2)) else { break };
            killed += 1;
            let sent = parts_sent(&events);
            assert!(sent.is_disjoint(&before), "seed {seed}: sent again: {:?}", sent.intersection(&before));
            let now = durable(&checkpoint);
            assert!(now.is_superset(&before), "seed {seed}: forgotten: {:?}", before.difference(&now));
        }
        let before = durable(&checkpoint);
        let events = put_well(&file, &store.endpoint, &["--part-size", "100KiB", "--parallel", "3"]);
        let sent = parts_sent(&events);
        assert!(sent.is_disjoint(&before), "seed {seed}: sent again: {:?}", sent.intersection(&before));
        assert!(store.holds(&content), "seed {seed}");
        assert!(!checkpoint.exists());
        assert_eq!(store.stored_parts(), 0, "seed {seed}: parts were left behind");
        std::fs::remove_file(file).unwrap();
    }
}
