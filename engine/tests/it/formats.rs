//! Blocks and SSTs: golden files, round trips against a sorted map, damage, hostile bytes.

use std::{cmp::Reverse, collections::BTreeMap, path::PathBuf};

use bytes::Bytes;
use esker::{
    Error, ErrorKind,
    block::{Block, BlockBuilder, BlockCursor},
    codec::frame::{Codec, checksum, place_seed},
    key::{Entry, EntryRef, Kind},
    sst::{
        BlockRef, OpenSst, SstBuilder, SstMeta, SstOptions, Tail, decode_block,
        filter::{self, Filter},
        footer::FOOTER_BYTES,
        index::{Index, IndexBuilder},
        key_hash, object_hash, verify_object,
    },
    store::{Name, ObjectId, Role},
};
use proptest::{collection::vec, prelude::*};

const ID: ObjectId = ObjectId { role: Role::Writer, epoch: 3, counter: 7, nonce: 0x0123_4567_89AB_CDEF };
const CODECS: [Codec; 3] = [Codec::None, Codec::Lz4, Codec::Zstd];

type Model = BTreeMap<(Vec<u8>, Reverse<u64>), Entry>;

fn entry(key: &str, seq: u64, value: impl Into<Bytes>) -> Entry {
    let key = [b"\0\0\0\0", key.as_bytes()].concat().into();
    Entry { key, seq, kind: Kind::Put, expire_at_ms: 0, value: value.into() }
}

fn options(block_bytes: usize, codec: Codec) -> SstOptions {
    SstOptions { block_bytes, restart_interval: 4, codec, filter_bits_per_key: 10 }
}

fn build<'a>(options: SstOptions, entries: impl IntoIterator<Item = &'a Entry>) -> (SstMeta, Bytes) {
    let mut builder = SstBuilder::new(ID, options);
    let mut object = Vec::new();
    for entry in entries {
        builder.add(entry.as_ref()).unwrap();
        builder.take_ready().iter().for_each(|chunk| object.extend_from_slice(chunk));
    }
    let finished = builder.finish().unwrap();
    finished.chunks.iter().for_each(|chunk| object.extend_from_slice(chunk));
    assert_eq!(finished.meta.bytes, object.len() as u64);
    (finished.meta, object.into())
}

/// An SST in memory, read as the engine reads one.
struct Sst {
    object: Bytes,
    tail: Tail,
}

impl Sst {
    fn open(meta: &SstMeta, object: Bytes) -> Result<Self, Error> {
        let tail = Tail::decode(meta, object.slice((meta.tail_offset as usize).min(object.len())..))?;
        Ok(Self { object, tail })
    }
    fn block(&self, index: usize) -> Result<Block, Error> {
        let place = self.tail.block(index);
        let start = place.offset as usize;
        decode_block(ID, place, self.object.slice(start..start + place.bytes as usize))
    }
    fn get(&self, key: &[u8], seq: u64) -> Result<Option<(u64, Bytes)>, Error> {
        if !self.tail.may_contain(key_hash(key)) {
            return Ok(None);
        }
        let Some(mut index) = self.tail.find(key) else { return Ok(None) };
        loop {
            if let Some(found) = self.block(index)?.get(key, seq)? {
                return Ok(Some((found.seq, found.value)));
            }
            if !self.tail.goes_on(index, key) {
                return Ok(None);
            }
            index += 1;
        }
    }
    fn all(&self) -> Result<Vec<Entry>, Error> {
        let mut entries = Vec::new();
        for index in 0..self.tail.blocks() {
            let mut cursor = self.block(index)?.cursor();
            cursor.first()?;
            while cursor.is_valid() {
                entries.push(owned(&cursor));
                cursor.next()?;
            }
        }
        Ok(entries)
    }
}

fn owned(cursor: &BlockCursor) -> Entry {
    let EntryRef { key, seq, kind, expire_at_ms, .. } = cursor.entry();
    Entry { key: Bytes::copy_from_slice(key), seq, kind, expire_at_ms, value: cursor.value() }
}

/// A few dozen entries with every feature of the formats: versions, deletes, expiries, two keyspaces.
fn sample() -> Vec<Entry> {
    let mut entries: Vec<Entry> = (0..40u64)
        .flat_map(|n| {
            let key = format!("user/{:03}", n / 2 * 3);
            let value = format!("value {n} {}", "x".repeat(n as usize % 7));
            let mut entry = entry(&key, 1000 - n, value);
            match n % 5 {
                1 => (entry.kind, entry.value) = (Kind::Delete, Bytes::new()),
                2 => entry.expire_at_ms = 1_700_000_000_000 + n,
                _ => {}
            }
            [entry]
        })
        .collect();
    let other = entries[0].clone();
    entries.push(Entry { key: Bytes::from_static(b"\0\0\0\x09\0\xFFnul and ff"), ..other });
    entries
}

