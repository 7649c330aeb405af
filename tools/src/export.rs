//! `esker export`: every row of one consistent snapshot, as lines of JSON or Parquet.
//!
//! ```text
//! jsonl    {"keyspace":…,"key":…,"value":…,"seq":…,"expire_at_ms"?}; bytes that are not UTF-8 as key_hex, value_hex
//! parquet  keyspace Utf8, key Binary, value Binary, seq UInt64, expire_at_ms UInt64?; zstd; row groups
//!          of at most 64 Ki rows and about 32 MiB
//! ```
//!
//! Always true: the file appears under its name only when it is whole (it is written as FILE.partial
//! and renamed), and only in the place of a regular file; memory is bounded by one row group; `esker load` of the file gives an equal database.

use std::{
    fs::{self, File, FileType},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context as _, Result};
use arrow_array::{
    ArrayRef, RecordBatch,
    builder::{BinaryBuilder, StringBuilder, UInt64Builder},
};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use clap::ValueEnum;
use esker::{KeyRange, Row, Snapshot, key::NEVER, sst::SstMeta};
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, ZstdLevel},
    file::properties::WriterProperties,
};

use crate::{
    count::RowsHash,
    describe,
    exit::Stop,
    output::Voice,
    progress::{self, Of},
    range, show,
    target::Target,
};

const EXAMPLES: &str = "\
Examples:
  esker export file:///tmp/demo backup.parquet
  esker export file:///tmp/demo rows.jsonl --hash
  esker export s3://bucket/prefix - | zstd > backup.jsonl.zst
  esker load   file:///tmp/copy backup.parquet        an equal database
  esker export file:///tmp/demo rest.jsonl --skip-holes     what is left after `esker repair --salvage`

In DuckDB: select keyspace, count(*) from 'backup.parquet' group by 1;

All keyspaces, from one snapshot; a live writer is not disturbed. Rows that have expired are left out.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// The file to write; `-` is standard output (lines of JSON only)
    #[arg(value_name = "FILE")]
    file: String,
    /// The format; told from the file's name if it ends in .parquet or .jsonl
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Replace FILE if it exists
    #[arg(long)]
    force: bool,
    /// Write keys and values as hex, even when they are text (jsonl)
    #[arg(long)]
    hex: bool,
    /// Write the rows of this checkpoint instead of the database as it is now
    #[arg(long, value_name = "NAME")]
    checkpoint: Option<String>,
    /// Leave out the ranges of keys of which entries are lost, and say which, instead of failing at the first
    #[arg(long)]
    skip_holes: bool,
    /// Also print the number of rows and their hash, as `esker count --all --hash` does
    #[arg(long)]
    hash: bool,
    #[command(flatten)]
    voice: Voice,
}

