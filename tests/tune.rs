//! `haul tune` against `haul serve`: what it finds, what it leaves, and what `haul put` makes of it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::common::*;
use serde_json::Value;

const MIB: usize = 1 << 20;
/// A line on which one connection carries next to nothing of what many carry.
const LONG_LINE: &str = "rtt=20ms,connection-rate=8MB/s";

/// `haul tune oss://demo/below/`, with a configuration directory of its own. Short by its bytes, so that what it finds does not
/// depend on the machine's speed.
fn tune(endpoint: &str, config: &Path, options: &[&str]) -> Command {
    let mut command = haul();
    command
        .args(["tune", "oss://demo/below/", "--endpoint", endpoint, "--region", "cn-hangzhou", "--attempts", "2"])
        .args(["--budget-bytes", "128MiB", "--budget-time", "60s"])
        .args(options)
        .env("XDG_CONFIG_HOME", config)
        .stdin(Stdio::null());
    command
}

fn run_well(mut command: Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    output
}

fn profile(path: &Path) -> toml::Table {
    toml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Where the profile of an endpoint is kept.
fn place(config: &Path, endpoint: &str) -> PathBuf {
    config.join("haul/tuned").join(format!("{}.toml", endpoint.split("://").nth(1).unwrap()))
}

/// What `haul put --dry-run` plans for a file of 20 MiB, and what it says on standard error.
fn planned(scratch: &Path, config: &Path, endpoint: &str, options: &[&str]) -> (Value, String) {
    let (file, _) = random_file(scratch, 20 * MIB, 1);
    let output = run_well({
        let mut command = put(&file, endpoint, &[&["--dry-run"], options].concat());
        command.env("XDG_CONFIG_HOME", config);
        command
    });
    (json_lines(&output.stdout).remove(0), text(&output.stderr))
}

/// A profile as `haul tune` writes it, with other settings.
fn write_profile(path: &Path, settings: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let text = format!(
        "format = 1\nhaul = 'x'\ndate = 'x'\nendpoint = 'x'\nmachine = 'x'\nsample_bytes = 1\ncold = false\ntried = []\n\
         [chosen]\n{settings}\nbytes_per_second = 1.0\n\
         [cost]\nbytes = 1\nseconds = 1.0\nuploads = 1\nbudget_bytes = 1\nbudget_seconds = 1.0\nended = 'decided'\n\
         [survey]\ncores = 1\ndisk = 1.0\ncrc64 = 1.0\nencryption = 1.0\nconnection = 1.0\nlatency = 1.0\n\
         one_connection = 1.0\nautomatic = 1.0\n"
    );
    std::fs::write(path, text).unwrap();
}

/// Neither an object nor an upload, nor a file with their bytes.
fn assert_nothing_left(store: &Served) {
    assert_eq!(store.open_uploads(), [Value::Null; 0]);
    let large: Vec<_> =
        files_below(&store.directory).into_iter().filter(|p| p.metadata().is_ok_and(|m| m.len() > 100 << 10)).collect();
    assert!(large.is_empty(), "{large:?}");
}

#[test]
fn many_parts_in_flight_are_found_on_a_long_line_and_put_uses_them() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start_with(scratch.path(), &["--shape", LONG_LINE]);
    let page = scratch.path().join("report.html");
    let output = run_well(tune(&store.endpoint, scratch.path(), &["--report", page.to_str().unwrap()]));
    assert_nothing_left(&store);

    let path = place(scratch.path(), &store.endpoint);
    assert!(text(&output.stdout).contains(path.to_str().unwrap()), "{}", text(&output.stdout));
    let found = profile(&path);
    let chosen = found["chosen"].as_table().unwrap();
    // Not there: haul without a profile, which finds as much by itself.
    let parallel = chosen.get("parallel").map(|n| n.as_integer().unwrap());
    assert!(parallel.is_none_or(|n| n > 2), "{found}");
    let one = found["survey"]["one_connection"].as_float().unwrap();
    assert!(chosen["bytes_per_second"].as_float() > Some(2.0 * one), "{found}");
    assert!(found["survey"]["latency"].as_float() >= Some(0.02), "{found}");
    assert!(!found["tried"].as_array().unwrap().is_empty(), "{found}");
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("<svg") && !page.contains("<script") && !page.contains("src="));

    let (plan, said) = planned(scratch.path(), scratch.path(), &store.endpoint, &[]);
    assert_eq!(plan["tuned"], path.to_str().unwrap());
    assert_eq!(plan["parallel"].as_i64(), parallel);
    let own = planned(scratch.path(), scratch.path(), &store.endpoint, &["--no-tuned"]).0["part_bytes"].as_i64();
    assert_eq!(plan["part_bytes"].as_i64(), chosen.get("part_bytes").map_or(own, |bytes| bytes.as_integer()));
    assert!(said.contains(path.to_str().unwrap()), "{said}");
    let (plan, _) = planned(scratch.path(), scratch.path(), &store.endpoint, &["--no-tuned"]);
    assert_eq!((&plan["tuned"], &plan["parallel"]), (&Value::Null, &"auto".into()));
}

