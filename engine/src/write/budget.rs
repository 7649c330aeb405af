//! Room for writes in the one memory budget, and the slow-down before it is full.
//!
//! ```text
//!  held by writes      0 %                50 %                       90 %   100 % of what they may have
//!                      ├── writers run free ──┼── a growing delay per byte ──┼──┤ writers wait
//! ```
//!
//! Held are the memtables until the last reader has let go of them (with the log chunks they share), and log objects on
//! their way beyond the first. The same delay also
//! holds back writers when level 0 grows faster than this process merges it.
//!
//! Who finds no room stands in line, and while there is a line nobody is admitted past it. A write larger than all the
//! room there is gets admitted, at the head of the line, once no memtables are held but by readers.
//!
//! Parts are never given to writes: the copy of one log object on its way, without which nothing would ever become
//! durable, and free again (objects beyond the first are sent as long as they fit); what it takes to flush a memtable with
//! one part of its SST on its way; and the least of scans and merges. What those hold beyond it (`memory.rs`) delays nobody,
//! because they take less as more is written; but who would fill the memory with it there waits. A quarter of the budget is
//! left to writes whatever else is held, and as much again for memtables that only readers hold: one that is flushed and still
//! read does not use the quarter up.
//!
//! Always true: below half of its part a write's charge is one atomic addition; writes that had to wait are admitted in
//! the order in which they came, so that none waits for ever, however large.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::{Mutex as FairMutex, MutexGuard as FairGuard, Notify, futures::Notified};

use crate::{
    memory::{Memory, Use},
    memtable::Memtable,
};

/// The full delay, reached at 90 % of what writes may have: a nanosecond a byte is 1 GB/s, a thousand 1 MB/s.
const FULL_DELAY_NS_PER_BYTE: f64 = 1_000.0;
/// Pauses shorter than this are saved up: a timer cannot keep them.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
/// No single write is held back longer than this.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// The room of a writer in the one memory budget.
#[derive(Debug)]
pub struct MemoryBudget {
    memory: Arc<Memory>,
    /// What no write is given.
    kept: Kept,
    /// Up to here a write needs no thought: half of what writes may have, or nothing while level 0 is too high.
    free: AtomicUsize,
    /// What a byte costs for the height of level 0, in nanoseconds.
    l0_delay_ns: AtomicU64,
    /// Delay imposed and not yet served.
    owed_ns: AtomicU64,
    released: Notify,
    /// Held by the first in line; given on in the order of asking.
    head_of_line: FairMutex<()>,
    /// How many stand in line.
    in_line: AtomicUsize,
    /// Memtables that are flushed and still read.
    read: Mutex<Vec<(Weak<Memtable>, usize)>>,
}

/// What no write is given, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Kept {
    /// For the copy of one log object on its way.
    pub for_log: usize,
    /// For a flush, and for the least of scans and merges.
    pub for_others: usize,
}

/// Writes get one part in so many of the budget whatever else is held, and as much again where readers hold it.
const LEAST_PART: usize = 4;

/// A place in the line of those who wait for memory. Given up when dropped.
#[derive(Debug)]
pub struct Place<'a>(&'a MemoryBudget);

impl<'a> Place<'a> {
    /// Waits until this is the first in line, which it is for as long as the guard is held.
    pub async fn first(&self) -> FairGuard<'a, ()> {
        self.0.head_of_line.lock().await
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.in_line.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The answer to a write that wants memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Charged: go on.
    Go,
    /// Charged: go on after this pause.
    Pause(Duration),
    /// Not charged: there is no room.
    Full,
}

impl MemoryBudget {
    /// Room in `memory`, of which writes get all but what is `kept`.
    pub fn new(memory: Arc<Memory>, kept: Kept) -> Self {
        let budget = Self {
            memory,
            kept,
            free: AtomicUsize::new(0),
            l0_delay_ns: AtomicU64::new(0),
            owed_ns: AtomicU64::new(0),
            released: Notify::new(),
            head_of_line: FairMutex::new(()),
            in_line: AtomicUsize::new(0),
            read: Mutex::default(),
        };
        budget.free.store(budget.room() / 2, Ordering::Relaxed);
        budget
    }

    /// What all this is charged to.
    pub fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// Bytes charged now, for whatever use.
    pub fn charged(&self) -> usize {
        self.memory.total()
    }

    /// The budget in bytes.
    pub fn limit(&self) -> usize {
        self.memory.limit()
    }

    /// What memtables may hold while others hold no more than is kept for them.
    fn room(&self) -> usize {
        self.room_beside(0, 0)
    }

    /// What memtables may hold while the log holds `log` bytes and others `others`.
    fn room_beside(&self, log: usize, others: usize) -> usize {
        let limit = self.limit();
        let taken = log.max(self.kept.for_log).saturating_add(others.max(self.kept.for_others));
        let (left, least) = (limit.saturating_sub(taken), limit / LEAST_PART);
        if left >= 2 * least { left } else { left.max(least + self.held_by_readers().min(least)) }
    }

