//! Tests of blocks of both forms against a sorted list, and against hostile bytes.

use bytes::Bytes;
use proptest::{collection::vec, prelude::*, sample::Index};

use super::{Block, BlockBuilder, BlockCursor, TRAILER_BYTES, pack, stretch::Room};
use crate::{
    error::ErrorKind,
    key::{Entry, Kind},
};

/// Entries in internal order, unique by (key, seq).
fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let key = prop_oneof![
        4 => vec(prop_oneof![Just(0u8), Just(b'a'), Just(b'b'), Just(255)], 0..6),
        1 => vec(Just(b'a'), 100..300),
        1 => vec(any::<u8>(), 0..20),
    ];
    let value = prop_oneof![
        4 => vec(any::<u8>(), 0..20),
        1 => vec(any::<u8>(), 120..300),
        3 => (any::<u8>(), 0..3000usize).prop_map(|(byte, len)| vec![byte; len]),
    ];
    let seq = prop_oneof![3 => 1..10u64, 1 => 1..70_000u64, 1 => any::<u64>()];
    let kind = prop_oneof![4 => Just(Kind::Put), 1 => Just(Kind::Delete), 1 => Just(Kind::PutIndirect)];
    let expiry = prop_oneof![4 => Just(0u64), 1 => 1_000..2_000u64, 1 => any::<u64>()];
    vec((key, seq, kind, expiry, value), 1..60).prop_map(|rows| {
        let mut entries: Vec<Entry> = rows
            .into_iter()
            .map(|(key, seq, kind, expire_at_ms, value)| Entry {
                key: key.into(),
                seq,
                kind,
                expire_at_ms,
                value: if kind == Kind::Delete { Bytes::new() } else { value.into() },
            })
            .collect();
        entries.sort_by(|a, b| a.key.cmp(&b.key).then(b.seq.cmp(&a.seq)));
        entries.dedup_by(|a, b| (&a.key, a.seq) == (&b.key, b.seq));
        entries
    })
}

fn build(entries: &[Entry], interval: usize) -> Block {
    let mut builder = BlockBuilder::new(interval);
    for entry in entries {
        builder.add(entry.as_ref());
    }
    let size = builder.size();
    let raw = builder.finish();
    assert_eq!((size, builder.is_empty()), (raw.len(), true));
    Block::parse(raw.into()).unwrap()
}

/// The block, and its packed form if it has one.
fn both_forms(block: Block) -> Vec<Block> {
    let packed = pack(block.bytes()).map(|packed| {
        assert!(packed.len() <= block.bytes().len() - block.bytes().len() / 8);
        assert!(Block::parse(packed.clone()).is_err(), "no SST holds a packed block");
        let packed = Block::parse_cached(packed).unwrap();
        assert!(packed.is_packed() && pack(packed.bytes()).is_none());
        packed
    });
    [block].into_iter().chain(packed).collect()
}

/// Entries that make a packed block: with empty values, deletes, and values that do not compress.
fn compressible(values: usize) -> Vec<Entry> {
    (0..values as u64)
        .map(|n| {
            let noise = (0..400u64).map(|i| crate::codec::frame::checksum(n, &i.to_le_bytes()) as u8);
            let value = match n % 7 {
                0 => Vec::new(),
                1 => noise.collect(),
                _ => vec![n as u8; (n as usize * 311) % 900],
            };
            let kind = if n % 14 == 0 { Kind::Delete } else { Kind::Put };
            Entry { key: format!("{n:06}").into(), kind, value: value.into(), ..row("", 1 + n % 300) }
        })
        .collect()
}

fn here(cursor: &BlockCursor) -> Option<Entry> {
    cursor.is_valid().then(|| {
        let entry = cursor.entry();
        assert_eq!(cursor.value(), entry.value);
        Entry {
            key: Bytes::copy_from_slice(entry.key),
            seq: entry.seq,
            kind: entry.kind,
            expire_at_ms: entry.expire_at_ms,
            value: Bytes::copy_from_slice(entry.value),
        }
    })
}

fn row(key: &'static str, seq: u64) -> Entry {
    Entry { key: key.into(), seq, kind: Kind::Put, expire_at_ms: 0, value: "v".into() }
}

