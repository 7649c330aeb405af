//! What is picked: the tree on the left, the plan on the right.

use std::collections::BTreeMap;

use bytes::Bytes;
use esker::{
    codec::sum::Sum,
    compaction::{
        Plan,
        plan::{EXPIRY_MARGIN_MS, Reason, pick, pick_all},
        shape::MAX_LEVEL,
    },
    manifest::{Edit, Root, Run, StoredOptions, StoredShape, View},
    sst::SstMeta,
    store::{ObjectId, Role},
};
use proptest::prelude::*;

use super::tree::{EXPIRE_MS, MIB, drawn, paper, version};

const NOW_MS: u64 = EXPIRE_MS + EXPIRY_MARGIN_MS;

/// Four L0 runs, and levels of 256 MiB, 2.5 GiB …
fn leveled() -> StoredShape {
    StoredShape::leveled()
}

#[track_caller]
fn picks(shape: &StoredShape, tree: &str, plan: &str) {
    let view = version(shape, tree);
    assert_eq!(drawn(&view, pick(&view, NOW_MS).as_ref()), plan, "for the tree{tree}");
}

#[test]
fn an_empty_or_small_tree_is_left_alone() {
    picks(&leveled(), "", "nothing");
    picks(&leveled(), "L0 #1: a-z", "nothing");
    picks(&leveled(), "L0 #3: a-z \n L0 #2: a-z \n L0 #1: a-z", "nothing");
}

#[test]
fn enough_l0_runs_go_down_with_what_they_overlap() {
    picks(
        &leveled(),
        "
        L0 #9: c-e
        L0 #8: b-d
        L0 #7: c-d
        L0 #6: m-n
        L1 #1: a-b f-h k-m y-z
        ",
        "l0: #9 c-e, #8 b-d, #7 c-d, #6 m-n, #1 a-b k-m -> L1 bottom",
    );
}

#[test]
fn data_below_the_target_keeps_tombstones_alive() {
    picks(
        &leveled(),
        "
        L0 #9: c-e
        L0 #8: b-d
        L0 #7: c-d
        L0 #6: m-n
        L2 #1: d-e
        ",
        "l0: #9 c-e, #8 b-d, #7 c-d, #6 m-n -> L1",
    );
}

#[test]
fn l0_runs_that_overlap_nothing_are_moved() {
    picks(
        &leveled(),
        "
        L0 #9: q-r
        L0 #8: g-h
        L0 #7: e-f
        L0 #6: c-d
        L1 #1: a-b i-j
        ",
        "l0: #9 q-r, #8 g-h, #7 e-f, #6 c-d -> L1 bottom moved",
    );
}

#[test]
fn small_l0_runs_are_joined_rather_than_moved() {
    picks(
        &leveled(),
        "
        L0 #9: q-r:1
        L0 #8: g-h:1
        L0 #7: e-f:1
        L0 #6: c-d:1
        ",
        "l0: #9 q-r, #8 g-h, #7 e-f, #6 c-d -> L1 bottom",
    );
}

#[test]
fn an_sst_of_two_keyspaces_is_cut_rather_than_moved() {
    picks(
        &leveled(),
        "
        L0 #9: q-1/r
        L0 #8: g-h
        L0 #7: e-f
        L0 #6: c-d
        ",
        "l0: #9 q-r, #8 g-h, #7 e-f, #6 c-d -> L1 bottom",
    );
}

#[test]
fn the_oldest_l0_runs_go_first_when_there_are_too_many() {
    let tree: String = (1..=70).rev().map(|run| format!("L0 #{run}: a-z\n")).collect();
    let view = version(&leveled(), &tree);
    let plan = pick(&view, NOW_MS).expect("a plan");
    assert!(plan.keeps_order(&view));
    let runs: Vec<u64> = plan.inputs.iter().map(|(run, _)| *run).collect();
    assert_eq!(runs, (1..=64).rev().collect::<Vec<u64>>());
}

