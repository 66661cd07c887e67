//! Where an exchange stands: set by whoever carries it on, read by whoever watches it.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::Instant;

use super::meter::{Meter, Totals};
use super::{Body, BodyError};
use crate::model::event::Step;
use crate::model::explain::Cost;

/// Shared among clones. Put one into the extensions of a request, and the transport keeps it up to date.
#[derive(Debug, Clone)]
pub struct Stage(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    meter: Meter,
}

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
        Self::counted(step, None)
    }

    /// - `totals`: what the exchange spends its time on is added here.
    pub fn counted(step: Step, totals: Option<Arc<Totals>>) -> Self {
        let state = Mutex::new(State { step, since: Instant::now(), bytes_sent: 0 });
        Self(Arc::new(Inner { state, meter: Meter::new(cost_of(step), totals) }))
    }

    pub fn set(&self, step: Step) {
        self.0.meter.set_rest(cost_of(step));
        // What the last try waited for, nobody waits for any more.
        if !matches!(step, Step::Answer | Step::Receiving) {
            self.0.meter.rest();
        }
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

    /// From now on, the time goes into this.
    pub fn enter(&self, cost: Cost) {
        self.0.meter.enter(cost);
    }

    /// From now on, the time goes into what the step is about.
    pub fn rest(&self) {
        self.0.meter.rest();
    }

    /// What time it is on a clock that stands while this process itself holds the exchange back: by its own limits, or for
    /// want of a buffer. By it, deadlines and expectations say something of network and store.
    pub fn time(&self) -> Instant {
        Instant::now() - self.0.meter.held()
    }

    /// The exchange is over.
    pub fn end(&self) {
        self.0.meter.end();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// What time is spent on at a step, unless somebody knows better.
fn cost_of(step: Step) -> Cost {
    match step {
        Step::Turn => Cost::Throttled,
        Step::BackOff => Cost::Retry,
        Step::Connection => Cost::Connection,
        Step::Sending => Cost::Other,
        Step::Answer | Step::Receiving => Cost::Store,
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
        self.stage.lock().bytes_sent += bytes as u64;
        if self.body.is_end_stream() {
            self.stage.set(Step::Answer);
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
