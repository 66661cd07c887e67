//! A file that takes the place of another: after a crash there is the old or the new one, never half of one.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use super::name::directory_of;

/// Writes `bytes` to `file`, which is new and named `aside`, and gives it the name `path`, durably. On failure `aside` is
/// removed, and what stood at `path` is as it was.
///
/// - `aside`: in the directory of `path`.
///
/// # Errors
/// What the system says.
pub fn replace(path: &Path, aside: &Path, mut file: File, bytes: &[u8]) -> io::Result<()> {
    let written = file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| std::fs::rename(aside, path));
    if let Err(cause) = written {
        let _ = std::fs::remove_file(aside);
        return Err(cause);
    }
    sync_directory(directory_of(path))
}

/// Makes the names in a directory durable.
///
/// # Errors
/// What the system says.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
