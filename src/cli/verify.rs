//! `haul verify`: the CRC64 of a file against that of the object, or against a receipt; nothing is downloaded.

use std::path::Path;

use haul::error::Error;
use haul::model::object::ObjectUrl;
use haul::model::receipt::Receipt;
use haul::os::read::read_text;
use haul::source::file::SourceFile;
use haul::source::reread::crc64_of_one_state;

use super::args::Connect;
use super::connect::{connect, wait};
use super::exit::{Failure, INTEGRITY, REFUSED, USAGE};
use super::report::print;

/// Longest receipt that is read: 10,000 parts need some 4 MiB.
const RECEIPT_BYTES_MAX: u64 = 64 << 20;

/// # Errors
/// Exit code 6 if they differ, 5 if the store names no checksum, else see [`super::exit`].
pub fn run(
    file: &Path,
    url: Option<&ObjectUrl>,
    receipt: Option<&Path>,
    typed: &Connect,
    quiet: bool,
) -> Result<(), Failure> {
    if let Some(path) = receipt {
        against_receipt(file, path, quiet)?;
    }
    url.map_or(Ok(()), |url| against_object(file, url, typed, quiet))
}

fn against_object(file: &Path, url: &ObjectUrl, typed: &Connect, quiet: bool) -> Result<(), Failure> {
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let key = url.key_for(name).map_err(|e| Failure::usage(e.to_string()))?;
    let opened = open(file)?;
    let connection = connect(typed, &url.bucket)?;
    let info = wait(connection.client.stat(&url.bucket, &key))?;
    let object = ObjectUrl { bucket: url.bucket.clone(), key: key.to_string() };
    let differ = |what: String| Failure {
        hint: Some("the object is not this state of the file: upload it again if the file is right"),
        ..Failure::new(INTEGRITY, format!("{} and {object} differ: {what}", file.display()))
    };
    if info.bytes != opened.bytes() {
        return Err(differ(format!("{} and {} bytes", opened.bytes(), info.bytes)));
    }
    let Some(stored) = info.crc64 else {
        let message = format!("the store names no CRC64 for {object}, so it cannot be compared");
        return Err(Failure { hint: None, ..Failure::new(REFUSED, message) });
    };
    let read = sums(&opened, &[info.bytes])?[0];
    if read != stored {
        return Err(differ(format!("CRC64 {read} and {stored}")));
    }
    if !quiet {
        print(format_args!("{} and {object} are equal: {} bytes, CRC64 {stored}", file.display(), info.bytes));
    }
    Ok(())
}

/// Needs neither the store nor a key: the receipt says what was uploaded.
fn against_receipt(file: &Path, path: &Path, quiet: bool) -> Result<(), Failure> {
    let receipt = read_receipt(path)?;
    let opened = open(file)?;
    let differ = |what: String| Failure {
        hint: Some("the file is not what was uploaded then: suspect the disk if nobody has changed it"),
        ..Failure::new(INTEGRITY, format!("{} is not what {} was made of: {what}", file.display(), receipt.url))
    };
    if receipt.bytes != opened.bytes() {
        return Err(differ(format!("it has {} bytes, the object {}", opened.bytes(), receipt.bytes)));
    }
    let mut pieces: Vec<_> =
        receipt.parts.iter().map(|p| (format!("part {} (from byte {})", p.part, p.offset), p.bytes, p.crc64)).collect();
    if pieces.is_empty() {
        pieces.push(("the whole".into(), receipt.bytes, receipt.crc64));
    }
    let lengths: Vec<_> = pieces.iter().map(|(_, bytes, _)| *bytes).collect();
    for ((name, _, uploaded), read) in pieces.into_iter().zip(sums(&opened, &lengths)?) {
        if read != uploaded {
            return Err(differ(format!("the CRC64 of {name} is {read}, of what was uploaded {uploaded}")));
        }
    }
    if !quiet {
        let Receipt { url, bytes, crc64, .. } = &receipt;
        print(format_args!("{} is what {url} was made of: {bytes} bytes, CRC64 {crc64}", file.display()));
    }
    Ok(())
}

fn read_receipt(path: &Path) -> Result<Receipt, Failure> {
    let refused = |what: String| Failure::new(USAGE, format!("cannot use the receipt {}: {what}", path.display()));
    let json = read_text(path, RECEIPT_BYTES_MAX).map_err(|e| refused(e.to_string()))?;
    Receipt::from_json(json.as_bytes()).map_err(|e| refused(e.to_string()))
}

fn open(file: &Path) -> Result<SourceFile, Failure> {
    Ok(SourceFile::open(file).map_err(Error::from)?)
}

/// The checksums of pieces of one state of a file.
fn sums(file: &SourceFile, lengths: &[u64]) -> Result<Vec<u64>, Failure> {
    let pause = |wait| {
        std::thread::sleep(wait);
        true
    };
    let sums = crc64_of_one_state(file, lengths, pause).map_err(Error::from)?;
    Ok(sums.ok_or(Error::Cancelled)?)
}
