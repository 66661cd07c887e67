//! Two hundred uploads at a time fit into a small machine: bodies pass through, they are not gathered.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

const UPLOADS: usize = 200;
const BODY: usize = 2 << 20;
const BOUND_KIB: u64 = 64 << 10;

/// The server, and its output: one that cannot print ends.
struct Serve {
    child: Child,
    _output: BufReader<ChildStdout>,
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve(store: &str) -> (Serve, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_haul"))
        .args(["serve", "--store", store, "--listen", "127.0.0.1:0", "--no-auth", "--bucket", "demo"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut output = BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    output.read_line(&mut line).expect("a line");
    let address = line.trim().strip_prefix("listening on http://").expect("an address").to_owned();
    (Serve { child, _output: output }, address)
}

/// What the process holds that no file backs, in KiB.
fn rss_anon(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process lives");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("Linux tells it");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

fn upload(address: &str, n: usize) {
    let mut stream = TcpStream::connect(address).expect("the server accepts");
    let head = format!("PUT /demo/{n} HTTP/1.1\r\nhost: h\r\ncontent-length: {BODY}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("the server reads");
    stream.write_all(&vec![7; BODY]).expect("the server reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the server answers");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// The most that was seen while the uploads ran.
fn peak(store: &str) -> u64 {
    let (server, address) = serve(store);
    let done = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for n in 0..UPLOADS {
            let (address, done) = (&address, &done);
            scope.spawn(move || {
                upload(address, n);
                done.fetch_add(1, Ordering::Relaxed);
            });
        }
        let mut peak = 0;
        while done.load(Ordering::Relaxed) < UPLOADS {
            peak = rss_anon(server.child.id()).max(peak);
            std::thread::yield_now();
        }
        peak
    })
}

#[test]
fn two_hundred_uploads_stay_below_64_mib() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = format!("dir:{}", dir.path().join("store").display());
    for store in ["null", &store] {
        let peak = peak(store);
        println!("{store}: {peak} KiB");
        assert!(peak < BOUND_KIB, "{store}: {peak} KiB");
    }
}
