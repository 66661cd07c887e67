//! How many parts to have in flight, found by trying.

/// A number of parts in flight that is raised while more of them carry more, and lowered when the store throttles.
///
/// It is told once a round what the line has carried in it. It starts by doubling while that brings a share more (slow
/// start); goes back to the last number that was worth it and
/// holds it; and now and then tries a quarter more, less often each time that this is in vain. It never tries less: what
/// a number too many costs is small, and what one too few costs is not. So the goodput does not swing. The round after
/// such a change is not judged: connections are made in it.
///
/// # Source
/// Slow start: RFC 5681, section 3.1, with goodput for acknowledgements. What is left after throttling: RFC 9438,
/// section 4.6.
#[derive(Debug, Clone)]
pub struct Window {
    limit: u32,
    max: u32,
    phase: Phase,
    /// The number was changed; the round that ends next says nothing of it.
    settling: bool,
}

/// What is being done, and the goodput in bytes per second that it is measured against.
#[derive(Debug, Clone)]
enum Phase {
    Start { before: f64 },
    Hold { rounds_left: u32, rest: u32 },
    Probe { from: u32, before: f64, rest: u32 },
}

/// One round.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// Bytes per second that the store confirmed.
    pub goodput: f64,
    /// Whether as many parts as allowed were in flight, and more were there to be sent.
    pub full: bool,
    /// Whether the store asked for less.
    pub throttled: bool,
}

/// What a doubling must bring to be worth it.
const WORTH_DOUBLING: f64 = 1.15;
/// What a quarter more must bring to be kept.
const WORTH_KEEPING: f64 = 1.05;
/// What is left of the number when the store throttles.
const FALL: f64 = 0.7;
/// Rounds between two probes, at first and at most.
const REST_MIN: u32 = 4;
const REST_MAX: u32 = 64;

impl Window {
    /// - `start`: number to begin with.
    /// - `max`: never more, at least 1.
    pub fn new(start: u32, max: u32) -> Self {
        let max = max.max(1);
        Self { limit: start.clamp(1, max), max, phase: Phase::Start { before: 0.0 }, settling: false }
    }

    /// How many parts may be in flight now.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// A round has ended.
    pub fn round(&mut self, seen: Seen) {
        if seen.throttled {
            self.set((f64::from(self.limit) * FALL) as u32);
            self.phase = Phase::Hold { rounds_left: REST_MAX, rest: REST_MAX };
        } else if std::mem::take(&mut self.settling) {
            // What changed has not shown yet.
        } else if seen.full && seen.goodput > 0.0 {
            self.judge(seen.goodput);
        }
    }

    fn judge(&mut self, goodput: f64) {
        match self.phase {
            Phase::Start { before } if goodput < before * WORTH_DOUBLING => {
                self.set(self.limit.div_ceil(2));
                self.phase = Phase::Hold { rounds_left: REST_MIN, rest: REST_MIN };
            }
            Phase::Start { .. } if self.limit == self.max => {
                self.phase = Phase::Hold { rounds_left: REST_MAX, rest: REST_MAX };
            }
            Phase::Start { .. } => {
                self.phase = Phase::Start { before: goodput };
                self.set(self.limit.saturating_mul(2));
                self.settling = false;
            }
            Phase::Hold { rounds_left: 0, rest } => self.probe(goodput, rest),
            Phase::Hold { rounds_left, rest } => self.phase = Phase::Hold { rounds_left: rounds_left - 1, rest },
            Phase::Probe { before, rest, .. } if goodput >= before * WORTH_KEEPING => self.probe(goodput, rest),
            Phase::Probe { from, rest, .. } => {
                self.set(from);
                let rest = (rest * 2).min(REST_MAX);
                self.phase = Phase::Hold { rounds_left: rest, rest };
            }
        }
    }

