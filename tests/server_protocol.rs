//! The rest of the protocol, over a socket: what each operation does, and what it refuses.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use crate::server_support::*;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use haul::model::crc64::crc64;
use haul::server::{Config, StoreKind};
use md5::{Digest, Md5};

/// Runs the same promises on every store that keeps bytes.
fn on_both(promise: impl Fn(&Running)) {
    promise(&start(StoreKind::Memory));
    let dir = tempfile::tempdir().unwrap();
    promise(&start(StoreKind::Dir(dir.path().join("store"))));
}

fn put(server: &Running, key: &str, body: &[u8]) -> Reply {
    call("PUT", key).body(body).send(server).expect(200)
}

fn get(server: &Running, key: &str) -> Reply {
    call("GET", key).send(server)
}

fn append(server: &Running, key: &str, position: u64, body: &[u8]) -> Reply {
    call("POST", &format!("{key}?append&position={position}")).body(body).send(server)
}

fn copy(key: &str, source: &str) -> Call {
    call("PUT", key).header("x-oss-copy-source", source).body("")
}

fn with_md5(call: Call, body: &str) -> Call {
    call.header("content-md5", &STANDARD.encode(Md5::digest(body))).body(body)
}

fn elements(reply: &Reply, name: &str) -> Vec<String> {
    let text = reply.text();
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    text.split(&open).skip(1).map(|rest| rest.split(&close).next().unwrap().to_owned()).collect()
}

#[test]
fn an_object_grows_by_appending_where_it_ends() {
    on_both(|server| {
        let (a, b) = (bytes(300_000, 1), bytes(70_001, 2));
        let first = append(server, "log", 0, &a).expect(200);
        assert_eq!(first.header("x-oss-next-append-position"), "300000");
        assert_eq!(first.header("x-oss-hash-crc64ecma"), crc64(&a).to_string());
        let second = append(server, "log", 300_000, &b).expect(200);
        let whole = [a, b].concat();
        assert_eq!(second.header("x-oss-hash-crc64ecma"), crc64(&whole).to_string());
        let reply = get(server, "log").expect(200);
        assert_eq!(reply.header("x-oss-object-type"), "Appendable");
        assert_eq!(reply.header("x-oss-next-append-position"), "370001");
        assert_eq!(reply.header("etag"), second.header("etag"));
        assert!(reply.body == whole);
    });
}

#[test]
fn appending_elsewhere_or_to_something_else_is_refused_with_the_right_position() {
    on_both(|server| {
        let beyond = append(server, "log", 5, b"x").refused(409, "PositionNotEqualToLength");
        assert_eq!(beyond.header("x-oss-next-append-position"), "0");
        append(server, "log", 0, b"abc").expect(200);
        let again = append(server, "log", 0, b"abc").refused(409, "PositionNotEqualToLength");
        assert_eq!((again.header("x-oss-next-append-position"), again.header("x-oss-ec")), ("3", "0026-00000016"));
        put(server, "normal", b"abc");
        append(server, "normal", 3, b"d").refused(409, "ObjectNotAppendable");
        call("POST", "log?append&position=x").body("d").send(server).refused(400, "InvalidArgument");
        assert_eq!(get(server, "log").body, b"abc");
        assert_eq!(get(server, "normal").body, b"abc");
    });
}

#[test]
fn a_copy_has_bytes_and_metadata_of_its_source_unless_it_brings_its_own() {
    on_both(|server| {
        let body = bytes(400_000, 3);
        let source = Call::new("PUT", "/demo/a%20b%2B", "/demo/a b+")
            .header("x-oss-meta-who", "me")
            .header("content-type", "text/x")
            .body(body.clone());
        source.send(server).expect(200);
        let copied = copy("copy", "/demo/a%20b%2B").send(server).expect(200);
        assert_eq!(
            copied.element("ETag").map(|tag| tag.replace("&quot;", "\"")).as_deref(),
            Some(copied.header("etag"))
        );
        let reply = get(server, "copy").expect(200);
        assert!(reply.body == body);
        assert_eq!((reply.header("x-oss-meta-who"), reply.header("content-type")), ("me", "text/x"));
        let replaced = copy("other", "demo/a%20b%2B").header("x-oss-metadata-directive", "REPLACE");
        replaced.header("x-oss-meta-new", "1").send(server).expect(200);
        let reply = get(server, "other").expect(200);
        assert_eq!((reply.header("x-oss-meta-who"), reply.header("x-oss-meta-new")), ("", "1"));
    });
}

