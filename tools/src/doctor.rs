//! `esker doctor`: can this store be trusted with a database, and is the way to it in order?
//!
//! Reaches the store, tests every property that the protocol rests on (`store::probe`, the long form),
//! times requests, looks at the database if there is one, and compares clocks. Works before there is a
//! database.
//!
//! Always true: what it writes lies under `probe/` and is removed; it never takes a role.

use std::{io::Write as _, process::ExitCode};

use anyhow::Result;
use esker::{
    Error, ErrorKind,
    manifest::Manifest,
    stats::Cause,
    store::{
        Folder, Store,
        probe::{self, Depth, Timing},
    },
};
use serde_json::json;

use crate::{
    exit::Code,
    output::{Out, Voice},
    progress::{self, Of},
    show,
    target::Target,
};

const EXAMPLES: &str = "\
Examples:
  esker doctor s3://bucket/prefix
  esker doctor 's3://bucket/prefix?endpoint=http://localhost:9000' --json
  esker doctor file:///mnt/share/db --quick

Makes some 7,000 small requests (--quick: 100) under URL/probe/, and removes what it wrote. Exit code 1
if the store cannot be reached or lacks something, 4 if the database there is damaged.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// Only the short test that a database is created with
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    voice: Voice,
}

/// One thing that was looked at.
struct Finding {
    what: String,
    verdict: Verdict,
    detail: String,
    hint: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Good,
    /// Worth knowing; nothing is unsafe.
    Odd,
    Bad,
    /// Stored bytes are damaged.
    Damaged,
}

impl Finding {
    fn new(what: &str, verdict: Verdict, detail: impl Into<String>) -> Self {
        Self { what: what.to_owned(), verdict, detail: detail.into(), hint: None }
    }

    fn failed(what: &str, error: &Error) -> Self {
        let verdict = if error.kind() == ErrorKind::Corruption { Verdict::Damaged } else { Verdict::Bad };
        Self {
            what: what.to_owned(),
            verdict,
            detail: error.sentence(),
            hint: error.hint_text().map(str::to_owned),
        }
    }
}

/// A clock further off than this is worth a sentence; S3 refuses requests at 15 minutes.
const CLOCK_TOLERANCE_MS: u64 = 60_000;

pub(crate) async fn run(args: Args) -> Result<ExitCode> {
    let mut out = args.voice.start().for_code();
    // A URL that makes no sense is a usage error, not a finding.
    let store = args.target.store()?;
    let bar = progress::bar(&args.voice, 0, Of::Things("requests"));
    let mut findings = Vec::new();
    let mut timings = Vec::new();
    match reach(&store).await {
        Err(error) => findings.push(Finding::failed("the store can be reached", &error)),
        Ok(detail) => {
            findings.push(Finding::new("the store can be reached", Verdict::Good, detail));
            bar.set_message("testing the store");
            bar.enable_steady_tick(std::time::Duration::from_millis(100));
            let depth = if args.quick { Depth::Short } else { Depth::Long };
            match probe::examine(&store, depth).await {
                Ok(report) => {
                    findings.extend(report.properties.into_iter().map(|p| {
                        let verdict = if p.ok { Verdict::Good } else { Verdict::Bad };
                        Finding::new(p.property, verdict, p.detail)
                    }));
                    timings = report.timings;
                }
                Err(error) => findings.push(Finding::failed("the store can be tested", &error)),
            }
            findings.extend(database(&store).await);
        }
    }
    bar.finish_and_clear();
    print(&args.voice, &mut out, &store, &findings, &timings)?;
    out.flush()?;
    Ok(match findings.iter().map(|f| f.verdict).max().unwrap_or(Verdict::Good) {
        Verdict::Good | Verdict::Odd => ExitCode::SUCCESS,
        Verdict::Bad => Code::Error.into(),
        Verdict::Damaged => Code::Corruption.into(),
    })
}

/// One listing: name resolution, connection, credentials, bucket and permission to list at once.
async fn reach(store: &Store) -> esker::Result<String> {
    let before = store.clock().monotonic();
    store.list(Folder::ManifestFloor, None, Cause::Probe).await?;
    Ok(format!("a first listing took {}", show::duration(store.clock().monotonic() - before)))
}

