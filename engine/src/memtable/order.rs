//! The entries in order, sorted when somebody asks: by a scan, or by the flush.
//!
//! ```text
//! numbers  0 ……………………………… 9000 …… 9700 … 9810        in the order of arrival
//! pieces  [ sorted             ][ sorted ][ s ]  unsorted      each at least four times the next
//! ```
//!
//! Whoever asks sorts what has come since and joins it to the pieces before it while those are not four times as long:
//! an entry is moved a few times in its life, and a cursor stands in a handful of pieces at most. Inserts do not wait for
//! it, and those who ask wait for one another: sorting 150,000 entries takes some ten milliseconds, once.
//!
//! Always true: a piece holds the numbers from one to another, each once, ordered by full key ascending and then by
//! sequence number descending; the pieces hold all numbers below the unsorted ones.

use std::{cmp::Ordering, sync::Arc};

use parking_lot::Mutex;
use smallvec::SmallVec;

use super::{Node, Nodes};
use crate::key::Seq;

/// A piece is joined to the next one unless it is so many times as long.
const RATIO: usize = 4;

/// What is sorted, as a cursor holds it.
pub(super) type Pieces = SmallVec<[Arc<[Place]>; 4]>;

#[derive(Debug, Default)]
pub(super) struct Order(Mutex<Sorted>);

#[derive(Debug, Default)]
struct Sorted {
    /// The numbers below this are in the pieces.
    numbers: u32,
    pieces: Pieces,
}

/// An entry's place among all: enough of its key to compare it with most others, and its number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// The first bytes of the full key, big-endian, padded with zeros: a keyspace, and 16 bytes.
    keyspace: u32,
    pub(super) number: u32,
    head: [u64; 2],
}

impl Order {
    /// All entries with numbers below `count`, and perhaps later ones.
    pub(super) fn up_to(&self, count: u32, nodes: &Nodes) -> Pieces {
        let mut sorted = self.0.lock();
        if sorted.numbers < count {
            let mut fresh: Vec<Place> =
                (sorted.numbers..count).filter_map(|n| Some(Place::of(n, nodes.get(n as usize)?))).collect();
            fresh.sort_unstable_by(|a, b| a.cmp(b, nodes));
            let mut last: Arc<[Place]> = fresh.into();
            while let Some(before) = sorted.pieces.last()
                && before.len() < RATIO * last.len()
            {
                last = join(before, &last, nodes);
                sorted.pieces.pop();
            }
            sorted.pieces.push(last);
            sorted.numbers = count;
        }
        sorted.pieces.clone()
    }
}

impl Place {
    fn of(number: u32, node: &Node) -> Self {
        let (keyspace, head) = head_of(&node.key);
        Self { keyspace, number, head }
    }

    pub(super) fn cmp(&self, other: &Self, nodes: &Nodes) -> Ordering {
        (self.keyspace, self.head).cmp(&(other.keyspace, other.head)).then_with(|| {
            let key = |place: &Self| nodes.get(place.number as usize).map(|node| &node.key[..]);
            // Of one key the later number is the later sequence number.
            key(self).cmp(&key(other)).then(other.number.cmp(&self.number))
        })
    }
}

/// How many places of `piece` lie before `(key, seq)`.
pub(super) fn places_before(piece: &[Place], key: &[u8], seq: Seq, nodes: &Nodes) -> usize {
    let wanted = head_of(key);
    piece.partition_point(|place| {
        let order = (place.keyspace, place.head).cmp(&wanted).then_with(|| {
            nodes
                .get(place.number as usize)
                .map_or(Ordering::Equal, |node| node.key[..].cmp(key).then(seq.cmp(&node.seq)))
        });
        order.is_lt()
    })
}

fn head_of(key: &[u8]) -> (u32, [u64; 2]) {
    let mut bytes = [0; 20];
    let known = key.len().min(bytes.len());
    bytes[..known].copy_from_slice(&key[..known]);
    let (keyspace, rest) = bytes.split_at(4);
    let word = |at: usize| rest[at..].first_chunk().map_or(0, |word| u64::from_be_bytes(*word));
    (keyspace.first_chunk().map_or(0, |word| u32::from_be_bytes(*word)), [word(0), word(8)])
}

fn join(a: &[Place], b: &[Place], nodes: &Nodes) -> Arc<[Place]> {
    let mut joined = Vec::with_capacity(a.len() + b.len());
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    loop {
        let next = match (a.peek(), b.peek()) {
            (Some(x), Some(y)) => {
                if x.cmp(y, nodes).is_lt() {
                    a.next()
                } else {
                    b.next()
                }
            }
            (Some(_), None) => a.next(),
            (None, _) => b.next(),
        };
        match next {
            Some(place) => joined.push(*place),
            None => return joined.into(),
        }
    }
}
