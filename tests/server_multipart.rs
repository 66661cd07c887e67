//! Multipart uploads over the wire: the whole round, every rule of Complete, listings, and what survives a restart.

use std::io::Write;
use std::net::{Shutdown, TcpStream};

use crate::server_support::*;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use haul::model::crc64::crc64;
use haul::server::{ServerError, StoreKind};
use md5::{Digest, Md5};

const PART: usize = 100 << 10;

fn stores() -> (tempfile::TempDir, Vec<StoreKind>) {
    let dir = tempfile::tempdir().unwrap();
    let kinds = vec![StoreKind::Dir(dir.path().join("store")), StoreKind::Memory, StoreKind::Null];
    (dir, kinds)
}

#[test]
fn parts_in_any_order_with_gaps_become_the_object() {
    let (_dir, stores) = stores();
    for store in stores {
        let server = start(store.clone());
        let start =
            call("POST", "big?uploads").header("content-type", "video/mp4").header("x-oss-meta-a", "1").body("");
        let id = start.send(&server).expect(200).element("UploadId").unwrap();
        let pieces = [(7, bytes(1000, 7)), (1, bytes(PART, 1)), (3, bytes(PART + 5, 3)), (5, bytes(PART, 5))];
        let mut parts: Vec<(u32, String)> =
            pieces.iter().map(|(n, piece)| (*n, upload_part(&server, "big", &id, *n, piece))).collect();
        parts.sort();
        let unlisted = parts.remove(2);
        assert_eq!(unlisted.0, 5);
        call("GET", "big").send(&server).refused(404, "NoSuchKey");
        let done = complete("big", &id, &parts).send(&server).expect(200);
        let whole = [pieces[1].1.as_slice(), &pieces[2].1, &pieces[0].1].concat();
        assert_eq!(done.header("x-oss-hash-crc64ecma"), crc64(&whole).to_string());
        assert!(done.header("etag").ends_with("-3\""), "{}", done.header("etag"));
        let head = call("HEAD", "big").send(&server).expect(200);
        assert_eq!(head.header("content-type"), "video/mp4");
        assert_eq!(head.header("x-oss-meta-a"), "1");
        assert_eq!(head.header("x-oss-object-type"), "Multipart");
        assert_eq!(head.header("content-md5"), "");
        assert_eq!(head.header("content-length"), whole.len().to_string());
        if store != StoreKind::Null {
            assert_eq!(call("GET", "big").send(&server).expect(200).body, whole);
        }
        complete("big", &id, &parts).send(&server).refused(404, "NoSuchUpload");
        call("GET", &format!("big?uploadId={id}")).send(&server).refused(404, "NoSuchUpload");
    }
}

/// What a client can compute: from the tags that it was given for the parts, in upper case and without quotes.
#[test]
fn the_tag_of_the_object_follows_from_the_tags_of_its_parts() {
    let (_dir, stores) = stores();
    for store in stores {
        let server = start(store);
        let id = initiate(&server, "k");
        let parts =
            [(1, upload_part(&server, "k", &id, 1, &bytes(PART, 1))), (2, upload_part(&server, "k", &id, 2, b"x"))];
        let text = parts.iter().map(|(_, tag)| tag.trim_matches('"')).collect::<String>();
        let sum: String = Md5::digest(&text).iter().map(|byte| format!("{byte:02X}")).collect();
        let done = complete("k", &id, &parts).send(&server).expect(200);
        assert_eq!(done.header("etag"), format!("\"{sum}-2\""));
        assert_eq!(call("HEAD", "k").send(&server).expect(200).header("etag"), done.header("etag"));
    }
}

#[test]
fn complete_checks_in_the_order_of_the_specification() {
    let (_dir, stores) = stores();
    for store in stores {
        let server = start(store);
        let id = initiate(&server, "k");
        let one = upload_part(&server, "k", &id, 1, &bytes(PART - 1, 1));
        let two = upload_part(&server, "k", &id, 2, &bytes(PART, 2));
        let post = |body: &str| call("POST", &format!("k?uploadId={id}")).body(body).send(&server);
        let list = |parts: &[(u32, &str)]| {
            complete_body(&parts.iter().map(|(n, tag)| (*n, (*tag).to_owned())).collect::<Vec<_>>())
        };
        call("POST", "k?uploadId=unknown").body("x").send(&server).refused(404, "NoSuchUpload");
        post("<x/>").refused(400, "MalformedXML");
        post("").refused(400, "MalformedXML");
        post(&list(&[(2, "bad"), (1, "bad")])).refused(400, "InvalidPartOrder");
        post(&list(&[(2, &two), (2, &two)])).refused(400, "InvalidPartOrder");
        post(&list(&[(1, &one), (2, "bad")])).refused(400, "InvalidPart");
        post(&list(&[(1, &one), (3, &two)])).refused(400, "InvalidPart");
        post(&list(&[(1, &one), (2, &two)])).refused(400, "EntityTooSmall");
        upload_part(&server, "k", &id, 1, &bytes(PART, 1));
        post(&list(&[(1, &one), (2, &two)])).refused(400, "InvalidPart");
        let one = upload_part(&server, "k", &id, 1, &bytes(PART, 1)).to_lowercase().replace('"', "&#34;");
        call("PUT", "k").body("x").send(&server).expect(200);
        let keep = complete("k", &id, &[(1, one.clone())]).header("x-oss-forbid-overwrite", "true");
        keep.send(&server).refused(409, "FileAlreadyExists");
        post(&list(&[(1, &one), (2, &two)])).expect(200);
    }
}

