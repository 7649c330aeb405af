//! The background tasks of an open database: the log, the flush, compaction.
//!
//! | task | reacts to | lives in |
//! |---|---|---|
//! | log | a log cut off, someone waiting, an upload landed | `wal/writer` |
//! | flush | a memtable frozen | `write/flush` |
//! | compaction | a new version, a call of `compact()`, `close()`; now and then a look at what others did | here |
//!
//! Compaction works only when the picker says that something is due, so an idle database claims nothing and
//! sends nothing but one GET now and then, less and less often, for a version that another process, an
//! external compactor say, has committed. After merging it collects garbage: soon, and when the
//! retention has passed ([`schedule`](crate::compaction::schedule)). Garbage that cannot be collected stays, and holds
//! up no merge.
//!
//! Always true: a task that ends, for whatever reason, stops the writer, so that nobody waits for it.

use std::{pin::Pin, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use crate::{
    chaos,
    clock::{self, Task},
    compaction::{
        plan,
        publish::{Compactor, Did},
        schedule::{COLLECT_AFTER, Schedule},
    },
    db::core::Core,
    error::{Error, ErrorKind, Result},
    options::Compaction,
    stats::Cause,
    wal::writer::LogWriter,
    write::{Writer, flush::Flusher},
};

/// Without any new version, what is due is looked at again after this: rows expire silently.
const LOOK_AGAIN: Duration = Duration::from_secs(300);
/// How soon the next version is looked for after something has changed, and how seldom at last.
const FIRST_POLL: Duration = Duration::from_secs(1);
const SELDOM_POLL: Duration = Duration::from_secs(30);
/// The pause after a failure, and at most.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The tasks of one database. Dropping it ends them.
#[derive(Debug)]
pub(super) struct Tasks {
    asks: mpsc::Sender<Ask>,
    /// Taken, or dropped, to end compaction.
    stop: Mutex<Option<oneshot::Sender<()>>>,
    running: Mutex<Vec<Task>>,
    compaction: Mutex<Option<Task>>,
}

/// A call to merge until nothing is due, now.
type Ask = oneshot::Sender<Result<()>>;

impl Tasks {
    /// Starts all tasks of `core`.
    pub(super) fn start(core: &Arc<Core>, log: LogWriter, who: Compaction, name: String) -> Self {
        let (asks, asked) = mpsc::channel(8);
        let log = {
            let writer = core.writer().clone();
            Task::spawn(async move {
                let ended = StopsWriter(&writer);
                let pipe = writer.pipe().clone();
                let error = log.run(pipe, || writer.cut_if_wanted(), |error| writer.log_ends(error)).await;
                ended.because(&error);
            })
        };
        let flush = {
            let writer = core.writer().clone();
            let flusher =
                Flusher::new(writer.clone(), core.manifest().clone(), core.fetcher().sst_cache().clone());
            Task::spawn(async move {
                let ended = StopsWriter(&writer);
                let error = flusher.run().await;
                ended.because(&error);
            })
        };
        let compaction = CompactionTask {
            core: core.clone(),
            automatic: who == Compaction::InProcess,
            name,
            role: None,
            claiming: None,
            collections: Schedule::default(),
            pause: FIRST_PAUSE,
            poll: FIRST_POLL,
        };
        let (stop, stopped) = oneshot::channel();
        let compaction = Task::spawn(compaction.run(asked, stopped));
        Self {
            asks,
            stop: Mutex::new(Some(stop)),
            running: Mutex::new(vec![log, flush]),
            compaction: Mutex::new(Some(compaction)),
        }
    }

    /// Merges until nothing is due. How long that takes depends on how much there is, so there is no deadline
    /// over the whole; every request in it has its own, and whoever is tired of waiting may drop the call.
    pub(super) async fn compact(&self) -> Result<()> {
        let (answer, answered) = oneshot::channel();
        let gone = || Error::closed("the database was closed while it was merging");
        self.asks.send(answer).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    /// Ends all tasks; compaction gives its role up first, if it can within `limit`.
    pub(super) async fn stop(&self, clock: &dyn clock::Clock, limit: Duration) {
        drop(self.stop.lock().take());
        let compaction = self.compaction.lock().take();
        let released = async {
            if let Some(compaction) = compaction {
                compaction.join().await;
            }
            Ok(())
        };
        // At the deadline the role is not given up; it lapses by itself.
        let _ = clock::deadline(clock, limit, "giving up the compactor's role", released).await;
        self.running.lock().clear();
    }
}

/// Stops the writer when it goes out of scope, whether the task ended, was aborted or panicked.
struct StopsWriter<'a>(&'a Writer);

impl StopsWriter<'_> {
    fn because(self, error: &Error) {
        // The first error stands, so what the drop says then is not heard.
        self.0.stop(error);
    }
}

