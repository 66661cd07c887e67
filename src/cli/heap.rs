//! Patience of the heap.
//!
//! glibc gives the end of a heap back to the system as soon as 128 KiB of it are free, and TLS frees and takes as much for
//! every handful of records: a page fault for each 4 KiB of them, 18,000 in an upload of 1 GiB, a tenth of its CPU.

use std::hint::black_box;

/// Freeing a block of this length, in bytes, makes glibc wait until twice as much is free (mallopt(3), "dynamic mmap
/// threshold"). More saves nothing more, and each thread may keep so much.
const BLOCK_BYTES: usize = 1 << 20;

/// Makes glibc keep what is freed for what comes next. Other allocators do not mind.
pub fn be_patient() {
    drop(black_box(Vec::<u8>::with_capacity(BLOCK_BYTES)));
}
