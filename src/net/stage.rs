//! Where an exchange stands: set by whoever carries it on, read by whoever watches it.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::Instant;

use super::{Body, BodyError};
use crate::model::event::Step;

/// Shared among clones. Put one into the extensions of a request, and the transport keeps it up to date.
#[derive(Debug, Clone)]
pub struct Stage(Arc<Mutex<State>>);

#[derive(Debug, Clone, Copy)]
pub struct State {
    pub step: Step,
    /// Since when.
    pub since: Instant,
    /// Bytes of the body that were handed to the network.
    pub bytes_sent: u64,
}

impl Stage {
    pub fn new(step: Step) -> Self {
        Self(Arc::new(Mutex::new(State { step, since: Instant::now(), bytes_sent: 0 })))
    }

    pub fn set(&self, step: Step) {
        let mut state = self.lock();
        if state.step != step {
            (state.step, state.since) = (step, Instant::now());
        }
        if step == Step::Connection {
            state.bytes_sent = 0;
        }
    }

    pub fn now(&self) -> State {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Default for Stage {
    fn default() -> Self {
        Self::new(Step::Connection)
    }
}

/// A body that tells how much of it is gone.
pub(super) struct Staged {
    body: Body,
    stage: Stage,
}

impl Staged {
    pub fn new(body: Body, stage: Stage) -> Self {
        Self { body, stage }
    }

    fn count(&self, bytes: usize) {
        let mut state = self.stage.lock();
        state.bytes_sent += bytes as u64;
        if self.body.is_end_stream() {
            (state.step, state.since) = (Step::Answer, Instant::now());
        }
    }
}

impl HttpBody for Staged {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            self.count(frame.data_ref().map_or(0, Bytes::len));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
