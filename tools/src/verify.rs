//! `esker verify`: every checksum, every order, every reference.
//!
//! ```text
//! 1  DB                     decodes
//! 2  every version          decodes; runs ascend and do not overlap; the sums of its SSTs add up to its own
//! 3  every SST it names     is there, has its size and hash; every block, key order, filter and count agree
//! 4  the log                every object decodes; from the replay point no slot is missing and numbers ascend
//! 5  the job log            every record decodes, and none is missing between others
//! 6  what nothing names     listed, as information: the next collection takes it
//! ```
//!
//! Always true: it reads and never writes; every problem names an object, and an offset where one is known.

use std::{collections::BTreeMap, io::Write as _, process::ExitCode};

use anyhow::Result;
use bytes::Bytes;
use esker::{
    Error, ErrorKind, clock,
    codec::sum::Sum,
    compaction::{collect, log},
    manifest::{Manifest, View, identity::Identity},
    sst::{self, SstMeta},
    stats::Cause,
    store::{Folder, Name, ObjectId, Store},
    wal::{Cursor, WalObject},
};
use futures::{StreamExt as _, stream};
use indicatif::ProgressBar;
use serde_json::{Value, json};

use crate::{
    exit::Code,
    output::{Out, Voice},
    progress::{self, Of},
    show,
    target::Target,
};

const EXAMPLES: &str = "\
Examples:
  esker verify file:///tmp/demo
  esker verify s3://bucket/prefix --json | jq .problems
  esker verify s3://bucket/prefix --quick       references and sizes only, no SST is read

Reads every byte that a version refers to. Exit code 4 if anything is wrong. Objects that nothing
names are no problem: they are left over from a crash or wait for the next collection.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// Check references and sizes, and read no SST
    #[arg(long)]
    quick: bool,
    /// SSTs read at a time (each is held in memory whole)
    #[arg(long, value_name = "COUNT", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=64))]
    parallel: u8,
    #[command(flatten)]
    voice: Voice,
}

/// Something that is not as it must be.
#[derive(Debug)]
struct Problem {
    object: String,
    offset: Option<u64>,
    what: String,
}

/// What was looked at, and what was found.
#[derive(Debug, Default)]
struct Report {
    problems: Vec<Problem>,
    versions: u64,
    ssts: u64,
    sst_bytes: u64,
    entries: u64,
    wal_objects: u64,
    job_records: u64,
    /// `None`: it cannot be foretold.
    garbage: Option<Garbage>,
}

/// Unreferenced objects that the next collection takes, and those it must still leave.
#[derive(Debug)]
struct Garbage {
    objects: usize,
    bytes: u64,
    waiting: usize,
}

impl Report {
    fn problem(&mut self, object: &Name, what: impl Into<String>) {
        self.problems.push(Problem { object: object.to_string(), offset: None, what: what.into() });
    }

    /// Files an error of the engine: a problem if it is about stored bytes, else the end of the check. A newer
    /// format is no damage, and ends it too.
    fn error(&mut self, object: &Name, error: Error) -> Result<()> {
        if error.kind() != ErrorKind::Corruption {
            return Err(error.into());
        }
        let text = error.to_string();
        let without = error.hint_text().and_then(|h| text.strip_suffix(h)).and_then(|t| t.strip_suffix(". "));
        self.problems.push(Problem {
            object: error.object().map_or_else(|| object.to_string(), str::to_owned),
            offset: error.offset(),
            what: without.unwrap_or(&text).to_owned(),
        });
        Ok(())
    }
}

/// How often a database that changes under the check is looked at again before what was found is believed.
const LOOKS: usize = 3;

