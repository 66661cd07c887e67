//! Objects over the wire: put, get, head, delete, list; ranges, conditions, errors, hostile requests.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, SystemTime};

use crate::server_support::*;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use haul::model::crc64::crc64;
use haul::server::{Config, ServerError, StoreKind};

fn stores() -> (tempfile::TempDir, Vec<StoreKind>) {
    let dir = tempfile::tempdir().unwrap();
    let kinds = vec![StoreKind::Dir(dir.path().join("store")), StoreKind::Memory];
    (dir, kinds)
}

#[test]
fn an_object_comes_back_with_its_bytes_and_headers() {
    let (_dir, stores) = stores();
    for store in stores {
        let server = start(store);
        let body = bytes(3 << 20, 1);
        let put = call("PUT", "dir/a.bin")
            .header("content-type", "text/plain")
            .header("cache-control", "no-cache")
            .header("x-oss-meta-author", "alice")
            .header("x-oss-storage-class", "IA")
            .header("x-oss-tagging", "a=1&b=2")
            .body(body.clone())
            .send(&server)
            .expect(200);
        for method in ["GET", "HEAD"] {
            let got = call(method, "dir/a.bin").send(&server).expect(200);
            assert_eq!(got.body, if method == "GET" { body.as_slice() } else { b"" });
            for (name, value) in [
                ("content-length", "3145728"),
                ("content-type", "text/plain"),
                ("cache-control", "no-cache"),
                ("x-oss-meta-author", "alice"),
                ("x-oss-storage-class", "IA"),
                ("x-oss-tagging-count", "2"),
                ("x-oss-object-type", "Normal"),
                ("accept-ranges", "bytes"),
                ("server", "AliyunOSS"),
                ("etag", put.header("etag")),
                ("content-md5", put.header("content-md5")),
                ("x-oss-hash-crc64ecma", &crc64(&body).to_string()),
            ] {
                assert_eq!(got.header(name), value, "{method} {name}");
            }
            assert_eq!(got.header("x-oss-request-id").len(), 24);
        }
        call("DELETE", "dir/a.bin").send(&server).expect(204);
        call("DELETE", "dir/a.bin").send(&server).expect(204);
        call("GET", "dir/a.bin").send(&server).refused(404, "NoSuchKey");
    }
}

#[test]
fn an_empty_object_is_an_object() {
    let (_dir, stores) = stores();
    for store in stores {
        let server = start(store);
        call("PUT", "empty").body("").send(&server).expect(200);
        let got = call("GET", "empty").send(&server).expect(200);
        assert_eq!((got.body.len(), got.header("x-oss-hash-crc64ecma")), (0, "0"));
        call("GET", "empty")
            .header("range", "bytes=0-")
            .header("x-oss-range-behavior", "standard")
            .send(&server)
            .refused(416, "InvalidRange");
    }
}

#[test]
fn ranges_are_answered_with_the_checksum_of_the_whole() {
    let (_dir, stores) = stores();
    for store in stores {
        let server = start(store);
        let body = bytes(1 << 20, 2);
        call("PUT", "k").body(body.clone()).send(&server).expect(200);
        let get = |range: &str| call("GET", "k").header("range", range);
        for (range, from, to) in [("bytes=300000-899999", 300_000, 900_000), ("bytes=-7", (1 << 20) - 7, 1 << 20)] {
            let got = get(range).send(&server).expect(206);
            assert_eq!(got.body, body[from..to]);
            assert_eq!(got.header("content-range"), format!("bytes {from}-{}/{}", to - 1, 1 << 20));
            assert_eq!(got.header("x-oss-hash-crc64ecma"), crc64(&body).to_string());
        }
        assert_eq!(get("bytes=9-9999999").send(&server).expect(200).body, body);
        let standard = get("bytes=9-9999999").header("x-oss-range-behavior", "standard").send(&server).expect(206);
        assert_eq!(standard.body, body[9..]);
    }
}

#[test]
fn conditions_decide_before_the_body_is_sent() {
    let server = start(StoreKind::Memory);
    let put = call("PUT", "k").body("x").send(&server).expect(200);
    let tag = put.header("etag").to_lowercase();
    let get = |name: &str, value: &str| call("GET", "k").header(name, value).send(&server);
    get("if-match", &tag).expect(200);
    get("if-match", "\"other\"").refused(412, "PreconditionFailed");
    assert!(get("if-none-match", &tag).expect(304).body.is_empty());
    get("if-none-match", "\"other\"").expect(200);
    let (past, future) = (SystemTime::now() - Duration::from_secs(9000), SystemTime::now() + Duration::from_secs(9000));
    get("if-unmodified-since", &httpdate::fmt_http_date(past)).refused(412, "PreconditionFailed");
    get("if-modified-since", &httpdate::fmt_http_date(future)).expect(304);
    get("if-modified-since", &httpdate::fmt_http_date(past)).expect(200);
}

