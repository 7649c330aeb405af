//! A block: sorted entries with shared key prefixes, the unit we cache and check.
//!
//! Searched where it lies, never decoded into rows. Keys lie together and values lie together, so
//! that a search touches few cache lines; sequence numbers, expiries and kinds lie in columns whose
//! width is chosen per block, so that the common entry (a put that never expires, written within
//! 65,536 writes of its neighbours) pays two bytes for all three.
//!
//! ```text
//! keys      per entry: shared varint ‖ unshared varint ‖ value bytes varint ‖ the unshared end of the key
//! values    all values, back to back
//! seqs      per entry: seq − base_seq, seq_width bytes; absent if the width is 0 (all are base_seq)
//! expiries  per entry: 0 = never, else expiry − base_expiry + 1, expiry_width bytes;
//!           absent if the width is 0 (all are base_expiry, which is 0 for never)
//! kinds     per entry: one byte; absent if all are alike
//! restarts  per restart: where its key begins (u32), where its value begins among the values (u32)
//! trailer   base_seq u64 ‖ base_expiry u64 ‖ entries u32 ‖ keys bytes u32 ‖ values bytes u32
//!           ‖ restart interval u16 ‖ seq_width u8 ‖ expiry_width u8 ‖ kind u8 (0xFF = column)
//!           ‖ flags u8 (bit 0, reserved: a hash index before the trailer) ‖ reserved u8 = 0 ‖ version u8 = 1
//! ```
//!
//! Every `interval`-th entry is a restart and shares nothing; every other shares as much as it can
//! with the entry before it. Because the sharing is maximal, a search compares one byte string, not
//! one per entry: an entry that shares *more* with its predecessor than the predecessor shared with
//! the target lies before the target too, and one that shares *less* lies after it.
//!
//! Compression and the checksum are the SST's (`sst::reader::decode_block`): a [`Block`] is raw
//! bytes that were verified. It is still written for hostile ones: after [`Block::parse`] no method
//! panics or loops, and [`Block::validate`] checks all there is to check.
//!
//! A cache holds blocks in a second form too, with their values compressed ([`pack`]): a [`Block`] is of either form,
//! and everything works on both.
//!
//! Always true: (key, seq descending) ascends strictly; a block is never empty; all parts fit
//! exactly. Errors name the byte within the block; whoever knows the object adds it.

pub mod builder;
pub mod cursor;
mod packed;
mod search;
pub(crate) mod stretch;

#[cfg(test)]
mod tests;

pub use builder::BlockBuilder;
pub use cursor::BlockCursor;
pub use packed::pack;

use std::cmp::Ordering;

use bytes::Bytes;

use self::packed::{COUNTS_BYTES, DIRECTORY_BYTES, PACKED};
use crate::{
    codec::varint::{BadInput, Input, get_varint},
    error::{Error, ErrorKind, Result},
    key::{KEYSPACE_BYTES, Kind, MAX_KEY_BYTES, MAX_VALUE_BYTES, NEVER, Seq},
};

/// The longest full key.
pub const MAX_FULL_KEY_BYTES: usize = KEYSPACE_BYTES + MAX_KEY_BYTES;
/// The largest raw block: one entry of the largest key and value, and what surrounds it.
pub const MAX_BLOCK_RAW: usize = MAX_VALUE_BYTES + (256 << 10);
/// The bytes of the trailer.
pub const TRAILER_BYTES: usize = 36;

const VERSION: u8 = 1;
/// In the trailer's place for the kind of all entries: there is a column instead.
const KINDS_DIFFER: u8 = 0xFF;
const FLAG_HASH_INDEX: u8 = 1;
const RESTART_BYTES: usize = 8;

/// Raw (decompressed, verified) block bytes, or those of its packed form. Cloning shares them.
#[derive(Debug, Clone)]
pub struct Block {
    bytes: Bytes,
    parts: Parts,
}

/// An entry found by a point read: the value shares the block's bytes, unless they had to be decompressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its place in the order of writes.
    pub seq: Seq,
    /// What it does.
    pub kind: Kind,
    /// When it expires, in wall-clock milliseconds; [`NEVER`] if it does not.
    pub expire_at_ms: u64,
    /// The value; empty unless the kind carries one.
    pub value: Bytes,
}

