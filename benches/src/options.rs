//! What can be asked for on the command line, and what follows from it.

use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use bytesize::ByteSize;
use clap::error::ErrorKind;

use crate::{compare::CompareArgs, dataset::Dataset, workload::Phase};

/// The default run: load, hand over, YCSB A to F, scans.
const DEFAULT: &str = "load,compact,a,b,c,d,e,f,compact,readrandom,readmissing,scan,scan-reverse";

/// Measure the engine: throughput, latency, requests and dollars, every read verified.
///
/// Without arguments: loads half a million rows into a temporary local directory, hands over to a separate
/// compactor process, runs YCSB A to F, random reads and full scans through a cached reader, and prints a table.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  esker bench                                        the default run, about two minutes
  esker bench --minio                                the same on a MinIO server, started and stopped by the run
  esker bench --url s3://bucket/bench --workloads load,compact,c,scan
  esker bench --workloads fillrandom,overwrite,readrandom,readseq --num 1000000   db_bench's names
  esker bench --workloads load,b --rate 20000        open loop: 20,000 intended starts a second
  esker bench compare before.json after.json         what benches/peers measured, then and now
  esker bench --json > run.jsonl                     one line of JSON a phase, then a summary

Latencies are per operation. In an open loop (--rate) they count from the intended start, so waiting is not omitted.
Dollars are requests at S3 standard prices, wherever the run was made; storage and traffic are not in them.")]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    pub(crate) verb: Option<Verb>,
    /// Where the database goes: file:///…, s3://…, memory://…; a temporary directory by default. A fresh place:
    /// the run makes a database of its own below it.
    #[arg(long, conflicts_with = "minio")]
    url: Option<String>,
    /// Run on a MinIO server that this run starts on a free loopback port and stops at the end.
    #[arg(long)]
    minio: bool,
    /// Comma-separated phases: YCSB's a to f, load, compact, scan, or db_bench's names.
    #[arg(long, visible_alias = "benchmarks", default_value = DEFAULT)]
    workloads: String,
    /// Rows to load.
    #[arg(long, default_value_t = 500_000)]
    num: u64,
    /// Bytes of a key.
    #[arg(long, default_value_t = 20)]
    key_size: usize,
    /// Bytes of a value, half of them compressible.
    #[arg(long, default_value_t = 400)]
    value_size: usize,
    /// Concurrent clients.
    #[arg(long, visible_alias = "threads", default_value_t = 4)]
    clients: usize,
    /// How long each workload runs.
    #[arg(long, default_value = "6s")]
    duration: humantime::Duration,
    /// Operations a second over all clients, with intended start times (open loop). As fast as it goes by default.
    #[arg(long)]
    rate: Option<f64>,
    /// Memory of the block cache, of the writer and of the reader each.
    #[arg(long, default_value = "256MiB")]
    cache: ByteSize,
    /// Give the reader an SSD cache of this size too, in a temporary directory.
    #[arg(long)]
    ssd: Option<ByteSize>,
    /// Rows of one short scan, at most (YCSB E draws 1 to this).
    #[arg(long, default_value_t = 100)]
    scan_rows: usize,
    /// Seed of keys, values and choices.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A tenth of the rows and a sixth of the time.
    #[arg(long)]
    short: bool,
    /// JSON lines instead of tables.
    #[arg(long)]
    json: bool,
}

/// What can be done instead of a run.
#[derive(Debug, Clone, clap::Subcommand)]
pub(crate) enum Verb {
    Compare(CompareArgs),
}

/// Where a run takes place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    TemporaryDirectory,
    Minio,
    Url(String),
}

/// A run, with every default filled in.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) place: Place,
    pub(crate) phases: Vec<Phase>,
    pub(crate) rows: u64,
    pub(crate) key_bytes: usize,
    pub(crate) value_bytes: usize,
    pub(crate) hashed: bool,
    pub(crate) clients: usize,
    pub(crate) duration: Duration,
    pub(crate) rate: Option<f64>,
    pub(crate) cache_bytes: usize,
    pub(crate) ssd_bytes: Option<u64>,
    pub(crate) scan_rows: usize,
    pub(crate) seed: u64,
    pub(crate) json: bool,
    /// The program that answers to `compactor …`: this one.
    pub(crate) program: PathBuf,
}

