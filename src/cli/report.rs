//! What is printed.
//!
//! `haul put --json` prints one JSON object a line on standard output. The field `event` names its kind; names and
//! meanings are stable, new ones may be added:
//!
//! | event | fields |
//! |---|---|
//! | `planned` | `bytes`, `parts` (0: a single PUT), `part_bytes`, `part_bytes_wanted` (null unless raised), `parallel`, `reader`, `reader_reason`, `checkpoint`, `buffer_bytes`, `memory_bytes` (null: no limit), `tuned` (the profile of `haul tune` that was used, or null) |
//! | `settling` | `wait_ms`: the file was written just now, and a later write must show in its times before it is read |
//! | `resumed` | `upload_id`, `parts`, `bytes` |
//! | `comparing` | `parts`, `bytes`, `why`: they are in the store and are compared with the file before they count |
//! | `started_over` | `reason` |
//! | `initiated` | `upload_id` |
//! | `part_done` | `part`, `bytes`, `crc64` (decimal text), `attempts` (0: it was in the store already), `verified` |
//! | `retrying` | `operation`, `part`, `attempt`, `delay_ms`, `fault` |
//! | `hedged` | `part`, `after_ms`: it took much longer than others and is sent once more on another connection |
//! | `window` | `parallel`: so many parts may be in flight from now on; `bytes_per_second` that the store confirmed with the number before |
//! | `completing` | `parts` |
//! | `rereading` | `bytes` |
//! | `explained` | with `--explain`, when the upload has ended, well or not: `seconds`, `cpu_seconds` (of the process), `stages` (see [`Cost`]; seconds summed over the parts in flight), `limit`, `sentence` |
//! | `left_open` | `endpoint`, `bucket`, `key`, `upload_id`, `why`: the upload could not be aborted and nothing remembers it |
//! | `warning` | `message` |
//! | `done` | see [`DONE_FIELDS`]; the last line of a good run |
//! | `error` | `exit`, `message`, `hint`; the last line of any other |

use std::sync::atomic::{AtomicBool, Ordering};

use haul::client::Uploaded;
use haul::model::event::{Activity, Event, Progress};
use haul::model::explain::{Cost, Costs};
use haul::model::object::ObjectUrl;
use indicatif::{BinaryBytes, HumanDuration};
use serde_json::{Value, json};

use super::exit::{Failure, INTERRUPTED, OTHER};
use super::output;

/// Fields of the event `done`, in the order of the alphabet.
#[cfg(test)]
pub const DONE_FIELDS: [&str; 19] = [
    "bytes",
    "callback_body",
    "crc64",
    "etag",
    "event",
    "parallel",
    "part_bytes",
    "parts_resumed",
    "parts_sent",
    "parts_unverified",
    "reader",
    "request_id",
    "seconds",
    "status",
    "upload_id",
    "url",
    "verified",
    "version_id",
    "warnings",
];

/// A line on standard output. A reader that went away is no reason to stop an upload; see [`unread`].
pub fn print(line: impl std::fmt::Display) {
    output::out(&(harmless(&line.to_string(), &['\n', '\t']) + "\n"));
}

/// The failure to say all that was to be said on standard output: what nobody can read is no success.
pub fn unread() -> Option<Failure> {
    let cause = output::lost()?;
    if cause.kind() == std::io::ErrorKind::TimedOut {
        return Some(Failure::new(INTERRUPTED, "ended while nobody read its standard output"));
    }
    let hint = Some("what was asked for is done, unless another error says otherwise; the answer is lost");
    Some(Failure { hint, ..Failure::new(OTHER, format!("cannot write to standard output: {cause}")) })
}

/// `text` within a line, from wherever it comes.
pub fn inline(text: &str) -> String {
    harmless(text, &[])
}

/// Text in which nothing steers a terminal: control characters, but for those of `kept`, are written as `\u001b`, which is
/// the same within JSON.
fn harmless(text: &str, kept: &[char]) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() && !kept.contains(&c) {
            true => clean.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => clean.push(c),
        }
    }
    clean
}

/// Set by `--quiet`.
static QUIET: AtomicBool = AtomicBool::new(false);

/// From now on, only errors are said.
pub fn be_quiet() {
    QUIET.store(true, Ordering::Relaxed);
}

/// A line on standard error, unless only errors are wanted.
pub fn warn(line: impl std::fmt::Display) {
    if !QUIET.load(Ordering::Relaxed) {
        say(line);
    }
}

/// A line on standard error.
pub fn say(line: impl std::fmt::Display) {
    output::err(&(harmless(&line.to_string(), &['\n', '\t']) + "\n"));
}

pub fn event(event: &Event) {
    print(serde_json::to_string(event).unwrap_or_default());
}

/// What went wrong and what to do next: on standard error, and as an event if those are wanted.
pub fn failure(failure: &Failure, as_event: bool) {
    if as_event {
        let hint = failure.hint;
        print(json!({ "event": "error", "exit": failure.code, "message": failure.message, "hint": hint }));
    }
    say(format_args!("haul: {}", failure.message));
    if let Some(hint) = failure.hint {
        say(format_args!("  {hint}"));
    }
}

