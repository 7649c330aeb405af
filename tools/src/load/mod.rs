//! `esker load`: rows from a file or standard input into a database.
//!
//! A thread parses and cuts batches; the writer takes them from a short queue and hands them to the
//! engine as accepted writes, with a bound on how many are not yet durable. At the end everything is
//! made durable and flushed.
//!
//! Always true: batches are loaded in the order of the file, each whole or not at all, so of two rows
//! with one key the later stays; an error says where in the file it is;
//! of a load that stopped, by a signal or otherwise, only rows that are known to be durable are said to be in the database.

mod csv;
mod deb;
mod decompress;
mod jsonl;
mod parquet;

use std::{
    collections::{HashMap, VecDeque},
    io::Write as _,
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use bytesize::ByteSize;
use clap::ValueEnum;
use esker::{Accepted, Compaction, Db, ErrorKind, Keyspace, WriteBatch};
use indicatif::ProgressBar;
use tokio::sync::mpsc;

use crate::{
    exit::Stop,
    output::Voice,
    progress::{self, Of},
    range, show,
    target::Target,
};

pub(crate) use decompress::Input;

const EXAMPLES: &str = "\
Examples:
  esker load file:///tmp/demo people.csv --key id              value: the row as a JSON object
  esker load file:///tmp/demo events.jsonl.zst --key id        value: the line as it is
  esker load s3://bucket/prefix backup.parquet                 what `esker export` wrote
  curl -s https://host/events.jsonl.gz | esker load file:///tmp/demo - --key id
  esker load file:///tmp/demo Packages.xz                      Debian package index

Formats:
  jsonl    lines of {\"key\": …, \"value\": …, \"keyspace\"?, \"expire_at_ms\"?}, as `esker export` writes
           them; binary as key_hex, value_hex. With --key FIELD: any objects, the line is the value
  csv      a header, then rows; needs --key COLUMN; the value is the row as a JSON object, or --value COLUMN
  parquet  columns key, value (keyspace, expire_at_ms) as `esker export` writes them, or any with --key COLUMN
  deb      Debian package-index stanzas: key Package/Version/Architecture, the value is the stanza's exact bytes
The format is told from the content and the name; gzip, zstd, lz4 and xz are recognised by their first bytes.

Of several rows with one key the last stays. A database has one writer. This command becomes it: a
service that is writing to the same database is fenced. The database is created if there is none.";

/// The file and how to read it; shared with `compare`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Source {
    /// The file; `-` is standard input
    #[arg(value_name = "FILE")]
    pub(crate) file: String,
    /// The file's format
    #[arg(long, value_enum, default_value_t = Format::Auto)]
    pub(crate) format: Format,
    /// The column or field that is the key; said several times, they are joined by `/`
    #[arg(long, value_name = "COLUMN")]
    pub(crate) key: Vec<String>,
    /// The column that is the value, instead of the whole row (csv, parquet)
    #[arg(long, value_name = "COLUMN", requires = "key")]
    pub(crate) value: Option<String>,
    /// The keyspace for rows that do not name one; created if it is new
    #[arg(long, value_name = "NAME", default_value = range::DEFAULT)]
    pub(crate) keyspace: String,
}

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    source: Source,
    /// Whether this process also merges while it loads; `off` leaves it to a compactor
    #[arg(long, value_enum, default_value_t = Who::InProcess)]
    compaction: Who,
    /// The memory budget for all but the block cache, such as 256MiB; a merge needs some 10MiB of it
    #[arg(long, value_name = "SIZE")]
    memory: Option<ByteSize>,
    /// Rows in one atomic batch
    #[arg(long, value_name = "ROWS", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    batch: u32,
    #[command(flatten)]
    voice: Voice,
}

/// A file's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Told from the content, then the name
    Auto,
    /// Lines of JSON
    Jsonl,
    /// Comma-separated values with a header
    Csv,
    /// Apache Parquet
    Parquet,
    /// Debian package-index stanzas
    Deb,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Who {
    InProcess,
    Off,
}

