//! `kill -9` at every system call that touches the checkpoint, and at those that touch the network: the same command
//! finishes the job, nothing durable is sent twice, and no upload with parts is left behind.
//!
//! `strace` kills the process when one of its threads enters its N-th call of a kind, for every N until a run ends by
//! itself. It counts by thread, so of calls that several threads make it meets the earliest. `HAUL_KILLS=all` meets all of
//! them: every kind that a run makes, with one thread for the network, and the thread of the journal on its own.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Condvar, Mutex};

use crate::common::meddler::{Fate, Meddler, meddle};
use crate::common::traced::{attached, counted, may_trace, thread_named, traced};
use crate::common::*;

const PART: usize = 100 << 10;
const OPTIONS: [&str; 4] = ["--part-size", "100KiB", "--parallel", "2"];
const ONE_THREAD: [&str; 6] = ["--part-size", "100KiB", "--parallel", "2", "--threads", "1"];

/// Calls on the files of a checkpoint, by what is behind the name of the file that is sent.
const CHECKPOINT: [(&str, &[&str]); 3] = [
    (".cp.lock", &["openat", "flock", "write", "unlink"]),
    (".cp.new", &["openat", "write", "fsync", "rename"]),
    (".cp", &["openat", "write", "fdatasync", "unlink"]),
];
const NETWORK: [&str; 3] = ["connect", "writev", "recvfrom"];
/// What the thread of the journal does in the end, with nothing behind it but the end of its lock.
const LAST_OF_JOURNAL: &str = "fsync";
/// All that it does to files and to those who wait for it.
const ALL_OF_JOURNAL: &str = "%file,%desc";

/// Where calls count.
#[derive(Debug, Clone, Copy)]
enum On {
    /// On the file with this behind its name.
    Beside(&'static str),
    /// On the directory of the file.
    Directory,
    Anything,
}

impl On {
    fn path(self, file: &Path) -> Option<PathBuf> {
        match self {
            Self::Beside(suffix) => Some(PathBuf::from(format!("{}{suffix}", file.display()))),
            Self::Directory => file.parent().map(Path::to_owned),
            Self::Anything => None,
        }
    }
}

/// Keeps the store from answering while it is shut.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn shut(&self, shut: bool) {
        *self.0.0.lock().unwrap() = shut;
        self.0.1.notify_all();
    }

    fn pass(&self) {
        drop(self.0.1.wait_while(self.0.0.lock().unwrap(), |shut| *shut).unwrap());
    }
}

/// A store, and a fresh file for every kill: what an earlier run stored proves nothing.
struct Scene {
    scratch: tempfile::TempDir,
    store: Served,
    endpoint: String,
    options: &'static [&'static str],
    /// Shut, it holds back the answer that tells the id of an upload.
    gate: Gate,
    _meddler: (tokio::runtime::Runtime, Meddler),
    files: u64,
    killed: u32,
}

