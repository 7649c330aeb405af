//! The executable `esker-compactor`. Everything it does is in the library.

use std::process::ExitCode;

use clap::Parser;
use esker_compactor::Args;

/// See `tools/src/main.rs`: chosen by measurement.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    esker_compactor::log_to_stderr();
    match esker_compactor::run(args).await {
        Ok(exit) => ExitCode::from(exit.code()),
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::from(1)
        }
    }
}
