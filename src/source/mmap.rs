//! Windows of the mapped file: no copy between page cache and socket.
//!
//! The file is mapped in windows, so that resident memory stays bounded, and a chunk that is not in memory is populated
//! before it is handed out. Touching a page behind a new end of the file would kill the process. Populating answers an
//! error instead; what is cut away later, or was in memory and not populated, is caught by a `SIGBUS` handler, which puts
//! a page of zeros there and marks the window: [`Source::check`] then fails, and the chunk's checksum is worth nothing.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Once, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::ready;
use memmap2::{Advice, Mmap, MmapOptions};

use super::file::SourceFile;
use super::pread::PreadSource;
use super::{Reading, Source, SourceError};

const PAGE: usize = 4096;
/// Length of a window. Larger ones save system calls, smaller ones resident memory.
const WINDOW_BYTES: usize = 8 << 20;
/// Windows that stay mapped for the chunks to come, at most.
const WINDOWS_KEPT: usize = 32;
/// Costs no memory, so larger than a buffer: fewer wake-ups for the same bytes (`tuning/README.md`, what was tried).
const CHUNK_BYTES: usize = 2 << 20;
/// Windows of all transfers of a process that can be guarded at a time.
const GUARDS_MAX: usize = 16384;

/// How long a window whose pages were all in memory is not asked again, which cost 7 % of an upload's CPU per chunk.
/// Later some may have been evicted, and whoever populates them waits for the disk.
const RESIDENCY_TRUSTED: Duration = Duration::from_secs(1);

const _: () = assert!(WINDOW_BYTES.is_multiple_of(CHUNK_BYTES));

pub struct MmapSource {
    file: Arc<SourceFile>,
    windows_kept: usize,
    /// The windows used last, latest at the back.
    kept: Mutex<VecDeque<Arc<Window>>>,
    /// A page was missing under some window that is gone by now. Windows share it, and nothing else: one that held the
    /// source would keep itself mapped for ever.
    torn: Arc<AtomicBool>,
    /// Reads what cannot be mapped for want of memory.
    spare: Option<Arc<PreadSource>>,
}

impl MmapSource {
    /// - `mapped_bytes`: so much may stay mapped beside the windows that are in use; one window at least, 256 MiB at most.
    ///
    /// # Errors
    /// If the handler cannot be installed or the file cannot be mapped at all.
    pub fn new(file: Arc<SourceFile>, mapped_bytes: u64) -> io::Result<Self> {
        install_handler()?;
        let windows_kept = (mapped_bytes / WINDOW_BYTES as u64).clamp(1, WINDOWS_KEPT as u64) as usize;
        let source = Self { file, windows_kept, kept: Mutex::default(), torn: Arc::default(), spare: None };
        if source.file.bytes() > 0 {
            source.window(0)?;
        }
        Ok(source)
    }

    /// With a reader for what cannot be mapped for want of memory.
    pub fn with_spare(self, spare: Arc<PreadSource>) -> Self {
        Self { spare: Some(spare), ..self }
    }

    /// The window that holds byte `at`, mapped if it is not.
    fn window(&self, at: u64) -> io::Result<Arc<Window>> {
        let start = at - at % WINDOW_BYTES as u64;
        let mut kept = self.kept.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(i) = kept.iter().position(|window| window.at == start) {
            let window = kept.remove(i).expect("found just now");
            kept.push_back(window.clone());
            return Ok(window);
        }
        let bytes = (WINDOW_BYTES as u64).min(self.file.bytes().saturating_sub(start)) as usize;
        let window = Arc::new(Window::map(&self.file, start, bytes, self.torn.clone())?);
        kept.push_back(window.clone());
        let gone = if kept.len() > self.windows_kept { kept.pop_front() } else { None };
        // Unmapping takes its time; nobody needs to wait for it.
        drop(kept);
        drop(gone);
        Ok(window)
    }

