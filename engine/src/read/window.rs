//! What a scan has fetched and not used yet.
//!
//! Always true: it is asked before the cache, so that a scan gets to see what it fetched, however small the cache; a block
//! leaves when it is used. What is here is charged: more by each round, less when the next one asks.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{Fetched, Fetcher};
use crate::{
    block::Block,
    memory::{Charge, Use},
    merge::{BlockSource, Missing},
    sst::{OpenSst, Tail},
    store::ObjectId,
};

/// Blocks and tails in front of the cache.
pub(super) struct Window {
    fetcher: Fetcher,
    blocks: RefCell<HashMap<(ObjectId, usize), Block>>,
    tails: HashMap<ObjectId, Arc<Tail>>,
    /// Blocks that are under way.
    coming: HashSet<(ObjectId, usize)>,
    /// From the first round on: what is here, and the blocks that the scan is at.
    charge: Option<Charge>,
    /// The bytes of the blocks that the scan is at, about.
    at_bytes: usize,
}

impl Window {
    /// An empty one in front of the cache of `fetcher`.
    pub(super) fn new(fetcher: Fetcher) -> Self {
        Self {
            fetcher,
            blocks: RefCell::default(),
            tails: HashMap::new(),
            coming: HashSet::new(),
            charge: None,
            at_bytes: 0,
        }
    }

    pub(super) fn fetcher(&self) -> &Fetcher {
        &self.fetcher
    }

    /// Takes in what a round has brought, and the charge for it; the tails of the one before go.
    pub(super) fn take_in(&mut self, fetched: Vec<(Missing, Fetched)>, charge: Charge) {
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
        drop(charge);
        self.settle();
    }

    /// Charges what is here now. `at_bytes` are those of the blocks that the scan will be at besides.
    pub(super) fn is_at(&mut self, at_bytes: usize) {
        self.at_bytes = self.at_bytes.max(at_bytes);
        self.settle();
    }

    fn settle(&mut self) {
        let tails: usize = self.tails.values().map(|tail| tail.bytes()).sum();
        let bytes = self.bytes() + tails + self.at_bytes;
        match &mut self.charge {
            Some(charge) => charge.becomes(bytes),
            none => *none = Some(self.fetcher.memory().hold(Use::Scans, bytes)),
        }
    }

    /// Blocks that are under way. They are missing until they have come, though the cache may have them sooner: whoever
    /// came by them there would not notice that it is time for the next round.
    pub(super) fn expect(&mut self, blocks: &[(ObjectId, usize)]) {
        self.coming.extend(blocks);
    }

    /// These have come, or will not.
    pub(super) fn expect_no_longer(&mut self, blocks: &[(ObjectId, usize)]) {
        for block in blocks {
            self.coming.remove(block);
        }
    }

    /// Whether the block is under way.
    pub(super) fn is_coming(&self, sst: &OpenSst, index: usize) -> bool {
        !self.coming.is_empty() && self.coming.contains(&(sst.id, index))
    }

    /// Whether the block is here.
    pub(super) fn has(&self, sst: &OpenSst, index: usize) -> bool {
        self.blocks.borrow().contains_key(&(sst.id, index))
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.blocks.get_mut().clear();
        self.tails.clear();
        self.coming.clear();
        self.settle();
    }

    /// The bytes of the blocks that are here, as they are searched.
    pub(super) fn bytes(&self) -> usize {
        self.blocks.borrow().values().map(|block| block.bytes().len()).sum()
    }
}

impl BlockSource for Window {
    fn block(&self, sst: &Arc<OpenSst>, index: usize) -> Option<Block> {
        if self.is_coming(sst, index) {
            return None;
        }
        self.blocks.borrow_mut().remove(&(sst.id, index)).or_else(|| self.fetcher.block(sst, index))
    }

    fn tail(&self, sst: &Arc<OpenSst>) -> Option<Arc<Tail>> {
        self.tails.get(&sst.id).cloned().or_else(|| self.fetcher.tail(sst))
    }
}