fn golden(name: &str, now: &[u8]) -> Bytes {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var("ESKER_GOLDEN").as_deref() == Ok("write") {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, now).unwrap();
    }
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).into()
}

#[test]
fn a_block_of_version_1_is_read_and_written_as_ever() {
    let mut builder = BlockBuilder::new(4);
    sample().iter().for_each(|entry| builder.add(entry.as_ref()));
    let now = builder.finish();
    let then = golden("block_v1.bin", &now);
    assert_eq!(now, then, "the block format has changed: that needs a new version number");
    let block = Block::parse(then).unwrap();
    block.validate().unwrap();
    let mut cursor = block.cursor();
    cursor.first().unwrap();
    for entry in sample() {
        assert_eq!(owned(&cursor), entry);
        cursor.next().unwrap();
    }
    assert!(!cursor.is_valid());
}

#[test]
fn an_sst_of_version_1_is_read_and_written_as_ever() {
    for codec in CODECS {
        let (meta, now) = build(options(256, codec), &sample());
        let then = golden(&format!("sst_v1_{codec}.bin"), &now);
        if codec == Codec::None {
            assert_eq!(now, then, "the SST format has changed: that needs a new version number");
        }
        // A new release of a compressor may find other bytes, so that sizes and hash differ; the old
        // entry is what it was else.
        let tail_offset = tail_offset_of(&then);
        let meta = SstMeta { bytes: then.len() as u64, tail_offset, hash: object_hash(&then), ..meta };
        verify_object(&meta, &then).unwrap();
        assert_eq!(Sst::open(&meta, then).unwrap().all().unwrap(), sample());
    }
}

fn tail_offset_of(object: &[u8]) -> u64 {
    let at = object.len() - FOOTER_BYTES + 40;
    u64::from_le_bytes(object[at..at + 8].try_into().unwrap())
}

#[test]
fn the_manifest_entry_says_what_was_added() {
    let (meta, object) = build(options(256, Codec::Lz4), &sample());
    let entries = sample();
    assert_eq!((meta.entries, meta.keys), (41, 21));
    assert_eq!(meta.tombstones, 8);
    assert_eq!(meta.expiring, 8);
    assert_eq!((meta.min_expire_ms, meta.max_expire_ms), (1_700_000_000_002, 1_700_000_000_037));
    assert_eq!((meta.min_seq, meta.max_seq), (961, 1000));
    assert_eq!((&meta.first_key, &meta.last_key), (&entries[0].key, &entries[40].key));
    assert_eq!(meta.raw_bytes, entries.iter().map(|e| (e.key.len() + e.value.len()) as u64).sum::<u64>());
    assert_eq!(meta.object_id(), ID);
    verify_object(&meta, &object).unwrap();
    let open = OpenSst::new(meta.clone()).unwrap();
    assert!(open.tail.load().is_none());
    let tail = Tail::decode(&meta, object.slice(meta.tail_offset as usize..)).unwrap();
    assert_eq!(tail.places().map(|place| place.bytes as u64).sum::<u64>(), meta.tail_offset);
    assert_eq!(tail.properties().codec, Codec::Lz4 as u32);
}

#[test]
fn versions_of_one_key_are_found_over_many_blocks() {
    let mut entries = vec![entry("a", 1, "first")];
    entries.extend((1..=200u64).rev().map(|seq| entry("k", seq * 10, format!("version {seq}"))));
    entries.push(entry("l", 2, "last"));
    let (meta, object) = build(options(200, Codec::None), &entries);
    let sst = Sst::open(&meta, object).unwrap();
    assert!(sst.tail.blocks() > 10);
    for seq in 0..=200u64 {
        let found = sst.get(b"\0\0\0\0k", seq * 10 + 9).unwrap();
        let expected = (seq > 0).then(|| (seq * 10, Bytes::from(format!("version {seq}"))));
        assert_eq!(found, expected, "at {seq}");
    }
    assert_eq!(sst.get(b"\0\0\0\0l", 9).unwrap(), Some((2, "last".into())));
    assert_eq!(sst.get(b"\0\0\0\0a", 9).unwrap(), Some((1, "first".into())));
}

