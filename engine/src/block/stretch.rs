//! A stretch of a block, taken apart at once: for whoever takes every entry of it.
//!
//! One loop over the fronts writes the keys out, back to back. That is what a
//! [`BlockCursor`](super::BlockCursor) does entry by entry, without its keeping a place to go on from; and a stretch can be
//! read from its end as quickly as from its beginning. Of a packed block values are decompressed when they are asked for
//! ([`Stretch::bring`]), so that whoever takes ten entries pays for ten.
//!
//! Always true: every range was checked against the block; versions of one key share the bytes of one key.

use std::ops::Range;

use bytes::Bytes;

use super::{Block, MAX_FULL_KEY_BYTES, bad, packed::Values};
use crate::{
    error::Result,
    key::{EntryRef, Kind, Seq},
};

/// Keys written out take at most this: they share prefixes, so a small block can hold keys of many times its size.
const MOST_KEY_BYTES: usize = 256 << 10;

/// Consecutive entries of a block, in order.
#[derive(Debug)]
pub(crate) struct Stretch {
    block: Block,
    /// The number in the block of the first of them.
    first: usize,
    room: Room,
    pub(super) values: Values,
}

/// What a stretch is written into: kept, so that one after another costs no memory.
#[derive(Debug, Default)]
pub(crate) struct Room {
    keys: Vec<u8>,
    spots: Vec<Spot>,
}

/// Where an entry lies: its key in the buffer, its value among the values of the block.
#[derive(Debug, Clone, Copy)]
struct Spot {
    key: (u32, u32),
    value: (u32, u32),
    kind: Kind,
    goes_on: bool,
}

/// A stretch that is being written.
pub(super) struct Writing<'b> {
    block: &'b Block,
    room: Room,
    /// Where among the keys the last one lies.
    last: Range<usize>,
}

impl<'b> Writing<'b> {
    pub(super) fn new(block: &'b Block, mut room: Room) -> Self {
        room.keys.clear();
        room.spots.clear();
        Self { block, room, last: 0..0 }
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.room.spots.len()
    }

    /// The key that was written last.
    pub(super) fn last_key(&self) -> &[u8] {
        &self.room.keys[self.last.clone()]
    }

    /// The next key: so much of the last one, and `suffix`. Says whether it is the last one once more; `None`, and nothing is
    /// written, if there is no room. Fails with `Corruption`, naming byte `at`, if there is no such key.
    #[inline]
    pub(super) fn key(&mut self, at: usize, shared: usize, suffix: &[u8]) -> Result<Option<bool>> {
        if shared > self.last.len() {
            return Err(bad(at, "an entry shares more than there is"));
        }
        let key_bytes = shared + suffix.len();
        if key_bytes > MAX_FULL_KEY_BYTES {
            return Err(bad(at, "a key is over the limit"));
        }
        if self.room.keys.len() + key_bytes > MOST_KEY_BYTES {
            return Ok(None);
        }
        // At a restart a key is whole, though it may be the one before's.
        let goes_on = key_bytes == self.last.len()
            && self.room.keys[self.last.start + shared..self.last.end] == *suffix;
        if !goes_on {
            let start = self.room.keys.len();
            self.room.keys.extend_from_within(self.last.start..self.last.start + shared);
            self.room.keys.extend_from_slice(suffix);
            self.last = start..self.room.keys.len();
        }
        Ok(Some(goes_on))
    }

    /// The entry with this number in the block, whose key was just written.
    #[inline]
    pub(super) fn entry(&mut self, index: usize, value: &Range<usize>, goes_on: bool) -> Result<Kind> {
        let kind = self.block.kind(index)?;
        self.room.spots.push(Spot {
            key: (self.last.start as u32, self.last.end as u32),
            value: (value.start as u32, value.end as u32),
            kind,
            goes_on: goes_on && !self.room.spots.is_empty(),
        });
        Ok(kind)
    }

    /// The stretch, which begins at the entry `first` of the block; `values` are here already.
    pub(super) fn finish(self, first: usize, values: Values) -> Stretch {
        Stretch { block: self.block.clone(), first, room: self.room, values }
    }
}

