//! Tests of what is in memory: memtables merged, made visible, and what a compaction keeps of them.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use esker::{
    ErrorKind,
    codec::sum::Sum,
    error::Result,
    key::{Entry, Kind},
    memtable::Memtable,
    merge::{BlockSource, Direction, Retain, Source, Step, Tree, Visible},
    range::FullRange,
    sst::OpenSst,
};
use proptest::prelude::*;

/// Memtables need no blocks.
struct NoBlocks;

impl BlockSource for NoBlocks {
    fn block(&self, _: &Arc<OpenSst>, _: usize) -> Option<esker::block::Block> {
        None
    }
}

fn put(key: &[u8], seq: u64) -> Entry {
    let value = Bytes::from(seq.to_string());
    Entry { key: Bytes::copy_from_slice(key), seq, kind: Kind::Put, expire_at_ms: 0, value }
}

fn delete(key: &[u8], seq: u64) -> Entry {
    Entry { kind: Kind::Delete, value: Bytes::new(), ..put(key, seq) }
}

fn memtable(entries: impl IntoIterator<Item = Entry>) -> Arc<Memtable> {
    let memtable = Memtable::new();
    let mut entries: Vec<_> = entries.into_iter().collect();
    // In the order of their numbers, as a writer gives them out.
    entries.sort_by_key(|entry| entry.seq);
    entries.into_iter().for_each(|entry| memtable.insert(entry));
    Arc::new(memtable)
}

fn merged(memtables: &[Arc<Memtable>], range: &FullRange, direction: Direction) -> Vec<(Vec<u8>, u64)> {
    let mut tree = Tree::new(memtables.iter().cloned().map(Source::Mem), range, direction);
    let mut seen = Vec::new();
    while let Step::Ready = tree.advance(&NoBlocks).unwrap() {
        let entry = tree.peek().unwrap();
        assert_eq!(tree.value(), entry.value);
        seen.push((entry.key.to_vec(), entry.seq));
    }
    assert!(matches!(tree.advance(&NoBlocks).unwrap(), Step::End), "an ended merge stays ended");
    assert!(tree.peek().is_none());
    seen
}

fn rows(memtable: &Arc<Memtable>, seq: u64, now_ms: u64, direction: Direction) -> Result<Vec<String>> {
    let tree = Tree::new([Source::Mem(Arc::clone(memtable))], &FullRange::all(), direction);
    let mut visible = Visible::new(tree, seq, now_ms);
    let mut rows = Vec::new();
    while let Step::Ready = visible.step(&NoBlocks)? {
        let row = visible.row().unwrap();
        assert_eq!(visible.value(), row.value);
        rows.push(format!("{}={}", row.key.escape_ascii(), row.value.escape_ascii()));
    }
    Ok(rows)
}

#[test]
fn a_merge_of_nothing_ends_at_once() {
    assert!(merged(&[], &FullRange::all(), Direction::Forward).is_empty());
    assert!(merged(&[memtable([])], &FullRange::all(), Direction::Reverse).is_empty());
}

#[test]
fn the_newest_version_decides_in_both_directions() {
    let memtable = memtable([
        put(b"a", 1),
        put(b"a", 4),
        delete(b"b", 5),
        put(b"b", 2),
        Entry { expire_at_ms: 100, ..put(b"c", 6) },
        put(b"c", 3),
        put(b"d", 9),
    ]);
    let table: [(u64, u64, &[&str]); 5] = [
        (9, 99, &["a=4", "c=6", "d=9"]),
        (9, 100, &["a=4", "d=9"]),
        (5, 100, &["a=4", "c=3"]),
        (3, 0, &["a=1", "b=2", "c=3"]),
        (0, 0, &[]),
    ];
    for (seq, now_ms, expected) in table {
        let mut expected: Vec<_> = expected.iter().map(|row| (*row).to_owned()).collect();
        assert_eq!(
            rows(&memtable, seq, now_ms, Direction::Forward).unwrap(),
            expected,
            "at {seq}, {now_ms} ms"
        );
        expected.reverse();
        assert_eq!(
            rows(&memtable, seq, now_ms, Direction::Reverse).unwrap(),
            expected,
            "at {seq}, {now_ms} ms"
        );
    }
}