#[test]
fn complete_all_takes_what_is_there_and_an_empty_list_makes_an_empty_object() {
    let (_dir, stores) = stores();
    for store in stores {
        let server = start(store);
        let id = initiate(&server, "all");
        upload_part(&server, "all", &id, 4, &bytes(10, 4));
        upload_part(&server, "all", &id, 2, &bytes(PART, 2));
        let all =
            |body: &str| call("POST", &format!("all?uploadId={id}")).header("x-oss-complete-all", "yes").body(body);
        all("<CompleteMultipartUpload/>").send(&server).refused(400, "InvalidArgument");
        let done = all("").send(&server).expect(200);
        let whole = [bytes(PART, 2), bytes(10, 4)].concat();
        assert_eq!(done.header("x-oss-hash-crc64ecma"), crc64(&whole).to_string());
        let id = initiate(&server, "none");
        complete("none", &id, &[]).send(&server).expect(200);
        assert_eq!(call("HEAD", "none").send(&server).expect(200).header("content-length"), "0");
    }
}

fn initiate_sequential(server: &Running, key: &str) -> String {
    let begun = call("POST", &format!("{key}?sequential&uploads")).body("").send(server).expect(200);
    begun.element("UploadId").unwrap()
}

fn sequential(method: &str, key: &str, id: &str, rest: &str) -> Call {
    call(method, &format!("{key}?{rest}sequential&uploadId={id}"))
}

/// The promise of `sequential`: every part once, one after the other; then the object has an MD5 of its own.
#[test]
fn parts_of_a_sequential_upload_come_in_order_and_make_a_content_md5() {
    let (_dir, stores) = stores();
    for store in stores {
        let mut server = start(store.clone());
        let id = initiate_sequential(&server, "k");
        let put = |server: &Running, number: u32, body: Vec<u8>| {
            sequential("PUT", "k", &id, &format!("partNumber={number}&")).body(body).send(server)
        };
        put(&server, 2, bytes(PART, 2)).refused(400, "PartNotSequential");
        let one = put(&server, 1, bytes(PART, 1)).expect(200).header("etag").to_owned();
        let again = put(&server, 1, bytes(PART, 1)).refused(409, "PartAlreadyExist");
        assert_eq!(again.element("PartNumber").as_deref(), Some("1"));
        let refused = put(&server, 3, bytes(PART, 3)).refused(400, "PartNotSequential");
        assert_eq!((refused.element("PartNumber").unwrap(), refused.header("x-oss-ec")), ("3".into(), "0042-00000105"));
        if matches!(store, StoreKind::Dir(_)) {
            drop(server);
            server = start(store.clone());
            put(&server, 3, bytes(PART, 3)).refused(400, "PartNotSequential");
        }
        let two = put(&server, 2, b"end".to_vec()).expect(200).header("etag").to_owned();
        sequential("GET", "k", &id, "").send(&server).expect(200);
        let done = |parts: &[(u32, String)]| sequential("POST", "k", &id, "").body(complete_body(parts)).send(&server);
        done(&[(2, two.clone())]).refused(400, "PartNotSequential");
        done(&[(1, one), (2, two)]).expect(200);
        let whole = [bytes(PART, 1), b"end".to_vec()].concat();
        let md5 = if store == StoreKind::Null { String::new() } else { STANDARD.encode(Md5::digest(&whole)) };
        assert_eq!(call("HEAD", "k").send(&server).expect(200).header("content-md5"), md5);
    }
}

