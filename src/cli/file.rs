//! Files that options name, each read once.

use std::io;
use std::path::Path;

use haul::os::read::{self, CONFIG_BYTES_MAX};
use zeroize::Zeroizing;

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
