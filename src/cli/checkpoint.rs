//! `haul checkpoint show`: what a checkpoint remembers. Nothing is changed, and no lock is taken.

use std::path::Path;

use haul::checkpoint::{Checkpoint, Inspection, read};
use indicatif::BinaryBytes;
use serde_json::json;

use super::exit::{CHECKPOINT, Failure};
use super::report::print;

/// # Errors
/// Exit code 8 if there is no checkpoint at `path`.
pub fn show(path: &Path, as_json: bool) -> Result<(), Failure> {
    let refused = |message: String| Failure {
        hint: Some("name the checkpoint of an upload that has not finished, such as FILE.cp"),
        ..Failure::new(CHECKPOINT, message)
    };
    let found = read(path).map_err(|e| refused(e.to_string()))?;
    if as_json {
        print(json(&found))
    } else {
        print(text(&found))
    }
    Ok(())
}

fn bytes_stored(checkpoint: &Checkpoint) -> u64 {
    checkpoint.parts.values().fold(0, |sum: u64, part| sum.saturating_add(part.bytes))
}

fn json(Inspection { checkpoint, torn_bytes }: &Inspection) -> serde_json::Value {
    let binding = &checkpoint.binding;
    let part = |(number, part): (&haul::model::part::PartNumber, &haul::checkpoint::StoredPart)| json!({ "part": number.get(), "bytes": part.bytes, "etag": part.etag.as_str(), "crc64": part.crc64.to_string() });
    let open = |open: &haul::checkpoint::OpenUpload| {
        json!({
            "endpoint": open.endpoint, "bucket": open.bucket.as_str(), "key": open.key.as_str(),
            "upload_id": open.upload_id.0,
        })
    };
    json!({
        "endpoint": binding.endpoint,
        "bucket": binding.bucket.as_str(),
        "key": binding.key.as_str(),
        "part_bytes": binding.part_bytes,
        "file_bytes": binding.source.bytes,
        "upload_id": checkpoint.upload_id.as_ref().map(|id| &id.0),
        "bytes_stored": bytes_stored(checkpoint),
        "parts": checkpoint.parts.iter().map(part).collect::<Vec<_>>(),
        "abandoned": checkpoint.abandoned.iter().map(open).collect::<Vec<_>>(),
        "torn_bytes": torn_bytes,
        "completed": checkpoint.completed.as_ref().map(|done| json!({ "etag": done.etag.as_str(), "version_id": done.version_id })),
    })
}

fn text(Inspection { checkpoint, torn_bytes }: &Inspection) -> String {
    let binding = &checkpoint.binding;
    let file = binding.source.bytes;
    let stored = bytes_stored(checkpoint);
    let total = file.div_ceil(binding.part_bytes.max(1));
    let mut text = format!(
        "object      oss://{}/{} at {}\nfile        {file} bytes ({})\nupload id   {}\n\
         in store    {} of {total} parts of {} bytes; {stored} bytes ({})",
        binding.bucket,
        binding.key,
        binding.endpoint,
        BinaryBytes(file),
        checkpoint.upload_id.as_ref().map_or("none yet", |id| &id.0),
        checkpoint.parts.len(),
        binding.part_bytes,
        BinaryBytes(stored),
    );
    if let Some(done) = &checkpoint.completed {
        text += &format!(
            "\nobject      stored, ETag {}; what follows is not finished: reading the file again, the receipt",
            done.etag
        );
    }
    for open in &checkpoint.abandoned {
        text += &format!("\nto abort    {} of oss://{}/{} at {}", open.upload_id, open.bucket, open.key, open.endpoint);
    }
    if *torn_bytes > 0 {
        text += &format!("\ntorn        {torn_bytes} bytes at the end, written when a crash came; they are ignored");
    }
    text
}
