//! The merge: eight sorted runs whose blocks are all here, with keys interleaved at random (the worst case for the
//! tree) and in long stretches (the usual case, for which the runner-up is remembered).

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use esker::{
    codec::frame::Codec,
    merge::{Direction, Step, Tree, Visible},
    range::FullRange,
};
use esker_bench::{
    dataset::Dataset,
    merging::{RunOf, Runs, at_random, in_stretches},
};

const ENTRIES: u64 = 400_000;
const VALUE_BYTES: usize = 100;

fn merge(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("merge");
    group.throughput(Throughput::Elements(ENTRIES));
    group.sample_size(20);
    let data = Dataset::new(ENTRIES, Dataset::LEAST_KEY_BYTES, VALUE_BYTES, false, 1);
    data.add_rows(ENTRIES);
    let layouts: [(&str, RunOf); 2] =
        [("8 runs at random", at_random), ("8 runs in stretches of 50", in_stretches)];
    for (layout, run_of) in layouts {
        let runs = Runs::new(&data, Codec::None, run_of).expect("SSTs are built");
        let all = FullRange::all();
        for direction in [Direction::Forward, Direction::Reverse] {
            group.bench_function(format!("{layout}: entries, {direction:?}"), |bencher| {
                bencher.iter(|| {
                    let mut tree = Tree::new(runs.sources.clone(), &all, direction);
                    let mut bytes = 0;
                    while let Ok(Step::Ready) = tree.advance(&runs.here) {
                        bytes += tree.peek().map_or(0, |entry| entry.value.len());
                    }
                    assert_eq!(bytes as u64, VALUE_BYTES as u64 * ENTRIES);
                });
            });
        }
        group.bench_function(format!("{layout}: visible"), |bencher| {
            bencher.iter(|| {
                let mut visible =
                    Visible::new(Tree::new(runs.sources.clone(), &all, Direction::Forward), u64::MAX, 0);
                let mut rows = 0;
                while let Ok(Step::Ready) = visible.step(&runs.here) {
                    rows += 1;
                }
                assert_eq!(rows, ENTRIES);
            });
        });
        group.bench_function(format!("{layout}: retained"), |bencher| {
            bencher.iter(|| assert_eq!(black_box(runs.merge()).expect("all is here"), ENTRIES));
        });
        group.bench_function(format!("{layout}: retained, and written as SSTs"), |bencher| {
            bencher
                .iter(|| assert_eq!(black_box(runs.merge_whole(Codec::None)).expect("all is here"), ENTRIES));
        });
    }
}

criterion_group!(benches, merge);
criterion_main!(benches);
