//! Bodies of answers: whole, slowed down, or with something that lives as long as they do.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use tokio::time::{Instant, Sleep};

use super::wire::{Pace, there_since};

/// The body of an answer.
pub(crate) type Outgoing = UnsyncBoxBody<Bytes, io::Error>;

/// A paced body gives what its pace allows in this time, so that it flows.
const QUANTUM: Duration = Duration::from_millis(10);

/// A whole body at hand.
pub(crate) fn outgoing(bytes: Bytes) -> Outgoing {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// `body` at a rate, in bytes per second.
pub(crate) fn paced(body: Outgoing, rate: u64) -> Outgoing {
    let quantum = (rate as f64 * QUANTUM.as_secs_f64()) as usize;
    let pace = Pace::new(rate);
    Paced { body, pace, quantum: quantum.max(1), rest: Bytes::new(), busy: None, turn: None }.boxed_unsync()
}

/// `body`, and something that is dropped with it.
pub(crate) fn guarded(body: Outgoing, guard: impl Send + Unpin + 'static) -> Outgoing {
    Guarded { body, _guard: guard }.boxed_unsync()
}

struct Paced {
    body: Outgoing,
    pace: Pace,
    quantum: usize,
    /// What the body gave and what is still to go.
    rest: Bytes,
    busy: Option<Instant>,
    /// Bytes that go next, and when.
    turn: Option<(usize, Pin<Box<Sleep>>)>,
}

impl Body for Paced {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = &mut *self;
        if this.rest.is_empty() {
            match ready!(Pin::new(&mut this.body).poll_frame(cx)).map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => this.rest = data,
                Some(Ok(Err(trailers))) => return Poll::Ready(Some(Ok(trailers))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
        let (rest, busy) = (this.rest.len(), this.busy);
        let (bytes, sleep) = this.turn.get_or_insert_with(|| {
            let bytes = rest.min(this.quantum);
            let at = this.pace.book(bytes as u64, there_since(busy, Instant::now()));
            (bytes, Box::pin(tokio::time::sleep_until(at)))
        });
        ready!(sleep.as_mut().poll(cx));
        this.busy = Some(sleep.deadline());
        let piece = this.rest.split_to(*bytes);
        this.turn = None;
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, mut hint) = (self.rest.len() as u64, self.body.size_hint());
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(hint.lower() + rest);
        hint
    }
}

struct Guarded<G> {
    body: Outgoing,
    _guard: G,
}

impl<G: Unpin> Body for Guarded<G> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_paced_body_takes_its_time_and_is_whole() {
        let sent: Vec<u8> = (0..1_000_000u32).map(|i| (i % 251) as u8).collect();
        let begin = Instant::now();
        let body = paced(outgoing(sent.clone().into()), 100_000);
        assert_eq!(body.size_hint().exact(), Some(1_000_000));
        let got = body.collect().await.expect("a body").to_bytes();
        assert_eq!(begin.elapsed().as_millis(), 10_000);
        assert!(got == sent);
    }

    #[tokio::test(start_paused = true)]
    async fn the_slowest_body_still_flows() {
        let begin = Instant::now();
        paced(outgoing(Bytes::from_static(b"abc")), 1).collect().await.expect("a body");
        assert_eq!(begin.elapsed().as_secs(), 3);
    }
}