/// What there is to say about the database at this place, if there is one.
async fn database(store: &Store) -> Vec<Finding> {
    const WHAT: &str = "the database here can be opened";
    let manifest = match Manifest::find(store.clone()).await {
        Ok(None) => {
            return vec![Finding::new("a database may be created here", Verdict::Good, "there is none yet")];
        }
        Ok(Some(manifest)) => manifest,
        Err(error) => return vec![Finding::failed(WHAT, &error)],
    };
    let view = match manifest.latest(Cause::Probe).await {
        Ok(view) => view,
        Err(error) => return vec![Finding::failed(WHAT, &error)],
    };
    let detail = format!("version {}, writer epoch {}", view.id(), view.root.writer.epoch);
    let mut findings = vec![Finding::new(WHAT, Verdict::Good, detail)];
    match store.list(Folder::Manifest, None, Cause::Probe).await {
        Ok(listed) => {
            if let Some(newest) = listed.last() {
                findings.push(clocks(store.clock().wall_ms(), newest.modified_ms, view.root.committed_ms));
            }
        }
        Err(error) => findings.push(Finding::failed("versions can be listed", &error)),
    }
    findings
}

/// The store's clock wrote `modified_ms`, and whoever committed the newest version `committed_ms`, at
/// nearly the same moment; and that was in the past.
fn clocks(now_ms: u64, modified_ms: u64, committed_ms: u64) -> Finding {
    const WHAT: &str = "clocks agree";
    let apart = modified_ms.abs_diff(committed_ms);
    if apart > CLOCK_TOLERANCE_MS {
        let ahead = if committed_ms > modified_ms { "ahead of" } else { "behind" };
        let detail = format!("whoever committed last has a clock {} s {ahead} the store's", apart / 1000);
        return Finding::new(WHAT, Verdict::Odd, detail);
    }
    let ahead = modified_ms.saturating_sub(now_ms);
    if ahead > CLOCK_TOLERANCE_MS {
        let detail =
            format!("the newest version lies {} s in this machine's future: its clock is slow", ahead / 1000);
        return Finding::new(WHAT, Verdict::Odd, detail);
    }
    Finding::new(WHAT, Verdict::Good, "the store's, the last committer's and this machine's")
}

fn print(
    voice: &Voice,
    out: &mut Out,
    store: &Store,
    findings: &[Finding],
    timings: &[Timing],
) -> Result<()> {
    let ok = findings.iter().all(|f| f.verdict <= Verdict::Odd);
    if voice.json {
        let findings: Vec<_> = findings
            .iter()
            .map(|f| json!({ "what": f.what, "ok": f.verdict <= Verdict::Odd, "detail": f.detail, "hint": f.hint }))
            .collect();
        let timings: Vec<_> = timings
            .iter()
            .map(|t| {
                let us = |d: std::time::Duration| d.as_micros() as u64;
                json!({ "operation": t.operation, "samples": t.samples, "p50_us": us(t.p50), "p90_us": us(t.p90),
                        "p99_us": us(t.p99), "max_us": us(t.max) })
            })
            .collect();
        return out.json(&json!({ "url": store.url(), "ok": ok, "findings": findings, "timings": timings }));
    }
    let width = findings.iter().map(|f| f.what.chars().count()).max().unwrap_or(0);
    writeln!(out, "{}", store.url())?;
    for finding in findings {
        let mark = match finding.verdict {
            Verdict::Good => '✓',
            Verdict::Odd => '!',
            Verdict::Bad | Verdict::Damaged => '✗',
        };
        writeln!(out, "{mark} {:width$}  {}", finding.what, finding.detail)?;
        if let Some(hint) = &finding.hint {
            writeln!(out, "  {:width$}  hint: {hint}", "")?;
        }
    }
    if !timings.is_empty() {
        writeln!(out)?;
        let rows = timings.iter().map(|t| {
            let mut row = vec![t.operation.to_owned(), show::count(t.samples as u64)];
            row.extend([t.p50, t.p90, t.p99, t.max].map(show::duration));
            row
        });
        out.table(&["request", "samples", "p50", "p90", "p99", "max"], rows)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Verdict, clocks};

    #[test]
    fn a_clock_that_is_off_is_said_to_be_and_is_no_failure() {
        assert!(clocks(1_000_000, 999_000, 998_000).verdict == Verdict::Good);
        assert!(clocks(1_000_000, 999_000, 1_999_000).detail.contains("1000 s ahead of"));
        assert!(clocks(1_000_000, 1_200_000, 1_200_000).detail.contains("clock is slow"));
        assert!(clocks(0, 1_200_000, 1_200_000).verdict == Verdict::Odd);
    }
}
