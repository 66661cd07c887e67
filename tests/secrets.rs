//! No secret is shown, written or sent to anybody else: canaries go through every way in which the binary can fail, and
//! all that it printed and every file that came into being is searched for them.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::Ordering;

use crate::common::canned::{canned, http};
use crate::common::*;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};

const CANARY_SECRET: &str = "cAnary-Secret/7Fq9+x2mB";
const CANARY_TOKEN: &str = "CAIS-cAnary-Token/8Kd2+s5=";
const CANARY_PASSWORD: &str = "cAnary-Word-5Tz1";
const PARTS: [&str; 4] = ["--part-size", "100KiB", "--parallel", "1"];
/// The one file that holds a secret because it was put there.
const CONFIG: &str = "ossutilconfig";

/// The canaries as they are, and as they look in addresses, headers and dumps. V4 signs with `aliyun_v4` and the secret.
fn forms() -> Vec<String> {
    let mut forms = vec![STANDARD.encode(format!("user:{CANARY_PASSWORD}"))];
    for canary in [CANARY_SECRET, CANARY_TOKEN, CANARY_PASSWORD, &format!("aliyun_v4{CANARY_SECRET}")] {
        let percent: String = canary
            .bytes()
            .map(|b| match b {
                b if b.is_ascii_alphanumeric() || b == b'-' => (b as char).to_string(),
                b => format!("%{b:02X}"),
            })
            .collect();
        let hex: String = canary.bytes().map(|b| format!("{b:02x}")).collect();
        let encoded = [STANDARD_NO_PAD.encode(canary), URL_SAFE_NO_PAD.encode(canary)];
        forms.extend([canary.to_owned(), percent, hex, canary[..14].to_owned()].into_iter().chain(encoded));
    }
    forms
}

fn canaries_in(bytes: &[u8]) -> Vec<String> {
    let lower = bytes.to_ascii_lowercase();
    let holds = |form: &String| lower.windows(form.len()).any(|piece| piece == form.to_ascii_lowercase().as_bytes());
    forms().into_iter().filter(holds).collect()
}

/// Everything that came into being below a directory.
fn assert_no_canary_below(directory: &Path) {
    for file in files_below(directory) {
        if file.file_name().is_some_and(|name| name != CONFIG) {
            let found = canaries_in(&std::fs::read(&file).unwrap());
            assert!(found.is_empty(), "{} holds {found:?}", file.display());
        }
    }
}

fn assert_silent(output: &Output) {
    for (name, bytes) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
        assert!(canaries_in(bytes).is_empty(), "{name}: {}", text(bytes));
    }
}

/// A directory with a file to send, and the store that checks the canaries.
struct Scene {
    scratch: tempfile::TempDir,
    store: Served,
    file: PathBuf,
}

impl Scene {
    fn new(faults: &[&str]) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let log = |name: &str| scratch.path().join(name).display().to_string();
        let (access, fault) = (log("access.jsonl"), log("faults.jsonl"));
        let rules = faults.iter().flat_map(|rule| ["--fault", *rule]);
        let options: Vec<&str> =
            ["-vvv", "--access-log", &access, "--fault-log", &fault, "--status"].into_iter().chain(rules).collect();
        let mut command = haul();
        with_canaries(&mut command);
        command.stderr(std::fs::File::create(scratch.path().join("server.stderr")).unwrap());
        let store = Served::start_as(command, scratch.path(), &options);
        let (file, _) = random_file(scratch.path(), 350 << 10, 1);
        Self { scratch, store, file }
    }

    fn put(&self, endpoint: &str, options: &[&str]) -> Command {
        let mut command = put(&self.file, endpoint, &[&PARTS[..], &["-vvv"], options].concat());
        with_canaries(&mut command);
        command
    }

    /// Runs a put that must end with `code`, and searches all that is left of it.
    fn ends(&self, mut command: Command, code: i32) -> String {
        let output = command.output().unwrap();
        let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
        assert_silent(&output);
        assert_no_canary_below(self.scratch.path());
        assert_eq!(exit_code(&output), code, "{said}");
        said
    }

    /// A put that waits for an answer that never comes, once a part is done.
    fn held(&self) -> (Child, Vec<u8>) {
        let mut command = self.put(&self.store.endpoint, &[]);
        command.stdout(Stdio::piped()).stderr(std::fs::File::create(self.scratch.path().join("stderr")).unwrap());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut said = Vec::new();
        while !text(&said).contains("part_done") {
            assert_ne!(lines.read_until(b'\n', &mut said).unwrap(), 0, "{}", text(&said));
        }
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        (child, said)
    }
}

