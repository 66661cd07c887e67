//! Clients that are slow, silent or gone: they end when their time is up, and nobody waits for them.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::server_support::*;
use haul::server::{Config, StoreKind, Tls};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use zeroize::Zeroizing;

const DEADLINE: Duration = Duration::from_secs(3);
/// Those who read nothing are the first to come and the first to end.
const WRITE_DEADLINE: Duration = Duration::from_millis(500);
const SILENT: usize = 700;
const HALF_A_HEAD: usize = 600;
const HALF_A_BODY: usize = 600;
const READING_NOTHING: usize = 100;
/// More than the sockets of a connection hold.
const LARGE: usize = 16 << 20;

fn impatient() -> Config {
    Config {
        handshake_timeout: DEADLINE,
        head_timeout: DEADLINE,
        body_timeout: DEADLINE,
        write_timeout: WRITE_DEADLINE,
        ..config(StoreKind::Memory)
    }
}

fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).expect("the server accepts");
    stream.set_read_timeout(Some(Duration::from_secs(120))).expect("a socket");
    stream
}

fn connect_and_send(to: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = connect(to);
    stream.write_all(bytes).expect("the server listens");
    stream
}

/// What the server still sends until it ends the connection; an error of the test if it does not.
fn until_the_end(mut stream: TcpStream) -> Vec<u8> {
    let mut got = Vec::new();
    match stream.read_to_end(&mut got) {
        Ok(_) => got,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => got,
        Err(error) => panic!("the connection did not end: {error}"),
    }
}

/// Both ends of every connection are in this process.
fn take_descriptors(wanted: u64) {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < wanted) {
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).expect("the soft limit can be raised");
    }
    let limit = getrlimit(Resource::Nofile).current;
    assert!(limit.is_none_or(|limit| limit >= wanted), "this test needs {wanted} descriptors: raise the hard limit");
}

#[test]
fn two_thousand_connections_that_stall_keep_nobody_waiting_and_end() {
    take_descriptors(4500);
    let server = try_start(impatient()).expect("the server starts");
    call("PUT", "large").body(vec![0; LARGE]).send(&server).expect(200);
    let to = server.address;
    let half_a_body = call("PUT", "half").header("content-length", "1000").head(to) + "half";
    let get = call("GET", "large").head(to);

    let reading_nothing: Vec<_> = (0..READING_NOTHING).map(|_| connect_and_send(to, get.as_bytes())).collect();
    let silent: Vec<_> = (0..SILENT).map(|_| connect(to)).collect();
    let half_a_head: Vec<_> =
        (0..HALF_A_HEAD).map(|_| connect_and_send(to, b"PUT /demo/key HTTP/1.1\r\nhost: h")).collect();
    let half_a_body: Vec<_> = (0..HALF_A_BODY).map(|_| connect_and_send(to, half_a_body.as_bytes())).collect();

    for i in 0..10 {
        let body = bytes(100_000, i);
        call("PUT", "key").body(body.clone()).send(&server).expect(200);
        assert!(call("GET", "key").send(&server).expect(200).body == body);
    }

    for stream in silent.into_iter().chain(half_a_head) {
        assert_eq!(String::from_utf8_lossy(&until_the_end(stream)), "");
    }
    for stream in half_a_body {
        let answer = String::from_utf8_lossy(&until_the_end(stream)).into_owned();
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("<Code>RequestTimeout</Code>"), "{answer}");
    }
    // Theirs was the shortest deadline; what they get now had been on its way.
    for stream in reading_nothing {
        assert!(until_the_end(stream).len() < LARGE);
    }
    call("GET", "half").send(&server).refused(404, "NoSuchKey");
}

#[test]
fn the_binary_takes_as_many_descriptors_as_it_may() {
    let serve = "ulimit -Sn 300; exec \"$0\" serve --store null --listen 127.0.0.1:0 --no-auth";
    let mut child = Command::new("sh")
        .args(["-c", serve, env!("CARGO_BIN_EXE_haul")])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut output = BufReader::new(child.stdout.take().expect("piped"));
    output.read_line(&mut String::new()).expect("it listens");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", child.id())).expect("the process lives");
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).expect("Linux tells it");
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words[0], words[1], "soft and hard limit");
    child.kill().expect("the process lives");
    child.wait().expect("the process lives");
}

#[test]
fn a_handshake_that_does_not_come_and_a_kept_connection_that_idles_end() {
    let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let tls = Tls {
        certificates_pem: own.cert.pem().into_bytes(),
        key_pem: Zeroizing::new(own.signing_key.serialize_pem().into_bytes()),
    };
    let secure = try_start(Config { tls: Some(tls), ..impatient() }).expect("the server starts");
    let silent = connect(secure.address);
    // The begin of a ClientHello that announces more.
    let half = connect_and_send(secure.address, &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01]);
    let server = try_start(impatient()).expect("the server starts");
    let mut kept = connect_and_send(server.address, call("GET", "key").head(server.address).as_bytes());
    assert_eq!(read_reply(&mut kept, false).status, 404);
    for stream in [silent, half, kept] {
        assert!(until_the_end(stream).is_empty());
    }
}
