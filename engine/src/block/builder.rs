//! Builds one block.
use crate::{key::EntryRef, error::Result};
#[derive(Debug)]
pub struct BlockBuilder {}
impl BlockBuilder {
    pub fn new(restart_interval: usize) -> Self { todo!() }
    pub fn add(&mut self, entry: EntryRef<'_>) { todo!() }
    pub fn size(&self) -> usize { todo!() }
    pub fn is_empty(&self) -> bool { todo!() }
    /// Raw block bytes; the builder is reset for reuse.
    pub fn finish(&mut self) -> Vec<u8> { todo!() }
}
