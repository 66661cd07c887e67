//! One TCP connection that can be slowed down and cut.
//!
//! [`Wire`] is the socket as TLS and HTTP see it; [`Line`] is the handle that everything else holds: requests carry it in
//! their extensions. Slowing down happens below TLS, so that it is the same for both. A connection that nothing slows
//! pays a few loads of its own memory for it: no lock, no allocation, no look at the clock.
//!
//! The way of a byte on a slow line: a round trip after it was sent (the whole of it on the way in; a client cannot tell
//! the difference), when the slow start lets it, and when all paces have had the time for it. Set-up costs what it costs
//! elsewhere: TCP a round trip, TLS one or two, because its flights take the same way.

mod alarm;
mod network;
mod pace;
mod under_way;

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep};

use self::alarm::Alarm;
pub(crate) use self::network::Network;
use self::pace::Ramp;
pub(crate) use self::pace::{Pace, there_since};
use self::under_way::UnderWay;

/// A slow connection passes as many bytes at once as its slowest pace does in this time, and never more than the
/// maximum: the share of one turn where many connections have one pace.
const QUANTUM: Duration = Duration::from_millis(4);
const QUANTUM_MAX: u64 = 64 << 10;

/// One direction of a connection.
struct Direction {
    passed: AtomicU64,
    /// Cut when so many bytes have passed; `u64::MAX` for never.
    cut_at: AtomicU64,
    /// Anything but the socket decides when bytes pass.
    slowed: AtomicBool,
    paces: Mutex<Vec<Arc<Pace>>>,
    /// Bytes per second of the slowest pace; `u64::MAX` for none.
    slowest: AtomicU64,
    /// How long quotas alone held bytes up, in microseconds.
    held: AtomicU64,
}

/// The handle of a connection.
pub(crate) struct Line {
    /// From the client.
    inbound: Direction,
    /// To the client.
    outbound: Direction,
    is_cut: AtomicBool,
    cut: Notify,
    /// What the client sent before it closed its side need not be read any more.
    ends_with_client: AtomicBool,
    pub peer: Option<SocketAddr>,
}

/// Which direction, as the server sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    In,
    Out,
}

impl Line {
    pub fn new(peer: Option<SocketAddr>) -> Arc<Self> {
        let (inbound, outbound) = (Direction::new(), Direction::new());
        let (is_cut, ends_with_client) = (AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Self { inbound, outbound, is_cut, cut: Notify::new(), ends_with_client, peer })
    }

    fn way(&self, way: Way) -> &Direction {
        match way {
            Way::In => &self.inbound,
            Way::Out => &self.outbound,
        }
    }

    /// Bytes that have passed so far, TLS included.
    pub fn passed(&self, way: Way) -> u64 {
        self.way(way).passed.load(Ordering::Relaxed)
    }

    /// How long quotas have held bytes up so far.
    pub fn held(&self, way: Way) -> Duration {
        Duration::from_micros(self.way(way).held.load(Ordering::Relaxed))
    }

    /// Ends the connection with a reset, now.
    pub fn cut(&self) {
        self.is_cut.store(true, Ordering::Relaxed);
        self.cut.notify_one();
    }

    /// Ends the connection with a reset when exactly `bytes` more have passed.
    pub fn cut_after(&self, way: Way, bytes: u64) {
        let direction = self.way(way);
        direction.cut_at.store(self.passed(way).saturating_add(bytes), Ordering::Relaxed);
    }

    /// Has a slow connection end when its client has closed its side, whatever is still to be read: at a few bytes a
    /// second that would take days, and nobody waits for the answer.
    pub fn end_with_client(&self) {
        self.ends_with_client.store(true, Ordering::Relaxed);
    }

    /// Slows the connection down to what all its paces allow, from now on.
    pub fn add_pace(&self, way: Way, pace: Arc<Pace>) {
        let direction = self.way(way);
        direction.slowest.fetch_min(pace.rate().unwrap_or(u64::MAX), Ordering::Relaxed);
        direction.paces().push(pace);
        direction.slow_down();
    }

    /// Done when the connection is to be cut.
    pub async fn wait_for_cut(&self) {
        self.cut.notified().await;
    }

    /// How many bytes may pass before the cut, at least one.
    fn room(&self, way: Way) -> io::Result<usize> {
        let direction = self.way(way);
        let cut_at = direction.cut_at.load(Ordering::Relaxed);
        if cut_at == u64::MAX {
            return Ok(usize::MAX);
        }
        match cut_at.saturating_sub(self.passed(way)) {
            0 => {
                self.cut();
                Err(io::ErrorKind::ConnectionReset.into())
            }
            room => Ok(usize::try_from(room).unwrap_or(usize::MAX)),
        }
    }

