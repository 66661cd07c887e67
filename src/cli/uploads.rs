//! `haul uploads`: unfinished uploads, listed and aborted.

use std::time::{Duration, SystemTime};

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
