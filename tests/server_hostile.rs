//! Requests that mean harm, byte for byte over a socket: refused, and nothing that was stored is lost.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use crate::server_support::*;
use haul::server::{Config, StoreKind};

/// Signatures are not looked at, so that requests can be anything; connections that wait for more end soon.
fn open_server(store: StoreKind) -> Running {
    let head_timeout = Duration::from_secs(2);
    try_start(Config { anonymous: true, head_timeout, ..config(store) }).expect("the server starts")
}

/// Everything the server says to these bytes until it ends the connection.
fn answers(server: &Running, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.address).expect("the server accepts");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket");
    // It may have ended the connection before everything was sent.
    let _ = stream.write_all(bytes);
    let mut got = Vec::new();
    match stream.read_to_end(&mut got) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("the connection did not end: {error}"),
        _ => String::from_utf8_lossy(&got).into_owned(),
    }
}

fn statuses(answers: &str) -> Vec<u16> {
    let status = |rest: &str| rest[..3].parse().expect("a status");
    answers.split("HTTP/1.1 ").skip(1).map(status).collect()
}

#[track_caller]
fn refused(server: &Running, what: &str, bytes: &[u8], status: u16) {
    let got = answers(server, bytes);
    assert_eq!(statuses(&got), [status], "{what}: {got}");
}

/// The head of a request with these lines, after which more may come.
fn kept(line: &str, lines: &[&str]) -> Vec<u8> {
    format!("{line} HTTP/1.1\r\nhost: h\r\n{}\r\n", lines.iter().map(|l| format!("{l}\r\n")).collect::<String>()).into()
}

/// The head of the last request of a connection.
fn head(line: &str, lines: &[&str]) -> Vec<u8> {
    kept(line, &[lines, &["connection: close"]].concat())
}

fn put(lines: &[&str], body: &[u8]) -> Vec<u8> {
    [&head("PUT /demo/attacked", lines)[..], body].concat()
}

/// A server with one object, and the check that it is still there and that `attacked` never came to be.
fn with_victim(test: impl FnOnce(&Running)) {
    let server = open_server(StoreKind::Memory);
    let body = bytes(50_000, 1);
    call("PUT", "victim").body(body.clone()).send(&server).expect(200);
    test(&server);
    assert!(call("GET", "victim").send(&server).expect(200).body == body);
    call("GET", "attacked").send(&server).refused(404, "NoSuchKey");
    call("GET", "smuggled").send(&server).refused(404, "NoSuchKey");
}

