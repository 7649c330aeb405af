//! What is held in memory, by what: one sum that everything large is charged to, and how much more each may take.
//!
//! ```text
//!  limit ├─── memtables ───┤─ log ─┤─ flushes ─┤──────────── left ────────────┤
//!                                              ├ scans ┤ inputs ┤ outputs ┤ … ┤     at most a quarter of it each
//! ```
//!
//! Writes are admitted by the writer's budget (`write/budget.rs`), which slows them down first. A flush gives back more
//! than it takes, so all that is left is for it. Scans and merges go faster with more memory and can do with
//! little: they [ask](Memory::ask) for what they would like, and get at most half of what is left of their quarter, so that
//! the next who asks gets something too; the more is written, the smaller their quarter. Their least they get in any case,
//! and nobody ever waits here: a scan that could not go on would keep its memtables, a merge that could not run would leave
//! level 0 to grow until writers stand still.
//!
//! Always true: what a [`Charge`] stands for is in the sum for as long as it lives; whoever asks gets its least, and beyond
//! that never more than its part of what is left.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use crossbeam_utils::CachePadded;

/// What memory is held for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Memtables until the last reader has let go of them, with the log buffers they share.
    Memtables,
    /// Log objects on their way, encoded.
    Log,
    /// SSTs that are built from memtables, and their parts on their way.
    Flushes,
    /// Blocks that scans have fetched ahead, and those they are at.
    Scans,
    /// Blocks that merges have read ahead, and those they are at.
    MergeInputs,
    /// SSTs that are built by merges, and their parts on their way.
    MergeOutputs,
}

impl Use {
    /// Every use, in the order of reports.
    pub const ALL: [Use; 6] =
        [Use::Memtables, Use::Log, Use::Flushes, Use::Scans, Use::MergeInputs, Use::MergeOutputs];

    /// The use as words, as reports write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Memtables => "memtables",
            Self::Log => "log",
            Self::Flushes => "flushes",
            Self::Scans => "scans",
            Self::MergeInputs => "merge inputs",
            Self::MergeOutputs => "merge outputs",
        }
    }
}

/// The sum of what one handle holds.
#[derive(Debug)]
pub struct Memory {
    limit: usize,
    /// Whoever asks may have one part in so many of what is left.
    parts: usize,
    /// By use. Each on a cache line of its own: every write adds to one of them.
    held: [CachePadded<AtomicUsize>; Use::ALL.len()],
    most: AtomicUsize,
}

impl Memory {
    /// For a writer's handle, where a scan is one among many: a quarter of what is left for each use.
    pub fn new(limit: usize) -> Arc<Self> {
        Self::divided(limit, 4)
    }

    /// For one use alone, as in a process that only reads: it may have everything.
    pub fn of_one_use(limit: usize) -> Arc<Self> {
        Self::divided(limit, 1)
    }

    /// For a process that only merges: half for what is read, half for what is written.
    pub fn of_merges(limit: usize) -> Arc<Self> {
        Self::divided(limit, 2)
    }

    fn divided(limit: usize, parts: usize) -> Arc<Self> {
        Arc::new(Self { limit, parts, held: Default::default(), most: AtomicUsize::new(0) })
    }

    /// The limit in bytes.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Bytes held for `what` now.
    pub fn held(&self, what: Use) -> usize {
        self.cell(what).load(Relaxed)
    }

    /// Bytes held for anything now.
    pub fn total(&self) -> usize {
        self.held.iter().map(|cell| cell.load(Relaxed)).sum()
    }

    /// What all who ask for `what` together may hold, as things are: the more is written, the less.
    pub fn part(&self, what: Use) -> usize {
        let others = |others: &[Use]| others.iter().map(|other| self.held(*other)).sum::<usize>();
        match what {
            Use::Scans | Use::MergeInputs | Use::MergeOutputs => {
                self.limit.saturating_sub(others(&[Use::Memtables, Use::Log, Use::Flushes])) / self.parts
            }
            Use::Memtables | Use::Log | Use::Flushes => {
                self.limit.saturating_sub(self.total().saturating_sub(self.held(what)))
            }
        }
    }

    /// How much of that is left.
    pub fn left(&self, what: Use) -> usize {
        self.part(what).saturating_sub(self.held(what))
    }

    /// Charges between `least` and `want` bytes for `what`: at most half of what is left, but always `least`.
    #[must_use]
    pub fn ask(self: &Arc<Self>, what: Use, want: usize, least: usize) -> Charge {
        self.hold(what, want.min(self.left(what) / 2).max(least))
    }

    /// Charges `bytes` that are held already, or cannot wait.
    #[must_use]
    pub fn hold(self: &Arc<Self>, what: Use, bytes: usize) -> Charge {
        self.add(what, bytes);
        Charge { memory: Arc::clone(self), what, bytes }
    }

    /// Adds `bytes` that nothing gives back by itself, and notes how much is held.
    pub fn add(&self, what: Use, bytes: usize) {
        self.cell(what).fetch_add(bytes, Relaxed);
        self.note();
    }

    /// Gives `bytes` back.
    pub fn sub(&self, what: Use, bytes: usize) {
        self.cell(what).fetch_sub(bytes, Relaxed);
    }

    /// The counter itself, for whoever admits.
    pub(crate) fn cell(&self, what: Use) -> &AtomicUsize {
        &self.held[what as usize]
    }

    /// Notes how much is held, if it is the most so far.
    pub(crate) fn note(&self) {
        self.most.fetch_max(self.total(), Relaxed);
    }

