//! What is fuzzed. A target takes any bytes and panics if a promise is broken; that nothing else panics is a promise of
//! all of them. `tests/fuzz_corpus.rs` runs the same functions over the kept corpus.

mod address;
mod client_answer;
mod config;
mod record;
mod server_document;
mod server_request;
mod wal_scan;

/// Name and function.
pub type Target = (&'static str, fn(&[u8]));

pub const ALL: [Target; 7] = [
    ("address", address::run),
    ("client_answer", client_answer::run),
    ("config", config::run),
    ("record", record::run),
    ("server_document", server_document::run),
    ("server_request", server_request::run),
    ("wal_scan", wal_scan::run),
];

/// Cuts an input into pieces: each has its length, 0 to 255, in front; the last may be shorter.
fn pieces(mut input: &[u8]) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    while let Some((length, rest)) = input.split_first() {
        let (piece, after) = rest.split_at(rest.len().min(usize::from(*length)));
        pieces.push(piece);
        input = after;
    }
    pieces
}

/// Text that a terminal or a log shows as one short line.
fn is_shown_safely(text: &str) -> bool {
    text.len() <= 4096 && !text.chars().any(char::is_control)
}