impl Drop for StopsWriter<'_> {
    fn drop(&mut self) {
        self.0.stop(&Error::closed("a background task of the database has ended unexpectedly"));
    }
}

type Claim = Pin<Box<dyn Future<Output = Result<Compactor>> + Send>>;

/// The compaction task. It alone has the compactor's role.
struct CompactionTask {
    core: Arc<Core>,
    automatic: bool,
    name: String,
    role: Option<Compactor>,
    /// A claim that has not been heard of yet. It outlives what asked for it: once granted it must be given up.
    claiming: Option<Claim>,
    /// When garbage is to be collected.
    collections: Schedule,
    /// The pause after the next failure.
    pause: Duration,
    /// The time between two looks for a new version.
    poll: Duration,
}

impl CompactionTask {
    /// The task: until `stop` is dropped, which may happen at any await.
    async fn run(mut self, asked: mpsc::Receiver<Ask>, stop: oneshot::Receiver<()>) {
        tokio::select! {
            biased;
            _ = stop => {}
            () = self.react(asked) => {}
        }
        let role = match self.claiming {
            Some(claiming) => claiming.await.ok(),
            None => self.role,
        };
        if let Some(role) = role
            && let Err(error) = role.release().await
        {
            tracing::debug!(%error, "the compactor's role was not given up; it lapses by itself");
        }
    }

    async fn react(&mut self, mut asked: mpsc::Receiver<Ask>) {
        let clock = self.core.clock().clone();
        let mut progress = self.core.writer().progress();
        // The version at opening counts as new.
        progress.mark_changed();
        // After a failure nothing but the end of the pause, or a call, starts work again.
        let mut pausing = false;
        let (mut work_at, mut poll_at) = (clock.monotonic(), clock.monotonic() + self.poll);
        let stopped = loop {
            let now = clock.monotonic();
            let has_work = tokio::select! {
                biased;
                ask = asked.recv() => match ask {
                    Some(answer) => {
                        // Whoever asked may have gone meanwhile.
                        let _ = answer.send(self.merge().await);
                        false
                    }
                    None => return,
                },
                () = progress.changed(), if !pausing => true,
                () = clock.sleep(work_at.saturating_sub(now)), if self.automatic => true,
                () = clock.sleep(poll_at.saturating_sub(now)) => {
                    self.follow().await;
                    poll_at = clock.monotonic() + self.poll;
                    false
                }
            };
            if let Some(error) = progress.look().stopped {
                // A writer that is finished leaves merging to its successor.
                break error;
            }
            if has_work && self.automatic {
                pausing = self.work().await.is_err();
                work_at = clock.monotonic() + if pausing { self.pause } else { self.next_look() };
            }
        };
        while let Some(answer) = asked.recv().await {
            // Whoever asked may have gone meanwhile.
            let _ = answer.send(Err(stopped.clone()));
        }
    }

    /// Looks for a version that another process has committed: one GET while there is none.
    async fn follow(&mut self) {
        let view = self.core.writer().current().load().view.clone();
        match self.core.manifest().follow(&view, Cause::Poll).await {
            Ok(Some(newer)) => {
                self.core.writer().publish(&newer);
                self.poll = FIRST_POLL;
            }
            Ok(None) => self.poll = (self.poll * 2).min(SELDOM_POLL),
            Err(error) => {
                tracing::debug!(%error, "the next version could not be looked for");
                self.poll = (self.poll * 2).min(SELDOM_POLL);
            }
        }
    }

    /// What is due now: merging, then collecting.
    async fn work(&mut self) -> Result<()> {
        let done = self.work_once().await;
        match &done {
            Ok(()) => self.pause = FIRST_PAUSE,
            Err(error) => {
                match error.kind() {
                    ErrorKind::Conflict => tracing::debug!(%error, "another compactor is at work"),
                    ErrorKind::Fenced => {
                        self.role = None;
                        tracing::info!(%error, "another compactor has taken over");
                    }
                    _ => tracing::warn!(%error, "compaction failed; trying again"),
                }
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
            }
        }
        done
    }