#[test]
fn the_common_entry_pays_two_bytes_for_seq_expiry_and_kind() {
    let rows: Vec<Entry> = (0..1000u64)
        .map(|n| Entry { key: format!("{n:08}").into(), seq: (1 << 40) + n * 60, ..row("", 0) })
        .collect();
    let with_seqs = build(&rows, 16).bytes().len();
    let alike: Vec<Entry> = rows.iter().map(|entry| Entry { seq: 5, ..entry.clone() }).collect();
    assert_eq!(with_seqs - build(&alike, 16).bytes().len(), 2 * 1000);
}

#[test]
fn versions_of_a_key_are_found_across_restarts() {
    let mut rows: Vec<Entry> = (1..=100).rev().map(|seq| row("k", seq * 10)).collect();
    rows.insert(0, row("j", 5));
    rows.push(row("l", 5));
    let block = build(&rows, 4);
    for seq in 0..1100 {
        let found = block.get(b"k", seq).unwrap().map(|found| found.seq);
        assert_eq!(found, (seq >= 10).then_some((seq / 10 * 10).min(1000)), "at {seq}");
    }
    assert_eq!(block.get(b"", u64::MAX).unwrap(), None);
    assert_eq!(block.get(b"kk", u64::MAX).unwrap(), None);
    assert_eq!(block.get(b"m", u64::MAX).unwrap(), None);
}

#[test]
fn a_stretch_with_keys_too_large_to_write_out_is_not_taken_apart() {
    let long = |n: u8| Bytes::from([vec![b'k'; 60_000], vec![n]].concat());
    let rows: Vec<_> = (0..10).map(|n| Entry { key: long(n), ..row("", 1) }).collect();
    let block = build(&rows, 16);
    assert!(block.stretch(0..10, &mut Room::default()).unwrap().is_none());
    assert_eq!(block.stretch(2..4, &mut Room::default()).unwrap().unwrap().key(1), long(3));
    assert!(block.stretch(3..3, &mut Room::default()).unwrap().is_none());
}

#[test]
fn a_value_is_a_slice_of_the_block() {
    let block = build(&[Entry { value: vec![7; 1000].into(), ..row("k", 1) }], 16);
    let value = block.get(b"k", 1).unwrap().unwrap().value;
    assert!(block.bytes().as_ptr_range().contains(&value.as_ptr()));
    let mut cursor = block.cursor();
    cursor.first().unwrap();
    assert_eq!(cursor.value().as_ptr(), value.as_ptr());
}

#[test]
fn a_point_read_of_a_packed_block_gives_the_same_and_keeps_no_more_alive() {
    let rows = compressible(200);
    let [plain, packed] = &both_forms(build(&rows, 16))[..] else { panic!("it packs") };
    for row in &rows {
        let found = packed.get(&row.key, u64::MAX).unwrap();
        assert_eq!(found, plain.get(&row.key, u64::MAX).unwrap());
        let value = found.unwrap().value;
        assert_eq!(value, row.value);
        // A chunk that does not compress lies in the block as it is.
        assert!(
            value.is_unique() || value.is_empty() || packed.bytes().as_ptr_range().contains(&value.as_ptr())
        );
    }
}

#[test]
fn a_huge_value_is_a_chunk_of_its_own() {
    let huge = Entry { value: vec![7; 5 << 20].into(), ..row("b", 2) };
    let rows = [row("a", 1), huge.clone(), Entry { value: Bytes::new(), ..row("c", 3) }, row("d", 4)];
    let packed = both_forms(build(&rows, 16)).pop().unwrap();
    assert!(packed.is_packed() && packed.bytes().len() < 64 << 10, "{} bytes", packed.bytes().len());
    for row in &rows {
        assert_eq!(packed.get(&row.key, 9).unwrap().unwrap().value, row.value);
    }
    let mut stretch = packed.stretch(1..3, &mut Room::default()).unwrap().unwrap();
    assert_eq!(stretch.value(0), Bytes::new(), "nothing is decompressed unasked");
    stretch.bring(0..2).unwrap();
    assert_eq!(stretch.value(0), huge.value);
}

