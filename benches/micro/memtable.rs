//! The memtable: an insert, a point read, and a walk over all entries; beside them a `BTreeMap` behind a lock,
//! the plainest thing that could take its place.

use std::{collections::BTreeMap, hint::black_box, sync::Arc};

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use esker::{
    key::{Entry, Kind},
    memtable::Memtable,
};

const ENTRIES: u64 = 100_000;

/// Keys of 20 bytes in no order, values of 100 bytes that share a buffer.
fn entry(n: u64, values: &Bytes) -> Entry {
    let key =
        Bytes::from(format!("\0\0\0\0user{:012}", n.wrapping_mul(0x9E37_79B9_7F4A_7C15) % 1_000_000_000_000));
    let at = (n % 600) as usize * 100;
    Entry { key, seq: n + 1, kind: Kind::Put, expire_at_ms: 0, value: values.slice(at..at + 100) }
}

fn filled() -> (Arc<Memtable>, Vec<Entry>) {
    let values = Bytes::from(vec![7; 60_000]);
    let entries: Vec<_> = (0..ENTRIES).map(|n| entry(n, &values)).collect();
    let memtable = Arc::new(Memtable::new());
    entries.iter().for_each(|entry| memtable.insert(entry.clone()));
    (memtable, entries)
}

fn memtable(criterion: &mut Criterion) {
    let (memtable, entries) = filled();
    let mut group = criterion.benchmark_group("memtable");
    group.throughput(Throughput::Elements(ENTRIES));
    group.sample_size(10);
    group.bench_function("insert 100,000", |bencher| {
        bencher.iter_batched(
            || entries.clone(),
            |entries| {
                let memtable = Memtable::new();
                entries.into_iter().for_each(|entry| memtable.insert(entry));
                memtable
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("insert 100,000 into a BTreeMap behind a lock", |bencher| {
        bencher.iter_batched(
            || entries.clone(),
            |entries| {
                let map = std::sync::RwLock::new(BTreeMap::new());
                for entry in entries {
                    let Ok(mut map) = map.write() else { unreachable!("nobody panics") };
                    map.insert((entry.key, !entry.seq), entry.value);
                }
                map
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("walk 100,000", |bencher| {
        bencher.iter(|| {
            let mut cursor = memtable.cursor();
            cursor.first();
            let mut bytes = 0;
            while cursor.is_valid() {
                bytes += cursor.entry().value.len();
                cursor.next();
            }
            black_box(bytes)
        });
    });
    group.finish();

    let mut group = criterion.benchmark_group("memtable");
    let mut n = 0;
    group.bench_function("get a key that is there", |bencher| {
        bencher.iter(|| {
            n += 7919;
            black_box(memtable.get(&entries[n % entries.len()].key, u64::MAX))
        });
    });
    group.bench_function("get a key that is not there", |bencher| {
        bencher.iter(|| black_box(memtable.get(b"\0\0\0\0user5", u64::MAX)));
    });
}

criterion_group!(benches, memtable);
criterion_main!(benches);
