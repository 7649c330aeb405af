//! A point read that needs no request: from the memtable, from a cached block below several runs whose filters say no,
//! and a key that nobody has.

use std::{hint::black_box, sync::Arc};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use esker::{
    key::{DEFAULT_KEYSPACE, Entry, Kind, full_key},
    read::{get, get_cached, multi_get},
};

#[path = "laid_out/mod.rs"]
mod laid_out;
use laid_out::LaidOut;

const KEYS: u64 = 200_000;

fn key(n: u64) -> Bytes {
    full_key(DEFAULT_KEYSPACE, format!("user{n:012}").as_bytes()).expect("short")
}

fn point_reads(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    // Four runs, the lowest with 9 of 10 keys; and a memtable with some.
    let laid = runtime.block_on(LaidOut::new(KEYS, 4, |n| if n % 10 == 0 { n / 10 % 3 } else { 3 }, key));
    for n in 0..1000 {
        let value = Bytes::from_static(&[7; 100]);
        let key = full_key(DEFAULT_KEYSPACE, format!("memory{n:06}").as_bytes()).expect("short");
        laid.sv.active.insert(Entry { key, seq: KEYS + n + 1, kind: Kind::Put, expire_at_ms: 0, value });
    }
    let sst_keys: Vec<_> =
        (0..KEYS).filter(|n| n % 10 != 0).map(|n| n.wrapping_mul(7919) % KEYS).map(key).collect();
    let memory_keys: Vec<_> = (0..1000u64)
        .map(|n| {
            full_key(DEFAULT_KEYSPACE, format!("memory{:06}", n * 7919 % 1000).as_bytes()).expect("short")
        })
        .collect();
    let absent_keys: Vec<_> = (0..1000u64)
        .map(|n| {
            full_key(DEFAULT_KEYSPACE, format!("user{:012}x", n * 7919 % KEYS).as_bytes()).expect("short")
        })
        .collect();

    let mut group = criterion.benchmark_group("get");
    group.throughput(Throughput::Elements(1));
    for (name, keys) in [
        ("from the memtable", &memory_keys),
        ("from cached blocks, 4 runs", &sst_keys),
        ("of no key, 4 runs", &absent_keys),
    ] {
        // Whatever it needs comes into the cache first.
        for key in keys {
            runtime.block_on(get(&laid.fetcher, &laid.sv, key, u64::MAX, 0)).expect("laid out well");
        }
        let mut at = 0;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                at = (at + 1) % keys.len();
                black_box(get_cached(&laid.fetcher, &laid.sv, &keys[at], u64::MAX, 0).expect("cached"))
            });
        });
    }
    let mut at = 0;
    group.bench_function("from cached blocks, awaited", |bencher| {
        bencher.to_async(&runtime).iter(|| {
            at = (at + 1) % sst_keys.len();
            get(&laid.fetcher, &laid.sv, &sst_keys[at], u64::MAX, 0)
        });
    });
    group.throughput(Throughput::Elements(100));
    group.bench_function("multi_get of 100, from cached blocks", |bencher| {
        let keys: Arc<[Bytes]> = sst_keys[..100].into();
        bencher.to_async(&runtime).iter(|| multi_get(&laid.fetcher, &laid.sv, &keys, u64::MAX, 0));
    });
}

criterion_group!(benches, point_reads);
criterion_main!(benches);
