//! The options that a process may set. Few, and none must be set.
//!
//! Options that change bytes or their meaning are not among them: they are stored in the manifest when the
//! database is created ([`StoredOptions`]), so that nobody has to set five processes alike. What a new
//! database gets is written here.

use std::{path::PathBuf, time::Duration};

use crate::{
    codec::frame::Codec,
    error::{Error, Result},
    manifest::{StoredOptions, StoredShape},
};

/// Who merges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compaction {
    /// This process, in the background.
    #[default]
    InProcess,
    /// Nobody here: the service `esker-compactor`, or an explicit [`Db::compact`](crate::Db::compact).
    Off,
}

/// What a process may choose when it opens a database for writing.
#[derive(Debug, Clone)]
pub struct Options {
    /// The one memory budget for log buffers, memtables, uploads, the read-ahead of scans, and merges, in bytes. Default
    /// 256 MiB; at least 1 MiB. [`Db::memory_stats`](crate::Db::memory_stats) says what is held by what.
    ///
    /// Writes come first: scans and merges share what they leave, and need some of it in any case: a scan a block of each
    /// run, a merge that writes SSTs of more than 5 MiB some 10 MiB. Too small: writers are slowed down as soon as the store
    /// is slow for a moment, and scans and merges send many small requests. Too large: memory that
    /// the cache could use better, and a longer replay when the process has died.
    pub memory_bytes: usize,
    /// A memtable is frozen and flushed at this size, in bytes. Default 32 MiB, or a quarter of the memory
    /// budget if that is less; at least 4 KiB, at most half the budget.
    ///
    /// Too small: many small level-0 runs, each merged again, and more requests. Too large: fewer memtables
    /// fit the budget, so that writers wait for flushes.
    pub memtable_bytes: usize,
    /// The memory of the block cache, in bytes. Default 256 MiB; at least 64 KiB. Decoded indexes and filters of SSTs in use
    /// may take up to a quarter of it besides, where the cache has let go of what they lie in.
    ///
    /// Too small: the same blocks are fetched again and again, each fetch a round trip and a fee.
    pub cache_bytes: usize,
    /// The directory and size in bytes of the cache on SSD. Default none; at least 1 MiB.
    pub cache_dir: Option<(PathBuf, u64)>,
    /// Who merges. Default this process.
    pub compaction: Compaction,
    /// Every wait ends after this. Default 30 s; 10 ms to one hour.
    ///
    /// Too short: errors where patience would have done. Too long: callers learn late that a store is away.
    pub deadline: Duration,
    /// Whether to create the database if there is none. Default yes.
    pub create: bool,
    /// A name for this process in the messages of those it fences, at most 255 bytes. Default host and process id.
    pub name: Option<String>,
}

/// The default memtable, if the budget is large enough for it.
const MEMTABLE_BYTES: usize = 32 << 20;

impl Default for Options {
    fn default() -> Self {
        Self {
            memory_bytes: 256 << 20,
            memtable_bytes: MEMTABLE_BYTES,
            cache_bytes: 256 << 20,
            cache_dir: None,
            compaction: Compaction::default(),
            deadline: Duration::from_secs(30),
            create: true,
            name: None,
        }
    }
}

impl Options {
    /// The memtable size that suits a budget of `memory_bytes`.
    pub fn memtable_for(memory_bytes: usize) -> usize {
        MEMTABLE_BYTES.min(memory_bytes / 4)
    }

