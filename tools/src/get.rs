//! `esker get`: the value of one key.

use std::{io::Write as _, process::ExitCode};

use anyhow::Result;

use crate::{exit::Stop, output::Voice, range, show, target::Target};

const EXAMPLES: &str = "\
Examples:
  esker get file:///tmp/demo user:42
  esker get file:///tmp/demo user:42 --keyspace people --json
  esker get s3://bucket/prefix 00ff10 --hex          a binary key, the value as hex
  esker get file:///tmp/demo photo --raw > photo.jpg the exact bytes

Reads only: a live writer is not disturbed. Exit code 3 if there is no such key.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// The key
    key: String,
    /// The keyspace
    #[arg(long, value_name = "NAME", default_value = range::DEFAULT)]
    keyspace: String,
    /// The key is hex digits; print the value as hex
    #[arg(long)]
    hex: bool,
    /// Write the value's exact bytes and nothing else
    #[arg(long, conflicts_with_all = ["json"])]
    raw: bool,
    #[command(flatten)]
    voice: Voice,
}

pub(crate) async fn run(args: Args) -> Result<ExitCode> {
    let mut out = args.voice.start();
    let key = show::given(&args.key, args.hex)?;
    let reader = args.target.reader().await?;
    let snapshot = range::keyspace(&reader.snapshot(), &args.keyspace)?;
    let value = snapshot.get(&key).await?.ok_or_else(|| {
        Stop::not_found(format!("there is no key {} in keyspace {:?}", show::quoted(&key, 80), args.keyspace))
            .hint("`esker scan` shows which keys there are")
    })?;
    if args.voice.json {
        let mut object = serde_json::Map::new();
        object.insert("keyspace".to_owned(), args.keyspace.into());
        show::put_bytes(&mut object, "key", &key, args.hex);
        show::put_bytes(&mut object, "value", &value, args.hex);
        out.json(&object)?;
    } else if args.raw {
        out.write_all(&value)?;
    } else {
        writeln!(out, "{}", show::as_asked(&value, args.hex))?;
    }
    out.flush()?;
    reader.close().await?;
    Ok(ExitCode::SUCCESS)
}