#[test]
fn what_gains_nothing_is_not_packed() {
    let deletes: Vec<_> = (0..500)
        .map(|n| Entry {
            kind: Kind::Delete,
            value: Bytes::new(),
            key: format!("{n:04}").into(),
            ..row("", 1)
        })
        .collect();
    let noise = |n: u64| {
        (0..400u64).map(|i| crate::codec::frame::checksum(n, &i.to_le_bytes()) as u8).collect::<Vec<_>>()
    };
    let noisy: Vec<_> = (0..40)
        .map(|n| Entry { key: format!("{n:04}").into(), value: noise(n).into(), ..row("", 1) })
        .collect();
    for rows in [deletes, noisy, vec![row("a", 1)]] {
        assert!(pack(build(&rows, 16).bytes()).is_none());
    }
    assert!(pack(&Bytes::new()).is_none() && pack(&Bytes::from(vec![1; 100])).is_none());
}

#[test]
fn a_packed_block_that_was_changed_anywhere_never_panics_and_never_loops() {
    let rows = compressible(40);
    let packed = both_forms(build(&rows, 4)).pop().unwrap();
    assert!(packed.is_packed());
    let keys: Vec<Vec<u8>> = rows.iter().step_by(5).map(|row| row.key.to_vec()).collect();
    let raw = packed.bytes().to_vec();
    for at in 0..raw.len() {
        for bit in [0, 3, 7] {
            let mut changed = raw.clone();
            changed[at] ^= 1 << bit;
            if let Ok(block) = Block::parse_cached(changed.into()) {
                exercise(&block, &keys);
            }
        }
        assert!(Block::parse_cached(raw[..at].to_vec().into()).is_err(), "cut at {at}");
        if let Ok(block) = Block::parse_cached(raw[raw.len() - at..].to_vec().into()) {
            exercise(&block, &keys);
        }
    }
}

#[test]
fn a_cursor_that_stands_nowhere_stays_there() {
    let block = build(&[row("a", 2), row("b", 1)], 16);
    let mut cursor = block.cursor();
    assert!(!cursor.is_valid());
    cursor.next().unwrap();
    cursor.prev().unwrap();
    assert!(!cursor.is_valid());
    cursor.last().unwrap();
    cursor.next().unwrap();
    assert!(!cursor.is_valid());
    cursor.first().unwrap();
    cursor.prev().unwrap();
    assert!(!cursor.is_valid());
}

