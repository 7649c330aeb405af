//! The second form of a block, for a cache: searched as it lies like the first, its values compressed in chunks.
//!
//! Memory holds nearly twice as many blocks this way, and a point read of one costs the decompression of the one chunk
//! in which its value lies, not of the block. Why not the block as it is stored: that is one frame, so a read of
//! 400 bytes would decompress 16 KiB.
//!
//! ```text
//! keys       as in a plain block
//! chunks     the values in pieces, each an LZ4 block, or raw (then it is as long as what it stands for)
//! seqs, expiries, kinds, restarts   as in a plain block
//! directory  per chunk: where it begins among the values (u32), where among the chunks (u32)
//! counts     chunks u32 ‖ bytes of all chunks u32
//! trailer    as in a plain block (values bytes: those they stand for), but version u8 = 0x81
//! ```
//!
//! It is never written into an SST, and what reads SSTs refuses it. Like a plain block it is taken for hostile: lengths
//! are held against the bytes before anything is allocated, and against what LZ4 can give.
//!
//! Always true: [`pack`] cuts between values, so that a value lies in one chunk; a packed block is smaller by an eighth
//! at least than the plain one, and says the same.

use std::ops::Range;

use bytes::{BufMut, Bytes};

use crate::{
    block::{Block, TRAILER_BYTES, bad},
    codec::frame::{Codec, compress, cut_lz4, may_hold, unlz4},
    error::{Error, Result},
    near,
};

/// The version in the trailer of a packed block.
pub(super) const PACKED: u8 = 0x81;
/// The bytes of the directory for one chunk.
pub(super) const DIRECTORY_BYTES: usize = 8;
/// The bytes of the counts before the trailer.
pub(super) const COUNTS_BYTES: usize = 8;

/// Values that are compressed together, in bytes, unless one alone is larger. Half of it is decompressed in vain by a
/// point read; in much less there is little that repeats.
const TOGETHER_BYTES: usize = 2 << 10;

/// The packed form of a plain block; `None` of what is none, or if that is not smaller by an eighth at least.
pub fn pack(plain: &Bytes) -> Option<Bytes> {
    Block::parse(plain.clone()).ok()?.pack()
}

/// Values that are here, decompressed or never compressed.
#[derive(Debug, Clone, Default)]
pub(super) struct Values {
    bytes: Bytes,
    /// Where they begin among the values of the block.
    at: usize,
}

/// Ranges are among the values of the block.
impl Values {
    #[inline]
    pub(super) fn cover(&self, wanted: &Range<usize>) -> bool {
        wanted.is_empty() || self.at <= wanted.start && wanted.end <= self.at + self.bytes.len()
    }
    /// Those wanted; none if they are not here.
    #[inline]
    pub(super) fn get(&self, wanted: Range<usize>) -> &[u8] {
        if self.cover(&wanted) && !wanted.is_empty() { &self.bytes[self.here(wanted)] } else { &[] }
    }
    /// The same, sharing the bytes.
    #[inline]
    pub(super) fn share(&self, wanted: Range<usize>) -> Bytes {
        if self.cover(&wanted) && !wanted.is_empty() {
            self.bytes.slice(self.here(wanted))
        } else {
            Bytes::new()
        }
    }
    fn here(&self, wanted: Range<usize>) -> Range<usize> {
        wanted.start - self.at..wanted.end - self.at
    }
}

/// A piece of the values.
struct Chunk {
    /// Among the values.
    raw: Range<usize>,
    /// Among the bytes of the block.
    stored: Range<usize>,
}

impl Chunk {
    fn is_raw(&self) -> bool {
        self.stored.len() == self.raw.len()
    }
}

/// Values of either form. Ranges are among the values, and within them.
impl Block {
    /// The values that are here without decompressing any: all of a plain block, none of a packed one.
    #[inline]
    pub(super) fn values_here(&self) -> Values {
        if self.is_packed() {
            return Values::default();
        }
        let start = self.values_start();
        Values { bytes: self.bytes.slice(start..start + self.parts.values_bytes as usize), at: 0 }
    }

    /// One value.
    #[inline]
    pub(super) fn value(&self, wanted: Range<usize>) -> Result<Bytes> {
        if self.is_packed() { self.packed_value(wanted) } else { Ok(self.plain_values(wanted)) }
    }

    /// Those values at least, in one piece.
    pub(super) fn values(&self, wanted: Range<usize>) -> Result<Values> {
        if !self.is_packed() || wanted.is_empty() {
            return Ok(self.values_here());
        }
        let chunks = self.chunk_of(wanted.start)..self.chunk_of(wanted.end - 1) + 1;
        let chunks_from = chunks.start;
        let mut raw_bytes = 0;
        for n in chunks.clone() {
            raw_bytes += self.chunk(n)?.raw.len();
        }
        let at = self.chunk(chunks_from)?.raw.start;
        let mut raw = vec![0; raw_bytes];
        let mut rest = &mut raw[..];
        for n in chunks {
            let chunk = self.chunk(n)?;
            let (piece, behind) = rest.split_at_mut(chunk.raw.len());
            let stored = &self.bytes[chunk.stored.clone()];
            if chunk.is_raw() {
                piece.copy_from_slice(stored);
            } else {
                unlz4(stored, piece)?;
            }
            rest = behind;
        }
        let values = Values { bytes: raw.into(), at };
        if values.cover(&wanted) { Ok(values) } else { Err(self.bad_chunk(chunks_from)) }
    }

