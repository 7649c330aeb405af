//! The database: a writer's handle.
use std::{ops::RangeBounds, path::PathBuf, sync::Arc, time::Duration};
use bytes::Bytes;
use object_store::ObjectStore;
use crate::{clock::SharedClock, error::Result, manifest::{StoredShape, View}, options::{Compaction, Options}, range::KeyRange, read::{Scan, Snapshot, Token}, stats::StatsSnapshot, store::Store, write::{Delete, Put, Write, WriteBatch}};
/// A database opened for writing. Cheap to clone; the last clone dropped stops the background work.
#[derive(Debug, Clone)]
pub struct Db {}
/// A keyspace: the same verbs on its own keys.
#[derive(Debug, Clone)]
pub struct Keyspace {}
#[derive(Debug)]
pub struct Builder {}
impl Builder {
    #[must_use] pub fn memory_bytes(self, bytes: usize) -> Self { todo!() }
    #[must_use] pub fn memtable_bytes(self, bytes: usize) -> Self { todo!() }
    #[must_use] pub fn cache_bytes(self, bytes: usize) -> Self { todo!() }
    #[must_use] pub fn cache_dir(self, dir: impl Into<PathBuf>, bytes: u64) -> Self { todo!() }
    #[must_use] pub fn compaction(self, who: Compaction) -> Self { todo!() }
    #[must_use] pub fn deadline(self, limit: Duration) -> Self { todo!() }
    /// Fail instead of creating when there is no database.
    #[must_use] pub fn must_exist(self) -> Self { todo!() }
    #[must_use] pub fn name(self, name: impl Into<String>) -> Self { todo!() }
    /// Settings below are stored at creation and read by everyone afterwards.
    #[must_use] pub fn block_bytes(self, bytes: u32) -> Self { todo!() }
    #[must_use] pub fn sst_bytes(self, bytes: u64) -> Self { todo!() }
    #[must_use] pub fn shape(self, shape: StoredShape) -> Self { todo!() }
    #[must_use] pub fn retention(self, keep: Duration) -> Self { todo!() }
    #[must_use] pub fn wal_window(self, slots: u32) -> Self { todo!() }
    /// Your own store instead of one from the URL (the URL is then only a label).
    #[must_use] pub fn object_store(self, store: Arc<dyn ObjectStore>) -> Self { todo!() }
    #[must_use] pub fn clock(self, clock: SharedClock) -> Self { todo!() }
    pub async fn open(self) -> Result<Db> { todo!() }
}
impl Db {
    pub async fn open(url: impl AsRef<str>) -> Result<Db> { todo!() }
    pub fn builder(url: impl AsRef<str>) -> Builder { todo!() }
    pub fn put<K: AsRef<[u8]>, V: AsRef<[u8]>>(&self, key: K, value: V) -> Put<'_, K, V> { todo!() }
    pub fn delete<K: AsRef<[u8]>>(&self, key: K) -> Delete<'_, K> { todo!() }
    pub fn write(&self, batch: WriteBatch) -> Write<'_> { todo!() }
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Bytes>> { todo!() }
    pub async fn multi_get<K: AsRef<[u8]>>(&self, keys: impl IntoIterator<Item = K>) -> Result<Vec<Option<Bytes>>> { todo!() }
    pub fn scan<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Scan { todo!() }
    pub fn scan_prefix(&self, prefix: impl AsRef<[u8]>) -> Scan { todo!() }
    pub fn scan_range(&self, range: KeyRange) -> Scan { todo!() }
    pub fn snapshot(&self) -> Snapshot { todo!() }
    /// Opens the keyspace, creating it if it is new.
    pub async fn keyspace(&self, name: &str) -> Result<Keyspace> { todo!() }
    pub fn default_keyspace(&self) -> Keyspace { todo!() }
    /// Makes everything accepted so far durable.
    pub async fn sync(&self) -> Result<Token> { todo!() }
    /// Writes the memtable to L0, whatever its size.
    pub async fn flush(&self) -> Result<()> { todo!() }
    /// Merges until nothing is due (in this process, whatever the `compaction` option says).
    pub async fn compact(&self) -> Result<()> { todo!() }
    pub fn view(&self) -> Arc<View> { todo!() }
    pub fn store(&self) -> &Store { todo!() }
    pub fn stats(&self) -> StatsSnapshot { todo!() }
    pub fn cache_stats(&self) -> esker_cache::CacheStats { todo!() }
    /// Bytes charged to the memory budget, and the budget.
    pub fn memory(&self) -> (usize, usize) { todo!() }
    /// Makes everything durable, stops the background work. Idempotent.
    pub async fn close(&self) -> Result<()> { todo!() }
}
impl Keyspace {
    pub fn name(&self) -> &str { todo!() }
    pub fn put<K: AsRef<[u8]>, V: AsRef<[u8]>>(&self, key: K, value: V) -> Put<'_, K, V> { todo!() }
    pub fn delete<K: AsRef<[u8]>>(&self, key: K) -> Delete<'_, K> { todo!() }
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Bytes>> { todo!() }
    pub async fn multi_get<K: AsRef<[u8]>>(&self, keys: impl IntoIterator<Item = K>) -> Result<Vec<Option<Bytes>>> { todo!() }
    pub fn scan<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Scan { todo!() }
    pub fn scan_prefix(&self, prefix: impl AsRef<[u8]>) -> Scan { todo!() }
    pub fn scan_range(&self, range: KeyRange) -> Scan { todo!() }
}
impl crate::write::batch::In for Db { fn keyspace_id(&self) -> crate::key::KeyspaceId { todo!() } }
impl crate::write::batch::In for Keyspace { fn keyspace_id(&self) -> crate::key::KeyspaceId { todo!() } }
