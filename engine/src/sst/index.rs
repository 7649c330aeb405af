//! The index: which block may hold a key.
//!
//! For every block a separator: a string at or after the block's last key and before the next
//! block's first, as short as there is one. What all separators share is kept once; the first eight
//! bytes after that are kept as numbers, in an array of their own, so that a search compares numbers
//! in a few cache lines and looks at a string only between equals.
//!
//! ```text
//! prefix      what all separators share
//! suffixes    the rest of each, back to back
//! heads       per block u64: the first eight bytes of its suffix as a big-endian number, zero-padded
//! suffix ends per block u32: where its suffix ends; the top bit: the block's last key goes on in the next
//! block ends  per block u64: the offset in the object where the block ends; the first begins at 0
//! counts      prefix bytes u32 ‖ blocks u32
//! ```
//!
//! The versions of one key may span blocks. Then the separator is that key itself, and the block is
//! marked: a point read that found nothing for exactly that key goes on to the next block.
//!
//! Always true: separators ascend (equal only when a key's versions fill a whole block); blocks lie
//! back to back.

use std::cmp::Ordering;

use bytes::{BufMut, Bytes};

use crate::{
    block::{MAX_BLOCK_RAW, MAX_FULL_KEY_BYTES},
    sst::reader::{BLOCK_TRAILER_BYTES, BlockRef},
};

/// The largest index.
pub const MAX_INDEX_BYTES: usize = 256 << 20;

const GOES_ON: u32 = 1 << 31;
const COUNTS_BYTES: usize = 8;

/// An index, searched where it lies.
#[derive(Debug, Clone)]
pub struct Index {
    bytes: Bytes,
    blocks: usize,
    suffixes: usize,
    heads: usize,
    suffix_ends: usize,
    block_ends: usize,
}

impl Index {
    /// The index in these bytes, of an SST whose blocks end at `tail_offset`. Every number in it is
    /// checked; the error says what is wrong and at which byte of the index.
    pub fn parse(bytes: Bytes, tail_offset: u64) -> Result<Self, (usize, &'static str)> {
        let counts =
            bytes.len().checked_sub(COUNTS_BYTES).ok_or((0, "the index has no room for its counts"))?;
        let suffixes = word32(&bytes, counts) as usize;
        let blocks = word32(&bytes, counts + 4) as usize;
        if blocks == 0 {
            return Err((counts, "the index names no block"));
        }
        let columns = blocks as u64 * (8 + 4 + 8);
        let heads =
            (counts as u64).checked_sub(columns).ok_or((counts, "the index is shorter than its columns"))?;
        let heads = heads as usize;
        if suffixes > heads {
            return Err((counts, "the index is shorter than its prefix"));
        }
        let suffix_ends = heads + blocks * 8;
        let index =
            Self { blocks, suffixes, heads, suffix_ends, block_ends: suffix_ends + blocks * 4, bytes };
        index.check(tail_offset)?;
        Ok(index)
    }

    /// Its size.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }
    /// How many blocks there are; at least one.
    pub fn blocks(&self) -> usize {
        self.blocks
    }
    /// Where block `index` lies. `index` is below [`Self::blocks`] (asserted).
    pub fn block(&self, index: usize) -> BlockRef {
        assert!(index < self.blocks, "block {index} of {}", self.blocks);
        let start = if index == 0 { 0 } else { self.block_end(index - 1) };
        BlockRef { offset: start, bytes: (self.block_end(index) - start) as u32 }
    }
    /// The separator of block `index`: at or after its last key, before the first of the next one.
    pub fn separator(&self, index: usize) -> Vec<u8> {
        [self.prefix(), self.suffix(index)].concat()
    }
    /// How the separator of block `index` compares with `key`.
    pub fn compare(&self, index: usize, key: &[u8]) -> Ordering {
        let prefix = self.prefix();
        match key.split_at_checked(prefix.len()) {
            Some((head, rest)) => prefix.cmp(head).then_with(|| self.suffix(index).cmp(rest)),
            // All separators are on one side of a key that is shorter than what they share.
            None => prefix.cmp(key),
        }
    }
    /// Whether the versions of exactly `key` may go on from block `index` in the next one.
    #[inline]
    pub fn goes_on(&self, index: usize, key: &[u8]) -> bool {
        self.suffix_end(index) & GOES_ON != 0
            && key.strip_prefix(self.prefix()).is_some_and(|rest| rest == self.suffix(index))
    }
    /// Whether the last key of block `index` is the first of the next one.
    pub fn is_split(&self, index: usize) -> bool {
        self.suffix_end(index) & GOES_ON != 0
    }

