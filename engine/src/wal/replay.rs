//! Walking the log: to take it over from a writer that may still be alive, and to follow one that is.
//!
//! ```text
//! slot   … 7     8     9     10          12    13         K = 2
//!        DATA  DATA  FENCE  (stray)     DATA  (absent)
//!        e1    e1    e2                  e2
//!        └─────┴─────┴──── jump by K ────┴─────┘ the tail
//! ```
//!
//! The walk goes from the replay point: DATA leads to the next slot, a FENCE at f to f+K, because a
//! fenced writer had at most K objects in flight, the first of them at or before f: all its strays
//! lie in (f, f+K), and nobody ever reads those. An object of an older epoch than one met before is void
//! and is stepped over. The first absent slot is the tail.
//!
//! [`Opening`] takes the log over: it walks to the tail t, creates a FENCE in t, and
//! commits that it is there, which only the epoch's own writer can. Until the fence is ours, what an older writer lands in t is
//! simply walked over, so one pass both probes and replays. The new writer's k-th object goes to t+K+k.
//!
//! Always true: epochs never decrease along a walk, and each is one writer's (`wal/author.rs`); every slot of it up to
//! the manifest's tail hint must exist; an opener that meets a newer epoch stops; no fence is put where the log has lost
//! something (`wal/loss.rs`), so no slot is used twice. [`Cursor::pass`] is all of the rule, and pure.

use std::sync::Arc;

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesOrdered};

use crate::{
    chaos::{Bug, bug},
    error::{Error, ErrorKind, Result},
    key::{Entry, Seq},
    manifest::{Edit, Manifest, Root, View, edit},
    stats::Cause,
    store::{Folder, Name, Sequence},
    wal::{
        author::{self, Author},
        fence::Fencer,
        loss::{self, Lost},
        read::read,
        record::WalObject,
    },
};

/// The most GETs of log objects at once; and of those that a listing has shown to be there, as long as they are small.
const MAX_AHEAD: usize = 8;
const MAX_KNOWN_AHEAD: usize = 64;
/// Bytes of known objects under way: more are not asked for beyond [`MAX_AHEAD`].
const KNOWN_AHEAD_BYTES: u64 = 32 << 20;

/// A place in the walk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The next slot to look at.
    pub slot: u64,
    /// The highest epoch met so far.
    pub max_epoch: u32,
    /// Entries up to this sequence number are in SSTs already.
    pub after_seq: Seq,
    /// Who wrote what was met of the highest epoch.
    pub met: Option<Author>,
    /// Who has the newest epoch, as the version says.
    pub claimed: Option<Author>,
}

impl Cursor {
    /// Where replay of this version begins.
    pub fn start(root: &Root) -> Self {
        let (slot, after_seq) = (root.writer.replay_from, root.writer.last_seq);
        Self { slot, after_seq, ..Self::default() }.under(root)
    }

    /// The same place, for whoever knows the version `root` by now.
    pub(crate) fn under(self, root: &Root) -> Self {
        Self { claimed: Author::of_version(root), ..self }
    }

    /// Steps over `object`, which lies in `self.slot`. Gives whether it counts: not if it is void.
    ///
    /// Fails with `Corruption`, and stays, if it is of another history: its epoch is another writer's.
    pub fn pass(&mut self, object: &WalObject, wal_window: u32) -> Result<bool> {
        let by = Author::of(object);
        if by.epoch < self.max_epoch {
            self.slot += 1;
            return Ok(false);
        }
        let known = [self.claimed, self.met].into_iter().flatten();
        if let Some(why) = known.filter_map(|known| by.foreign(known)).next() {
            return Err(author::error(self.slot, why));
        }
        self.max_epoch = by.epoch;
        self.met = Some(by);
        self.slot += match object {
            WalObject::Data { .. } => 1,
            // What an old writer had in flight comes to lie among the new one's.
            WalObject::Fence { .. } if bug(Bug::NoJump) => 1,
            WalObject::Fence { .. } => wal_window as u64,
        };
        Ok(true)
    }
}

/// A walk over the log, a window of GETs ahead of itself. For readers, and inside [`Opening`].
#[derive(Debug)]
pub struct Walk {
    sequence: Sequence,
    db_uuid: u128,
    wal_window: u32,
    cause: Cause,
    cursor: Cursor,
    ahead: FuturesOrdered<BoxFuture<'static, Result<Option<WalObject>>>>,
    /// The slot that the first GET in `ahead` is for, if there is one.
    ahead_from: u64,
    width: usize,
    /// What the width grows to.
    most: usize,
    /// The slots that are asked for ahead of the walk, ascending; `None`: all.
    known: Option<Vec<u64>>,
}

