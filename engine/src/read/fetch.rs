//! Brings missing bytes: memory, then SSD, then one ranged GET; all misses of a round in parallel.
//!
//! ```text
//! tail   cache(Meta, offset of the tail)   ─ miss → GET tail_offset..end    → decoded, pinned to its SST
//! block  cache(Data, offset of the block)  ─ miss → GET, neighbours together → verified, decompressed
//! ```
//!
//! The cache holds blocks as they are searched (verified and decompressed; those that grew cold in memory packed, see
//! [`pack`]), and tails as they are stored, under the SST's own 128-bit name ([`SstCache`]).
//!
//! Always true: a tail, or a block that is missed alone or as the first of few, is one request however many wait for it (what
//! else a scan fetches ahead is not shared with others); a round is as long as its slowest request, not as their sum; a failed
//! fetch leaves nothing behind.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use esker_cache::{BlockCache, Class};
use futures::future::{BoxFuture, FutureExt, try_join_all};

use super::{
    distance::Distance,
    keeper::{Hold, Keeper},
    tails::PinnedTails,
};
use crate::{
    block::{Block, pack},
    chaos,
    clock::on_cpu,
    error::{Error, ErrorKind, Result},
    manifest::{Manifest, View},
    memory::Memory,
    merge::{BlockSource, Missing},
    sst::{BlockRef, OpenSst, SstCache, Tail, reader::decode_block},
    stats::Cause,
    store::{Name, ObjectId, Store, is_missing},
};

/// Tails that stay pinned unless [`Fetcher::pin_tails`] says otherwise, in bytes.
const PINNED_TAIL_BYTES: usize = 64 << 20;

/// What all scans together may hold beyond their least, unless [`Fetcher::charging`] says otherwise, in bytes.
pub(super) const SCAN_BYTES: usize = 128 << 20;

/// More blocks than this are decoded on the CPU pool rather than between two polls.
const DECODE_HERE: usize = 8;

/// So many blocks of one SST, or fewer, are brought for all who wait for the first of them.
const FEW: usize = 4;

/// Shared by all reads of a handle. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Fetcher(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    store: Store,
    distance: Distance,
    cache: SstCache,
    tails: PinnedTails,
    tail_limit: AtomicUsize,
    /// Where to ask which version is the latest; set once, by whoever has one.
    manifest: OnceLock<Manifest>,
    /// What keeps versions that long reads are at; set once, by whoever reads what may be collected.
    keeper: OnceLock<Keeper>,
    /// What scans hold is charged to this; a sum of its own unless set.
    memory: OnceLock<Arc<Memory>>,
}

/// What was missing and is here now.
#[derive(Debug, Clone)]
pub enum Fetched {
    /// For [`Missing::Tail`].
    Tail(Arc<Tail>),
    /// For [`Missing::Block`].
    Block(Block),
}

/// A block that is wanted: its index, and its place in the answer.
type Wanted = (usize, usize);

/// What has been fetched, at its place in the answer.
type Placed = (usize, Fetched);

impl Fetcher {
    /// Fetches for the database `db_uuid` in `store`, through `cache`.
    pub fn new(store: Store, cache: BlockCache, db_uuid: u128) -> Self {
        let tail_limit = AtomicUsize::new(PINNED_TAIL_BYTES);
        let (manifest, keeper, memory) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        let tails = PinnedTails::default();
        cache.squeeze_with(pack);
        let cache = SstCache::new(cache, db_uuid);
        let distance = Distance::default();
        Self(Arc::new(Shared { store, distance, cache, tails, tail_limit, manifest, keeper, memory }))
    }

    /// Keeps at most `bytes` of tails decoded and pinned (64 MiB unless set; a quarter of the cache is
    /// a good value). Too little and point reads decode a filter each; more than the SSTs have is unused.
    #[must_use]
    pub fn pin_tails(self, bytes: usize) -> Self {
        self.0.tail_limit.store(bytes, Relaxed);
        self
    }

    /// Lets reads that find an SST gone ask `manifest` whether it was collected or lost.
    #[must_use]
    pub fn asks(self, manifest: Manifest) -> Self {
        // The first one stays: a fetcher is of one database.
        let _ = self.0.manifest.set(manifest);
        self
    }

    /// Lets long reads pin the versions of `manifest` that they are at, so that they are not collected. Starts a
    /// task on the caller's runtime, which sends nothing as long as reads are short.
    #[must_use]
    pub fn keeps(self, manifest: Manifest) -> Self {
        self.0.keeper.get_or_init(|| Keeper::start(manifest));
        self
    }

