//! What went wrong in an exchange, in terms of what to do about it, and the decision whether to try again.

use std::fmt;
use std::time::{Duration, SystemTime};

/// The kind of a failed exchange, named by what it calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultKind {
    /// The connection failed, stalled or could not be made: again on another.
    Transport,
    /// The store had a passing trouble (5xx, 400 `RequestTimeout`): again later.
    Server,
    /// The store asks for less: again, later.
    Throttled,
    /// What arrived is not what was read: again from a fresh read, a few times.
    Corrupted,
    /// The clock of this machine is off: set it right.
    ClockSkew,
    /// Key, secret, token or permission: nobody else can mend it.
    Credentials,
    /// The session token was refused, and there is another by now: again at once.
    TokenExpired,
    /// The server did not prove to be the one that was named: never again without a person.
    Untrusted,
    /// The server's certificate is of an authority that this system does not know: name the authority, if it is right.
    UnknownAuthority,
    /// Nothing of the kind that was addressed is there, such as a host that nobody knows or a server that speaks something
    /// else: correct the address of the endpoint, or of the proxy.
    Endpoint,
    /// Bucket, object or upload does not exist.
    NotFound,
    /// The upload id is unknown to the store: completed, aborted, or never there.
    NoSuchUpload,
    /// The object or bucket is in the way (409, 412).
    Conflict,
    /// Any other refusal that will be repeated as often as it is asked for.
    Refused,
    /// An answer that is not of the protocol.
    Protocol,
}

impl FaultKind {
    /// Whether the same exchange may succeed later without anybody's help.
    pub fn is_passing(self) -> bool {
        matches!(self, Self::Transport | Self::Server | Self::Throttled | Self::Corrupted)
    }
}

/// A failed exchange. Never carries a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub kind: FaultKind,
    /// HTTP status, if an answer came.
    pub status: Option<u16>,
    /// The store's error code, such as `NoSuchKey`.
    pub code: Option<Box<str>>,
    /// What happened, for a person.
    pub message: String,
    /// The store's name of the request, for its support.
    pub request_id: Option<String>,
    /// The store's detailed error code (`EC`).
    pub ec: Option<Box<str>>,
    /// How long the store asks us to wait, if it says.
    pub wait: Option<Duration>,
    /// What time it is at the store, if it says.
    pub date: Option<SystemTime>,
}

impl Fault {
    /// A fault that is known by its kind and a message alone.
    pub fn new(kind: FaultKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            status: None,
            code: None,
            request_id: None,
            ec: None,
            wait: None,
            date: None,
        }
    }
}

impl Fault {
    /// Whether the store may have done what was asked, though the answer does not say so.
    pub fn leaves_doubt(&self) -> bool {
        matches!(self.kind, FaultKind::Transport | FaultKind::Server | FaultKind::Protocol)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.status, &self.code) {
            (Some(status), Some(code)) => write!(f, "{status} {code}: {}", self.message)?,
            (Some(status), None) => write!(f, "status {status}: {}", self.message)?,
            _ => f.write_str(&self.message)?,
        }
        match &self.request_id {
            Some(id) => write!(f, " (request id {id})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Fault {}

/// What to do after a failed try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Again(Duration),
    GiveUp,
}

/// How often an exchange has failed so far, the last time included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tries {
    /// Failures that count: all but those below.
    pub failed: u32,
    /// The store asked for less. It is well and so are we, so these do not count.
    pub throttled: u32,
}

impl Tries {
    pub fn add(&mut self, fault: &Fault) {
        match fault.kind {
            FaultKind::Throttled => self.throttled += 1,
            _ => self.failed += 1,
        }
    }

