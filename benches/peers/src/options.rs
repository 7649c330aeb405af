//! What can be asked for on the command line, and what follows from it.

use std::{path::PathBuf, time::Duration};

use anyhow::{Result, ensure};
use bytesize::ByteSize;
use clap::{Parser, Subcommand};
use esker_bench::dataset::Dataset;
use serde::{Deserialize, Serialize};

use crate::{
    engine::Kind,
    results::ResultsArgs,
    store::Store,
    workload::{ALL, Workload},
};

/// Esker beside SlateDB, fjall and RocksDB: the same workloads over the same rows, in turns, every read verified.
///
/// Each round gives every engine a process, a place and a database of its own, in an order that rotates; the table shows
/// medians over the rounds, how far they lie apart, and the ratio of Esker to each peer.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true, after_help = after_help(), after_long_help = after_help())]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) verb: Option<Verb>,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Print the table of a file that an earlier run has written.
    Table {
        /// The file of samples.
        file: PathBuf,
    },
    /// Run all that the page of results needs, and write the page and its plots; or write it from earlier runs.
    Results(Box<ResultsArgs>),
    /// One engine in one round, told on standard input; runs start it themselves.
    #[command(hide = true)]
    Session,
}

/// One run: which engines do what, and where.
#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    /// Comma-separated stores: memory, dir, dir-fsync, minio, each with +standard or +express for a latency.
    #[arg(long, default_value = "memory,memory+standard,memory+express")]
    stores: String,
    /// Comma-separated workloads, or sets: warm, cold, durable, ycsb, all; `default` is warm and durable where the store is
    /// near, cold and durable where it is far.
    #[arg(long, default_value = "default")]
    workloads: String,
    /// Where the samples go.
    #[arg(long, default_value = "peers.json")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    plan: PlanArgs,
}

/// What runs have in common.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct PlanArgs {
    /// Comma-separated engines; all by default.
    #[arg(long)]
    engines: Option<String>,
    /// How often everything is done.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Rows; several numbers, separated by commas, make sessions for each.
    #[arg(long, alias = "nums", value_delimiter = ',', default_value = "1000000")]
    num: Vec<u64>,
    /// Bytes of a key.
    #[arg(long, default_value_t = 16)]
    key_size: usize,
    /// Bytes of a value, half of them compressible.
    #[arg(long, default_value_t = 400)]
    value_size: usize,
    /// Memory for each engine's cache of blocks, indexes and filters together.
    #[arg(long, default_value = "256MiB")]
    cache: ByteSize,
    /// Concurrent clients; several numbers, separated by commas, make sessions for each.
    #[arg(long, alias = "callers", value_delimiter = ',', default_value = "2")]
    clients: Vec<usize>,
    /// Threads that clients and engines share; engines may have others of their own.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// How long each workload is measured.
    #[arg(long, default_value = "5s")]
    duration: humantime::Duration,
    /// How long a warm workload runs before it is measured.
    #[arg(long, default_value = "2s")]
    warmup: humantime::Duration,
    /// Operations a second over all clients, with intended start times (open loop). As fast as it goes by default.
    #[arg(long)]
    rate: Option<f64>,
    /// Rows a second that are written beside in read-while-writing.
    #[arg(long, default_value_t = 10_000.0)]
    write_rate: f64,
    /// Operations of a cold workload, measured.
    #[arg(long, default_value_t = 300)]
    cold_ops: u64,
    /// Operations before those, which bring metadata into memory.
    #[arg(long, default_value_t = 100)]
    cold_warmup: u64,
    /// Handles that open and cold-get-first open in each round.
    #[arg(long, default_value_t = 5)]
    opens: u32,
    /// Rows in the log that open-log replays.
    #[arg(long, default_value_t = 20_000)]
    log_rows: u64,
    /// How many times the rows overwrite updates, chosen at random.
    #[arg(long, default_value_t = 3.0)]
    overwrites: f64,
    /// How long overwrite waits, when it is quiet, before it looks at what an engine of objects has left: for collectors of
    /// garbage.
    #[arg(long, default_value = "75s")]
    rest: humantime::Duration,
    /// Seed of keys, values, choices and latencies.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A process that takes longer than this for its workloads is ended, and its engine's round left out.
    #[arg(long, default_value = "30m")]
    session_limit: humantime::Duration,
    /// Two thousand rows, one round, a fifth of a second a workload: does everything run?
    #[arg(long)]
    smoke: bool,
}

/// A run, with every default filled in.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    /// One for each number of rows and of clients.
    pub(crate) plans: Vec<Plan>,
    pub(crate) engines: Vec<Kind>,
    pub(crate) stores: Vec<Store>,
    pub(crate) rounds: u32,
    pub(crate) session_limit: Duration,
}

