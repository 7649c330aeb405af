//! A cursor over a memtable that owns what it stands on.
//!
//! It stands in every sorted piece of the memtable at once ([`super::order`]), and shows the least of the places it stands on.
//! A `first`, `last` or `seek` takes the pieces as they are then, so it sees what was inserted before, and no later insert moves it:
//! a scan reads up to a number that was visible before it began.
//!
//! Always true: in each piece the cursor stands behind all places before its entry, so it can turn round at any step.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use bytes::Bytes;
use smallvec::SmallVec;

use super::{
    Memtable, Node, Nodes,
    order::{Pieces, Place},
};
use crate::{
    key::{EntryRef, Seq},
    near,
};

/// Of a longer value only the beginning is brought near: the processor sees by then where it goes on.
const NEAR_BYTES: usize = 1 << 10;

/// A position in a memtable: on an entry, or invalid. `'static` and `Send`; keeps its memtable alive.
///
/// Positions mean what they mean in a [`BlockCursor`](crate::block::BlockCursor).
#[derive(Debug)]
pub struct MemCursor {
    memtable: Arc<Memtable>,
    pieces: Pieces,
    /// In each piece, how many places lie before the entry.
    before: SmallVec<[usize; 4]>,
    /// The entry, by number.
    here: Option<u32>,
    /// The piece that the entry is in.
    piece: usize,
}

impl Memtable {
    /// A cursor, not yet on any entry.
    pub fn cursor(self: &Arc<Self>) -> MemCursor {
        MemCursor {
            memtable: Arc::clone(self),
            pieces: Pieces::default(),
            before: SmallVec::new(),
            here: None,
            piece: 0,
        }
    }
}

impl MemCursor {
    /// Whether the cursor is on an entry.
    pub fn is_valid(&self) -> bool {
        self.here.is_some()
    }

    /// The entry under the cursor. Call only when valid.
    pub fn entry(&self) -> EntryRef<'_> {
        self.node().as_ref()
    }

    /// The full key under the cursor, sharing the memtable's bytes. Call only when valid.
    pub fn key(&self) -> Bytes {
        self.node().key.clone()
    }

    /// The value under the cursor, sharing the memtable's bytes. Call only when valid.
    pub fn value(&self) -> Bytes {
        let node = self.node();
        node.note_read();
        node.value.clone()
    }

    /// Whether the entry under the cursor has been got, or its [`value`](Self::value) taken. Call only when valid.
    pub fn was_read(&self) -> bool {
        self.node().read.load(Relaxed)
    }

    /// To the first entry.
    pub fn first(&mut self) {
        self.stand(|_, _, _| 0);
        self.least();
    }

    /// To the last entry.
    pub fn last(&mut self) {
        self.stand(|_, _, piece| piece.len());
        self.greatest_before();
    }

    /// To the first entry at or after `(key, seq)` in internal order (key ascending, number descending).
    pub fn seek(&mut self, key: &[u8], seq: Seq) {
        self.stand(|nodes, pieces, piece| pieces.places_before(piece, key, seq, nodes));
        self.least();
    }

    /// To the last entry strictly before `(key, seq)` in internal order.
    pub fn seek_before(&mut self, key: &[u8], seq: Seq) {
        self.stand(|nodes, pieces, piece| pieces.places_before(piece, key, seq, nodes));
        self.greatest_before();
    }

    /// To the entry after; invalid at the end. Stays invalid once invalid.
    pub fn next(&mut self) {
        if self.is_valid() {
            self.before[self.piece] += 1;
            self.least();
        }
    }

    /// To the entry before; invalid before the first. Stays invalid once invalid.
    pub fn prev(&mut self) {
        if self.is_valid() {
            self.greatest_before();
        }
    }

    /// Asks memory for this entry and those that follow it in its piece, `most` in all and at once: they lie in the order in
    /// which they came, so a walk in theirs waits for each.
    pub fn bring_near(&self, most: usize) {
        let (Some(piece), Some(before)) = (self.pieces.iter().nth(self.piece), self.before.get(self.piece))
        else {
            return;
        };
        let places = piece.iter().skip(*before).take(most);
        // All nodes first, and then where their bytes are: neither waits for another of its kind.
        let nodes: SmallVec<[&Node; 16]> =
            places.filter_map(|place| self.memtable.nodes.get(place.number as usize)).collect();
        for node in nodes {
            near::ask_for(&node.key, NEAR_BYTES);
            near::ask_for(&node.value, NEAR_BYTES);
        }
    }

    fn node(&self) -> &Node {
        let node = self.here.and_then(|number| self.memtable.nodes.get(number as usize));
        node.expect("the caller has asked whether the cursor is valid")
    }

    fn stand(&mut self, before: impl Fn(&Nodes, &Pieces, &[Place]) -> usize) {
        let pieces = self.memtable.in_order();
        self.before = pieces.iter().map(|piece| before(&self.memtable.nodes, &pieces, piece)).collect();
        self.pieces = pieces;
    }

    /// To the least entry that the cursor does not stand behind.
    fn least(&mut self) {
        let nodes = &self.memtable.nodes;
        let ahead = self.pieces.iter().zip(&self.before).enumerate();
        let ahead = ahead.filter_map(|(n, (piece, before))| Some((n, piece.get(*before)?)));
        let least = ahead.min_by(|a, b| a.1.cmp(b.1, nodes));
        self.here = least.map(|(_, place)| place.number);
        self.piece = least.map_or(0, |(piece, _)| piece);
    }

    /// To the greatest entry that the cursor stands behind.
    fn greatest_before(&mut self) {
        let nodes = &self.memtable.nodes;
        let behind = self.pieces.iter().zip(&self.before).enumerate();
        let behind = behind.filter_map(|(n, (piece, before))| Some((n, piece.get(before.checked_sub(1)?)?)));
        let greatest = behind.max_by(|a, b| a.1.cmp(b.1, nodes));
        self.here = greatest.map(|(_, place)| place.number);
        self.piece = greatest.map_or(0, |(piece, _)| piece);
        if self.is_valid() {
            self.before[self.piece] -= 1;
        }
    }
}
