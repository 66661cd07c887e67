//! Holds the table "who may import whom" and checks it over `src/`, textually: a layer that reaches for another fails
//! here, with the line that does it.
//!
//! What is read is code without comments and strings (but for the search of `x-oss-`, which is about strings) and without
//! what follows `#[cfg(test)]` at the end of a file.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const ALL_LAYERS: [&str; 11] =
    ["model", "os", "source", "store", "net", "checkpoint", "error", "engine", "client", "blocking", "server"];

const BELOW_ENGINE: &[&str] = &["model", "os", "source", "store", "net", "checkpoint", "error"];
const BELOW_FACES: &[&str] =
    &["model", "os", "source", "store", "net", "checkpoint", "error", "engine", "client", "blocking"];

/// What a module may import of the crate, besides itself.
fn may_import(module: &str) -> Option<&'static [&'static str]> {
    Some(match module {
        "model" => &[],
        "os" | "store" => &["model"],
        "source" | "net" | "checkpoint" | "server" => &["model", "os"],
        // Of the four layers, their error types only.
        "error" => &["model", "source", "store", "net", "checkpoint"],
        "engine" => BELOW_ENGINE,
        "client" | "blocking" => BELOW_FACES,
        // The map of the crate, and the binary, which sees the library as any other crate would.
        "lib" | "cli" => &[],
        "main" => &["cli"],
        _ => return None,
    })
}

/// Words that must not occur in the code of some layers.
const NEVER: &[(&str, &[&str])] = &[
    ("model", &["tokio", "hyper", "std::fs", "std::net", "SystemTime::now", "Instant"]),
    ("store", &["tokio", "hyper", "SystemTime::now", "Instant", "std::net"]),
];

/// Words that may occur in these files only.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("tokio_uring", &["source/uring.rs"]),
    ("bincode", &["checkpoint/record.rs"]),
    ("unsafe", &["source/buffer.rs", "source/mmap.rs", "source/uring.rs"]),
];

/// Everything wrong with one file; `path` is relative to `src/`.
fn violations(path: &str, text: &str) -> Vec<String> {
    let code = production(text);
    let bare = blank(code, true);
    let module = module_of(path);
    let mut wrong = Vec::new();
    match may_import(module) {
        None => wrong.push(format!("{module} is not in the table: add it with a reason")),
        Some(allowed) => wrong.extend(forbidden_imports(path, &bare, allowed)),
    }
    let never = NEVER.iter().filter(|(layer, _)| *layer == module).flat_map(|(_, words)| *words);
    wrong.extend(never.filter(|w| has_word(&bare, w)).map(|w| format!("{module} names {w}")));
    let only = ONLY_IN.iter().filter(|(word, files)| has_word(&bare, word) && !files.contains(&path));
    wrong.extend(only.map(|(word, files)| format!("{word} may be named in {files:?} only")));
    // The store of the simulation is a server too, and only tests see it.
    let speaks_oss = ["store/oss", "server/", "engine/simulation/"].iter().any(|place| path.starts_with(place));
    if !speaks_oss && blank(code, false).contains("x-oss-") {
        wrong.push("x-oss- may be spelled in store/oss and server only".to_owned());
    }
    wrong.into_iter().map(|what| format!("src/{path}: {what}")).collect()
}

fn forbidden_imports(path: &str, bare: &str, allowed: &[&str]) -> Vec<String> {
    let module = module_of(path);
    let in_wal = path.starts_with("checkpoint/wal");
    let mut wrong = Vec::new();
    for import in imports(path, bare) {
        let layer = import[0].as_str();
        let own = layer == module && (!in_wal || import.get(1).is_some_and(|s| s == "wal"));
        let is_value = layer == "model" || import.iter().any(|name| name.ends_with("Error"));
        // The payloads of the log are bytes: it knows files, and nothing of what they mean.
        let lower = allowed.contains(&layer) && (!in_wal || layer == "os") && (module != "error" || is_value);
        let known = ALL_LAYERS.contains(&layer) || module == "cli" || module == "main";
        if known && !own && !lower {
            wrong.push(format!("{} imports {}", if in_wal { "checkpoint::wal" } else { module }, import.join("::")));
        }
    }
    wrong
}