    fn note(&self, way: Way, bytes: usize) {
        let direction = self.way(way);
        let passed = direction.passed.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
        if passed >= direction.cut_at.load(Ordering::Relaxed) {
            self.cut();
        }
    }
}

impl Direction {
    fn new() -> Self {
        Self {
            passed: AtomicU64::new(0),
            cut_at: AtomicU64::new(u64::MAX),
            slowed: AtomicBool::new(false),
            paces: Mutex::new(Vec::new()),
            slowest: AtomicU64::new(u64::MAX),
            held: AtomicU64::new(0),
        }
    }

    fn paces(&self) -> MutexGuard<'_, Vec<Arc<Pace>>> {
        self.paces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slow_down(&self) {
        self.slowed.store(true, Ordering::Relaxed);
    }

    fn is_slow(&self) -> bool {
        self.slowed.load(Ordering::Relaxed)
    }

    fn quantum(&self) -> u64 {
        let slowest = self.slowest.load(Ordering::Relaxed) as f64;
        ((slowest * QUANTUM.as_secs_f64()) as u64).clamp(1, QUANTUM_MAX)
    }

    /// Books `bytes` that are there at `ready` with every pace; the ones before them passed at `last`.
    fn book(&self, bytes: u64, ready: Instant, last: Option<Instant>) -> Instant {
        let (mut line, mut quota) = (ready, ready);
        for pace in self.paces().iter() {
            let latest = if pace.is_quota { &mut quota } else { &mut line };
            *latest = pace.book(bytes, ready).max(*latest);
        }
        let held = quota.saturating_duration_since(last.map_or(line, |last| line.max(last)));
        self.held.fetch_add(held.as_micros().try_into().unwrap_or(u64::MAX), Ordering::Relaxed);
        line.max(quota)
    }
}

/// Bytes that may pass together from a time on.
#[derive(Clone, Copy)]
struct Turn {
    bytes: u64,
    at: Instant,
}

/// Where one direction of a slow connection waits for its turn.
#[derive(Default)]
struct Gate {
    alarm: Alarm,
    ramp: Option<Ramp>,
    /// What the slow start lets pass, which is not booked with the paces before its time: it would keep others waiting.
    next: Option<Turn>,
    /// What is booked and has not passed.
    booked: Option<Turn>,
    /// When what was booked last may pass.
    last: Option<Instant>,
}

impl Gate {
    /// Ready when some of `bytes`, which are there at `ready`, may pass.
    fn poll_turn(&mut self, cx: &mut Context<'_>, direction: &Direction, bytes: usize, ready: Instant) -> Poll<Turn> {
        if self.booked.is_none() {
            let ramp = &mut self.ramp;
            let next = self.next.get_or_insert_with(|| {
                let bytes = direction.quantum().min(bytes as u64);
                let (bytes, at) = ramp.as_mut().map_or((bytes, ready), |ramp| ramp.book(bytes, ready));
                Turn { bytes, at }
            });
            ready!(self.alarm.poll(next.at, cx));
            let at = direction.book(next.bytes, next.at, self.last);
            self.booked = Some(Turn { bytes: next.bytes, at });
            (self.next, self.last) = (None, Some(at));
        }
        let Some(turn) = self.booked else { return Poll::Pending };
        self.alarm.poll(turn.at, cx).map(|()| turn)
    }

    /// Takes note of `bytes` of the turn that passed.
    fn pass(&mut self, bytes: usize) {
        let left = |turn: Turn| Turn { bytes: turn.bytes.saturating_sub(bytes as u64), ..turn };
        self.booked = self.booked.map(left).filter(|turn| turn.bytes > 0);
    }
}

/// Ends a connection whose client takes nothing for too long.
struct Stall {
    longest: Duration,
    since: Option<Instant>,
    /// Made at the first stall, and set again only when it rings.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Stall {
    /// Ready with an error when the socket has taken nothing for too long.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let deadline = *self.since.get_or_insert_with(Instant::now) + self.longest;
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        loop {
            ready!(sleep.as_mut().poll(cx));
            if sleep.deadline() >= deadline {
                return Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "the client reads nothing"));
            }
            sleep.as_mut().reset(deadline);
        }
    }
}

