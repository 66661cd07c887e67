//! `haul stat`: what the store says of an object.

use haul::client::ObjectInfo;
use haul::model::object::{Key, ObjectUrl};
use serde_json::json;

use super::args::Connect;
use super::connect::{connect, wait};
use super::exit::Failure;
use super::report::{inline, print};

/// # Errors
/// See [`super::exit`]; 5 if there is no such object.
pub fn run(url: &ObjectUrl, typed: &Connect, json: bool) -> Result<(), Failure> {
    let key = Key::new(&*url.key).map_err(|e| Failure::usage(e.to_string()))?;
    let connection = connect(typed, &url.bucket)?;
    let info = wait(connection.client.stat(&url.bucket, &key))?;
    if json {
        print(as_json(&info))
    } else {
        print(as_text(&info, url))
    }
    Ok(())
}

fn as_json(info: &ObjectInfo) -> serde_json::Value {
    let metadata: serde_json::Map<_, _> =
        info.metadata.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
    json!({
        "bytes": info.bytes,
        "etag": info.etag.as_ref().map(|etag| etag.as_str()),
        "crc64": info.crc64.map(|crc64| crc64.to_string()),
        "content_type": info.content_type,
        "last_modified": info.last_modified,
        "object_type": info.object_type,
        "storage_class": info.storage_class,
        "metadata": metadata,
        "version_id": info.version_id,
        "request_id": info.request_id,
    })
}

fn as_text(info: &ObjectInfo, url: &ObjectUrl) -> String {
    let crc64 = info.crc64.map(|crc64| crc64.to_string());
    let rows = [
        ("object", Some(url.to_string())),
        ("bytes", Some(info.bytes.to_string())),
        ("ETag", info.etag.as_ref().map(ToString::to_string)),
        ("CRC64", crc64),
        ("type", info.content_type.clone()),
        ("modified", info.last_modified.clone()),
        ("made by", info.object_type.clone()),
        ("class", info.storage_class.clone()),
        ("version", info.version_id.clone()),
        ("request id", info.request_id.clone()),
    ];
    let rows = rows.into_iter().filter_map(|(name, value)| Some(format!("{name:<11} {}", inline(&value?))));
    let metadata = info.metadata.iter().map(|(name, value)| format!("metadata    {name}={}", inline(value)));
    rows.chain(metadata).collect::<Vec<_>>().join("\n")
}
