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
//! What is sorted are places of 24 bytes that carry the head of their key: most comparisons end there. Keys tend to begin
//! alike (a keyspace, a table, leading zeros), so the head is taken behind the prefix that a sample of the keys shares; a
//! key without it lies before or behind all that have it. With as much unsorted as sorted, all is sorted anew, with a
//! prefix of its own.
//!
//! Always true: a piece holds the numbers from one to another, each once, ordered by full key ascending and then by
//! sequence number descending; the pieces hold all numbers below the unsorted ones, and their heads have one prefix.

use std::{cmp::Ordering, sync::Arc};

use parking_lot::Mutex;
use smallvec::SmallVec;

use super::Nodes;
use crate::key::{KEYSPACE_BYTES, Seq};

/// A piece is joined to the next one unless it is so many times as long.
const RATIO: usize = 4;

/// How many keys are looked at for the prefix that they share.
const SAMPLE: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Order(Mutex<Sorted>);

#[derive(Debug, Default)]
struct Sorted {
    /// The numbers below this are in the pieces.
    numbers: u32,
    pieces: Pieces,
}

/// What is sorted, as a cursor holds it.
#[derive(Debug, Clone, Default)]
pub(super) struct Pieces {
    /// What the heads leave out.
    prefix: Arc<[u8]>,
    sorted: SmallVec<[Arc<[Place]>; 4]>,
}

/// An entry's place among all: enough of its key to compare it with most others, and its number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    // The parts of its head, with the number in what lies idle between them.
    side: Side,
    pub(super) number: u32,
    bytes: [u64; 2],
}

const _: () = assert!(size_of::<Place>() == 24);

/// Where a key lies, as far as a few bytes say: if heads differ, the keys differ in the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Head {
    side: Side,
    /// 16 bytes, big-endian, padded with zeros: those behind the prefix, or the first if the key has not got it.
    bytes: [u64; 2],
}

/// On which side of the keys that have the prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Before,
    Within,
    Behind,
}

impl Order {
    /// All entries with numbers below `count`, and perhaps later ones.
    pub(super) fn up_to(&self, count: u32, nodes: &Nodes) -> Pieces {
        let mut order = self.0.lock();
        let Sorted { numbers, pieces } = &mut *order;
        if *numbers < count {
            if count - *numbers >= *numbers {
                *numbers = 0;
                *pieces = Pieces { prefix: shared_prefix(count, nodes), ..Pieces::default() };
            }
            let Pieces { prefix, sorted } = pieces;
            let place = |n| Some(Place::new(Head::of(&nodes.get(n as usize)?.key, prefix), n));
            let mut fresh: Vec<Place> = (*numbers..count).filter_map(place).collect();
            fresh.sort_unstable_by(|a, b| a.cmp(b, nodes));
            let mut last: Arc<[Place]> = fresh.into();
            while let Some(before) = sorted.last()
                && before.len() < RATIO * last.len()
            {
                last = join(before, &last, nodes);
                sorted.pop();
            }
            sorted.push(last);
            *numbers = count;
        }
        pieces.clone()
    }
}

impl Pieces {
    /// The pieces, each in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[Place]> {
        self.sorted.iter().map(|piece| &piece[..])
    }

    /// How many places of `piece`, one of these, lie before `(key, seq)`.
    pub(super) fn places_before(&self, piece: &[Place], key: &[u8], seq: Seq, nodes: &Nodes) -> usize {
        let wanted = Head::of(key, &self.prefix);
        piece.partition_point(|place| {
            let order = place.head().cmp(&wanted).then_with(|| {
                nodes
                    .get(place.number as usize)
                    .map_or(Ordering::Equal, |node| node.key[..].cmp(key).then(seq.cmp(&node.seq)))
            });
            order.is_lt()
        })
    }
}

impl Place {
    fn new(head: Head, number: u32) -> Self {
        Self { side: head.side, number, bytes: head.bytes }
    }

    #[inline]
    fn head(&self) -> Head {
        Head { side: self.side, bytes: self.bytes }
    }

    /// Of places whose heads have one prefix.
    pub(super) fn cmp(&self, other: &Self, nodes: &Nodes) -> Ordering {
        self.head().cmp(&other.head()).then_with(|| {
            let key = |place: &Self| nodes.get(place.number as usize).map(|node| &node.key[..]);
            // Of one key the later number is the later sequence number.
            key(self).cmp(&key(other)).then(other.number.cmp(&self.number))
        })
    }
}

impl Head {
    fn of(key: &[u8], prefix: &[u8]) -> Self {
        let (side, rest) = match key.strip_prefix(prefix) {
            Some(rest) => (Side::Within, rest),
            None if key < prefix => (Side::Before, key),
            None => (Side::Behind, key),
        };
        let mut bytes = [0; 16];
        let known = rest.len().min(bytes.len());
        bytes[..known].copy_from_slice(&rest[..known]);
        let word = |at: usize| bytes[at..].first_chunk().map_or(0, |word| u64::from_be_bytes(*word));
        Self { side, bytes: [word(0), word(8)] }
    }
}

/// What some of the keys below `count` begin with, spread over all.
fn shared_prefix(count: u32, nodes: &Nodes) -> Arc<[u8]> {
    let stride = (count as usize / SAMPLE).max(1);
    let mut sample =
        (0..count as usize).step_by(stride).filter_map(|n| nodes.get(n)).map(|node| &node.key[..]);
    let Some(first) = sample.next() else { return Arc::default() };
    let shared = |a: &[u8], b: &[u8]| a.iter().zip(b).take_while(|(a, b)| a == b).count();
    // Of a single key nothing is left out but its keyspace: others will differ in the rest.
    let most = if count == 1 { KEYSPACE_BYTES.min(first.len()) } else { first.len() };
    first[..sample.fold(most, |most, key| shared(&first[..most], key))].into()
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
