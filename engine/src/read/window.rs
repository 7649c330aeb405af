//! What a scan has fetched and not used yet.
//!
//! Always true: it is asked before the cache, so that a scan gets to see what it fetched, however small the cache; a block
//! leaves when it is used.

use std::{cell::RefCell, collections::HashMap, sync::Arc};

use super::{Fetched, Fetcher};
use crate::{
    block::Block,
    merge::{BlockSource, Missing},
    sst::{OpenSst, Tail},
    store::ObjectId,
};

/// Blocks and tails in front of the cache.
pub(super) struct Window {
    fetcher: Fetcher,
    blocks: RefCell<HashMap<(ObjectId, usize), Block>>,
    tails: HashMap<ObjectId, Arc<Tail>>,
}

impl Window {
    /// An empty one in front of the cache of `fetcher`.
    pub(super) fn new(fetcher: Fetcher) -> Self {
        Self { fetcher, blocks: RefCell::default(), tails: HashMap::new() }
    }

    pub(super) fn fetcher(&self) -> &Fetcher {
        &self.fetcher
    }

    /// Takes in what a round has brought; the tails of the one before go.
    pub(super) fn take_in(&mut self, fetched: Vec<(Missing, Fetched)>) {
        self.tails.clear();
        for (missing, fetched) in fetched {
            match (missing, fetched) {
                (Missing::Block(sst, index), Fetched::Block(block)) => {
                    self.blocks.get_mut().insert((sst.id, index), block);
                }
                (missing, Fetched::Tail(tail)) => {
                    self.tails.insert(missing.sst().id, tail);
                }
                (Missing::Tail(_), Fetched::Block(_)) => {}
            }
        }
    }

    /// Whether the block is here.
    pub(super) fn has(&self, sst: &OpenSst, index: usize) -> bool {
        self.blocks.borrow().contains_key(&(sst.id, index))
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.blocks.get_mut().clear();
        self.tails.clear();
    }

    /// The bytes of the blocks that are here, as they are searched.
    pub(super) fn bytes(&self) -> usize {
        self.blocks.borrow().values().map(|block| block.bytes().len()).sum()
    }
}

impl BlockSource for Window {
    fn block(&self, sst: &Arc<OpenSst>, index: usize) -> Option<Block> {
        self.blocks.borrow_mut().remove(&(sst.id, index)).or_else(|| self.fetcher.block(sst, index))
    }

    fn tail(&self, sst: &Arc<OpenSst>) -> Option<Arc<Tail>> {
        self.tails.get(&sst.id).cloned().or_else(|| self.fetcher.tail(sst))
    }
}
