//! Where events and figures come together: printed, and kept for the status page.
//!
//! Always true: no lock is held while anything waits.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use esker::{
    Error,
    compaction::{Collected, Did, Plan, plan},
    manifest::View,
    stats::Stats,
    store::Store,
};

use crate::{
    event::{Event, Totals},
    options::Args,
    status::{Level, Status},
};

/// Where events and figures come together: printed, and kept for the status page.
pub(crate) struct Desk {
    pub(crate) name: String,
    json: bool,
    stats: Arc<Stats>,
    status: Mutex<Status>,
    /// Why garbage stays where it is.
    uncollected: Mutex<Option<String>>,
    /// Whom it has said that it waits for.
    waits_for: Mutex<Option<String>>,
}

impl Desk {
    pub(crate) fn new(args: &Args, store: &Store) -> Self {
        let name = args.name();
        let status = Status {
            url: store.url().to_owned(),
            name: name.clone(),
            doing: "starting".to_owned(),
            version: 0,
            levels: Vec::new(),
            debt_bytes: 0,
            failing: None,
            totals: Totals::default(),
        };
        Self {
            name,
            json: args.json,
            stats: Arc::clone(store.stats()),
            status: Mutex::new(status),
            uncollected: Mutex::new(None),
            waits_for: Mutex::new(None),
        }
    }

    /// Prints an event. That it still waits for the same one is not printed again.
    pub(crate) fn say(&self, event: &Event) {
        let whom = match event {
            Event::Waiting { reason } => reason.split(',').next().map(str::to_owned),
            _ => None,
        };
        let before = std::mem::replace(&mut *lock(&self.waits_for), whom.clone());
        if whom.is_none() || whom != before {
            event.print(self.json);
        }
    }

    /// Notes what a step did.
    pub(crate) fn did(&self, did: &Did, view: &View) {
        self.saw(view);
        self.lock().totals.add(did);
        if let Some(event) = Event::of(did) {
            self.say(&event);
        }
    }

    /// Notes what a pass collected; says it if that is anything.
    pub(crate) fn collected(&self, collected: &Collected) {
        *lock(&self.uncollected) = None;
        self.lock().totals.add_collected(collected);
        self.say(&Event::collected(collected));
    }

    /// Notes how far a merge has come.
    pub(crate) fn progress(&self, plan: &Plan, done: u64, total: u64) {
        let percent = done * 100 / total.max(1);
        self.lock().doing = format!("merging {} SSTs into L{}: {percent} %", plan.ssts(), plan.level);
        tracing::debug!(done, total, "merging {} SSTs into L{}", plan.ssts(), plan.level);
    }

    /// What `/status` answers.
    pub(crate) fn status(&self) -> Status {
        let status = self.lock().clone();
        let totals = status.totals.with_requests(&self.stats.snapshot());
        let failing = status.failing.or_else(|| lock(&self.uncollected).clone());
        Status { totals, failing, ..status }
    }

    /// Notes what the newest version is like.
    pub(crate) fn saw(&self, view: &View) {
        let mut levels: BTreeMap<u32, Level> = BTreeMap::new();
        for run in &view.runs {
            let level =
                levels.entry(run.level).or_insert(Level { level: run.level, runs: 0, ssts: 0, bytes: 0 });
            level.runs += 1;
            level.ssts += run.ssts.len();
            level.bytes += run.ssts.iter().map(|sst| sst.meta.bytes).sum::<u64>();
        }
        let mut status = self.lock();
        status.version = view.id();
        status.levels = levels.into_values().collect();
        status.debt_bytes = plan::debt_bytes(view);
        status.doing = "watching".to_owned();
    }

    /// Notes that looking and merging no longer fail. Whether collecting does is another matter.
    pub(crate) fn well(&self) {
        self.lock().failing = None;
    }

    /// Notes that all there is to do is another's, and says why: nothing fails here.
    pub(crate) fn yields(&self, event: &Event) {
        self.well();
        *lock(&self.uncollected) = None;
        self.say(event);
    }

    /// Notes and says that something failed that will be tried again.
    pub(crate) fn failing(&self, error: &Error) {
        self.lock().failing = Some(error.to_string());
        self.warn(error);
    }

    /// Notes and says that garbage could not be collected; that will be tried again.
    pub(crate) fn not_collected(&self, error: &Error) {
        *lock(&self.uncollected) = Some(error.to_string());
        self.warn(error);
    }

    fn warn(&self, error: &Error) {
        tracing::warn!(%error, "will try again");
        self.say(&Event::Failed { kind: error.kind().as_str().to_owned(), error: error.to_string() });
    }

    /// Says what was done in all.
    pub(crate) fn finished(&self) {
        self.say(&Event::Finished(self.status().totals));
    }

    fn lock(&self) -> MutexGuard<'_, Status> {
        lock(&self.status)
    }
}

/// These hold figures: what a panicking holder left is still good enough to show.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
