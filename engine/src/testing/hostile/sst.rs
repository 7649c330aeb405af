//! Whole SSTs: opened, verified, scanned both ways, searched, and built again.
//!
//! Always true: an SST that verifies is read without an error in every way there is, holds what its entry
//! says, and gives the same sum after being built anew.

use std::{cell::RefCell, sync::Arc};

use bytes::Bytes;

use super::{FIXED_BYTES, ID, SEAL, Sightings, as_inputs, assert_refused, sample_entries, seal};
use crate::{
    block::{Block, MAX_BLOCK_RAW},
    codec::frame::Codec,
    error::{Error, Result},
    merge::{BlockSource, Direction, Source, Step, Tree, Visible},
    range::FullRange,
    sst::{OpenSst, SstBuilder, SstMeta, SstOptions, Tail, decode_block, key_hash, verify_object},
    store::Name,
};

const SEARCHES: usize = 48;

/// The target of an SST.
pub fn sst(input: &[u8]) {
    let Some((flags, object)) = input.split_first() else { return };
    let (meta, object) = if flags & SEAL != 0 {
        seal::sst(object)
    } else {
        (seal::meta_of(object), Bytes::copy_from_slice(object))
    };
    check(&meta, &object);
}

/// Twice the largest block that so many bytes can declare: one being decompressed and one in use.
pub(super) fn ceiling(input_bytes: usize) -> usize {
    FIXED_BYTES + 128 * input_bytes + 3 * MAX_BLOCK_RAW.min(input_bytes.saturating_mul(32_768))
}

fn check(meta: &SstMeta, object: &Bytes) {
    let path = Name::Sst(ID).path();
    let verified = verify_object(meta, object);
    let sst = match OpenSst::new(meta.clone()) {
        Ok(sst) => sst,
        Err(error) => {
            // Whoever decoded the entry knows in what it lay.
            assert_refused(&error, None);
            return assert!(verified.is_err(), "an SST verifies that cannot be opened");
        }
    };
    if let Err(error) = &verified {
        assert_refused(error, Some(&path));
    }
    let tail_at = usize::try_from(meta.tail_offset).unwrap_or(usize::MAX).min(object.len());
    let tail = match Tail::decode(meta, object.slice(tail_at..)) {
        Ok(tail) => Arc::new(tail),
        Err(error) => {
            assert_refused(&error, Some(&path));
            return assert!(verified.is_err(), "an SST verifies whose tail cannot be read");
        }
    };
    sst.tail.store(Some(Arc::clone(&tail)));
    let blocks = InMemory { object, failed: RefCell::default() };
    let (forward, ended) = scan(&blocks, &sst, &FullRange::all(), Direction::Forward);
    let (backward, ended_back) = scan(&blocks, &sst, &FullRange::all(), Direction::Reverse);
    for error in [&ended, &ended_back].into_iter().filter_map(|ended| ended.as_ref().err()) {
        assert_refused(error, Some(&path));
    }
    for key in [&b""[..], b"\0\0\0\0", b"\0\0\0\0user/0004", b"\xff\xff\xff\xff\xff"]
        .into_iter()
        .chain(forward.seen.iter().take(SEARCHES).map(|entry| &entry.key[..]))
    {
        if let Err(error) = get(&blocks, &sst, &tail, key, u64::MAX) {
            assert_refused(&error, None);
        }
    }
    rows(&blocks, &sst);
    if verified.is_err() {
        return;
    }
    ended.expect("an SST that verifies is scanned to its end");
    ended_back.expect("an SST that verifies is scanned back to its beginning");
    assert_eq!(forward.entries, meta.entries, "a scan finds what the entry says");
    forward.assert_reverse_of(&backward);
    for entry in forward.seen.iter().take(SEARCHES) {
        let found = get(&blocks, &sst, &tail, &entry.key, entry.seq).expect("it verifies");
        assert_eq!(found, Some(entry.seq), "an entry that is there is found");
    }
    part_of_it(&blocks, &sst, &forward);
    rebuild(&blocks, &sst, meta);
}

/// The object's blocks, decoded each time they are asked for; what is wrong with one is kept.
struct InMemory<'a> {
    object: &'a Bytes,
    failed: RefCell<Option<Error>>,
}

impl BlockSource for InMemory<'_> {
    fn block(&self, sst: &Arc<OpenSst>, index: usize) -> Option<Block> {
        let place = sst.tail.load().as_ref()?.block(index);
        let start = place.offset as usize;
        let stored = self.object.slice(start..start + place.bytes as usize);
        match decode_block(sst.id, place, stored) {
            Ok(block) => Some(block),
            Err(error) => {
                self.failed.replace(Some(error));
                None
            }
        }
    }
}

