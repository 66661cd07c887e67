//! Reads through io_uring, past the page cache where the filesystem allows it. The only file that names tokio-uring.
//!
//! Its futures cannot leave their thread, so a thread of our own runs the ring, and chunks travel to it and back over
//! channels. It only reads. Buffers are those of the pool: aligned, as direct I/O wants them.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio_uring::buf::{IoBuf, IoBufMut};

use super::buffer::{ALIGN, BufferPool, CHUNK_BYTES, Lease};
use super::file::SourceFile;
use super::{Reading, Source, SourceError};

/// Reads that the ring takes at a time; more wait in the channel.
const ENTRIES: u32 = 256;
/// Chunks started ahead of the one that is wanted.
const READ_AHEAD: usize = 2;

#[derive(Clone)]
pub struct UringSource {
    file: Arc<SourceFile>,
    pool: BufferPool,
    requests: mpsc::UnboundedSender<Request>,
    direct: bool,
}

struct Request {
    chunk: Chunk,
    lease: Lease,
    done: oneshot::Sender<io::Result<Bytes>>,
}

/// What is wanted, and the blocks around it.
#[derive(Clone, Copy)]
struct Chunk {
    /// First block: a multiple of [`ALIGN`].
    at: u64,
    /// Length of the blocks: a multiple of [`ALIGN`].
    blocks: usize,
    /// Where in the blocks the wanted bytes are.
    start: usize,
    bytes: usize,
}

impl Chunk {
    fn new(at: u64, bytes: usize) -> Self {
        let start = (at % ALIGN as u64) as usize;
        Self { at: at - start as u64, blocks: (start + bytes).next_multiple_of(ALIGN), start, bytes }
    }
}

impl UringSource {
    /// Opens the file once more for direct I/O (buffered where the filesystem refuses that) and starts the ring.
    ///
    /// # Errors
    /// If io_uring is refused: an old kernel, a container's seccomp filter, `kernel.io_uring_disabled`, locked memory.
    pub fn new(file: Arc<SourceFile>, pool: BufferPool) -> io::Result<Self> {
        // Through the descriptor, so that it is the same file whatever its path names by now.
        let path = format!("/proc/self/fd/{}", file.file().as_raw_fd());
        let direct = File::options().read(true).custom_flags(libc::O_DIRECT).open(&path);
        let (descriptor, direct) = match direct {
            Ok(descriptor) => (descriptor, true),
            Err(_) => (file.file().try_clone()?, false),
        };
        let (requests, queue) = mpsc::unbounded_channel();
        let (ready, started) = std::sync::mpsc::channel();
        std::thread::Builder::new().name("haul-ring".into()).spawn(move || run(descriptor, queue, &ready))?;
        started.recv().unwrap_or_else(|_| Err(io::Error::other("the ring's thread has ended")))?;
        Ok(Self { file, pool, requests, direct })
    }

    /// Whether reads go past the page cache.
    pub fn is_direct(&self) -> bool {
        self.direct
    }
}

impl Source for UringSource {
    /// What does not lie in one of the file's own chunks has, with the blocks around it, no room in a buffer, and is read in
    /// two steps.
    fn read(&self, at: u64, bytes: usize) -> Reading {
        let room = CHUNK_BYTES - (at % CHUNK_BYTES as u64) as usize;
        if bytes > room {
            let (source, first) = (self.clone(), self.read(at, room));
            return Reading::new(async move {
                let first = first.await?.to_vec();
                let rest = source.read(at + room as u64, bytes - room).await?;
                Ok([&first[..], &rest].concat().into())
            });
        }
        let (chunk, file, requests) = (Chunk::new(at, bytes), self.file.clone(), self.requests.clone());
        let result = move |reading: oneshot::Receiver<io::Result<Bytes>>| async move {
            let stopped = |_| Err(io::Error::other("the ring's thread has ended"));
            let result = reading.await.unwrap_or_else(stopped);
            result.map_err(|cause| -> SourceError { file.unreadable(at, cause) })
        };
        match self.pool.try_lease() {
            Some(lease) => Reading::new(result(begin(&requests, chunk, lease))),
            None => Reading::with_lease(&self.pool, move |lease| result(begin(&requests, chunk, lease))),
        }
    }