#[test]
fn the_sst_that_overlaps_least_leaves_a_full_level() {
    picks(
        &leveled(),
        "
        L1 #9: a-e:100 f-j:100 k-o:100
        L2 #1: a-b c-d e-f g-h i-j k-m
        ",
        "size: #9 k-o, #1 k-m -> L2 bottom",
    );
}

#[test]
fn ssts_that_overlap_nothing_below_are_moved_until_the_level_fits() {
    picks(
        &leveled(),
        "
        L1 #9: a-e:100 f-j:100 k-o:100 p-z:100
        L2 #1: a-b l-m
        ",
        "size: #9 f-j p-z -> L2 bottom moved",
    );
}

#[test]
fn the_last_level_is_moved_down_whole_when_it_is_full() {
    picks(&leveled(), "L1 #9: a-e:100 f-j:100 k-o:100", "size: #9 a-e f-j k-o -> L2 bottom moved");
}

#[test]
fn the_last_level_is_moved_down_before_l0_would_rewrite_it() {
    let tree = |first: u32| {
        format!(
            "
            L0 #9: a-z
            L0 #8: a-z
            L0 #7: a-z
            L0 #6: a-z
            L1 #1: a-e:{first} f-j:100 k-o:100
            "
        )
    };
    picks(&leveled(), &tree(56), "l0: #9 a-z, #8 a-z, #7 a-z, #6 a-z, #1 a-e f-j k-o -> L1 bottom");
    picks(&leveled(), &tree(100), "size: #1 a-e f-j k-o -> L2 bottom moved");
}

#[test]
fn the_fullest_level_is_merged_first() {
    let lazy = StoredShape::lazy_leveled();
    let tree = |l0: usize, l1: usize| {
        let runs = |level: usize, first: usize, number: usize| {
            (first..first + number).rev().map(|id| format!("L{level} #{id}: a-z\n")).collect::<String>()
        };
        format!("\n{}{}{}", runs(0, 40, l0), runs(1, 10, l1), runs(2, 1, 1))
    };
    let first = |l0, l1| pick(&version(&lazy, &tree(l0, l1)), NOW_MS).map(|plan| plan.reason);
    assert_eq!(first(4, 5), Some(Reason::L0));
    assert_eq!(first(4, 6), Some(Reason::Runs));
    assert_eq!(first(8, 9), Some(Reason::L0));
    assert_eq!(first(8, 11), Some(Reason::Runs));
    assert_eq!(first(3, 5), Some(Reason::Runs));
}

/// How many bytes merges write for each that is flushed, while `piled` runs come to L0 in the time of a merge.
fn written_a_byte(shape: StoredShape, piled: usize) -> f64 {
    const FLUSHES: usize = 200;
    let mut root = random_root(shape, &[]);
    let (mut counter, mut flushed, mut written) = (0, 0, 0);
    for flush in 0..FLUSHES {
        let ssts: Vec<SstMeta> = (0..10)
            .map(|tenth| {
                counter += 1;
                paper(&format!("{tenth}0"), &format!("{tenth}9"), 4 * MIB, counter)
            })
            .collect();
        let mut sum = Sum::from_bytes(&root.sum).expect("a sum");
        ssts.iter().for_each(|sst| sum.add(&Sum::from_bytes(&sst.sum).expect("a sum")));
        root.sum = Bytes::copy_from_slice(&sum.to_bytes());
        flushed += ssts.iter().map(|sst| sst.bytes).sum::<u64>();
        root.runs.insert(0, Run { id: root.next_run, level: 0, ssts, parts: Vec::new() });
        root.next_run += 1;
        let mut view = View::new(root, None).expect("a valid version");
        while (flush + 1) % piled == 0
            && let Some(plan) = pick(&view, 0)
        {
            let outputs = merged(&view, &plan, &mut counter);
            let bytes: u64 = outputs.iter().map(|sst| sst.bytes).sum();
            let edit = Edit::Compact {
                epoch: 1,
                inputs: plan.ids().collect(),
                outputs,
                level: plan.level,
                dropped: Sum::default(),
                counter_floor: counter + 1,
                busy_until_ms: 0,
            };
            view = View::new(edit.apply(&view.root).expect("it applies"), None).expect("a valid version");
            if !plan.moved {
                written += bytes;
                break;
            }
        }
        root = view.root.clone();
    }
    written as f64 / flushed as f64
}

