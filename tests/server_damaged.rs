//! A store with damaged records starts, says which they are, and serves the rest; what each kind of damage does to
//! each kind of file is tried beside the code that reads them.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::server_support::*;

/// A store with the objects `a` and `b` and an upload of `c`.
fn store(dir: &Path) -> (PathBuf, String) {
    let store = dir.join("store");
    let server = start(haul::server::StoreKind::Dir(store.clone()));
    call("PUT", "a").body("before").send(&server).expect(200);
    call("PUT", "b").body("other").send(&server).expect(200);
    let id = initiate(&server, "c");
    upload_part(&server, "c", &id, 1, b"part");
    (store, id)
}

/// The file whose name begins so.
fn only(dir: &Path, beginning: &str) -> PathBuf {
    let all = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let [path] = all
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(beginning))
        .collect::<Vec<_>>()
        .try_into()
        .unwrap();
    path
}

fn truncate(path: &Path) {
    truncate_to(path, 20);
}

fn truncate_to(path: &Path, bytes: u64) {
    File::options().write(true).open(path).unwrap().set_len(bytes).unwrap();
}

#[test]
fn a_damaged_record_is_told_to_readers_and_replaced_by_writers_while_the_rest_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let (store, id) = store(dir.path());
    truncate(&only(&store.join("buckets/demo/meta"), "a."));
    truncate(&store.join("uploads").join(&id).join("upload.json"));
    let server = start(haul::server::StoreKind::Dir(store));
    assert_eq!(call("GET", "b").send(&server).expect(200).text(), "other");
    let reply = call("GET", "a").send(&server).refused(403, "InvalidObjectState");
    assert!(reply.text().contains("damaged"), "{}", reply.text());
    call("HEAD", "a").send(&server).expect(403);
    call("PUT", "copy")
        .header("x-oss-copy-source", "/demo/a")
        .body("")
        .send(&server)
        .refused(403, "InvalidObjectState");
    let listing = call("GET", "").send(&server).expect(200).text();
    assert!(listing.contains("<Key>b</Key>") && !listing.contains("<Key>a</Key>"), "{listing}");
    call("PUT", "a").body("after").send(&server).expect(200);
    assert_eq!(call("GET", "a").send(&server).expect(200).text(), "after");
    let target = format!("c?uploadId={id}");
    let reply = call("GET", &target).send(&server).refused(404, "NoSuchUpload");
    assert!(reply.text().contains("damaged"), "{}", reply.text());
    call("DELETE", &target).send(&server).expect(204);
}

#[test]
fn the_server_says_which_record_is_damaged_and_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = store(dir.path());
    let record = only(&store.join("buckets/demo/meta"), "a.");
    truncate(&record);
    let mut child = Command::new(env!("CARGO_BIN_EXE_haul"))
        .args(["serve", "--store", &format!("dir:{}", store.display()), "--listen", "127.0.0.1:0", "--no-auth"])
        .args(["--bucket", "demo"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    child.kill().unwrap();
    let said = String::from_utf8(child.wait_with_output().unwrap().stderr).unwrap();
    assert!(line.starts_with("listening on"), "{line}{said}");
    assert!(said.contains(record.to_str().unwrap()), "{said}");
    assert!(said.contains("put it again, delete it, or repair this file"), "{said}");
}

#[test]
fn all_parts_of_an_upload_are_refused_while_one_of_them_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let (store, id) = store(dir.path());
    truncate_to(&only(&store.join("uploads").join(&id), "00001."), 2);
    let server = start(haul::server::StoreKind::Dir(store));
    upload_part(&server, "c", &id, 2, b"more");
    let all = || {
        let target = format!("c?uploadId={id}");
        call("POST", &target).header("x-oss-complete-all", "yes").body("").send(&server)
    };
    all().refused(404, "NoSuchUpload");
    let part = "p".repeat(100 << 10);
    upload_part(&server, "c", &id, 1, part.as_bytes());
    all().expect(200);
    assert_eq!(call("GET", "c").send(&server).expect(200).text(), part + "more");
}

#[test]
fn an_object_that_was_cut_is_not_served() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = store(dir.path());
    let data = store.join("buckets/demo/objects/a");
    let modified = fs::metadata(&data).unwrap().modified().unwrap();
    truncate_to(&data, 3);
    File::options().write(true).open(&data).unwrap().set_modified(modified).unwrap();
    let server = start(haul::server::StoreKind::Dir(store));
    call("GET", "a").send(&server).refused(403, "InvalidObjectState");
    assert_eq!(fs::read_to_string(&data).unwrap(), "bef", "what is left of it stays");
}
