//! `esker put`: one key, one value, durable when it returns.

use std::{
    io::{self, Read as _, Write as _},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, Result};
use esker::{Compaction, key::MAX_VALUE_BYTES};

use crate::{output::Voice, range, show, target::Target};

const EXAMPLES: &str = "\
Examples:
  esker put file:///tmp/demo greeting hello
  esker put file:///tmp/demo photo < photo.jpg          the value from standard input
  esker put s3://bucket/prefix session:9 yes --ttl 1h   gone in an hour
  esker put file:///tmp/demo 00ff 0102 --hex            binary key and value

A database has one writer. This command becomes it: a service that is writing to the same database
is fenced, and says so on its next write. The database is created if there is none.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// The key
    key: String,
    /// The value; `-` or nothing reads it from standard input, byte for byte
    value: Option<String>,
    /// The keyspace; created if it is new
    #[arg(long, value_name = "NAME", default_value = range::DEFAULT)]
    keyspace: String,
    /// The row expires after this long, such as 90s, 1h, 7days
    #[arg(long, value_name = "TIME", value_parser = life)]
    ttl: Option<Duration>,
    /// The key and value are hex digits (a value from standard input is taken as it is)
    #[arg(long)]
    hex: bool,
    #[command(flatten)]
    voice: Voice,
}

pub(crate) async fn run(args: Args) -> Result<ExitCode> {
    let mut out = args.voice.start();
    let key = show::given(&args.key, args.hex)?;
    let value = match args.value.as_deref() {
        None | Some("-") => from_stdin()?,
        Some(word) => show::given(word, args.hex)?,
    };
    // Checked before the role is taken over, so that a typing error disturbs nobody.
    esker::key::check_key(&key)?;
    esker::key::check_value(&value)?;
    let db = args.target.writer(|builder| builder.compaction(Compaction::Off)).await?;
    let keyspace = db.keyspace(&args.keyspace).await?;
    let mut put = keyspace.put(&key, &value);
    if let Some(ttl) = args.ttl {
        put = put.ttl(ttl);
    }
    let token = put.await?;
    db.close().await?;
    if args.voice.json {
        out.json(&serde_json::json!({ "token": token.to_string() }))?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// A time to live, of at most a thousand years: far from where the clock's milliseconds overflow.
fn life(word: &str) -> Result<Duration, String> {
    const LONGEST: Duration = Duration::from_secs(1000 * 31_557_600);
    match humantime::parse_duration(word) {
        Ok(ttl) if ttl <= LONGEST => Ok(ttl),
        Ok(_) | Err(humantime::DurationError::NumberOverflow) => {
            Err("it is over a thousand years; without --ttl the row stays for ever".to_owned())
        }
        Err(error) => Err(error.to_string()),
    }
}

/// All of standard input, up to one byte more than a value may have.
fn from_stdin() -> Result<Vec<u8>> {
    let mut value = Vec::new();
    let limit = MAX_VALUE_BYTES as u64 + 1;
    io::stdin()
        .lock()
        .take(limit)
        .read_to_end(&mut value)
        .context("the value cannot be read from standard input")?;
    Ok(value)
}