    fn chunk(&self, at: u64, bytes: usize) -> Result<Slice, SourceError> {
        let window = self.window(at).map_err(|cause| self.file.unreadable(at, cause))?;
        if window.guard.is_torn() {
            return Err(self.file.missing_page(at));
        }
        let start = (at - window.at) as usize;
        Ok(Slice { range: start..start + bytes, window })
    }
}

impl Source for MmapSource {
    /// A chunk must lie in one window; those that start at a multiple of the chunk length do.
    fn read(&self, at: u64, bytes: usize) -> Reading {
        let window_end = at - at % WINDOW_BYTES as u64 + WINDOW_BYTES as u64;
        if at + bytes as u64 > window_end {
            let (first, rest) = ((window_end - at) as usize, (at + bytes as u64 - window_end) as usize);
            return join(self.read(at, first), self.read(window_end, rest));
        }
        let slice = match self.chunk(at, bytes) {
            Ok(slice) => slice,
            Err(SourceError::NoMemory { cause }) => {
                return match &self.spare {
                    Some(spare) => in_pieces(spare.clone(), at, bytes),
                    None => Reading::new(ready(Err(SourceError::NoMemory { cause }))),
                };
            }
            Err(error) => return Reading::new(ready(Err(error))),
        };
        // Populating what is there already looks at every page once more: 14 % of an upload's CPU. The handler guards.
        if slice.is_resident() {
            return Reading::new(ready(Ok(Bytes::from_owner(slice))));
        }
        let (file, again) = (self.file.clone(), self.file.clone());
        let populating = tokio::task::spawn_blocking(move || slice.populated(&again));
        Reading::new(async move { populating.await.unwrap_or_else(|e| Err(file.unreadable(at, io::Error::other(e)))) })
    }

    fn chunk_bytes(&self) -> usize {
        CHUNK_BYTES
    }

    fn read_ahead(&self) -> usize {
        0
    }

    fn let_go(&self) {
        let gone = std::mem::take(&mut *self.kept.lock().unwrap_or_else(|e| e.into_inner()));
        drop(gone);
    }

    fn check(&self) -> Result<(), SourceError> {
        let kept = self.kept.lock().unwrap_or_else(|e| e.into_inner());
        let torn = self.torn.load(Ordering::Acquire) || kept.iter().any(|window| window.guard.is_torn());
        if torn { Err(self.file.missing_page(0)) } else { Ok(()) }
    }
}

/// Through buffers, which are shorter than a chunk.
fn in_pieces(reader: Arc<PreadSource>, at: u64, bytes: usize) -> Reading {
    Reading::new(async move {
        let mut chunk = Vec::new();
        chunk.try_reserve_exact(bytes).map_err(|e| SourceError::NoMemory { cause: io::Error::other(e) })?;
        while chunk.len() < bytes {
            let from = at + chunk.len() as u64;
            let piece = reader.read(from, reader.chunk_at(from, at + bytes as u64)).await?;
            chunk.extend_from_slice(&piece);
        }
        Ok(chunk.into())
    })
}

/// Two reads in one; only reads that begin anywhere but at a chunk's start need it, and such are rare.
fn join(first: Reading, second: Reading) -> Reading {
    Reading::new(async move {
        let (first, second) = (first.await?, second.await?);
        Ok([first, second].concat().into())
    })
}

/// A mapped stretch of the file.
struct Window {
    at: u64,
    /// Until then its pages are taken to be in memory, as all of them were when it was mapped.
    resident_until: Option<Instant>,
    map: Mmap,
    guard: Guard,
    torn: Arc<AtomicBool>,
}

