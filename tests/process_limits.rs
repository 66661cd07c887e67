//! What the system refuses a process: threads, memory, descriptors, long files. Every run ends soon, with a documented exit
//! code and a sentence, and nothing waits for what will never come.

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::common::traced::{may_trace, traced};
use crate::common::*;

/// Longer than any run here takes on a slow machine, and shorter than for ever.
const LONG: Duration = Duration::from_secs(60);

/// Has the first, second, third … call of `call` fail in each thread, until a run meets none any more. Gives how each ended.
fn refused_one_by_one(plain: &Command, call: &str, errno: &str) -> Vec<Output> {
    let mut runs = Vec::new();
    loop {
        let begun = Instant::now();
        let run = traced(plain, call, &format!("error={errno}:when={}", runs.len() + 1), None);
        assert!(begun.elapsed() < LONG, "call {}: {}", runs.len() + 1, text(&run.stderr));
        let succeeded = run.status.success();
        runs.push(run);
        if succeeded {
            return runs;
        }
    }
}

#[test]
fn where_a_thread_is_refused_nothing_begins_and_the_run_says_why() {
    if !may_trace() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start_null();
    let (file, _) = random_file(scratch.path(), 400 << 10, 1);
    let at = ["--endpoint", &store.endpoint, "--region", "cn-hangzhou"];
    let mut put = put(&file, &store.endpoint, &["--part-size", "100KiB", "--threads", "2"]);
    let [mut stat, mut list] = [haul(), haul()];
    stat.args(["stat", "oss://demo/object"]).args(at);
    list.args(["uploads", "list", "oss://demo"]).args(at);
    for (command, least) in [(&mut put, 5), (&mut stat, 4), (&mut list, 4)] {
        let runs = refused_one_by_one(command, "clone3", "EAGAIN");
        assert!(runs.len() > least, "{command:?}: {} runs", runs.len());
        for run in &runs[..runs.len() - 1] {
            assert_eq!(exit_code(run), 1, "{}", text(&run.stderr));
            assert!(text(&run.stderr).contains("cannot start threads"), "{}", text(&run.stderr));
        }
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 1, "only the file");
    }
}

#[test]
fn a_server_that_gets_no_threads_says_so() {
    if !may_trace() {
        return;
    }
    let mut serve = haul();
    serve.args(["serve", "--store", "null", "--no-auth", "--listen", "127.0.0.1:0"]).stdout(Stdio::null());
    for n in 1..=3 {
        let run = traced(&serve, "clone3", &format!("error=EAGAIN:when={n}"), None);
        assert_eq!(exit_code(&run), 1, "{}", text(&run.stderr));
    }
}

/// `plain` under a limit that the shell sets.
fn limited(plain: &Command, limit: &str) -> Command {
    let mut run = Command::new("sh");
    run.args(["-c", &format!("ulimit {limit}; exec \"$0\" \"$@\"")]).arg(plain.get_program()).args(plain.get_args());
    run.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?)))).stdin(Stdio::null());
    run
}

#[test]
fn with_a_limited_address_space_a_file_is_not_mapped_unasked() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start_null();
    let (file, _) = random_file(scratch.path(), 40 << 20, 1);
    let plan = put(&file, &store.endpoint, &["--dry-run"]);
    for (run, mapped) in [(&mut limited(&plan, "-v 1000000"), false), (&mut limited(&plan, "-v unlimited"), true)] {
        let output = run.output().unwrap();
        let reader = json_lines(&output.stdout)[0]["reader"].clone();
        assert_eq!(reader == "mmap", mapped, "{}", text(&output.stdout));
    }
    // What is asked for is done as far as the memory goes.
    let asked = put(&file, &store.endpoint, &["--reader", "mmap", "--part-size", "1MiB", "--threads", "1"]);
    let output = limited(&asked, "-v 400000").output().unwrap();
    assert_eq!(exit_code(&output), 0, "{}", text(&output.stderr));
}

#[test]
fn no_limit_of_memory_or_descriptors_makes_a_run_hang_or_panic() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start_null();
    let (file, _) = random_file(scratch.path(), 20 << 20, 1);
    let plain = put(&file, &store.endpoint, &["--part-size", "1MiB", "--attempts", "1"]);
    let memory = (60..400).step_by(20).map(|mib| format!("-v {}", mib << 10));
    for limit in memory.chain((4..24).map(|files| format!("-n {files}"))) {
        let begun = Instant::now();
        let output = limited(&plain, &limit).output().unwrap();
        assert!(begun.elapsed() < LONG, "{limit}");
        let said = text(&output.stderr);
        // What the loader and the runtime of the language need comes before anything that haul does.
        if said.contains("error while loading") || said.contains("fatal runtime error") {
            continue;
        }
        assert!(matches!(exit_code(&output), 0 | 1 | 4 | 7 | 8), "{limit}: {:?} {said}", output.status);
        assert!(output.status.success() || !said.is_empty(), "{limit}: it says nothing");
    }
}

#[test]
fn a_lock_is_taken_although_a_signal_comes_between() {
    if !may_trace() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    let (file, content) = random_file(scratch.path(), 300 << 10, 1);
    let plain = put(&file, &store.endpoint, &["--part-size", "100KiB"]);
    let run = traced(&plain, "flock", "error=EINTR:when=1", None);
    assert!(run.status.success(), "{}", text(&run.stderr));
    assert!(store.holds(&content));
}

#[test]
fn advice_fits_what_is_missing() {
    if !may_trace() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start_null();
    let (file, _) = random_file(scratch.path(), 300 << 10, 1);
    let plain = put(&file, &store.endpoint, &["--part-size", "100KiB"]);
    let lock = scratch.path().join("file-1.cp.lock");
    for (errno, code, advice) in
        [("ENOSPC", 8, "make room"), ("EMFILE", 8, "open files"), ("ENOLCK", 8, "choose another place")]
    {
        let run = traced(&plain, "openat", &format!("error={errno}:when=1"), Some(&lock));
        let said = text(&run.stderr);
        assert_eq!(exit_code(&run), code, "{said}");
        assert!(said.contains(advice), "{errno}: {said}");
        assert!(errno == "ENOSPC" || !said.contains("make room"), "{errno}: {said}");
    }
    let run = traced(&plain, "openat", "error=EMFILE:when=1", Some(&file));
    assert_eq!(exit_code(&run), 1, "the file may be well: {}", text(&run.stderr));
}
