//! `esker repair`: mend what is damaged, by a ladder of remedies, the gentle ones first.
//!
//! The mending is the library's ([`esker::repair`]); this asks, prints and records.
//!
//! Always true: without `--yes` nothing is written; nothing is ever deleted; what gives something up is done only
//! if it was named on the command line, and says what it gave up.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use esker::{
    ErrorKind,
    clock::SystemClock,
    manifest::Manifest,
    repair::{Action, Outcome, RepairOptions, Rung, repair},
    store::Store,
    verify::{Report, Severity},
};
use serde_json::{Value, json};

use crate::{
    exit::{Code, Stop},
    output::Voice,
    progress::{self, Of},
    show,
    target::Target,
    verify::{as_json, as_line, must_exist},
};

const EXAMPLES: &str = "\
Examples:
  esker repair s3://bucket/prefix                                what is wrong, and what could be done
  esker repair s3://bucket/prefix --from s3://replica/prefix --yes
  esker repair s3://bucket/prefix --rollback                     what going back would cost; --yes does it
  esker repair s3://bucket/prefix --salvage --yes                keep what can be read, mark the rest
  esker repair s3://bucket/prefix --cut-log --yes                go on behind a lost object of the log

The ladder: read again (always); another copy (--from: nothing is lost); back to the newest version that is
whole, with what the log has of what came after (--rollback); keep what can be read and mark the rest as
holes, whose keys then fail to read and never seem absent (--salvage). Nothing is deleted.

A copy that was opened and written has other objects under the same numbers. What --from puts in is proved
by what is left here: an SST and a part by their names, which are given out once, and what the manifest says
of them; a version by a hash or token that another names; an object of the log by its writer and epoch; both
also by the token in the damaged bytes. What is refuted is never put in, what is unproved only with --unproved.
Exit code 0 if nothing is damaged at the end (holes that are marked are no damage), and --from has no later
versions or log objects than there are here; else 4.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// Another copy of the same database: a URL or a directory
    #[arg(long, value_name = "URL")]
    from: Option<String>,
    /// Put in from the copy also what nothing here proves to be what was written here first
    #[arg(long, requires = "from")]
    unproved: bool,
    /// Go back to the newest version that is whole (fences whoever writes and merges)
    #[arg(long)]
    rollback: bool,
    /// Keep what can be read of damaged SSTs, and mark the rest as holes (fences whoever merges)
    #[arg(long, conflicts_with = "rollback")]
    salvage: bool,
    /// Go on behind what the log has lost (fences whoever writes and merges)
    #[arg(long)]
    cut_log: bool,
    /// Do it; without this, say what would be done
    #[arg(long)]
    yes: bool,
    /// Append every action to this file as well, a line of JSON each
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    #[command(flatten)]
    voice: Voice,
}

pub(crate) async fn run(args: Args) -> Result<ExitCode> {
    let mut out = args.voice.start().for_code();
    let store = args.target.store()?;
    must_exist(&args.target, &store).await?;
    let from = args.from.as_deref().map(|url| Store::open(url, SystemClock::shared())).transpose()?;
    if let Some(from) = &from {
        is_copy(from).await?;
    }
    let options = RepairOptions {
        act: args.yes,
        from,
        unproved: args.unproved,
        roll_back: args.rollback,
        salvage: args.salvage,
        cut_log: args.cut_log,
        name: format!("esker repair, process {}", std::process::id()),
    };
    let bar = progress::bar(&args.voice, 0, Of::Bytes);
    let progress = |done: u64, total: u64| {
        bar.set_length(total);
        bar.set_position(done);
    };
    // Opened first: what is done must not go unrecorded because the file cannot be.
    let unwritable = |path: &Path| format!("{} cannot be written", path.display());
    let mut recorded = match &args.record {
        Some(path) => {
            let file = OpenOptions::new().create(true).append(true).open(path);
            Some((path, file.with_context(|| unwritable(path))?))
        }
        None => None,
    };
    let outcome = repair(&store, &options, &progress).await?;
    bar.finish_and_clear();
    if let Some((path, file)) = &mut recorded {
        record(file, &outcome.actions).with_context(|| unwritable(path))?;
    }
    let last = outcome.after.as_ref().unwrap_or(&outcome.before);
    if args.voice.json {
        out.json(&json!({
            "ok": outcome.is_whole(), "copy_goes_on": outcome.copy_goes_on, "acted": outcome.after.is_some(),
            "before": damage(&outcome.before), "actions": outcome.actions.iter().map(action).collect::<Vec<_>>(),
            "after": outcome.after.as_ref().map(damage),
            "holes": last.findings.iter().filter(|f| f.severity == Severity::Hole).map(as_json).collect::<Vec<_>>(),
        }))?;
    } else {
        for line in lines(&outcome) {
            writeln!(out, "{line}")?;
        }
    }
    out.flush()?;
    let would = outcome.actions.iter().any(|action| !action.done && action.rung != Rung::Told);
    if would && !args.yes {
        args.voice.note("nothing was changed; --yes does it");
    }
    Ok(if outcome.is_whole() { ExitCode::SUCCESS } else { Code::Corruption.into() })
}

/// Fails if there is no database at all where a copy should be; one whose identity is damaged is a copy.
async fn is_copy(from: &Store) -> Result<()> {
    match Manifest::find(from.clone()).await {
        Ok(None) => {
            let what = format!("there is no database at {}, so nothing can be had from it", from.url());
            Err(Stop::not_found(what).hint("--from wants another copy of the same database").into())
        }
        Err(error) if error.kind() != ErrorKind::Corruption => Err(error.into()),
        Ok(Some(_)) | Err(_) => Ok(()),
    }
}

fn lines(outcome: &Outcome) -> Vec<String> {
    let mut lines: Vec<String> = outcome.before.damage().map(as_line).collect();
    let mark = |action: &Action| if action.done { "✓" } else { "→" };
    lines.extend(outcome.actions.iter().map(|action| format!("{} {action}", mark(action))));
    let last = outcome.after.as_ref().unwrap_or(&outcome.before);
    if outcome.after.is_some() {
        lines.extend(last.findings.iter().filter(|f| f.severity != Severity::Notice).map(as_line));
    }
    let holes = last.findings.iter().filter(|finding| finding.severity == Severity::Hole).count() as u64;
    let verdict = match (last.is_whole(), holes) {
        (true, 0) => "whole".to_owned(),
        (true, holes) => format!("whole but for {} that a repair has marked", show::counted(holes, "hole")),
        (false, _) => format!("{} left", show::counted(last.damage().count() as u64, "problem")),
    };
    lines.push(match &outcome.copy_goes_on {
        None => verdict,
        Some(more) if last.is_whole() => {
            format!("not known to be all there was: nothing is damaged here, and the copy has {more}")
        }
        Some(more) => format!("{verdict}, and the copy has {more}"),
    });
    lines
}

fn damage(report: &Report) -> Vec<Value> {
    report.damage().map(as_json).collect()
}

fn action(action: &Action) -> Value {
    json!({
        "rung": action.rung.as_str(), "object": action.object.as_ref().map(ToString::to_string),
        "what": action.what, "done": action.done,
    })
}

fn record(file: &mut File, actions: &[Action]) -> Result<()> {
    let now_ms = SystemClock::shared().wall_ms();
    for one in actions {
        let mut line = action(one);
        line["at_ms"] = now_ms.into();
        writeln!(file, "{line}")?;
    }
    Ok(file.sync_all()?)
}