impl Window {
    fn map(file: &SourceFile, at: u64, bytes: usize, torn: Arc<AtomicBool>) -> io::Result<Self> {
        // SAFETY: validity: the mapping is owned by the window and lives as long as any slice of it. Initialization:
        // pages of a file are. Aliasing: another process may write to the file, which cannot be prevented; every byte
        // is read as a plain `u8`, for which any value is valid, but the compiler may assume that it does not change
        // between two reads. That part of the promise is weak: the checksum is computed in one pass, the socket copies
        // in the kernel, and a difference between the two is found by the store's checksum. Length: a page behind a
        // new end of the file is replaced by the handler of this module before anything sees it.
        let map = unsafe { MmapOptions::new().offset(at).len(bytes).map(file.file())? };
        let start = map.as_ptr() as usize;
        let guard = Guard::new(start..start + bytes.next_multiple_of(PAGE))?;
        let resident = cachestat(file.file().as_raw_fd(), at, bytes as u64) == Some(bytes.div_ceil(PAGE) as u64);
        let resident_until = resident.then(|| Instant::now() + RESIDENCY_TRUSTED);
        Ok(Self { at, resident_until, map, guard, torn })
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        if self.guard.is_torn() {
            self.torn.store(true, Ordering::Release);
        }
    }
}

/// A chunk of a window.
struct Slice {
    window: Arc<Window>,
    range: Range<usize>,
}

impl AsRef<[u8]> for Slice {
    fn as_ref(&self) -> &[u8] {
        &self.window.map[self.range.clone()]
    }
}

impl Slice {
    /// Makes sure that the pages are there, so that touching them neither waits nor kills.
    fn populated(self, file: &SourceFile) -> Result<Bytes, SourceError> {
        let (start, bytes) = (self.range.start - self.range.start % PAGE, self.range.end);
        match self.window.map.advise_range(Advice::PopulateRead, start, bytes - start) {
            Ok(()) => Ok(Bytes::from_owner(self)),
            // Linux before 5.14 does not know the advice; the handler alone guards then.
            Err(cause) if cause.raw_os_error() == Some(libc::EINVAL) => Ok(Bytes::from_owner(self)),
            Err(cause) if cause.raw_os_error() == Some(libc::EFAULT) => {
                Err(file.missing_page(self.window.at + self.range.start as u64))
            }
            Err(cause) => Err(file.unreadable(self.window.at + self.range.start as u64, cause)),
        }
    }

    /// Whether populating would not wait for the disk.
    fn is_resident(&self) -> bool {
        if self.window.resident_until.is_some_and(|until| Instant::now() < until) {
            return true;
        }
        let start = self.range.start - self.range.start % PAGE;
        let bytes = self.range.end - start;
        let mut pages = [0u8; CHUNK_BYTES / PAGE + 1];
        let count = bytes.div_ceil(PAGE);
        if count > pages.len() {
            return false;
        }
        // SAFETY: `start .. start + bytes` lies in the mapping, which `self` keeps; `pages` has a byte for each of its
        // pages; the call reads no page and writes only to `pages`.
        let result =
            unsafe { libc::mincore(self.window.map.as_ptr().add(start).cast_mut().cast(), bytes, pages.as_mut_ptr()) };
        result == 0 && pages[..count].iter().all(|page| page & 1 == 1)
    }
}

/// Stretches of memory in which a missing page is ours to mend. Read by the signal handler, so made of atomics alone.
static GUARDS: [Slot; GUARDS_MAX] = [const { Slot::empty() }; GUARDS_MAX];

struct Slot {
    /// First address; 0 while the slot is free, 1 while it is being filled.
    start: AtomicUsize,
    end: AtomicUsize,
    torn: AtomicBool,
}

impl Slot {
    const fn empty() -> Self {
        Self { start: AtomicUsize::new(0), end: AtomicUsize::new(0), torn: AtomicBool::new(false) }
    }
}

