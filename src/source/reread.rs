//! Reading a file once more, from the disk if it can be had: to see whether what was uploaded is what is there.

use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use rustix::fs::{Advice, fadvise, fdatasync};
use rustix::io::Errno;

use super::file::SourceFile;
use super::{SourceError, residency};
use crate::model::crc64::Digest;

const BLOCK_BYTES: usize = 512 << 10;

/// How often, and how long apart, the page cache is asked to drop what a transfer's connections may hold mapped for a
/// moment longer.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(20);

/// Drops the file's pages from the page cache, so that the next read asks the disk; gives the share of the file that
/// stayed, 0 to 1. Pages that somebody has mapped stay, and those of filesystems that live in memory. Blocks while what
/// is not yet on the disk is written there.
///
/// # Errors
/// [`SourceError::Read`] if the disk failed to take what was written to the file earlier.
pub fn forget(file: &SourceFile) -> Result<f64, SourceError> {
    if let Err(errno @ Errno::IO) = fdatasync(file.file()) {
        return Err(file.unreadable(0, errno.into()));
    }
    let whole: Option<NonZeroU64> = None;
    let mut stayed = 1.0;
    for _ in 0..TRIES {
        // Advice that is not taken shows in the share.
        let _ = fadvise(file.file(), 0, whole, Advice::DontNeed);
        stayed = residency::share(file);
        if stayed == 0.0 {
            break;
        }
        std::thread::sleep(PAUSE);
    }
    let _ = fadvise(file.file(), 0, whole, Advice::Sequential);
    Ok(if file.bytes() == 0 { 0.0 } else { stayed })
}

/// The CRC64 of each of consecutive pieces of the file, of these lengths in bytes, from its start. Blocks on the disk.
/// Gives `None` if `go_on` said no, which is asked before every block.
///
/// # Errors
/// [`SourceError::Changed`] if the file ends before, [`SourceError::Read`] if it cannot be read.
pub fn crc64_of_pieces(
    file: &SourceFile,
    pieces: impl IntoIterator<Item = u64>,
    go_on: impl Fn() -> bool,
) -> Result<Option<Vec<u64>>, SourceError> {
    let (mut block, mut at, mut sums) = (vec![0; BLOCK_BYTES], 0u64, Vec::new());
    for bytes in pieces {
        let (mut digest, mut left) = (Digest::new(), bytes);
        while left > 0 {
            if !go_on() {
                return Ok(None);
            }
            let wanted = left.min(BLOCK_BYTES as u64) as usize;
            let read = file.file().read_exact_at(&mut block[..wanted], at);
            read.map_err(|cause: io::Error| file.unreadable(at, cause))?;
            digest.update(&block[..wanted]);
            (at, left) = (at + wanted as u64, left - wanted as u64);
        }
        sums.push(digest.finish());
    }
    Ok(Some(sums))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::crc64::crc64;

    #[test]
    fn pieces_are_summed_in_their_order_and_forgetting_changes_nothing() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("f");
        let mut content = vec![0; 2 * BLOCK_BYTES + 77];
        fastrand::Rng::with_seed(1).fill(&mut content);
        std::fs::write(&path, &content).unwrap();
        let file = SourceFile::open(&path).unwrap();
        let first = BLOCK_BYTES + 5;
        for _ in 0..2 {
            let sums = crc64_of_pieces(&file, [first, content.len() - first].map(|b| b as u64), || true).unwrap();
            assert_eq!(sums.unwrap(), [crc64(&content[..first]), crc64(&content[first..])]);
            let stayed = forget(&file).unwrap();
            assert!((0.0..=1.0).contains(&stayed));
        }
        assert!(crc64_of_pieces(&file, [1], || false).unwrap().is_none());
        assert!(matches!(crc64_of_pieces(&file, [1 << 40], || true), Err(SourceError::Changed { .. })));
    }
}