/// Clients spell directives in capitals or not, and send both with every copy.
#[test]
fn directives_and_choices_are_taken_in_any_case() {
    let server = start(StoreKind::Memory);
    call("PUT", "k").header("x-oss-tagging", "a=1").header("x-oss-meta-a", "1").body("x").send(&server).expect(200);
    let told = |key: &str, directive: &str| {
        let call = copy(key, "/demo/k").header("x-oss-metadata-directive", directive);
        let call = call.header("x-oss-tagging-directive", directive).header("x-oss-meta-b", "2");
        call.header("x-oss-tagging", "b=1&c=2").send(&server).expect(200);
        let head = call_head(&server, key);
        (head.header("x-oss-meta-a").to_owned(), head.header("x-oss-tagging-count").to_owned())
    };
    for directive in ["COPY", "Copy", "copy"] {
        assert_eq!(told("copied", directive), ("1".into(), "1".into()), "{directive}");
    }
    for directive in ["REPLACE", "Replace", "replace"] {
        assert_eq!(told("replaced", directive), (String::new(), "2".into()), "{directive}");
    }
    call("PUT", "class").header("x-oss-storage-class", "ia").body("x").send(&server).expect(200);
    assert_eq!(call_head(&server, "class").header("x-oss-storage-class"), "IA");
    call("PUT", "class?acl").header("x-oss-object-acl", "PRIVATE").body("").send(&server).expect(200);
    assert_eq!(call("GET", "class?acl").send(&server).element("Grant").as_deref(), Some("private"));
}

fn call_head(server: &Running, key: &str) -> Reply {
    call("HEAD", key).send(server).expect(200)
}

/// Names in headers are encoded as in a query: some clients write a blank as `+`.
#[test]
fn a_plus_in_the_name_of_a_source_or_target_is_a_blank() {
    on_both(|server| {
        for (path, key, body) in [("/demo/a%20b", "/demo/a b", "blank"), ("/demo/a%2Bb", "/demo/a+b", "plus")] {
            Call::new("PUT", path, key).body(body).send(server).expect(200);
        }
        for (name, body) in [("a+b", "blank"), ("a%20b", "blank"), ("a%2Bb", "plus"), ("a%2bb", "plus")] {
            copy("copy", &format!("/demo/{name}")).send(server).expect(200);
            assert_eq!(get(server, "copy").text(), body, "{name}");
            let id = initiate(server, "joined");
            let part = call("PUT", &format!("joined?partNumber=1&uploadId={id}"));
            let part = part.header("x-oss-copy-source", &format!("demo/{name}")).body("").send(server).expect(200);
            complete("joined", &id, &[(1, part.header("etag").to_owned())]).send(server).expect(200);
            assert_eq!(get(server, "joined").text(), body, "{name}");
            call("PUT", "link?symlink").header("x-oss-symlink-target", name).body("").send(server).expect(200);
            assert_eq!(get(server, "link").text(), body, "{name}");
        }
    });
}

#[test]
fn a_copy_is_refused_without_its_source_or_against_its_conditions() {
    let server = start(StoreKind::Memory);
    let tag = put(&server, "k", b"x").header("etag").to_owned();
    copy("to", "/demo/none").send(&server).refused(404, "NoSuchKey");
    copy("to", "/nowhere/k").send(&server).refused(404, "NoSuchBucket");
    for bad in ["k", "/demo/", "%zz/k%ff", ""] {
        assert_eq!(copy("to", bad).send(&server).status, 400, "{bad}");
    }
    copy("to", "/demo/k")
        .header("x-oss-copy-source-if-match", "other")
        .send(&server)
        .refused(412, "PreconditionFailed");
    let id = initiate(&server, "joined");
    let part = format!("joined?partNumber=1&uploadId={id}");
    for target in ["to", &part] {
        for (name, value) in [("none-match", tag.as_str()), ("modified-since", "Fri, 01 Jan 2100 00:00:00 GMT")] {
            let same = copy(target, "/demo/k").header(&format!("x-oss-copy-source-if-{name}"), value).send(&server);
            assert_eq!((same.status, same.body.as_slice()), (304, &b""[..]), "{target} {name}");
        }
    }
    get(&server, "to").refused(404, "NoSuchKey");
    assert!(!call("GET", &format!("joined?uploadId={id}")).send(&server).expect(200).text().contains("<Part>"));
    copy("to", "/demo/k").header("x-oss-metadata-directive", "Perhaps").send(&server).refused(400, "InvalidArgument");
    copy("k", "/demo/k").header("x-oss-forbid-overwrite", "true").send(&server).refused(409, "FileAlreadyExists");
    copy("to", "/demo/k").header("x-oss-copy-source-if-match", &tag).send(&server).expect(200);
}

