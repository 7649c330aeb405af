//! Reads an SST: its tail, then blocks.
use std::sync::Arc;
use bytes::Bytes;
use crate::{block::Block, error::Result, sst::SstMeta, store::ObjectId};
/// Where a block lies in its SST.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlockRef { pub offset: u64, pub bytes: u32 }
/// The decoded tail: filter, index, properties. Searched where it lies.
#[derive(Debug)]
pub struct Tail {}
impl Tail {
    /// `bytes` is the object from `meta.tail_offset` to its end. Everything checked.
    pub fn decode(meta: &SstMeta, bytes: Bytes) -> Result<Tail> { todo!() }
    /// Memory held.
    pub fn bytes(&self) -> usize { todo!() }
    pub fn blocks(&self) -> usize { todo!() }
    pub fn block(&self, index: usize) -> BlockRef { todo!() }
    pub fn may_contain(&self, key_hash: u64) -> bool { todo!() }
    /// The first block that may hold an entry at or after (key, u64::MAX); None if all are before it.
    pub fn find(&self, key: &[u8]) -> Option<usize> { todo!() }
}
/// Hash of a full key for the filter.
pub fn key_hash(full_key: &[u8]) -> u64 { todo!() }
/// Verifies and decompresses a block as stored at `place`.
pub fn decode_block(id: ObjectId, place: BlockRef, stored: Bytes) -> Result<Block> { todo!() }
/// An SST of a version in use: the manifest's entry, and the tail once it has been read. Shared by all versions that hold it.
#[derive(Debug)]
pub struct OpenSst { pub id: ObjectId, pub meta: SstMeta, pub tail: arc_swap::ArcSwapOption<Tail>, pub touched: std::sync::atomic::AtomicBool }
impl OpenSst { pub fn new(meta: SstMeta) -> Result<Arc<OpenSst>> { todo!() } }
