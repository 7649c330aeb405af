//! Following a database that another process writes: its manifest and its log.
//!
//! ```text
//! round   walk the log from the cursor to the first absent slot, into a staging list
//!         look for a newer version (GET n+1; a LIST when it must be certain)
//!         has its replay point passed the slot the walk began at? → discard the walk, begin again there
//!         else insert what was staged, publish (memtables, version, number) as one value
//! ```
//!
//! The order is what makes it right (see `wal_fence_reader.py` among the protocol's models): a slot
//! that is absent may have been collected instead of not written yet, and a collected slot may since
//! hold the fence of a stalled opener, whose jump leads past live data. Collection touches only
//! slots before the replay point of a version that exists by then, so a walk that is followed by a look
//! at the manifest, and that no replay point has entered, saw the log as it was.
//!
//! For the same reason the newest version knows of every epoch and keyspace that was walked over: they are given out
//! before anything is written in them. If it does not, a version after it was lost, and nothing is answered on the one
//! that is left (`wal/behind.rs`).
//!
//! One task owns all state; whoever needs freshness asks it and waits, and all who ask before a round
//! begins share that round. A round that finds nothing costs two GETs (every ten seconds a
//! third, of the version it has), and idle rounds back off from 50 ms to 5 s. Nothing is ever written.
//!
//! Holes: an absent slot may be one that was lost, and what lies behind it says so (`wal/loss.rs`). To look there is
//! a LIST and a GET, made beside the look at the manifest. Who must be certain pays for that each time; a poll
//! looks when the end has stood still for [`STILL_ROUNDS`] rounds, and again after twice as many, and so on, so
//! that an idle reader's requests are two GETs a round and a LIST an hour. A poll that has found a proof looks each
//! time until the slot is there again: no round confirms an end that is none.
//!
//! Falling behind: a version that has been collected cannot be followed, nor can its log. The manifest
//! knows when its last proof is too old for a 404 to be trusted and looks whether ours is still there; a round lists as well when numbers do
//! not continue where the log was left, or when the log ends before the slot that the version says was written.
//!
//! Always true: a published number covers every entry at or below it: those up to the version's `last_seq`
//! lie in its runs, those after it in the memtables. A memtable all of which has been flushed is
//! dropped (it must be: it could show a key again whose delete has been compacted away).

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot};

use super::SuperVersion;
use crate::{
    clock::{SharedClock, deadline},
    error::{Error, ErrorKind, Result},
    key::{Entry, Seq, split_full_key},
    manifest::{Manifest, View},
    memtable::Memtable,
    stats::Cause,
    wal::{Cursor, WalObject, Walk, behind, loss},
};

/// Between rounds: after one that found something, and at most.
const SOONEST: Duration = Duration::from_millis(50);
const LATEST: Duration = Duration::from_secs(5);

/// A walk is published when it has staged this much, and goes on.
const STAGED_BYTES: usize = 32 << 20;

/// A walk is published, too, when it has taken this part of the deadline: a slow link gets there in steps.
const PARTS_OF_DEADLINE: u32 = 4;

/// After so many rounds at the same end of the log (about ten seconds) a poll looks behind it.
const STILL_ROUNDS: u32 = 8;

/// And at least every so many (less than an hour), however long that stands still.
const MOST_STILL_ROUNDS: u32 = 512;

/// How many laps a round may take before it gives up.
const WALKS: usize = 16;

/// What a reader has: published as one value, so that a number and what it needs go together.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) sv: Arc<SuperVersion>,
    pub(super) seq: Seq,
    /// When (monotonic) the last round began that got to the end: everything durable then is in this.
    pub(super) confirmed: Duration,
}

/// A request for a round.
#[derive(Debug)]
pub(super) struct Ask {
    /// Whether it must be certain that no newer version exists (one LIST).
    pub(super) certain: bool,
    pub(super) reply: oneshot::Sender<Result<()>>,
}

/// Where the walk through the log stands.
#[derive(Debug, Clone, Copy)]
struct Place {
    cursor: Cursor,
    /// The number after the last entry met.
    next_seq: Seq,
}

