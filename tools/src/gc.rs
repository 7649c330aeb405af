//! `esker gc`: delete what no version, pin or checkpoint needs, and nobody can still publish.

use std::{io::Write as _, process::ExitCode, time::Duration};

use anyhow::Result;
use esker::{compaction::collect, store::Name};
use serde_json::json;

use crate::{output::Voice, show, target::Target};

const EXAMPLES: &str = "\
Examples:
  esker gc file:///tmp/demo --dry-run
  esker gc s3://bucket/prefix
  esker gc s3://bucket/prefix --retention 1h      keep superseded versions for an hour only

Safe beside live writers, readers and compactors: no clock decides what may go. Readers of a version
older than the retention get a typed error, never wrong rows. Deleted names are printed.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// Say what would be deleted, and delete nothing
    #[arg(long)]
    dry_run: bool,
    /// How long superseded versions are kept, instead of what the database says
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    retention: Option<Duration>,
    #[command(flatten)]
    voice: Voice,
}

pub(crate) async fn run(args: Args) -> Result<ExitCode> {
    let mut out = args.voice.start();
    let manifest = args.target.manifest().await?;
    let collected = collect::collect(&manifest, args.retention, args.dry_run).await?;
    if args.voice.json {
        let deleted: Vec<_> = collected
            .deleted
            .iter()
            .map(|(name, bytes)| json!({ "object": name.to_string(), "bytes": bytes }))
            .collect();
        out.json(&json!({
            "dry_run": args.dry_run, "deleted": deleted, "bytes": collected.bytes,
            "waiting": collected.waiting, "floor": collected.floor,
            "kept_for": collected.kept_for.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "held_by": collected.held_by.iter().map(ToString::to_string).collect::<Vec<_>>(),
        }))?;
    } else {
        for (name, bytes) in &collected.deleted {
            writeln!(out, "{name}\t{bytes}")?;
        }
    }
    out.flush()?;
    args.voice.note(&format!(
        "{} {}, {}; {} may still be published by whoever wrote them",
        if args.dry_run { "would delete" } else { "deleted" },
        show::counted(collected.deleted.len() as u64, "object"),
        show::size(collected.bytes),
        show::counted(collected.waiting as u64, "more object"),
    ));
    for name in &collected.kept_for {
        args.voice.note(&format!("{name} keeps its version"));
    }
    for name in &collected.held_by {
        args.voice.note(&format!(
            "what {name} needs cannot be told, so no SST, part or log object was looked at; {}",
            way_out(name)
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// What to do about an object that holds collections up because it cannot be read.
pub(crate) fn way_out(holder: &Name) -> String {
    match holder {
        Name::Checkpoint(name) => {
            format!("use a newer esker if a newer one made it, or `esker checkpoint … delete {name}`")
        }
        Name::Manifest(_) => "it is lost or damaged, and is passed over when the version after it is older than the retention; \
             `esker repair --from COPY` brings it back, `esker gc --retention 0s` passes over it now"
            .to_owned(),
        Name::Pin(_) => "it lapses at most a day after its last heartbeat".to_owned(),
        _ => "`esker compact` (the newest esker that works on this database) decides about the job log anew"
            .to_owned(),
    }
}
