//! What a client itself allows: so many bytes a second over all its connections, and so much of the processor. Both are
//! held up where bytes go to the network: as long as those there wait, nothing more is read, summed or encrypted.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::meter::Carried;
use crate::model::cpu_share::CpuShare;
use crate::model::explain::Cost;
use crate::model::rate::Rate;

/// Goodput of this share of the rate is all that it lets through, give or take.
const FULL: f64 = 0.85;

/// Shared by all connections of a client.
pub struct Limiter {
    origin: Instant,
    rate: Option<Mutex<Rate>>,
    /// Goodput from which the rate is what is seen.
    full_rate: f64,
    cpu: Option<Mutex<CpuShare>>,
    /// Somebody had to wait for the processor's sake.
    paused: AtomicBool,
}

impl Limiter {
    /// `None` if nothing is limited.
    ///
    /// - `max_rate`: bytes per second of all that is written, TLS not counted.
    /// - `max_cpu`: processor time of the process, in percent of one core.
    pub fn new(max_rate: Option<u64>, max_cpu: Option<u32>) -> Option<Arc<Self>> {
        let rate = max_rate.map(|bytes_per_second| Mutex::new(Rate::new(bytes_per_second)));
        let cpu = max_cpu.map(|percent| Mutex::new(CpuShare::new(percent, Duration::ZERO, cpu_time())));
        let full_rate = max_rate.map_or(f64::INFINITY, |rate| rate as f64 * FULL);
        let limiter = Self { origin: Instant::now(), rate, full_rate, cpu, paused: AtomicBool::new(false) };
        (limiter.rate.is_some() || limiter.cpu.is_some()).then(|| Arc::new(limiter))
    }

    /// Whether a goodput of so many bytes per second, since it was asked last, says more of these limits than of the line.
    pub fn explains(&self, goodput: f64) -> bool {
        self.paused.swap(false, Relaxed) || goodput >= self.full_rate
    }

    /// How many of the `wanted` bytes may be written, and after how long.
    fn take(&self, wanted: usize) -> (usize, Duration) {
        self.rate.as_ref().map_or((wanted, Duration::ZERO), |rate| lock(rate).take(wanted, self.origin.elapsed()))
    }

    /// Bytes that were taken and not written.
    fn give_back(&self, bytes: usize) {
        self.rate.iter().for_each(|rate| lock(rate).give_back(bytes));
    }

