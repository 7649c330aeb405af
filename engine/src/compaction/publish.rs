//! The compactor role: claims the epoch, runs jobs, publishes what they made by edits.
//!
//! ```text
//! claim    commit ClaimCompactor: epoch + 1               fences the commits of whoever held the role
//! step     follow the manifest, pick, run the job, commit Compact
//! release  commit CompactorState with busy_until = 0      the next claims at once
//! ```
//!
//! `busy_until_ms` in the manifest is a courtesy between compactors that were started together: while it lies
//! in the future, a claim by anyone else is refused with the holder's name. It holds for [`LEASE_MS`] and is
//! renewed only while there is work, so an idle compactor writes nothing. After a crash of the holder the next
//! one waits for at most that long. Clocks that disagree cost waiting or a repeated merge, nothing more:
//! **safety is the epoch**, and a compactor that has lost it fails with `Fenced` at its next commit.
//!
//! Always true: one [`Compactor`] runs one job at a time; every call may be dropped at any await, which leaves
//! the role usable and at most garbage in the store; object counters never repeat within an epoch.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{
    chaos::{Bug, bug},
    codec::sum::Sum,
    compaction::{
        collect::{self, Collected},
        job::{Job, JobOptions, JobStats, Progress},
        plan::{self, Plan},
    },
    error::{Error, ErrorKind, Result},
    manifest::{Edit, Manifest, View, edit},
    sst::SstMeta,
    stats::Cause,
    store::{Name, is_missing},
};

/// How long a compactor at work asks others to stay away before it says so again, in milliseconds.
pub const LEASE_MS: u64 = 60_000;

/// Holds the compactor epoch of one database.
pub struct Compactor {
    manifest: Manifest,
    view: Arc<View>,
    epoch: u32,
    /// Whether `view` may be followed; after an error it may lie so far back that what follows it is gone.
    is_fresh: bool,
    /// The counter of the next object made in this epoch. Shared with the job, which takes numbers from it.
    counter: Arc<AtomicU64>,
    options: JobOptions,
    progress: Option<Arc<Progress>>,
}

/// What a step did.
#[derive(Debug, Clone)]
pub enum Did {
    /// Nothing was due.
    Nothing,
    /// SSTs changed their place; only the manifest was written.
    Moved {
        /// What was moved.
        plan: Plan,
        /// The bytes that changed their place.
        bytes: u64,
    },
    /// SSTs were merged.
    Merged {
        /// What was merged.
        plan: Plan,
        /// How much, and in what time.
        stats: JobStats,
    },
}

impl Compactor {
    /// Claims the role for `name` (host and process, for people).
    ///
    /// Fails with `Conflict`, naming the holder and the time it has left, if another compactor is at work (or was
    /// until it crashed, less than a lease ago, whatever its name) and `force` is off. With `force` the other one is fenced at its next commit.
    pub async fn claim(manifest: Manifest, name: &str, force: bool) -> Result<Compactor> {
        let clock = Arc::clone(manifest.store().clock());
        let base = manifest.latest(Cause::Compact).await?;
        let uuid = clock.random();
        let now_ms = clock.wall_ms();
        let busy_until_ms = now_ms.saturating_add(LEASE_MS);
        let edit = Edit::ClaimCompactor { uuid, name: name.to_owned(), busy_until_ms, now_ms, force };
        let view = manifest.commit(&base, &edit, Cause::Compact).await?;
        let state = &view.root.compactor;
        // A claim whose outcome was found in a later version may have been followed by another's.
        if state.uuid[..] != uuid.to_le_bytes() && !bug(Bug::ClaimNotChecked) {
            return Err(edit::fenced("compacting", &state.name, state.epoch, state.epoch.saturating_sub(1)));
        }
        Ok(Compactor {
            epoch: state.epoch,
            counter: Arc::new(AtomicU64::new(state.counter_floor)),
            manifest,
            view,
            is_fresh: true,
            options: JobOptions::default(),
            progress: None,
        })
    }

    /// Sets how jobs run.
    #[must_use]
    pub fn with_options(mut self, options: JobOptions) -> Self {
        self.options = options;
        self
    }