/// The socket, slowed down and cut as its [`Line`] says. Dropped after a cut it resets the connection.
pub(crate) struct Wire {
    stream: TcpStream,
    line: Arc<Line>,
    round_trip: Duration,
    /// When a client as far away knows that it is connected.
    connected: Instant,
    under_way: UnderWay,
    read: Gate,
    write: Gate,
    /// Until when the answer being written was busy; `None` between answers.
    busy: Option<Instant>,
    stall: Stall,
}

impl Wire {
    /// - `network`: what slows all connections; `None` for nothing.
    /// - `write_timeout`: longest time in which a client that is sent something takes none of it.
    pub fn new(stream: TcpStream, line: Arc<Line>, network: Option<&Network>, write_timeout: Duration) -> Self {
        let round_trip = network.map_or(Duration::ZERO, Network::round_trip);
        let gate = || Gate { ramp: network.and_then(Network::ramp), ..Gate::default() };
        if let Some(network) = network {
            network.join(&line);
        }
        Self {
            stream,
            line,
            round_trip,
            connected: Instant::now() + round_trip,
            under_way: UnderWay::default(),
            read: gate(),
            write: gate(),
            busy: None,
            stall: Stall { longest: write_timeout, since: None, sleep: None },
        }
    }

    /// Whether the client has closed its side, perhaps behind bytes that are not read yet.
    fn is_closed_by_client(&self) -> bool {
        matches!(self.stream.ready(Interest::READABLE).now_or_never(), Some(Ok(ready)) if ready.is_read_closed())
    }

    fn poll_read_slowly(&mut self, cx: &mut Context<'_>, room: usize, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.line.ends_with_client.load(Ordering::Relaxed) && self.is_closed_by_client() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let inbound = &self.line.inbound;
        let window = network::window(inbound.slowest.load(Ordering::Relaxed), self.round_trip);
        let (connected, round_trip) = (self.connected, self.round_trip);
        self.under_way.fill(&mut self.stream, cx, window, |now| now.max(connected) + round_trip)?;
        let Some((arrives, data)) = self.under_way.next() else { return Poll::Pending };
        if data.is_empty() {
            return self.read.alarm.poll(arrives, cx).map(Ok);
        }
        let turn = ready!(self.read.poll_turn(cx, inbound, data.len(), arrives));
        let bytes = data.len().min(room).min(buf.remaining()).min(turn.bytes as usize);
        buf.put_slice(&data[..bytes]);
        self.under_way.take(bytes);
        self.read.pass(bytes);
        // What is written from now on answers this: the way out was idle until now.
        self.busy = None;
        Poll::Ready(Ok(()))
    }

    fn poll_write_slowly(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let ready = there_since(self.busy, Instant::now());
        let turn = ready!(self.write.poll_turn(cx, &self.line.outbound, bytes.len(), ready));
        let part = &bytes[..bytes.len().min(turn.bytes as usize)];
        let written = ready!(self.poll_send(cx, &[io::IoSlice::new(part)]))?;
        self.write.pass(written);
        self.busy = Some(turn.at);
        Poll::Ready(Ok(written))
    }

