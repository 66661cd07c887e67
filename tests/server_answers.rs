//! Answers that clients compare word by word, and headers that are taken, refused or completed as the service does.

use std::io::{Read, Write};
use std::net::TcpListener;

use crate::server_support::*;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use haul::server::StoreKind;

fn put(server: &Running, key: &str, body: &str) -> Reply {
    call("PUT", key).body(body).send(server).expect(200)
}

#[test]
fn common_refusals_have_the_words_and_the_finer_code_of_the_service() {
    let server = start(StoreKind::Memory);
    put(&server, "k", "x");
    let foreign = call("GET", "k").signed_by("nobody", SECRET);
    let forged = call("GET", "k").signed_by(ID, "other");
    let gone = "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or \
                completed.";
    for (call, status, code, message, ec) in [
        (
            Call::new("GET", "/none/k", "/none/k"),
            404,
            "NoSuchBucket",
            "The specified bucket does not exist.",
            "0015-00000101",
        ),
        (call("GET", "none"), 404, "NoSuchKey", "The specified key does not exist.", "0026-00000001"),
        (call("GET", "k?uploadId=none"), 404, "NoSuchUpload", gone, "0042-00000002"),
        (call("DELETE", "k?uploadId=none"), 404, "NoSuchUpload", gone, "0042-00000002"),
        (call("POST", "k?uploadId=none").body("<a/>"), 404, "NoSuchUpload", gone, "0042-00000002"),
        (call("PUT", "k?partNumber=1&uploadId=none").body("x"), 404, "NoSuchUpload", gone, "0042-00000104"),
        (
            foreign,
            403,
            "InvalidAccessKeyId",
            "The OSS Access Key Id you provided does not exist in our records.",
            "0002-00000902",
        ),
        (
            forged,
            403,
            "SignatureDoesNotMatch",
            "The request signature we calculated does not match the signature you provided. Check your key and signing \
             method.",
            "0002-00000040",
        ),
    ] {
        let reply = call.send(&server).refused(status, code);
        assert_eq!((reply.element("Message").unwrap().as_str(), reply.header("x-oss-ec")), (message, ec), "{code}");
    }
    let missing = Call::new("GET", "/none/k", "/none/k").send(&server);
    assert_eq!(missing.element("BucketName").as_deref(), Some("none"));
    let source = call("PUT", "copy").header("x-oss-copy-source", "/nowhere/k").body("").send(&server);
    assert_eq!(source.element("BucketName").as_deref(), Some("nowhere"));
    assert_eq!(call("GET", "none").send(&server).element("Key").as_deref(), Some("none"));
}

#[test]
fn a_callback_that_was_refused_is_told_by_its_status() {
    let server = start(StoreKind::Memory);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let application = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"told") {
            let mut chunk = [0; 1024];
            let bytes = stream.read(&mut chunk).unwrap();
            request.extend_from_slice(&chunk[..bytes]);
        }
        stream.write_all(b"HTTP/1.1 301 Elsewhere\r\ncontent-length: 0\r\n\r\n").unwrap();
    });
    let wanted = serde_json::json!({ "callbackUrl": url, "callbackBody": "told" }).to_string();
    let reply = call("PUT", "k").header("x-oss-callback", &STANDARD.encode(wanted)).body("x").send(&server);
    let reply = reply.refused(203, "CallbackFailed");
    application.join().unwrap();
    assert_eq!(
        (reply.element("Message").as_deref(), reply.header("x-oss-ec")),
        (Some("Error status : 301."), "0007-00000203")
    );
    assert_eq!(call("GET", "k").send(&server).expect(200).text(), "x");
}

/// A key belongs to an account, and the account is found by the bucket.
#[test]
fn where_there_is_no_bucket_a_key_that_is_not_known_is_not_what_is_missing() {
    let server = start(StoreKind::Memory);
    let nobody = |method: &str, target: &str| Call::new(method, target, target).signed_by("nobody", SECRET);
    nobody("GET", "/none/k").send(&server).refused(404, "NoSuchBucket");
    nobody("GET", "/none/").send(&server).refused(404, "NoSuchBucket");
    nobody("GET", "/demo/k").send(&server).refused(403, "InvalidAccessKeyId");
    nobody("PUT", "/fresh/").body("").send(&server).refused(403, "InvalidAccessKeyId");
    nobody("GET", "/").send(&server).refused(403, "InvalidAccessKeyId");
    let forged = Call::new("GET", "/none/k", "/none/k").signed_by(ID, "other");
    forged.send(&server).refused(403, "SignatureDoesNotMatch");
}

#[test]
fn an_access_control_list_that_comes_with_a_later_append_counts() {
    let server = start(StoreKind::Memory);
    let append = |position: u64| call("POST", &format!("log?append&position={position}"));
    let acl = || call("GET", "log?acl").send(&server).expect(200).element("Grant").unwrap();
    append(0).header("x-oss-meta-a", "1").body("abc").send(&server).expect(200);
    append(3).header("x-oss-object-acl", "public-read").body("def").send(&server).expect(200);
    assert_eq!(acl(), "public-read");
    append(6).header("x-oss-meta-a", "2").body("g").send(&server).expect(200);
    assert_eq!(acl(), "public-read");
    assert_eq!(call("HEAD", "log").send(&server).expect(200).header("x-oss-meta-a"), "1");
    append(7).header("x-oss-object-acl", "private").body("h").send(&server).expect(200);
    assert_eq!(acl(), "private");
}

