//! Compaction: sorted runs are merged into fewer, larger ones, and what nobody needs any more is collected.
//!
//! ```text
//! shape     how many runs a level may hold                     numbers
//! plan      version -> what to merge next                      pure
//! spare     a plan less what would pass a hole                 pure
//! job       plan -> SSTs in the store                          reads, merges, uploads; commits nothing
//! record    a record of the job log                            bytes
//! history   what the records say together                      pure
//! log       the job log: read, append, take over
//! publish   the compactor role: claim, run jobs, commit edits
//! held      what pins and checkpoints hold                     reads
//! settled   what nobody names, and nobody can publish          pure
//! collect   what no version names is deleted                   the only file that deletes
//! schedule  when to collect                                    pure
//! ```
//!
//! A `Db` runs this in its own process by default, and `esker-compactor` runs the same code in another.
//!
//! Always true: a job that is dropped or fails leaves garbage and nothing else, and what of it was recorded is
//! adopted by whoever comes next, checked byte by byte, or becomes garbage as well; a merge is published only if
//! the entries written and the entries dropped add up to the entries read.

pub(crate) mod ahead;
pub mod collect;
mod held;
pub mod history;
pub mod job;
mod levels;
pub mod log;
mod merging;
mod newest;
pub mod outputs;
pub mod plan;
pub mod publish;
pub mod record;
pub mod schedule;
mod settled;
pub mod shape;
mod spare;

pub use collect::{Collected, collect};
pub use job::JobStats;
pub use plan::{Plan, Reason};
pub use publish::{Compactor, Did};
