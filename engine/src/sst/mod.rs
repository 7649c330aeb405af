//! A sorted string table: blocks of entries, then filter, index, properties and footer at the tail.
pub mod filter;
pub mod index;
pub mod footer;
pub mod builder;
pub mod reader;
pub use builder::{SstBuilder, SstOptions, Finished};
pub use reader::{OpenSst, BlockRef, Tail};
use bytes::Bytes;
use crate::{store::ObjectId, codec::sum::Sum};
/// What the manifest records of an SST: all one needs to open it with one ranged GET and to check it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SstMeta {
    #[prost(bytes = "bytes", tag = "1")] pub id: Bytes,
    #[prost(uint64, tag = "2")] pub bytes: u64,
    /// Offset at which the tail (filter, index, properties, footer) begins.
    #[prost(uint64, tag = "3")] pub tail_offset: u64,
    #[prost(bytes = "bytes", tag = "4")] pub first_key: Bytes,
    #[prost(bytes = "bytes", tag = "5")] pub last_key: Bytes,
    #[prost(uint64, tag = "6")] pub min_seq: u64,
    #[prost(uint64, tag = "7")] pub max_seq: u64,
    #[prost(uint64, tag = "8")] pub entries: u64,
    #[prost(uint64, tag = "9")] pub tombstones: u64,
    #[prost(uint64, tag = "10")] pub range_deletes: u64,
    /// Entries with an expiry, and the earliest and latest of them (ms; 0 if none).
    #[prost(uint64, tag = "11")] pub expiring: u64,
    #[prost(uint64, tag = "12")] pub min_expire_ms: u64,
    #[prost(uint64, tag = "13")] pub max_expire_ms: u64,
    /// Bytes of keys and values before any encoding.
    #[prost(uint64, tag = "14")] pub raw_bytes: u64,
    /// XXH3-128 of the whole object (16 bytes).
    #[prost(bytes = "bytes", tag = "15")] pub hash: Bytes,
    /// Conservation sum (32 bytes).
    #[prost(bytes = "bytes", tag = "16")] pub sum: Bytes,
    #[prost(uint64, tag = "17")] pub blocks: u64,
}
impl SstMeta { pub fn object_id(&self) -> ObjectId { todo!() } }
