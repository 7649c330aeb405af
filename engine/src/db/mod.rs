//! The database: a writer's handle.
//!
//! ```text
//!  Db, Keyspace ──► Handle ──► Core: writer, manifest, fetcher      what calls use
//!  (clones)           └──────► Tasks: log, flush, compaction        stop when the last clone is dropped
//! ```
//!
//! Always true: the tasks hold the core and never the handle, so dropping the last clone ends them; what was
//! acknowledged as durable is safe with or without [`Db::close`].

mod background;
mod builder;
mod core;
mod keyspace;

use std::{fmt, ops::RangeBounds, sync::Arc};

use bytes::Bytes;

use crate::{
    clock,
    compaction::collect,
    db::{background::Tasks, core::Core},
    error::{Error, ErrorKind, Result},
    key::{DEFAULT_KEYSPACE, KeyspaceId},
    manifest::{View, checkpoint},
    memory::MemoryStats,
    range::KeyRange,
    read::{Scan, Snapshot, Token},
    stats::StatsSnapshot,
    store::Store,
    write::{Delete, Put, Write, WriteBatch, batch::In},
};

pub use builder::Builder;
pub use keyspace::Keyspace;

/// A database opened for writing. Cheap to clone; the last clone dropped stops the background work.
///
/// One process writes at a time: opening the database elsewhere fences this handle, whose writes then fail
/// with [`Fenced`](crate::ErrorKind::Fenced) and name the other. Any number of processes may read with
/// [`Reader`](crate::Reader).
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> esker::Result<()> {
/// let db = esker::Db::open("memory://first").await?;
/// db.put("k", "v").await?;
/// assert_eq!(db.get("k").await?.as_deref(), Some(&b"v"[..]));
/// db.close().await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Db {
    handle: Arc<Handle>,
}

struct Handle {
    core: Arc<Core>,
    tasks: Tasks,
    closed: tokio::sync::OnceCell<()>,
}

impl Db {
    /// Opens the database at `url` for writing, with the default options; creates it if there is none.
    ///
    /// The URL is `s3://bucket/prefix`, `gs://…`, `az://…`, `file:///path` (or a plain path), or
    /// `memory://name`, which lives as long as the process.
    pub async fn open(url: impl AsRef<str>) -> Result<Db> {
        Self::builder(url).open().await
    }

    /// The way to options: `Db::builder(url).memory_bytes(…).open().await`.
    pub fn builder(url: impl AsRef<str>) -> Builder {
        Builder::new(url.as_ref())
    }