impl Walk {
    /// A walk from `cursor`.
    pub fn new(manifest: &Manifest, cursor: Cursor, cause: Cause) -> Self {
        Self {
            sequence: Sequence::new(manifest.store().clone(), Folder::Wal),
            db_uuid: manifest.identity().db_uuid,
            wal_window: manifest.identity().wal_window,
            cause,
            cursor,
            ahead: FuturesOrdered::new(),
            ahead_from: cursor.slot,
            width: 1,
            most: MAX_AHEAD,
            known: None,
        }
    }

    /// The same, for whoever knows which slots are taken, and the bytes in all of them: nothing is asked for ahead of the walk
    /// but those, ascending.
    pub(crate) fn over(
        manifest: &Manifest,
        cursor: Cursor,
        known: Vec<u64>,
        bytes: u64,
        cause: Cause,
    ) -> Self {
        let each = (bytes / known.len().max(1) as u64).max(1);
        let most = usize::try_from(KNOWN_AHEAD_BYTES / each).unwrap_or(MAX_KNOWN_AHEAD);
        let most = most.clamp(MAX_AHEAD, MAX_KNOWN_AHEAD);
        Self { known: Some(known), width: most, most, ..Self::new(manifest, cursor, cause) }
    }

    /// From here on anything may be there.
    fn beyond(self) -> Self {
        let ahead_from = self.cursor.slot;
        Self { known: None, ahead: FuturesOrdered::new(), ahead_from, width: 1, most: MAX_AHEAD, ..self }
    }

    /// The next DATA object that counts, less the entries that are in SSTs; `None` at the first absent slot.
    ///
    /// Asking again after `None` looks at the absent slot again: that is how a reader follows, one GET a
    /// time while nothing is new. An absent slot can also have been collected: a reader asks the manifest
    /// for a moved replay point before it trusts one.
    pub async fn next(&mut self) -> Result<Option<WalObject>> {
        self.next_up_to(u64::MAX).await
    }

    /// The same; `None` also behind the slot `last`, without a look at what comes there.
    pub(crate) async fn next_up_to(&mut self, last: u64) -> Result<Option<WalObject>> {
        loop {
            let slot = self.cursor.slot;
            if slot > last {
                return Ok(None);
            }
            let Some(object) = self.fetch(slot).await? else { return Ok(None) };
            if !self.cursor.pass(&object, self.wal_window)? {
                continue;
            }
            if let WalObject::Data { header, mut entries, last_seq } = object {
                if header.first_seq <= self.cursor.after_seq {
                    entries.retain(|entry| entry.seq > self.cursor.after_seq);
                }
                return Ok(Some(WalObject::Data { header, entries, last_seq }));
            }
        }
    }

    /// Where the walk is: at the tail, after [`Self::next`] gave `None`.
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// The object in `slot`, with GETs of the slots behind it under way: one more after each success,
    /// none after an absence, so that an idle tail costs one request.
    async fn fetch(&mut self, slot: u64) -> Result<Option<WalObject>> {
        if self.ahead_from != slot {
            // A jump: what was asked for lies between a fence and its epoch, and is nobody's.
            self.ahead = FuturesOrdered::new();
            self.ahead_from = slot;
        }
        while self.ahead.len() < self.width {
            let (sequence, db_uuid, cause) = (self.sequence.clone(), self.db_uuid, self.cause);
            let next = slot + self.ahead.len() as u64;
            let is_taken = |known: &Vec<u64>| known.binary_search(&next).is_ok();
            if next > slot && !self.known.as_ref().is_none_or(is_taken) {
                break;
            }
            self.ahead.push_back(async move { read(&sequence, db_uuid, next, cause).await }.boxed());
        }
        match self.ahead.next().await {
            Some(Ok(Some(object))) => {
                self.ahead_from += 1;
                self.width = (self.width * 2).min(self.most);
                Ok(Some(object))
            }
            absent_or_failed => {
                self.ahead = FuturesOrdered::new();
                self.width = 1;
                absent_or_failed.unwrap_or(Ok(None))
            }
        }
    }
}