#[test]
fn parts_are_copied_whole_and_by_range_and_have_checksums() {
    on_both(|server| {
        let body = bytes(400_000, 4);
        put(server, "source", &body);
        let id = initiate(server, "joined");
        let part = |number: u32, range: Option<&str>| {
            let target = format!("joined?partNumber={number}&uploadId={id}");
            let call = call("PUT", &target).header("x-oss-copy-source", "/demo/source");
            let call = range.into_iter().fold(call, |call, range| call.header("x-oss-copy-source-range", range));
            call.body("").send(server)
        };
        let first = part(1, Some("bytes=0-199999")).expect(200);
        assert_eq!(first.header("x-oss-hash-crc64ecma"), crc64(&body[..200_000]).to_string());
        let second = part(2, Some("bytes=200000-")).expect(200);
        let third = part(3, None).expect(200);
        part(4, Some("bytes=400000-400001")).refused(400, "InvalidArgument");
        let tag = |reply: &Reply| reply.header("etag").to_owned();
        complete("joined", &id, &[(1, tag(&first)), (2, tag(&second)), (3, tag(&third))]).send(server).expect(200);
        assert!(get(server, "joined").body == [body.clone(), body].concat());
    });
}

#[test]
fn many_keys_are_deleted_at_once_whether_they_exist_or_not() {
    on_both(|server| {
        for key in ["a", "b", "c"] {
            put(server, key, b"x");
        }
        let body = "<Delete><Object><Key>a</Key></Object><Object><Key>b&amp;&lt;</Key></Object></Delete>";
        let reply = with_md5(call("POST", "?delete"), body).send(server).expect(200);
        assert_eq!(elements(&reply, "Key"), ["a", "b&amp;&lt;"]);
        let quiet = "<?xml version=\"1.0\"?><Delete><Quiet>true</Quiet><Object><Key>b</Key></Object></Delete>";
        assert_eq!(with_md5(call("POST", "?delete"), quiet).send(server).expect(200).body, b"");
        assert_eq!(elements(&get(server, "").expect(200), "Key"), ["c"]);
    });
}

/// One official client encodes 20 bytes of which the first 16 are the MD5.
#[test]
fn bytes_after_the_md5_are_taken_of_a_batch_delete_alone() {
    let server = start(StoreKind::Memory);
    put(&server, "a", b"x");
    let body = "<Delete><Object><Key>a</Key></Object></Delete>";
    let longer = |body: &str| STANDARD.encode([Md5::digest(body).as_slice(), &[7; 4]].concat());
    call("POST", "?delete").header("content-md5", &longer(body)).body(body).send(&server).expect(200);
    get(&server, "a").refused(404, "NoSuchKey");
    call("PUT", "a").header("content-md5", &longer("x")).body("x").send(&server).refused(400, "InvalidDigest");
}

