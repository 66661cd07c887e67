//! What the tests share: the binary, a served store, files of known content.
#![allow(dead_code, reason = "every test binary uses another part of it")]

pub mod canned;
pub mod meddler;
pub mod traced;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

pub const ID: &str = "test-id";
pub const SECRET: &str = "test-secret-0123456789";

/// The binary, with a key and nothing else of the environment that could change what it does.
pub fn haul() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_haul"));
    for name in [
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "NO_PROXY",
        "no_proxy",
        "HAUL_ENDPOINT",
    ] {
        command.env_remove(name);
    }
    command.env("OSS_ACCESS_KEY_ID", ID).env("OSS_ACCESS_KEY_SECRET", SECRET).env_remove("OSS_ENDPOINT");
    command.env_remove("OSS_SESSION_TOKEN");
    // Nobody asks the network of the machine that runs the tests.
    command.env("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true");
    command
}

/// `haul serve` over a directory, with the bucket `demo`.
pub struct Served {
    child: Child,
    /// Kept open: a server that cannot print ends.
    _lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
    pub endpoint: String,
    pub directory: PathBuf,
}

impl Served {
    pub fn start(directory: &Path) -> Self {
        Self::start_with(directory, &[])
    }

    pub fn start_with(directory: &Path, options: &[&str]) -> Self {
        Self::start_as(haul(), directory, options)
    }

    /// With a command whose environment may say more.
    pub fn start_as(command: Command, directory: &Path, options: &[&str]) -> Self {
        let directory = directory.join("store");
        Self::start_on(command, &format!("dir:{}", directory.display()), directory, options)
    }

    /// A store that keeps sizes and checksums only.
    pub fn start_null() -> Self {
        Self::start_null_with(&[])
    }

    pub fn start_null_with(options: &[&str]) -> Self {
        Self::start_on(haul(), "null", PathBuf::new(), options)
    }

    fn start_on(mut command: Command, store: &str, directory: PathBuf, options: &[&str]) -> Self {
        let mut child = command
            .args(["serve", "--store", store, "--listen", "127.0.0.1:0"])
            .args(["--access-key-id", ID, "--region", "cn-hangzhou", "--bucket", "demo"])
            .args(options)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let endpoint = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.split([' ', '\'']).find(|w| w.contains("://127.")).map(str::to_owned))
            .expect("the store says where it listens");
        Self { child, _lines: lines, endpoint: endpoint.trim_end_matches(['/', '.', ',']).to_owned(), directory }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn address(&self) -> SocketAddr {
        self.endpoint.split("://").nth(1).unwrap().parse().unwrap()
    }

    /// Whether some stored file holds exactly these bytes.
    pub fn holds(&self, bytes: &[u8]) -> bool {
        files_below(&self.directory).iter().any(|path| {
            path.metadata().is_ok_and(|m| m.len() == bytes.len() as u64) && std::fs::read(path).unwrap() == bytes
        })
    }

    /// The unfinished uploads of the bucket.
    pub fn open_uploads(&self) -> Vec<Value> {
        let output = haul()
            .args(["uploads", "list", "oss://demo", "--json", "--endpoint", &self.endpoint, "--region", "cn-hangzhou"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        json_lines(&output.stdout)
    }

    /// How many parts of unfinished uploads the store keeps. A kill in the moment between the store's answer to Initiate
    /// and its record leaves an upload behind, but never one with parts.
    pub fn stored_parts(&self) -> usize {
        let uploads = files_below(&self.directory.join("uploads"));
        uploads.iter().filter(|path| path.file_name().is_none_or(|name| name != "upload.json")).count()
    }

    /// What `haul stat` says of an object of the bucket.
    pub fn stat(&self, key: &str) -> Value {
        let url = format!("oss://demo/{key}");
        let output = haul()
            .args(["stat", &url, "--json", "--endpoint", &self.endpoint, "--region", "cn-hangzhou"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        json_lines(&output.stdout).pop().unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files
}

/// `haul put FILE oss://demo/object`.
pub fn put(file: &Path, endpoint: &str, options: &[&str]) -> Command {
    let mut command = haul();
    command
        .arg("put")
        .arg(file)
        .args(["oss://demo/object", "--endpoint", endpoint, "--region", "cn-hangzhou", "--json"])
        .args(options)
        .stdin(Stdio::null());
    if !options.contains(&"--attempts") {
        // Runs that are to fail need not be as patient as the default.
        command.args(["--attempts", "5"]);
    }
    command
}

/// Runs a put that must succeed; gives all events.
pub fn put_well(file: &Path, endpoint: &str, options: &[&str]) -> Vec<Value> {
    let output = put(file, endpoint, options).output().unwrap();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    json_lines(&output.stdout)
}

pub fn exit_code(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("ended by a signal: {}", text(&output.stderr)))
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Every whole line that is JSON; a killed process may leave half a line.
pub fn json_lines(bytes: &[u8]) -> Vec<Value> {
    bytes.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

pub fn named<'a>(events: &'a [Value], name: &str) -> Vec<&'a Value> {
    events.iter().filter(|e| e["event"] == name).collect()
}

/// Numbers of the parts that were sent, not adopted.
pub fn parts_sent(events: &[Value]) -> BTreeSet<u64> {
    named(events, "part_done")
        .iter()
        .filter(|e| e["attempts"].as_u64() > Some(0))
        .map(|e| e["part"].as_u64().unwrap())
        .collect()
}

/// A file of `bytes` bytes that do not repeat and depend on `seed`.
pub fn random_file(directory: &Path, bytes: usize, seed: u64) -> (PathBuf, Vec<u8>) {
    let mut content = vec![0; bytes];
    fastrand::Rng::with_seed(seed).fill(&mut content);
    let path = directory.join(format!("file-{seed}"));
    std::fs::File::create(&path).unwrap().write_all(&content).unwrap();
    (path, content)
}