#[test]
fn an_object_that_must_not_be_overwritten_stays() {
    let (_dir, stores) = stores();
    for store in stores {
        let server = start(store);
        call("PUT", "k").body("first").send(&server).expect(200);
        let put = call("PUT", "k").header("x-oss-forbid-overwrite", "true").body("second");
        put.send(&server).refused(409, "FileAlreadyExists");
        assert_eq!(call("GET", "k").send(&server).expect(200).body, b"first");
        call("PUT", "k").body("third").send(&server).expect(200);
        assert_eq!(call("GET", "k").send(&server).expect(200).body, b"third");
    }
}

#[test]
fn a_body_with_another_digest_is_not_stored() {
    let server = start(StoreKind::Memory);
    let put = |md5: &str| call("PUT", "k").header("content-md5", md5).body("0123456789").send(&server);
    put("AAAAAAAAAAAAAAAAAAAAAA==").refused(400, "InvalidDigest");
    put("not base64").refused(400, "InvalidDigest");
    call("GET", "k").send(&server).refused(404, "NoSuchKey");
    put("eB5eJF1ptWaXm4bijSPyxw==").expect(200);
    // Go clients send the MD5 of nothing on requests without a body.
    call("GET", "k").header("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==").send(&server).expect(200);
}

#[test]
fn forged_and_stale_requests_are_refused() {
    let server = start(StoreKind::Memory);
    let mut forged = call("GET", "k");
    forged.secret = "other".to_owned();
    let refusal = forged.send(&server).refused(403, "SignatureDoesNotMatch");
    assert!(refusal.element("StringToSign").unwrap().ends_with("/demo/k"));
    let mut anonymous = call("GET", "k");
    anonymous.signed = false;
    anonymous.send(&server).refused(403, "AccessDenied");
    let mut stale = call("GET", "k");
    stale.date -= Duration::from_secs(3600);
    stale.send(&server).refused(403, "RequestTimeTooSkewed");
    let head = call("HEAD", "k").send(&server).expect(404);
    let error = String::from_utf8(STANDARD.decode(head.header("x-oss-err")).unwrap()).unwrap();
    assert!(error.contains("<Code>NoSuchKey</Code>"), "{error}");
    assert_eq!(head.header("x-oss-ec"), "0026-00000001");
}

#[test]
fn a_refusal_reaches_a_client_that_is_still_sending() {
    let server = start(StoreKind::Memory);
    let mut forged = call("PUT", "k").body(bytes(16 << 20, 3));
    forged.secret = "other".to_owned();
    forged.send(&server).refused(403, "SignatureDoesNotMatch");
}

#[test]
fn what_is_not_implemented_is_refused_and_never_a_wrong_200() {
    let server = start(StoreKind::Memory);
    call("PUT", "k").body("x").send(&server).expect(200);
    for (method, target) in [
        ("GET", "k?versionId=1"),
        ("DELETE", "k?versionId=1"),
        ("GET", "k?x-oss-process=image"),
        ("PUT", "k?worm"),
        ("POST", "k?asyncFetch"),
        ("PUT", "?lifecycle"),
        ("GET", "?cors"),
        ("DELETE", "?website"),
        ("POST", ""),
        ("POST", "k"),
    ] {
        let reply = call(method, target).header("content-length", "0").send(&server);
        assert_eq!(reply.status, 501, "{method} {target}: {}", reply.text());
    }
    let version = call("PUT", "copy").header("x-oss-copy-source", "/demo/k?versionId=1").body("");
    version.send(&server).refused(501, "NotImplemented");
    let over_tls = "eyJjYWxsYmFja1VybCI6Imh0dHBzOi8veCIsImNhbGxiYWNrQm9keSI6IiJ9"; // {"callbackUrl":"https://x","callbackBody":""}
    let callback = call("PUT", "k").header("x-oss-callback", over_tls).body("");
    callback.send(&server).refused(501, "NotImplemented");
    call("PATCH", "k").body("").send(&server).refused(405, "MethodNotAllowed");
    Call::new("PUT", "/", "/").body("").send(&server).refused(501, "NotImplemented");
    assert_eq!(call("GET", "k").send(&server).expect(200).body, b"x");
}

