//! What fuzzers, the sweep and reading the decoders have found: each input once more, and each fix by itself.
//!
//! Inputs lie in `tests/hostile/`, named by target and fault, as `engine/fuzz` and `targets.rs` print them.

use std::path::PathBuf;

use bytes::Bytes;
use esker::{
    Error, ErrorKind,
    codec::frame::{Codec, checksum, decompress, place_seed},
    manifest::{Root, Run, StoredOptions, codec, part},
    sst::{SstBuilder, SstMeta, SstOptions, filter},
    testing::hostile::{DB_UUID, ID, SLOT, target},
    wal::WalObject,
};
use prost::Message;

use super::{allocator::peak_of, targets::execute};

#[test]
fn every_input_that_once_failed_passes() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/hostile");
    let mut inputs = 0;
    for file in std::fs::read_dir(folder).expect("it is there") {
        let path = file.expect("it lists").path();
        let name = path.file_name().expect("a file").to_string_lossy().into_owned();
        let target = target(name.split('_').next().expect("a target")).expect("a target comes first");
        execute(target, &std::fs::read(&path).expect("it reads"), &name);
        inputs += 1;
    }
    assert!(inputs >= 4, "the inputs are gone");
}

fn root() -> Root {
    let mut root = Root::first(DB_UUID, StoredOptions::standard());
    root.id = SLOT;
    root.token = Bytes::from_static(b"sixteen bytes...");
    root
}

fn sst(nonce: u64) -> SstMeta {
    let id = esker::store::ObjectId { nonce, ..ID };
    let mut builder = SstBuilder::new(id, SstOptions::default());
    let key = [b"\0\0\0\0key", &nonce.to_be_bytes()[..]].concat();
    let kind = esker::key::Kind::Put;
    builder
        .add(esker::key::EntryRef { key: &key, seq: 1, kind, expire_at_ms: 0, value: b"v" })
        .expect("one entry is in order");
    builder.finish().expect("it has one").meta
}

/// The error of the version with this change.
fn refused(change: impl FnOnce(&mut Root)) -> Error {
    let mut root = root();
    change(&mut root);
    codec::decode(SLOT, DB_UUID, &codec::encode(&root)).expect_err("it makes no sense")
}

fn run_of(ssts: Vec<SstMeta>, level: u32) -> Run {
    Run { id: 0, level, ssts, parts: Vec::new() }
}

#[test]
fn a_version_whose_numbers_have_come_to_their_end_is_refused_and_not_counted_on_from() {
    let changes: [fn(&mut Root); 6] = [
        |root| root.next_run = u64::MAX,
        |root| root.writer.replay_from = u64::MAX,
        |root| root.writer.tail_hint = u64::MAX - 1,
        |root| root.writer.last_seq = u64::MAX,
        |root| root.writer.counter_floor = u64::MAX,
        |root| root.compactor.counter_floor = u64::MAX,
    ];
    for change in changes {
        let error = refused(change);
        assert_eq!(error.kind(), ErrorKind::Corruption);
        assert!(error.to_string().contains("a number is past its limit"), "{error}");
    }
}

#[test]
fn a_level_past_the_deepest_is_refused() {
    let error = refused(|root| root.runs.push(run_of(vec![sst(1)], 16)));
    assert!(error.to_string().contains("a level is past the deepest"), "{error}");
}

#[test]
fn sizes_that_cannot_be_added_up_are_refused() {
    let changes: [fn(&mut SstMeta); 5] = [
        |sst| sst.bytes = u64::MAX,
        |sst| sst.raw_bytes = u64::MAX,
        |sst| sst.tombstones = sst.entries + 1,
        |sst| sst.expiring = u64::MAX,
        |sst| sst.last_key = vec![0xFF; 1 << 17].into(),
    ];
    for change in changes {
        let mut bad = sst(1);
        change(&mut bad);
        assert_eq!(bad.check().expect_err("it makes no sense").kind(), ErrorKind::Corruption);
        let error = refused(|root| root.runs.push(run_of(vec![bad], 0)));
        assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
    }
}

