//! A model of garbage collection beside writers, a compactor, readers with pins, and a maker of checkpoints.
//!
//! ```text
//! writer e    claim ─▶ upload, commit, give up, in any order; commit a counter floor under what is undecided
//! compactor   replaces everything the latest version names, in one step
//! reader      choose the latest version ─▶ write the pin ─▶ above floor/manifest? ─▶ read SST after SST ─▶ release
//! maker       choose ─▶ pin ─▶ above the floor? ─▶ create the checkpoint ─▶ pin not lapsed, or above the floor?
//!               ─▶ release; somebody deletes the checkpoint at any time
//! collector   choose F, note what the versions above it name ─▶ raise floor/manifest to F ─▶ drop versions up to F
//!               ─▶ pins ─▶ checkpoints ─▶ versions committed since ─▶ list SSTs, delete them one by one
//! the network does any PUT of an SST, pin or checkpoint again later, long after its sender has gone on
//! time        lets a pin lapse at any moment: its holder knows that first, and a scan ends in "expired"
//! ```
//!
//! An SST may go when nothing that was read names it, and it is settled: its epoch is under that of the latest
//! version *as read in this pass*, or is that one and its counter is under the floor in the same version.
//!
//! Promised: what a version above the floor, a pin whose reader counts on it, or a checkpoint names is there; a
//! version above the floor is there; a reader that believes in its pin finds every SST; a name is given out once.
//!
//! A checkpoint counts from the moment it is in the store, if its maker's pin has not lapsed by then; the maker may
//! have crashed right after. One that comes later counts if its maker has seen that it is above the floor; otherwise
//! the maker has said that the outcome is unknown, and nothing is promised.
//!
//! Facts that a walk of this model has shown:
//! - a pass that finds a version dropped which was committed after it began must end, for another pass has raised the
//!   floor over it, and what it named may have a pin since that this pass has not seen (`MissingVersionPassedOver`);
//! - the versions may be read before the pins, as most are when F is chosen, if the epoch and the counter floor are
//!   those of the last version whose names were read, and not of a later one (`VersionsBeforePins`);
//! - a checkpoint protects nothing before it is in the store: its maker's pin must last until then, or its maker must
//!   look at the floor once more after that (`CheckpointWithoutPin`, `NoFloorCheckOfCheckpoint`).
//!
//! Left out: the commit rule (a commit is one step; `commit` is its model), the job log and compactors that take
//! over (`takeover`), scans so short that they are not pinned, and how old things are: F is any version under
//! the latest. A crash is an actor that takes no further step; a pass that crashes is begun anew.
//!
//! Walked in every run, with two epochs and one compaction: a reader and a checkpoint (1,969,821 states); two passes side
//! by side and two compactions (487,351); PUTs that land late, of SSTs and a pin (612,566), of SSTs and a checkpoint
//! (413,529), of several SSTs of both writers (764,619). 4.2 million states in all. The 19 mutations are in
//! `mutation.rs`, each with the promise that it breaks.

mod holders;
mod mutation;
mod passes;
mod rules;
mod state;
mod steps;
mod writers;

use crate::explore;
use mutation::{MUTATIONS, Mutation};
use state::{EPOCHS, FIRST, READERS, Step};

/// How far the model goes.
#[derive(Debug, Clone)]
struct Bounds {
    /// How many SSTs each writer makes.
    outputs: [u8; EPOCHS],
    /// How many SSTs of a writer are undecided at a time.
    undecided: u32,
    compactions: u8,
    versions: u8,
    /// How many scans each reader makes.
    scans: [u8; READERS],
    checkpoints: u8,
    collectors: u8,
    /// How many PUTs are under way for long, or twice.
    flights: u32,
}

#[derive(Debug, Clone)]
struct Collect {
    bounds: Bounds,
    mutation: Option<Mutation>,
}

impl Collect {
    fn has(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }
}

/// A reader and a checkpoint, and a network that delivers at once.
const PINS: Bounds = Bounds {
    outputs: [1, 0],
    undecided: 1,
    compactions: 1,
    versions: 4,
    scans: [1, 0],
    checkpoints: 1,
    collectors: 1,
    flights: 0,
};

/// Two passes side by side; writers only claim.
const TWO_PASSES: Bounds = Bounds { outputs: [0, 0], compactions: 2, checkpoints: 0, collectors: 2, ..PINS };

/// PUTs of SSTs and of a pin that land late.
const LATE_PIN: Bounds = Bounds { checkpoints: 0, flights: 1, ..PINS };

