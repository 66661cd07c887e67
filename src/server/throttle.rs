//! What a busy service does to requests: it refuses those beyond its limits, and takes its time over some.
//!
//! # Source
//! Codes and statuses: specification, section 5.2. Messages: OSS documentation, "503 error". The finer code of too many
//! requests: the page of EC 0004-00000302 there.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::errors::{Code, Failure};
use super::operations::Answer;
use super::outgoing::{guarded, paced};
use super::shape::Shape;

/// Milliseconds that a request was, or is to be, held up.
pub(crate) const DELAY: &str = "x-oss-qos-delay-time";
/// Requests may come as close together as they like as long as no tenth of a second has more than its share.
const BURST: Duration = Duration::from_millis(100);

/// Decides over every request that comes in.
pub(crate) struct Throttle {
    rate: Option<Rate>,
    /// Most requests at a time.
    in_flight_max: Option<u32>,
    in_flight: Arc<AtomicU32>,
    slow: Option<Slow>,
}

impl Throttle {
    pub fn new(shape: &Shape) -> Self {
        let slow = (shape.slow_share > 0.0).then(|| Slow {
            share: shape.slow_share,
            factor: shape.slow_factor,
            random: Mutex::new(fastrand::Rng::with_seed(shape.seed)),
            round_trip: shape.round_trip,
            rate: shape.slowest_bytes_per_second(),
        });
        let rate = shape.requests_per_second.map(Rate::new);
        Self { rate, in_flight_max: shape.requests_in_flight, in_flight: Arc::default(), slow }
    }

    /// Lets a request in.
    ///
    /// # Errors
    /// `ActiveRequestLimitExceeded`, `TotalQpsLimitExceeded`.
    pub fn admit(&self) -> Result<Turn, Failure> {
        let in_flight = self.in_flight_max.map(|max| self.enter(max)).transpose()?;
        if let Some(rate) = &self.rate {
            rate.admit(Instant::now())?;
        }
        Ok(Turn { in_flight, slow: self.slow.as_ref().and_then(Slow::draw) })
    }

    fn enter(&self, max: u32) -> Result<InFlight, Failure> {
        let enter = |now: u32| (now < max).then_some(now + 1);
        let entered = self.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, enter);
        let refused = |_| Failure::new(Code::ActiveRequestLimitExceeded, "Max active request limit is exceeded");
        entered.map(|_| InFlight(self.in_flight.clone())).map_err(refused)
    }
}

/// A number of requests per second.
struct Rate {
    /// Time that a request takes up.
    each: Duration,
    /// How far ahead of the rate requests may be.
    burst: Duration,
    /// When what was let in has been taken up.
    free: Mutex<Option<Instant>>,
}

impl Rate {
    fn new(per_second: u32) -> Self {
        let each = Duration::from_secs(1) / per_second.max(1);
        Self { each, burst: BURST.max(each) - each, free: Mutex::new(None) }
    }

    fn admit(&self, now: Instant) -> Result<(), Failure> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = free.map_or(now, |free| free.max(now));
        let delay = begin.saturating_duration_since(now + self.burst);
        if delay.is_zero() {
            *free = Some(begin + self.each);
            return Ok(());
        }
        let refused = Failure::new(Code::TotalQpsLimitExceeded, "Max total qps limit is exceeded");
        Err(refused.header(DELAY, delay.as_micros().div_ceil(1000).to_string()))
    }
}

/// Some requests take longer.
struct Slow {
    share: f64,
    factor: f64,
    random: Mutex<fastrand::Rng>,
    round_trip: Duration,
    /// Bytes per second of a connection, where there is a limit.
    rate: Option<u64>,
}

impl Slow {
    /// `None` if this request is not one of them.
    fn draw(&self) -> Option<SlowTurn> {
        let drawn = self.random.lock().unwrap_or_else(PoisonError::into_inner).f64();
        let now = Instant::now();
        (drawn < self.share).then(|| SlowTurn {
            factor: self.factor,
            sent: now.checked_sub(self.round_trip).unwrap_or(now),
            rate: self.rate.map(|rate| (rate as f64 / self.factor).ceil() as u64),
        })
    }
}

/// A request that takes `factor` times as long as others.
struct SlowTurn {
    factor: f64,
    /// When the client sent it.
    sent: Instant,
    /// Bytes per second of the answer's body.
    rate: Option<u64>,
}

