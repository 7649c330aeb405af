//! The deterministic simulator: the whole engine, several processes and a store that fails, in one thread.
//!
//! ```text
//! main      the command line: one seed, many seeds, replays
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

use std::{
    io::{IsTerminal as _, Write as _},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use clap::Parser;
use esker::clock::SystemClock;
use parking_lot::Mutex;

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

/// What many runs came to.
#[derive(Debug, Default, Clone, serde::Serialize)]
struct Summary {
    seeds: u64,
    operations: u64,
    calls: u64,
    faults: u64,
    crashes: u64,
    pauses: u64,
    versions: u64,
    failed: Vec<u64>,
    wasted: Vec<u64>,
    differing: Vec<u64>,
    seconds: f64,
}

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

/// Runs many seeds in parallel; whether one failed.
fn many(seeds: impl Iterator<Item = (u64, u64)>, twice: bool, args: &Args) -> bool {
    let clock = SystemClock::shared();
    let limit = args.minutes.map(|minutes| Duration::from_secs(minutes * 60));
    let mut seeds: Vec<(u64, u64)> = seeds.collect();
    seeds.reverse();
    let total = seeds.len() as u64;
    let left = Arc::new(Mutex::new(seeds));
    let summary = Arc::new(Mutex::new(Summary::default()));
    let done = Arc::new(AtomicU64::new(0));
    let bar = std::io::stderr().is_terminal().then(|| indicatif::ProgressBar::new(total));
    std::thread::scope(|scope| {
        for _ in 0..args.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    if limit.is_some_and(|limit| clock.monotonic() > limit) {
                        break;
                    }
                    let Some((seed, operations)) = left.lock().pop() else { break };
                    let options = Options::new(seed, operations);
                    let report = run(&options);
                    let differs = twice && run(&options).trace != report.trace;
                    summary.lock().add(&report, differs);
                    tell_failures(&report);
                    let done = done.fetch_add(1, Ordering::Relaxed) + 1;
                    if let Some(bar) = &bar {
                        bar.set_position(done);
                    }
                }
            });
        }
    });
    if let Some(bar) = &bar {
        bar.finish_and_clear();
    }
    let mut summary = summary.lock().clone();
    summary.seconds = clock.monotonic().as_secs_f64();
    say(&if args.json { format!("{}\n", summary.json()) } else { summary.line(twice) });
    !summary.failed.is_empty() || !summary.differing.is_empty()
}

impl Summary {
    fn add(&mut self, report: &Report, differs: bool) {
        let (seed, counts) = (report.drawn.seed, &report.counts);
        self.seeds += 1;
        self.operations += counts.operations;
        self.calls += counts.calls;
        self.faults += counts.faults;
        self.crashes += counts.crashes;
        self.pauses += counts.pauses;
        self.versions += counts.versions;
        if !report.failures.is_empty() {
            self.failed.push(seed);
        }
        if !report.missing().is_empty() {
            self.wasted.push(seed);
        }
        if differs {
            self.differing.push(seed);
        }
    }

    fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    fn line(&self, twice: bool) -> String {
        let list = |seeds: &[u64]| {
            let few: Vec<String> = seeds.iter().take(20).map(u64::to_string).collect();
            format!("{}{}{}", seeds.len(), if few.is_empty() { "" } else { ": " }, few.join(" "))
        };
        let mut line = format!(
            "{} seeds{}, {} operations, {} faults, {} crashes, {} pauses, {} versions, {} store calls, {:.1} s\n\
             failed {}\nwasted {}\n",
            self.seeds,
            if twice { " twice" } else { "" },
            self.operations,
            self.faults,
            self.crashes,
            self.pauses,
            self.versions,
            self.calls,
            self.seconds,
            list(&self.failed),
            list(&self.wasted)
        );
        if twice {
            line += &format!("differing {}\n", list(&self.differing));
        }
        line
    }
}

fn say(text: &str) {
    // Whoever has stopped listening has heard enough.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}
