//! The memtable: the newest entries, in memory, in order.
use std::sync::Arc;
use bytes::Bytes;
use crate::{block::Found, codec::sum::Sum, key::{Entry, EntryRef, Seq}};
/// A memtable. One thread inserts (under the writer's lock), any number read, without locks.
#[derive(Debug)]
pub struct Memtable {}
impl Memtable {
    pub fn new() -> Self { todo!() }
    /// `entry.key` is a full key. Sequence numbers never repeat.
    pub fn insert(&self, entry: Entry) { todo!() }
    /// The newest entry of `full_key` with seq <= `seq`.
    pub fn get(&self, full_key: &[u8], seq: Seq) -> Option<Found> { todo!() }
    /// Memory held, in bytes.
    pub fn bytes(&self) -> usize { todo!() }
    pub fn len(&self) -> usize { todo!() }
    pub fn is_empty(&self) -> bool { todo!() }
    pub fn cursor(self: &Arc<Self>) -> MemCursor { todo!() }
}
/// A 'static + Send cursor that keeps its memtable alive. Same meaning of positions as BlockCursor.
#[derive(Debug)]
pub struct MemCursor {}
impl MemCursor {
    pub fn is_valid(&self) -> bool { todo!() }
    pub fn entry(&self) -> EntryRef<'_> { todo!() }
    pub fn key(&self) -> Bytes { todo!() }
    pub fn value(&self) -> Bytes { todo!() }
    pub fn first(&mut self) { todo!() }
    pub fn last(&mut self) { todo!() }
    pub fn seek(&mut self, key: &[u8], seq: Seq) { todo!() }
    pub fn seek_before(&mut self, key: &[u8], seq: Seq) { todo!() }
    pub fn next(&mut self) { todo!() }
    pub fn prev(&mut self) { todo!() }
}