#[test]
fn missing_buckets_and_bad_names_are_named() {
    let server = start(StoreKind::Memory);
    let other = |method: &str| Call::new(method, "/other/k", "/other/k").body("");
    for method in ["GET", "PUT", "DELETE"] {
        other(method).send(&server).refused(404, "NoSuchBucket");
    }
    call("PUT", "/slash").body("").send(&server).refused(400, "InvalidObjectName");
    call("GET", "/slash").send(&server).refused(404, "NoSuchKey");
    call("PUT", &"a".repeat(1024)).body("").send(&server).refused(400, "InvalidObjectName");
    call("PUT", &"a".repeat(1023)).body("").send(&server).expect(200);
    Call::new("PUT", "/demo/%zz", "").body("").send(&server).refused(400, "InvalidArgument");
    Call::new("PUT", "/Demo/k", "").body("").send(&server).refused(400, "InvalidBucketName");
    Call::new("PUT", "/fresh/", "/fresh/").body("").send(&server).expect(200);
    Call::new("PUT", "/fresh/", "/fresh/").body("").send(&server).expect(200);
    let info = Call::new("GET", "/fresh/?bucketInfo", "/fresh/?bucketInfo").send(&server).expect(200);
    assert_eq!(info.element("Name").as_deref(), Some("fresh"));
    assert_eq!(info.element("Location").as_deref(), Some("oss-cn-hangzhou"));
}

#[test]
fn keys_of_any_bytes_stay_in_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(StoreKind::Dir(dir.path().join("store")));
    let long = "%E5%A4%A7".repeat(341);
    let keys = [
        "..",
        ".",
        "../../escape",
        "a/../../../escape",
        "%2E%2E%2F%2E%2E%2Fescape",
        "a%00b",
        "a%2Fb",
        "a/b/",
        "a/b",
        "C:%5Cx",
        "~root",
        "%25%25",
        ".hidden",
        "%0A%0D",
        "%3F%23",
        "haul-store",
        &long,
    ];
    for (n, key) in keys.iter().enumerate() {
        let raw = percent_encoding::percent_decode_str(key).decode_utf8().unwrap();
        let resource = format!("/demo/{raw}");
        let put = Call::new("PUT", &format!("/demo/{key}"), &resource).body(n.to_string());
        // "a%2Fb" and "a/b" are one key: the later wins.
        put.send(&server).expect(200);
    }
    for (n, key) in keys.iter().enumerate().filter(|(_, key)| **key != "a%2Fb" && !key.contains("../../escape")) {
        let raw = percent_encoding::percent_decode_str(key).decode_utf8().unwrap();
        let got = Call::new("GET", &format!("/demo/{key}"), &format!("/demo/{raw}")).send(&server).expect(200);
        assert_eq!(got.text(), n.to_string(), "{key}");
    }
    let outside: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(outside, ["store"]);
    let objects = std::fs::read_dir(dir.path().join("store/buckets/demo/objects")).unwrap().count();
    assert_eq!(objects, keys.len() - 2);
}

#[test]
fn a_listing_has_pages_prefixes_and_encoded_keys() {
    let (_dir, stores) = stores();
    for store in stores {
        let server = start(store);
        for key in ["a", "b/1", "b/2", "b/c/3", "b+c", "z"] {
            call("PUT", key).body(key).send(&server).expect(200);
        }
        let list = |query: &str| call_unsigned_query("GET", "", &format!("list-type=2&{query}")).send(&server);
        let keys = |xml: &str| -> Vec<String> {
            xml.split("<Key>").skip(1).map(|rest| rest.split_once('<').unwrap().0.to_owned()).collect()
        };
        let all = list("").expect(200);
        assert_eq!(keys(&all.text()), ["a", "b+c", "b/1", "b/2", "b/c/3", "z"]);
        assert_eq!(all.element("IsTruncated").as_deref(), Some("false"));
        let folded = list("delimiter=%2F&encoding-type=url").expect(200);
        assert_eq!(keys(&folded.text()), ["a", "b%2Bc", "z"]);
        assert!(folded.text().contains("<CommonPrefixes><Prefix>b%2F</Prefix></CommonPrefixes>"));
        assert_eq!(folded.element("KeyCount").as_deref(), Some("4"));
        assert_eq!(keys(&list("prefix=b/&delimiter=/").text()), ["b/1", "b/2"]);
        assert_eq!(keys(&list("start-after=b/1").text()), ["b/2", "b/c/3", "z"]);
        for delimiter in ["", "/"] {
            let (mut seen, mut token) = (Vec::new(), String::new());
            loop {
                let page = Call::new(
                    "GET",
                    &format!("/demo/?list-type=2&max-keys=1&delimiter={delimiter}&continuation-token={token}"),
                    &format!("/demo/?continuation-token{}{token}", if token.is_empty() { "" } else { "=" }),
                );
                let page = page.send(&server).expect(200);
                assert_eq!(page.element("KeyCount").as_deref(), Some("1"));
                seen.extend(
                    page.element("Key")
                        .or_else(|| page.text().split("<CommonPrefixes><Prefix>").nth(1).map(|p| p[..2].to_owned())),
                );
                match page.element("NextContinuationToken") {
                    Some(next) => token = next,
                    None => break,
                }
            }
            let wanted: &[&str] =
                if delimiter.is_empty() { &["a", "b+c", "b/1", "b/2", "b/c/3", "z"] } else { &["a", "b+c", "b/", "z"] };
            assert_eq!(seen, wanted);
        }
        list("max-keys=0").refused(400, "InvalidArgument");
        list("max-keys=1001").refused(400, "InvalidArgument");
        list("encoding-type=x").refused(400, "InvalidArgument");
    }
}

