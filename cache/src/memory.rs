//! The memory tier: sharded S3-FIFO with one budget in bytes, which squeezes before it evicts.
//!
//! Why not foyer's memory tier, whose SSD tier we use: a hit there takes four shared reference counts beside the
//! lock (record, shards, pipe, bytes), which every core fights for; its budget is split by shard, so that a value
//! larger than a shard overruns it; and its intrusive lists are where its crashes were (foyer #1237, #1284, #1315).
//! Here a hit is one hash, one shared lock, one load and the reference count of the bytes: 45 ns on one slow core
//! where foyer 0.22.6 with S3-FIFO and the same hash takes 165, a miss 31 where it takes 80.
//!
//! Room is made by sweeping out what belongs to objects that nobody reads any more ([`Content::sweep`]); then by squeezing,
//! coldest entries first ([`Content::cold`]), as long as more than a share of the budget is *plain*, which is to say can be
//! squeezed; and else by evicting ([`Content::evict`]). For a newcomer's room that share is an eighth, more than the small
//! queues hold: so a long scan does not make the tier squeeze what it will not be asked for. For one that comes back, having
//! been evicted, it is a sixty-fourth: so all is kept that fits when squeezed. What is asked for again and again is left plain.
//!
//! What is to be squeezed is picked and marked under the lock, squeezed by the inserting thread outside of it, and put back
//! if it is still there: whoever asks meanwhile gets it as it was. An insertion does that until its own bytes fit, no further.
//!
//! Always true: the bytes held never exceed the budget, at no moment, by whatever threads (room is reserved, and
//! made, before an entry goes in); freeing evicted bytes, and squeezing, never happens under a lock.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
};

use bytes::Bytes;
use parking_lot::RwLock;

use crate::{
    id::BlockId,
    objects::Objects,
    options::Squeeze,
    shard::{Content, ENTRY_OVERHEAD, Left},
};

/// A shard is not worth its queues below this share of the budget, in bytes.
const MIN_SHARD_BYTES: usize = 2 << 20;

/// The part of the budget, one in so many, that stays plain for all that newcomers need. More than the small queues'.
const PLAIN_PART: usize = 8;
/// The same for all that those who come back need: the hottest.
const PLAIN_HOT_PART: usize = 64;

/// In how many shards something cold is looked for before an entry is evicted.
const MOST_SHARDS: usize = 8;

/// Bytes by id, in memory, within a budget.
#[derive(Debug)]
pub(crate) struct MemoryTier {
    shards: Box<[Shard]>,
    objects: Arc<Objects>,
    budget: usize,
    /// Bytes held and bytes reserved for entries about to go in.
    used: AtomicUsize,
    /// What entries weigh that may be squeezed.
    plain: AtomicUsize,
    /// The next shard to take from when a shard cannot make room alone.
    hand: AtomicUsize,
    squeeze: OnceLock<Squeeze>,
    squeezed: AtomicU64,
    squeezed_bytes: AtomicU64,
}

/// On cache lines of its own, so that the counters and the lock of one shard do not slow its neighbours.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard {
    content: RwLock<Content>,
    hits: AtomicU64,
    misses: AtomicU64,
}

impl MemoryTier {
    /// A tier that holds at most `budget` bytes, none of them of an object that is gone if it needs the room.
    pub(crate) fn new(budget: usize, objects: Arc<Objects>) -> Self {
        let shards = (budget / MIN_SHARD_BYTES).clamp(1, 64).next_power_of_two();
        Self {
            shards: (0..shards).map(|_| Shard::default()).collect(),
            objects,
            budget,
            used: AtomicUsize::new(0),
            plain: AtomicUsize::new(0),
            hand: AtomicUsize::new(0),
            squeeze: OnceLock::new(),
            squeezed: AtomicU64::new(0),
            squeezed_bytes: AtomicU64::new(0),
        }
    }

    /// Squeezes what is inserted from now on, before evicting it. The first one stays.
    pub(crate) fn squeeze_with(&self, squeeze: Squeeze) {
        let _ = self.squeeze.set(squeeze);
    }

    /// The bytes of `id`, counted as a hit or a miss.
    pub(crate) fn get(&self, id: &BlockId) -> Option<Bytes> {
        let shard = self.shard(id);
        let found = shard.content.read().get(id);
        match &found {
            Some(_) => shard.hits.fetch_add(1, Relaxed),
            None => shard.misses.fetch_add(1, Relaxed),
        };
        found
    }

    /// The bytes of `id`, uncounted: for asking a second time.
    pub(crate) fn get_again(&self, id: &BlockId) -> Option<Bytes> {
        self.shard(id).content.read().get(id)
    }

    /// The same, and it does not count as a use of them either.
    pub(crate) fn peek(&self, id: &BlockId) -> Option<Bytes> {
        self.shard(id).content.read().peek(id)
    }

    /// Whether `id` is here.
    pub(crate) fn contains(&self, id: &BlockId) -> bool {
        self.shard(id).content.read().contains(id)
    }

    /// What may be held.
    pub(crate) fn budget(&self) -> usize {
        self.budget
    }

