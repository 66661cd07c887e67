//! What is typed in the run that finishes is what the object gets: an upload that was begun with another description is
//! not resumed.

use std::path::{Path, PathBuf};

use crate::common::*;
use haul::blocking::Client;
use haul::model::object::{Bucket, Key};
use haul::model::settings::ClientSettings;
use haul::store::credentials::Credentials;

const KIB: usize = 1 << 10;
const PARTS: [&str; 4] = ["--part-size", "100KiB", "--parallel", "1"];

/// A store, and a file whose upload with these options broke off after its second part.
fn broken_off(scratch: &Path, options: &[&str]) -> (Served, PathBuf) {
    let store = Served::start_with(scratch, &["--fault", "UploadPart:#3:error,code=AccessDenied"]);
    let (file, _) = random_file(scratch, 350 * KIB, 1);
    let output = put(&file, &store.endpoint, &[&PARTS[..], options].concat()).output().unwrap();
    assert_eq!(exit_code(&output), 4, "{}", text(&output.stderr));
    (store, file)
}

fn headers(store: &Served) -> http::HeaderMap {
    let settings = ClientSettings { region: Some("cn-hangzhou".into()), ..ClientSettings::new(&store.endpoint) };
    let client = Client::new(settings, Some(Credentials::new(ID, SECRET))).unwrap();
    client.stat(&Bucket::new("demo").unwrap(), &Key::new("object").unwrap()).unwrap().headers
}

#[test]
fn a_resumed_upload_never_keeps_what_an_earlier_run_said_of_the_object() {
    let cases: [(&[&str], &[&str], &str, &str); 8] = [
        (&["--meta", "owner=old"], &["--meta", "owner=new"], "x-oss-meta-owner", "new"),
        (&[], &["--meta", "owner=new"], "x-oss-meta-owner", "new"),
        (&["--content-type", "text/old"], &["--content-type", "text/new"], "content-type", "text/new"),
        (&["--cache-control", "no-store"], &["--cache-control", "max-age=9"], "cache-control", "max-age=9"),
        (&["--storage-class", "Standard"], &["--storage-class", "IA"], "x-oss-storage-class", "IA"),
        (&["--tag", "a=1"], &["--tag", "a=1", "--tag", "b=2"], "x-oss-tagging-count", "2"),
        (&[], &["--sse", "AES256"], "x-oss-server-side-encryption", "AES256"),
        (&["--sse", "KMS"], &["--sse", "AES256"], "x-oss-server-side-encryption", "AES256"),
    ];
    for (first, second, name, wanted) in cases {
        let scratch = tempfile::tempdir().unwrap();
        let (store, file) = broken_off(scratch.path(), first);
        let events = put_well(&file, &store.endpoint, &[&PARTS[..], second].concat());
        let reason = named(&events, "started_over")[0]["reason"].as_str().unwrap().to_owned();
        assert!(reason.contains(name.trim_end_matches("-count")), "{reason}");
        assert_eq!(headers(&store)[name], wanted, "{second:?}");
        assert_eq!(store.open_uploads().len(), 0, "{second:?}: the old upload is aborted");
    }
}

#[test]
fn what_was_said_and_is_not_typed_again_is_gone() {
    let scratch = tempfile::tempdir().unwrap();
    let (store, file) = broken_off(scratch.path(), &["--meta", "owner=old", "--sse", "AES256"]);
    put_well(&file, &store.endpoint, &PARTS);
    let headers = headers(&store);
    assert!(!headers.contains_key("x-oss-meta-owner") && !headers.contains_key("x-oss-server-side-encryption"));
}

#[test]
fn what_does_not_describe_the_object_does_not_keep_an_upload_from_being_resumed() {
    for (first, second) in [
        (&["--meta", "a=1", "--meta", "b=2"][..], &["--meta", "b=2", "--meta", "a=1"][..]),
        (&[], &["--forbid-overwrite"]),
        (&[], &["--acl", "private"]),
        (&["--traffic-limit", "838860800"], &[]),
    ] {
        let scratch = tempfile::tempdir().unwrap();
        let (store, file) = broken_off(scratch.path(), first);
        let events = put_well(&file, &store.endpoint, &[&PARTS[..], second].concat());
        assert_eq!((named(&events, "started_over").len(), parts_sent(&events).len()), (0, 2), "{second:?}: {events:?}");
        assert_eq!(store.open_uploads().len(), 0);
    }
}