#[test]
fn the_largest_key_and_value_have_a_block_alone() {
    let key: String = "k".repeat(64 << 10);
    let entries = [entry("a", 3, "before"), entry(&key, 2, vec![7; 64 << 20]), entry("z", 1, "after")];
    let (meta, object) = build(options(16 << 10, Codec::Lz4), &entries);
    assert_eq!(meta.blocks, 3);
    let sst = Sst::open(&meta, object).unwrap();
    assert_eq!(sst.get(&entries[1].key, 2).unwrap().unwrap().1, entries[1].value);
    assert_eq!(sst.get(&entries[2].key, 2).unwrap().unwrap().1, "after");
}

#[test]
fn what_no_sst_may_hold_is_refused() {
    let mut builder = SstBuilder::new(ID, options(256, Codec::None));
    let a = entry("a", 5, "v");
    builder.add(a.as_ref()).unwrap();
    for late in [entry("a", 5, "v"), entry("a", 6, "v"), entry("A", 1, "v")] {
        assert_eq!(builder.add(late.as_ref()).unwrap_err().kind(), ErrorKind::Corruption, "{late:?}");
    }
    let range_delete = EntryRef { key: b"\0\0\0\0b", kind: Kind::RangeDelete, ..a.as_ref() };
    assert_eq!(builder.add(range_delete).unwrap_err().kind(), ErrorKind::Unsupported);
    let too_long = vec![b'z'; (64 << 10) + 5];
    assert_eq!(
        builder.add(EntryRef { key: &too_long, ..a.as_ref() }).unwrap_err().kind(),
        ErrorKind::Invalid
    );
    assert_eq!(builder.add(EntryRef { key: b"z", ..a.as_ref() }).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(builder.finish().unwrap().meta.entries, 1);
    assert_eq!(
        SstBuilder::new(ID, options(256, Codec::None)).finish().unwrap_err().kind(),
        ErrorKind::Invalid
    );
}

fn assert_corruption_is_placed(error: &Error, size: u64, what: &str) {
    assert_eq!(error.kind(), ErrorKind::Corruption, "{what}: {error}");
    assert_eq!(error.object(), Some(&Name::Sst(ID).path()[..]), "{what}: {error}");
    assert!(error.offset().is_some_and(|offset| offset <= size), "{what}: {error}");
}

/// Reads everything the way the engine does. Damage may go unnoticed where nothing looks, but what
/// is returned is right.
fn read_all_ways(meta: &SstMeta, object: &Bytes, expected: &[Entry], what: &str) {
    let size = meta.bytes;
    let sst = match Sst::open(meta, object.clone()) {
        Ok(sst) => sst,
        Err(e) => return assert_corruption_is_placed(&e, size, what),
    };
    match sst.all() {
        Ok(all) => assert_eq!(all, expected, "{what}"),
        Err(e) => assert_corruption_is_placed(&e, size, what),
    }
    for entry in expected {
        match sst.get(&entry.key, entry.seq) {
            Ok(found) => assert_eq!(found, Some((entry.seq, entry.value.clone())), "{what}"),
            Err(e) => assert_corruption_is_placed(&e, size, what),
        }
    }
}

#[test]
fn every_flipped_byte_is_corruption_with_a_place() {
    let entries = sample();
    for codec in [Codec::None, Codec::Lz4] {
        let (meta, object) = build(options(400, codec), &entries);
        verify_object(&meta, &object).unwrap();
        for at in 0..object.len() {
            let mut damaged = object.to_vec();
            damaged[at] ^= 1 << (at % 8);
            let damaged = Bytes::from(damaged);
            let what = format!("{codec}, byte {at} of {}", object.len());
            assert_corruption_is_placed(&verify_object(&meta, &damaged).unwrap_err(), meta.bytes, &what);
            read_all_ways(&meta, &damaged, &entries, &what);
        }
    }
}

#[test]
fn every_truncation_is_corruption_with_a_place() {
    let entries = sample();
    let (meta, object) = build(options(400, Codec::Lz4), &entries);
    for n in 0..object.len() {
        let cut = object.slice(..n);
        let what = format!("cut at {n} of {}", object.len());
        assert_corruption_is_placed(&verify_object(&meta, &cut).unwrap_err(), meta.bytes, &what);
        let error = Sst::open(&meta, cut.clone()).err().expect("a tail that is cut does not open");
        assert_corruption_is_placed(&error, meta.bytes, &what);
        // A manifest that believed the cut size would not open it either.
        if n as u64 > meta.tail_offset + FOOTER_BYTES as u64 {
            let shorter = SstMeta { bytes: n as u64, ..meta.clone() };
            assert_corruption_is_placed(&Sst::open(&shorter, cut).err().unwrap(), meta.bytes, &what);
        }
    }
    let place = BlockRef { offset: 0, bytes: 40 };
    for n in 0..40 {
        let error = decode_block(ID, place, object.slice(..n)).unwrap_err();
        assert_corruption_is_placed(&error, meta.bytes, &format!("a block cut at {n}"));
    }
}

#[test]
fn a_right_block_in_a_wrong_place_is_corruption() {
    let entries: Vec<Entry> = (0..40).map(|n| entry(&format!("{n:04}"), 1, format!("{n:04}"))).collect();
    let (meta, object) = build(options(200, Codec::None), &entries);
    let sst = Sst::open(&meta, object.clone()).unwrap();
    let (a, b) = (sst.tail.block(0), sst.tail.block(1));
    assert_eq!(a.bytes, b.bytes, "the test needs two blocks of a size");
    let stored =
        |place: BlockRef| object.slice(place.offset as usize..(place.offset + place.bytes as u64) as usize);
    assert!(decode_block(ID, a, stored(a)).is_ok());
    for (id, place, bytes) in
        [(ID, a, stored(b)), (ID, b, stored(a)), (ObjectId { nonce: 1, ..ID }, a, stored(a))]
    {
        let error = decode_block(id, place, bytes).unwrap_err();
        assert_eq!((error.kind(), error.offset()), (ErrorKind::Corruption, Some(place.offset)));
    }
    let swapped = [&stored(b)[..], &stored(a)[..], &object[(b.offset + b.bytes as u64) as usize..]].concat();
    assert_corruption_is_placed(&verify_object(&meta, &swapped.into()).unwrap_err(), meta.bytes, "swapped");
    // The tail of another SST of the same shape.
    let other = SstMeta { id: ObjectId { nonce: 1, ..ID }.to_bytes().into(), ..meta.clone() };
    assert!(Tail::decode(&other, object.slice(meta.tail_offset as usize..)).is_err());
}

#[test]
fn a_declared_size_over_the_limit_is_refused_before_allocation() {
    for codec in [0u8, 1, 2] {
        let mut stored = vec![1, 2, 3];
        stored.push(codec);
        stored.extend_from_slice(&u32::MAX.to_le_bytes());
        let sum = checksum(place_seed(ID.seed(), 0), &stored);
        stored.extend_from_slice(&sum.to_le_bytes());
        let place = BlockRef { offset: 0, bytes: stored.len() as u32 };
        let error = decode_block(ID, place, stored.into()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corruption);
        assert!(error.to_string().contains("over the limit"), "{error}");
    }
    let meta = SstMeta { tail_offset: 0, bytes: u64::MAX, ..build(options(256, Codec::None), &sample()).0 };
    assert!(Tail::decode(&meta, Bytes::new()).unwrap_err().to_string().contains("over the limit"));
    assert!(OpenSst::new(meta).is_err());
}

/// Changes the footer and makes its checksum right again.
fn with_footer(meta: &SstMeta, object: &Bytes, at: usize, bytes: &[u8]) -> Error {
    let mut changed = object.to_vec();
    let start = changed.len() - FOOTER_BYTES;
    changed[start + at..start + at + bytes.len()].copy_from_slice(bytes);
    let sum = checksum(place_seed(ID.seed(), start as u64), &changed[start..start + FOOTER_BYTES - 16]);
    changed[start + FOOTER_BYTES - 16..start + FOOTER_BYTES - 8].copy_from_slice(&sum.to_le_bytes());
    Sst::open(meta, changed.into()).err().expect("a changed footer is refused")
}

#[test]
fn what_a_newer_version_wrote_is_refused_by_name() {
    let (meta, object) = build(options(256, Codec::None), &sample());
    for (at, value, name) in [
        (48, 1, "range deletes"),
        (48, 2, "partitioned index"),
        (48, 4, "partitioned filter"),
        (48, 64, "0x40"),
        (52, 2, "SST version 2"),
    ] {
        let error = with_footer(&meta, &object, at, &u32::to_le_bytes(value));
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains(name), "{error}");
    }
    for at in [0, 4, 8] {
        for size in [0u32, 1 << 20, u32::MAX] {
            let error = with_footer(&meta, &object, at, &size.to_le_bytes());
            assert_corruption_is_placed(&error, meta.bytes, "a part's size");
        }
    }
    assert_corruption_is_placed(
        &with_footer(&meta, &object, 40, &1u64.to_le_bytes()),
        meta.bytes,
        "tail offset",
    );
}

