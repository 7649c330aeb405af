//! Reads an SST: its tail, then blocks. Pure: the bytes come from whoever fetched or cached them.
//!
//! Always true: what is returned was checked against a checksum that knows its place, and every
//! error names the object and the byte offset in it.

use std::{
    cmp::Ordering,
    sync::{Arc, OnceLock, atomic::AtomicBool},
};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use esker_cache::CachedObject;
use prost::Message;
use twox_hash::XxHash3_64;

use crate::{
    block::{Block, MAX_BLOCK_RAW},
    codec::frame::{Codec, checksum, decompress, place_seed},
    error::{Error, ErrorKind, Result},
    sst::{
        SstMeta,
        filter::Filter,
        footer::{Footer, Properties},
        index::Index,
    },
    store::{Name, ObjectId},
};

/// Codec, raw size and checksum after the payload of every block.
pub const BLOCK_TRAILER_BYTES: usize = 1 + 4 + 8;

/// Where a block lies in its SST.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockRef {
    /// The first byte.
    pub offset: u64,
    /// Its size as stored, trailer included.
    pub bytes: u32,
}

/// The decoded tail: filter, index, properties. Searched where it lies; shares the bytes it was decoded from.
#[derive(Debug)]
pub struct Tail {
    bytes: usize,
    filter: Filter,
    index: Index,
    properties: Properties,
}

/// An SST of a version in use: the manifest's entry, and the tail once it has been read. Shared by
/// all versions that hold it.
#[derive(Debug)]
pub struct OpenSst {
    /// The object's id.
    pub id: ObjectId,
    /// The manifest's entry.
    pub meta: SstMeta,
    /// The tail, once it has been read.
    pub tail: ArcSwapOption<Tail>,
    /// Whether the tail has been used since the clock that unpins tails last came by.
    pub touched: AtomicBool,
    /// What a cache calls it, once it has been read through one: dropped with the SST, and with that its blocks are of no
    /// use there any more.
    pub cached: OnceLock<CachedObject>,
}

impl OpenSst {
    /// An SST whose tail has not been read yet. Fails with `Corruption` if the entry makes no sense.
    pub fn new(meta: SstMeta) -> Result<Arc<Self>> {
        meta.check()?;
        Ok(Arc::new(Self {
            id: meta.object_id(),
            meta,
            tail: ArcSwapOption::empty(),
            touched: AtomicBool::new(false),
            cached: OnceLock::new(),
        }))
    }
}

impl Tail {
    /// `bytes` is the object from `meta.tail_offset` to its end. Everything is checked: the footer,
    /// each part's checksum, every offset, and that the properties say what the manifest says.
    ///
    /// The tail keeps `bytes` alive: hand over a buffer of its own.
    #[expect(clippy::needless_pass_by_value, reason = "it is kept: the parts are slices of it")]
    pub fn decode(meta: &SstMeta, bytes: Bytes) -> Result<Self> {
        meta.check()?;
        let (id, start) = (meta.object_id(), meta.tail_offset);
        let bad = |at: u64, what: &str| Error::corruption(Name::Sst(id).path(), at, what);
        if bytes.len() as u64 != meta.tail_bytes() {
            return Err(bad(
                start,
                &format!("the tail has {} bytes where the manifest says {}", bytes.len(), meta.tail_bytes()),
            ));
        }
        let footer = Footer::read(id, start, &bytes)?;
        let mut parts = [Bytes::new(), Bytes::new(), Bytes::new()];
        let mut places = [0; 3];
        let mut at = 0;
        for (n, (part, name)) in footer.parts.iter().zip(["filter", "index", "properties"]).enumerate() {
            let place = start + at as u64;
            let slice = bytes.slice(at..at + part.bytes as usize);
            if checksum(place_seed(id.seed(), place), &slice) != part.sum {
                return Err(bad(place, &format!("the checksum of the {name} is wrong")));
            }
            at += slice.len();
            places[n] = place;
            parts[n] = slice;
        }
        let [filter, index, properties] = parts;
        let filter = Filter::parse(filter).ok_or_else(|| bad(places[0], "the filter is not whole blocks"))?;
        let index = Index::parse(index, start).map_err(|(at, what)| bad(places[1] + at as u64, what))?;
        let properties = Properties::decode(properties)
            .map_err(|e| bad(places[2], "the properties cannot be decoded").because(e))?;
        let said = SstMeta { bytes: 0, hash: Bytes::new(), ..meta.clone() };
        if properties.meta != said {
            return Err(bad(places[2], "the properties are not what the manifest says of this SST"));
        }
        if index.blocks() as u64 != meta.blocks {
            return Err(bad(places[1], "the index names another number of blocks than the manifest"));
        }
        Ok(Self { bytes: bytes.len(), filter, index, properties })
    }