#[test]
fn a_batch_delete_that_is_not_one_deletes_nothing() {
    let server = start(StoreKind::Memory);
    put(&server, "a", b"x");
    let body = "<Delete><Object><Key>a</Key></Object></Delete>";
    call("POST", "?delete").body(body).send(&server).refused(400, "MissingArgument");
    for wrong in [&[0; 16][..], &[0; 20], &Md5::digest(body)[..15], b""] {
        let wrong = call("POST", "?delete").header("content-md5", &STANDARD.encode(wrong)).body(body);
        wrong.send(&server).refused(400, "InvalidDigest");
    }
    let refused = with_md5(call("POST", "?delete"), "<Remove></Remove>").send(&server).refused(400, "MalformedXML");
    assert_eq!(refused.header("x-oss-ec"), "0016-00000608");
    let many = format!("<Delete>{}</Delete>", "<Object><Key>a</Key></Object>".repeat(1001));
    let refused = with_md5(call("POST", "?delete"), &many).send(&server).refused(400, "MalformedXML");
    assert_eq!(refused.header("x-oss-ec"), "0016-00000609");
    let version = "<Delete><Object><Key>a</Key><VersionId>1</VersionId></Object></Delete>";
    with_md5(call("POST", "?delete"), version).send(&server).refused(501, "NotImplemented");
    get(&server, "a").expect(200);
}

#[test]
fn the_first_listing_goes_on_after_a_marker_and_folds_prefixes() {
    let server = start(StoreKind::Memory);
    for key in ["a/1", "a/2", "b", "c/1", "d e"] {
        let path = format!("/demo/{key}");
        Call::new("PUT", &path.replace(' ', "%20"), &path).body("x").send(&server).expect(200);
    }
    let list = |query: &str| call_unsigned_query("GET", "", query).send(&server).expect(200);
    let first = list("delimiter=/&max-keys=2");
    assert_eq!(elements(&first, "Key"), ["b"]);
    assert_eq!(elements(&first, "Prefix"), ["", "a/"]);
    assert_eq!(
        (first.element("IsTruncated").unwrap(), first.element("NextMarker").unwrap()),
        ("true".into(), "b".into())
    );
    let second = list("delimiter=/&max-keys=2&marker=b&encoding-type=url");
    assert_eq!(elements(&second, "Key"), ["d%20e"]);
    assert_eq!(elements(&second, "Prefix"), ["", "c%2F"]);
    assert_eq!((second.element("IsTruncated").unwrap(), second.element("NextMarker")), ("false".into(), None));
    for bad in ["max-keys=0", "max-keys=1001", "max-keys=x", "encoding-type=html"] {
        call_unsigned_query("GET", "", bad).send(&server).refused(400, "InvalidArgument");
    }
}

#[test]
fn buckets_are_made_described_listed_and_deleted_when_empty() {
    on_both(|server| {
        let bucket = |method: &str, query: &str| Call::new(method, &format!("/box/{query}"), &format!("/box/{query}"));
        let wanted = "<CreateBucketConfiguration><StorageClass>IA</StorageClass></CreateBucketConfiguration>";
        let made = bucket("PUT", "").header("x-oss-acl", "public-read").body(wanted).send(server).expect(200);
        assert_eq!(made.header("location"), "/box");
        bucket("PUT", "").body("").send(server).expect(200);
        let info = bucket("GET", "?bucketInfo").send(server).expect(200);
        assert_eq!(
            (info.element("StorageClass").unwrap(), info.element("Grant").unwrap()),
            ("IA".into(), "public-read".into())
        );
        let location = bucket("GET", "?location").send(server).expect(200);
        assert!(
            location.text().ends_with("<LocationConstraint>oss-cn-hangzhou</LocationConstraint>"),
            "{}",
            location.text()
        );
        let all = Call::new("GET", "/", "/").send(server).expect(200);
        assert_eq!(elements(&all, "Name"), ["box", "demo"]);
        let page = Call::new("GET", "/?max-keys=1", "/").send(server).expect(200);
        assert_eq!(
            (elements(&page, "Name"), page.element("NextMarker").unwrap()),
            (vec!["box".to_owned()], "box".into())
        );
        let put = |key: &str| Call::new("PUT", &format!("/box/{key}"), &format!("/box/{key}"));
        put("k").body("12345").send(server).expect(200);
        let stat = bucket("GET", "?stat").send(server).expect(200);
        assert_eq!((stat.element("Storage").unwrap(), stat.element("ObjectCount").unwrap()), ("5".into(), "1".into()));
        bucket("DELETE", "").send(server).refused(409, "BucketNotEmpty");
        Call::new("DELETE", "/box/k", "/box/k").send(server).expect(204);
        let upload = Call::new("POST", "/box/k?uploads", "/box/k?uploads").body("").send(server).expect(200);
        bucket("DELETE", "").send(server).refused(409, "BucketNotEmpty");
        let abort = format!("/box/k?uploadId={}", upload.element("UploadId").unwrap());
        Call::new("DELETE", &abort, &abort).send(server).expect(204);
        bucket("DELETE", "").send(server).expect(204);
        bucket("GET", "?stat").send(server).refused(404, "NoSuchBucket");
        put("k").body("1").send(server).refused(404, "NoSuchBucket");
    });
}