    pub fn total(self) -> u32 {
        self.failed + self.throttled
    }
}

/// When to try again: exponential backoff with full jitter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries in all, the first included. Default 10, as ossutil: with the delays below a failing store is given half a
    /// minute on average.
    pub attempts: u32,
    /// Tries in all for a part that arrives corrupted. Default 4: the first and three fresh reads.
    pub attempts_corrupted: u32,
    /// How long an exchange that is throttled may go on being tried. Default 15 min.
    pub throttled_for: Duration,
    /// Upper bound of the first delay; doubles with every try. Default 200 ms.
    pub base: Duration,
    /// Upper bound of every delay. Default 20 s.
    pub cap: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 10,
            attempts_corrupted: 4,
            throttled_for: Duration::from_secs(15 * 60),
            base: Duration::from_millis(200),
            cap: Duration::from_secs(20),
        }
    }
}

impl RetryPolicy {
    /// Decides after `fault`, the last of `tries`, `elapsed` after the first try began. `random` is uniform in `[0, 1)`.
    ///
    /// # Source
    /// Full jitter as in the Go SDK v2 (specification, section 5.3). A wait that the store asks for is obeyed, up to `cap`.
    pub fn decide(&self, fault: &Fault, tries: Tries, elapsed: Duration, random: f64) -> Verdict {
        let is_over = match fault.kind {
            FaultKind::TokenExpired if tries.failed < self.attempts => return Verdict::Again(Duration::ZERO),
            FaultKind::Throttled => elapsed >= self.throttled_for,
            FaultKind::Corrupted => tries.failed >= self.attempts_corrupted.min(self.attempts),
            kind => !kind.is_passing() || tries.failed >= self.attempts,
        };
        if is_over {
            return Verdict::GiveUp;
        }
        let doublings = tries.total().saturating_sub(1).min(16);
        let ceiling = self.base.saturating_mul(1 << doublings).min(self.cap);
        let jitter = ceiling.mul_f64(random.clamp(0.0, 1.0));
        Verdict::Again(jitter.max(fault.wait.unwrap_or_default().min(self.cap)))
    }
}

/// Keeps a dying store from being hammered: what all transfers of an endpoint may try again together.
///
/// A retry takes a token. Time brings some back and every success half a one, so that a store that fails now and then
/// costs nothing, and one that fails always sees [`RetryBudget::PER_SECOND`] retries a second from however many parts.
/// Moments are durations since any fixed origin.
#[derive(Debug, Clone)]
pub struct RetryBudget {
    tokens: f64,
    at: Duration,
}

impl RetryBudget {
    /// Retries that may come at once.
    pub const CAPACITY: f64 = 50.0;
    /// Retries a second when those are spent.
    pub const PER_SECOND: f64 = 5.0;
    /// What a success gives back.
    pub const PER_SUCCESS: f64 = 0.5;

    pub fn new(now: Duration) -> Self {
        Self { tokens: Self::CAPACITY, at: now }
    }

    /// Takes a token; gives how long to wait until it is there.
    pub fn take(&mut self, now: Duration) -> Duration {
        let fresh = now.saturating_sub(self.at).as_secs_f64() * Self::PER_SECOND;
        self.at = self.at.max(now);
        self.tokens = (self.tokens + fresh).min(Self::CAPACITY) - 1.0;
        Duration::from_secs_f64((-self.tokens).max(0.0) / Self::PER_SECOND)
    }

