//! Pooled buffers: mapped in huge pages on first need, aligned for direct I/O, reused, and turned into [`Bytes`] without a
//! copy.
//!
//! Memory is a sum: at most [`BufferPool::bytes_max`], whatever the number of files, parts and readers. A lease waits
//! when all buffers are out; each is back in the pool when the last clone of its [`Bytes`] is dropped.

use std::io;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use memmap2::{Advice, MmapMut};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Alignment of every buffer, in bytes: what direct I/O asks of any disk in use.
pub const ALIGN: usize = 4096;
/// Length of a buffer, and of the chunks that are read into one.
///
/// Large enough to save wake-ups, small enough to stay in the second-level cache (1 MiB) between read, checksum and
/// socket. Whole uploads of 2 GiB on two cores, 4 parts in flight, client CPU-s/GiB through pread with 64, 128, 256 and
/// 512 KiB: 0.46, 0.47, 0.46, 0.41.
pub const CHUNK_BYTES: usize = 512 << 10;
/// Length and alignment of the memory that buffers are cut from: a huge page.
///
/// Its bytes are side by side in the machine's memory too, so that a direct read names the disk one stretch instead of 128
/// pages: 2.8 instead of 1.3 GB/s from the same virtual disk (`tuning/README.md`, what was tried).
const SLAB_BYTES: usize = 2 << 20;

const _: () = assert!(CHUNK_BYTES.is_multiple_of(ALIGN) && SLAB_BYTES.is_multiple_of(CHUNK_BYTES));

/// Memory for several buffers.
struct Slab {
    map: MmapMut,
    /// Where the first buffer begins.
    offset: usize,
    bytes: usize,
}

impl Slab {
    /// - `bytes`: a multiple of [`CHUNK_BYTES`], [`SLAB_BYTES`] at most. Less is not worth a huge page, which is in memory as
    ///   a whole.
    fn new(bytes: usize) -> io::Result<Self> {
        let huge = bytes == SLAB_BYTES;
        let align = if huge { SLAB_BYTES } else { ALIGN };
        // What is mapped for the sake of the alignment is never touched, and takes no memory.
        let map = MmapMut::map_anon(bytes + align)?;
        let offset = map.as_ptr().align_offset(align);
        if huge {
            // Without them it works as well, and slower.
            let _ = map.advise_range(Advice::HugePage, offset, bytes);
        }
        Ok(Self { map, offset, bytes })
    }

    fn buffers(&mut self) -> impl Iterator<Item = Buffer> {
        let all = &mut self.map[self.offset..self.offset + self.bytes];
        all.chunks_exact_mut(CHUNK_BYTES).map(|bytes| Buffer(NonNull::from(bytes).cast()))
    }
}

/// [`CHUNK_BYTES`] of a slab that are nobody else's.
struct Buffer(NonNull<u8>);

// SAFETY: a `Buffer` is the only one with access to its stretch of the slab, which has no ties to any thread.
unsafe impl Send for Buffer {}
// SAFETY: `&Buffer` only reads; writing needs `&mut Buffer`.
unsafe impl Sync for Buffer {}

impl Buffer {
    fn bytes(&self) -> &[u8] {
        // SAFETY: valid as long as the slab, which the pool keeps: buffers are in the pool or in a lease, and every lease
        // keeps the pool. Initialized, since the kernel maps zeros and only bytes are ever written. `&self` excludes
        // writers, who need `&mut self`, and slabs hand out no stretch twice. The length is that of the stretch, which
        // fits `isize`.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr(), CHUNK_BYTES) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `&mut self` is the only access.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_ptr(), CHUNK_BYTES) }
    }
}

/// A bounded set of buffers; clones share it.
#[derive(Clone)]
pub struct BufferPool {
    shared: Arc<Shared>,
}

struct Shared {
    memory: Mutex<Memory>,
    /// One permit for each buffer that may be out.
    permits: Arc<Semaphore>,
    buffers_max: usize,
    /// Gives memory for so many bytes of buffers.
    map: fn(usize) -> io::Result<Slab>,
}

#[derive(Default)]
struct Memory {
    free: Vec<Buffer>,
    /// Never touched again, and unmapped with the pool.
    slabs: Vec<Slab>,
}

