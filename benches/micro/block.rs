//! Micro-benchmarks of a block: building, point reads, walking both ways, and the codecs under it.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use esker::{
    block::{Block, BlockBuilder},
    codec::{
        frame::{Codec, checksum, compress, decompress},
        sum::Sum,
    },
    key::{Entry, Kind},
};

const BLOCK_BYTES: usize = 16 << 10;
const ROWS: [(&str, usize); 2] = [("100 B values", 100), ("10 B values", 10)];

/// Entries that fill one block: 16-byte user keys, values half of which compress.
fn rows(value_bytes: usize) -> Vec<Entry> {
    let mut rows = Vec::new();
    let mut builder = BlockBuilder::new(16);
    for n in 0u64.. {
        let key = [&[0; 4][..], format!("user{:012}", n * 37).as_bytes()].concat().into();
        let mut value = vec![b'v'; value_bytes];
        let noise = (0..value_bytes as u64 / 2).map(|i| checksum(n, &i.to_le_bytes()) as u8);
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

fn build(rows: &[Entry]) -> Vec<u8> {
    let mut builder = BlockBuilder::new(16);
    rows.iter().for_each(|row| builder.add(row.as_ref()));
    builder.finish()
}

fn blocks(c: &mut Criterion) {
    for (name, value_bytes) in ROWS {
        let rows = rows(value_bytes);
        let block = Block::parse(build(&rows).into()).expect("it was just built");
        let mut group = c.benchmark_group(format!("block, {name}"));
        group.throughput(Throughput::Elements(rows.len() as u64));
        let mut builder = BlockBuilder::new(16);
        let mut raw = Vec::new();
        group.bench_function("build", |b| {
            b.iter(|| {
                raw.clear();
                rows.iter().for_each(|row| builder.add(row.as_ref()));
                builder.finish_into(&mut raw);
            });
        });
        let mut cursor = block.cursor();
        group.bench_function("walk forward", |b| {
            b.iter(|| {
                cursor.first().expect("sound");
                let mut bytes = 0;
                while cursor.is_valid() {
                    let entry = cursor.entry();
                    bytes += entry.key.len() + entry.value.len() + entry.seq as usize;
                    cursor.next().expect("sound");
                }
                bytes
            });
        });
        group.bench_function("walk back", |b| {
            b.iter(|| {
                cursor.last().expect("sound");
                let mut bytes = 0;
                while cursor.is_valid() {
                    let entry = cursor.entry();
                    bytes += entry.key.len() + entry.value.len();
                    cursor.prev().expect("sound");
                }
                bytes
            });
        });
        group.throughput(Throughput::Elements(1));
        let mut n = 0;
        group.bench_function("get", |b| {
            b.iter(|| {
                n = (n + 61) % rows.len();
                block.get(&rows[n].key, u64::MAX).expect("sound").expect("it is there")
            });
        });
        group.bench_function("get, missing", |b| {
            b.iter(|| {
                n = (n + 61) % rows.len();
                block.get(&rows[n].key[..19], u64::MAX).expect("sound").is_some()
            });
        });
        group.bench_function("seek", |b| {
            b.iter(|| {
                n = (n + 61) % rows.len();
                cursor.seek(&rows[n].key, u64::MAX).expect("sound");
                cursor.is_valid()
            });
        });
        group.bench_function("parse", |b| {
            b.iter_batched(
                || block.bytes().clone(),
                |bytes| Block::parse(bytes).expect("sound"),
                BatchSize::SmallInput,
            );
        });
        group.finish();
    }
}

fn codecs(c: &mut Criterion) {
    let raw = build(&rows(100));
    let mut group = c.benchmark_group("codec");
    group.throughput(Throughput::Bytes(raw.len() as u64));
    group.bench_function("checksum", |b| b.iter(|| checksum(7, &raw)));
    for codec in [Codec::Lz4, Codec::Zstd] {
        let mut stored = Vec::new();
        assert_eq!(compress(codec, &raw, &mut stored), codec);
        group.bench_function(format!("compress {codec} to {} %", stored.len() * 100 / raw.len()), |b| {
            b.iter(|| {
                stored.clear();
                compress(codec, &raw, &mut stored)
            });
        });
        group.bench_function(format!("decompress {codec}"), |b| {
            b.iter(|| decompress(codec, &stored, raw.len(), raw.len()).expect("sound"));
        });
    }
    group.finish();
    let row = &rows(100)[0];
    c.bench_function("conservation sum, 100 B value", |b| {
        let mut sum = Sum::default();
        b.iter(|| sum.add_entry(black_box(row.as_ref())));
        black_box(sum);
    });
}

criterion_group!(benches, blocks, codecs);
criterion_main!(benches);
