//! The entries of a memtable by number, in pieces of one size.
//!
//! A list that doubles would ask for the memory of as many entries again at once, and who waits for that is every writer: it
//! grows under their lock. Megabytes of fresh pages take milliseconds, and tens of them where a hypervisor gives them. (The
//! index still doubles, see `index.rs`: it is a fraction of this.)
//!
//! Always true: an entry never moves, and is there for good once it has been pushed.

use std::sync::OnceLock;

use super::Node;

/// Entries in a piece: some 56 KiB.
const PIECE: usize = 512;

type Piece = Box<[OnceLock<Node>]>;

/// All entries, by number. One thread pushes, any number read.
#[derive(Debug)]
pub(super) struct Nodes {
    pieces: boxcar::Vec<Piece>,
}

impl Nodes {
    pub(super) fn new() -> Self {
        Self { pieces: boxcar::Vec::new() }
    }

    #[inline]
    pub(super) fn get(&self, number: usize) -> Option<&Node> {
        self.pieces.get(number / PIECE)?.get(number % PIECE)?.get()
    }

    /// Adds the entry of this number: the next one. Only by the thread that inserts.
    pub(super) fn push(&self, number: usize, node: Node) {
        if number.is_multiple_of(PIECE) {
            let piece: Piece = (0..PIECE).map(|_| OnceLock::new()).collect();
            let at = self.pieces.push(piece);
            debug_assert_eq!(at, number / PIECE, "pieces come in order");
        }
        let place = self.pieces.get(number / PIECE).and_then(|piece| piece.get(number % PIECE));
        let pushed = place.map(|place| place.set(node).is_ok());
        // An accepted write would be gone, and nobody would know before it is flushed.
        assert!(pushed == Some(true), "entry {number} is not the next one");
    }
}
