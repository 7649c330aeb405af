//! The memory tier: sharded S3-FIFO with one budget in bytes.
//!
//! Why not foyer's memory tier, whose SSD tier we use: a hit there takes four shared reference counts beside the
//! lock (record, shards, pipe, bytes), which every core fights for; its budget is split by shard, so that a value
//! larger than a shard overruns it; and its intrusive lists are where its crashes were (foyer #1237, #1284, #1315).
//! Here a hit is one hash, one shared lock, one load and the reference count of the bytes: 45 ns on one slow core
//! where foyer 0.22.6 with S3-FIFO and the same hash takes 165, a miss 31 where it takes 80.
//!
//! S3-FIFO (Yang and others, SOSP 2023): newcomers enter a small queue (a tenth of the bytes); who is asked for again
//! before reaching its end moves to the main queue, who is not leaves, and leaves its hash in the ghost queue, by
//! which it enters the main queue directly next time. A scan passes through the small queue and disturbs nobody.
//! Reading changes no order, so that hits need only a shared lock.
//!
//! Always true: the bytes held never exceed the budget, at no moment, by whatever threads (room is reserved, and
//! made, before an entry goes in); each key of `entries` is in exactly one of the two queues; freeing evicted bytes
//! never happens under a lock.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed},
};

use bytes::Bytes;
use parking_lot::RwLock;

use crate::id::{BlockId, IdHash};

/// What an entry costs beside its bytes: its slots in the map and the queue, the ghost it may leave, the header of
/// its allocation. Counted, so that a million tiny entries do not hide 200 MB.
pub(crate) const ENTRY_OVERHEAD: usize = 192;

/// An entry that was hit this often is as hot as it gets: it survives so many rounds of the main queue unasked.
const MAX_HITS: u8 = 3;

/// A shard is not worth its queues below this share of the budget, in bytes.
const MIN_SHARD_BYTES: usize = 2 << 20;

/// Bytes by id, in memory, within a budget.
#[derive(Debug)]
pub(crate) struct MemoryTier {
    shards: Box<[Shard]>,
    budget: usize,
    /// Bytes held and bytes reserved for entries about to go in.
    used: AtomicUsize,
    /// The next shard to evict from when a shard cannot make room alone.
    hand: AtomicUsize,
}

/// On cache lines of its own, so that the counters and the lock of one shard do not slow its neighbours.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard {
    content: RwLock<Content>,
    hits: AtomicU64,
    misses: AtomicU64,
}

#[derive(Debug, Default)]
struct Content {
    entries: HashMap<BlockId, Entry, IdHash>,
    small: VecDeque<BlockId>,
    main: VecDeque<BlockId>,
    ghosts: VecDeque<u64>,
    ghost_set: HashSet<u64, IdHash>,
    /// Bytes of the entries in `small`.
    small_bytes: usize,
    /// Bytes of all entries.
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    bytes: Bytes,
    hits: AtomicU8,
}

