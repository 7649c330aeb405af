//! Immutable block id to bytes: memory over SSD, the block cache of Esker.
//!
//! It knows nothing of keys, of SSTs or of the object store: bytes under a [`BlockId`] never change, so an entry may
//! be missing but never stale, and nothing is ever invalidated. What it promises:
//!
//! * **A hit in memory is a function call**: [`BlockCache::get`] is synchronous and allocates nothing.
//! * **One fetch** per missing block, however many wait ([`BlockCache::get_or_fetch`]).
//! * **Never wrong bytes.** Every entry on the SSD carries an XXH3-64 seeded with its id, verified on every read.
//! * **Never an error on the way of a read.** A fault of the SSD is counted and is a miss; an SSD that is full,
//!   read-only or broken leaves a cache in memory.
//! * **It survives a restart**: what is on the SSD is there again after [`BlockCache::open`].
//! * **More fits than fits**: what is cold is made smaller before it is evicted, if somebody says how
//!   ([`BlockCache::squeeze_with`]).
//! * **Metadata outlives data**: each [`Class`] has its own share of both tiers.
//!
//! ```
//! use std::convert::Infallible;
//! use bytes::Bytes;
//! use esker_cache::{BlockCache, BlockId, Class};
//!
//! # futures::executor::block_on(async {
//! let cache = BlockCache::in_memory(64 << 20);
//! let id = BlockId { object: 7, offset: 4096 };
//! let fetch = || async { Ok::<_, Infallible>(Bytes::from_static(b"from far away")) };
//! assert_eq!(cache.get_or_fetch(id, Class::Data, fetch).await.unwrap(), "from far away");
//! assert_eq!(cache.get(&id, Class::Data).unwrap(), "from far away");
//! # });
//! ```
//!
//! ```text
//! lib ── flight      one fetch per block
//!     ── memory ── shard      budget, S3-FIFO
//!     ── ssd ── entry, directory      foyer, checksums, the lock
//!     ── id, options, stats
//! ```

