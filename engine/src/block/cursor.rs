//! Walks a block forward and backward without decoding it into rows.
use bytes::Bytes;
use crate::{block::Block, error::Result, key::{EntryRef, Seq}};
/// A position in a block. Always positioned on an entry or invalid (before the first / after the last).
#[derive(Debug)]
pub struct BlockCursor {}
impl BlockCursor {
    pub fn new(block: Block) -> Self { todo!() }
    pub fn is_valid(&self) -> bool { todo!() }
    /// The entry under the cursor. Panics never: call only when valid (asserted in debug).
    pub fn entry(&self) -> EntryRef<'_> { todo!() }
    /// The value under the cursor, sharing the block's bytes.
    pub fn value(&self) -> Bytes { todo!() }
    pub fn first(&mut self) -> Result<()> { todo!() }
    pub fn last(&mut self) -> Result<()> { todo!() }
    /// To the first entry at or after (key, seq) in internal order (key asc, seq DESC): seek(key, u64::MAX) = first entry with key >= `key`.
    pub fn seek(&mut self, key: &[u8], seq: Seq) -> Result<()> { todo!() }
    /// To the last entry strictly before (key, seq) in internal order.
    pub fn seek_before(&mut self, key: &[u8], seq: Seq) -> Result<()> { todo!() }
    pub fn next(&mut self) -> Result<()> { todo!() }
    pub fn prev(&mut self) -> Result<()> { todo!() }
}
