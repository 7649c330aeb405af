//! The SSD tier: foyer's disk engine, twice, once for metadata and once for data.
//!
//! Entries are written when they are inserted, not when memory evicts them: after a restart the cache should know
//! what it knew, and eviction comes too late for that (with memory not full it never comes). What it costs, writing
//! entries that memory would have served anyway, is sequential bandwidth of the SSD. Entries read from a block that
//! foyer is about to recycle are written again, so that what is in use outlives foyer's first-in-first-out.
//!
//! Of foyer's hybrid cache only the disk engine (`Store`) is used. Its memory cache makes the records that the
//! engine takes, and holds none.
//!
//! Always true: bytes that come from here match their checksum, seeded by their id; whatever goes wrong is counted
//! and is a miss; foyer's tasks and disk reads run on threads of the tier's own, so that any executor may wait for
//! them, and end with it. (They hold each other alive; only the end of their runtime ends them.)

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use foyer::{
    Age, BlockEngineConfig, DeviceBuilder, FsDeviceBuilder, HybridCache, HybridCacheBuilder,
    HybridCachePolicy, HybridCacheProperties, Load, Location, PsyncIoEngineConfig, RecoverMode, Spawner,
};
use parking_lot::Mutex;
use tokio::runtime::Runtime;

use crate::{
    directory::{Directory, Extent, Refusal},
    entry::{Ledger, SsdEntry, footprint},
    id::{BlockId, Class, IdHash},
    options::CacheOptions,
    stats::CacheStats,
};

/// foyer writes an index of this size, in bytes, before every 170 entries.
const INDEX_BYTES: usize = 4096;

/// After a write that failed, so many entries are not written; twice as many after the next, up to the maximum.
const FIRST_REST: u64 = 256;
const LONGEST_REST: u64 = 1 << 20;

/// Metadata gets at least this part of the SSD, and so does data: a tier needs a few blocks to work at all.
const LEAST_SHARE: f64 = 0.05;

/// Both SSD tiers and what they stand on.
#[derive(Debug)]
pub(crate) struct Ssd {
    meta: SsdTier,
    data: SsdTier,
    bytes: u64,
    open: AtomicBool,
    runtime: Mutex<Option<Runtime>>,
    directory: Mutex<Option<Directory>>,
}

/// The SSD tier of one class.
#[derive(Debug)]
pub(crate) struct SsdTier {
    foyer: HybridCache<BlockId, SsdEntry, IdHash>,
    pub(crate) ledger: Arc<Ledger>,
    /// The longest entry that fits, framed.
    longest: usize,
    hits: AtomicU64,
    misses: AtomicU64,
    faults: AtomicU64,
    /// Writes still to be left out after faults.
    rest: AtomicU64,
    /// Writes found to have failed, one after another.
    streak: AtomicU32,
}

/// The sizes of one tier, in bytes.
#[derive(Debug, Clone, Copy)]
struct Shape {
    extent: Extent,
    /// What may be on its way to the disk, and the size of each of foyer's two write buffers.
    buffer: usize,
}

impl Ssd {
    /// Opens the tier that `options` ask for; `None` if they ask for none.
    pub(crate) async fn open(options: &CacheOptions) -> Result<Option<Self>, Refusal> {
        let Some(ssd) = options.ssd.clone() else { return Ok(None) };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(32)
            .thread_name("esker-cache")
            .build()
            .map_err(|e| Refusal::Without(format!("the threads of the SSD cache cannot be started: {e}")))?;
        // From here on the runtime ends with this value, on every way out. Dropping it plainly would block.
        let runtime = Background(Some(runtime));

        let (meta, data) = shapes(options, ssd.bytes);
        let opening =
            runtime.get().spawn_blocking(move || Directory::open(&ssd.dir, meta.extent, data.extent));
        let directory =
            opening.await.map_err(|e| Refusal::Without(format!("opening the SSD cache failed: {e}")))??;

        let opened = match SsdTier::open(runtime.get(), &directory.meta(), meta).await {
            Ok(opened) => {
                SsdTier::open(runtime.get(), &directory.data(), data).await.map(|data| (opened, data))
            }
            Err(e) => Err(e),
        };
        let (meta_tier, data_tier) = opened.map_err(|e| {
            directory.wipe();
            Refusal::Without(format!("the files of the SSD cache cannot be used, and were deleted: {e}"))
        })?;
        Ok(Some(Self {
            meta: meta_tier,
            data: data_tier,
            bytes: meta.extent.bytes() + data.extent.bytes(),
            open: AtomicBool::new(true),
            runtime: Mutex::new(runtime.keep()),
            directory: Mutex::new(Some(directory)),
        }))
    }