impl Shared {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// A buffer that is free, or one of a new slab; `None` if the system gives no memory for more than there are.
    ///
    /// # Errors
    /// What the system says if it gives no memory for even one.
    fn take(&self) -> io::Result<Option<Buffer>> {
        let mut memory = self.memory();
        if let Some(buffer) = memory.free.pop() {
            return Ok(Some(buffer));
        }
        let made: usize = memory.slabs.iter().map(|slab| slab.bytes).sum();
        let bytes = (self.buffers_max * CHUNK_BYTES - made).min(SLAB_BYTES);
        match (self.map)(bytes).or_else(|_| (self.map)(CHUNK_BYTES)) {
            Ok(mut slab) => {
                memory.free.extend(slab.buffers());
                memory.slabs.push(slab);
                Ok(Some(memory.free.pop().expect("as there is a permit, not all buffers were made")))
            }
            Err(_) if made > 0 => Ok(None),
            Err(cause) => Err(cause),
        }
    }
}

impl BufferPool {
    /// A pool of as many buffers as fit in `bytes`, at least two.
    pub fn new(bytes: usize) -> Self {
        Self::mapped_by(Slab::new, bytes)
    }

    fn mapped_by(map: fn(usize) -> io::Result<Slab>, bytes: usize) -> Self {
        let buffers_max = (bytes / CHUNK_BYTES).clamp(2, Semaphore::MAX_PERMITS);
        let permits = Arc::new(Semaphore::new(buffers_max));
        Self { shared: Arc::new(Shared { memory: Mutex::default(), permits, buffers_max, map }) }
    }

    /// Most memory that the pool ever holds, in bytes.
    pub fn bytes_max(&self) -> usize {
        self.shared.buffers_max * CHUNK_BYTES
    }

    /// A buffer, once one is free; first come, first served. Where memory is refused, those that are there have to do.
    ///
    /// # Errors
    /// What the system says if there is no memory for even one.
    pub async fn lease(&self) -> io::Result<Lease> {
        loop {
            let permit = self.shared.permits.clone().acquire_owned().await;
            if let Some(lease) = self.lease_with(permit.expect("the semaphore is never closed"))? {
                return Ok(lease);
            }
        }
    }

    /// A buffer, if one is free now.
    pub fn try_lease(&self) -> Option<Lease> {
        let permit = self.shared.permits.clone().try_acquire_owned().ok()?;
        self.lease_with(permit).ok().flatten()
    }

    fn lease_with(&self, permit: OwnedSemaphorePermit) -> io::Result<Option<Lease>> {
        match self.shared.take()? {
            Some(buffer) => Ok(Some(Lease { buffer: Some(buffer), pool: self.shared.clone(), _permit: permit })),
            // The pool is smaller from now on: each buffer that there is has a permit of its own.
            None => {
                permit.forget();
                Ok(None)
            }
        }
    }
}

/// A buffer on loan.
pub struct Lease {
    /// `None` only while it is dropped.
    buffer: Option<Buffer>,
    pool: Arc<Shared>,
    /// Given back after the buffer: fields are dropped after `drop` ran.
    _permit: OwnedSemaphorePermit,
}

impl Lease {
    fn buffer(&self) -> &Buffer {
        self.buffer.as_ref().expect("taken only by drop")
    }

    /// All its bytes; what was never written is zero or left from an earlier loan.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.buffer.as_mut().expect("taken only by drop").bytes_mut()
    }

    /// Where the bytes are; they stay there until the lease is dropped.
    pub(super) fn start(&self) -> NonNull<u8> {
        self.buffer().0
    }

    /// The bytes of `range` as [`Bytes`], without a copy.
    pub fn freeze(self, range: Range<usize>) -> Bytes {
        Bytes::from_owner(Frozen(self)).slice(range)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            self.pool.memory().free.push(buffer);
        }
    }
}

/// A lease that is only read any more.
struct Frozen(Lease);

