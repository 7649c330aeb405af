//! Blocks in their packed form: making one, point reads and walks of both forms, and point reads through a memory tier
//! that has room for six tenths of the blocks as they are.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use esker::{
    block::{Block, BlockBuilder, pack},
    codec::frame::checksum,
    key::{Entry, Kind},
};
use esker_cache::{BlockCache, BlockId, Class};

const BLOCK_BYTES: usize = 16 << 10;
const VALUE_BYTES: usize = 400;
const BLOCKS: u64 = 4000;

/// Entries that fill one block: keys of 16 hexadecimal digits in no order of numbers, values half of which compress.
fn rows(block: u64) -> Vec<Entry> {
    let mut rows = Vec::new();
    let mut builder = BlockBuilder::new(16);
    for n in 0u64.. {
        let number = (block << 48) | n << 40 | checksum(n, &block.to_le_bytes()) >> 24;
        let key = [&[0; 4][..], format!("{number:016x}").as_bytes()].concat().into();
        let mut value = vec![0; VALUE_BYTES];
        let noise =
            (0..VALUE_BYTES as u64 / 16).flat_map(|i| checksum(number, &i.to_le_bytes()).to_le_bytes());
        value.iter_mut().zip(noise).for_each(|(byte, noise)| *byte = noise);
        let seq = 1_000_000 + checksum(n, b"") % 60_000;
        let entry = Entry { key, seq, kind: Kind::Put, expire_at_ms: 0, value: value.into() };
        builder.add(entry.as_ref());
        if builder.size() > BLOCK_BYTES {
            return rows;
        }
        rows.push(entry);
    }
    rows
}

fn build(rows: &[Entry]) -> Bytes {
    let mut builder = BlockBuilder::new(16);
    rows.iter().for_each(|row| builder.add(row.as_ref()));
    builder.finish().into()
}

fn forms(c: &mut Criterion) {
    let rows = rows(7);
    let plain = build(&rows);
    let packed = pack(&plain).expect("half of it compresses");
    let mut group = c.benchmark_group(format!("packed to {} %", packed.len() * 100 / plain.len()));
    group.throughput(Throughput::Bytes(plain.len() as u64));
    group.bench_function("pack", |b| b.iter(|| pack(black_box(&plain))));
    for (form, bytes) in [("plain", &plain), ("packed", &packed)] {
        let block = Block::parse_cached(bytes.clone()).expect("sound");
        group.throughput(Throughput::Bytes(plain.len() as u64));
        group.bench_function(format!("{form}: walk forward"), |b| {
            let mut cursor = block.cursor();
            b.iter(|| {
                cursor.first().expect("sound");
                let mut bytes = 0;
                while cursor.is_valid() {
                    let entry = cursor.entry();
                    bytes += entry.key.len() + entry.value.len();
                    cursor.next().expect("sound");
                }
                bytes
            });
        });
        group.throughput(Throughput::Elements(1));
        let mut n = 0;
        group.bench_function(format!("{form}: get"), |b| {
            b.iter(|| {
                n = (n + 61) % rows.len();
                let block = Block::parse_cached(bytes.clone()).expect("sound");
                block.get(&rows[n].key, u64::MAX).expect("sound").expect("it is there")
            });
        });
    }
    group.finish();
}

/// Keys in no order; a miss costs a copy of the block.
fn tier(c: &mut Criterion) {
    let blocks: Vec<(Vec<Bytes>, Bytes)> = (0..BLOCKS)
        .map(|n| {
            let rows = rows(n);
            (rows.iter().map(|row| row.key.clone()).collect(), build(&rows))
        })
        .collect();
    let raw: usize = blocks.iter().map(|(_, block)| block.len()).sum();
    let mut group = c.benchmark_group("a tier with room for 60 %");
    for squeezes in [false, true] {
        let cache = BlockCache::in_memory(raw * 6 / 9);
        if squeezes {
            cache.squeeze_with(pack);
        }
        let mut n = 0u64;
        let mut get = || {
            n += 1;
            let chance = checksum(1, &n.to_le_bytes());
            let at = chance % BLOCKS;
            let (keys, block) = &blocks[at as usize];
            let id = BlockId { object: 1, offset: at * BLOCK_BYTES as u64 };
            let bytes = cache.get(&id, Class::Data).unwrap_or_else(|| {
                let fetched = Bytes::copy_from_slice(block);
                cache.insert(id, Class::Data, fetched.clone());
                fetched
            });
            let key = &keys[(chance >> 32) as usize % keys.len()];
            Block::parse_cached(bytes)
                .expect("sound")
                .get(key, u64::MAX)
                .expect("sound")
                .expect("it is there")
        };
        (0..BLOCKS * 20).for_each(|_| drop(get()));
        let before = cache.stats();
        (0..BLOCKS * 20).for_each(|_| drop(get()));
        let after = cache.stats();
        let missed = (after.memory_misses - before.memory_misses) * 1000 / (BLOCKS * 20);
        group.bench_function(
            format!("get, squeezing {squeezes}, {}.{} % missed", missed / 10, missed % 10),
            |b| b.iter(&mut get),
        );
    }
    group.finish();
}

criterion_group!(benches, forms, tier);
criterion_main!(benches);
