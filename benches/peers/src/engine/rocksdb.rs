//! RocksDB, as its "setup options and basic tuning" page starts: Bloom filters of 10 bits, LZ4, index and filters in the
//! one cache, a background thread a core. Files in a folder.
//!
//! Its calls are synchronous and are made where they are; a durable write waits for the disk on a thread for blocking
//! calls, so that many clients can share one fsync.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, DEFAULT_COLUMN_FAMILY_NAME, Options, WriteOptions,
    properties::{
        COMPACTION_PENDING, LIVE_SST_FILES_SIZE, MEM_TABLE_FLUSH_PENDING, NUM_RUNNING_COMPACTIONS,
        NUM_RUNNING_FLUSHES,
    },
};

use super::{Engine, Order, Setup};
use crate::store::Home;

#[derive(Clone)]
pub(crate) struct RocksDb {
    db: Arc<DB>,
    fsync: bool,
}

impl Engine for RocksDb {
    async fn open(home: &Home, setup: Setup) -> Result<Self> {
        let mut blocks = BlockBasedOptions::default();
        blocks.set_block_cache(&Cache::new_hyper_clock_cache(usize::try_from(setup.cache_bytes)?, 0));
        blocks.set_bloom_filter(10.0, false);
        blocks.set_cache_index_and_filter_blocks(true);
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_compression_type(DBCompressionType::Lz4);
        options.set_block_based_table_factory(&blocks);
        options.increase_parallelism(i32::try_from(std::thread::available_parallelism()?.get())?);
        let folder = home.folder.clone();
        // Opened by name, so that there is a handle for reads of many keys; its options have to be said again then.
        let families = [(DEFAULT_COLUMN_FAMILY_NAME, options.clone())];
        let open = move || DB::open_cf_with_opts(&options, folder, families);
        let db = tokio::task::spawn_blocking(open).await??;
        Ok(Self { db: Arc::new(db), fsync: home.fsync })
    }

    async fn get(&self, key: &[u8], check: impl FnOnce(Option<&[u8]>) -> Result<()> + Send) -> Result<()> {
        check(self.db.get_pinned(key)?.as_deref())
    }

    async fn multi_get(
        &self,
        keys: &[Vec<u8>],
        mut check: impl FnMut(usize, Option<&[u8]>) -> Result<()> + Send,
    ) -> Result<()> {
        let family = self.db.cf_handle(DEFAULT_COLUMN_FAMILY_NAME).context("the column family was opened")?;
        let values = self.db.batched_multi_get_cf(family, keys, false);
        ensure!(values.len() == keys.len(), "{} keys were answered with {} values", keys.len(), values.len());
        values.into_iter().enumerate().try_for_each(|(number, value)| check(number, value?.as_deref()))
    }

    async fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        Ok(self.db.put(key, value)?)
    }

    async fn put_durable(&self, key: &[u8], value: &[u8]) -> Result<()> {
        if !self.fsync {
            return Ok(self.db.put(key, value)?);
        }
        let (db, key, value) = (Arc::clone(&self.db), key.to_vec(), value.to_vec());
        let write = move || {
            let mut options = WriteOptions::default();
            options.set_sync(true);
            db.put_opt(key, value, &options)
        };
        Ok(tokio::task::spawn_blocking(write).await??)
    }

    async fn scan(
        &self,
        from: Option<&[u8]>,
        order: Order,
        limit: u64,
        mut row: impl FnMut(&[u8], &[u8]) -> Result<bool> + Send,
    ) -> Result<()> {
        let mut rows = self.db.raw_iterator();
        match (from, order) {
            (None, Order::Ascending) => rows.seek_to_first(),
            (None, Order::Descending) => rows.seek_to_last(),
            (Some(from), Order::Ascending) => rows.seek(from),
            (Some(from), Order::Descending) => rows.seek_for_prev(from),
        }
        for _ in 0..limit {
            let Some((key, value)) = rows.item() else { break };
            if !row(key, value)? {
                break;
            }
            if order == Order::Ascending { rows.next() } else { rows.prev() }
        }
        Ok(rows.status()?)
    }

    async fn flush(&self) -> Result<()> {
        let db = Arc::clone(&self.db);
        Ok(tokio::task::spawn_blocking(move || db.flush()).await??)
    }

    fn is_quiet(&self) -> Option<bool> {
        let busy =
            [COMPACTION_PENDING, MEM_TABLE_FLUSH_PENDING, NUM_RUNNING_COMPACTIONS, NUM_RUNNING_FLUSHES];
        Some(busy.iter().all(|what| self.db.property_int_value(*what).is_ok_and(|n| n == Some(0))))
    }

    fn tree_bytes(&self) -> Option<u64> {
        self.db.property_int_value(LIVE_SST_FILES_SIZE).ok().flatten()
    }

    async fn close(self, keep_log: bool) -> Result<()> {
        if !keep_log {
            self.flush().await?;
        }
        let closing = move || {
            self.db.flush_wal(true)?;
            drop(self);
            anyhow::Ok(())
        };
        tokio::task::spawn_blocking(closing).await?
    }
}