impl Block {
    /// Reads the trailer and checks that the parts fit; nothing else is touched.
    /// Fails with `Corruption`, or `Unsupported` if a newer version wrote it.
    pub fn parse(bytes: Bytes) -> Result<Self> {
        let parts = Parts::read(&bytes, false)?;
        Ok(Self { bytes, parts })
    }
    /// The same of what a cache held: a packed block is one too.
    pub fn parse_cached(bytes: Bytes) -> Result<Self> {
        let parts = Parts::read(&bytes, true)?;
        Ok(Self { bytes, parts })
    }
    /// The bytes, in the form that it has.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
    /// Whether its values are compressed.
    #[inline]
    pub fn is_packed(&self) -> bool {
        self.parts.chunks > 0
    }
    /// How many entries it holds; at least one.
    pub fn entries(&self) -> usize {
        self.parts.entries as usize
    }
    /// A cursor that stands nowhere yet.
    pub fn cursor(&self) -> BlockCursor {
        BlockCursor::new(self.clone())
    }

    /// The newest entry of `key` with a sequence number of at most `seq`, found where it lies.
    ///
    /// The versions of one key may go on in the next block: `None` means that *this* block has none.
    pub fn get(&self, key: &[u8], seq: Seq) -> Result<Option<Found>> {
        let Some((index, value)) = search::find(self, key, seq)? else { return Ok(None) };
        Ok(Some(Found {
            seq: self.seq(index),
            kind: self.kind(index)?,
            expire_at_ms: self.expire_at_ms(index),
            value: self.value(value)?,
        }))
    }

    /// Checks every offset, length and number, and the order of the entries. For verifying and for
    /// tests: costs a walk over the block.
    pub fn validate(&self) -> Result<()> {
        let mut key: Vec<u8> = Vec::new();
        let (mut at, mut value_at) = (0, 0);
        for index in 0..self.entries() {
            let head = self.head(at)?;
            let restart = index.is_multiple_of(self.interval());
            if restart {
                if self.restart(index / self.interval()) != (at, value_at) {
                    return Err(bad(at, "a restart points elsewhere"));
                }
                if head.shared != 0 {
                    return Err(bad(at, "a restart shares a prefix"));
                }
            }
            if head.shared > key.len() {
                return Err(bad(at, "an entry shares more than there is"));
            }
            if head.shared + head.unshared > MAX_FULL_KEY_BYTES {
                return Err(bad(at, "a key is over the limit"));
            }
            let suffix = self.suffix(&head);
            let maximal = suffix.first().is_none_or(|byte| key.get(head.shared) != Some(byte));
            if !restart && !maximal {
                return Err(bad(at, "an entry shares less than it can"));
            }
            let order = suffix.cmp(&key[head.shared..]);
            let seq =
                self.base_seq_plus(index).ok_or_else(|| bad(at, "a sequence number is past 64 bits"))?;
            if index > 0
                && (order == Ordering::Less || order == Ordering::Equal && seq >= self.seq(index - 1))
            {
                return Err(bad(at, "the entries are out of order"));
            }
            if !self.expiry_fits(index) {
                return Err(bad(at, "an expiry is past 64 bits"));
            }
            self.kind(index)?;
            key.truncate(head.shared);
            key.extend_from_slice(self.suffix(&head));
            at = head.next();
            value_at += head.value_bytes;
            if value_at > self.parts.values_bytes as usize {
                return Err(bad(at, "a value reaches past the values"));
            }
        }
        if at != self.parts.keys_bytes as usize {
            return Err(bad(at, "there are bytes after the last key"));
        }
        if value_at != self.parts.values_bytes as usize {
            return Err(bad(self.values_start() + value_at, "there are bytes after the last value"));
        }
        self.values(0..value_at)?;
        Ok(())
    }
}

/// Where the parts of a block lie, from its trailer.
#[derive(Debug, Clone, Copy)]
struct Parts {
    base_seq: u64,
    base_expiry: u64,
    entries: u32,
    keys_bytes: u32,
    values_bytes: u32,
    seqs: u32,
    expiries: u32,
    kinds: u32,
    restarts: u32,
    /// Of a packed block: where its directory begins, how many chunks there are, and the bytes of all of them. Of a plain
    /// one: no chunks, and the bytes of the values.
    directory: u32,
    chunks: u32,
    stored_values: u32,
    interval: u16,
    seq_width: u8,
    expiry_width: u8,
    kind: u8,
}

