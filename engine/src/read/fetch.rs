//! Brings missing bytes: cache, then SSD, then one ranged GET; all misses of a round in parallel.
use std::sync::Arc;
use esker_cache::BlockCache;
use crate::{error::Result, merge::{BlockSource, Missing}, block::Block, sst::OpenSst, store::Store, stats::Cause};
/// Shared by all reads of a handle. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Fetcher {}
impl Fetcher {
    pub fn new(store: Store, cache: BlockCache, db_uuid: u128) -> Fetcher { todo!() }
    pub fn cache(&self) -> &BlockCache { todo!() }
    pub fn store(&self) -> &Store { todo!() }
    /// Fetches all of `missing` in one parallel round (neighbouring blocks of one SST coalesced).
    pub async fn fetch(&self, missing: &[Missing], cause: Cause) -> Result<Vec<Block>> { todo!() }
}
impl BlockSource for Fetcher { fn block(&self, sst: &Arc<OpenSst>, index: usize) -> Option<Block> { todo!() } }