    fn plain_values(&self, wanted: Range<usize>) -> Bytes {
        let start = self.values_start();
        self.bytes.slice(start + wanted.start..start + wanted.end)
    }

    fn packed_value(&self, wanted: Range<usize>) -> Result<Bytes> {
        if wanted.is_empty() {
            return Ok(Bytes::new());
        }
        let chunk = self.chunk(self.chunk_of(wanted.start))?;
        if wanted.end > chunk.raw.end {
            return Ok(self.values(wanted.clone())?.share(wanted));
        }
        let within = wanted.start - chunk.raw.start..wanted.end - chunk.raw.start;
        if chunk.is_raw() {
            return Ok(self.bytes.slice(chunk.stored.start + within.start..chunk.stored.start + within.end));
        }
        let stored = &self.bytes[chunk.stored];
        near::ask_for(stored, usize::MAX);
        cut_lz4(stored, chunk.raw.len(), within)
    }

    /// The chunk in which a byte of the values lies.
    fn chunk_of(&self, value_at: usize) -> usize {
        let (mut low, mut high) = (0, self.parts.chunks as usize);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if self.chunk_start(middle).0 <= value_at {
                low = middle;
            } else {
                high = middle;
            }
        }
        low
    }

    /// Where a chunk lies, checked: within the values and the block, and not more than its bytes can give.
    fn chunk(&self, n: usize) -> Result<Chunk> {
        let start = if n == 0 { (0, 0) } else { self.chunk_start(n) };
        let end = if n + 1 < self.parts.chunks as usize {
            self.chunk_start(n + 1)
        } else {
            (self.parts.values_bytes as usize, self.parts.stored_values as usize)
        };
        let fits = start.0 < end.0
            && start.1 < end.1
            && end.0 <= self.parts.values_bytes as usize
            && end.1 <= self.parts.stored_values as usize;
        let chunk_bytes = end.1.wrapping_sub(start.1);
        let raw_bytes = end.0.wrapping_sub(start.0);
        if !fits || chunk_bytes != raw_bytes && !may_hold(Codec::Lz4, chunk_bytes, raw_bytes) {
            return Err(self.bad_chunk(n));
        }
        let from = self.values_start();
        Ok(Chunk { raw: start.0..end.0, stored: from + start.1..from + end.1 })
    }

    #[cold]
    fn bad_chunk(&self, n: usize) -> Error {
        bad(self.parts.directory as usize + n * DIRECTORY_BYTES, "a chunk of values makes no sense")
    }

    /// Where a chunk begins: among the values, and among the chunks.
    fn chunk_start(&self, n: usize) -> (usize, usize) {
        let word = self.word(self.parts.directory as usize + n * DIRECTORY_BYTES);
        (word as u32 as usize, (word >> 32) as usize)
    }
}

impl Block {
    fn pack(&self) -> Option<Bytes> {
        let keys = &self.bytes[..self.values_start()];
        let values = &self.bytes[self.values_start()..self.parts.seqs as usize];
        let behind = &self.bytes[self.parts.seqs as usize..self.bytes.len() - TRAILER_BYTES];
        let trailer = &self.bytes[self.bytes.len() - TRAILER_BYTES..self.bytes.len() - 1];

        let mut packed = Vec::with_capacity(self.bytes.len());
        packed.extend_from_slice(keys);
        let mut directory = Vec::new();
        let mut add = |chunk: Range<usize>, packed: &mut Vec<u8>| {
            directory.put_u32_le(chunk.start as u32);
            directory.put_u32_le((packed.len() - keys.len()) as u32);
            compress(Codec::Lz4, &values[chunk], packed);
        };
        let (mut at, mut chunk) = (0, 0..0);
        for _ in 0..self.entries() {
            let head = self.head(at).ok()?;
            at = head.next();
            let end = chunk.end + head.value_bytes;
            if end > values.len() {
                return None;
            }
            if end - chunk.start > TOGETHER_BYTES && !chunk.is_empty() {
                add(chunk.clone(), &mut packed);
                chunk.start = chunk.end;
            }
            chunk.end = end;
        }
        if chunk.end != values.len() || chunk.is_empty() {
            return None;
        }
        add(chunk, &mut packed);

        let stored_values = packed.len() - keys.len();
        packed.extend_from_slice(behind);
        packed.extend_from_slice(&directory);
        packed.put_u32_le((directory.len() / DIRECTORY_BYTES) as u32);
        packed.put_u32_le(stored_values as u32);
        packed.extend_from_slice(trailer);
        packed.push(PACKED);
        let worth = self.bytes.len() - self.bytes.len() / 8;
        // A copy: it is kept for long, and is to take no more than it says.
        (packed.len() <= worth).then(|| Bytes::copy_from_slice(&packed))
    }
}