impl Parts {
    fn read(bytes: &[u8], packed_too: bool) -> Result<Self> {
        if bytes.len() > MAX_BLOCK_RAW {
            return Err(bad(0, "the block is over the limit"));
        }
        let trailer_at = bytes
            .len()
            .checked_sub(TRAILER_BYTES)
            .ok_or_else(|| bad(0, "the block has no room for its trailer"))?;
        let version = bytes[bytes.len() - 1];
        let packed = packed_too && version == PACKED;
        if version != VERSION && !packed {
            return Err(Error::unsupported(format!("block version {version} is not known to this version"))
                .hint("open this database with a newer esker"));
        }
        let mut input = Input::new(&bytes[trailer_at..]);
        let mut parts = || {
            let base_seq = input.u64()?;
            let base_expiry = input.u64()?;
            let [entries, keys_bytes, values_bytes] = [input.u32()?, input.u32()?, input.u32()?];
            let interval = input.u16()?;
            let [seq_width, expiry_width, kind, flags, reserved, _] = input.array()?;
            let parts = Self {
                base_seq,
                base_expiry,
                entries,
                keys_bytes,
                values_bytes,
                seqs: 0,
                expiries: 0,
                kinds: 0,
                restarts: 0,
                directory: 0,
                chunks: 0,
                stored_values: values_bytes,
                interval,
                seq_width,
                expiry_width,
                kind,
            };
            Ok((parts, flags, reserved))
        };
        let (mut parts, flags, reserved) =
            parts().map_err(|e: BadInput| bad(trailer_at + e.offset, e.what))?;
        if flags == FLAG_HASH_INDEX {
            return Err(Error::unsupported("a block with a hash index is not known to this version")
                .hint("open this database with a newer esker"));
        }
        if flags != 0 || reserved != 0 {
            return Err(Error::unsupported(format!(
                "block flags {flags:#04x} are not known to this version"
            ))
            .hint("open this database with a newer esker"));
        }
        if parts.entries == 0 || parts.interval == 0 || parts.seq_width > 8 || parts.expiry_width > 8 {
            return Err(bad(trailer_at, "the trailer makes no sense"));
        }
        if parts.kind != KINDS_DIFFER {
            Kind::from_u8(parts.kind)?;
        }
        let mut parts_end = trailer_at as u64;
        if packed {
            let counts = bytes[..trailer_at].last_chunk().map_or(0, |counts| u64::from_le_bytes(*counts));
            (parts.chunks, parts.stored_values) = (counts as u32, (counts >> 32) as u32);
            let directory_bytes = u64::from(parts.chunks) * DIRECTORY_BYTES as u64 + COUNTS_BYTES as u64;
            parts_end = parts_end
                .checked_sub(directory_bytes)
                .ok_or_else(|| bad(trailer_at, "the parts do not fit the block"))?;
            let raw =
                parts_end.saturating_sub(u64::from(parts.stored_values)) + u64::from(parts.values_bytes);
            if parts.chunks == 0 || raw + TRAILER_BYTES as u64 > MAX_BLOCK_RAW as u64 {
                return Err(bad(trailer_at, "the trailer makes no sense"));
            }
        }
        let entries = parts.entries as u64;
        let seqs = parts.keys_bytes as u64 + parts.stored_values as u64;
        let expiries = seqs + entries * parts.seq_width as u64;
        let kinds = expiries + entries * parts.expiry_width as u64;
        let restarts = kinds + if parts.kind == KINDS_DIFFER { entries } else { 0 };
        let directory = restarts + entries.div_ceil(parts.interval as u64) * RESTART_BYTES as u64;
        if directory != parts_end {
            return Err(bad(trailer_at, "the parts do not fit the block"));
        }
        // All of these are at most `trailer_at`, which is under the limit.
        [parts.seqs, parts.expiries, parts.kinds, parts.restarts, parts.directory] =
            [seqs, expiries, kinds, restarts, directory].map(|offset| offset as u32);
        Ok(parts)
    }
}

/// The front of an entry in the keys part.
#[derive(Debug, Clone, Copy)]
struct Head {
    shared: usize,
    unshared: usize,
    value_bytes: usize,
    /// Where the unshared end of the key begins.
    suffix: usize,
}

impl Head {
    /// Where the next entry begins.
    #[inline]
    fn next(&self) -> usize {
        self.suffix + self.unshared
    }
}

