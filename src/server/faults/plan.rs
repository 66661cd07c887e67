//! Which request gets which fault. Decided by counting and by the seed alone: the same requests in the same order get the
//! same faults, however fast they come.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::rule::{Fault, FaultRule, Target, When};
use crate::server::operations::Operation;
use crate::server::request::Request;

/// The rules in force; they may be replaced while the server runs.
#[derive(Clone)]
pub struct Faults(Arc<Shared>);

struct Shared {
    seed: u64,
    is_empty: AtomicBool,
    rules: RwLock<Arc<Vec<Counted>>>,
}

/// A rule and how often it was met.
struct Counted {
    rule: FaultRule,
    met: AtomicU64,
    harmed: AtomicU64,
}

/// What may be harmed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Subject<'a> {
    Connection,
    Request { operation: Operation, key: Option<&'a str>, part: Option<u32> },
}

impl<'a> Subject<'a> {
    pub fn of(operation: Operation, request: &'a Request) -> Self {
        let part = request.query("partNumber").and_then(|number| number.parse().ok());
        Self::Request { operation, key: request.key.as_deref(), part }
    }
}

impl Faults {
    pub(crate) fn new(rules: Vec<FaultRule>, seed: u64) -> Self {
        let rules_of_now = RwLock::new(Arc::new(Vec::new()));
        let faults = Self(Arc::new(Shared { seed, is_empty: AtomicBool::new(true), rules: rules_of_now }));
        faults.replace(rules);
        faults
    }

    /// Puts other rules in force; counting begins anew.
    pub fn replace(&self, rules: Vec<FaultRule>) {
        let counted = |rule| Counted { rule, met: AtomicU64::new(0), harmed: AtomicU64::new(0) };
        let rules: Vec<Counted> = rules.into_iter().map(counted).collect();
        self.0.is_empty.store(rules.is_empty(), Ordering::Relaxed);
        *self.0.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
    }

    /// The fault for `subject`, and the rule that says so. Every rule counts; the first that chooses has its way.
    pub(crate) fn choose(&self, subject: Subject<'_>) -> Option<(FaultRule, Fault)> {
        if self.0.is_empty.load(Ordering::Relaxed) {
            return None;
        }
        let rules = self.0.rules.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut chosen = None;
        for (index, counted) in rules.iter().enumerate().filter(|(_, counted)| counted.rule.is_about(subject)) {
            let number = counted.met.fetch_add(1, Ordering::Relaxed) + 1;
            if chosen.is_none() && counted.rule.when.picks(self.0.seed, index, number) && counted.harms() {
                chosen = Some((counted.rule.clone(), counted.rule.fault.clone()));
            }
        }
        chosen
    }
}

impl Counted {
    /// Counts one more unless there were enough.
    fn harms(&self) -> bool {
        let max = self.rule.times.unwrap_or(u64::MAX);
        let more = |harmed| (harmed < max).then_some(harmed + 1);
        self.harmed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }
}

impl FaultRule {
    fn is_about(&self, subject: Subject<'_>) -> bool {
        match (subject, &self.target) {
            (Subject::Connection, Target::Connections) => true,
            (Subject::Request { operation, key, part }, Target::Requests(operations)) => {
                operations.contains(&operation)
                    && self.key_prefix.as_ref().is_none_or(|prefix| key.is_some_and(|key| key.starts_with(prefix)))
                    && self.part.is_none_or(|wanted| part == Some(wanted))
            }
            _ => false,
        }
    }
}

impl When {
    fn picks(self, seed: u64, rule: usize, number: u64) -> bool {
        match self {
            Self::Numbers { from, to } => (from..=to).contains(&number),
            Self::Every(every) => number.is_multiple_of(every),
            Self::Share(share) => {
                let mix =
                    (rule as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ number.wrapping_mul(0xD1B5_4A32_D192_ED03);
                fastrand::Rng::with_seed(seed ^ mix).f64() < share
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(rules: &[&str], seed: u64) -> Faults {
        Faults::new(rules.iter().map(|rule| rule.parse().expect("a rule")).collect(), seed)
    }

    fn part(number: u32) -> Subject<'static> {
        Subject::Request { operation: Operation::UploadPart, key: Some("a/b"), part: Some(number) }
    }

    fn pattern(faults: &Faults, subject: Subject<'_>, count: usize) -> Vec<bool> {
        (0..count).map(|_| faults.choose(subject).is_some()).collect()
    }

    #[test]
    fn the_same_seed_harms_the_same_requests_and_another_one_others() {
        let with = |seed| pattern(&faults(&["UploadPart:30%:hang"], seed), part(1), 200);
        assert_eq!(with(7), with(7));
        assert_ne!(with(7), with(8));
    }

    #[test]
    fn a_share_is_met_over_many_requests() {
        for share in [0, 1, 10, 50, 100] {
            let rule = format!("any:{share}%:hang");
            let harmed = pattern(&faults(&[&rule], 1), part(1), 10_000).into_iter().filter(|harmed| *harmed).count();
            assert!(harmed.abs_diff(share * 100) <= 150, "{harmed} of 10000 at {share} %");
        }
    }

    #[test]
    fn numbers_count_only_what_the_rule_is_about() {
        let faults = faults(&["UploadPart:#2:hang,part=3,key=a/"], 0);
        let other = Subject::Request { operation: Operation::UploadPart, key: Some("b"), part: Some(3) };
        let get = Subject::Request { operation: Operation::GetObject, key: Some("a/b"), part: None };
        let order = [part(3), part(1), other, get, Subject::Connection, part(3), part(3)];
        let harmed: Vec<bool> = order.into_iter().map(|subject| faults.choose(subject).is_some()).collect();
        assert_eq!(harmed, [false, false, false, false, false, true, false]);
    }

    #[test]
    fn the_first_rule_wins_and_times_bounds_it() {
        let faults = faults(&["any:every2:hang,times=1", "any:always:reset"], 0);
        let names = |fault: Option<(FaultRule, Fault)>| fault.expect("a fault").1;
        let seen: Vec<Fault> = (0..4).map(|_| names(faults.choose(part(1)))).collect();
        assert_eq!(seen, [Fault::Reset, Fault::Hang, Fault::Reset, Fault::Reset]);
    }

    #[test]
    fn other_rules_can_be_put_in_force() {
        let faults = faults(&["any:always:hang"], 0);
        faults.replace(Vec::new());
        assert!(faults.choose(part(1)).is_none());
        faults.replace(vec!["connect:always:reset".parse().expect("a rule")]);
        assert!(faults.choose(part(1)).is_none() && faults.choose(Subject::Connection).is_some());
    }
}
