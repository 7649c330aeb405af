//! Esker, with its defaults but for the size of the cache.
//!
//! `Db::get` answers from memory without a future of its own wherever it can, so there is no quicker call to make.

use anyhow::{Result, ensure};
use esker::Db;

use super::{Engine, Order, Setup};
use crate::store::Home;

#[derive(Debug, Clone)]
pub(crate) struct Esker(Db);

impl Engine for Esker {
    async fn open(home: &Home, setup: Setup) -> Result<Self> {
        // The URL is a label: the store is given.
        let mut builder = Db::builder("memory://peers").object_store(home.objects.clone());
        if let Some(keep) = setup.keep {
            builder = builder.retention(keep);
        }
        Ok(Self(builder.cache_bytes(usize::try_from(setup.cache_bytes)?).open().await?))
    }

    async fn get(&self, key: &[u8], check: impl FnOnce(Option<&[u8]>) -> Result<()> + Send) -> Result<()> {
        check(self.0.get(key).await?.as_deref())
    }

    async fn multi_get(
        &self,
        keys: &[Vec<u8>],
        mut check: impl FnMut(usize, Option<&[u8]>) -> Result<()> + Send,
    ) -> Result<()> {
        let values = self.0.multi_get(keys).await?;
        ensure!(values.len() == keys.len(), "{} keys were answered with {} values", keys.len(), values.len());
        values.iter().enumerate().try_for_each(|(number, value)| check(number, value.as_deref()))
    }

    async fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.0.put(key, value).accepted().await?;
        Ok(())
    }

    async fn put_durable(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.0.put(key, value).await?;
        Ok(())
    }

    async fn scan(
        &self,
        from: Option<&[u8]>,
        order: Order,
        limit: u64,
        mut row: impl FnMut(&[u8], &[u8]) -> Result<bool> + Send,
    ) -> Result<()> {
        let scan = match (from, order) {
            (None, _) => self.0.scan::<&[u8]>(..),
            (Some(from), Order::Ascending) => self.0.scan(from..),
            (Some(from), Order::Descending) => self.0.scan(..=from),
        };
        let scan = if order == Order::Descending { scan.rev() } else { scan };
        let mut scan = scan.limit(usize::try_from(limit)?);
        while let Some(found) = scan.next().await? {
            if !row(&found.key, &found.value)? {
                break;
            }
        }
        Ok(())
    }

    async fn flush(&self) -> Result<()> {
        Ok(self.0.flush().await?)
    }

    fn tree_bytes(&self) -> Option<u64> {
        let view = self.0.view();
        Some(view.runs.iter().flat_map(|run| run.ssts.iter()).map(|sst| sst.meta.bytes).sum())
    }

    fn write_budget(&self) -> Option<u64> {
        u64::try_from(self.0.memory_stats().limit_bytes).ok()
    }

    async fn close(self, keep_log: bool) -> Result<()> {
        if !keep_log {
            self.0.flush().await?;
        }
        Ok(self.0.close().await?)
    }
}