    /// Takes `bytes` in, squeezing and evicting others for it. Larger than the whole budget, they are not taken. `known`: they
    /// have been asked for before.
    pub(crate) fn insert(&self, id: BlockId, bytes: Bytes, known: bool) {
        let weight = bytes.len().saturating_add(ENTRY_OVERHEAD);
        if weight > self.budget {
            return;
        }
        let shard = self.shard(&id);
        let mut evicted = Vec::new();
        self.used.fetch_add(weight, Relaxed);
        let comes_back = loop {
            let mut content = shard.content.write();
            if content.contains(&id) {
                drop(content);
                self.used.fetch_sub(weight, Relaxed);
                return;
            }
            if self.is_over() {
                self.sweep(&mut content, &mut evicted);
            }
            // The usual case: this shard makes the room, in the same critical section.
            let share = self.budget / self.shards.len();
            let comes_back = known || content.is_ghost(&id);
            while self.is_over()
                && !self.may_squeeze(comes_back)
                && content.bytes() + weight > share
                && self.evict_from(&mut content, &mut evicted)
            {}
            if !self.is_over() {
                self.take_in(&mut content, id, bytes, known);
                return;
            }
            let cold = if self.may_squeeze(comes_back) { self.cold_of(&mut content) } else { None };
            drop(content);
            match cold {
                Some((id, bytes)) => self.squeeze(shard, &id, &bytes),
                None => break comes_back,
            }
        };
        if self.make_room_anywhere(comes_back, &mut evicted) {
            let mut content = shard.content.write();
            if !content.contains(&id) {
                self.take_in(&mut content, id, bytes, known);
                return;
            }
        }
        self.used.fetch_sub(weight, Relaxed);
    }

    /// Bytes held now.
    pub(crate) fn bytes(&self) -> usize {
        self.used.load(Relaxed)
    }

    /// Counted hits and misses.
    pub(crate) fn lookups(&self) -> (u64, u64) {
        self.shards.iter().fold((0, 0), |(hits, misses), shard| {
            (hits + shard.hits.load(Relaxed), misses + shard.misses.load(Relaxed))
        })
    }

    /// How many entries were squeezed, and the bytes that freed.
    pub(crate) fn squeezed(&self) -> (u64, u64) {
        (self.squeezed.load(Relaxed), self.squeezed_bytes.load(Relaxed))
    }

    fn shard(&self, id: &BlockId) -> &Shard {
        // The map uses the lowest and the highest bits of the hash; these are from the middle.
        &self.shards[(id.hash64() >> 40) as usize & (self.shards.len() - 1)]
    }

    fn is_over(&self) -> bool {
        self.used.load(Relaxed) > self.budget
    }

    /// Whether room for an entry that comes back, or for a newcomer, is to be made by squeezing.
    fn may_squeeze(&self, comes_back: bool) -> bool {
        let stays = self.budget / if comes_back { PLAIN_HOT_PART } else { PLAIN_PART };
        self.plain.load(Relaxed) > stays
    }

    fn take_in(&self, content: &mut Content, id: BlockId, bytes: Bytes, known: bool) {
        let plain = self.squeeze.get().is_some();
        if plain {
            self.plain.fetch_add(bytes.len() + ENTRY_OVERHEAD, Relaxed);
        }
        content.insert(id, bytes, plain, known);
    }

    /// Removes what nobody reads any more.
    fn sweep(&self, content: &mut Content, evicted: &mut Vec<Bytes>) {
        let swept = content.sweep(&self.objects);
        evicted.extend(swept.into_iter().map(|left| self.account(left)));
    }

    /// Evicts one entry of `content`. False if it has none.
    fn evict_from(&self, content: &mut Content, evicted: &mut Vec<Bytes>) -> bool {
        let Some(left) = content.evict() else { return false };
        evicted.push(self.account(left));
        true
    }

    /// The bytes of what has left, no longer counted.
    fn account(&self, left: Left) -> Bytes {
        let weight = left.bytes.len() + ENTRY_OVERHEAD;
        self.used.fetch_sub(weight, Relaxed);
        if left.plain {
            self.plain.fetch_sub(weight, Relaxed);
        }
        left.bytes
    }

    /// An entry of `content` that is to be squeezed.
    fn cold_of(&self, content: &mut Content) -> Option<(BlockId, Bytes)> {
        let (id, bytes) = content.cold()?;
        self.plain.fetch_sub(bytes.len() + ENTRY_OVERHEAD, Relaxed);
        Some((id, bytes))
    }

    /// Makes an entry of `shard` smaller, if it lets itself be. Called without a lock.
    fn squeeze(&self, shard: &Shard, id: &BlockId, bytes: &Bytes) {
        let Some(smaller) = self.squeeze.get().and_then(|squeeze| squeeze(bytes)) else { return };
        let freed = shard.content.write().replace(id, bytes, smaller);
        if freed > 0 {
            self.used.fetch_sub(freed, Relaxed);
            self.squeezed.fetch_add(1, Relaxed);
            self.squeezed_bytes.fetch_add(freed as u64, Relaxed);
        }
    }

    /// Takes from each shard in turn until the reservations fit. False if nothing is left to take: what is over budget
    /// then is reserved by others, at this moment.
    fn make_room_anywhere(&self, comes_back: bool, evicted: &mut Vec<Bytes>) -> bool {
        let (mut without_cold, mut fruitless) = (0, 0);
        while self.is_over() {
            let shard = &self.shards[self.hand.fetch_add(1, Relaxed) & (self.shards.len() - 1)];
            let mut content = shard.content.write();
            self.sweep(&mut content, evicted);
            if !self.is_over() {
                break;
            }
            if without_cold < MOST_SHARDS.min(self.shards.len()) && self.may_squeeze(comes_back) {
                let cold = self.cold_of(&mut content);
                drop(content);
                match cold {
                    Some((id, bytes)) => self.squeeze(shard, &id, &bytes),
                    None => without_cold += 1,
                }
            } else if self.evict_from(&mut content, evicted) {
                fruitless = 0;
            } else {
                fruitless += 1;
                if fruitless == self.shards.len() {
                    return false;
                }
            }
        }
        true
    }
}
