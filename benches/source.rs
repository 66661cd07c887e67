//! The three readers over a file in the page cache, checksum included: what a part costs before it meets the network.

use std::io::Write;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use haul::model::crc64::Digest;
use haul::model::settings::ReaderKind;
use haul::source::buffer::BufferPool;
use haul::source::file::SourceFile;
use haul::source::{Source, choose};

const FILE_BYTES: u64 = 64 << 20;

async fn read_all(source: &dyn Source) -> u64 {
    let mut digest = Digest::new();
    let mut at = 0;
    while at < FILE_BYTES {
        let chunk = source.read(at, source.chunk_bytes()).await.expect("a file that can be read");
        at += chunk.len() as u64;
        digest.update(&chunk);
    }
    digest.finish()
}

fn readers(c: &mut Criterion) {
    let mut scratch = tempfile::NamedTempFile::new().expect("a file to read");
    let mut block = vec![0; 1 << 20];
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..FILE_BYTES >> 20 {
        random.fill(&mut block);
        scratch.write_all(&block).expect("room for the file");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let file = Arc::new(SourceFile::open(scratch.path()).expect("just written"));
    let pool = BufferPool::new(8 << 20);
    let mut group = c.benchmark_group("read and checksum");
    group.throughput(Throughput::Bytes(FILE_BYTES)).sample_size(20);
    for kind in [ReaderKind::Mmap, ReaderKind::Pread, ReaderKind::Uring] {
        let Ok(chosen) = choose(Some(kind), &file, &pool, u64::MAX) else { continue };
        group.bench_function(kind.to_string(), |b| b.iter(|| runtime.block_on(read_all(&*chosen.source))));
    }
}

criterion_group!(benches, readers);
criterion_main!(benches);