/// The log, taken over.
#[derive(Debug, Clone)]
pub struct Opened {
    /// The version that says that the fence is in place: the epoch is ours in it.
    pub view: Arc<View>,
    /// t: the slot of our fence. Once everything replayed is in SSTs the replay point may be `next_slot`.
    pub fence_slot: u64,
    /// t+K: the slot of our first object.
    pub next_slot: u64,
    /// The last sequence number in SSTs or in the log.
    pub last_seq: Seq,
    /// DATA objects replayed.
    pub objects: u64,
}

/// One replayed DATA object.
#[derive(Debug, Clone)]
pub struct ReplayedObject {
    /// Its slot.
    pub slot: u64,
    /// Its entries that are not in SSTs, in the order they were written.
    pub entries: Vec<Entry>,
    /// The last sequence number in it.
    pub last_seq: Seq,
}

impl ReplayedObject {
    /// What there is to replay of `object`; `None` of a FENCE.
    pub(super) fn of(object: WalObject) -> Option<Self> {
        match object {
            WalObject::Data { header, entries, last_seq } => {
                Some(Self { slot: header.slot, entries, last_seq })
            }
            WalObject::Fence { .. } => None,
        }
    }
}

/// A writer taking the log over. Call [`Self::next`] until it gives `None`, then [`Self::finish`].
///
/// ```
/// # async fn open(manifest: &esker::manifest::Manifest, claimed: std::sync::Arc<esker::manifest::View>) -> esker::Result<usize> {
/// use esker::wal::Opening;
///
/// let uuid = manifest.store().clock().random();
/// let mut opening = Opening::begin(manifest, claimed, uuid, "host:1");
/// let mut entries = 0;
/// while let Some(object) = opening.next().await? {
///     entries += object.entries.len(); // a writer inserts them into a memtable
/// }
/// let opened = opening.finish().await?;
/// assert_eq!(opened.next_slot, opened.fence_slot + manifest.identity().wal_window as u64);
/// # Ok(entries) }
/// ```
#[derive(Debug)]
pub struct Opening {
    manifest: Manifest,
    claimed: Arc<View>,
    walk: Walk,
    fencer: Fencer,
    fence_slot: Option<u64>,
    /// The absent slot that was looked behind before the role was claimed.
    looked_behind: Option<u64>,
    last_seq: Seq,
    objects: u64,
}

impl Opening {
    /// Begins to take the log over. `claimed` is the version in which `writer_uuid` claimed the writer role;
    /// `name` goes into the fence, for the sentence a fenced writer prints.
    pub fn begin(manifest: &Manifest, claimed: Arc<View>, writer_uuid: u128, name: &str) -> Self {
        let cursor = Cursor::start(&claimed.root);
        let epoch = claimed.root.writer.epoch;
        Self {
            manifest: manifest.clone(),
            walk: Walk::new(manifest, cursor, Cause::Open),
            fencer: Fencer::new(manifest, writer_uuid, epoch, name, Cause::Open),
            fence_slot: None,
            looked_behind: None,
            last_seq: cursor.after_seq,
            objects: 0,
            claimed,
        }
    }

    /// Goes on behind what was replayed before the role was claimed: `objects` up to `last_seq`, on a version that says
    /// the same of the log, and looked behind where `walk` has ended.
    pub(super) fn after(self, walk: Walk, last_seq: Seq, objects: u64) -> Self {
        Self { looked_behind: Some(walk.cursor.slot), walk: walk.beyond(), last_seq, objects, ..self }
    }

    /// The next DATA object to replay; `None` once the fence is in place.
    ///
    /// Fails with `Fenced`, naming the holder, if a newer writer is met; with `Corruption`, naming the slot,
    /// if an object is missing that must be there. What was replayed is then to be thrown away.
    pub async fn next(&mut self) -> Result<Option<ReplayedObject>> {
        while self.fence_slot.is_none() {
            // What was absent behind the end of a listing not long ago is not asked for: the fence will find out.
            let object = match self.looked_behind {
                Some(slot) if slot == self.walk.cursor.slot => None,
                _ => self.walk.next().await?,
            };
            if self.walk.cursor.max_epoch > self.epoch() {
                return Err(self.superseded(self.walk.cursor.max_epoch).await);
            }
            if let Some(object) = object.and_then(ReplayedObject::of) {
                self.last_seq = self.last_seq.max(object.last_seq);
                self.objects += 1;
                return Ok(Some(object));
            }
            self.fence(self.walk.cursor.slot).await?;
        }
        Ok(None)
    }