#[test]
fn what_is_not_http_is_refused() {
    with_victim(|server| {
        for (what, bytes, status) in [
            ("noise", &b"\x00\x01\x02\xff\xfe\r\n\r\n"[..], 400),
            ("the begin of TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
            ("a NUL in the path", b"GET /demo/a\0b HTTP/1.1\r\nhost: h\r\n\r\n", 400),
            ("a NUL in a header", b"GET /demo/victim HTTP/1.1\r\nhost: h\r\nx-oss-meta-a: a\0b\r\n\r\n", 400),
            ("a line without colon", b"GET /demo/victim HTTP/1.1\r\nhost h\r\n\r\n", 400),
            ("a blank before the colon", b"GET /demo/victim HTTP/1.1\r\nhost : h\r\n\r\n", 400),
            ("a folded line", b"GET /demo/victim HTTP/1.1\r\nhost: h\r\n folded\r\n\r\n", 400),
            ("a version of tomorrow", b"GET /demo/victim HTTP/3.0\r\nhost: h\r\n\r\n", 400),
            ("three words too many", b"GET /demo/victim a b c HTTP/1.1\r\nhost: h\r\n\r\n", 400),
            ("a method of its own", b"BREW /demo/victim HTTP/1.1\r\nhost: h\r\n\r\n", 405),
            ("a tunnel", b"CONNECT other:443 HTTP/1.1\r\nhost: h\r\n\r\n", 405),
        ] {
            refused(server, what, bytes, status);
        }
    });
}

#[test]
fn heads_without_measure_are_refused() {
    with_victim(|server| {
        let long = format!("x-oss-meta-a: {}", "a".repeat(100_000));
        refused(server, "a header of 100 KB", &head("GET /demo/victim", &[&long]), 431);
        let many: Vec<String> = (0..10_000).map(|i| format!("x-oss-meta-{i}: a")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        refused(server, "10,000 headers", &head("GET /demo/victim", &many), 431);
        refused(server, "100 headers and one", &head("GET /demo/victim", &many[..100]), 431);
        let target = format!("GET /demo/{}", "a".repeat(20_000));
        refused(server, "a target of 20 KB", &head(&target, &[]), 400);
        let target = format!("GET /demo/{}", "a".repeat(100_000));
        refused(server, "a target of 100 KB", &head(&target, &[]), 431);
        let query = format!("GET /demo/victim?{}", "a=b&".repeat(1000));
        refused(server, "1,000 parameters", &head(&query, &[]), 400);
        let metadata = format!("x-oss-meta-a: {}", "a".repeat(9_000));
        refused(server, "9 KB of metadata", &put(&[&metadata, "content-length: 0"], b""), 400);
    });
}

#[test]
fn lengths_that_contradict_or_are_none_are_refused() {
    with_victim(|server| {
        for lines in [
            &["content-length: 5", "content-length: 6"][..],
            &["content-length: 6", "content-length: 5"],
            &["content-length: 5, 6"],
            &["content-length: -1"],
            &["content-length: +5"],
            &["content-length: 0x5"],
            &["content-length: 5 5"],
            &["content-length:"],
            &["content-length: 1e1"],
            &["content-length: 99999999999999999999"],
        ] {
            refused(server, &lines.join(" / "), &put(lines, b"12345"), 400);
        }
        refused(server, "the longest length", &put(&["content-length: 18446744073709551615"], b"12345"), 431);
        refused(server, "no length", &put(&[], b"12345"), 411);
    });
}

#[test]
fn codings_that_are_not_plain_chunks_are_refused() {
    with_victim(|server| {
        for (coding, status) in [
            ("xchunked", 400),
            ("identity", 400),
            ("chunked, gzip", 400),
            ("chunked\x0b", 400),
            ("gzip, chunked", 501),
            ("chunked, chunked", 501),
        ] {
            let line = format!("transfer-encoding: {coding}");
            refused(server, &line, &put(&[&line], b"5\r\n12345\r\n0\r\n\r\n"), status);
        }
        for first in ["gzip", "chunked"] {
            let lines = [&*format!("transfer-encoding: {first}"), "transfer-encoding: chunked"];
            refused(server, &lines.join(" / "), &put(&lines, b"5\r\n12345\r\n0\r\n\r\n"), 501);
        }
        let old = b"PUT /demo/attacked HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
        refused(server, "chunks in HTTP/1.0", old, 400);
    });
}

#[test]
fn chunks_that_are_none_store_nothing() {
    with_victim(|server| {
        let extension = format!("5;{}\r\n12345\r\n0\r\n\r\n", "a".repeat(20_000));
        for body in [
            "zz\r\n12345\r\n0\r\n\r\n",
            "-5\r\n12345\r\n0\r\n\r\n",
            "FFFFFFFFFFFFFFFFF\r\n12345\r\n0\r\n\r\n",
            "5\r\n12345678\r\n0\r\n\r\n",
            "5\r\n12345XX0\r\n\r\n",
            "\r\n\r\n",
            &extension,
        ] {
            let answer = answers(server, &put(&["transfer-encoding: chunked"], body.as_bytes()));
            assert_eq!(statuses(&answer), [400], "{body:?}: {answer}");
            assert!(answer.contains("<Code>BadRequest</Code>"), "it is not slow, but malformed: {body:?}: {answer}");
        }
    });
}

/// The official C SDK sends both (specification, section 4.4): the chunks are the body, and the length means nothing.
#[test]
fn chunks_win_over_a_length_and_what_follows_them_is_no_request() {
    with_victim(|server| {
        for (n, lines) in
            [["content-length: 3", "transfer-encoding: chunked"], ["transfer-encoding: chunked", "content-length: 3"]]
                .iter()
                .enumerate()
        {
            let key = format!("both{n}");
            let smuggled = String::from_utf8(kept("PUT /demo/smuggled", &["content-length: 0"])).expect("text");
            let request =
                [&kept(&format!("PUT /demo/{key}"), lines)[..], b"7\r\nchunked\r\n0\r\n\r\n", smuggled.as_bytes()];
            assert_eq!(statuses(&answers(server, &request.concat())), [200], "{lines:?}");
            assert_eq!(call("GET", &key).send(server).expect(200).body, b"chunked");
        }
        let hidden = b"0\r\n\r\nPUT /demo/smuggled HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n";
        let request = [&kept("PUT /demo/both", &["content-length: 70", "transfer-encoding: chunked"])[..], hidden];
        assert_eq!(statuses(&answers(server, &request.concat())), [200]);
        let inside = [&head("PUT /demo/inside", &["content-length: 59"])[..], &hidden[5..]].concat();
        assert_eq!(statuses(&answers(server, &inside))[0], 200, "a body is a body whatever it says");
    });
}

#[test]
fn garbage_behind_a_request_does_not_harm_its_answer() {
    with_victim(|server| {
        let get = kept("HEAD /demo/victim", &[]);
        let two = answers(server, &[&get[..], &head("HEAD /demo/victim", &[])].concat());
        assert_eq!(statuses(&two), [200, 200], "{two}");
        let got = answers(server, &[&get[..], b"\x00\xff garbage\r\n\r\n"].concat());
        assert_eq!(statuses(&got), [200, 400], "{got}");
        let longer = [&kept("PUT /demo/short", &["content-length: 5"])[..], b"12345 and more\r\n\r\n"].concat();
        assert_eq!(statuses(&answers(server, &longer)), [200, 400]);
        assert_eq!(call("GET", "short").send(server).expect(200).body, b"12345");
    });
}

/// Every file below `root`, by its path.
fn files(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path.display().to_string()) }
    }
    found
}