pub(crate) async fn run(args: Args) -> Result<ExitCode> {
    let mut out = args.voice.start();
    let store = args.target.store()?;
    let mut report = Report::default();
    match Identity::load(&store).await {
        // Says "not found" with a hint.
        Ok(None) => drop(args.target.database().await?),
        Ok(Some(identity)) => {
            for _ in 0..LOOKS {
                let before = newest(&store).await?;
                report = Report::default();
                everything(&args, &store, &identity, &mut report).await?;
                // A writer or a collection at work can make an older listing look wrong; damage stays.
                if report.problems.is_empty() || newest(&store).await? == before {
                    break;
                }
            }
        }
        Err(error) => report.error(&Name::Identity, error)?,
    }
    print(&args.voice, &mut out, &report)?;
    out.flush()?;
    Ok(if report.problems.is_empty() { ExitCode::SUCCESS } else { Code::Corruption.into() })
}

/// The newest version, floor and log object: when none has changed, nothing was committed in between.
async fn newest(store: &Store) -> Result<[Option<Name>; 3]> {
    let mut newest = [None, None, None];
    for (at, folder) in [Folder::Manifest, Folder::ManifestFloor, Folder::Wal].into_iter().enumerate() {
        newest[at] = store.list(folder, None, Cause::Admin).await?.pop().map(|object| object.name);
    }
    Ok(newest)
}

async fn everything(args: &Args, store: &Store, identity: &Identity, report: &mut Report) -> Result<()> {
    let manifest = match Manifest::open(store.clone()).await {
        Ok(manifest) => manifest,
        Err(error) => return report.error(&Name::Identity, error),
    };
    let views = versions(&manifest, report).await?;
    let mut ssts: BTreeMap<ObjectId, SstMeta> = BTreeMap::new();
    for view in &views {
        check_version(view, report);
        for open in view.runs.iter().flat_map(|run| run.ssts.iter()) {
            let first = ssts.entry(open.id).or_insert_with(|| open.meta.clone());
            if *first != open.meta {
                let what = format!("it describes SST {} otherwise than another version", open.id);
                report.problem(&Name::Manifest(view.id()), what);
            }
        }
    }
    check_ssts(args, store, &ssts, report).await?;
    if let Some(latest) = views.last() {
        check_log(store, identity, latest, report).await?;
        check_job_log(store, identity, latest, report).await?;
        if report.problems.is_empty() {
            // What a collection would do can be foretold only for a database that is whole.
            report.garbage = match collect::collect(&manifest, None, true).await {
                Ok(of) => Some(Garbage { objects: of.deleted.len(), bytes: of.bytes, waiting: of.waiting }),
                // Another collection is at work.
                Err(error) if error.kind() == ErrorKind::Conflict => None,
                Err(error) => return Err(error.into()),
            };
        }
    }
    Ok(())
}

/// Every version that is there and above the floor, ascending.
async fn versions(manifest: &Manifest, report: &mut Report) -> Result<Vec<std::sync::Arc<View>>> {
    let store = manifest.store();
    let listed = store.list(Folder::Manifest, None, Cause::Admin).await?;
    // After the versions: the floor is raised before any of them is deleted.
    let floor = store.list(Folder::ManifestFloor, None, Cause::Admin).await?;
    let floor =
        floor.iter().filter_map(|o| if let Name::ManifestFloor(id) = o.name { Some(id) } else { None }).max();
    let mut next = floor.unwrap_or(0) + 1;
    let mut views = Vec::new();
    for object in listed {
        let Name::Manifest(id) = object.name else { continue };
        if id < next {
            continue;
        }
        if next < id {
            report.problem(&Name::Manifest(next), missing(next, id - 1));
        }
        next = id + 1;
        report.versions += 1;
        match manifest.version(id, Cause::Admin).await {
            Ok(Some(view)) => views.push(view),
            // Collected since it was listed.
            Ok(None) => report.versions -= 1,
            Err(error) => report.error(&object.name, error)?,
        }
    }
    if views.is_empty() && report.problems.is_empty() {
        report.problem(&Name::Identity, "there is a database, and no version of it");
    }
    Ok(views)
}

/// The problem with versions `first` to `last`, which nothing says were collected.
fn missing(first: u64, last: u64) -> String {
    let which = if first == last {
        "this version is missing".to_owned()
    } else {
        format!("the versions from this one to {last} are missing")
    };
    format!("{which}: a later one is there, and no mark in the floor folder says that it was collected")
}