#[test]
fn everybody_reads_what_is_public_and_writes_only_where_a_bucket_lets_them() {
    on_both(|server| {
        let anonymous = |method: &str, target: &str| call(method, target).unsigned();
        put(server, "k", b"x");
        anonymous("GET", "k").send(server).refused(403, "AccessDenied");
        call("PUT", "k?acl").header("x-oss-object-acl", "public-read").body("").send(server).expect(200);
        assert_eq!(anonymous("GET", "k").send(server).expect(200).body, b"x");
        anonymous("HEAD", "k").send(server).expect(200);
        anonymous("GET", "k?response-content-type=text/html").send(server).refused(403, "AccessDenied");
        anonymous("PUT", "k").body("y").send(server).refused(403, "AccessDenied");
        let grant = |target: &str| call("GET", target).send(server).expect(200).element("Grant").unwrap();
        assert_eq!((grant("k?acl").as_str(), grant("?acl").as_str()), ("public-read", "private"));
        call("PUT", "?acl").header("x-oss-acl", "public-read-write").body("").send(server).expect(200);
        anonymous("PUT", "new").body("y").send(server).expect(200);
        anonymous("GET", "new").send(server).expect(200);
        anonymous("GET", "").send(server).refused(403, "AccessDenied");
        anonymous("PUT", "?acl").header("x-oss-acl", "private").body("").send(server).refused(403, "AccessDenied");
        call("PUT", "?acl").header("x-oss-acl", "mine").body("").send(server).refused(400, "InvalidArgument");
        call("PUT", "none?acl").header("x-oss-object-acl", "private").body("").send(server).refused(404, "NoSuchKey");
    });
}

#[test]
fn tags_are_set_read_and_deleted_and_counted_on_reading() {
    on_both(|server| {
        call("PUT", "k").header("x-oss-tagging", "a=1&b=x%20y").body("x").send(server).expect(200);
        let tags = call("GET", "k?tagging").send(server).expect(200);
        assert_eq!(
            (elements(&tags, "Key"), elements(&tags, "Value")),
            (vec!["a".into(), "b".into()], vec!["1".into(), "x y".into()])
        );
        let new = "<Tagging><TagSet><Tag><Key>c</Key><Value></Value></Tag></TagSet></Tagging>";
        call("PUT", "k?tagging").body(new).send(server).expect(200);
        assert_eq!(elements(&call("GET", "k?tagging").send(server).expect(200), "Key"), ["c"]);
        assert_eq!(call("HEAD", "k").send(server).expect(200).header("x-oss-tagging-count"), "1");
        call("DELETE", "k?tagging").send(server).expect(204);
        assert_eq!(call("HEAD", "k").send(server).expect(200).header("x-oss-tagging-count"), "");
        call("PUT", "k").header("x-oss-tagging", "a=1&a=2").body("x").send(server).refused(400, "InvalidArgument");
        call("PUT", "k?tagging").body("<Tags/>").send(server).refused(400, "MalformedXML");
    });
}

#[test]
fn a_symbolic_link_is_read_as_its_target() {
    on_both(|server| {
        put(server, "dir/target", b"content");
        let link = |key: &str, target: &str| {
            call("PUT", &format!("{key}?symlink")).header("x-oss-symlink-target", target).body("").send(server)
        };
        link("link", "dir%2Ftarget").expect(200);
        let reply = get(server, "link").expect(200);
        assert_eq!((reply.body.as_slice(), reply.header("x-oss-object-type")), (&b"content"[..], "Symlink"));
        assert_eq!(call("HEAD", "link").send(server).expect(200).header("content-length"), "7");
        assert_eq!(call("GET", "link?symlink").send(server).expect(200).header("x-oss-symlink-target"), "dir%2Ftarget");
        link("dangling", "nothing").expect(200);
        get(server, "dangling").refused(404, "SymlinkTargetNotExist");
        link("twice", "link").expect(200);
        get(server, "twice").refused(400, "InvalidTargetType");
        call("PUT", "bare?symlink").body("").send(server).refused(400, "InvalidArgument");
    });
}

