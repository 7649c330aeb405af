//! Runs the phases of a plan, one after another, and collects what each did.

use std::time::Instant;

use anyhow::{Context as _, Result};
use esker::{Compaction, Db, Reader};

use crate::{
    clients,
    dataset::Dataset,
    measure::{Latencies, Usage, peak_memory},
    options::Plan,
    process,
    report::{Amplification, PhaseReport, Report},
    target::Target,
    workload::{Phase, Through},
};

/// Everything the phases of a run share.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) db: Db,
    pub(crate) data: Dataset,
    pub(crate) plan: Plan,
}

/// The reader of a run. It is opened by the first phase that reads and kept, as a service keeps its own, so that later
/// phases find its cache as the earlier ones left it.
#[derive(Debug, Default)]
struct TheReader(Option<Reader>);

/// Runs every phase of `plan` at `target`.
pub(crate) async fn run(plan: &Plan, target: &Target) -> Result<Report> {
    let db = Db::builder(target.url())
        .compaction(Compaction::Off)
        .cache_bytes(plan.cache_bytes)
        .name("esker-bench")
        .open()
        .await
        .with_context(|| format!("no database could be opened at {}", target.url()))?;
    // Inserting phases may add as many rows again as were loaded.
    let data = Dataset::new(plan.rows * 2, plan.key_bytes, plan.value_bytes, plan.hashed, plan.seed);
    let bench = std::sync::Arc::new(Bench { db, data, plan: plan.clone() });
    let mut reader = TheReader::default();
    let mut report = Report::new(plan, bench.db.store().url());
    for phase in &plan.phases {
        report.announce(phase);
        let done = one(&bench, target, phase, &mut reader, &mut report).await?;
        report.add(done);
    }
    if let Some(reader) = reader.0 {
        reader.close().await?;
    }
    bench.db.close().await?;
    report.finish(peak_memory());
    Ok(report)
}

async fn one(
    bench: &std::sync::Arc<Bench>,
    target: &Target,
    phase: &Phase,
    the_reader: &mut TheReader,
    report: &mut Report,
) -> Result<PhaseReport> {
    let before = bench.db.stats();
    let written = bench.data.written();
    let usage = Usage::now();
    let mut done = match phase {
        Phase::Fill { name, durable } => {
            let latencies = clients::fill(bench, *durable).await?;
            bench.db.flush().await?;
            PhaseReport::new(name, latencies)
        }
        Phase::Flush => {
            let started = Instant::now();
            bench.db.flush().await?;
            PhaseReport::once("flush", started.elapsed())
        }
        Phase::Compact => {
            let started = Instant::now();
            // What is in memory is merged too, and the tree settles whole.
            bench.db.flush().await?;
            let merged = process::compact(&bench.plan.program, target.url()).await?;
            let mut done = PhaseReport::once("compact", started.elapsed());
            done.other_process = merged.requests;
            report.compactions.push(merged.summary);
            done
        }
        Phase::Stats => {
            let mut done = PhaseReport::new("stats", Latencies::new());
            let view = fresh_view(bench, target).await?;
            done.note = Some(tree(&view));
            done
        }
        Phase::FullScan { name, reverse } => {
            let reader = the_reader.fresh(bench, target).await?;
            let (requests, cache) = (reader.store().stats().snapshot(), reader.cache_stats());
            let mut done = PhaseReport::new(name, Latencies::new());
            done.rows = clients::full_scan(bench, reader, *reverse).await?;
            done.read_by(reader, &requests, &cache);
            done
        }
        Phase::Run { name, mix, spread, through: Through::Writer, durable } => {
            PhaseReport::ran(name, clients::run_mix(bench, None, *mix, *spread, *durable).await?)
        }
        Phase::Run { name, mix, spread, through: Through::Reader, durable } => {
            let reader = the_reader.fresh(bench, target).await?;
            let (requests, cache) = (reader.store().stats().snapshot(), reader.cache_stats());
            let ran = clients::run_mix(bench, Some(reader), *mix, *spread, *durable).await?;
            let mut done = PhaseReport::ran(name, ran);
            done.read_by(reader, &requests, &cache);
            done
        }
    };
    let (wall, cpu) = usage.elapsed();
    done.wall = wall;
    done.cpu = cpu;
    done.written = bench.data.written() - written;
    done.requests.extend(bench.db.stats().since(&before).requests);
    if matches!(phase, Phase::Compact) {
        report.amplification = Some(amplification(bench, target).await?);
    }
    Ok(done)
}

impl TheReader {
    /// The reader, holding everything written so far.
    async fn fresh(&mut self, bench: &Bench, target: &Target) -> Result<&Reader> {
        let token = bench.db.sync().await?;
        let reader = match self.0.take() {
            Some(open) => open,
            None => {
                let mut builder = Reader::builder(target.url()).cache_bytes(bench.plan.cache_bytes);
                if let Some(bytes) = bench.plan.ssd_bytes {
                    builder = builder.cache_dir(target.scratch().join("ssd"), bytes);
                }
                builder.open().await?
            }
        };
        reader.at_least(token).await?;
        Ok(self.0.insert(reader))
    }
}

/// The newest version, read from the store: the compactor's work is not the writer's to know.
async fn fresh_view(bench: &Bench, target: &Target) -> Result<std::sync::Arc<esker::manifest::View>> {
    bench.db.sync().await?;
    let reader = Reader::builder(target.url()).cache_bytes(1 << 20).follow(false).open().await?;
    let view = reader.view();
    reader.close().await?;
    Ok(view)
}

async fn amplification(bench: &Bench, target: &Target) -> Result<Amplification> {
    let view = fresh_view(bench, target).await?;
    let stored = view.runs.iter().flat_map(|r| r.ssts.iter()).map(|s| s.meta.bytes).sum();
    let raw = view.runs.iter().flat_map(|r| r.ssts.iter()).map(|s| s.meta.raw_bytes).sum();
    Ok(Amplification {
        rows: bench.data.rows(),
        live_bytes: bench.data.rows() * bench.data.row_bytes(),
        stored,
        raw,
    })
}

fn tree(view: &esker::manifest::View) -> String {
    use std::fmt::Write as _;
    let mut text = String::from("Level  Runs  SSTs        Bytes\n");
    let deepest = view.runs.iter().map(|r| r.level).max().unwrap_or(0);
    for level in 0..=deepest {
        let runs: Vec<_> = view.runs.iter().filter(|r| r.level == level).collect();
        let ssts: usize = runs.iter().map(|r| r.ssts.len()).sum();
        let bytes: u64 = runs.iter().flat_map(|r| r.ssts.iter()).map(|s| s.meta.bytes).sum();
        writeln!(
            text,
            "{level:>5} {:>5} {ssts:>5} {:>12}",
            runs.len(),
            bytesize::ByteSize(bytes).to_string()
        )
        .expect("a String takes every write");
    }
    text
}
