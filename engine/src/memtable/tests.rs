//! The memtable against a model: a sorted list of the same entries.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use proptest::prelude::*;

use super::{MemCursor, Memtable};
use crate::key::{Entry, Kind, Seq};

fn entry(key: &[u8], seq: Seq) -> Entry {
    let value = Bytes::from(format!("{}@{seq}", key.escape_ascii()));
    Entry { key: Bytes::copy_from_slice(key), seq, kind: Kind::Put, expire_at_ms: 0, value }
}

/// Where a cursor stands.
fn place(cursor: &MemCursor) -> Option<(Vec<u8>, Seq)> {
    cursor.is_valid().then(|| (cursor.entry().key.to_vec(), cursor.entry().seq))
}

#[test]
fn a_get_finds_the_newest_version_at_or_below_the_number() {
    let memtable = Memtable::new();
    for seq in [3, 5, 9] {
        memtable.insert(entry(b"k", seq));
    }
    memtable.insert(entry(b"kk", 1));
    assert!(memtable.get(b"k", 2).is_none());
    assert_eq!(memtable.get(b"k", 3).unwrap().seq, 3);
    assert_eq!(memtable.get(b"k", 8).unwrap().seq, 5);
    assert_eq!(memtable.get(b"k", Seq::MAX).unwrap().value, "k@9");
    assert!(memtable.get(b"", Seq::MAX).is_none());
    assert!(memtable.get(b"kkk", Seq::MAX).is_none());
    assert_eq!((memtable.len(), memtable.max_seq()), (4, 9));
}

#[test]
fn a_snapshot_finds_its_version_among_many_of_one_key() {
    let memtable = Memtable::new();
    for seq in 1..=5000 {
        memtable.insert(entry(if seq % 3 == 0 { b"a" } else { b"b" }, seq));
    }
    for seq in 1..=5000 {
        let newest = |is_its: fn(u64) -> bool| (1..=seq).rev().find(|seq| is_its(*seq));
        let found = |key: &[u8]| memtable.get(key, seq).map(|found| found.seq);
        assert_eq!(found(b"a"), newest(|seq| seq % 3 == 0));
        assert_eq!(found(b"b"), newest(|seq| seq % 3 != 0));
    }
}

#[test]
fn many_keys_are_found_while_the_index_grows_under_readers() {
    let memtable = Memtable::new();
    let visible = std::sync::atomic::AtomicU64::new(0);
    let key = |n: u64| n.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes();
    std::thread::scope(|threads| {
        threads.spawn(|| {
            for seq in 1..=60_000 {
                memtable.insert(entry(&key(seq), seq));
                visible.store(seq, std::sync::atomic::Ordering::Release);
            }
        });
        threads.spawn(|| {
            let mut n = 1;
            while n < 60_000 {
                let seq = visible.load(std::sync::atomic::Ordering::Acquire);
                for n in n..=seq {
                    assert_eq!(memtable.get(&key(n), seq).map(|found| found.seq), Some(n));
                    assert!(memtable.get(&key(n + 60_000), seq).is_none());
                }
                n = n.max(seq);
            }
        });
    });
}

#[test]
fn memory_counts_keys_values_and_nodes() {
    let memtable = Memtable::new();
    assert_eq!(memtable.bytes(), 0);
    memtable.insert(entry(b"0123456789", 1));
    assert!(memtable.bytes() >= 10 + 12 + 100, "{}", memtable.bytes());
}

#[test]
fn a_cursor_outlives_the_callers_handle_and_sees_what_was_inserted_before_it_was_placed() {
    let memtable = Arc::new(Memtable::new());
    memtable.insert(entry(b"a", 1));
    let mut cursor = memtable.cursor();
    memtable.insert(entry(b"b", 2));
    cursor.first();
    memtable.insert(entry(b"c", 3));
    drop(memtable);
    let mut cursor = std::thread::spawn(move || {
        cursor.next();
        cursor
    })
    .join()
    .unwrap();
    assert_eq!(place(&cursor), Some((b"b".to_vec(), 2)));
    cursor.next();
    assert_eq!(place(&cursor), None);
    cursor.next();
    cursor.prev();
    assert_eq!(place(&cursor), None, "an invalid cursor stays where it is");
}

#[test]
fn readers_see_every_published_entry_while_a_writer_inserts() {
    let memtable = Arc::new(Memtable::new());
    let visible = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            for seq in 1..=20_000u64 {
                memtable.insert(entry(&(seq.wrapping_mul(0x9E37_79B9) as u32).to_be_bytes(), seq));
                visible.store(seq, std::sync::atomic::Ordering::Release);
            }
        });
        threads.spawn(|| {
            loop {
                let seq = visible.load(std::sync::atomic::Ordering::Acquire);
                let mut cursor = memtable.cursor();
                cursor.first();
                let mut seen = 0;
                while cursor.is_valid() {
                    seen += u64::from(cursor.entry().seq <= seq);
                    cursor.next();
                }
                assert_eq!(seen, seq);
                if seq == 20_000 {
                    break;
                }
            }
        });
    });
}

/// Short keys, and most of the time behind a prefix that others share, or all but share.
fn keys() -> impl Strategy<Value = Vec<u8>> {
    let prefixes = prop_oneof![
        6 => Just(&b"\0\0\0\x01orders/2026/0000000"[..]),
        1 => Just(&b"\0\0\0\x01orders/2026/000000"[..]),
        1 => Just(&b"\0\0\0\x01orders/2027/0000000"[..]),
        1 => Just(&b""[..]),
    ];
    (prefixes, prop::collection::vec(0u8..3, 0..4)).prop_map(|(prefix, rest)| [prefix, &rest].concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn a_cursor_moves_as_a_sorted_map_does(
        keys in prop::collection::vec(keys(), 0..300),
        moves in prop::collection::vec((0u8..6, keys(), 0u64..310), 1..200),
        placed in prop::collection::btree_set(0u64..300, 0..6),
    ) {
        let memtable = Arc::new(Memtable::new());
        let mut cursor = memtable.cursor();
        let mut model = BTreeMap::new();
        for (seq, key) in (1..).zip(&keys) {
            memtable.insert(entry(key, seq));
            model.insert((key.clone(), !seq), seq);
            // What has come so far is sorted, with the prefix that it shares.
            if placed.contains(&seq) {
                cursor.first();
            }
        }
        let mut cursor = memtable.cursor();
        let mut at: Option<(Vec<u8>, u64)> = None;
        for (step, key, seq) in moves {
            match step {
                0 => { cursor.first(); at = model.keys().next().cloned(); }
                1 => { cursor.last(); at = model.keys().next_back().cloned(); }
                2 => { cursor.seek(&key, seq); at = model.range((key, !seq)..).next().map(|e| e.0.clone()); }
                3 => { cursor.seek_before(&key, seq); at = model.range(..(key, !seq)).next_back().map(|e| e.0.clone()); }
                4 => for _ in 0..seq % 50 {
                    cursor.next();
                    at = at.and_then(|at| model.range((std::ops::Bound::Excluded(at), std::ops::Bound::Unbounded)).next().map(|e| e.0.clone()));
                },
                _ => for _ in 0..seq % 50 {
                    cursor.prev();
                    at = at.and_then(|at| model.range(..at).next_back().map(|e| e.0.clone()));
                },
            }
            prop_assert_eq!(place(&cursor), at.clone().map(|(key, not_seq)| (key, !not_seq)));
            if cursor.is_valid() {
                prop_assert_eq!(&cursor.value(), &entry(&cursor.key(), cursor.entry().seq).value);
            }
        }
    }
}