/// PUTs of SSTs and of a checkpoint that land late.
const LATE_CHECKPOINT: Bounds = Bounds { scans: [0, 0], flights: 1, ..PINS };

/// Two writers with several SSTs that land late; nobody reads.
const WRITERS: Bounds =
    Bounds { outputs: [2, 1], undecided: 2, scans: [0, 0], checkpoints: 0, flights: 1, ..PINS };
/// All of it: a base for the long run.
const ALL: Bounds = Bounds {
    outputs: [2, 1],
    undecided: 2,
    compactions: 2,
    versions: 7,
    scans: [1, 1],
    checkpoints: 1,
    collectors: 2,
    flights: 1,
};

#[test]
fn nothing_that_a_version_a_pin_or_a_checkpoint_names_is_collected() {
    let bounds = match explore::wide() {
        Some(_) => vec![Bounds { outputs: [3, 2], versions: 8, flights: 2, ..ALL }],
        None => vec![PINS, TWO_PASSES, LATE_PIN, LATE_CHECKPOINT, WRITERS],
    };
    let states: usize =
        bounds.into_iter().map(|bounds| explore::holds("collect", &Collect { bounds, mutation: None })).sum();
    assert!(states > 1_000_000, "only {states} states");
}

#[test]
fn every_mistake_of_a_collection_is_caught() {
    explore::all_caught("collect", &MUTATIONS, |mutation| Collect { bounds: ALL, mutation: Some(mutation) });
}

/// The first SST of writer 2.
const OF_EPOCH_2: u8 = 0b1000;

/// These take millions of steps of chance; the steps to which one such walk was shortened are taken in order.
#[test]
fn mistakes_that_chance_seldom_finds_are_caught() {
    let begin_to_end = |g| std::iter::repeat_n(Step::Next(g), 5);
    let pins_before_floor = [
        // The pins are listed; then the reader pins and looks at the floor; then that is raised.
        vec![Step::Choose(0), Step::Compact, Step::Begin(0, 1), Step::Next(0)],
        vec![Step::WritePin(0), Step::CheckFloor(0)],
        begin_to_end(0).take(4).collect(),
        vec![Step::Delete(0, FIRST)],
    ];
    let checkpoints_before_pins = [
        // The checkpoints are listed; then one is made, and its pin released; then the pins are listed.
        vec![Step::MakerChooses, Step::Compact, Step::MakerPins, Step::MakerChecksFloor, Step::Begin(0, 1)],
        begin_to_end(0).take(3).collect(),
        vec![Step::Create, Step::Confirm],
        begin_to_end(0).take(2).collect(),
        vec![Step::Delete(0, FIRST)],
    ];
    let missing_version_passed_over = [
        // A version committed during this pass names an SST, is pinned, and is dropped by another pass before this
        // one has read it; the pin was written after this one listed the pins.
        vec![Step::Claim(2), Step::Begin(1, 1), Step::Next(1)],
        vec![
            Step::Start(2),
            Step::Upload(2, OF_EPOCH_2),
            Step::Commit(2, OF_EPOCH_2),
            Step::Next(1),
            Step::Next(1),
        ],
        vec![Step::MakerChooses, Step::Compact, Step::Begin(0, 3), Step::MakerPins, Step::MakerChecksFloor],
        vec![Step::Next(1), Step::Next(0), Step::Create, Step::Next(0), Step::Next(1)],
        vec![Step::Delete(1, OF_EPOCH_2)],
    ];
    let no_floor_check_of_checkpoint = [
        // The maker's pin lapses; a pass takes what it held; then the checkpoint is made, and said to be kept.
        vec![Step::MakerChooses, Step::MakerPins, Step::MakerChecksFloor, Step::MakerLapses, Step::Compact],
        vec![Step::Begin(0, 1)],
        begin_to_end(0).collect(),
        vec![Step::Delete(0, FIRST), Step::Create, Step::Confirm],
    ];
    for (mutation, steps) in [
        (Mutation::PinsBeforeFloor, pins_before_floor.concat()),
        (Mutation::CheckpointsBeforePins, checkpoints_before_pins.concat()),
        (Mutation::MissingVersionPassedOver, missing_version_passed_over.concat()),
        (Mutation::NoFloorCheckOfCheckpoint, no_floor_check_of_checkpoint.concat()),
    ] {
        let mistaken = Collect { bounds: ALL, mutation: Some(mutation) };
        assert!(explore::breaks(&mistaken, &steps), "{mutation:?} is not noticed");
        let right = Collect { bounds: ALL, mutation: None };
        assert!(!explore::breaks(&right, &steps), "the rule against {mutation:?} does not help");
    }
}
