//! The compactor role: claims the epoch, runs jobs, publishes what they made by edits.
//!
//! ```text
//! claim    commit ClaimCompactor: epoch + 1               fences the commits of whoever held the role
//!          then a Takeover in the job log                 voids what the fenced one records from now on
//! step     follow the manifest; resume what broke off, or pick; run the job, commit Compact
//! release  commit CompactorState with busy_until = 0      the next claims at once
//! ```
//!
//! `busy_until_ms` in the manifest is a courtesy between compactors that were started together: while it lies
//! in the future, a claim by anyone else is refused with the holder's name. It holds for [`LEASE_MS`] and is
//! renewed only while there is work, so an idle compactor writes nothing. After a crash of the holder the next
//! one waits for at most that long. Clocks that disagree cost waiting or a repeated merge, nothing more:
//! **safety is the epoch**, and a compactor that has lost it fails with `Fenced` at its next commit.
//!
//! **A job that broke off** and was recorded ([`super::log`]) comes before everything else: one of our own as it is, one
//! of an earlier epoch only after every output that its records name was read back whole and is what they say.
//! It must still make sense on the newest version: its inputs are there, in the same order, and the merge would
//! keep the order of data. If anything about it is doubtful it is given up and merged from the beginning; that costs
//! work and never fails the compactor. Its outputs keep their names, and with them their old epoch.
//!
//! Always true: one [`Compactor`] runs one job at a time; every call may be dropped at any await, which leaves
//! the role usable and at most garbage in the store; object counters never repeat within an epoch; no counter is
//! declared settled while a job that may have used it can still be resumed.

