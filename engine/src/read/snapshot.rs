//! A fixed view of the whole database.
use std::{ops::RangeBounds, sync::Arc};
use bytes::Bytes;
use crate::{error::Result, key::{KeyspaceId, Seq}, read::{Fetcher, Scan, SuperVersion, Token}};
/// Holds its memtables and its version, so compaction has no snapshots to respect. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Snapshot {}
impl Snapshot {
    pub fn new(fetcher: Fetcher, sv: Arc<SuperVersion>, seq: Seq, clock: crate::clock::SharedClock) -> Snapshot { todo!() }
    pub fn seq(&self) -> Seq { todo!() }
    /// The same snapshot, looking at another keyspace; `None` if there is no keyspace of that name.
    pub fn keyspace(&self, name: &str) -> Option<Snapshot> { todo!() }
    /// Names of all keyspaces; the default keyspace is "default".
    pub fn keyspaces(&self) -> Vec<String> { todo!() }
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Bytes>> { todo!() }
    pub async fn multi_get<K: AsRef<[u8]>>(&self, keys: impl IntoIterator<Item = K>) -> Result<Vec<Option<Bytes>>> { todo!() }
    pub fn scan<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Scan { todo!() }
    pub fn scan_prefix(&self, prefix: impl AsRef<[u8]>) -> Scan { todo!() }
    pub fn scan_range(&self, range: crate::range::KeyRange) -> Scan { todo!() }
}