    /// The index alone, of a tail whose other parts may be damaged: where the blocks are is all that a salvage needs.
    /// `bytes` as for [`Self::decode`]. Fails with `Corruption` if the footer or the index is damaged.
    #[expect(clippy::needless_pass_by_value, reason = "it is kept: the index is a slice of it")]
    pub fn decode_index(meta: &SstMeta, bytes: Bytes) -> Result<Index> {
        let (id, start) = (meta.object_id(), meta.tail_offset);
        let bad = |at: u64, what: &str| Error::corruption(Name::Sst(id).path(), at, what);
        let footer = Footer::read(id, start, &bytes)?;
        let from = footer.parts[0].bytes as usize;
        let part = bytes.slice(from..from + footer.parts[1].bytes as usize);
        let place = start + from as u64;
        if checksum(place_seed(id.seed(), place), &part) != footer.parts[1].sum {
            return Err(bad(place, "the checksum of the index is wrong"));
        }
        Index::parse(part, start).map_err(|(at, what)| bad(place + at as u64, what))
    }

    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        self.bytes + size_of::<Self>()
    }
    /// Bytes of the filter; 0 if there is none.
    pub fn filter_bytes(&self) -> usize {
        self.filter.bytes()
    }
    /// Bytes of the index.
    pub fn index_bytes(&self) -> usize {
        self.index.bytes()
    }
    /// What the SST says of itself.
    pub fn properties(&self) -> &Properties {
        &self.properties
    }
    /// How many data blocks there are; at least one.
    pub fn blocks(&self) -> usize {
        self.index.blocks()
    }
    /// Where block `index` lies. `index` is below [`Self::blocks`] (asserted).
    pub fn block(&self, index: usize) -> BlockRef {
        self.index.block(index)
    }
    /// Every block's place, in order.
    pub fn places(&self) -> impl ExactSizeIterator<Item = BlockRef> + '_ {
        (0..self.blocks()).map(|index| self.block(index))
    }
    /// A string at or after the last key of block `index` and before the first of the next block.
    pub fn separator(&self, index: usize) -> Vec<u8> {
        self.index.separator(index)
    }
    /// How that string compares with `key`.
    #[inline]
    pub fn compare_separator(&self, index: usize, key: &[u8]) -> Ordering {
        self.index.compare(index, key)
    }
    /// Whether the last key of block `index` is the first of the next one.
    pub fn is_split(&self, index: usize) -> bool {
        self.index.is_split(index)
    }

    /// Whether a key with this [`key_hash`] may be here.
    #[inline]
    pub fn may_contain(&self, key_hash: u64) -> bool {
        self.filter.may_contain(key_hash)
    }
    /// The first block that may hold an entry at or after (key, `u64::MAX`); `None` if all are before it.
    ///
    /// Versions of one key may span blocks: a point read that finds nothing in block `i` goes on to
    /// `i + 1` while [`Self::goes_on`] says so.
    #[inline]
    pub fn find(&self, key: &[u8]) -> Option<usize> {
        self.index.find(key)
    }
    /// Whether versions of exactly `key` go on from block `index` in the next one.
    #[inline]
    pub fn goes_on(&self, index: usize, key: &[u8]) -> bool {
        self.index.goes_on(index, key)
    }
}

/// The hash of a full key for the filter.
#[inline]
pub fn key_hash(full_key: &[u8]) -> u64 {
    XxHash3_64::oneshot(full_key)
}

/// Verifies and decompresses a block as stored at `place`. The block owns its bytes, exactly as many
/// as it has: it does not keep the buffer alive that it was fetched in.
#[expect(clippy::needless_pass_by_value, reason = "a cheap handle, and callers have no further use for it")]
pub fn decode_block(id: ObjectId, place: BlockRef, stored: Bytes) -> Result<Block> {
    open_block(id, place, &stored).map_err(|e| e.at(Name::Sst(id).path(), place.offset))
}

fn open_block(id: ObjectId, place: BlockRef, stored: &[u8]) -> Result<Block> {
    let bad = |what: String| Error::new(ErrorKind::Corruption, what);
    if stored.len() != place.bytes as usize {
        return Err(bad(format!("a block of {} bytes came back as {}", place.bytes, stored.len())));
    }
    let Some((checked, sum)) = stored.split_last_chunk() else {
        return Err(bad("a block has no room for its trailer".into()));
    };
    if checksum(place_seed(id.seed(), place.offset), checked) != u64::from_le_bytes(*sum) {
        return Err(bad("the checksum of a block is wrong".into()));
    }
    let Some((&[codec, ref raw_bytes @ ..], payload)) = checked.split_last_chunk::<5>().map(|(a, b)| (b, a))
    else {
        return Err(bad("a block has no room for its trailer".into()));
    };
    let raw =
        decompress(Codec::from_u8(codec)?, payload, u32::from_le_bytes(*raw_bytes) as usize, MAX_BLOCK_RAW)?;
    Block::parse(raw.into())
}