/// An error of the command line, which is [`clap::Error`] to whoever turns errors into exit codes.
fn wrong(what: &str) -> anyhow::Error {
    clap::Error::raw(ErrorKind::ValueValidation, what).into()
}

/// That error unless `holds`.
pub(crate) fn usage(holds: bool, otherwise: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(wrong(otherwise)) }
}

/// What the phases need of each other and of the place.
fn fit(phases: &[Phase], place: &Place) -> Result<()> {
    usage(!phases.is_empty(), "--workloads names no phase")?;
    let is_fill = |phase: &&Phase| matches!(phase, Phase::Fill { .. });
    usage(
        !phases.iter().take_while(|phase| !is_fill(phase)).any(Phase::needs_rows),
        "--workloads has a phase that needs rows before any are loaded: begin with `load`, or a `fill…`",
    )?;
    let in_memory = matches!(place, Place::Url(url) if url.starts_with("memory:"));
    usage(
        !(in_memory && phases.contains(&Phase::Compact)),
        "`compact` hands over to another process, which cannot see memory://: leave it out of --workloads, or use file:///…",
    )
}

impl Args {
    /// What `Dataset` keeps for each row, twice over for those that are added later, is then 32 GB.
    const MOST_ROWS: u64 = 1_000_000_000;

    pub(crate) fn plan(&self) -> Result<Plan> {
        let phases = Phase::parse_list(&self.workloads).map_err(|error| wrong(&format!("{error:#}")))?;
        usage(
            (1..=Self::MOST_ROWS).contains(&self.num),
            &format!("--num must be 1 to {} (each row takes 32 bytes of memory here)", Self::MOST_ROWS),
        )?;
        usage(
            (Dataset::LEAST_KEY_BYTES..=1024).contains(&self.key_size),
            "--key-size must be 16 to 1024 (row numbers have 16 digits)",
        )?;
        usage((16..=1 << 20).contains(&self.value_size), "--value-size must be 16 to 1048576")?;
        usage((1..=4096).contains(&self.clients), "--clients must be 1 to 4096")?;
        usage(self.scan_rows > 0, "--scan-rows must be at least 1")?;
        usage(
            self.rate.is_none_or(|r| r > 0.0 && r < 1e9),
            "--rate must be a positive number of operations a second",
        )?;
        let cache = self.cache.as_u64();
        usage((1 << 16..=1 << 40).contains(&cache), "--cache must be 64KiB to 1TiB")?;
        let place = match (&self.url, self.minio) {
            (Some(url), _) => Place::Url(url.clone()),
            (None, true) => Place::Minio,
            (None, false) => Place::TemporaryDirectory,
        };
        fit(&phases, &place)?;
        let duration: Duration = self.duration.into();
        usage(duration >= Duration::from_millis(1), "--duration must be 1ms or more")?;
        Ok(Plan {
            place,
            rows: if self.short { (self.num / 10).max(1) } else { self.num },
            key_bytes: self.key_size,
            value_bytes: self.value_size,
            hashed: !phases.iter().any(|p| matches!(p, Phase::Fill { name, .. } if name == "fillseq")),
            phases,
            clients: self.clients,
            duration: if self.short { duration / 6 } else { duration },
            rate: self.rate,
            cache_bytes: usize::try_from(cache)?,
            ssd_bytes: self.ssd.map(|b| b.as_u64()),
            scan_rows: self.scan_rows,
            seed: self.seed,
            json: self.json,
            program: std::env::current_exe()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_that_need_rows_come_after_those_that_load_them() {
        let fits =
            |list: &str, place: &Place| fit(&Phase::parse_list(list).expect("known phases"), place).is_ok();
        let folder = Place::TemporaryDirectory;
        assert!(
            fits("load,scan", &folder)
                && fits("compact,fillrandom,c,compact", &folder)
                && fits("stats", &folder)
        );
        assert!(!fits("scan", &folder) && !fits("c,load", &folder) && !fits("", &folder));
        let memory = Place::Url("memory://x".to_owned());
        assert!(fits("load,c", &memory) && !fits("load,compact,c", &memory));
    }
}
