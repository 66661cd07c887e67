//! Files that options name: those that are read, each once, and those that are written.

use std::io;
use std::path::Path;

use haul::os::output;
use haul::os::read::{self, CONFIG_BYTES_MAX};
use zeroize::Zeroizing;

use super::exit::{CHECKPOINT, Failure};

/// The text of a configuration or profile.
///
/// # Errors
/// `InvalidData` for more than 4 MiB, which `/dev/zero` has too, and for what is no text; else what the system says.
pub fn read_text(path: &Path) -> io::Result<Zeroizing<String>> {
    read::read_text(path, CONFIG_BYTES_MAX)
}

/// A certificate or its key.
///
/// # Errors
/// As [`read_text`], but whatever is no text is for the parser to refuse.
pub fn read_pem(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    Ok(read::plain(read::read(path, CONFIG_BYTES_MAX)?))
}

/// Refuses a place for an output where it could not be written, or would replace one of `inputs`: before any work.
///
/// # Errors
/// Exit code 8, with `hint`.
pub fn check_output(path: &Path, inputs: &[&Path], hint: &'static str) -> Result<(), Failure> {
    output::check(path, inputs).map_err(|cause| unwritten(path, &cause, hint))
}

/// An output that cannot be written.
pub fn unwritten(path: &Path, cause: &io::Error, hint: &'static str) -> Failure {
    Failure { hint: Some(hint), ..Failure::new(CHECKPOINT, format!("cannot write {}: {cause}", path.display())) }
}
