//! Keeps the rules equal to a file: one rule a line; empty lines and lines that begin with `#` are skipped.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

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

/// Reads all rules, or none.
fn read(path: &Path) -> Result<Vec<FaultRule>, RulesError> {
    let text = read_text(path, BYTES_MAX).map_err(|source| RulesError::Read { path: path.to_owned(), source })?;
    let lines = text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let rule = |(at, line): (usize, &str)| {
        line.parse().map_err(|source| RulesError::Rule { path: path.to_owned(), line: at + 1, source })
    };
    lines.map(rule).collect()
}

/// What tells that a file changed. Nothing else has versions: a pipe that was read holds nothing the second time.
fn version(path: &Path) -> Option<(SystemTime, u64)> {
    let found = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?;
    Some((found.modified().ok()?, found.len()))
}

/// Reads the file now, then again whenever it changes; `always` are rules that stay in force before those of the file.
/// A version with a mistake changes nothing but the log.
///
/// # Errors
/// Of the first reading only.
pub(crate) fn watch(
    path: PathBuf,
    always: Vec<FaultRule>,
    faults: Faults,
) -> Result<impl Future<Output = ()>, RulesError> {
    let mut seen = version(&path);
    let all = move |rules: Vec<FaultRule>| [always.clone(), rules].concat();
    faults.replace(all(read(&path)?));
    Ok(async move {
        loop {
            tokio::time::sleep(INTERVAL).await;
            let of_now = path.clone();
            let look = move || Some((version(&of_now)?, of_now));
            let Ok(Some((now, path))) = tokio::task::spawn_blocking(look).await else { continue };
            if seen == Some(now) {
                continue;
            }
            seen = Some(now);
            match tokio::task::spawn_blocking(move || read(&path)).await {
                Ok(Ok(rules)) => {
                    tracing::info!(rules = rules.len(), "the rules of faults changed");
                    faults.replace(all(rules));
                }
                Ok(Err(error)) => tracing::error!(%error, "the old rules of faults stay in force"),
                Err(error) => tracing::error!(%error, "the rules of faults were not read"),
            }
        }
    })
}