/// What is the same in every session of a size.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) workloads: String,
    pub(crate) rows: u64,
    pub(crate) key_bytes: usize,
    pub(crate) value_bytes: usize,
    pub(crate) cache_bytes: u64,
    pub(crate) clients: usize,
    pub(crate) threads: usize,
    pub(crate) duration: Duration,
    pub(crate) warmup: Duration,
    pub(crate) rate: Option<f64>,
    pub(crate) write_rate: f64,
    pub(crate) cold_operations: u64,
    pub(crate) cold_warmup: u64,
    pub(crate) opens: u32,
    pub(crate) log_rows: u64,
    pub(crate) overwrites: f64,
    pub(crate) rest: Duration,
    /// A store that nobody writes to for so long is at rest.
    pub(crate) quiet: Duration,
    pub(crate) seed: u64,
}

impl RunArgs {
    pub(crate) fn run(&self) -> Result<Run> {
        self.plan.run(&self.stores, &self.workloads)
    }
}

impl PlanArgs {
    /// The same with other numbers of rows, clients and rounds.
    pub(crate) fn sized(&self, rows: &[u64], clients: &[usize], rounds: u32) -> Self {
        Self { num: rows.to_vec(), clients: clients.to_vec(), rounds, ..self.clone() }
    }

    /// Whether everything is to be small.
    pub(crate) fn is_smoke(&self) -> bool {
        self.smoke
    }

    /// Shorter: less of everything, and at most so many rows, so that a page is there in minutes and says little.
    pub(crate) fn shorten(&mut self, most_rows: u64) {
        self.rounds = self.rounds.min(2);
        self.num.iter_mut().for_each(|rows| *rows = (*rows).min(most_rows));
        self.duration = Duration::from(self.duration).min(Duration::from_secs(1)).into();
        self.warmup = Duration::from(self.warmup).min(Duration::from_millis(300)).into();
        self.cold_ops = self.cold_ops.min(50);
        self.cold_warmup = self.cold_warmup.min(50);
        self.opens = self.opens.min(2);
        self.log_rows = self.log_rows.min(5000);
    }

    /// The one number of rows and the one of clients, if there is one each.
    pub(crate) fn size(&self) -> Option<(u64, usize)> {
        match (&self.num[..], &self.clients[..]) {
            ([rows], [clients]) => Some((*rows, *clients)),
            _ => None,
        }
    }

    /// These `workloads` on these `stores`.
    pub(crate) fn run(&self, stores: &str, workloads: &str) -> Result<Run> {
        let engines = match &self.engines {
            None => Kind::ALL.to_vec(),
            Some(list) => list.split(',').map(str::trim).map(str::parse).collect::<Result<_>>()?,
        };
        let stores = stores.split(',').map(str::trim).map(str::parse).collect::<Result<Vec<Store>>>()?;
        for store in &stores {
            let found = Workload::parse_list(workloads, *store)?;
            ensure!(!found.is_empty(), "--workloads names none");
        }
        ensure!(self.num.iter().all(|rows| *rows > 0), "--num must be at least 1");
        ensure!(self.log_rows > 0, "--log-rows must be at least 1");
        ensure!(
            (Dataset::LEAST_KEY_BYTES..=1024).contains(&self.key_size),
            "--key-size must be {} to 1024",
            Dataset::LEAST_KEY_BYTES
        );
        ensure!((16..=1 << 20).contains(&self.value_size), "--value-size must be 16 to 1048576");
        ensure!(self.clients.iter().all(|n| (1..=4096).contains(n)), "--clients must be 1 to 4096");
        ensure!((1..=256).contains(&self.threads), "--threads must be 1 to 256");
        ensure!(self.rounds > 0, "--rounds must be at least 1");
        ensure!(self.overwrites > 0.0 && self.overwrites <= 1000.0, "--overwrites must be above 0, to 1000");
        for rate in self.rate.into_iter().chain([self.write_rate]) {
            ensure!(rate > 0.0 && rate < 1e9, "a rate must be a positive number of operations a second");
        }
        let sizes =
            self.num.iter().flat_map(|rows| self.clients.iter().map(move |clients| (*rows, *clients)));
        let mut plans: Vec<Plan> = sizes.map(|(rows, clients)| self.plan(workloads, rows, clients)).collect();
        if self.smoke {
            plans.iter_mut().for_each(Plan::shrink);
        }
        Ok(Run {
            plans,
            engines,
            stores,
            rounds: if self.smoke { 1 } else { self.rounds },
            session_limit: self.session_limit.into(),
        })
    }