#[test]
fn a_part_named_often_is_refused_before_it_is_fetched_as_often() {
    let object = part::encode(ID, &[sst(1)]);
    let named = part::PartRef {
        id: ID.to_bytes().into(),
        bytes: object.len() as u64,
        ssts: 1,
        hash: vec![7; 16].into(),
        at: 0,
    };
    let twice = part::PartRef { at: 1, ..named.clone() };
    let error = refused(|root| {
        root.runs.push(Run { parts: vec![named.clone(), twice], ..run_of(Vec::new(), 0) });
    });
    assert!(error.to_string().contains("or one is named twice"), "{error}");
    let error = refused(|root| {
        root.runs
            .push(Run { parts: vec![part::PartRef { bytes: u64::MAX, ..named }], ..run_of(Vec::new(), 0) });
    });
    assert!(error.to_string().contains("the parts are malformed"), "{error}");
}

#[test]
fn entries_of_two_bytes_are_refused_before_they_become_hundreds_each() {
    let mut root = root();
    root.runs.push(run_of(vec![SstMeta::default(); 50_000], 0));
    let bytes = codec::encode(&root);
    let (decoded, peak) = peak_of(|| codec::decode(SLOT, DB_UUID, &bytes));
    assert_eq!(decoded.expect_err("they are too short").kind(), ErrorKind::Corruption);
    assert!(peak < 4096, "{peak} bytes of memory for a body of {}", bytes.len());

    let bytes = part::encode(ID, &vec![SstMeta::default(); 50_000]);
    let (decoded, peak) = peak_of(|| part::decode(ID, &bytes));
    assert_eq!(decoded.expect_err("they are too short").kind(), ErrorKind::Corruption);
    assert!(peak < 4096, "{peak} bytes of memory for a body of {}", bytes.len());

    // What a message is made of is looked over as well.
    assert!(root.encoded_len() > 100_000);
}

#[test]
fn compressed_bytes_that_declare_more_than_they_can_give_take_no_memory() {
    for (codec, bytes, declared) in [(Codec::Lz4, 60, 64 << 20), (Codec::Zstd, 1000, 64 << 20)] {
        let stored = vec![0x11; bytes];
        let (found, peak) = peak_of(|| decompress(codec, &stored, declared, 64 << 20));
        assert_eq!(found.expect_err("it cannot be").kind(), ErrorKind::Corruption);
        assert!(peak < 4096, "{codec}: {peak} bytes of memory");
    }
}

#[test]
fn a_value_of_one_byte_repeated_is_still_read() {
    for codec in [Codec::Lz4, Codec::Zstd] {
        let raw = vec![7; 64 << 20];
        let mut stored = Vec::new();
        assert_eq!(esker::codec::frame::compress(codec, &raw, &mut stored), codec);
        assert!(decompress(codec, &stored, raw.len(), raw.len()).expect("it fits") == raw, "{codec}");
    }
}

#[test]
fn a_log_object_makes_room_for_the_entries_it_has_and_not_for_those_it_declares() {
    // A body of zeroes that compresses 200-fold, and a header that says it is full of entries.
    let raw = vec![0; 8 << 20];
    let mut body = Vec::new();
    assert_eq!(esker::codec::frame::compress(Codec::Lz4, &raw, &mut body), Codec::Lz4);
    let mut object = b"eskerWALsixteen bytes...".to_vec();
    object.extend([1, 0, 1, Codec::Lz4 as u8]);
    object.extend(3u32.to_le_bytes());
    for number in [SLOT, 41, u64::from(u32::MAX)] {
        object.extend(number.to_le_bytes());
    }
    object.extend(DB_UUID.to_le_bytes());
    object.extend(9u128.to_le_bytes());
    object.extend([u32::MAX.to_le_bytes(), u32::MAX.to_le_bytes()].concat());
    object.extend((raw.len() as u64).to_le_bytes());
    object.extend((body.len() as u64).to_le_bytes());
    object.extend(&body);
    let sum = checksum(place_seed(DB_UUID as u64 ^ (DB_UUID >> 64) as u64, SLOT), &object);
    object.extend(sum.to_le_bytes());
    let (decoded, peak) = peak_of(|| WalObject::decode(SLOT, DB_UUID, object.into()));
    let error = decoded.expect_err("zeroes are no batch");
    assert!(error.to_string().contains("a batch's length does not fit"), "{error}");
    assert!(peak < 10 << 20, "{peak} bytes of memory for a body of 8 MiB");
}

#[test]
fn a_stored_option_cannot_ask_for_a_filter_of_any_size() {
    let filter = filter::build(&[1, 2, 3], u32::MAX);
    assert!(filter.len() <= 32, "{} bytes for three keys", filter.len());
}
