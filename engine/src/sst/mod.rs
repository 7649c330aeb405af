//! An SST: blocks of sorted entries in one immutable object, and a tail to find one's way in it.
//!
//! ```text
//! data blocks      each: payload ‖ codec u8 ‖ raw bytes u32 ‖ XXH3-64 of all that, seeded by place
//! range deletes    reserved: one block, its presence a flag in the footer; version 1 writes none
//! ── tail_offset ──
//! filter           32 bytes × n: see `filter`; nothing if the SST has no filter
//! index            a separator and an end offset for every block: see `index`
//! properties       protobuf: see `footer::Properties`
//! footer           fixed size: extents and checksums of the three parts: see `footer`
//! ```
//!
//! The manifest's entry ([`SstMeta`]) carries `bytes` and `tail_offset`, so one ranged GET of
//! `[tail_offset, bytes)` opens an SST, and one more reads a block: never a HEAD, never a second
//! round trip for the footer. Filter and index are searched where they lie.
//!
//! Everything is checked by place: the seed of every checksum is the object's id and the byte
//! offset, so blocks, parts and whole tails cannot be exchanged unseen. The whole object's XXH3-128
//! and the conservation sum of its entries are in the manifest.
//!
//! Always true: (full key, seq descending) ascends strictly over the whole SST; an SST is never
//! empty; blocks lie back to back from byte 0 to `tail_offset`.

pub mod builder;
pub mod cached;
pub mod filter;
pub mod footer;
pub mod hole;
pub mod index;
pub mod reader;
mod tally;
pub mod verify;
pub mod walk;

pub use builder::{Finished, SstBuilder, SstOptions};
pub use cached::{SstCache, Warmth};
pub use hole::Hole;
pub use reader::{BlockRef, OpenSst, Tail, decode_block, key_hash};
pub use verify::{Check, object_hash, verify_object};

use bytes::Bytes;

use crate::{
    block::MAX_FULL_KEY_BYTES,
    codec::sum::Sum,
    error::{Error, ErrorKind, Result},
    store::{Folder, Name, ObjectId, Role},
};

/// The largest SST that an entry may speak of: far more than any has, and little enough that the sizes of
/// all SSTs of a database can be added up.
pub const MAX_SST_BYTES: u64 = 1 << 40;
const _: () = assert!(MAX_SST_BYTES < Folder::Sst.most_object_bytes());
/// The most bytes of keys and values that an entry may speak of.
const MAX_RAW_BYTES: u64 = 1 << 50;

/// What the manifest records of an SST: all one needs to open it with one ranged GET and to check it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SstMeta {
    /// The [`ObjectId`], as bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub id: Bytes,
    /// The size of the object.
    #[prost(uint64, tag = "2")]
    pub bytes: u64,
    /// Offset at which the tail (filter, index, properties, footer) begins.
    #[prost(uint64, tag = "3")]
    pub tail_offset: u64,
    /// The first full key.
    #[prost(bytes = "bytes", tag = "4")]
    pub first_key: Bytes,
    /// The last full key.
    #[prost(bytes = "bytes", tag = "5")]
    pub last_key: Bytes,
    /// The smallest sequence number.
    #[prost(uint64, tag = "6")]
    pub min_seq: u64,
    /// The largest sequence number.
    #[prost(uint64, tag = "7")]
    pub max_seq: u64,
    /// How many entries it holds.
    #[prost(uint64, tag = "8")]
    pub entries: u64,
    /// How many of them are deletes.
    #[prost(uint64, tag = "9")]
    pub tombstones: u64,
    /// How many range deletes it holds beside its entries.
    #[prost(uint64, tag = "10")]
    pub range_deletes: u64,
    /// How many entries expire.
    #[prost(uint64, tag = "11")]
    pub expiring: u64,
    /// The earliest expiry, in wall-clock milliseconds; 0 if none expires.
    #[prost(uint64, tag = "12")]
    pub min_expire_ms: u64,
    /// The latest expiry, in wall-clock milliseconds; 0 if none expires.
    #[prost(uint64, tag = "13")]
    pub max_expire_ms: u64,
    /// Bytes of keys and values before any encoding.
    #[prost(uint64, tag = "14")]
    pub raw_bytes: u64,
    /// XXH3-128 of the whole object (16 bytes, little-endian).
    #[prost(bytes = "bytes", tag = "15")]
    pub hash: Bytes,
    /// Conservation sum of the entries (32 bytes).
    #[prost(bytes = "bytes", tag = "16")]
    pub sum: Bytes,
    /// How many data blocks it has.
    #[prost(uint64, tag = "17")]
    pub blocks: u64,
    /// How many different keys it has: what the filter was sized by.
    #[prost(uint64, tag = "18")]
    pub keys: u64,
    /// There is no object: what is known of entries that were lost. See [`hole`]. `None` in every SST.
    #[prost(message, optional, tag = "19")]
    pub hole: Option<Hole>,
}

impl SstMeta {
    /// The id of the object. Of an entry that does not pass [`Self::check`]: an id that names no
    /// object, since epochs begin at 1.
    pub fn object_id(&self) -> ObjectId {
        ObjectId::from_bytes(&self.id).unwrap_or(ObjectId {
            role: Role::Writer,
            epoch: 0,
            counter: 0,
            nonce: 0,
        })
    }
    /// The conservation sum of the entries; the sum of none if it does not pass [`Self::check`].
    pub fn sum(&self) -> Sum {
        Sum::from_bytes(&self.sum).unwrap_or_default()
    }
    /// The size of the tail, which one ranged GET from `tail_offset` reads.
    pub fn tail_bytes(&self) -> u64 {
        self.bytes.saturating_sub(self.tail_offset)
    }

    /// Checks that the entry makes sense by itself: whoever decodes one from stored bytes calls this.
    /// Fails with `Corruption`; the caller knows in which object the entry was and adds it.
    pub fn check(&self) -> Result<()> {
        let Some(id) = ObjectId::from_bytes(&self.id) else {
            return Err(Error::new(ErrorKind::Corruption, "an SST's entry has no valid object id"));
        };
        if let Some(hole) = &self.hole {
            return self.check_hole(hole).map_err(|wrong| senseless(id, wrong));
        }
        let wrong = if self.bytes > MAX_SST_BYTES || self.raw_bytes > MAX_RAW_BYTES {
            "its sizes are over the limit"
        } else if self.tail_bytes() < footer::FOOTER_BYTES as u64 {
            "its tail has no room for a footer"
        } else if self.tail_bytes() > footer::MAX_TAIL_BYTES {
            "its tail is over the limit"
        } else if self.hash.len() != 16 || Sum::from_bytes(&self.sum).is_none() {
            "its hash or its sum has the wrong shape"
        } else if self.first_key.len().max(self.last_key.len()) > MAX_FULL_KEY_BYTES {
            "a key is over the limit"
        } else if self.first_key > self.last_key || self.min_seq > self.max_seq {
            "its bounds are inverted"
        } else if self.entries == 0
            || self.keys > self.entries
            || self.blocks == 0
            || self.blocks > self.entries
            || self.entries > MAX_RAW_BYTES
            || self.tombstones > self.entries
            || self.expiring > self.entries
        {
            "its counts make no sense"
        } else {
            return Ok(());
        };
        Err(senseless(id, wrong))
    }
}

fn senseless(id: ObjectId, wrong: &str) -> Error {
    Error::new(ErrorKind::Corruption, format!("the entry of {} makes no sense: {wrong}", Name::Sst(id)))
}
