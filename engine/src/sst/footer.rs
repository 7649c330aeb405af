//! The footer and the properties: where the parts of the tail lie, and what the SST is.
//!
//! ```text
//! filter bytes u32 ‖ index bytes u32 ‖ properties bytes u32 ‖ reserved u32 = 0
//! filter sum u64 ‖ index sum u64 ‖ properties sum u64           XXH3-64, seeded by the part's place
//! tail offset u64
//! flags u32    bit 0: a range-delete block lies before the tail
//!              bit 1: the index is partitioned    bit 2: the filter is partitioned
//! version u32 = 1
//! checksum u64     XXH3-64 of all before it, seeded by the footer's place
//! magic            "ESKERSST"
//! ```
//!
//! Version 1 writes no flag and refuses each by name.
//!
//! Always true: size, magic, and the place and cover of the checksum are the same in every version,
//! so that a damaged footer is told from a newer one.

use bytes::BufMut;

use crate::{
    codec::{
        frame::{checksum, place_seed},
        varint::{BadInput, Input},
    },
    error::{Error, Result},
    sst::{SstMeta, filter::MAX_FILTER_BYTES, index::MAX_INDEX_BYTES},
    store::{Name, ObjectId},
};

/// The size of the footer.
pub const FOOTER_BYTES: usize = 72;
/// The largest properties: two full keys and a handful of numbers.
pub const MAX_PROPERTIES_BYTES: usize = 1 << 20;
/// The largest tail.
pub const MAX_TAIL_BYTES: u64 =
    (MAX_FILTER_BYTES + MAX_INDEX_BYTES + MAX_PROPERTIES_BYTES + FOOTER_BYTES) as u64;

const MAGIC: [u8; 8] = *b"ESKERSST";
const VERSION: u32 = 1;
const CHECKED_BYTES: usize = FOOTER_BYTES - 16;
const FLAGS: [(u32, &str); 3] =
    [(1, "range deletes"), (2, "a partitioned index"), (4, "a partitioned filter")];

/// What an SST says of itself: enough to rebuild its entry in a manifest, and how it was made.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Properties {
    /// The manifest's entry, but for what is known only after this was written: `bytes` is 0 and
    /// `hash` is empty.
    #[prost(message, required, tag = "1")]
    pub meta: SstMeta,
    /// The size of a raw block that was aimed at.
    #[prost(uint64, tag = "2")]
    pub block_bytes: u64,
    /// Entries from one restart to the next.
    #[prost(uint32, tag = "3")]
    pub restart_interval: u32,
    /// The codec asked for, by number; blocks that gain nothing are stored raw.
    #[prost(uint32, tag = "4")]
    pub codec: u32,
    /// Bits per key of the filter.
    #[prost(uint32, tag = "5")]
    pub filter_bits_per_key: u32,
    /// Bytes of all raw blocks.
    #[prost(uint64, tag = "6")]
    pub raw_block_bytes: u64,
    /// How many blocks were worth compressing.
    #[prost(uint64, tag = "7")]
    pub compressed_blocks: u64,
}

/// The extents and checksums of the parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Footer {
    pub(crate) tail_offset: u64,
    /// Filter, index, properties, in the order they lie.
    pub(crate) parts: [Part; 3],
}

/// A part of the tail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) bytes: u32,
    pub(crate) sum: u64,
}

impl Footer {
    /// The footer of these parts.
    pub(crate) fn of(id: ObjectId, tail_offset: u64, parts: [&[u8]; 3]) -> Self {
        let mut at = tail_offset;
        let parts = parts.map(|part| {
            let sum = checksum(place_seed(id.seed(), at), part);
            at += part.len() as u64;
            Part { bytes: part.len() as u32, sum }
        });
        Self { tail_offset, parts }
    }

    /// Appends the footer, which will lie at byte `at` of the object.
    pub(crate) fn write(&self, id: ObjectId, at: u64, out: &mut Vec<u8>) {
        let start = out.len();
        self.parts.iter().for_each(|part| out.put_u32_le(part.bytes));
        out.put_u32_le(0);
        self.parts.iter().for_each(|part| out.put_u64_le(part.sum));
        out.put_u64_le(self.tail_offset);
        out.put_u32_le(0);
        out.put_u32_le(VERSION);
        let sum = checksum(place_seed(id.seed(), at), &out[start..]);
        out.put_u64_le(sum);
        out.put_slice(&MAGIC);
    }

    /// The footer at the end of `tail`, which lies at byte `tail_offset` of the object. Everything in
    /// it is checked, but for the parts' own checksums.
    pub(crate) fn read(id: ObjectId, tail_offset: u64, tail: &[u8]) -> Result<Self> {
        let object = || Name::Sst(id).path();
        let bad = |at: usize, what: &str| Error::corruption(object(), tail_offset + at as u64, what);
        let start = tail
            .len()
            .checked_sub(FOOTER_BYTES)
            .ok_or_else(|| bad(0, "the SST has no room for its footer"))?;
        let footer = &tail[start..];
        if footer[FOOTER_BYTES - 8..] != MAGIC {
            return Err(bad(FOOTER_BYTES - 8 + start, "there is no SST footer here"));
        }
        let mut input = Input::new(footer);
        let mut fields = || {
            let sizes = [input.u32()?, input.u32()?, input.u32()?];
            let reserved = input.u32()?;
            let sums = [input.u64()?, input.u64()?, input.u64()?];
            let at = input.u64()?;
            let [flags, version] = [input.u32()?, input.u32()?];
            Ok((sizes, reserved, sums, at, flags, version, input.u64()?))
        };
        let (sizes, reserved, sums, at, flags, version, sum) =
            fields().map_err(|e: BadInput| e.of(object(), tail_offset + start as u64))?;
        if sum != checksum(place_seed(id.seed(), tail_offset + start as u64), &footer[..CHECKED_BYTES]) {
            return Err(bad(start, "the footer's checksum is wrong"));
        }
        if version != VERSION {
            return Err(newer(format!("SST version {version} is not known to this version"), id));
        }
        if let Some((_, name)) = FLAGS.into_iter().find(|(flag, _)| flags & flag != 0) {
            return Err(newer(format!("an SST with {name} is not known to this version"), id));
        }
        if flags != 0 || reserved != 0 {
            return Err(newer(format!("SST flags {flags:#x} are not known to this version"), id));
        }
        let parts = std::array::from_fn(|part| Part { bytes: sizes[part], sum: sums[part] });
        let limits = [MAX_FILTER_BYTES, MAX_INDEX_BYTES, MAX_PROPERTIES_BYTES];
        if sizes.iter().zip(limits).any(|(bytes, limit)| *bytes as usize > limit) {
            return Err(bad(start, "a part of the tail is over its limit"));
        }
        if at != tail_offset || sizes.iter().map(|bytes| *bytes as u64).sum::<u64>() != start as u64 {
            return Err(bad(start, "the parts do not fit the tail"));
        }
        Ok(Self { tail_offset, parts })
    }
}

fn newer(context: String, id: ObjectId) -> Error {
    Error::unsupported(context).on(Name::Sst(id).path()).hint("open this database with a newer esker")
}
