//! `esker verify`: every checksum, every order, every reference.
//!
//! The checking is the library's ([`esker::verify`]); this prints what it finds.
//!
//! Always true: it reads and never writes; every problem names an object, and an offset where one is known.

use std::{io::Write as _, process::ExitCode};

use anyhow::Result;
use esker::{
    manifest::Manifest,
    store::Store,
    verify::{Finding, Report, Severity, VerifyOptions},
};
use serde_json::{Value, json};

use crate::{
    exit::Code,
    gc,
    output::{Out, Voice},
    progress::{self, Of},
    show,
    target::Target,
};

const EXAMPLES: &str = "\
Examples:
  esker verify file:///tmp/demo
  esker verify s3://bucket/prefix --json | jq .problems
  esker verify s3://bucket/prefix --quick          references and sizes only, no SST is read
  esker verify s3://bucket/prefix --orphans        and name every object that nothing refers to

Reads every byte that a version refers to. Exit code 4 if anything is wrong. A loss that `esker repair`
has marked is told and is no error. Objects that nothing names are no problem: they are left over
from a crash or wait for the next collection.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// Check references and sizes, and read no SST
    #[arg(long)]
    quick: bool,
    /// SSTs read at a time (each holds its tail and about a MiB of blocks)
    #[arg(long, value_name = "COUNT", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=64))]
    parallel: u8,
    /// Name every object that nothing refers to
    #[arg(long)]
    orphans: bool,
    #[command(flatten)]
    voice: Voice,
}

pub(crate) async fn run(args: Args) -> Result<ExitCode> {
    let mut out = args.voice.start().for_code();
    let store = args.target.store()?;
    must_exist(&args.target, &store).await?;
    let options =
        VerifyOptions { quick: args.quick, parallel: args.parallel.into(), ..VerifyOptions::default() };
    let bar = progress::bar(&args.voice, 0, Of::Bytes);
    let progress = |done: u64, total: u64| {
        bar.set_length(total);
        bar.set_position(done);
    };
    let report = esker::verify::verify(&store, &options, &progress).await?;
    bar.finish_and_clear();
    print(&args, &mut out, &report)?;
    out.flush()?;
    Ok(if report.is_whole() { ExitCode::SUCCESS } else { Code::Corruption.into() })
}

/// Says "not found" with a hint if there is nothing here; damage of the identity is for the check to tell.
pub(crate) async fn must_exist(target: &Target, store: &Store) -> Result<()> {
    match Manifest::find(store.clone()).await {
        Ok(None) => target.manifest().await.map(drop),
        _ => Ok(()),
    }
}

/// A finding for scripts.
pub(crate) fn as_json(finding: &Finding) -> Value {
    json!({
        "severity": finding.severity.as_str(), "object": finding.object.to_string(),
        "offset": finding.offset, "problem": finding.what,
    })
}

/// A finding for people, a line.
pub(crate) fn as_line(finding: &Finding) -> String {
    let mark = match finding.severity {
        Severity::Damage => "✗",
        Severity::Hole => "○",
        Severity::Notice => "·",
    };
    format!("{mark} {finding}")
}

fn print(args: &Args, out: &mut Out, report: &Report) -> Result<()> {
    let of = |severity: Severity| report.findings.iter().filter(move |finding| finding.severity == severity);
    let orphan_bytes: u64 = report.orphans.iter().map(|(_, bytes)| bytes).sum();
    if args.voice.json {
        let list = |severity| of(severity).map(as_json).collect::<Vec<_>>();
        let orphans =
            report.orphans.iter().map(|(name, bytes)| json!({ "object": name.to_string(), "bytes": bytes }));
        return out.json(&json!({
            "ok": report.is_whole(), "problems": list(Severity::Damage), "holes": list(Severity::Hole),
            "notices": list(Severity::Notice), "not_kept": report.more,
            "versions": report.versions, "ssts": report.ssts, "sst_bytes_read": report.sst_bytes,
            "entries": report.entries, "wal_objects": report.wal_objects,
            "job_records": report.job_records,
            "pins_and_checkpoints": report.copies,
            "orphans": if args.orphans { orphans.collect::<Vec<_>>().into() } else { Value::from(report.orphans.len()) },
            "orphan_bytes": orphan_bytes,
            "garbage": report.garbage.as_ref().map(|g| g.deleted.len()),
            "garbage_bytes": report.garbage.as_ref().map(|g| g.bytes),
            "waiting": report.garbage.as_ref().map(|g| g.waiting),
            "held_by": report.garbage.as_ref().map(|g| g.held_by.iter().map(ToString::to_string).collect::<Vec<_>>()),
        }));
    }
    for severity in [Severity::Damage, Severity::Hole, Severity::Notice] {
        for finding in of(severity) {
            writeln!(out, "{}", as_line(finding))?;
        }
    }
    if report.more > 0 {
        writeln!(out, "… and {} more", show::count(report.more))?;
    }
    if args.orphans {
        for (name, bytes) in &report.orphans {
            writeln!(out, "? {name}: nothing refers to it ({})", show::size(*bytes))?;
        }
    }
    let holes = of(Severity::Hole).count() as u64;
    writeln!(
        out,
        "{}: {}, {} ({} read, {} entries), {}, {}",
        match (report.is_whole(), holes) {
            (false, _) => show::counted(report.damage().count() as u64, "problem"),
            (true, 0) => "whole".to_owned(),
            (true, holes) =>
                format!("whole but for {} that a repair has marked", show::counted(holes, "hole")),
        },
        show::counted(report.versions, "version"),
        show::counted(report.ssts, "SST"),
        show::size(report.sst_bytes),
        show::count(report.entries),
        show::counted(report.wal_objects, "WAL object"),
        show::counted(report.orphans.len() as u64, "orphan"),
    )?;
    match &report.garbage {
        Some(garbage) if garbage.deleted.len() + garbage.waiting > 0 => writeln!(
            out,
            "the next collection takes {} ({}); {} may still be published",
            show::counted(garbage.deleted.len() as u64, "object"),
            show::size(garbage.bytes),
            show::count(garbage.waiting as u64),
        )?,
        Some(_) => {}
        None if report.is_whole() => {
            writeln!(out, "a collection is at work; what the next one takes cannot be told")?;
        }
        None => writeln!(
            out,
            "what the next collection takes is told only of a whole database; `esker repair` says what can be mended"
        )?,
    }
    for name in report.garbage.iter().flat_map(|garbage| &garbage.held_by) {
        writeln!(out, "no SST, part or log object is collected, because of {name}: {}", gc::way_out(name))?;
    }
    Ok(())
}