/// Access to the parts, each call checked against the bytes. An `index` is below `entries`.
impl Block {
    #[inline]
    fn head(&self, at: usize) -> Result<Head> {
        let keys = &self.bytes[..self.parts.keys_bytes as usize];
        let head = match keys.get(at..at + 4) {
            Some(&[shared, unshared, value_bytes, _]) if (shared | unshared | value_bytes) < 0x80 => Head {
                shared: shared as usize,
                unshared: unshared as usize,
                value_bytes: value_bytes as usize,
                suffix: at + 3,
            },
            // A value of up to 16 KiB has two bytes for its length, the second of them not zero.
            Some(&[shared, unshared, low, high @ 1..0x80]) if (shared | unshared) < 0x80 => Head {
                shared: shared as usize,
                unshared: unshared as usize,
                value_bytes: usize::from(low & 0x7F) | usize::from(high) << 7,
                suffix: at + 4,
            },
            _ => long_head(keys, at).ok_or_else(|| bad(at, "the front of an entry makes no sense"))?,
        };
        if head.next() > keys.len() {
            return Err(bad(at, "a key reaches past the keys"));
        }
        Ok(head)
    }
    /// The unshared end of a key. `head` came from [`Self::head`], which checked it.
    #[inline]
    fn suffix(&self, head: &Head) -> &[u8] {
        &self.bytes[head.suffix..head.next()]
    }
    #[inline]
    fn interval(&self) -> usize {
        self.parts.interval as usize
    }
    #[inline]
    fn restarts(&self) -> usize {
        self.entries().div_ceil(self.interval())
    }
    /// Where the key of this restart begins, and where its value begins among the values.
    #[inline]
    fn restart(&self, restart: usize) -> (usize, usize) {
        let word = self.word(self.parts.restarts as usize + restart * RESTART_BYTES);
        (word as u32 as usize, (word >> 32) as usize)
    }
    #[inline]
    fn values_start(&self) -> usize {
        self.parts.keys_bytes as usize
    }
    /// The range among the values of one that begins at `value_at`.
    #[inline]
    fn value_range(&self, value_at: usize, value_bytes: usize) -> Result<std::ops::Range<usize>> {
        if value_at + value_bytes > self.parts.values_bytes as usize {
            return Err(bad(self.values_start() + value_at, "a value reaches past the values"));
        }
        Ok(value_at..value_at + value_bytes)
    }
    #[inline]
    fn seq(&self, index: usize) -> Seq {
        self.parts.base_seq.wrapping_add(self.column(self.parts.seqs, self.parts.seq_width, index))
    }
    fn base_seq_plus(&self, index: usize) -> Option<Seq> {
        self.parts.base_seq.checked_add(self.column(self.parts.seqs, self.parts.seq_width, index))
    }
    #[inline]
    fn expire_at_ms(&self, index: usize) -> u64 {
        if self.parts.expiry_width == 0 {
            return self.parts.base_expiry;
        }
        match self.column(self.parts.expiries, self.parts.expiry_width, index) {
            0 => NEVER,
            delta => self.parts.base_expiry.wrapping_add(delta - 1),
        }
    }
    fn expiry_fits(&self, index: usize) -> bool {
        let delta = self.column(self.parts.expiries, self.parts.expiry_width, index);
        delta == 0
            || self.parts.base_expiry != NEVER && self.parts.base_expiry.checked_add(delta - 1).is_some()
    }
    #[inline]
    fn kind(&self, index: usize) -> Result<Kind> {
        match self.parts.kind {
            KINDS_DIFFER => Kind::from_u8(self.bytes[self.parts.kinds as usize + index]),
            kind => Kind::from_u8(kind),
        }
    }
    #[inline]
    fn column(&self, start: u32, width: u8, index: usize) -> u64 {
        if width == 0 {
            return 0;
        }
        self.word(start as usize + index * width as usize) & (u64::MAX >> (64 - 8 * width as u32))
    }
    /// The eight bytes at `at`. Never short: every column and the restarts lie before the trailer,
    /// which is longer than a word.
    #[inline]
    fn word(&self, at: usize) -> u64 {
        self.bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }
}

#[cold]
fn long_head(keys: &[u8], start: usize) -> Option<Head> {
    let mut at = start;
    let mut next = |limit: usize| {
        let (value, n) = get_varint(keys.get(at..)?)?;
        at += n;
        (value <= limit as u64).then_some(value as usize)
    };
    let shared = next(MAX_FULL_KEY_BYTES)?;
    let unshared = next(MAX_FULL_KEY_BYTES)?;
    let value_bytes = next(MAX_VALUE_BYTES)?;
    Some(Head { shared, unshared, value_bytes, suffix: at })
}

#[cold]
fn bad(offset: usize, what: &str) -> Error {
    Error::new(ErrorKind::Corruption, format!("{what}, at byte {offset} of the block"))
}
