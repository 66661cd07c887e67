//! What a program that links haul relies on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::common::meddler::{Fate, meddle};
use crate::common::*;
use haul::blocking;
use haul::checkpoint::{Binding, Journal};
use haul::client::Client;
use haul::error::Error;
use haul::model::event::Event;
use haul::model::object::{Bucket, Fingerprint, Key};
use haul::model::retry::FaultKind;
use haul::model::settings::{CheckpointAt, ClientSettings, Parallel, PartSize, UploadRequest};
use haul::store::credentials::Credentials;

const KIB: usize = 1 << 10;

fn settings(store: &Served) -> ClientSettings {
    ClientSettings { region: Some("cn-hangzhou".into()), ..ClientSettings::new(&store.endpoint) }
}

fn credentials() -> Option<Credentials> {
    Some(Credentials::new(ID, SECRET))
}

fn request(file: &std::path::Path, key: &str) -> UploadRequest {
    let mut request = UploadRequest::new(file, Bucket::new("demo").unwrap(), Key::new(key).unwrap());
    request.part_size = PartSize::Bytes(100 << 10);
    request
}

#[tokio::test]
async fn several_transfers_share_one_client_inside_any_runtime() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    let client = Client::new(settings(&store), credentials()).unwrap();
    let files: Vec<_> = (0..5).map(|seed| random_file(scratch.path(), 900 * KIB + seed, seed as u64)).collect();
    let mut transfers: Vec<_> =
        files.iter().enumerate().map(|(i, (file, _))| client.upload(request(file, &format!("k{i}")))).collect();
    for (transfer, (_, content)) in transfers.iter_mut().zip(&files) {
        let done = transfer.wait().await.unwrap();
        assert_eq!(done.crc64, haul::model::crc64::crc64(content));
        assert!(done.crc64_verified);
        assert_eq!(
            (done.status, done.bytes, done.parts_sent),
            (200, content.len() as u64, 10 - u32::from(content.len() == 900 * KIB))
        );
        assert!(done.request_id.is_some());
        let progress = transfer.progress();
        assert_eq!((progress.bytes_confirmed, progress.bytes_sent), (done.bytes, done.bytes));
    }
    drop(client);
    assert!(files.iter().all(|(_, content)| store.holds(content)));
}

#[test]
fn a_plain_thread_uploads_and_hears_events() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    let client = blocking::Client::new(settings(&store), credentials()).unwrap();
    let (file, content) = random_file(scratch.path(), 350 * KIB, 1);
    let mut transfer = client.upload(request(&file, "k"));
    let mut parts = 0;
    while let Some(event) = transfer.next_event() {
        parts += u32::from(matches!(*event, Event::PartDone { .. }));
    }
    assert_eq!(parts, 4);
    let done = transfer.wait().unwrap();
    let info = client.stat(&Bucket::new("demo").unwrap(), &Key::new("k").unwrap()).unwrap();
    assert_eq!((info.bytes, info.crc64), (content.len() as u64, Some(done.crc64)));
    assert_eq!(info.etag, Some(done.etag));
}

#[test]
fn a_deleted_object_is_gone_and_one_that_is_not_there_can_be_deleted() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    let client = blocking::Client::new(settings(&store), credentials()).unwrap();
    let (file, content) = random_file(scratch.path(), 10, 1);
    let UploadRequest { bucket, key, .. } = request(&file, "k");
    client.upload(request(&file, "k")).wait().unwrap();
    assert!(client.stat(&bucket, &key).is_ok() && store.holds(&content));
    for _ in 0..2 {
        client.delete_object(&bucket, &key, None).unwrap();
        assert_eq!(client.stat(&bucket, &key).unwrap_err().fault_kind(), Some(FaultKind::NotFound));
    }
    // The embedded store has no versions and says so: the version was in the request.
    let refused = client.delete_object(&bucket, &key, Some("v1")).unwrap_err();
    assert!(refused.to_string().contains("NotImplemented"), "{refused}");
}

#[test]
fn a_cancelled_transfer_goes_on_where_it_was() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    let held = Arc::new(AtomicBool::new(true));
    let (_runtime, meddler) = meddle(store.address(), {
        let held = held.clone();
        move |seen| match seen.is_part_number(6) && held.load(Ordering::SeqCst) {
            true => Fate::Hang,
            false => Fate::Forward,
        }
    });
    let settings = ClientSettings { region: Some("cn-hangzhou".into()), ..ClientSettings::new(meddler.endpoint()) };
    let client = blocking::Client::new(settings, credentials()).unwrap();
    let (file, content) = random_file(scratch.path(), 4000 * KIB, 1);
    let mut one_by_one = request(&file, "k");
    one_by_one.parallel = Parallel::Parts(1);
    let mut transfer = client.upload(one_by_one);
    while let Some(event) = transfer.next_event() {
        if matches!(*event, Event::PartDone { part: 5, .. }) {
            transfer.cancel();
        }
    }
    assert!(matches!(transfer.wait(), Err(Error::Cancelled)));
    held.store(false, Ordering::SeqCst);
    let done = client.upload(request(&file, "k")).wait().unwrap();
    assert_eq!((done.parts_resumed, done.parts_sent), (5, 35));
    assert!(store.holds(&content));
}

#[test]
fn checkpoints_of_many_transfers_share_a_directory() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    let client = blocking::Client::new(settings(&store), credentials()).unwrap();
    let checkpoints = scratch.path().join("checkpoints");
    std::fs::create_dir(&checkpoints).unwrap();
    let (file, _) = random_file(scratch.path(), 350 * KIB, 1);
    let transfers: Vec<_> = ["a", "b"]
        .map(|key| {
            let mut request = request(&file, key);
            request.checkpoint = CheckpointAt::Directory(checkpoints.clone());
            client.upload(request)
        })
        .into();
    for transfer in transfers {
        transfer.wait().unwrap();
    }
    assert_eq!(std::fs::read_dir(&checkpoints).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn a_second_transfer_of_the_same_file_is_told_that_the_checkpoint_is_in_use() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    let client = blocking::Client::new(settings(&store), credentials()).unwrap();
    let (file, _) = random_file(scratch.path(), 350 * KIB, 1);
    let source = Fingerprint { device: 0, inode: 0, bytes: 0, mtime_ns: 0, ctime_ns: 0 };
    let UploadRequest { bucket, key, .. } = request(&file, "k");
    let binding =
        Binding { source, endpoint: "elsewhere".into(), bucket, key, part_bytes: 1, description: Some([].into()) };
    let first = Journal::open(&file.with_added_extension("cp"), binding).unwrap();
    let second = client.upload(request(&file, "k")).wait();
    assert!(matches!(second, Err(Error::Checkpoint(_))), "{second:?}");
    drop(first);
    client.upload(request(&file, "k")).wait().unwrap();
}
