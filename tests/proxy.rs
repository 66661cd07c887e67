//! Proxies between this machine and the store: named, from the environment, plain and tunnelled.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};

use crate::common::canned::{canned, http};
use crate::common::*;

const PARTS: [&str; 4] = ["--part-size", "100KiB", "--parallel", "2"];

/// A proxy that speaks both ways of RFC 9110: whole URIs for plain HTTP, CONNECT for the rest. Gives its address and the
/// head of every request that opened a connection.
fn proxy() -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (heads, seen) = channel();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let heads = heads.clone();
            std::thread::spawn(move || carry(client, &heads));
        }
    });
    (address, seen)
}

fn carry(client: TcpStream, heads: &Sender<String>) {
    let mut reader = BufReader::new(client.try_clone().unwrap());
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).unwrap_or(0) == 0 {
            return;
        }
    }
    let target = head.split(' ').nth(1).unwrap().to_owned();
    let tunnel = head.starts_with("CONNECT ");
    let authority = target.trim_start_matches("http://").split('/').next().unwrap().to_owned();
    heads.send(head.clone()).unwrap();
    let mut store = TcpStream::connect(authority).unwrap();
    if tunnel {
        (&client).write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").unwrap();
    } else {
        store.write_all(head.as_bytes()).unwrap();
    }
    let (mut back, mut forth) = (store.try_clone().unwrap(), client.try_clone().unwrap());
    std::thread::spawn(move || std::io::copy(&mut back, &mut forth));
    let _ = std::io::copy(&mut reader, &mut store);
}

fn wants_success(mut command: std::process::Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn a_plain_proxy_gets_whole_uris_and_the_password() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    let (address, heads) = proxy();
    let (file, content) = random_file(scratch.path(), 350 << 10, 1);
    let url = format!("http://user:word@{address}");
    wants_success(put(&file, &store.endpoint, &[&PARTS[..], &["--proxy", &url]].concat()));
    assert!(store.holds(&content));
    let head = heads.recv().unwrap();
    assert!(head.contains(&format!("POST {}/demo/object?uploads", store.endpoint)), "{head}");
    assert!(head.to_lowercase().contains("proxy-authorization: basic dxnlcjp3b3jk"), "{head}");
}

fn served_over_tls(directory: &Path) -> (Served, String) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
    let (cert, key) = (directory.join("cert.pem"), directory.join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let options = ["--tls-cert", cert.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
    (Served::start_with(directory, &options), cert.to_str().unwrap().to_owned())
}

#[test]
fn https_goes_through_a_tunnel_that_sees_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let (store, cert) = served_over_tls(scratch.path());
    let (address, heads) = proxy();
    let (file, content) = random_file(scratch.path(), 350 << 10, 1);
    let mut command = put(&file, &store.endpoint, &[&PARTS[..], &["--ca-cert", &cert]].concat());
    command.env("HTTPS_PROXY", format!("http://{address}"));
    wants_success(command);
    assert!(store.holds(&content));
    let head = heads.recv().unwrap();
    assert!(head.starts_with(&format!("CONNECT {} ", store.address())), "{head}");
    assert!(!head.to_lowercase().contains("\r\nauthorization"), "{head}");
}

#[test]
fn no_proxy_is_obeyed() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    let (file, _) = random_file(scratch.path(), 350 << 10, 1);
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = put(&file, &store.endpoint, &PARTS);
    command.env("HTTP_PROXY", format!("http://{nobody}"));
    assert_eq!(exit_code(&command.output().unwrap()), 7);
    command.env("NO_PROXY", "127.0.0.1");
    wants_success(command);
}

/// What an upload through a proxy authenticates with: nothing, or what the proxy was told; `None` if it went straight.
fn authenticated(store: &Served, file: &Path, variables: &[(&str, &str)], heads: &Receiver<String>) -> Option<String> {
    let mut command = put(file, &store.endpoint, &["--attempts", "1"]);
    command.envs(variables.iter().copied());
    wants_success(command);
    let head = heads.try_iter().last()?.to_lowercase();
    let value = head.lines().find_map(|line| line.strip_prefix("proxy-authorization: basic ")).unwrap_or_default();
    Some(value.to_owned())
}

#[test]
fn the_variables_of_curl_are_obeyed() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Served::start(scratch.path());
    let (address, heads) = proxy();
    let (file, _) = random_file(scratch.path(), 1 << 10, 1);
    let plain = &*format!("http://{address}");
    let with_password = &*format!("http://user:p@ss@{address}");
    let encoded = &*format!("user:p%40ss@{address}");
    let both = Some("dxnlcjpwqhnz");
    for (variables, wanted) in [
        (&[("HTTP_PROXY", plain)][..], Some("")),
        (&[("HTTP_PROXY", plain), ("NO_PROXY", "*")], None),
        (&[("HTTP_PROXY", plain), ("NO_PROXY", "10.0.0.0/8, 127.0.0.0/8")], None),
        (&[("HTTP_PROXY", ""), ("http_proxy", plain)], Some("")),
        (&[("HTTP_PROXY", plain), ("NO_PROXY", ""), ("no_proxy", "127.0.0.1")], None),
        (&[("ALL_PROXY", plain), ("http_proxy", "")], Some("")),
        (&[("HTTP_PROXY", with_password)], both),
        (&[("HTTP_PROXY", encoded)], both),
    ] {
        let seen = authenticated(&store, &file, variables, &heads);
        assert_eq!(seen.as_deref(), wanted, "{variables:?}");
    }
}

