//! The deterministic simulator: the whole engine, several processes and a store that fails, in one thread.
//!
//! ```text
//! main      the command line: one seed, many seeds, replays               batch    many, side by side
//! run       one run: chaos, heal, check      swarm   what a seed draws         dice     chance
//! world     what is shared                   process machines and lives        life     running, paused, dead
//! store     a connection, faults and all     fate    what becomes of a request objects  what the store holds
//! workload  what clients do                  judge   whether an error was fair heal     what must converge
//! history   what happened, as data           order    the one order of writes      failure  a broken rule
//! model     every read, judged               linear   a second opinion             walk     the log
//! invariants the store, object by object     merge    what a version changed
//! shorten   a smaller run that fails alike   report   a failure, told
//! ```
//!
//! `cargo simulate SEED` runs one seed and tells what it did; `--seeds N` many; `--replay N` each twice, to see
//! that a seed repeats exactly. Seeds that once failed are in `seeds.txt` and run with every `--seeds`.
//!
//! Always true: the same seed, options and sources give the same run, which the trace hash shows.

mod batch;
mod dice;
mod failure;
mod fate;
mod heal;
mod history;
mod invariants;
mod judge;
mod life;
mod linear;
mod merge;
mod model;
mod objects;
mod order;
mod process;
mod report;
mod run;
mod shorten;
mod store;
mod swarm;
#[cfg(test)]
mod tests;
mod walk;
mod workload;
mod world;

use std::{io::Write as _, process::ExitCode};

use clap::Parser;
use esker::clock::SystemClock;

use batch::many;
use run::{Report, run};
use shorten::{Options, shorten};

/// Runs the engine in a simulated world, by seeds.
#[derive(Debug, Parser)]
#[command(name = "simulate")]
struct Args {
    /// One seed, told in detail.
    seed: Option<u64>,
    /// Run so many seeds, and those that failed before.
    #[arg(long, conflicts_with = "seed")]
    seeds: Option<u64>,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Run so many seeds twice; they must do the same.
    #[arg(long, conflicts_with_all = ["seed", "seeds"])]
    replay: Option<u64>,
    /// Threads, each with runs of its own.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Operations of clients in a run.
    #[arg(long, default_value_t = 2_000)]
    operations: u64,
    /// Begin no seed after so many minutes.
    #[arg(long)]
    minutes: Option<u64>,
    /// A run that takes longer than so many seconds of real time stands still, and has failed.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    patience: u64,
    /// What to leave out of what a seed draws, with commas between: what the line of a failure says.
    #[arg(long, default_value = "", requires = "seed")]
    without: String,
    /// A failing seed is run up to so often again, to find a smaller run that fails alike.
    #[arg(long, default_value_t = 60, value_name = "RUNS")]
    shorten: usize,
    /// Everything that goes into the trace hash is written to this file.
    #[arg(long, value_name = "FILE", requires = "seed")]
    trace: Option<std::path::PathBuf>,
    /// The summary as JSON.
    #[arg(long)]
    json: bool,
}

/// Seeds that failed once, with what they showed: `seed operations why`.
const PAST: &str = include_str!("seeds.txt");

fn main() -> ExitCode {
    world::remember_panics();
    let args = Args::parse();
    let failed = match (args.seed, args.replay) {
        (Some(seed), _) => one(seed, &args),
        (None, Some(seeds)) => {
            many((args.from..args.from + seeds).map(|seed| (seed, args.operations)), true, &args)
        }
        (None, None) => {
            let seeds = args.seeds.unwrap_or(1);
            let fresh = (args.from..args.from + seeds).map(|seed| (seed, args.operations));
            many(past().chain(fresh), false, &args)
        }
    };
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// The seeds that failed before, with their operations.
fn past() -> impl Iterator<Item = (u64, u64)> {
    PAST.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let mut words = line.split_whitespace();
        Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
    })
}

/// Tells one run in detail; whether it failed.
fn one(seed: u64, args: &Args) -> bool {
    let clock = SystemClock::shared();
    let options = match Options::new(seed, args.operations).leave_out(&args.without) {
        Ok(options) => options,
        Err(name) => {
            say(&format!("nothing called {name:?} can be left out\n"));
            return true;
        }
    };
    if let Some(path) = &args.trace {
        match std::fs::File::create(path) {
            Ok(file) => world::tell_to(file),
            Err(error) => {
                say(&format!("{} cannot be written: {error}\n", path.display()));
                return true;
            }
        }
    }
    let report = run(&options);
    let mut told = format!("seed {seed}\n{}\n", report.drawn);
    told += &format!(
        "did        {} operations, {} store calls, {} faults, {} crashes, {} pauses, {} versions, in {:.1} s of {:.0} s\n",
        report.counts.operations,
        report.counts.calls,
        report.counts.faults,
        report.counts.crashes,
        report.counts.pauses,
        report.counts.versions,
        clock.monotonic().as_secs_f64(),
        report.virtual_ms as f64 / 1000.0
    );
    told += "reached   ";
    for (what, times) in &report.marks {
        told += &format!(" {what} × {times},");
    }
    told += &format!("\ntrace      {:016x}\n", report.trace);
    if !report.missing().is_empty() {
        told += &format!("wasted     without {}\n", report.missing().join(", "));
    }
    say(&told);
    if report.given_up > 0 {
        say(&format!("given up   the second opinion on {} keys\n", report.given_up));
    }
    let Some(first) = report.failures.first().cloned() else { return false };
    tell_failures(&report);
    let (least, _, runs) =
        shorten(options.clone(), first, args.shorten, |options| run(options).failures.into_iter().next());
    if least != options {
        say(&format!("\nshortened, in {runs} runs\n"));
        tell_failures(&run(&least));
    }
    true
}

/// Tells what failed: the first failure with its history, of the others the rule.
fn tell_failures(report: &Report) {
    let Some((first, others)) = report.failures.split_first() else { return };
    say(&report::tell(&report.history, first, &report.options));
    others.iter().for_each(|failure| say(&format!("and        {failure}\n")));
}

pub(crate) fn say(text: &str) {
    // Whoever has stopped listening has heard enough.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}
