//! `esker count`: how many rows, and the hash by which two databases, or a database and a file
//! exported from it, can be compared.

use std::{io::Write as _, process::ExitCode};

use anyhow::Result;
use ring::digest;

use crate::{
    output::Voice,
    progress::{self, Of},
    range::RangeArgs,
    show,
    target::Target,
};

const EXAMPLES: &str = "\
Examples:
  esker count file:///tmp/demo
  esker count file:///tmp/demo --prefix user: --keyspace people
  esker count s3://bucket/prefix --all --hash     the same hash as `esker export --hash` prints

The hash is SHA-256 over every row in order: keyspace name, key and value, each after its length as
four bytes, little-endian. Sequence numbers and expiry times are not part of it.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    range: RangeArgs,
    /// Also print a hash of all rows
    #[arg(long)]
    hash: bool,
    #[command(flatten)]
    voice: Voice,
}

pub(crate) async fn run(args: Args) -> Result<ExitCode> {
    let mut out = args.voice.start();
    let range = args.range.range()?;
    let reader = args.target.reader_at(args.range.checkpoint.as_deref()).await?;
    let bar = progress::bar(&args.voice, 0, Of::Things("rows"));
    let (mut rows, mut bytes, mut hash) = (0_u64, 0_u64, RowsHash::default());
    for (name, snapshot) in args.range.keyspaces(&reader.snapshot())? {
        let mut scan = snapshot.scan_range(range.clone());
        while let Some(row) = scan.next().await? {
            rows += 1;
            bytes += (row.key.len() + row.value.len()) as u64;
            if args.hash {
                hash.add(&name, &row.key, &row.value);
            }
            if rows.is_multiple_of(4096) {
                bar.set_position(rows);
            }
        }
    }
    bar.finish_and_clear();
    let hash = args.hash.then(|| hash.finish());
    if args.voice.json {
        out.json(&serde_json::json!({ "rows": rows, "bytes": bytes, "sha256": hash }))?;
    } else if let Some(hash) = hash {
        writeln!(out, "{rows} {hash}")?;
    } else {
        writeln!(out, "{rows}")?;
    }
    out.flush()?;
    args.voice.note(&format!("{} of keys and values", show::size(bytes)));
    reader.close().await?;
    Ok(ExitCode::SUCCESS)
}

/// SHA-256 over rows, by lengths and bytes; `tools/tests/parquet_check.py` computes the same.
#[derive(Clone)]
pub(crate) struct RowsHash(digest::Context);

impl Default for RowsHash {
    fn default() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }
}

impl RowsHash {
    /// Adds one row.
    pub(crate) fn add(&mut self, keyspace: &str, key: &[u8], value: &[u8]) {
        for part in [keyspace.as_bytes(), key, value] {
            self.0.update(&(part.len() as u32).to_le_bytes());
            self.0.update(part);
        }
    }
    /// The hash as hex.
    pub(crate) fn finish(self) -> String {
        show::hex(self.0.finish().as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::RowsHash;

    #[test]
    fn the_hash_tells_where_a_key_ends_and_its_value_begins() {
        let of = |key: &[u8], value: &[u8]| {
            let mut hash = RowsHash::default();
            hash.add("default", key, value);
            hash.finish()
        };
        assert_ne!(of(b"ab", b"c"), of(b"a", b"bc"));
        assert_eq!(of(b"ab", b"c"), of(b"ab", b"c"));
    }
}
