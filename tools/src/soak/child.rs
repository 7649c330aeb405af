//! The processes of a soak: this same binary, told by a hidden verb what to be.
//!
//! A child says on its standard output what it begins and what became of it, a line each (the words are in
//! [`super::history`]); the parent reads the pipe, so that a killed child cannot forget. It ends when its
//! standard input ends, so that no child outlives its parent.
//!
//! Always true: a line is written before what it announces begins, and after what it reports has ended; the
//! bytes of a value follow from the operation that wrote it.

use std::{
    io::{Read as _, Write as _},
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use anyhow::Result;
use clap::{Parser as _, ValueEnum};
use esker::{
    Compaction, Db, Error, ErrorKind, Reader, Row, Snapshot, WriteBatch,
    clock::{SharedClock, SystemClock},
    compaction::collect,
    manifest::Manifest,
    store::Store,
};
use futures::future;

use super::history::{OpId, parse_id};

/// How many registers there are; few, so that they are fought for.
pub(super) const GROUPS: u64 = 48;
/// Keys a group, written in one batch.
pub(super) const ROWS: u64 = 4;
const CLIENTS: u64 = 6;
/// How old a bounded read may be.
const BOUND: Duration = Duration::from_millis(500);
/// One read in so many is a scan of everything.
const SCAN_EVERY: u64 = 40;

/// What a child is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Role {
    Writer,
    Compactor,
    Reader,
    Collector,
}

impl Role {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Writer => "writer",
            Self::Compactor => "compactor",
            Self::Reader => "reader",
            Self::Collector => "collector",
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    role: Role,
    #[arg(long)]
    url: String,
    /// Which process of the soak this is.
    #[arg(long)]
    child: u64,
    #[arg(long, value_parser = humantime::parse_duration)]
    retention: Duration,
}

