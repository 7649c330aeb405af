//! `esker manifest`: the versions of a database, listed, shown, dumped.

use std::{io::Write as _, process::ExitCode, sync::Arc};

use anyhow::Result;
use clap::ValueEnum;
use esker::{
    manifest::{Manifest, View},
    stats::Cause,
    store::{Folder, Name},
};
use serde_json::json;

use crate::{
    describe::{self, Totals},
    exit::Stop,
    output::Voice,
    show,
    target::Target,
};

const EXAMPLES: &str = "\
Examples:
  esker manifest file:///tmp/demo               the latest version
  esker manifest file:///tmp/demo list          which versions there are
  esker manifest file:///tmp/demo show 12
  esker manifest s3://bucket/prefix dump | jq '.runs[].ssts[].id'

Each change of the database's files makes one more version. Old ones are kept for readers until
garbage collection moves the floor over them.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// What to do
    #[arg(value_enum, default_value_t = Deed::Show)]
    deed: Deed,
    /// The version; the latest if left out
    #[arg(value_name = "ID")]
    id: Option<u64>,
    #[command(flatten)]
    voice: Voice,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Deed {
    /// Roles, options, and the runs of one version
    Show,
    /// All versions
    List,
    /// Everything in one version, as JSON
    Dump,
}

pub(crate) async fn run(args: Args) -> Result<ExitCode> {
    let mut out = args.voice.start();
    let manifest = args.target.manifest().await?;
    if args.deed == Deed::List {
        let listed = manifest.store().list(Folder::Manifest, None, Cause::Admin).await?;
        let versions = listed.iter().filter_map(|object| match object.name {
            Name::Manifest(id) => Some((id, object.bytes, object.modified_ms)),
            _ => None,
        });
        if args.voice.json {
            for (id, bytes, modified_ms) in versions {
                out.json(&json!({ "id": id, "bytes": bytes, "modified_ms": modified_ms }))?;
            }
        } else {
            let rows =
                versions.map(|(id, bytes, ms)| vec![id.to_string(), show::size(bytes), show::moment(ms)]);
            out.table(&["version", "size", "written"], rows)?;
        }
        out.flush()?;
        return Ok(ExitCode::SUCCESS);
    }
    let view = match args.id {
        Some(id) => version(&manifest, id).await?,
        None => manifest.latest(Cause::Admin).await?,
    };
    if args.deed == Deed::Dump {
        let whole = describe::version(&view, true);
        if args.voice.json {
            out.json(&whole)?;
        } else {
            writeln!(out, "{}", serde_json::to_string_pretty(&whole)?)?;
        }
    } else if args.voice.json {
        out.json(&describe::version(&view, false))?;
    } else {
        out.fields(&fields(&view))?;
        writeln!(out)?;
        let rows = view.runs.iter().map(|run| {
            let bytes: u64 = run.ssts.iter().map(|open| open.meta.bytes).sum();
            let entries: u64 = run.ssts.iter().map(|open| open.meta.entries).sum();
            let ends = run.ssts.first().zip(run.ssts.last());
            vec![
                run.id.to_string(),
                format!("L{}", run.level),
                run.ssts.len().to_string(),
                show::size(bytes),
                show::count(entries),
                ends.map(|(first, _)| describe::key(&first.meta.first_key, 30)).unwrap_or_default(),
                ends.map(|(_, last)| describe::key(&last.meta.last_key, 30)).unwrap_or_default(),
            ]
        });
        out.table(&["run", "level", "SSTs", "size", "entries", "first key", "last key"], rows)?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// Version `id` of the database; "not found" if it has been collected or is not written yet.
pub(crate) async fn version(manifest: &Manifest, id: u64) -> Result<Arc<View>> {
    manifest.version(id, Cause::Admin).await?.ok_or_else(|| {
        Stop::not_found(format!("there is no version {id}"))
            .hint("`esker manifest URL list` shows which there are")
            .into()
    })
}

fn fields(view: &View) -> Vec<(&'static str, String)> {
    let root = &view.root;
    let totals = Totals::of(view, None);
    let names: Vec<String> = root.keyspaces.iter().map(|k| format!("{} {}", k.id, k.name)).collect();
    vec![
        ("version", root.id.to_string()),
        ("committed", show::moment(root.committed_ms)),
        (
            "needs",
            format!(
                "reader format {}, writer format {}, features {:#x}",
                root.min_reader, root.min_writer, root.required_features
            ),
        ),
        (
            "writer",
            format!(
                "epoch {} ({}), counter floor {}, replay from slot {}, tail hint {}, last number {}",
                root.writer.epoch,
                root.writer.name,
                root.writer.counter_floor,
                root.writer.replay_from,
                root.writer.tail_hint,
                root.writer.last_seq
            ),
        ),
        (
            "compactor",
            format!(
                "epoch {} ({}), counter floor {}, busy until {}",
                root.compactor.epoch,
                root.compactor.name,
                root.compactor.counter_floor,
                show::moment(root.compactor.busy_until_ms)
            ),
        ),
        ("keyspaces", names.join(", ")),
        (
            "tree",
            format!(
                "{}, {}, {}",
                show::counted(totals.runs as u64, "run"),
                show::counted(totals.ssts as u64, "SST"),
                show::size(totals.bytes)
            ),
        ),
        ("sum", show::hex(&root.sum)),
    ]
}
