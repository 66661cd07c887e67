//! `kill -9` of `haul serve --store dir:` at 50 random moments during all kinds of writes by several clients: after the
//! restart what was acknowledged is there and whole, and what was not is there whole or not at all.
//!
//! The ledger says what the store may hold; [`check`] compares. That it notices is shown by harming stores on purpose.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Lines};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::common::traced::{attached, may_trace, thread_named};
use crate::server_support::ledger::{Content, Ledger, Name, Version};
use crate::server_support::*;
use haul::model::crc64::crc64;
use md5::{Digest, Md5};

const KILLS: u64 = 50;
const PART: usize = 100 << 10;
/// Objects that are only read: what copies are made from.
const SOURCES: u64 = 3;

/// `haul serve` as users start it.
struct Process {
    child: Child,
    address: SocketAddr,
    /// Kept open: a server that cannot print ends.
    _lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn command(store: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_haul"));
        command
            .args(["serve", "--store", &format!("dir:{}", store.display()), "--listen", "127.0.0.1:0"])
            .args(["--access-key-id", ID, "--bucket", "demo"])
            .env("OSS_ACCESS_KEY_SECRET", SECRET)
            // Debuggers are kept out otherwise.
            .env("HAUL_CORE_DUMPS", "1")
            .env_remove("OSS_SESSION_TOKEN")
            .stdout(Stdio::piped());
        command
    }

    fn start(store: &Path) -> Self {
        let mut child = Self::command(store).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("listening on http://")?.trim_end_matches('/').parse().ok());
        Self { child, address: address.expect("the server listens"), _lines: lines }
    }
}

/// `kill -9`.
impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes, and tells the ledger. Every method answers `None` once the server is gone.
struct Client<'a> {
    address: SocketAddr,
    ledger: &'a Ledger,
    random: fastrand::Rng,
}

fn object(key: &str) -> Name {
    Name::Object(key.to_owned())
}

fn source(number: u64) -> Vec<u8> {
    bytes(50_000, number)
}

impl<'a> Client<'a> {
    fn new(address: SocketAddr, ledger: &'a Ledger, seed: u64) -> Self {
        Self { address, ledger, random: fastrand::Rng::with_seed(seed) }
    }

    fn send(&self, call: Call, status: u16) -> Option<Reply> {
        let reply = call.try_send(self.address);
        assert!(reply.is_some() || self.ledger.is_ending(), "no answer from a server that lives");
        reply.map(|reply| reply.expect(status))
    }

    fn write(&self, name: &Name, content: Content, call: Call, status: u16) -> Option<Reply> {
        let begun = self.ledger.begin(name, content);
        let reply = self.send(call, status)?;
        self.ledger.acknowledge(name, begun);
        Some(reply)
    }

    fn body(&mut self, max: usize) -> Vec<u8> {
        bytes(self.random.usize(0..=max), self.random.u64(..))
    }

    fn put(&self, key: &str, body: Vec<u8>) -> Option<()> {
        let call = call("PUT", key).body(body.clone());
        self.write(&object(key), Version::new(body, "Normal"), call, 200).map(drop)
    }

    fn delete(&self, key: &str) -> Option<()> {
        self.write(&object(key), None, call("DELETE", key), 204).map(drop)
    }

    fn copy(&mut self, key: &str) -> Option<()> {
        let number = self.random.u64(0..SOURCES);
        let copy = call("PUT", key).header("x-oss-copy-source", &format!("/demo/source/{number}")).body("");
        self.write(&object(key), Version::new(source(number), "Normal"), copy, 200).map(drop)
    }

    /// An eighth is left open, an eighth aborted, the rest completed.
    fn multipart(&mut self, key: &str) -> Option<()> {
        let body = self.body(3 * PART);
        let id = self.begin(key)?;
        let parts = self.parts(key, &id, &body)?;
        match self.random.u8(0..8) {
            0 => return Some(()),
            1 => {
                self.ledger.end_upload(&id);
                return self.send(call("DELETE", &format!("{key}?uploadId={id}")), 204).map(drop);
            }
            _ => {}
        }
        self.ledger.end_upload(&id);
        self.write(&object(key), Version::new(body, "Multipart"), complete(key, &id, &parts), 200).map(drop)
    }

