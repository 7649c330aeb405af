//! The protocol as four small models, walked state by state, and the engine driven along their steps.
//!
//! | folder | is a model of | the engine is driven along it |
//! |---|---|---|
//! | `commit` | the commit rule of the manifest: verdicts, the floor, the ring, creates that land late or twice | `commit/drive.rs` |
//! | `fencing` | writers: the log, fences and the jump by K, collection of the log, and a reader that must be right | `fencing/drive.rs` |
//! | `takeover` | compactors: takeover, adoption of outputs through the job log, and what may be collected | no |
//! | `collect` | collection beside writers, pins and checkpoints: what is named stays, orphans go | no |
//!
//! In each folder: `mod.rs` what it promises, its bounds and its tests; `state.rs` its states and steps; `steps.rs` and
//! files named after who acts, what a step does; `rules.rs` the promises and coverage marks; `mutation.rs` plausible
//! mistakes, each with the promise it breaks: one that breaks nothing fails the test. `explore.rs` walks the models,
//! and `drive` holds what the drivers of the engine share.
#![expect(clippy::print_stdout, reason = "the number of states is the result of a model")]

mod collect;
mod commit;
mod drive;
mod explore;
mod fencing;
mod takeover;
