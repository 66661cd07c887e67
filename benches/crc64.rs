//! Checksums: of bytes in the cache, and of an object from those of its parts.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use haul::model::crc64::{combine_all, crc64};

fn digest(c: &mut Criterion) {
    let mut group = c.benchmark_group("crc64");
    let data = vec![7; 512 << 10];
    group.throughput(Throughput::Bytes(data.len() as u64));
    group.bench_function("512 KiB", |b| b.iter(|| crc64(black_box(&data))));
    group.finish();
    c.bench_function("combine 10,000 parts", |b| {
        b.iter(|| combine_all((0..10_000u64).map(|n| (black_box(n), 8 << 20))));
    });
}

criterion_group!(benches, digest);
criterion_main!(benches);