    /// Fails with `Invalid`, naming the option and its bounds, if one is out of them.
    pub fn check(&self) -> Result<()> {
        let bounds = |name: &str, value: usize, least: usize, most: usize| {
            if (least..=most).contains(&value) {
                return Ok(());
            }
            Err(Error::invalid(format!("{name} is {value}; it must be {least} to {most} bytes")))
        };
        bounds("memory_bytes", self.memory_bytes, 1 << 20, 1 << 40)?;
        bounds("memtable_bytes", self.memtable_bytes, 4 << 10, (self.memory_bytes / 2).min(2 << 30))
            .map_err(|error| error.hint("a memtable may take at most half of memory_bytes"))?;
        bounds("cache_bytes", self.cache_bytes, 64 << 10, 1 << 42)?;
        if let Some((_, bytes)) = &self.cache_dir {
            bounds("the size of cache_dir", usize::try_from(*bytes).unwrap_or(usize::MAX), 1 << 20, 1 << 46)?;
        }
        if !(Duration::from_millis(10)..=Duration::from_secs(3600)).contains(&self.deadline) {
            return Err(Error::invalid(format!(
                "deadline is {:?}; it must be 10 ms to one hour",
                self.deadline
            )));
        }
        if self.name.as_ref().is_some_and(|name| name.is_empty() || name.len() > 255) {
            return Err(Error::invalid("name must be 1 to 255 bytes"));
        }
        Ok(())
    }
}

impl StoredOptions {
    /// What a new database gets unless its creator says otherwise.
    pub fn standard() -> Self {
        Self {
            block_bytes: 16 << 10,
            restart_interval: 16,
            filter_bits_per_key: 10,
            // Level 0 is rewritten soon; what lies below stays.
            codecs: vec![Codec::Lz4 as u32, Codec::Lz4 as u32, Codec::Zstd as u32],
            sst_bytes: 64 << 20,
            shape: StoredShape::lazy_leveled(),
            retention_ms: 15 * 60 * 1000,
            wal_window: 8,
        }
    }

    /// Fails with `Invalid`, naming the option and its bounds, if one is out of them.
    pub fn check(&self) -> Result<()> {
        let bounds = |name: &str, value: u64, least: u64, most: u64| {
            if (least..=most).contains(&value) {
                return Ok(());
            }
            Err(Error::invalid(format!("{name} is {value}; it must be {least} to {most}")))
        };
        bounds("block_bytes", self.block_bytes.into(), 256, 1 << 20)?;
        bounds("restart_interval", self.restart_interval.into(), 1, 256)?;
        bounds("filter_bits_per_key", self.filter_bits_per_key.into(), 0, 32)?;
        bounds("sst_bytes", self.sst_bytes, 4 << 10, 2 << 30)?;
        bounds("wal_window", self.wal_window.into(), 1, 64)?;
        bounds("shape.l0_runs", self.shape.l0_runs.into(), 1, 1024)?;
        bounds("shape.middle_runs", self.shape.middle_runs.into(), 1, 1024)?;
        bounds("shape.last_runs", self.shape.last_runs.into(), 1, 1024)?;
        bounds("shape.ratio", self.shape.ratio.into(), 2, 100)?;
        bounds("shape.base_bytes", self.shape.base_bytes, 1, 1 << 50)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn the_defaults_are_within_their_bounds() {
        Options::default().check().unwrap();
        StoredOptions::standard().check().unwrap();
        let memory_bytes = 1 << 20;
        Options { memory_bytes, memtable_bytes: Options::memtable_for(memory_bytes), ..Options::default() }
            .check()
            .unwrap();
    }

    #[test]
    fn an_option_out_of_bounds_is_refused_by_name() {
        let cases = [
            ("memory_bytes", Options { memory_bytes: 1, ..Options::default() }),
            ("memtable_bytes", Options { memtable_bytes: 200 << 20, ..Options::default() }),
            ("cache_bytes", Options { cache_bytes: 0, ..Options::default() }),
            ("cache_dir", Options { cache_dir: Some(("x".into(), 5)), ..Options::default() }),
            ("deadline", Options { deadline: Duration::ZERO, ..Options::default() }),
            ("name", Options { name: Some(String::new()), ..Options::default() }),
        ];
        for (name, options) in cases {
            let error = options.check().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains(name), "{error}");
        }
    }
}