#[test]
fn an_option_that_is_typed_wins_over_the_profile() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("mine.toml");
    write_profile(&path, "reader = 'pread'\nparallel = 3\npart_bytes = 524288\nthreads = 1");
    let plan = |options: &[&str]| {
        let named = ["--tuned", path.to_str().unwrap()];
        planned(scratch.path(), scratch.path(), "http://127.0.0.1:9", &[&named, options].concat()).0
    };
    let tuned = plan(&[]);
    assert_eq!(
        (&tuned["parallel"], &tuned["part_bytes"], &tuned["reader"]),
        (&3.into(), &524_288.into(), &"pread".into())
    );
    let typed = plan(&["--parallel", "auto", "--part-size", "auto", "--reader", "mmap"]);
    assert_eq!(
        (&typed["parallel"], &typed["part_bytes"], &typed["reader"]),
        (&"auto".into(), &MIB.into(), &"mmap".into())
    );
    let all = plan(&["--parallel", "auto", "--part-size", "auto", "--reader", "mmap", "--threads", "2"]);
    assert_eq!(all["tuned"], Value::Null, "nothing was taken from it");
}

/// A profile may have been made where more was allowed.
#[test]
fn a_profile_that_asks_for_more_than_is_allowed_here_is_trimmed_and_what_is_typed_is_not() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("mine.toml");
    write_profile(&path, "parallel = 64\npart_bytes = 1048576\nchunk_bytes = 65536\nthreads = 1");
    let named = ["--tuned", path.to_str().unwrap(), "--memory", "4MiB", "--reader", "pread"];
    let (plan, said) = planned(scratch.path(), scratch.path(), "http://127.0.0.1:9", &named);
    assert_eq!(plan["parallel"], 4, "as many as there are buffers for");
    assert_eq!(plan["buffer_bytes"], 4 * 2 * 65536, "of the profile's chunks");
    assert!(said.contains("4 parts in flight (not 64: no more are allowed here)"), "{said}");
    let (file, _) = random_file(scratch.path(), MIB, 1);
    let typed = put(&file, "http://127.0.0.1:9", &[&named[..], &["--parallel", "64", "--dry-run"]].concat());
    assert_eq!(exit_code(&{ typed }.output().unwrap()), 2);
}

#[test]
fn a_profile_that_cannot_be_used_is_warned_of_and_the_upload_succeeds() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    let path = place(scratch.path(), &store.endpoint);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let (file, content) = random_file(scratch.path(), MIB, 1);
    for garbage in ["\u{1}\u{2}garbage", "format = 99\n", "format = 1\n"] {
        std::fs::write(&path, garbage).unwrap();
        let mut command = put(&file, &store.endpoint, &[]);
        command.env("XDG_CONFIG_HOME", scratch.path());
        let output = run_well(command);
        let said = text(&output.stderr);
        assert!(said.contains("warning") && said.contains(path.to_str().unwrap()), "{said}");
        assert_eq!(named(&json_lines(&output.stdout), "planned")[0]["tuned"], Value::Null);
    }
    assert!(store.holds(&content));
}

/// Another part length would start it over.
#[test]
fn an_upload_that_was_begun_before_the_profile_goes_on_with_its_parts() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start_with(scratch.path(), &["--fault", "UploadPart:#7:error,code=AccessDenied"]);
    let (file, content) = random_file(scratch.path(), 10 * MIB, 1);
    let begin = put(&file, &store.endpoint, &["--parallel", "1", "--no-tuned"]).output().unwrap();
    assert_eq!(exit_code(&begin), 4, "{}", text(&begin.stderr));

    let path = scratch.path().join("p.toml");
    write_profile(&path, "parallel = 2\npart_bytes = 2097152\nthreads = 1");
    let events = put_well(&file, &store.endpoint, &["--tuned", path.to_str().unwrap()]);
    let plan = named(&events, "planned")[0];
    assert_eq!((&plan["part_bytes"], &plan["parallel"]), (&MIB.into(), &2.into()));
    assert_eq!(named(&events, "resumed")[0]["parts"], 6);
    assert!(store.holds(&content));
}