#[test]
fn a_symbolic_link_has_metadata_of_its_own_and_an_object_is_none() {
    let server = start(StoreKind::Memory);
    put(&server, "target", b"content");
    let link = call("PUT", "link?symlink").header("x-oss-symlink-target", "target").header("x-oss-meta-who", "me");
    link.body("").send(&server).expect(200);
    assert_eq!(call("GET", "link?symlink").send(&server).expect(200).header("x-oss-meta-who"), "me");
    call("GET", "target?symlink").send(&server).refused(400, "NotSymlink");
    call("GET", "none?symlink").send(&server).refused(404, "NoSuchKey");
}

fn restoring_in(time: Duration, store: StoreKind) -> Running {
    try_start(Config { restore_time: time, ..config(store) }).unwrap()
}

fn archived(server: &Running, class: &str) {
    call("PUT", "old").header("x-oss-storage-class", class).body("x").send(server).expect(200);
}

fn restore(server: &Running, days: u32) -> Reply {
    let body = format!("<RestoreRequest><Days>{days}</Days></RestoreRequest>");
    call("POST", "old?restore").body(body).send(server)
}

#[test]
fn archived_objects_are_read_only_after_they_were_restored() {
    let dir = tempfile::tempdir().unwrap();
    for store in [StoreKind::Memory, StoreKind::Dir(dir.path().join("store"))] {
        let server = &restoring_in(Duration::ZERO, store);
        archived(server, "Archive");
        get(server, "old").refused(403, "InvalidObjectState");
        let head = call("HEAD", "old").send(server).expect(200);
        assert_eq!((head.header("x-oss-storage-class"), head.header("x-oss-restore")), ("Archive", ""));
        copy("to", "/demo/old").send(server).refused(403, "InvalidObjectState");
        call("POST", "old?restore").body("").send(server).expect(202);
        let reply = get(server, "old").expect(200);
        let told = reply.header("x-oss-restore").to_owned();
        assert_eq!(reply.body.as_slice(), b"x");
        assert!(told.starts_with("ongoing-request=\"false\", expiry-date=\"") && told.ends_with(" GMT\""), "{told}");
        assert!(get(server, "").text().contains("<RestoreInfo>ongoing-request=&quot;false&quot;"));
        restore(server, 7).expect(200);
        assert_ne!(
            call("HEAD", "old").send(server).expect(200).header("x-oss-restore"),
            told,
            "it is readable for longer"
        );
        copy("to", "/demo/old").send(server).expect(200);
        assert_eq!(call("HEAD", "to").send(server).expect(200).header("x-oss-restore"), "");
        restore(server, 8).refused(400, "InvalidArgument");
        call("POST", "old?restore").body("<Days/>").send(server).refused(400, "MalformedXML");
        call("PUT", "k").header("x-oss-storage-class", "Attic").body("x").send(server).refused(400, "InvalidArgument");
    }
}

#[test]
fn an_object_that_is_being_restored_cannot_be_read_nor_restored_again() {
    let server = &restoring_in(Duration::from_secs(3600), StoreKind::Memory);
    archived(server, "ColdArchive");
    restore(server, 30).expect(202);
    assert_eq!(call("HEAD", "old").send(server).expect(200).header("x-oss-restore"), "ongoing-request=\"true\"");
    let refused = restore(server, 30).refused(409, "RestoreAlreadyInProgress");
    assert_eq!(refused.header("x-oss-ec"), "0016-00000701");
    get(server, "old").refused(403, "InvalidObjectState");
}

#[test]
fn restoring_ends_by_itself() {
    let server = &restoring_in(Duration::from_millis(300), StoreKind::Memory);
    archived(server, "Archive");
    restore(server, 1).expect(202);
    while call("HEAD", "old").send(server).expect(200).header("x-oss-restore") == "ongoing-request=\"true\"" {}
    get(server, "old").expect(200);
}