    /// Charges `bytes` if that needs no thought: the one addition of the put path.
    pub fn try_charge(&self, bytes: usize) -> bool {
        if self.in_line.load(Ordering::Relaxed) > 0 {
            return false;
        }
        let held = self.memory.cell(Use::Memtables);
        let before = held.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) <= self.free.load(Ordering::Relaxed) {
            return true;
        }
        held.fetch_sub(bytes, Ordering::Relaxed);
        false
    }

    /// Takes a place in line. From now on nobody who comes later is admitted earlier.
    pub fn stand_in_line(&self) -> Place<'_> {
        self.in_line.fetch_add(1, Ordering::Relaxed);
        Place(self)
    }

    /// Charges `bytes` if they fit and nobody stands in line, and says how long to pause for them.
    pub fn admit(&self, bytes: usize) -> Admission {
        if self.in_line.load(Ordering::Relaxed) > 0 {
            return Admission::Full;
        }
        self.admit_first(bytes)
    }

    /// The same for the first in line.
    pub fn admit_first(&self, bytes: usize) -> Admission {
        let log = self.memory.held(Use::Log);
        let others = self.memory.total().saturating_sub(log + self.memory.held(Use::Memtables));
        let most = self.room_beside(log, others);
        // What readers hold may stay for long: a write that never fits does not wait for them.
        let held = if bytes > most { self.held_by_readers() } else { 0 };
        let fits = |charged: usize| {
            (charged <= held || charged.saturating_add(bytes) <= most)
                .then_some(charged.saturating_add(bytes))
        };
        let memtables = self.memory.cell(Use::Memtables);
        let Ok(before) = memtables.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits) else {
            return Admission::Full;
        };
        self.memory.note();
        // A log that piles up says that the store is slow, as memtables do that wait for it.
        let piled_up = log.saturating_sub(self.kept.for_log);
        let by_memory = delay_ns_per_byte(before.saturating_add(piled_up), self.room());
        let per_byte = by_memory.max(self.l0_delay_ns.load(Ordering::Relaxed) as f64);
        let imposed = (per_byte * bytes as f64) as u64;
        let owed = self.owed_ns.fetch_add(imposed, Ordering::Relaxed).saturating_add(imposed);
        if owed < SHORTEST_PAUSE.as_nanos() as u64 {
            return Admission::Go;
        }
        // Whoever finds a whole pause owed serves it, for everyone who added to it.
        let served = self.owed_ns.swap(0, Ordering::Relaxed);
        if served == 0 {
            Admission::Go
        } else {
            Admission::Pause(Duration::from_nanos(served).min(LONGEST_PAUSE))
        }
    }

    /// Charges `bytes` of memtables whatever the limit says: what is held already, or cannot wait.
    pub fn force(&self, bytes: usize) {
        self.memory.add(Use::Memtables, bytes);
    }

    /// Gives `bytes` back.
    pub fn release(&self, bytes: usize) {
        self.memory.sub(Use::Memtables, bytes);
        self.released.notify_waiters();
    }

    /// `memtable` is flushed: its `bytes` are given back when the last reader has let go of it.
    pub fn release_with(&self, memtable: &Arc<Memtable>, bytes: usize) {
        self.read.lock().push((Arc::downgrade(memtable), bytes));
    }

    /// Gives back what readers have let go of since the last sweep.
    pub fn sweep(&self) {
        let mut freed = 0;
        self.read.lock().retain(|(memtable, bytes)| {
            let read = memtable.strong_count() > 0;
            freed += if read { 0 } else { *bytes };
            read
        });
        if freed > 0 {
            self.release(freed);
        }
    }

    /// Bytes of memtables that are flushed, and held by snapshots and scans only.
    pub fn held_by_readers(&self) -> usize {
        self.read.lock().iter().map(|(_, bytes)| bytes).sum()
    }

    /// Ready when something has been given back after this call (create it, then look, then wait).
    pub fn released(&self) -> Notified<'_> {
        self.released.notified()
    }

    /// Level 0 has `runs` runs, of which `due` make a merge due: from twice that, writers are held back.
    pub fn note_l0(&self, runs: usize, due: usize) {
        let soft = due.max(1) * 2;
        let delay = if runs <= soft { 0.0 } else { ramp((runs - soft) as f64 / soft as f64) };
        self.l0_delay_ns.store(delay as u64, Ordering::Relaxed);
        self.free.store(if delay > 0.0 { 0 } else { self.room() / 2 }, Ordering::Relaxed);
    }
}

/// The delay for each byte while writes hold `held` bytes of the `most` that they may.
fn delay_ns_per_byte(held: usize, most: usize) -> f64 {
    let used = held as f64 / most.max(1) as f64;
    ramp((used - 0.5) / 0.4)
}