/// The one owner of a reader's state.
#[derive(Debug)]
pub(super) struct Follower {
    manifest: Manifest,
    clock: SharedClock,
    limit: Duration,
    current: Arc<ArcSwap<Current>>,
    place: Place,
    /// The highest number inserted into a memtable.
    inserted: Seq,
    /// For how many walks the log has ended where it did before.
    still: u32,
    /// A slot that is absent, and was not.
    lost: Option<u64>,
}

impl Follower {
    /// Begins at `view`, with nothing read from the log yet.
    pub(super) fn new(manifest: Manifest, view: Arc<View>, clock: SharedClock, limit: Duration) -> Self {
        let (place, seq) = (start_of(&view), view.root.writer.last_seq);
        let sv = Arc::new(SuperVersion { active: Arc::new(Memtable::new()), frozen: Vec::new(), view });
        Self {
            manifest,
            clock,
            limit,
            current: Arc::new(ArcSwap::from_pointee(Current { sv, seq, confirmed: Duration::ZERO })),
            place,
            inserted: 0,
            still: 0,
            lost: None,
        }
    }

    /// What readers read.
    pub(super) fn current(&self) -> Arc<ArcSwap<Current>> {
        Arc::clone(&self.current)
    }

    /// Runs rounds until every asker is gone: when asked, and (if `poll`) by itself.
    pub(super) async fn run(mut self, mut asks: mpsc::Receiver<Ask>, poll: bool) {
        let mut pause = SOONEST;
        loop {
            let mut waiting = Vec::new();
            tokio::select! {
                biased;
                ask = asks.recv() => match ask {
                    Some(ask) => waiting.push(ask),
                    None => return,
                },
                () = self.clock.sleep(pause), if poll => {}
            }
            while let Ok(ask) = asks.try_recv() {
                waiting.push(ask);
            }
            let certain = waiting.iter().any(|ask| ask.certain);
            let done = self.round(certain, Cause::Poll).await;
            pause = match &done {
                Ok(true) => SOONEST,
                _ if !waiting.is_empty() => SOONEST,
                _ => (pause * 2).min(LATEST),
            };
            if let Err(error) = &done
                && waiting.is_empty()
            {
                tracing::warn!(%error, "following the database failed; trying again");
            }
            for ask in waiting {
                // An asker that has stopped waiting needs no answer.
                let _ = ask.reply.send(done.clone().map(|_| ()));
            }
        }
    }