    async fn work_once(&mut self) -> Result<()> {
        let view = self.core.writer().current().load().view.clone();
        if plan::pick(&view, self.core.clock().wall_ms()).is_some() {
            self.merge().await?;
        }
        self.collect_if_due().await
    }

    /// One pass of garbage collection, if it is time. Whatever keeps garbage where it is, merging goes on: only the loss
    /// of the role is an error.
    async fn collect_if_due(&mut self) -> Result<()> {
        let clock = self.core.clock();
        if !self.collections.is_due(clock.monotonic()) {
            return Ok(());
        }
        let Some(role) = &mut self.role else {
            // It is for whoever took the role; and what stays due here would be looked at without pause.
            self.collections.collected(clock.monotonic(), None);
            return Ok(());
        };
        // A pass that fails may have taken long, so what it took does not count as waiting.
        match role.collect(false).await {
            Ok(collected) => {
                let view = role.view();
                let retention = Duration::from_millis(view.root.options.retention_ms);
                let left_for = collected.left_some(view).then_some(retention);
                self.collections.collected(clock.monotonic(), left_for);
            }
            Err(error) if error.kind() == ErrorKind::Fenced => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "garbage could not be collected; trying again");
                self.collections.failed(clock.monotonic());
            }
        }
        Ok(())
    }

    /// Merges until nothing is due; each new version is in use at once.
    ///
    /// Losing the compactor's role finishes the role and not this handle: one that was lost while nothing was
    /// done is claimed once more, and if another is at work that is a `Conflict`.
    async fn merge(&mut self) -> Result<()> {
        let lost = |error: &Error| error.kind() == ErrorKind::Fenced;
        let was_held = self.role.is_some();
        let mut done = self.merge_in_role().await;
        if was_held && done.as_ref().is_err_and(lost) {
            done = self.merge_in_role().await;
        }
        done.map_err(|error| {
            if !lost(&error) {
                return error;
            }
            Error::new(ErrorKind::Conflict, "another compactor took over while this one was merging")
                .hint("let it work, or try again when it has finished")
                .because(error)
        })
    }

    async fn merge_in_role(&mut self) -> Result<()> {
        let done = self.merge_until_done().await;
        if done.as_ref().is_err_and(|error| error.kind() == ErrorKind::Fenced) {
            self.role = None;
        }
        done
    }

    async fn merge_until_done(&mut self) -> Result<()> {
        loop {
            let role = self.role().await?;
            let did = role.step().await;
            let view = Arc::clone(role.view());
            // Also if nothing was merged: the claim is a version, and what it superseded may be collected from now on.
            self.core.writer().publish(&view);
            if matches!(did?, Did::Nothing) {
                return Ok(());
            }
            let at_once = chaos::rare("garbage is collected at once");
            let within = if at_once { Duration::ZERO } else { COLLECT_AFTER };
            self.collections.superseded(self.core.clock().monotonic(), within);
            // Where something is always due, this is the only moment for it.
            if self.automatic {
                self.collect_if_due().await?;
            }
        }
    }

    /// The role, which is claimed if need be.
    async fn role(&mut self) -> Result<&mut Compactor> {
        match &mut self.role {
            Some(role) => Ok(role),
            none => {
                let claiming = self.claiming.get_or_insert_with(|| {
                    let (manifest, name) = (self.core.manifest().clone(), self.name.clone());
                    Box::pin(async move { Compactor::claim(manifest, &name, false).await })
                });
                let claimed = claiming.await;
                self.claiming = None;
                let memory = self.core.writer().budget().memory().clone();
                let cache = self.core.fetcher().sst_cache().clone();
                Ok(none.insert(claimed?.charging(memory).warming(cache)))
            }
        }
    }

    /// How long until there may be something to do without anything having happened.
    fn next_look(&self) -> Duration {
        let now = self.core.clock().monotonic();
        self.collections.next().map_or(LOOK_AGAIN, |due| due.saturating_sub(now).min(LOOK_AGAIN))
    }
}