#[test]
fn what_is_not_archived_cannot_be_restored() {
    let server = start(StoreKind::Memory);
    for class in ["Standard", "IA"] {
        archived(&server, class);
        let refused = restore(&server, 1).refused(400, "OperationNotSupported");
        assert_eq!(refused.header("x-oss-ec"), "0016-00000702");
    }
    call("POST", "none?restore").body("").send(&server).refused(404, "NoSuchKey");
}

#[test]
fn the_meta_of_an_object_is_told_without_its_headers() {
    let server = start(StoreKind::Memory);
    call("PUT", "k").header("x-oss-meta-a", "1").body("12345").send(&server).expect(200);
    let meta = call("HEAD", "k?objectMeta").send(&server).expect(200);
    assert_eq!((meta.header("content-length"), meta.header("x-oss-meta-a")), ("5", ""));
    assert_eq!(meta.header("x-oss-hash-crc64ecma"), crc64(b"12345").to_string());
    assert!(!meta.header("etag").is_empty() && !meta.header("last-modified").is_empty());
    let missing = call("HEAD", "none?objectMeta").send(&server).expect(404);
    let document = STANDARD.decode(missing.header("x-oss-err")).unwrap();
    assert!(String::from_utf8(document).unwrap().contains("<Code>NoSuchKey</Code>"));
}

#[test]
fn encryption_headers_come_back_from_all_that_writes() {
    let server = start(StoreKind::Memory);
    let name = "x-oss-server-side-encryption";
    let encrypted = |call: Call| call.header(name, "AES256");
    assert_eq!(encrypted(call("PUT", "k")).body("x").send(&server).expect(200).header(name), "AES256");
    assert_eq!(call("HEAD", "k").send(&server).expect(200).header(name), "AES256");
    let begun = encrypted(call("POST", "m?uploads")).body("").send(&server).expect(200);
    assert_eq!(begun.header(name), "AES256");
    let id = begun.element("UploadId").unwrap();
    let part = call("PUT", &format!("m?partNumber=1&uploadId={id}")).body("x").send(&server).expect(200);
    assert_eq!(part.header(name), "AES256");
    let done = complete("m", &id, &[(1, part.header("etag").to_owned())]).send(&server).expect(200);
    assert_eq!(done.header(name), "AES256");
    call("PUT", "k").header(name, "ROT13").body("x").send(&server).refused(400, "InvalidArgument");
}

#[test]
fn a_flag_that_is_neither_true_nor_false_is_refused() {
    let server = start(StoreKind::Memory);
    let reply = call("PUT", "k").header("x-oss-forbid-overwrite", "perhaps").body("x").send(&server);
    assert_eq!(reply.refused(400, "InvalidArgument").header("x-oss-ec"), "0017-00000279");
}

/// An application that is told of objects: answers each POST with the next of `answers`, and keeps what it was sent.
fn application(answers: Vec<&'static str>) -> (String, thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/told", listener.local_addr().unwrap());
    let serve = move || {
        let mut seen = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut chunk = [0; 4096];
            loop {
                let bytes = stream.read(&mut chunk).unwrap();
                request.extend_from_slice(&chunk[..bytes]);
                let text = String::from_utf8_lossy(&request);
                let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
                if body.len() == length.parse::<usize>().unwrap() {
                    break;
                }
            }
            seen.push(String::from_utf8(request).unwrap());
            stream.write_all(answer.as_bytes()).unwrap();
        }
        seen
    };
    (url, thread::spawn(serve))
}

const TOLD: &str = "HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n{\"Status\":\"OK\"}";
const ANGRY: &str = "HTTP/1.1 500 No\r\ncontent-length: 2\r\n\r\n{}";
const WORDY: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nthank";

