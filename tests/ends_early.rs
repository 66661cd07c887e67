//! How a run ends before its time: one way for all signals, cleaning up included, whoever reads what it says or does not;
//! and an answer that could not be given is no success.

use std::io::{self, PipeReader, PipeWriter};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use crate::common::*;

const LONG: Duration = Duration::from_secs(60);

fn send(signal: &str, to: &Child) {
    assert!(Command::new("kill").args([&format!("-{signal}"), &to.id().to_string()]).status().unwrap().success());
}

/// The end of a run that must come by itself.
fn end(child: &mut Child) -> ExitStatus {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if begun.elapsed() > LONG {
            child.kill().unwrap();
            panic!("it does not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn until(store: &Served, is_there: impl Fn(&Served) -> bool) {
    let begun = Instant::now();
    while !is_there(store) {
        assert!(begun.elapsed() < LONG);
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A put that takes a minute if nobody ends it, has no checkpoint and cleans up therefore.
fn slow_put(file: &Path, store: &Served) -> Command {
    let options = ["--part-size", "100KiB", "--no-checkpoint", "--max-rate", "64KiB/s", "--parallel", "2"];
    put(file, &store.endpoint, &options)
}

#[test]
fn every_signal_that_asks_for_the_end_leaves_time_to_clean_up() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    let (file, _) = random_file(scratch.path(), 4 << 20, 1);
    for signal in ["HUP", "INT", "QUIT", "TERM"] {
        let mut run = slow_put(&file, &store).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        until(&store, |store| !store.open_uploads().is_empty());
        send(signal, &run);
        assert_eq!(end(&mut run).code(), Some(130), "{signal}");
        let said = io::read_to_string(run.stderr.take().unwrap()).unwrap();
        assert!(said.contains("begins again"), "nothing was kept that could be resumed: {said}");
        assert_eq!(store.open_uploads().len(), 0, "{signal}");
    }
}

#[test]
fn a_hang_up_that_was_to_be_ignored_is() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    let (file, content) = random_file(scratch.path(), 400 << 10, 1);
    let plain = put(&file, &store.endpoint, &["--part-size", "100KiB", "--max-rate", "200KiB/s"]);
    let mut run = Command::new("sh");
    run.args(["-c", "trap '' HUP; exec \"$0\" \"$@\""]).arg(plain.get_program()).args(plain.get_args());
    run.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?)))).stdout(Stdio::null());
    let mut run = run.spawn().unwrap();
    until(&store, |store| !store.open_uploads().is_empty());
    send("HUP", &run);
    assert!(end(&mut run).success());
    assert!(store.holds(&content));
}

/// A pipe in which nothing has room, and whose reader does not read.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, writer) = io::pipe().unwrap();
    let flags = fcntl_getfl(&writer).unwrap();
    fcntl_setfl(&writer, flags | OFlags::NONBLOCK).unwrap();
    for piece in [4096, 1] {
        while rustix::io::write(&writer, &vec![0; piece]).is_ok() {}
    }
    fcntl_setfl(&writer, flags).unwrap();
    (reader, writer)
}

#[test]
fn a_pipe_that_nobody_reads_keeps_nothing_from_its_end() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    let (file, _) = random_file(scratch.path(), 4 << 20, 1);
    for is_log in [false, true] {
        let (_reader, writer) = full_pipe();
        let mut run = slow_put(&file, &store);
        match is_log {
            true => run.arg("-vv").stderr(writer).stdout(Stdio::null()),
            false => run.stdout(writer).stderr(Stdio::null()),
        };
        let mut run = run.spawn().unwrap();
        if is_log {
            // Its first line has no room already.
            std::thread::sleep(Duration::from_millis(300));
        } else {
            until(&store, |store| !store.open_uploads().is_empty());
        }
        send("TERM", &run);
        assert_eq!(end(&mut run).code(), Some(130), "log: {is_log}");
        assert_eq!(store.open_uploads().len(), 0, "log: {is_log}");
    }
}

#[test]
fn an_answer_that_cannot_be_written_is_no_success() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    let (file, content) = random_file(scratch.path(), 1000, 1);
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    let put = put(&file, &store.endpoint, &[]).stdout(full()).output().unwrap();
    assert_eq!(exit_code(&put), 1);
    assert!(store.holds(&content), "it is the answer that is lost, and not the object");
    for arguments in [&["stat", "oss://demo/object"][..], &["credentials"], &["--help"]] {
        let mut command = haul();
        command.args(arguments);
        if arguments.len() > 1 {
            command.args(["--endpoint", &store.endpoint, "--region", "cn-hangzhou"]);
        }
        let output = command.stdout(full()).output().unwrap();
        assert_eq!(exit_code(&output), 1, "{arguments:?}: {}", text(&output.stderr));
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        assert_eq!(exit_code(&command.stdout(writer).output().unwrap()), 1, "{arguments:?}: nobody reads");
    }
}

#[test]
fn progress_that_is_wanted_is_shown_where_there_is_no_terminal() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start_null();
    let (file, _) = random_file(scratch.path(), 400 << 10, 1);
    let shown = |when| {
        let output = put(&file, &store.endpoint, &["--part-size", "100KiB", "--progress", when]).output().unwrap();
        assert_eq!(exit_code(&output), 0);
        text(&output.stderr)
    };
    assert!(shown("always").contains("parts done"));
    assert!(!shown("auto").contains("parts done"));
}

#[test]
fn an_age_beyond_all_time_is_an_age() {
    let store = Served::start_null();
    let mut abort = haul();
    abort.args(["uploads", "abort", "oss://demo", "--older-than", "500000000000years"]);
    let output = abort.args(["--endpoint", &store.endpoint, "--region", "cn-hangzhou"]).output().unwrap();
    assert!(matches!(exit_code(&output), 0 | 2), "{}", text(&output.stderr));
    let mut abort = haul();
    abort.args(["uploads", "abort", "oss://demo", "--older-than", "18446744073709551615s"]);
    let output = abort.args(["--endpoint", &store.endpoint, "--region", "cn-hangzhou"]).output().unwrap();
    assert_eq!(exit_code(&output), 0, "{}", text(&output.stderr));
}
