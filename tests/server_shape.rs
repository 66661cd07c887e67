//! A store that is made to look distant and busy, as a client meets it. Times are compared from below only: a slow machine
//! makes everything later. How exact they are is measured by `tuning/shape.py`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::common::{Served, haul, put_well, random_file, text};
use crate::server_support::*;
use haul::server::{Config, ServerError, Shape, ShapeError, StoreKind, Tls};
use rustls_pki_types::ServerName;
use zeroize::Zeroizing;

const ROUND_TRIP: Duration = Duration::from_millis(40);
/// Alarms ring a little early: they count on the time that waking up takes.
const EARLY: Duration = Duration::from_millis(1);

fn shaped(spec: &str) -> Config {
    Config { shape: Some(spec.parse().expect("a shape")), ..config(StoreKind::Memory) }
}

#[track_caller]
fn takes_at_least(begun: Instant, time: Duration, what: &str) {
    let took = begun.elapsed();
    assert!(took + EARLY >= time, "{what}: {took:?}, not {time:?}");
}

#[test]
fn setting_up_and_every_request_cost_a_round_trip() {
    let server = try_start(shaped("rtt=40ms")).expect("the server starts");
    let begun = Instant::now();
    let mut stream = TcpStream::connect(server.address).expect("the server accepts");
    for requests in 1..4 {
        stream.write_all(call("HEAD", "key").head(server.address).as_bytes()).expect("the server reads");
        assert_eq!(read_reply(&mut stream, true).status, 404);
        takes_at_least(begun, (1 + requests) * ROUND_TRIP, "TCP and as many requests");
    }
}

#[test]
fn tls_costs_its_flights() {
    let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let tls = Tls {
        certificates_pem: own.cert.pem().into_bytes(),
        key_pem: Zeroizing::new(own.signing_key.serialize_pem().into_bytes()),
    };
    let server = try_start(Config { tls: Some(tls), ..shaped("rtt=40ms") }).expect("the server starts");
    for (version, flights) in [(&rustls::version::TLS13, 1), (&rustls::version::TLS12, 2)] {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(own.cert.der().clone()).expect("a certificate");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let client = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .expect("a version")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").expect("a name");
        let begun = Instant::now();
        let stream = TcpStream::connect(server.address).expect("the server accepts");
        let session = rustls::ClientConnection::new(Arc::new(client), name).expect("a session");
        let mut stream = rustls::StreamOwned::new(session, stream);
        let head = call("HEAD", "key").header("connection", "close").head(server.address);
        stream.write_all(head.as_bytes()).expect("the server reads");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.starts_with(b"HTTP/1.1 404"), "{}", String::from_utf8_lossy(&answer));
        takes_at_least(begun, (1 + flights + 1) * ROUND_TRIP, "TCP, TLS and a request");
    }
}

#[test]
fn rates_hold_in_both_directions_and_the_service_tells_what_its_quota_took() {
    let server = try_start(shaped("connection-rate=20MB/s,total-rate=1MB/s")).expect("the server starts");
    let body = bytes(300_000, 1);
    let begun = Instant::now();
    let put = call("PUT", "key").body(body.clone()).send(&server).expect(200);
    takes_at_least(begun, Duration::from_millis(300), "300 KB up at 1 MB/s");
    let told: u64 = put.header("x-oss-qos-delay-time").parse().expect("a delay");
    assert!((1..=310).contains(&told), "{told} ms");
    let begun = Instant::now();
    assert!(call("GET", "key").send(&server).expect(200).body == body);
    takes_at_least(begun, Duration::from_millis(300), "300 KB down at 1 MB/s");
}

#[test]
fn too_many_requests_are_refused_as_the_service_does_it() {
    let server = try_start(shaped("requests-per-second=1")).expect("the server starts");
    call("HEAD", "key").send(&server).expect(404);
    let refused = call("GET", "key").send(&server).refused(503, "TotalQpsLimitExceeded");
    assert_eq!(refused.header("x-oss-ec"), "0004-00000302");
    let told: u64 = refused.header("x-oss-qos-delay-time").parse().expect("a delay");
    assert!((1..=1000).contains(&told), "{told} ms");

    let server = try_start(shaped("requests-in-flight=1")).expect("the server starts");
    let mut half = TcpStream::connect(server.address).expect("the server accepts");
    let put = call("PUT", "key").header("content-length", "2").header("expect", "100-continue");
    half.write_all(put.head(server.address).as_bytes()).expect("the server reads");
    let mut go = [0; 25];
    half.read_exact(&mut go).expect("the request is in flight");
    call("GET", "key").send(&server).refused(503, "ActiveRequestLimitExceeded");
    half.write_all(b"ok").expect("the server reads");
    read_reply(&mut half, false).expect(200);
    // Counted until the answer is through, which the server knows a moment after the client.
    while call("GET", "key").send(&server).status == 503 {
        std::thread::yield_now();
    }
    assert_eq!(call("GET", "key").send(&server).expect(200).body, b"ok");
}

#[test]
fn an_upload_gets_through_a_distant_and_throttling_store() {
    let scratch = tempfile::tempdir().expect("a directory");
    let profile = scratch.path().join("profile.toml");
    std::fs::write(&profile, "rtt = \"5ms\"\nrequests-per-second = 200\nslow-share = \"20%\"\n").expect("a file");
    let store = Served::start_with(scratch.path(), &["--shape", profile.to_str().expect("text")]);
    let (file, content) = random_file(scratch.path(), 4 << 20, 1);
    put_well(&file, &store.endpoint, &["--part-size", "100KiB", "--parallel", "8"]);
    assert!(store.holds(&content));
}

#[test]
fn a_shape_that_cannot_be_is_refused_before_anything_listens() {
    let shape = Shape { slow_share: f64::NAN, ..Shape::default() };
    let error = try_start(Config { shape: Some(shape), ..config(StoreKind::Null) }).err().expect("a refusal");
    assert!(matches!(error, ServerError::Shape(ShapeError::Value { key: "slow-share", .. })), "{error}");
    for (shape, says) in [("rtt=60", "rtt takes a time"), ("ping=1", "the keys are rtt"), ("no/such/file", "a file")] {
        let output = haul().args(["serve", "--store", "null", "--shape", shape]).output().expect("the binary runs");
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(says), "{shape}: {error}");
    }
}
