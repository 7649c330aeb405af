//! Merging sorted sources: synchronous, over bytes already here; when a byte is missing it says which.
pub mod run;
pub mod tree;
pub mod visible;
use std::sync::Arc;
use crate::{block::Block, sst::OpenSst};
/// A byte that is missing: fetch it, make it visible through the BlockSource, and call again.
#[derive(Debug, Clone)]
pub enum Missing { Tail(Arc<OpenSst>), Block(Arc<OpenSst>, usize) }
/// Where blocks that are already here can be found: a cache, or what a compaction prefetched.
pub trait BlockSource { fn block(&self, sst: &Arc<OpenSst>, index: usize) -> Option<Block>; }
/// What a cursor says when told to move.
#[derive(Debug)]
pub enum Step { Ready, End, Missing(Missing) }
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction { Forward, Reverse }
