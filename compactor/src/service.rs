//! `--once` and `--watch`: when to look, whose turn it is, how to stop.
//!
//! ```text
//! watch:  follow the manifest (GET n+1, backing off) ─▶ due? ─▶ claim ─▶ merge until nothing is due ─▶ collect
//!                      ▲                                 no │      │ another is at work: say so, wait
//!                      └─────────────────────────────────────┴──────┘
//! ```
//!
//! Always true: an idle service sends one small GET a look, and no PUT; it waits only when no merge is due, so that
//! garbage that cannot be collected holds up no merge; a signal stops it within seconds, in the middle of a merge too,
//! whose outputs are then garbage.

use std::{future::Future, sync::Arc, time::Duration};

use anyhow::Context;
use esker::{
    Error, ErrorKind,
    clock::{SharedClock, SystemClock},
    compaction::{plan, schedule::Schedule},
    manifest::{Manifest, View, is_unfinished},
    stats::Cause,
    store::{Store, is_refused},
};

use crate::{desk::Desk, event::Event, options::Args, process, status, worker::Worker};

/// How many times longer than the interval it waits at most while nothing happens.
const SLOWEST: u32 = 4;
/// How long nothing may come before it is asked what is newest: what came next may have been collected.
const SILENCE: Duration = Duration::from_secs(600);

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done, or stopped by a signal.
    Done,
    /// Something failed that may work later.
    Failed,
    /// The command line is wrong.
    Usage,
    /// There is no database at this URL.
    NoDatabase,
    /// Stored bytes are damaged.
    Corruption,
    /// Another compactor is at work.
    Busy,
}

impl Exit {
    /// The exit code of the process.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NoDatabase => 3,
            Self::Corruption => 4,
            Self::Busy => 5,
        }
    }

    fn of(error: &Error) -> Self {
        match error.kind() {
            ErrorKind::Corruption => Self::Corruption,
            ErrorKind::Conflict | ErrorKind::Fenced => Self::Busy,
            ErrorKind::Invalid if is_unfinished(error) => Self::NoDatabase,
            ErrorKind::Invalid if is_refused(error) => Self::Failed,
            ErrorKind::Invalid => Self::Usage,
            _ => Self::Failed,
        }
    }
}

/// Runs the compactor as the command line says, until it has finished or a signal comes. What it has to say
/// goes to standard output as events; what fails for good is logged, and told by the exit.
pub async fn run(args: Args) -> anyhow::Result<Exit> {
    let stop = process::stop_signal().context("cannot listen for signals")?;
    run_until(args, stop).await
}

async fn run_until(args: Args, stop: impl Future<Output = ()>) -> anyhow::Result<Exit> {
    let clock = SystemClock::shared();
    let store = match Store::open(&args.url, Arc::clone(&clock)) {
        Ok(store) => store,
        Err(error) => return Ok(failed(&error)),
    };
    let manifest = match Manifest::find(store.clone()).await {
        Ok(Some(manifest)) => manifest,
        Ok(None) => {
            tracing::error!("there is no database at {}; open one for writing there first", store.url());
            return Ok(Exit::NoDatabase);
        }
        Err(error) => return Ok(failed(&error)),
    };
    let desk = Arc::new(Desk::new(&args, &store));
    let page = match args.status {
        Some(address) => Some(status::serve(address, Arc::clone(&desk)).await?),
        None => None,
    };
    if let Some((_, address)) = &page {
        tracing::info!("status at http://{address}/status");
    }
    let mut worker = None;
    let ended = {
        let work = async {
            if args.once {
                once(&manifest, &args, &desk, &mut worker).await
            } else {
                watch(&manifest, &args, &desk, &clock, &mut worker).await
            }
        };
        tokio::select! {
            biased;
            ended = work => ended,
            () = stop => {
                tracing::info!("stopping: what is in hand is left to the next compactor");
                Ok(())
            }
        }
    };
    if let Some(worker) = worker
        && let Err(error) = worker.release().await
    {
        tracing::warn!(%error, "could not give the role up, it times out by itself");
    }
    desk.finished();
    Ok(ended.map_or_else(|error| failed(&error), |()| Exit::Done))
}

async fn once(
    manifest: &Manifest,
    args: &Args,
    desk: &Arc<Desk>,
    held: &mut Option<Worker>,
) -> esker::Result<()> {
    let claimed = Worker::claim(manifest, args, desk).await.inspect_err(|error| {
        if error.kind() == ErrorKind::Conflict {
            desk.say(&Event::Waiting { reason: error.to_string() });
        }
    });
    let worker = held.insert(claimed?);
    worker.merge(args.all).await?;
    worker.collect().await.map(drop)
}

