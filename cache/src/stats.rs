//! What the cache did, in numbers.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counters of a [`BlockCache`](crate::BlockCache) since it was opened, and its present size.
///
/// Every lookup counts one hit or one miss in memory, whichever method made it. A lookup that missed memory and went
/// on counts one hit or one miss on the SSD, if there is one, unless it joined another caller's fetch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Lookups answered from memory.
    pub memory_hits: u64,
    /// Lookups not answered from memory.
    pub memory_misses: u64,
    /// Lookups answered from the SSD, checksum verified.
    pub ssd_hits: u64,
    /// Lookups that the SSD could not answer, faults included.
    pub ssd_misses: u64,
    /// Reads and writes of the SSD that failed: I/O errors, checksums that did not match, entries that did not
    /// arrive on the disk, a tier that could not be opened.
    pub ssd_faults: u64,
    /// Entries handed to the SSD tier to be written.
    pub ssd_writes: u64,
    /// Entries not written to the SSD because it could not keep up, or was resting after faults. They are still in
    /// memory.
    pub ssd_dropped: u64,
    /// Fetches started: the `fetch` of [`get_or_fetch`](crate::BlockCache::get_or_fetch) was really awaited.
    pub fetches: u64,
    /// Fetches that failed.
    pub failed_fetches: u64,
    /// Bytes that fetches brought.
    pub fetched_bytes: u64,
    /// Callers that waited for a fetch that was already under way.
    pub joined: u64,
    /// Calls of [`insert`](crate::BlockCache::insert) and [`insert_known`](crate::BlockCache::insert_known).
    pub inserts: u64,
    /// Entries made smaller in memory instead of evicting one: see [`squeeze_with`](crate::BlockCache::squeeze_with).
    pub squeezed: u64,
    /// Bytes of memory that this freed.
    pub squeezed_bytes: u64,
    /// Bytes in memory now, bookkeeping included; never above [`CacheOptions::memory_bytes`](crate::CacheOptions).
    pub memory_bytes: u64,
    /// Bytes reserved on the SSD; 0 without that tier.
    pub ssd_bytes: u64,
    /// Whether there is an SSD tier and it is open.
    pub ssd_enabled: bool,
}

/// The live counters that belong to no single tier.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) fetches: AtomicU64,
    pub(crate) failed_fetches: AtomicU64,
    pub(crate) fetched_bytes: AtomicU64,
    pub(crate) joined: AtomicU64,
    pub(crate) inserts: AtomicU64,
    /// Faults met before there was an SSD tier to count them: it could not be opened.
    pub(crate) open_faults: AtomicU64,
}

impl Counters {
    /// Copies the counters into `stats`.
    pub(crate) fn write_into(&self, stats: &mut CacheStats) {
        stats.fetches = self.fetches.load(Relaxed);
        stats.failed_fetches = self.failed_fetches.load(Relaxed);
        stats.fetched_bytes = self.fetched_bytes.load(Relaxed);
        stats.joined = self.joined.load(Relaxed);
        stats.inserts = self.inserts.load(Relaxed);
        stats.ssd_faults += self.open_faults.load(Relaxed);
    }
}