#[test]
fn a_sequential_upload_is_aborted_and_copied_into_like_any_other() {
    let server = start(StoreKind::Memory);
    call("PUT", "source").body("x").send(&server).expect(200);
    let id = initiate_sequential(&server, "k");
    let copy = |number: u32| {
        let part = sequential("PUT", "k", &id, &format!("partNumber={number}&"));
        part.header("x-oss-copy-source", "/demo/source").body("").send(&server)
    };
    copy(2).refused(400, "PartNotSequential");
    copy(1).expect(200);
    copy(1).refused(409, "PartAlreadyExist");
    sequential("DELETE", "k", &id, "").send(&server).expect(204);
    copy(2).refused(404, "NoSuchUpload");
}

#[test]
fn of_many_next_parts_at_once_a_sequential_upload_takes_one() {
    let server = start(StoreKind::Memory);
    let id = initiate_sequential(&server, "k");
    let target = format!("k?partNumber=1&uploadId={id}");
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let put = |n: u64| call("PUT", &target).body(bytes(PART, n)).send(&server).status;
        let all: Vec<_> = (0..8).map(|n| scope.spawn(move || put(n))).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| [200, 409].contains(status)), "{statuses:?}");
}

#[test]
fn list_parts_has_pages_and_holes() {
    let (_dir, stores) = stores();
    for store in stores {
        let server = start(store);
        let id = initiate(&server, "k");
        let list = |query: &str| {
            let target = format!("/demo/k?{query}uploadId={id}&encoding-type=url");
            Call::new("GET", &target, &format!("/demo/k?uploadId={id}")).send(&server)
        };
        assert_eq!(list("").expect(200).element("NextPartNumberMarker"), Some(String::new()));
        let tags: Vec<String> = [2, 5, 9].map(|n| upload_part(&server, "k", &id, n, &bytes(10, n.into()))).into();
        let page = list("max-parts=2&").expect(200);
        assert_eq!(page.element("IsTruncated").as_deref(), Some("true"));
        assert_eq!(page.element("NextPartNumberMarker").as_deref(), Some("5"));
        assert!(
            page.text().contains("<PartNumber>2</PartNumber>") && !page.text().contains("<PartNumber>9</PartNumber>")
        );
        let rest = list("max-parts=2&part-number-marker=5&").expect(200);
        assert_eq!(rest.element("IsTruncated").as_deref(), Some("false"));
        assert_eq!(rest.element("PartNumber").as_deref(), Some("9"));
        assert_eq!(rest.element("ETag").unwrap().replace("&quot;", "\""), tags[2]);
        assert_eq!(rest.element("HashCrc64ecma").unwrap(), crc64(&bytes(10, 9)).to_string());
        assert_eq!(rest.element("Size").as_deref(), Some("10"));
        list("max-parts=0&").refused(400, "InvalidArgument");
        list("max-parts=1001&").refused(400, "InvalidArgument");
    }
}

#[test]
fn uploads_are_listed_by_key_and_id_and_abort_forgets_them() {
    let (_dir, stores) = stores();
    for store in stores {
        let server = start(store);
        let mut ids = [initiate(&server, "b"), initiate(&server, "b")];
        ids.sort();
        let a = initiate(&server, "a");
        let dir = initiate(&server, "dir/x");
        let list = |query: &str| {
            Call::new("GET", &format!("/demo/?uploads=&{query}"), "/demo/?uploads").send(&server).expect(200).text()
        };
        let found = |xml: &str| -> Vec<String> {
            xml.split("<UploadId>").skip(1).map(|rest| rest.split_once('<').unwrap().0.to_owned()).collect()
        };
        assert_eq!(found(&list("")), [&a, &ids[0], &ids[1], &dir].map(String::clone));
        assert_eq!(found(&list("prefix=b")), ids);
        assert!(list("delimiter=/").contains("<CommonPrefixes><Prefix>dir/</Prefix></CommonPrefixes>"));
        let page = list("max-uploads=2");
        assert_eq!(found(&page), [&a, &ids[0]].map(String::clone));
        assert!(page.contains("<NextKeyMarker>b</NextKeyMarker>"), "{page}");
        assert!(page.contains(&format!("<NextUploadIdMarker>{}</NextUploadIdMarker>", ids[0])), "{page}");
        assert_eq!(
            found(&list(&format!("key-marker=b&upload-id-marker={}", ids[0]))),
            [&ids[1], &dir].map(String::clone)
        );
        assert_eq!(found(&list("key-marker=b")), std::slice::from_ref(&dir));
        let abort = |key: &str, id: &str| call("DELETE", &format!("{key}?uploadId={id}")).send(&server);
        abort("other", &a).refused(404, "NoSuchUpload");
        abort("a", &a).expect(204);
        abort("a", &a).refused(404, "NoSuchUpload");
        let late = call("PUT", &format!("a?partNumber=1&uploadId={a}")).body("x").send(&server);
        late.refused(404, "NoSuchUpload");
    }
}

