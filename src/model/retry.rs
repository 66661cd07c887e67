//! What went wrong in an exchange, in terms of what to do about it, and the decision whether to try again.

use std::fmt;
use std::time::Duration;

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
    pub code: Option<String>,
    /// What happened, for a person.
    pub message: String,
    /// The store's name of the request, for its support.
    pub request_id: Option<String>,
    /// The store's detailed error code (`EC`).
    pub ec: Option<String>,
    /// How long the store asks us to wait, if it says.
    pub wait: Option<Duration>,
}

impl Fault {
    /// A fault that is known by its kind and a message alone.
    pub fn new(kind: FaultKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), status: None, code: None, request_id: None, ec: None, wait: None }
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

/// What to do after a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Again(Duration),
    GiveUp,
}

/// When to try again: exponential backoff with full jitter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts in all, the first included. Default 5.
    pub attempts: u32,
    /// Attempts in all for a part that arrives corrupted. Default 4: the first and three fresh reads.
    pub attempts_corrupted: u32,
    /// Upper bound of the first delay; doubles with every attempt. Default 200 ms.
    pub base: Duration,
    /// Upper bound of every delay. Default 20 s.
    pub cap: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { attempts: 5, attempts_corrupted: 4, base: Duration::from_millis(200), cap: Duration::from_secs(20) }
    }
}

impl RetryPolicy {
    /// Decides after attempt number `attempt` (from 1) failed with `fault`. `random` is uniform in `[0, 1)`.
    ///
    /// # Source
    /// Full jitter as in the Go SDK v2 (specification, section 5.3). A wait that the store asks for is obeyed, up to `cap`.
    pub fn decide(&self, fault: &Fault, attempt: u32, random: f64) -> Verdict {
        if fault.kind == FaultKind::TokenExpired && attempt < self.attempts {
            return Verdict::Again(Duration::ZERO);
        }
        let most = if fault.kind == FaultKind::Corrupted { self.attempts_corrupted } else { self.attempts };
        if !fault.kind.is_passing() || attempt >= most {
            return Verdict::GiveUp;
        }
        let ceiling = self.base.saturating_mul(1u32 << (attempt - 1).min(16)).min(self.cap);
        let jitter = ceiling.mul_f64(random.clamp(0.0, 1.0));
        Verdict::Again(jitter.max(fault.wait.unwrap_or_default().min(self.cap)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permanent_faults_are_never_tried_again() {
        for kind in [FaultKind::Credentials, FaultKind::NotFound, FaultKind::Conflict, FaultKind::Refused] {
            assert_eq!(RetryPolicy::default().decide(&Fault::new(kind, ""), 1, 0.5), Verdict::GiveUp);
        }
    }

    #[test]
    fn a_token_that_was_renewed_is_used_at_once_but_not_without_end() {
        let fault = Fault::new(FaultKind::TokenExpired, "");
        assert_eq!(RetryPolicy::default().decide(&fault, 1, 1.0), Verdict::Again(Duration::ZERO));
        assert_eq!(RetryPolicy::default().decide(&fault, 5, 1.0), Verdict::GiveUp);
    }

    #[test]
    fn delays_grow_to_the_cap_and_end_with_the_attempts() {
        let policy = RetryPolicy { attempts: 40, ..RetryPolicy::default() };
        let fault = Fault::new(FaultKind::Server, "");
        let delay = |attempt| policy.decide(&fault, attempt, 1.0);
        assert_eq!(delay(1), Verdict::Again(Duration::from_millis(200)));
        assert_eq!(delay(2), Verdict::Again(Duration::from_millis(400)));
        assert_eq!(delay(39), Verdict::Again(Duration::from_secs(20)));
        assert_eq!(delay(40), Verdict::GiveUp);
    }

    #[test]
    fn a_wait_that_the_store_asks_for_is_obeyed() {
        let fault = Fault { wait: Some(Duration::from_secs(3)), ..Fault::new(FaultKind::Throttled, "") };
        assert_eq!(RetryPolicy::default().decide(&fault, 1, 0.0), Verdict::Again(Duration::from_secs(3)));
    }

    #[test]
    fn a_corrupted_part_is_read_afresh_three_times() {
        let fault = Fault::new(FaultKind::Corrupted, "");
        let policy = RetryPolicy::default();
        assert!(matches!(policy.decide(&fault, 3, 0.0), Verdict::Again(_)));
        assert_eq!(policy.decide(&fault, 4, 0.0), Verdict::GiveUp);
    }
}
