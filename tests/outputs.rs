//! Files that a command is asked to write: they never take the place of what it reads, nor of what is no file, they keep
//! what can be kept of what they replace, and a place that cannot be written is refused before any work.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use haul::model::receipt::Receipt;

use crate::common::*;

const KIB: usize = 1 << 10;

struct Scene {
    scratch: tempfile::TempDir,
    store: Served,
    file: PathBuf,
    content: Vec<u8>,
}

impl Scene {
    fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let store = Served::start(scratch.path());
        let (file, content) = random_file(scratch.path(), 350 * KIB, 1);
        Self { scratch, store, file, content }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn put(&self, receipt: &Path, options: &[&str]) -> Output {
        let options = [&["--part-size", "100KiB", "--receipt", receipt.to_str().unwrap()], options].concat();
        put(&self.file, &self.store.endpoint, &options).output().unwrap()
    }

    fn put_well(&self, receipt: &Path) {
        let output = self.put(receipt, &[]);
        assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    }

    fn refused(&self, receipt: &Path, options: &[&str]) {
        let output = self.put(receipt, options);
        assert_eq!(exit_code(&output), 8, "{}: {}", receipt.display(), text(&output.stderr));
        assert!(text(&output.stderr).contains("receipt"), "{}", text(&output.stderr));
        assert!(!self.store.holds(&self.content) && self.store.open_uploads().is_empty(), "something was sent");
        assert_eq!(std::fs::read(&self.file).unwrap(), self.content);
    }
}

fn is_receipt(bytes: &[u8]) -> bool {
    Receipt::from_json(bytes).is_ok()
}

#[test]
fn a_receipt_never_takes_the_place_of_what_the_upload_reads_or_needs() {
    let scene = Scene::new();
    std::fs::hard_link(&scene.file, scene.at("hard")).unwrap();
    symlink("hard", scene.at("link")).unwrap();
    for name in ["file-1", "hard", "link", "../file-1"] {
        scene.refused(&scene.at("store").join("..").join(name.trim_start_matches("../")), &[]);
    }
    scene.refused(&scene.at("file-1.cp"), &[]);
    scene.refused(&scene.at("file-1.cp.lock"), &[]);
    symlink("checkpoint", scene.at("other")).unwrap();
    scene.refused(&scene.at("other"), &["--checkpoint", scene.at("checkpoint").to_str().unwrap()]);
    for option in ["--config", "--ca-cert", "--tuned"] {
        let input = scene.at("input");
        std::fs::write(&input, "[Credentials]\nendpoint=e\n").unwrap();
        scene.refused(&input, &[option, input.to_str().unwrap()]);
        assert_eq!(std::fs::read(&input).unwrap(), b"[Credentials]\nendpoint=e\n", "{option}");
    }
}

#[test]
fn a_receipt_keeps_the_mode_and_the_links_of_the_file_that_it_replaces() {
    let scene = Scene::new();
    let (target, link) = (scene.at("target"), scene.at("link"));
    symlink("target", &link).unwrap();
    for mode in [0o600, 0o640] {
        std::fs::write(&target, "old").unwrap();
        std::fs::set_permissions(&target, std::fs::Permissions::from_mode(mode)).unwrap();
        scene.put_well(&link);
        assert_eq!(target.metadata().unwrap().mode() & 0o777, mode);
        assert!(is_receipt(&std::fs::read(&target).unwrap()));
        assert_eq!(std::fs::read_link(&link).unwrap(), Path::new("target"));
    }
    let long = scene.at(&"r".repeat(255));
    scene.put_well(&long);
    assert!(is_receipt(&std::fs::read(long).unwrap()));
}

#[test]
fn a_receipt_is_written_into_what_is_no_file() {
    let scene = Scene::new();
    let fifo = scene.at("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let reader = std::thread::spawn({
        let fifo = fifo.clone();
        move || std::fs::read(fifo).unwrap()
    });
    scene.put_well(&fifo);
    assert!(is_receipt(&reader.join().unwrap()));
    scene.put_well(Path::new("/dev/null"));
    assert!(!std::fs::metadata("/dev/null").unwrap().is_file());

    let quiet = |place: &str, out: Stdio| {
        let mut command = haul();
        command.arg("put").arg(&scene.file).args(["oss://demo/object", "--endpoint", &scene.store.endpoint, "-q"]);
        command.args(["--region", "cn-hangzhou", "--receipt", place]).stdout(out).output().unwrap()
    };
    for place in ["/dev/stdout", "/proc/self/fd/1", "/dev/fd/1"] {
        assert!(is_receipt(&quiet(place, Stdio::piped()).stdout), "{place}");
        let out = std::fs::File::create(scene.at("out")).unwrap();
        let inode = out.metadata().unwrap().ino();
        std::io::Write::write_all(&mut &out, b"{\"before\":1}\n").unwrap();
        quiet(place, out.into());
        let said = std::fs::read(scene.at("out")).unwrap();
        assert!(is_receipt(said.strip_prefix(b"{\"before\":1}\n").unwrap()), "{place}");
        assert_eq!(scene.at("out").metadata().unwrap().ino(), inode);
    }
}

#[test]
fn tune_refuses_outputs_before_it_sends_anything() {
    let scratch = tempfile::tempdir().unwrap();
    let log = scratch.path().join("access.log");
    let store = Served::start_with(scratch.path(), &["--access-log", log.to_str().unwrap()]);
    let at = |name: &str| scratch.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(at("sample"), vec![7; 2 << 20]).unwrap();
    std::fs::write(at("plain"), "").unwrap();
    let [sample, one, missing] = [at("sample"), at("one"), at("missing/r.html")];
    let [below_plain, directory] = [at("plain/p.toml"), at("")];
    for options in [
        ["--out", &one, "--report", &missing],
        ["--out", &one, "--report", &one],
        ["--out", &sample, "--file", &sample],
        ["--report", &sample, "--file", &sample],
        ["--out", &below_plain, "--attempts", "2"],
        ["--report", &directory, "--out", &one],
    ] {
        let mut command = haul();
        command.args(["tune", "oss://demo/t/", "--endpoint", &store.endpoint, "--region", "cn-hangzhou"]);
        let output = command.args(options).env("XDG_CONFIG_HOME", scratch.path()).output().unwrap();
        assert_eq!(exit_code(&output), 8, "{options:?}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains("--out or --report"), "{}", text(&output.stderr));
    }
    assert_eq!(std::fs::read(at("sample")).unwrap(), vec![7; 2 << 20]);
    assert_eq!(std::fs::read(log).unwrap(), b"", "nothing was asked of the store");
}

#[test]
fn serve_makes_no_log_of_what_it_reads() {
    let scratch = tempfile::tempdir().unwrap();
    let rules = scratch.path().join("rules");
    std::fs::write(&rules, "# none\n").unwrap();
    let name = rules.to_str().unwrap();
    for log in ["--fault-log", "--access-log"] {
        let mut command = haul();
        command.args(["serve", "--store", "null", "--listen", "127.0.0.1:0", "--no-auth"]);
        let output = command.args(["--fault-file", name, log, name]).output().unwrap();
        assert!(!output.status.success() && text(&output.stderr).contains(name), "{}", text(&output.stderr));
    }
    assert_eq!(std::fs::read_to_string(&rules).unwrap(), "# none\n");
}
