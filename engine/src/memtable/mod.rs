//! The memtable: the newest entries, in memory, until a flush makes them an SST.
//!
//! ```text
//! insert ──► nodes: entries in the order of arrival ──► index: hash of the key ──► its newest entry ──► older ones
//!                         │                                  (get: one probe, then along the key's own entries)
//!                         └── order: sorted when a scan or the flush asks
//! ```
//!
//! Writes are many and come one at a time, point reads want one key, and order is asked for by scans and by the flush
//! alone: so nothing is sorted on the way in. A list that is always in order pays at each insert for what the memory is
//! slow at, a search through nodes that lie anywhere (crossbeam's skip list: some 15 cache misses an insert). Keys and
//! values are slices of the log buffer they were encoded into, so an insert copies no bytes.
//!
//! The entries of one key form a list from newest to oldest in which each has a second pointer further back, so that a
//! snapshot finds its version in logarithmic time (E. W. Myers, *An applicative random-access stack*, 1983).
//!
//! Always true: one thread inserts, the numbers of one key ascend; an entry whose `insert` returned is seen by every
//! later `get` and by every cursor that is placed later; nothing is ever replaced or removed, the whole goes at once.

mod cursor;
mod index;
mod nodes;
mod order;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{
        OnceLock,
        atomic::{
            AtomicBool, AtomicU32, AtomicU64, AtomicUsize,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
};

use bytes::Bytes;

use crate::{
    block::Found,
    codec::sum::Sum,
    key::{Entry, EntryRef, Kind, Seq},
    sst::key_hash,
};

use self::{
    index::HashIndex,
    nodes::Nodes,
    order::{Order, Pieces, Place},
};

pub use cursor::MemCursor;

/// What an entry costs besides the bytes of its key and value: its node, six words of the index (four when a table is
/// about to be followed by the next, eight when it has just been: half of each is empty, and a table is as large as all
/// before it), and a place when sorted.
pub(crate) const ENTRY_OVERHEAD_BYTES: usize =
    size_of::<OnceLock<Node>>() + 6 * size_of::<u64>() + size_of::<Place>();

/// A memtable. One thread inserts (under the writer's lock), any number read: by key without locks; a cursor that is
/// placed waits while another sorts what has come since.
pub struct Memtable {
    nodes: Nodes,
    index: HashIndex,
    order: Order,
    /// Entries whose insert has returned.
    count: AtomicU32,
    bytes: AtomicUsize,
    max_seq: AtomicU64,
}

/// An entry, and its way to the older ones of its key.
#[derive(Debug)]
struct Node {
    key: Bytes,
    value: Bytes,
    seq: Seq,
    expire_at_ms: u64,
    kind: Kind,
    /// Whether anybody has read it.
    read: AtomicBool,
    /// The next older entry of the key, if any.
    older: Option<Older>,
}

#[derive(Debug, Clone, Copy)]
struct Older {
    /// Its number.
    next: u32,
    /// That of one further back, or the same.
    far: u32,
    /// How many entries of the key are older than the node.
    depth: u32,
}

impl Memtable {
    /// An empty memtable.
    pub fn new() -> Self {
        Self {
            nodes: Nodes::new(),
            index: HashIndex::new(),
            order: Order::default(),
            count: AtomicU32::new(0),
            bytes: AtomicUsize::new(0),
            max_seq: AtomicU64::new(0),
        }
    }