/// The order of one version, and its sum.
fn check_version(view: &View, report: &mut Report) {
    let name = Name::Manifest(view.id());
    let mut sum = Sum::default();
    let mut level = 0;
    for run in &view.runs {
        if run.level < level {
            report.problem(&name, format!("run {} of level {} lies under level {level}", run.id, run.level));
        }
        level = run.level;
        for open in run.ssts.iter() {
            if open.meta.first_key > open.meta.last_key {
                report.problem(&name, format!("SST {} ends before it begins", open.id));
            }
            match Sum::from_bytes(&open.meta.sum) {
                Some(of_sst) => sum.add(&of_sst),
                None => report.problem(&name, format!("the sum of SST {} is no sum", open.id)),
            }
        }
        for pair in run.ssts.windows(2) {
            // One key may have versions on both sides of a cut; never the other way round.
            if pair[0].meta.last_key > pair[1].meta.first_key {
                report.problem(
                    &name,
                    format!("SSTs {} and {} of run {} overlap", pair[0].id, pair[1].id, run.id),
                );
            }
        }
    }
    if sum.to_bytes() != view.root.sum[..] {
        report.problem(&name, "its conservation sum is not that of its SSTs: entries were lost or added");
    }
}

/// Every SST that a version names: present, of its size, whole inside.
async fn check_ssts(
    args: &Args,
    store: &Store,
    ssts: &BTreeMap<ObjectId, SstMeta>,
    report: &mut Report,
) -> Result<()> {
    let listed = store.list(Folder::Sst, None, Cause::Admin).await?;
    let listed: BTreeMap<Name, u64> = listed.into_iter().map(|object| (object.name, object.bytes)).collect();
    let total: u64 = ssts.values().map(|meta| meta.bytes).sum();
    let bar: ProgressBar = progress::bar(&args.voice, if args.quick { 0 } else { total }, Of::Bytes);
    let mut whole = Vec::new();
    for (id, meta) in ssts {
        let name = Name::Sst(*id);
        report.ssts += 1;
        report.entries += meta.entries;
        match listed.get(&name) {
            None => report.problem(&name, "a version names this SST, and it is not there"),
            Some(bytes) if *bytes != meta.bytes => {
                report.problem(&name, format!("it has {bytes} bytes, and {} were written", meta.bytes));
            }
            Some(_) => whole.push((name, meta)),
        }
    }
    if args.quick {
        return Ok(());
    }
    let mut checks = stream::iter(whole)
        .map(|(name, meta)| async move {
            let checked = read_sst(store, &name, meta).await;
            (name, meta.bytes, checked)
        })
        .buffer_unordered(args.parallel.into());
    while let Some((name, bytes, checked)) = checks.next().await {
        report.sst_bytes += bytes;
        bar.inc(bytes);
        if let Err(error) = checked {
            report.error(&name, error)?;
        }
    }
    bar.finish_and_clear();
    Ok(())
}

async fn read_sst(store: &Store, name: &Name, meta: &SstMeta) -> esker::Result<()> {
    let Some(bytes): Option<Bytes> = store.get(name, Cause::Admin).await? else {
        return Err(Error::corruption(name.to_string(), 0, "a version names this SST, and it is not there"));
    };
    let meta = meta.clone();
    clock::on_cpu(move || sst::verify_object(&meta, &bytes)).await?
}

