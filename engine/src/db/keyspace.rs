//! A keyspace: the same verbs on keys of its own.

use std::{fmt, ops::RangeBounds, sync::Arc};

use bytes::Bytes;

use crate::{
    db::Db,
    error::Result,
    key::KeyspaceId,
    range::KeyRange,
    read::Scan,
    write::{Delete, Put, batch::In},
};

/// A part of the database with keys of its own: the same key in two keyspaces is two rows. All keyspaces share
/// one log and one memtable, and a [`WriteBatch`](crate::WriteBatch) spans them. Cheap to clone.
#[derive(Clone)]
pub struct Keyspace {
    db: Db,
    name: Arc<str>,
    id: KeyspaceId,
}

impl Keyspace {
    pub(super) fn new(db: Db, name: &str, id: KeyspaceId) -> Self {
        Self { db, name: name.into(), id }
    }

    /// The keyspace's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sets `key` to `value`; as [`Db::put`].
    pub fn put<K: AsRef<[u8]>, V: AsRef<[u8]>>(&self, key: K, value: V) -> Put<'_, K, V> {
        Put::new(self.db.core().writer(), self.id, key, value)
    }

    /// Removes `key`; as [`Db::delete`].
    pub fn delete<K: AsRef<[u8]>>(&self, key: K) -> Delete<'_, K> {
        Delete::new(self.db.core().writer(), self.id, key)
    }

    /// The value of `key`, or `None`; as [`Db::get`].
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Bytes>> {
        self.db.core().get(self.id, key.as_ref()).await
    }

    /// The answer of [`get`](Keyspace::get) if it can be given without waiting; as [`Db::get_cached`].
    pub fn get_cached(&self, key: impl AsRef<[u8]>) -> Option<Result<Option<Bytes>>> {
        self.db.core().get_cached(self.id, key.as_ref())
    }

    /// The values of many keys, in the order of the keys; as [`Db::multi_get`].
    pub async fn multi_get<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Option<Bytes>>> {
        let keys = self.db.core().full_keys(self.id, keys)?;
        self.db.core().multi_get(keys).await
    }

    /// The rows with a key in `range`; as [`Db::scan`].
    pub fn scan<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Scan {
        self.db.core().scan(self.id, KeyRange::new(range))
    }

    /// The rows whose key begins with `prefix`; as [`Db::scan_prefix`].
    pub fn scan_prefix(&self, prefix: impl AsRef<[u8]>) -> Scan {
        self.db.core().scan(self.id, Ok(KeyRange::prefix(prefix)))
    }

    /// The rows with a key in `range`; as [`Db::scan_range`].
    pub fn scan_range(&self, range: KeyRange) -> Scan {
        self.db.core().scan(self.id, Ok(range))
    }
}

impl In for Keyspace {
    fn keyspace_id(&self) -> KeyspaceId {
        self.id
    }
}

impl fmt::Debug for Keyspace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyspace").field("name", &self.name).field("id", &self.id.0).finish_non_exhaustive()
    }
}
