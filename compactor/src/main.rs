//! The executable `esker-compactor`. Everything it does is in the library.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use esker_compactor::Args;

/// See `tools/src/main.rs`: chosen by measurement.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args = Args::parse();
    esker_compactor::log_to_stderr();
    let ended = esker_compactor::runtime()
        .context("the async runtime cannot start")
        .and_then(|runtime| runtime.block_on(esker_compactor::run(args)));
    match ended {
        Ok(exit) => ExitCode::from(exit.code()),
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::from(1)
        }
    }
}
