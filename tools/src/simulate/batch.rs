//! Many seeds, side by side, each on a thread of its own, and watched: none may stand still.
//!
//! ```text
//! worker   next seed ── begun ──► run ── done ──► next …        one thread each, and a channel to the watch
//! watch    counts what is done; a run that takes too long in real time has failed, and another worker
//!          goes on in place of its own, which is left behind
//! ```
//!
//! Virtual time knows no task that spins: it stands still with it. So this alone goes by real time.
//!
//! Always true: every seed that was begun is in the summary once, whether it ended or not.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::IsTerminal as _,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    time::Duration,
};

use esker::clock::{SharedClock, SystemClock};
use parking_lot::Mutex;

use super::{
    Args,
    run::{Report, run},
    say,
    shorten::Options,
    tell_failures,
};

/// How often the watch looks when nothing is heard.
const LOOK: Duration = Duration::from_secs(1);

/// What many runs came to.
#[derive(Debug, Default, Clone, serde::Serialize)]
struct Summary {
    seeds: u64,
    operations: u64,
    calls: u64,
    faults: u64,
    crashes: u64,
    pauses: u64,
    versions: u64,
    /// Keys on which the second opinion was given up.
    given_up: usize,
    failed: Vec<u64>,
    /// Of those: the ones that did not end.
    still: Vec<u64>,
    wasted: Vec<u64>,
    /// In how many wasted seeds what was missing.
    missing: BTreeMap<&'static str, u64>,
    differing: Vec<u64>,
    seconds: f64,
}

/// What a worker tells.
enum Told {
    /// It begins a run.
    Begun(usize, Options),
    /// It is done with a seed; whether a second run did otherwise.
    Done(usize, Box<Report>, bool),
    /// There is nothing left to do.
    Over(usize),
}

/// What workers share.
#[derive(Debug, Default)]
struct Work {
    /// The seeds that nobody has begun, with their operations; the next one is the last.
    left: Vec<(u64, u64)>,
    /// Workers that were left behind.
    behind: BTreeSet<usize>,
}

type SharedWork = Arc<Mutex<Work>>;

impl Work {
    fn next(&mut self, worker: usize) -> Option<(u64, u64)> {
        if self.behind.contains(&worker) { None } else { self.left.pop() }
    }
}

/// Runs many seeds in parallel; whether one failed.
pub(crate) fn many(seeds: impl Iterator<Item = (u64, u64)>, twice: bool, args: &Args) -> bool {
    let clock = SystemClock::shared();
    let mut seeds: Vec<(u64, u64)> = seeds.collect();
    seeds.reverse();
    let bar = std::io::stderr().is_terminal().then(|| indicatif::ProgressBar::new(seeds.len() as u64));
    let work: SharedWork = Arc::new(Mutex::new(Work { left: seeds, ..Work::default() }));
    let (tell, told) = channel();
    let watch = Watch {
        clock,
        work,
        tell,
        twice,
        until: args.minutes.map(|minutes| Duration::from_secs(minutes * 60)),
        patience: Duration::from_secs(args.patience),
    };
    let summary = watch.watch(args.jobs.max(1), &told, bar.as_ref());
    if let Some(bar) = &bar {
        bar.finish_and_clear();
    }
    say(&if args.json { format!("{}\n", summary.json()) } else { summary.line(twice) });
    !summary.failed.is_empty() || !summary.differing.is_empty()
}

/// Who watches.
struct Watch {
    clock: SharedClock,
    work: SharedWork,
    tell: Sender<Told>,
    twice: bool,
    until: Option<Duration>,
    patience: Duration,
}

