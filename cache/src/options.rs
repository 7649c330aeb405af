//! How large the cache is and where its SSD tier lies; what cannot be opened, and why.

use std::{fmt, path::PathBuf};

use bytes::Bytes;

/// Makes the bytes of a cold entry smaller, in a form that whoever reads the cache tells from the other one by itself;
/// `None` if that gains too little. Called by the thread that inserts, under no lock; some 20 µs for 16 KiB are well spent.
pub type Squeeze = fn(&Bytes) -> Option<Bytes>;

/// The smallest SSD tier, in bytes. Below this a block of the tier would hold only a few entries.
pub(crate) const MIN_SSD_BYTES: u64 = 32 << 20;

/// The size and the tiers of a [`BlockCache`](crate::BlockCache).
///
/// ```
/// use esker_cache::{CacheOptions, SsdOptions};
///
/// let options = CacheOptions {
///     memory_bytes: 1 << 30,
///     ssd: Some(SsdOptions { dir: "/var/cache/my-service".into(), bytes: 100 << 30 }),
///     ..CacheOptions::default()
/// };
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct CacheOptions {
    /// Memory for cached bytes, in bytes; default 256 MiB. Counted are the bytes themselves and the bookkeeping of
    /// each entry. 0 caches nothing in memory; more than the machine can spare ends in swapping. With an SSD tier,
    /// bursts on their way to it use up to three eighths of this again (at least 12 MiB, at most 192 MiB).
    pub memory_bytes: usize,
    /// The part of memory and of the SSD that is set aside for [`Class::Meta`](crate::Class::Meta), 0 to 1; default
    /// 0.1. Too low, and reads fetch filters and indexes again and again; too high, and there is less room for data.
    pub meta_share: f64,
    /// The SSD tier; default none.
    pub ssd: Option<SsdOptions>,
}

/// The SSD tier of a [`BlockCache`](crate::BlockCache).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SsdOptions {
    /// A directory, created if it does not exist. One process at a time may use it. The cache keeps to a subdirectory
    /// and a lock file of its own; other files in the directory are never touched.
    pub dir: PathBuf,
    /// Bytes to take on the disk, at least 32 MiB; reserved when the cache is opened. Every GiB also costs about
    /// 4 MiB of memory for its index when blocks are 16 KiB. An entry takes whole pages of 4 KiB.
    pub bytes: u64,
}

/// Why a cache was not opened: something that only the user can mend, such as a directory that another process holds.
///
/// A disk that is full, read-only or broken is not such a thing: the cache then works without its SSD tier, and says
/// so in [`CacheStats::ssd_enabled`](crate::CacheStats::ssd_enabled) and through `tracing`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheError {
    /// What is wrong and what to do, as a sentence.
    pub message: String,
}

impl Default for CacheOptions {
    fn default() -> Self {
        Self { memory_bytes: 256 << 20, meta_share: 0.1, ssd: None }
    }
}

impl CacheOptions {
    /// Refuses what cannot work.
    pub(crate) fn check(&self) -> Result<(), CacheError> {
        if !(0.0..=1.0).contains(&self.meta_share) {
            return Err(CacheError::new(format!(
                "the cache's meta_share is {}, but it is a part of the whole: choose a number from 0 to 1",
                self.meta_share
            )));
        }
        match &self.ssd {
            Some(ssd) if ssd.bytes < MIN_SSD_BYTES => Err(CacheError::new(format!(
                "an SSD cache of {} bytes in {} is too small to be useful: give it at least {MIN_SSD_BYTES} bytes, \
                 or leave it out",
                ssd.bytes,
                ssd.dir.display()
            ))),
            _ => Ok(()),
        }
    }

    /// Splits `total` bytes of memory into the shares of metadata and of data.
    pub(crate) fn split(&self, total: usize) -> (usize, usize) {
        let meta = ((total as f64 * self.meta_share) as usize).min(total);
        (meta, total - meta)
    }
}

impl CacheError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }
}

impl fmt::Display for CacheError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for CacheError {}
