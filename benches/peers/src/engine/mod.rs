//! What every engine here can do: the trait that workloads know, and nothing else of any engine.
//!
//! One small file an engine implements it. Futures are plain and generic, and rows are handed to a closure, so that the
//! harness boxes, clones and copies nothing that the engine itself does not.
//!
//! Always true: after `open` on a home that had a database, everything that was durable before is found again.

mod esker;
mod fjall;
#[cfg(feature = "rocksdb")]
mod rocksdb;
mod slatedb;

use std::{fmt, str::FromStr, time::Duration};

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

#[cfg(feature = "rocksdb")]
pub(crate) use self::rocksdb::RocksDb;
pub(crate) use self::{esker::Esker, fjall::Fjall, slatedb::SlateDb};
use crate::store::Home;

/// Which engine, and how it is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    Esker,
    SlateDb,
    /// With the settings its authors use where they measure it, and those its documentation recommends.
    SlateDbTuned,
    Fjall,
    RocksDb,
}

/// What an engine is given, the same for all.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup {
    /// Memory for blocks, indexes and filters, in bytes.
    pub(crate) cache_bytes: u64,
    /// [`Kind::SlateDbTuned`].
    pub(crate) is_tuned: bool,
    /// For how long to keep what nothing needs any more, where an engine has such a setting and this overrides its default.
    pub(crate) keep: Option<Duration>,
}

/// Which way a scan goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Ascending,
    Descending,
}

/// A database that is open. Clones are the same one.
pub(crate) trait Engine: Clone + Send + Sync + 'static {
    /// Opens the database at `home`; makes it, if there is none.
    fn open(home: &Home, setup: Setup) -> impl Future<Output = Result<Self>> + Send;

    /// Reads `key` and hands its value to `check`.
    fn get(
        &self,
        key: &[u8],
        check: impl FnOnce(Option<&[u8]>) -> Result<()> + Send,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Reads all of `keys` and hands each value to `check` with the number of its key; in one call, if the engine has one.
    fn multi_get(
        &self,
        keys: &[Vec<u8>],
        mut check: impl FnMut(usize, Option<&[u8]>) -> Result<()> + Send,
    ) -> impl Future<Output = Result<()>> + Send {
        async move {
            for (number, key) in keys.iter().enumerate() {
                self.get(key, |value| check(number, value)).await?;
            }
            Ok(())
        }
    }

    /// Writes a row: it is visible then, and may be lost if the process dies.
    fn put(&self, key: &[u8], value: &[u8]) -> impl Future<Output = Result<()>> + Send;

    /// Writes a row: it can no longer be lost.
    fn put_durable(&self, key: &[u8], value: &[u8]) -> impl Future<Output = Result<()>> + Send;

    /// Hands rows to `row`, from `from` on or from the first (the last) one, until there are `limit` or it says no.
    fn scan(
        &self,
        from: Option<&[u8]>,
        order: Order,
        limit: u64,
        row: impl FnMut(&[u8], &[u8]) -> Result<bool> + Send,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Writes to its tree what is in memory.
    fn flush(&self) -> impl Future<Output = Result<()>> + Send;

    /// Whether its tree is at rest; `None` if it cannot say.
    fn is_quiet(&self) -> Option<bool> {
        None
    }

    /// Bytes that its tree consists of; `None` if it cannot say.
    fn tree_bytes(&self) -> Option<u64> {
        None
    }

    /// Memory that it gives to writes at most, in bytes; `None` if it has no such bound.
    fn write_budget(&self) -> Option<u64> {
        None
    }

    /// Ends. Everything is durable then; unless `keep_log`, it is in the tree as far as the engine does that by itself.
    fn close(self, keep_log: bool) -> impl Future<Output = Result<()>> + Send;
}

impl Kind {
    /// All that this program was built with.
    pub(crate) const ALL: &[Kind] = &[
        Kind::Esker,
        Kind::SlateDb,
        Kind::SlateDbTuned,
        Kind::Fjall,
        #[cfg(feature = "rocksdb")]
        Kind::RocksDb,
    ];

    /// Whether its data lies in an object store.
    pub(crate) fn keeps_objects(self) -> bool {
        matches!(self, Self::Esker | Self::SlateDb | Self::SlateDbTuned)
    }

    /// The crate whose version is the engine's.
    pub(crate) fn package(self) -> &'static str {
        match self {
            Self::Esker => "esker",
            Self::SlateDb | Self::SlateDbTuned => "slatedb",
            Self::Fjall => "fjall",
            Self::RocksDb => "librocksdb-sys",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Esker => "esker",
            Self::SlateDb => "slatedb",
            Self::SlateDbTuned => "slatedb-tuned",
            Self::Fjall => "fjall",
            Self::RocksDb => "rocksdb",
        })
    }
}

impl FromStr for Kind {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        if let Some(kind) = Self::ALL.iter().find(|kind| kind.to_string() == name) {
            return Ok(*kind);
        }
        if name == Self::RocksDb.to_string() {
            bail!(
                "this program was built without rocksdb; build it with `--features rocksdb` (see README.md)"
            );
        }
        let known: Vec<String> = Self::ALL.iter().map(ToString::to_string).collect();
        bail!("there is no engine `{name}`; known are {}", known.join(", "))
    }
}
