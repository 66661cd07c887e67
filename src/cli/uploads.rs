//! `haul uploads`: unfinished uploads, listed and aborted.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::ValueEnum;
use haul::client::UploadInfo;
use haul::model::object::{Key, ObjectUrl, UploadId};
use serde_json::json;

use super::args::Connect;
use super::connect::{Connection, connect, wait};
use super::exit::Failure;
use super::report::{inline, print};

/// # Errors
/// See [`super::exit`].
pub fn list(url: &ObjectUrl, typed: &Connect, as_json: bool) -> Result<(), Failure> {
    let connection = connect(typed, &url.bucket)?;
    for upload in listed(&connection, url)? {
        let UploadInfo { key, upload_id, initiated } = upload;
        if as_json {
            print(json!({ "key": key.as_str(), "upload_id": upload_id.0, "initiated": initiated }));
        } else {
            print(format_args!("{initiated}  {upload_id}  oss://{}/{}", url.bucket, inline(key.as_str())));
        }
    }
    Ok(())
}

/// # Errors
/// See [`super::exit`].
pub fn abort(
    url: &ObjectUrl,
    typed: &Connect,
    upload_id: Option<&str>,
    older_than: Option<Duration>,
    quiet: bool,
) -> Result<(), Failure> {
    let connection = connect(typed, &url.bucket)?;
    let doomed = match upload_id {
        Some(id) => {
            let key = Key::new(&*url.key).map_err(|e| Failure::usage(e.to_string()))?;
            vec![(key, UploadId(id.to_owned()))]
        }
        None => {
            let before = SystemTime::now() - older_than.unwrap_or_default();
            let old = |upload: &UploadInfo| begun(upload).is_some_and(|begun| begun <= before);
            listed(&connection, url)?.into_iter().filter(old).map(|u| (u.key, u.upload_id)).collect()
        }
    };
    for (key, id) in &doomed {
        wait(connection.client.abort_upload(&url.bucket, key, id))?;
        if !quiet {
            print(format_args!("aborted {id} of oss://{}/{}", url.bucket, inline(key.as_str())));
        }
    }
    if doomed.is_empty() && !quiet {
        print("nothing to abort");
    }
    Ok(())
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
            key: Key::new("k").unwrap(),
            upload_id: UploadId("u".into()),
            initiated: initiated.into(),
        };
        assert!(begun(&upload("2025-01-01T00:00:00.000Z")).is_some());
        assert!(begun(&upload("yesterday")).is_none() && begun(&upload("")).is_none());
    }
}
