//! The Esker compactor: merges sorted runs and collects garbage, as a process of its own.
//!
//! The merging is `esker::compaction`, the same code that a `Db` runs in its own process by default. Here is
//! what a service adds: when to look, whose turn it is, what to tell people, and how to stop.
//!
//! ```text
//! options   the command line                       worker    one claimed role: merge until nothing is due
//! service   --once and --watch, signals, exits     status    /healthz and /status
//! event     what happened, for people and as JSON    desk       where events and figures come together
//! process   runtime, logs and signals of our programs
//! ```
//!
//! Always true: killing it anywhere loses nothing and leaves at most garbage; two of them on one database
//! take turns, and the one that waits says for whom.
//!
//! The executable `esker-compactor` and the command `esker compactor` are two doors to [`run`]:
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use clap::Parser;
//!
//! let args = esker_compactor::Args::parse_from(["esker-compactor", "--url", "memory://example", "--once"]);
//! let code = esker_compactor::run(args).await?;
//! # Ok(())
//! # }
//! ```

mod desk;
mod event;
mod options;
mod process;
mod service;
mod status;
mod worker;

pub use options::{Args, command};
pub use process::{log_to_stderr, runtime, stop_signal};
pub use service::{Exit, run};
