//! `--once` and `--watch`: when to look, whose turn it is, how to stop.
//!
//! ```text
//! watch:  follow the manifest (GET n+1, backing off) ─▶ due? ─▶ claim ─▶ merge until nothing is due ─▶ collect
//!                      ▲                                 no │      │ another is at work: say so, wait
//!                      └─────────────────────────────────────┴──────┘
//! ```
//!
//! Always true: an idle service sends one small GET a look, and no PUT; a signal stops it within seconds, in
//! the middle of a merge too, whose outputs are then garbage.

use std::{future::Future, sync::Arc, time::Duration};

use anyhow::Context;
use esker::{
    Error, ErrorKind,
    clock::{SharedClock, SystemClock},
    compaction::plan,
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
            Ok(()) => desk.well(),
            // The work is another's.
            Err(error) if error.kind() == ErrorKind::Conflict => {
                desk.well();
                desk.say(&Event::Waiting { reason: error.to_string() });
            }
            Err(error) if error.kind() == ErrorKind::Fenced => {
                *held = None;
                desk.well();
                desk.say(&Event::Fenced { reason: error.to_string() });
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
    /// When there will be something to collect.
    collect_at: Option<Duration>,
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
        Ok(Self {
            manifest,
            args,
            desk,
            clock,
            view,
            pause: args.interval,
            last_news: now,
            collect_at: Some(now),
        })
    }

    /// Looks once, and does all that is due.
    async fn turn(&mut self, held: &mut Option<Worker>) -> esker::Result<()> {
        self.look().await?;
        let merge = plan::pick(&self.view, self.clock.wall_ms()).is_some();
        if !merge && !self.is_time_to_collect() {
            return Ok(());
        }
        let worker = match held {
            Some(worker) => worker,
            None => held.insert(Worker::claim(self.manifest, self.args, self.desk).await?),
        };
        self.pause = self.args.interval;
        // Where something is always due, garbage must not wait for the end of it.
        let until =
            self.collect_at.unwrap_or_else(|| self.clock.monotonic().saturating_add(self.retention()));
        worker.merge_until(until).await?;
        if self.is_time_to_collect() {
            let collected = worker.collect().await?;
            self.look().await?;
            // Versions that were too young this time, and what they alone name.
            let rest = collected.floor + 1 < self.view.id();
            self.collect_at = rest.then(|| self.clock.monotonic() + self.retention());
        }
        Ok(())
    }

    fn is_time_to_collect(&self) -> bool {
        self.collect_at.is_some_and(|at| at <= self.clock.monotonic())
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
            self.collect_at = self.collect_at.or_else(|| Some(now + self.retention()));
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