#[test]
fn a_manifest_entry_that_says_something_else_is_caught() {
    let (meta, object) = build(options(256, Codec::Lz4), &sample());
    let lies = [
        SstMeta { entries: meta.entries + 1, ..meta.clone() },
        SstMeta { max_seq: meta.max_seq + 1, ..meta.clone() },
        SstMeta { sum: vec![1; 32].into(), ..meta.clone() },
        SstMeta { last_key: b"\0\0\0\x09z".to_vec().into(), ..meta.clone() },
        SstMeta { blocks: meta.blocks + 1, ..meta.clone() },
        SstMeta { hash: vec![0; 16].into(), ..meta.clone() },
    ];
    for lie in lies {
        assert_corruption_is_placed(&verify_object(&lie, &object).unwrap_err(), meta.bytes, "a lie");
    }
    for nonsense in [
        SstMeta { id: Bytes::new(), ..meta.clone() },
        SstMeta { first_key: b"\xFF".to_vec().into(), ..meta.clone() },
        SstMeta { hash: Bytes::new(), ..meta.clone() },
        SstMeta { entries: 0, ..meta.clone() },
    ] {
        assert_eq!(OpenSst::new(nonsense).unwrap_err().kind(), ErrorKind::Corruption);
    }
}

#[test]
fn a_filter_never_misses_and_seldom_errs() {
    let hash = |n: u64| key_hash(&n.to_be_bytes());
    let hashes: Vec<u64> = (0..20_000).map(hash).collect();
    for (bits, most) in [(5, 0.2), (10, 0.015), (16, 0.002)] {
        let bytes = filter::build(&hashes, bits);
        assert_eq!(bytes.len(), (20_000 * bits as usize / 8).next_multiple_of(32));
        let filter = Filter::parse(bytes.into()).unwrap();
        assert!(hashes.iter().all(|hash| filter.may_contain(*hash)));
        let errors = (1_000_000..1_100_000).filter(|n| filter.may_contain(hash(*n))).count();
        assert!((errors as f64) < most * 100_000.0, "{bits} bits a key: {errors} errors in 100000");
    }
    let none = Filter::parse(filter::build(&hashes, 0).into()).unwrap();
    assert!(none.may_contain(1));
    assert!(Filter::parse(vec![0; 33].into()).is_none());
}

