//! `esker-peers results`: everything that the page of results says, run and written by one command.
//!
//! ```text
//! parts ──▶ rounds of sessions ──▶ samples (results.json) ──┬─▶ judge (goals) ─┬─▶ page  RESULTS.md
//!                                  --from FILE… ────────────┘   bounds.md ─────┘   scale ──▶ plots  results/*.svg
//! ```
//!
//! | file | is |
//! |---|---|
//! | `parts` | which workloads on which stores at which sizes |
//! | `merge` | the part that needs no session |
//! | `gather` | one file of several |
//! | `goals`, `judge` | what was wanted, and whether it is there |
//! | `bounds` | what people wrote about it |
//! | `machine` | what the peers did there and here |
//! | `page`, `scale`, `plots` | what is written |
//!
//! Always true: a row's figures come from one run: where several files have it, the last one's. The page says how it was made.
#![expect(clippy::print_stderr, reason = "progress, and what is missing of a page")]

mod bounds;
mod gather;
mod goals;
mod judge;
mod machine;
mod merge;
mod page;
mod parts;
mod plots;
mod scale;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::SystemTime,
};

use anyhow::{Context as _, Result, bail, ensure};
use esker_bench::sample::Samples;
use serde_json::{Value, json};

use self::{bounds::Bounds, parts::Part};
use crate::{
    options::{Plan, PlanArgs, SMOKE_ROWS},
    rounds,
};

/// Rows of a quick run.
const QUICK_ROWS: u64 = 100_000;

const EXAMPLES: &str = "\
Parts, all by default, in this order; all of them take some hours:
  merge      a merge in memory, on one core
  near       warm and durable workloads, memory
  far        cold and durable ones, standard and express
  overwrite  sustained overwriting, in a folder
  rows       how figures move with the number of rows (--scale-rows, --scale-rounds), in a folder: 30 M rows take tens of GB
  callers    and with the number of clients (--scale-callers, --scale-rounds)

Examples:
  esker-peers results                                     everything, and ../RESULTS.md
  esker-peers results --quick                             minutes, and target/quick/RESULTS.md
  esker-peers results --parts near --out near.json        a part by itself
  esker-peers results --from near.json far.json           the page of both; nothing is run

Where two files have the same workload on the same store at the same scale, the last one's figures are taken, for every
engine. Plots go into the folder `results` beside the page; its file `bounds.md` has a section `## workload` for each row that says
what bounds it. Rows without one are named on standard error.";

/// What is told of a page.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ResultsArgs {
    /// Run nothing: write the page from these files of samples.
    #[arg(long, num_args = 1.., value_name = "FILE")]
    from: Vec<PathBuf>,
    /// A run of minutes: 100,000 rows, two rounds, a second a workload. The page goes to target/quick, unless --page says
    /// otherwise.
    #[arg(long)]
    quick: bool,
    /// Comma-separated parts: merge, near, far, overwrite, rows, callers.
    #[arg(long, value_delimiter = ',', default_value = "merge,near,far,overwrite,rows,callers")]
    parts: Vec<String>,
    /// Where the samples go.
    #[arg(long, default_value = "results.json")]
    out: PathBuf,
    /// The page [default: ../RESULTS.md].
    #[arg(long)]
    page: Option<PathBuf>,
    /// Comma-separated numbers of rows for the part `rows` [default: 1, 10 and 30 times --num].
    #[arg(long, value_delimiter = ',')]
    scale_rows: Vec<u64>,
    /// Comma-separated numbers of clients for the part `callers`.
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,16,256")]
    scale_callers: Vec<usize>,
    /// Rounds of the parts `rows` and `callers`.
    #[arg(long, default_value_t = 1)]
    scale_rounds: u32,
    #[command(flatten)]
    plan: PlanArgs,
}

