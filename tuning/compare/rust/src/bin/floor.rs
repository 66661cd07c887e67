//! The floors: what an upload costs when nothing is done but sending. One thread a connection, raw requests.
//!
//!     floor sendfile|mmap|mmap-crc64 UPLOAD
//!
//! `sendfile` lets the kernel send the file; over TLS there is no such thing, and it fails. `mmap` writes from a mapping;
//! `mmap-crc64` computes the CRC64 of what it writes in the same loop, and sends nothing of it.
//!
//!     floor crc64-of-file FILE
//!
//! prints the CRC64 of a file, to compare what arrived with.

use std::error::Error;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crc_fast::{CrcAlgorithm, Digest};
use haul_compare::Upload;
use memmap2::Mmap;
use rustix::fs::sendfile;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};

type Failure = Box<dyn Error + Send + Sync>;

/// Written at a time; still in the cache when it is written after its checksum.
const PIECE: usize = 256 << 10;

fn main() -> Result<(), Box<dyn Error>> {
    let kind = std::env::args().nth(1).unwrap_or_default();
    if kind == "crc64-of-file" {
        let file = std::env::args().nth(2).unwrap_or_default();
        println!("{}", crc_fast::checksum_file(CrcAlgorithm::Crc64Xz, &file, None)?);
        return Ok(());
    }
    let upload = Upload::from_arguments()?;
    if upload.startup {
        return Ok(());
    }
    run(&kind, &upload).map_err(|failure| failure as Box<dyn Error>)
}

fn run(kind: &str, upload: &Upload) -> Result<(), Failure> {
    let client = Client::new(upload)?;
    let file = File::open(&upload.file)?;
    let parts = upload.parts()?;
    let path = format!("/demo/{}", upload.key);
    let answer = client.connect()?.request("POST", &format!("{path}?uploads"), 0, |_| Ok(()))?;
    let id = between(&answer, "<UploadId>", "</UploadId>").ok_or("no upload id")?.to_owned();
    let next = AtomicUsize::new(0);
    let work = || -> Result<(), Failure> {
        let mut connection = client.connect()?;
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let Some(part) = parts.get(i) else { return Ok(()) };
            let target = format!("{path}?partNumber={}&uploadId={id}", i + 1);
            connection.request("PUT", &target, part.end - part.start, |stream| send(kind, &file, part, stream))?;
        }
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..upload.parallel).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a thread panicked")?)
    })?;
    client.connect()?.request("POST", &format!("{path}?uploadId={id}"), 0, |_| Ok(()))?;
    Ok(())
}

fn send(kind: &str, file: &File, part: &Range<u64>, stream: &mut Stream) -> Result<(), Failure> {
    match (kind, stream) {
        ("sendfile", Stream::Plain(stream)) => {
            let mut offset = part.start;
            while offset < part.end {
                let left = (part.end - offset) as usize;
                if sendfile(&*stream, file, Some(&mut offset), left)? == 0 {
                    return Err("the file became shorter".into());
                }
            }
            Ok(())
        }
        ("sendfile", Stream::Tls(_)) => Err("sendfile does not encrypt".into()),
        ("mmap", stream) => write_mapped(file, part, stream, false),
        ("mmap-crc64", stream) => write_mapped(file, part, stream, true),
        _ => Err("floor sendfile|mmap|mmap-crc64 UPLOAD".into()),
    }
}

fn write_mapped(file: &File, part: &Range<u64>, stream: &mut Stream, check: bool) -> Result<(), Failure> {
    // SAFETY: the mapping is read only and of a file that nobody shortens or writes while the comparison runs. That is
    // a promise of the harness, which made the file, and cannot be enforced; if broken, this program dies (SIGBUS) or
    // sends other bytes, and the run does not count.
    let map = unsafe { Mmap::map(file)? };
    let mut digest = Digest::new(CrcAlgorithm::Crc64Xz);
    for piece in map[part.start as usize..part.end as usize].chunks(PIECE) {
        if check {
            digest.update(piece);
        }
        stream.write_all(piece)?;
    }
    std::hint::black_box(digest.finalize());
    Ok(())
}

struct Client {
    address: String,
    tls: Option<Arc<ClientConfig>>,
}

impl Client {
    fn new(upload: &Upload) -> Result<Self, Failure> {
        let (_, address) = upload.endpoint.split_once("://").ok_or("an endpoint without scheme")?;
        let tls = match &upload.ca {
            None => None,
            Some(ca) => {
                let mut roots = RootCertStore::empty();
                roots.add(CertificateDer::from_pem_file(ca)?)?;
                Some(Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()))
            }
        };
        Ok(Self { address: address.to_owned(), tls })
    }

    fn connect(&self) -> Result<Connection, Failure> {
        let stream = TcpStream::connect(&self.address)?;
        stream.set_nodelay(true)?;
        let stream = match &self.tls {
            None => Stream::Plain(stream),
            Some(config) => {
                let (host, _) = self.address.rsplit_once(':').ok_or("an address without port")?;
                let name = ServerName::try_from(host.to_owned())?;
                Stream::Tls(Box::new(StreamOwned::new(ClientConnection::new(config.clone(), name)?, stream)))
            }
        };
        Ok(Connection { stream: BufReader::new(stream), host: self.address.clone() })
    }
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(into),
            Self::Tls(stream) => stream.read(into),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

struct Connection {
    stream: BufReader<Stream>,
    host: String,
}

impl Connection {
    /// Sends a request whose body `send` writes; the body of the answer.
    fn request(
        &mut self,
        method: &str,
        target: &str,
        length: u64,
        send: impl FnOnce(&mut Stream) -> Result<(), Failure>,
    ) -> Result<String, Failure> {
        let stream = self.stream.get_mut();
        let head = format!("{method} {target} HTTP/1.1\r\nHost: {}\r\nContent-Length: {length}\r\n\r\n", self.host);
        stream.write_all(head.as_bytes())?;
        send(stream)?;
        stream.flush()?;
        self.answer()
    }

    fn answer(&mut self) -> Result<String, Failure> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        if !line.starts_with("HTTP/1.1 200 ") {
            return Err(format!("the store answered {:?}", line.trim_end()).into());
        }
        let mut length = 0;
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            match line.trim_end().split_once(": ") {
                None => break,
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.parse()?,
                Some(_) => {}
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok(String::from_utf8(body)?)
    }
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    let (_, after) = text.split_once(start)?;
    Some(after.split_once(end)?.0)
}