    /// Charges what scans hold to `memory`.
    #[must_use]
    pub fn charging(self, memory: Arc<Memory>) -> Self {
        // The first one stays: what is charged to it is given back to it.
        let _ = self.0.memory.set(memory);
        self
    }

    /// What scans hold is charged to this.
    pub fn memory(&self) -> &Arc<Memory> {
        self.0.memory.get_or_init(|| Memory::of_one_use(SCAN_BYTES))
    }

    /// A hold on `view`, for a read that may be long; `None` if there is nothing to keep, or nobody to keep it.
    pub(super) fn hold(&self, view: &Arc<View>) -> Option<Arc<Hold>> {
        self.0.keeper.get()?.hold(view)
    }

    /// For a handle that is closed: waits (for some seconds at most) until pins that no read needs any more are
    /// released, and what the cache has pending is on its disk. Reads go on.
    pub async fn close(&self) {
        if let Some(keeper) = self.0.keeper.get() {
            keeper.drain().await;
        }
        self.0.cache.cache().close().await;
    }

    /// The cache.
    pub fn cache(&self) -> &BlockCache {
        self.0.cache.cache()
    }

    /// The same, as those who build SSTs need it.
    pub fn sst_cache(&self) -> &SstCache {
        &self.0.cache
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// Whether it takes long to bring a little.
    pub(super) fn is_far(&self) -> bool {
        self.0.distance.is_far()
    }

    /// Memory held by pinned tails, in bytes.
    pub fn tail_bytes(&self) -> usize {
        self.0.tails.bytes()
    }

    /// Puts a block that was fetched into the cache.
    fn warm(&self, sst: &OpenSst, place: BlockRef, block: &Block) {
        self.cache().insert(self.0.cache.block_id(sst, place.offset), Class::Data, as_cached(block));
    }

    /// Fetches all of `missing` in one parallel round (blocks of one SST in as few requests as their
    /// places allow), in the order asked. Fails as the store does; for an object that is gone
    /// [`is_missing`] holds of the error.
    pub async fn fetch(&self, missing: &[Missing], cause: Cause) -> Result<Vec<Fetched>> {
        // Ordered, so that the same reads send the same requests in the same order.
        let mut blocks: BTreeMap<ObjectId, (&Arc<OpenSst>, Vec<Wanted>)> = BTreeMap::new();
        let mut round: Vec<BoxFuture<'_, Result<Vec<Placed>>>> = Vec::new();
        for (at, one) in missing.iter().enumerate() {
            match one {
                Missing::Tail(sst) => {
                    round.push(
                        async move { Ok(vec![(at, Fetched::Tail(self.fetch_tail(sst, cause).await?))]) }
                            .boxed(),
                    );
                }
                Missing::Block(sst, index) => {
                    blocks.entry(sst.id).or_insert_with(|| (sst, Vec::new())).1.push((*index, at));
                }
            }
        }
        for (_, (sst, wanted)) in blocks {
            round.push(self.fetch_blocks(sst, wanted, cause).boxed());
        }
        let mut fetched: Vec<_> = try_join_all(round).await?.into_iter().flatten().collect();
        fetched.sort_unstable_by_key(|(at, _)| *at);
        Ok(fetched.into_iter().map(|(_, one)| one).collect())
    }

    /// For reads that hold a version which may have been superseded: an object that is gone means that the
    /// version has been collected, unless the latest version still names it; then the store has lost it.
    pub(super) async fn expired(&self, error: Error) -> Error {
        if !is_missing(&error) {
            return error;
        }
        let object = error.object().unwrap_or("an object").to_owned();
        if let Some(manifest) = self.0.manifest.get()
            && let Ok(latest) = manifest.latest(Cause::Read).await
            && latest.root.ssts().any(|sst| Name::Sst(sst.object_id()).path() == object)
        {
            return Error::new(
                ErrorKind::Corruption,
                "an SST is missing although the latest version names it",
            )
            .on(object)
            .hint("the store has lost it, or somebody deleted it; `esker verify` says what else is missing")
            .because(error);
        }
        Error::new(ErrorKind::SnapshotExpired, "what this snapshot was reading has been collected")
            .on(object)
            .hint("start again from a new snapshot; if that fails at once, `esker verify` says what the store has lost")
            .because(error)
    }

    /// The tail of `sst`: pinned already, cached, or fetched; then pinned.
    async fn fetch_tail(&self, sst: &Arc<OpenSst>, cause: Cause) -> Result<Arc<Tail>> {
        if let Some(tail) = sst.tail.load_full() {
            return Ok(tail);
        }
        let name = Name::Sst(sst.id);
        let range = sst.meta.tail_offset..sst.meta.bytes;
        let id = self.0.cache.block_id(sst, range.start);
        let store = self.0.store.clone();
        let fresh = Arc::new(OnceLock::new());
        let (decoded, owner) = (Arc::clone(&fresh), Arc::clone(sst));
        // Decoded before the cache keeps it, so that nothing that does not check is ever in there.
        let fetch = || async move {
            let read = || async {
                let bytes = store.get_range(&name, range.clone(), cause).await?;
                let tail = Arc::new(Tail::decode(&owner.meta, bytes.clone())?);
                Ok((bytes, tail))
            };
            let (bytes, tail) = store.reread(&name, read).await?;
            // Set once: a flight is flown once.
            let _ = decoded.set(tail);
            Ok::<_, Error>(bytes)
        };
        let bytes = self.cache().get_or_fetch(id, Class::Meta, fetch).await?;
        let tail = match fresh.get() {
            Some(tail) => Arc::clone(tail),
            None => Arc::new(Tail::decode(&sst.meta, bytes)?),
        };
        self.0.tails.pin(sst, &tail, self.0.tail_limit.load(Relaxed));
        Ok(tail)
    }

    /// Blocks of one SST.
    async fn fetch_blocks(
        &self,
        sst: &Arc<OpenSst>,
        mut wanted: Vec<Wanted>,
        cause: Cause,
    ) -> Result<Vec<Placed>> {
        let tail = self.fetch_tail(sst, cause).await?;
        let mut found = Vec::with_capacity(wanted.len());
        loop {
            // One by itself is looked for by its flight.
            if wanted.len() > 1 {
                wanted = self.look_up(sst, &tail, wanted, &mut found).await?;
            }
            let Some(&(_, at)) = wanted.first() else { return Ok(found) };
            let places: Vec<_> = wanted.iter().map(|(index, _)| tail.block(*index)).collect();
            let ats = wanted.iter().map(|(_, at)| *at);
            if wanted.len() > FEW {
                let blocks = self.read_blocks(sst, &places, cause).await?;
                places.iter().zip(&blocks).for_each(|(place, block)| self.warm(sst, *place, block));
                found.extend(ats.zip(blocks.into_iter().map(Fetched::Block)));
                return Ok(found);
            }
            let (first, behind) = self.fly(sst, places, cause).await?;
            found.push((at, Fetched::Block(first)));
            if let Some(behind) = behind {
                found.extend(ats.skip(1).zip(behind.into_iter().map(Fetched::Block)));
                return Ok(found);
            }
            // Another's flight, which may have brought what lies behind as well.
            wanted.remove(0);
        }
    }

    /// Finds what the cache has of `wanted`; gives the rest.
    async fn look_up(
        &self,
        sst: &OpenSst,
        tail: &Tail,
        wanted: Vec<Wanted>,
        found: &mut Vec<Placed>,
    ) -> Result<Vec<Wanted>> {
        let cached = futures::future::join_all(wanted.iter().map(|(index, _)| {
            self.cache().lookup(self.0.cache.block_id(sst, tail.block(*index).offset), Class::Data)
        }))
        .await;
        let mut absent = Vec::new();
        for ((index, at), bytes) in wanted.into_iter().zip(cached) {
            match bytes {
                Some(bytes) => found.push((at, Fetched::Block(parse(sst, tail.block(index), bytes)?))),
                None => absent.push((index, at)),
            }
        }
        Ok(absent)
    }

    /// The first of few blocks, together with whoever else waits for it; and those behind it, if it is we who brought them.
    async fn fly(
        &self,
        sst: &Arc<OpenSst>,
        places: Vec<BlockRef>,
        cause: Cause,
    ) -> Result<(Block, Option<Vec<Block>>)> {
        let first = places[0];
        let behind = Arc::new(OnceLock::new());
        let (of, owner, brought) = (self.clone(), Arc::clone(sst), Arc::clone(&behind));
        let fetch = || async move {
            let mut blocks = of.read_blocks(&owner, &places, cause).await?;
            let first = as_cached(&blocks.remove(0));
            places[1..].iter().zip(&blocks).for_each(|(place, block)| of.warm(&owner, *place, block));
            // Set once: a flight is flown once.
            let _ = brought.set(blocks);
            Ok::<_, Error>(first)
        };
        let id = self.0.cache.block_id(sst, first.offset);
        let bytes = self.cache().get_or_fetch(id, Class::Data, fetch).await?;
        Ok((parse(sst, first, bytes)?, behind.get().cloned()))
    }

    /// Blocks of one SST, from the store.
    async fn read_blocks(&self, sst: &Arc<OpenSst>, places: &[BlockRef], cause: Cause) -> Result<Vec<Block>> {
        let ranges: Vec<_> = places.iter().map(|place| place_range(*place)).collect();
        let (name, store) = (Name::Sst(sst.id), &self.0.store);
        let read = || async {
            let began = store.clock().monotonic();
            let stored = store.get_ranges(&name, &ranges, cause).await?;
            if places.len() <= FEW {
                self.0.distance.took(store.clock().monotonic().saturating_sub(began));
            }
            decode_all(sst.id, places.to_vec(), stored).await
        };
        store.reread(&name, read).await
    }
}

impl BlockSource for Fetcher {
    /// From the memory tier alone.
    fn block(&self, sst: &Arc<OpenSst>, index: usize) -> Option<Block> {
        if chaos::rare("a cached block is missed") {
            return None;
        }
        let tail = sst.tail.load();
        let place = tail.as_ref()?.block(index);
        let bytes = self.cache().get(&self.0.cache.block_id(sst, place.offset), Class::Data)?;
        // Bytes that do not parse are a miss here; the fetch that follows reports them.
        let block = Block::parse_cached(bytes).ok()?;
        if block.is_packed() {
            chaos::mark("a packed block is read");
        }
        Some(block)
    }