/// A request that was let in, until its answer is through.
pub(crate) struct Turn {
    in_flight: Option<InFlight>,
    slow: Option<SlowTurn>,
}

/// Counted as long as it lives.
struct InFlight(Arc<AtomicU32>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Turn {
    /// Holds the answer back for as long as a slow request takes, and counts the request until the answer is through.
    pub async fn hold<E>(self, outcome: Result<Answer, E>) -> Result<Answer, E> {
        if let Some(slow) = &self.slow {
            tokio::time::sleep(slow.sent.elapsed().mul_f64(slow.factor - 1.0)).await;
        }
        let mut answer = outcome?;
        if let Some(rate) = self.slow.and_then(|slow| slow.rate) {
            answer.body = paced(answer.body, rate);
        }
        if let Some(in_flight) = self.in_flight {
            answer.body = guarded(answer.body, in_flight);
        }
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::StatusCode;
    use http_body_util::BodyExt;

    use super::*;
    use crate::server::outgoing::outgoing;

    fn throttle(spec: &str) -> Throttle {
        Throttle::new(&spec.parse().expect("a shape"))
    }

    fn refusal(outcome: Result<Turn, Failure>) -> Failure {
        outcome.err().expect("a refusal")
    }

    #[tokio::test(start_paused = true)]
    async fn as_many_requests_a_second_are_let_in_as_the_limit_says() {
        let throttle = throttle("requests-per-second=50");
        let begin = Instant::now();
        let mut let_in = 0;
        while begin.elapsed() < Duration::from_secs(20) {
            let_in += u32::from(throttle.admit().is_ok());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!((1000..=1005).contains(&let_in), "{let_in} in 20 s");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_request_is_let_in_after_the_delay_that_it_was_told() {
        let throttle = throttle("requests-per-second=10");
        assert!(throttle.admit().is_ok());
        let refused = refusal(throttle.admit());
        assert_eq!((refused.code, refused.code.status().as_u16()), (Code::TotalQpsLimitExceeded, 503));
        let (name, delay) = refused.headers.first().cloned().expect("a delay");
        assert_eq!((name, delay.as_str()), (DELAY, "100"));
        tokio::time::sleep(Duration::from_millis(99)).await;
        assert!(throttle.admit().is_err());
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(throttle.admit().is_ok());
    }

    #[tokio::test]
    async fn a_request_is_in_flight_until_its_answer_is_through() {
        let throttle = throttle("requests-in-flight=2");
        let (first, second) = (throttle.admit().expect("room"), throttle.admit().expect("room"));
        assert_eq!(refusal(throttle.admit()).code, Code::ActiveRequestLimitExceeded);
        drop(first);
        assert!(throttle.admit().is_ok());
        let answer = second.hold::<Failure>(Ok(Answer::new(StatusCode::OK))).await.expect("an answer");
        let third = throttle.admit().expect("room");
        assert!(throttle.admit().is_err(), "the answer is not through");
        drop(answer);
        assert!(throttle.admit().is_ok());
        drop(third);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_request_takes_ten_times_as_long_with_the_way_there_and_the_body_back() {
        let throttle = throttle("rtt=60ms,connection-rate=1MB/s,slow-share=1,slow-factor=10");
        let begin = Instant::now();
        let turn = throttle.admit().expect("no limit");
        tokio::time::sleep(Duration::from_millis(40)).await;
        let mut answer = Answer::new(StatusCode::OK);
        answer.body = outgoing(Bytes::from(vec![0; 100_000]));
        let answer = turn.hold::<Failure>(Ok(answer)).await.expect("an answer");
        assert_eq!(begin.elapsed().as_millis(), 40 + 9 * 100, "60 ms on the way and 40 ms in the server");
        answer.body.collect().await.expect("a body");
        assert_eq!(begin.elapsed().as_millis(), 940 + 1000, "100 ms of the body at a tenth of the rate");
    }

    #[test]
    fn the_seed_decides_which_requests_are_slow() {
        let slow = |seed: u64| {
            let throttle = throttle(&format!("slow-share=1%,seed={seed}"));
            (0..10_000).filter(|_| throttle.admit().is_ok_and(|turn| turn.slow.is_some())).collect::<Vec<_>>()
        };
        assert_eq!(slow(1), slow(1));
        assert_ne!(slow(1), slow(2));
        assert!((70..130).contains(&slow(1).len()), "{} of 10,000", slow(1).len());
    }
}