/// A claimed slot.
struct Guard(&'static Slot);

impl Guard {
    fn new(range: Range<usize>) -> io::Result<Self> {
        let free = |slot: &&Slot| slot.start.compare_exchange(0, 1, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        let slot = GUARDS.iter().find(free);
        let slot = slot.ok_or_else(|| io::Error::other("too many files are mapped at a time: use another reader"))?;
        slot.torn.store(false, Ordering::Relaxed);
        slot.end.store(range.end, Ordering::Relaxed);
        slot.start.store(range.start, Ordering::Release);
        Ok(Self(slot))
    }

    fn is_torn(&self) -> bool {
        self.0.torn.load(Ordering::Acquire)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // The end first: a handler that runs now finds an empty stretch.
        self.0.end.store(0, Ordering::Release);
        self.0.start.store(0, Ordering::Release);
    }
}

/// What handled `SIGBUS` before.
static PREVIOUS: OnceLock<libc::sigaction> = OnceLock::new();

fn install_handler() -> io::Result<()> {
    static INSTALLED: Once = Once::new();
    static FAILED: AtomicBool = AtomicBool::new(false);
    INSTALLED.call_once(|| {
        // SAFETY: zero is a valid value of the plain C structs; `mend_page` has the signature that SA_SIGINFO asks for
        // and calls only what is safe in a signal handler; all pointers are to live locals.
        let failed = unsafe {
            let mut previous: libc::sigaction = std::mem::zeroed();
            libc::sigaction(libc::SIGBUS, std::ptr::null(), &mut previous);
            let _ = PREVIOUS.set(previous);
            let mut ours: libc::sigaction = std::mem::zeroed();
            ours.sa_sigaction = mend_page as extern "C" fn(_, _, _) as usize;
            ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigemptyset(&mut ours.sa_mask);
            libc::sigaction(libc::SIGBUS, &ours, std::ptr::null_mut()) != 0
        };
        FAILED.store(failed, Ordering::Release);
    });
    if FAILED.load(Ordering::Acquire) { Err(io::Error::other("the SIGBUS handler is refused")) } else { Ok(()) }
}

/// Puts a page of zeros where a page of a guarded window is missing, and marks the window. Other faults go to whoever
/// handled them before.
extern "C" fn mend_page(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid `siginfo_t` to a handler installed with SA_SIGINFO.
    let address = unsafe { (*info).si_addr() } as usize;
    let guarded =
        |slot: &&Slot| (slot.start.load(Ordering::Acquire)..slot.end.load(Ordering::Acquire)).contains(&address);
    let Some(slot) = GUARDS.iter().find(guarded) else { return pass_on(signal, info, context) };
    slot.torn.store(true, Ordering::Release);
    let page = address - address % PAGE;
    // SAFETY: the page lies in a window of ours, where nothing but missing content can be; replacing it makes the read
    // that faulted see zeros. `mmap` is a plain system call on Linux and safe in a signal handler. If it fails, the
    // fault comes again and again until the process is killed, which is no worse than without the handler.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        libc::mmap(page as *mut libc::c_void, PAGE, libc::PROT_READ, flags, -1, 0);
    }
}

fn pass_on(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let previous = PREVIOUS.get();
    match previous {
        Some(action) if action.sa_sigaction != libc::SIG_DFL && action.sa_sigaction != libc::SIG_IGN => {
            // SAFETY: it is the address of a handler that the process installed, called with what its flags ask for.
            unsafe {
                if action.sa_flags & libc::SA_SIGINFO != 0 {
                    let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) =
                        std::mem::transmute(action.sa_sigaction);
                    handler(signal, info, context);
                } else {
                    let handler: extern "C" fn(libc::c_int) = std::mem::transmute(action.sa_sigaction);
                    handler(signal);
                }
            }
        }
        _ => {
            // SAFETY: restores the default, under which the fault, coming again, ends the process as it would have.
            unsafe { libc::signal(libc::SIGBUS, libc::SIG_DFL) };
        }
    }
}

