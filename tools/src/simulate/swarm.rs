//! What a seed draws: the database's options, the processes, the work and the faults.
//!
//! Each seed switches a subset of the faults on (swarm testing: a run with everything on hides what only a run
//! with little on shows) and draws the rates of those. The bounds are those of real stores seen failing, and
//! beyond.
//!
//! Always true: everything about a run that is not given on the command line is drawn here, or from streams
//! of the same seed.

use std::{fmt, time::Duration};

use esker::manifest::StoredShape;

use super::dice::Dice;

/// How often which fault meets a call, 0 to 1 unless it says otherwise.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rates {
    /// It was done; an error comes back.
    pub(crate) lost: f64,
    /// A PUT lands up to 30 minutes after its sender was told otherwise, or nothing.
    pub(crate) delayed: f64,
    /// A PUT lands twice, the second time up to 30 minutes later.
    pub(crate) duplicated: f64,
    /// A burst of 5xx begins.
    pub(crate) burst: f64,
    /// 409 although nothing was done, on conditional PUTs.
    pub(crate) conflict: f64,
    /// A body ends cleanly before its end.
    pub(crate) truncated: f64,
    /// A bit of a body is flipped.
    pub(crate) flipped: f64,
    /// Another object's bytes come.
    pub(crate) swapped: f64,
    /// No answer ever.
    pub(crate) hang: f64,
    /// A listing fails in the middle.
    pub(crate) listing: f64,
    /// The answer takes long: Pareto up to 30 s.
    pub(crate) slow: f64,
}

/// A store that must be refused before a database is created on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lie {
    /// Listings lack what was written in the last seconds.
    StaleList,
    /// A name found absent stays so for seconds.
    NegativeCache,
    /// The condition of a create is ignored.
    CreateOverwrites,
}

/// Who merges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Merging {
    /// The writer, in its own process.
    Writer,
    /// Processes of their own.
    Compactors,
    /// Both, so that they take the role from one another.
    Both,
}

/// Everything a run is about.
#[derive(Debug, Clone)]
pub(crate) struct Drawn {
    pub(crate) seed: u64,
    pub(crate) operations: u64,

    pub(crate) wal_window: u32,
    pub(crate) block_bytes: u32,
    pub(crate) sst_bytes: u64,
    pub(crate) shape: StoredShape,
    pub(crate) retention: Duration,

    /// Processes that open the database for writing, each fencing the one before.
    pub(crate) writers: u64,
    pub(crate) merging: Merging,
    pub(crate) compactors: u64,
    pub(crate) readers: u64,
    pub(crate) writer_clients: u64,
    pub(crate) reader_clients: u64,
    /// The time between two collections, about.
    pub(crate) collect_every_ms: u64,

    pub(crate) keys: u64,
    /// Keys are drawn as `keys * unit^skew`: 1 is even, more is skewed.
    pub(crate) key_skew: f64,
    pub(crate) value_bytes: u64,
    /// Memtables are drawn up to this size.
    pub(crate) memtable_bytes: u64,
    /// A client waits this long between two operations, about.
    pub(crate) think_ms: u64,
    pub(crate) durable: f64,
    pub(crate) batches: f64,
    pub(crate) deletes: f64,
    pub(crate) reads: f64,
    pub(crate) scans: f64,

    pub(crate) latency_ms: u64,
    pub(crate) page: usize,
    pub(crate) rates: Rates,
    pub(crate) lie: Option<Lie>,
    /// Mean times between two of them; 0 is never.
    pub(crate) crash_every_ms: u64,
    pub(crate) pause_every_ms: u64,
    pub(crate) longest_pause_ms: u64,
    pub(crate) takeover_every_ms: u64,
    /// A writer closes by itself after this, about.
    pub(crate) close_every_ms: u64,
    pub(crate) forbid_every_ms: u64,
    pub(crate) skewed: bool,
    pub(crate) storm: (u64, u64),
}

/// The smallest memtable that the engine takes, and the largest that is drawn.
pub(crate) const LEAST_MEMTABLE_BYTES: u64 = 4_096;
const MOST_MEMTABLE_BYTES: u64 = 32_768;

/// What a row has beside its value, about.
const ROW_BYTES: f64 = 50.0;

/// How long the work of a run takes at least in which writers merge and have time for it.
const PATIENT_PACE_MS: u64 = 15 * 60 * 1000;

