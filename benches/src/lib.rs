//! The benchmark harness: loads a database, hands it to a separate compactor process, runs workloads through a
//! cached reader, verifies every read, and reports latency, requests and dollars.
//!
//! `esker bench` is a door to [`run`]. A run is a list of phases; each is closed loop (as fast as the
//! clients go) or open loop (`--rate`: operations have intended start times, so a stall counts for all that wait behind it:
//! "coordinated omission", Gil Tene's term). Workload names are YCSB's (A to F) and `db_bench`'s.
//!
//! `benches/peers`, a workspace of its own, runs Esker beside other engines; it shares what is public here: keys and
//! values, distributions, latencies, and the file of samples that [`run`]'s `compare` reads.
//!
//! Always true: a read whose bytes are not an expected value fails the run; figures are printed only for what ran.
#![expect(clippy::disallowed_methods, reason = "a harness measures wall time and starts its own tasks")]

mod clients;
mod compare;
pub mod dataset;
pub mod distribution;
pub mod figures;
pub mod measure;
pub mod merging;
mod options;
pub mod pace;
mod phases;
mod process;
mod report;
pub mod sample;
mod target;
pub mod workload;

use std::{io::Write as _, process::ExitCode};

use anyhow::{Context as _, Result};

pub use options::Args;
use options::Verb;

/// Puts `text` on standard output. That the other end is gone is an [`std::io::Error`] like any other, for the program
/// to judge.
///
/// # Errors
/// When it cannot be written.
pub fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("standard output cannot be written")
}

/// Runs the benchmark that `args` describe, or compares two earlier ones, and prints the report on standard output.
///
/// # Errors
/// When the target cannot be opened, an operation fails, or a read returns anything but an expected value.
pub async fn run(args: Args) -> Result<ExitCode> {
    if let Some(Verb::Compare(compare)) = &args.verb {
        return compare.run();
    }
    let plan = args.plan()?;
    let target = target::Target::prepare(&plan).await?;
    let outcome = phases::run(&plan, &target).await;
    target.clean_up();
    let report = outcome?;
    print(&if plan.json { report.json_lines() } else { report.tables() })?;
    Ok(ExitCode::SUCCESS)
}