/// One row of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    /// The keyspace, if the row names one.
    pub(crate) keyspace: Option<String>,
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
    /// Wall-clock milliseconds; 0: never.
    pub(crate) expire_at_ms: u64,
}

/// The rows of a file, in its order, by format.
pub(crate) enum Rows {
    Jsonl(jsonl::Lines),
    Csv(csv::Table),
    Parquet(parquet::Columns),
    Deb(deb::Stanzas),
}

impl Rows {
    /// Opens the file and finds out its format.
    pub(crate) fn open(source: &Source) -> Result<(Self, Input)> {
        let mut input = Input::open(&source.file)?;
        let format = match source.format {
            Format::Auto => guess(&source.file, input.peek()?)?,
            said => said,
        };
        if format != Format::Csv && format != Format::Parquet && source.value.is_some() {
            return Err(Stop::usage("--value is for csv and parquet").into());
        }
        let rows = match format {
            Format::Jsonl | Format::Auto => {
                Self::Jsonl(jsonl::Lines::new(input.reader()?, input.name(), &source.key))
            }
            Format::Csv => Self::Csv(csv::Table::new(
                input.reader()?,
                input.name(),
                &source.key,
                source.value.as_deref(),
            )?),
            Format::Parquet => Self::Parquet(parquet::Columns::new(
                input.seekable()?,
                input.name(),
                &source.key,
                source.value.as_deref(),
            )?),
            Format::Deb if !source.key.is_empty() => {
                return Err(Stop::usage(
                    "--key is not for Debian stanzas, their key is Package/Version/Architecture",
                )
                .into());
            }
            Format::Deb => Self::Deb(deb::Stanzas::new(input.reader()?, input.name())),
        };
        Ok((rows, input))
    }

    /// The next row; `None` at the end of the file.
    pub(crate) fn next(&mut self) -> Result<Option<Record>> {
        match self {
            Self::Jsonl(rows) => rows.next(),
            Self::Csv(rows) => rows.next(),
            Self::Parquet(rows) => rows.next(),
            Self::Deb(rows) => rows.next(),
        }
    }
}

/// What some editors put before UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Bytes of keys and values after which a batch is cut, whatever its rows.
const BATCH_BYTES: usize = 1 << 20;
/// Batches that may be accepted and not yet durable. The engine's memory budget binds first.
const IN_FLIGHT: usize = 64;

pub(crate) async fn run(args: Args) -> Result<ExitCode> {
    let mut out = args.voice.start();
    // Opened first: a file that is not there must not cost the other writer its role.
    let (rows, input) = Rows::open(&args.source)?;
    let db = args
        .target
        .writer(|builder| {
            let builder = builder.compaction(match args.compaction {
                Who::InProcess => Compaction::InProcess,
                Who::Off => Compaction::Off,
            });
            match args.memory {
                Some(memory) => builder.memory_bytes(memory.as_u64() as usize),
                None => builder,
            }
        })
        .await?;
    let started = db.store().clock().monotonic();
    let bar = progress::bar(&args.voice, input.total_bytes(), Of::Bytes);
    let (to_writer, from_reader) = mpsc::channel(4);
    let batch_rows = args.batch as usize;
    #[expect(clippy::disallowed_methods, reason = "not `on_cpu`: it waits, for the writer")]
    let reading = tokio::task::spawn_blocking(move || cut_batches(rows, batch_rows, &to_writer));
    let mut writing = Writing::new(&db, args.source.keyspace.clone());
    let stop = esker_compactor::stop_signal().context("cannot listen for signals")?;
    let wrote = tokio::select! {
        biased;
        wrote = writing.all(from_reader, &bar, &input) => wrote,
        () = stop => Err(Stop::failed("a signal said so").into()),
    };
    // Once the writer is gone nobody waits for the next line of a terminal.
    let read = match &wrote {
        Ok(()) => reading.await?,
        Err(_) => Ok(()),
    };
    // Whatever went wrong, what was accepted is made durable before it is spoken of.
    let ended = writing.end().await;
    bar.finish_and_clear();
    let (rows, bytes, durable) = (writing.rows, writing.bytes, writing.durable);
    let result = wrote.and(read).and(ended);
    let closed = db.close().await;
    result.map_err(over).with_context(|| stopped(rows, durable))?;
    closed?;
    let took = db.store().clock().monotonic() - started;
    if args.voice.json {
        out.json(&serde_json::json!({ "rows": rows, "bytes": bytes, "seconds": took.as_secs_f64() }))?;
    }
    out.flush()?;
    let rate = rows as f64 / took.as_secs_f64().max(0.001);
    args.voice.note(&format!(
        "loaded {} ({}) in {}, {} a second",
        show::counted(rows, "row"),
        show::size(bytes),
        show::duration(took),
        show::counted(rate as u64, "row"),
    ));
    Ok(ExitCode::SUCCESS)
}

