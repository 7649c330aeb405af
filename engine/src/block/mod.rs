//! A block: sorted entries with shared key prefixes, the unit we cache and check.
pub mod builder;
pub mod cursor;
pub use builder::BlockBuilder;
pub use cursor::BlockCursor;
use bytes::Bytes;
use crate::{error::Result, key::{Seq, EntryRef, Kind}};
/// Decoded (decompressed, verified) block bytes. Cloning shares. `parse` is O(1) beyond bounds checks.
#[derive(Debug, Clone)]
pub struct Block { bytes: Bytes }
impl Block {
    /// O(1): reads the trailer and checks that the parts fit. `place` (object, offset) is for errors only.
    pub fn parse(bytes: Bytes) -> Result<Block> { todo!() }
    pub fn bytes(&self) -> &Bytes { todo!() }
    pub fn entries(&self) -> usize { todo!() }
    /// The newest entry of `key` with seq <= `seq`, found where it lies.
    pub fn get(&self, key: &[u8], seq: Seq) -> Result<Option<Found>> { todo!() }
}
/// An entry found by a point read: the value shares the block's bytes.
#[derive(Debug, Clone)]
pub struct Found { pub seq: Seq, pub kind: Kind, pub expire_at_ms: u64, pub value: Bytes }