fn rows() -> impl Strategy<Value = Model> {
    let key = (0..3u32, vec(prop_oneof![Just(0u8), Just(b'a'), Just(255), any::<u8>()], 0..5));
    let value = vec(any::<u8>(), 0..40);
    let kind = prop_oneof![5 => Just(Kind::Put), 1 => Just(Kind::Delete), 1 => Just(Kind::Merge)];
    let expiry = prop_oneof![4 => Just(0), 1 => any::<u64>()];
    vec((key, 1..30u64, kind, expiry, value), 1..150).prop_map(|rows| {
        rows.into_iter()
            .map(|((keyspace, user), seq, kind, expire_at_ms, value)| {
                let key = [&keyspace.to_be_bytes()[..], &user].concat();
                let value = if kind == Kind::Delete { Bytes::new() } else { value.into() };
                let entry = Entry { key: key.clone().into(), seq, kind, expire_at_ms, value };
                ((key, Reverse(seq)), entry)
            })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn an_sst_gives_back_what_was_added(
        model in rows(), block_bytes in 60..600usize, which in 0..3usize, filter_bits_per_key in 0..12u32, restart_interval in 1..6usize,
    ) {
        let options = SstOptions { block_bytes, restart_interval, codec: CODECS[which], filter_bits_per_key };
        let (meta, object) = build(options, model.values());
        verify_object(&meta, &object).unwrap();
        let sst = Sst::open(&meta, object).unwrap();
        let rows: Vec<Entry> = model.values().cloned().collect();
        prop_assert_eq!(&sst.all().unwrap(), &rows);

        let mut backwards = Vec::new();
        for index in (0..sst.tail.blocks()).rev() {
            let mut cursor = sst.block(index).unwrap().cursor();
            cursor.last().unwrap();
            while cursor.is_valid() {
                backwards.push(owned(&cursor));
                cursor.prev().unwrap();
            }
        }
        backwards.reverse();
        prop_assert_eq!(&backwards, &rows);

        for (key, Reverse(seq)) in model.keys() {
            for seq in [0, seq - 1, *seq, seq + 1, u64::MAX] {
                let expected = model.range((key.clone(), Reverse(seq))..).next().filter(|((k, _), _)| k == key);
                prop_assert_eq!(
                    sst.get(key, seq).unwrap(),
                    expected.map(|(_, entry)| (entry.seq, entry.value.clone()))
                );
            }
        }
    }

    #[test]
    fn the_block_found_for_a_key_is_the_first_that_may_hold_it(model in rows(), others in rows(), block_bytes in 60..300usize) {
        let (meta, object) = build(options(block_bytes, Codec::None), model.values());
        let sst = Sst::open(&meta, object).unwrap();
        for (key, _) in model.keys().chain(others.keys()) {
            let at_or_after = model.range((key.clone(), Reverse(u64::MAX))..).next().map(|(_, entry)| entry.clone());
            let mut found = None;
            if let Some(index) = sst.tail.find(key) {
                let mut cursor = sst.block(index).unwrap().cursor();
                cursor.seek(key, u64::MAX).unwrap();
                if !cursor.is_valid() && index + 1 < sst.tail.blocks() {
                    // The key lies between the block's last key and its separator.
                    cursor = sst.block(index + 1).unwrap().cursor();
                    cursor.first().unwrap();
                }
                found = cursor.is_valid().then(|| owned(&cursor));
                cursor.seek_before(key, u64::MAX).unwrap();
            }
            prop_assert_eq!(found, at_or_after);
        }
    }

    #[test]
    fn a_filter_never_denies_a_key_that_was_added(
        hashes in vec(any::<u64>(), 0..400), bits_per_key in 0..70u32, other in any::<u64>(),
    ) {
        let bytes = filter::build(&hashes, bits_per_key);
        let filter = Filter::parse(bytes.clone().into()).unwrap();
        prop_assert!(hashes.iter().all(|hash| filter.may_contain(*hash)));
        prop_assert!(!bytes.is_empty() || filter.may_contain(other), "no filter denies nothing");
        prop_assert!(bytes.len() <= hashes.len() * 8 + 32, "{} bytes for {} keys", bytes.len(), hashes.len());
    }

    #[test]
    fn a_separator_separates_and_none_is_shorter(a in vec(0..4u8, 0..6), b in vec(prop_oneof![0..4u8, Just(255)], 0..6)) {
        prop_assume!(a != b);
        let (last, next) = if a < b { (a, b) } else { (b, a) };
        let mut builder = IndexBuilder::default();
        builder.add(100, &last, Some(&next));
        builder.add(200, &next, None);
        let index = Index::parse(builder.finish().into(), 200).unwrap();
        let separator = index.separator(0);
        prop_assert!(last <= separator && separator < next, "{last:?} {separator:?} {next:?}");
        prop_assert_eq!(index.separator(1), next.clone());
        prop_assert!(!index.is_split(0));
        // The smallest strings at or after `last` of each shorter length are not before `next`.
        for n in 0..separator.len() {
            let mut shorter = last[..n.min(last.len())].to_vec();
            if last.len() > n {
                while shorter.last() == Some(&255) {
                    shorter.pop();
                }
                let Some(byte) = shorter.last_mut() else { continue };
                *byte += 1;
            }
            prop_assert!(shorter >= next, "{last:?} {shorter:?} {next:?}");
        }
    }

    #[test]
    fn hostile_tails_and_blocks_never_panic(
        bytes in vec(any::<u8>(), 0..200), ends in vec(any::<u64>(), 1..4), words in vec(0..40u32, 1..8),
    ) {
        let _ = Filter::parse(bytes.clone().into()).map(|filter| filter.may_contain(7));
        let mut index = bytes.clone();
        words.iter().for_each(|word| index.extend_from_slice(&word.to_le_bytes()));
        ends.iter().for_each(|end| index.extend_from_slice(&(end % 400).to_le_bytes()));
        index.extend_from_slice(&words[0].to_le_bytes());
        index.extend_from_slice(&(ends.len() as u32).to_le_bytes());
        if let Ok(index) = Index::parse(index.into(), ends[0] % 400) {
            index.find(&bytes);
            index.goes_on(0, &bytes);
        }
        let place = BlockRef { offset: 0, bytes: bytes.len() as u32 };
        prop_assert!(decode_block(ID, place, bytes.into()).is_err());
    }
}
