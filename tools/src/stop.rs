//! Verbs that start servers and processes and fill temporary folders: a signal ends them in order.
//!
//! Always true: who is stopped by SIGINT or SIGTERM leaves no folder, no server and no process behind.

use std::{future::Future, process::ExitCode};

use anyhow::{Context as _, Result};

use crate::exit::Stop;

/// Does `work`, or drops it, and with it all that it holds, when a signal says so.
pub(crate) async fn unless_stopped(work: impl Future<Output = Result<ExitCode>>) -> Result<ExitCode> {
    let stop = esker_compactor::stop_signal().context("cannot listen for signals")?;
    tokio::select! {
        biased;
        ended = work => ended,
        () = stop => Err(Stop::failed("stopped by a signal; what was begun is given up and removed").into()),
    }
}
