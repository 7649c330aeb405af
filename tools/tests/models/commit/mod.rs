//! A model of the commit rule of the manifest: committers, a network that repeats itself, and collectors beside them.
//!
//! ```text
//! committer     list versions ─▶ get the highest ─▶ above the floor? believe it (else list again); or get the next
//!                 ─▶ a new attempt: its slot is the next one, it builds on what is believed
//!                 ─▶ create ─┬─ a definite success ───────────────────▶ above the floor? ── yes: committed
//!                    ▲       └─ any other answer, or none ─▶ get slot ─┬─ ours ─▲           no ─┐
//!                    └──────────────── absent: the same bytes again ───┴─ another's ────────────┴▶ the latest, its ring
//!               the ring: lists us: committed; lists another: not committed; does not reach back: OutcomeUnknown
//! collector     choose a floor under the latest ─▶ raise the floor ─▶ delete what is at or under it, in any order
//! the network   does any create again later, long after its slot was filled and was freed
//! ```
//!
//! The *chain* is the first object that ever was in each slot. Promised:
//!
//! - it is one chain: each version builds on the one before it;
//! - what was reported as committed is in it, what was reported as not committed is not and never will be;
//! - whatever is believed is in it: an object at or under the floor is never believed by how it looks;
//! - what lies above the floor is of the chain, and its end is there: the latest is never deleted.
//!
//! Left out: edits (an attempt is its bytes; rebasing one is a new attempt), parts, epochs, the proof of a follower
//! that nothing newer is there. The collector finds the latest in one step, and a list is of one moment. A crash is
//! a committer that takes no further step, which is every prefix of every run; one that gives up may open again.
//!
//! Walked in every run: two committers and one collector with two creates that land late (4 slots, 4 attempts, a ring of
//! 2: 2,043,904 states); a ring of 1 (3 slots: 64,965); two collectors (3 slots: 380,067). 2.5 million states in all.
//! The 14 mutations are in `mutation.rs`, each with the promise that it breaks. `drive.rs` takes the engine's manifest
//! along walks of this model.

mod collectors;
mod committers;
mod drive;
mod mutation;
mod rules;
mod state;
mod steps;

use crate::explore;
use mutation::{MUTATIONS, Mutation};

/// How far the model goes.
#[derive(Debug, Clone)]
struct Bounds {
    committers: u8,
    collectors: u8,
    /// The last slot of the manifest.
    slots: u8,
    /// How many attempts there are in all, the first version being one.
    attempts: u8,
    /// How many creates are under way for long, or twice.
    flights: usize,
    /// How many attempts a version remembers, itself being one.
    ring: usize,
}

#[derive(Debug, Clone)]
struct Commit {
    bounds: Bounds,
    mutation: Option<Mutation>,
}

impl Commit {
    fn has(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }
}

/// Two committers and one collector, creates that land late and twice.
const LATE: Bounds = Bounds { committers: 2, collectors: 1, slots: 4, attempts: 4, flights: 2, ring: 2 };

/// A ring that soon does not reach back.
const FORGETFUL: Bounds = Bounds { slots: 3, flights: 0, ring: 1, ..LATE };

/// Two collectors, one slower than the other.
const SLOW: Bounds = Bounds { collectors: 2, slots: 3, flights: 0, ..LATE };

/// All: for walks by chance, and a base for the long run.
const ALL: Bounds = Bounds { committers: 3, collectors: 2, slots: 6, attempts: 7, flights: 2, ring: 2 };

#[test]
fn a_commit_is_reported_as_what_it_is() {
    let bounds = match explore::wide() {
        Some(_) => vec![Bounds { ring: 3, ..ALL }],
        None => vec![LATE, FORGETFUL, SLOW],
    };
    let states: usize =
        bounds.into_iter().map(|bounds| explore::holds("commit", &Commit { bounds, mutation: None })).sum();
    assert!(states > 1_000_000, "only {states} states");
}

#[test]
fn every_mistake_of_a_commit_is_caught() {
    explore::all_caught("commit", &MUTATIONS, |mutation| {
        let bounds = match mutation {
            // Two come this far apart too seldom.
            Mutation::ShortRingBelieved => Bounds { ring: 1, ..ALL },
            _ => ALL,
        };
        Commit { bounds, mutation: Some(mutation) }
    });
}
