//! A file whose identity changed between two runs: copied with its checkpoint, restored, renamed, given other rights. The
//! upload goes on, and no part counts before it was read again and compared.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::meddler::{Fate, Meddler, Seen, meddle};
use crate::common::*;
use http::StatusCode;
use serde_json::Value;

const PART: usize = 100 << 10;
const OPTIONS: [&str; 4] = ["--part-size", "100KiB", "--parallel", "1"];
const DENIED: Fate = Fate::Answer(StatusCode::FORBIDDEN, "<Error><Code>AccessDenied</Code></Error>");

type Rule = fn(&Seen) -> Fate;

/// A store behind a proxy that notes every request and does what the rule in force says.
struct Scene {
    scratch: tempfile::TempDir,
    store: Served,
    meddler: Meddler,
    rule: Arc<Mutex<Rule>>,
    _runtime: tokio::runtime::Runtime,
}

impl Scene {
    fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let store = Served::start(scratch.path());
        let rule: Arc<Mutex<Rule>> = Arc::new(Mutex::new(|_| Fate::Forward));
        let in_force = rule.clone();
        let (_runtime, meddler) = meddle(store.address(), move |seen| in_force.lock().unwrap()(seen));
        Self { scratch, store, meddler, rule, _runtime }
    }

    fn rule(&self, rule: Rule) {
        *self.rule.lock().unwrap() = rule;
    }

    /// A file of ten parts, five of which are in the store and in the checkpoint.
    fn begun(&self) -> (PathBuf, Vec<u8>) {
        let (file, content) = random_file(self.scratch.path(), 10 * PART - 777, 1);
        self.rule(|seen| if seen.is_part_number(6) { DENIED } else { Fate::Forward });
        let output = put(&file, &self.meddler.endpoint(), &OPTIONS).output().unwrap();
        assert_eq!(exit_code(&output), 4, "{}", text(&output.stderr));
        assert_eq!(known_parts(&file), 5);
        self.rule(|_| Fate::Forward);
        (file, content)
    }

    /// Puts the file to its end; gives the events, and the number of every part that was sent, in order.
    fn finish(&self, file: &Path, content: &[u8]) -> (Vec<Value>, Vec<u32>) {
        let before = self.parts_put().len();
        let events = put_well(file, &self.meddler.endpoint(), &OPTIONS);
        assert!(self.store.holds(content), "the object is the file as it is now");
        assert_eq!(self.store.open_uploads().len(), 0);
        assert!(!checkpoint_of(file).exists());
        (events, self.parts_put().split_off(before))
    }

    /// The number of every part that a client began to send, in order.
    fn parts_put(&self) -> Vec<u32> {
        let number = |request: &String| {
            let (_, rest) = request.strip_prefix("PUT ")?.split_once("partNumber=")?;
            rest.split('&').next()?.parse().ok()
        };
        self.meddler.requests().iter().filter_map(number).collect()
    }
}

fn checkpoint_of(file: &Path) -> PathBuf {
    file.with_added_extension("cp")
}

fn known_parts(file: &Path) -> usize {
    haul::checkpoint::read(&checkpoint_of(file)).unwrap().checkpoint.parts.len()
}

/// Changes a byte of every part that is named, and nothing of the time that says so.
fn harm(file: &Path, content: &mut [u8], parts: &[usize]) {
    let time = fs::metadata(file).unwrap().modified().unwrap();
    let open = File::options().write(true).open(file).unwrap();
    for part in parts {
        let at = (part - 1) * PART + 17;
        content[at] ^= 1;
        open.write_all_at(&content[at..=at], at as u64).unwrap();
    }
    open.set_modified(time).unwrap();
}

fn compared(events: &[Value]) -> Vec<u64> {
    named(events, "comparing").iter().map(|event| event["parts"].as_u64().unwrap()).collect()
}

#[test]
fn a_file_that_is_copied_with_its_checkpoint_goes_on_and_no_part_is_sent_twice() {
    let scene = Scene::new();
    let (file, content) = scene.begun();
    let elsewhere = scene.scratch.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let copy = elsewhere.join("restored");
    fs::copy(&file, &copy).unwrap();
    File::open(&copy).unwrap().set_modified(fs::metadata(&file).unwrap().modified().unwrap()).unwrap();
    fs::copy(checkpoint_of(&file), checkpoint_of(&copy)).unwrap();
    let (events, sent) = scene.finish(&copy, &content);
    assert_eq!(sent, [6, 7, 8, 9, 10]);
    assert_eq!(compared(&events), [5]);
    assert!(named(&events, "comparing")[0]["why"].as_str().unwrap().contains("not the same one"));
    assert_eq!(named(&events, "started_over").len(), 0);
    assert_eq!(events.last().unwrap()["parts_resumed"], 5);
}

