//! `esker-peers`: Esker beside SlateDB, fjall and RocksDB, in one run on one machine.
//!
//! | file | is |
//! |---|---|
//! | `options` | the command line |
//! | `rounds` | a run: processes, one after another, in an order that rotates |
//! | `session` | one such process: an engine, a store, a list of workloads |
//! | `workload`, `clients` | what is measured, and who does it |
//! | `engine/` | the trait that workloads know, and a small file for each engine |
//! | `store/` | where the bytes lie, how far away they seem, and what is asked for |
//! | `figure` | what is taken from a sample, and how it is read |
//! | `table` | what was found |
//! | `results/` | all of it on one page, beside what was wanted |
//!
//! Keys and values, distributions, latencies and the file of samples are the harness's own: `esker_bench`.
#![expect(clippy::disallowed_methods, reason = "a harness measures wall time and starts its own tasks")]

mod clients;
mod engine;
mod figure;
mod options;
mod results;
mod rounds;
mod session;
mod store;
mod table;
mod workload;

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser as _;
use esker_bench::{print, sample::Samples};
use tokio::runtime::{Builder, Runtime};

use crate::{
    engine::Kind,
    options::{Args, Verb},
    session::{Said, Session},
};

/// One for all engines, those in C++ too (`override` in Cargo.toml): the one of our own programs.
#[global_allocator]
static MEMORY: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Where memory comes from, as results say it.
pub(crate) const ALLOCATOR: &str = "mimalloc, which keeps what is freed (but not where memory is measured)";

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    match args.verb {
        Some(Verb::Session) => in_session(),
        Some(Verb::Table { file }) => {
            print(&table::markdown(&Samples::read(&file)?))?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Verb::Results(results)) => current_thread()?.block_on(results::run(&results)),
        None => {
            let run = args.run.run()?;
            let mut samples = rounds::begun(&run);
            let went_well = current_thread()?.block_on(rounds::run(&run, &mut samples, &args.run.out))?;
            print(&table::markdown(&samples))?;
            Ok(if went_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    }
}

/// For who waits for other processes.
fn current_thread() -> Result<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

/// One session: what it is comes on standard input, what it finds goes to standard output.
fn in_session() -> Result<ExitCode> {
    let session: Session = serde_json::from_reader(std::io::stdin().lock())
        .context("a session is told as JSON on standard input")?;
    let mut runtime = Builder::new_multi_thread();
    runtime.worker_threads(session.plan.threads).enable_all();
    if session.engine == Kind::Esker {
        // As our own programs run it.
        runtime.max_blocking_threads(esker::blocking_threads());
    }
    let runtime = runtime.build()?;
    let tell = |said: Said| {
        // Who started this process may be gone; then nobody wants to know.
        if let Ok(line) = serde_json::to_string(&said) {
            let _ = print(&format!("{line}\n"));
        }
    };
    let outcome = runtime.block_on(async {
        // On a worker, as the clients are, and not on the thread that waits for the runtime.
        tokio::spawn(async move { session::run(&session, &tell).await.map_err(|error| format!("{error:#}")) })
            .await
    });
    match outcome {
        Ok(Ok(())) => Ok(ExitCode::SUCCESS),
        Ok(Err(why)) => {
            tell(Said::Failed(why));
            Ok(ExitCode::FAILURE)
        }
        Err(panicked) => {
            tell(Said::Failed(panicked.to_string()));
            Ok(ExitCode::FAILURE)
        }
    }
}