    /// Sets `key` to `value`. Await it: the write can no longer be lost then. Or ask for less, at once, with
    /// [`Put::accepted`].
    pub fn put<K: AsRef<[u8]>, V: AsRef<[u8]>>(&self, key: K, value: V) -> Put<'_, K, V> {
        Put::new(self.core().writer(), DEFAULT_KEYSPACE, key, value)
    }

    /// Removes `key`, whether or not it is there.
    pub fn delete<K: AsRef<[u8]>>(&self, key: K) -> Delete<'_, K> {
        Delete::new(self.core().writer(), DEFAULT_KEYSPACE, key)
    }

    /// Applies `batch`: all of it or nothing.
    pub fn write(&self, batch: WriteBatch) -> Write<'_> {
        Write::new(self.core().writer(), batch)
    }

    /// The value of `key`, or `None`. Sees every write accepted before the call.
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Bytes>> {
        self.core().get(DEFAULT_KEYSPACE, key.as_ref()).await
    }

    /// The answer of [`get`](Db::get) if it can be given without waiting: every byte needed is in memory.
    pub fn get_cached(&self, key: impl AsRef<[u8]>) -> Option<Result<Option<Bytes>>> {
        self.core().get_cached(DEFAULT_KEYSPACE, key.as_ref())
    }

    /// The values of many keys, in the order of the keys, read as of one moment.
    pub async fn multi_get<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Option<Bytes>>> {
        let keys = self.core().full_keys(DEFAULT_KEYSPACE, keys)?;
        self.core().multi_get(keys).await
    }

    /// The rows with a key in `range`, ascending, as of now. Bounds the wrong way round are an error of the
    /// first row.
    pub fn scan<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Scan {
        self.core().scan(DEFAULT_KEYSPACE, KeyRange::new(range))
    }

    /// The rows whose key begins with `prefix`, ascending, as of now.
    pub fn scan_prefix(&self, prefix: impl AsRef<[u8]>) -> Scan {
        self.core().scan(DEFAULT_KEYSPACE, Ok(KeyRange::prefix(prefix)))
    }

    /// The rows with a key in `range`, ascending, as of now.
    pub fn scan_range(&self, range: KeyRange) -> Scan {
        self.core().scan(DEFAULT_KEYSPACE, Ok(range))
    }

    /// The whole database as it is now, for as long as the snapshot is held. It keeps the memtables of this
    /// moment in memory, charged to the memory budget, and pins its version in the store when it is held for long.
    pub fn snapshot(&self) -> Snapshot {
        self.core().snapshot()
    }

    /// Opens the keyspace `name` (1 to 255 bytes), creating it if it is new. `"default"` is the database itself.
    pub async fn keyspace(&self, name: &str) -> Result<Keyspace> {
        let id = self.core().keyspace(name).await?;
        Ok(Keyspace::new(self.clone(), name, id))
    }

    /// The keyspace that the database itself is.
    pub fn default_keyspace(&self) -> Keyspace {
        Keyspace::new(self.clone(), core::DEFAULT_NAME, DEFAULT_KEYSPACE)
    }

    /// Makes everything accepted so far durable, and gives the place of the last write.
    pub async fn sync(&self) -> Result<Token> {
        self.core().writer().accepted().durable().await
    }

    /// Writes the memtable to level 0, whatever its size, and waits until that is committed.
    pub async fn flush(&self) -> Result<()> {
        self.core().flush().await
    }

    /// Keeps everything accepted so far under `name` (1 to 100 letters, digits, `.`, `_`, `-`), until
    /// [`delete_checkpoint`](Db::delete_checkpoint): flushes, and copies the version; no data is copied, and what a
    /// checkpoint shares with the database costs nothing. [`ReaderBuilder::checkpoint`](crate::ReaderBuilder::checkpoint)
    /// reads it. Gives the version.
    ///
    /// Fails with `Invalid` if there is a checkpoint of that name already, with `OutcomeUnknown` if the store did
    /// not say whether it was made, or as [`flush`](Db::flush) does.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> esker::Result<()> {
    /// let db = esker::Db::open("memory://checkpoints").await?;
    /// db.put("k", "before").await?;
    /// db.checkpoint("before-migration").await?;
    /// db.put("k", "after").await?;
    /// let then = esker::Reader::builder("memory://checkpoints").checkpoint("before-migration").open().await?;
    /// assert_eq!(then.get("k").await?.as_deref(), Some(&b"before"[..]));
    /// assert_eq!(db.checkpoints().await?, ["before-migration"]);
    /// db.delete_checkpoint("before-migration").await?;
    /// # Ok(()) }
    /// ```
    pub async fn checkpoint(&self, name: &str) -> Result<Arc<View>> {
        self.core().checkpoint(name).await
    }

    /// The names of all checkpoints.
    pub async fn checkpoints(&self) -> Result<Vec<String>> {
        self.core().open()?;
        checkpoint::names(self.core().manifest()).await
    }

    /// Deletes a checkpoint: what it alone kept goes with the next collections, and whoever reads it ends in
    /// `SnapshotExpired`. Fails with `Invalid` if there is none of that name.
    pub async fn delete_checkpoint(&self, name: &str) -> Result<()> {
        self.core().open()?;
        collect::delete_checkpoint(self.core().manifest(), name).await
    }

    /// Merges until nothing is due: in this process, whatever the `compaction` option says. Fails with
    /// `Conflict` if another process is at it.
    pub async fn compact(&self) -> Result<()> {
        self.core().open()?;
        self.handle.tasks.compact().await
    }

    /// The version in use: what the tree consists of.
    pub fn view(&self) -> Arc<View> {
        self.core().writer().current().load().view.clone()
    }

    /// The database's place in its object store.
    pub fn store(&self) -> &Store {
        self.core().manifest().store()
    }

    /// Requests so far, by kind and by cause.
    pub fn stats(&self) -> StatsSnapshot {
        self.store().stats().snapshot()
    }

    /// What the block cache has done and holds.
    pub fn cache_stats(&self) -> esker_cache::CacheStats {
        self.core().fetcher().cache().stats()
    }

    /// What is held of the memory budget, by what, and the most that was held at once.
    pub fn memory_stats(&self) -> MemoryStats {
        let budget = self.core().writer().budget();
        budget.sweep();
        budget.memory().stats()
    }

    /// Makes everything durable and stops the background work. Idempotent; every later call on any clone fails
    /// with `Closed`. The memtable is not flushed: the log has it, and the next open replays it.
    pub async fn close(&self) -> Result<()> {
        self.handle.closed.get_or_try_init(|| self.shut()).await.copied()
    }

    async fn shut(&self) -> Result<()> {
        let closed = Error::closed("the database was closed");
        let writer = self.core().writer();
        self.core().refuse();
        writer.stop(&closed);
        let durable = writer.accepted().durable().await;
        if durable.as_ref().is_err_and(|error| error.kind() == ErrorKind::OutcomeUnknown) {
            // Still being sent: closing may be tried again.
            return durable.map(drop);
        }
        let by_us = writer.stopped().is_some_and(|error| error.kind() == ErrorKind::Closed);
        if durable.is_ok() && by_us {
            // What is frozen is on its way into SSTs. It is in the log as well, so a store that does not take it is no
            // failure; but a log that is never shortened, by processes that live for a moment each, would be.
            let clock = self.core().clock();
            let last = async {
                writer.drained().await;
                self.core().commit_tail().await
            };
            if let Err(error) =
                clock::deadline(&**clock, self.core().deadline(), "the last flush", last).await
            {
                tracing::debug!(%error, "closed without saying in the manifest how far the log goes");
            }
        }
        self.handle.tasks.stop(&**self.core().clock(), self.core().deadline()).await;
        writer.abandon(&closed);
        self.core().fetcher().close().await;
        durable.map(drop)
    }

    fn core(&self) -> &Arc<Core> {
        &self.handle.core
    }
}

impl In for Db {
    fn keyspace_id(&self) -> KeyspaceId {
        DEFAULT_KEYSPACE
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // Whoever still waits for a write learns that nobody will send it.
        self.core.writer().abandon(
            &Error::closed("the database was dropped before this write was known to be durable")
                .hint("close() makes everything durable first"),
        );
    }
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Db").field("url", &self.store().url()).field("writer", self.core().writer()).finish()
    }
}
