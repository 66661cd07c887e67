//! A range of the file as a request body: read in chunks, checksummed as they pass, never held.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::transfer::Transfer;
use crate::model::crc64::Digest;
use crate::model::explain::Cost;
use crate::net::BodyError;
use crate::net::stage::Stage;
use crate::source::{Reading, Source, SourceError};

/// Streams `bytes` bytes from `at`. What became of it is in its [`Outcome`].
pub(super) struct RangeBody {
    source: Arc<dyn Source>,
    transfer: Arc<Transfer>,
    /// Of the exchange: told what the body takes its time for.
    stage: Stage,
    /// Reads that were started, in the order of the file.
    started: VecDeque<Reading>,
    next: u64,
    end: u64,
    /// Bytes not yet handed on.
    left: u64,
    digest: Digest,
    outcome: Outcome,
}

/// What a body has delivered, readable after hyper has dropped the body itself.
#[derive(Clone, Default)]
pub(super) struct Outcome(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    sent: u64,
    crc64: Option<u64>,
    error: Option<SourceError>,
}

impl Outcome {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The checksum, once every byte was handed on.
    pub fn crc64(&self) -> Option<u64> {
        self.lock().crc64
    }

    /// How many bytes were handed on.
    pub fn sent(&self) -> u64 {
        self.lock().sent
    }

    /// Why the file could not be read, if it could not.
    pub fn take_error(&self) -> Option<SourceError> {
        self.lock().error.take()
    }
}

impl RangeBody {
    pub fn new(source: Arc<dyn Source>, transfer: Arc<Transfer>, stage: Stage, at: u64, bytes: u64) -> (Self, Outcome) {
        let outcome = Outcome::default();
        if bytes == 0 {
            outcome.lock().crc64 = Some(Digest::new().finish());
        }
        let body = Self {
            source,
            transfer,
            stage,
            started: VecDeque::new(),
            next: at,
            end: at + bytes,
            left: bytes,
            digest: Digest::new(),
            outcome: outcome.clone(),
        };
        (body, outcome)
    }

    /// Starts the reads that are due: the chunk wanted now and those ahead of it. None ahead of one that has no buffer: who
    /// holds a buffer for later and has none for now waits for others, who may do the same.
    fn start_reads(&mut self) {
        while self.next < self.end
            && self.started.len() <= self.source.read_ahead()
            && !self.started.back().is_some_and(Reading::waits_for_buffer)
        {
            let bytes = self.source.chunk_at(self.next, self.end);
            self.started.push_back(self.source.read(self.next, bytes));
            self.next += bytes as u64;
        }
    }

    fn pass_on(&mut self, chunk: &Bytes) {
        self.stage.enter(Cost::Checksum);
        self.digest.update(chunk);
        self.stage.rest();
        let bytes = chunk.len() as u64;
        self.left = self.left.saturating_sub(bytes);
        self.transfer.counters.bytes_sent.fetch_add(bytes, std::sync::atomic::Ordering::Relaxed);
        let mut state = self.outcome.lock();
        state.sent += bytes;
        if self.left == 0 {
            state.crc64 = Some(self.digest.finish());
        }
    }
}

impl Body for RangeBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let body = self.get_mut();
        if body.left > 0 {
            body.stage.enter(Cost::Disk);
        }
        body.start_reads();
        let Some(reading) = body.started.front_mut() else { return Poll::Ready(None) };
        let polled = Pin::new(&mut *reading).poll(cx);
        if polled.is_pending() && reading.waits_for_buffer() {
            body.stage.enter(Cost::Buffer);
        }
        let result = ready!(polled);
        body.started.pop_front();
        match result {
            Ok(chunk) => {
                body.pass_on(&chunk);
                Poll::Ready(Some(Ok(Frame::data(chunk))))
            }
            Err(error) => {
                let text = error.to_string();
                body.outcome.lock().error = Some(error);
                Poll::Ready(Some(Err(text.into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::model::event::{Event, Observer, Step};
    use crate::source::buffer::{BufferPool, CHUNK_BYTES};

    struct Nobody;

    impl Observer for Nobody {
        fn event(&self, _: &Event) {}
    }

    /// A disk that is never waited for.
    struct Fast(BufferPool);

    impl Source for Fast {
        fn read(&self, _: u64, bytes: usize) -> Reading {
            let read = move |lease: crate::source::buffer::Lease| std::future::ready(Ok(lease.freeze(0..bytes)));
            match self.0.try_lease() {
                Some(lease) => Reading::new(read(lease)),
                None => Reading::with_lease(&self.0, read),
            }
        }

        fn chunk_bytes(&self) -> usize {
            CHUNK_BYTES
        }

        fn read_ahead(&self) -> usize {
            2
        }
    }

    /// Two bodies whose connections take their chunks in whatever order. One that held a buffer for later while it had none
    /// for now made them wait for each other.
    #[test]
    fn bodies_that_share_two_buffers_never_wait_for_each_other() {
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let source: Arc<dyn Source> = Arc::new(Fast(BufferPool::new(0)));
            let (transfer, _cancel) = Transfer::new(Box::new(Nobody));
            let bytes = 8 * CHUNK_BYTES as u64;
            let body = |_| RangeBody::new(source.clone(), transfer.clone(), Stage::new(Step::Sending), 0, bytes).0;
            let mut connections: Vec<(RangeBody, Option<Bytes>)> = (0..2).map(body).map(|body| (body, None)).collect();
            let mut in_vain = 0;
            while connections.iter().any(|(body, _)| !body.is_end_stream()) {
                assert!(in_vain < 100, "seed {seed}: nobody goes on");
                let (body, in_hand) = random.choice(&mut connections).unwrap();
                let sent = in_hand.take().is_some();
                let mut context = Context::from_waker(Waker::noop());
                if !sent && let Poll::Ready(Some(frame)) = Pin::new(body).poll_frame(&mut context) {
                    *in_hand = frame.unwrap().into_data().ok();
                }
                in_vain = if sent || in_hand.is_some() { 0 } else { in_vain + 1 };
            }
        }
    }
}
