//! What one shard of the memory tier holds, and which entry has to give: S3-FIFO, with a stage before leaving.
//!
//! S3-FIFO (Yang and others, SOSP 2023): newcomers enter a small queue (a tenth of the bytes); who is asked for again
//! before reaching its end moves to the main queue, who is not leaves. Who leaves is remembered as a ghost, a hash, by
//! which it enters the main queue directly next time. A scan passes through the small queue and disturbs nobody.
//!
//! ```text
//!             ┌─ asked for again ─► main  ─┐ its oldest, not asked for
//! newcomer ─► small                        ├─► squeezed, if it still can be, and back into its queue ─► evicted, a ghost
//!             └─ not asked for ────────────┘
//! ```
//!
//! What belongs to an object that nobody reads any more is swept out of both queues first, however hot it was.
//!
//! When to squeeze and when to evict is the tier's to say, for all shards: see [`memory`](crate::memory).
//!
//! Always true: each key of `entries` is in exactly one of the two queues, and the sums of a queue are those of its
//! entries; an entry is squeezed at most once; nothing here compresses, frees bytes, or waits.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::atomic::{AtomicU8, Ordering::Relaxed},
};

use bytes::Bytes;
use prefetch_index::prefetch_index;

use crate::{
    id::{BlockId, IdHash},
    objects::Objects,
};

/// What an entry costs beside its bytes: its slots in the map and the queue, the ghost it may leave, the header of
/// its allocation. Counted, so that a million tiny entries do not hide 200 MB.
pub(crate) const ENTRY_OVERHEAD: usize = 192;

/// An entry that was hit this often is as hot as it gets: it survives so many rounds of the main queue unasked.
const MAX_HITS: u8 = 3;

/// The small queue's part of the bytes: one in so many.
const SMALL_PART: usize = 10;
/// The main queue's part that stays plain as long as there is something plain in the small one.
const PLAIN_MAIN_PART: usize = 64;

/// How many entries are looked at for one that can be squeezed.
const LOOKS: usize = 64;

/// A line of the processor's caches.
const LINE_BYTES: usize = 64;
/// How many lines at either end of what is found are brought near: a search begins at them, one after the other.
const LINES_AHEAD: usize = 6;

/// The entries of one shard.
#[derive(Debug, Default)]
pub(crate) struct Content {
    entries: HashMap<BlockId, Entry, IdHash>,
    small: Queue,
    main: Queue,
    ghosts: VecDeque<u64>,
    ghost_set: HashSet<u64, IdHash>,
    /// [`Objects::departures`] at the last sweep.
    swept: u64,
}

#[derive(Debug, Default)]
struct Queue {
    ids: VecDeque<BlockId>,
    /// What its entries weigh.
    bytes: usize,
    /// What those of them weigh that are plain.
    plain: usize,
}

#[derive(Debug)]
struct Entry {
    bytes: Bytes,
    hits: AtomicU8,
    in_small: bool,
    /// Whether it may yet be squeezed.
    plain: bool,
}

/// An entry that has left; its bytes are to be freed elsewhere.
#[derive(Debug)]
pub(crate) struct Left {
    pub(crate) bytes: Bytes,
    /// Whether it could yet have been squeezed.
    pub(crate) plain: bool,
}

impl Content {
    /// The bytes of `id`, counted as a use of them. Changes no order, so that a shared lock is enough.
    pub(crate) fn get(&self, id: &BlockId) -> Option<Bytes> {
        let entry = self.entries.get(id)?;
        // Not a read-modify-write: two readers may count as one, and the hottest entries are not written at all.
        let hits = entry.hits.load(Relaxed);
        if hits < MAX_HITS {
            entry.hits.store(hits + 1, Relaxed);
        }
        fetch_ends(&entry.bytes);
        Some(entry.bytes.clone())
    }

    /// The bytes of `id`, not counted as used.
    pub(crate) fn peek(&self, id: &BlockId) -> Option<Bytes> {
        self.entries.get(id).map(|entry| entry.bytes.clone())
    }

    /// Whether `id` is here.
    pub(crate) fn contains(&self, id: &BlockId) -> bool {
        self.entries.contains_key(id)
    }

    /// Whether `id` was here not long ago.
    pub(crate) fn is_ghost(&self, id: &BlockId) -> bool {
        self.ghost_set.contains(&id.hash64())
    }

    /// What all entries weigh.
    pub(crate) fn bytes(&self) -> usize {
        self.small.bytes + self.main.bytes
    }

    /// Takes in an entry that is not here. `plain`: it may be squeezed; `known`: it has been asked for before.
    pub(crate) fn insert(&mut self, id: BlockId, bytes: Bytes, plain: bool, known: bool) {
        let in_small = !self.ghost_set.remove(&id.hash64()) && !known;
        let entry = Entry { bytes, hits: AtomicU8::new(0), in_small, plain };
        self.queue(in_small).push(id, &entry);
        self.entries.insert(id, entry);
    }

