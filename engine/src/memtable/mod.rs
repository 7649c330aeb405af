//! The memtable: the newest entries, in memory, in order, until a flush makes them an SST.
//!
//! A lock-free skip list (crossbeam's) from `(full key, sequence number descending)` to the rest of
//! the entry. It only ever grows: no entry is replaced or removed, and the whole list is dropped at
//! once. That is also what makes the list's known faults (a `get` that misses a key while it is being
//! replaced, entries that linger after `remove`) irrelevant here. Keys and values are slices of the
//! log buffer they were encoded into, so an insert copies no bytes.
//!
//! The structure is private to this folder: an arena list can take its place without a caller
//! noticing.
//!
//! Always true: a place `(key, seq)` is inserted at most once; an entry whose `insert` returned is seen
//! by every later `get` and by every cursor that has not yet passed its place.

mod cursor;
#[cfg(test)]
mod tests;

use std::{
    borrow::Borrow,
    cmp::Ordering,
    fmt,
    ops::Bound,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
};

use bytes::Bytes;
use crossbeam_skiplist::SkipMap;

use crate::{
    block::Found,
    codec::sum::Sum,
    key::{Entry, EntryRef, Kind, Seq},
};

pub use cursor::MemCursor;

/// What an entry costs besides the bytes of its key and value: a node (place 40 bytes, rest 48, header
/// 16, a tower of two pointers on average) and what the allocator adds.
const ENTRY_OVERHEAD_BYTES: usize = 136;

/// A memtable. One thread inserts (under the writer's lock), any number read, without locks.
pub struct Memtable {
    entries: SkipMap<Place, Rest>,
    bytes: AtomicUsize,
    count: AtomicUsize,
    max_seq: AtomicU64,
}

impl Memtable {
    /// An empty memtable.
    pub fn new() -> Self {
        Self {
            entries: SkipMap::new(),
            bytes: AtomicUsize::new(0),
            count: AtomicUsize::new(0),
            max_seq: AtomicU64::new(0),
        }
    }

    /// Adds an entry; `entry.key` is a full key. A sequence number never comes twice for one key.
    pub fn insert(&self, entry: Entry) {
        debug_assert!(self.at(&entry.key, entry.seq).is_none(), "sequence number {} came twice", entry.seq);
        let bytes = entry.key.len() + entry.value.len() + ENTRY_OVERHEAD_BYTES;
        let place = Place { key: entry.key, seq: entry.seq };
        let rest = Rest { value: entry.value, expire_at_ms: entry.expire_at_ms, kind: entry.kind };
        self.max_seq.fetch_max(place.seq, Relaxed);
        self.entries.insert(place, rest);
        self.bytes.fetch_add(bytes, Relaxed);
        self.count.fetch_add(1, Relaxed);
    }

    /// The newest entry of `full_key` with a sequence number of at most `seq`.
    pub fn get(&self, full_key: &[u8], seq: Seq) -> Option<Found> {
        let node = self.entries.lower_bound(Bound::Included(&(full_key, seq) as &dyn AtPlace))?;
        if node.key().key != full_key {
            return None;
        }
        let rest = node.value();
        Some(Found {
            seq: node.key().seq,
            kind: rest.kind,
            expire_at_ms: rest.expire_at_ms,
            value: rest.value.clone(),
        })
    }

    /// Memory held, in bytes: keys, values and an estimate of the nodes. The keys and values lie in log
    /// buffers that batches share, whose own headers (a few bytes an entry) are not counted.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Relaxed)
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.count.load(Relaxed)
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The highest sequence number inserted; 0 if there is none.
    pub fn max_seq(&self) -> Seq {
        self.max_seq.load(Relaxed)
    }

    /// The greatest full key; `None` if there is no entry.
    pub fn last_key(&self) -> Option<Bytes> {
        self.entries.back().map(|node| node.key().key.clone())
    }

    /// The conservation sum of all entries, by a walk of its own: what the flushed SSTs must add up to.
    pub fn sum(&self) -> Sum {
        let mut sum = Sum::default();
        for node in self.entries.iter() {
            let (place, rest) = (node.key(), node.value());
            sum.add_entry(EntryRef {
                key: &place.key,
                seq: place.seq,
                kind: rest.kind,
                expire_at_ms: rest.expire_at_ms,
                value: &rest.value,
            });
        }
        sum
    }

    /// The entry at exactly this place.
    fn at(&self, full_key: &[u8], seq: Seq) -> Option<Found> {
        self.get(full_key, seq).filter(|found| found.seq == seq)
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

/// Where an entry stands in the order.
#[derive(Debug)]
struct Place {
    key: Bytes,
    seq: Seq,
}

/// What an entry has besides its place.
#[derive(Debug)]
struct Rest {
    value: Bytes,
    expire_at_ms: u64,
    kind: Kind,
}

/// Lets the list be searched by a borrowed key: the list asks for `K: Borrow<Q>`, and a
/// `Place` can lend itself as this object where it could not as `(&[u8], Seq)`.
trait AtPlace {
    fn place(&self) -> (&[u8], Seq);
}

impl AtPlace for Place {
    fn place(&self) -> (&[u8], Seq) {
        (&self.key, self.seq)
    }
}

impl AtPlace for (&[u8], Seq) {
    fn place(&self) -> (&[u8], Seq) {
        *self
    }
}

impl<'a> Borrow<dyn AtPlace + 'a> for Place {
    fn borrow(&self) -> &(dyn AtPlace + 'a) {
        self
    }
}

/// Full key ascending, then sequence number descending.
fn compare(a: (&[u8], Seq), b: (&[u8], Seq)) -> Ordering {
    a.0.cmp(b.0).then(b.1.cmp(&a.1))
}

impl Ord for dyn AtPlace + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(self.place(), other.place())
    }
}

impl PartialOrd for dyn AtPlace + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for dyn AtPlace + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for dyn AtPlace + '_ {}

impl Ord for Place {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(self.place(), other.place())
    }
}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Place {}
