//! What the connections of a shaped server have in common: how far away and how wide the network is.

use std::sync::Arc;
use std::time::Duration;

use super::pace::{Pace, Ramp};
use super::{Line, Way};
use crate::server::shape::Shape;

/// Bytes that a sender with the defaults of Linux has under way on a line that nothing else limits (`tcp_wmem`).
const WINDOW_MAX: u64 = 4 << 20;
/// What is under way beyond what the line holds, and as much again in the socket, so that late wake-ups leave no gap.
const SLACK: Duration = Duration::from_millis(20);
const SLACK_MAX: u64 = 1 << 20;
const SOCKET_BUFFER: std::ops::RangeInclusive<u64> = 16 << 10..=256 << 10;

pub(crate) struct Network {
    round_trip: Duration,
    /// Bytes per second of one connection; `None` for no limit but the total's.
    rate: Option<u64>,
    /// What one connection gets at most.
    slowest: Option<u64>,
    initial_window: Option<u64>,
    inbound: Option<Arc<Pace>>,
    outbound: Option<Arc<Pace>>,
}

impl Network {
    /// `None` if the shape leaves bytes alone.
    pub fn new(shape: &Shape) -> Option<Self> {
        let total = |rate: u64| Arc::new(Pace::quota(rate));
        let network = Self {
            round_trip: shape.round_trip,
            rate: shape.connection_bytes_per_second,
            slowest: shape.slowest_bytes_per_second(),
            initial_window: shape.initial_window_bytes,
            inbound: shape.total_bytes_per_second.map(total),
            outbound: shape.total_bytes_per_second.map(total),
        };
        let slows = !network.round_trip.is_zero() || network.slowest.is_some();
        slows.then_some(network)
    }

    pub fn round_trip(&self) -> Duration {
        self.round_trip
    }

    /// Puts the rates on a new connection.
    pub(super) fn join(&self, line: &Line) {
        for (way, total) in [(Way::In, &self.inbound), (Way::Out, &self.outbound)] {
            line.way(way).slow_down();
            let own = self.rate.map(|rate| Arc::new(Pace::new(rate)));
            own.into_iter().chain(total.clone()).for_each(|pace| line.add_pace(way, pace));
        }
    }

    /// The slow start of one direction of a connection.
    pub(super) fn ramp(&self) -> Option<Ramp> {
        self.initial_window.map(|initial| Ramp::new(initial, self.full_window(), self.round_trip))
    }

    /// Bytes under way when the line is full.
    fn full_window(&self) -> u64 {
        self.slowest.map_or(WINDOW_MAX, |rate| bytes_in(rate, self.round_trip))
    }

    /// Bytes that the kernel should keep for a connection in each direction: few, so that a client's socket is full
    /// when the line is.
    pub fn socket_buffer(&self) -> u32 {
        let slack = self.slowest.map_or(u64::MAX, |rate| bytes_in(rate, SLACK));
        u32::try_from(slack.clamp(*SOCKET_BUFFER.start(), *SOCKET_BUFFER.end())).unwrap_or(u32::MAX)
    }
}

/// Most bytes that a sender has under way: what the line holds, and what makes up for late wake-ups.
///
/// - `rate`: bytes per second of the slowest pace; `u64::MAX` for none.
pub(super) fn window(rate: u64, round_trip: Duration) -> usize {
    let held = if rate == u64::MAX { WINDOW_MAX } else { bytes_in(rate, round_trip) };
    let slack = bytes_in(rate, SLACK).clamp(1, SLACK_MAX);
    usize::try_from(held.saturating_add(slack)).unwrap_or(usize::MAX)
}

fn bytes_in(rate: u64, time: Duration) -> u64 {
    (rate as f64 * time.as_secs_f64()) as u64
}
