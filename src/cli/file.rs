//! Files that are read as a whole: bounded, whatever stands at their path.

use std::fs::File;
use std::io::{self, Error, ErrorKind, Read};
use std::path::Path;

use zeroize::Zeroizing;

/// Largest configuration, profile, certificate or key that is read, in bytes: the system's whole bundle of authorities has
/// a quarter of a MiB.
const BYTES_MAX: u64 = 4 << 20;

/// # Errors
/// `InvalidData` for more than 4 MiB, which `/dev/zero` has too; else what the system says.
pub fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = File::open(path)?;
    // Large enough from the start: a buffer that grows leaves copies of secrets behind.
    let expected = file.metadata()?.len().min(BYTES_MAX) as usize;
    let mut bytes = Zeroizing::new(Vec::with_capacity(expected + 1));
    file.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 <= BYTES_MAX {
        true => Ok(bytes),
        false => Err(Error::new(ErrorKind::InvalidData, "it is larger than 4 MiB")),
    }
}

/// # Errors
/// As [`read`], and `InvalidData` for what is not UTF-8.
pub fn read_text(path: &Path) -> io::Result<Zeroizing<String>> {
    let bytes = read(path)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| Error::new(ErrorKind::InvalidData, "it is not UTF-8"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_end_is_refused() {
        assert_eq!(read(Path::new("/dev/zero")).unwrap_err().kind(), ErrorKind::InvalidData);
        assert_eq!(read(Path::new("/dev/null")).unwrap().as_slice(), b"");
    }
}