/// Ends only with an error that no waiting mends.
async fn watch(
    manifest: &Manifest,
    args: &Args,
    desk: &Arc<Desk>,
    clock: &SharedClock,
    held: &mut Option<Worker>,
) -> esker::Result<()> {
    let mut watch = Watch::start(manifest, args, desk, clock).await?;
    loop {
        match watch.turn(held).await {
            Ok(is_done) => {
                desk.well();
                if !is_done {
                    continue;
                }
            }
            // The work is another's.
            Err(error) if error.kind() == ErrorKind::Conflict => {
                desk.yields(&Event::Waiting { reason: error.to_string() });
            }
            Err(error) if error.kind() == ErrorKind::Fenced => {
                *held = None;
                desk.yields(&Event::Fenced { reason: error.to_string() });
            }
            // The role is kept: it can be used again, and a new claim would have to wait for its lease.
            Err(error) if error.is_retryable() || error.kind() == ErrorKind::OutcomeUnknown => {
                desk.failing(&error);
            }
            Err(error) => return Err(error),
        }
        watch.wait().await;
    }
}

/// What a watching service remembers.
struct Watch<'a> {
    manifest: &'a Manifest,
    args: &'a Args,
    desk: &'a Arc<Desk>,
    clock: &'a SharedClock,
    view: Arc<View>,
    pause: Duration,
    last_news: Duration,
    /// When garbage is to be collected.
    collections: Schedule,
}

impl<'a> Watch<'a> {
    async fn start(
        manifest: &'a Manifest,
        args: &'a Args,
        desk: &'a Arc<Desk>,
        clock: &'a SharedClock,
    ) -> esker::Result<Self> {
        let view = manifest.latest(Cause::Open).await?;
        let now = clock.monotonic();
        desk.saw(&view);
        // Nobody knows what others have left.
        let mut collections = Schedule::default();
        collections.superseded(now, Duration::ZERO);
        Ok(Self { manifest, args, desk, clock, view, pause: args.interval, last_news: now, collections })
    }

    /// Looks once, and does what is due, of merging no more than until it is time to collect. Whether that was all.
    async fn turn(&mut self, held: &mut Option<Worker>) -> esker::Result<bool> {
        self.look().await?;
        let merge = plan::pick(&self.view, self.clock.wall_ms()).is_some();
        let now = self.clock.monotonic();
        if !merge && !self.collections.is_due(now) {
            return Ok(true);
        }
        let worker = match held {
            Some(worker) => worker,
            None => held.insert(Worker::claim(self.manifest, self.args, self.desk).await?),
        };
        self.pause = self.args.interval;
        // Where something is always due, garbage must not wait for the end of it.
        let until = self.collections.next().unwrap_or_else(|| now.saturating_add(self.retention()));
        let is_done = worker.merge_until(until).await?;
        self.collect_if_due(worker).await?;
        Ok(is_done)
    }

    /// One pass of garbage collection, if it is time. Whatever keeps garbage where it is, merging goes on: an error is
    /// only the loss of the role, and damage, which no service should work on.
    async fn collect_if_due(&mut self, worker: &mut Worker) -> esker::Result<()> {
        if !self.collections.is_due(self.clock.monotonic()) {
            return Ok(());
        }
        match worker.collect().await {
            Ok(collected) => {
                // First, for what was merged before the pass is no news to it.
                let looked = self.look().await;
                let left_for = collected.left_some(&self.view).then(|| self.retention());
                self.collections.collected(self.clock.monotonic(), left_for);
                looked
            }
            Err(error) if matches!(error.kind(), ErrorKind::Fenced | ErrorKind::Corruption) => Err(error),
            Err(error) => {
                self.desk.not_collected(&error);
                self.collections.failed(self.clock.monotonic());
                Ok(())
            }
        }
    }

    /// Follows the manifest to its newest version.
    async fn look(&mut self) -> esker::Result<()> {
        let before = self.view.id();
        while let Some(next) = self.manifest.follow(&self.view, Cause::Poll).await? {
            self.view = next;
        }
        let now = self.clock.monotonic();
        if self.view.id() == before && now.saturating_sub(self.last_news) > SILENCE {
            self.view = self.manifest.latest(Cause::Poll).await?;
            self.last_news = now;
        }
        if self.view.id() != before {
            (self.pause, self.last_news) = (self.args.interval, now);
            self.collections.superseded(now, self.retention());
        }
        self.desk.saw(&self.view);
        Ok(())
    }

