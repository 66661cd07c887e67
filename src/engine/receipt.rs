//! What is done when the object is in the store: the file is read once more if that was asked for, and the receipt is
//! written.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::Engine;
use super::job::Uploaded;
use super::transfer::Transfer;
use crate::checkpoint;
use crate::error::Error;
use crate::model::event::Event;
use crate::model::object::ObjectUrl;
use crate::model::receipt::{FORMAT, Receipt, SourceIdentity};
use crate::model::settings::UploadRequest;
use crate::os::output;
use crate::source::file::SourceFile;
use crate::source::reread::{crc64_of_one_state, forget};

/// Share of the file that may stay in the page cache before rereading is said to prove less than it should.
const STAYED_MAX: f64 = 0.01;
/// Mode of a receipt that replaces none, before the umask: it holds no secret.
const MODE: u32 = 0o644;

/// Reads the file once more and compares it, part by part, with what was uploaded. Blocks on the disk.
///
/// # Errors
/// [`Error::RereadDiffers`] names the first part that differs; [`Error::Source`] if the file changed meanwhile.
pub(super) fn reread(transfer: &Transfer, file: &SourceFile, uploaded: &Uploaded) -> Result<(), Error> {
    let stayed = forget(file)?;
    if stayed > STAYED_MAX {
        let percent = (stayed * 100.0).ceil();
        let path = file.path().display();
        transfer.tell(Event::Warning {
            message: format!(
                "{percent} % of {path} stayed in the page cache: what is read again is not all from the disk"
            ),
        });
    }
    let mut pieces: Vec<_> = uploaded.parts.iter().map(|part| (Some(part.part), part.bytes, part.crc64)).collect();
    if pieces.is_empty() {
        pieces.push((None, uploaded.bytes, uploaded.crc64));
    }
    let lengths: Vec<_> = pieces.iter().map(|(_, bytes, _)| *bytes).collect();
    // A file that was changed after it was uploaded differs for a better reason, which is told first.
    let sums = crc64_of_one_state(file, &lengths, |wait| transfer.settles(wait))?.ok_or(Error::Cancelled)?;
    match pieces.into_iter().zip(sums).find(|((_, _, sent), reread)| sent != reread) {
        None => Ok(()),
        Some(((part, _, sent), reread)) => Err(Error::RereadDiffers { part, sent, reread }),
    }
}

/// Whether a receipt could be written, as far as can be said before there is one: hours later it would be too late.
///
/// - `checkpoint`: where the checkpoint is, if one is kept; it must stay, as the file must.
///
/// # Errors
/// [`Error::Receipt`] says what would keep it from being written.
pub(super) fn check_place(path: &Path, file: &SourceFile, checkpoint: Option<&Path>) -> Result<(), Error> {
    let checked = with_kept(file, checkpoint, |kept| output::check(path, kept));
    checked.map_err(|cause| Error::Receipt { path: path.to_owned(), cause })
}

/// Writes the receipt: whole or not at all, and durable. Blocks on the disk.
///
/// # Errors
/// [`Error::StoredWithoutReceipt`].
pub(super) fn write(path: &Path, receipt: &Receipt, file: &SourceFile, checkpoint: Option<&Path>) -> Result<(), Error> {
    let mut json = serde_json::to_vec_pretty(receipt).expect("plain data with text keys");
    json.push(b'\n');
    let written = with_kept(file, checkpoint, |kept| output::write(path, &json, MODE, kept));
    written.map_err(|cause| Error::StoredWithoutReceipt { path: path.to_owned(), cause })
}

fn with_kept<T>(file: &SourceFile, checkpoint: Option<&Path>, work: impl FnOnce(&[&Path]) -> T) -> T {
    let files = checkpoint.map(checkpoint::files_of).unwrap_or_default();
    work(&files.iter().map(PathBuf::as_path).chain([file.path()]).collect::<Vec<_>>())
}

pub(super) fn receipt(
    engine: &Engine,
    request: &UploadRequest,
    file: &SourceFile,
    uploaded: &Uploaded,
    begun: SystemTime,
) -> Receipt {
    let url = ObjectUrl { bucket: request.bucket.clone(), key: request.key.to_string() };
    let time = |at| humantime::format_rfc3339_millis(at).to_string();
    Receipt {
        format: FORMAT,
        haul: env!("CARGO_PKG_VERSION").into(),
        url: url.to_string(),
        endpoint: engine.endpoint_name.clone(),
        bytes: uploaded.bytes,
        crc64: uploaded.crc64,
        crc64_verified: uploaded.crc64_verified,
        etag: uploaded.etag.clone(),
        version_id: uploaded.version_id.clone(),
        upload_id: uploaded.upload_id.clone(),
        request_id: uploaded.request_id.clone(),
        source: SourceIdentity::new(file.path().to_string_lossy().into_owned(), &file.fingerprint()),
        part_bytes: uploaded.part_bytes,
        parts: uploaded.parts.clone(),
        begun: time(begun),
        ended: time(SystemTime::now()),
    }
}
