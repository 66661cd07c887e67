//! Judged by a client that is not ours: the official Python SDK against the embedded server, with both signatures.
//!
//! Needs `python3` with `venv`, and once the package index to install `alibabacloud-oss-v2` from; the environment is
//! kept under `target/`.

mod server_support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use haul::server::StoreKind;
use server_support::{ID, SECRET, start};

const PACKAGE: &str = "alibabacloud-oss-v2";

/// The interpreter of an environment in which the SDK is installed.
fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("judge-python");
        let python = venv.join("bin/python");
        if !has_sdk(&python) {
            must("python3", Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv));
            must("pip", Command::new(&python).args(["-m", "pip", "install", "--quiet", PACKAGE]));
        }
        python
    })
}

fn has_sdk(python: &Path) -> bool {
    let import = Command::new(python).args(["-c", "import alibabacloud_oss_v2"]).output();
    import.is_ok_and(|output| output.status.success())
}

fn must(name: &str, command: &mut Command) {
    let needed = format!("this test needs python3 with venv, and pip that can install {PACKAGE}");
    let output = command.output().unwrap_or_else(|error| panic!("{needed}; {name} does not start: {error}"));
    assert!(output.status.success(), "{needed}; {name} failed:\n{}", String::from_utf8_lossy(&output.stderr));
}

fn judge(store: StoreKind, version: &str) {
    let server = start(store);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/judge/python_sdk_v2.py");
    let output = Command::new(python())
        .arg(script)
        .args([&format!("http://{}", server.address), "cn-hangzhou", "demo", version])
        .env("OSS_ACCESS_KEY_ID", ID)
        .env("OSS_ACCESS_KEY_SECRET", SECRET)
        .env("NO_PROXY", "127.0.0.1")
        .output()
        .expect("the judge starts");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.trim() == "agreed", "{version}: {out}\n{err}");
}

#[test]
fn the_official_python_sdk_agrees_with_the_directory_store() {
    for version in ["v4", "v1"] {
        let dir = tempfile::tempdir().unwrap();
        judge(StoreKind::Dir(dir.path().join("store")), version);
    }
}

#[test]
fn the_official_python_sdk_agrees_with_the_memory_store() {
    for version in ["v4", "v1"] {
        judge(StoreKind::Memory, version);
    }
}