    /// What is held now, by use.
    pub fn stats(&self) -> MemoryStats {
        MemoryStats {
            limit_bytes: self.limit,
            most_bytes: self.most.load(Relaxed).max(self.total()),
            memtable_bytes: self.held(Use::Memtables),
            log_bytes: self.held(Use::Log),
            flush_bytes: self.held(Use::Flushes),
            scan_bytes: self.held(Use::Scans),
            merge_input_bytes: self.held(Use::MergeInputs),
            merge_output_bytes: self.held(Use::MergeOutputs),
        }
    }
}

/// Bytes charged for as long as this lives. It lies where the bytes lie.
#[derive(Debug)]
pub struct Charge {
    memory: Arc<Memory>,
    what: Use,
    bytes: usize,
}

impl Charge {
    /// The bytes charged.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// From now on `bytes` are held, more or less than before.
    pub fn becomes(&mut self, bytes: usize) {
        // Only a charge that grows can be the most so far.
        if bytes > self.bytes {
            self.memory.add(self.what, bytes - self.bytes);
        } else {
            self.memory.sub(self.what, self.bytes - bytes);
        }
        self.bytes = bytes;
    }

    /// Takes `bytes` of it, or all there are, into a charge of their own.
    #[must_use]
    pub fn split(&mut self, bytes: usize) -> Charge {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Charge { memory: Arc::clone(&self.memory), what: self.what, bytes }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.memory.sub(self.what, self.bytes);
    }
}

/// Who is charged for what is built and sent.
#[derive(Debug, Clone)]
pub struct Account {
    /// The sum.
    pub memory: Arc<Memory>,
    /// For what.
    pub what: Use,
}

impl Account {
    /// Charges `bytes` that are held already.
    #[must_use]
    pub fn hold(&self, bytes: usize) -> Charge {
        self.memory.hold(self.what, bytes)
    }
}

/// What a handle holds in memory, by use, in bytes; the block cache, which has a budget of its own, is not in it.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> esker::Result<()> {
/// let db = esker::Db::open("memory://held").await?;
/// db.put("k", "v").await?;
/// let held = db.memory_stats();
/// assert!(held.memtable_bytes > 0 && held.scan_bytes == 0);
/// assert!(held.total_bytes() <= held.limit_bytes);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// The budget.
    pub limit_bytes: usize,
    /// The most that was held at any moment. Writes that needed no thought, below half the budget, are noted by the next
    /// who asks.
    pub most_bytes: usize,
    /// Memtables, with the log buffers they share; also those that only snapshots and scans still read.
    pub memtable_bytes: usize,
    /// Log objects on their way.
    pub log_bytes: usize,
    /// SSTs that are built from memtables, and their parts on their way.
    pub flush_bytes: usize,
    /// What scans have fetched and not used yet, and the blocks they are at.
    pub scan_bytes: usize,
    /// What merges have read and not used yet.
    pub merge_input_bytes: usize,
    /// SSTs that merges build, and their parts on their way.
    pub merge_output_bytes: usize,
}

impl MemoryStats {
    /// Everything that is held.
    pub fn total_bytes(&self) -> usize {
        Use::ALL.iter().map(|what| self.bytes(*what)).sum()
    }

    /// What is held for `what`.
    pub fn bytes(&self, what: Use) -> usize {
        match what {
            Use::Memtables => self.memtable_bytes,
            Use::Log => self.log_bytes,
            Use::Flushes => self.flush_bytes,
            Use::Scans => self.scan_bytes,
            Use::MergeInputs => self.merge_input_bytes,
            Use::MergeOutputs => self.merge_output_bytes,
        }
    }
}

/// A line for people.
impl fmt::Display for MemoryStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} bytes", self.total_bytes(), self.limit_bytes)?;
        for what in Use::ALL {
            write!(f, ", {} {}", what.as_str(), self.bytes(what))?;
        }
        write!(f, "; at most {}", self.most_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_asks_gets_half_of_what_is_left_of_its_part_and_the_next_half_of_the_rest() {
        let memory = Memory::new(1600);
        let first = memory.ask(Use::Scans, 1000, 0);
        let second = memory.ask(Use::Scans, 1000, 0);
        assert_eq!((first.bytes(), second.bytes()), (200, 100));
        assert_eq!(memory.ask(Use::MergeInputs, 1000, 0).bytes(), 200, "another's part is untouched");
        drop(first);
        assert_eq!(memory.held(Use::Scans), 100);
        assert_eq!(memory.ask(Use::Scans, 20, 0).bytes(), 20, "nobody gets more than it wants");
    }

    #[test]
    fn the_more_is_written_the_less_is_given_and_the_least_always_is() {
        let memory = Memory::new(1600);
        memory.add(Use::Memtables, 800);
        assert_eq!(memory.part(Use::Scans), 200);
        memory.add(Use::Memtables, 900);
        assert_eq!(memory.ask(Use::Scans, 1000, 7).bytes(), 7);
        assert_eq!(memory.stats().most_bytes, 1707);
    }

    #[test]
    fn a_charge_that_changes_or_is_divided_gives_back_what_it_is() {
        let memory = Memory::of_merges(100);
        let mut charge = memory.hold(Use::MergeOutputs, 10);
        charge.becomes(30);
        let part = charge.split(25);
        assert_eq!((memory.total(), charge.bytes(), part.bytes()), (30, 5, 25));
        assert_eq!(charge.split(9).bytes(), 5, "no more than there is");
        drop(part);
        charge.becomes(3);
        assert_eq!(memory.total(), 3);
        drop(charge);
        assert_eq!(
            memory.stats(),
            MemoryStats { limit_bytes: 100, most_bytes: 30, ..MemoryStats::default() }
        );
    }
}
