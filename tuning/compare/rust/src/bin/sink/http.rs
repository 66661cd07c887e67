//! HTTP/1.1 as far as clients of object stores speak it: kept connections, `Expect: 100-continue`, bodies with a length
//! or in chunks, and the framing `aws-chunked` within either.

use std::collections::BTreeSet;
use std::io::{self, BufRead};

use crate::objects::{Answer, Objects, Request};
use crate::transport::Transport;

const HEAD_MAX: usize = 64 << 10;

/// How a body ends.
enum Framing {
    Length(u64),
    Chunked,
}

struct Head {
    method: String,
    /// Path and query, as sent.
    target: String,
    framing: Framing,
    expects_continue: bool,
    /// What is in the body beneath `aws-chunked`, in bytes.
    decoded_length: Option<u64>,
    sums: String,
}

/// What was received as a body.
pub struct Body {
    pub length: u64,
    /// Of the content; none if nobody wanted it, or if it is framed once more.
    pub crc64: Option<u64>,
    /// The checksums of the body that came with it, in headers or behind it: "MD5 + SHA-256".
    pub sums: String,
    /// What it was encrypted with; none over plain HTTP.
    pub cipher: Option<String>,
}

/// Answers the requests of one connection until it is closed.
pub fn serve(mut transport: Transport, objects: &Objects) -> io::Result<()> {
    while let Some(head) = read_head(&mut transport)? {
        if head.expects_continue {
            transport.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let body = read_body(&mut transport, &head, objects.verify)?;
        let answer = objects.answer(&Request::new(&head.method, &head.target), &body);
        transport.write_all(&render(&answer, head.method == "HEAD"))?;
    }
    Ok(())
}

/// The next head; none at the end of the connection.
fn read_head(transport: &mut Transport) -> io::Result<Option<Head>> {
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut headers);
        let parsed = request.parse(transport.received()).map_err(io::Error::other)?;
        if let httparse::Status::Complete(length) = parsed {
            let head = Head::from_parsed(&request)?;
            transport.consume(length);
            return Ok(Some(head));
        }
        if transport.received().len() > HEAD_MAX {
            return Err(io::Error::other("a head without end"));
        }
        if !transport.receive_more()? {
            return Ok(None);
        }
    }
}

impl Head {
    fn from_parsed(request: &httparse::Request<'_, '_>) -> io::Result<Self> {
        let value = |name: &str| {
            let header = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
            std::str::from_utf8(header.value).ok().map(str::trim)
        };
        let number = |name| value(name).map(|text| text.parse::<u64>().map_err(io::Error::other)).transpose();
        // The OSS SDK for C sends both; the chunks are what is on the wire.
        let chunked = value("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"));
        Ok(Self {
            method: request.method.unwrap_or_default().to_owned(),
            target: request.path.unwrap_or_default().to_owned(),
            framing: if chunked { Framing::Chunked } else { Framing::Length(number("content-length")?.unwrap_or(0)) },
            expects_continue: value("expect").is_some_and(|what| what.eq_ignore_ascii_case("100-continue")),
            decoded_length: number("x-amz-decoded-content-length")?,
            sums: sums(request),
        })
    }
}

fn sums(request: &httparse::Request<'_, '_>) -> String {
    let mut found = BTreeSet::new();
    for header in request.headers.iter() {
        let (name, value) = (header.name.to_ascii_lowercase(), String::from_utf8_lossy(header.value).to_lowercase());
        // What is not the digest is one of UNSIGNED-PAYLOAD, STREAMING-...
        let hashed = value.len() == 64 && value.bytes().all(|byte| byte.is_ascii_hexdigit());
        match name.as_str() {
            "content-md5" => found.insert("MD5".to_owned()),
            "x-amz-content-sha256" if hashed => found.insert("SHA-256".to_owned()),
            "x-amz-trailer" => {
                value.strip_prefix("x-amz-checksum-").is_some_and(|sum| found.insert(sum.to_uppercase()))
            }
            _ => match name.strip_prefix("x-amz-checksum-") {
                None | Some("algorithm" | "type") => false,
                Some(sum) => found.insert(sum.to_uppercase()),
            },
        };
    }
    found.into_iter().collect::<Vec<_>>().join(" + ")
}

fn read_body(transport: &mut Transport, head: &Head, verify: bool) -> io::Result<Body> {
    let mut digest = verify.then(|| crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Xz));
    let mut length = 0;
    match head.framing {
        Framing::Length(bytes) => {
            transport.take(bytes, digest.as_mut())?;
            length = bytes;
        }
        Framing::Chunked => loop {
            let bytes = read_chunk_length(transport)?;
            if bytes == 0 {
                break;
            }
            transport.take(bytes, digest.as_mut())?;
            length += bytes;
            read_line(transport)?;
        },
    }
    if matches!(head.framing, Framing::Chunked) {
        while !read_line(transport)?.is_empty() {} // trailers
    }
    let crc64 = digest.filter(|_| head.decoded_length.is_none()).map(|digest| digest.finalize());
    Ok(Body {
        length: head.decoded_length.unwrap_or(length),
        crc64,
        sums: head.sums.clone(),
        cipher: transport.cipher(),
    })
}

fn read_chunk_length(transport: &mut Transport) -> io::Result<u64> {
    let line = read_line(transport)?;
    let digits = line.split(';').next().unwrap_or_default().trim();
    u64::from_str_radix(digits, 16).map_err(io::Error::other)
}

fn read_line(transport: &mut Transport) -> io::Result<String> {
    let mut line = String::new();
    if transport.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().to_owned())
}

fn render(answer: &Answer, head_only: bool) -> Vec<u8> {
    let length = answer.length.unwrap_or(answer.body.len() as u64);
    let mut text = format!("HTTP/1.1 {}\r\nContent-Length: {length}\r\nServer: sink\r\n", answer.status);
    text.push_str("x-oss-request-id: 0\r\nx-amz-request-id: 0\r\nLast-Modified: Wed, 01 Jan 2025 00:00:00 GMT\r\n");
    for (name, value) in &answer.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    if !head_only {
        text.push_str(&answer.body);
    }
    text.into_bytes()
}
