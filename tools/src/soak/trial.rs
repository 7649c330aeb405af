//! One trial: children at work on one place, killed and paused at random, and looked at in between.
//!
//! ```text
//! start ─▶ work ─▶ kill / pause / usurp / kill the server ─▶ … ─▶ checkpoint ─▶ … ─▶ settle
//!            ▲                                                        │
//!            └────────────────────────────────────────────────────────┘
//! checkpoint: kill everyone; a new writer takes over; read all; judge the history; verify
//! settle:     a checkpoint; merge; collect twice: nothing is left over
//! ```
//!
//! Always true: what happens, and when, follows from the seed; what the machine makes of it does not.

use std::{collections::BTreeMap, path::Path, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, anyhow};
use esker::{Compaction, Db, Reader, clock::SharedClock};
use indicatif::ProgressBar;

use super::{
    child::{self, Role},
    crew::Crew,
    history::{Counts, OpId},
    place::Place,
};

/// Deeds between two checkpoints.
const DEEDS_A_CHECKPOINT: u64 = 6;
/// What is left over lands within this time after its sender's death: longer than the rules make it late.
const LANDING: Duration = Duration::from_secs(4);
/// How often the crew is looked after.
const WATCH: Duration = Duration::from_millis(100);
/// How long the first write may take to be acknowledged, before deeds begin without it.
const LONGEST_BEGINNING: Duration = Duration::from_secs(60);

/// How long, how hard, from which seed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) time: Duration,
    pub(super) kills: u64,
    pub(super) seed: u64,
    pub(super) retention: Duration,
    pub(super) readers: usize,
}

/// What a trial came to.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) place: &'static str,
    pub(super) seconds: f64,
    pub(super) kills: BTreeMap<&'static str, u64>,
    pub(super) pauses: u64,
    pub(super) usurpations: u64,
    pub(super) checkpoints: u64,
    pub(super) restarts: u64,
    pub(super) counts: Counts,
    pub(super) faults: BTreeMap<&'static str, u64>,
    pub(super) requests: u64,
    pub(super) wrong: Vec<String>,
}

/// What befalls the crew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Kill(Role),
    KillServer,
    Pause(Role),
    /// A second writer starts, half the time while the first is paused.
    Usurp,
}

/// Three kills in four deeds.
const DECK: [Deed; 12] = [
    Deed::Kill(Role::Writer),
    Deed::Kill(Role::Writer),
    Deed::Kill(Role::Writer),
    Deed::Kill(Role::Compactor),
    Deed::Kill(Role::Compactor),
    Deed::Kill(Role::Reader),
    Deed::Kill(Role::Collector),
    Deed::KillServer,
    Deed::KillServer,
    Deed::Pause(Role::Writer),
    Deed::Pause(Role::Compactor),
    Deed::Usurp,
];

/// One place being soaked.
pub(super) struct Trial<'a> {
    place: Place,
    plan: Plan,
    clock: &'a SharedClock,
    crew: Crew,
    chance: u64,
    deck: Vec<Deed>,
    outcome: Outcome,
    bar: &'a ProgressBar,
}

impl<'a> Trial<'a> {
    pub(super) fn new(
        place: Place,
        plan: Plan,
        clock: &'a SharedClock,
        logs: &Path,
        bar: &'a ProgressBar,
    ) -> Result<Self> {
        let crew = Crew::new(logs, plan.retention)?;
        let outcome = Outcome { place: place.name, ..Outcome::default() };
        Ok(Self { crew, chance: plan.seed, deck: Vec::new(), place, plan, clock, outcome, bar })
    }

    /// Runs to its end, or to the first thing that is wrong.
    pub(super) async fn run(mut self) -> Result<Outcome> {
        let began = self.clock.monotonic();
        self.begin().await?;
        let started = self.clock.monotonic();
        let gap = self.gap();
        self.work(gap).await?;
        let mut deeds = 0;
        while self.outcome.wrong.is_empty() {
            let done = self.outcome.kills.values().sum::<u64>() >= self.plan.kills;
            if done && self.clock.monotonic() - started >= self.plan.time {
                break;
            }
            self.befall().await?;
            deeds += 1;
            let gap = self.gap();
            self.work(gap).await?;
            if deeds % DEEDS_A_CHECKPOINT == 0 {
                self.checkpoint().await?;
            }
        }
        if self.outcome.wrong.is_empty() {
            self.settle().await?;
        }
        if self.crew.history().counts.acknowledged == 0 {
            self.outcome.wrong.push("no write was ever acknowledged, so nothing was shown".to_owned());
        }
        self.crew.kill_all();
        self.outcome.seconds = (self.clock.monotonic() - began).as_secs_f64();
        self.outcome.counts = self.crew.history().counts.clone();
        if let Some(proxy) = &self.place.proxy {
            (self.outcome.faults, self.outcome.requests) = (proxy.met(), proxy.requests());
        }
        Ok(std::mem::take(&mut self.outcome))
    }

