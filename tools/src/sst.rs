//! `esker sst`: the SSTs of a version, listed, shown, dumped entry by entry.

use std::{io::Write as _, process::ExitCode, sync::Arc};

use anyhow::Result;
use clap::ValueEnum;
use esker::{
    block::{Block, BlockCursor},
    key::EntryRef,
    manifest::View,
    sst::{
        OpenSst, Tail,
        reader::{BlockRef, decode_block},
    },
    stats::Cause,
    store::{Name, ObjectId, Store},
};
use serde_json::{Map, json};

use crate::{
    describe,
    exit::Stop,
    output::{Out, Voice},
    show,
    target::Target,
};

const EXAMPLES: &str = "\
Examples:
  esker sst file:///tmp/demo                          all SSTs of the latest version
  esker sst file:///tmp/demo show ID                  its properties and blocks
  esker sst file:///tmp/demo dump ID --json | head    its entries, tombstones and old versions too

ID as `list` prints it; an unambiguous beginning is enough.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// What to do
    #[arg(value_enum, default_value_t = Deed::List)]
    deed: Deed,
    /// The SST, or the beginning of its id
    #[arg(value_name = "ID")]
    id: Option<String>,
    /// Look at this version instead of the latest
    #[arg(long, value_name = "ID")]
    version: Option<u64>,
    /// Print keys and values as hex
    #[arg(long)]
    hex: bool,
    #[command(flatten)]
    voice: Voice,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Deed {
    /// All SSTs of a version
    List,
    /// Properties and blocks of one SST
    Show,
    /// Every entry of one SST
    Dump,
}

