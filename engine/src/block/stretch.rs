//! A stretch of a block, taken apart at once: for whoever takes every entry of it.
//!
//! One loop over the fronts writes the keys out, back to back, into one buffer that rows then share. That is what a
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
    keys: Bytes,
    values: Values,
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

impl Block {
    /// The entries `wanted`, by number, no value of a packed block with them; `None` if their keys are too large to be
    /// written out at once.
    /// Fails with `Corruption` where an entry makes no sense.
    pub(crate) fn stretch(&self, wanted: Range<usize>) -> Result<Option<Stretch>> {
        let wanted = wanted.start..wanted.end.min(self.entries());
        let restart = wanted.start / self.interval();
        if wanted.is_empty() {
            return Ok(None);
        }
        let (mut at, mut value_at) = self.restart(restart);
        // The front of an entry takes three bytes at least, whatever number of entries the trailer claims.
        let most = wanted.len().min(self.parts.keys_bytes as usize / 3 + 1);
        let mut spots = Vec::with_capacity(most);
        let mut keys: Vec<u8> = Vec::with_capacity((most * 32).min(MOST_KEY_BYTES));
        let mut before = 0..0;
        for index in restart * self.interval()..wanted.end {
            let head = self.head(at)?;
            if head.shared > before.len() {
                return Err(bad(at, "an entry shares more than there is"));
            }
            let key_bytes = head.shared + head.unshared;
            if key_bytes > MAX_FULL_KEY_BYTES {
                return Err(bad(at, "a key is over the limit"));
            }
            if keys.len() + key_bytes > MOST_KEY_BYTES {
                return Ok(None);
            }
            let value = self.value_range(value_at, head.value_bytes)?;
            let suffix = self.suffix(&head);
            // At a restart a key is whole, though it may be the one before's.
            let goes_on =
                key_bytes == before.len() && keys[before.start + head.shared..before.end] == *suffix;
            if !goes_on {
                let start = keys.len();
                keys.extend_from_within(before.start..before.start + head.shared);
                keys.extend_from_slice(suffix);
                before = start..keys.len();
            }
            if index >= wanted.start {
                spots.push(Spot {
                    key: (before.start as u32, before.end as u32),
                    value: (value.start as u32, value.end as u32),
                    kind: self.kind(index)?,
                    goes_on: goes_on && !spots.is_empty(),
                });
            }
            at = head.next();
            value_at += head.value_bytes;
        }
        let values = self.values_here();
        Ok(Some(Stretch { block: self.clone(), first: wanted.start, keys: keys.into(), values, spots }))
    }
}

/// `n` counts from the stretch's first entry, and is below [`Self::len`].
impl Stretch {
    /// How many entries; at least one.
    pub(crate) fn len(&self) -> usize {
        self.spots.len()
    }
    /// Brings the values of the entries `wanted`, of which there is one at least; of a packed block, others go.
    /// Fails with `Corruption` if they cannot be decompressed.
    pub(crate) fn bring(&mut self, wanted: Range<usize>) -> Result<()> {
        let values = self.spots[wanted.start].value.0 as usize..self.spots[wanted.end - 1].value.1 as usize;
        if !self.values.cover(&values) {
            self.values = self.block.values(values)?;
        }
        Ok(())
    }
    /// Whether the entry is an older version of the same key as the one before it.
    #[inline]
    pub(crate) fn goes_on(&self, n: usize) -> bool {
        self.spots[n].goes_on
    }
    /// Its sequence number.
    #[inline]
    pub(crate) fn seq(&self, n: usize) -> Seq {
        self.block.seq(self.first + n)
    }
    /// Its kind.
    #[inline]
    pub(crate) fn kind(&self, n: usize) -> Kind {
        self.spots[n].kind
    }
    /// When it expires, in wall-clock milliseconds.
    #[inline]
    pub(crate) fn expire_at_ms(&self, n: usize) -> u64 {
        self.block.expire_at_ms(self.first + n)
    }
    /// Its full key.
    #[inline]
    pub(crate) fn key(&self, n: usize) -> &[u8] {
        let (start, end) = self.spots[n].key;
        &self.keys[start as usize..end as usize]
    }
    /// Its full key from byte `from` on, sharing the stretch's bytes.
    #[inline]
    pub(crate) fn shared_key(&self, n: usize, from: usize) -> Bytes {
        let (start, end) = self.spots[n].key;
        self.keys.slice((start as usize + from).min(end as usize)..end as usize)
    }
    /// Its value, which was [brought](Self::bring), sharing the block's bytes, or those that were decompressed.
    #[inline]
    pub(crate) fn value(&self, n: usize) -> Bytes {
        let (start, end) = self.spots[n].value;
        self.values.share(start as usize..end as usize)
    }
    /// The entry, with the value if that was [brought](Self::bring).
    #[inline]
    pub(crate) fn entry(&self, n: usize) -> EntryRef<'_> {
        let (start, end) = self.spots[n].value;
        EntryRef {
            key: self.key(n),
            seq: self.seq(n),
            kind: self.kind(n),
            expire_at_ms: self.expire_at_ms(n),
            value: self.values.get(start as usize..end as usize),
        }
    }
}
