//! What is done when the object is in the store: the file is read once more if that was asked for, and the receipt is
//! written.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::Access;

use super::Engine;
use super::job::Uploaded;
use super::transfer::Transfer;
use crate::error::Error;
use crate::model::event::Event;
use crate::model::object::ObjectUrl;
use crate::model::receipt::{FORMAT, Receipt, SourceIdentity};
use crate::model::settings::UploadRequest;
use crate::source::file::SourceFile;
use crate::source::reread::{crc64_of_one_state, forget};

/// Share of the file that may stay in the page cache before rereading is said to prove less than it should.
const STAYED_MAX: f64 = 0.01;

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
/// # Errors
/// [`Error::Receipt`] if the directory is missing or may not be written to, or the path is a directory itself.
pub(super) fn check_place(path: &Path) -> Result<(), Error> {
    let refused = |cause: io::Error| Error::Receipt { path: path.to_owned(), cause };
    if path.is_dir() {
        return Err(refused(io::ErrorKind::IsADirectory.into()));
    }
    rustix::fs::access(directory_of(path), Access::WRITE_OK | Access::EXEC_OK).map_err(|e| refused(e.into()))
}

/// Writes the receipt: whole or not at all, and durable. Blocks on the disk.
///
/// # Errors
/// [`Error::Receipt`]; the object is stored nevertheless.
pub(super) fn write(path: &Path, receipt: &Receipt) -> Result<(), Error> {
    let mut json = serde_json::to_vec_pretty(receipt).expect("plain data with text keys");
    json.push(b'\n');
    replace(path, &json).map_err(|cause| Error::Receipt { path: path.to_owned(), cause })
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

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Puts `bytes` where `path` is, through a file beside it, so that no crash leaves half of them.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".{}.new", std::process::id()));
    let aside = PathBuf::from(aside);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&aside)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| std::fs::rename(&aside, path));
    if let Err(cause) = written {
        let _ = std::fs::remove_file(&aside);
        return Err(cause);
    }
    File::open(directory_of(path))?.sync_all()
}