impl AsRef<[u8]> for Frozen {
    fn as_ref(&self) -> &[u8] {
        self.0.buffer().bytes()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;

    #[test]
    fn a_pool_never_lends_more_than_it_has_and_reuses_what_comes_back() {
        let pool = BufferPool::new(3 * CHUNK_BYTES);
        assert_eq!(pool.bytes_max(), 3 * CHUNK_BYTES);
        let mut leases: Vec<_> = (0..3).map(|_| pool.try_lease().unwrap()).collect();
        assert!(pool.try_lease().is_none());
        let mut lease = leases.pop().unwrap();
        assert_eq!(lease.start().as_ptr() as usize % ALIGN, 0);
        lease.bytes_mut()[5..8].copy_from_slice(b"abc");
        let place = lease.start();
        let bytes = lease.freeze(5..8);
        let clone = bytes.clone();
        drop(bytes);
        assert!(pool.try_lease().is_none(), "a clone still holds the buffer");
        assert_eq!(&clone[..], b"abc");
        drop(clone);
        assert_eq!(pool.try_lease().unwrap().start(), place);
    }

    #[test]
    fn no_buffer_is_anothers_whatever_the_number_and_no_more_is_mapped_than_may_be() {
        for buffers in [2, 3, 4, 5, 8, 11] {
            let pool = BufferPool::new(buffers * CHUNK_BYTES);
            let mut leases: Vec<_> = std::iter::from_fn(|| pool.try_lease()).collect();
            assert_eq!(leases.len(), buffers);
            for (i, lease) in leases.iter_mut().enumerate() {
                assert!(lease.bytes_mut().iter().all(|byte| *byte == 0));
                lease.bytes_mut().fill(i as u8 + 1);
            }
            for (i, lease) in leases.iter_mut().enumerate() {
                assert!(lease.bytes_mut().iter().all(|byte| *byte == i as u8 + 1), "buffer {i} of {buffers}");
            }
            let memory = pool.shared.memory();
            assert_eq!(memory.slabs.iter().map(|slab| slab.bytes).sum::<usize>(), pool.bytes_max());
        }
    }

    #[test]
    fn bytes_outlive_the_pool() {
        let pool = BufferPool::new(4 * CHUNK_BYTES);
        let mut lease = pool.try_lease().unwrap();
        lease.bytes_mut().fill(7);
        drop(pool);
        let bytes = lease.freeze(0..CHUNK_BYTES);
        assert!(bytes.iter().all(|byte| *byte == 7));
    }

    #[tokio::test]
    async fn who_waits_gets_the_buffer_that_comes_back() {
        let pool = BufferPool::new(0);
        let (one, two) = (pool.lease().await.unwrap(), pool.lease().await.unwrap());
        let mut waiting = Box::pin(pool.lease());
        assert!(futures_util::poll!(&mut waiting).is_pending());
        drop(one);
        waiting.await.unwrap();
        drop(two);
    }

    #[tokio::test]
    async fn where_memory_is_refused_the_buffers_that_are_there_have_to_do() {
        static SLABS: AtomicUsize = AtomicUsize::new(0);
        /// Two, and no more.
        fn some(bytes: usize) -> io::Result<Slab> {
            if SLABS.fetch_add(1, Relaxed) < 2 { Slab::new(bytes) } else { Err(io::ErrorKind::OutOfMemory.into()) }
        }
        let pool = BufferPool::mapped_by(some, 100 * CHUNK_BYTES);
        let mut out: Vec<_> = std::iter::from_fn(|| pool.try_lease()).collect();
        assert_eq!(out.len(), 2 * SLAB_BYTES / CHUNK_BYTES);
        let mut waiting = Box::pin(pool.lease());
        assert!(futures_util::poll!(&mut waiting).is_pending());
        out.pop();
        waiting.await.unwrap();
        drop(out);
        let all: Vec<_> = std::iter::from_fn(|| pool.try_lease()).collect();
        assert_eq!(all.len(), 2 * SLAB_BYTES / CHUNK_BYTES);
    }

    #[tokio::test]
    async fn where_there_is_no_memory_for_one_buffer_nobody_waits() {
        fn none(_: usize) -> io::Result<Slab> {
            Err(io::ErrorKind::OutOfMemory.into())
        }
        assert!(BufferPool::mapped_by(none, 0).lease().await.is_err());
    }
}