    /// How long the processor is not to be used.
    fn pause(&self) -> Duration {
        let Some(cpu) = &self.cpu else { return Duration::ZERO };
        let pause = lock(cpu).wait(self.origin.elapsed(), cpu_time());
        self.paused.fetch_or(!pause.is_zero(), Relaxed);
        pause
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

/// Processor time that this process has had.
pub fn cpu_time() -> Duration {
    clock_gettime(ClockId::ProcessCPUTime).try_into().unwrap_or_default()
}

/// `S`, written to as the limiter allows.
pub(super) struct Slowed<S> {
    stream: S,
    /// `None`: as the stream takes it.
    limiter: Option<Arc<Limiter>>,
    carried: Carried,
    /// Bytes that were taken from the limiter and are due when `due` has come.
    taken: usize,
    due: Option<Pin<Box<Sleep>>>,
}

impl<S> Slowed<S> {
    pub fn new(stream: S, limiter: Option<Arc<Limiter>>, carried: Carried) -> Self {
        Self { stream, limiter, carried, taken: 0, due: None }
    }
}

impl<S: AsyncWrite + Unpin> Slowed<S> {
    fn hold(&mut self, cost: Cost, wait: Duration) {
        if !wait.is_zero() {
            self.carried.enter(Some(cost));
            self.due = Some(Box::pin(sleep(wait)));
        }
    }

    /// Writes the beginning of `buf`, when its time has come. What the stream does not take goes back to the limiter, so
    /// that a connection never saves up.
    fn poll_write_some(&mut self, limiter: &Limiter, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.taken == 0 && !buf.is_empty() {
            let (taken, wait) = limiter.take(buf.len());
            self.taken = taken;
            self.hold(Cost::Rate, wait);
        }
        loop {
            if let Some(due) = &mut self.due {
                ready!(due.as_mut().poll(cx));
                self.due = None;
                self.carried.enter(None);
            }
            // Others that waited for the same may have used it up.
            let pause = limiter.pause();
            if pause.is_zero() {
                break;
            }
            self.hold(Cost::CpuShare, pause);
        }
        let taken = std::mem::take(&mut self.taken);
        let result = Pin::new(&mut self.stream).poll_write(cx, &buf[..taken.min(buf.len())]);
        let written = if let Poll::Ready(Ok(written)) = result { written } else { 0 };
        limiter.give_back(taken.saturating_sub(written));
        result
    }
}

/// What a connection that ends was to write, others may.
impl<S> Drop for Slowed<S> {
    fn drop(&mut self) {
        if let Some(limiter) = &self.limiter {
            limiter.give_back(self.taken);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Slowed<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Slowed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.limiter.clone() {
            Some(limiter) => self.poll_write_some(&limiter, cx, buf),
            None => Pin::new(&mut self.stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.limiter.clone() {
            Some(limiter) => {
                let first = bufs.iter().find(|buf| !buf.is_empty()).map_or(&[][..], |buf| &**buf);
                self.poll_write_some(&limiter, cx, first)
            }
            None => Pin::new(&mut self.stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
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
    use tokio::io::AsyncWriteExt;

    use super::*;

    const RATE: u64 = 1_000_000;

    /// What all connections wrote together: at which moment, how many bytes.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<(Instant, usize)>>>);

    impl AsyncWrite for Log {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            self.0.lock().unwrap().push((Instant::now(), buf.len()));
            Poll::Ready(Ok(buf.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn ten_connections_together_keep_to_the_rate_for_a_minute_and_never_burst() {
        let (limiter, log) = (Limiter::new(Some(RATE), None), Log::default());
        sleep(Duration::from_secs(10)).await;
        let begun = Instant::now();
        let minute = Duration::from_secs(60);
        for i in 0..10 {
            let mut stream = Slowed::new(log.clone(), limiter.clone(), Carried::default());
            tokio::spawn(async move {
                let chunk = vec![0; 100_000 * (i + 1)];
                let writing = async { while stream.write_all(&chunk).await.is_ok() {} };
                tokio::time::timeout(minute, writing).await
            });
        }
        sleep(minute).await;
        let log = log.0.lock().unwrap();
        let all: usize = log.iter().map(|(_, bytes)| bytes).sum();
        let wanted = RATE as f64 * 60.0;
        assert!((all as f64 / wanted - 1.0).abs() < 0.03, "{all} bytes");
        for tenth in 0..600 {
            let from = begun + Duration::from_millis(100) * tenth;
            let within = log.iter().filter(|(at, _)| (from..from + Duration::from_millis(100)).contains(at));
            let bytes: usize = within.map(|(_, bytes)| bytes).sum();
            // What was saved up, and what comes in the meantime.
            assert!(bytes as u64 <= RATE / 10 * 2, "{bytes} bytes in tenth {tenth}");
            assert!(tenth == 0 || (bytes as u64) >= RATE / 10 * 8 / 10, "{bytes} bytes in tenth {tenth}");
        }
    }

    #[test]
    fn only_what_was_held_back_is_explained() {
        let limiter = Limiter::new(Some(RATE), Some(1)).unwrap();
        assert!(!limiter.explains(RATE as f64 * 0.8) && limiter.explains(RATE as f64 * 0.9));
        // A hundredth of a core is soon used up.
        while limiter.pause().is_zero() {}
        assert!(limiter.explains(1.0) && !limiter.explains(1.0), "told once");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_ends_takes_nothing_with_it() {
        let (limiter, log) = (Limiter::new(Some(RATE), None), Log::default());
        for _ in 0..1000 {
            let mut stream = Slowed::new(log.clone(), limiter.clone(), Carried::default());
            let chunk = [0; 20_000];
            let _ = futures_util::poll!(std::pin::pin!(stream.write_all(&chunk)));
        }
        let (_, wait) = limiter.unwrap().take(1);
        assert!(wait <= Duration::from_millis(30), "{wait:?}");
    }
}