impl Block {
    /// The entries `wanted`, by number, no value of a packed block with them; `None` if their keys are too large to be
    /// written out at once.
    /// Fails with `Corruption` where an entry makes no sense.
    pub(crate) fn stretch(&self, wanted: Range<usize>, room: &mut Room) -> Result<Option<Stretch>> {
        let wanted = wanted.start..wanted.end.min(self.entries());
        let restart = wanted.start / self.interval();
        if wanted.is_empty() {
            return Ok(None);
        }
        let (mut at, mut value_at) = self.restart(restart);
        let mut writing = Writing::new(self, std::mem::take(room));
        for index in restart * self.interval()..wanted.end {
            let head = self.head(at)?;
            let value = self.value_range(value_at, head.value_bytes)?;
            let Some(goes_on) = writing.key(at, head.shared, self.suffix(&head))? else { return Ok(None) };
            if index >= wanted.start {
                writing.entry(index, &value, goes_on)?;
            }
            at = head.next();
            value_at += head.value_bytes;
        }
        Ok(Some(writing.finish(wanted.start, self.values_here())))
    }
}

/// `n` counts from the stretch's first entry, and is below [`Self::len`].
impl Stretch {
    /// What it was written into, for another.
    pub(crate) fn into_room(self) -> Room {
        self.room
    }
    /// How many entries; at least one.
    pub(crate) fn len(&self) -> usize {
        self.room.spots.len()
    }
    /// Brings the values of the entries `wanted`, of which there is one at least; of a packed block, others go.
    /// Fails with `Corruption` if they cannot be decompressed.
    pub(crate) fn bring(&mut self, wanted: Range<usize>) -> Result<()> {
        if !self.has(wanted.clone()) {
            self.values = self.block.values(self.value_range(wanted))?;
        }
        Ok(())
    }
    /// Whether the values of the entries `wanted`, of which there is one at least, are here.
    #[inline]
    pub(crate) fn has(&self, wanted: Range<usize>) -> bool {
        self.values.cover(&self.value_range(wanted))
    }
    #[inline]
    fn value_range(&self, wanted: Range<usize>) -> Range<usize> {
        self.room.spots[wanted.start].value.0 as usize..self.room.spots[wanted.end - 1].value.1 as usize
    }
    /// Whether the entry is an older version of the same key as the one before it.
    #[inline]
    pub(crate) fn goes_on(&self, n: usize) -> bool {
        self.room.spots[n].goes_on
    }
    /// Its sequence number.
    #[inline]
    pub(crate) fn seq(&self, n: usize) -> Seq {
        self.block.seq(self.first + n)
    }
    /// Its kind.
    #[inline]
    pub(crate) fn kind(&self, n: usize) -> Kind {
        self.room.spots[n].kind
    }
    /// When it expires, in wall-clock milliseconds.
    #[inline]
    pub(crate) fn expire_at_ms(&self, n: usize) -> u64 {
        self.block.expire_at_ms(self.first + n)
    }
    /// Its full key.
    #[inline]
    pub(crate) fn key(&self, n: usize) -> &[u8] {
        let (start, end) = self.room.spots[n].key;
        &self.room.keys[start as usize..end as usize]
    }
    /// Its value, which was [brought](Self::bring), sharing the block's bytes, or those that were decompressed.
    #[inline]
    pub(crate) fn value(&self, n: usize) -> Bytes {
        let (start, end) = self.room.spots[n].value;
        self.values.share(start as usize..end as usize)
    }
    /// The entry, with the value if that was [brought](Self::bring).
    #[inline]
    pub(crate) fn entry(&self, n: usize) -> EntryRef<'_> {
        let (start, end) = self.room.spots[n].value;
        EntryRef {
            key: self.key(n),
            seq: self.seq(n),
            kind: self.kind(n),
            expire_at_ms: self.expire_at_ms(n),
            value: self.values.get(start as usize..end as usize),
        }
    }
}