impl Drawn {
    /// What `seed` draws.
    pub(crate) fn new(seed: u64, operations: u64) -> Self {
        let mut dice = Dice::new(seed, "swarm");
        let dice = &mut dice;
        let merging = dice.pick(&[Merging::Writer, Merging::Compactors, Merging::Both]);
        let writers = dice.pick(&[2, 2, 3, 4]);
        let mut drawn = Self {
            seed,
            operations,
            wal_window: dice.pick(&[1, 2, 8]),
            block_bytes: dice.spread(256..=65_536) as u32,
            sst_bytes: dice.spread(4_096..=1 << 20),
            shape: StoredShape {
                l0_runs: dice.between(1..=4) as u32,
                middle_runs: dice.between(1..=4) as u32,
                last_runs: dice.pick(&[1, 1, 1, 3]),
                ratio: dice.pick(&[2, 3, 4, 10]),
                base_bytes: dice.spread(4_096..=262_144),
            },
            retention: Duration::from_millis(dice.pick(&[0, 0, 0, 1_000, 30_000])),
            writers,
            merging,
            compactors: if merging == Merging::Writer { 0 } else { dice.pick(&[1, 2, 2]) },
            readers: dice.pick(&[1, 1, 2]),
            writer_clients: dice.between(1..=6),
            reader_clients: dice.between(1..=3),
            collect_every_ms: 0,
            keys: dice.spread(4..=400),
            key_skew: dice.pick(&[1.0, 2.0, 4.0]),
            value_bytes: dice.spread(16..=3_000),
            memtable_bytes: 0,
            think_ms: dice.spread(20..=1_000),
            durable: dice.pick(&[0.3, 0.7, 1.0]),
            batches: dice.pick(&[0.05, 0.2]),
            deletes: dice.pick(&[0.05, 0.2]),
            reads: dice.pick(&[0.2, 0.5]),
            scans: dice.pick(&[0.01, 0.05]),
            latency_ms: dice.spread(1..=40),
            page: dice.pick(&[2, 5, 1_000, 1_000]),
            rates: Rates::default(),
            lie: dice
                .chance(0.1)
                .then(|| dice.pick(&[Lie::StaleList, Lie::NegativeCache, Lie::CreateOverwrites])),
            crash_every_ms: 0,
            pause_every_ms: u64::from(dice.chance(0.6)),
            longest_pause_ms: dice.pick(&[1_000, 60_000, 36_000_000]),
            takeover_every_ms: 0,
            close_every_ms: 60_000,
            forbid_every_ms: u64::from(dice.chance(0.3)),
            skewed: dice.chance(0.5),
            storm: dice.pick(&[(0, 0), (20, 20), (50, 10), (100, 5)]),
        };
        let clients = drawn.writer_clients + drawn.readers * drawn.reader_clients;
        // What is written fills each level 0 several times.
        let written = operations as f64 * (1.0 - drawn.reads) * drawn.writer_clients as f64 / clients as f64
            * (1.0 + 3.5 * drawn.batches)
            * (ROW_BYTES + drawn.value_bytes as f64 / (drawn.value_bytes as f64).ln());
        let flushes = written as u64 / LEAST_MEMTABLE_BYTES;
        drawn.shape.l0_runs = u64::from(drawn.shape.l0_runs).min((flushes / 5).max(1)) as u32;
        drawn.memtable_bytes = (written as u64 / (4 * u64::from(drawn.shape.l0_runs) + 4))
            .clamp(LEAST_MEMTABLE_BYTES, MOST_MEMTABLE_BYTES);
        // A writer that merges waits until the one before it, if that ended without a word, cannot be at it any more.
        let patient = merging == Merging::Writer && !dice.chance(0.1);
        if patient {
            drawn.think_ms = drawn.think_ms.max(PATIENT_PACE_MS * clients / operations.max(1));
        }
        // About how long the work takes; disturbances come so many times in it.
        let pace_ms = operations * (drawn.think_ms + drawn.latency_ms) / clients;
        let mut every = |least: u64, most: u64| (pace_ms / dice.spread(least..=most)).max(50);
        // Opening takes some twenty requests, and should succeed sometimes.
        drawn.crash_every_ms = every(2, 30).max(200 + 20 * drawn.latency_ms);
        drawn.takeover_every_ms = every(3, 20);
        drawn.collect_every_ms = every(10, 200);
        if patient {
            drawn.crash_every_ms = drawn.crash_every_ms.max(PATIENT_PACE_MS / 30);
            drawn.takeover_every_ms = drawn.takeover_every_ms.max(PATIENT_PACE_MS / 6);
            drawn.close_every_ms = PATIENT_PACE_MS / 3;
        }
        if drawn.pause_every_ms > 0 {
            drawn.pause_every_ms = every(1, 20);
        }
        if drawn.forbid_every_ms > 0 {
            drawn.forbid_every_ms = every(1, 3);
        }
        // A version is kept for less than a process lives, so that reads outlive the grace. By a clock that is a day
        // ahead nothing is kept at all, and a pin comes too late.
        let most = Duration::from_millis(drawn.crash_every_ms.saturating_mul(4).max(2_000));
        drawn.retention = match drawn.skewed && dice.chance(0.7) {
            true => Duration::ZERO,
            false => drawn.retention.min(most),
        };
        let mut rate = |chance: f64, most: f64| if dice.chance(chance) { dice.unit() * most } else { 0.0 };
        drawn.rates = Rates {
            lost: rate(0.7, 0.05),
            delayed: rate(0.6, 0.02),
            duplicated: rate(0.6, 0.02),
            burst: rate(0.6, 0.004),
            conflict: rate(0.5, 0.05),
            truncated: rate(0.4, 0.01),
            flipped: rate(0.4, 0.001),
            swapped: rate(0.3, 0.000_3),
            hang: rate(0.3, 0.003),
            listing: rate(0.5, 0.05),
            slow: rate(0.6, 0.05),
        };
        drawn
    }
}

