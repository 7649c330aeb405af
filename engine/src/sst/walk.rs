//! Finding blocks without the index: each is told by its own end.
//!
//! ```text
//! start                                            end
//! payload …  ‖ codec u8 ‖ raw bytes u32 ‖ XXH3-64 ‖ payload of the next …
//!              └── can a payload of this length be that?   └── of everything from start, seeded by the place
//! ```
//!
//! A block does not say how long it is, so every byte after its start could be its end. But a codec and a raw length
//! that fit the length so far lie before one byte in some 20,000 of random ones, and the running checksum is looked at
//! only there. So a walk hashes each byte once, which is what reading the blocks by an index costs, too. It is for
//! repairs: a reader goes by the index.
//!
//! Behind a damaged block nothing says where the next one starts, but for an index that cannot be believed:
//! [`doubtful_ends`] are places to try.
//!
//! Always true: pure; a block that is found has the right checksum for its place.

use std::hash::Hasher as _;

use bytes::Bytes;
use twox_hash::XxHash3_64;

use crate::{
    block::MAX_BLOCK_RAW,
    codec::frame::{Codec, may_hold, place_seed},
    sst::{SstMeta, footer::Footer, index, reader::BLOCK_TRAILER_BYTES},
    store::ObjectId,
};

/// The most bytes of a block as stored.
pub const MAX_STORED_BLOCK: usize = MAX_BLOCK_RAW + BLOCK_TRAILER_BYTES;

/// How many of `bytes`, which lie at byte `offset` of the object `id`, are the block that starts there; `None` if none does,
/// or if it goes on after them.
pub fn find_end(id: ObjectId, offset: u64, bytes: &[u8]) -> Option<usize> {
    let mut hash = XxHash3_64::with_seed(place_seed(id.seed(), offset));
    let mut hashed = 0;
    for at in 1..bytes.len().min(MAX_STORED_BLOCK).saturating_sub(BLOCK_TRAILER_BYTES - 1) {
        let Some((&[codec, ref raw_bytes @ ..], rest)) = bytes.get(at..)?.split_first_chunk::<5>() else {
            break;
        };
        let Ok(codec) = Codec::from_u8(codec) else { continue };
        let raw_bytes = u32::from_le_bytes(*raw_bytes) as usize;
        if raw_bytes > MAX_BLOCK_RAW || !may_hold(codec, at, raw_bytes) {
            continue;
        }
        let checked = at + 5;
        hash.write(&bytes[hashed..checked]);
        hashed = checked;
        if rest.first_chunk().is_some_and(|sum| u64::from_le_bytes(*sum) == hash.finish()) {
            return Some(at + BLOCK_TRAILER_BYTES);
        }
    }
    None
}

/// Where blocks end by an index that may be damaged, ascending; `tail` is the object from its tail's offset on. Nothing
/// if the footer does not say where the index lies.
pub fn doubtful_ends(meta: &SstMeta, tail: &Bytes) -> Vec<u64> {
    let Ok(footer) = Footer::read(meta.object_id(), meta.tail_offset, tail) else { return Vec::new() };
    let [filter, index, _] = footer.parts.map(|part| part.bytes as usize);
    let mut ends = index::doubtful_ends(&tail[filter..filter + index], meta.blocks);
    ends.retain(|end| *end < meta.tail_offset);
    ends.sort_unstable();
    ends
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        key::{EntryRef, Kind},
        sst::{SstBuilder, SstOptions, Tail, decode_block},
        store::Role,
    };

    fn built(codec: Codec) -> (SstMeta, Vec<u8>) {
        let id = ObjectId { role: Role::Writer, epoch: 1, counter: 2, nonce: 3 };
        let options = SstOptions { block_bytes: 2048, codec, ..SstOptions::default() };
        let mut builder = SstBuilder::new(id, options);
        for n in 0..2000_u64 {
            let (key, value) = (format!("\0\0\0\0key{n:05}"), format!("{n} {}", n * 7919 % 10007));
            let entry = EntryRef {
                key: key.as_bytes(),
                seq: n + 1,
                kind: Kind::Put,
                expire_at_ms: 0,
                value: value.as_bytes(),
            };
            builder.add(entry).expect("added");
        }
        let finished = builder.finish().expect("finished");
        (finished.meta, finished.chunks.concat())
    }

    #[test]
    fn a_walk_finds_the_blocks_that_the_index_names() {
        for codec in [Codec::None, Codec::Lz4, Codec::Zstd] {
            let (meta, object) = built(codec);
            let id = meta.object_id();
            let tail = Bytes::copy_from_slice(&object[meta.tail_offset as usize..]);
            let index = Tail::decode(&meta, tail.clone()).expect("a tail");
            assert!(index.blocks() > 10);
            let mut at = 0;
            for n in 0..index.blocks() {
                let place = index.block(n);
                assert_eq!(at as u64, place.offset);
                let length = find_end(id, at as u64, &object[at..]).expect("a block");
                assert_eq!(length, place.bytes as usize, "{codec}, block {n}");
                let stored = Bytes::copy_from_slice(&object[at..at + length]);
                decode_block(id, place, stored).expect("whole");
                // Neither in another place nor from another byte.
                assert_eq!(find_end(id, at as u64 + 1, &object[at..at + length]), None);
                assert_eq!(find_end(id, at as u64, &object[at..at + length - 1]), None);
                at += length;
            }
            assert_eq!(at as u64, meta.tail_offset);
            let ends = doubtful_ends(&meta, &tail);
            assert_eq!(ends.len(), index.blocks() - 1, "the last ends where the tail begins");
        }
    }
}