    /// Puts `smaller` in place of `bytes`, if they are still here. Returns what that frees.
    pub(crate) fn replace(&mut self, id: &BlockId, bytes: &Bytes, smaller: Bytes) -> usize {
        let Some(entry) = self.entries.get_mut(id) else { return 0 };
        // It may have left and come back meanwhile.
        if entry.bytes.as_ptr() != bytes.as_ptr() || entry.plain || smaller.len() > bytes.len() {
            return 0;
        }
        entry.bytes = smaller;
        let (freed, in_small) = (bytes.len() - entry.bytes.len(), entry.in_small);
        self.queue(in_small).bytes -= freed;
        freed
    }

    /// The next plain entry that was not asked for; no longer plain, and at the end of its queue. It is to be made smaller,
    /// and put back by [`Self::replace`].
    pub(crate) fn cold(&mut self) -> Option<(BlockId, Bytes)> {
        // Once around at most, or what is hot would cool within one call.
        let mut main_left = self.main.ids.len();
        for _ in 0..LOOKS {
            let from_small = main_left == 0
                || self.small.plain > self.bytes() / SMALL_PART
                || self.main.plain <= self.bytes() / PLAIN_MAIN_PART;
            if from_small && self.small.plain == 0 {
                return None;
            }
            main_left -= usize::from(!from_small);
            let Some(id) = self.next(from_small)? else { continue };
            let entry = self.entries.get_mut(&id).expect("a queue holds only keys of entries");
            let found = entry.plain.then(|| (id, entry.bytes.clone()));
            entry.plain = false;
            let queue = if from_small { &mut self.small } else { &mut self.main };
            queue.push(id, entry);
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// Removes what belongs to objects that have gone since the last time: a look at every entry, once for each time that
    /// some have gone.
    pub(crate) fn sweep(&mut self, objects: &Objects) -> Vec<Left> {
        let departures = objects.departures();
        if self.swept == departures {
            return Vec::new();
        }
        self.swept = departures;
        let gone = objects.gone();
        let mut left = Vec::new();
        for queue in [&mut self.small, &mut self.main] {
            for _ in 0..queue.ids.len() {
                let Some(id) = queue.ids.pop_front() else { break };
                if !gone.contains(id.object) {
                    queue.ids.push_back(id);
                } else if let Some(entry) = self.entries.remove(&id) {
                    queue.forget(&entry);
                    left.push(Left { bytes: entry.bytes, plain: entry.plain });
                }
            }
        }
        left
    }

    /// Removes the entry that S3-FIFO would.
    pub(crate) fn evict(&mut self) -> Option<Left> {
        loop {
            let from_small = self.small.bytes > self.bytes() / SMALL_PART || self.main.ids.is_empty();
            let Some(id) = self.next(from_small)? else { continue };
            self.remember(id.hash64());
            return self.entries.remove(&id).map(|entry| Left { bytes: entry.bytes, plain: entry.plain });
        }
    }

    /// Takes the oldest out of a queue. If it was asked for, it goes into the main queue instead of being returned.
    fn next(&mut self, from_small: bool) -> Option<Option<BlockId>> {
        let queue = if from_small { &mut self.small } else { &mut self.main };
        let id = queue.ids.pop_front()?;
        let entry = self.entries.get_mut(&id).expect("a queue holds only keys of entries");
        queue.forget(entry);
        let hits = entry.hits.get_mut();
        if *hits == 0 {
            return Some(Some(id));
        }
        *hits -= 1;
        entry.in_small = false;
        self.main.push(id, entry);
        Some(None)
    }

    /// Keeps a ghost of an entry that left, about as many as there are entries. Of those too that leave the main queue
    /// (S3-FIFO forgets them): who comes back shows that room is short.
    fn remember(&mut self, hash: u64) {
        while self.ghosts.len() > self.entries.len().max(8) {
            let Some(oldest) = self.ghosts.pop_front() else { break };
            self.ghost_set.remove(&oldest);
        }
        if self.ghost_set.insert(hash) {
            self.ghosts.push_back(hash);
        }
    }

    fn queue(&mut self, small: bool) -> &mut Queue {
        if small { &mut self.small } else { &mut self.main }
    }
}

/// Begins to bring the ends of `bytes` near while the reference count, which lies elsewhere, is waited for.
#[inline]
fn fetch_ends(bytes: &[u8]) {
    for line in 0..LINES_AHEAD {
        prefetch_index(bytes, line * LINE_BYTES);
        prefetch_index(bytes, bytes.len().saturating_sub(1 + line * LINE_BYTES));
    }
}

impl Queue {
    fn push(&mut self, id: BlockId, entry: &Entry) {
        self.ids.push_back(id);
        self.bytes += entry.weight();
        self.plain += if entry.plain { entry.weight() } else { 0 };
    }

    /// Of an entry that was popped.
    fn forget(&mut self, entry: &Entry) {
        self.bytes -= entry.weight();
        self.plain -= if entry.plain { entry.weight() } else { 0 };
    }
}

impl Entry {
    fn weight(&self) -> usize {
        self.bytes.len() + ENTRY_OVERHEAD
    }
}
