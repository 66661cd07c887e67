//! Runs of the binary under `strace`, which counts its system calls, has them fail or kills the process at them.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Whether processes may be traced here; says so if not.
pub fn may_trace() -> bool {
    let tried = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).status();
    let may = tried.is_ok_and(|status| status.success());
    if !may {
        eprintln!("NOT TESTED: strace is missing or may not trace here");
    }
    may
}

/// Runs `plain` with `inject`, as strace takes it, done to its calls of `call`, on `path` only if one is given.
pub fn traced(plain: &Command, call: &str, inject: &str, path: Option<&Path>) -> Output {
    let inject = format!("inject={call}:{inject}");
    under_strace(plain, &["-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject], path)
}

/// Runs `plain` to its end; gives how often all its threads made each of `calls` (names and classes of strace), on `path`
/// only if one is given. `log` is where strace may write.
pub fn counted(plain: &Command, calls: &str, path: Option<&Path>, log: &Path) -> BTreeMap<String, u32> {
    let output = under_strace(plain, &["-o", log.to_str().unwrap(), "-e", &format!("trace={calls}")], path);
    assert!(output.status.success(), "{}", super::text(&output.stderr));
    let mut counts = BTreeMap::new();
    // `PID name(arguments`; what was interrupted goes on as `PID <... name resumed>`. What strace has no name for cannot be
    // asked for: `???` is the end of a thread, `syscall_` a call that is younger than this strace.
    for line in std::fs::read_to_string(log).unwrap().lines() {
        let call = line.split_whitespace().nth(1).and_then(|call| call.split_once('('));
        if let Some((name, _)) = call.filter(|(name, _)| *name != "???" && !name.starts_with("syscall_")) {
            *counts.entry(name.to_owned()).or_default() += 1;
        }
    }
    counts
}

/// Has `inject` done to the calls of `call` that one running thread makes from now on.
pub fn attached(thread: u32, call: &str, inject: &str) -> Child {
    let mut strace = Command::new("strace")
        .args(["-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &format!("inject={call}:{inject}")])
        .args(["-p", &thread.to_string()])
        .stderr(Stdio::piped())
        .spawn()
        .expect("strace ran a moment ago");
    let mut said = String::new();
    BufReader::new(strace.stderr.as_mut().expect("piped")).read_line(&mut said).unwrap();
    assert!(said.contains("attached"), "{said}");
    strace
}

/// Waits for a thread of that name; gives its id.
pub fn thread_named(process: &mut Child, name: &str) -> u32 {
    let (tasks, begun) = (format!("/proc/{}/task", process.id()), Instant::now());
    loop {
        let mut threads = std::fs::read_dir(&tasks).into_iter().flatten().flatten();
        let is_meant = |thread: &std::fs::DirEntry| {
            std::fs::read_to_string(thread.path().join("comm")).is_ok_and(|comm| comm.trim() == name)
        };
        if let Some(thread) = threads.find(is_meant) {
            return thread.file_name().to_str().and_then(|id| id.parse().ok()).expect("the name of a task is its id");
        }
        let ended = process.try_wait().unwrap();
        assert!(ended.is_none(), "the run ended ({ended:?}) before it had a thread {name}");
        assert!(begun.elapsed() < Duration::from_secs(60), "there is no thread {name}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn under_strace(plain: &Command, options: &[&str], path: Option<&Path>) -> Output {
    let mut traced = Command::new("strace");
    traced.args(["-f", "-qq"]).args(options);
    if let Some(path) = path {
        traced.arg("-P").arg(path);
    }
    traced.arg(plain.get_program()).args(plain.get_args());
    for (name, value) in plain.get_envs() {
        match value {
            Some(value) => traced.env(name, value),
            None => traced.env_remove(name),
        };
    }
    traced.output().expect("strace ran a moment ago")
}