/// Pages of `bytes` bytes of a file from `at` (0: to its end) that are in the page cache, or `None` where the kernel cannot count them (before Linux 6.5).
pub(super) fn cachestat(descriptor: RawFd, at: u64, bytes: u64) -> Option<u64> {
    /// `cachestat(2)` has the same number on every architecture.
    const CACHESTAT: libc::c_long = 451;
    #[repr(C)]
    struct Range {
        offset: u64,
        bytes: u64,
    }
    let range = Range { offset: at, bytes };
    let mut counts = [0u64; 5];
    // SAFETY: both pointers are to live locals of the layout that the call is documented with (two and five `u64`); it
    // only reads the first and writes the second.
    let result = unsafe { libc::syscall(CACHESTAT, descriptor, &range, counts.as_mut_ptr(), 0) };
    (result == 0).then_some(counts[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pages are populated, then cut away, then touched: without the handler this kills the test.
    #[tokio::test]
    async fn a_file_that_is_cut_under_the_mapping_ends_in_an_error_not_in_death() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("f");
        std::fs::write(&path, vec![7; 4 * CHUNK_BYTES]).unwrap();
        let file = Arc::new(SourceFile::open(&path).unwrap());
        let source = MmapSource::new(file, u64::MAX).unwrap();
        let chunk = source.read(0, CHUNK_BYTES).await.unwrap();
        source.check().unwrap();
        std::fs::File::options().write(true).open(&path).unwrap().set_len(10).unwrap();
        assert_eq!(chunk[CHUNK_BYTES - 1], 0, "a page of zeros has taken the place");
        assert!(matches!(source.check(), Err(SourceError::Changed { .. })));
        drop(chunk);
        let later = source.read(CHUNK_BYTES as u64, CHUNK_BYTES).await;
        assert!(matches!(later, Err(SourceError::Changed { .. })));
    }

    #[tokio::test]
    async fn nothing_stays_mapped_when_the_reader_is_gone() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("mapped-and-gone");
        std::fs::write(&path, vec![7; 2 * CHUNK_BYTES]).unwrap();
        let is_mapped = || std::fs::read_to_string("/proc/self/maps").unwrap().contains("mapped-and-gone");
        let source = MmapSource::new(Arc::new(SourceFile::open(&path).unwrap()), u64::MAX).unwrap();
        let chunk = source.read(0, CHUNK_BYTES).await.unwrap();
        drop(source);
        assert!(is_mapped(), "a chunk is still out");
        drop(chunk);
        assert!(!is_mapped());
    }

    #[tokio::test]
    async fn a_torn_window_is_remembered_after_it_is_gone() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("f");
        let bytes = WINDOW_BYTES * (WINDOWS_KEPT + 2);
        std::fs::File::create(&path).unwrap().set_len(bytes as u64).unwrap();
        let source = MmapSource::new(Arc::new(SourceFile::open(&path).unwrap()), u64::MAX).unwrap();
        let chunk = source.read(0, CHUNK_BYTES).await.unwrap();
        let cut = std::fs::File::options().write(true).open(&path).unwrap();
        cut.set_len(10).unwrap();
        assert_eq!(chunk[CHUNK_BYTES - 1], 0);
        drop(chunk);
        cut.set_len(bytes as u64).unwrap();
        for i in 1..WINDOWS_KEPT + 2 {
            source.read((i * WINDOW_BYTES) as u64, CHUNK_BYTES).await.unwrap();
        }
        assert!(source.check().is_err());
    }

    #[tokio::test]
    async fn no_more_stays_mapped_than_may() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("mapped-in-part");
        std::fs::File::create(&path).unwrap().set_len(8 * WINDOW_BYTES as u64).unwrap();
        let windows = || std::fs::read_to_string("/proc/self/maps").unwrap().matches("mapped-in-part").count();
        for (mapped_bytes, expected) in [(0, 1), (3 * WINDOW_BYTES as u64, 3), (u64::MAX, 8)] {
            let source = MmapSource::new(Arc::new(SourceFile::open(&path).unwrap()), mapped_bytes).unwrap();
            for i in 0..8 {
                source.read((i * WINDOW_BYTES) as u64, CHUNK_BYTES).await.unwrap();
            }
            let kept = source.kept.lock().unwrap().len();
            assert_eq!(kept, expected);
            // Neighbours in the file may be neighbours in memory, which the kernel shows as one.
            assert!((1..=expected).contains(&windows()), "{} of {expected}", windows());
        }
    }
}