impl fmt::Display for Drawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shape = &self.shape;
        writeln!(
            f,
            "database   K {}, blocks {} B, SSTs {} B, L0 {} runs, levels {}/{} runs × {} from {} B, retention {:?}, latency to {} ms",
            self.wal_window,
            self.block_bytes,
            self.sst_bytes,
            shape.l0_runs,
            shape.middle_runs,
            shape.last_runs,
            shape.ratio,
            shape.base_bytes,
            self.retention,
            2 * self.latency_ms
        )?;
        writeln!(
            f,
            "processes  {} writers × {} clients, merging by {:?} ({} compactors), {} readers × {} clients, collection every {} ms, clocks {}",
            self.writers,
            self.writer_clients,
            self.merging,
            self.compactors,
            self.readers,
            self.reader_clients,
            self.collect_every_ms,
            if self.skewed { "skewed" } else { "right" }
        )?;
        writeln!(
            f,
            "work       {} operations on {} keys (skew {}), values to {} B, {:.0} % durable, {:.0} % batches, {:.0} % deletes, {:.0} % reads, {:.0} % scans",
            self.operations,
            self.keys,
            self.key_skew,
            self.value_bytes,
            self.durable * 100.0,
            self.batches * 100.0,
            self.deletes * 100.0,
            self.reads * 100.0,
            self.scans * 100.0
        )?;
        write!(f, "faults    ")?;
        let rates = &self.rates;
        for (name, rate) in [
            ("lost replies", rates.lost),
            ("delayed", rates.delayed),
            ("duplicated", rates.duplicated),
            ("bursts", rates.burst),
            ("409", rates.conflict),
            ("truncated", rates.truncated),
            ("flipped", rates.flipped),
            ("swapped", rates.swapped),
            ("hangs", rates.hang),
            ("lists", rates.listing),
            ("slow", rates.slow),
        ] {
            if rate > 0.0 {
                write!(f, " {name} {:.2} %,", rate * 100.0)?;
            }
        }
        let every = |ms: u64| {
            if ms == 0 { "never".to_owned() } else { format!("every {:.0} s", ms as f64 / 1000.0) }
        };
        write!(
            f,
            " crashes {}, pauses {} up to {:.0} s, takeovers {}, credentials lost {}, lie {:?}, storm {:?}",
            every(self.crash_every_ms),
            every(self.pause_every_ms),
            self.longest_pause_ms as f64 / 1000.0,
            every(self.takeover_every_ms),
            every(self.forbid_every_ms),
            self.lie,
            self.storm
        )
    }
}