/// The event `done`.
pub fn done(done: &Uploaded, url: &ObjectUrl, warnings: u32) -> Value {
    json!({
        "event": "done",
        "url": url.to_string(),
        "status": done.status,
        "bytes": done.bytes,
        "seconds": done.elapsed.as_secs_f64(),
        "parts_sent": done.parts_sent,
        "parts_resumed": done.parts_resumed,
        "parts_unverified": done.parts_unverified,
        "part_bytes": done.part_bytes,
        "parallel": done.parallel,
        "reader": done.reader,
        "crc64": done.crc64.to_string(),
        "verified": done.crc64_verified,
        "etag": done.etag.as_str(),
        "request_id": done.request_id,
        "version_id": done.version_id,
        "upload_id": done.upload_id.as_ref().map(|id| &id.0),
        "callback_body": done.callback_body.as_ref().map(|body| String::from_utf8_lossy(body).into_owned()),
        "warnings": warnings,
    })
}

/// The line that ends a good run.
pub fn summary(done: &Uploaded, url: &ObjectUrl) -> String {
    let seconds = done.elapsed.as_secs_f64();
    let rate = BinaryBytes((done.bytes as f64 / seconds.max(1e-9)) as u64);
    let parts = match (done.parts_sent, done.parts_resumed) {
        (0, 0) => "in one piece".to_owned(),
        (sent, resumed) => format!("{sent} parts sent, {resumed} resumed"),
    };
    let checked = match (done.crc64_verified, done.parts_unverified) {
        (true, 0) => "verified".to_owned(),
        (true, n) => format!("verified for the object, {n} parts without checksum"),
        (false, 0) => "not named by the store for the object, parts verified".to_owned(),
        (false, n) => format!("NOT verified: the store named none for the object and for {n} parts"),
    };
    let callback = if done.status == 203 { "; the object is stored, but its CALLBACK FAILED" } else { "" };
    format!(
        "{url}: {} bytes in {seconds:.2} s ({rate}/s), {parts}, CRC64 {} {checked}, ETag {}, request id {}{callback}",
        done.bytes,
        done.crc64,
        done.etag,
        done.request_id.as_deref().unwrap_or("none"),
    )
}

/// What a person should hear of an event while the upload runs; `verbose` adds what passes by itself.
pub fn notice(event: &Event, verbose: bool) -> Option<String> {
    Some(match event {
        Event::Planned { part_bytes, part_bytes_wanted: Some(wanted), .. } => format!(
            "parts of {} instead of {}: the object would need more than 10,000",
            BinaryBytes(*part_bytes),
            BinaryBytes(*wanted)
        ),
        Event::Planned { checkpoint: Some(path), reader, reader_reason, .. } if verbose => {
            format!("checkpoint {}; reader {reader}: {reader_reason}", path.display())
        }
        Event::Settling { wait_ms } => {
            let seconds = *wait_ms as f64 / 1000.0;
            format!("the file was written just now: waiting {seconds:.1} s, so that a later change shows in its times")
        }
        Event::Resumed { parts: 0, .. } => "going on with an upload that was begun".to_owned(),
        Event::Resumed { parts, bytes, .. } => {
            format!("going on: {parts} parts, {} are in the store already", BinaryBytes(*bytes))
        }
        Event::Comparing { parts, bytes, why } => {
            let bytes = BinaryBytes(*bytes);
            format!("{parts} parts, {bytes} are in the store and are compared with the file before they count: {why}")
        }
        Event::StartedOver { reason } => format!("starting over: {reason}"),
        Event::Rereading { .. } => "stored; reading the file once more".to_owned(),
        Event::Explained { seconds, cpu_seconds, stages, sentence, .. } => {
            explanation(*seconds, *cpu_seconds, stages) + sentence
        }
        Event::Warning { message } => format!("warning: {message}"),
        Event::Window { parallel, bytes_per_second } if verbose => {
            format!("{parallel} parts in flight from now on, after {}/s", BinaryBytes(*bytes_per_second))
        }
        Event::Hedged { part, after_ms } if verbose => {
            format!("part {part} is slow: after {after_ms} ms it is sent on another connection too")
        }
        Event::Retrying { operation, part, attempt, delay_ms, fault } if verbose => {
            let part = part.map(|part| format!(" of part {part}")).unwrap_or_default();
            let delay = HumanDuration(std::time::Duration::from_millis(*delay_ms));
            format!("{operation}{part}, attempt {attempt}: {fault}; again in {delay:#}")
        }
        _ => return None,
    })
}

/// Stages that took less are left out.
const SHOWN_SHARE: f64 = 0.0005;