/// Cuts rows into batches until the file ends, or the writer is gone.
fn cut_batches(mut rows: Rows, batch_rows: usize, to_writer: &mpsc::Sender<Vec<Record>>) -> Result<()> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    loop {
        let next = rows.next();
        if let Ok(Some(record)) = next {
            bytes += record.key.len() + record.value.len();
            batch.push(record);
            if batch.len() < batch_rows && bytes < BATCH_BYTES {
                continue;
            }
            bytes = 0;
            if to_writer.blocking_send(std::mem::take(&mut batch)).is_err() {
                return Ok(());
            }
        } else {
            // The rows before the end, or before the bad line, count: they are whole.
            if !batch.is_empty() {
                let _ = to_writer.blocking_send(batch);
            }
            return next.map(|_| ());
        }
    }
}

/// The writing half of a load.
struct Writing<'a> {
    db: &'a Db,
    default: String,
    keyspaces: HashMap<String, Keyspace>,
    /// Each with the rows up to its end.
    in_flight: VecDeque<(Accepted, u64)>,
    /// Rows and bytes accepted; of the rows, how many from the first on are durable.
    rows: u64,
    bytes: u64,
    durable: u64,
}

impl<'a> Writing<'a> {
    fn new(db: &'a Db, default: String) -> Self {
        Self {
            db,
            default,
            keyspaces: HashMap::new(),
            in_flight: VecDeque::new(),
            rows: 0,
            bytes: 0,
            durable: 0,
        }
    }

    /// Writes batches until there are no more, or one fails; the reading side stops when this one does.
    async fn all(
        &mut self,
        mut from_reader: mpsc::Receiver<Vec<Record>>,
        bar: &ProgressBar,
        input: &Input,
    ) -> Result<()> {
        while let Some(records) = from_reader.recv().await {
            self.batch(records).await?;
            bar.set_position(input.read_bytes());
            bar.set_message(show::counted(self.rows, "row"));
        }
        Ok(())
    }

    async fn batch(&mut self, records: Vec<Record>) -> Result<()> {
        let mut batch = WriteBatch::new();
        for record in &records {
            let name = record.keyspace.as_ref().unwrap_or(&self.default);
            if !self.keyspaces.contains_key(name) {
                let opened = self.db.keyspace(name).await?;
                self.keyspaces.insert(name.clone(), opened);
            }
            let keyspace = &self.keyspaces[name];
            batch.put_expiring_at(keyspace, &record.key, &record.value, record.expire_at_ms);
        }
        let (rows, bytes) = (batch.len() as u64, batch.bytes() as u64);
        let accepted = self.db.write(batch).accepted().await?;
        self.rows += rows;
        self.bytes += bytes;
        self.in_flight.push_back((accepted, self.rows));
        if self.in_flight.len() > IN_FLIGHT { self.confirm_oldest().await } else { Ok(()) }
    }

