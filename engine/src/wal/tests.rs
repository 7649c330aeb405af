//! Tests of the log buffer and of WAL objects that need no store.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::{buffer::LogBuffer, record::*};
use crate::{
    codec::frame::{Codec, checksum, place_seed},
    error::ErrorKind,
    key::{Entry, Kind},
};

const UUID: u128 = 0x0123_4567_89AB_CDEF_0011_2233_4455_6677;

fn header(slot: u64, first_seq: u64) -> WalHeader {
    WalHeader {
        db_uuid: UUID,
        writer_uuid: 9,
        epoch: 3,
        slot,
        token: *b"sixteen bytes...",
        first_seq,
        durable_to: 6,
    }
}

fn put<'a>(key: &'a [u8], value: &'a [u8]) -> Op<'a> {
    Op { kind: Kind::Put, key, expire_at_ms: 0, value }
}

/// Two batches, each kind of field once.
fn sample() -> (SealedLog, Vec<Entry>) {
    let mut log = LogBuffer::new(41);
    let mut entries = Vec::new();
    let second = [
        Op { kind: Kind::Put, key: b"\0\0\0\x01user", expire_at_ms: 1_800_000_000_000, value: b"countess" },
        Op { kind: Kind::Delete, key: b"\0\0\0\0stale", expire_at_ms: 0, value: b"" },
    ];
    log.append(41, [put(b"\0\0\0\0k", b"value")].into_iter(), |entry| entries.push(entry));
    log.append(45, second.into_iter(), |entry| entries.push(entry));
    (log.seal(47), entries)
}

fn decode(bytes: Bytes) -> crate::Result<WalObject> {
    WalObject::decode(7, UUID, bytes)
}

/// The object with something else in its header or body, and a checksum that fits it.
fn resealed(object: &Bytes, change: impl FnOnce(&mut [u8])) -> Bytes {
    let mut bytes = object.to_vec();
    let end = bytes.len() - 8;
    change(&mut bytes[..end]);
    let seed = place_seed(UUID as u64 ^ (UUID >> 64) as u64, 7);
    let sum = checksum(seed, &bytes[..end]).to_le_bytes();
    bytes[end..].copy_from_slice(&sum);
    bytes.into()
}

#[test]
fn objects_of_each_format_are_read_and_those_of_the_newest_written() {
    let (log, entries) = sample();
    golden("wal_data_v2.bin", &encode_data(&header(7, 41), &log, Codec::Lz4));
    golden("wal_fence_v2.bin", &encode_fence(&header(7, 5), "host:1"));
    for (version, durable_to) in [(1, 0), (2, 6)] {
        let data = decode(golden_bytes(&format!("wal_data_v{version}.bin"))).expect("sound");
        let header = |first_seq, durable_to| WalHeader { durable_to, ..header(7, first_seq) };
        let written =
            WalObject::Data { header: header(41, durable_to), entries: entries.clone(), last_seq: 46 };
        assert_eq!(data, written, "format {version}");
        let fence = WalObject::Fence { header: header(0, 0), writer_name: "host:1".into() };
        assert_eq!(decode(golden_bytes(&format!("wal_fence_v{version}.bin"))).expect("sound"), fence);
    }
}

#[test]
fn every_flipped_byte_and_every_truncation_is_corruption_of_the_named_slot() {
    let (log, _) = sample();
    let old = ["wal_data_v1.bin", "wal_fence_v1.bin"].map(golden_bytes);
    let new = [encode_data(&header(7, 41), &log, Codec::Lz4), encode_fence(&header(7, 0), "host:1")];
    for object in old.into_iter().chain(new) {
        for at in 0..object.len() {
            let mut flipped = object.to_vec();
            flipped[at] ^= 0x20;
            for damaged in [Bytes::from(flipped), object.slice(..at)] {
                let error = decode(damaged).expect_err("damage must be found");
                assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
                assert_eq!(error.object(), Some("wal/00000000000000000007"));
                assert!(error.offset().is_some_and(|offset| offset <= object.len() as u64));
            }
        }
    }
}