    fn plan(&self, workloads: &str, rows: u64, clients: usize) -> Plan {
        Plan {
            workloads: workloads.to_owned(),
            rows,
            key_bytes: self.key_size,
            value_bytes: self.value_size,
            cache_bytes: self.cache.as_u64(),
            clients,
            threads: self.threads,
            duration: self.duration.into(),
            warmup: self.warmup.into(),
            rate: self.rate,
            write_rate: self.write_rate,
            cold_operations: self.cold_ops,
            cold_warmup: self.cold_warmup,
            opens: self.opens,
            log_rows: self.log_rows,
            overwrites: self.overwrites,
            rest: if self.smoke { Duration::ZERO } else { self.rest.into() },
            quiet: Duration::MAX,
            seed: self.seed,
        }
    }
}

/// Rows when everything is to be small.
pub(crate) const SMOKE_ROWS: u64 = 2000;

impl Plan {
    /// So small that everything runs in a minute.
    fn shrink(&mut self) {
        self.rows = self.rows.min(SMOKE_ROWS);
        self.duration = self.duration.min(Duration::from_millis(200));
        self.warmup = self.warmup.min(Duration::from_millis(50));
        self.cold_operations = self.cold_operations.min(20);
        self.cold_warmup = self.cold_warmup.min(10);
        self.opens = self.opens.min(2);
        self.log_rows = self.log_rows.min(500);
        self.quiet = Duration::from_millis(100);
    }
}

fn after_help() -> String {
    let mut text = String::from(
        "\
Examples:
  esker-peers                                        everything: memory warm, standard and express cold; an hour or two
  esker-peers --smoke                                does everything run? in a minute
  esker-peers --stores memory --workloads read-random,read-zipf --rounds 7
  esker-peers --engines esker,slatedb --stores minio+standard --workloads cold,durable
  esker-peers --stores dir-fsync --workloads durable
  esker-peers --stores memory --workloads ycsb-b --rate 20000      open loop: 20,000 intended starts a second
  esker-peers --stores dir --workloads overwrite --overwrites 5    write and space amplification, and the longest pause
  esker-peers --stores memory --workloads read-random --clients 1,2,4,16,256      how it grows with callers
  esker-peers --stores dir --workloads fill,scan --num 1000000,10000000           and with rows
  esker-peers --out new.json && esker bench compare old.json new.json
  esker-peers table peers.json
  esker-peers results                                everything for benches/RESULTS.md, and the page; some hours
  esker-peers results --from results.json            the page again, from samples

Workloads:
",
    );
    for workload in ALL {
        text.push_str(&format!("  {:<20} {}\n", workload.name, workload.about));
    }
    text.push_str(
        "
Latencies are per operation; in an open loop they count from the intended start, so waiting is not omitted. Dollars are
requests at S3 standard prices, wherever the run was made. Samples go to --out after each session; the table to
standard output, in Markdown.",
    );
    text
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound_and_its_examples_are_understood() {
        Args::command().debug_assert();
        let help = after_help();
        let examples = help.lines().filter_map(|line| line.trim().strip_prefix("esker-peers"));
        let mut count = 0;
        for example in examples {
            let command =
                example.split("  ").next().unwrap_or_default().split("&&").next().unwrap_or_default();
            let words = std::iter::once("esker-peers").chain(command.split_whitespace());
            let args = Args::try_parse_from(words).unwrap();
            match args.verb {
                None => assert!(!args.run.run().unwrap().plans.is_empty()),
                Some(Verb::Results(results)) => assert!(results.parts().is_ok()),
                Some(_) => {}
            }
            count += 1;
        }
        assert!(count > 5);
    }

    #[test]
    fn every_number_of_rows_meets_every_number_of_clients() {
        let args = Args::parse_from([
            "esker-peers",
            "--nums",
            "1000,3000",
            "--callers",
            "1,16",
            "--workloads",
            "scan",
        ]);
        let sizes: Vec<(u64, usize)> =
            args.run.run().unwrap().plans.iter().map(|p| (p.rows, p.clients)).collect();
        assert_eq!(sizes, [(1000, 1), (1000, 16), (3000, 1), (3000, 16)]);
        let none = Args::parse_from(["esker-peers", "--num", "1000,0"]).run.run();
        assert!(none.unwrap_err().to_string().contains("--num"));
    }

    #[test]
    fn an_engine_that_is_not_there_is_refused_by_name() {
        let parse = |engine: &str| Args::parse_from(["esker-peers", "--engines", engine]).run.run();
        assert!(parse("leveldb").unwrap_err().to_string().contains("leveldb"));
        assert_eq!(parse("esker,fjall").unwrap().engines, [Kind::Esker, Kind::Fjall]);
    }
}
