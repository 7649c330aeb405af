//! `esker checkpoint`: versions that are kept under a name.

use std::{io::Write as _, process::ExitCode};

use anyhow::Result;
use clap::ValueEnum;
use esker::{
    Compaction,
    compaction::collect,
    manifest::checkpoint,
    store::{Folder, Name},
};
use serde_json::json;

use crate::{copies, exit::Stop, output::Voice, show, target::Target};

const EXAMPLES: &str = "\
Examples:
  esker checkpoint file:///tmp/demo create before-migration --flush
  esker checkpoint file:///tmp/demo list
  esker scan file:///tmp/demo --checkpoint before-migration
  esker checkpoint s3://bucket/prefix delete before-migration

A checkpoint copies no data: it keeps what the version consists of from being collected. Without
--flush it holds what the writer has flushed so far and disturbs nobody; with it this command takes
the writer role over first, so that nothing acknowledged is left out. A writer makes its own with
Db::checkpoint. What is deleted is given back by the collections that follow.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// What to do
    #[arg(value_enum, default_value_t = Deed::List)]
    deed: Deed,
    /// The checkpoint: 1 to 100 letters, digits, '.', '_' or '-'
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// Take the writer role over and flush, before the checkpoint is made
    #[arg(long)]
    flush: bool,
    #[command(flatten)]
    voice: Voice,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Deed {
    /// All checkpoints
    List,
    /// Keep the latest version under a name
    Create,
    /// Keep it no longer
    Delete,
}

pub(crate) async fn run(args: Args) -> Result<ExitCode> {
    let mut out = args.voice.start();
    if args.flush && args.deed != Deed::Create {
        return Err(Stop::usage("only `create` flushes").into());
    }
    if args.deed == Deed::List {
        let seen = copies::all(&args.target.manifest().await?, Folder::Checkpoint).await?;
        if args.voice.json {
            for one in &seen {
                out.json(&one.json())?;
            }
        } else {
            let rows = seen.iter().map(|one| vec![one.short(), one.keeps(), show::moment(one.made_ms())]);
            out.table(&["checkpoint", "keeps", "made"], rows)?;
        }
        out.flush()?;
        return Ok(ExitCode::SUCCESS);
    }
    let Some(name) = &args.name else {
        return Err(Stop::usage("which checkpoint?").hint("say its name after the verb").into());
    };
    Name::checkpoint(name.as_str())?;
    // Says "not found" with a hint.
    let manifest = args.target.manifest().await?;
    if args.deed == Deed::Delete {
        if !checkpoint::names(&manifest).await?.contains(name) {
            return Err(Stop::not_found(format!("there is no checkpoint {name:?}"))
                .hint("`esker checkpoint URL list` shows which there are")
                .into());
        }
        collect::delete_checkpoint(&manifest, name).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let view = if args.flush {
        let db = args.target.writer(|builder| builder.compaction(Compaction::Off).must_exist()).await?;
        let view = db.checkpoint(name).await?;
        db.close().await?;
        view
    } else {
        checkpoint::create(&manifest, name).await?
    };
    let root = &view.root;
    if args.voice.json {
        out.json(&json!({ "name": name, "version": root.id, "last_seq": root.writer.last_seq }))?;
    } else {
        writeln!(out, "{name}\tversion {}", root.id)?;
    }
    out.flush()?;
    args.voice.note(&format!("holds every write up to number {}", show::count(root.writer.last_seq)));
    Ok(ExitCode::SUCCESS)
}
