//! What an exchange spends its time on: a clock that is told what is being waited for, by whoever waits.
//!
//! At any moment an exchange spends its time on one thing, so that the times add up to the time that it took. Between two
//! chunks it is at *rest*: on the way to the socket, or waiting for the answer. The body says when it reads and sums, the
//! streams of the connection when they encrypt and when the socket is full.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::stage::Stage;
use crate::model::explain::{Cost, Costs};

/// What many exchanges have spent together.
#[derive(Debug, Default)]
pub struct Totals([AtomicU64; Cost::ALL.len()]);

impl Totals {
    pub fn costs(&self) -> Costs {
        let mut costs = Costs::default();
        for cost in Cost::ALL {
            costs.add(cost, Duration::from_nanos(self.0[cost as usize].load(Relaxed)));
        }
        costs
    }
}

/// The clock of one exchange. Those who tell it take turns, but for moments in which an answer comes early: what is
/// counted wrongly then is less than a chunk's time.
#[derive(Debug)]
pub(super) struct Meter {
    begun: Instant,
    /// What the time goes into now, as a [`Cost`], or [`ENDED`]; since how many nanoseconds after `begun`.
    now: AtomicU8,
    since: AtomicU64,
    rest: AtomicU8,
    /// Nanoseconds for which this process itself held the exchange back.
    held: AtomicU64,
    totals: Option<Arc<Totals>>,
}

/// Nothing counts any more.
const ENDED: u8 = u8::MAX;

impl Meter {
    pub fn new(rest: Cost, totals: Option<Arc<Totals>>) -> Self {
        let (now, rest) = (AtomicU8::new(rest as u8), AtomicU8::new(rest as u8));
        Self { begun: Instant::now(), now, since: AtomicU64::new(0), rest, held: AtomicU64::new(0), totals }
    }

    pub fn enter(&self, cost: Cost) {
        self.switch(cost as u8);
    }

    pub fn rest(&self) {
        self.switch(self.rest.load(Relaxed));
    }

    /// From now on, time that is spent on nothing else is spent on `cost`.
    pub fn set_rest(&self, cost: Cost) {
        let before = self.rest.swap(cost as u8, Relaxed);
        if self.now.load(Relaxed) == before {
            self.enter(cost);
        }
    }

    pub fn end(&self) {
        self.switch(ENDED);
    }

    /// How long this process itself has held the exchange back.
    pub fn held(&self) -> Duration {
        let since = self.since.load(Relaxed);
        let now = if is_held(self.now.load(Relaxed)) { self.elapsed().saturating_sub(since) } else { 0 };
        Duration::from_nanos(self.held.load(Relaxed) + now)
    }

    fn switch(&self, to: u8) {
        let from = self.now.load(Relaxed);
        if from == to || from == ENDED {
            return;
        }
        let now = self.elapsed();
        self.now.store(to, Relaxed);
        let took = now.saturating_sub(self.since.swap(now, Relaxed));
        if let Some(totals) = &self.totals {
            totals.0[usize::from(from)].fetch_add(took, Relaxed);
        }
        if is_held(from) {
            self.held.fetch_add(took, Relaxed);
        }
    }

    fn elapsed(&self) -> u64 {
        self.begun.elapsed().as_nanos() as u64
    }
}

/// Waiting for a buffer, too, says nothing of network and store.
fn is_held(cost: u8) -> bool {
    [Cost::Rate, Cost::CpuShare, Cost::Buffer].iter().any(|held| *held as u8 == cost)
}

/// The exchange that a connection carries now, if any.
#[derive(Clone, Default)]
pub(super) struct Carried(Arc<Mutex<Option<Stage>>>);

impl Carried {
    pub fn set(&self, stage: Option<Stage>) {
        *self.0.lock().unwrap_or_else(|e| e.into_inner()) = stage;
    }

    /// `None`: back to rest.
    pub fn enter(&self, cost: Option<Cost>) {
        // Nobody else has it while the connection is written to.
        if let Some(stage) = &*self.0.lock().unwrap_or_else(|e| e.into_inner()) {
            match cost {
                Some(cost) => stage.enter(cost),
                None => stage.rest(),
            }
        }
    }
}

