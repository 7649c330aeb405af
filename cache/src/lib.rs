//! Immutable block id to bytes: memory over SSD. Knows nothing of keys.
#![allow(missing_docs, dead_code, unused, clippy::todo, reason = "skeleton")]
use std::{future::Future, path::PathBuf, sync::Arc};
use bytes::Bytes;
/// The identity of an immutable run of bytes: which object (a 128-bit id that is never reused, mixed with the database's uuid), and where in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlockId { pub object: u128, pub offset: u64 }
/// Metadata (filters, indexes) is kept longer than data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class { Meta, Data }
#[derive(Debug, Clone)]
pub struct CacheOptions { pub memory_bytes: usize, pub meta_share: f64, pub ssd: Option<SsdOptions> }
#[derive(Debug, Clone)]
pub struct SsdOptions { pub dir: PathBuf, pub bytes: u64 }
impl Default for CacheOptions { fn default() -> Self { todo!() } }
/// Opening fails only for what the user must mend (directory locked by another process, too small, not a directory). A read-only or full disk: works without the SSD tier, says so through stats and tracing.
#[derive(Debug, Clone)]
pub struct CacheError { pub message: String }
/// Counters per tier.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CacheStats { pub memory_hits: u64, pub memory_misses: u64, pub ssd_hits: u64, pub ssd_misses: u64, pub ssd_faults: u64, pub fetches: u64, pub fetched_bytes: u64, pub inserts: u64, pub memory_bytes: u64, pub ssd_bytes: u64, pub ssd_enabled: bool }
#[derive(Debug, Clone)]
pub struct BlockCache {}
impl BlockCache {
    pub async fn open(options: CacheOptions) -> Result<BlockCache, CacheError> { todo!() }
    /// Memory only; synchronous construction, no runtime needed.
    pub fn in_memory(memory_bytes: usize) -> BlockCache { todo!() }
    /// The memory tier only: synchronous, no allocation, the hot path.
    pub fn get(&self, id: &BlockId, class: Class) -> Option<Bytes> { todo!() }
    /// Memory, then SSD (checksum verified), then `fetch`; one fetch per missing id however many wait; a fetch that fails fails all its waiters with the same error and caches nothing.
    pub async fn get_or_fetch<E, F, Fut>(&self, id: BlockId, class: Class, fetch: F) -> Result<Bytes, E>
    where F: FnOnce() -> Fut + Send, Fut: Future<Output = Result<Bytes, E>> + Send + 'static, E: Clone + Send + Sync + 'static { todo!() }
    /// Memory or SSD, never the store: used when a caller coalesces several misses into one request.
    pub async fn lookup(&self, id: BlockId, class: Class) -> Option<Bytes> { todo!() }
    /// Puts bytes in (warming: compaction outputs, coalesced fetches).
    pub fn insert(&self, id: BlockId, class: Class, bytes: Bytes) { todo!() }
    pub fn contains(&self, id: &BlockId, class: Class) -> bool { todo!() }
    pub fn stats(&self) -> CacheStats { todo!() }
    /// Writes what is pending to the SSD and releases the directory.
    pub async fn close(&self) { todo!() }
}