    /// The first block that may hold an entry with a key at or after `key`; `None` if all lie before it.
    #[inline]
    pub fn find(&self, key: &[u8]) -> Option<usize> {
        let prefix = self.prefix();
        let Some(rest) = key.strip_prefix(prefix) else {
            // Every separator begins with the prefix, so they all lie on one side of the key.
            return (key < prefix).then_some(0);
        };
        let head = head_of(rest);
        let (mut low, mut high) = (0, self.blocks);
        while low < high {
            let middle = low + (high - low) / 2;
            let at = self.head(middle);
            let before = at < head || at == head && self.suffix(middle) < rest;
            if before {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        (low < self.blocks).then_some(low)
    }

    fn check(&self, tail_offset: u64) -> Result<(), (usize, &'static str)> {
        let (mut suffix_at, mut block_at) = (0, 0);
        for index in 0..self.blocks {
            let end = (self.suffix_end(index) & !GOES_ON) as usize;
            if end < suffix_at || end > self.heads - self.suffixes {
                return Err((self.suffix_ends + index * 4, "a separator does not lie in the index"));
            }
            if self.suffixes + (end - suffix_at) > MAX_FULL_KEY_BYTES {
                return Err((self.suffix_ends + index * 4, "a separator is over the limit"));
            }
            suffix_at = end;
            if self.head(index) != head_of(self.suffix(index)) {
                return Err((self.heads + index * 8, "the head of a separator is another's"));
            }
            if index > 0 && self.suffix(index - 1) > self.suffix(index) {
                return Err((self.heads + index * 8, "the separators are out of order"));
            }
            let end = self.block_end(index);
            let bytes = end
                .checked_sub(block_at)
                .ok_or((self.block_ends + index * 8, "the blocks are out of order"))?;
            if bytes <= BLOCK_TRAILER_BYTES as u64 || bytes > (MAX_BLOCK_RAW + BLOCK_TRAILER_BYTES) as u64 {
                return Err((self.block_ends + index * 8, "a block has an impossible size"));
            }
            block_at = end;
        }
        if self.suffixes + suffix_at != self.heads {
            return Err((self.heads, "there are bytes after the last separator"));
        }
        if self.is_split(self.blocks - 1) {
            return Err((self.suffix_ends, "the last key goes on after the last block"));
        }
        if block_at != tail_offset {
            return Err((self.block_ends, "the blocks do not end where the tail begins"));
        }
        Ok(())
    }

    #[inline]
    fn prefix(&self) -> &[u8] {
        &self.bytes[..self.suffixes]
    }
    #[inline]
    fn suffix(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.suffix_end(index - 1) & !GOES_ON };
        let end = self.suffix_end(index) & !GOES_ON;
        &self.bytes[self.suffixes + start as usize..self.suffixes + end as usize]
    }
    #[inline]
    fn head(&self, index: usize) -> u64 {
        word64(&self.bytes, self.heads + index * 8)
    }
    #[inline]
    fn suffix_end(&self, index: usize) -> u32 {
        word32(&self.bytes, self.suffix_ends + index * 4)
    }
    #[inline]
    fn block_end(&self, index: usize) -> u64 {
        word64(&self.bytes, self.block_ends + index * 8)
    }
}

/// What the column of block ends of an index of `blocks` blocks holds, whether or not the rest of it can be believed.
pub(super) fn doubtful_ends(bytes: &[u8], blocks: u64) -> Vec<u64> {
    let column = usize::try_from(blocks).ok().and_then(|blocks| blocks.checked_mul(8)).and_then(|column| {
        let end = bytes.len().checked_sub(COUNTS_BYTES)?;
        bytes.get(end.checked_sub(column)?..end)
    });
    column.unwrap_or_default().chunks_exact(8).map(|end| word64(end, 0)).collect()
}

/// Collects separators and block ends, in order.
#[derive(Debug, Default)]
pub struct IndexBuilder {
    separators: Vec<u8>,
    ends: Vec<u32>,
    block_ends: Vec<u64>,
}

impl IndexBuilder {
    /// A block that ends at byte `end`, whose last key is `last`; the next block begins with `next`.
    pub fn add(&mut self, end: u64, last: &[u8], next: Option<&[u8]>) {
        let mut goes_on = 0;
        match next {
            Some(next) if next == last => {
                goes_on = GOES_ON;
                self.separators.extend_from_slice(last);
            }
            Some(next) => push_separator(&mut self.separators, last, next),
            None => self.separators.extend_from_slice(last),
        }
        self.ends.push(self.separators.len() as u32 | goes_on);
        self.block_ends.push(end);
    }
    /// How many blocks were added.
    pub fn blocks(&self) -> usize {
        self.ends.len()
    }
    /// The bytes that [`Self::finish`] may at most give.
    pub fn size(&self) -> usize {
        self.separators.len() + self.ends.len() * 20 + COUNTS_BYTES
    }
    /// The bytes of the index.
    pub fn finish(&self) -> Vec<u8> {
        let separator = |index: usize| {
            let start = if index == 0 { 0 } else { self.ends[index - 1] & !GOES_ON };
            &self.separators[start as usize..(self.ends[index] & !GOES_ON) as usize]
        };
        let last = self.blocks().saturating_sub(1);
        let prefix = if self.ends.is_empty() {
            0
        } else {
            // They ascend: what the first and the last share, all share.
            separator(0).iter().zip(separator(last)).take_while(|(a, b)| a == b).count()
        };
        let mut out = Vec::with_capacity(self.size());
        out.extend_from_slice(&self.separators[..prefix]);
        for index in 0..self.blocks() {
            out.extend_from_slice(&separator(index)[prefix..]);
        }
        for index in 0..self.blocks() {
            out.put_u64_le(head_of(&separator(index)[prefix..]));
        }
        for (index, end) in self.ends.iter().enumerate() {
            out.put_u32_le(*end - (prefix * (index + 1)) as u32);
        }
        for end in &self.block_ends {
            out.put_u64_le(*end);
        }
        out.put_u32_le(prefix as u32);
        out.put_u32_le(self.blocks() as u32);
        out
    }
}

/// Appends the shortest string `s` with `last <= s < next`.
fn push_separator(out: &mut Vec<u8>, last: &[u8], next: &[u8]) {
    let shared = last.iter().zip(next).take_while(|(a, b)| a == b).count();
    if last.len() > shared && next.len() > shared + 1 {
        // One byte of `next` past what they share is after `last`, and before `next`, which has more.
        out.extend_from_slice(&next[..=shared]);
        return;
    }
    // Otherwise `last` with a byte raised, and nothing after it: the first byte that can be raised
    // without reaching `next`.
    let raised = (shared..last.len()).find(|&at| last[at] < 255 && (at > shared || last[at] + 1 < next[at]));
    match raised {
        Some(at) if at + 1 < last.len() => {
            out.extend_from_slice(&last[..at]);
            out.push(last[at] + 1);
        }
        _ => out.extend_from_slice(last),
    }
}

/// The first eight bytes as a number that orders as they do; shorter ones are padded with zeroes.
#[inline]
fn head_of(suffix: &[u8]) -> u64 {
    match suffix.first_chunk() {
        Some(head) => u64::from_be_bytes(*head),
        None => {
            let mut head = [0; 8];
            head[..suffix.len()].copy_from_slice(suffix);
            u64::from_be_bytes(head)
        }
    }
}

/// The word at `at`, which [`Index::parse`] has found to lie within.
#[inline]
fn word32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |word| u32::from_le_bytes(*word))
}

#[inline]
fn word64(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |word| u64::from_le_bytes(*word))
}