    /// Rounds until the log has been walked to its end. Gives up only when a round has not got any
    /// further along the log: how long that takes in all depends on how much there is.
    pub(super) async fn catch_up(&mut self, cause: Cause) -> Result<()> {
        loop {
            let slot = self.place.cursor.slot;
            match self.round(false, cause).await {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Unavailable && self.place.cursor.slot > slot => {
                    tracing::debug!(%error, slot = self.place.cursor.slot, "not at the end of the log yet");
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// One round; says whether there was anything new. Fails closed: a round that cannot finish publishes
    /// nothing that it has not proved, and does not confirm what it publishes as the newest there is.
    /// Each lap has the deadline to itself, since each lap that ends has got further.
    pub(super) async fn round(&mut self, certain: bool, cause: Cause) -> Result<bool> {
        let (clock, limit) = (Arc::clone(&self.clock), self.limit);
        let began = clock.monotonic();
        let mut changed = false;
        for _ in 0..WALKS {
            let lap = self.lap(certain, began, cause);
            let done = deadline(&*clock, limit, "following the database", lap).await?;
            changed |= done.changed;
            if done.at_end {
                return Ok(changed);
            }
        }
        Err(Error::unavailable("the log is written and flushed faster than it can be followed")
            .hint("give this process a shorter way to the store, or raise the writer's memtable size"))
    }

    /// A walk, a look at the manifest, and what was walked published if it counts. `began` is when the
    /// round did, which is what reaching the end of the log confirms.
    async fn lap(&mut self, certain: bool, began: Duration, cause: Cause) -> Result<Lap> {
        let from = self.place;
        let walk = self.walk(from, cause).await;
        let end = walk.to.cursor.slot;
        let doubtful = walk.gap || self.hole(&walk).is_some();
        self.still = if walk.ended && end == from.cursor.slot { self.still.saturating_add(1) } else { 0 };
        let looks = walk.ended && (certain || cause == Cause::Open || self.is_time_to_look(end));
        let ours = Arc::clone(&self.current.load().sv.view);
        let (newer, lost) = if looks {
            let look = loss::look(&self.manifest, &ours.root, from.cursor.slot, end, cause);
            tokio::try_join!(self.newer(certain || doubtful, cause), look)?
        } else {
            (self.newer(certain || doubtful, cause).await?, None)
        };
        let followed = newer.is_some();
        let changed = followed || walk.to.cursor.slot != from.cursor.slot;
        // A version that holds numbers beyond all that was walked, and begins before: the end of the log was lost, and
        // a repair has gone on from an earlier slot.
        let is_beyond = |view: &Arc<View>| {
            let writer = &view.root.writer;
            writer.replay_from > from.cursor.slot || writer.last_seq >= from.next_seq
        };
        let overtaken = newer.as_ref().is_some_and(is_beyond);
        if let Some(view) = newer {
            self.adopt(view);
        }
        if overtaken {
            // What was walked may have been collected, and something else put there, meanwhile.
            self.place = start_of(&self.current.load().sv.view);
            return Ok(Lap { changed, at_end: false });
        }
        let (epoch, keyspace) = (walk.to.cursor.max_epoch, walk.highest_keyspace);
        let ours = Arc::clone(&self.current.load().sv.view);
        if let Some(view) = behind::check_read(&self.manifest, &ours, epoch, keyspace, cause).await? {
            // It was committed after the look at the manifest, and what was walked was sent after that.
            self.adopt(view);
            self.place = start_of(&self.current.load().sv.view);
            return Ok(Lap { changed: true, at_end: false });
        }
        let hole = self.hole(&walk);
        let at_end = walk.ended && hole.is_none();
        if let Some(lost) = lost.filter(|_| at_end) {
            // A proof, unless it has been collected: then there is a version that says so.
            let newer = if followed { None } else { self.newer(true, cause).await? };
            if !followed && newer.is_none() {
                self.lost = Some(end);
                return Err(lost.error());
            }
            if let Some(view) = newer {
                self.adopt(view);
            }
            self.place = start_of(&self.current.load().sv.view);
            return Ok(Lap { changed: true, at_end: false });
        }
        if looks {
            self.lost = None;
        }
        self.apply(walk.entries, walk.to, at_end.then_some(began));
        match (walk.failed, hole) {
            (Some(error), _) => Err(error),
            // The newer version knows of slots that were written after the walk had been there.
            (None, Some(lost)) if !followed => Err(lost.error()),
            _ => Ok(Lap { changed, at_end }),
        }
    }

    /// The slot a walk ended at, if the version says that it has been written.
    fn hole(&self, walk: &Staged) -> Option<loss::Lost> {
        let view = &self.current.load().sv.view;
        loss::before_tail(&view.root, walk.to.cursor.slot).filter(|_| walk.ended)
    }

    /// Whether a poll looks behind the `end` of the log.
    fn is_time_to_look(&self, end: u64) -> bool {
        let is_due = self.still.is_power_of_two() || self.still.is_multiple_of(MOST_STILL_ROUNDS);
        self.lost == Some(end) || (self.still >= STILL_ROUNDS && is_due)
    }

    /// Walks the log to the first absent slot, or until much is staged or much time has passed. A walk that
    /// fails on the way keeps what it has: so far it is as good as any.
    async fn walk(&self, from: Place, cause: Cause) -> Staged {
        let cursor = from.cursor.under(&self.current.load().sv.view.root);
        let mut walk = Walk::new(&self.manifest, cursor, cause);
        let mut staged = Staged {
            to: from,
            entries: Vec::new(),
            highest_keyspace: None,
            gap: false,
            ended: false,
            failed: None,
        };
        let (began, long_enough) = (self.clock.monotonic(), self.limit / PARTS_OF_DEADLINE);
        let mut bytes = 0;
        while bytes < STAGED_BYTES {
            match walk.next().await {
                Ok(Some(WalObject::Data { header, entries, last_seq })) => {
                    staged.gap |= header.first_seq > staged.to.next_seq;
                    staged.to.next_seq = staged.to.next_seq.max(last_seq + 1);
                    for entry in &entries {
                        let keyspace = split_full_key(&entry.key).map(|(id, _)| id.0);
                        staged.highest_keyspace = staged.highest_keyspace.max(keyspace);
                        bytes += entry.key.len() + entry.value.len();
                    }
                    staged.entries.extend(entries);
                }
                Ok(Some(WalObject::Fence { .. })) => {}
                Ok(None) => {
                    staged.ended = true;
                    break;
                }
                Err(error) => {
                    staged.failed = Some(error);
                    break;
                }
            }
            if self.clock.monotonic().saturating_sub(began) > long_enough {
                break;
            }
        }
        staged.to.cursor = walk.cursor();
        staged
    }

    /// The newest version after ours, if there is one.
    async fn newer(&self, certain: bool, cause: Cause) -> Result<Option<Arc<View>>> {
        let ours = Arc::clone(&self.current.load().sv.view);
        if certain {
            return self.manifest.newer(&ours, cause).await;
        }
        let mut newest: Option<Arc<View>> = None;
        while let Some(next) = self.manifest.follow(newest.as_deref().unwrap_or(&ours), cause).await? {
            newest = Some(next);
        }
        Ok(newest)
    }

    /// Publishes a newer version; memtables that it holds all of are dropped.
    fn adopt(&mut self, view: Arc<View>) {
        let ours = self.current.load_full();
        let flushed = view.root.writer.last_seq;
        let kept = |memtable: &&Arc<Memtable>| memtable.max_seq() > flushed;
        let sv = if flushed == ours.sv.view.root.writer.last_seq {
            SuperVersion { view, ..(*ours.sv).clone() }
        } else {
            // A memtable a span between replay points, so that spans can go one by one.
            let frozen = ours.sv.memtables().filter(kept).cloned().collect();
            SuperVersion { active: Arc::new(Memtable::new()), frozen, view }
        };
        self.publish(Current { sv: Arc::new(sv), seq: ours.seq.max(flushed), confirmed: ours.confirmed });
    }

    /// Inserts what a proven walk has staged and publishes it; as the newest there was at `confirmed` only
    /// if the round is complete.
    fn apply(&mut self, entries: Vec<Entry>, to: Place, confirmed: Option<Duration>) {
        let ours = self.current.load_full();
        let flushed = ours.sv.view.root.writer.last_seq;
        for entry in entries {
            if entry.seq > flushed && entry.seq > self.inserted {
                self.inserted = entry.seq;
                ours.sv.active.insert(entry);
            }
        }
        self.place = to;
        self.publish(Current {
            sv: Arc::clone(&ours.sv),
            seq: ours.seq.max(to.next_seq - 1),
            confirmed: confirmed.unwrap_or(ours.confirmed),
        });
    }

    fn publish(&self, current: Current) {
        self.current.store(Arc::new(current));
    }
}

/// What a walk found.
#[derive(Debug)]
struct Staged {
    to: Place,
    entries: Vec<Entry>,
    /// The highest id of a keyspace that any of them is in.
    highest_keyspace: Option<u32>,
    /// Whether numbers are missing between what was known and what was found.
    gap: bool,
    /// Whether it came to an absent slot.
    ended: bool,
    /// What ended it before its time.
    failed: Option<Error>,
}

/// What a lap came to.
#[derive(Debug)]
struct Lap {
    changed: bool,
    /// Whether the end of the log was reached, with nothing missing before it.
    at_end: bool,
}

/// Where the log begins that a version does not hold.
fn start_of(view: &View) -> Place {
    Place { cursor: Cursor::start(&view.root), next_seq: view.root.writer.last_seq + 1 }
}