    fn begin(&self, key: &str) -> Option<String> {
        let reply = self.send(call("POST", &format!("{key}?uploads")).body(""), 200)?;
        let id = reply.element("UploadId").unwrap();
        self.ledger.open_upload(&id, key);
        Some(id)
    }

    /// Sends the parts of a body, some of them first with other bytes.
    fn parts(&mut self, key: &str, id: &str, body: &[u8]) -> Option<Vec<(u32, String)>> {
        let mut parts = Vec::new();
        for (number, piece) in (1..).zip(body.chunks(PART)) {
            if self.random.u8(0..4) == 0 {
                let other = bytes(piece.len(), self.random.u64(..));
                self.part(key, id, number, &other)?;
            }
            parts.push((number, self.part(key, id, number, piece)?));
        }
        Some(parts)
    }

    fn part(&self, key: &str, id: &str, number: u32, piece: &[u8]) -> Option<String> {
        let call = call("PUT", &format!("{key}?partNumber={number}&uploadId={id}")).body(piece);
        let reply = self.write(&Name::Part(id.to_owned(), number), Version::new(piece, ""), call, 200)?;
        Some(reply.header("etag").to_owned())
    }

    /// Only for keys that nobody else writes.
    fn append(&mut self, key: &str) -> Option<()> {
        let piece = self.body(20_000);
        let old = self.ledger.last(&object(key)).map_or_else(Vec::new, |version| version.body.to_vec());
        let call = call("POST", &format!("{key}?append&position={}", old.len())).body(piece.clone());
        self.write(&object(key), Version::new([old, piece].concat(), "Appendable"), call, 200).map(drop)
    }

    /// Whatever the others do, a reader sees whole objects.
    fn read(&self, key: &str) -> Option<()> {
        let reply = call("GET", key).try_send(self.address)?;
        if reply.status != 404 {
            let reply = reply.expect(200);
            assert_eq!(reply.header("x-oss-hash-crc64ecma"), crc64(&reply.body).to_string(), "{key} is torn");
        }
        Some(())
    }

    /// Does one thing to one of the keys that all clients share.
    fn act(&mut self) -> Option<()> {
        let key = format!("shared/{}", self.random.u8(0..4));
        match self.random.u8(0..9) {
            0 | 1 => self.delete(&key),
            2 | 3 => self.copy(&key),
            4 | 5 => self.multipart(&key),
            6 => self.read(&key),
            _ => {
                let body = self.body(300_000);
                self.put(&key, body)
            }
        }
    }

    fn act_on_log(&mut self) -> Option<()> {
        if self.random.u8(0..8) == 0 { self.delete("log") } else { self.append("log") }
    }
}

/// Three clients on the same keys and one that appends, until the server is killed at a random moment.
fn write_until_killed(server: Process, ledger: &Ledger, random: &mut fastrand::Rng) {
    ledger.ending.store(false, Ordering::SeqCst);
    let address = server.address;
    let client = |random: &mut fastrand::Rng| Client::new(address, ledger, random.u64(..));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            let mut client = client(random);
            scope.spawn(move || while client.act().is_some() {});
        }
        let mut logger = client(random);
        scope.spawn(move || while logger.act_on_log().is_some() {});
        ledger.wait_for(random.usize(0..12));
        // Anywhere within the requests that are under way.
        std::thread::sleep(Duration::from_micros(random.u64(0..15_000)));
        ledger.ending.store(true, Ordering::SeqCst);
        drop(server);
    });
}