use std::{
    future::Future,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use bytes::Bytes;
use futures::FutureExt;

mod directory;
mod entry;
mod flight;
mod id;
mod memory;
mod objects;
mod options;
mod shard;
mod ssd;
mod stats;
pub mod testing;
#[cfg(test)]
mod tests;

use crate::{
    directory::Refusal,
    flight::{Boarding, FlightKey, Flights},
    memory::MemoryTier,
    objects::Objects,
    ssd::Ssd,
    stats::Counters,
};
pub use crate::{
    id::{BlockId, Class},
    objects::CachedObject,
    options::{CacheError, CacheOptions, Squeeze, SsdOptions},
    stats::CacheStats,
};

/// Blocks by id, in memory and on an SSD. Cheap to clone; clones share everything.
///
/// Dropped without [`close`](Self::close), it loses what was not yet written to the SSD, and nothing else.
#[derive(Debug, Clone)]
pub struct BlockCache {
    core: Arc<Core>,
}

#[derive(Debug)]
struct Core {
    meta: MemoryTier,
    data: MemoryTier,
    objects: Arc<Objects>,
    ssd: Option<Ssd>,
    flights: Arc<Flights>,
    counters: Counters,
}

impl BlockCache {
    /// Opens a cache. With an SSD tier its index is read back, about a second for 100 GiB.
    ///
    /// Fails only for what the user must mend: options that make no sense, a path that is not a directory, a
    /// directory that another cache holds. A disk that is full, read-only or broken is not a failure: the cache
    /// works without its SSD tier, warns once, and says so in [`stats`](Self::stats).
    pub async fn open(options: CacheOptions) -> Result<BlockCache, CacheError> {
        options.check()?;
        let counters = Counters::default();
        let ssd = match Ssd::open(&options).await {
            Ok(ssd) => ssd,
            Err(Refusal::Mend(error)) => return Err(error),
            Err(Refusal::Without(reason)) => {
                counters.open_faults.fetch_add(1, Relaxed);
                tracing::warn!(reason, "the cache works without its SSD tier");
                None
            }
        };
        Ok(Self::assemble(&options, ssd, counters))
    }

    /// A cache of `memory_bytes` without an SSD tier. Needs no runtime, neither here nor later.
    pub fn in_memory(memory_bytes: usize) -> BlockCache {
        let options = CacheOptions { memory_bytes, ..CacheOptions::default() };
        Self::assemble(&options, None, Counters::default())
    }

    /// Lets the memory tier make data smaller before it evicts it: of [`Class::Data`], what is inserted from now on and
    /// is not asked for. Whoever reads the cache must then know both forms. Set once; the first one stays.
    pub fn squeeze_with(&self, squeeze: Squeeze) {
        self.core.data.squeeze_with(squeeze);
    }

    /// Says that the blocks of `object` (of [`BlockId::object`]) are read, until what this returns is dropped. Once nobody
    /// says so any more they are the first to leave memory. What was never announced ages as all does.
    #[must_use]
    pub fn object(&self, object: u128) -> CachedObject {
        self.core.objects.used(object)
    }

    /// The bytes of `id`, if they are in memory. Synchronous and without allocation: the hot path.
    pub fn get(&self, id: &BlockId, class: Class) -> Option<Bytes> {
        self.core.memory(class).get(id)
    }

    /// The bytes of `id`, if they are in memory: neither counted, nor a use of them.
    pub fn peek(&self, id: &BlockId, class: Class) -> Option<Bytes> {
        self.core.memory(class).peek(id)
    }

    /// The bytes of `id` from memory, else from the SSD (checksum verified), else by `fetch`.
    ///
    /// However many callers wait for one id, it is fetched once. A fetch that fails fails all its waiters with a
    /// clone of its error and leaves nothing behind: the next call fetches again. A caller that is cancelled does not
    /// disturb the others; when all are, the fetch is dropped. `fetch` may be called and its future dropped unpolled,
    /// if the bytes turn up meanwhile. A deadline is the caller's to set, around the whole or within `fetch`.
    pub async fn get_or_fetch<E, F, Fut>(&self, id: BlockId, class: Class, fetch: F) -> Result<Bytes, E>
    where
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = Result<Bytes, E>> + Send + 'static,
        E: Clone + Send + Sync + 'static,
    {
        let core = &self.core;
        if let Some(bytes) = core.memory(class).get(&id) {
            return Ok(bytes);
        }
        let key = FlightKey::new::<E>(id, class);
        let seat = match core.flights.join(key) {
            Some(seat) => {
                core.counters.joined.fetch_add(1, Relaxed);
                seat
            }
            None => {
                let serial = core.flights.next_serial();
                let flight = core.clone().fly(id, class, key, serial, fetch()).boxed();
                match core.flights.board(key, serial, flight, || core.memory(class).get_again(&id)) {
                    Boarding::Seat(seat) => seat,
                    Boarding::Here(bytes) => return Ok(bytes),
                }
            }
        };
        seat.await
    }

    /// The bytes of `id` from memory or SSD, never by a fetch: for callers that gather several misses into one
    /// request.
    pub async fn lookup(&self, id: BlockId, class: Class) -> Option<Bytes> {
        if let Some(bytes) = self.core.memory(class).get(&id) {
            return Some(bytes);
        }
        self.core.load(id, class).await
    }

    /// Puts bytes in memory, and on the SSD soon. Never waits; an SSD that cannot keep up is counted in
    /// [`CacheStats::ssd_dropped`].
    ///
    /// Bytes too long for the SSD tier stay in memory; bytes larger than the memory tier are not kept. A slice of a
    /// larger buffer keeps the whole buffer in memory, which is not counted: copy it first.
    pub fn insert(&self, id: BlockId, class: Class, bytes: Bytes) {
        self.core.counters.inserts.fetch_add(1, Relaxed);
        self.core.keep(id, class, bytes, false);
    }

    /// The same of what is known to be asked for (it was, under another name): it stays as long as what was asked for here,
    /// and need not prove itself first.
    pub fn insert_known(&self, id: BlockId, class: Class, bytes: Bytes) {
        self.core.counters.inserts.fetch_add(1, Relaxed);
        self.core.keep(id, class, bytes, true);
    }

    /// Memory for blocks of `class`, in bytes.
    pub fn memory_budget(&self, class: Class) -> usize {
        self.core.memory(class).budget()
    }

    /// Whether `id` is in memory or (barring damage, and ids of the same hash) on the SSD. Counts nothing.
    pub fn contains(&self, id: &BlockId, class: Class) -> bool {
        self.core.memory(class).contains(id)
            || self.core.ssd.as_ref().is_some_and(|ssd| ssd.contains(id, class))
    }

    /// What the cache did since it was opened.
    pub fn stats(&self) -> CacheStats {
        self.core.stats()
    }

    /// Writes what is pending to the SSD and releases the directory. The memory tier goes on working.
    pub async fn close(&self) {
        if let Some(ssd) = &self.core.ssd {
            ssd.close().await;
        }
    }

    fn assemble(options: &CacheOptions, ssd: Option<Ssd>, counters: Counters) -> Self {
        let (meta, data) = options.split(options.memory_bytes);
        let objects = Arc::<Objects>::default();
        Self {
            core: Arc::new(Core {
                meta: MemoryTier::new(meta, Arc::clone(&objects)),
                data: MemoryTier::new(data, Arc::clone(&objects)),
                objects,
                ssd,
                flights: Arc::default(),
                counters,
            }),
        }
    }
}

impl Core {
    /// One flight: SSD, then `fetch`, then into the cache, and only then can the next one start.
    async fn fly<E>(
        self: Arc<Self>,
        id: BlockId,
        class: Class,
        key: FlightKey,
        serial: u64,
        fetch: impl Future<Output = Result<Bytes, E>> + Send,
    ) -> Result<Bytes, E> {
        let landed = match self.load(id, class).await {
            Some(bytes) => Ok(bytes),
            None => {
                self.counters.fetches.fetch_add(1, Relaxed);
                let fetched = fetch.await;
                match &fetched {
                    Ok(bytes) => {
                        self.counters.fetched_bytes.fetch_add(bytes.len() as u64, Relaxed);
                        self.keep(id, class, bytes.clone(), false);
                    }
                    Err(_) => {
                        self.counters.failed_fetches.fetch_add(1, Relaxed);
                    }
                }
                fetched
            }
        };
        self.flights.land(&key, serial);
        landed
    }

    /// From the SSD, and into memory.
    async fn load(&self, id: BlockId, class: Class) -> Option<Bytes> {
        let bytes = self.ssd.as_ref()?.load(id, class).await?;
        self.memory(class).insert(id, bytes.clone(), false);
        Some(bytes)
    }

    fn keep(&self, id: BlockId, class: Class, bytes: Bytes, known: bool) {
        if let Some(ssd) = &self.ssd {
            ssd.offer(id, class, bytes.clone());
        }
        self.memory(class).insert(id, bytes, known);
    }

    fn memory(&self, class: Class) -> &MemoryTier {
        match class {
            Class::Meta => &self.meta,
            Class::Data => &self.data,
        }
    }

    fn stats(&self) -> CacheStats {
        let mut stats = CacheStats::default();
        for tier in [&self.meta, &self.data] {
            let (hits, misses) = tier.lookups();
            stats.memory_hits += hits;
            stats.memory_misses += misses;
            stats.memory_bytes += tier.bytes() as u64;
        }
        (stats.squeezed, stats.squeezed_bytes) = self.data.squeezed();
        self.counters.write_into(&mut stats);
        if let Some(ssd) = &self.ssd {
            ssd.write_into(&mut stats);
        }
        stats
    }
}