pub(crate) async fn run(args: Args) -> Result<ExitCode> {
    std::thread::spawn(|| {
        // Ends, or fails, when the parent is gone.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let clock = SystemClock::shared();
    // What it cannot ride out it ends with, and is started again.
    let ended = match args.role {
        Role::Writer => write(&args, &clock).await,
        Role::Reader => read(&args, &clock).await,
        Role::Collector => collect_for_ever(&args, &clock).await,
        Role::Compactor => {
            let retention = humantime::format_duration(args.retention).to_string();
            let words = ["esker-compactor", "--watch", "--force", "--interval", "50ms", "--retention"];
            let words = words.into_iter().chain([retention.as_str(), "--url", &args.url]);
            esker_compactor::log_to_stderr();
            let code = esker_compactor::run(esker_compactor::Args::parse_from(words)).await?.code();
            return Ok(ExitCode::from(code));
        }
    };
    match ended {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            say(&format!("E {}", error.kind().as_str()));
            Err(error.into())
        }
    }
}

/// One write of a whole line: a line is there or it is not.
fn say(line: &str) {
    if std::io::stdout().lock().write_all(format!("{line}\n").as_bytes()).is_err() {
        std::process::exit(0);
    }
}

/// A number under `limit`.
fn dice(clock: &SharedClock, limit: u64) -> u64 {
    (clock.random() as u64) % limit.max(1)
}

/// Clients that put and delete groups, for ever.
async fn write(args: &Args, clock: &SharedClock) -> esker::Result<()> {
    let db = Db::builder(&args.url)
        .name(format!("soak writer {}", args.child))
        .compaction(Compaction::Off)
        .memtable_bytes(256 << 10)
        .memory_bytes(16 << 20)
        .deadline(Duration::from_secs(20))
        .open()
        .await?;
    say("O");
    let next = AtomicU64::new(1);
    let clients = (0..CLIENTS).map(|_| client(args, clock, &db, &next));
    future::try_join_all(clients).await.map(drop)
}

async fn client(args: &Args, clock: &SharedClock, db: &Db, next: &AtomicU64) -> esker::Result<()> {
    loop {
        let n = next.fetch_add(1, Ordering::Relaxed);
        let group = dice(clock, GROUPS);
        let deletes = dice(clock, 8) == 0;
        let mut batch = WriteBatch::new();
        for row in 0..ROWS {
            if deletes {
                batch.delete(db, key(group, row));
            } else {
                batch.put(db, key(group, row), value((args.child, n), group, row));
            }
        }
        say(&format!("B {n} {group} {} {}", if deletes { "del" } else { "put" }, clock.wall_ms()));
        match db.write(batch).await {
            Ok(_) => say(&format!("A {n} {}", clock.wall_ms() + 1)),
            Err(error) if error.kind() == ErrorKind::Fenced => {
                say(&format!("N {n}"));
                return Err(error);
            }
            Err(error) if error.is_retryable() || error.kind() == ErrorKind::OutcomeUnknown => {
                say(&format!("U {n}"));
                say(&format!("E {}", error.kind().as_str()));
                clock.sleep(Duration::from_millis(50)).await;
            }
            Err(error) => {
                say(&format!("U {n}"));
                return Err(error);
            }
        }
        clock.sleep(Duration::from_millis(dice(clock, 12))).await;
    }
}

/// Reads of every freshness, for ever; opens again after an error, as an application would.
async fn read(args: &Args, clock: &SharedClock) -> esker::Result<()> {
    loop {
        let ended = match Reader::builder(&args.url).deadline(Duration::from_secs(20)).open().await {
            Ok(reader) => read_with(&reader, clock).await,
            // There may be no database yet.
            Err(error) => Err(error),
        };
        if let Err(error) = ended {
            say(&format!("E {}", error.kind().as_str()));
            clock.sleep(Duration::from_millis(100)).await;
        }
    }
}

async fn read_with(reader: &Reader, clock: &SharedClock) -> esker::Result<()> {
    let mut newest = 0;
    loop {
        let asked = clock.wall_ms();
        let (mode, floor, snapshot) = match dice(clock, 4) {
            0 => ("snapshot", 0, reader.snapshot()),
            1 => ("bounded", asked.saturating_sub(BOUND.as_millis() as u64), reader.bounded(BOUND).await?),
            _ => ("strong", asked, reader.strong().await?),
        };
        if snapshot.seq() < newest {
            say(&format!("W a {mode} snapshot at {} came after one at {newest}", snapshot.seq()));
        }
        newest = snapshot.seq();
        let groups = if dice(clock, SCAN_EVERY) == 0 {
            scanned(&snapshot, clock).await?
        } else {
            let group = dice(clock, GROUPS);
            vec![(group, got(&snapshot, group, dice(clock, 2) == 0).await?)]
        };
        let end = clock.wall_ms() + 1;
        for (group, seen) in groups {
            match seen {
                Ok(Some((child, n))) => say(&format!("R {group} {mode} {floor} {end} {child}.{n}")),
                Ok(None) => say(&format!("R {group} {mode} {floor} {end} -")),
                Err(wrong) => say(&format!("W {mode}: {wrong}")),
            }
        }
        clock.sleep(Duration::from_millis(2 + dice(clock, 8))).await;
    }
}

/// What a group holds: the operation that wrote it, or what is wrong with it.
type Seen = Result<Option<OpId>, String>;

async fn got(snapshot: &Snapshot, group: u64, together: bool) -> esker::Result<Seen> {
    let keys: Vec<String> = (0..ROWS).map(|row| key(group, row)).collect();
    let mut values = Vec::new();
    if together {
        values = snapshot.multi_get(&keys).await?;
    } else {
        for key in &keys {
            values.push(snapshot.get(key).await?);
        }
    }
    Ok(seen(group, values.iter().map(Option::as_deref)))
}

/// Every group of a scan of everything, with those that have no row.
pub(super) async fn scanned(snapshot: &Snapshot, clock: &SharedClock) -> esker::Result<Vec<(u64, Seen)>> {
    let mut rows: Vec<Row> = Vec::new();
    let mut scan = snapshot.scan::<&str>(..);
    while let Some(row) = scan.next().await? {
        rows.push(row);
        if rows.len().is_multiple_of(16) {
            // A reader that takes its time, over a collector that does not wait.
            clock.sleep(Duration::from_millis(1)).await;
        }
    }
    let value_of = |group, row| {
        let key = key(group, row);
        rows.iter().find(|found| found.key == key.as_bytes()).map(|found| &found.value[..])
    };
    let all = |group| (group, seen(group, (0..ROWS).map(|row| value_of(group, row))));
    let mut groups: Vec<(u64, Seen)> = (0..GROUPS).map(all).collect();
    let known = groups.iter().filter(|(_, seen)| !matches!(seen, Ok(None))).count() as u64 * ROWS;
    if rows.len() as u64 > known {
        groups.push((GROUPS, Err(format!("{} rows, of which only {known} have keys of ours", rows.len()))));
    }
    Ok(groups)
}

/// Who wrote the rows of a group: all one operation, with the bytes that follow from it; or nobody.
fn seen<'a>(group: u64, values: impl Iterator<Item = Option<&'a [u8]>>) -> Seen {
    let mut writers = Vec::new();
    for (row, found) in values.enumerate() {
        let Some(found) = found else {
            writers.push(None);
            continue;
        };
        let text = String::from_utf8_lossy(found);
        let id = text.split(' ').next().and_then(parse_id);
        match id {
            Some(id) if value(id, group, row as u64) == text => writers.push(Some(id)),
            _ => {
                return Err(format!(
                    "group {group} row {row} holds bytes never written: {:?}",
                    text.get(..60)
                ));
            }
        }
    }
    match writers.first() {
        Some(first) if writers.iter().all(|writer| writer == first) => Ok(*first),
        _ => Err(format!("group {group} holds rows of several batches: {writers:?}")),
    }
}

fn key(group: u64, row: u64) -> String {
    format!("group-{group:04}/{row}")
}

/// The operation, then bytes that follow from it; up to some 2 KB, so that there is something to merge.
fn value((child, n): OpId, group: u64, row: u64) -> String {
    let times = (child.wrapping_mul(31) ^ n.wrapping_mul(0x9E37_79B9) ^ row) % 64;
    format!("{child}.{n} {}", format!("{group}/{row}/{child}.{n};").repeat(times as usize + 1))
}

async fn collect_for_ever(args: &Args, clock: &SharedClock) -> esker::Result<()> {
    let store = Store::open(&args.url, std::sync::Arc::clone(clock))?;
    loop {
        let pass = async {
            let manifest = Manifest::open(store.clone()).await?;
            collect::collect(&manifest, Some(args.retention), false).await
        };
        if let Err(error) = pass.await {
            let passes: fn(&Error) -> bool = |error| {
                error.is_retryable() || matches!(error.kind(), ErrorKind::Conflict | ErrorKind::Invalid)
            };
            if !passes(&error) {
                return Err(error);
            }
            say(&format!("E {}", error.kind().as_str()));
        }
        clock.sleep(Duration::from_millis(100 + dice(clock, 300))).await;
    }
}
