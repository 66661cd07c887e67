//! `haul verify`: the CRC64 of a file against that of the object; nothing is downloaded.

use std::io::Read;
use std::path::Path;

use haul::model::crc64::Digest;
use haul::model::object::ObjectUrl;
use haul::source::file::SourceFile;

use super::args::Connect;
use super::connect::{connect, wait};
use super::exit::{Failure, INTEGRITY, REFUSED, SOURCE};
use super::report::print;

const BLOCK_BYTES: usize = 256 << 10;

/// # Errors
/// Exit code 6 if they differ, 5 if the store names no checksum, else see [`super::exit`].
pub fn run(file: &Path, url: &ObjectUrl, typed: &Connect, quiet: bool) -> Result<(), Failure> {
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let key = url.key_for(name).map_err(|e| Failure::usage(e.to_string()))?;
    let opened = SourceFile::open(file).map_err(haul::error::Error::from)?;
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
    let read = crc64_of(file)?;
    opened.check_unchanged().map_err(haul::error::Error::from)?;
    if read != stored {
        return Err(differ(format!("CRC64 {read} and {stored}")));
    }
    if !quiet {
        print(format_args!("{} and {object} are equal: {} bytes, CRC64 {stored}", file.display(), info.bytes));
    }
    Ok(())
}

fn crc64_of(path: &Path) -> Result<u64, Failure> {
    let unreadable = |cause| Failure::new(SOURCE, format!("cannot read {}: {cause}", path.display()));
    let mut file = std::fs::File::open(path).map_err(unreadable)?;
    let (mut digest, mut block) = (Digest::new(), vec![0; BLOCK_BYTES]);
    loop {
        match file.read(&mut block).map_err(unreadable)? {
            0 => return Ok(digest.finish()),
            bytes => digest.update(&block[..bytes]),
        }
    }
}
