//! A model of writers that fence one another, of the log between them, and of a reader that follows it.
//!
//! ```text
//! writer e    claim epoch e, at the root as it is ─▶ walk from its replay point, slot by slot
//!               ├─ DATA: replay it; FENCE at f: go on at f+K; an epoch above e: fenced
//!               └─ first absent slot t: does anything show that there was an object? ─▶ create FENCE(e) in t
//!                    ├─ an older writer was quicker: walk on over it
//!                    └─ ours ─▶ commit, if the epoch is still e, that the FENCE is there ─▶ run
//!             run: the n-th write goes to t+K+n, at most K of them in flight, acknowledged in slot order;
//!               flush what lies before p: SSTs, the replay point p, and the last durable slot as tail hint
//! collection  at any time: delete DATA before the replay point; each DELETE may come again
//! reader      strong read: walk to the first absent slot ─▶ take the newest version
//!               ├─ its replay point is past the slot the walk began at: discard the walk, begin again there
//!               ├─ something shows that there was an object in the absent slot: a hole
//!               └─ else answer, and remember the place for the next read; or read anew, with nothing remembered
//! the network does any create that was sent, and any DELETE, once more at any later moment
//! ```
//!
//! Nobody learns from a reply that is not there: a create that was sent lands now, later, never, or again
//! after its object was collected; its sender goes by the bytes in the slot. A crash is a writer that takes no
//! further step, which is every prefix of every run; so is a writer that has seen that it is fenced.
//!
//! Promised: what was acknowledged is in SSTs or replayed by every later opener; once an opener runs, no older
//! epoch acknowledges what it has not replayed, and nothing older that it has not replayed ever comes back;
//! void slots are never replayed; a strong read answers with all that was acknowledged or read before it
//! began, and what it has shown stays; nobody is fenced but by a newer epoch; what a crash leaves behind is never
//! taken for a hole in the log.
//!
//! Two rules are not among the mutations, since the others make them needless; they stay as a second defence: that
//! an object of an older epoch is stepped over (there is none outside the jump over a fence), and that whoever finds an
//! absent slot looks behind it, and for the last fence: only the store's own losses make that needful.
//!
//! Left out: the commit rule (a commit of the manifest is one step here; `commit` is its model), contents and
//! sequence numbers (a write is a bit, so replaying it twice is replaying it once), SSTs, and objects that
//! the store loses: the checks for those are here only to show that they raise no false alarm.
//!
//! Walked in every run, with K = 2: three writers of 2, 1 and 1 writes (485,239 states); three of one write each, and a
//! strong read (3,598,118); two of one write each, and two reads (108,443). 4.2 million states in all. The 20 mutations
//! are in `mutation.rs`, each with the promise that it breaks. `drive.rs` takes the engine's log along walks of this model.

mod drive;
mod log;
mod mutation;
mod reader;
mod rules;
mod state;
mod steps;
mod writers;

use stateright::{Checker, Expectation, HasDiscoveries, Model};

use crate::explore;
use mutation::{MUTATIONS, Mutation};
use state::EPOCHS;

/// How far the model goes.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    /// How many writers there are, one an epoch.
    epochs: u8,
    /// How many writes each makes.
    puts: [u8; EPOCHS],
    /// K.
    window: u8,
    /// How many strong reads there are.
    reads: u8,
}

#[derive(Debug, Clone)]
struct Fencing {
    bounds: Bounds,
    mutation: Option<Mutation>,
}

impl Fencing {
    fn has(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }
}

/// The worlds of one run, and of the long one. What the marks of a world are is in [`Fencing::marks`].
fn worlds() -> Vec<Bounds> {
    let writers = Bounds { epochs: 3, puts: [2, 1, 1], window: 2, reads: 0 };
    let reader = Bounds { puts: [1, 1, 1], reads: 1, ..writers };
    let again = Bounds { epochs: 2, puts: [1, 1, 0], reads: 2, ..writers };
    match explore::wide() {
        Some(_) => vec![
            Bounds { puts: [2, 2, 1], ..writers },
            Bounds { puts: [3, 2, 1], window: 3, ..writers },
            Bounds { window: 1, ..reader },
            Bounds { puts: [2, 1, 1], ..reader },
            Bounds { puts: [2, 2, 0], ..again },
        ],
        None => vec![writers, reader, again],
    }
}

#[test]
fn writers_fence_one_another_and_nothing_acknowledged_is_lost() {
    for bounds in worlds() {
        let what = format!("fencing, {bounds:?}");
        explore::holds(&what, &Fencing { bounds, mutation: None });
    }
}

#[test]
fn every_mistake_of_fencing_is_caught() {
    explore::all_caught("fencing", &MUTATIONS, |mutation| {
        let usual = Bounds { epochs: 3, puts: [2, 2, 1], window: 2, reads: 1 };
        let bounds = match mutation {
            Mutation::ShortJump => Bounds { puts: [3, 1, 1], window: 3, ..usual },
            Mutation::WindowOverrun => Bounds { puts: [3, 1, 1], ..usual },
            _ => usual,
        };
        Fencing { bounds, mutation: Some(mutation) }
    });
}

/// Some thirty steps deep, and no walk by chance comes there: a stalled opener's fence lands where a write was
/// collected, and leads a reader past what is new. So this one is looked for in order.
#[test]
fn a_boundary_that_is_compared_with_the_tail_alone_is_caught() {
    let bounds = Bounds { epochs: 3, puts: [1, 0, 1], window: 2, reads: 1 };
    let model = Fencing { bounds, mutation: Some(Mutation::BoundaryAtTheTail) };
    let promises = model.properties().into_iter().filter(|p| p.expectation == Expectation::Always);
    let checker =
        model.clone().checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_dfs().join();
    let found = checker.discoveries();
    let broken: Vec<_> =
        promises.map(|promise| promise.name).filter(|name| found.contains_key(name)).collect();
    println!("fencing: BoundaryAtTheTail: broken: {broken:?}, after {} states", checker.unique_state_count());
    assert!(!broken.is_empty(), "a reader may compare the replay point with the end of its walk alone");
}
