//! Reading a file once more, from the disk if it can be had: to see whether what was uploaded is what is there.

use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use rustix::fs::{Advice, fadvise, fdatasync};
use rustix::io::Errno;

use super::file::{LOOKS_MAX, SourceFile};
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

/// The same of one state of the file: when its metadata were changed meanwhile, it is read again. What was in doubt before
/// is of the past.
///
/// - `pause`: as for [`SourceFile::open_settled`]; also asked, with no time to wait, before every block.
///
/// # Errors
/// As [`crc64_of_pieces`]; [`SourceError::Changed`] if the file is not the state that was opened, or does not stay as it
/// is.
pub fn crc64_of_one_state(
    file: &SourceFile,
    pieces: &[u64],
    pause: impl Fn(Duration) -> bool,
) -> Result<Option<Vec<u64>>, SourceError> {
    for _ in 0..LOOKS_MAX {
        if !file.settle(&pause)? {
            return Ok(None);
        }
        let sums = crc64_of_pieces(file, pieces.iter().copied(), || pause(Duration::ZERO))?;
        file.check_unchanged()?;
        if sums.is_none() || !file.is_in_doubt() {
            return Ok(sums);
        }
    }
    Err(file.never_settles())
}

/// Proves that pieces which were read before, of these lengths and checksums, are all of the file as it is now: reads them
/// again, and compares. Gives `false` if `pause` said no.
///
/// - `pause`: as for [`crc64_of_one_state`].
///
/// # Errors
/// As [`crc64_of_one_state`]; [`SourceError::Changed`] if a piece differs.
pub fn prove(file: &SourceFile, sent: &[(u64, u64)], pause: impl Fn(Duration) -> bool) -> Result<bool, SourceError> {
    let lengths: Vec<_> = sent.iter().map(|(bytes, _)| *bytes).collect();
    let Some(sums) = crc64_of_one_state(file, &lengths, pause)? else { return Ok(false) };
    match sent.iter().zip(sums).all(|((_, crc64), now)| *crc64 == now) {
        true => Ok(true),
        false => Err(file.changed("it was written to, and its time of modification set back")),
    }
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
        assert!(matches!(crc64_of_pieces(&file, [1 << 40], || true), Err(SourceError::Length { .. })));
    }

    /// A file of five bytes, and what was read of it.
    fn file_and_sums(directory: &tempfile::TempDir) -> (std::path::PathBuf, SourceFile, [(u64, u64); 2]) {
        let path = directory.path().join("f");
        std::fs::write(&path, "state").unwrap();
        let file = SourceFile::open_settled(&path, sleep).unwrap().unwrap();
        (path, file, [(2, crc64(b"st")), (3, crc64(b"ate"))])
    }

    fn sleep(time: Duration) -> bool {
        std::thread::sleep(time);
        true
    }

    #[test]
    fn what_is_touched_while_it_is_read_is_read_again() {
        let scratch = tempfile::tempdir().unwrap();
        let (path, file, [first, second]) = file_and_sums(&scratch);
        for touches in [0, 1, u32::MAX] {
            let touched = std::cell::Cell::new(0);
            let reads = std::cell::Cell::new(0);
            let result = crc64_of_one_state(&file, &[first.0, second.0], |time| {
                reads.set(reads.get() + u32::from(time.is_zero()));
                if time.is_zero() && touched.get() < touches {
                    touched.set(touched.get() + 1);
                    std::fs::hard_link(&path, scratch.path().join(format!("{touches}-{}", touched.get()))).unwrap();
                }
                sleep(time)
            });
            match touches {
                u32::MAX => assert!(result.unwrap_err().to_string().contains("all the time")),
                _ => assert_eq!(result.unwrap().unwrap(), [first.1, second.1]),
            }
            assert_eq!(reads.get(), 2 * (touches.min(LOOKS_MAX - 1) + 1), "two pieces each time");
        }
    }

    #[test]
    fn what_was_written_with_its_time_put_back_is_found() {
        let scratch = tempfile::tempdir().unwrap();
        let (path, file, sent) = file_and_sums(&scratch);
        assert!(prove(&file, &sent, sleep).unwrap());
        assert!(!prove(&file, &sent, |time| !time.is_zero() && sleep(time)).unwrap(), "no longer wanted");
        let time = std::fs::metadata(&path).unwrap().modified().unwrap();
        std::fs::write(&path, "stale").unwrap();
        std::fs::File::open(&path).unwrap().set_modified(time).unwrap();
        file.check_unchanged().unwrap();
        assert!(file.is_in_doubt());
        assert!(prove(&file, &sent, sleep).unwrap_err().to_string().contains("set back"));
    }
}