#[test]
fn a_fill_that_keeps_l0_full_rewrites_the_tree_no_more_often_for_it() {
    for piled in [4, 8, 16] {
        let written = written_a_byte(StoredShape::lazy_leveled(), piled);
        assert!(
            written < 3.0,
            "{piled} runs come to L0 in the time of a merge: {written:.1} bytes are written a byte"
        );
        println!("{piled} runs in the time of a merge: {written:.2} bytes written a byte");
    }
}

#[test]
fn tiers_collect_runs_and_then_merge_into_one_run_of_the_next() {
    let tiered = StoredShape::tiered();
    picks(
        &tiered,
        "
        L0 #9: a-z
        L0 #8: a-z
        L0 #7: a-z
        L0 #6: a-z
        L1 #1: a-z
        ",
        "l0: #9 a-z, #8 a-z, #7 a-z, #6 a-z -> L1",
    );
    picks(
        &tiered,
        "
        L1 #9: a-z
        L1 #8: a-z
        L1 #7: a-z
        L1 #6: a-z
        L1 #5: a-z
        L2 #1: a-z
        ",
        "runs: #9 a-z, #8 a-z, #7 a-z, #6 a-z, #5 a-z -> L2",
    );
    picks(&tiered, "L1 #9: a-z \n L1 #8: a-z \n L1 #7: a-z \n L1 #6: a-z", "nothing");
}

#[test]
fn the_last_level_of_a_lazy_tree_is_one_run() {
    let lazy = StoredShape::lazy_leveled();
    picks(
        &lazy,
        "
        L1 #9: a-h
        L1 #8: a-h
        L1 #7: a-h
        L1 #6: a-h
        L1 #5: a-h
        L2 #1: a-e g-m n-z
        ",
        "runs: #9 a-h, #8 a-h, #7 a-h, #6 a-h, #5 a-h, #1 a-e g-m -> L2 bottom",
    );
    picks(
        &lazy,
        "
        L0 #9: a-z
        L0 #8: a-z
        L0 #7: a-z
        L0 #6: a-z
        L1 #2: a-z
        L2 #1: a-z
        ",
        "l0: #9 a-z, #8 a-z, #7 a-z, #6 a-z -> L1",
    );
}

#[test]
fn a_shape_that_was_changed_is_reached_from_the_old_one() {
    picks(
        &leveled(),
        "
        L1 #9: a-c m-p
        L1 #8: b-n
        ",
        "runs: #9 a-c m-p, #8 b-n -> L1 bottom",
    );
    // c-d and y-z share nothing, but b-x ties them together: the whole level takes part.
    picks(
        &leveled(),
        "
        L0 #9: c-d
        L0 #8: c-d
        L0 #7: c-d
        L0 #6: c-d
        L1 #3: y-z
        L1 #2: b-x
        ",
        "l0: #9 c-d, #8 c-d, #7 c-d, #6 c-d, #3 y-z, #2 b-x -> L1 bottom",
    );
}

#[test]
fn tombstones_are_rewritten_at_the_bottom_and_pushed_down_above_it() {
    picks(&leveled(), "L1 #9: a-e f-j:64t60", "tombstones: #9 f-j -> L1 bottom");
    picks(&leveled(), "L1 #9: a-e f-j:64t40", "nothing");
    picks(
        &leveled(),
        "
        L1 #9: a-e f-j:64t60
        L2 #1: a-b h-i
        ",
        "tombstones: #9 f-j, #1 h-i -> L2 bottom",
    );
    picks(&leveled(), "L0 #9: a-e:64t100", "nothing");
}