    /// The bytes of `id`, verified; any fault is a miss. May wait as long as the disk does.
    pub(crate) async fn load(&self, id: BlockId, class: Class) -> Option<Bytes> {
        if !self.open.load(Relaxed) {
            return None;
        }
        self.tier(class).load(id).await
    }

    /// Writes an entry soon, unless it is there, too long, or the disk cannot keep up.
    pub(crate) fn offer(&self, id: BlockId, class: Class, bytes: Bytes) {
        if self.open.load(Relaxed) {
            self.tier(class).offer(id, bytes, false);
        }
    }

    /// Whether `id` seems to be here. Another id of the same hash would do.
    pub(crate) fn contains(&self, id: &BlockId, class: Class) -> bool {
        self.open.load(Relaxed) && self.tier(class).foyer.storage().may_contains(id)
    }

    /// Writes what is pending and releases the directory. Waits as long as the disk does.
    pub(crate) async fn close(&self) {
        if !self.open.swap(false, Relaxed) {
            return;
        }
        for tier in [&self.meta, &self.data] {
            if let Err(e) = tier.foyer.close().await {
                tier.faults.fetch_add(1, Relaxed);
                tracing::warn!(error = %e, "the SSD cache was not written to its end");
            }
            tier.settle();
        }
        let runtime = self.runtime.lock().take();
        if let Some(runtime) = runtime {
            runtime.shutdown_background();
        }
        drop(self.directory.lock().take());
    }

    /// Adds the tiers' counters to `stats`.
    pub(crate) fn write_into(&self, stats: &mut CacheStats) {
        for tier in [&self.meta, &self.data] {
            stats.ssd_hits += tier.hits.load(Relaxed);
            stats.ssd_misses += tier.misses.load(Relaxed);
            stats.ssd_faults += tier.faults.load(Relaxed);
            stats.ssd_writes += tier.ledger.accepted.load(Relaxed);
            stats.ssd_dropped += tier.ledger.dropped.load(Relaxed);
        }
        stats.ssd_enabled = self.open.load(Relaxed);
        stats.ssd_bytes = if stats.ssd_enabled { self.bytes } else { 0 };
    }

    pub(crate) fn tier(&self, class: Class) -> &SsdTier {
        match class {
            Class::Meta => &self.meta,
            Class::Data => &self.data,
        }
    }
}

impl Drop for Ssd {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.get_mut().take() {
            runtime.shutdown_background();
        }
    }
}

impl SsdTier {
    /// Opens the tier in `dir` and reads back the index of what is there. On the tier's runtime, so that a panic in
    /// foyer over bytes it did not expect is an error here.
    async fn open(runtime: &Runtime, dir: &Path, shape: Shape) -> Result<Self, String> {
        let (dir, spawner) = (dir.to_owned(), Spawner::from(runtime.handle().clone()));
        let opening = runtime.spawn(async move {
            let capacity = usize::try_from(shape.extent.bytes()).map_err(|e| e.to_string())?;
            let block_bytes = usize::try_from(shape.extent.block_bytes).map_err(|e| e.to_string())?;
            let device =
                FsDeviceBuilder::new(dir).with_capacity(capacity).build().map_err(|e| e.to_string())?;
            let engine = BlockEngineConfig::new(device)
                .with_block_size(block_bytes)
                .with_blob_index_size(INDEX_BYTES)
                // One flusher: each has its own buffers, and one keeps an SSD busy.
                .with_flushers(1)
                .with_buffer_pool_size(shape.buffer)
                // The ledger is the bound; this one would drop without a word.
                .with_submit_queue_size_threshold(usize::MAX)
                .with_clean_block_threshold(2);
            HybridCacheBuilder::new()
                .with_name("esker-cache")
                .with_policy(HybridCachePolicy::WriteOnInsertion)
                .with_flush_on_close(false)
                .memory(16)
                .with_shards(16)
                .with_hash_builder(IdHash::default())
                .storage()
                .with_io_engine_config(PsyncIoEngineConfig::new())
                .with_engine_config(engine)
                .with_recover_mode(RecoverMode::Quiet)
                .with_spawner(spawner)
                .build()
                .await
                .map_err(|e| e.to_string())
        });
        let foyer = opening.await.map_err(|e| e.to_string())??;
        Ok(Self {
            foyer,
            ledger: Ledger::new(shape.buffer),
            longest: shape.longest(),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            rest: AtomicU64::new(0),
            streak: AtomicU32::new(0),
        })
    }

