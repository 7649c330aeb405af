//! The protocol as four small models, walked state by state, and the engine driven along their steps.
//!
//! | file | is a model of |
//! |---|---|
//! | `collect.rs` | collection beside writers, pins and checkpoints: what is named stays, orphans go |
//! | `takeover.rs` | compactors: takeover, adoption of outputs through the job log, and what may be collected |
//!
//! Every model has a list of mutations, each a plausible mistake; a mutation that breaks nothing fails the test.
#![expect(clippy::print_stdout, reason = "the number of states is the result of a model")]

mod collect;
mod explore;
mod takeover;
