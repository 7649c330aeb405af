//! Builds an SST from entries in order.
use bytes::Bytes;
use crate::{codec::frame::Codec, error::Result, key::EntryRef, sst::{SstMeta, BlockRef}, store::ObjectId, block::Block};
#[derive(Debug, Clone, Copy)]
pub struct SstOptions { pub block_bytes: usize, pub restart_interval: usize, pub codec: Codec, pub filter_bits_per_key: u32 }
/// The end of an SST.
#[derive(Debug)]
pub struct Finished { pub chunks: Vec<Bytes>, pub meta: SstMeta }
#[derive(Debug)]
pub struct SstBuilder {}
impl SstBuilder {
    pub fn new(id: ObjectId, options: SstOptions) -> Self { todo!() }
    /// Entries come in internal order (full key asc, seq desc); asserted.
    pub fn add(&mut self, entry: EntryRef<'_>) -> Result<()> { todo!() }
    /// Bytes so far, compressed, without the tail.
    pub fn bytes(&self) -> u64 { todo!() }
    pub fn is_empty(&self) -> bool { todo!() }
    /// Whole compressed blocks that are ready to upload.
    pub fn take_ready(&mut self) -> Vec<Bytes> { todo!() }
    pub fn finish(self) -> Result<Finished> { todo!() }
}