/// What a put says that ends with `code` and is not tried again.
fn ends_at_once(mut command: std::process::Command, code: i32) -> String {
    let output = command.output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(exit_code(&output), code, "{said}");
    assert!(!text(&output.stdout).contains("retrying"), "{}", text(&output.stdout));
    said
}

#[test]
fn a_proxy_that_is_none_is_told_from_one_that_is_busy_and_its_password_is_not_shown() {
    let scratch = tempfile::tempdir().unwrap();
    let (file, _) = random_file(scratch.path(), 1 << 10, 1);
    let (banner, _) = canned(|_| b"SSH-2.0-OpenSSH_9.2\r\n".to_vec());
    let (closed, _) = canned(|_| http("407 Proxy Authentication Required", "", ""));
    for (endpoint, proxy, code, why) in [
        ("https://store.example.com", format!("http://user:canary@{banner}"), 2, "begins with \"SSH-2.0"),
        ("http://store.example.com", format!("http://user:canary@{banner}"), 2, "begins with \"SSH-2.0"),
        ("https://store.example.com", format!("http://user:canary@{closed}"), 5, "wants a user and a password"),
        ("http://store.example.com", format!("http://user:canary@{closed}"), 5, "wants a user and a password"),
        ("http://store.example.com", "socks5://user:canary@h:1".into(), 5, "name an http:// proxy"),
    ] {
        for by_option in [true, false] {
            let options = if by_option { &["--proxy", &*proxy][..] } else { &[] };
            let mut command = put(&file, endpoint, options);
            command.env("ALL_PROXY", if by_option { "" } else { &*proxy });
            let said = ends_at_once(command, code);
            assert!(said.contains(why) && !said.contains("canary"), "{said}");
        }
    }
}

#[test]
fn plain_http_to_a_port_for_tls_ends_at_once_and_names_https() {
    let scratch = tempfile::tempdir().unwrap();
    let (store, _) = served_over_tls(scratch.path());
    let (file, _) = random_file(scratch.path(), 350 << 10, 1);
    let endpoint = store.endpoint.replace("https:", "http:");
    let (proxy, _heads) = proxy();
    let proxy = format!("http://{proxy}");
    // One that hangs up without a word unless it is greeted as TLS has it.
    let (silent, _) = canned(|hello| if hello.starts_with('\x16') { vec![0x16, 3, 3, 0, 1] } else { Vec::new() });
    for (endpoint, options) in [
        (&*endpoint, &PARTS[..]),
        (&*endpoint, &["--proxy", &*proxy]),
        (&*format!("http://{silent}"), &PARTS[..]),
        (&*format!("http://{silent}"), &[]),
    ] {
        let said = ends_at_once(put(&file, endpoint, options), 2);
        assert!(said.contains("write https:// instead of http://"), "{said}");
    }
}

#[test]
fn what_is_no_store_is_named_and_not_asked_again() {
    let scratch = tempfile::tempdir().unwrap();
    let (file, _) = random_file(scratch.path(), 1 << 10, 1);
    let page = |status: &'static str| http(status, "content-type: text/html\r\n", "<html>Welcome to the hotel</html>");
    let settings = b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x64".to_vec();
    for (answer, code, why) in [
        (settings, 2, "speaks HTTP/2 only"),
        (b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), 2, "does not speak HTTP"),
        (page("200 OK"), 1, "a web page"),
        (page("403 Forbidden"), 1, "a web page"),
        (page("511 Network Authentication Required"), 5, "log in"),
        (http("200 OK", "", ""), 1, "check the endpoint and the proxy"),
    ] {
        let (address, visits) = canned(move |_| answer.clone());
        let said = ends_at_once(put(&file, &format!("http://{address}"), &[]), code);
        assert!(said.contains(why), "{said}");
        assert_eq!(visits.load(Ordering::SeqCst), 1, "{why}: nobody is asked twice");
    }
}

#[test]
fn a_connection_that_only_fails_is_tried_again() {
    let scratch = tempfile::tempdir().unwrap();
    let (file, _) = random_file(scratch.path(), 1 << 10, 1);
    for answer in ["", "HTTP/1.", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc"] {
        let (address, _) = canned(move |_| answer.as_bytes().to_vec());
        let output = put(&file, &format!("http://{address}"), &["--attempts", "2"]).output().unwrap();
        assert_eq!(exit_code(&output), 7, "{answer:?}: {}", text(&output.stderr));
        assert_eq!(named(&json_lines(&output.stdout), "retrying").len(), 1, "{answer:?}");
    }
}
