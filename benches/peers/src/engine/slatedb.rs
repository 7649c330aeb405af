//! SlateDB, with its defaults, or tuned; the same cache bytes as everyone.
//!
//! Tuned is what its authors measure it with at benchmark.slatedb.io (more L0s before writes wait, more unflushed bytes,
//! wider compactions), and what its documentation says to change for latency and for scans: a shorter flush
//! interval (at a price that the table shows), read-ahead, fetches side by side, blocks of scans cached. The cache is
//! divided as its own default is: four parts for data, one for indexes and filters.
//!
//! Garbage, where it is measured: the inputs of a merge are deleted when they are old enough (`min_age`), when the checkpoint
//! that the compactor writes before each change of the manifest has expired, and when the collector comes by. All three are
//! set then, for its defaults (five, fifteen and ten minutes) are longer than the run.

use std::{ops::Bound, sync::Arc, time::Duration};

use anyhow::Result;
use slatedb::{
    Db, IterationOrder,
    config::{
        CloseOptions, CompactionWorkerOptions, CompactorOptions, FlushOptions, FlushType,
        GarbageCollectorDirectoryOptions, GarbageCollectorOptions, ScanOptions, Settings,
        SizeTieredCompactionSchedulerOptions,
    },
    db_cache::{
        DbCache, SplitCache,
        foyer::{FoyerCache, FoyerCacheOptions},
    },
};

use super::{Engine, Order, Setup};
use crate::store::Home;

#[derive(Clone)]
pub(crate) struct SlateDb {
    db: Db,
    is_tuned: bool,
}

impl Engine for SlateDb {
    async fn open(home: &Home, setup: Setup) -> Result<Self> {
        let cache = |bytes: u64| -> Arc<dyn DbCache> {
            let options = FoyerCacheOptions { max_capacity: bytes, ..FoyerCacheOptions::default() };
            Arc::new(FoyerCache::new_with_opts(options))
        };
        let meta_bytes = setup.cache_bytes / 5;
        let split = SplitCache::new()
            .with_block_cache(Some(cache(setup.cache_bytes - meta_bytes)))
            .with_meta_cache(Some(cache(meta_bytes)))
            .build();
        let mut settings = if setup.is_tuned { tuned() } else { Settings::default() };
        if let Some(keep) = setup.keep {
            keep_for(&mut settings, keep);
        }
        if let Some(collector) = &mut settings.garbage_collector_options {
            // As its documentation asks for; else nothing of the manifest's and the compactions' past is deleted in a folder.
            collector.boundary_files_enabled = home.if_match;
        }
        let db = Db::builder("db", home.objects.clone())
            .with_settings(settings)
            .with_db_cache(Arc::new(split), 0)
            .build()
            .await?;
        Ok(Self { db, is_tuned: setup.is_tuned })
    }

    async fn get(&self, key: &[u8], check: impl FnOnce(Option<&[u8]>) -> Result<()> + Send) -> Result<()> {
        check(self.db.get(key).await?.as_deref())
    }

    async fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.db.put(key, value).await?;
        Ok(())
    }

    async fn put_durable(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.db.put(key, value).await?.await_durable().await?;
        Ok(())
    }

    async fn scan(
        &self,
        from: Option<&[u8]>,
        order: Order,
        limit: u64,
        mut row: impl FnMut(&[u8], &[u8]) -> Result<bool> + Send,
    ) -> Result<()> {
        let bound = from.map_or(Bound::Unbounded, Bound::Included);
        let (range, iteration) = match order {
            Order::Ascending => ((bound, Bound::Unbounded), IterationOrder::Ascending),
            Order::Descending => ((Bound::Unbounded, bound), IterationOrder::Descending),
        };
        let mut options = ScanOptions { order: iteration, ..ScanOptions::default() };
        if self.is_tuned {
            options.cache_blocks = true;
            // A short scan would pay for blocks it does not need.
            if limit > 1000 {
                options.read_ahead_bytes = 1 << 20;
                options.max_fetch_tasks = 4;
            }
        }
        let mut scan = self.db.scan_with_options::<(Bound<&[u8]>, Bound<&[u8]>)>(range, &options).await?;
        let mut left = limit;
        while left > 0
            && let Some(found) = scan.next().await?
        {
            left -= 1;
            if !row(&found.key, &found.value)? {
                break;
            }
        }
        Ok(())
    }

    async fn flush(&self) -> Result<()> {
        Ok(self.db.flush_with_options(FlushOptions { flush_type: FlushType::MemTable }).await?)
    }

    fn tree_bytes(&self) -> Option<u64> {
        let manifest = self.db.manifest();
        let runs = manifest.compacted().iter().map(|run| run.estimate_size());
        Some(manifest.l0().iter().map(|sst| sst.estimate_size()).chain(runs).sum())
    }

    async fn close(self, keep_log: bool) -> Result<()> {
        let flush = if keep_log { FlushType::Wal } else { FlushType::MemTable };
        Ok(self.db.close_with_options(CloseOptions::default().with_flush_type(Some(flush))).await?)
    }
}

fn tuned() -> Settings {
    let scheduler = SizeTieredCompactionSchedulerOptions {
        max_compaction_sources: 16,
        ..SizeTieredCompactionSchedulerOptions::default()
    };
    let worker = CompactionWorkerOptions { max_subcompactions: 8, ..CompactionWorkerOptions::default() };
    let compactor = CompactorOptions {
        scheduler_options: scheduler.into(),
        worker: Some(worker),
        ..CompactorOptions::default()
    };
    Settings {
        flush_interval: Some(Duration::from_millis(20)),
        l0_max_ssts: 32,
        l0_max_ssts_per_key: 32,
        max_unflushed_bytes: 2 << 30,
        compactor_options: Some(compactor),
        ..Settings::default()
    }
}

/// Garbage goes when `keep` is over since it was written and since a merge replaced it, and is looked for as often: it is gone
/// some twice `keep` after the merge.
fn keep_for(settings: &mut Settings, keep: Duration) {
    let folder = Some(GarbageCollectorDirectoryOptions {
        interval: Some(keep),
        min_age: keep,
        ..GarbageCollectorDirectoryOptions::default()
    });
    settings.garbage_collector_options = Some(GarbageCollectorOptions {
        manifest_options: folder,
        wal_options: folder,
        compacted_options: folder,
        compactions_options: folder,
        ..GarbageCollectorOptions::default()
    });
    if let Some(compactor) = &mut settings.compactor_options {
        compactor.checkpoint_lifetime = keep;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_holds_garbage_for_longer_than_it_is_told() {
        let keep = Duration::from_secs(10);
        for mut settings in [Settings::default(), tuned()] {
            keep_for(&mut settings, keep);
            assert_eq!(settings.compactor_options.unwrap().checkpoint_lifetime, keep);
            let collector = settings.garbage_collector_options.unwrap();
            let folders = [
                collector.manifest_options,
                collector.wal_options,
                collector.compacted_options,
                collector.compactions_options,
            ];
            for folder in folders.map(Option::unwrap) {
                assert_eq!((folder.min_age, folder.interval), (keep, Some(keep)));
            }
        }
    }
}