#[test]
fn a_right_object_in_a_wrong_place_is_corruption() {
    let (log, _) = sample();
    let object = encode_data(&header(7, 41), &log, Codec::Lz4);
    assert_eq!(
        WalObject::decode(8, UUID, object.clone()).expect_err("the slot").kind(),
        ErrorKind::Corruption
    );
    assert_eq!(
        WalObject::decode(7, UUID + 1, object).expect_err("the database").kind(),
        ErrorKind::Corruption
    );
}

#[test]
fn hostile_fields_under_a_right_checksum_are_refused_before_anything_is_allocated() {
    let (log, _) = sample();
    let object = encode_data(&header(7, 41), &log, Codec::Lz4);
    let cases: [(&str, usize, &[u8]); 9] = [
        ("more entries than there are", 92, &u32::MAX.to_le_bytes()),
        ("more batches than there are", 88, &u32::MAX.to_le_bytes()),
        ("a raw length past any limit", 96, &u64::MAX.to_le_bytes()),
        ("a stored length past the object", 104, &u64::MAX.to_le_bytes()),
        ("another slot", 32, &8u64.to_le_bytes()),
        ("a last number that is not there", 48, &u64::MAX.to_le_bytes()),
        ("a first number near the end", 40, &u64::MAX.to_le_bytes()),
        ("a batch past the body", 120, &u32::MAX.to_le_bytes()),
        ("a batch shorter than its head", 120, &3u32.to_le_bytes()),
    ];
    for (what, at, bytes) in cases {
        let error = decode(resealed(&object, |object| object[at..at + bytes.len()].copy_from_slice(bytes)));
        assert_eq!(error.expect_err(what).kind(), ErrorKind::Corruption, "{what}");
    }
    for (at, newer) in [(24, 9), (26, 9), (27, 9)] {
        let error = decode(resealed(&object, |object| object[at] = newer)).expect_err("newer");
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    }
    let error = decode(resealed(&object, |object| object[128] ^= 1)).expect_err("a batch is damaged");
    assert!(error.to_string().contains("checksum of a batch"), "{error}");
}

#[test]
fn a_body_is_compressed_only_if_that_gains() {
    let mut log = LogBuffer::new(1);
    let value = [b'x'; 5000];
    log.append(1, [put(b"\0\0\0\0k", &value)].into_iter(), drop);
    let object = encode_data(&header(7, 1), &log.seal(2), Codec::Lz4);
    assert!(object.len() < 1000, "{} bytes", object.len());
    let WalObject::Data { entries, .. } = decode(object.clone()).expect("sound") else { panic!("DATA") };
    assert_eq!(entries[0].value, value[..]);
    let bomb = resealed(&object, |object| object[96..104].copy_from_slice(&(1u64 << 29).to_le_bytes()));
    assert_eq!(decode(bomb).expect_err("a bomb").kind(), ErrorKind::Corruption);
}

#[test]
fn an_object_can_be_rebased_without_encoding_its_operations_again() {
    let (log, entries) = sample();
    let WalObject::Data { entries: moved, last_seq, .. } =
        decode(encode_data(&header(7, 1041), &log, Codec::Lz4)).expect("sound")
    else {
        panic!("DATA")
    };
    assert_eq!(last_seq, 1046);
    assert!(moved.iter().zip(&entries).all(|(moved, entry)| moved.seq == entry.seq + 1000));
}

#[test]
fn a_long_writer_name_is_cut_between_characters() {
    let WalObject::Fence { writer_name, .. } =
        decode(encode_fence(&header(7, 0), &"é".repeat(200))).expect("sound")
    else {
        panic!("FENCE")
    };
    assert_eq!(writer_name, "é".repeat(127));
}

#[test]
fn entries_share_the_bytes_that_are_uploaded() {
    let mut log = LogBuffer::new(1);
    let large = vec![7; 100_000];
    let mut entries = Vec::new();
    for seq in 1..=2000 {
        let value = if seq % 500 == 0 { &large[..] } else { &large[..100] };
        log.append(seq, [put(b"\0\0\0\0key", value)].into_iter(), |entry| entries.push(entry));
    }
    let bytes = log.bytes();
    let sealed = log.seal(2001);
    assert_eq!((sealed.bytes, sealed.batches, sealed.entries), (bytes, 2000, 2000));
    assert_eq!(sealed.chunks.iter().map(Bytes::len).sum::<usize>(), bytes);
    let lies_in = |part: &Bytes, whole: &Bytes| whole.as_ptr_range().contains(&part.as_ptr());
    for (entry, chunk) in entries.iter().zip(&sealed.chunks) {
        assert!(lies_in(&entry.key, chunk) && lies_in(&entry.value, chunk), "an entry has bytes of its own");
    }
    assert!(log.is_empty() && log.bytes() == 0 && log.seal(2001).last_seq == 2000);
}

