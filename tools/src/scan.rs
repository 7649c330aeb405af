//! `esker scan`: rows of a range, in order.

use std::{io::Write as _, process::ExitCode};

use anyhow::Result;

use crate::{output::Voice, range::RangeArgs, show, target::Target};

const EXAMPLES: &str = "\
Examples:
  esker scan file:///tmp/demo --limit 10
  esker scan file:///tmp/demo --prefix user: --reverse --limit 1   the last user
  esker scan file:///tmp/demo --from 10 --to 20 --json             rows as `esker load` reads them
  esker scan s3://bucket/prefix --hex --all                        every keyspace, bytes as hex

Each line is KEY, a tab, VALUE. Control characters and bytes that are not UTF-8 are escaped.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    range: RangeArgs,
    /// At most this many rows
    #[arg(long, value_name = "ROWS")]
    limit: Option<usize>,
    /// Descending order
    #[arg(long)]
    reverse: bool,
    /// Print keys alone
    #[arg(long)]
    keys: bool,
    #[command(flatten)]
    voice: Voice,
}

pub(crate) async fn run(args: Args) -> Result<ExitCode> {
    let mut out = args.voice.start();
    let range = args.range.range()?;
    let reader = args.target.reader_at(args.range.checkpoint.as_deref()).await?;
    let mut keyspaces = args.range.keyspaces(&reader.snapshot())?;
    if args.reverse {
        keyspaces.reverse();
    }
    let mut left = args.limit.unwrap_or(usize::MAX);
    for (name, snapshot) in keyspaces {
        let mut scan = snapshot.scan_range(range.clone());
        if args.reverse {
            scan = scan.rev();
        }
        if args.limit.is_some() {
            scan = scan.limit(left);
        }
        while left > 0
            && let Some(row) = scan.next().await?
        {
            left -= 1;
            if args.voice.json {
                let mut object = show::row_json(&name, &row, args.range.hex);
                if args.keys {
                    object.retain(|field, _| !field.starts_with("value"));
                }
                out.json(&object)?;
            } else if args.keys {
                writeln!(out, "{}", show::as_asked(&row.key, args.range.hex))?;
            } else {
                let (key, value) =
                    (show::as_asked(&row.key, args.range.hex), show::as_asked(&row.value, args.range.hex));
                writeln!(out, "{key}\t{value}")?;
            }
        }
    }
    out.flush()?;
    reader.close().await?;
    Ok(ExitCode::SUCCESS)
}
