//! Keeps the rules equal to a file: one rule a line; empty lines and lines that begin with `#` are skipped.

use std::path::{Path, PathBuf};
use std::time::Duration;

use zeroize::Zeroizing;

use super::plan::Faults;
use super::rule::FaultRule;
use crate::os::read::read_text;

/// How soon a change is noticed.
const INTERVAL: Duration = Duration::from_millis(200);
/// Largest file of rules that is read, in bytes.
const BYTES_MAX: u64 = 1 << 20;

/// Why a file of rules is not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RulesError {
    /// Check the name and the permissions.
    #[error("{}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    /// Correct the line.
    #[error("{}, line {line}: {source}", path.display())]
    Rule { path: PathBuf, line: usize, source: super::FaultRuleError },
}

fn text(path: &Path) -> Result<Zeroizing<String>, RulesError> {
    read_text(path, BYTES_MAX).map_err(|source| RulesError::Read { path: path.to_owned(), source })
}

/// The text of a later version. Nothing but a file has one: a pipe that was read holds nothing the second time.
fn later_text(path: &Path) -> Option<Result<Zeroizing<String>, RulesError>> {
    path.is_file().then(|| text(path))
}

/// All rules of a file with this text, or none.
fn rules(path: &Path, text: &str) -> Result<Vec<FaultRule>, RulesError> {
    let lines = text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let rule = |(at, line): (usize, &str)| {
        line.parse().map_err(|source| RulesError::Rule { path: path.to_owned(), line: at + 1, source })
    };
    lines.map(rule).collect()
}

/// Reads the file now, then again and again; `always` are rules that stay in force before those of the file. What is in it
/// tells whether it changed: two versions may have the same length and time. One with a mistake changes nothing but the
/// log.
///
/// # Errors
/// Of the first reading only.
pub(crate) fn watch(
    path: PathBuf,
    always: Vec<FaultRule>,
    faults: Faults,
) -> Result<impl Future<Output = ()>, RulesError> {
    let all = move |rules: Vec<FaultRule>| [always.clone(), rules].concat();
    let first = text(&path)?;
    faults.replace(all(rules(&path, &first)?));
    let mut seen = Ok(first);
    Ok(async move {
        loop {
            tokio::time::sleep(INTERVAL).await;
            let of_now = path.clone();
            let Ok(Some(now)) = tokio::task::spawn_blocking(move || later_text(&of_now)).await else { continue };
            let now = now.map_err(|error| error.to_string());
            if now == seen {
                continue;
            }
            seen = now;
            let read = seen.clone().and_then(|text| rules(&path, &text).map_err(|error| error.to_string()));
            match read {
                Ok(rules) => {
                    tracing::info!(rules = rules.len(), "the rules of faults changed");
                    faults.replace(all(rules));
                }
                Err(error) => tracing::error!(%error, "the old rules of faults stay in force"),
            }
        }
    })
}
