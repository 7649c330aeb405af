//! Scans whose blocks are all cached: rows a second from one run and merged from eight, forward and reverse, and what
//! it takes to begin one.

use std::sync::Arc;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use esker::{
    KeyRange, Scan,
    key::{DEFAULT_KEYSPACE, full_key},
};

#[path = "laid_out/mod.rs"]
mod laid_out;
use laid_out::LaidOut;

const ROWS: u64 = 200_000;

/// Which run an entry goes to.
type RunOf = fn(u64) -> u64;

fn key(n: u64) -> Bytes {
    full_key(DEFAULT_KEYSPACE, format!("user{n:012}").as_bytes()).expect("short")
}

async fn count(mut scan: Scan) -> u64 {
    let mut rows = 0;
    while scan.next().await.expect("laid out well").is_some() {
        rows += 1;
    }
    rows
}

fn scans(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut group = criterion.benchmark_group("scan");
    group.sample_size(20);
    let layouts: [(&str, u64, RunOf); 3] = [
        ("1 run", 1, |_| 0),
        ("8 runs in stretches of 50", 8, |n| n / 50 % 8),
        ("8 runs at random", 8, |n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 61),
    ];
    for (layout, runs, run_of) in layouts {
        let laid = runtime.block_on(LaidOut::new(ROWS, runs, run_of, key));
        let over = |range| {
            Scan::new(laid.fetcher.clone(), Arc::clone(&laid.sv), DEFAULT_KEYSPACE, Ok(range), u64::MAX, 0)
        };
        let scan = || over(KeyRange::all());
        assert_eq!(runtime.block_on(count(scan())), ROWS);
        group.throughput(Throughput::Elements(ROWS));
        group.bench_function(format!("warm, {layout}"), |bencher| {
            bencher.to_async(&runtime).iter(|| count(scan()));
        });
        group.bench_function(format!("warm, {layout}, reverse"), |bencher| {
            bencher.to_async(&runtime).iter(|| count(scan().rev()));
        });
        group.throughput(Throughput::Elements(10));
        group.bench_function(format!("warm, {layout}, 10 rows from the middle"), |bencher| {
            let range = KeyRange::new(format!("user{:012}", ROWS / 2)..).expect("not inverted");
            bencher.to_async(&runtime).iter(|| count(over(range.clone()).limit(10)));
        });
    }
}

criterion_group!(benches, scans);
criterion_main!(benches);