impl Args {
    /// Whether it writes a file, and not standard output.
    pub(crate) fn is_file(&self) -> bool {
        self.file != "-"
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Jsonl,
    Parquet,
}

pub(crate) async fn run(args: Args) -> Result<ExitCode> {
    let mut out = args.voice.start();
    let format = format(&args)?;
    let reader = args.target.reader_at(args.checkpoint.as_deref()).await?;
    let snapshot = reader.snapshot();
    let started = reader.store().clock().monotonic();
    let mut file = if !args.is_file() {
        if args.hash {
            return Err(Stop::usage("--hash prints on standard output, where the rows go")
                .hint("name a file")
                .into());
        }
        Destination::Stdout
    } else {
        Destination::file(Path::new(&args.file), args.force)?
    };
    let to = file.open()?;
    let name = file.name();
    let unwritten = || format!("{name} could not be written");
    let mut rows = match format {
        Format::Jsonl => Writer::Jsonl { to, hex: args.hex },
        Format::Parquet => Writer::Parquet(Box::new(RowGroups::new(to).with_context(unwritten)?)),
    };
    let bar = progress::bar(&args.voice, 0, Of::Things("rows"));
    let (mut written, mut hash) = (0_u64, RowsHash::default());
    let keyspaces = range::all_keyspaces(&snapshot)?;
    let ranges = |of: &Snapshot| if args.skip_holes { of.intact() } else { vec![KeyRange::all()] };
    let scans = keyspaces
        .iter()
        .flat_map(|(name, of)| ranges(of).into_iter().map(move |range| (name, of.scan_range(range))));
    for (keyspace, mut scan) in scans {
        while let Some(row) = scan.next().await? {
            rows.add(keyspace, &row).with_context(unwritten)?;
            written += 1;
            if args.hash {
                hash.add(keyspace, &row.key, &row.value);
            }
            if written.is_multiple_of(4096) {
                bar.set_position(written);
                // A signal is heard here, where all rows are in memory.
                tokio::task::yield_now().await;
            }
        }
    }
    rows.finish().with_context(unwritten)?;
    let bytes = file.complete()?;
    bar.finish_and_clear();
    let hash = args.hash.then(|| hash.finish());
    let view = reader.view();
    let holes: Vec<&SstMeta> = view.root.ssts().filter(|sst| args.skip_holes && sst.is_hole()).collect();
    if args.voice.json && args.is_file() {
        out.json(&serde_json::json!({ "rows": written, "file_bytes": bytes, "snapshot_seq": snapshot.seq(), "sha256": hash, "left_out": holes.iter().map(|hole| describe::hole_json(hole)).collect::<Vec<_>>() }))?;
    } else {
        if let Some(hash) = hash {
            writeln!(out, "{written} {hash}")?;
        }
        // Said to everyone: whoever takes the file for all rows is to know.
        for hole in &holes {
            args.voice.warn(&format!("left out {}", describe::hole(hole)));
        }
    }
    out.flush()?;
    let took = reader.store().clock().monotonic() - started;
    args.voice.note(&format!(
        "exported {}{} in {}",
        show::counted(written, "row"),
        bytes.map(|b| format!(" ({})", show::size(b))).unwrap_or_default(),
        show::duration(took)
    ));
    drop(snapshot);
    reader.close().await?;
    Ok(ExitCode::SUCCESS)
}

fn format(args: &Args) -> Result<Format> {
    let name = args.file.to_ascii_lowercase();
    match args.format {
        Some(Format::Parquet) if !args.is_file() => {
            Err(Stop::usage("Parquet cannot be written to standard output").hint("name a file").into())
        }
        Some(said) => Ok(said),
        None if name.ends_with(".parquet") => Ok(Format::Parquet),
        None if name == "-" || [".jsonl", ".ndjson", ".json"].iter().any(|end| name.ends_with(end)) => {
            Ok(Format::Jsonl)
        }
        None => Err(Stop::usage(format!("the format for {} cannot be told from its name", args.file))
            .hint("say --format jsonl or --format parquet")
            .into()),
    }
}

/// Where the rows go.
enum Destination {
    Stdout,
    /// Written under `partial`, then given its name. What is left of a failed export is removed.
    File {
        partial: PathBuf,
        whole: PathBuf,
        done: bool,
    },
}

impl Destination {
    fn file(name: &Path, force: bool) -> Result<Self> {
        let whole = match fs::metadata(name) {
            Ok(about) => {
                only_a_file(name, about.file_type())?;
                if !force {
                    return Err(Stop::failed(format!("{} exists", name.display()))
                        .hint("say --force to replace it")
                        .into());
                }
                // A link stays, and what it points to is replaced.
                fs::canonicalize(name).with_context(|| format!("{} cannot be resolved", name.display()))?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if name.is_symlink() {
                    let what = format!("{} is a symbolic link to nothing", name.display());
                    return Err(Stop::failed(what).hint("name the file that it shall point to").into());
                }
                name.to_owned()
            }
            Err(error) => {
                return Err(error).with_context(|| format!("{} cannot be written", name.display()));
            }
        };
        let mut partial = whole.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        // The rest of an export that was killed is overwritten; anything else under that name is not ours.
        if let Ok(about) = fs::symlink_metadata(&partial) {
            only_a_file(&partial, about.file_type())?;
        }
        Ok(Self::File { partial, whole, done: false })
    }

    fn open(&self) -> Result<BufWriter<Box<dyn Write + Send>>> {
        let to: Box<dyn Write + Send> = match self {
            Self::Stdout => Box::new(io::stdout()),
            Self::File { partial, .. } => Box::new(
                File::create(partial).with_context(|| format!("{} cannot be written", partial.display()))?,
            ),
        };
        Ok(BufWriter::with_capacity(1 << 20, to))
    }

    /// What is written just now, for messages.
    fn name(&self) -> String {
        match self {
            Self::Stdout => "standard output".to_owned(),
            Self::File { partial, .. } => partial.display().to_string(),
        }
    }