    /// Commits, with the fence in place, that it is there: which proves that the epoch is still ours, costs no more
    /// than asking, and is what a later loss of the log is told by.
    pub async fn finish(mut self) -> Result<Opened> {
        while self.next().await?.is_some() {}
        let fence_slot = self.walk.cursor.slot;
        // slatedb #271: two that opened at once both wrote.
        let view = if bug(Bug::FenceNotValidated) {
            self.manifest.latest(Cause::Open).await?
        } else {
            self.commit_fence(fence_slot).await?
        };
        // A commit whose outcome was found in a later version may have been followed by another's claim.
        if !bug(Bug::FenceNotValidated) {
            edit::check_writer_epoch(&view.root, self.epoch())?;
        }
        if view.root.writer.replay_from > fence_slot {
            // Only this epoch can have moved it, and it has not begun to write.
            let what =
                format!("the replay point {} is past the tail {fence_slot}", view.root.writer.replay_from);
            return Err(Error::corruption(Name::Manifest(view.id()).path(), 0, what));
        }
        let jump = if bug(Bug::NoJump) { 1 } else { self.walk.wal_window as u64 };
        let next_slot = fence_slot + jump;
        Ok(Opened { view, fence_slot, next_slot, last_seq: self.last_seq, objects: self.objects })
    }

    async fn commit_fence(&mut self, slot: u64) -> Result<Arc<View>> {
        let edit = Edit::Fence { epoch: self.epoch(), slot };
        match self.manifest.commit(&self.claimed, &edit, Cause::Open).await {
            // Replay takes its time: since the claim others may have committed more than a version remembers.
            Err(error) if error.kind() == ErrorKind::OutcomeUnknown => {
                let latest = self.manifest.latest(Cause::Open).await?;
                edit::check_writer_epoch(&latest.root, self.epoch())?;
                if latest.root.writer.fence_epoch == self.epoch() {
                    return Ok(latest);
                }
                self.manifest.commit(&latest, &edit, Cause::Open).await
            }
            done => done,
        }
    }

    fn epoch(&self) -> u32 {
        self.claimed.root.writer.epoch
    }

    /// Tries to put the fence into `slot`, which was absent; an older writer may be quicker, and then the
    /// walk goes on over what it wrote.
    async fn fence(&mut self, slot: u64) -> Result<()> {
        // slatedb #271: the older of two writers could go on.
        if bug(Bug::NoFence) {
            self.fence_slot = Some(slot);
            return Ok(());
        }
        // Replay ends early.
        let blind = bug(Bug::HoleIsTheEnd);
        let (claimed, manifest) = (Arc::clone(&self.claimed), self.manifest.clone());
        let root = &claimed.root;
        // While an older writer fills the slots there is no hole before them, and a look would only let it get
        // further ahead: then the look comes after the fence.
        let is_contended = self.fencer.is_contended();
        let lost = match is_contended {
            _ if blind || self.looked_behind == Some(slot) => None,
            true => loss::before_tail(root, slot),
            false => loss::look(&manifest, root, root.writer.replay_from, slot, Cause::Open).await?,
        };
        if let Some(lost) = lost {
            return Err(self.missing(lost).await);
        }
        if !self.fencer.put(slot).await? {
            self.looked_behind = None;
            return Ok(());
        }
        self.fence_slot = Some(slot);
        if is_contended && let Some(lost) = loss::behind(&manifest, root, slot, Cause::Open).await? {
            return Err(self.missing(lost).await);
        }
        Ok(())
    }

    /// An object of a newer epoch was met: the manifest says whose.
    async fn superseded(&mut self, epoch: u32) -> Error {
        match self.manifest.latest(Cause::Open).await.and_then(|view| {
            edit::check_writer_epoch(&view.root, self.epoch())?;
            Ok(view.id())
        }) {
            Err(error) => error,
            Ok(id) => Error::corruption(
                Name::Wal(self.walk.cursor.slot).path(),
                0,
                format!(
                    "the log holds an object of epoch {epoch}, which no version up to {id} has given out"
                ),
            ),
        }
    }

    /// A slot that must exist is absent: collected under a newer writer, or lost.
    async fn missing(&mut self, lost: Lost) -> Error {
        match self.manifest.latest(Cause::Open).await {
            Err(error) => error,
            Ok(view) => match edit::check_writer_epoch(&view.root, self.epoch()) {
                Err(fenced) => fenced,
                Ok(()) => lost.error(),
            },
        }
    }
}
