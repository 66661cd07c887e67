//! What the engine relies on, of every reader alike.

use std::path::Path;
use std::sync::Arc;

use haul::model::settings::ReaderKind;
use haul::source::buffer::BufferPool;
use haul::source::file::SourceFile;
use haul::source::{Chosen, Source, SourceError, choose};

const KINDS: [ReaderKind; 3] = [ReaderKind::Mmap, ReaderKind::Uring, ReaderKind::Pread];

fn open(path: &Path, kind: ReaderKind) -> Chosen {
    let file = Arc::new(SourceFile::open(path).unwrap());
    choose(Some(kind), &file, &BufferPool::new(8 << 20), u64::MAX).unwrap()
}

fn random(bytes: usize) -> Vec<u8> {
    let mut content = vec![0; bytes];
    fastrand::Rng::with_seed(bytes as u64).fill(&mut content);
    content
}

#[tokio::test]
async fn every_reader_gives_the_bytes_of_the_file_wherever_they_are() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("f");
    let content = random((17 << 20) + 1234);
    std::fs::write(&path, &content).unwrap();
    let mut places = fastrand::Rng::with_seed(7);
    for kind in KINDS {
        let source = open(&path, kind).source;
        for i in 0..200 {
            let bytes = places.usize(1..=source.chunk_bytes());
            let at = if i % 10 == 0 { content.len() - bytes } else { places.usize(0..content.len() - bytes) };
            let read = source.read(at as u64, bytes).await.unwrap();
            assert!(read == content[at..at + bytes], "{kind}: {bytes} bytes at {at}");
        }
        source.check().unwrap();
    }
}

#[tokio::test]
async fn a_file_that_shrank_is_an_error_in_every_reader() {
    for kind in KINDS {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("f");
        std::fs::write(&path, random(3 << 20)).unwrap();
        let source = open(&path, kind).source;
        std::fs::File::options().write(true).open(&path).unwrap().set_len(1 << 20).unwrap();
        source.read(0, 1000).await.unwrap();
        for (at, bytes) in [(2 << 20, 1000), ((1 << 20) - 100, 10_000)] {
            let error = error_of(source.as_ref(), at, bytes).await;
            assert!(matches!(error, Some(SourceError::Changed { .. })), "{kind}: {bytes} bytes at {at}: {error:?}");
        }
    }
}

/// Why `bytes` bytes at `at` cannot be used, once they were: those of a mapped file are missed when they are touched.
async fn error_of(source: &dyn Source, at: u64, bytes: usize) -> Option<SourceError> {
    match source.read(at, bytes).await {
        Err(error) => Some(error),
        Ok(chunk) => {
            std::hint::black_box(haul::model::crc64::crc64(&chunk));
            source.check().err()
        }
    }
}

#[tokio::test]
async fn reads_that_nobody_polls_do_not_take_more_buffers_than_the_pool_has() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("f");
    let content = random(8 << 20);
    std::fs::write(&path, &content).unwrap();
    for kind in [ReaderKind::Uring, ReaderKind::Pread] {
        let file = Arc::new(SourceFile::open(&path).unwrap());
        let pool = BufferPool::new(0);
        let source = choose(Some(kind), &file, &pool, u64::MAX).unwrap().source;
        let bytes = source.chunk_bytes();
        let readings: Vec<_> = (0..8).map(|i| source.read((i * bytes) as u64, bytes)).collect();
        assert!(pool.try_lease().is_none(), "{kind}: the first two have begun");
        for (i, reading) in readings.into_iter().enumerate() {
            assert!(reading.await.unwrap() == content[i * bytes..(i + 1) * bytes]);
        }
        assert!(pool.try_lease().is_some(), "{kind}: buffers have come back");
    }
}

#[tokio::test]
async fn a_file_in_memory_is_mapped_and_the_choice_says_so() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("f");
    std::fs::write(&path, random(1 << 20)).unwrap();
    let file = Arc::new(SourceFile::open(&path).unwrap());
    let chosen = choose(None, &file, &BufferPool::new(0), u64::MAX).unwrap();
    assert_eq!(chosen.kind, ReaderKind::Mmap);
    assert!(chosen.reason.contains("100 %"), "{}", chosen.reason);
}