    /// Adds an entry; `entry.key` is a full key. The sequence numbers of one key ascend.
    pub fn insert(&self, entry: Entry) {
        let bytes = entry.key.len() + entry.value.len() + ENTRY_OVERHEAD_BYTES;
        let hash = key_hash(&entry.key);
        let Some(place) = self.index.locate(hash, |n| self.has_key(n, &entry.key)) else {
            unreachable!("numbers run out before the index does, and memory before both");
        };
        let older = place.number.and_then(|next| self.older(next));
        debug_assert!(
            place.number.and_then(|n| self.nodes.get(n as usize)).is_none_or(|older| older.seq < entry.seq),
            "sequence number {} does not ascend",
            entry.seq
        );
        let (seq, number) = (entry.seq, self.count.load(Relaxed));
        let node = Node {
            key: entry.key,
            value: entry.value,
            seq,
            expire_at_ms: entry.expire_at_ms,
            kind: entry.kind,
            read: AtomicBool::new(false),
            older,
        };
        self.nodes.push(number as usize, node);
        self.index.set(&place, hash, number);
        self.bytes.store(self.bytes.load(Relaxed) + bytes, Relaxed);
        self.max_seq.store(self.max_seq.load(Relaxed).max(seq), Relaxed);
        self.count.store(number + 1, Release);
    }

    /// The newest entry of `full_key` with a sequence number of at most `seq`.
    pub fn get(&self, full_key: &[u8], seq: Seq) -> Option<Found> {
        self.get_hashed(full_key, key_hash(full_key), seq)
    }

    /// The same, for whoever has the key's [hash](key_hash) already.
    #[inline]
    pub fn get_hashed(&self, full_key: &[u8], hash: u64, seq: Seq) -> Option<Found> {
        if self.is_empty() {
            return None;
        }
        let newest = self.index.find(hash, |n| self.has_key(n, full_key))?;
        let mut node = self.nodes.get(newest as usize)?;
        while node.seq > seq {
            let older = node.older?;
            let far = self.nodes.get(older.far as usize)?;
            node = if far.seq > seq { far } else { self.nodes.get(older.next as usize)? };
        }
        node.note_read();
        let value = node.value.clone();
        Some(Found { seq: node.seq, kind: node.kind, expire_at_ms: node.expire_at_ms, value })
    }

    /// Memory held, in bytes: keys, values and an estimate of what leads to them. The keys and values lie in log
    /// buffers that batches share, whose own headers (a few bytes an entry) are not counted.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Relaxed)
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.count.load(Acquire) as usize
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The highest sequence number inserted; 0 if there is none.
    pub fn max_seq(&self) -> Seq {
        self.max_seq.load(Relaxed)
    }

    /// The conservation sum of all entries, by a walk of its own: what the flushed SSTs must add up to.
    pub fn sum(&self) -> Sum {
        let mut sum = Sum::default();
        (0..self.len()).filter_map(|n| self.nodes.get(n)).for_each(|node| sum.add_entry(node.as_ref()));
        sum
    }

    /// All entries so far, sorted.
    fn in_order(&self) -> Pieces {
        self.order.up_to(self.count.load(Acquire), &self.nodes)
    }

    #[inline]
    fn has_key(&self, number: u32, full_key: &[u8]) -> bool {
        self.nodes.get(number as usize).is_some_and(|node| node.key == full_key)
    }

    /// What leads from a new entry to `next`, the newest so far of its key, and beyond.
    fn older(&self, next: u32) -> Option<Older> {
        let at = |number: u32| self.nodes.get(number as usize)?.older;
        let Some(one) = at(next) else { return Some(Older { next, far: next, depth: 1 }) };
        let depth = one.depth + 1;
        let depth_of = |number: u32| at(number).map_or(0, |older| older.depth);
        // Two leaps of one length become one that spans both.
        let far = match at(one.far) {
            Some(two) if one.depth - depth_of(one.far) == depth_of(one.far) - depth_of(two.far) => two.far,
            _ => next,
        };
        Some(Older { next, far, depth })
    }
}

impl Node {
    #[inline]
    fn note_read(&self) {
        if !self.read.load(Relaxed) {
            self.read.store(true, Relaxed);
        }
    }

    fn as_ref(&self) -> EntryRef<'_> {
        EntryRef {
            key: &self.key,
            seq: self.seq,
            kind: self.kind,
            expire_at_ms: self.expire_at_ms,
            value: &self.value,
        }
    }
}

impl Default for Memtable {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Memtable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memtable").field("entries", &self.len()).field("bytes", &self.bytes()).finish()
    }
}