/// Every path into the crate, absolute: `crate::a::b`, `super::…` and the branches of `{…}`.
fn imports(path: &str, bare: &str) -> BTreeSet<Vec<String>> {
    let tokens = tokens(bare);
    let mut found = BTreeSet::new();
    for at in 0..tokens.len() {
        let begins = matches!(tokens[at].as_str(), "crate" | "super") && (at == 0 || tokens[at - 1] != "::");
        let goes_on = tokens.get(at + 1).is_some_and(|next| next == "::"); // else it is `pub(super)`
        if begins && goes_on {
            let mut base = if tokens[at] == "crate" { Vec::new() } else { place_of(path) };
            if tokens[at] == "super" {
                base.pop();
            }
            expand(&tokens, at + 1, base, &mut found);
        }
    }
    found
}

/// Follows a path from the token behind its first word, and both sides of every comma in braces.
fn expand(tokens: &[String], mut at: usize, mut path: Vec<String>, found: &mut BTreeSet<Vec<String>>) -> usize {
    while tokens.get(at).is_some_and(|t| t == "::") {
        match tokens.get(at + 1).map(String::as_str) {
            Some("super") => drop(path.pop()),
            Some("{") => {
                at += 2;
                while tokens.get(at).is_some_and(|t| t != "}") {
                    let branch = tokens[at].clone();
                    at = if branch == "," { at + 1 } else { expand(tokens, at + 1, joined(&path, &branch), found) };
                }
                return at + 1;
            }
            Some(word) => path.push(word.to_owned()),
            None => break,
        }
        at += 2;
    }
    if !path.is_empty() {
        found.insert(path);
    }
    at
}

fn joined(path: &[String], last: &str) -> Vec<String> {
    path.iter().cloned().chain((last != "self").then(|| last.to_owned())).collect()
}

fn tokens(bare: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut in_word = false;
    for c in bare.chars() {
        let word = c.is_alphanumeric() || c == '_';
        match all.last_mut() {
            Some(last) if word && in_word => last.push(c),
            Some(last) if c == ':' && last == ":" => last.push(c),
            _ if c.is_whitespace() => {}
            _ => all.push(c.to_string()),
        }
        in_word = word;
    }
    all
}

/// The module that a file is: `checkpoint/wal/dir.rs` is `checkpoint::wal::dir`.
fn place_of(path: &str) -> Vec<String> {
    let stem = path.trim_end_matches(".rs").trim_end_matches("/mod");
    stem.split('/').map(str::to_owned).collect()
}

fn module_of(path: &str) -> &str {
    path.split('/').next().expect("split gives at least one").trim_end_matches(".rs")
}

/// The text up to the inline tests, which stand at the end of a file and may use what they like.
fn production(text: &str) -> &str {
    text.find("#[cfg(test)]\nmod tests {").map_or(text, |at| &text[..at])
}

/// The text with comments made blank, and on demand the content of strings too.
fn blank(text: &str, strings_too: bool) -> String {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(c) = rest.chars().next() {
        let taken = lexeme(rest);
        let (piece, after) = rest.split_at(taken);
        let comment = piece.starts_with("//") || piece.starts_with("/*");
        if comment || (strings_too && taken > 1 && matches!(c, '"' | 'r' | '\'')) {
            out.push(' ');
        } else {
            out.push_str(piece);
        }
        rest = after;
    }
    out
}

/// Length in bytes of the comment, string or character literal that `text` begins with, else of its first character.
fn lexeme(text: &str) -> usize {
    let to = |end: Option<usize>, and: usize| end.map_or(text.len(), |at| at + and);
    let bytes = text.as_bytes();
    if text.starts_with("//") {
        to(text.find('\n'), 0)
    } else if text.starts_with("/*") {
        to(text.find("*/"), 2)
    } else if text.starts_with("r#\"") {
        to(text.find("\"#"), 2)
    } else if text.starts_with('"') {
        quoted(bytes)
    } else if bytes[0] == b'\'' && (bytes.get(1) == Some(&b'\\') || bytes.get(2) == Some(&b'\'')) {
        to(text[2..].find('\''), 3)
    } else {
        text.chars().next().map_or(1, char::len_utf8)
    }
}

fn quoted(bytes: &[u8]) -> usize {
    let mut at = 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

fn has_word(text: &str, word: &str) -> bool {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word)
        .any(|(at, _)| !text[..at].ends_with(part_of_word) && !text[at + word.len()..].starts_with(part_of_word))
}

