//! A reader: another process that follows the manifest and the log.
use crate::{
    clock::SharedClock,
    error::Result,
    read::{Scan, Snapshot, Token},
    store::Store,
};
use bytes::Bytes;
use std::{ops::RangeBounds, path::PathBuf, time::Duration};
/// Follows a database that others write. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Reader {}
#[derive(Debug)]
pub struct ReaderBuilder {}
impl ReaderBuilder {
    #[must_use]
    pub fn cache_bytes(self, bytes: usize) -> Self {
        todo!()
    }
    #[must_use]
    pub fn cache_dir(self, dir: impl Into<PathBuf>, bytes: u64) -> Self {
        todo!()
    }
    #[must_use]
    pub fn deadline(self, limit: Duration) -> Self {
        todo!()
    }
    /// Follow in the background (default) or only when asked.
    #[must_use]
    pub fn follow(self, on: bool) -> Self {
        todo!()
    }
    /// Read at this manifest version instead of the latest (it must still exist).
    #[must_use]
    pub fn version(self, id: u64) -> Self {
        todo!()
    }
    #[must_use]
    pub fn store(self, store: Store) -> Self {
        todo!()
    }
    pub async fn open(self) -> Result<Reader> {
        todo!()
    }
}
impl Reader {
    pub async fn open(url: impl AsRef<str>) -> Result<Reader> {
        todo!()
    }
    pub fn builder(url: impl AsRef<str>) -> ReaderBuilder {
        todo!()
    }
    /// What this reader has now.
    pub fn snapshot(&self) -> Snapshot {
        todo!()
    }
    /// Waits until the write of `token` is visible, then gives a snapshot.
    pub async fn at_least(&self, token: Token) -> Result<Snapshot> {
        todo!()
    }
    /// A snapshot that holds everything acknowledged before this call (linearizable).
    pub async fn strong(&self) -> Result<Snapshot> {
        todo!()
    }
    /// A snapshot confirmed fresh within `age`.
    pub async fn bounded(&self, age: Duration) -> Result<Snapshot> {
        todo!()
    }
    /// The same verbs on another keyspace; Invalid (naming those that exist) if there is none of that name.
    pub async fn keyspace(&self, name: &str) -> Result<Reader> {
        todo!()
    }
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Bytes>> {
        todo!()
    }
    pub async fn multi_get<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Option<Bytes>>> {
        todo!()
    }
    pub fn scan<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Scan {
        todo!()
    }
    pub fn scan_prefix(&self, prefix: impl AsRef<[u8]>) -> Scan {
        todo!()
    }
    pub fn view(&self) -> std::sync::Arc<crate::manifest::View> {
        todo!()
    }
    pub fn store(&self) -> &Store {
        todo!()
    }
    pub fn cache_stats(&self) -> esker_cache::CacheStats {
        todo!()
    }
    pub async fn close(self) -> Result<()> {
        todo!()
    }
}