#[test]
fn what_has_expired_is_rewritten_once_the_margin_has_passed() {
    let tree = "L1 #9: a-e f-j:64x80";
    let view = version(&leveled(), tree);
    assert_eq!(drawn(&view, pick(&view, NOW_MS).as_ref()), "expiry: #9 f-j -> L1 bottom");
    assert_eq!(drawn(&view, pick(&view, NOW_MS - 1).as_ref()), "nothing");
    picks(&leveled(), "L1 #9: a-e f-j:64x40", "nothing");
}

#[test]
fn everything_goes_into_one_run_at_the_bottom_on_demand() {
    let all = |tree: &str| {
        let view = version(&leveled(), tree);
        drawn(&view, pick_all(&view).as_ref())
    };
    assert_eq!(all(""), "nothing");
    assert_eq!(all("L1 #9: a-e f-j"), "nothing");
    assert_eq!(all("L1 #9: a-e f-j:64t1"), "manual: #9 a-e f-j -> L1 bottom");
    assert_eq!(all("L0 #9: a-e"), "manual: #9 a-e -> L1 bottom");
    assert_eq!(all("L0 #9: a-e:400"), "manual: #9 a-e -> L2 bottom");
    assert_eq!(all("L0 #9: a-e \n L3 #1: q-r"), "manual: #9 a-e, #1 q-r -> L3 bottom");
}

#[test]
fn shapes_are_told_by_name_or_by_number() {
    for name in ["leveled", "tiered", "lazy-leveled", "l0=2,middle=3,last=1,ratio=5,base=1000"] {
        assert_eq!(name.parse::<StoredShape>().expect("a shape").to_string(), name);
    }
    for wrong in ["", "levelled", "l0=0", "ratio=1", "l0", "base=0", "depth=3", "l0=-1"] {
        let error = wrong.parse::<StoredShape>().expect_err(wrong);
        assert!(error.to_string().contains("lazy-leveled"), "{error}");
    }
}

/// Disjoint SSTs as (first, last, MiB, dead percent).
type PaperRun = Vec<(u8, u8, u64, u64)>;

fn run() -> impl Strategy<Value = PaperRun> {
    prop::collection::btree_set(0u8..100, 2..8).prop_flat_map(|ends| {
        let ends: Vec<u8> = ends.into_iter().collect();
        let ranges: Vec<(u8, u8)> = ends.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
        let facts = prop::collection::vec((1u64..200, 0u64..100), ranges.len());
        facts.prop_map(move |facts| {
            ranges
                .iter()
                .zip(facts)
                .map(|((first, last), (size, dead))| (*first, *last, size, dead))
                .collect()
        })
    })
}

fn shape() -> impl Strategy<Value = StoredShape> {
    (1u32..6, 1u32..5, 1u32..5, 2u32..6, 1u64..800).prop_map(
        |(l0_runs, middle_runs, last_runs, ratio, base)| StoredShape {
            l0_runs,
            middle_runs,
            last_runs,
            ratio,
            base_bytes: base * MIB,
        },
    )
}

fn random_root(shape: StoredShape, levels: &[Vec<PaperRun>]) -> Root {
    let options = StoredOptions { sst_bytes: 64 * MIB, shape, ..StoredOptions::default() };
    let mut root = Root::first(7, options);
    let (mut sum, mut counter) = (Sum::default(), 0);
    for (level, runs) in levels.iter().enumerate() {
        for ssts in runs {
            let ssts: Vec<SstMeta> = ssts
                .iter()
                .map(|(first, last, size, dead)| {
                    counter += 1;
                    let mut meta = paper(&format!("{first:03}"), &format!("{last:03}"), size * MIB, counter);
                    meta.tombstones = if dead % 2 == 0 { *dead * 10 } else { 0 };
                    meta.expiring = if dead % 2 == 1 { *dead * 10 } else { 0 };
                    (meta.min_expire_ms, meta.max_expire_ms) = (1, EXPIRE_MS);
                    sum.add(&Sum::from_bytes(&meta.sum).expect("a sum"));
                    meta
                })
                .collect();
            root.runs.push(Run { id: root.next_run, level: level as u32, ssts, parts: Vec::new() });
            root.next_run += 1;
        }
    }
    root.sum = Bytes::copy_from_slice(&sum.to_bytes());
    root.compactor.epoch = 1;
    root
}

