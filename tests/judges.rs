//! Judged by clients that are not ours: official SDKs against the embedded server, with both signatures, in the clear and
//! over TLS, with the right secret and with a wrong one.
//!
//! Needs `python3` with `venv`, `node` with `npm`, and once their package indexes to install the SDKs from; the
//! environments are kept under `target/`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::server_support::{ID, Running, SECRET, config, try_start};
use haul::server::{StoreKind, Tls};

const PYTHON_SDKS: [&str; 2] = ["oss2==2.19.1", "alibabacloud-oss-v2==1.4.1"];
const NODE_SDK: &str = "ali-oss@6.23.0";

/// The third part of what the judges break off is refused once.
const BROKEN: &str = "UploadPart:always:error,code=InvalidAccessKeyId,key=broken/,part=3,times=1";

fn target(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

fn must(command: &mut Command) {
    let needed = "the judges need python3 with venv, node with npm, and their package indexes once";
    let output = command.output().unwrap_or_else(|error| panic!("{needed}; {command:?} does not start: {error}"));
    assert!(output.status.success(), "{needed}; {command:?} failed:\n{}", String::from_utf8_lossy(&output.stderr));
}

/// Makes `directory` by `make` unless it was made for these packages before.
fn prepared(name: &str, packages: &str, make: impl Fn(&Path)) -> PathBuf {
    let directory = target(name);
    let mark = directory.join("prepared");
    if std::fs::read_to_string(&mark).ok().as_deref() != Some(packages) {
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(&directory).unwrap();
        make(&directory);
        std::fs::write(mark, packages).unwrap();
    }
    directory
}

/// The interpreter of an environment in which both Python SDKs are installed.
fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let directory = prepared("judge-python", &PYTHON_SDKS.join(" "), |directory| {
            must(Command::new("python3").args(["-m", "venv", "--clear"]).arg(directory));
            let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
            must(Command::new(directory.join("bin/python")).args(pip).args(PYTHON_SDKS));
        });
        directory.join("bin/python")
    })
}

/// A folder of Node modules with the JavaScript SDK.
fn node_modules() -> &'static Path {
    static MODULES: OnceLock<PathBuf> = OnceLock::new();
    MODULES.get_or_init(|| {
        let directory = prepared("judge-node", NODE_SDK, |directory| {
            let install = ["install", "--silent", "--no-audit", "--no-fund", "--prefix"];
            must(Command::new("npm").args(install).arg(directory).arg(NODE_SDK));
        });
        directory.join("node_modules")
    })
}

/// A judge at work: what it said.
fn verdict(script: &str, endpoint: &str, version: &str, ca: Option<&Path>) -> String {
    let mut command = match script.ends_with(".js") {
        true => Command::new("node"),
        false => Command::new(python()),
    };
    if script.ends_with(".js") {
        command.env("NODE_PATH", node_modules());
    }
    if let Some(ca) = ca {
        command.env("REQUESTS_CA_BUNDLE", ca).env("NODE_EXTRA_CA_CERTS", ca);
    }
    let output = command
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/judge").join(script))
        .args([endpoint, "cn-hangzhou", "demo", version])
        .env("OSS_ACCESS_KEY_ID", ID)
        .env("OSS_ACCESS_KEY_SECRET", SECRET)
        .env("NO_PROXY", "127.0.0.1")
        .output()
        .unwrap_or_else(|error| panic!("the judges need python3 and node: {error}"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() { out.trim().to_owned() } else { format!("{out}{err}") }
}

fn serve(store: StoreKind, tls: Option<Tls>, faults: &[&str]) -> Running {
    let mut config = config(store);
    config.faults.rules = faults.iter().map(|rule| rule.parse().unwrap()).collect();
    config.tls = tls;
    try_start(config).unwrap()
}

/// Both signatures, in the clear and over TLS; a new store for each.
fn judge(script: &str) {
    let scratch = tempfile::tempdir().unwrap();
    // ali-oss checks the certificate for the public name of the bucket whatever the endpoint is.
    let names = ["127.0.0.1", "demo.oss-cn-hangzhou.aliyuncs.com"].map(str::to_owned);
    let made = rcgen::generate_simple_self_signed(names.to_vec()).unwrap();
    let ca = scratch.path().join("ca.pem");
    std::fs::write(&ca, made.cert.pem()).unwrap();
    for version in ["v4", "v1"] {
        let plain = serve(StoreKind::Dir(scratch.path().join(version)), None, &[BROKEN]);
        let said = verdict(script, &format!("http://{}", plain.address), version, None);
        assert_eq!(said, "agreed", "{version}, in the clear");
        let key_pem = made.signing_key.serialize_pem().into_bytes().into();
        let tls = Tls { certificates_pem: made.cert.pem().into_bytes(), key_pem };
        let secure = serve(StoreKind::Memory, Some(tls), &[BROKEN]);
        let said = verdict(script, &format!("https://{}", secure.address), version, Some(&ca));
        assert_eq!(said, "agreed", "{version}, over TLS");
    }
}

#[test]
fn the_python_sdk_oss2_agrees_with_the_server() {
    judge("oss2_sdk.py");
}

#[test]
fn the_python_sdk_v2_agrees_with_the_server() {
    judge("oss_v2_sdk.py");
}

#[test]
fn the_javascript_sdk_agrees_with_the_server() {
    judge("ali_oss_sdk.js");
}

#[test]
fn every_judge_notices_one_flipped_bit_and_one_wrong_length() {
    for script in ["oss2_sdk.py", "oss_v2_sdk.py", "ali_oss_sdk.js"] {
        for defect in ["GetObject:#1:flip,at=5", "GetObject:#1:short", "UploadPart:#2:flip,key=broken/"] {
            let server = serve(StoreKind::Memory, None, &[BROKEN, defect]);
            let said = verdict(script, &format!("http://{}", server.address), "v4", None);
            assert!(!said.is_empty() && !said.contains("agreed"), "{script} with {defect}: {said}");
        }
    }
}