    async fn load(&self, id: BlockId) -> Option<Bytes> {
        if !self.foyer.storage().may_contains(&id) {
            self.misses.fetch_add(1, Relaxed);
            return None;
        }
        let found = match self.foyer.storage().load(&id).await {
            Ok(Load::Entry { value, populated, .. }) => {
                let found = value.verified(&id).ok_or_else(|| "its checksum does not match".to_owned());
                if let Ok(bytes) = &found
                    && populated.age == Age::Old
                {
                    self.offer(id, bytes.clone(), true);
                }
                found.map(Some)
            }
            Ok(Load::Piece { piece, .. }) => piece
                .value()
                .verified(&id)
                .ok_or_else(|| "its checksum does not match in memory".to_owned())
                .map(Some),
            Ok(Load::Throttled) => Ok(None),
            // foyer knew the entry a moment ago, and has found and forgotten that it is damaged.
            Ok(Load::Miss) => Err("it is damaged".to_owned()),
            Err(e) => Err(e.to_string()),
        };
        match found {
            Ok(Some(bytes)) => {
                self.hits.fetch_add(1, Relaxed);
                Some(bytes)
            }
            Ok(None) => {
                self.misses.fetch_add(1, Relaxed);
                None
            }
            Err(reason) => {
                tracing::debug!(?id, reason, "an entry of the SSD cache cannot be used");
                self.misses.fetch_add(1, Relaxed);
                self.faults.fetch_add(1, Relaxed);
                // Forgotten, so that the bytes fetched in its place are written.
                self.foyer.storage().delete(&id);
                None
            }
        }
    }

    /// Writes an entry soon; `again` even if it is here already.
    fn offer(&self, id: BlockId, bytes: Bytes, again: bool) {
        self.settle();
        if footprint(bytes.len()) > self.longest || (!again && self.foyer.storage().may_contains(&id)) {
            return;
        }
        if self.rest.fetch_update(Relaxed, Relaxed, |rest| rest.checked_sub(1)).is_ok() {
            self.ledger.dropped.fetch_add(1, Relaxed);
            return;
        }
        let Some(ticket) = self.ledger.ticket(id, bytes.len()) else { return };
        let record = self.foyer.memory().insert_with_properties(
            id,
            SsdEntry::new(&id, bytes, ticket),
            // Not to be kept in that memory cache, only made there.
            HybridCacheProperties::default().with_location(Location::OnDisk),
        );
        self.foyer.storage().enqueue(record.piece(), true);
    }

    /// Looks whether what left the write queue is on the SSD. foyer says of a write that failed only in its log.
    fn settle(&self) {
        let settled = self.ledger.take_settled();
        if settled.is_empty() {
            return;
        }
        let lost = settled.iter().filter(|id| !self.foyer.storage().may_contains(*id)).count() as u64;
        if lost == 0 {
            self.streak.store(0, Relaxed);
            return;
        }
        self.faults.fetch_add(lost, Relaxed);
        let streak = self.streak.fetch_add(1, Relaxed);
        self.rest.store((FIRST_REST << streak.min(32)).min(LONGEST_REST), Relaxed);
        if streak == 0 {
            tracing::warn!(lost, "the SSD cache cannot be written to; it is left alone for a while");
        }
    }
}

impl Shape {
    fn of(bytes: u64, buffer: usize) -> Self {
        // 64 blocks, of 256 KiB to 2 GiB: foyer recycles block by block, has a file open for each, and addresses
        // bytes in one by 32 bits.
        let block_bytes = (bytes / 64 / 4096 * 4096).clamp(256 << 10, 2 << 30);
        let quarter = usize::try_from(bytes / 4).unwrap_or(usize::MAX);
        let buffer = buffer.min(quarter).max(256 << 10) / 4096 * 4096;
        Self { extent: Extent { blocks: bytes / block_bytes, block_bytes }, buffer }
    }

    fn longest(&self) -> usize {
        usize::try_from(self.extent.block_bytes)
            .unwrap_or(usize::MAX)
            .saturating_sub(INDEX_BYTES)
            .min(self.buffer)
    }
}

impl Extent {
    fn bytes(&self) -> u64 {
        self.blocks * self.block_bytes
    }
}

/// A runtime that ends without being waited for.
struct Background(Option<Runtime>);

impl Background {
    fn get(&self) -> &Runtime {
        self.0.as_ref().expect("taken only by keep, which consumes it")
    }
    fn keep(mut self) -> Option<Runtime> {
        self.0.take()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Divides `bytes` of the SSD and the write buffers between metadata and data.
fn shapes(options: &CacheOptions, bytes: u64) -> (Shape, Shape) {
    let meta = (bytes as f64 * options.meta_share.clamp(LEAST_SHARE, 1.0 - LEAST_SHARE)) as u64;
    let buffer = (options.memory_bytes / 8).clamp(4 << 20, 64 << 20);
    (Shape::of(meta, buffer / 2), Shape::of(bytes - meta, buffer))
}