/// Compares the store with the ledger, and settles what was under way.
///
/// # Errors
/// The first thing that is not as it must be.
fn check(server: &Process, store: &Path, ledger: &Ledger) -> Result<(), String> {
    let client = Client::new(server.address, ledger, 0);
    for name in ledger.names() {
        if let Name::Object(key) = &name {
            let found = shown(&client, key)?;
            if !ledger.possible(&name).contains(&found) {
                let found = found.map_or("nothing".to_owned(), |version| format!("{} bytes", version.body.len()));
                return Err(format!("{key} shows {found}, which is not what was written"));
            }
            ledger.settle(&name, found);
        }
    }
    check_listing(&client)?;
    for (id, key) in ledger.uploads() {
        check_upload(&client, &id, &key)?;
    }
    match std::fs::read_dir(store.join("incoming")).unwrap().count() {
        0 => Ok(()),
        left => Err(format!("{left} unfinished files were left behind")),
    }
}

fn shown(client: &Client<'_>, key: &str) -> Result<Content, String> {
    let reply = call("GET", key).try_send(client.address).ok_or_else(|| format!("{key}: no whole answer"))?;
    match reply.status {
        404 => Ok(None),
        200 if reply.header("x-oss-hash-crc64ecma") == crc64(&reply.body).to_string() => {
            let kind = reply.header("x-oss-object-type").to_owned();
            Ok(Version::new(reply.body, &kind))
        }
        status => Err(format!("{key}: {status}, {} bytes that do not agree with their checksum", reply.body.len())),
    }
}

/// The text of every element of that name.
fn elements<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    text.split(&open).skip(1).filter_map(|rest| Some(rest.split_once(&close)?.0)).collect()
}

fn check_listing(client: &Client<'_>) -> Result<(), String> {
    let text = client.send(call_unsigned_query("GET", "", "list-type=2&max-keys=1000"), 200).unwrap().text();
    let sizes = elements(&text, "Size").into_iter().map(|size| size.parse().unwrap());
    let listed: BTreeMap<String, usize> = elements(&text, "Key").into_iter().map(str::to_owned).zip(sizes).collect();
    let known = client.ledger.names().into_iter().filter_map(|name| match &name {
        Name::Object(key) => Some((key.clone(), client.ledger.last(&name)?.body.len())),
        Name::Part(..) => None,
    });
    let known: BTreeMap<String, usize> = known.collect();
    if listed == known { Ok(()) } else { Err(format!("the listing says {listed:?} instead of {known:?}")) }
}

/// The parts are those that were acknowledged; joined, they have the bytes that were sent.
fn check_upload(client: &Client<'_>, id: &str, key: &str) -> Result<(), String> {
    let reply = call("GET", &format!("{key}?uploadId={id}")).try_send(client.address).ok_or("no answer")?;
    if reply.status != 200 {
        return Err(format!("the upload {id} is gone"));
    }
    let text = reply.text();
    let numbers = elements(&text, "PartNumber").into_iter().map(|number| number.parse().unwrap());
    let etags = elements(&text, "ETag").into_iter().map(|etag| etag.replace("&quot;", "").replace('"', ""));
    let listed: BTreeMap<u32, String> = numbers.zip(etags).collect();
    let parts: Vec<u32> = client.ledger.names().into_iter().filter_map(|name| part_of(&name, id)).collect();
    let mut whole = Vec::new();
    for number in parts.iter().chain(listed.keys().filter(|number| !parts.contains(number))) {
        let etag = listed.get(number);
        let possible = client.ledger.possible(&Name::Part(id.to_owned(), *number));
        let same = |content: &&Content| content.as_ref().map(|version| etag_of(&version.body)).as_ref() == etag;
        let found = possible.iter().find(same).ok_or(format!("part {number} of {id} is not what was sent"))?;
        whole.extend(found.iter().flat_map(|version| version.body.iter().copied()));
    }
    client.ledger.end_upload(id);
    if listed.is_empty() {
        return Ok(());
    }
    let listed: Vec<_> = listed.into_iter().collect();
    client.send(complete(key, id, &listed), 200);
    let whole = Version::new(whole, "Multipart");
    client.ledger.settle(&object(key), whole.clone());
    if shown(client, key)? == whole { Ok(()) } else { Err(format!("the parts of {id} are harmed")) }
}

fn part_of(name: &Name, id: &str) -> Option<u32> {
    match name {
        Name::Part(of, number) if of == id => Some(*number),
        _ => None,
    }
}