#[test]
fn a_file_that_is_renamed_or_gets_other_rights_goes_on() {
    let scene = Scene::new();
    let (file, content) = scene.begun();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    let (events, sent) = scene.finish(&file, &content);
    assert_eq!((sent, compared(&events)), (vec![6, 7, 8, 9, 10], vec![5]));

    let (file, content) = scene.begun();
    let renamed = scene.scratch.path().join("renamed");
    fs::rename(&file, &renamed).unwrap();
    fs::rename(checkpoint_of(&file), checkpoint_of(&renamed)).unwrap();
    let (_, sent) = scene.finish(&renamed, &content);
    assert_eq!(sent, [6, 7, 8, 9, 10]);
}

#[test]
fn a_byte_that_changed_and_kept_its_time_costs_just_its_part() {
    let scene = Scene::new();
    let (file, mut content) = scene.begun();
    harm(&file, &mut content, &[3]);
    let (events, sent) = scene.finish(&file, &content);
    assert_eq!(sent, [3, 6, 7, 8, 9, 10]);
    assert_eq!(compared(&events), [5]);
}

#[test]
fn another_time_or_another_length_starts_over() {
    let scene = Scene::new();
    let (file, content) = scene.begun();
    let time = fs::metadata(&file).unwrap().modified().unwrap();
    File::open(&file).unwrap().set_modified(time + Duration::from_secs(1)).unwrap();
    let (events, sent) = scene.finish(&file, &content);
    assert_eq!((named(&events, "started_over").len(), sent.len()), (1, 10));

    let (file, content) = scene.begun();
    let time = fs::metadata(&file).unwrap().modified().unwrap();
    let cut = File::options().write(true).open(&file).unwrap();
    cut.set_len(content.len() as u64 - 1).unwrap();
    cut.set_modified(time).unwrap();
    let (events, sent) = scene.finish(&file, &content[..content.len() - 1]);
    assert_eq!((named(&events, "started_over").len(), sent.len()), (1, 10));
}

/// Killed while part 1, which differs, is on its way: with one part in flight nothing behind it was read.
#[test]
fn a_run_that_is_killed_while_it_compares_leaves_nothing_to_believe() {
    let scene = Scene::new();
    let (file, mut content) = scene.begun();
    harm(&file, &mut content, &[1, 4]);
    scene.rule(|seen| if seen.is_part_number(1) { Fate::Hang } else { Fate::Forward });
    let before = scene.parts_put().len();
    let mut child = put(&file, &scene.meddler.endpoint(), &OPTIONS).stdout(Stdio::null()).spawn().unwrap();
    while scene.parts_put().len() == before {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it sent anything");
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let left = haul::checkpoint::read(&checkpoint_of(&file)).unwrap().checkpoint;
    assert_eq!(left.binding.source.ctime_ns % 1_000_000_000, fs::metadata(&file).unwrap().ctime_nsec().into());
    assert!(left.upload_id.is_some() && left.parts.is_empty(), "{:?}", left.parts);
    scene.rule(|_| Fate::Forward);
    let (events, sent) = scene.finish(&file, &content);
    assert_eq!(sent, [1, 4, 6, 7, 8, 9, 10]);
    assert_eq!(compared(&events), [5]);
}

/// The store merged the parts, the run ended before it heard of it, and the file was touched.
#[test]
fn an_object_that_was_made_unheard_is_found_if_the_file_is_read_again_and_is_still_that() {
    let scene = Scene::new();
    for harmed in [false, true] {
        let (file, mut content) = scene.begun();
        scene.rule(|seen| match seen.method {
            "POST" if seen.is_complete() => Fate::LoseAnswer,
            "GET" | "HEAD" if seen.before > 0 => DENIED,
            _ => Fate::Forward,
        });
        let output = put(&file, &scene.meddler.endpoint(), &OPTIONS).output().unwrap();
        assert_eq!(exit_code(&output), 4, "{}{}", text(&output.stdout), text(&output.stderr));
        assert_eq!(known_parts(&file), 10);
        scene.rule(|_| Fate::Forward);
        harm(&file, &mut content, if harmed { &[9] } else { &[] });
        let (events, sent) = scene.finish(&file, &content);
        assert_eq!((compared(&events), sent.len()), (vec![10], if harmed { 10 } else { 0 }));
    }
}
