//! `haul uploads`: unfinished uploads, listed and aborted.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::ValueEnum;
use haul::client::UploadInfo;
use haul::model::object::{Key, ObjectUrl, UploadId};
use serde_json::json;

use super::args::Connect;
use super::connect::{Connection, connect, wait};
use super::exit::{Failure, REFUSED, RETRY_LATER};
use super::report::{inline, print, warn};

/// # Errors
/// See [`super::exit`].
pub fn list(url: &ObjectUrl, typed: &Connect, as_json: bool) -> Result<(), Failure> {
    let connection = connect(typed, &url.bucket)?;
    for upload in listed(&connection, url)? {
        if as_json {
            let odd = upload.named().is_none();
            let UploadInfo { key, upload_id, initiated } = upload;
            print(json!({ "key": key.as_str(), "upload_id": upload_id.0, "initiated": initiated, "odd": odd }));
        } else {
            print(format_args!("{}  {}", inline(&upload.initiated), name(url, &upload, "  ")));
        }
    }
    Ok(())
}

/// # Errors
/// See [`super::exit`].
pub fn abort(
    url: &ObjectUrl,
    typed: &Connect,
    upload_id: Option<&UploadId>,
    older_than: Option<Duration>,
    quiet: bool,
) -> Result<(), Failure> {
    match upload_id {
        Some(id) => abort_one(url, typed, id, quiet),
        None => abort_old(url, typed, older_than.unwrap_or_default(), quiet),
    }
}

fn abort_one(url: &ObjectUrl, typed: &Connect, id: &UploadId, quiet: bool) -> Result<(), Failure> {
    let key = Key::new(&*url.key).map_err(|e| Failure::usage(e.to_string()))?;
    let connection = connect(typed, &url.bucket)?;
    if !wait(connection.client.abort_upload(&url.bucket, &key, id))? {
        let message = format!("no such upload: {id} of oss://{}/{}; nothing was aborted", url.bucket, inline(&url.key));
        let hint = Some("`haul uploads list` shows those that are open; this one was merged, aborted, or never begun");
        return Err(Failure { hint, ..Failure::new(REFUSED, message) });
    }
    if !quiet {
        print(format_args!("aborted {id} of oss://{}/{}", url.bucket, inline(&url.key)));
    }
    Ok(())
}

/// Tries all, but for those that cannot be asked for; what the store refuses of one keeps no other.
fn abort_old(url: &ObjectUrl, typed: &Connect, age: Duration, quiet: bool) -> Result<(), Failure> {
    let connection = connect(typed, &url.bucket)?;
    let (mut aborted, mut refused) = (0, None);
    for upload in &listed(&connection, url)? {
        let Some((key, id)) = to_abort(url, upload, age) else { continue };
        let name = name(url, upload, " of ");
        match wait(connection.client.abort_upload(&url.bucket, key, id)) {
            Ok(was_there) => {
                aborted += 1;
                if !quiet {
                    print(format_args!("{} {name}", if was_there { "aborted" } else { "was gone already:" }));
                }
            }
            Err(failure) if failure.code == RETRY_LATER => return Err(failure),
            Err(failure) => {
                warn(format_args!("haul: warning: {name} was not aborted: {}", failure.message));
                refused.get_or_insert(failure);
            }
        }
    }
    if aborted == 0 && refused.is_none() && !quiet {
        print("nothing to abort");
    }
    refused.map_or(Ok(()), Err)
}

/// Key and id of an upload that is to be aborted because of its `age`. Warns of one that may be old enough and is skipped.
fn to_abort<'a>(url: &ObjectUrl, upload: &'a UploadInfo, age: Duration) -> Option<(&'a Key, &'a UploadId)> {
    let before = SystemTime::now().checked_sub(age)?;
    let begun = begun(upload);
    if begun.is_some_and(|begun| begun > before) {
        return None;
    }
    let skipped = |why: &str| warn(format_args!("haul: warning: {} is skipped: {why}", name(url, upload, " of ")));
    match (upload.named(), begun) {
        (Some(named), Some(_)) => Some(named),
        (None, _) => {
            skipped("haul cannot ask for such a name; the client that made it can abort it");
            None
        }
        (Some(_), None) => {
            skipped("the store does not say when it was begun; abort it with --upload-id");
            None
        }
    }
}

/// Id and key of an upload, whatever is in them, within a line.
fn name(url: &ObjectUrl, upload: &UploadInfo, between: &str) -> String {
    let (id, key) = (inline(&upload.upload_id.0), inline(upload.key.as_str()));
    format!("{id}{between}oss://{}/{key}", url.bucket)
}

/// The command that aborts an upload, ready to be pasted.
pub fn abort_command(url: &str, UploadId(id): &UploadId, endpoint: &str, typed: &Connect) -> String {
    let command = format!("haul uploads abort {} --upload-id={}", quoted(url), quoted(id));
    reaching(command, endpoint, typed)
}

/// A command with what was typed to reach the store, as a shell takes it. A proxy is left out: its URL may hold a password.
pub fn reaching(mut command: String, endpoint: &str, typed: &Connect) -> String {
    let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    let options = [
        ("--endpoint", Some(endpoint.to_owned())),
        ("--region", typed.region.clone()),
        ("--signature", Some(typed_name(typed.signature))),
        ("--addressing", typed.addressing.map(typed_name)),
        ("--config", path(&typed.config)),
        ("--ca-cert", path(&typed.ca_cert)),
    ];
    for (option, value) in options.into_iter().filter_map(|(option, value)| Some((option, value?))) {
        command += &format!(" {option}={}", quoted(&value));
    }
    command
}

fn typed_name(value: impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

/// The word as a shell takes it.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

fn listed(connection: &Connection, url: &ObjectUrl) -> Result<Vec<UploadInfo>, Failure> {
    wait(connection.client.list_uploads(&url.bucket, &url.key))
}

/// When an upload was begun; `None` if the store does not say so in a way that can be read: such are never old.
fn begun(upload: &UploadInfo) -> Option<SystemTime> {
    upload.initiated.parse::<jiff::Timestamp>().ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use haul::client::ListedKey;

    use super::*;

    #[test]
    fn a_word_that_a_shell_would_read_is_quoted() {
        assert_eq!(quoted("oss://demo/a-1_b.c"), "oss://demo/a-1_b.c");
        assert_eq!(quoted("a b;$(c)"), "'a b;$(c)'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn an_upload_whose_age_is_unknown_is_never_old() {
        let upload = |initiated: &str| UploadInfo {
            key: ListedKey::Key(Key::new("k").unwrap()),
            upload_id: UploadId("u".into()),
            initiated: initiated.into(),
        };
        assert!(begun(&upload("2025-01-01T00:00:00.000Z")).is_some());
        assert!(begun(&upload("yesterday")).is_none() && begun(&upload("")).is_none());
    }
}