impl InMemory<'_> {
    /// What keeps a merge from going on.
    fn failure(&self) -> Error {
        self.failed.take().expect("all that is not here has failed to be decoded")
    }
}

fn scan(
    blocks: &InMemory<'_>,
    sst: &Arc<OpenSst>,
    range: &FullRange,
    direction: Direction,
) -> (Sightings, Result<()>) {
    let run = Source::Run(vec![Arc::clone(sst)].into());
    let mut tree = Tree::new([run], range, direction);
    let mut sightings = Sightings::default();
    loop {
        match tree.advance(blocks) {
            Ok(Step::Ready) => sightings.note(tree.peek().expect("it is ready")),
            Ok(Step::End) => return (sightings, Ok(())),
            Ok(Step::Missing(_)) => return (sightings, Err(blocks.failure())),
            Err(error) => return (sightings, Err(error)),
        }
    }
}

/// The point read, as `read::get` does it.
fn get(blocks: &InMemory<'_>, sst: &Arc<OpenSst>, tail: &Tail, key: &[u8], seq: u64) -> Result<Option<u64>> {
    if !tail.may_contain(key_hash(key)) {
        return Ok(None);
    }
    let Some(mut index) = tail.find(key) else { return Ok(None) };
    loop {
        let Some(block) = blocks.block(sst, index) else { return Err(blocks.failure()) };
        match block.get(key, seq)? {
            Some(found) => return Ok(Some(found.seq)),
            None if tail.goes_on(index, key) => index += 1,
            None => return Ok(None),
        }
    }
}

/// Rows, which are entries made visible: no more than does not panic.
fn rows(blocks: &InMemory<'_>, sst: &Arc<OpenSst>) {
    for direction in [Direction::Forward, Direction::Reverse] {
        let run = Source::Run(vec![Arc::clone(sst)].into());
        let mut visible = Visible::new(Tree::new([run], &FullRange::all(), direction), u64::MAX, 1 << 40);
        while let Ok(Step::Ready) = visible.step(blocks) {
            assert!(visible.row().is_some_and(|row| row.value == visible.value()));
        }
    }
}

/// A scan of the middle gives the middle.
fn part_of_it(blocks: &InMemory<'_>, sst: &Arc<OpenSst>, all: &Sightings) {
    if !all.is_complete() {
        return;
    }
    let key = |at: usize| Bytes::copy_from_slice(&all.seen[at.min(all.seen.len() - 1)].key);
    let range = FullRange { start: key(all.seen.len() / 3), end: Some(key(all.seen.len() * 2 / 3)) };
    let expected: Vec<_> = all.seen.iter().filter(|entry| range.contains(&entry.key)).collect();
    let (forward, ended) = scan(blocks, sst, &range, Direction::Forward);
    ended.expect("it verifies");
    assert!(forward.seen.iter().eq(expected.iter().copied()), "a scan of a part finds something else");
    let (backward, ended) = scan(blocks, sst, &range, Direction::Reverse);
    ended.expect("it verifies");
    forward.assert_reverse_of(&backward);
}

fn rebuild(blocks: &InMemory<'_>, sst: &Arc<OpenSst>, meta: &SstMeta) {
    let mut builder = SstBuilder::new(ID, SstOptions { block_bytes: 512, ..SstOptions::default() });
    let mut object = Vec::new();
    let run = Source::Run(vec![Arc::clone(sst)].into());
    let mut tree = Tree::new([run], &FullRange::all(), Direction::Forward);
    while let Step::Ready = tree.advance(blocks).expect("it verifies") {
        builder.add(tree.peek().expect("it is ready")).expect("what verifies can be written");
        builder.take_ready().iter().for_each(|chunk| object.extend_from_slice(chunk));
    }
    let finished = builder.finish().expect("it has entries");
    finished.chunks.iter().for_each(|chunk| object.extend_from_slice(chunk));
    verify_object(&finished.meta, &object.into()).expect("what was built verifies");
    assert_eq!(finished.meta.sum, meta.sum, "building keeps the entries");
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let ssts = (0..9u64).map(|variant| {
        let options = SstOptions {
            block_bytes: [128, 512, 4096][variant as usize % 3],
            restart_interval: [4, 16][variant as usize % 2],
            codec: [Codec::None, Codec::Lz4, Codec::Zstd][(variant / 3) as usize],
            filter_bits_per_key: [10, 0][variant as usize % 2],
        };
        build(options, variant)
    });
    as_inputs(ssts)
}

fn build(options: SstOptions, variant: u64) -> Vec<u8> {
    let mut builder = SstBuilder::new(ID, options);
    for entry in sample_entries([1, 20, 60][(variant / 3) as usize % 3], variant) {
        builder.add(entry.as_ref()).expect("the sample is in order");
    }
    builder.finish().expect("it has entries").chunks.concat()
}