    pub fn succeeded(&mut self) {
        self.tokens = (self.tokens + Self::PER_SUCCESS).min(Self::CAPACITY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(failed: u32) -> Tries {
        Tries { failed, throttled: 0 }
    }

    #[test]
    fn permanent_faults_are_never_tried_again() {
        for kind in [FaultKind::Credentials, FaultKind::NotFound, FaultKind::Conflict, FaultKind::Refused] {
            let verdict = RetryPolicy::default().decide(&Fault::new(kind, ""), failed(1), Duration::ZERO, 0.5);
            assert_eq!(verdict, Verdict::GiveUp);
        }
    }

    #[test]
    fn a_token_that_was_renewed_is_used_at_once_but_not_without_end() {
        let fault = Fault::new(FaultKind::TokenExpired, "");
        let decide = |tries| RetryPolicy::default().decide(&fault, failed(tries), Duration::ZERO, 1.0);
        assert_eq!(decide(1), Verdict::Again(Duration::ZERO));
        assert_eq!(decide(10), Verdict::GiveUp);
    }

    #[test]
    fn delays_grow_to_the_cap_and_end_with_the_attempts() {
        let policy = RetryPolicy { attempts: 40, ..RetryPolicy::default() };
        let fault = Fault::new(FaultKind::Server, "");
        let delay = |tries| policy.decide(&fault, failed(tries), Duration::ZERO, 1.0);
        assert_eq!(delay(1), Verdict::Again(Duration::from_millis(200)));
        assert_eq!(delay(2), Verdict::Again(Duration::from_millis(400)));
        assert_eq!(delay(39), Verdict::Again(Duration::from_secs(20)));
        assert_eq!(delay(40), Verdict::GiveUp);
    }

    #[test]
    fn a_wait_that_the_store_asks_for_is_obeyed() {
        let fault = Fault { wait: Some(Duration::from_secs(3)), ..Fault::new(FaultKind::Throttled, "") };
        let verdict = RetryPolicy::default().decide(&fault, Tries::default(), Duration::ZERO, 0.0);
        assert_eq!(verdict, Verdict::Again(Duration::from_secs(3)));
    }

    #[test]
    fn a_wait_of_ages_is_cut_to_the_longest_delay() {
        for wait in [Duration::from_secs(31_557_600_000_000), Duration::from_millis(u64::MAX), Duration::MAX] {
            let fault = Fault { wait: Some(wait), ..Fault::new(FaultKind::Throttled, "") };
            let verdict = RetryPolicy::default().decide(&fault, Tries::default(), Duration::ZERO, 0.0);
            assert_eq!(verdict, Verdict::Again(Duration::from_secs(20)));
        }
    }

    #[test]
    fn a_corrupted_part_is_read_afresh_three_times() {
        let fault = Fault::new(FaultKind::Corrupted, "");
        let policy = RetryPolicy::default();
        assert!(matches!(policy.decide(&fault, failed(3), Duration::ZERO, 0.0), Verdict::Again(_)));
        assert_eq!(policy.decide(&fault, failed(4), Duration::ZERO, 0.0), Verdict::GiveUp);
    }

    #[test]
    fn being_throttled_does_not_count_but_does_not_go_on_for_ever() {
        let policy = RetryPolicy::default();
        let fault = Fault::new(FaultKind::Throttled, "");
        let mut tries = failed(policy.attempts - 1);
        (0..1000).for_each(|_| tries.add(&fault));
        assert!(matches!(policy.decide(&fault, tries, Duration::from_secs(800), 1.0), Verdict::Again(_)));
        assert!(matches!(
            policy.decide(&Fault::new(FaultKind::Server, ""), tries, Duration::ZERO, 1.0),
            Verdict::Again(_)
        ));
        assert_eq!(policy.decide(&fault, tries, policy.throttled_for, 1.0), Verdict::GiveUp);
    }

    #[test]
    fn a_dying_store_gets_a_few_retries_a_second_however_many_parts_wait() {
        let mut budget = RetryBudget::new(Duration::ZERO);
        let waits: Vec<_> = (0..300).map(|_| budget.take(Duration::ZERO)).collect();
        assert!(waits[..50].iter().all(Duration::is_zero));
        assert_eq!(waits[299], Duration::from_secs(50), "250 more at 5 a second");
        assert_eq!(budget.take(Duration::from_secs(1000)), Duration::ZERO, "time heals");
    }

    #[test]
    fn a_store_that_fails_now_and_then_is_not_waited_for() {
        let mut budget = RetryBudget::new(Duration::ZERO);
        for _ in 0..10_000 {
            (0..4).for_each(|_| budget.succeeded());
            assert_eq!(budget.take(Duration::ZERO), Duration::ZERO);
        }
    }
}