    async fn wait(&mut self) {
        self.clock.sleep(self.pause).await;
        self.pause = (self.pause * 2).min(self.args.interval * SLOWEST);
    }

    fn retention(&self) -> Duration {
        let stored = Duration::from_millis(self.view.root.options.retention_ms);
        self.args.retention.unwrap_or(stored).max(self.args.interval)
    }
}

fn failed(error: &Error) -> Exit {
    tracing::error!("{error}");
    Exit::of(error)
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use esker::{
        Compaction, Db,
        manifest::StoredShape,
        testing::{Fault, FaultyStore, Operation, Rule, SimClock, single_threaded},
    };

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const MINUTE: Duration = Duration::from_secs(60);

    /// A database that a service watches.
    struct Place {
        store: FaultyStore,
        clock: SharedClock,
        args: Args,
        manifest: Manifest,
        desk: Arc<Desk>,
    }

    impl Place {
        /// With work for several steps, which nobody has done.
        async fn new(interval: &str) -> Self {
            let clock = SimClock::shared(1);
            let store = FaultyStore::memory(clock.clone(), 1);
            let shape = StoredShape { l0_runs: 2, middle_runs: 1, last_runs: 1, ratio: 2, base_bytes: 1024 };
            let builder = Db::builder("watched").object_store(Arc::new(store.clone())).clock(clock.clone());
            let db = builder.compaction(Compaction::Off).shape(shape).open().await.unwrap();
            for n in 0..4_u32 {
                for key in 0..200_u32 {
                    db.put(key.to_be_bytes(), [n.to_be_bytes(), key.to_be_bytes()].concat())
                        .accepted()
                        .await
                        .unwrap();
                }
                db.flush().await.unwrap();
            }
            db.close().await.unwrap();
            let words =
                ["esker-compactor", "--url", "memory://watched", "--interval", interval, "--retention", "0s"];
            let args = Args::parse_from(words);
            let manifest = Manifest::find(store.store()).await.unwrap().expect("a database");
            let desk = Arc::new(Desk::new(&args, &store.store()));
            Self { store, clock, args, manifest, desk }
        }

        /// The service, which ends with an error only.
        async fn watch(&self) {
            let ended = watch(&self.manifest, &self.args, &self.desk, &self.clock, &mut None).await;
            panic!("the service ended: {ended:?}");
        }

        /// What is due.
        async fn due(&self) -> Option<plan::Plan> {
            let sound = Manifest::find(self.store.sound_store()).await.unwrap().expect("a database");
            plan::pick(&sound.latest(Cause::Admin).await.unwrap(), self.clock.wall_ms())
        }

        fn steps(&self) -> u64 {
            let totals = self.desk.status().totals;
            totals.merges + totals.moves
        }
    }

    /// Runs in one thread and virtual time.
    fn simulated(test: impl Future<Output = ()>) {
        let _one = single_threaded();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.unwrap().block_on(test);
    }

    #[test]
    fn a_pass_between_two_merges_is_no_reason_to_wait() {
        simulated(async {
            let place = Place::new("10m").await;
            assert!(place.due().await.is_some());
            let look = async {
                place.clock.sleep(SECOND).await;
                assert_eq!(place.due().await, None);
                assert!(place.steps() > 2, "one step was due, which shows nothing");
                assert!(place.desk.status().totals.collected_objects > 0, "no pass was made");
            };
            tokio::select! {
                () = place.watch() => {}
                () = look => {}
            }
        });
    }

    #[test]
    fn garbage_that_cannot_be_collected_holds_up_no_merge_and_is_told_until_it_goes() {
        for fault in [Fault::FailBefore, Fault::Refuse] {
            simulated(async {
                let place = Place::new("5s").await;
                place.store.add(Rule::on(Operation::Delete).meets(fault));
                let look = async {
                    // A pass is given up after half a minute, and not tried again within another.
                    place.clock.sleep(MINUTE).await;
                    assert_eq!(place.due().await, None, "{fault:?}");
                    assert!(place.steps() > 2, "one step was due, which shows nothing");
                    for _ in 0..10 {
                        assert!(place.desk.status().failing.is_some(), "{fault:?} is told all the time");
                        place.clock.sleep(MINUTE).await;
                    }
                    place.store.clear();
                    place.clock.sleep(2 * MINUTE).await;
                    let status = place.desk.status();
                    assert_eq!(status.failing, None, "after {fault:?}");
                    assert!(status.totals.collected_objects > 0, "after {fault:?}");
                };
                tokio::select! {
                    () = place.watch() => {}
                    () = look => {}
                }
            });
        }
    }
}
