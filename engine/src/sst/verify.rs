//! Checks an SST, block by block: everything that can be checked of it.
//!
//! Always true: an SST that passes holds exactly the entries its manifest entry sums up, in order,
//! and every read of it will find them; no more than the tail and one block is held.

use bytes::Bytes;
use twox_hash::XxHash3_128;

use crate::{
    error::{Error, Result},
    key::{Kind, split_full_key},
    sst::{
        BlockRef, SstMeta,
        reader::{Tail, decode_block, key_hash},
        tally::Tally,
    },
    store::Name,
};

/// Every checksum, length and offset, the order of all entries, the index and the filter against
/// them, every count and bound, the conservation sum, the hash of the object. `bytes` is the object.
pub fn verify_object(meta: &SstMeta, bytes: &Bytes) -> Result<()> {
    meta.check()?;
    if bytes.len() as u64 != meta.bytes {
        let what = format!("the object has {} bytes where the manifest says {}", bytes.len(), meta.bytes);
        return Err(Error::corruption(Name::Sst(meta.object_id()).path(), 0, what));
    }
    let mut check = Check::begin(meta, bytes.slice(meta.tail_offset as usize..))?;
    while let Some(place) = check.next_block() {
        // The index was checked: blocks lie back to back and end at the tail.
        let start = place.offset as usize;
        check.block(bytes.slice(start..start + place.bytes as usize))?;
    }
    check.finish()
}

/// A check under way: first the tail, then every block in order, then what they add up to.
pub struct Check {
    meta: SstMeta,
    tail_bytes: Bytes,
    tail: Tail,
    walk: Walk,
    hash: XxHash3_128,
    next: usize,
}

impl Check {
    /// Checks the tail: the bytes of the object from `meta.tail_offset` to its end.
    pub fn begin(meta: &SstMeta, tail: Bytes) -> Result<Self> {
        let tail_bytes = tail.clone();
        let tail = Tail::decode(meta, tail)?;
        Ok(Self {
            meta: meta.clone(),
            tail_bytes,
            tail,
            walk: Walk::new(),
            hash: XxHash3_128::new(),
            next: 0,
        })
    }

    /// Where the next block lies; `None` after the last.
    pub fn next_block(&self) -> Option<BlockRef> {
        (self.next < self.tail.blocks()).then(|| self.tail.block(self.next))
    }

    /// Where the next blocks lie, back to back, as far as `bytes` reach; at least one, but after the last.
    pub fn next_blocks(&self, bytes: u64) -> Vec<BlockRef> {
        let mut left = bytes;
        let mut places: Vec<BlockRef> = Vec::new();
        for place in (self.next..self.tail.blocks()).map(|index| self.tail.block(index)) {
            if u64::from(place.bytes) > left && !places.is_empty() {
                break;
            }
            left = left.saturating_sub(place.bytes.into());
            places.push(place);
        }
        places
    }

    /// Checks the next block. After an error the ones behind it can still be checked; [`Self::finish`] then has
    /// nothing to compare.
    pub fn block(&mut self, stored: Bytes) -> Result<()> {
        let index = self.next;
        self.next += 1;
        self.hash.write(&stored);
        let checked = self.walk.block(&self.meta, &self.tail, index, stored);
        if checked.is_err() {
            self.walk.damaged = true;
            self.walk.after_damage = true;
        }
        checked
    }

    /// Compares what the blocks held with what the manifest says. All of them have been given.
    pub fn finish(mut self) -> Result<()> {
        if self.walk.damaged {
            return Ok(());
        }
        self.hash.write(&self.tail_bytes);
        let meta = &self.meta;
        let found = SstMeta {
            id: meta.id.clone(),
            bytes: meta.bytes,
            tail_offset: meta.tail_offset,
            first_key: self.walk.first_key,
            last_key: self.walk.last_key.into(),
            hash: Bytes::copy_from_slice(&self.hash.finish_128().to_le_bytes()),
            blocks: self.tail.blocks() as u64,
            ..self.walk.tally.meta()
        };
        match difference(&found, meta) {
            None => Ok(()),
            Some(what) => {
                let object = Name::Sst(meta.object_id()).path();
                Err(Error::corruption(object, 0, format!("{what} is not what the manifest says")))
            }
        }
    }
}

