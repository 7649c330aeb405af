//! What can be asked for on the command line, and what follows from it.

use std::{path::PathBuf, time::Duration};

use anyhow::{Result, ensure};
use bytesize::ByteSize;
use clap::{Parser, Subcommand};
use esker_bench::dataset::Dataset;
use serde::{Deserialize, Serialize};

use crate::{
    engine::Kind,
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
    /// One engine in one round, told on standard input; runs start it themselves.
    #[command(hide = true)]
    Session,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    /// Comma-separated engines; all by default.
    #[arg(long)]
    engines: Option<String>,
    /// Comma-separated stores: memory, dir, dir-fsync, minio, each with +standard or +express for a latency.
    #[arg(long, default_value = "memory,memory+standard,memory+express")]
    stores: String,
    /// Comma-separated workloads, or sets: warm, cold, durable, ycsb, all; `default` is warm and durable where the store is
    /// near, cold and durable where it is far.
    #[arg(long, default_value = "default")]
    workloads: String,
    /// How often everything is done.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Rows.
    #[arg(long, default_value_t = 1_000_000)]
    num: u64,
    /// Bytes of a key.
    #[arg(long, default_value_t = 16)]
    key_size: usize,
    /// Bytes of a value, half of them compressible.
    #[arg(long, default_value_t = 400)]
    value_size: usize,
    /// Memory for each engine's cache of blocks, indexes and filters together.
    #[arg(long, default_value = "256MiB")]
    cache: ByteSize,
    /// Concurrent clients.
    #[arg(long, default_value_t = 2)]
    clients: usize,
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
    /// Seed of keys, values, choices and latencies.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the samples go.
    #[arg(long, default_value = "peers.json")]
    out: PathBuf,
    /// A process that takes longer than this for its workloads is ended, and its engine's round left out.
    #[arg(long, default_value = "30m")]
    session_limit: humantime::Duration,
    /// Two thousand rows, one round, a fifth of a second a workload: does everything run?
    #[arg(long)]
    smoke: bool,
}

/// A run, with every default filled in.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) plan: Plan,
    pub(crate) engines: Vec<Kind>,
    pub(crate) stores: Vec<Store>,
    pub(crate) rounds: u32,
    pub(crate) out: PathBuf,
    pub(crate) session_limit: Duration,
}

/// What is the same in every session.
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
    /// A store that nobody writes to for so long is at rest.
    pub(crate) quiet: Duration,
    pub(crate) seed: u64,
}

impl RunArgs {
    pub(crate) fn run(&self) -> Result<Run> {
        let engines = match &self.engines {
            None => Kind::ALL.to_vec(),
            Some(list) => list.split(',').map(str::trim).map(str::parse).collect::<Result<_>>()?,
        };
        let stores = self.stores.split(',').map(str::trim).map(str::parse).collect::<Result<Vec<Store>>>()?;
        for store in &stores {
            let workloads = Workload::parse_list(&self.workloads, *store)?;
            ensure!(!workloads.is_empty(), "--workloads names none");
        }
        ensure!(self.num > 0 && self.log_rows > 0, "--num and --log-rows must be at least 1");
        ensure!(
            (Dataset::LEAST_KEY_BYTES..=1024).contains(&self.key_size),
            "--key-size must be {} to 1024",
            Dataset::LEAST_KEY_BYTES
        );
        ensure!((16..=1 << 20).contains(&self.value_size), "--value-size must be 16 to 1048576");
        ensure!((1..=4096).contains(&self.clients), "--clients must be 1 to 4096");
        ensure!((1..=256).contains(&self.threads), "--threads must be 1 to 256");
        ensure!(self.rounds > 0, "--rounds must be at least 1");
        for rate in self.rate.into_iter().chain([self.write_rate]) {
            ensure!(rate > 0.0 && rate < 1e9, "a rate must be a positive number of operations a second");
        }
        let mut plan = Plan {
            workloads: self.workloads.clone(),
            rows: self.num,
            key_bytes: self.key_size,
            value_bytes: self.value_size,
            cache_bytes: self.cache.as_u64(),
            clients: self.clients,
            threads: self.threads,
            duration: self.duration.into(),
            warmup: self.warmup.into(),
            rate: self.rate,
            write_rate: self.write_rate,
            cold_operations: self.cold_ops,
            cold_warmup: self.cold_warmup,
            opens: self.opens,
            log_rows: self.log_rows,
            quiet: Duration::MAX,
            seed: self.seed,
        };
        if self.smoke {
            plan.rows = plan.rows.min(2000);
            plan.duration = plan.duration.min(Duration::from_millis(200));
            plan.warmup = plan.warmup.min(Duration::from_millis(50));
            plan.cold_operations = plan.cold_operations.min(20);
            plan.cold_warmup = plan.cold_warmup.min(10);
            plan.opens = plan.opens.min(2);
            plan.log_rows = plan.log_rows.min(500);
            plan.quiet = Duration::from_millis(100);
        }
        Ok(Run {
            plan,
            engines,
            stores,
            rounds: if self.smoke { 1 } else { self.rounds },
            out: self.out.clone(),
            session_limit: self.session_limit.into(),
        })
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
  esker-peers --out new.json && esker bench compare old.json new.json
  esker-peers table peers.json

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
            args.run.run().unwrap();
            count += 1;
        }
        assert!(count > 5);
    }

    #[test]
    fn an_engine_that_is_not_there_is_refused_by_name() {
        let parse = |engine: &str| Args::parse_from(["esker-peers", "--engines", engine]).run.run();
        assert!(parse("leveldb").unwrap_err().to_string().contains("leveldb"));
        assert_eq!(parse("esker,fjall").unwrap().engines, [Kind::Esker, Kind::Fjall]);
    }
}
