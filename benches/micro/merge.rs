//! The merge: eight sorted runs whose blocks are all here, with keys interleaved at random (the worst case for the
//! tree) and in long stretches (the usual case, for which the runner-up is remembered).

use std::{collections::HashMap, hint::black_box, sync::Arc};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use esker::{
    block::Block,
    codec::frame::Codec,
    key::{EntryRef, Kind},
    merge::{BlockSource, Direction, Retain, Source, Step, Tree, Visible},
    range::FullRange,
    sst::{OpenSst, SstBuilder, SstOptions, Tail, reader::decode_block},
    store::{ObjectId, Role},
};

const RUNS: u64 = 8;
const ENTRIES: u64 = 400_000;

/// Which run an entry goes to.
type RunOf = fn(u64) -> u64;

/// All blocks of all runs.
#[derive(Default)]
struct Here {
    blocks: HashMap<(u64, usize), Block>,
}

impl BlockSource for Here {
    fn block(&self, sst: &Arc<OpenSst>, index: usize) -> Option<Block> {
        self.blocks.get(&(sst.id.counter, index)).cloned()
    }
}

/// Eight runs of one SST each; entry `n` goes to run `run_of(n)`.
fn runs(run_of: impl Fn(u64) -> u64) -> (Vec<Source>, Here) {
    let mut here = Here::default();
    let sources = (0..RUNS).map(|run| {
        let id = ObjectId { role: Role::Writer, epoch: 1, counter: run, nonce: 0 };
        let options = SstOptions {
            block_bytes: 16 << 10,
            restart_interval: 16,
            codec: Codec::None,
            filter_bits_per_key: 10,
        };
        let mut builder = SstBuilder::new(id, options);
        for n in (0..ENTRIES).filter(|n| run_of(*n) == run) {
            let key = format!("\0\0\0\0user{n:012}");
            let entry = EntryRef {
                key: key.as_bytes(),
                seq: n + 1,
                kind: Kind::Put,
                expire_at_ms: 0,
                value: &[7; 100],
            };
            builder.add(entry).expect("in order");
        }
        let mut bytes: Vec<u8> = builder.take_ready().concat();
        let finished = builder.finish().expect("not empty");
        finished.chunks.iter().for_each(|chunk| bytes.extend_from_slice(chunk));
        let bytes = Bytes::from(bytes);
        let sst = OpenSst::new(finished.meta).expect("just built");
        let tail = Arc::new(
            Tail::decode(&sst.meta, bytes.slice(sst.meta.tail_offset as usize..)).expect("just built"),
        );
        for (index, place) in tail.places().enumerate() {
            let stored = bytes.slice(place.offset as usize..place.offset as usize + place.bytes as usize);
            here.blocks.insert((run, index), decode_block(id, place, stored).expect("just built"));
        }
        sst.tail.store(Some(tail));
        Source::Run(Arc::from([sst]))
    });
    (sources.collect(), here)
}

fn merge(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("merge");
    group.throughput(Throughput::Elements(ENTRIES));
    group.sample_size(20);
    let layouts: [(&str, RunOf); 2] = [
        ("8 runs at random", |n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 61),
        ("8 runs in stretches of 50", |n| n / 50 % RUNS),
    ];
    for (layout, run_of) in layouts {
        let (sources, here) = runs(run_of);
        let all = FullRange::all();
        for direction in [Direction::Forward, Direction::Reverse] {
            group.bench_function(format!("{layout}: entries, {direction:?}"), |bencher| {
                bencher.iter(|| {
                    let mut tree = Tree::new(sources.clone(), &all, direction);
                    let mut bytes = 0;
                    while let Ok(Step::Ready) = tree.advance(&here) {
                        bytes += tree.peek().map_or(0, |entry| entry.value.len());
                    }
                    assert_eq!(bytes as u64, 100 * ENTRIES);
                });
            });
        }
        group.bench_function(format!("{layout}: visible"), |bencher| {
            bencher.iter(|| {
                let mut visible =
                    Visible::new(Tree::new(sources.clone(), &all, Direction::Forward), u64::MAX, 0);
                let mut rows = 0;
                while let Ok(Step::Ready) = visible.step(&here) {
                    rows += 1;
                }
                assert_eq!(rows, ENTRIES);
            });
        });
        group.bench_function(format!("{layout}: retained"), |bencher| {
            bencher.iter(|| {
                let mut tree = Tree::new(sources.clone(), &all, Direction::Forward);
                let mut retain = Retain::new(true, 0, 0);
                while let (Ok(Step::Ready), Some(entry)) = (tree.advance(&here), tree.peek()) {
                    black_box(retain.keep(entry).is_ok_and(|keep| keep));
                }
                assert_eq!(retain.dropped_entries(), 0);
            });
        });
    }
}

criterion_group!(benches, merge);
criterion_main!(benches);