    fn chunk_bytes(&self) -> usize {
        CHUNK_BYTES
    }

    fn read_ahead(&self) -> usize {
        READ_AHEAD
    }
}

fn begin(
    requests: &mpsc::UnboundedSender<Request>,
    chunk: Chunk,
    lease: Lease,
) -> oneshot::Receiver<io::Result<Bytes>> {
    let (done, reading) = oneshot::channel();
    // If the thread has ended, the receiver hears of it.
    let _ = requests.send(Request { chunk, lease, done });
    reading
}

/// The ring's thread: ends when the source and all its reads are gone.
fn run(file: File, mut queue: mpsc::UnboundedReceiver<Request>, ready: &std::sync::mpsc::Sender<io::Result<()>>) {
    let mut builder = tokio_uring::builder();
    builder.entries(ENTRIES);
    let runtime = match tokio_uring::Runtime::new(&builder) {
        Ok(runtime) => runtime,
        Err(cause) => {
            let _ = ready.send(Err(cause));
            return;
        }
    };
    let _ = ready.send(Ok(()));
    runtime.block_on(async move {
        let file = std::rc::Rc::new(tokio_uring::fs::File::from_std(file));
        let room = std::rc::Rc::new(tokio::sync::Semaphore::new(ENTRIES as usize));
        while let Some(Request { chunk, lease, done }) = queue.recv().await {
            let (file, room) = (file.clone(), room.clone());
            tokio_uring::spawn(async move {
                let _room = room.acquire().await;
                let _ = done.send(read_chunk(&file, chunk, lease).await);
            });
        }
    });
}

/// Reads the blocks of a chunk, in as many reads as it takes.
async fn read_chunk(file: &tokio_uring::fs::File, chunk: Chunk, lease: Lease) -> io::Result<Bytes> {
    let wanted = chunk.start + chunk.bytes;
    let mut buffer = RingBuffer { lease, from: 0, to: chunk.blocks };
    loop {
        let at = chunk.at + buffer.from as u64;
        let (result, returned) = file.read_at(buffer, at).await;
        buffer = returned;
        match result {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => buffer.from += read,
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) => return Err(cause),
        }
        if buffer.from >= wanted {
            return Ok(buffer.lease.freeze(chunk.start..wanted));
        }
    }
}

/// The part of a lease that the kernel is to fill.
struct RingBuffer {
    lease: Lease,
    from: usize,
    to: usize,
}

// SAFETY: `stable_ptr` points into the buffer of the lease, which stays where it is until the lease is dropped, also
// when this struct moves; the kernel's side owns the struct until the read completes. All bytes of a pooled buffer are
// initialized, and `from <= to <= CHUNK_BYTES` holds: `blocks` of a chunk fit a buffer, and `from` grows by what was
// read into `from .. to`.
unsafe impl IoBuf for RingBuffer {
    fn stable_ptr(&self) -> *const u8 {
        // SAFETY: `from` is within the allocation, see above.
        unsafe { self.lease.start().as_ptr().add(self.from) }
    }

    fn bytes_init(&self) -> usize {
        self.to - self.from
    }

    fn bytes_total(&self) -> usize {
        self.to - self.from
    }
}

// SAFETY: as for `IoBuf`; a lease is the only owner of its buffer, so the kernel is the only writer.
unsafe impl IoBufMut for RingBuffer {
    fn stable_mut_ptr(&mut self) -> *mut u8 {
        // SAFETY: `from` is within the allocation, see above.
        unsafe { self.lease.start().as_ptr().add(self.from) }
    }

    /// Everything is initialized already.
    unsafe fn set_init(&mut self, _: usize) {}
}