impl Scene {
    fn new(options: &'static [&'static str]) -> Self {
        let (scratch, gate) = (tempfile::tempdir().unwrap(), Gate::default());
        let store = Served::start(scratch.path());
        let held = gate.clone();
        let meddler = meddle(store.address(), move |seen| {
            if seen.target.contains("?uploads") {
                held.pass();
            }
            Fate::Forward
        });
        let endpoint = meddler.1.endpoint();
        Self { scratch, store, endpoint, options, gate, _meddler: meddler, files: 0, killed: 0 }
    }

    fn file(&mut self) -> (PathBuf, Vec<u8>) {
        self.files += 1;
        random_file(self.scratch.path(), 6 * PART - 777, self.files)
    }

    /// Kills at the first, second, third … such call until a run ends by itself; gives the number of kills.
    fn sweep(&mut self, call: &str, on: On) -> u32 {
        self.sweep_by(&format!("{call} on {on:?}"), |scene, file, nth| {
            scene.run_and_kill(file, call, nth, on.path(file).as_deref())
        })
    }

    /// The same with the calls of the journal's thread alone, from the answer of the store on that opens the upload.
    fn sweep_journal(&mut self, call: &str) -> u32 {
        self.sweep_by(&format!("{call} by the journal"), |scene, file, nth| scene.run_and_kill_journal(file, call, nth))
    }

    fn sweep_by(&mut self, what: &str, run_and_kill: impl Fn(&Self, &Path, u32) -> bool) -> u32 {
        for nth in 1.. {
            let (file, content) = self.file();
            let before = self.uploads();
            if !run_and_kill(self, &file, nth) {
                println!("{what}: {} kills", nth - 1);
                return nth - 1;
            }
            self.killed += 1;
            self.go_on(&file, &content, &before, &format!("killed at {what}, {nth}"));
            std::fs::remove_file(&file).unwrap();
        }
        unreachable!("every run ends")
    }

    /// Whether the run was killed; it must succeed else.
    fn run_and_kill(&self, file: &Path, call: &str, nth: u32, on: Option<&Path>) -> bool {
        let inject = format!("signal=KILL:when={nth}");
        let output = traced(&put(file, &self.endpoint, self.options), call, &inject, on);
        let killed = output.status.signal() == Some(9);
        assert!(killed || output.status.success(), "{call} {nth}: {}{}", text(&output.stdout), text(&output.stderr));
        killed
    }

    fn run_and_kill_journal(&self, file: &Path, call: &str, nth: u32) -> bool {
        self.gate.shut(true);
        let mut put = put(file, &self.endpoint, self.options);
        // Debuggers are kept out otherwise.
        let mut run = put.env("HAUL_CORE_DUMPS", "1").stdout(Stdio::null()).spawn().unwrap();
        let mut strace = attached(thread_named(&mut run, "haul-journal"), call, &format!("signal=KILL:when={nth}"));
        self.gate.shut(false);
        let status = run.wait().unwrap();
        strace.wait().unwrap();
        assert!(status.signal() == Some(9) || status.success(), "{call} {nth}: {status}");
        !status.success()
    }

    /// How often a run of this test makes each of `calls`.
    fn count(&mut self, calls: &str, on: On) -> Vec<(String, u32)> {
        let (file, _) = self.file();
        let log = self.scratch.path().join("strace");
        let counts = counted(&put(&file, &self.endpoint, self.options), calls, on.path(&file).as_deref(), &log);
        std::fs::remove_file(&file).unwrap();
        counts.into_iter().collect()
    }

    fn go_on(&self, file: &Path, content: &[u8], before: &BTreeSet<String>, what: &str) {
        let known = haul::checkpoint::read(&file.with_added_extension("cp")).map(|found| found.checkpoint);
        let durable: BTreeSet<u64> =
            known.iter().flat_map(|known| known.parts.keys()).map(|number| u64::from(number.get())).collect();
        let left: Vec<String> = self.uploads().difference(before).cloned().collect();
        assert!(left.len() <= 1, "{what}: {left:?} were left open");
        let events = put_well(file, &self.endpoint, self.options);
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

#[test]
fn an_upload_killed_at_its_system_calls_goes_on() {
    if !may_trace() {
        return;
    }
    if std::env::var("HAUL_KILLS").is_ok_and(|kills| kills == "all") {
        return kill_at_every_call();
    }
    let mut scene = Scene::new(&OPTIONS);
    for (suffix, calls) in CHECKPOINT {
        for call in calls {
            assert!(scene.sweep(call, On::Beside(suffix)) > 0, "nothing calls {call} on {suffix}");
        }
    }
    assert!(scene.sweep("fsync", On::Directory) > 0);
    assert!(scene.sweep_journal(LAST_OF_JOURNAL) > 0);
    for call in NETWORK {
        assert!(scene.sweep(call, On::Anything) > 0, "nothing calls {call}");
    }
    println!("{} kills in all", scene.killed);
}

/// Kills at all that [`Scene::count`] finds, and at all that the journal does.
fn kill_at_every_call() {
    let mut scene = Scene::new(&ONE_THREAD);
    let files = CHECKPOINT.map(|(suffix, _)| ("all", On::Beside(suffix)));
    for (calls, on) in files.into_iter().chain([("all", On::Directory), ("%network,writev", On::Anything)]) {
        for (call, number) in scene.count(calls, on) {
            println!("a run calls {call} on {on:?} {number} times");
            assert!(scene.sweep(&call, on) > 0, "{call} on {on:?}");
        }
    }
    let mut by_journal = 0;
    for (call, _) in scene.count(ALL_OF_JOURNAL, On::Anything) {
        by_journal += scene.sweep_journal(&call);
    }
    // To open the log; write and sync the id, some parts, the end; remove the log and the lock.
    assert!(by_journal >= 10, "the journal was met at {by_journal} calls only");
    println!("{} kills in all", scene.killed);
}