    /// The first kills come when there is something to lose: an acknowledged write. Behind faults it may take long to create
    /// the database.
    async fn begin(&mut self) -> Result<()> {
        let until = self.clock.monotonic() + LONGEST_BEGINNING;
        loop {
            self.work(WATCH).await?;
            if self.crew.history().counts.acknowledged > 0 || self.clock.monotonic() >= until {
                return Ok(());
            }
        }
    }

    /// The mean time from deed to deed, give or take a half.
    fn gap(&mut self) -> Duration {
        // Of four deeds three are kills; checkpoints take time as well.
        let mean = self.plan.time.as_secs_f64() / (self.plan.kills.max(1) as f64 * 1.6 + 1.0);
        Duration::from_secs_f64(mean * (0.5 + self.dice(1000) as f64 / 1000.0))
    }

    /// Lets the crew work for `time`, and starts again whoever has ended.
    async fn work(&mut self, time: Duration) -> Result<()> {
        let until = self.clock.monotonic() + time;
        loop {
            self.outcome.restarts += self.crew.bury();
            self.muster()?;
            let counts = self.crew.history().counts.clone();
            let kills: u64 = self.outcome.kills.values().sum();
            self.bar.set_position(kills);
            self.bar.set_message(format!(
                "kills on {}, {} writes, {} reads",
                self.place.name,
                counts.acknowledged,
                counts.reads.values().sum::<u64>()
            ));
            let left = until.saturating_sub(self.clock.monotonic());
            if left.is_zero() {
                return Ok(());
            }
            self.clock.sleep(left.min(WATCH)).await;
        }
    }

    /// Starts whoever is missing.
    fn muster(&mut self) -> Result<()> {
        let wanted = [
            (Role::Writer, 1),
            (Role::Compactor, 1),
            (Role::Reader, self.plan.readers),
            (Role::Collector, 1),
        ];
        for (role, number) in wanted {
            while self.crew.count(role) < number {
                self.crew.start(role, &self.place.faulty_url)?;
            }
        }
        Ok(())
    }

    async fn befall(&mut self) -> Result<()> {
        match self.draw() {
            Deed::Kill(role) => {
                if self.crew.kill(role) {
                    self.killed(role.as_str());
                }
            }
            Deed::KillServer => {
                if let Some(server) = &mut self.place.server {
                    server.kill()?;
                    let away = Duration::from_millis(100 + next(&mut self.chance) % 1500);
                    self.clock.sleep(away).await;
                    server.restart(self.clock).await?;
                    self.killed("minio");
                }
            }
            Deed::Pause(role) => {
                if self.crew.pause(role) {
                    self.outcome.pauses += 1;
                    let pause = Duration::from_millis(200 + self.dice(2500));
                    self.clock.sleep(pause).await;
                    self.crew.resume();
                }
            }
            Deed::Usurp => {
                let paused = self.dice(2) == 0 && self.crew.pause(Role::Writer);
                self.crew.start(Role::Writer, &self.place.faulty_url)?;
                self.outcome.usurpations += 1;
                let together = Duration::from_millis(300 + self.dice(2000));
                self.clock.sleep(together).await;
                if paused {
                    self.outcome.pauses += 1;
                    self.crew.resume();
                }
            }
        }
        Ok(())
    }

    /// The next deed of a shuffled deck, so that a short run sees every kind.
    fn draw(&mut self) -> Deed {
        if self.deck.is_empty() {
            self.deck.extend(DECK);
            for at in (1..self.deck.len()).rev() {
                let other = self.dice(at as u64 + 1) as usize;
                self.deck.swap(at, other);
            }
        }
        match self.deck.pop() {
            Some(Deed::KillServer) if self.place.server.is_none() => Deed::Kill(Role::Writer),
            Some(deed) => deed,
            None => Deed::Kill(Role::Writer),
        }
    }

    fn killed(&mut self, what: &'static str) {
        *self.outcome.kills.entry(what).or_default() += 1;
    }

    /// A number under `limit`.
    fn dice(&mut self, limit: u64) -> u64 {
        next(&mut self.chance) % limit
    }

