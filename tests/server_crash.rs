//! What the directory store acknowledged is there after `kill -9`, whatever it was doing; and HTTPS works.

mod server_support;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use haul::server::{StoreKind, Tls};
use server_support::*;

const STORE: &str = "HAUL_TEST_STORE";
const PART: usize = 100 << 10;

/// The server process of the test below; nothing by itself.
#[test]
#[ignore = "run by acknowledged_objects_survive_kill_9"]
fn serve_until_killed() {
    let store = std::env::var(STORE).expect("the parent names the store");
    let server = start(StoreKind::Dir(store.into()));
    println!("\nlistening {}", server.address);
    loop {
        std::thread::park();
    }
}

/// Starts the process and waits until it listens.
fn spawn(store: &Path) -> (Child, SocketAddr) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "serve_until_killed", "--nocapture"])
        .env(STORE, store)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let address = lines.map_while(Result::ok).find_map(|line| line.strip_prefix("listening ")?.parse().ok());
    (child, address.expect("the server listens"))
}

/// One writer: overwrites its object again and again, by PUT and by multipart in turn, until the server is gone.
/// `last` is the number of the last version that was acknowledged.
fn write_until_gone(address: SocketAddr, writer: usize, last: &Mutex<u64>, acknowledged: &AtomicUsize) {
    let key = format!("writer/{writer}");
    let from = *last.lock().unwrap();
    for version in from + 1.. {
        let body = bytes(PART + 1, version);
        let done = if version % 2 == 0 { put(address, &key, &body) } else { multipart(address, &key, &body) };
        if done.is_none() {
            return;
        }
        *last.lock().unwrap() = version;
        acknowledged.fetch_add(1, Ordering::Relaxed);
    }
}

fn put(address: SocketAddr, key: &str, body: &[u8]) -> Option<()> {
    call("PUT", key).body(body).try_send(address).map(|reply| drop(reply.expect(200)))
}

fn multipart(address: SocketAddr, key: &str, body: &[u8]) -> Option<()> {
    let begun = call("POST", &format!("{key}?uploads")).body("").try_send(address)?.expect(200);
    let id = begun.element("UploadId").unwrap();
    let mut parts = Vec::new();
    for (number, piece) in (1..).zip(body.chunks(PART)) {
        let part = call("PUT", &format!("{key}?partNumber={number}&uploadId={id}")).body(piece);
        parts.push((number, part.try_send(address)?.expect(200).header("etag").to_owned()));
    }
    complete(key, &id, &parts).try_send(address).map(|reply| drop(reply.expect(200)))
}

#[test]
fn acknowledged_objects_survive_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    let last: Arc<[Mutex<u64>; 4]> = Arc::new(std::array::from_fn(|_| Mutex::new(0)));
    for round in 1..=6 {
        let (mut child, address) = spawn(&store);
        let acknowledged = Arc::new(AtomicUsize::new(0));
        let writers: Vec<_> = (0..last.len())
            .map(|writer| {
                let (last, acknowledged) = (last.clone(), acknowledged.clone());
                std::thread::spawn(move || write_until_gone(address, writer, &last[writer], &acknowledged))
            })
            .collect();
        while acknowledged.load(Ordering::Relaxed) < 5 * round {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        check(&store, &last);
    }
}

/// Every object is the last acknowledged version or the one that was under way, and agrees with its headers.
fn check(store: &Path, last: &[Mutex<u64>; 4]) {
    let server = start(StoreKind::Dir(store.to_owned()));
    assert_eq!(std::fs::read_dir(store.join("incoming")).unwrap().count(), 0);
    for (writer, last) in last.iter().enumerate() {
        let mut last = last.lock().unwrap();
        let reply = call("GET", &format!("writer/{writer}")).send(&server);
        if *last == 0 && reply.status == 404 {
            continue;
        }
        let got = reply.expect(200);
        let version = [*last, *last + 1].into_iter().find(|version| got.body == bytes(PART + 1, *version));
        let version = version.unwrap_or_else(|| panic!("writer {writer}: not version {last} nor the next"));
        assert_eq!(got.header("x-oss-hash-crc64ecma"), haul::model::crc64::crc64(&got.body).to_string());
        let kind = if version % 2 == 0 { "Normal" } else { "Multipart" };
        assert_eq!(got.header("x-oss-object-type"), kind);
        *last = version;
    }
}

#[test]
fn https_is_served_with_the_given_certificate() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let mut config = config(StoreKind::Memory);
    let certificates_pem = made.cert.pem().into_bytes();
    config.tls = Some(Tls { certificates_pem, key_pem: made.signing_key.serialize_pem().into_bytes().into() });
    let server = try_start(config).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "localhost".try_into().unwrap();
    let connection = rustls::ClientConnection::new(Arc::new(client), name).unwrap();
    let socket = std::net::TcpStream::connect(server.address).unwrap();
    let mut stream = rustls::StreamOwned::new(connection, socket);
    let put = call("PUT", "k").body("secret");
    std::io::Write::write_all(&mut stream, format!("{}secret", put.head(server.address)).as_bytes()).unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    assert_eq!(line, "HTTP/1.1 200 OK\r\n");
}

#[test]
fn a_certificate_that_is_none_is_refused() {
    let mut config = config(StoreKind::Memory);
    config.tls = Some(Tls { certificates_pem: b"not pem".to_vec(), key_pem: b"not pem".to_vec().into() });
    assert!(matches!(try_start(config).err(), Some(haul::server::ServerError::Tls(_))));
}
