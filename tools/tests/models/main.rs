//! The protocol as four small models, walked state by state, and the engine driven along their steps.
//!
//! | file | is a model of |
//! |---|---|
//! | `collect.rs` | collection beside writers, pins and checkpoints: what is named stays, orphans go |
//! | `commit.rs` | the commit rule of the manifest: verdicts, the floor, the ring, creates that land late or twice |
//! | `takeover.rs` | compactors: takeover, adoption of outputs through the job log, and what may be collected |
//! | `fencing.rs` | writers: the log, fences and the jump by K, collection of the log, and a reader that must be right |
//!
//! Every model has a list of mutations, each a plausible mistake; a mutation that breaks nothing fails the test.
#![expect(clippy::print_stdout, reason = "the number of states is the result of a model")]

mod collect;
mod commit;
mod drive;
mod explore;
mod fencing;
mod takeover;
