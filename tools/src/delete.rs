//! `esker delete`: keys, all together or none.

use std::{io::Write as _, process::ExitCode};

use anyhow::Result;
use esker::{Compaction, WriteBatch};

use crate::{output::Voice, range, show, target::Target};

const EXAMPLES: &str = "\
Examples:
  esker delete file:///tmp/demo greeting
  esker delete file:///tmp/demo user:1 user:2 --keyspace people
  esker delete s3://bucket/prefix 00ff --hex

All keys go in one atomic batch; a key that is not there is no error. A database has one writer.
This command becomes it: a service that is writing to the same database is fenced.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// The keys
    #[arg(required = true, value_name = "KEY")]
    keys: Vec<String>,
    /// The keyspace
    #[arg(long, value_name = "NAME", default_value = range::DEFAULT)]
    keyspace: String,
    /// The keys are hex digits
    #[arg(long)]
    hex: bool,
    #[command(flatten)]
    voice: Voice,
}

pub(crate) async fn run(args: Args) -> Result<ExitCode> {
    let mut out = args.voice.start();
    let keys = args.keys.iter().map(|key| show::given(key, args.hex)).collect::<Result<Vec<_>>>()?;
    for key in &keys {
        esker::key::check_key(key)?;
    }
    // Looks before it takes the role: no database, or no such keyspace, disturbs nobody.
    let reader = args.target.reader().await?;
    range::keyspace(&reader.snapshot(), &args.keyspace)?;
    reader.close().await?;

    let db = args.target.writer(|builder| builder.compaction(Compaction::Off).must_exist()).await?;
    let keyspace = db.keyspace(&args.keyspace).await?;
    let mut batch = WriteBatch::new();
    for key in &keys {
        batch.delete(&keyspace, key);
    }
    let token = db.write(batch).await?;
    db.close().await?;
    if args.voice.json {
        out.json(&serde_json::json!({ "token": token.to_string() }))?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
