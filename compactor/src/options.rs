//! The command line.
//!
//! Always true: no option changes bytes or meaning; what does is stored in the database and found there.

use std::{net::SocketAddr, time::Duration};

use bytesize::ByteSize;
use clap::{CommandFactory, Parser};

const EXAMPLES: &str = "\
Examples:
  Merge what is due, collect garbage, and exit:
    esker-compactor --url s3://bucket/db --once

  Run as a service beside writers that leave compaction to it:
    esker-compactor --url s3://bucket/db --watch --status 127.0.0.1:9090

  Beside other things on a small machine:
    esker-compactor --url s3://bucket/db --watch --memory 64MiB

  Everything into one run, and space back at once (readers of old versions lose them):
    esker-compactor --url file:///var/lib/db --once --all --retention 0s

  Events as JSON lines on standard output, logs on standard error:
    esker-compactor --url s3://bucket/db --watch --json

Exit codes:
  0  done, or stopped by SIGTERM or SIGINT
  1  something failed that may work later     4  stored bytes are damaged
  2  the command line is wrong                5  another compactor is at work (--once)
  3  there is no database at this URL

It may be killed at any moment: nothing is lost, and the next one starts where this one was.";

/// Merge the sorted runs of an Esker database and collect its garbage.
///
/// Any number may be started on one database: one works, the others wait and say for whom. What the
/// database is like (its shape, codecs, retention) is stored in it and need not be said here.
#[derive(Debug, Clone, Parser)]
#[command(name = "esker-compactor", version, after_help = EXAMPLES, max_term_width = 100)]
pub struct Args {
    /// Where the database is: s3://bucket/prefix, file:///path, gs://…, az://…
    #[arg(long, env = "ESKER_URL", value_name = "URL")]
    pub url: String,

    /// Merge until nothing is due, collect garbage, exit.
    #[arg(long, conflicts_with = "watch")]
    pub once: bool,

    /// Stay, and merge whenever something is due (the default).
    #[arg(long)]
    pub watch: bool,

    /// With --once: merge everything into one run first, whether due or not.
    #[arg(long, requires = "once")]
    pub all: bool,

    /// Print events as JSON lines on standard output.
    #[arg(long)]
    pub json: bool,

    /// Take the role over from a compactor that is at work; what it has in hand is thrown away.
    #[arg(long)]
    pub force: bool,

    /// With --watch: how often to look for new versions; up to four times as long while nothing happens.
    /// Each look is a GET: at least 50ms.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = interval)]
    pub interval: Duration,

    /// How long superseded versions are kept for readers that still use them (default: as stored, 15m).
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub retention: Option<Duration>,

    /// Serve /healthz and /status (JSON) here, for example 127.0.0.1:9090.
    #[arg(long, value_name = "ADDRESS")]
    pub status: Option<SocketAddr>,

    /// Who this is, for others to read (default: host and process).
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,

    /// Memory of a merge: half for blocks read ahead, half for what is built and sent. With less than some 8MiB for
    /// each run that is merged, requests become many and small; at least 1MiB.
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = memory)]
    pub memory: ByteSize,

    /// Read every output back whole and check its hash before it is published.
    #[arg(long)]
    pub read_back: bool,
}

/// A size that a merge can work in.
fn memory(text: &str) -> Result<ByteSize, String> {
    let size: ByteSize = text.parse()?;
    if size < ByteSize::mib(1) {
        return Err("a merge needs 1MiB at least".to_owned());
    }
    if size > ByteSize::tib(1) {
        return Err("more than 1TiB is more than a merge can use".to_owned());
    }
    Ok(size)
}

/// A time between two looks that does not keep the store busy.
fn interval(text: &str) -> Result<Duration, String> {
    let interval = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if interval < Duration::from_millis(50) {
        return Err("each look is a GET that is paid for: 50ms at least".to_owned());
    }
    Ok(interval)
}

impl Args {
    /// The name given, or host and process.
    pub(crate) fn name(&self) -> String {
        self.name.clone().unwrap_or_else(|| {
            let host = std::env::var("HOSTNAME")
                .ok()
                .or_else(|| std::fs::read_to_string("/etc/hostname").ok().map(|name| name.trim().to_owned()))
                .filter(|name| !name.is_empty())
                .unwrap_or_else(|| "localhost".to_owned());
            format!("{host}:{}", std::process::id())
        })
    }
}

/// The command line as clap knows it, for those who put it under a command of their own.
pub fn command() -> clap::Command {
    Args::command()
}