#[test]
fn nothing_appended_is_nothing_written() {
    let mut log = LogBuffer::new(5);
    log.append(5, std::iter::empty(), |_| panic!("there is no entry"));
    let sealed = log.seal(5);
    assert!(sealed.chunks.is_empty() && sealed.last_seq == 4);
    let object = decode(encode_data(&header(7, 5), &sealed, Codec::Lz4)).expect("an empty object is sound");
    assert!(matches!(object, WalObject::Data { entries, last_seq: 4, .. } if entries.is_empty()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn whatever_is_appended_reads_back(
        first_seq in 1u64..1 << 60,
        batches in prop::collection::vec(
            (0u64..200, prop::collection::vec(
                (0u8..5, prop::collection::vec(any::<u8>(), 0..80), 0u64..1 << 50, prop::collection::vec(any::<u8>(), 0..3000)),
                0..8,
            )),
            0..12,
        ),
    ) {
        let mut log = LogBuffer::new(first_seq);
        let (mut written, mut seq) = (Vec::new(), first_seq);
        for (gap, ops) in &batches {
            let owned: Vec<_> = ops.iter().map(|(kind, key, expiry, value)| {
                let key = [&[0, 0, 0, 1], &key[..]].concat();
                (Kind::from_u8(*kind).expect("it is known"), key, *expiry, value)
            }).collect();
            let ops = owned.iter().map(|(kind, key, expiry, value)| Op { kind: *kind, key, expire_at_ms: *expiry, value });
            seq += gap;
            log.append(seq, ops, |entry| written.push(entry));
            seq += owned.len() as u64;
        }
        let last = written.last().map_or(first_seq - 1, |entry: &Entry| entry.seq);
        let sealed = log.seal(seq);
        let object = decode(encode_data(&header(7, first_seq), &sealed, Codec::Lz4)).expect("sound");
        prop_assert_eq!(object, WalObject::Data { header: header(7, first_seq), entries: written, last_seq: last });
    }

    #[test]
    fn arbitrary_bytes_are_an_error_and_nothing_worse(
        body in prop::collection::vec(any::<u8>(), 0..300),
        codec in 0u8..3,
        counts in any::<[u8; 8]>(),
    ) {
        prop_assert!(decode(body.clone().into()).is_err());
        // The same as the body of an object that is sound otherwise.
        let mut object = BytesMut::from(&encode_data(&header(7, 1), &LogBuffer::new(1).seal(1), Codec::Lz4)[..120]);
        object[27] = codec;
        object[88..96].copy_from_slice(&counts);
        object[96..104].copy_from_slice(&(body.len() as u64).to_le_bytes());
        object[104..112].copy_from_slice(&(body.len() as u64).to_le_bytes());
        object.extend_from_slice(&body);
        object.extend_from_slice(&[0; 8]);
        let object = resealed(&object.freeze(), |_| {});
        if let Ok(WalObject::Data { entries, .. }) = decode(object) {
            prop_assert!(entries.is_empty());
        }
    }
}

fn golden_path(name: &str) -> std::path::PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "golden", name].iter().collect()
}

fn golden_bytes(name: &str) -> Bytes {
    std::fs::read(golden_path(name)).expect("the golden file is there").into()
}

/// The bytes must be those of the golden file; with `ESKER_GOLDEN=write` they become it.
fn golden(name: &str, bytes: &[u8]) {
    if std::env::var_os("ESKER_GOLDEN").is_some_and(|mode| mode == "write") {
        std::fs::write(golden_path(name), bytes).expect("the golden file can be written");
    }
    assert_eq!(golden_bytes(name), bytes, "the format has changed: {name}");
}
