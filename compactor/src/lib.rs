//! The Esker compactor: merges sorted runs and collects garbage, as a process of its own.
//!
//! The merging is `esker::compaction`, the same code that a `Db` runs in its own process by default. Here is
//! what a service adds: when to look, whose turn it is, what to tell people, and how to stop.
//!
//! ```text
//! options   the command line                       worker    one claimed role: merge until nothing is due
//! service   --once and --watch, signals, exits     status    /healthz and /status
//! event     what happened, for people and as JSON    desk       where events and figures come together
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
mod service;
mod status;
mod worker;

pub use options::{Args, command};
pub use service::{Exit, run};

/// Sends logs to standard error, as readable lines. `RUST_LOG` chooses what; the default is `info` for Esker
/// and `warn` for the rest. Does nothing if the process logs already.
pub fn log_to_stderr() {
    use std::io::{IsTerminal as _, stderr};
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("warn,esker=info,esker_compactor=info"));
    let colour = stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    // Fails only if logging has been set up already, which is then how it shall be.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        .with_ansi(colour)
        .with_target(false)
        .try_init();
}