/// What is carried from entry to entry.
#[derive(Debug)]
struct Walk {
    tally: Tally,
    first_key: Bytes,
    last_key: Vec<u8>,
    last_seq: u64,
    /// A block could not be read: the counts are not those of the whole.
    damaged: bool,
    /// The block before could not be read: there is nothing to compare the first entry with.
    after_damage: bool,
}

impl Walk {
    fn new() -> Self {
        Self {
            tally: Tally::new(),
            first_key: Bytes::new(),
            last_key: Vec::new(),
            last_seq: 0,
            damaged: false,
            after_damage: false,
        }
    }

    fn block(&mut self, meta: &SstMeta, tail: &Tail, index: usize, stored: Bytes) -> Result<()> {
        let (id, place) = (meta.object_id(), tail.block(index));
        let bad = |what: &str| Error::corruption(Name::Sst(id).path(), place.offset, what);
        let block = decode_block(id, place, stored)?;
        let here = |e: Error| e.at(Name::Sst(id).path(), place.offset);
        block.validate().map_err(here)?;
        let separators = (index.checked_sub(1).map(|before| tail.separator(before)), tail.separator(index));
        let mut cursor = block.cursor();
        cursor.first().map_err(here)?;
        if std::mem::take(&mut self.after_damage) {
            self.last_key.clear();
            self.last_seq = u64::MAX;
        } else if let Some(before) = separators.0 {
            let split = cursor.key() == self.last_key;
            // A point read goes on to the next block only for exactly the separator.
            let separates = if split { cursor.key() == &before[..] } else { cursor.key() > &before[..] };
            if split != tail.is_split(index - 1) || !separates {
                return Err(bad("the index does not separate this block from the one before"));
            }
        }
        while cursor.is_valid() {
            let entry = cursor.entry();
            let new_key = self.last_key.is_empty() || entry.key != self.last_key;
            if !new_key && entry.seq >= self.last_seq || new_key && entry.key < &self.last_key[..] {
                return Err(bad("the entries are out of order"));
            }
            if split_full_key(entry.key).is_none() {
                return Err(bad("a key has no keyspace"));
            }
            if entry.kind == Kind::RangeDelete {
                return Err(bad("there is a range delete among the points"));
            }
            if new_key && !tail.may_contain(key_hash(entry.key)) {
                return Err(bad("the filter misses a key"));
            }
            if self.tally.entries == 0 {
                self.first_key = Bytes::copy_from_slice(entry.key);
            }
            self.tally.add(entry, new_key);
            self.last_seq = entry.seq;
            if new_key {
                self.last_key.clear();
                self.last_key.extend_from_slice(entry.key);
            }
            cursor.next().map_err(here)?;
        }
        if self.last_key > separators.1 {
            return Err(bad("the index ends this block before its last key"));
        }
        Ok(())
    }
}

impl std::fmt::Debug for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Check")
            .field("sst", &self.meta.object_id())
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

/// The hash of a whole object, as the manifest records it: XXH3-128, little-endian.
pub fn object_hash(object: &[u8]) -> Bytes {
    Bytes::copy_from_slice(&XxHash3_128::oneshot(object).to_le_bytes())
}

/// The first thing that differs, in words.
fn difference(found: &SstMeta, said: &SstMeta) -> Option<&'static str> {
    let checks = [
        (found.hash == said.hash, "the hash of the object"),
        (found.first_key == said.first_key && found.last_key == said.last_key, "the range of keys"),
        (found.entries == said.entries && found.keys == said.keys, "the number of entries"),
        (found.sum == said.sum, "the conservation sum of the entries"),
        (found == said, "a count or a bound"),
    ];
    checks.into_iter().find(|(same, _)| !same).map(|(_, what)| what)
}