#[test]
fn an_interrupted_run_leaves_nothing_and_saves_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start_with(scratch.path(), &["--shape", LONG_LINE]);
    let mut command = tune(&store.endpoint, scratch.path(), &[]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while store.stored_parts() == 0 {
        assert!(child.try_wait().unwrap().is_none(), "it has ended by itself");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(exit_code(&output), 130, "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("interrupted"), "{}", text(&output.stderr));
    assert_nothing_left(&store);
    assert!(!place(scratch.path(), &store.endpoint).exists());
}

/// What arrives is counted by the store, not by the client.
#[test]
fn no_more_bytes_are_sent_than_the_budget_allows() {
    let scratch = tempfile::tempdir().unwrap();
    let log = scratch.path().join("access.jsonl");
    let store = Served::start_null_with(&["--access-log", log.to_str().unwrap()]);
    run_well(tune(&store.endpoint, scratch.path(), &[]));
    let requests = json_lines(&std::fs::read(&log).unwrap());
    let bytes: u64 = requests.iter().filter_map(|r| r["bytes_in"].as_u64()).sum();
    let allowed = 128 * MIB as u64;
    // The documents of Complete count here too.
    assert!(bytes > allowed / 2 && bytes < allowed + MIB as u64, "{bytes}");
    let path = place(scratch.path(), &store.endpoint);
    assert_eq!(profile(&path)["cost"]["ended"].as_str(), Some("out_of_bytes"));
}

#[test]
fn what_cannot_be_removed_is_said_with_the_command_that_removes_it() {
    let scratch = tempfile::tempdir().unwrap();
    let fault = ["--fault", "DeleteObject:#1:error,code=AccessDenied", "--shape", LONG_LINE];
    let store = Served::start_with(scratch.path(), &fault);
    let output = tune(&store.endpoint, scratch.path(), &[]).output().unwrap();
    assert_eq!(exit_code(&output), 4, "{}", text(&output.stderr));
    let said = text(&output.stderr);
    let command = said.lines().find_map(|line| line.trim().strip_prefix("haul tune clean ")).expect(&said);
    assert!(place(scratch.path(), &store.endpoint).exists(), "what was found is kept");

    let reach = ["--endpoint", &store.endpoint, "--region", "cn-hangzhou"];
    let other = haul().args(["tune", "clean", "oss://demo/below/precious"]).args(reach).output().unwrap();
    assert_eq!(exit_code(&other), 2, "only what a run made is ever removed");
    let mut clean = haul();
    clean.args(["tune", "clean"]).args(command.split(' ').map(|word| word.trim_matches('\'')));
    run_well(clean);
    assert_nothing_left(&store);
}

#[test]
fn a_shape_is_tuned_for_without_an_account_and_its_profiles_can_be_compared() {
    let scratch = tempfile::tempdir().unwrap();
    let shaped = |out: &[&str]| {
        let mut command = haul();
        command.args(["tune", "--shape", "rtt=2ms,connection-rate=40MB/s", "--budget-bytes", "128MiB"]).args(out);
        command.env("XDG_CONFIG_HOME", scratch.path()).env_remove("OSS_ACCESS_KEY_ID");
        text(&run_well(command).stdout)
    };
    assert!(shaped(&[]).contains("--out"), "it says how to save the profile");
    assert!(!scratch.path().join("haul").exists());
    let path = scratch.path().join("far.toml");
    let path = path.to_str().unwrap();
    shaped(&["--out", path]);
    let compared = text(
        &run_well({
            let mut command = haul();
            command.args(["tune", "compare", path, path]);
            command
        })
        .stdout,
    );
    assert!(compared.contains("chosen") && compared.contains("+0.0 %"), "{compared}");
    let refused = haul().args(["tune", "compare", path, "/dev/null"]).output().unwrap();
    assert_eq!(exit_code(&refused), 2, "{}", text(&refused.stderr));
}

#[test]
fn an_endpoint_that_refuses_ends_the_run_with_its_reason() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    let refused = |mut command: Command| {
        let output = command.output().unwrap();
        (exit_code(&output), text(&output.stderr))
    };
    let mut command = tune(&store.endpoint, scratch.path(), &[]);
    command.env("OSS_ACCESS_KEY_SECRET", "wrong");
    let (code, said) = refused(command);
    assert_eq!(code, 4, "{said}");
    let mut command = haul();
    command.args(["tune", "oss://no-such-bucket", "--endpoint", &store.endpoint, "--region", "cn-hangzhou"]);
    command.env("XDG_CONFIG_HOME", scratch.path());
    let (code, said) = refused(command);
    assert!(code == 5 && said.contains("NoSuchBucket"), "{code} {said}");
    assert!(!place(scratch.path(), &store.endpoint).exists());
}
