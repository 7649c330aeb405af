//! Where the run's database lies: a temporary directory, a MinIO server of our own, or a place the user names.

use anyhow::{Context as _, Result, bail};
use esker::{
    clock::SystemClock,
    testing::{Minio, minio::INSTALL_COMMAND},
};
use tempfile::TempDir;

use crate::options::{Place, Plan};

/// A fresh place for one database. Dropping it stops the server and removes temporary files.
#[derive(Debug)]
pub(crate) struct Target {
    url: String,
    scratch: TempDir,
    minio: Option<Minio>,
}

impl Target {
    pub(crate) async fn prepare(plan: &Plan) -> Result<Self> {
        let scratch = TempDir::with_prefix("esker-bench-").context("no temporary directory could be made")?;
        let (url, minio) = match &plan.place {
            Place::TemporaryDirectory => (format!("file://{}/db", scratch.path().display()), None),
            Place::Url(url) => (below(url, std::process::id()), None),
            Place::Minio => {
                let Some(server) = Minio::start(&SystemClock::shared()).await? else {
                    bail!(
                        "there is no `minio` program on the PATH or where `go install` puts it; build it with\n  {INSTALL_COMMAND}"
                    )
                };
                (server.url("bucket/bench"), Some(server))
            }
        };
        Ok(Self { url, scratch, minio })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// A temporary directory of the run, for a reader's SSD cache.
    pub(crate) fn scratch(&self) -> &std::path::Path {
        self.scratch.path()
    }

    /// Stops the server, removes the temporary files.
    pub(crate) fn clean_up(self) {
        drop(self.minio);
        drop(self.scratch);
    }
}

/// A path of this run's own below `url`, in front of its parameters.
fn below(url: &str, run: u32) -> String {
    let (place, parameters) = url.split_once('?').map_or((url, None), |(p, q)| (p, Some(q)));
    let place = place.trim_end_matches('/');
    match parameters {
        Some(parameters) => format!("{place}/esker-bench-{run}?{parameters}"),
        None => format!("{place}/esker-bench-{run}"),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_run_has_a_path_of_its_own_and_keeps_the_parameters() {
        assert_eq!(super::below("s3://b/p/?endpoint=x", 7), "s3://b/p/esker-bench-7?endpoint=x");
        assert_eq!(super::below("file:///tmp/d", 7), "file:///tmp/d/esker-bench-7");
    }
}
