//! Runs of the binary under `strace`, which has system calls fail or kills the process at them.

use std::path::Path;
use std::process::{Command, Output};

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
    let mut traced = Command::new("strace");
    traced.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}")]);
    traced.args(["-e", &format!("inject={call}:{inject}")]);
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
