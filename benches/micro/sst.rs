//! Micro-benchmarks of an SST: building one, opening its tail, and finding a block in it.

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use esker::{
    codec::frame::{Codec, checksum},
    key::{Entry, Kind},
    sst::{SstBuilder, SstMeta, SstOptions, Tail, decode_block, key_hash, verify_object},
    store::{ObjectId, Role},
};

const ID: ObjectId = ObjectId { role: Role::Compactor, epoch: 1, counter: 2, nonce: 3 };
const ROWS: u64 = 200_000;

fn rows() -> Vec<Entry> {
    (0..ROWS)
        .map(|n| {
            let key = [&[0; 4][..], format!("user{:012}", n * 37).as_bytes()].concat().into();
            let mut value = vec![b'v'; 100];
            let noise = (0..50u64).map(|i| checksum(n, &i.to_le_bytes()) as u8);
            value.iter_mut().zip(noise).for_each(|(byte, noise)| *byte = noise);
            Entry {
                key,
                seq: 1 + checksum(n, b"") % ROWS,
                kind: Kind::Put,
                expire_at_ms: 0,
                value: value.into(),
            }
        })
        .collect()
}

fn build(rows: &[Entry], codec: Codec) -> (SstMeta, Bytes) {
    let mut builder = SstBuilder::new(ID, SstOptions { codec, ..SstOptions::default() });
    for row in rows {
        builder.add(row.as_ref()).expect("they are in order");
    }
    let finished = builder.finish().expect("it is not empty");
    (finished.meta, finished.chunks.concat().into())
}

fn ssts(c: &mut Criterion) {
    let rows = rows();
    let raw_bytes = rows.iter().map(|row| (row.key.len() + row.value.len()) as u64).sum();
    let mut group = c.benchmark_group("sst of 200,000 rows");
    group.sample_size(10).throughput(Throughput::Bytes(raw_bytes));
    for codec in [Codec::None, Codec::Lz4, Codec::Zstd] {
        group.bench_function(format!("build, {codec}"), |b| b.iter(|| build(&rows, codec)));
    }
    let (meta, object) = build(&rows, Codec::Lz4);
    group.bench_function("verify", |b| b.iter(|| verify_object(&meta, &object).expect("sound")));
    let tail_bytes = object.slice(meta.tail_offset as usize..);
    group.bench_function("open the tail", |b| {
        b.iter(|| Tail::decode(&meta, tail_bytes.clone()).expect("sound"))
    });
    let tail = Tail::decode(&meta, tail_bytes).expect("sound");
    let place = tail.block(7);
    let stored = object.slice(place.offset as usize..(place.offset + place.bytes as u64) as usize);
    group.throughput(Throughput::Bytes(16 << 10));
    group.bench_function("decode a block, lz4", |b| {
        b.iter(|| decode_block(ID, place, stored.clone()).expect("sound"));
    });
    group.finish();

    // A few hundred keys, so that it is the tail that is measured and not the way to the key.
    let keys: Vec<&[u8]> = rows.iter().step_by(391).map(|row| &row.key[..]).collect();
    let mut group = c.benchmark_group("tail");
    let mut n = 0;
    let mut next = || {
        n = (n + 77) % keys.len();
        keys[n]
    };
    group.bench_function("find", |b| b.iter(|| tail.find(next())));
    group.bench_function("hash and probe", |b| b.iter(|| tail.may_contain(key_hash(next()))));
    group.finish();
}

criterion_group!(benches, ssts);
criterion_main!(benches);
