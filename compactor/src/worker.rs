//! One claimed role: merges until nothing is due, collects, gives the role up.
//!
//! Always true: whatever happens is said as an event; a worker that is dropped leaves the role to time out.

use std::{sync::Arc, time::Duration};

use esker::{
    clock::{SharedClock, deadline},
    compaction::{Collected, Compactor, Did, job::JobOptions},
    manifest::Manifest,
};

use crate::{desk::Desk, event::Event, options::Args};

/// How long giving the role up may take at the end; after that it times out by itself.
const RELEASE_LIMIT: Duration = Duration::from_secs(3);

/// A claimed role, and where to report.
pub(crate) struct Worker {
    compactor: Compactor,
    clock: SharedClock,
    retention: Option<Duration>,
    desk: Arc<Desk>,
}

impl Worker {
    /// Claims the role.
    pub(crate) async fn claim(manifest: &Manifest, args: &Args, desk: &Arc<Desk>) -> esker::Result<Self> {
        let memory_bytes = args.memory.as_u64();
        let options = JobOptions { memory_bytes, read_back: args.read_back, ..JobOptions::default() };
        let reader = Arc::clone(desk);
        let compactor = Compactor::claim(manifest.clone(), &desk.name, args.force)
            .await?
            .with_options(options)
            .with_progress(move |plan, done, total| reader.progress(plan, done, total));
        let (epoch, version) = (compactor.epoch(), compactor.view().id());
        desk.say(&Event::Claimed { name: desk.name.clone(), epoch, version });
        let clock = Arc::clone(manifest.store().clock());
        Ok(Self { compactor, clock, retention: args.retention, desk: Arc::clone(desk) })
    }

    /// Merges until nothing is due. With `all`, everything into one run first.
    pub(crate) async fn merge(&mut self, all: bool) -> esker::Result<()> {
        if all {
            let did = self.compactor.step_all().await?;
            self.desk.did(&did, self.compactor.view());
        }
        self.merge_until(Duration::MAX).await.map(drop)
    }

    /// Merges until nothing is due, or one merge has ended after the moment `at` (monotonic). Whether nothing is due.
    pub(crate) async fn merge_until(&mut self, at: Duration) -> esker::Result<bool> {
        loop {
            let did = self.compactor.step().await?;
            self.desk.did(&did, self.compactor.view());
            if matches!(did, Did::Nothing) {
                return Ok(true);
            }
            if self.clock.monotonic() >= at {
                return Ok(false);
            }
        }
    }

    /// One pass of garbage collection.
    pub(crate) async fn collect(&mut self) -> esker::Result<Collected> {
        let collected = self.compactor.collect_with(self.retention, false).await?;
        self.desk.collected(&collected);
        Ok(collected)
    }

    /// Gives the role up, within seconds.
    pub(crate) async fn release(self) -> esker::Result<()> {
        deadline(&*self.clock, RELEASE_LIMIT, "giving the role up", self.compactor.release()).await
    }
}
