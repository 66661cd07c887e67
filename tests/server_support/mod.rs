//! A server in this process and a client of a few lines: raw HTTP/1.1 over a socket, signed with version 1.
#![allow(dead_code, reason = "every test file uses a part of it")]

pub mod ledger;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use haul::server::{AccessKey, Config, Server, ServerError, StoreKind};
use hmac::{Hmac, KeyInit, Mac};
use md5::Digest as _;
use tokio::sync::oneshot;

pub const ID: &str = "test-id";
pub const SECRET: &str = "test-secret";

/// Stops when dropped.
pub struct Running {
    pub address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

pub fn config(store: StoreKind) -> Config {
    let buckets = vec![haul::model::object::Bucket::new("demo").unwrap()];
    let access_keys = vec![AccessKey::new(ID, SECRET)];
    Config { store, buckets, access_keys, body_timeout: Duration::from_secs(2), ..Config::default() }
}

pub fn start(store: StoreKind) -> Running {
    try_start(config(store)).expect("the server starts")
}

pub fn try_start(config: Config) -> Result<Running, ServerError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let server = runtime.block_on(Server::bind(config))?;
    let address = server.local_addr();
    let (stop, stopped) = oneshot::channel::<()>();
    let run = move || {
        runtime.block_on(server.run(async move {
            let _ = stopped.await;
        }));
    };
    Ok(Running { address, stop: Some(stop), thread: Some(std::thread::spawn(run)) })
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// Text of the first element of that name.
    pub fn element(&self, name: &str) -> Option<String> {
        let text = self.text();
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        Some(rest.split_once(&format!("</{name}>"))?.0.to_owned())
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{:?} {}", self.headers, self.text());
        self
    }

    #[track_caller]
    pub fn refused(self, status: u16, code: &str) -> Self {
        let reply = self.expect(status);
        assert_eq!(reply.element("Code").as_deref(), Some(code), "{}", reply.text());
        assert_eq!(reply.element("RequestId").as_deref(), Some(reply.header("x-oss-request-id")));
        assert_eq!(reply.element("EC").as_deref(), Some(reply.header("x-oss-ec")));
        reply
    }
}

/// A request being put together.
pub struct Call {
    method: String,
    target: String,
    /// What is signed: path and sub-resources as the specification writes them.
    resource: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    id: String,
    pub secret: String,
    pub signed: bool,
    pub date: SystemTime,
}

impl Call {
    /// `target` goes onto the wire as it is; `resource` is what is signed.
    pub fn new(method: &str, target: &str, resource: &str) -> Self {
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            resource: resource.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
            id: ID.to_owned(),
            secret: SECRET.to_owned(),
            signed: true,
            date: SystemTime::now(),
        }
    }

    pub fn unsigned(mut self) -> Self {
        self.signed = false;
        self
    }

    pub fn signed_by(mut self, id: &str, secret: &str) -> Self {
        (self.id, self.secret) = (id.to_owned(), secret.to_owned());
        self
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        let bytes = self.body.len().to_string();
        self.header("content-length", &bytes)
    }

    pub fn content(&self) -> &[u8] {
        &self.body
    }

    fn value(&self, name: &str) -> &str {
        self.headers.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
    }

    fn authorization(&self, date: &str) -> String {
        let mut signed: Vec<_> = self.headers.iter().filter(|(name, _)| name.starts_with("x-oss-")).collect();
        signed.sort();
        let lines: Vec<String> = signed.into_iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let (md5, kind) = (self.value("content-md5"), self.value("content-type"));
        let text = format!("{}\n{md5}\n{kind}\n{date}\n{}{}", self.method, lines.concat(), self.resource);
        let mut mac = Hmac::<sha1::Sha1>::new_from_slice(self.secret.as_bytes()).unwrap();
        mac.update(text.as_bytes());
        format!("OSS {}:{}", self.id, STANDARD.encode(mac.finalize().into_bytes()))
    }

    /// The bytes of the request before its body.
    pub fn head(&self, to: SocketAddr) -> String {
        let date = httpdate::fmt_http_date(self.date);
        let mut head = format!("{} {} HTTP/1.1\r\nhost: {to}\r\ndate: {date}\r\n", self.method, self.target);
        if self.signed {
            head += &format!("authorization: {}\r\n", self.authorization(&date));
        }
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head + "\r\n"
    }

    #[track_caller]
    pub fn send(self, to: &Running) -> Reply {
        self.try_send(to.address).expect("the server answers")
    }

    /// `None` if the connection ended before there was an answer.
    pub fn try_send(self, to: SocketAddr) -> Option<Reply> {
        let mut stream = TcpStream::connect(to).ok()?;
        stream.write_all(self.head(to).as_bytes()).ok()?;
        // A refusal may come before the body is through.
        let _ = stream.write_all(&self.body);
        try_read_reply(&mut stream, self.method == "HEAD")
    }
}

/// Reads one answer.
#[track_caller]
pub fn read_reply(stream: &mut TcpStream, is_head: bool) -> Reply {
    try_read_reply(stream, is_head).expect("the server answers")
}

fn try_read_reply(stream: &mut TcpStream, is_head: bool) -> Option<Reply> {
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let pair = |line: &str| line.split_once(": ").map(|(n, v)| (n.to_ascii_lowercase(), v.to_owned()));
    let headers: HashMap<String, String> = lines.filter_map(pair).collect();
    let bytes = headers.get("content-length").map_or(0, |bytes| bytes.parse().unwrap());
    let mut body = vec![0; if is_head || status == 304 { 0 } else { bytes }];
    stream.read_exact(&mut body).ok()?;
    Some(Reply { status, headers, body })
}

/// A request on an object of the bucket `demo`, the key and the query harmless.
pub fn call(method: &str, key_and_query: &str) -> Call {
    let target = format!("/demo/{key_and_query}");
    Call::new(method, &target, &target)
}

/// A request whose query is not signed.
pub fn call_unsigned_query(method: &str, path: &str, query: &str) -> Call {
    Call::new(method, &format!("/demo/{path}?{query}"), &format!("/demo/{path}"))
}

/// Of a body, as the header says it.
pub fn content_md5(body: impl AsRef<[u8]>) -> String {
    STANDARD.encode(md5::Md5::digest(body))
}

pub fn bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0; len];
    random.fill(&mut bytes);
    bytes
}

pub fn initiate(server: &Running, key: &str) -> String {
    let reply = call("POST", &format!("{key}?uploads")).body("").send(server).expect(200);
    reply.element("UploadId").expect("an upload id")
}

/// Uploads a part and answers with its ETag.
#[track_caller]
pub fn upload_part(server: &Running, key: &str, id: &str, number: u32, body: &[u8]) -> String {
    let target = format!("{key}?partNumber={number}&uploadId={id}");
    let reply = call("PUT", &target).body(body).send(server).expect(200);
    assert_eq!(reply.header("x-oss-hash-crc64ecma"), haul::model::crc64::crc64(body).to_string());
    reply.header("etag").to_owned()
}

pub fn complete_body(parts: &[(u32, String)]) -> String {
    let part = |(n, tag): &(u32, String)| format!("<Part><PartNumber>{n}</PartNumber><ETag>{tag}</ETag></Part>");
    format!("<CompleteMultipartUpload>{}</CompleteMultipartUpload>", parts.iter().map(part).collect::<String>())
}

pub fn complete(key: &str, id: &str, parts: &[(u32, String)]) -> Call {
    call("POST", &format!("{key}?uploadId={id}")).body(complete_body(parts))
}