fn rust_files(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
}

#[test]
fn every_layer_imports_only_what_is_below_it() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    assert!(files.len() > 15, "only {} files in {}", files.len(), src.display());
    let wrong: Vec<_> = files
        .iter()
        .flat_map(|file| {
            violations(file.strip_prefix(&src).unwrap().to_str().unwrap(), &fs::read_to_string(file).unwrap())
        })
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn planted_violations_are_caught() {
    let planted = [
        ("model/part.rs", "use crate::source::Source;"),
        ("model/part.rs", "use std::fs::File;"),
        ("model/part.rs", "async fn f() { tokio::spawn(g()) }"),
        ("source/pread.rs", "use crate::{model::part, store::Operation};"),
        ("store/mod.rs", "fn now() -> SystemTime { SystemTime::now() }"),
        ("store/oss/sign_v4.rs", "use std::time::Instant;"),
        ("store/xml.rs", "use hyper::Request;"),
        ("net/pool.rs", "fn f() -> crate::store::Operation { todo() }"),
        ("net/pool.rs", "use super::super::engine::Upload;"),
        ("checkpoint/mod.rs", "use super::net::Transport;"),
        ("checkpoint/wal/log.rs", "use crate::model::part::Part;"),
        ("checkpoint/wal/log.rs", "use super::super::Record;"),
        ("checkpoint/wal/mod.rs", "use super::Record;"),
        ("os/name.rs", "use crate::source::SourceError;"),
        ("store/credentials/chain.rs", "use crate::os::name;"),
        ("checkpoint/journal.rs", "use bincode::config;"),
        ("error.rs", "use crate::engine::upload;"),
        ("engine/upload.rs", "use crate::client::Client;"),
        ("client.rs", "use crate::{error::Error, server};"),
        ("server/auth.rs", "use crate::store::oss::sign_v4;"),
        ("server/auth.rs", "use crate::{\n    model::part,\n    store::xml,\n};"),
        ("error.rs", "use crate::net::Transport;"),
        ("cli/put.rs", "use crate::engine::upload;"),
        ("source/pread.rs", "use tokio_uring::fs::File;"),
        ("net/pool.rs", "fn f() { unsafe { g() } }"),
        ("engine/attempt.rs", "const H: &str = \"x-oss-hash-crc64ecma\";"),
        ("surprise.rs", "fn f() {}"),
    ];
    for (path, text) in planted {
        assert_eq!(violations(path, text).len(), 1, "{path}: {text}: {:?}", violations(path, text));
    }
}

#[test]
fn what_is_allowed_is_not_complained_about() {
    let fine = [
        ("model/part.rs", "//! As `x-oss-` has it; never tokio.\nuse super::crc64;\n"),
        ("model/part.rs", "fn f() {}\n#[cfg(test)]\nmod tests {\n    use crate::store::Operation;\n}\n"),
        ("model/event.rs", "const WHY: &str = \"tokio is \\\" unsafe\"; // crate::engine"),
        ("checkpoint/wal/log.rs", "use super::{Storage, frame};"),
        ("checkpoint/wal/dir.rs", "use crate::os::name::with_suffix;"),
        ("server/faults/file.rs", "use crate::os::name;"),
        ("checkpoint/journal.rs", "use super::wal::log::Log; use crate::model::part::PartNumber;"),
        ("error.rs", "use crate::checkpoint::CheckpointError;"),
        ("engine/upload.rs", "use crate::{store, net, error::Error}; use super::engine;"),
        ("client.rs", "use crate::engine::upload;"),
        ("server/auth.rs", "const H: &str = \"x-oss-date\"; use crate::model::object::Key;"),
        ("source/uring.rs", "use tokio_uring::fs::File; fn f() { unsafe { g() } }"),
        ("cli/put.rs", "use haul::client::Client; use super::args; use crate::cli::report;"),
        ("checkpoint/wal/mod.rs", "pub(super) fn f() {} pub(crate) mod g {}"),
        ("main.rs", "mod cli; use crate::cli::put; use haul::error::Error;"),
        ("lib.rs", "#![deny(unsafe_op_in_unsafe_fn)] pub mod model;"),
    ];
    for (path, text) in fine {
        assert_eq!(violations(path, text), [""; 0], "{path}: {text}");
    }
}
