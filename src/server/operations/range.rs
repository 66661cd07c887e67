//! Which bytes a `Range` header asks for.
//!
//! # Source
//! Table in section 4.2 of the specification.

use std::ops::Range;

/// What to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Selection {
    /// 200.
    Whole,
    /// 206 with these bytes.
    Part(Range<u64>),
    /// 416.
    Nothing,
}

/// Selects from an object of `size` bytes. `standard` is `x-oss-range-behavior: standard`; without it everything that
/// is not exactly available is answered with the whole object.
pub(super) fn select(header: Option<&str>, size: u64, standard: bool) -> Selection {
    let Some(header) = header else { return Selection::Whole };
    match parse(header, size) {
        Some((from, to)) if to <= size => Selection::Part(from..to),
        Some((from, _)) if standard => Selection::Part(from..size),
        _ if standard => Selection::Nothing,
        _ => Selection::Whole,
    }
}

/// First byte and the byte after the last, where the first exists. The end may lie beyond the object.
fn parse(header: &str, size: u64) -> Option<(u64, u64)> {
    let (from, to) = header.trim().strip_prefix("bytes=")?.split_once('-')?;
    let (from, to) = match (number(from), number(to)) {
        (Some(from), None) if to.is_empty() => (from, size),
        (Some(from), Some(to)) if from <= to => (from, to.saturating_add(1)),
        (None, Some(last)) if from.is_empty() && last > 0 => match size.checked_sub(last) {
            Some(from) => (from, size),
            // More than there is: all of it, and not exactly available.
            None => (0, last),
        },
        _ => return None,
    };
    (from < size).then_some((from, to))
}

fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::Selection::{Nothing, Part, Whole};
    use super::*;

    #[test]
    fn every_row_of_the_table_is_answered_as_written() {
        for (header, size, plain, standard) in [
            ("bytes=0-0", 10, Part(0..1), Part(0..1)),
            ("bytes=2-9", 10, Part(2..10), Part(2..10)),
            ("bytes=2-", 10, Part(2..10), Part(2..10)),
            ("bytes=-3", 10, Part(7..10), Part(7..10)),
            ("bytes=-10", 10, Part(0..10), Part(0..10)),
            ("bytes=5-10", 10, Whole, Part(5..10)),
            ("bytes=5-18446744073709551615", 10, Whole, Part(5..10)),
            ("bytes=10-12", 10, Whole, Nothing),
            ("bytes=10-", 10, Whole, Nothing),
            ("bytes=5-4", 10, Whole, Nothing),
            ("bytes=x-4", 10, Whole, Nothing),
            ("bytes=+1-4", 10, Whole, Nothing),
            ("bytes=-", 10, Whole, Nothing),
            ("bytes=-0", 10, Whole, Nothing),
            ("bytes=1", 10, Whole, Nothing),
            ("lines=1-2", 10, Whole, Nothing),
            ("bytes=99999999999999999999-", 10, Whole, Nothing),
            ("bytes=-11", 10, Whole, Part(0..10)),
            ("bytes=0-1,3-4", 10, Whole, Nothing),
            ("bytes=0-0", 0, Whole, Nothing),
            ("bytes=-1", 0, Whole, Nothing),
        ] {
            assert_eq!(select(Some(header), size, false), plain, "{header} of {size}");
            assert_eq!(select(Some(header), size, true), standard, "{header} of {size}, standard");
        }
        assert_eq!(select(None, 10, true), Whole);
    }
}
