//! Faults on demand: which requests are harmed, and how.
//!
//! A [`FaultRule`] is read from a line of text (`rule`), a [`Plan`] decides which request gets which fault and can be
//! repeated with the same seed (`plan`), the fault happens around the operation (`inject`), and every one is noted
//! (`log`). `file` keeps a plan equal to a file of rules. A server without rules pays one load for it.

mod file;
mod inject;
mod log;
mod plan;
mod rule;

pub use file::RulesError;
pub(crate) use file::watch;
pub(crate) use inject::{Before, Injection, slow_down};
pub(crate) use log::{FaultLog, Injected};
pub use plan::Faults;
pub(crate) use plan::Subject;
pub(crate) use rule::{Fault, InjectedError};
pub use rule::{FaultRule, FaultRuleError};
