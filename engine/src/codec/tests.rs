//! Tests of the codec floor.

use proptest::{collection::vec, prelude::*};

use super::{
    frame::{Codec, checksum, compress, decompress, place_seed},
    sum::Sum,
    varint::{Input, get_varint, put_varint, varint_bytes},
};
use crate::{
    error::ErrorKind,
    key::{EntryRef, Kind},
};

const CODECS: [Codec; 3] = [Codec::None, Codec::Lz4, Codec::Zstd];

fn entry<'a>(key: &'a [u8], seq: u64, value: &'a [u8]) -> EntryRef<'a> {
    EntryRef { key, seq, kind: Kind::Put, expire_at_ms: 0, value }
}

#[test]
fn a_varint_has_exactly_one_encoding() {
    for over_long in [&[0x80, 0x00][..], &[0xFF, 0x00], &[0x80; 10], &[0x80, 0x80, 0x00]] {
        assert_eq!(get_varint(over_long), None, "{over_long:02x?}");
    }
    let past_64_bits = [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x02];
    assert_eq!(get_varint(&past_64_bits), None);
    assert_eq!(get_varint(&[]), None);
    assert_eq!(
        get_varint(&[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01]),
        Some((u64::MAX, 10))
    );
}

#[test]
fn an_input_says_where_it_ended_and_stays_there() {
    let mut input = Input::new(&[1, 2, 3, 0x85]);
    assert_eq!(input.u16(), Ok(0x0201));
    assert_eq!(input.u32().unwrap_err().offset, 2);
    assert_eq!(input.u8(), Ok(3));
    assert_eq!(input.varint().unwrap_err().offset, 3);
    assert_eq!(input.rest(), &[0x85]);
    let error = input.finish().unwrap_err().of("wal/1", 100);
    assert_eq!(
        (error.kind(), error.object(), error.offset()),
        (ErrorKind::Corruption, Some("wal/1"), Some(103))
    );
}

#[test]
fn a_length_over_its_limit_is_refused_before_the_bytes_are_looked_for() {
    let mut bytes = Vec::new();
    put_varint(&mut bytes, u64::MAX);
    assert_eq!(Input::new(&bytes).sized(10).unwrap_err().what, "a length is over its limit");
    assert_eq!(Input::new(&[2, 7, 8]).sized(2), Ok(&[7, 8][..]));
}

#[test]
fn what_gains_under_an_eighth_is_stored_raw() {
    let mut noise = vec![0u8; 4096];
    let mut x = 1u64;
    noise.fill_with(|| {
        x = place_seed(x, 0);
        x as u8
    });
    for codec in CODECS {
        let mut out = vec![9];
        assert_eq!(compress(codec, &noise, &mut out), Codec::None);
        assert_eq!(out[1..], noise);
        let mut out = Vec::new();
        assert_eq!(compress(codec, &[0; 4096], &mut out), codec);
        assert_eq!(decompress(codec, &out, 4096, 4096).unwrap(), [0; 4096]);
    }
}

#[test]
fn a_declared_length_is_exact_and_limited_before_allocation() {
    for codec in [Codec::Lz4, Codec::Zstd] {
        let mut stored = Vec::new();
        assert_eq!(compress(codec, &[7; 1000], &mut stored), codec);
        for declared in [0, 1, 999, 1001, 4000, usize::MAX] {
            let error = decompress(codec, &stored, declared, 5000).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corruption, "{codec} {declared}");
        }
        let twice = [stored.clone(), stored.clone()].concat();
        assert!(decompress(codec, &twice, 2000, 5000).is_err(), "{codec}: two frames are not one");
        let mut trailing = stored.clone();
        trailing.push(0);
        assert!(decompress(codec, &trailing, 1000, 5000).is_err(), "{codec}: trailing data");
    }
    assert!(decompress(Codec::None, b"abc", 2, 10).is_err());
}

#[test]
fn the_same_bytes_at_two_places_have_two_checksums() {
    let mut seen = std::collections::HashSet::new();
    for object in 0..100 {
        for offset in 0..100 {
            assert!(seen.insert(checksum(place_seed(object, offset * 4096), b"the same bytes")));
        }
    }
}