    /// Gives bytes to the socket, unless it has taken nothing for too long.
    fn poll_send(&mut self, cx: &mut Context<'_>, parts: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write_vectored(cx, parts) {
            Poll::Ready(outcome) => {
                self.stall.since = None;
                if let Ok(written) = &outcome {
                    self.line.note(Way::Out, *written);
                }
                Poll::Ready(outcome)
            }
            Poll::Pending => {
                // It is the client that is slow: the line owes it nothing.
                self.busy = None;
                self.stall.poll_over(cx).map(Err)
            }
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.line.is_cut.load(Ordering::Relaxed) {
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let room = this.line.room(Way::In)?;
        let before = buf.filled().len();
        if this.line.inbound.is_slow() {
            ready!(this.poll_read_slowly(cx, room, buf))?;
        } else if room < buf.remaining() {
            let mut part = ReadBuf::new(buf.initialize_unfilled_to(room));
            ready!(Pin::new(&mut this.stream).poll_read(cx, &mut part))?;
            let filled = part.filled().len();
            buf.advance(filled);
        } else {
            ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        }
        this.line.note(Way::In, buf.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let room = this.line.room(Way::Out)?;
        let is_slow = this.line.outbound.is_slow();
        if !is_slow && room == usize::MAX {
            return this.poll_send(cx, parts);
        }
        let first = parts.iter().find(|part| !part.is_empty()).map_or(&[][..], |part| part);
        let first = &first[..first.len().min(room)];
        if is_slow { this.poll_write_slowly(cx, first) } else { this.poll_send(cx, &[io::IoSlice::new(first)]) }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    /// The server's end, its handle, and the client's end.
    async fn connected(shape: &str, write_timeout: Duration) -> (Wire, Arc<Line>, TcpStream) {
        let network = Network::new(&shape.parse().expect("a shape"));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let client = TcpStream::connect(listener.local_addr().expect("an address"));
        let (client, accepted) = tokio::join!(client, listener.accept());
        let line = Line::new(None);
        let wire = Wire::new(accepted.expect("a client").0, line.clone(), network.as_ref(), write_timeout);
        (wire, line, client.expect("a connection"))
    }

    fn some_bytes(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i % 251) as u8).collect()
    }

    #[tokio::test]
    async fn bytes_come_through_a_slow_wire_whole_and_not_before_their_time() {
        let shape = "rtt=20ms,connection-rate=2MB/s,total-rate=1MB/s,initial-window=14600";
        let (mut wire, line, mut client) = connected(shape, LONG).await;
        let (sent, begin) = (some_bytes(100_000), Instant::now());
        let there = async {
            client.write_all(&sent).await.expect("a connection");
            client.shutdown().await.expect("a connection");
            let mut back = Vec::new();
            client.read_to_end(&mut back).await.expect("an answer");
            back
        };
        let back = async {
            let mut got = Vec::new();
            wire.read_to_end(&mut got).await.expect("a connection");
            // TCP, the way here, two rounds of the slow start, the rest at the lesser rate.
            assert!(begin.elapsed() >= Duration::from_millis(20 + 20 + 40 + 50), "{:?}", begin.elapsed());
            wire.write_all(&got).await.expect("a connection");
            wire.shutdown().await.expect("a connection");
        };
        let (back, ()) = tokio::join!(there, back);
        assert!(back == sent);
        assert!(begin.elapsed() >= Duration::from_millis(130 + 90), "{:?}", begin.elapsed());
        assert_eq!((line.passed(Way::In), line.passed(Way::Out)), (100_000, 100_000));
        assert!(line.held(Way::In) > Duration::ZERO, "the total holds up what the connection would let pass");
    }

    #[tokio::test]
    async fn a_pace_that_comes_later_slows_what_comes_after_it() {
        let (mut wire, line, mut client) = connected("", LONG).await;
        client.write_all(&some_bytes(1500)).await.expect("a connection");
        let mut got = vec![0; 1000];
        wire.read_exact(&mut got).await.expect("bytes");
        line.add_pace(Way::In, Arc::new(Pace::new(10_000)));
        let begin = Instant::now();
        got.resize(1500, 0);
        wire.read_exact(&mut got[1000..]).await.expect("bytes");
        assert!(begin.elapsed() >= Duration::from_millis(49), "{:?}", begin.elapsed());
        assert!(got == some_bytes(1500));
    }

    #[tokio::test]
    async fn a_cut_lets_exactly_so_many_bytes_pass_and_resets() {
        for shape in ["", "rtt=1ms"] {
            let (mut wire, line, mut client) = connected(shape, LONG).await;
            line.cut_after(Way::Out, 1000);
            assert!(wire.write_all(&some_bytes(5000)).await.is_err());
            line.wait_for_cut().await;
            drop(wire);
            let mut got = Vec::new();
            let error = client.read_to_end(&mut got).await.expect_err("a reset");
            assert_eq!((error.kind(), got.len()), (io::ErrorKind::ConnectionReset, 1000), "{shape}");

            let (mut wire, line, mut client) = connected(shape, LONG).await;
            line.cut_after(Way::In, 1000);
            client.write_all(&some_bytes(5000)).await.expect("a connection");
            let mut got = Vec::new();
            assert!(wire.read_to_end(&mut got).await.is_err());
            assert_eq!(got.len(), 1000, "{shape}");
        }
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_ends_the_connection_and_a_slow_one_does_not() {
        let piece = vec![0; 1 << 20];
        let (mut wire, _, mut client) = connected("", Duration::from_millis(100)).await;
        let outcome = loop {
            if let Err(error) = wire.write_all(&piece).await {
                break error;
            }
        };
        assert_eq!(outcome.kind(), io::ErrorKind::TimedOut);
        drop(wire);
        client.read_to_end(&mut Vec::new()).await.expect("what had been sent");

        let (mut wire, _, mut client) = connected("connection-rate=1MB/s", Duration::from_millis(100)).await;
        let read = async { client.read_exact(&mut vec![0; 300_000]).await };
        let (written, read) = tokio::join!(wire.write_all(&piece[..300_000]), read);
        written.expect("the pace is no stall");
        read.expect("all of it");
    }
}
