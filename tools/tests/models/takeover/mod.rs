//! A model of compactors that take over from one another: adoption through the job log, and collection beside it.
//!
//! ```text
//! compactor e   claim ─▶ list job/ ─▶ append Takeover(e) ─▶ above floor/job? ─▶ read the log before it
//!                 ├─ adopt outputs of an unfinished job: append Job(e) that names them
//!                 │    ─▶ was the record they come from above floor/job all the time? ─▶ commit ─▶ append Done
//!                 └─ own job: append Job(e) and upload, in either order ─▶ commit, or give up ─▶ append Done
//!               then, at any time: raise the counter floor (no job unfinished), raise floor/job below Takeover(e)
//! collector     raise floor/manifest, drop versions, read floor/job ─▶ list job/ ─▶ get the records, floor/job again
//!                 ─▶ read the versions that remain ─▶ list SSTs ─▶ delete
//! the network   does any create again later, long after its sender has gone on or has gone
//! ```
//!
//! An SST may go when no version names it, no unfinished job in the log names it, and it is settled: its epoch
//! is under that of the newest Takeover *seen in the log in this pass*, or it is of the epoch that holds the role
//! and its counter is under the floor which that has committed.
//!
//! Promised: a version that exists names no SST that has been deleted.
//!
//! Facts that a walk of this model has shown, each of them among the rules above since:
//! - a Takeover that lies behind one of a newer epoch is void: its owner is fenced, and must not raise floor/job;
//! - the collector reads floor/job before it lists and after it has read, and starts over if it has moved;
//! - a Done of a superseded epoch does not count;
//! - an adopter compares floor/job once its own Job is in the log, as a reader does once its pin is written;
//! - the counter floor goes over a job that was given up only once its Done is in the log.
//!
//! Whether a Takeover is above floor/job when it has landed matters for progress only: one that is not counts for
//! nobody, and its owner adopts nothing.
//!
//! Left out: the commit rule (a commit of the manifest is one step here; `commit` is its model), the writer's
//! SSTs (no one adopts them; `collect`), contents (a job has one input and one output), several workers of
//! one epoch, records that are deleted one by one. A crash is a compactor that takes no further step, which is every
//! prefix of every run.
//!
//! Walked in every run: three holders in a row, one output each of the first two, 6 slots of the job log (7,005,590
//! states); two holders and a create that lands late or twice (1,586,078). 8.6 million states in all. The 18 mutations are
//! in `mutation.rs`, each with the promise that it breaks.

mod collector;
mod compactors;
mod jobs;
mod mutation;
mod rules;
mod state;
mod steps;

use crate::explore;
use mutation::{MUTATIONS, Mutation};
use state::{EPOCHS, Step};

/// How far the model goes.
#[derive(Debug, Clone)]
struct Bounds {
    /// How many compactors there are, one an epoch.
    epochs: u8,
    /// How many outputs each makes.
    outputs: [u8; EPOCHS],
    /// How many inputs there are at first.
    inputs: u8,
    /// The last slot of the job log.
    slots: u8,
    /// How many creates are under way for long, or twice.
    flights: usize,
}

#[derive(Debug, Clone)]
struct Takeover {
    bounds: Bounds,
    mutation: Option<Mutation>,
}

impl Takeover {
    fn has(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }
}

/// Three holders one after another, and a network that delivers at once.
const IN_A_ROW: Bounds = Bounds { epochs: 3, outputs: [1, 1, 0], inputs: 1, slots: 6, flights: 0 };

/// Two holders, and creates that land late or twice.
const LATE: Bounds = Bounds { epochs: 2, outputs: [1, 1, 0], inputs: 1, slots: 6, flights: 1 };

/// Both: for walks by chance, and a base for the long run.
const BOTH: Bounds = Bounds { epochs: 3, outputs: [1, 1, 0], inputs: 1, slots: 7, flights: 1 };

#[test]
fn compactors_take_over_and_nothing_named_is_collected() {
    let bounds = match explore::wide() {
        Some(_) => vec![Bounds { outputs: [2, 2, 1], inputs: 2, slots: 8, flights: 2, ..BOTH }],
        None => vec![IN_A_ROW, LATE],
    };
    let states: usize = bounds
        .into_iter()
        .map(|bounds| explore::holds("takeover", &Takeover { bounds, mutation: None }))
        .sum();
    assert!(states > 1_000_000, "only {states} states");
}

#[test]
fn every_mistake_of_a_takeover_is_caught() {
    explore::all_caught("takeover", &MUTATIONS, |mutation| Takeover {
        bounds: BOTH,
        mutation: Some(mutation),
    });
}

/// Walks by chance come to this one too seldom: the collector has read the log before the job is in it, and the
/// manifest after its counters are declared settled; the next holder finds the job unfinished.
#[test]
fn a_counter_floor_over_a_job_without_a_done_loses_what_the_next_adopts() {
    let steps = [
        Step::Begin,
        Step::ListLog,
        Step::ReadRecords,
        Step::Start(1, 0b1000_0000),
        Step::Append(1),
        Step::Upload(1),
        Step::GiveUp(1),
        Step::RaiseCounterFloor(1),
        Step::ReadVersions,
        Step::Claim(2),
        Step::FindTail(2),
        Step::Append(2),
        Step::CheckFloor(2),
        Step::ReadLog(2, 2),
        Step::Append(2),
        Step::CheckFloor(2),
        Step::Commit(2),
        Step::Delete(1),
    ];
    let mistaken = Takeover { bounds: BOTH, mutation: Some(Mutation::CountersBeforeDone) };
    assert!(explore::breaks(&mistaken, &steps), "the mistake is not noticed");
    let right = Takeover { bounds: BOTH, mutation: None };
    assert!(!explore::breaks(&right, &steps), "the rule does not help");
}
