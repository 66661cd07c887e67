//! A connection, plain or TLS: buffered for what is looked at, and able to throw away what is not.

use std::io::{self, BufRead, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use crc_fast::Digest;
use rustix::net::{RecvFlags, recv};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// How much is thrown away or checksummed at a time. Checksummed bytes should still be in the cache.
const DISCARD: usize = 1 << 20;
const CHECK: usize = 256 << 10;

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

pub struct Transport {
    stream: Stream,
    buffer: Vec<u8>,
    /// What of `buffer` was received and not yet used.
    from: usize,
    to: usize,
}

impl Transport {
    pub fn new(stream: TcpStream, tls: Option<Arc<ServerConfig>>) -> io::Result<Self> {
        let stream = match tls {
            None => Stream::Plain(stream),
            Some(config) => {
                let connection = ServerConnection::new(config).map_err(io::Error::other)?;
                Stream::Tls(Box::new(StreamOwned::new(connection, stream)))
            }
        };
        // Zeroed by the kernel when touched: what is only discarded into stays out of memory.
        Ok(Self { stream, buffer: vec![0; DISCARD], from: 0, to: 0 })
    }

    /// The cipher suite the client and we agreed on, once a head was received.
    pub fn cipher(&self) -> Option<String> {
        match &self.stream {
            Stream::Plain(_) => None,
            Stream::Tls(stream) => stream.conn.negotiated_cipher_suite().map(|agreed| format!("{:?}", agreed.suite())),
        }
    }

    /// All that was received and not yet used.
    pub fn received(&self) -> &[u8] {
        &self.buffer[self.from..self.to]
    }

    /// Receives more behind [`Transport::received`]; false at the end.
    pub fn receive_more(&mut self) -> io::Result<bool> {
        self.buffer.copy_within(self.from..self.to, 0);
        (self.from, self.to) = (0, self.to - self.from);
        // Heads only: what of a body is received with its head is copied, and should be little.
        let end = self.buffer.len().min(self.to + (16 << 10));
        let received = self.stream.read(&mut self.buffer[self.to..end])?;
        self.to += received;
        Ok(received > 0)
    }

    /// Takes `len` bytes: discards them, or adds them to `digest`.
    pub fn take(&mut self, mut len: u64, mut digest: Option<&mut Digest>) -> io::Result<()> {
        while len > 0 {
            if self.from == self.to {
                let piece = if digest.is_some() { CHECK } else { DISCARD };
                let most = piece.min(usize::try_from(len).unwrap_or(piece));
                (self.from, self.to) = (0, self.stream.receive(&mut self.buffer[..most], digest.is_none())?);
                if self.to == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            let taken = usize::try_from(len).unwrap_or(usize::MAX).min(self.to - self.from);
            if let Some(digest) = &mut digest {
                digest.update(&self.buffer[self.from..self.from + taken]);
            }
            self.consume(taken);
            len -= taken as u64;
        }
        Ok(())
    }

    pub fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.stream {
            Stream::Plain(stream) => stream.write_all(bytes),
            Stream::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        }
    }
}

/// For lines; bodies go through [`Transport::take`].
impl BufRead for Transport {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.from == self.to {
            self.receive_more()?;
        }
        Ok(self.received())
    }

    fn consume(&mut self, len: usize) {
        self.from += len;
    }
}

impl Read for Transport {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let len = self.fill_buf()?.read(into)?;
        self.consume(len);
        Ok(len)
    }
}

impl Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(stream) => stream.read(into),
            Stream::Tls(stream) => stream.read(into),
        }
    }

    /// How many bytes were received. When they are `unseen`, plain ones are not copied at all.
    fn receive(&mut self, into: &mut [u8], unseen: bool) -> io::Result<usize> {
        match self {
            Stream::Plain(stream) if unseen => Ok(recv(stream, into, RecvFlags::TRUNC)?.1),
            _ => self.read(into),
        }
    }
}