fn etag_of(body: &[u8]) -> String {
    Md5::digest(body).iter().map(|byte| format!("{byte:02X}")).collect()
}

#[test]
fn what_clients_were_told_survives_kill_9_at_50_random_moments() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    let ledger = Ledger::default();
    let mut random = fastrand::Rng::with_seed(9);
    let mut server = Process::start(&store);
    for number in 0..SOURCES {
        Client::new(server.address, &ledger, 0).put(&format!("source/{number}"), source(number)).unwrap();
    }
    let mut cut_short = 0;
    for kill in 0..KILLS {
        write_until_killed(server, &ledger, &mut random);
        cut_short += ledger.under_way();
        if kill % 5 == 0 {
            kill_while_it_starts(&store, &mut random);
        }
        server = Process::start(&store);
        check(&server, &store, &ledger).unwrap_or_else(|wrong| panic!("after kill {kill}: {wrong}"));
    }
    assert!(cut_short > 0, "no kill met a write");
}

/// Each of several clients writes one small object after the other, no key twice.
fn write_small_objects(address: SocketAddr, ledger: &Ledger, round: usize) {
    std::thread::scope(|scope| {
        for writer in 0..16 {
            let client = Client::new(address, ledger, 0);
            let write = move |n: u64| client.put(&format!("{round}/{writer}/{n}"), bytes(2000, n));
            scope.spawn(move || (0..).map_while(write).count());
        }
    });
}

/// Of the objects that the kill left without an answer, how many are there and how many are not.
fn made_and_not(server: &Process, ledger: &Ledger) -> (usize, usize) {
    let client = Client::new(server.address, ledger, 0);
    let is_there = |name: &Name| matches!(name, Name::Object(key) if shown(&client, key).unwrap().is_some());
    let (made, not): (Vec<_>, Vec<_>) = ledger.unanswered().into_iter().partition(is_there);
    (made.len(), not.len())
}

/// Requests that come together are made together: the kill falls between the first change of such a group and the last.
#[test]
fn a_kill_within_a_group_of_requests_halves_none_of_them() {
    if !may_trace() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    let ledger = Ledger::default();
    let mut random = fastrand::Rng::with_seed(3);
    let mut server = Process::start(&store);
    let (mut parted, mut round) = (0, 0);
    while parted < 3 {
        round += 1;
        assert!(round <= 20, "no kill fell within a group");
        ledger.ending.store(true, Ordering::SeqCst);
        let thread = thread_named(&mut server.child, "haul-store");
        let mut strace = attached(thread, "rename", &format!("signal=KILL:when={}", random.u8(2..30)));
        write_small_objects(server.address, &ledger, round);
        strace.wait().unwrap();
        drop(server);
        server = Process::start(&store);
        let (made, not) = made_and_not(&server, &ledger);
        parted += usize::from(made > 0 && not > 0);
        check(&server, &store, &ledger).unwrap_or_else(|wrong| panic!("after kill {round}: {wrong}"));
    }
}

/// What repairs a store can be killed too.
fn kill_while_it_starts(store: &Path, random: &mut fastrand::Rng) {
    let mut child = Process::command(store).spawn().unwrap();
    std::thread::sleep(Duration::from_micros(random.u64(0..20_000)));
    child.kill().unwrap();
    child.wait().unwrap();
}

/// A store with a bit of everything, all of it acknowledged.
struct Sample {
    _dir: tempfile::TempDir,
    store: PathBuf,
    ledger: Ledger,
}