impl MemoryTier {
    /// A tier that holds at most `budget` bytes.
    pub(crate) fn new(budget: usize) -> Self {
        let shards = (budget / MIN_SHARD_BYTES).clamp(1, 64).next_power_of_two();
        Self {
            shards: (0..shards).map(|_| Shard::default()).collect(),
            budget,
            used: AtomicUsize::new(0),
            hand: AtomicUsize::new(0),
        }
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
    pub(crate) fn peek(&self, id: &BlockId) -> Option<Bytes> {
        self.shard(id).content.read().get(id)
    }

    /// Whether `id` is here.
    pub(crate) fn contains(&self, id: &BlockId) -> bool {
        self.shard(id).content.read().entries.contains_key(id)
    }

    /// Takes `bytes` in, evicting others for it. Larger than the whole budget, they are not taken.
    pub(crate) fn insert(&self, id: BlockId, bytes: Bytes) {
        let weight = bytes.len().saturating_add(ENTRY_OVERHEAD);
        if weight > self.budget {
            return;
        }
        let mut evicted = Vec::new();
        self.used.fetch_add(weight, Relaxed);
        {
            let mut content = self.shard(&id).content.write();
            if content.entries.contains_key(&id) {
                drop(content);
                self.used.fetch_sub(weight, Relaxed);
                return;
            }
            // The usual case: this shard makes the room, in the same critical section.
            let share = self.budget / self.shards.len();
            while self.is_over() && content.bytes + weight > share {
                if !self.evict_from(&mut content, &mut evicted) {
                    break;
                }
            }
            if !self.is_over() {
                content.insert(id, bytes, weight);
                return;
            }
        }
        if self.evict_anywhere(&mut evicted) {
            let mut content = self.shard(&id).content.write();
            if !content.entries.contains_key(&id) {
                content.insert(id, bytes, weight);
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

    fn shard(&self, id: &BlockId) -> &Shard {
        // The map uses the lowest and the highest bits of the hash; these are from the middle.
        &self.shards[(id.hash64() >> 40) as usize & (self.shards.len() - 1)]
    }

    fn is_over(&self) -> bool {
        self.used.load(Relaxed) > self.budget
    }

    /// Evicts one entry of `content`. False if it has none.
    fn evict_from(&self, content: &mut Content, evicted: &mut Vec<Bytes>) -> bool {
        let Some(bytes) = content.evict() else { return false };
        self.used.fetch_sub(bytes.len() + ENTRY_OVERHEAD, Relaxed);
        evicted.push(bytes);
        true
    }

    /// Evicts an entry of each shard in turn until the reservations fit. False if nothing is left to evict: what is
    /// over budget then is reserved by others, at this moment.
    fn evict_anywhere(&self, evicted: &mut Vec<Bytes>) -> bool {
        let mut fruitless = 0;
        while self.is_over() {
            let next = self.hand.fetch_add(1, Relaxed) & (self.shards.len() - 1);
            if self.evict_from(&mut self.shards[next].content.write(), evicted) {
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

impl Content {
    fn get(&self, id: &BlockId) -> Option<Bytes> {
        let entry = self.entries.get(id)?;
        // Not a read-modify-write: two readers may count as one, and the hottest entries are not written at all.
        let hits = entry.hits.load(Relaxed);
        if hits < MAX_HITS {
            entry.hits.store(hits + 1, Relaxed);
        }
        Some(entry.bytes.clone())
    }

    fn insert(&mut self, id: BlockId, bytes: Bytes, weight: usize) {
        self.bytes += weight;
        if self.ghost_set.remove(&id.hash64()) {
            self.main.push_back(id);
        } else {
            self.small_bytes += weight;
            self.small.push_back(id);
        }
        self.entries.insert(id, Entry { bytes, hits: AtomicU8::new(0) });
    }

    /// Removes the entry that S3-FIFO would, and returns its bytes to be freed elsewhere.
    fn evict(&mut self) -> Option<Bytes> {
        loop {
            let from_small = self.small_bytes > self.bytes / 10 || self.main.is_empty();
            let queue = if from_small { &mut self.small } else { &mut self.main };
            let id = queue.pop_front()?;
            let entry = self.entries.get_mut(&id).expect("a queue holds only keys of entries");
            let weight = entry.bytes.len() + ENTRY_OVERHEAD;
            let hits = entry.hits.get_mut();
            if from_small {
                self.small_bytes -= weight;
            }
            if *hits > 0 {
                *hits = if from_small { 0 } else { *hits - 1 };
                self.main.push_back(id);
                continue;
            }
            self.bytes -= weight;
            if from_small {
                self.remember(id.hash64());
            }
            return self.entries.remove(&id).map(|entry| entry.bytes);
        }
    }

    /// Keeps a ghost of an entry that left the small queue, about as many as there are entries.
    fn remember(&mut self, hash: u64) {
        while self.ghosts.len() > self.entries.len().max(8) {
            let Some(oldest) = self.ghosts.pop_front() else { break };
            self.ghost_set.remove(&oldest);
        }
        if self.ghost_set.insert(hash) {
            self.ghosts.push_back(hash);
        }
    }
}
