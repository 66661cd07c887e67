//! From what was typed at `haul put` to the request of an upload.

use std::io::Write;

use haul::client::{Client, Uploaded};
use haul::error::Error;
use haul::model::event::Event;
use haul::model::settings::{CheckpointAt, ObjectOptions, ReaderKind, UploadRequest};

use super::args::{Put, Reader};
use super::exit;

/// The upload that was typed.
///
/// # Errors
/// [`Error::Settings`] for a file name that is missing or not UTF-8, [`Error::Name`] for a key that cannot be.
pub fn request(put: &Put) -> Result<UploadRequest, Error> {
    let name = put.file.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| Error::Settings(format!("{}: no file name in UTF-8", put.file.display())))?;
    let mut request = UploadRequest::new(&put.file, put.url.bucket.clone(), put.url.key_for(name)?);
    request.options = options(put);
    request.part_size = put.part_size;
    request.parallel = put.parallel;
    request.reader = match put.reader {
        Reader::Auto => None,
        Reader::Mmap => Some(ReaderKind::Mmap),
        Reader::Uring => Some(ReaderKind::Uring),
        Reader::Pread => Some(ReaderKind::Pread),
    };
    request.checkpoint = match (&put.checkpoint, &put.checkpoint_dir) {
        _ if put.no_checkpoint => CheckpointAt::Off,
        (Some(path), _) => CheckpointAt::Path(path.clone()),
        (None, Some(dir)) => CheckpointAt::Directory(dir.clone()),
        (None, None) => CheckpointAt::BesideFile,
    };
    Ok(request)
}

fn options(put: &Put) -> ObjectOptions {
    ObjectOptions {
        content_type: put.content_type.clone(),
        cache_control: put.cache_control.clone(),
        content_disposition: put.content_disposition.clone(),
        content_encoding: put.content_encoding.clone(),
        metadata: put.meta.clone(),
        storage_class: put.storage_class.clone(),
        acl: put.acl.clone(),
        tags: put.tag.clone(),
        forbid_overwrite: put.forbid_overwrite,
        sse: put.sse.clone(),
        sse_key_id: put.sse_key_id.clone(),
        callback: put.callback.clone(),
        callback_var: put.callback_var.clone(),
        traffic_limit: put.traffic_limit,
    }
}

/// Runs the upload, or prints its plan. The first SIGINT cancels, the second ends the process at once.
///
/// # Errors
/// Those of the upload; [`Error::Cancelled`] after SIGINT.
pub async fn run(put: &Put, client: &Client, quiet: bool) -> Result<(), Error> {
    let request = request(put)?;
    if put.dry_run {
        print(&event_json(&client.plan(&request).await?));
        return Ok(());
    }
    let mut transfer = client.upload(request);
    let mut cancelled = false;
    loop {
        tokio::select! {
            event = transfer.next_event() => match event {
                Some(event) if put.json => print(&event_json(&event)),
                Some(_) => {}
                None => break,
            },
            _ = tokio::signal::ctrl_c() => {
                if cancelled {
                    std::process::exit(exit::INTERRUPTED.into());
                }
                cancelled = true;
                transfer.cancel();
            }
        }
    }
    let done = transfer.wait().await?;
    if put.json {
        print(&done_json(&done).to_string());
    } else if !quiet {
        print(&summary(&done));
    }
    Ok(())
}

fn event_json(event: &Event) -> String {
    serde_json::to_string(event).unwrap_or_default()
}

fn done_json(done: &Uploaded) -> serde_json::Value {
    serde_json::json!({
        "event": "done", "bytes": done.bytes, "seconds": done.elapsed.as_secs_f64(), "parts_sent": done.parts_sent,
        "parts_resumed": done.parts_resumed, "part_bytes": done.part_bytes, "parallel": done.parallel,
        "reader": done.reader, "crc64": done.crc64.to_string(), "verified": done.crc64_verified,
        "parts_unverified": done.parts_unverified, "etag": done.etag.as_str(), "request_id": done.request_id,
        "version_id": done.version_id, "upload_id": done.upload_id.as_ref().map(|id| &id.0), "status": done.status,
    })
}

fn summary(done: &Uploaded) -> String {
    let seconds = done.elapsed.as_secs_f64();
    format!(
        "{} bytes in {seconds:.2} s ({:.1} MiB/s), {} parts sent, {} resumed, CRC64 {} {}, ETag {}, request id {}",
        done.bytes,
        done.bytes as f64 / seconds.max(1e-9) / f64::from(1 << 20),
        done.parts_sent,
        done.parts_resumed,
        done.crc64,
        if done.crc64_verified { "verified" } else { "not verified" },
        done.etag.as_str(),
        done.request_id.as_deref().unwrap_or("none"),
    )
}

/// A line on stdout; a reader that went away is no reason to stop an upload.
fn print(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