    /// Makes the file durable and gives it its name; its size.
    fn complete(&mut self) -> Result<Option<u64>> {
        let Self::File { partial, whole, done } = self else { return Ok(None) };
        let name = || format!("{} cannot be completed", whole.display());
        let file = File::open(&*partial).with_context(name)?;
        file.sync_all().with_context(name)?;
        let bytes = file.metadata().with_context(name)?.len();
        fs::rename(&*partial, &*whole).with_context(name)?;
        *done = true;
        Ok(Some(bytes))
    }
}

impl Drop for Destination {
    fn drop(&mut self) {
        if let Self::File { partial, done: false, .. } = self {
            // It may not exist yet; and a leftover under `.partial` misleads nobody.
            let _ = fs::remove_file(partial);
        }
    }
}

/// Fails if there is something other than a regular file: a rename would replace it.
fn only_a_file(path: &Path, is: FileType) -> Result<()> {
    if is.is_file() {
        return Ok(());
    }
    let kind = kind(is);
    let stop = Stop::failed(format!("{} is {kind}, and only a file can be replaced", path.display()));
    Err(stop.hint("name a file, or write to - and send standard output there").into())
}

#[cfg(unix)]
fn kind(is: FileType) -> &'static str {
    use std::os::unix::fs::FileTypeExt as _;
    if is.is_dir() {
        "a directory"
    } else if is.is_symlink() {
        "a symbolic link"
    } else if is.is_fifo() {
        "a FIFO"
    } else if is.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

#[cfg(not(unix))]
fn kind(is: FileType) -> &'static str {
    if is.is_dir() { "a directory" } else { "no regular file" }
}

/// Rows on their way into a file.
enum Writer {
    Jsonl { to: BufWriter<Box<dyn Write + Send>>, hex: bool },
    Parquet(Box<RowGroups>),
}

impl Writer {
    fn add(&mut self, keyspace: &str, row: &Row) -> Result<()> {
        match self {
            Self::Jsonl { to, hex } => {
                let mut line = serde_json::to_vec(&show::row_json(keyspace, row, *hex))?;
                line.push(b'\n');
                Ok(to.write_all(&line)?)
            }
            Self::Parquet(groups) => groups.add(keyspace, row),
        }
    }

    fn finish(self) -> Result<()> {
        match self {
            Self::Jsonl { mut to, .. } => Ok(to.flush()?),
            Self::Parquet(groups) => groups.finish(),
        }
    }
}

/// Rows and bytes of one Arrow batch, and of one Parquet row group.
const BATCH_ROWS: usize = 8 << 10;
const BATCH_BYTES: usize = 8 << 20;
const GROUP_ROWS: usize = 64 << 10;
const GROUP_BYTES: usize = 32 << 20;

/// A Parquet file, row group by row group.
struct RowGroups {
    writer: ArrowWriter<BufWriter<Box<dyn Write + Send>>>,
    schema: SchemaRef,
    columns: Columns,
    rows: usize,
    bytes: usize,
    group_bytes: usize,
}

#[derive(Default)]
struct Columns {
    keyspace: StringBuilder,
    key: BinaryBuilder,
    value: BinaryBuilder,
    seq: UInt64Builder,
    expire_at_ms: UInt64Builder,
}

impl RowGroups {
    fn new(to: BufWriter<Box<dyn Write + Send>>) -> Result<Self> {
        let schema = Arc::new(Schema::new(vec![
            Field::new("keyspace", DataType::Utf8, false),
            Field::new("key", DataType::Binary, false),
            Field::new("value", DataType::Binary, false),
            Field::new("seq", DataType::UInt64, false),
            Field::new("expire_at_ms", DataType::UInt64, true),
        ]));
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
            .set_max_row_group_row_count(Some(GROUP_ROWS))
            .set_created_by(format!("esker {}", env!("CARGO_PKG_VERSION")))
            .build();
        let writer = ArrowWriter::try_new(to, Arc::clone(&schema), Some(properties))?;
        Ok(Self { writer, schema, columns: Columns::default(), rows: 0, bytes: 0, group_bytes: 0 })
    }

    fn add(&mut self, keyspace: &str, row: &Row) -> Result<()> {
        self.columns.keyspace.append_value(keyspace);
        self.columns.key.append_value(&row.key);
        self.columns.value.append_value(&row.value);
        self.columns.seq.append_value(row.seq);
        self.columns.expire_at_ms.append_option((row.expire_at_ms != NEVER).then_some(row.expire_at_ms));
        self.rows += 1;
        self.bytes += row.key.len() + row.value.len();
        if self.rows >= BATCH_ROWS || self.bytes >= BATCH_BYTES {
            self.end_batch()?;
        }
        Ok(())
    }

    fn end_batch(&mut self) -> Result<()> {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.columns.keyspace.finish()),
            Arc::new(self.columns.key.finish()),
            Arc::new(self.columns.value.finish()),
            Arc::new(self.columns.seq.finish()),
            Arc::new(self.columns.expire_at_ms.finish()),
        ];
        self.writer.write(&RecordBatch::try_new(Arc::clone(&self.schema), columns)?)?;
        self.group_bytes += self.bytes;
        (self.rows, self.bytes) = (0, 0);
        if self.group_bytes >= GROUP_BYTES {
            self.writer.flush()?;
            self.group_bytes = 0;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        self.end_batch()?;
        let mut to = self.writer.into_inner()?;
        Ok(to.flush()?)
    }
}
