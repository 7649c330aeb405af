//! `esker compact`: merge until nothing is due, in this process.

use std::{io::Write as _, process::ExitCode};

use anyhow::Result;
use esker::compaction::{
    job::JobStats,
    publish::{Compactor, Did},
};
use serde_json::json;

use crate::{
    output::Voice,
    progress::{self, Of},
    show,
    target::Target,
};

const EXAMPLES: &str = "\
Examples:
  esker compact file:///tmp/demo
  esker compact s3://bucket/prefix --all      everything into one run: least space, fastest reads
  esker compact s3://bucket/prefix --force    take the role over from a compactor that is at work

A database has one compactor. Exit code 5 if another is at work; its unfinished job is lost if you
--force, no data is. Run `esker gc` afterwards to give the space back.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// Merge everything into one run at the bottom
    #[arg(long)]
    all: bool,
    /// Take the role over even if another compactor is at work
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    voice: Voice,
}

pub(crate) async fn run(args: Args) -> Result<ExitCode> {
    let mut out = args.voice.start();
    let manifest = args.target.manifest().await?;
    let clock = manifest.store().clock().clone();
    let started = clock.monotonic();
    let name = format!("esker command, process {}", std::process::id());
    let bar = progress::bar(&args.voice, 1, Of::Bytes);
    let shown = bar.clone();
    let mut compactor =
        Compactor::claim(manifest, &name, args.force).await?.with_progress(move |plan, done, total| {
            shown.set_length(total);
            shown.set_position(done);
            shown.set_message(format!("into L{}", plan.level));
        });
    let (mut moved, mut merged, mut sum) = (0_u64, 0_u64, JobStats::default());
    let ended = loop {
        let did = if args.all { compactor.step_all().await } else { compactor.step().await };
        match did {
            Ok(Did::Nothing) => break Ok(()),
            Ok(Did::Moved { .. }) => moved += 1,
            Ok(Did::Merged { stats, .. }) => {
                merged += 1;
                sum.read_bytes += stats.read_bytes;
                sum.written_bytes += stats.written_bytes;
                sum.read_entries += stats.read_entries;
                sum.written_entries += stats.written_entries;
                sum.dropped_entries += stats.dropped_entries;
            }
            Err(error) => break Err(error),
        }
    };
    bar.finish_and_clear();
    let ended = match ended {
        Ok(()) => compactor.settle_log().await,
        failed => failed,
    };
    if let Err(error) = ended {
        // Given up so that the next need not wait; the error that matters is the first.
        let _ = compactor.release().await;
        return Err(error.into());
    }
    compactor.release().await?;
    if args.voice.json {
        out.json(&json!({
            "merged": merged, "moved": moved, "read_bytes": sum.read_bytes, "written_bytes": sum.written_bytes,
            "read_entries": sum.read_entries, "written_entries": sum.written_entries, "dropped_entries": sum.dropped_entries,
        }))?;
    }
    out.flush()?;
    args.voice.note(&if merged + moved == 0 {
        "nothing was due".to_owned()
    } else {
        format!(
            "{} and {} in {}: read {}, wrote {}, dropped {} entries",
            show::counted(merged, "merge"),
            show::counted(moved, "move"),
            show::duration(clock.monotonic() - started),
            show::size(sum.read_bytes),
            show::size(sum.written_bytes),
            show::count(sum.dropped_entries),
        )
    });
    Ok(ExitCode::SUCCESS)
}