impl Sample {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("store");
        let ledger = Ledger::default();
        let server = Process::start(&store);
        let mut client = Client::new(server.address, &ledger, 1);
        client.put("k", bytes(70_000, 1)).unwrap();
        client.put("deleted", bytes(10, 2)).unwrap();
        client.delete("deleted").unwrap();
        client.append("log").unwrap();
        let id = client.begin("u").unwrap();
        client.parts("u", &id, &bytes(2 * PART, 3)).unwrap();
        drop(server);
        Self { _dir: dir, store, ledger }
    }

    /// As if the store had acknowledged a write that it lost.
    fn pretend(&self, key: &str, content: Content) {
        let begun = self.ledger.begin(&object(key), content);
        self.ledger.acknowledge(&object(key), begun);
    }

    fn data(&self) -> PathBuf {
        self.store.join("buckets/demo/objects/k")
    }

    /// The file of the first part of the upload.
    fn part(&self) -> PathBuf {
        let upload = std::fs::read_dir(self.store.join("uploads")).unwrap().next().unwrap().unwrap().path();
        let mut files = std::fs::read_dir(upload).unwrap().map(|entry| entry.unwrap().path());
        files.find(|path| path.file_name().unwrap().to_str().unwrap().starts_with("00001.")).unwrap()
    }
}

/// Changes a file behind the back of the store, which knows its files by their times.
fn harm(path: &Path, change: impl Fn(&mut Vec<u8>)) {
    let modified = std::fs::metadata(path).unwrap().modified().unwrap();
    let mut content = std::fs::read(path).unwrap();
    change(&mut content);
    std::fs::write(path, content).unwrap();
    std::fs::File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
}

#[test]
fn the_check_notices_whatever_a_store_could_lose() {
    type Harm = fn(&Sample);
    let harms: &[(&str, Harm, &str)] = &[
        ("a changed byte", |s| harm(&s.data(), |body| body[69_999] ^= 1), "k: 200"),
        ("half an object", |s| harm(&s.data(), |body| body.truncate(35_000)), "k: 403"),
        ("a lost object", |s| std::fs::remove_file(s.data()).unwrap(), "k shows nothing"),
        ("a lost overwrite", |s| s.pretend("k", Version::new(bytes(9, 9), "Normal")), "k shows 70000 bytes"),
        ("a lost kind", |s| s.pretend("k", Version::new(bytes(70_000, 1), "Multipart")), "k shows 70000 bytes"),
        ("a lost delete", |s| s.pretend("k", None), "k shows 70000 bytes"),
        ("a lost append", |s| s.pretend("log", Version::new(bytes(30_000, 1), "Appendable")), "log shows"),
        ("an object from nowhere", |s| s.ledger.settle(&object("k"), None), "k shows 70000 bytes"),
        ("a key from nowhere", |s| put_untold(s, "stranger"), "the listing says"),
        ("a lost part", |s| std::fs::remove_file(s.part()).unwrap(), "is not what was sent"),
        ("a changed part", |s| harm(&s.part(), |body| body[0] ^= 1), "u: 200"),
        ("a lost upload", |s| std::fs::remove_dir_all(s.part().parent().unwrap()).unwrap(), "is gone"),
    ];
    let judge = |sample: &Sample| check(&Process::start(&sample.store), &sample.store, &sample.ledger);
    assert_eq!(judge(&Sample::new()), Ok(()));
    for (name, harm, expected) in harms {
        let sample = Sample::new();
        harm(&sample);
        let verdict = judge(&sample).expect_err(name);
        assert!(verdict.contains(expected), "{name}: {verdict}");
    }
}

/// Behind the back of the ledger.
fn put_untold(sample: &Sample, key: &str) {
    let server = Process::start(&sample.store);
    call("PUT", key).body("x").try_send(server.address).unwrap().expect(200);
}

#[test]
fn the_ledger_allows_what_some_order_of_the_writes_explains() {
    let (ledger, name) = (Ledger::default(), object("k"));
    let content = |byte: u8| Version::new([byte], "Normal");
    let first = ledger.begin(&name, content(1));
    let second = ledger.begin(&name, content(2));
    ledger.acknowledge(&name, second);
    ledger.acknowledge(&name, first);
    assert!(ledger.possible(&name) == [content(1), content(2)], "both were under way at once");
    let third = ledger.begin(&name, content(3));
    assert!(ledger.possible(&name) == [content(1), content(2), content(3)], "the third may have happened");
    ledger.acknowledge(&name, third);
    assert!(ledger.possible(&name) == [content(3)], "the third came after both");
    ledger.begin(&name, None);
    assert!(ledger.possible(&name) == [content(3), None], "the delete was not acknowledged");
}