    fn probe(&mut self, goodput: f64, rest: u32) {
        self.phase = Phase::Probe { from: self.limit, before: goodput, rest };
        self.set(self.limit + self.limit.div_ceil(4));
    }

    fn set(&mut self, limit: u32) {
        let limit = limit.clamp(1, self.max);
        self.settling = limit != self.limit;
        self.limit = limit;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: f64 = 1e6;

    /// Lets the window work for `rounds` on a line; gives the goodput of each.
    fn drive(window: &mut Window, rounds: u32, line: impl Fn(u32) -> f64) -> Vec<f64> {
        (0..rounds)
            .map(|_| {
                let goodput = line(window.limit());
                window.round(Seen { goodput, full: true, throttled: false });
                goodput
            })
            .collect()
    }

    /// So much for each connection, and so much for all.
    fn line(each: f64, all: f64) -> impl Fn(u32) -> f64 {
        move |n| (f64::from(n) * each).min(all)
    }

    #[test]
    fn slow_connections_are_many_within_few_rounds() {
        let mut window = Window::new(16, 256);
        drive(&mut window, 4, line(3.0 * MB, f64::INFINITY));
        assert_eq!(window.limit(), 256);
        drive(&mut window, 1000, line(3.0 * MB, f64::INFINITY));
        assert_eq!(window.limit(), 256, "and stay so many");
    }

    #[test]
    fn a_full_line_is_found_and_not_crowded() {
        for (each, all) in [(12.0, 250.0), (16.0, 125.0), (1250.0, 1250.0), (40.0, 90.0), (1.0, 100.0)] {
            let mut window = Window::new(8, 256);
            let goodput = drive(&mut window, 200, line(each * MB, all * MB));
            let settled = &goodput[40..];
            assert!(settled.iter().all(|g| *g >= 0.9 * all * MB), "{each} {all}: {settled:?}");
            assert!(f64::from(window.limit()) <= (2.5 * all / each).max(8.0), "{each} {all}: {}", window.limit());
        }
    }

    #[test]
    fn a_steady_line_sees_few_changes() {
        let mut window = Window::new(8, 256);
        drive(&mut window, 200, line(12.0 * MB, 250.0 * MB));
        let mut changes = 0;
        for _ in 0..200 {
            let before = window.limit();
            drive(&mut window, 1, line(12.0 * MB, 250.0 * MB));
            changes += u32::from(window.limit() != before);
        }
        assert!(changes <= 8, "{changes}");
    }

    #[test]
    fn a_line_that_gets_wider_is_used() {
        let mut window = Window::new(8, 256);
        drive(&mut window, 100, line(12.0 * MB, 100.0 * MB));
        let goodput = drive(&mut window, 200, line(12.0 * MB, 1000.0 * MB));
        assert!(*goodput.last().unwrap() > 900.0 * MB, "{}", window.limit());
    }

    #[test]
    fn noise_does_not_carry_it_away() {
        let random = fastrand::Rng::with_seed(1);
        let random = std::cell::RefCell::new(random);
        let noisy = |n: u32| line(12.0 * MB, 250.0 * MB)(n) * (0.97 + 0.06 * random.borrow_mut().f64());
        let mut window = Window::new(8, 256);
        drive(&mut window, 1000, noisy);
        assert!((20..=64).contains(&window.limit()), "{}", window.limit());
    }

    #[test]
    fn a_store_that_throttles_is_left_room() {
        let mut window = Window::new(8, 256);
        for _ in 0..300 {
            let limit = window.limit();
            let goodput = f64::from(limit) * MB;
            window.round(Seen { goodput, full: true, throttled: limit > 64 });
        }
        assert!((40..=64).contains(&window.limit()), "{}", window.limit());
    }

    #[test]
    fn few_parts_say_nothing_of_the_line() {
        let mut window = Window::new(8, 256);
        for _ in 0..50 {
            window.round(Seen { goodput: MB, full: false, throttled: false });
        }
        assert_eq!(window.limit(), 8);
    }
}