/// Runs, or reads, and writes the page.
pub(crate) async fn run(args: &ResultsArgs) -> Result<ExitCode> {
    let mut went_well = true;
    let samples = if args.from.is_empty() {
        let (samples, all) = measure(args).await?;
        went_well = all;
        samples
    } else {
        gather::gather(args.from.iter().map(|file| Samples::read(file)).collect::<Result<_>>()?)?
    };
    let page = args.page();
    let missing = write(&samples, &page)?;
    for what in &missing {
        eprintln!("{what}");
    }
    eprintln!("written: {}", page.display());
    Ok(if went_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl ResultsArgs {
    /// What is to be run.
    pub(crate) fn parts(&self) -> Result<Vec<Part>> {
        let mut plan = self.plan.clone();
        if plan.is_smoke() {
            plan.shorten(SMOKE_ROWS);
        } else if self.quick {
            plan.shorten(QUICK_ROWS);
        }
        let Some((rows, clients)) = plan.size() else {
            bail!(
                "results have one --num and one --clients; what else is to be measured, --scale-rows and --scale-callers say"
            )
        };
        let scale_rows = match &self.scale_rows[..] {
            [] if self.quick || plan.is_smoke() => vec![rows / 4, rows],
            [] => vec![rows, rows * 10, rows * 30],
            told => told.to_vec(),
        };
        ensure!(self.scale_rounds > 0, "--scale-rounds must be at least 1");
        let sizes = parts::Sizes {
            scale_rows: &scale_rows,
            clients,
            scale_callers: &self.scale_callers,
            scale_rounds: self.scale_rounds,
        };
        parts::named(&self.parts, &plan, &sizes)
    }

    fn page(&self) -> PathBuf {
        let default =
            if self.quick || self.plan.is_smoke() { "target/quick/RESULTS.md" } else { "../RESULTS.md" };
        self.page.clone().unwrap_or_else(|| default.into())
    }
}

/// Runs the parts, one after another; says whether all sessions went well.
async fn measure(args: &ResultsArgs) -> Result<(Samples, bool)> {
    let parts = args.parts()?;
    let first = parts.first().context("--parts names none")?;
    let mut samples = rounds::begun(first.run());
    let plans: serde_json::Map<String, Value> =
        parts.iter().map(|part| (part.name.to_owned(), json!(part.run().plans.first()))).collect();
    samples.setup["plan"] = json!(parts::base(&parts).context("--parts names none")?);
    samples.setup["rounds"] = parts.iter().flat_map(|part| &part.runs).map(|run| run.rounds).max().into();
    samples.setup["parts"] = plans.into();
    samples.setup["command"] = command().into();
    samples.setup["date"] = humantime::format_rfc3339_seconds(SystemTime::now()).to_string().into();
    let mut went_well = true;
    for part in &parts {
        eprintln!("part {}", part.name);
        if part.name == parts::MERGE {
            let plan: &Plan = part.run().plans.first().context("a run has a plan")?;
            for round in 1..=part.run().rounds {
                samples.samples.extend(merge::samples(plan, round)?);
            }
            rounds::write(&samples, &args.out)?;
            continue;
        }
        for run in &part.runs {
            went_well &= rounds::run(run, &mut samples, &args.out).await?;
        }
    }
    Ok((samples, went_well))
}

/// The command line of this process, the program by its name alone.
fn command() -> String {
    let words: Vec<String> = std::env::args().skip(1).collect();
    format!("esker-peers {}", words.join(" "))
}

/// Writes the page, and its plots into the folder `results` beside it; gives what a reader will miss.
fn write(samples: &Samples, page: &Path) -> Result<Vec<String>> {
    let folder = page.parent().unwrap_or(Path::new("")).join("results");
    fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let bounds = Bounds::read(&folder.join("bounds.md"))?;
    let written = page::page(samples, &bounds)?;
    for (name, svg) in &written.plots {
        let file = folder.join(name);
        fs::write(&file, svg).with_context(|| format!("{} cannot be written", file.display()))?;
    }
    fs::write(page, &written.text).with_context(|| format!("{} cannot be written", page.display()))?;
    Ok(written.missing)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::options::{Args, Verb};

    #[test]
    fn the_examples_are_understood_and_nothing_quick_is_written_over_the_page() {
        let examples: Vec<&str> =
            EXAMPLES.lines().filter_map(|line| line.trim().strip_prefix("esker-peers ")).collect();
        assert_eq!(examples.len(), 4);
        for example in examples {
            let words = example.split("   ").next().unwrap_or_default().split_whitespace();
            let args = Args::try_parse_from(std::iter::once("esker-peers").chain(words)).unwrap();
            let Some(Verb::Results(results)) = args.verb else { panic!("{example}") };
            assert!(!results.parts().unwrap().is_empty());
            assert_eq!(results.page().starts_with("target"), example.contains("quick"), "{example}");
        }
    }

    #[test]
    fn the_page_and_its_plots_are_written_beside_the_bounds_and_what_is_missing_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let page = folder.path().join("RESULTS.md");
        fs::create_dir(folder.path().join("results")).unwrap();
        fs::write(folder.path().join("results/bounds.md"), "## scan\nThe copy of a row.\n## nonsense\n?\n")
            .unwrap();
        let sizes = [1_000_000, 10_000_000];
        let samples = gather::tests::file(&sizes.map(|rows| ("esker", "scan", rows, 2e6)));
        let missing = write(&samples, &page).unwrap();
        let text = fs::read_to_string(&page).unwrap();
        assert!(text.contains("The copy of a row."), "{text}");
        for link in text.split("](results/").skip(1) {
            let name = link.split(')').next().unwrap();
            assert!(folder.path().join("results").join(name).exists(), "{name}");
        }
        assert!(text.contains("](results/rows.svg)"), "{text}");
        assert!(missing.iter().any(|what| what.contains("nonsense")), "{missing:?}");
        assert!(!missing.iter().any(|what| what.contains("`scan`")), "{missing:?}");
    }
}
