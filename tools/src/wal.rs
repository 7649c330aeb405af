//! `esker wal`: the objects of the write-ahead log, listed, shown, dumped.

use std::{io::Write as _, process::ExitCode};

use anyhow::Result;
use clap::ValueEnum;
use esker::{
    stats::Cause,
    store::{Folder, Name, Store},
    wal::WalObject,
};
use serde_json::{Value, json};

use crate::{exit::Stop, output::Voice, show, sst, target::Target};

const EXAMPLES: &str = "\
Examples:
  esker wal file:///tmp/demo                  slots, who wrote them, which numbers they hold
  esker wal file:///tmp/demo show 17
  esker wal file:///tmp/demo dump             every entry of every slot
  esker wal s3://bucket/prefix dump 17 --json

FENCE objects mark where a writer took over; they are never collected.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// What to do
    #[arg(value_enum, default_value_t = Deed::List)]
    deed: Deed,
    /// The slot; all of them if left out (list, dump)
    #[arg(value_name = "SLOT")]
    slot: Option<u64>,
    /// Print keys and values as hex
    #[arg(long)]
    hex: bool,
    #[command(flatten)]
    voice: Voice,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Deed {
    /// All slots, one line each
    List,
    /// The header of one slot
    Show,
    /// Every entry
    Dump,
}

pub(crate) async fn run(args: Args) -> Result<ExitCode> {
    let mut out = args.voice.start();
    let (store, identity) = args.target.database().await?;
    let slots = match args.slot {
        Some(slot) => vec![slot],
        None if args.deed == Deed::Show => {
            return Err(Stop::usage("which slot is meant?")
                .hint("give a SLOT that `esker wal URL list` prints")
                .into());
        }
        None => slots(&store).await?,
    };
    let mut rows = Vec::new();
    for slot in slots {
        let Some(bytes) = store.get(&Name::Wal(slot), Cause::Admin).await? else {
            if args.slot.is_some() {
                return Err(Stop::not_found(format!("there is no WAL object in slot {slot}"))
                    .hint("`esker wal URL list` shows which there are")
                    .into());
            }
            // Collected between the listing and the look.
            continue;
        };
        let size = bytes.len() as u64;
        let object = WalObject::decode(slot, identity.db_uuid, bytes)?;
        match args.deed {
            Deed::Dump => {
                if let WalObject::Data { entries, .. } = &object {
                    for one in entries {
                        sst::entry(args.voice.json, args.hex, &mut out, one.as_ref())?;
                    }
                }
            }
            _ if args.voice.json => out.json(&header(&object, size))?,
            Deed::Show => out.fields(&fields(&object, size))?,
            Deed::List => rows.push(row(&object, size)),
        }
    }
    if args.deed == Deed::List && !args.voice.json {
        out.table(&["slot", "kind", "epoch", "size", "entries", "numbers", "writer"], rows)?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// The slots that hold something, ascending.
async fn slots(store: &Store) -> Result<Vec<u64>> {
    let listed = store.list(Folder::Wal, None, Cause::Admin).await?;
    Ok(listed
        .iter()
        .filter_map(|object| if let Name::Wal(slot) = object.name { Some(slot) } else { None })
        .collect())
}

fn header(object: &WalObject, bytes: u64) -> Value {
    let header = object.header();
    let mut value = json!({
        "slot": header.slot, "epoch": header.epoch, "bytes": bytes, "first_seq": header.first_seq,
        "writer_uuid": format!("{:032x}", header.writer_uuid), "token": show::hex(&header.token),
    });
    match object {
        WalObject::Data { entries, last_seq, .. } => {
            value["kind"] = "data".into();
            value["entries"] = entries.len().into();
            value["last_seq"] = (*last_seq).into();
            value["durable_to"] = header.durable_to.into();
        }
        WalObject::Fence { writer_name, .. } => {
            value["kind"] = "fence".into();
            value["writer_name"] = writer_name.as_str().into();
        }
    }
    value
}

fn fields(object: &WalObject, bytes: u64) -> Vec<(&'static str, String)> {
    let header = object.header();
    let mut fields = vec![
        ("slot", header.slot.to_string()),
        ("size", show::size(bytes)),
        ("epoch", header.epoch.to_string()),
        ("writer", format!("{:032x}", header.writer_uuid)),
        ("token", show::hex(&header.token)),
    ];
    match object {
        WalObject::Data { entries, last_seq, .. } => fields.extend([
            ("kind", "DATA".to_owned()),
            ("entries", show::count(entries.len() as u64)),
            ("numbers", format!("{} to {last_seq}", header.first_seq)),
            ("durable then", format!("up to slot {}", header.durable_to)),
        ]),
        WalObject::Fence { writer_name, .. } => {
            fields.extend([
                ("kind", "FENCE".to_owned()),
                ("taken over by", show::text(writer_name.as_bytes())),
            ]);
        }
    }
    fields
}

fn row(object: &WalObject, bytes: u64) -> Vec<String> {
    let header = object.header();
    let (kind, entries, numbers, writer) = match object {
        WalObject::Data { entries, last_seq, .. } => (
            "DATA",
            show::count(entries.len() as u64),
            format!("{} to {last_seq}", header.first_seq),
            String::new(),
        ),
        WalObject::Fence { writer_name, .. } => {
            ("FENCE", String::new(), String::new(), show::text(writer_name.as_bytes()))
        }
    };
    vec![
        header.slot.to_string(),
        kind.to_owned(),
        header.epoch.to_string(),
        show::size(bytes),
        entries,
        numbers,
        writer,
    ]
}