/// What a merge would make, on paper: an SST for each stretch of keys that the inputs cover together.
fn merged(view: &View, plan: &Plan, counter: &mut u64) -> Vec<SstMeta> {
    let by_key: BTreeMap<Bytes, &SstMeta> = plan
        .ids()
        .map(|id| &view.sst(id).expect("an input is there").meta)
        .map(|meta| ([&meta.first_key[..], &meta.id].concat().into(), meta))
        .collect();
    if plan.moved {
        return by_key.into_values().cloned().collect();
    }
    let mut outputs: Vec<SstMeta> = Vec::new();
    for meta in by_key.into_values() {
        match outputs.last_mut().filter(|output| output.last_key >= meta.first_key) {
            Some(output) => {
                let mut sum = Sum::from_bytes(&output.sum).expect("a sum");
                sum.add(&Sum::from_bytes(&meta.sum).expect("a sum"));
                output.sum = Bytes::copy_from_slice(&sum.to_bytes());
                output.last_key = output.last_key.clone().max(meta.last_key.clone());
                output.bytes += meta.bytes;
                output.tail_offset = output.bytes - 4096;
                output.entries += meta.entries;
                output.tombstones += meta.tombstones;
                output.expiring += meta.expiring;
            }
            None => {
                *counter += 1;
                let id = ObjectId { role: Role::Compactor, epoch: 1, counter: *counter, nonce: 0 };
                outputs.push(SstMeta { id: id.to_bytes().into(), ..meta.clone() });
            }
        }
    }
    if plan.bottom {
        outputs.iter_mut().for_each(|output| (output.tombstones, output.expiring) = (0, 0));
    }
    outputs
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn plans_come_to_an_end_within_the_shape_and_keep_the_order_of_data(
        shape in shape(),
        l0 in prop::collection::vec(run(), 0..9),
        levels in prop::collection::vec(prop::collection::vec(run(), 0..6), 0..4),
    ) {
        let levels: Vec<_> = std::iter::once(l0).chain(levels).collect();
        let mut view = View::new(random_root(shape.clone(), &levels), None).expect("a valid version");
        let mut counter = 0;
        for step in 0.. {
            prop_assert!(step < 500, "no end: {:?}", pick(&view, NOW_MS));
            let Some(plan) = pick(&view, NOW_MS) else { break };
            prop_assert!(pick(&view, NOW_MS).as_ref() == Some(&plan), "the same version gives another plan");
            prop_assert!(plan.keeps_order(&view), "{}", drawn(&view, Some(&plan)));
            let edit = Edit::Compact {
                epoch: 1,
                inputs: plan.ids().collect(),
                outputs: merged(&view, &plan, &mut counter),
                level: plan.level,
                dropped: Sum::default(),
                counter_floor: counter + 1,
                busy_until_ms: 0,
            };
            // Applying checks the order of data and of runs once more, by other code.
            let root = edit.apply(&view.root).map_err(|e| TestCaseError::fail(format!("{e}: {}", drawn(&view, Some(&plan)))))?;
            view = View::new(root, None).expect("a valid version");
        }
        let last = view.runs.iter().map(|run| run.level).max().unwrap_or(0).max(1);
        for level in 0..=last {
            let runs: Vec<_> = view.runs.iter().filter(|run| run.level == level).collect();
            prop_assert!(runs.len() <= shape.runs_allowed(level, last), "L{} holds {} runs", level, runs.len());
            let bytes: u64 = runs.iter().flat_map(|run| run.ssts.iter()).map(|sst| sst.meta.bytes).sum();
            let fits = level == 0 || level == MAX_LEVEL || runs.len() != 1 || bytes <= shape.level_bytes(level);
            prop_assert!(fits, "L{} holds {} bytes of {}", level, bytes, shape.level_bytes(level));
        }
    }
}
