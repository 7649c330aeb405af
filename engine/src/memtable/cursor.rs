//! A cursor over a memtable that owns what it stands on.
//!
//! The list's own iterators borrow the list and pin its memory at every step, so they can be kept
//! neither across an await nor by a `'static` scan. This cursor instead copies a stretch of entries
//! (their `Bytes`, not their bytes) at each search: one search for 4 entries at first, for 128 later,
//! so that a short scan takes little and a long one pays for a search hardly ever.
//!
//! Always true: the stretch is in order and free of gaps as of the moment it was copied; entries that
//! are inserted into it later have numbers above every snapshot that was taken before.

use std::{ops::Bound, sync::Arc};

use bytes::Bytes;
use crossbeam_skiplist::map::Entry as Node;

use super::{AtPlace, Memtable, Place, Rest};
use crate::key::{Entry, EntryRef, Seq};

/// Entries copied by the first search after a seek, and at most.
const FIRST_STRETCH: usize = 4;
const LONGEST_STRETCH: usize = 128;

/// A position in a memtable: on an entry, or invalid. `'static` and `Send`; keeps its memtable alive.
///
/// Positions mean what they mean in a [`BlockCursor`](crate::block::BlockCursor).
#[derive(Debug)]
pub struct MemCursor {
    memtable: Arc<Memtable>,
    /// Ascending.
    stretch: Vec<Entry>,
    /// The position in `stretch`; invalid if past its end.
    at: usize,
    /// How many entries the next search copies.
    take: usize,
}

impl Memtable {
    /// A cursor, not yet on any entry.
    pub fn cursor(self: &Arc<Self>) -> MemCursor {
        MemCursor { memtable: Arc::clone(self), stretch: Vec::new(), at: 0, take: FIRST_STRETCH }
    }
}

impl MemCursor {
    /// Whether the cursor is on an entry.
    pub fn is_valid(&self) -> bool {
        self.at < self.stretch.len()
    }

    /// The entry under the cursor. Call only when valid.
    pub fn entry(&self) -> EntryRef<'_> {
        self.stretch[self.at].as_ref()
    }

    /// The full key under the cursor, sharing the memtable's bytes. Call only when valid.
    pub fn key(&self) -> Bytes {
        self.stretch[self.at].key.clone()
    }

    /// The value under the cursor, sharing the memtable's bytes. Call only when valid.
    pub fn value(&self) -> Bytes {
        self.stretch[self.at].value.clone()
    }

    /// To the first entry.
    pub fn first(&mut self) {
        self.take = FIRST_STRETCH;
        self.copy_ascending(Bound::Unbounded);
    }

    /// To the last entry.
    pub fn last(&mut self) {
        self.take = FIRST_STRETCH;
        self.copy_descending(Bound::Unbounded);
    }

    /// To the first entry at or after `(key, seq)` in internal order (key ascending, number descending).
    pub fn seek(&mut self, key: &[u8], seq: Seq) {
        self.take = FIRST_STRETCH;
        self.copy_ascending(Bound::Included(&(key, seq)));
    }

    /// To the last entry strictly before `(key, seq)` in internal order.
    pub fn seek_before(&mut self, key: &[u8], seq: Seq) {
        self.take = FIRST_STRETCH;
        self.copy_descending(Bound::Excluded(&(key, seq)));
    }

    /// To the entry after; invalid at the end. Stays invalid once invalid.
    pub fn next(&mut self) {
        if self.at + 1 < self.stretch.len() {
            self.at += 1;
        } else if let Some(here) = self.leave() {
            self.copy_ascending(Bound::Excluded(&(&here.key[..], here.seq)));
        }
    }

    /// To the entry before; invalid before the first. Stays invalid once invalid.
    pub fn prev(&mut self) {
        if self.is_valid() && self.at > 0 {
            self.at -= 1;
        } else if let Some(here) = self.leave() {
            self.copy_descending(Bound::Excluded(&(&here.key[..], here.seq)));
        }
    }

    /// Takes the entry under the cursor out, to search from it.
    fn leave(&mut self) -> Option<Entry> {
        if !self.is_valid() {
            return None;
        }
        let here = self.stretch.swap_remove(self.at);
        self.stretch.clear();
        Some(here)
    }

    fn copy_ascending(&mut self, from: Bound<&(&[u8], Seq)>) {
        self.stretch.clear();
        self.at = 0;
        let list = &self.memtable.entries;
        let mut next = match from {
            Bound::Unbounded => list.front(),
            bound => list.lower_bound(bound.map(|place| place as &dyn AtPlace)),
        };
        while let Some(node) = next {
            self.stretch.push(copy(&node));
            next = if self.stretch.len() < self.take { node.next() } else { None };
        }
        self.take = (self.take * 2).min(LONGEST_STRETCH);
    }

    fn copy_descending(&mut self, before: Bound<&(&[u8], Seq)>) {
        self.stretch.clear();
        let list = &self.memtable.entries;
        let mut next = match before {
            Bound::Unbounded => list.back(),
            bound => list.upper_bound(bound.map(|place| place as &dyn AtPlace)),
        };
        while let Some(node) = next {
            self.stretch.push(copy(&node));
            next = if self.stretch.len() < self.take { node.prev() } else { None };
        }
        self.stretch.reverse();
        self.at = self.stretch.len().saturating_sub(1);
        self.take = (self.take * 2).min(LONGEST_STRETCH);
    }
}

fn copy(node: &Node<'_, Place, Rest>) -> Entry {
    let (place, rest) = (node.key(), node.value());
    Entry {
        key: place.key.clone(),
        seq: place.seq,
        kind: rest.kind,
        expire_at_ms: rest.expire_at_ms,
        value: rest.value.clone(),
    }
}