/// Every object of the log; and that the walk from the replay point misses none and its numbers ascend.
async fn check_log(store: &Store, identity: &Identity, latest: &View, report: &mut Report) -> Result<()> {
    let mut decoded: BTreeMap<u64, Option<WalObject>> = BTreeMap::new();
    for object in store.list(Folder::Wal, None, Cause::Admin).await? {
        let Name::Wal(slot) = object.name else { continue };
        let Some(bytes) = store.get(&object.name, Cause::Admin).await? else { continue };
        report.wal_objects += 1;
        let whole = match WalObject::decode(slot, identity.db_uuid, bytes) {
            Ok(whole) => Some(whole),
            Err(error) => {
                report.error(&object.name, error)?;
                None
            }
        };
        decoded.insert(slot, whole);
    }
    let mut cursor = Cursor::start(&latest.root);
    let mut last_seq = 0;
    loop {
        let slot = cursor.slot;
        let name = Name::Wal(slot);
        match decoded.get(&slot) {
            Some(Some(object)) => {
                let counts = cursor.pass(object, identity.wal_window);
                if cursor.max_epoch > latest.root.writer.epoch {
                    report.problem(&name, format!("epoch {} was never given out", cursor.max_epoch));
                }
                if let (true, WalObject::Data { header, last_seq: last, .. }) = (counts, object) {
                    if header.first_seq <= last_seq {
                        report
                            .problem(&name, format!("number {} follows number {last_seq}", header.first_seq));
                    }
                    last_seq = *last;
                }
            }
            // Damage has been reported; what follows is walked all the same.
            Some(None) => cursor.slot += 1,
            None => {
                // An object K slots on is sent only after this one was acknowledged.
                let beyond = slot + u64::from(identity.wal_window);
                if slot <= latest.root.writer.tail_hint || decoded.contains_key(&beyond) {
                    report.problem(
                        &name,
                        "a log object is missing: one behind it was written, and acknowledged",
                    );
                }
                return Ok(());
            }
        }
    }
}

/// Every record of the job log that counts.
async fn check_job_log(store: &Store, identity: &Identity, latest: &View, report: &mut Report) -> Result<()> {
    for (slot, record) in log::read(store, identity.db_uuid, Cause::Admin).await?.records {
        let name = Name::Job(slot);
        report.job_records += 1;
        match record {
            Ok(record) if record.epoch > latest.root.compactor.epoch => {
                report.problem(&name, format!("epoch {} was never given out", record.epoch));
            }
            Ok(_) => {}
            Err(error) => report.error(&name, error)?,
        }
    }
    Ok(())
}

fn print(voice: &Voice, out: &mut Out, report: &Report) -> Result<()> {
    if voice.json {
        let problems: Vec<Value> = report
            .problems
            .iter()
            .map(|p| json!({ "object": p.object, "offset": p.offset, "problem": p.what }))
            .collect();
        return out.json(&json!({
            "ok": report.problems.is_empty(), "problems": problems,
            "versions": report.versions, "ssts": report.ssts, "sst_bytes_read": report.sst_bytes,
            "entries": report.entries, "wal_objects": report.wal_objects,
            "job_records": report.job_records,
            "garbage": report.garbage.as_ref().map(|g| g.objects),
            "garbage_bytes": report.garbage.as_ref().map(|g| g.bytes),
            "waiting": report.garbage.as_ref().map(|g| g.waiting),
        }));
    }
    for problem in &report.problems {
        // An error of the engine names its place itself.
        if problem.what.contains(&problem.object) {
            writeln!(out, "✗ {}", problem.what)?;
        } else {
            writeln!(out, "✗ {}: {}", problem.object, problem.what)?;
        }
    }
    writeln!(
        out,
        "{}: {}, {} ({} read, {} entries), {}",
        if report.problems.is_empty() {
            "whole".to_owned()
        } else {
            show::counted(report.problems.len() as u64, "problem")
        },
        show::counted(report.versions, "version"),
        show::counted(report.ssts, "SST"),
        show::size(report.sst_bytes),
        show::count(report.entries),
        show::counted(report.wal_objects, "WAL object"),
    )?;
    match &report.garbage {
        Some(garbage) if garbage.objects + garbage.waiting > 0 => writeln!(
            out,
            "the next collection takes {} ({}); {} may still be published",
            show::counted(garbage.objects as u64, "object"),
            show::size(garbage.bytes),
            show::count(garbage.waiting as u64),
        )?,
        Some(_) => {}
        None if report.problems.is_empty() => {
            writeln!(out, "a collection is at work; what the next one takes cannot be told")?;
        }
        None => writeln!(out, "what the next collection takes is told only of a whole database")?,
    }
    Ok(())
}