    fn tail(&self, sst: &Arc<OpenSst>) -> Option<Arc<Tail>> {
        let tail = sst.tail.load_full()?;
        touch(sst);
        Some(tail)
    }
}

/// What has been fetched for one read, in front of what the cache has: however small the cache, a read
/// gets to see what it fetched.
#[derive(Debug)]
pub(super) struct Overlay<'a> {
    fetcher: &'a Fetcher,
    tails: HashMap<ObjectId, Arc<Tail>>,
    blocks: HashMap<(ObjectId, usize), Block>,
}

impl<'a> Overlay<'a> {
    pub(super) fn new(fetcher: &'a Fetcher) -> Self {
        Self { fetcher, tails: HashMap::new(), blocks: HashMap::new() }
    }

    /// Fetches `missing` in one round and keeps it.
    pub(super) async fn fetch(&mut self, missing: &[Missing], cause: Cause) -> Result<()> {
        for (one, fetched) in missing.iter().zip(self.fetcher.fetch(missing, cause).await?) {
            match (one, fetched) {
                (Missing::Block(sst, index), Fetched::Block(block)) => {
                    self.blocks.insert((sst.id, *index), block);
                }
                (sst, Fetched::Tail(tail)) => {
                    self.tails.insert(sst.sst().id, tail);
                }
                (Missing::Tail(_), Fetched::Block(_)) => {}
            }
        }
        Ok(())
    }
}

