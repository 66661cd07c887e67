//! Bytes that the client has sent and that are not here yet: they are taken off the socket at once, so that the time
//! of their sending is known, and come out when their time has come.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Instant;

/// Bytes read from the socket at once: little when nothing is under way, so that idle connections cost nothing.
const CHUNK_MIN: usize = 4 << 10;
const CHUNK_MAX: usize = 64 << 10;

#[derive(Default)]
pub(super) struct UnderWay {
    chunks: VecDeque<Chunk>,
    bytes: usize,
    /// A buffer to read into, while there is something to read.
    spare: Vec<u8>,
    ended: bool,
}

/// Bytes that arrive together: `buffer[taken..end]`. Those that are none from the start are the end.
struct Chunk {
    arrives: Instant,
    buffer: Vec<u8>,
    taken: usize,
    end: usize,
}

impl UnderWay {
    /// Takes what the socket has, as long as less than `window` bytes are under way; `arrival` says when bytes arrive
    /// that are sent now.
    pub fn fill(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        cx: &mut Context<'_>,
        window: usize,
        arrival: impl Fn(Instant) -> Instant,
    ) -> io::Result<()> {
        while !self.ended && self.bytes < window {
            let mut buffer = std::mem::take(&mut self.spare);
            if buffer.is_empty() {
                buffer = vec![0; if self.bytes == 0 { CHUNK_MIN } else { CHUNK_MAX }];
            }
            let size = buffer.len().min(window - self.bytes);
            let mut buf = ReadBuf::new(&mut buffer[..size]);
            let Poll::Ready(outcome) = Pin::new(&mut *stream).poll_read(cx, &mut buf) else {
                self.spare = if self.bytes == 0 { Vec::new() } else { buffer };
                break;
            };
            outcome?;
            let end = buf.filled().len();
            if end <= CHUNK_MIN && buffer.len() > CHUNK_MIN {
                let little = buffer[..end].to_vec();
                self.spare = std::mem::replace(&mut buffer, little);
            }
            self.ended = end == 0;
            self.bytes += end;
            self.chunks.push_back(Chunk { arrives: arrival(Instant::now()), buffer, taken: 0, end });
        }
        Ok(())
    }

    /// What arrives next, and when. No bytes stand for the end.
    pub fn next(&self) -> Option<(Instant, &[u8])> {
        self.chunks.front().map(|chunk| (chunk.arrives, &chunk.buffer[chunk.taken..chunk.end]))
    }

    /// Takes `bytes` away from what arrives next, of which there are as many.
    pub fn take(&mut self, bytes: usize) {
        let Some(chunk) = self.chunks.front_mut().filter(|_| bytes > 0) else { return };
        chunk.taken += bytes;
        self.bytes -= bytes;
        if chunk.taken == chunk.end {
            self.spare = self.chunks.pop_front().map_or(Vec::new(), |chunk| chunk.buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    async fn fill(line: &mut UnderWay, stream: &mut &[u8], window: usize) {
        let arrival = |now| now + Duration::from_secs(1);
        poll_fn(|cx| Poll::Ready(line.fill(stream, cx, window, arrival))).await.expect("memory can be read");
    }

    #[tokio::test]
    async fn bytes_come_out_in_order_once_and_the_end_comes_last() {
        let sent: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
        let (mut stream, mut line, mut out) = (&sent[..], UnderWay::default(), Vec::new());
        loop {
            fill(&mut line, &mut stream, 10_000).await;
            assert!(line.bytes <= 10_000);
            let (_, data) = line.next().expect("bytes or the end");
            if data.is_empty() {
                break;
            }
            let some = data.len().min(777);
            out.extend_from_slice(&data[..some]);
            line.take(some);
        }
        assert_eq!(out, sent);
        assert!(line.next().is_some_and(|(_, data)| data.is_empty()), "the end stays the end");
    }
}