/// These values are in stored objects: if this test must change, the formats have changed.
#[test]
fn sums_and_checksums_keep_their_known_answers() {
    assert_eq!(checksum(0, b""), 0x2D06_8005_38D3_94C2, "the published XXH3-64 of nothing");
    assert_eq!(place_seed(1, 2), 0xF893_A2EE_FB32_555E);
    let mut sum = Sum::default();
    sum.add_entry(entry(b"\0\0\0\0key", 7, b"value"));
    assert_eq!(sum.to_string(), "c3f3f3204f848981885a2670e2b194c77c18f12ad2e28c8924e274ffdea4fbb6");
    sum.add_entry(EntryRef {
        key: b"\0\0\0\x01",
        seq: u64::MAX,
        kind: Kind::Delete,
        expire_at_ms: 1,
        value: b"",
    });
    assert_eq!(sum.to_string(), "913823a695f2d78c8fe721675da5b9319023d7a92a14d93b5d484f8e0fd34f9b");
}

#[test]
fn every_part_of_an_entry_counts_in_its_sum() {
    let base = entry(b"\0\0\0\0key", 7, b"value");
    let others = [
        EntryRef { key: b"\0\0\0\0kez", ..base },
        EntryRef { seq: 8, ..base },
        EntryRef { kind: Kind::Delete, ..base },
        EntryRef { expire_at_ms: 1, ..base },
        EntryRef { value: b"valuf", ..base },
        EntryRef { key: b"\0\0\0\0keyv", value: b"alue", ..base },
    ];
    for other in others {
        assert_ne!(Sum::of(base), Sum::of(other), "{other:?}");
    }
}

#[test]
fn a_lane_at_or_above_the_prime_is_not_a_sum() {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&(u32::MAX - 5).to_le_bytes());
    assert!(Sum::from_bytes(&bytes).is_some());
    bytes[..4].copy_from_slice(&(u32::MAX - 4).to_le_bytes());
    assert_eq!(Sum::from_bytes(&bytes), None);
    assert_eq!(Sum::from_bytes(&bytes[1..]), None);
}

proptest! {
    #[test]
    fn a_varint_comes_back_and_has_the_length_foretold(value in prop_oneof![any::<u64>(), 0..1u64 << 21, (0..64u32).prop_map(|n| 1 << n)]) {
        let mut bytes = Vec::new();
        put_varint(&mut bytes, value);
        prop_assert_eq!(bytes.len(), varint_bytes(value));
        prop_assert_eq!(get_varint(&bytes), Some((value, bytes.len())));
        prop_assert_eq!(get_varint(&bytes[..bytes.len() - 1]), None);
    }

    #[test]
    fn a_varint_that_reads_is_the_one_that_would_be_written(bytes in vec(any::<u8>(), 0..12)) {
        if let Some((value, n)) = get_varint(&bytes) {
            let mut again = Vec::new();
            put_varint(&mut again, value);
            prop_assert_eq!(&again[..], &bytes[..n]);
        }
    }

    #[test]
    fn compressed_bytes_come_back(raw in vec(0..4u8, 0..3000), which in 0..3usize) {
        let mut stored = Vec::new();
        let used = compress(CODECS[which], &raw, &mut stored);
        prop_assert!(used == Codec::None || stored.len() <= raw.len() - raw.len() / 8);
        prop_assert_eq!(decompress(used, &stored, raw.len(), raw.len()).unwrap(), raw);
    }

    #[test]
    fn hostile_frames_are_an_error_or_exactly_as_long_as_declared(
        stored in vec(any::<u8>(), 0..200), which in 0..3usize, declared in 0..400usize,
    ) {
        if let Ok(raw) = decompress(CODECS[which], &stored, declared, 300) {
            prop_assert_eq!(raw.len(), declared);
        }
    }

    #[test]
    fn adding_and_removing_commute(keys in vec((vec(any::<u8>(), 0..8), any::<u64>()), 1..20), cut in any::<prop::sample::Index>()) {
        let sums: Vec<Sum> = keys.iter().map(|(key, seq)| Sum::of(entry(key, *seq, key))).collect();
        let mut forward = Sum::default();
        sums.iter().for_each(|sum| forward.add(sum));
        let mut backward = Sum::default();
        sums.iter().rev().for_each(|sum| backward.add(sum));
        prop_assert_eq!(forward, backward);
        prop_assert_eq!(Sum::from_bytes(&forward.to_bytes()), Some(forward));

        let (kept, dropped) = sums.split_at(cut.index(sums.len()));
        dropped.iter().for_each(|sum| forward.remove(sum));
        let mut left = Sum::default();
        kept.iter().for_each(|sum| left.add(sum));
        prop_assert_eq!(forward, left);
    }
}