#[test]
fn part_numbers_have_limits() {
    let server = start(StoreKind::Null);
    let id = initiate(&server, "k");
    for bad in ["0", "10001", "-1", "x", "4294967297"] {
        let put = call("PUT", &format!("k?partNumber={bad}&uploadId={id}")).body("x");
        put.send(&server).refused(400, "InvalidArgument");
    }
    call("PUT", &format!("k?uploadId={id}")).body("x").send(&server).refused(400, "InvalidArgument");
    upload_part(&server, "k", &id, 10_000, b"x");
}

#[test]
fn a_broken_off_part_leaves_the_earlier_one_in_place() {
    let (dir, stores) = stores();
    for store in stores {
        let server = start(store.clone());
        let id = initiate(&server, "k");
        let tag = upload_part(&server, "k", &id, 1, b"whole");
        let mut stream = TcpStream::connect(server.address).unwrap();
        let head = call("PUT", &format!("k?partNumber=1&uploadId={id}")).header("content-length", "3000000");
        stream.write_all(head.head(server.address).as_bytes()).unwrap();
        stream.write_all(&bytes(2_000_000, 1)).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        let _ = std::io::Read::read_to_end(&mut stream, &mut rest);
        complete("k", &id, &[(1, tag)]).send(&server).expect(200);
        if matches!(store, StoreKind::Dir(_)) {
            assert_eq!(call("GET", "k").send(&server).expect(200).body, b"whole");
            drop(server);
            let incoming = dir.path().join("store/incoming");
            assert_eq!(std::fs::read_dir(incoming).unwrap().count(), 0);
        }
    }
}

#[test]
fn a_document_of_any_size_is_not_taken_into_memory() {
    let server = start(StoreKind::Null);
    let id = initiate(&server, "k");
    let huge = call("POST", &format!("k?uploadId={id}")).body(vec![b' '; (4 << 20) + 1]);
    huge.send(&server).refused(400, "MalformedXML");
    let parts: Vec<(u32, String)> = (1..=10_000).map(|n| (n, format!("&quot;{n:032X}&quot;"))).collect();
    complete("k", &id, &parts).send(&server).refused(400, "InvalidPart");
}

#[test]
fn everything_acknowledged_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = StoreKind::Dir(dir.path().join("store"));
    let server = start(store.clone());
    let put = call("PUT", "dir/o").header("x-oss-meta-a", "1").body(bytes(PART, 1)).send(&server).expect(200);
    call("PUT", "gone").body("x").send(&server).expect(200);
    call("DELETE", "gone").send(&server).expect(204);
    let id = initiate(&server, "big");
    upload_part(&server, "big", &id, 1, b"replaced");
    let one = upload_part(&server, "big", &id, 1, &bytes(PART, 1));
    drop(server);
    std::fs::write(dir.path().join("store/incoming/7"), b"half a body").unwrap();

    let server = start(store);
    assert!(!dir.path().join("store/incoming/7").exists());
    let got = call("GET", "dir/o").send(&server).expect(200);
    assert_eq!(got.body, bytes(PART, 1));
    assert_eq!(got.header("etag"), put.header("etag"));
    assert_eq!(got.header("x-oss-meta-a"), "1");
    call("GET", "gone").send(&server).refused(404, "NoSuchKey");
    let listed = call("GET", &format!("big?uploadId={id}")).send(&server).expect(200);
    assert_eq!(listed.text().matches("<Part>").count(), 1);
    let two = upload_part(&server, "big", &id, 2, b"end");
    complete("big", &id, &[(1, one), (2, two)]).send(&server).expect(200);
    let whole = [bytes(PART, 1), b"end".to_vec()].concat();
    assert_eq!(call("GET", "big").send(&server).expect(200).body, whole);
    assert_eq!(std::fs::read(dir.path().join("store/buckets/demo/objects/big")).unwrap(), whole);
    assert_eq!(std::fs::read_dir(dir.path().join("store/uploads")).unwrap().count(), 0);
}

#[test]
fn one_directory_has_one_server_and_foreign_directories_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = StoreKind::Dir(dir.path().join("store"));
    let _server = start(store.clone());
    let second = try_start(config(store)).err().expect("refused");
    assert!(matches!(second, ServerError::Store(_)) && second.to_string().contains("locked"), "{second}");
    std::fs::create_dir_all(dir.path().join("home/incoming")).unwrap();
    let foreign = try_start(config(StoreKind::Dir(dir.path().join("home")))).err().expect("refused");
    assert!(foreign.to_string().contains("neither empty nor a store"), "{foreign}");
    assert!(dir.path().join("home/incoming").exists());
}
