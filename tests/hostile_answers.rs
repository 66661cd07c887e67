//! Whoever answers, the client reads so much and no more, waits so long and no longer, and shows nothing that steers a
//! terminal.

use std::io::Write;
use std::net::TcpStream;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::common::canned::{canned, http, written};
use crate::common::*;

/// Exit code of an answer that is not of the protocol.
const PROTOCOL: i32 = 1;
/// The most that the client reads of an answer (`ANSWER_BYTES_MAX` of the pool), and what buffers on the way hold.
const READ_MAX: u64 = (16 << 20) + (16 << 20);

fn list(endpoint: &str, options: &[&str]) -> Output {
    list_with(&[], endpoint, options)
}

fn list_with(variables: &[(&str, &str)], endpoint: &str, options: &[&str]) -> Output {
    let mut command = haul();
    command.envs(variables.iter().copied());
    command.args(["uploads", "list", "oss://demo", "--endpoint", endpoint, "--region", "cn-hangzhou"]);
    command.args(["--attempts", "1"]).args(options).output().unwrap()
}

/// What a client says of an answer that goes on for ever: `head`, then `more` again and again. Gives how many bytes it
/// took, too.
fn endless(head: &'static str, more: Vec<u8>, options: &[&str]) -> (Output, u64) {
    let taken = Arc::new(AtomicU64::new(0));
    let count = taken.clone();
    let (address, _) = written(move |_, stream: &mut TcpStream| {
        let _ = stream.write_all(head.as_bytes());
        while stream.write_all(&more).is_ok() {
            count.fetch_add(more.len() as u64, Ordering::SeqCst);
        }
    });
    let output = list(&format!("http://{address}"), options);
    (output, taken.load(Ordering::SeqCst))
}

#[test]
fn an_answer_without_end_is_read_to_16_mib() {
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    const LYING: &str = "HTTP/1.1 200 OK\r\ncontent-length: 9223372036854775807\r\n\r\n";
    const TO_THE_END: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
    let chunk = [b"10000\r\n".as_slice(), &[b' '; 65536], b"\r\n"].concat();
    for (head, more) in [(CHUNKED, chunk), (LYING, vec![b' '; 65536]), (TO_THE_END, vec![b' '; 65536])] {
        let (output, taken) = endless(head, more, &[]);
        assert_eq!(exit_code(&output), 7, "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains("length limit exceeded"), "{}", text(&output.stderr));
        assert!(taken < READ_MAX, "{taken} bytes taken of {head}");
    }
}

#[test]
fn a_length_that_is_no_number_and_headers_without_end_are_no_answer() {
    for (head, more) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 18446744073709551616\r\n\r\n", " "),
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n", " "),
        ("HTTP/1.1 200 OK\r\n", "x-a: b\r\n"),
        ("HTTP/1.1 200 OK\r\nx-a: ", "aaaaaaaaaaaaaaaa"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;", "aaaaaaaaaaaaaaaa"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n", "x-a: b\r\n"),
    ] {
        let (output, taken) = endless(head, more.repeat(4096).into_bytes(), &[]);
        assert_eq!(exit_code(&output), 7, "{head}: {}", text(&output.stderr));
        assert!(taken < READ_MAX, "{taken} bytes taken of {head}");
    }
    let (output, taken) = endless("", b"aaaaaaaaaaaaaaaa".repeat(4096), &[]);
    assert_eq!(exit_code(&output), 2, "no HTTP at all: {}", text(&output.stderr));
    assert!(taken < READ_MAX, "{taken} bytes taken");
}