#[test]
fn a_kind_this_version_cannot_read_is_refused_by_name_where_it_decides() {
    let memtable = memtable([put(b"a", 1), Entry { kind: Kind::Merge, ..put(b"b", 5) }, put(b"b", 6)]);
    for direction in [Direction::Forward, Direction::Reverse] {
        let error = rows(&memtable, 5, 0, direction).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("merge operand"), "{error}");
        assert_eq!(rows(&memtable, 6, 0, direction).unwrap().len(), 2, "it is in the shadow of the put");
    }
    let mut retain = Retain::new(true, 0, 0);
    let error = retain.keep(Entry { kind: Kind::RangeDelete, ..put(b"b", 5) }.as_ref()).unwrap_err();
    assert!(error.to_string().contains("range delete"), "{error}");
}

/// Runs entries (in merge order) through a `Retain`; what is kept, as `key@seq`.
fn retained(bottom: bool, now_ms: u64, margin_ms: u64, entries: &[Entry]) -> String {
    let mut retain = Retain::new(bottom, now_ms, margin_ms);
    let (mut all, mut balance, mut kept) = (Sum::default(), Sum::default(), Vec::new());
    for entry in entries {
        all.add_entry(entry.as_ref());
        if retain.keep(entry.as_ref()).unwrap() {
            balance.add_entry(entry.as_ref());
            kept.push(format!("{}@{}", entry.key.escape_ascii(), entry.seq));
        }
    }
    balance.add(retain.dropped());
    assert_eq!(balance, all, "kept plus dropped is what came in");
    assert_eq!(retain.dropped_entries() as usize, entries.len() - kept.len());
    kept.join(" ")
}

#[test]
fn a_compaction_keeps_the_newest_version_and_at_the_bottom_nothing_that_hides_nothing() {
    let expiring = |key: &[u8], seq, at| Entry { expire_at_ms: at, ..put(key, seq) };
    let entries = [
        put(b"a", 9),
        put(b"a", 3),
        delete(b"b", 8),
        put(b"b", 2),
        expiring(b"c", 7, 1000),
        put(b"c", 1),
        expiring(b"d", 6, 0),
    ];
    assert_eq!(retained(false, 5000, 100, &entries), "a@9 b@8 c@7 d@6");
    assert_eq!(retained(true, 5000, 100, &entries), "a@9 d@6");
    assert_eq!(retained(true, 1099, 100, &entries), "a@9 c@7 d@6", "the margin has not passed");
    assert_eq!(retained(true, 1100, 100, &entries), "a@9 d@6");
    assert_eq!(retained(true, 50, 100, &entries), "a@9 c@7 d@6", "a clock at its beginning expires nothing");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn a_merge_is_the_sorted_union_of_its_sources(
        sources in prop::collection::vec(prop::collection::vec(prop::collection::vec(0u8..4, 0..3), 0..40), 0..9),
        start in prop::collection::vec(0u8..4, 0..3),
        end in prop::option::of(prop::collection::vec(0u8..4, 0..3)),
    ) {
        let mut model = BTreeMap::new();
        let mut seq = 0;
        let memtables: Vec<_> = sources.iter().map(|keys| memtable(keys.iter().map(|key| {
            seq += 1;
            model.insert((key.clone(), !seq), ());
            put(key, seq)
        }))).collect();
        let range = FullRange { start: start.into(), end: end.map(Bytes::from) };
        let mut expected: Vec<_> =
            model.into_keys().filter(|(key, _)| range.contains(key)).map(|(key, not)| (key, !not)).collect();
        prop_assert_eq!(&merged(&memtables, &range, Direction::Forward), &expected);
        expected.reverse();
        prop_assert_eq!(&merged(&memtables, &range, Direction::Reverse), &expected);
    }

    #[test]
    fn a_memtables_sum_is_that_of_its_entries(keys in prop::collection::vec(prop::collection::vec(0u8..4, 0..3), 0..40)) {
        let entries: Vec<_> = (1..).zip(&keys).map(|(seq, key)| put(key, seq)).collect();
        let mut sum = Sum::default();
        entries.iter().for_each(|entry| sum.add_entry(entry.as_ref()));
        prop_assert_eq!(memtable(entries).sum(), sum);
    }
}
