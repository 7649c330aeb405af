//! The block cache: a hit and a miss in memory, an insertion that evicts, a fetch alone and one shared by a hundred
//! callers, and a hit on the SSD and an insertion into it.

use std::{convert::Infallible, hint::black_box};

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use esker_cache::{BlockCache, BlockId, CacheOptions, Class, SsdOptions};
use futures::future::join_all;

const BLOCK_BYTES: usize = 16 << 10;

/// Blocks in the cache of the hits: more than the processor's own caches hold the bookkeeping of.
const BLOCKS: u64 = 100_000;

/// Ids as the engine makes them: a few thousand objects of some dozens of blocks, asked for in no order.
fn id(n: u64) -> BlockId {
    let n = n % BLOCKS * 7919 % BLOCKS;
    BlockId { object: u128::from(n / 64) << 64 | 0xE5CE, offset: n % 64 * BLOCK_BYTES as u64 }
}

fn block() -> Bytes {
    Bytes::from(vec![7; BLOCK_BYTES])
}

fn memory(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("cache/memory");
    let cache = BlockCache::in_memory(1 << 30);
    for n in 0..BLOCKS {
        cache.insert(id(n), Class::Data, Bytes::from(vec![7; 64]));
    }
    group.bench_function("hit", |bencher| {
        let mut n = 0;
        bencher.iter(|| {
            n += 1;
            black_box(cache.get(&id(n), Class::Data).expect("all fit"))
        });
    });
    group.bench_function("hit of one block", |bencher| {
        bencher.iter(|| black_box(cache.get(&id(1), Class::Data).expect("all fit")));
    });
    group.bench_function("miss", |bencher| {
        let mut n = 0;
        bencher.iter(|| {
            n += 1;
            black_box(cache.get(&id(n), Class::Meta).is_none())
        });
    });
    group.bench_function("hit by 4 threads, each", |bencher| {
        bencher.iter_custom(|hits| {
            std::thread::scope(|scope| {
                let threads: Vec<_> = (0..4)
                    .map(|thread| {
                        let cache = &cache;
                        scope.spawn(move || hit_for(cache, hits, thread * 1000))
                    })
                    .collect();
                let times = threads.into_iter().map(|thread| thread.join().expect("does not panic"));
                times.max().expect("there are four")
            })
        });
    });
    let small = BlockCache::in_memory(64 << 20);
    let mut n = 0;
    group.throughput(Throughput::Bytes(BLOCK_BYTES as u64));
    group.bench_function("insert that evicts", |bencher| {
        bencher.iter_batched(
            block,
            |bytes| {
                n += 1;
                small.insert(BlockId { object: 1, offset: n }, Class::Data, bytes);
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn fetch(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime starts");
    let mut group = criterion.benchmark_group("cache/fetch");
    let cache = BlockCache::in_memory(64 << 20);
    let bytes = block();
    let mut n = 0;
    group.bench_function("alone", |bencher| {
        bencher.iter(|| {
            n += 1;
            let bytes = bytes.clone();
            let fetch = || async move { Ok::<_, Infallible>(bytes) };
            runtime.block_on(cache.get_or_fetch(BlockId { object: 1, offset: n }, Class::Data, fetch))
        });
    });
    group.bench_function("shared by 100 callers", |bencher| {
        bencher.iter(|| {
            n += 1;
            let id = BlockId { object: 2, offset: n };
            let callers = (0..100).map(|_| {
                let bytes = bytes.clone();
                cache.get_or_fetch(id, Class::Data, || async move {
                    tokio::task::yield_now().await;
                    Ok::<_, Infallible>(bytes)
                })
            });
            runtime.block_on(join_all(callers))
        });
    });
    group.finish();
}

fn ssd(criterion: &mut Criterion) {
    const ENTRIES: u64 = 4000;
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime starts");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let options = CacheOptions {
        // No memory tier for data, so that every lookup goes to the SSD.
        memory_bytes: 0,
        ssd: Some(SsdOptions { dir: dir.path().to_owned(), bytes: 512 << 20 }),
        ..CacheOptions::default()
    };
    let cache = runtime.block_on(BlockCache::open(options)).expect("opens");
    for n in 0..ENTRIES {
        let id = BlockId { object: 1, offset: n };
        // Again until it is accepted: the disk is slower than this loop.
        while !cache.contains(&id, Class::Data) {
            cache.insert(id, Class::Data, block());
        }
    }
    let mut group = criterion.benchmark_group("cache/ssd");
    group.throughput(Throughput::Bytes(BLOCK_BYTES as u64));
    let mut n = 0;
    group.bench_function("hit", |bencher| {
        bencher.iter(|| {
            n += 1;
            runtime.block_on(cache.lookup(BlockId { object: 1, offset: n * 7919 % ENTRIES }, Class::Data))
        });
    });
    // Of new blocks, written or (mostly, at this pace) dropped because the disk cannot keep up.
    group.bench_function("insert", |bencher| {
        bencher.iter_batched(
            block,
            |bytes| {
                n += 1;
                cache.insert(BlockId { object: 2, offset: n }, Class::Data, bytes);
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
    runtime.block_on(cache.close());
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures with the machine's clock")]
fn hit_for(cache: &BlockCache, hits: u64, start: u64) -> std::time::Duration {
    let started = std::time::Instant::now();
    for n in 0..hits {
        black_box(cache.get(&id(start + n), Class::Data).expect("all fit"));
    }
    started.elapsed()
}

criterion_group!(benches, memory, fetch, ssd);
criterion_main!(benches);
