//! `esker compare`: is every row of a file in the database, byte for byte? Once with cold caches,
//! once warm, with the time of each: the check after a migration, and a first look at read speed.
//!
//! Always true: of several rows with one key in the file only the last counts, as for `load`; what
//! differs is what is kept in memory, not what agrees.

use std::{collections::BTreeMap, io::Write as _, process::ExitCode, time::Duration};

use anyhow::Result;
use esker::{Snapshot, store::Store};

use crate::{
    exit::{Code, Stop},
    load::{Record, Rows, Source},
    output::{Out, Voice},
    progress::{self, Of},
    range, show,
    target::Target,
};

const EXAMPLES: &str = "\
Examples:
  esker compare file:///tmp/demo people.csv --key id
  esker compare s3://bucket/prefix Packages.xz --json

The file and its flags are those of `esker load`. Rows are read back by key, many at a time: first
with cold caches, then again warm. Exit code 1 if a row is missing or differs.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    source: Source,
    /// Rows read back at a time
    #[arg(long, value_name = "ROWS", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
    #[command(flatten)]
    voice: Voice,
}

/// What one pass over the file found.
struct Pass {
    name: &'static str,
    rows: u64,
    reading: Duration,
    gets: u64,
    /// Keyspace and key of rows that differ, and whether they are missing.
    wrong: BTreeMap<(String, Vec<u8>), bool>,
}

/// Differing rows that are printed.
const SHOWN: usize = 20;

pub(crate) async fn run(args: Args) -> Result<ExitCode> {
    let mut out = args.voice.start().for_code();
    if args.source.file == "-" {
        return Err(Stop::usage("the file is read twice, so it cannot be standard input").into());
    }
    let reader = args.target.reader().await?;
    let snapshot = reader.snapshot();
    let mut passes = Vec::new();
    for name in ["cold", "warm"] {
        passes.push(pass(&args, name, &snapshot, reader.store()).await?);
    }
    let equal = passes.iter().all(|pass| pass.wrong.is_empty());
    print(&args.voice, &mut out, &passes)?;
    out.flush()?;
    drop(snapshot);
    reader.close().await?;
    Ok(if equal { ExitCode::SUCCESS } else { Code::Error.into() })
}

async fn pass(args: &Args, name: &'static str, snapshot: &Snapshot, store: &Store) -> Result<Pass> {
    let (mut rows, input) = Rows::open(&args.source)?;
    let bar = progress::bar(&args.voice, input.total_bytes(), Of::Bytes);
    bar.set_message(name);
    let gets_before = store.stats().snapshot().total(esker::stats::RequestKind::Get);
    let mut done = Pass { name, rows: 0, reading: Duration::ZERO, gets: 0, wrong: BTreeMap::new() };
    // One batch holds rows of one keyspace, in the order of the file.
    let mut batch: Vec<Record> = Vec::new();
    let mut views: BTreeMap<String, Option<Snapshot>> = BTreeMap::new();
    loop {
        let next = rows.next()?;
        let full = batch.len() >= usize::from(args.batch)
            || next
                .as_ref()
                .is_none_or(|row| batch.first().is_some_and(|first| first.keyspace != row.keyspace));
        if full && let Some(first) = batch.first() {
            let keyspace = first.keyspace.clone().unwrap_or_else(|| args.source.keyspace.clone());
            let view =
                views.entry(keyspace.clone()).or_insert_with(|| range::keyspace(snapshot, &keyspace).ok());
            done.check(&keyspace, view.as_ref(), &batch, store).await?;
            batch.clear();
            bar.set_position(input.read_bytes());
        }
        match next {
            Some(row) => batch.push(row),
            None => break,
        }
    }
    bar.finish_and_clear();
    done.gets = store.stats().snapshot().total(esker::stats::RequestKind::Get) - gets_before;
    Ok(done)
}

impl Pass {
    async fn check(
        &mut self,
        keyspace: &str,
        view: Option<&Snapshot>,
        batch: &[Record],
        store: &Store,
    ) -> Result<()> {
        let before = store.clock().monotonic();
        let found = match view {
            Some(view) => view.multi_get(batch.iter().map(|row| &row.key)).await?,
            None => vec![None; batch.len()],
        };
        self.reading += store.clock().monotonic() - before;
        for (row, found) in batch.iter().zip(found) {
            self.rows += 1;
            let place = (keyspace.to_owned(), row.key.clone());
            match found {
                Some(value) if value == row.value => self.wrong.remove(&place),
                other => self.wrong.insert(place, other.is_none()),
            };
        }
        Ok(())
    }
}

fn print(voice: &Voice, out: &mut Out, passes: &[Pass]) -> Result<()> {
    if voice.json {
        let passes: Vec<_> = passes
            .iter()
            .map(|pass| {
                let wrong: Vec<_> = pass
                    .wrong
                    .iter()
                    .take(SHOWN)
                    .map(|((keyspace, key), missing)| {
                        let mut object = serde_json::Map::new();
                        object.insert("keyspace".to_owned(), keyspace.as_str().into());
                        show::put_bytes(&mut object, "key", key, false);
                        object.insert("missing".to_owned(), (*missing).into());
                        object
                    })
                    .collect();
                serde_json::json!({
                    "pass": pass.name, "rows": pass.rows, "differing": pass.wrong.len(),
                    "read_seconds": pass.reading.as_secs_f64(), "get_requests": pass.gets, "first_differing": wrong,
                })
            })
            .collect();
        return out.json(&serde_json::json!({ "passes": passes }));
    }
    for pass in passes {
        let rate = pass.rows as f64 / pass.reading.as_secs_f64().max(1e-6);
        let verdict = match pass.wrong.len() {
            0 => "all equal".to_owned(),
            n => format!("{} missing or different", show::counted(n as u64, "key")),
        };
        writeln!(
            out,
            "{}  {}, {verdict}; read in {} ({} a second, {})",
            pass.name,
            show::counted(pass.rows, "row"),
            show::duration(pass.reading),
            show::count(rate as u64),
            show::counted(pass.gets, "GET"),
        )?;
    }
    if let Some(pass) = passes.iter().find(|pass| !pass.wrong.is_empty()) {
        for ((keyspace, key), missing) in pass.wrong.iter().take(SHOWN) {
            let what = if *missing { "missing" } else { "different" };
            writeln!(out, "  {what}: {} in keyspace {keyspace:?}", show::quoted(key, 100))?;
        }
        if pass.wrong.len() > SHOWN {
            writeln!(out, "  … and {} more", pass.wrong.len() - SHOWN)?;
        }
    }
    Ok(())
}
