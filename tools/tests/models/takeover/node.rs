//! A compactor of the engine, at whatever the driver has it do.

use std::{sync::Arc, time::Duration};

use esker::{
    compaction::{Compactor, job::JobOptions},
    manifest::StoredOptions,
    store::Folder,
};
use futures::lock::Mutex;

use super::engine::Ready;
use crate::drive::{Place, Process, object_of, put_of};

/// Small blocks and SSTs, so that three rows are two SSTs.
pub(super) fn options() -> StoredOptions {
    StoredOptions {
        wal_window: 2,
        retention_ms: 0,
        block_bytes: 64,
        sst_bytes: 1,
        ..StoredOptions::default()
    }
}

/// A compactor of the engine.
pub(super) struct Node {
    pub(super) process: Process<()>,
    compactor: Arc<Mutex<Option<Compactor>>>,
    /// What the process is at while the compactor is between two jobs.
    pub(super) ready: Ready,
}

impl Node {
    pub(super) fn new(place: &Place, seed: u64) -> Self {
        Self {
            process: Process::new(place, seed, options()),
            compactor: Arc::default(),
            ready: Ready::Nothing,
        }
    }

    pub(super) fn claim(&mut self) {
        let (manifest, place) = (self.process.manifest.clone(), self.compactor.clone());
        let options = JobOptions { record_bytes: 1, ..JobOptions::default() };
        self.process.begin(async move {
            let claimed = Compactor::claim(manifest, "compactor", true).await?;
            *place.lock().await = Some(claimed.with_options(options));
            Ok(())
        });
    }

    pub(super) fn merge(&mut self) {
        let compactor = self.compactor.clone();
        self.process.begin(async move {
            let mut compactor = compactor.lock().await;
            compactor.as_mut().expect("it has claimed").step_all().await.map(drop)
        });
    }

    pub(super) fn collect(&mut self) {
        let compactor = self.compactor.clone();
        self.process.begin(async move {
            let mut compactor = compactor.lock().await;
            let compactor = compactor.as_mut().expect("it has claimed");
            compactor.collect_with(Some(Duration::ZERO), false).await.map(drop)
        });
    }

    /// It gets ready for what comes next.
    pub(super) fn prepare(&mut self, ready: Ready) {
        // It has read the log, or ended a job that it does not carry on, and goes on to merge.
        let is_on_its_way = ready == Ready::Merge && self.ready == Ready::Nothing;
        let is_ready = ready == self.ready || is_on_its_way;
        if !is_ready || !self.process.is_at_work() || ready == Ready::Nothing {
            self.process.stop();
            match ready {
                Ready::Merge => self.merge(),
                Ready::RaiseFloor => self.collect(),
                Ready::Nothing => {}
            }
        }
        self.ready = ready;
        match ready {
            Ready::Merge => self.process.let_go(|request| !object_of(Folder::Sst)(request)),
            Ready::RaiseFloor => self.process.let_go(|request| !put_of(Folder::JobFloor)(request)),
            Ready::Nothing => {}
        }
    }
}
