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