#[test]
fn the_last_access_control_list_said_of_an_upload_is_the_one_of_the_object() {
    let server = start(StoreKind::Memory);
    let begun = call("POST", "k?uploads").header("x-oss-object-acl", "public-read").body("").send(&server).expect(200);
    let id = begun.element("UploadId").unwrap();
    complete("k", &id, &[]).header("x-oss-object-acl", "private").send(&server).expect(200);
    assert_eq!(call("GET", "k?acl").send(&server).element("Grant").as_deref(), Some("private"));
}

#[test]
fn tags_are_made_of_the_characters_that_the_service_takes() {
    let server = start(StoreKind::Memory);
    call("PUT", "k").header("x-oss-tagging", "a+b%20%2B-%3D._%3A%2F=%E4%B8%AD9").body("x").send(&server).expect(200);
    let tags = call("GET", "k?tagging").send(&server).expect(200);
    assert_eq!((tags.element("Key").unwrap(), tags.element("Value").unwrap()), ("a b +-=._:/".into(), "中9".into()));
    for bad in ["%26=1", "a%23b=1", "a=%26", "a=%3C", "a%0A=1", "a*=1"] {
        call("PUT", "k").header("x-oss-tagging", bad).body("y").send(&server).refused(400, "InvalidArgument");
    }
    for bad in ["a&amp;b", "#", "a\u{7f}"] {
        let body = format!("<Tagging><TagSet><Tag><Key>{bad}</Key><Value>1</Value></Tag></TagSet></Tagging>");
        call("PUT", "k?tagging").body(body).send(&server).refused(400, "InvalidArgument");
    }
    assert_eq!(call("GET", "k").send(&server).expect(200).text(), "x");
}

/// The service has conditions for reading only. A client that sets one on a write believes itself protected by it.
#[test]
fn a_condition_on_a_write_is_refused_and_nothing_is_written() {
    let server = start(StoreKind::Memory);
    put(&server, "k", "kept");
    let id = initiate(&server, "k");
    for (name, value) in [
        ("if-modified-since", "Fri, 01 Jan 2100 00:00:00 GMT"),
        ("if-unmodified-since", "Fri, 01 Jan 2000 00:00:00 GMT"),
        ("if-match", "\"other\""),
        ("if-none-match", "*"),
    ] {
        for (method, target) in [
            ("PUT", "k"),
            ("DELETE", "k"),
            ("POST", "k?uploads"),
            ("POST", "k?append&position=0"),
            ("PUT", &format!("k?partNumber=1&uploadId={id}")),
        ] {
            let call = call(method, target).header(name, value).body("lost");
            let refused = call.send(&server).refused(501, "NotImplemented");
            assert_eq!(refused.element("Header").as_deref(), Some(name), "{method} {target}");
        }
    }
    assert_eq!(call("GET", "k").send(&server).expect(200).text(), "kept");
    assert!(!call("GET", &format!("k?uploadId={id}")).send(&server).expect(200).text().contains("<Part>"));
}

#[test]
fn an_access_control_list_that_is_not_given_is_a_missing_argument() {
    let server = start(StoreKind::Memory);
    put(&server, "k", "x");
    for (target, header) in [("k?acl", "x-oss-object-acl"), ("?acl", "x-oss-acl")] {
        let refused = call("PUT", target).body("").send(&server).refused(400, "MissingArgument");
        assert_eq!(refused.element("ArgumentName").as_deref(), Some(header));
    }
}

#[test]
fn buckets_are_listed_by_prefixes_of_their_names_only() {
    let server = start(StoreKind::Memory);
    let list = |prefix: &str| Call::new("GET", &format!("/?prefix={prefix}"), "/").send(&server);
    assert_eq!(list("de").expect(200).element("Name").as_deref(), Some("demo"));
    assert_eq!(list("demo-").expect(200).element("Name"), None);
    for bad in ["Demo", "de_mo", "a%2Fb", "-demo", "%E4%B8%AD", &"a".repeat(64)] {
        assert_eq!(list(bad).refused(400, "InvalidArgument").header("x-oss-ec"), "0017-00000290", "{bad}");
    }
}

#[test]
fn what_is_known_of_a_bucket_names_what_it_does_not_do() {
    let server = start(StoreKind::Memory);
    let info = call("GET", "?bucketInfo").send(&server).expect(200);
    for name in ["AccessMonitor", "TransferAcceleration", "CrossRegionReplication"] {
        assert_eq!(info.element(name).as_deref(), Some("Disabled"), "{name}");
    }
    assert_eq!(info.element("SSEAlgorithm").as_deref(), Some("None"));
}

#[test]
fn what_kms_encrypts_without_a_key_is_told_the_key_of_the_account() {
    let server = start(StoreKind::Memory);
    let (encryption, id) = ("x-oss-server-side-encryption", "x-oss-server-side-encryption-key-id");
    let kms = |call: Call| call.header(encryption, "KMS");
    let key = kms(call("PUT", "k")).body("x").send(&server).expect(200).header(id).to_owned();
    assert!(!key.is_empty());
    assert_eq!(call("HEAD", "k").send(&server).expect(200).header(id), key);
    let begun = kms(call("POST", "m?uploads")).body("").send(&server).expect(200);
    assert_eq!(begun.header(id), key);
    let upload = begun.element("UploadId").unwrap();
    assert_eq!(complete("m", &upload, &[]).send(&server).expect(200).header(id), key);
    let own = kms(call("PUT", "own")).header(id, "mine").body("x").send(&server).expect(200);
    assert_eq!(own.header(id), "mine");
    assert_eq!(call("PUT", "aes").header(encryption, "AES256").body("x").send(&server).expect(200).header(id), "");
}