    /// Waits until the oldest batch in flight is durable. It stays in flight if that fails.
    async fn confirm_oldest(&mut self) -> Result<()> {
        if let Some((oldest, rows)) = self.in_flight.front() {
            oldest.durable().await?;
            self.durable = *rows;
            self.in_flight.pop_front();
        }
        Ok(())
    }

    /// Makes everything durable, then writes the memtable out: a loaded database is SSTs, not log.
    async fn end(&mut self) -> Result<()> {
        // First all at once, so that the log is cut once; then in order, to know how far it went.
        let synced = self.db.sync().await;
        while !self.in_flight.is_empty() {
            self.confirm_oldest().await?;
        }
        synced?;
        self.db.flush().await?;
        Ok(())
    }
}

/// `error`, for one who has stopped: nothing is sent any more, and there is nobody to ask again.
fn over(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<esker::Error>() {
        Some(unknown) if unknown.kind() == ErrorKind::OutcomeUnknown => {
            let hint = "see to the store and load the file again: a row that is there already is put once more, and nothing changes";
            Stop::failed(unknown.sentence()).hint(hint).into()
        }
        _ => error,
    }
}

/// What a load that stopped leaves behind: `rows` were accepted, the first `durable` of them for good.
fn stopped(rows: u64, durable: u64) -> String {
    match (rows, durable) {
        (0, _) => "loading stopped before the first row was in the database".to_owned(),
        (1, 1) => "loading stopped after 1 row, which is in the database".to_owned(),
        _ if durable == rows => {
            format!("loading stopped after {}, which are in the database", show::counted(rows, "row"))
        }
        (_, 0) => {
            "loading stopped: no row is known to be durable, the rows are not all in the database".to_owned()
        }
        (_, 1) => {
            "loading stopped: the first row is durable, what came after is not all in the database".to_owned()
        }
        _ => format!(
            "loading stopped: the first {} are durable, what came after is not all in the database",
            show::counted(durable, "row")
        ),
    }
}

/// The format by the first bytes of the (decompressed) content, then by the file's name.
fn guess(file: &str, head: &[u8]) -> Result<Format> {
    if head.starts_with(b"PAR1") {
        return Ok(Format::Parquet);
    }
    let text = head.strip_prefix(BYTE_ORDER_MARK).unwrap_or(head).trim_ascii_start();
    if text.starts_with(b"{") {
        return Ok(Format::Jsonl);
    }
    if text.starts_with(b"Package:") {
        return Ok(Format::Deb);
    }
    let name = file.to_ascii_lowercase();
    let name = [".gz", ".zst", ".lz4", ".xz"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
    let of_name = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
    if of_name(&[".csv"]) {
        Ok(Format::Csv)
    } else if of_name(&[".jsonl", ".ndjson", ".json"]) {
        Ok(Format::Jsonl)
    } else if of_name(&["packages"]) {
        Ok(Format::Deb)
    } else if head.is_empty() {
        // No rows, whatever the format.
        Ok(Format::Jsonl)
    } else {
        Err(Stop::usage(format!("the format of {file} cannot be told from its content or name"))
            .hint("say --format jsonl, csv, parquet or deb")
            .into())
    }
}

/// An error about line `line` of `file`.
fn bad_line(file: &str, line: u64, what: impl std::fmt::Display) -> anyhow::Error {
    Stop::failed(format!("{file}, line {line}: {what}")).into()
}

/// Fails, naming the line, if the engine would refuse the row.
fn check(record: Record, file: &str, line: u64) -> Result<Record> {
    if let Some(keyspace) = &record.keyspace {
        esker::key::check_keyspace(keyspace).map_err(|e| bad_line(file, line, e))?;
    }
    esker::key::check_key(&record.key).map_err(|e| bad_line(file, line, e))?;
    esker::key::check_value(&record.value).map_err(|e| bad_line(file, line, e))?;
    Ok(record)
}

#[cfg(test)]
mod tests;
