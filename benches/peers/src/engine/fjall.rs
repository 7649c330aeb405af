//! fjall, with its defaults but for the size of the cache: a local engine in Rust, files in a folder.
//!
//! Its calls are synchronous and are made where they are; a durable write waits for the disk on a thread for blocking
//! calls, so that many clients can share one fsync.

use anyhow::Result;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::{Engine, Order, Setup};
use crate::store::Home;

#[derive(Clone)]
pub(crate) struct Fjall {
    db: Database,
    rows: Keyspace,
    durable: PersistMode,
}

impl Engine for Fjall {
    async fn open(home: &Home, setup: Setup) -> Result<Self> {
        let db = Database::builder(&home.folder).cache_size(setup.cache_bytes).open()?;
        let rows = db.keyspace("rows", KeyspaceCreateOptions::default)?;
        let durable = if home.fsync { PersistMode::SyncAll } else { PersistMode::Buffer };
        Ok(Self { db, rows, durable })
    }

    async fn get(&self, key: &[u8], check: impl FnOnce(Option<&[u8]>) -> Result<()> + Send) -> Result<()> {
        check(self.rows.get(key)?.as_deref())
    }

    async fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        Ok(self.rows.insert(key, value)?)
    }

    async fn put_durable(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.rows.insert(key, value)?;
        if self.durable == PersistMode::Buffer {
            return Ok(self.db.persist(self.durable)?);
        }
        let (db, durable) = (self.db.clone(), self.durable);
        Ok(tokio::task::spawn_blocking(move || db.persist(durable)).await??)
    }

    async fn scan(
        &self,
        from: Option<&[u8]>,
        order: Order,
        limit: u64,
        mut row: impl FnMut(&[u8], &[u8]) -> Result<bool> + Send,
    ) -> Result<()> {
        let mut rows = match (from, order) {
            (None, _) => self.rows.iter(),
            (Some(from), Order::Ascending) => self.rows.range(from..),
            (Some(from), Order::Descending) => self.rows.range(..=from),
        };
        for _ in 0..limit {
            let found = if order == Order::Descending { rows.next_back() } else { rows.next() };
            let Some(found) = found else { break };
            let (key, value) = found.into_inner()?;
            if !row(&key, &value)? {
                break;
            }
        }
        Ok(())
    }

    async fn flush(&self) -> Result<()> {
        let rows = self.rows.clone();
        Ok(tokio::task::spawn_blocking(move || rows.rotate_memtable_and_wait()).await??)
    }

    fn is_quiet(&self) -> Option<bool> {
        Some(self.db.outstanding_flushes() == 0 && self.db.active_compactions() == 0)
    }

    fn tree_bytes(&self) -> Option<u64> {
        Some(self.rows.disk_space())
    }

    async fn close(self, keep_log: bool) -> Result<()> {
        if !keep_log {
            self.flush().await?;
        }
        let closing = move || {
            self.db.persist(PersistMode::SyncAll)?;
            drop(self);
            anyhow::Ok(())
        };
        tokio::task::spawn_blocking(closing).await?
    }
}
