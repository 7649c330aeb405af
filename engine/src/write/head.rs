//! The head of the database: what one short lock protects.
//!
//! ```text
//!             ┌ open log buffer ── cut at 4 MiB, or when someone waits ──► wal::Pipe
//!  lock ──────┤ next sequence number, next slot
//!             ├ active memtable ── frozen at `memtable_bytes` ───────────► frozen ──► flush
//!             └ why it stopped, if it did
//!  no lock ──── visible (atomic), current (SuperVersion, swapped whole)
//! ```
//!
//! The replay point is captured here, where log and memtable are cut in the same moment: a frozen
//! memtable holds exactly the log objects below the slot noted with it.
//!
//! Always true: a number becomes visible only when all entries of its batch are in the memtable; a new
//! memtable is in the SuperVersion before anything is inserted into it; views only move forward; the
//! visible number goes back once at most, when another writer has fenced the log: to what is durable.

use std::{
    collections::VecDeque,
    fmt, mem,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use crossbeam_utils::CachePadded;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    chaos::{self, Bug, bug},
    clock::SharedClock,
    error::{Error, ErrorKind, Result},
    key::Seq,
    manifest::{View, edit},
    memory::Memory,
    memtable::Memtable,
    read::{SuperVersion, Token, superversion},
    store::upload::PART_BYTES,
    wal::{
        LogBuffer, Op,
        pipe::{Landing, Pipe},
    },
    write::{
        budget::{Kept, MemoryBudget},
        commit::Accepted,
        progress::{Progress, Watched, Watcher},
        room::Room,
    },
};

/// The log buffer is cut off at this size, waited for or not; or at a part of a small memory budget, one in so many: the
/// copy that is sent has to fit beside the rest.
const LOG_OBJECT_BYTES: usize = 4 << 20;
const LOG_OBJECT_PART: usize = 8;

/// One part of the memory budget in so many is kept for the least of scans and merges.
const LEASTS_PART: usize = 32;
/// What a flush holds with one part on its way. Less is kept where half of the memtable is less (much of an SST has been
/// sent when the last of it is built), and never more than one part of the budget in so many.
const FLUSH_BYTES: usize = PART_BYTES + (6 << 20);
const FLUSH_PART: usize = 16;

/// What every write of an open database goes through.
pub struct Writer {
    head: Mutex<Head>,
    current: ArcSwap<SuperVersion>,
    /// On a cache line of its own: every read loads it, and the lock beside it changes with every write.
    visible: CachePadded<AtomicU64>,
    pipe: Arc<Pipe>,
    budget: MemoryBudget,
    /// The log buffer is cut off at this size.
    log_object_bytes: usize,
    freshly_frozen: Notify,
    progress: Arc<Watched>,
    settings: Settings,
}

/// What a [`Writer`] is told once.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Our epoch.
    pub epoch: u32,
    /// A memtable is frozen at this size.
    pub memtable_bytes: usize,
    /// The memory budget.
    pub memory_bytes: usize,
    /// Every wait ends after this.
    pub deadline: Duration,
    /// Whether this process merges, so that writers are held back when level 0 grows too high.
    pub heed_l0: bool,
    /// Time.
    pub clock: SharedClock,
}

/// Where writing begins: after what is stored and what was replayed.
#[derive(Debug)]
pub struct Start {
    /// The version to read.
    pub view: Arc<View>,
    /// What was replayed and is to be flushed; oldest first.
    pub replayed: Vec<Replayed>,
    /// What was replayed last: more is to be written into it.
    pub active: Memtable,
    /// The first number to give.
    pub next_seq: Seq,
    /// The slot of our first log object.
    pub next_slot: u64,
    /// Our fence: everything below it is durable.
    pub fence_slot: u64,
}

/// A memtable that came out of the log.
#[derive(Debug)]
pub struct Replayed {
    /// The entries.
    pub memtable: Arc<Memtable>,
    /// The highest number in it.
    pub last_seq: Seq,
    /// Where replay starts once it is flushed.
    pub replay_from: u64,
}

/// A memtable that takes no more writes and waits to be flushed.
#[derive(Debug, Clone)]
pub struct Frozen {
    /// The entries.
    pub memtable: Arc<Memtable>,
    /// The highest number in it.
    pub last_seq: Seq,
    /// Where replay starts once it is flushed: the slot after the last one that is wholly in it.
    pub replay_from: u64,
    /// The log object that makes it durable; `None` if it is durable already.
    pub landing: Option<Arc<Landing>>,
    charged: usize,
}

