//! `esker info`: what a database is, who holds its roles, how much is in it.

use std::{io::Write as _, process::ExitCode};

use anyhow::Result;
use esker::{
    compaction::log,
    manifest::View,
    stats::{Cause, RequestKind},
    store::{Folder, Store},
};
use serde_json::json;

use crate::{
    copies::{self, Seen},
    describe::{self, Totals},
    job,
    output::Voice,
    show,
    target::Target,
};

const EXAMPLES: &str = "\
Examples:
  esker info file:///tmp/demo
  esker info s3://bucket/prefix --json | jq .writer

Counts are of stored entries: a key that was overwritten or deleted counts more than once until it
has been merged away. `esker count` counts rows. Reads only.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    voice: Voice,
}

/// What lies in a folder of the store.
struct Lying {
    name: &'static str,
    objects: usize,
    bytes: u64,
}

pub(crate) async fn run(args: Args) -> Result<ExitCode> {
    let mut out = args.voice.start();
    let manifest = args.target.manifest().await?;
    let store = manifest.store();
    let view = manifest.latest(Cause::Admin).await?;
    let mut lying = Vec::new();
    for (name, folder) in
        [("manifest", Folder::Manifest), ("wal", Folder::Wal), ("sst", Folder::Sst), ("part", Folder::Part)]
    {
        let listed = store.list(folder, None, Cause::Admin).await?;
        lying.push(Lying { name, objects: listed.len(), bytes: listed.iter().map(|l| l.bytes).sum() });
    }
    let (pins, checkpoints) =
        (copies::all(&manifest, Folder::Pin).await?, copies::all(&manifest, Folder::Checkpoint).await?);
    let totals = Totals::of(&view, None);
    let root = &view.root;
    let log = log::read(store, manifest.identity().db_uuid, Cause::Admin).await?;
    let unfinished = job::unfinished(&log.history());
    if args.voice.json {
        let objects: serde_json::Map<_, _> = lying
            .iter()
            .map(|l| (l.name.to_owned(), json!({ "objects": l.objects, "bytes": l.bytes })))
            .collect();
        out.json(&json!({
            "url": store.url(),
            "db_uuid": show::hex(&root.db_uuid),
            "version": root.id,
            "committed_ms": root.committed_ms,
            "writer": { "epoch": root.writer.epoch, "name": root.writer.name, "last_seq": root.writer.last_seq,
                        "replay_from": root.writer.replay_from },
            "compactor": { "epoch": root.compactor.epoch, "name": root.compactor.name,
                           "busy_until_ms": root.compactor.busy_until_ms },
            "keyspaces": describe::keyspaces(root),
            "options": describe::options(&root.options),
            "tree": totals.json(),
            "holes": describe::holes(&view),
            "unfinished_job": unfinished,
            "objects": objects,
            "pins": pins.iter().map(Seen::json).collect::<Vec<_>>(),
            "checkpoints": checkpoints.iter().map(Seen::json).collect::<Vec<_>>(),
            "requests": requests(store),
        }))?;
    } else {
        let mut fields = fields(store, &view, totals, &lying);
        if let Some(unfinished) = unfinished {
            // Beside what the tree is now: what it is about to become.
            let at = fields.iter().position(|(name, _)| *name == "log").unwrap_or(fields.len());
            fields.insert(at, ("merge", unfinished));
        }
        let holes = describe::holes(&view);
        if !holes.is_empty() {
            let at = fields.iter().position(|(name, _)| *name == "log").unwrap_or(fields.len());
            fields.insert(at, ("holes", lost(totals, &holes)));
        }
        fields.insert(fields.len() - 1, ("pins", held(&pins)));
        fields.insert(fields.len() - 1, ("checkpoints", held(&checkpoints)));
        out.fields(&fields)?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn fields(store: &Store, view: &View, totals: Totals, lying: &[Lying]) -> Vec<(&'static str, String)> {
    let root = &view.root;
    let role = |epoch: u32, name: &str| match (epoch, name) {
        (0, _) => "nobody yet".to_owned(),
        (epoch, "") => format!("epoch {epoch}"),
        (epoch, name) => format!("epoch {epoch}, {name}"),
    };
    let keyspaces: Vec<&str> = root.keyspaces.iter().map(|k| k.name.as_str()).collect();
    let codecs: Vec<String> = root.options.codecs.iter().map(|c| describe::codec(*c)).collect();
    let deepest = describe::levels(view).last().copied().unwrap_or(0);
    let mut fields = vec![
        ("database", store.url().to_owned()),
        ("uuid", show::hex(&root.db_uuid)),
        ("version", format!("{} of {}", show::count(root.id), show::moment(root.committed_ms))),
        ("writer", role(root.writer.epoch, &root.writer.name)),
        ("compactor", role(root.compactor.epoch, &root.compactor.name)),
        ("keyspaces", keyspaces.join(", ")),
        ("entries", entries(totals)),
        (
            "tree",
            format!(
                "{} in {}, {} ({} before encoding), deepest level {deepest}",
                show::counted(totals.ssts as u64, "SST"),
                show::counted(totals.runs as u64, "run"),
                show::size(totals.bytes),
                show::size(totals.raw_bytes),
            ),
        ),
        (
            "log",
            format!(
                "replayed from slot {}, flushed up to number {}",
                root.writer.replay_from,
                show::count(root.writer.last_seq)
            ),
        ),
        (
            "options",
            format!(
                "blocks of {}, SSTs of {}, codecs {}",
                show::size(root.options.block_bytes.into()),
                show::size(root.options.sst_bytes),
                codecs.join(" "),
            ),
        ),
    ];
    for folder in lying {
        fields.push((
            folder.name,
            format!("{}, {}", show::counted(folder.objects as u64, "object"), show::size(folder.bytes)),
        ));
    }
    let asked: Vec<String> =
        requests(store).into_iter().map(|(kind, n)| format!("{n} {}", kind.to_uppercase())).collect();
    fields.push(("requests", format!("{} to say this", asked.join(", "))));
    fields
}

/// Names, and what each keeps.
fn held(seen: &[Seen]) -> String {
    let each: Vec<String> = seen.iter().map(|one| format!("{} ({})", one.short(), one.keeps())).collect();
    if each.is_empty() { "none".to_owned() } else { each.join(", ") }
}

/// What was lost, as a repair has marked it: the first few places.
fn lost(totals: Totals, holes: &[String]) -> String {
    const SHOWN: usize = 4;
    let more = match holes.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!("; and {}", show::counted(more as u64, "more")),
    };
    format!(
        "{}, {} entries are lost and reads there fail: {}{more}",
        show::counted(holes.len() as u64, "hole"),
        show::count(totals.lost_entries),
        holes.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join("; "),
    )
}

fn entries(totals: Totals) -> String {
    let mut text = show::count(totals.entries);
    if totals.tombstones > 0 {
        text.push_str(&format!(", {}", show::counted(totals.tombstones, "tombstone")));
    }
    if totals.expiring > 0 {
        text.push_str(&format!(", {} with an expiry", show::count(totals.expiring)));
    }
    text
}

/// The requests made so far, by kind, without those that were not.
fn requests(store: &Store) -> serde_json::Map<String, serde_json::Value> {
    let stats = store.stats().snapshot();
    RequestKind::ALL
        .iter()
        .map(|kind| (kind.as_str().to_owned(), stats.total(*kind)))
        .filter(|(_, n)| *n > 0)
        .map(|(kind, n)| (kind, n.into()))
        .collect()
}
