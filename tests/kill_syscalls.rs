//! `kill -9` at every system call that touches the checkpoint, and at those that touch the network: the same command
//! finishes the job, nothing durable is sent twice, and no upload with parts is left behind.
//!
//! `strace` kills the process when one of its threads enters its N-th call of a kind, for every N until a run ends by
//! itself. It counts by thread, so of calls that several threads make (those of the network) it meets the earliest.

mod common;

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};

use common::traced::{may_trace, traced};
use common::*;

const PART: usize = 100 << 10;
const OPTIONS: [&str; 4] = ["--part-size", "100KiB", "--parallel", "2"];

/// Calls on the files of a checkpoint, by what is behind the name of the file that is sent.
const CHECKPOINT: [(&str, &[&str]); 3] = [
    (".cp.lock", &["openat", "flock", "write", "unlink"]),
    (".cp.new", &["unlink", "openat", "write", "fsync", "rename"]),
    (".cp", &["openat", "write", "fdatasync", "unlink"]),
];
const NETWORK: [&str; 3] = ["connect", "writev", "recvfrom"];

/// A store, and a fresh file for every kill: what an earlier run stored proves nothing.
struct Scene {
    scratch: tempfile::TempDir,
    store: Served,
    killed: u64,
}

impl Scene {
    /// Kills at the first, second, third … such call until a run ends by itself; gives the number of kills.
    fn sweep(&mut self, call: &str, on: impl Fn(&Path) -> Option<PathBuf>) -> u32 {
        for nth in 1.. {
            let (file, content) = random_file(self.scratch.path(), 6 * PART - 777, self.killed);
            let what = format!("killed at {call} {nth} on {:?}", on(&file));
            let before = self.uploads();
            if !run_and_kill(&file, &self.store.endpoint, call, nth, on(&file).as_deref()) {
                return nth - 1;
            }
            self.killed += 1;
            self.go_on(&file, &content, &before, &what);
            std::fs::remove_file(&file).unwrap();
        }
        unreachable!("every run ends")
    }

    fn go_on(&self, file: &Path, content: &[u8], before: &BTreeSet<String>, what: &str) {
        let known = haul::checkpoint::read(&file.with_added_extension("cp")).map(|found| found.checkpoint);
        let durable: BTreeSet<u64> =
            known.iter().flat_map(|known| known.parts.keys()).map(|number| u64::from(number.get())).collect();
        let left: Vec<String> = self.uploads().difference(before).cloned().collect();
        assert!(left.len() <= 1, "{what}: {left:?} were left open");
        let events = put_well(file, &self.store.endpoint, &OPTIONS);
        let again: Vec<u64> = parts_sent(&events).intersection(&durable).copied().collect();
        assert!(again.is_empty(), "{what}: sent again: {again:?}");
        assert!(self.store.holds(content), "{what}: the object is not the file");
        assert!(!file.with_added_extension("cp").exists(), "{what}: the checkpoint was left");
        assert_eq!(self.store.stored_parts(), 0, "{what}: parts were left behind");
        // Between the store's answer to Initiate and its record, an upload without parts.
        let unheard = known.is_ok_and(|known| known.upload_id.is_none());
        let still: Vec<String> = self.uploads().difference(before).cloned().collect();
        assert!(still.is_empty() || unheard && still == left, "{what}: {still:?} stayed open");
    }

    fn uploads(&self) -> BTreeSet<String> {
        std::fs::read_dir(self.store.directory.join("uploads"))
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }
}

/// Whether the run was killed; it must succeed else.
fn run_and_kill(file: &Path, endpoint: &str, call: &str, nth: u32, on: Option<&Path>) -> bool {
    let inject = format!("signal=KILL:when={nth}");
    let output = traced(&put(file, endpoint, &OPTIONS), call, &inject, on);
    let killed = output.status.signal() == Some(9);
    assert!(killed || output.status.success(), "{call} {nth}: {}{}", text(&output.stdout), text(&output.stderr));
    killed
}

#[test]
fn an_upload_killed_at_its_system_calls_goes_on() {
    if !may_trace() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    let mut scene = Scene { scratch, store, killed: 0 };
    for (suffix, calls) in CHECKPOINT {
        for call in calls {
            let on = |file: &Path| Some(PathBuf::from(format!("{}{suffix}", file.display())));
            let kills = scene.sweep(call, on);
            println!("{call} on the file's {suffix}: {kills} kills");
            assert!(kills > 0, "nothing calls {call} on {suffix}");
        }
    }
    let kills = scene.sweep("fsync", |file| file.parent().map(Path::to_owned));
    println!("fsync on the directory: {kills} kills");
    assert!(kills > 0);
    for call in NETWORK {
        let kills = scene.sweep(call, |_| None);
        println!("{call}: {kills} kills");
        assert!(kills > 0, "nothing calls {call}");
    }
}