impl BlockSource for Overlay<'_> {
    fn block(&self, sst: &Arc<OpenSst>, index: usize) -> Option<Block> {
        self.blocks.get(&(sst.id, index)).cloned().or_else(|| self.fetcher.block(sst, index))
    }

    fn tail(&self, sst: &Arc<OpenSst>) -> Option<Arc<Tail>> {
        self.tails.get(&sst.id).cloned().or_else(|| self.fetcher.tail(sst))
    }
}

/// Notes that the tail of `sst` is in use, so that the clock spares it.
#[inline]
pub(super) fn touch(sst: &OpenSst) {
    if !sst.touched.load(Relaxed) {
        sst.touched.store(true, Relaxed);
    }
}

/// A block that was fetched, for the cache: as it is, and packed only when it has grown cold there.
fn as_cached(block: &Block) -> Bytes {
    if chaos::rare("a block is packed at once")
        && let Some(packed) = pack(block.bytes())
    {
        return packed;
    }
    block.bytes().clone()
}

/// A block as the cache holds it.
fn parse(sst: &OpenSst, place: BlockRef, bytes: Bytes) -> Result<Block> {
    Block::parse_cached(bytes).map_err(|error| error.at(Name::Sst(sst.id).path(), place.offset))
}

fn place_range(place: BlockRef) -> std::ops::Range<u64> {
    place.offset..place.offset + u64::from(place.bytes)
}

/// Verifies and decompresses blocks, away from the I/O threads if they are many.
async fn decode_all(id: ObjectId, places: Vec<BlockRef>, stored: Vec<Bytes>) -> Result<Vec<Block>> {
    let few = places.len() <= DECODE_HERE;
    let decode = move || {
        places.into_iter().zip(stored).map(|(place, stored)| decode_block(id, place, stored)).collect()
    };
    if few { decode() } else { on_cpu(decode).await? }
}