fn with_canaries(command: &mut Command) {
    command.env("OSS_ACCESS_KEY_SECRET", CANARY_SECRET).env("OSS_SESSION_TOKEN", CANARY_TOKEN);
    command.env("RUST_LOG", "trace").env("RUST_BACKTRACE", "full").env_remove("HAUL_CORE_DUMPS");
}

#[test]
fn the_search_finds_what_it_is_for() {
    for leak in [
        format!("x{CANARY_SECRET}x"),
        "CAIS-cAnary-Token%2F8Kd2%2Bs5%3D".to_owned(),
        format!("Proxy-Authorization: Basic {}", STANDARD.encode(format!("user:{CANARY_PASSWORD}"))),
        format!("{}...", &CANARY_TOKEN[..15]),
    ] {
        assert!(!canaries_in(leak.as_bytes()).is_empty(), "{leak}");
    }
    let scratch = tempfile::tempdir().unwrap();
    std::fs::write(scratch.path().join("leak"), CANARY_SECRET).unwrap();
    assert!(std::panic::catch_unwind(|| assert_no_canary_below(scratch.path())).is_err());
}

#[test]
fn an_upload_that_works_shows_nothing() {
    let scene = Scene::new(&[]);
    for signature in ["v1", "v4"] {
        let said = scene.ends(scene.put(&scene.store.endpoint, &["--signature", signature]), 0);
        assert!(said.contains("DEBUG"), "the log is on: {said}");
    }
}

#[test]
fn a_store_that_refuses_or_misbehaves_gets_nothing_shown() {
    for (fault, code) in [
        ("any:always:error,code=SecurityTokenExpired", 4),
        ("any:always:error,code=InvalidAccessKeyId", 4),
        ("UploadPart:always:error,code=AccessDenied,part=2", 4),
        ("InitiateMultipartUpload:always:garbage-xml", 1),
        ("UploadPart:always:wrong-crc", 6),
        ("UploadPart:always:reset-within", 7),
    ] {
        let scene = Scene::new(&[fault]);
        scene.ends(scene.put(&scene.store.endpoint, &[]), code);
    }
}

#[test]
fn a_wrong_secret_is_refused_without_either_of_them() {
    let scene = Scene::new(&[]);
    for signature in ["v1", "v4"] {
        let mut command = scene.put(&scene.store.endpoint, &["--signature", signature]);
        command.env("OSS_ACCESS_KEY_SECRET", "another-secret");
        assert!(scene.ends(command, 4).contains("SignatureDoesNotMatch"));
        let mut command = scene.put(&scene.store.endpoint, &["--signature", signature]);
        command.env("OSS_SESSION_TOKEN", "another-token");
        scene.ends(command, 4);
    }
}

#[test]
fn nobody_at_the_other_end_and_a_port_without_tls_show_nothing() {
    let scene = Scene::new(&[]);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    scene.ends(scene.put(&format!("http://{nobody}"), &[]), 7);
    let (not_tls, _) = canned(|_| http("400 Bad Request", "", ""));
    scene.ends(scene.put(&format!("https://{not_tls}"), &[]), 4);
}

#[test]
fn whoever_echoes_the_request_is_not_repeated() {
    let scene = Scene::new(&[]);
    let pages: [fn(&str) -> String; 4] = [
        |head| format!("<Error><Code>AccessDenied</Code><Message>{head}</Message></Error>"),
        |head| {
            let token = head.split("oken: ").nth(1).unwrap_or("").split('\r').next().unwrap_or("");
            let filler = "x".repeat(180);
            format!(
                "<Error><Code>{token}</Code><Message>{filler}{token}</Message><RequestId>{token}</RequestId></Error>"
            )
        },
        |head| format!("<html><body>You asked: {head}</body></html>"),
        |head| head.to_owned(),
    ];
    for page in pages {
        let (echo, _) = canned(move |head| http("403 Forbidden", "", &page(head)));
        let proxy = format!("http://user:{CANARY_PASSWORD}@{echo}");
        for signature in ["v1", "v4"] {
            scene.ends(scene.put(&format!("http://{echo}"), &["--signature", signature]), 4);
            scene.ends(scene.put(&scene.store.endpoint, &["--signature", signature, "--proxy", &proxy]), 4);
        }
        scene.ends(scene.put("https://127.0.0.1:1", &["--proxy", &proxy]), 5);
    }
}