#[test]
fn answers_that_only_announce_answers_end_with_the_time_for_one() {
    let (output, _) = endless("", b"HTTP/1.1 100 Continue\r\n\r\n".repeat(1000), &["--idle-timeout", "1s"]);
    assert_eq!(exit_code(&output), 7, "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("it was not over in"), "{}", text(&output.stderr));
}

/// A page of uploads of which there is always another; `marker` names where it begins, given its number.
fn listing_without_end(marker: impl Fn(usize) -> String + Send + 'static) -> (Output, usize) {
    let pages = Arc::new(AtomicUsize::new(0));
    let count = pages.clone();
    let (address, _) = canned(move |_| {
        let marker = marker(count.fetch_add(1, Ordering::SeqCst));
        let page = format!("<R><IsTruncated>true</IsTruncated><NextKeyMarker>{marker}</NextKeyMarker></R>");
        http("200 OK", "", &page)
    });
    (list(&format!("http://{address}"), &[]), pages.load(Ordering::SeqCst))
}

#[test]
fn a_listing_without_end_is_given_up() {
    let (output, pages) = listing_without_end(|page| format!("key-{page:09}"));
    assert_eq!((exit_code(&output), pages), (PROTOCOL, 1000), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("more than 1000 pages"), "{}", text(&output.stderr));
    for marker in [|_| "same".to_owned(), |page: usize| format!("key-{}", 9 - page)] {
        let (output, pages) = listing_without_end(marker);
        assert_eq!((exit_code(&output), pages), (PROTOCOL, 2), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains("does not lie behind"), "{}", text(&output.stderr));
    }
}

#[test]
fn nothing_that_a_store_says_steers_the_terminal() {
    let steering = "&#27;[2J&#155;2J&#7;";
    let page = |key: &str, id: &str, initiated: &str| {
        format!("<R><Upload><Key>{key}</Key><UploadId>{id}</UploadId><Initiated>{initiated}</Initiated></Upload></R>")
    };
    let error = format!("<Error><Code>X{steering}</Code><Message>m{steering}</Message><EC>{steering}</EC></Error>");
    for (status, body, code) in [
        ("200 OK", page(&format!("k{steering}\n"), "U", "2025-01-01T00:00:00.000Z"), 0),
        ("200 OK", page("k", "U", steering), 0),
        ("200 OK", page("k", &format!("U{steering}"), ""), 0),
        ("200 OK", format!("<R><IsTruncated>{steering}</IsTruncated></R>"), PROTOCOL),
        ("200 OK", format!("<R>{}", "<\u{1b}[2J>".repeat(100_000)), PROTOCOL),
        ("400 Bad Request", error, 5),
        ("400 Bad Request", "\u{1b}[2J\u{9b}2J".repeat(100_000), 5),
    ] {
        let (address, _) = canned(move |_| http(status, "x-oss-request-id: R\r\n", &body));
        for options in [&[][..], &["--json"]] {
            let output = list(&format!("http://{address}"), options);
            let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
            assert_eq!(exit_code(&output), code, "{said}");
            assert!(!said.contains(|c: char| c.is_control() && c != '\n'), "{said:?}");
            assert!(said.len() < 2000, "{} bytes said", said.len());
        }
    }
}

#[test]
fn an_upload_id_or_a_tag_that_makes_no_sense_ends_the_upload_before_it_is_kept() {
    let scratch = tempfile::tempdir().unwrap();
    let (file, _) = random_file(scratch.path(), 300 << 10, 1);
    for (id, tag, why) in [
        ("U".repeat(1 << 20), "\"A\"".to_owned(), "upload id that has 1048576 bytes"),
        ("&#27;[2J".to_owned(), "\"A\"".to_owned(), "upload id that holds control characters"),
        ("U".to_owned(), "A".repeat(2000), "ETag that has 2000 bytes"),
        ("U".to_owned(), "\"\"".to_owned(), "ETag that is empty"),
    ] {
        let (address, _) = canned(move |head| match head.starts_with("POST ") {
            true => http("200 OK", "", &format!("<R><UploadId>{id}</UploadId></R>")),
            false => http("200 OK", &format!("etag: {tag}\r\n"), ""),
        });
        let output = put(&file, &format!("http://{address}"), &["--part-size", "100KiB"]).output().unwrap();
        let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
        assert_eq!(exit_code(&output), PROTOCOL, "{said}");
        assert!(said.contains(why) && !said.contains('\u{1b}'), "{said}");
        let _ = std::fs::remove_file(scratch.path().join("file-1.cp"));
    }
}

#[test]
fn files_without_end_are_refused() {
    for (option, code) in [("--config", 3), ("--ca-cert", 2)] {
        let output = list("https://127.0.0.1:1", &[option, "/dev/zero"]);
        let said = text(&output.stderr);
        assert_eq!(exit_code(&output), code, "{said}");
        assert!(said.contains("/dev/zero") && said.contains("larger than 4 MiB"), "{said}");
    }
}

#[test]
fn a_proxy_that_is_no_url_is_not_gone_around() {
    let (address, connections) = canned(|_| http("200 OK", "", "<R></R>"));
    let endpoint = format!("http://{address}");
    let with = |variables: &[(&str, &str)], options: &[&str]| {
        let output = list_with(variables, &endpoint, options);
        (exit_code(&output), text(&output.stderr))
    };
    for proxy in ["http://[bad", "ftp://127.0.0.1:1", ":3128", "http://[]:9", "/", ""] {
        let (code, said) = with(&[], &["--proxy", proxy]);
        assert!(code == 5 && said.contains("http://host:port"), "{code} {said}");
    }
    for variable in ["HTTP_PROXY", "http_proxy", "ALL_PROXY"] {
        let (code, said) = with(&[(variable, "ftp://127.0.0.1:1")], &[]);
        assert!(code == 5 && said.contains("http://host:port"), "{code} {said}");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 0);
    for variables in [
        &[][..],
        &[("HTTP_PROXY", "")],
        &[("HTTPS_PROXY", "ftp://127.0.0.1:1")],
        &[("HTTP_PROXY", "ftp://127.0.0.1:1"), ("NO_PROXY", "127.0.0.1")],
    ] {
        assert_eq!(with(variables, &[]).0, 0, "{variables:?}: no proxy is due");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 4);
}
