//! Raw blocks of both forms: parsed, validated, walked both ways, searched, built again, and packed.
//!
//! Always true: a block that validates is the same from both ends and after being built anew; one that does
//! not is still walked and searched without a panic, because readers do not validate.

use std::ops::Range;

use bytes::Bytes;

use super::{SEAL, Sightings, as_inputs, assert_refused, sample_entries, seal};
use crate::{
    block::{Block, BlockBuilder, BlockCursor, pack, stretch::Room},
    error::Result,
    key::Kind,
};

/// The most keys that are searched for.
const SEARCHES: usize = 48;

/// The target of a raw block.
pub fn block(input: &[u8]) {
    let Some((flags, bytes)) = input.split_first() else { return };
    let mut bytes = bytes.to_vec();
    if flags & SEAL != 0 {
        seal::block(&mut bytes);
    }
    match Block::parse(bytes.into()) {
        Ok(block) => {
            let walked = check(&block);
            if let Some(bytes) = pack(block.bytes()) {
                let packed = Block::parse_cached(bytes).expect("what was packed is read");
                assert!(walked.is_none() || walked == check(&packed), "packing keeps the entries");
            }
        }
        Err(error) => assert_refused(&error, None),
    }
}

/// The target of blocks as a cache holds them: packed ones too.
pub fn packed(input: &[u8]) {
    let Some((_, bytes)) = input.split_first() else { return };
    match Block::parse_cached(bytes.to_vec().into()) {
        Ok(block) => drop(check(&block)),
        Err(error) => assert_refused(&error, None),
    }
}

/// Asserts all there is to assert. What was seen, if the block is valid.
fn check(block: &Block) -> Option<Sightings> {
    let valid = block.validate();
    let (forward, ended) = walk(block, BlockCursor::first, BlockCursor::next);
    let (backward, ended_back) = walk(block, BlockCursor::last, BlockCursor::prev);
    for failed in [&valid, &ended, &ended_back] {
        if let Err(error) = failed {
            assert_refused(error, None);
        }
    }
    for wanted in [0..block.entries(), block.entries() / 3..block.entries() * 2 / 3] {
        take_apart(block, wanted, valid.is_ok().then_some(&forward));
    }
    if valid.is_err() {
        for entry in forward.seen.iter().take(SEARCHES) {
            search(block, &entry.key, entry.seq);
        }
        for key in [&b""[..], b"\0\0\0\0", b"\0\0\0\0user/0004", b"\xff\xff\xff\xff\xff"] {
            search(block, key, 5);
        }
        return None;
    }
    ended.expect("a valid block is walked to its end");
    ended_back.expect("a valid block is walked back to its beginning");
    assert_eq!(forward.entries, block.entries() as u64, "a walk finds every entry");
    forward.assert_reverse_of(&backward);

    let mut cursor = block.cursor();
    for (at, entry) in forward.seen.iter().enumerate().take(SEARCHES) {
        let found = block.get(&entry.key, entry.seq).expect("valid").expect("an entry is found");
        assert_eq!((found.seq, found.kind, found.expire_at_ms), (entry.seq, entry.kind, entry.expire_at_ms));
        cursor.seek(&entry.key, entry.seq).expect("valid");
        assert_eq!((cursor.key(), cursor.seq()), (&entry.key[..], entry.seq), "a seek finds an entry");
        cursor.seek_before(&entry.key, entry.seq).expect("valid");
        assert_eq!(cursor.is_valid(), at > 0, "a seek finds the entry before");
        if let Some(before) = at.checked_sub(1).map(|before| &forward.seen[before]) {
            assert_eq!((cursor.key(), cursor.seq()), (&before.key[..], before.seq));
        }
    }
    rebuild(block, &forward);
    Some(forward)
}

/// A stretch is refused, or is what a cursor walks over in a block that is `valid`.
fn take_apart(block: &Block, wanted: Range<usize>, valid: Option<&Sightings>) {
    let taken = block.stretch(wanted.clone(), &mut Room::default()).and_then(|stretch| {
        let Some(mut stretch) = stretch else { return Ok(None) };
        stretch.bring(0..stretch.len())?;
        Ok(Some(stretch))
    });
    let stretch = match taken {
        Ok(Some(stretch)) => stretch,
        Ok(None) => return,
        Err(error) => {
            assert!(valid.is_none(), "a valid block cannot be taken apart: {error}");
            return assert_refused(&error, None);
        }
    };
    match valid.filter(|walked| walked.is_complete()) {
        Some(walked) => {
            assert_eq!(stretch.len(), wanted.len());
            for (n, entry) in walked.seen[wanted].iter().enumerate() {
                assert_eq!((stretch.key(n), stretch.seq(n)), (&entry.key[..], entry.seq));
            }
        }
        None => (0..stretch.len()).for_each(|n| drop((stretch.key(n).len(), stretch.value(n)))),
    }
}

/// Builds the entries anew; what is read of that is what was read of the block.
fn rebuild(block: &Block, forward: &Sightings) {
    let mut builder = BlockBuilder::new(16);
    let mut cursor = block.cursor();
    cursor.first().expect("valid");
    while cursor.is_valid() {
        builder.add(cursor.entry());
        cursor.next().expect("valid");
    }
    let again = Block::parse(Bytes::from(builder.finish())).expect("what was built is read");
    again.validate().expect("what was built is valid");
    assert_eq!(&walk(&again, BlockCursor::first, BlockCursor::next).0, forward, "building keeps the entries");
}

/// Every entry that can be reached, and how the walk ended.
fn walk(
    block: &Block,
    begin: impl Fn(&mut BlockCursor) -> Result<()>,
    step: impl Fn(&mut BlockCursor) -> Result<()>,
) -> (Sightings, Result<()>) {
    let mut sightings = Sightings::default();
    let mut cursor = block.cursor();
    let mut moved = begin(&mut cursor);
    while moved.is_ok() && cursor.is_valid() {
        sightings.note(cursor.entry());
        assert!(sightings.entries <= block.entries() as u64, "a walk does not end");
        moved = step(&mut cursor);
    }
    assert!(moved.is_ok() || !cursor.is_valid(), "a cursor that failed stands nowhere");
    (sightings, moved)
}

fn search(block: &Block, key: &[u8], seq: u64) {
    let mut cursor = block.cursor();
    for failed in [
        block.get(key, seq).map(drop),
        cursor.seek(key, seq),
        cursor.seek_before(key, seq),
        cursor.next(),
        cursor.prev(),
    ] {
        if let Err(error) = failed {
            assert_refused(&error, None);
        }
    }
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    as_inputs(plain_blocks(1))
}

pub(super) fn packed_seeds() -> Vec<Vec<u8>> {
    let packed = plain_blocks(60).into_iter().filter_map(|plain| pack(&plain.into()));
    packed.map(|packed| [&[0], &packed[..]].concat()).collect()
}

/// Sound blocks of every shape, each value `repeats` times.
fn plain_blocks(repeats: usize) -> Vec<Vec<u8>> {
    let blocks = (0..8).map(|variant| {
        let mut builder = BlockBuilder::new([1, 4, 16][variant as usize % 3]);
        for mut entry in sample_entries([1, 12, 40][variant as usize % 3], variant) {
            if variant == 7 {
                (entry.kind, entry.expire_at_ms) = (Kind::Put, 0);
            }
            entry.value = entry.value.repeat(repeats).into();
            builder.add(entry.as_ref());
        }
        builder.finish()
    });
    blocks.collect()
}