    /// Everyone is killed, a new writer takes over, and what is there is judged.
    async fn checkpoint(&mut self) -> Result<()> {
        self.crew.bury();
        self.crew.kill_all();
        let now = self.clock.wall_ms();
        let found = match self.look().await {
            Ok(found) => found,
            // Round the faults nothing may fail.
            Err(error) => {
                self.outcome.wrong.push(format!("a checkpoint failed: {error:#}"));
                return Ok(());
            }
        };
        {
            let mut history = self.crew.history();
            let mut base: BTreeMap<u64, Option<OpId>> = BTreeMap::new();
            for (group, seen) in found {
                match seen {
                    Ok(seen) => {
                        history.found(group, now + 1, seen);
                        base.insert(group, seen);
                    }
                    Err(wrong) => history.wrong(format!("at a checkpoint: {wrong}")),
                }
            }
            let wrong = history.judge(&base);
            self.outcome.wrong.extend(wrong);
        }
        if let Err(problem) = esker(&["verify", "--quiet", &self.place.url]).await {
            self.outcome.wrong.push(format!("verify at a checkpoint: {problem}"));
        }
        self.outcome.checkpoints += 1;
        Ok(())
    }

    /// What is there, once a new writer has put an end to whatever dead ones had on its way.
    async fn look(&self) -> Result<Vec<(u64, Result<Option<OpId>, String>)>> {
        let db = Db::builder(&self.place.url)
            .name("soak checkpoint")
            .compaction(Compaction::Off)
            .open()
            .await
            .context("taking over")?;
        db.flush().await.context("flushing")?;
        let own = child::scanned(&db.snapshot(), self.clock).await.context("reading as the writer")?;
        db.close().await.context("closing")?;
        let reader =
            Reader::builder(&self.place.url).follow(false).open().await.context("opening a reader")?;
        let read = child::scanned(&reader.strong().await?, self.clock).await.context("reading")?;
        reader.close().await?;
        if own != read {
            return Err(anyhow!("the writer reads {own:?}, a reader {read:?}"));
        }
        Ok(read)
    }

    /// The end: all is judged, merged, and nothing is left over.
    async fn settle(&mut self) -> Result<()> {
        self.crew.bury();
        self.crew.kill_all();
        if self.place.proxy.is_some() {
            self.clock.sleep(LANDING).await;
        }
        self.checkpoint().await?;
        if !self.outcome.wrong.is_empty() {
            return Ok(());
        }
        let url = self.place.url.clone();
        if let Err(problem) = left_over(&url).await {
            self.outcome.wrong.push(problem);
        }
        let merged = self.look().await.context("after merging and collecting")?;
        let base: BTreeMap<u64, Option<OpId>> =
            merged.into_iter().filter_map(|(group, seen)| Some((group, seen.ok()?))).collect();
        let now = self.clock.wall_ms() + 1;
        let mut history = self.crew.history();
        base.iter().for_each(|(group, seen)| history.found(*group, now, *seen));
        let wrong = history.judge(&base);
        drop(history);
        self.outcome.wrong.extend(wrong);
        Ok(())
    }
}

/// Merges, collects twice, and says what is still left over or damaged.
async fn left_over(url: &str) -> Result<(), String> {
    esker(&["compactor", "--once", "--force", "--retention", "0s", "--url", url]).await?;
    // The compactor's last commit, by which it gives its role up, superseded a version: so collect by itself.
    for _ in 0..2 {
        esker(&["gc", "--quiet", "--retention", "0s", url]).await?;
    }
    let left = esker(&["gc", "--dry-run", "--json", "--quiet", "--retention", "0s", url]).await?;
    let left: serde_json::Value =
        serde_json::from_str(left.trim()).map_err(|e| format!("gc said {left:?}: {e}"))?;
    if left["deleted"].as_array().map(Vec::len) != Some(0) || left["waiting"] != 0 {
        return Err(format!("after two collections something is left over: {left}"));
    }
    esker(&["verify", "--quiet", url]).await.map(drop)
}

/// Runs this command on the words, as another process; its output, or what it said when it failed.
async fn esker(words: &[&str]) -> Result<String, String> {
    let failed = |e: std::io::Error| format!("esker {} cannot be run: {e}", words[0]);
    let output = tokio::process::Command::new(std::env::current_exe().map_err(failed)?)
        .args(words)
        .env_remove("ESKER_URL")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(failed)?;
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(out);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("esker {} ended with {}: {} {}", words[0], output.status, said.trim(), out.trim()))
}

/// SplitMix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