impl Watch {
    fn watch(&self, jobs: usize, told: &Receiver<Told>, bar: Option<&indicatif::ProgressBar>) -> Summary {
        let mut summary = Summary::default();
        // Who is at work, since when, and at what.
        let mut busy: BTreeMap<usize, Option<(Duration, Options)>> = BTreeMap::new();
        let mut next_worker = 0;
        let mut employ = |busy: &mut BTreeMap<usize, Option<(Duration, Options)>>| {
            begin(next_worker, Arc::clone(&self.work), self.tell.clone(), self.twice);
            busy.insert(next_worker, None);
            next_worker += 1;
        };
        (0..jobs).for_each(|_| employ(&mut busy));
        while !busy.is_empty() {
            let heard = told.recv_timeout(LOOK);
            let now = self.clock.monotonic();
            if self.until.is_some_and(|until| now > until) {
                self.work.lock().left.clear();
            }
            match heard {
                // What was left behind is not heard any more.
                Ok(Told::Begun(worker, options)) => {
                    busy.entry(worker).and_modify(|run| *run = Some((now, options)));
                }
                Ok(Told::Done(worker, report, differs)) if busy.contains_key(&worker) => {
                    summary.add(&report, differs);
                    tell_failures(&report);
                    bar.inspect(|bar| bar.inc(1));
                }
                Ok(Told::Done(..)) => {}
                Ok(Told::Over(worker)) => drop(busy.remove(&worker)),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
            let is_late = |run: &Option<(Duration, Options)>| {
                run.as_ref().is_some_and(|(since, _)| now.saturating_sub(*since) > self.patience)
            };
            let late: Vec<usize> =
                busy.iter().filter(|(_, run)| is_late(run)).map(|(worker, _)| *worker).collect();
            for worker in late {
                if let Some((_, options)) = busy.remove(&worker).flatten() {
                    let seconds = self.patience.as_secs();
                    say(&format!(
                        "FAILED     seed {} stands still: it has not ended after {seconds} s\nagain      {options}\n",
                        options.seed
                    ));
                    self.work.lock().behind.insert(worker);
                    summary.stands_still(options.seed);
                    employ(&mut busy);
                }
            }
        }
        summary.seconds = self.clock.monotonic().as_secs_f64();
        summary
    }
}

/// A worker: a thread that runs what is left. Nobody waits for its end, which a run that spins never comes to.
fn begin(worker: usize, work: SharedWork, tell: Sender<Told>, twice: bool) {
    std::thread::spawn(move || {
        loop {
            let Some((seed, operations)) = work.lock().next(worker) else { break };
            let options = Options::new(seed, operations);
            // Nobody listens once the watch has ended.
            let _ = tell.send(Told::Begun(worker, options.clone()));
            let report = run(&options);
            let differs = twice && {
                let _ = tell.send(Told::Begun(worker, options.clone()));
                run(&options).trace != report.trace
            };
            if tell.send(Told::Done(worker, Box::new(report), differs)).is_err() {
                return;
            }
        }
        let _ = tell.send(Told::Over(worker));
    });
}

impl Summary {
    fn add(&mut self, report: &Report, differs: bool) {
        let (seed, counts) = (report.drawn.seed, &report.counts);
        self.seeds += 1;
        self.operations += counts.operations;
        self.calls += counts.calls;
        self.faults += counts.faults;
        self.crashes += counts.crashes;
        self.pauses += counts.pauses;
        self.versions += counts.versions;
        self.given_up += report.given_up;
        if !report.failures.is_empty() {
            self.failed.push(seed);
        }
        let missing = report.missing();
        if !missing.is_empty() {
            self.wasted.push(seed);
        }
        for what in missing {
            *self.missing.entry(what).or_default() += 1;
        }
        if differs {
            self.differing.push(seed);
        }
    }

    fn stands_still(&mut self, seed: u64) {
        self.seeds += 1;
        self.failed.push(seed);
        self.still.push(seed);
    }

    fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    fn line(&self, twice: bool) -> String {
        let list = |seeds: &[u64]| {
            let few: Vec<String> = seeds.iter().take(20).map(u64::to_string).collect();
            format!("{}{}{}", seeds.len(), if few.is_empty() { "" } else { ": " }, few.join(" "))
        };
        let mut line = format!(
            "{} seeds{}, {} operations, {} faults, {} crashes, {} pauses, {} versions, {} store calls, {:.1} s\n\
             failed {}\nwasted {}\n",
            self.seeds,
            if twice { " twice" } else { "" },
            self.operations,
            self.faults,
            self.crashes,
            self.pauses,
            self.versions,
            self.calls,
            self.seconds,
            list(&self.failed),
            list(&self.wasted)
        );
        for (what, seeds) in &self.missing {
            line += &format!("    without {what}: {seeds}\n");
        }
        if !self.still.is_empty() {
            line += &format!("standing still {}\n", list(&self.still));
        }
        if self.given_up > 0 {
            line += &format!("second opinion given up on {} keys\n", self.given_up);
        }
        if twice {
            line += &format!("differing {}\n", list(&self.differing));
        }
        line
    }
}
