//! A second way to ask the store: requests of its own, signed and read without haul's client.

use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::common::SECRET;
use crate::server_support::{Call, Reply};

/// Connections are harmed as those of the client are; a store that answers nothing for so long has ended.
const PATIENCE: Duration = Duration::from_secs(60);

const PIECE_BYTES: usize = 256 << 10;

/// A request with the key of the stores; what follows `?` is a sub-resource.
pub fn call(method: &str, target: &str) -> Call {
    let mut call = Call::new(method, target, target);
    call.secret = SECRET.to_owned();
    call
}

/// Asks one store.
#[derive(Clone, Copy)]
pub struct Oracle(pub SocketAddr);

impl Oracle {
    /// Asks until there is an answer that is whole.
    fn ask(&self, call: impl Fn() -> Call, is_whole: impl Fn(&Reply) -> bool) -> Reply {
        let begun = Instant::now();
        loop {
            if let Some(reply) = call().try_send(self.0).filter(&is_whole) {
                return reply;
            }
            assert!(begun.elapsed() < PATIENCE, "the store does not answer well");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Length and CRC64 of an object, if it is there.
    pub fn object(&self, key: &str) -> Option<(u64, u64)> {
        let target = format!("/demo/{key}?objectMeta");
        let reply = self.ask(|| call("HEAD", &target), |reply| [200, 404].contains(&reply.status));
        let number = |name: &str| reply.header(name).parse().expect("a number");
        (reply.status == 200).then(|| (number("content-length"), number("x-oss-hash-crc64ecma")))
    }

    /// Whether an object has the bytes of this file. Compares them piece by piece: what is measured is the memory of the
    /// client, not of its test.
    pub fn is_file(&self, key: &str, file: &Path) -> bool {
        let (file, mut piece, mut at) = (File::open(file).expect("it was uploaded"), vec![0; PIECE_BYTES], 0);
        loop {
            let bytes = file.read_at(&mut piece, at).expect("the disk gives what it took");
            if bytes == 0 {
                return true;
            }
            let range = format!("bytes={at}-{}", at + bytes as u64 - 1);
            let reply = self.ask(|| call("GET", &format!("/demo/{key}")).header("range", &range), |r| r.status == 206);
            if reply.body != piece[..bytes] {
                return false;
            }
            at += bytes as u64;
        }
    }

    /// Key and id of the unfinished uploads.
    pub fn open_uploads(&self) -> Vec<(String, String)> {
        let reply = self.ask(|| call("GET", "/demo/?uploads"), |reply| reply.status == 200);
        assert_eq!(reply.element("IsTruncated").as_deref(), Some("false"), "more than 1000 uploads are open");
        let text = reply.text();
        let element = |text: &str, name: &str| {
            let (_, rest) = text.split_once(&format!("<{name}>")).expect("the element is there");
            rest.split_once(&format!("</{name}>")).expect("it ends").0.to_owned()
        };
        text.split("<Upload>").skip(1).map(|one| (element(one, "Key"), element(one, "UploadId"))).collect()
    }

    /// How many parts an unfinished upload has.
    pub fn parts(&self, (key, id): &(String, String)) -> usize {
        let target = format!("/demo/{key}?uploadId={id}");
        let is_whole = |reply: &Reply| reply.text().contains("</ListPartsResult>");
        self.ask(|| call("GET", &target), is_whole).text().matches("<Part>").count()
    }
}