#[derive(Debug)]
struct Head {
    log: LogBuffer,
    /// The landing of the open log.
    landing: Arc<Landing>,
    /// The landing of the log cut last.
    last_cut: Option<Arc<Landing>>,
    next_seq: Seq,
    next_slot: u64,
    active: Arc<Memtable>,
    active_charged: usize,
    /// Oldest first.
    frozen: VecDeque<Frozen>,
    stopped: Option<Error>,
}

/// What a newer version has put in the place of: memtables, and the superversion that read them. To free one of 64 MiB takes
/// tens of milliseconds, which under the lock every writer would wait for, and on a thread of the runtime whoever has
/// that thread.
#[derive(Debug, Default)]
#[must_use = "where it is freed matters"]
pub(super) struct Departed {
    frozen: Vec<Frozen>,
    before: Option<Arc<SuperVersion>>,
}

impl Departed {
    /// Frees what nobody else holds.
    pub(super) fn free(self) {
        drop((self.frozen, self.before));
    }
}

impl Writer {
    /// The head of a database opened at `start`.
    pub fn new(settings: Settings, start: Start) -> Self {
        let pipe = Arc::new(Pipe::new(
            start.next_seq - 1,
            start.fence_slot,
            settings.clock.clone(),
            settings.deadline,
        ));
        let log_object_bytes = LOG_OBJECT_BYTES.min(settings.memory_bytes / LOG_OBJECT_PART);
        let for_flush = FLUSH_BYTES.min(settings.memtable_bytes / 2).min(settings.memory_bytes / FLUSH_PART);
        let kept = Kept {
            // It is cut off behind the write that fills it.
            for_log: log_object_bytes + log_object_bytes / 8,
            for_others: settings.memory_bytes / LEASTS_PART + for_flush,
        };
        let budget = MemoryBudget::new(Memory::new(settings.memory_bytes), kept);
        let frozen: VecDeque<_> = start
            .replayed
            .into_iter()
            .map(|replayed| {
                let charged = replayed.memtable.bytes();
                budget.force(charged);
                Frozen {
                    memtable: replayed.memtable,
                    last_seq: replayed.last_seq,
                    replay_from: replayed.replay_from,
                    landing: None,
                    charged,
                }
            })
            .collect();
        let active_charged = if start.active.is_empty() { 0 } else { start.active.bytes() };
        budget.force(active_charged);
        let head = Head {
            log: LogBuffer::new(start.next_seq),
            landing: pipe.open(),
            last_cut: None,
            next_seq: start.next_seq,
            next_slot: start.next_slot,
            active: Arc::new(start.active),
            active_charged,
            frozen,
            stopped: None,
        };
        let progress = Progress {
            flushed_seq: start.view.root.writer.last_seq,
            view_id: start.view.id(),
            stopped: None,
        };
        let writer = Self {
            current: ArcSwap::from_pointee(head.superversion(start.view)),
            visible: CachePadded::new(AtomicU64::new(head.next_seq - 1)),
            head: Mutex::new(head),
            pipe,
            budget,
            log_object_bytes,
            freshly_frozen: Notify::new(),
            progress: Watched::new(progress),
            settings,
        };
        writer.note_l0(&writer.current.load().view);
        // What was replayed is as good as frozen.
        writer.freshly_frozen.notify_one();
        writer
    }

    /// What reads read now.
    pub fn current(&self) -> &ArcSwap<SuperVersion> {
        &self.current
    }
    /// A SuperVersion and the newest visible number that go together, to keep.
    pub fn pin(&self) -> (Arc<SuperVersion>, Seq) {
        superversion::pin(&self.current, &self.visible)
    }
    /// The same for a read that ends before it returns.
    pub fn with_pinned<T>(&self, read: impl FnOnce(&Arc<SuperVersion>, Seq) -> T) -> T {
        superversion::with_pinned(&self.current, &self.visible, read)
    }
    /// The memory budget.
    pub fn budget(&self) -> &MemoryBudget {
        &self.budget
    }
    /// The way to the log.
    pub fn pipe(&self) -> &Arc<Pipe> {
        &self.pipe
    }
    /// What this writer was told when it was made.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
    /// How far background work has come.
    pub fn progress(&self) -> Watcher {
        self.progress.watcher()
    }