/// `S`, writing to which takes time of one kind. A write that has to wait waits for the socket, whatever is in between.
pub(super) struct Metered<S> {
    stream: S,
    carried: Carried,
    during: Cost,
    /// Time of which kind goes on when a write is done; `None`: rest.
    after: Option<Cost>,
}

impl<S> Metered<S> {
    /// A socket that TLS or nothing is above.
    pub fn socket(stream: S, carried: Carried, below_tls: bool) -> Self {
        Self { stream, carried, during: Cost::Socket, after: below_tls.then_some(Cost::Tls) }
    }

    /// TLS over a metered socket.
    pub fn tls(stream: S, carried: Carried) -> Self {
        Self { stream, carried, during: Cost::Tls, after: None }
    }

    fn meter<T>(&mut self, write: impl FnOnce(&mut S) -> Poll<T>) -> Poll<T> {
        self.carried.enter(Some(self.during));
        let result = write(&mut self.stream);
        self.carried.enter(if result.is_pending() { Some(Cost::Socket) } else { self.after });
        result
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.meter(|stream| Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.meter(|stream| Pin::new(stream).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.meter(|stream| Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;

    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::model::event::Step;

    /// Works for so long before it hands on, and again behind that.
    struct Works<S>(Duration, S);

    impl<S: AsyncWrite + Unpin> AsyncWrite for Works<S> {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            sleep(self.0);
            let result = Pin::new(&mut self.1).poll_write(cx, buf);
            sleep(self.0);
            result
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn counted(step: Step) -> (Stage, Arc<Totals>, Carried) {
        let (totals, carried) = (Arc::<Totals>::default(), Carried::default());
        let stage = Stage::counted(step, Some(totals.clone()));
        carried.set(Some(stage.clone()));
        (stage, totals, carried)
    }

    #[tokio::test]
    async fn encrypting_and_writing_are_told_apart() {
        let (cipher, wire) = (Duration::from_millis(30), Duration::from_millis(10));
        let (stage, totals, carried) = counted(Step::Sending);
        let socket = Metered::socket(Works(wire, tokio::io::sink()), carried.clone(), true);
        let mut stream = Metered::tls(Works(cipher, socket), carried);
        stream.write_all(b"x").await.unwrap();
        stage.end();
        let costs = totals.costs();
        assert!(costs.get(Cost::Tls) >= 2 * cipher && costs.get(Cost::Socket) >= 2 * wire, "{costs:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_socket_that_is_full_is_waited_for_and_what_follows_is_the_answer() {
        let (stage, totals, carried) = counted(Step::Sending);
        let (near, mut far) = tokio::io::duplex(1);
        let mut stream = Metered::socket(near, carried, false);
        let taking = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let mut both = [0; 2];
            tokio::io::AsyncReadExt::read_exact(&mut far, &mut both).await.unwrap();
        };
        let writing = async {
            stream.write_all(b"x").await.unwrap();
            stage.set(Step::Answer);
            stream.write_all(b"y").await.unwrap();
        };
        tokio::join!(taking, writing);
        tokio::time::sleep(Duration::from_millis(50)).await;
        stage.end();
        tokio::time::sleep(Duration::from_millis(1000)).await;
        stage.enter(Cost::Disk);
        stage.end();
        let costs = totals.costs();
        let millis = |cost| costs.get(cost).as_millis();
        assert!((100..110).contains(&millis(Cost::Socket)), "the last byte, too, waits for the socket: {costs:?}");
        assert!((50..60).contains(&millis(Cost::Store)), "{costs:?}");
        assert!(costs.total().as_millis() < 170, "what comes behind the end counts for nothing: {costs:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_try_is_waited_for_no_longer_when_the_next_begins() {
        let (stage, totals, _) = counted(Step::Sending);
        stage.enter(Cost::Socket);
        stage.set(Step::BackOff);
        tokio::time::sleep(Duration::from_millis(100)).await;
        stage.end();
        let costs = totals.costs();
        assert!(costs.get(Cost::Retry) >= Duration::from_millis(100) && costs.get(Cost::Socket).is_zero(), "{costs:?}");
    }
}