#[test]
fn a_proxy_that_cannot_be_used_is_named_without_its_password() {
    let scene = Scene::new(&[]);
    let mut command = scene.put(&scene.store.endpoint, &[]);
    command.env("HTTP_PROXY", format!("socks5://user:{CANARY_PASSWORD}@127.0.0.1:1"));
    scene.ends(command, 5);
    let proxy = format!("http://user:{CANARY_PASSWORD}@127.0.0.1:1");
    scene.ends(scene.put(&scene.store.endpoint, &["--proxy", &proxy]), 7);
}

#[test]
fn configuration_that_is_wrong_is_named_without_what_it_holds() {
    let scene = Scene::new(&[]);
    let config = scene.scratch.path().join(CONFIG);
    for content in [
        format!("[Credentials\naccessKeySecret={CANARY_SECRET}\n"),
        format!("[Credentials]\naccessKeySecret={CANARY_SECRET}\n"),
        format!("[Credentials]\n{CANARY_SECRET}\n"),
        format!("[Credentials]\naccessKeyID=i\naccessKeySecret=s\nstsToken={CANARY_TOKEN} {CANARY_TOKEN}\n"),
    ] {
        std::fs::write(&config, content).unwrap();
        scene.ends(scene.put(&scene.store.endpoint, &["--config", config.to_str().unwrap()]), 4);
    }
    let mut command = scene.put(&scene.store.endpoint, &[]);
    command.env("OSS_SESSION_TOKEN", format!("{CANARY_TOKEN}\n{CANARY_TOKEN}"));
    scene.ends(command, 4);
}

#[test]
fn a_checkpoint_that_cannot_be_written_and_a_file_that_changed_show_nothing() {
    let scene = Scene::new(&["UploadPart:#2:error,code=AccessDenied"]);
    let whole = scene.put(&scene.store.endpoint, &[]);
    let mut limited = Command::new("sh");
    limited
        .args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$@\"", "sh"])
        .arg(whole.get_program())
        .args(whole.get_args());
    limited.env("OSS_ACCESS_KEY_ID", ID);
    with_canaries(&mut limited);
    scene.ends(limited, 8);
    scene.ends(scene.put(&scene.store.endpoint, &[]), 4);
    assert!(scene.file.with_added_extension("cp").exists(), "a checkpoint was searched");
    std::fs::write(&scene.file, vec![7; 350 << 10]).unwrap();
    assert!(scene.ends(scene.put(&scene.store.endpoint, &[]), 0).contains("started_over"));
}

#[test]
fn a_run_that_is_killed_or_interrupted_leaves_nothing() {
    for (signal, code) in [("KILL", None), ("INT", Some(130))] {
        let scene = Scene::new(&["UploadPart:always:hang,part=2"]);
        let (mut child, said) = scene.held();
        let line = std::fs::read(format!("/proc/{}/cmdline", child.id())).unwrap();
        assert!(canaries_in(&line).is_empty() && canaries_in(&said).is_empty());
        Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status().unwrap();
        assert_eq!(child.wait().unwrap().code(), code);
        assert!(scene.file.with_added_extension("cp").exists(), "a checkpoint was searched");
        assert_no_canary_below(scene.scratch.path());
    }
}

#[test]
fn a_redirect_takes_the_request_nowhere() {
    let scene = Scene::new(&[]);
    let (other, visits) = canned(|_| http("200 OK", "", ""));
    let location = format!("location: http://{other}/demo/object?uploads\r\n");
    for status in ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let (store, _) = canned({
            let location = location.clone();
            move |_| http(status, &location, "")
        });
        let said = scene.ends(scene.put(&format!("http://{store}"), &[]), 5);
        assert!(said.contains("redirects are not followed"), "{said}");
    }
    assert_eq!(visits.load(Ordering::SeqCst), 0);
}

fn core_limit(pid: &str) -> String {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap()
        .split_whitespace()
        .nth(4)
        .unwrap()
        .into()
}

#[test]
fn no_core_dump_is_made_unless_it_is_asked_for() {
    let scene = Scene::new(&["UploadPart:always:hang,part=2"]);
    let (mut child, _) = scene.held();
    assert_eq!(core_limit(&child.id().to_string()), "0");
    Command::new("kill").args(["-ABRT", &child.id().to_string()]).status().unwrap();
    let ended = child.wait().unwrap();
    assert!(!std::os::unix::process::ExitStatusExt::core_dumped(&ended), "{ended}");
    let mut command = haul();
    command.env("HAUL_CORE_DUMPS", "1");
    command.args(["serve", "--store", "null", "--listen", "127.0.0.1:0"]).stdout(Stdio::piped());
    let mut allowed = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(allowed.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(core_limit(&allowed.id().to_string()), core_limit("self"));
    allowed.kill().unwrap();
    allowed.wait().unwrap();
}