    /// Applies a batch: log, memtable, then visible. `ops` are numbered in order.
    pub(super) fn apply<'a>(
        &self,
        room: Room<'_>,
        ops: impl ExactSizeIterator<Item = Op<'a>> + Clone,
    ) -> Result<Accepted> {
        let mut head = self.head.lock();
        if let Some(error) = &head.stopped {
            return Err(error.clone());
        }
        if ops.len() == 0 {
            return Ok(self.newest(&head));
        }
        let first = head.next_seq;
        head.next_seq += ops.len() as u64;
        let last = head.next_seq - 1;
        let Head { log, active, .. } = &mut *head;
        log.append(first, ops, |entry| active.insert(entry));
        self.visible.store(last, Ordering::Release);
        head.active_charged += room.keep();
        let accepted =
            Accepted::new(Token { epoch: self.settings.epoch, seq: last }, Some(head.landing.clone()));
        if head.log.bytes() >= self.log_object_bytes || chaos::rare("the log is cut early") {
            head.cut(&self.pipe);
        }
        if head.active.bytes() >= self.settings.memtable_bytes || chaos::rare("a memtable is frozen early") {
            self.freeze_locked(&mut head);
        }
        Ok(accepted)
    }

    /// Everything accepted so far.
    pub fn accepted(&self) -> Accepted {
        self.newest(&self.head.lock())
    }

    /// Cuts off the open log if somebody waits for it. The log task's way in.
    pub fn cut_if_wanted(&self) {
        let mut head = self.head.lock();
        if head.landing.is_wanted() {
            head.cut(&self.pipe);
        }
    }

    /// Freezes the active memtable, whatever its size. Gives the number up to which all is frozen.
    pub fn freeze(&self) -> Result<Seq> {
        let mut head = self.head.lock();
        if let Some(error) = &head.stopped {
            return Err(error.clone());
        }
        self.freeze_locked(&mut head);
        Ok(head.next_seq - 1)
    }

    /// The frozen memtable to flush next.
    pub fn oldest_frozen(&self) -> Option<Frozen> {
        self.head.lock().frozen.front().cloned()
    }

    /// Waits until no frozen memtable is left, or no more can be flushed.
    pub async fn drained(&self) {
        let mut progress = self.progress();
        while self.oldest_frozen().is_some() {
            progress.changed().await;
        }
    }

    /// Waits until a memtable may have been frozen.
    pub async fn frozen(&self) {
        self.freshly_frozen.notified().await;
    }

    /// Reads `view` from now on, if it is newer than what is read. Memtables that it contains go. A view of
    /// a later writer stops this one instead: what that one wrote is not for this handle to show.
    pub fn publish(&self, view: &Arc<View>) {
        self.replace(view).free();
        self.replaced(view);
    }

    /// The same for whoever knows a better place to free what goes; [`replaced`](Self::replaced) is to be called after that.
    pub(super) fn replace(&self, view: &Arc<View>) -> Departed {
        let mut departed = Departed::default();
        let owner = &view.root.writer;
        if let Err(fenced) = edit::check_writer_epoch(&view.root, self.settings.epoch) {
            self.stop(&fenced);
            return departed;
        }
        let mut head = self.head.lock();
        if view.id() <= self.current.load().view.id() {
            return departed;
        }
        let stored = owner.last_seq;
        // slatedb #1871: which one it was, was not asked.
        let mut any = bug(Bug::FrozenByPosition);
        while let Some(flushed) =
            head.frozen.pop_front_if(|oldest| mem::take(&mut any) || oldest.last_seq <= stored)
        {
            self.budget.release_with(&flushed.memtable, flushed.charged);
            departed.frozen.push(flushed);
        }
        departed.before = Some(self.current.swap(Arc::new(head.superversion(view.clone()))));
        self.note_l0(view);
        departed
    }

    /// What `view` has put in the place of is free: the budget is told, and those who wait for a flush.
    pub(super) fn replaced(&self, view: &Arc<View>) {
        self.budget.sweep();
        let current = self.current.load();
        // It may have been refused, or be older than what another has published since.
        if view.id() <= current.view.id() {
            self.progress.change(|progress| {
                progress.view_id = progress.view_id.max(view.id());
                progress.flushed_seq = progress.flushed_seq.max(view.root.writer.last_seq);
            });
        }
    }

    /// Refuses every later write with `error`. The first error stands. What was accepted is still sent.
    pub fn stop(&self, error: &Error) {
        self.stop_locked(&mut self.head.lock(), error);
    }

    /// The log ends with `error` and takes nothing more: every later write is refused. If the log is another
    /// writer's now, what it did not take never happened, and no later read shows it. Called before those
    /// who wait for the log are told.
    pub fn log_ends(&self, error: &Error) {
        let mut head = self.head.lock();
        self.stop_locked(&mut head, error);
        if error.kind() == ErrorKind::Fenced {
            // Under the lock, and stopped: nothing makes a higher number visible any more.
            self.visible.fetch_min(self.pipe.durable_seq(), Ordering::AcqRel);
        }
    }

    /// Refuses every later write with `error`, and fails what has not landed.
    pub fn abandon(&self, error: &Error) {
        self.stop(error);
        self.pipe.stop(error);
    }

    /// Why writes are refused, if they are.
    pub fn stopped(&self) -> Option<Error> {
        self.head.lock().stopped.clone()
    }

    /// Freezes the active memtable if nothing else is on its way out of memory: then it has to go.
    pub(super) fn freeze_for_room(&self) {
        let mut head = self.head.lock();
        if head.frozen.is_empty() && head.stopped.is_none() {
            self.freeze_locked(&mut head);
        }
    }

    fn stop_locked(&self, head: &mut Head, error: &Error) {
        if head.stopped.is_none() {
            head.stopped = Some(error.clone());
            self.progress.change(|progress| progress.stopped = Some(error.clone()));
        }
    }

    fn newest(&self, head: &Head) -> Accepted {
        let landing = if head.log.is_empty() { head.last_cut.clone() } else { Some(head.landing.clone()) };
        Accepted::new(Token { epoch: self.settings.epoch, seq: head.next_seq - 1 }, landing)
    }

    fn freeze_locked(&self, head: &mut Head) {
        if head.active.is_empty() {
            return;
        }
        head.cut(&self.pipe);
        let memtable = mem::take(&mut head.active);
        // What writers charged was an estimate; from here on it is what the memtable holds. Only the difference is charged
        // or given back: twice the memtable, for a moment, would turn others away, and be noted as the most that was held.
        let charged = memtable.bytes();
        // slatedb #1967: counted by two.
        let before = if bug(Bug::ChargedTwice) { 0 } else { mem::take(&mut head.active_charged) };
        match charged.checked_sub(before) {
            Some(more) => self.budget.force(more),
            None => self.budget.release(before - charged),
        }
        head.frozen.push_back(Frozen {
            memtable,
            last_seq: head.next_seq - 1,
            // slatedb #1625: replay began behind what it had to replay.
            replay_from: head.next_slot + u64::from(bug(Bug::ReplayPointAhead)),
            landing: head.last_cut.clone(),
            charged,
        });
        let view = self.current.load().view.clone();
        self.current.store(Arc::new(head.superversion(view)));
        self.freshly_frozen.notify_one();
    }

    fn note_l0(&self, view: &View) {
        if self.settings.heed_l0 {
            let runs = view.runs.iter().filter(|run| run.level == 0 && !run.is_hole()).count();
            self.budget.note_l0(runs, view.root.options.shape.l0_runs as usize);
        }
    }
}

impl Head {
    /// Cuts off the open log, if there is anything in it.
    fn cut(&mut self, pipe: &Pipe) {
        if self.log.is_empty() {
            return;
        }
        let next = pipe.cut(self.next_slot, self.log.seal(self.next_seq));
        self.next_slot += 1;
        self.last_cut = Some(mem::replace(&mut self.landing, next));
    }

    fn superversion(&self, view: Arc<View>) -> SuperVersion {
        SuperVersion {
            active: self.active.clone(),
            frozen: self.frozen.iter().rev().map(|frozen| frozen.memtable.clone()).collect(),
            view,
        }
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("epoch", &self.settings.epoch)
            .field("visible", &self.visible.load(Ordering::Relaxed))
            .field("charged", &self.budget.charged())
            .finish_non_exhaustive()
    }
}