/// Where the time went: a line for each stage that took any.
fn explanation(seconds: f64, cpu_seconds: f64, stages: &Costs) -> String {
    let all = stages.total().as_secs_f64();
    let line = |cost: &Cost| {
        let (name, time, percent) = (cost.name(), stages.get(*cost).as_secs_f64(), stages.share(*cost) * 100.0);
        format!("  {name:<10} {time:>9.2} s {percent:>5.1} %\n")
    };
    let some = Cost::ALL.iter().filter(|cost| stages.share(**cost) >= SHOWN_SHARE);
    format!("the parts in flight spent {all:.2} s in {seconds:.2} s ({cpu_seconds:.2} s of CPU) on\n")
        + &some.map(line).collect::<String>()
}

/// What goes on now, for a person: a line for the whole, and one for every exchange in flight.
pub fn activities(progress: Progress, activities: &[Activity]) -> String {
    let Progress { bytes_confirmed, bytes_total, parts_done, parts_total, .. } = progress;
    let (confirmed, total) = (BinaryBytes(bytes_confirmed), BinaryBytes(bytes_total));
    let whole = format!("{confirmed} of {total} confirmed, {parts_done} of {parts_total} parts; in flight:");
    let lines = activities.iter().map(|activity| format!("\n  {activity}"));
    let nothing = if activities.is_empty() { "\n  nothing" } else { "" };
    whole + &lines.collect::<String>() + nothing
}

/// The plan, for a person.
pub fn plan(event: &Event, url: &ObjectUrl) -> String {
    let Event::Planned {
        bytes,
        parts,
        part_bytes,
        part_bytes_wanted,
        parallel,
        reader,
        reader_reason,
        checkpoint,
        buffer_bytes,
        memory_bytes,
        tuned,
    } = event
    else {
        return String::new();
    };
    let how = match parts {
        0 => "one PUT".to_owned(),
        1 => format!("1 part of {bytes} bytes"),
        n => format!("{n} parts of {part_bytes} bytes ({}), {parallel} in flight", BinaryBytes(*part_bytes)),
    };
    let grown =
        part_bytes_wanted.map(|wanted| format!(" (raised from {wanted} to need at most 10,000)")).unwrap_or_default();
    let memory = memory_bytes.map(|bytes| format!(" of {} of memory", BinaryBytes(bytes))).unwrap_or_default();
    let checkpoint = checkpoint.as_ref().map_or("none".to_owned(), |path| path.display().to_string());
    let tuned = tuned.as_ref().map(|path| format!("\ntuned by    {}", path.display())).unwrap_or_default();
    format!(
        "object      {url}\nbytes       {bytes} ({})\nsent as     {how}{grown}\nreader      {reader}: {reader_reason}\n\
         buffers     at most {}{memory}\ncheckpoint  {checkpoint}{tuned}\nnothing was sent",
        BinaryBytes(*bytes),
        BinaryBytes(*buffer_bytes),
    )
}

#[cfg(test)]
mod tests {
    use haul::model::object::ETag;
    use haul::model::settings::ReaderKind;

    use super::*;

    fn uploaded() -> Uploaded {
        Uploaded {
            status: 200,
            headers: http::HeaderMap::new(),
            callback_body: None,
            request_id: Some("R".into()),
            version_id: None,
            etag: ETag::new("E"),
            crc64: u64::MAX,
            crc64_verified: true,
            parts_unverified: 0,
            bytes: 10,
            parts_sent: 1,
            parts_resumed: 2,
            part_bytes: 4,
            parallel: 8,
            reader: ReaderKind::Mmap,
            upload_id: None,
            parts: Vec::new(),
            elapsed: std::time::Duration::from_secs(2),
        }
    }

    #[test]
    fn the_fields_of_the_last_event_are_stable() {
        let value = done(&uploaded(), &"oss://demo/k".parse().unwrap(), 0);
        let mut names: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, DONE_FIELDS);
        assert_eq!(value["crc64"], "18446744073709551615");
    }

    #[test]
    fn nothing_that_is_printed_steers_a_terminal_and_json_stays_what_it_was() {
        assert_eq!(harmless("a\u{1b}[2J\u{9b}é\tb\n", &['\n', '\t']), "a\\u001b[2J\\u009bé\tb\n");
        assert_eq!(inline("a\nb"), "a\\u000ab");
        let json = json!({ "key": "a\u{9b}\u{7f}\u{1b}\n" });
        let read: Value = serde_json::from_str(&harmless(&json.to_string(), &['\n', '\t'])).unwrap();
        assert_eq!(read, json);
    }

    #[test]
    fn the_summary_says_when_nothing_was_verified() {
        let url = "oss://demo/k".parse().unwrap();
        let line = summary(&uploaded(), &url);
        assert!(
            line.contains("1 parts sent, 2 resumed") && line.contains("verified") && !line.contains("NOT"),
            "{line}"
        );
        let line = summary(&Uploaded { crc64_verified: false, parts_unverified: 3, ..uploaded() }, &url);
        assert!(line.contains("NOT verified"), "{line}");
    }
}
