//! Hands the database over to a separate compactor process and reads what it says it did.

use std::{path::Path, process::Stdio};

use anyhow::{Context as _, Result, ensure};
use esker::stats::{Cause, RequestCount, RequestKind};
use serde_json::Value;
use tokio::process::Command;

/// What the compactor process reported.
#[derive(Debug)]
pub(crate) struct Merged {
    /// Its own requests.
    pub(crate) requests: Vec<RequestCount>,
    /// Its summary line, as it was.
    pub(crate) summary: Value,
}

/// Runs `program compactor --url … --once --json` to its end.
pub(crate) async fn compact(program: &Path, url: &str) -> Result<Merged> {
    let output = Command::new(program)
        .args(["compactor", "--once", "--json", "--url", url])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| format!("{} could not be started", program.display()))?;
    ensure!(
        output.status.success(),
        "the compactor process failed ({}): {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let lines =
        String::from_utf8(output.stdout).context("the compactor printed something that is not text")?;
    let summary = lines
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .rfind(|event| event["event"] == "finished")
        .context("the compactor did not say that it has finished")?;
    Ok(Merged { requests: requests(&summary["requests"]), summary })
}

fn requests(list: &Value) -> Vec<RequestCount> {
    let one = |entry: &Value| {
        Some(RequestCount {
            kind: RequestKind::ALL.into_iter().find(|k| entry["kind"] == k.as_str())?,
            cause: Cause::ALL.into_iter().find(|c| entry["cause"] == c.as_str())?,
            requests: entry["requests"].as_u64()?,
            failures: entry["failures"].as_u64().unwrap_or(0),
            bytes: entry["bytes"].as_u64()?,
        })
    };
    list.as_array().into_iter().flatten().filter_map(one).collect()
}
