//! What the checkpoint costs: recording one part, and opening the log of 10,000.
//!
//! `cargo bench --bench wal`

use std::hint::black_box;
use std::path::Path;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use haul::checkpoint::{self, Binding, Journal, Record, StoredPart, record, wal};
use haul::model::object::{Bucket, ETag, Fingerprint, Key, UploadId};
use haul::model::part::PartNumber;

fn binding() -> Binding {
    let source = Fingerprint { device: 1, inode: 2, bytes: 10_000 << 23, mtime_ns: 3, ctime_ns: 4 };
    let (bucket, key) = (Bucket::new("demo").unwrap(), Key::new("key").unwrap());
    Binding { source, endpoint: "https://e".into(), bucket, key, part_bytes: 8 << 20, description: Some([].into()) }
}

fn stored(n: u32) -> Record {
    let crc64 = u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let part = StoredPart { bytes: 8 << 20, etag: ETag::new(&format!("{:032X}", u128::from(crc64) << 64)), crc64 };
    Record::PartStored(PartNumber::new(n).unwrap(), part)
}

/// A log as a killed upload leaves it: a snapshot and 10,000 records, not compacted.
fn log_of_10_000() -> Vec<u8> {
    let mut log = Vec::new();
    let mut checkpoint = checkpoint::Checkpoint::new(binding());
    checkpoint.apply(Record::Initiated(UploadId("0004B9895DBBB6EC98E36".into())));
    wal::frame::push(&mut log, &record::encode_snapshot(&checkpoint));
    (1..=10_000).for_each(|n| wal::frame::push(&mut log, &record::encode_record(&stored(n))));
    log
}

fn open_10_000(path: &Path) -> Journal {
    let (journal, checkpoint, _) = Journal::open(path, binding()).unwrap();
    assert_eq!(checkpoint.parts.len(), 10_000);
    journal
}

fn wal(c: &mut Criterion) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();

    let (journal, ..) = Journal::open(&dir.path().join("append.cp"), binding()).unwrap();
    let mut n = 0;
    let mut next = || {
        n = n % 10_000 + 1;
        stored(n)
    };
    c.bench_function("append of one record, synced in groups", |b| {
        b.iter(|| journal.record(black_box(next())).unwrap());
    });
    c.bench_function("append of one record, durable", |b| {
        b.iter(|| runtime.block_on(journal.record_durably(black_box(next()))).unwrap());
    });
    drop(journal);

    let (log, path) = (log_of_10_000(), dir.path().join("open.cp"));
    println!("the log of 10,000 parts has {} bytes", log.len());
    c.bench_function("open the log of 10,000 parts", |b| {
        b.iter_batched(|| std::fs::write(&path, &log).unwrap(), |()| open_10_000(&path), BatchSize::PerIteration);
    });
}

criterion_group!(benches, wal);
criterion_main!(benches);