/// From no delay at 0 to the full one at 1: slowly at first, so that a short burst is hardly felt.
fn ramp(x: f64) -> f64 {
    x.clamp(0.0, 1.0).powi(3) * FULL_DELAY_NS_PER_BYTE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_grows_from_nothing_at_half_to_full_at_nine_tenths() {
        let at = |percent: usize| delay_ns_per_byte(percent, 100);
        assert_eq!(at(0), 0.0);
        assert_eq!(at(50), 0.0);
        assert!(at(60) > 0.0 && at(60) < at(70) && at(70) < at(80) && at(80) < at(90));
        assert!((at(90) - FULL_DELAY_NS_PER_BYTE).abs() < 1e-6);
        assert_eq!(at(90), at(100));
    }

    #[test]
    fn a_write_larger_than_the_budget_is_admitted_alone_and_only_alone() {
        let budget = MemoryBudget::new(Memory::new(1000), Kept::default());
        assert!(!budget.try_charge(5000));
        assert_ne!(budget.admit(5000), Admission::Full);
        assert_eq!(budget.charged(), 5000);
        assert_eq!(budget.admit(1), Admission::Full);
        budget.release(5000);
        assert!(budget.try_charge(500));
        assert_eq!(budget.admit(5000), Admission::Full);
        assert_eq!(budget.charged(), 500, "a refused write is not charged");
    }

    #[tokio::test]
    async fn nobody_passes_a_write_that_stands_in_line_however_large_it_is() {
        let budget = MemoryBudget::new(Memory::new(1000), Kept::default());
        assert!(budget.try_charge(10));
        let place = budget.stand_in_line();
        let first = place.first().await;
        assert_eq!(budget.admit_first(5000), Admission::Full);
        assert!(!budget.try_charge(10), "a small write would fit, and waits");
        assert_eq!(budget.admit(10), Admission::Full);
        budget.release(10);
        assert_ne!(budget.admit_first(5000), Admission::Full);
        drop((first, place));
        budget.release(5000);
        assert!(budget.try_charge(10), "without a line it is admitted again");
    }

    #[test]
    fn what_readers_hold_does_not_keep_a_large_write_waiting() {
        let budget = MemoryBudget::new(Memory::new(1000), Kept::default());
        let memtable = Arc::new(Memtable::new());
        budget.force(600);
        assert_eq!(budget.admit(5000), Admission::Full);
        budget.release_with(&memtable, 600);
        assert_ne!(budget.admit(5000), Admission::Full);
    }

    #[test]
    fn what_others_hold_beyond_their_least_is_not_given_to_writes_but_a_quarter_of_all_is() {
        let memory = Memory::new(1000);
        let budget = MemoryBudget::new(memory.clone(), Kept { for_log: 100, for_others: 100 });
        let least = memory.hold(Use::MergeInputs, 100);
        budget.force(700);
        assert_ne!(budget.admit(100), Admission::Full, "what was kept is for what is held");
        assert_eq!(budget.admit(1), Admission::Full);
        drop(least);
        assert_eq!(budget.admit(1), Admission::Full, "the least stays kept");
        budget.release(700);
        let scans = memory.hold(Use::Scans, 400);
        assert_ne!(budget.admit(400), Admission::Full);
        assert_eq!(budget.admit(1), Admission::Full);
        budget.release(500);
        drop(scans);
        let _flood = memory.hold(Use::Scans, 5000);
        assert_ne!(budget.admit(250), Admission::Full);
        assert_eq!(budget.admit(1), Admission::Full);
    }

    #[test]
    fn a_memtable_that_only_readers_hold_does_not_take_the_quarter_of_writes_and_two_do() {
        let memory = Memory::new(1000);
        let budget = MemoryBudget::new(memory.clone(), Kept::default());
        let _flood = memory.hold(Use::MergeOutputs, 5000);
        let read = [Arc::new(Memtable::new()), Arc::new(Memtable::new())];
        assert_ne!(budget.admit(250), Admission::Full);
        budget.release_with(&read[0], 250);
        assert_ne!(budget.admit(250), Admission::Full, "the first is flushed, and is read");
        assert_eq!(budget.admit(1), Admission::Full);
        budget.release_with(&read[1], 250);
        assert_eq!(budget.admit(1), Admission::Full, "readers hold as much again as writes are left");
        drop(read);
        budget.sweep();
        assert_ne!(budget.admit(250), Admission::Full);
    }

    #[test]
    fn small_delays_are_saved_up_until_a_timer_can_serve_them() {
        let budget = MemoryBudget::new(Memory::new(1 << 20), Kept::default());
        budget.force((1 << 20) * 9 / 10);
        let pauses: Vec<_> = (0..40).map(|_| budget.admit(100)).collect();
        assert!(pauses.iter().filter(|p| matches!(p, Admission::Pause(_))).count() >= 2);
        assert!(pauses.iter().filter(|p| **p == Admission::Go).count() > 20);
    }

    #[test]
    fn a_high_level_0_takes_the_free_half_away_and_gives_it_back() {
        let budget = MemoryBudget::new(Memory::new(1 << 20), Kept::default());
        budget.note_l0(8, 4);
        assert!(budget.try_charge(10));
        budget.note_l0(12, 4);
        assert!(!budget.try_charge(10));
        assert_ne!(budget.admit(10), Admission::Full);
        budget.note_l0(3, 4);
        assert!(budget.try_charge(10));
    }
}
