//! The binary's answers to commands that cannot work.

use std::process::Command;

fn exit_code(args: &[&str]) -> Option<i32> {
    Command::new(env!("CARGO_BIN_EXE_haul")).args(args).env_clear().output().unwrap().status.code()
}

#[test]
fn a_command_that_cannot_work_ends_with_2() {
    let put = ["put", "f", "oss://bucket/k"];
    for more in [["--part-size", "1KB"], ["--parallel", "0"], ["--threads", "257"], ["--meta", "x"], ["--secret", "s"]]
    {
        assert_eq!(exit_code(&[&put[..], &more[..]].concat()), Some(2), "{more:?}");
    }
    assert_eq!(exit_code(&put), Some(2), "no endpoint");
    assert_eq!(exit_code(&["put", "f", "http://bucket/k"]), Some(2));
}

#[test]
fn help_ends_with_0() {
    assert_eq!(exit_code(&["put", "--help"]), Some(0));
}