pub(crate) async fn run(args: Args) -> Result<ExitCode> {
    let mut out = args.voice.start();
    let manifest = args.target.manifest().await?;
    let view = match args.version {
        Some(id) => crate::manifest::version(&manifest, id).await?,
        None => manifest.latest(Cause::Admin).await?,
    };
    if args.deed == Deed::List {
        list(&args, &mut out, &view)?;
    } else {
        let wanted = args.id.as_deref().ok_or_else(|| {
            Stop::usage("which SST is meant?")
                .hint("give the ID that `esker sst URL list` prints, or its beginning")
        })?;
        let open = find(&view, wanted)?;
        let tail = tail(manifest.store(), &open).await?;
        if args.deed == Deed::Show {
            show(&args, &mut out, &open, &tail)?;
        } else {
            dump(&args, &mut out, manifest.store(), &open, &tail).await?;
        }
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// The one SST of `view` whose id begins with `wanted`.
fn find(view: &View, wanted: &str) -> Result<Arc<OpenSst>> {
    let mut found =
        view.runs.iter().flat_map(|run| run.ssts.iter()).filter(|o| o.id.to_string().starts_with(wanted));
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(Arc::clone(one)),
        (Some(_), Some(_)) => {
            Err(Stop::usage(format!("several SSTs begin with {wanted:?}")).hint("give more of the id").into())
        }
        (None, _) => Err(Stop::not_found(format!("no SST of version {} begins with {wanted:?}", view.id()))
            .hint("`esker sst URL list` shows which there are")
            .into()),
    }
}

/// The tail of an SST: one ranged GET.
async fn tail(store: &Store, open: &OpenSst) -> Result<Tail> {
    let range = open.meta.tail_offset..open.meta.bytes;
    let bytes = store.get_range(&Name::Sst(open.id), range, Cause::Admin).await?;
    Ok(Tail::decode(&open.meta, bytes)?)
}

/// One block of an SST: one ranged GET, verified.
async fn block(store: &Store, id: ObjectId, place: BlockRef) -> Result<Block> {
    let range = place.offset..place.offset + u64::from(place.bytes);
    let stored = store.get_range(&Name::Sst(id), range, Cause::Admin).await?;
    Ok(decode_block(id, place, stored)?)
}

fn list(args: &Args, out: &mut Out, view: &View) -> Result<()> {
    if args.voice.json {
        for run in &view.runs {
            for open in run.ssts.iter() {
                let mut object = describe::sst(&open.meta, &open.id.to_string());
                object["run"] = run.id.into();
                object["level"] = run.level.into();
                out.json(&object)?;
            }
        }
        return Ok(());
    }
    let rows = view.runs.iter().flat_map(|run| {
        run.ssts.iter().map(|open| {
            vec![
                open.id.to_string(),
                format!("L{}", run.level),
                run.id.to_string(),
                show::size(open.meta.bytes),
                show::count(open.meta.entries),
                show::count(open.meta.tombstones),
                describe::key(&open.meta.first_key, 24),
                describe::key(&open.meta.last_key, 24),
            ]
        })
    });
    Ok(out.table(&["id", "level", "run", "size", "entries", "tombstones", "first key", "last key"], rows)?)
}

fn show(args: &Args, out: &mut Out, open: &OpenSst, tail: &Tail) -> Result<()> {
    let blocks = (0..tail.blocks()).map(|index| tail.block(index));
    if args.voice.json {
        let mut object = describe::sst(&open.meta, &open.id.to_string());
        object["object"] = Name::Sst(open.id).to_string().into();
        object["places"] =
            blocks.map(|place| json!({ "offset": place.offset, "bytes": place.bytes })).collect();
        return out.json(&object);
    }
    let meta = &open.meta;
    let stored: u64 = (0..tail.blocks()).map(|index| u64::from(tail.block(index).bytes)).sum();
    out.fields(&[
        ("object", Name::Sst(open.id).to_string()),
        (
            "size",
            format!(
                "{}, of which the tail {}",
                show::size(meta.bytes),
                show::size(meta.bytes - meta.tail_offset)
            ),
        ),
        ("blocks", format!("{}, {} stored", show::count(tail.blocks() as u64), show::size(stored))),
        ("before encoding", show::size(meta.raw_bytes)),
        (
            "entries",
            format!("{}, {}", show::count(meta.entries), show::counted(meta.tombstones, "tombstone")),
        ),
        ("numbers", format!("{} to {}", meta.min_seq, meta.max_seq)),
        (
            "expiry",
            match meta.expiring {
                0 => "none".to_owned(),
                n => format!(
                    "{} from {} to {}",
                    show::count(n),
                    show::moment(meta.min_expire_ms),
                    show::moment(meta.max_expire_ms)
                ),
            },
        ),
        ("first key", describe::key(&meta.first_key, 100)),
        ("last key", describe::key(&meta.last_key, 100)),
        ("hash", show::hex(&meta.hash)),
        ("sum", show::hex(&meta.sum)),
    ])?;
    Ok(())
}

async fn dump(args: &Args, out: &mut Out, store: &Store, open: &OpenSst, tail: &Tail) -> Result<()> {
    for index in 0..tail.blocks() {
        let mut cursor = BlockCursor::new(block(store, open.id, tail.block(index)).await?);
        cursor.first()?;
        while cursor.is_valid() {
            entry(args.voice.json, args.hex, out, cursor.entry())?;
            cursor.next()?;
        }
    }
    Ok(())
}

/// Prints one entry: a JSON line, or number, kind, expiry, key and value between tabs.
pub(crate) fn entry(json: bool, hex: bool, out: &mut Out, entry: EntryRef<'_>) -> Result<()> {
    if json {
        let mut object = Map::new();
        match esker::key::split_full_key(entry.key) {
            Some((keyspace, user)) => {
                object.insert("keyspace_id".into(), keyspace.0.into());
                show::put_bytes(&mut object, "key", user, hex);
            }
            None => show::put_bytes(&mut object, "full_key", entry.key, true),
        }
        object.insert("seq".into(), entry.seq.into());
        object.insert("kind".into(), entry.kind.name().into());
        if entry.expire_at_ms != esker::key::NEVER {
            object.insert("expire_at_ms".into(), entry.expire_at_ms.into());
        }
        show::put_bytes(&mut object, "value", entry.value, hex);
        return out.json(&object);
    }
    let key = match esker::key::split_full_key(entry.key) {
        Some((keyspace, user)) if keyspace == esker::key::DEFAULT_KEYSPACE => show::as_asked(user, hex),
        Some((keyspace, user)) => format!("{}:{}", keyspace.0, show::as_asked(user, hex)),
        None => show::hex(entry.key),
    };
    let expiry = if entry.expire_at_ms == esker::key::NEVER {
        "-".to_owned()
    } else {
        show::moment(entry.expire_at_ms)
    };
    writeln!(
        out,
        "{}\t{}\t{expiry}\t{key}\t{}",
        entry.seq,
        entry.kind.name(),
        show::as_asked(entry.value, hex)
    )?;
    Ok(())
}
