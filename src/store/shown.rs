//! What others wrote, as it may be shown: one short line, in which nothing steers a terminal.

/// Longest text that is shown, in characters.
pub(super) const SHOWN_MAX: usize = 200;

/// The beginning of `text`, with blanks for control characters.
pub(super) fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SHOWN_MAX).collect::<String>().trim().to_owned()
}