#[test]
fn what_a_newer_version_wrote_is_refused_by_name() {
    let raw = build(&[row("a", 1)], 16).bytes().to_vec();
    let change = |from_end: usize, byte: u8| {
        let mut raw = raw.clone();
        let at = raw.len() - from_end;
        raw[at] = byte;
        let error = Block::parse(raw.into()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        error.to_string()
    };
    assert!(change(1, 2).contains("block version 2"));
    assert!(change(1, 0x81).contains("block version 129"));
    assert!(change(3, 1).contains("hash index"));
    assert!(change(3, 0x40).contains("0x40"));
    assert!(change(4, 9).contains("entry kind 9"));
}

#[test]
fn parts_that_do_not_fit_are_corruption() {
    let raw = build(&[row("a", 1), row("b", 2)], 16).bytes().to_vec();
    for n in 0..raw.len() {
        assert!(Block::parse(raw[..n].to_vec().into()).is_err(), "cut at {n}");
        assert!(Block::parse(raw[raw.len() - n..].to_vec().into()).is_err(), "without the first {n}");
    }
    let mut many = raw.clone();
    let entries_at = raw.len() - TRAILER_BYTES + 16;
    many[entries_at..entries_at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(Block::parse(many.into()).unwrap_err().kind(), ErrorKind::Corruption);
}

/// Calls everything there is on a block that parsed. Whatever it says, it must say it, and end.
fn exercise(block: &Block, keys: &[Vec<u8>]) {
    let _ = block.validate();
    let mut cursor = block.cursor();
    for key in keys {
        for seq in [0, 5, u64::MAX] {
            let _ = block.get(key, seq);
            if cursor.seek(key, seq).is_ok() {
                here(&cursor);
            }
            let _ = cursor.prev();
            let _ = cursor.next();
            let _ = cursor.seek_before(key, seq);
            here(&cursor);
        }
    }
    if let Ok(Some(mut stretch)) = block.stretch(0..block.entries(), &mut Room::default()) {
        let _ = stretch.bring(0..stretch.len());
        (0..stretch.len()).for_each(|n| assert_eq!(stretch.value(n), stretch.entry(n).value));
    }
    let mut steps = 0;
    let _ = cursor.first();
    while cursor.is_valid() && steps <= block.entries() {
        here(&cursor);
        let _ = cursor.next();
        steps += 1;
    }
    assert!(steps <= block.entries());
    let _ = cursor.last();
    let mut steps = 0;
    while cursor.is_valid() && steps <= block.entries() {
        let _ = cursor.prev();
        steps += 1;
    }
    assert!(steps <= block.entries());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn a_block_gives_back_what_was_added_in_both_directions(rows in entries(), interval in 1..6usize) {
        for block in both_forms(build(&rows, interval)) {
            block.validate().unwrap();
            prop_assert_eq!(block.entries(), rows.len());
            let mut cursor = block.cursor();
            cursor.first().unwrap();
            for row in &rows {
                prop_assert_eq!(here(&cursor), Some(row.clone()));
                cursor.next().unwrap();
            }
            prop_assert_eq!(here(&cursor), None);
            cursor.last().unwrap();
            for row in rows.iter().rev() {
                prop_assert_eq!(here(&cursor), Some(row.clone()));
                cursor.prev().unwrap();
            }
            prop_assert_eq!(here(&cursor), None);
        }
    }

    #[test]
    fn a_stretch_of_a_block_is_what_a_cursor_walks_over(
        rows in entries(), interval in 1..6usize, ends in (any::<Index>(), any::<Index>()), together in 1..9usize,
    ) {
        for block in both_forms(build(&rows, interval)) {
            let (a, b) = (ends.0.index(rows.len() + 1), ends.1.index(rows.len() + 1));
            let wanted = a.min(b)..a.max(b);
            let Some(mut stretch) = block.stretch(wanted.clone(), &mut Room::default()).unwrap() else {
                prop_assert!(wanted.is_empty());
                continue;
            };
            prop_assert_eq!(stretch.len(), wanted.len());
            for (n, row) in rows[wanted.clone()].iter().enumerate() {
                if n.is_multiple_of(together) {
                    stretch.bring(n..(n + together).min(stretch.len())).unwrap();
                }
                let entry = stretch.entry(n);
                prop_assert_eq!((entry.key, entry.seq, entry.kind, entry.expire_at_ms, entry.value),
                    (&row.key[..], row.seq, row.kind, row.expire_at_ms, &row.value[..]));
                prop_assert_eq!(stretch.value(n), row.value.clone());
                prop_assert_eq!(stretch.goes_on(n), n > 0 && rows[wanted.start + n - 1].key == row.key);
            }
        }
    }

    #[test]
    fn what_a_cursor_takes_is_what_it_would_have_walked_over(
        rows in entries(), interval in 1..6usize, start in any::<Index>(), until in entries(), most in 0..40usize, lazy: bool,
    ) {
        for block in both_forms(build(&rows, interval)) {
            let mut cursor = if lazy { BlockCursor::lazy(block.clone()) } else { block.cursor() };
            let mut at = start.index(rows.len());
            cursor.seek(&rows[at].key, rows[at].seq).unwrap();
            let mut room = Room::default();
            // Each bound in turn from where the last one left it.
            for until in until.iter().map(|row| Some(&row.key)).chain([None]) {
                let before = rows[at..].iter().take_while(|row| until.is_none_or(|until| row.key < *until));
                let expected = &rows[at..at + before.take(most).count()];
                let taken = cursor.take(until.map(|key| &key[..]), most, &mut room).unwrap();
                prop_assert_eq!(taken.is_some(), expected.len() > 1);
                cursor.bring().unwrap();
                let Some(mut stretch) = taken else {
                    prop_assert_eq!(here(&cursor), Some(rows[at].clone()));
                    continue;
                };
                prop_assert_eq!(stretch.len(), expected.len());
                for (n, row) in expected.iter().enumerate() {
                    stretch.bring(n..n + 1).unwrap();
                    let entry = stretch.entry(n);
                    prop_assert_eq!((entry.key, entry.seq, entry.kind, entry.expire_at_ms, entry.value),
                        (&row.key[..], row.seq, row.kind, row.expire_at_ms, &row.value[..]));
                    prop_assert_eq!(stretch.goes_on(n), n > 0 && expected[n - 1].key == row.key);
                }
                cursor.keep_values(&mut stretch);
                room = stretch.into_room();
                at += expected.len();
                cursor.next().unwrap();
                cursor.bring().unwrap();
                prop_assert_eq!(here(&cursor), rows.get(at).cloned());
                if at == rows.len() {
                    break;
                }
            }
        }
    }

    #[test]
    fn searches_agree_with_a_sorted_list(
        rows in entries(), interval in 1..6usize, others in entries(), walk in vec(any::<bool>(), 0..40),
    ) {
        for block in both_forms(build(&rows, interval)) {
            let mut cursor = block.cursor();
            let targets = rows.iter().chain(&others).flat_map(|row| {
                [0, row.seq.saturating_sub(1), row.seq, row.seq.saturating_add(1), u64::MAX].map(|seq| (row.key.clone(), seq))
            });
            for (key, seq) in targets {
                let at = rows.partition_point(|row| row.key < key || row.key == key && row.seq > seq);
                let expected = rows.get(at);
                cursor.seek(&key, seq).unwrap();
                prop_assert_eq!(here(&cursor), expected.cloned());
                let found = block.get(&key, seq).unwrap();
                let visible = expected.filter(|row| row.key == key);
                prop_assert_eq!(
                    found.map(|f| (f.seq, f.kind, f.expire_at_ms, f.value)),
                    visible.map(|r| (r.seq, r.kind, r.expire_at_ms, r.value.clone()))
                );
                cursor.seek_before(&key, seq).unwrap();
                prop_assert_eq!(here(&cursor), at.checked_sub(1).map(|before| rows[before].clone()));
            }
            // From wherever that left it: any mixture of steps.
            cursor.first().unwrap();
            let mut at = 0usize;
            for &forward in &walk {
                if forward && at + 1 < rows.len() {
                    cursor.next().unwrap();
                    at += 1;
                } else if !forward && at > 0 {
                    cursor.prev().unwrap();
                    at -= 1;
                }
                prop_assert_eq!(here(&cursor), Some(rows[at].clone()));
            }
        }
    }

    #[test]
    fn a_changed_block_never_panics_and_never_loops(
        rows in entries(), interval in 1..6usize, changes in vec((any::<Index>(), any::<u8>()), 1..6),
    ) {
        let mut raw = build(&rows, interval).bytes().to_vec();
        for (at, byte) in changes {
            let at = at.index(raw.len());
            raw[at] = byte;
        }
        if let Ok(block) = Block::parse(raw.into()) {
            let keys: Vec<Vec<u8>> = rows.iter().take(10).map(|row| row.key.to_vec()).collect();
            exercise(&block, &keys);
        }
    }

    #[test]
    fn hostile_bytes_with_a_fitting_trailer_never_panic(
        keys in vec(any::<u8>(), 0..120), values in vec(any::<u8>(), 0..40), entries in 1..40u32,
        interval in 1..8u16, widths in (0..9u8, 0..9u8), differ in any::<bool>(), bases in any::<(u64, u64)>(), fill in any::<u8>(),
    ) {
        let mut raw = [&keys[..], &values[..]].concat();
        let columns = entries as usize * (widths.0 as usize + widths.1 as usize + differ as usize);
        let restarts = (entries as usize).div_ceil(interval as usize) * 8;
        raw.resize(raw.len() + columns, fill % 5);
        raw.resize(raw.len() + restarts, fill % 32);
        raw.extend_from_slice(&bases.0.to_le_bytes());
        raw.extend_from_slice(&bases.1.to_le_bytes());
        raw.extend_from_slice(&entries.to_le_bytes());
        raw.extend_from_slice(&(keys.len() as u32).to_le_bytes());
        raw.extend_from_slice(&(values.len() as u32).to_le_bytes());
        raw.extend_from_slice(&interval.to_le_bytes());
        raw.extend_from_slice(&[widths.0, widths.1, if differ { 0xFF } else { 1 }, 0, 0, 1]);
        let block = Block::parse(raw.into()).unwrap();
        exercise(&block, &[vec![], vec![fill], keys]);
    }
}