#[test]
fn lengths_that_are_not_lengths_are_refused() {
    let server = start(StoreKind::Memory);
    call("PUT", "k").send(&server).refused(411, "MissingContentLength");
    let huge = call("PUT", "k").header("content-length", "5368709121");
    huge.send(&server).refused(400, "EntityTooLarge");
    assert_eq!(call("PUT", "k").header("content-length", "abc").send(&server).status, 400);
    call("GET", "k").send(&server).refused(404, "NoSuchKey");
}

#[test]
fn a_chunked_body_is_taken() {
    let server = start(StoreKind::Memory);
    let mut stream = TcpStream::connect(server.address).unwrap();
    let head = call("PUT", "k").header("transfer-encoding", "chunked").head(server.address);
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n").unwrap();
    read_reply(&mut stream, false).expect(200);
    assert_eq!(call("GET", "k").send(&server).expect(200).body, b"hello world");
}

#[test]
fn a_client_that_waits_to_be_asked_is_asked_or_refused() {
    let server = start(StoreKind::Memory);
    let put = || call("PUT", "k").header("expect", "100-continue").header("content-length", "2");
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.write_all(put().head(server.address).as_bytes()).unwrap();
    let mut go = [0; 25];
    stream.read_exact(&mut go).unwrap();
    assert_eq!(&go, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"ok").unwrap();
    read_reply(&mut stream, false).expect(200);
    let mut forged = put();
    forged.secret = "other".to_owned();
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.write_all(forged.head(server.address).as_bytes()).unwrap();
    read_reply(&mut stream, false).refused(403, "SignatureDoesNotMatch");
}

#[test]
fn a_stalled_body_is_a_request_timeout_and_stores_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(StoreKind::Dir(dir.path().to_owned()));
    config.body_timeout = Duration::from_millis(200);
    let server = try_start(config).unwrap();
    let mut stream = TcpStream::connect(server.address).unwrap();
    let head = call("PUT", "k").header("content-length", "1000").head(server.address);
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(b"only this").unwrap();
    read_reply(&mut stream, false).refused(400, "RequestTimeout");
    call("GET", "k").send(&server).refused(404, "NoSuchKey");
    assert_eq!(std::fs::read_dir(dir.path().join("incoming")).unwrap().count(), 0);
}

#[test]
fn the_bucket_may_be_in_the_host_name() {
    let server = start(StoreKind::Memory);
    call("PUT", "a/b").body("x").send(&server).expect(200);
    let head = Call::new("GET", "/a/b", "/demo/a/b").head(server.address);
    let head = head.replace(&format!("host: {}", server.address), "host: demo.localhost:9000");
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    assert_eq!(read_reply(&mut stream, false).expect(200).body, b"x");
}

#[test]
fn signatures_are_switched_off_only_on_loopback() {
    let anonymous = || Config { anonymous: true, access_keys: Vec::new(), ..config(StoreKind::Memory) };
    let server = try_start(anonymous()).unwrap();
    let mut put = call("PUT", "k").body("x");
    put.signed = false;
    put.send(&server).expect(200);
    let outside = Config { listen: "0.0.0.0:0".parse().unwrap(), ..anonymous() };
    assert!(matches!(try_start(outside).err(), Some(ServerError::AnonymousOutside(_))));
    let keyless = Config { access_keys: Vec::new(), ..config(StoreKind::Memory) };
    assert!(matches!(try_start(keyless).err(), Some(ServerError::NoAccessKey)));
}

#[test]
fn a_store_without_bytes_knows_sizes_and_checksums() {
    let server = start(StoreKind::Null);
    let body = bytes(1 << 20, 4);
    let put = call("PUT", "k").body(body.clone()).send(&server).expect(200);
    assert_eq!(put.header("content-md5"), "");
    let head = call("HEAD", "k").send(&server).expect(200);
    assert_eq!(head.header("x-oss-hash-crc64ecma"), crc64(&body).to_string());
    assert_eq!(head.header("content-length"), "1048576");
    assert_eq!(head.header("etag"), put.header("etag"));
    call("GET", "k").send(&server).refused(501, "NotImplemented");
    call("PUT", "k")
        .header("content-md5", "AAAAAAAAAAAAAAAAAAAAAA==")
        .body("x")
        .send(&server)
        .refused(400, "InvalidDigest");
}
