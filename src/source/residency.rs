//! How much of a file is in the page cache.

use std::io::IoSliceMut;
use std::os::fd::AsRawFd;

use rustix::io::{Errno, ReadWriteFlags, preadv2};

use super::file::SourceFile;
use super::mmap::cachestat;

/// Places that are looked at where the kernel cannot count.
const SAMPLES: u64 = 16;

/// Share of the file in memory, 0 to 1. An empty file is all there. Asks `cachestat` (Linux 6.5), else samples.
pub(super) fn share(file: &SourceFile) -> f64 {
    if file.bytes() == 0 {
        return 1.0;
    }
    let pages = file.bytes().div_ceil(4096);
    match cachestat(file.file().as_raw_fd(), 0, 0) {
        Some(cached) => (cached as f64 / pages as f64).min(1.0),
        None => sampled(file),
    }
}

fn sampled(file: &SourceFile) -> f64 {
    let there = |i: &u64| {
        let at = file.bytes() / SAMPLES * i;
        let mut byte = [0];
        match preadv2(file.file(), &mut [IoSliceMut::new(&mut byte)], at, ReadWriteFlags::NOWAIT) {
            Ok(read) => read > 0,
            // Filesystems in memory may not know the flag, but never have to wait.
            Err(errno) => errno == Errno::OPNOTSUPP,
        }
    };
    (0..SAMPLES).filter(there).count() as f64 / SAMPLES as f64
}
