//! `esker doctor`: stub to be written
use crate::{output::Voice, target::Target};
const EXAMPLES: &str = "esker doctor x esker doctor y";
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    voice: Voice,
}
pub(crate) async fn run(args: Args) -> anyhow::Result<std::process::ExitCode> {
    args.voice.start();
    args.target.store()?;
    Ok(0.into())
}
