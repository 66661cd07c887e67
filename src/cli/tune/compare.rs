//! `haul tune compare`: two profiles side by side, and what differs by more than chance.

use std::path::Path;

use super::profile::{Choice, Profile};
use super::{automatic, in_words, milliseconds, rate, with_interval};
use crate::cli::exit::{Failure, USAGE};
use crate::cli::report::print;

/// # Errors
/// Exit code 2 for a file that is no profile.
pub fn run(a: &Path, b: &Path) -> Result<(), Failure> {
    print(table(&read(a)?, &read(b)?));
    Ok(())
}

fn read(path: &Path) -> Result<Profile, Failure> {
    Profile::read(path).map_err(|e| Failure::new(USAGE, format!("cannot use the profile {}: {e}", path.display())))
}

fn table(a: &Profile, b: &Profile) -> String {
    let cell = |of: fn(&Profile) -> String| (of(a), of(b));
    let rows = [
        ("endpoint", cell(|p| p.endpoint.clone())),
        ("machine", cell(|p| p.machine.clone())),
        ("date", cell(|p| p.date.clone())),
        ("disk", cell(|p| rate(p.survey.disk))),
        ("CRC64, a core", cell(|p| rate(p.survey.crc64))),
        ("encryption, a core", cell(|p| rate(p.survey.encryption))),
        ("answer", cell(|p| milliseconds(p.survey.latency))),
        ("connection", cell(|p| milliseconds(p.survey.connection))),
        ("one connection", cell(|p| rate(p.survey.one_connection))),
        ("chosen", cell(|p| in_words(&p.chosen.setting))),
        ("carries", cell(|p| with_interval(&p.chosen))),
        ("runner-up", cell(|p| p.runner_up.as_ref().map_or("none".into(), |second| in_words(&second.setting)))),
        ("carries", cell(|p| p.runner_up.as_ref().map_or("-".into(), with_interval))),
        ("haul by itself", cell(|p| automatic(p).map_or("-".into(), |own| with_interval(&own)))),
    ];
    let width = rows.iter().map(|(_, (a, _))| a.chars().count()).max().unwrap_or_default();
    let lines = rows.iter().map(|(name, (a, b))| {
        let mark = if a == b { ' ' } else { '|' };
        format!("{name:<19}{a:<width$} {mark} {b}\n")
    });
    lines.collect::<String>() + &verdict(&a.chosen, &b.chosen)
}

/// Whether the two choices carry the same.
fn verdict(a: &Choice, b: &Choice) -> String {
    let percent = (b.bytes_per_second / a.bytes_per_second - 1.0) * 100.0;
    let (Some(first), Some(second)) = (a.interval, b.interval) else {
        return format!("the second carries {percent:+.1} %, by one sample of a choice: that may be chance");
    };
    if first[1] < second[0] || second[1] < first[0] {
        format!("the second carries {percent:+.1} %: the intervals are apart")
    } else {
        format!("the second carries {percent:+.1} %: the intervals overlap, so that may be chance")
    }
}

#[cfg(test)]
mod tests {
    use super::super::profile::tests::profile;
    use super::*;

    #[test]
    fn a_difference_counts_only_if_the_intervals_are_apart() {
        let choice = |mean: f64, half: f64| Choice {
            bytes_per_second: mean,
            interval: Some([mean - half, mean + half]),
            ..profile().chosen
        };
        assert!(verdict(&choice(100.0, 5.0), &choice(120.0, 5.0)).contains("+20.0 %: the intervals are apart"));
        assert!(verdict(&choice(120.0, 5.0), &choice(90.0, 5.0)).contains("-25.0 %: the intervals are apart"));
        assert!(verdict(&choice(100.0, 15.0), &choice(120.0, 15.0)).contains("may be chance"));
        assert!(verdict(&Choice { interval: None, ..choice(1.0, 0.0) }, &choice(2.0, 0.0)).contains("one sample"));
    }

    #[test]
    fn rows_that_differ_are_marked() {
        let mut other = profile();
        other.survey.latency = 0.06;
        let table = table(&profile(), &other);
        let row = |name: &str| table.lines().find(|line| line.starts_with(name)).unwrap();
        assert!(row("answer").contains("0.50 ms") && row("answer").contains("| 60.00 ms"), "{table}");
        assert!(!row("disk").contains('|'), "{table}");
    }
}