    /// Calls `progress` now and then while a job runs.
    #[must_use]
    pub fn with_progress(mut self, progress: impl Fn(&Plan, u64, u64) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(progress));
        self
    }

    /// The newest version this compactor has seen.
    pub fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// The epoch this compactor works in.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Follows the manifest to its newest version. Fails with `Fenced` if another compactor has the role.
    pub async fn refresh(&mut self) -> Result<()> {
        self.view = if self.is_fresh {
            newest(&self.manifest, &self.view).await?
        } else {
            self.manifest.latest(Cause::Compact).await?
        };
        self.is_fresh = true;
        self.still_ours()
    }

    /// Picks and does one thing. Fails with `Fenced` if another compactor has taken the role over, which
    /// ends this one; after any other error the next step starts from fresh.
    pub async fn step(&mut self) -> Result<Did> {
        self.refresh().await?;
        let now_ms = self.manifest.store().clock().wall_ms();
        match plan::pick(&self.view, now_ms) {
            Some(plan) => self.run(plan).await,
            None => Ok(Did::Nothing),
        }
    }

    /// Everything into one run at the bottom.
    pub async fn step_all(&mut self) -> Result<Did> {
        self.refresh().await?;
        match plan::pick_all(&self.view) {
            Some(plan) => self.run(plan).await,
            None => Ok(Did::Nothing),
        }
    }

    /// One pass of garbage collection ([`collect`](super::collect())), with the retention stored in the database.
    pub async fn collect(&mut self, dry_run: bool) -> Result<Collected> {
        self.collect_with(None, dry_run).await
    }

    /// One pass of garbage collection with another retention than the stored one.
    pub async fn collect_with(&mut self, retention: Option<Duration>, dry_run: bool) -> Result<Collected> {
        self.refresh().await?;
        // No job runs now, so every number given out is committed or abandoned. Saying so makes what
        // failed jobs left behind collectable; there is nothing to say if every job succeeded.
        if !dry_run && self.counter.load(Ordering::Relaxed) > self.view.root.compactor.counter_floor {
            let busy_until_ms = self.view.root.compactor.busy_until_ms;
            self.commit(&self.state(busy_until_ms)).await?;
        }
        collect::collect(&self.manifest, retention, dry_run).await
    }

    /// Gives the role up so that the next claims at once.
    pub async fn release(mut self) -> Result<()> {
        match self.commit(&self.state(0)).await {
            Err(e) if e.kind() == ErrorKind::Fenced => Ok(()),
            other => other,
        }
    }

    async fn run(&mut self, plan: Plan) -> Result<Did> {
        self.is_fresh = false;
        let did = self.run_fresh(plan).await?;
        self.is_fresh = true;
        Ok(did)
    }

    async fn run_fresh(&mut self, plan: Plan) -> Result<Did> {
        if !plan.keeps_order(&self.view) {
            return Err(Error::corruption(
                format!("manifest version {}", self.view.id()),
                0,
                format!("the plan {plan:?} would put older data above newer data"),
            )
            .hint("run esker verify; the runs of this version contradict one another"));
        }
        if plan.moved {
            return self.publish_move(plan).await;
        }
        let clock = Arc::clone(self.manifest.store().clock());
        // A job may be long: others should see that someone is at work before it starts.
        if self.view.root.compactor.busy_until_ms < clock.wall_ms().saturating_add(LEASE_MS / 2) {
            self.renew().await?;
        }
        let start = clock.monotonic();
        let job = Job {
            store: self.manifest.store().clone(),
            view: Arc::clone(&self.view),
            plan: plan.clone(),
            epoch: self.epoch,
            counter: Arc::clone(&self.counter),
            now_ms: clock.wall_ms(),
            options: self.options,
            progress: self.progress.clone(),
        };
        let output = tokio::select! {
            biased;
            output = job.run() => match output {
                Ok(output) => output,
                Err(error) if is_missing(&error) => return Err(self.missing(&plan, error).await),
                Err(error) => return Err(error),
            },
            error = self.keep_renewing() => return Err(error),
        };
        self.view = newest(&self.manifest, &self.view).await?;
        self.still_ours()?;
        let edit = self.compact(&plan, output.ssts, output.dropped);
        self.commit(&edit).await?;
        let elapsed_ms = u64::try_from((clock.monotonic() - start).as_millis()).unwrap_or(u64::MAX);
        Ok(Did::Merged { plan, stats: JobStats { elapsed_ms, ..output.stats } })
    }

    /// What it means that an input of `plan` is not in the store: whoever took the role over, or the inputs
    /// away, had the right to delete it. `error` stands only if the newest version still names them all.
    async fn missing(&self, plan: &Plan, error: Error) -> Error {
        let latest = match self.manifest.latest(Cause::Compact).await {
            Ok(latest) => latest,
            Err(unread) => return unread,
        };
        if let Err(fenced) = edit::check_compactor_epoch(&latest.root, self.epoch) {
            return fenced;
        }
        match plan.ids().find(|id| latest.sst(*id).is_none()) {
            Some(gone) => Error::new(ErrorKind::Conflict, "an input of the merge has been merged by another")
                .on(Name::Sst(gone).to_string())
                .because(error),
            None => error,
        }
    }

    async fn publish_move(&mut self, plan: Plan) -> Result<Did> {
        let moved: Vec<SstMeta> =
            plan.ids().filter_map(|id| self.view.sst(id)).map(|sst| sst.meta.clone()).collect();
        let bytes = moved.iter().map(|meta| meta.bytes).sum();
        let mut outputs = moved;
        outputs.sort_by(|a, b| a.first_key.cmp(&b.first_key));
        let edit = self.compact(&plan, outputs, Sum::default());
        self.commit(&edit).await?;
        Ok(Did::Moved { plan, bytes })
    }

    fn compact(&self, plan: &Plan, outputs: Vec<SstMeta>, dropped: Sum) -> Edit {
        Edit::Compact {
            epoch: self.epoch,
            inputs: plan.ids().collect(),
            outputs,
            level: plan.level,
            dropped,
            counter_floor: self.counter.load(Ordering::Relaxed),
            busy_until_ms: self.busy_until_ms(),
        }
    }

    /// Says for as long as it is polled that someone is at work; ends only when another has the role. A lease
    /// that could not be renewed costs a repeated merge at most, and a job thrown away costs one for certain.
    async fn keep_renewing(&self) -> Error {
        let clock = self.manifest.store().clock();
        // The counters of the job that runs at this moment are neither committed nor abandoned.
        let counter_floor = self.view.root.compactor.counter_floor;
        let mut base = Arc::clone(&self.view);
        loop {
            clock.sleep(Duration::from_millis(LEASE_MS / 2)).await;
            // slatedb #1044: what a job is making was declared abandoned.
            let given = self.counter.load(Ordering::Relaxed);
            let edit = Edit::CompactorState {
                epoch: self.epoch,
                counter_floor: if bug(Bug::LeaseRaisesTheFloor) { given } else { counter_floor },
                busy_until_ms: self.busy_until_ms(),
            };
            match self.manifest.commit(&base, &edit, Cause::Compact).await {
                Ok(view) => base = view,
                Err(e) if e.kind() == ErrorKind::Fenced => return e,
                Err(e) => {
                    tracing::warn!(error = %e, "could not renew the compactor's lease, the job goes on");
                    // Whatever became of the attempt, the newest version knows; without it the old base does.
                    if let Ok(latest) = self.manifest.latest(Cause::Compact).await {
                        base = latest;
                    }
                }
            }
        }
    }

    async fn renew(&mut self) -> Result<()> {
        let edit = self.state(self.busy_until_ms());
        self.commit(&edit).await
    }

    async fn commit(&mut self, edit: &Edit) -> Result<()> {
        self.view = self.manifest.commit(&self.view, edit, Cause::Compact).await?;
        Ok(())
    }

    /// To be used only while no job runs: it declares every counter given out so far as settled.
    fn state(&self, busy_until_ms: u64) -> Edit {
        Edit::CompactorState {
            epoch: self.epoch,
            counter_floor: self.counter.load(Ordering::Relaxed),
            busy_until_ms,
        }
    }

    fn busy_until_ms(&self) -> u64 {
        self.manifest.store().clock().wall_ms().saturating_add(LEASE_MS)
    }

    fn still_ours(&self) -> Result<()> {
        edit::check_compactor_epoch(&self.view.root, self.epoch)
    }
}

impl fmt::Debug for Compactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compactor")
            .field("epoch", &self.epoch)
            .field("version", &self.view.id())
            .finish_non_exhaustive()
    }
}

/// The newest version from `view` on, one GET at a time.
async fn newest(manifest: &Manifest, view: &Arc<View>) -> Result<Arc<View>> {
    let mut newest = Arc::clone(view);
    while let Some(next) = manifest.follow(&newest, Cause::Poll).await? {
        newest = next;
    }
    Ok(newest)
}
