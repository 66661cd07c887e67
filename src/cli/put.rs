//! From what was typed at `haul put` to the request of an upload.

use haul::error::Error;
use haul::model::settings::{CheckpointAt, ObjectOptions, ReaderKind, UploadRequest};

use super::args::{Put, Reader};

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