#[test]
fn no_spelling_of_a_path_leads_out_of_the_directory() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = dir.path().join("a/b/store");
    let server = open_server(StoreKind::Dir(store.clone()));
    let keys = [
        "../../../../escape",
        "..%2f..%2f..%2f..%2fescape",
        "%2e%2e/%2e%2e/%2e%2e/%2e%2e/escape",
        "%2E%2E%2F%2E%2E%2F%2E%2E%2F%2E%2E%2Fescape",
        "..%5c..%5cescape",
        "%252e%252e%252f%252e%252e%252fescape",
        "....//....//escape",
        "a/./b/../../../../escape",
        "a%00/../../../escape",
        "%c3%a9/../../escape",
        "~root/escape",
        ".%2e/.%2e/escape",
        "a/..",
        "..",
        ".",
    ];
    for (n, key) in keys.iter().enumerate() {
        let body = bytes(100, n as u64);
        let length = format!("content-length: {}", body.len());
        let request = [&head(&format!("PUT /demo/{key}"), &[&length])[..], &body[..]].concat();
        assert_eq!(statuses(&answers(&server, &request)), [200], "{key}");
        assert!(call("GET", key).send(&server).expect(200).body == body, "{key}");
    }
    for (target, status) in [
        ("/demo//etc/passwd", 400),
        ("/demo/%2fetc%2fpasswd", 400),
        ("/demo/%5cescape", 400),
        ("/demo/%c0%ae%c0%ae/escape", 400),
        ("/demo/%u002e%u002e/escape", 400),
        ("/demo/%%32%65/escape", 400),
        ("/../escape", 400),
        ("/%2e%2e/escape", 400),
        ("/..%2fescape/key", 400),
        ("/.incoming/key", 400),
        ("/demo/key?partNumber=1&uploadId=../../escape", 404),
        ("/demo/key?partNumber=1&uploadId=%2fetc%2fpasswd", 404),
        ("/demo/key?partNumber=../1&uploadId=x", 400),
    ] {
        refused(&server, target, &head(&format!("PUT {target}"), &["content-length: 0"]), status);
    }
    let hosts = b"PUT /key HTTP/1.1\r\nhost: ../../escape.localhost\r\ncontent-length: 0\r\n\r\n";
    refused(&server, "a bucket in the host", hosts, 400);
    drop(server);
    let outside: Vec<_> =
        files(dir.path()).into_iter().filter(|path| !path.starts_with(&*store.to_string_lossy())).collect();
    assert_eq!(outside, Vec::<String>::new());
}

#[test]
fn documents_that_are_bombs_are_refused_and_the_upload_goes_on() {
    let server = open_server(StoreKind::Memory);
    let id = initiate(&server, "victim");
    let tag = upload_part(&server, "victim", &id, 1, b"part");
    let laughs: String =
        (1..10).map(|i| format!("<!ENTITY l{i} \"{}\">", format!("&l{};", i - 1).repeat(10))).collect();
    let complete_of = |what: &str| format!("<CompleteMultipartUpload>{what}</CompleteMultipartUpload>");
    let part = |number: &str, tag: &str| {
        complete_of(&format!("<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>"))
    };
    for (what, document) in [
        ("a billion laughs", format!("<!DOCTYPE x [<!ENTITY l0 \"lol\">{laughs}]>{}", part("1", "&l9;"))),
        ("laughs for a number", format!("<!DOCTYPE x [<!ENTITY l0 \"1\">{laughs}]>{}", part("&l9;", &tag))),
        (
            "a file of the server",
            format!("<!DOCTYPE x [<!ENTITY f SYSTEM \"file:///etc/passwd\">]>{}", part("1", "&f;")),
        ),
        ("a depth of 100,000", complete_of(&format!("{}{}", "<Part>".repeat(100_000), "</Part>".repeat(100_000)))),
        ("a depth that does not end", "<CompleteMultipartUpload>".repeat(100_000)),
        ("a number beyond all", part("99999999999999999999", &tag)),
        ("no number", part("", &tag)),
        ("a NUL", part("\0", &tag)),
        ("an end that fits nothing", format!("{}</x>", part("1", &tag).replace("</Part>", "</Trap>"))),
        ("5 MB of blanks", complete_of(&" ".repeat(5 << 20))),
    ] {
        let target = format!("victim?uploadId={id}");
        let answer = call("POST", &target).body(document).send(&server);
        assert_eq!((answer.status, answer.element("Code").as_deref()), (400, Some("MalformedXML")), "{what}");
    }
    let ignored = format!("<Unknown a=\"{}\">{}</Unknown>", "b".repeat(1 << 20), "<a/>".repeat(100_000));
    let named = format!("{ignored}<Part><PartNumber>1</PartNumber><ETag>{}</ETag></Part>", tag.replace('"', "&quot;"));
    call("POST", &format!("victim?uploadId={id}")).body(complete_of(&named)).send(&server).expect(200);
    assert_eq!(call("GET", "victim").send(&server).expect(200).body, b"part");
}