use std::{
    collections::HashSet,
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
        job::{self, Job, JobOptions, JobStats, Progress},
        log::{JobLog, Unfinished},
        newest,
        plan::{self, Plan, Reason},
        record::SoFar,
    },
    error::{Error, ErrorKind, Result},
    manifest::{Edit, Manifest, RunView, View, claim, edit},
    memory::{Memory, MemoryStats},
    sst::SstCache,
    sst::SstMeta,
    stats::Cause,
    store::{Name, ObjectId, is_missing},
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
    log: JobLog,
    options: JobOptions,
    memory: Arc<Memory>,
    cache: Option<SstCache>,
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
    /// Fails with `Corruption`, and commits nothing, if the log or the job log says that a version newer than the newest is lost.
    pub async fn claim(manifest: Manifest, name: &str, force: bool) -> Result<Compactor> {
        let base = manifest.latest(Cause::Compact).await?;
        newest::check(&manifest, &base, Cause::Compact).await?;
        let (view, uuid) = claim::compactor(&manifest, &base, name, LEASE_MS, force, Cause::Compact).await?;
        let state = &view.root.compactor;
        let mut log = JobLog::new(&manifest, uuid, name, state.epoch);
        match log.take_over().await {
            Err(error) if error.kind() == ErrorKind::Fenced => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "the takeover is not in the job log yet; the next step tries again")
            }
            Ok(()) => {}
        }
        Ok(Compactor {
            epoch: state.epoch,
            counter: Arc::new(AtomicU64::new(state.counter_floor)),
            log,
            manifest,
            view,
            is_fresh: true,
            options: JobOptions::default(),
            memory: JobOptions::default().memory(),
            cache: None,
            progress: None,
        })
    }

    /// Sets how jobs run, and gives them a budget of their own.
    #[must_use]
    pub fn with_options(mut self, options: JobOptions) -> Self {
        self.memory = options.memory();
        self.options = options;
        self
    }

    /// Charges what jobs hold to `memory`, that of those who write and read beside it.
    #[must_use]
    pub fn charging(mut self, memory: Arc<Memory>) -> Self {
        self.memory = memory;
        self
    }

    /// What jobs hold now.
    pub fn memory_stats(&self) -> MemoryStats {
        self.memory.stats()
    }

    /// Keeps what is warm in `cache`, of those who read beside it, warm as it is merged.
    #[must_use]
    pub fn warming(mut self, cache: SstCache) -> Self {
        self.cache = Some(cache);
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

    /// Picks and does one thing, or carries on with a job that broke off. Fails with `Fenced` if another compactor has
    /// taken the role over, which ends this one; after any other error the next step starts from fresh.
    pub async fn step(&mut self) -> Result<Did> {
        self.refresh().await?;
        if let Some(did) = self.resume(|_| true).await? {
            return Ok(did);
        }
        let now_ms = self.manifest.store().clock().wall_ms();
        match plan::pick(&self.view, now_ms) {
            Some(plan) => self.run(plan).await,
            None => Ok(Did::Nothing),
        }
    }

    /// Everything into one run at the bottom. Of jobs that broke off only one of this kind is carried on.
    pub async fn step_all(&mut self) -> Result<Did> {
        self.refresh().await?;
        if let Some(did) = self.resume(|plan| plan.reason == Reason::Manual).await? {
            return Ok(did);
        }
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
        self.log.take_over().await?;
        self.refresh().await?;
        // No job runs now, so every number given out is committed or abandoned, but for those of a job that may
        // be resumed. Saying so makes what failed jobs left behind collectable; there is nothing to say if
        // every job succeeded.
        if !dry_run && self.counter_floor() > self.view.root.compactor.counter_floor {
            let busy_until_ms = self.view.root.compactor.busy_until_ms;
            self.commit(&self.state(busy_until_ms)).await?;
        }
        if !dry_run {
            self.log.raise_floor().await?;
        }
        collect::collect(&self.manifest, retention, dry_run).await
    }

    /// Declares void what lies before our takeover in the job log, once everything in it is decided: records that
    /// cannot be read among it, which hold collections up. Records of a newer program are left to it.
    pub async fn settle_log(&mut self) -> Result<()> {
        self.log.take_over().await?;
        self.refresh().await?;
        self.log.raise_floor().await
    }

    /// Gives the role up so that the next claims at once.
    pub async fn release(mut self) -> Result<()> {
        match self.commit(&self.state(0)).await {
            Err(e) if e.kind() == ErrorKind::Fenced => Ok(()),
            other => other,
        }
    }

    /// Carries on with the job that broke off, if there is one, it still makes sense and `is_wanted`.
    async fn resume(&mut self, is_wanted: impl Fn(&Plan) -> bool) -> Result<Option<Did>> {
        loop {
            let view = &self.view;
            let is_sensible = |plan: &Plan| match resumable(plan, view) {
                Ok(plan) if is_wanted(&plan) => Ok(plan),
                Ok(_) => Err("everything is to be merged into one run".to_owned()),
                Err(why) => Err(why),
            };
            let Some(unfinished) = self.log.unfinished(is_sensible).await? else { return Ok(None) };
            self.is_fresh = false;
            let did = match self.adopt(&unfinished).await {
                Ok(()) => self.run_job(unfinished.plan, Some(unfinished.so_far)).await,
                Err(error) if is_doubt(&error) => {
                    self.log.give_up(unfinished.at, &error.to_string()).await?;
                    Err(error)
                }
                Err(error) => return Err(error),
            };
            match did {
                Ok(did) => {
                    self.is_fresh = true;
                    return Ok(Some(did));
                }
                // It has been given up; from the beginning it may go well, or fail with a better reason.
                Err(error) if is_doubt(&error) => {
                    tracing::warn!(%error, "a merge that was carried on failed, it begins again");
                    self.refresh().await?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Makes `unfinished` our job; what another compactor made of it is believed only when it was read back whole.
    async fn adopt(&mut self, unfinished: &Unfinished) -> Result<()> {
        if !unfinished.is_ours {
            let outputs = &unfinished.so_far.outputs;
            let verified = job::verify(self.manifest.store(), &self.memory, outputs);
            while_renewing(&self.manifest, &self.view, self.epoch, verified).await?;
        }
        self.log.adopt(unfinished, self.counter.load(Ordering::Relaxed)).await
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
        self.log.begin(&plan, self.counter.load(Ordering::Relaxed));
        self.run_job(plan, None).await
    }

    /// Runs the open job of the log to its end, and publishes it. One that fails for a reason that will not go away is
    /// given up; any other stays open, and the next step carries on with what of it was recorded.
    async fn run_job(&mut self, plan: Plan, so_far: Option<SoFar>) -> Result<Did> {
        let done = self.run_open(plan, so_far).await;
        let ended = match &done {
            Ok(_) => self.log.end(true, "").await,
            Err(error) if is_doubt(error) => self.log.end(false, &error.to_string()).await,
            Err(_) => Ok(()),
        };
        if let Err(error) = ended {
            // What became of the job is in the manifest; the next step tells the log before it does anything else.
            tracing::warn!(%error, "the end of a merge could not be recorded yet");
        }
        done
    }

    async fn run_open(&mut self, plan: Plan, so_far: Option<SoFar>) -> Result<Did> {
        let clock = Arc::clone(self.manifest.store().clock());
        // A job may be long: others should see that someone is at work before it starts.
        if self.view.root.compactor.busy_until_ms < clock.wall_ms().saturating_add(LEASE_MS / 2) {
            self.renew().await?;
        }
        let start = clock.monotonic();
        let inputs = plan.ids().filter_map(|id| self.view.sst(id));
        let raw_bytes = inputs.map(|sst| sst.meta.raw_bytes).sum();
        let job = Job {
            store: self.manifest.store().clone(),
            view: Arc::clone(&self.view),
            plan: plan.clone(),
            epoch: self.epoch,
            counter: Arc::clone(&self.counter),
            now_ms: clock.wall_ms(),
            options: self.options,
            memory: Arc::clone(&self.memory),
            cache: self.cache.clone().filter(|cache| cache.has_room_beside(raw_bytes)),
            progress: self.progress.clone(),
            so_far,
        };
        let run = job.run(&mut self.log);
        let output = match while_renewing(&self.manifest, &self.view, self.epoch, run).await {
            Ok(output) => output,
            Err(error) if is_missing(&error) => return Err(self.missing(&plan, error).await),
            Err(error) => return Err(error),
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
            // Those of this very job are published by this, or will never be.
            counter_floor: self.counter.load(Ordering::Relaxed),
            busy_until_ms: self.busy_until_ms(),
        }
    }

    async fn renew(&mut self) -> Result<()> {
        let edit = self.state(self.busy_until_ms());
        self.commit(&edit).await
    }

    async fn commit(&mut self, edit: &Edit) -> Result<()> {
        self.view = self.manifest.commit_if_there(&self.view, edit, Cause::Compact).await?;
        Ok(())
    }

    /// To be used only while no job runs: it declares every counter given out so far as settled, but for those
    /// of a job that is open.
    fn state(&self, busy_until_ms: u64) -> Edit {
        Edit::CompactorState { epoch: self.epoch, counter_floor: self.counter_floor(), busy_until_ms }
    }

    fn counter_floor(&self) -> u64 {
        self.log.counter_floor(self.counter.load(Ordering::Relaxed))
    }

    fn busy_until_ms(&self) -> u64 {
        busy_until_ms(&self.manifest)
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

/// The plan as it stands on `view`, or why it makes no sense any more.
fn resumable(plan: &Plan, view: &View) -> Result<Plan, String> {
    if view.runs.iter().any(RunView::is_hole) {
        return Err(
            "a repair has marked a hole, and nothing that was begun without it goes past it".to_owned()
        );
    }
    let ids: HashSet<ObjectId> = plan.ids().collect();
    let inputs: Vec<(u64, Vec<ObjectId>)> = view
        .runs
        .iter()
        .map(|run| (run.id, run.ssts.iter().map(|sst| sst.id).filter(|id| ids.contains(id)).collect()))
        .filter(|(_, ssts): &(u64, Vec<ObjectId>)| !ssts.is_empty())
        .collect();
    let same = |a: &[(u64, Vec<ObjectId>)], b: &[(u64, Vec<ObjectId>)]| {
        a.len() == b.len() && a.iter().zip(b).all(|((_, a), (_, b))| a == b)
    };
    if !same(&inputs, &plan.inputs) {
        return Err("its inputs are not in the newest version as they were".to_owned());
    }
    let plan = Plan { inputs, ..plan.clone() };
    if !plan.keeps_order(view) {
        return Err("it would put older data above newer data".to_owned());
    }
    if plan.bottom && !plan.is_bottom(view) {
        return Err("older data lies below what it dropped tombstones of".to_owned());
    }
    Ok(plan)
}

/// Whether the same job would fail in the same way again.
fn is_doubt(error: &Error) -> bool {
    use ErrorKind::{Conflict, Corruption, Invalid, Unsupported};
    matches!(error.kind(), Conflict | Corruption | Invalid | Unsupported)
}

/// Runs `work`, and says for as long as it lasts that someone is at work. It ends early only when another has the role.
async fn while_renewing<T>(
    manifest: &Manifest,
    view: &Arc<View>,
    epoch: u32,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::select! {
        biased;
        done = work => done,
        error = keep_renewing(manifest, view, epoch) => Err(error),
    }
}

/// A lease that could not be renewed costs a repeated merge at most, and a job thrown away costs one for certain.
async fn keep_renewing(manifest: &Manifest, view: &Arc<View>, epoch: u32) -> Error {
    let clock = manifest.store().clock();
    // The counters of the job that runs at this moment are neither committed nor abandoned.
    // slatedb #1044 is the other way: what a job is making was declared abandoned.
    let abandoned = if bug(Bug::LeaseRaisesTheFloor) { 1000 } else { 0 };
    let counter_floor = view.root.compactor.counter_floor + abandoned;
    let mut base = Arc::clone(view);
    loop {
        clock.sleep(Duration::from_millis(LEASE_MS / 2)).await;
        let edit = Edit::CompactorState { epoch, counter_floor, busy_until_ms: busy_until_ms(manifest) };
        match manifest.commit(&base, &edit, Cause::Compact).await {
            Ok(view) => base = view,
            Err(e) if e.kind() == ErrorKind::Fenced => return e,
            Err(e) => {
                tracing::warn!(error = %e, "could not renew the compactor's lease, the job goes on");
                // Whatever became of the attempt, the newest version knows; without it the old base does.
                if let Ok(latest) = manifest.latest(Cause::Compact).await {
                    base = latest;
                }
            }
        }
    }
}

fn busy_until_ms(manifest: &Manifest) -> u64 {
    manifest.store().clock().wall_ms().saturating_add(LEASE_MS)
}

/// The newest version from `view` on, one GET at a time.
async fn newest(manifest: &Manifest, view: &Arc<View>) -> Result<Arc<View>> {
    let mut newest = Arc::clone(view);
    while let Some(next) = manifest.follow(&newest, Cause::Poll).await? {
        newest = next;
    }
    Ok(newest)
}