fn callback(call: Call, url: &str, body: &str) -> Call {
    let json = serde_json::json!({ "callbackUrl": url, "callbackBody": body, "callbackBodyType": "application/x-www-form-urlencoded" });
    let variables = STANDARD.encode(r#"{"x:job":"7 up"}"#);
    call.header("x-oss-callback", &STANDARD.encode(json.to_string())).header("x-oss-callback-var", &variables)
}

#[test]
fn a_callback_is_told_and_its_answer_passed_through() {
    let server = start(StoreKind::Memory);
    let (url, told) = application(vec![TOLD, TOLD]);
    let template = "key=${object}&size=${size}&job=${x:job}";
    let reply =
        callback(Call::new("PUT", "/demo/a%2Fb", "/demo/a/b"), &url, template).body("12345").send(&server).expect(200);
    assert_eq!((reply.text().as_str(), reply.header("content-type")), (r#"{"Status":"OK"}"#, "application/json"));
    assert_eq!(reply.header("x-oss-hash-crc64ecma"), crc64(b"12345").to_string());
    let id = initiate(&server, "m");
    let tag = upload_part(&server, "m", &id, 1, b"part");
    let done = callback(complete("m", &id, &[(1, tag)]), &url, template).send(&server).expect(200);
    assert_eq!(done.text(), r#"{"Status":"OK"}"#);
    let told = told.join().unwrap();
    assert!(told[0].starts_with("POST /told HTTP/1.1\r\n"), "{}", told[0]);
    assert!(told[0].ends_with("key=a%2Fb&size=5&job=7%20up"), "{}", told[0]);
    assert!(told[1].ends_with("key=m&size=4&job=7%20up"), "{}", told[1]);
}

#[test]
fn a_callback_that_fails_is_a_203_and_the_object_is_there() {
    let server = start(StoreKind::Memory);
    let (url, told) = application(vec![ANGRY, WORDY]);
    for key in ["angry", "wordy"] {
        callback(call("PUT", key), &url, "x").body("12345").send(&server).refused(203, "CallbackFailed");
        assert_eq!(get(&server, key).expect(200).body, b"12345");
    }
    told.join().unwrap();
    callback(call("PUT", "nobody"), &url, "x").body("1").send(&server).refused(203, "CallbackFailed");
}

#[test]
fn the_first_of_several_callbacks_that_answers_is_the_answer() {
    let server = start(StoreKind::Memory);
    let (angry, first) = application(vec![ANGRY]);
    let (told, second) = application(vec![TOLD]);
    let reply = callback(call("PUT", "k"), &format!("{angry};{told}"), "x").body("1").send(&server).expect(200);
    assert_eq!(reply.text(), r#"{"Status":"OK"}"#);
    first.join().unwrap();
    second.join().unwrap();
}

#[test]
fn a_callback_that_cannot_be_understood_is_refused_before_anything_is_stored() {
    let server = start(StoreKind::Memory);
    let encode = |json: &str| STANDARD.encode(json);
    for bad in [
        "not base64".to_owned(),
        encode("{}"),
        encode("[]"),
        encode(r#"{"callbackUrl":"","callbackBody":""}"#),
        encode(r#"{"callbackUrl":"ftp://x","callbackBody":""}"#),
        encode(r#"{"callbackUrl":"http://x","callbackBody":"","callbackBodyType":"text/plain"}"#),
    ] {
        let refused = call("PUT", "k").header("x-oss-callback", &bad).body("x").send(&server);
        refused.refused(400, "InvalidArgument");
    }
    get(&server, "k").refused(404, "NoSuchKey");
}

#[test]
fn what_was_changed_about_an_object_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = || StoreKind::Dir(dir.path().join("store"));
    {
        let server = start(store());
        append(&server, "log", 0, b"abc").expect(200);
        call("PUT", "log?acl").header("x-oss-object-acl", "public-read").body("").send(&server).expect(200);
        append(&server, "log", 3, b"def").expect(200);
        call("PUT", "log?tagging")
            .body("<Tagging><TagSet><Tag><Key>a</Key><Value>1</Value></Tag></TagSet></Tagging>")
            .send(&server)
            .expect(200);
        call("PUT", "?acl").header("x-oss-acl", "public-read").body("").send(&server).expect(200);
    }
    let server = start(store());
    let reply = get(&server, "log").expect(200);
    assert_eq!((reply.body.as_slice(), reply.header("x-oss-tagging-count")), (&b"abcdef"[..], "1"));
    assert_eq!(call("GET", "log?acl").send(&server).element("Grant").as_deref(), Some("public-read"));
    assert_eq!(call("GET", "?acl").send(&server).element("Grant").as_deref(), Some("public-read"));
    append(&server, "log", 6, b"g").expect(200);
}
