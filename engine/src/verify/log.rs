//! The log: every object, and the walk from the replay point, which goes on behind a hole.
//!
//! ```text
//! slot   7     8     9      10    11        12
//!        DATA  DATA  (none) DATA  (none)
//!                    hole                   the tail: nothing says that slot 11 ever was durable
//! ```
//!
//! An absent slot is the end of the log, unless something says that it was durable: the manifest's tail hint, an
//! object K slots on, one that was sent after it was acknowledged (`durable_to`), or the FENCE of an opener that had
//! walked over it (`wal/loss.rs`). Then it is a hole, and the walk goes on behind it to see what is left. The FENCE that
//! the version knows of is one, too, if it is not there.
//!
//! If what was lost is a FENCE, the slots behind it hold strays that never counted. They are told from the rest
//! of the log by what they cannot know: no stray says that the fence's slot was durable, and the numbers it
//! carries were given again by the epoch that came after.
//!
//! An object whose epoch is another writer's (`wal/author.rs`) is of another copy of the database, and damage: whatever
//! was in its slot is lost. The version says who had its epoch, and of older ones their FENCE.
//!
//! Always true: pure but for [`Log::read`]; no more than a few objects of the log are held at a time.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt as _, TryStreamExt as _, stream};

use crate::{
    clock::on_cpu,
    error::Result,
    key::{Entry, Seq, split_full_key},
    manifest::{Identity, Root},
    stats::Cause,
    store::{Folder, Listed, Name, Store},
    verify::{Finding, Report},
    wal::{
        Author, WalObject,
        loss::{self, Says},
        record::MAX_FENCE_BYTES,
    },
};

/// How many objects of the log are read at a time.
const PARALLEL: usize = 4;

/// What lies in a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Slot {
    /// Entries.
    Data {
        /// The writer's epoch.
        epoch: u32,
        /// The first number.
        first_seq: Seq,
        /// The last number.
        last_seq: Seq,
        /// Every slot of the walk up to this one was durable when it was sent.
        durable_to: u64,
    },
    /// The end of every older epoch.
    Fence {
        /// The writer's epoch.
        epoch: u32,
    },
    /// It cannot be read, or is of another copy of the database.
    Damaged(Finding),
    /// It was not looked at; too large for a FENCE.
    Unread,
}

impl Slot {
    /// What it says of the slots before it.
    fn says(&self) -> Says {
        match self {
            Self::Data { epoch, durable_to, .. } => Says::Data { epoch: *epoch, durable_to: *durable_to },
            Self::Fence { epoch } => Says::Fence { epoch: *epoch },
            Self::Damaged(_) | Self::Unread => Says::Nothing,
        }
    }
}

/// A slot whose object was durable and is lost, and the numbers that went with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogHole {
    /// The slot.
    pub slot: u64,
    /// The first number that may have been in it.
    pub from_seq: Seq,
    /// The last number that may have been in it; `None` if nothing behind it says.
    pub to_seq: Option<Seq>,
    /// What was found.
    pub finding: Finding,
}

/// The log, as far as it could be read.
#[derive(Debug, Default)]
pub struct Log {
    /// What lies in each slot that is taken.
    pub slots: BTreeMap<u64, Slot>,
    /// The keyspaces of its entries that the version has not given out, if there are any.
    unnamed: BTreeMap<u64, BTreeSet<u32>>,
    wal_window: u64,
    /// A FENCE of an older epoch proves nothing.
    fence_epoch: u32,
}

/// A walk over a log with holes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Walked {
    /// The DATA objects that count, in order.
    pub data: Vec<u64>,
    /// What is lost between them.
    pub holes: Vec<LogHole>,
    /// Slots whose object never counted.
    pub void: Vec<u64>,
    /// The first slot that is free for certain: never one up to the tail hint.
    pub tail: u64,
    /// The last number there is.
    pub last_seq: Seq,
    /// What is wrong with the order of what counts.
    pub wrong: Vec<Finding>,
}

impl Log {
    /// Reads the log; `quick`: only what may be a FENCE.
    pub async fn read(store: &Store, identity: &Identity, root: &Root, quick: bool) -> Result<Self> {
        let listed = store.list(Folder::Wal, None, Cause::Admin).await?;
        let reads = listed.into_iter().map(|object| read(store, identity, object, root, quick));
        let found = stream::iter(reads).buffered(PARALLEL).try_collect::<Vec<_>>().await?;
        let mut found: Vec<Found> = found.into_iter().flatten().collect();
        let unnamed = found.iter_mut().map(|one| (one.slot, std::mem::take(&mut one.unnamed)));
        Ok(Self {
            unnamed: unnamed.filter(|(_, keyspaces)| !keyspaces.is_empty()).collect(),
            slots: of_one_history(found, root),
            wal_window: u64::from(identity.wal_window),
            fence_epoch: root.writer.fence_epoch,
        })
    }

    /// A log of these slots.
    pub fn of(slots: impl IntoIterator<Item = (u64, Slot)>, wal_window: u32) -> Self {
        Self {
            slots: slots.into_iter().collect(),
            unnamed: BTreeMap::new(),
            wal_window: u64::from(wal_window),
            fence_epoch: 0,
        }
    }

    /// Walks the log from the replay point of `root`.
    pub fn walk(&self, root: &Root) -> Walked {
        let mut walk = self.walk_from(root.writer.replay_from, root.writer.last_seq, root.writer.tail_hint);
        if let Some(finding) = self.lost_fence(root) {
            let (slot, from_seq) = (root.writer.fence_slot, walk.last_seq + 1);
            walk.holes.insert(0, LogHole { slot, from_seq, to_seq: None, finding });
        }
        walk
    }

    /// The FENCE that `root` knows of, if the walk does not come by it and it is not there.
    fn lost_fence(&self, root: &Root) -> Option<Finding> {
        let slot = loss::fence_behind(root, root.writer.replay_from)?;
        let lost = loss::lost_fence(root, self.slots.get(&slot).map(Slot::says))?;
        Some(Finding::damage(Name::Wal(slot), format!("the log has lost an object: {}", lost.why)))
    }

    /// Walks the log from `slot`. Numbers up to `after_seq` are in SSTs; slots up to `tail_hint` were durable.
    pub fn walk_from(&self, slot: u64, after_seq: Seq, tail_hint: u64) -> Walked {
        let mut walk = Walked { tail: slot, last_seq: after_seq, ..Walked::default() };
        let mut max_epoch = 0;
        // The slots behind a lost object that strays may lie in, if it was a FENCE.
        let mut doubtful = 0..0;
        while let Some(next) = self.next(&walk, doubtful.end, max_epoch, tail_hint) {
            let at = walk.tail;
            walk.tail += 1;
            match next {
                Next::Data { epoch, first_seq, last_seq } => {
                    let is_stray =
                        doubtful.contains(&at) && !self.counts(at, doubtful.start, epoch, last_seq);
                    if epoch < max_epoch || is_stray {
                        walk.void.push(at);
                        continue;
                    }
                    max_epoch = epoch;
                    if first_seq <= walk.last_seq && last_seq > after_seq && !walk.data.is_empty() {
                        let what = format!("number {first_seq} follows number {}", walk.last_seq);
                        walk.wrong.push(Finding::damage(Name::Wal(at), what));
                    }
                    walk.end_holes(first_seq.saturating_sub(1));
                    walk.last_seq = walk.last_seq.max(last_seq);
                    walk.data.push(at);
                }
                Next::Fence { epoch } if epoch < max_epoch => walk.void.push(at),
                Next::Fence { epoch } => {
                    max_epoch = epoch;
                    walk.tail = at + self.wal_window;
                }
                Next::Lost(finding) => {
                    let from_seq = walk.last_seq + 1;
                    walk.holes.push(LogHole { slot: at, from_seq, to_seq: None, finding });
                    if !doubtful.contains(&at) {
                        doubtful = at..at + self.wal_window;
                    }
                }
                Next::Skip => {}
                Next::Unread => walk.data.push(at),
            }
        }
        walk
    }

    /// The first and last numbers of these DATA objects.
    pub fn numbers(&self, slots: &[u64]) -> Vec<(Seq, Seq)> {
        let of = |slot: &u64| match self.slots.get(slot) {
            Some(Slot::Data { first_seq, last_seq, .. }) => Some((*first_seq, *last_seq)),
            _ => None,
        };
        slots.iter().filter_map(of).collect()
    }

    /// The keyspaces that entries of the log are in, behind the replay point of the `root` it was read with, and that
    /// `root` has not given out. A quick look knows of none.
    pub(crate) fn unnamed_keyspaces(&self, root: &Root) -> BTreeSet<u32> {
        let data = self.walk(root).data;
        data.iter().filter_map(|slot| self.unnamed.get(slot)).flatten().copied().collect()
    }

    /// Files what is wrong with the log of the newest version.
    pub(super) fn report(&self, root: &Root, report: &mut Report) {
        report.wal_objects = self.slots.len() as u64;
        let walk = self.walk(root);
        let holes: Vec<u64> = walk.holes.iter().map(|hole| hole.slot).collect();
        for (slot, of) in &self.slots {
            if let Slot::Damaged(finding) = of
                && !holes.contains(slot)
            {
                let what = format!("{} (nothing replays it any more)", finding.what);
                report.add(Finding::notice(finding.object.clone(), what));
            }
        }
        for hole in walk.holes {
            let what = format!("{}; {}", hole.finding.what, hole.numbers());
            report.add(Finding { what, ..hole.finding });
        }
        walk.wrong.into_iter().for_each(|finding| report.add(finding));
    }

    /// What the walk meets next; `None` at its end.
    fn next(&self, walk: &Walked, doubtful_end: u64, max_epoch: u32, tail_hint: u64) -> Option<Next> {
        let slot = walk.tail;
        Some(match self.slots.get(&slot) {
            Some(Slot::Data { epoch, first_seq, last_seq, .. }) => {
                Next::Data { epoch: *epoch, first_seq: *first_seq, last_seq: *last_seq }
            }
            Some(Slot::Fence { epoch }) => Next::Fence { epoch: *epoch },
            Some(Slot::Unread) => Next::Unread,
            Some(Slot::Damaged(finding)) => Next::Lost(finding.clone()),
            None => {
                let is_behind_hole = slot < doubtful_end;
                let mut behind = self.slots.range(slot + 1..).map(|(at, of)| (*at, of.says()));
                let is_last = behind.clone().next().is_none();
                let proof = if is_behind_hole {
                    // Behind a lost object, which may have been a FENCE, only its own epoch can say.
                    let knows = |says: Says| {
                        matches!(says, Says::Data { epoch, .. } if epoch == max_epoch)
                            && says.that_durable(slot, self.fence_epoch)
                    };
                    let by = behind.find(|(_, says)| knows(*says));
                    by.map(|(at, _)| format!("{} says that it was durable", Name::Wal(at)))
                } else {
                    let proof = |found| loss::proof(slot, found, self.wal_window, self.fence_epoch);
                    loss::tail_proof(slot, tail_hint).or_else(|| behind.find_map(proof))
                };
                if is_last && slot <= tail_hint && !walk.holes.is_empty() {
                    // The rest is lost, as the hole before it says; none of these slots is used again.
                    Next::Skip
                } else if let Some(why) = proof {
                    let what = format!("the log has lost an object: {why}");
                    Next::Lost(Finding::damage(Name::Wal(slot), what))
                } else if is_behind_hole && (!is_last || slot <= tail_hint) {
                    Next::Skip
                } else {
                    return None;
                }
            }
        })
    }

    /// Whether DATA in `slot`, behind a lost object in `lost`, was part of the log and is no stray.
    fn counts(&self, slot: u64, lost: u64, epoch: u32, last_seq: Seq) -> bool {
        let knows = |of: &Slot| match of {
            Slot::Data { epoch: of_epoch, durable_to, .. } => *of_epoch == epoch && *durable_to >= lost,
            Slot::Fence { .. } | Slot::Damaged(_) | Slot::Unread => false,
        };
        let given_again = |of: &Slot| match of {
            Slot::Data { epoch: of_epoch, first_seq, .. } => *of_epoch > epoch && *first_seq <= last_seq,
            Slot::Fence { .. } | Slot::Damaged(_) | Slot::Unread => false,
        };
        let newer = |of: &Slot| match of {
            Slot::Data { epoch: of_epoch, .. } | Slot::Fence { epoch: of_epoch } => *of_epoch > epoch,
            Slot::Damaged(_) | Slot::Unread => false,
        };
        if self.slots.get(&slot).is_some_and(knows) {
            return true;
        }
        let mut behind = self.slots.range(slot + 1..).map(|(_, of)| of);
        if behind.clone().any(given_again) {
            return false;
        }
        behind.clone().any(knows) || !behind.any(newer)
    }
}

enum Next {
    Data {
        epoch: u32,
        first_seq: Seq,
        last_seq: Seq,
    },
    Fence {
        epoch: u32,
    },
    Lost(Finding),
    /// Nothing is there, and nothing says that anything was.
    Skip,
    Unread,
}

impl Walked {
    fn end_holes(&mut self, to_seq: Seq) {
        for hole in self.holes.iter_mut().filter(|hole| hole.to_seq.is_none()) {
            hole.to_seq = Some(to_seq);
        }
    }
}

impl LogHole {
    /// Which numbers were lost, as a sentence.
    pub fn numbers(&self) -> String {
        match self.to_seq {
            Some(to) if to < self.from_seq => "no number is missing, it may have been a fence".to_owned(),
            Some(to) if to == self.from_seq => format!("number {to} is lost"),
            Some(to) => format!("numbers {} to {to} are lost", self.from_seq),
            None => format!("numbers from {} on may be lost", self.from_seq),
        }
    }
}

async fn read(
    store: &Store,
    identity: &Identity,
    object: Listed,
    root: &Root,
    quick: bool,
) -> Result<Option<Found>> {
    let Some(slot) = object.name.number() else { return Ok(None) };
    if quick && (object.bytes > MAX_FENCE_BYTES || slot < root.writer.replay_from) {
        return Ok(Some(Found::new(slot, Slot::Unread)));
    }
    let given_out = root.next_keyspace;
    let mut damage = None;
    // Once more if it is damaged: what was wrong on the way is right now.
    for _ in 0..2 {
        // Collected since it was listed.
        let Some(bytes) = store.get(&object.name, Cause::Admin).await? else { return Ok(None) };
        let db_uuid = identity.db_uuid;
        let found = on_cpu(move || Found::of(slot, WalObject::decode(slot, db_uuid, bytes)?, given_out));
        match found.await? {
            Ok(found) => return Ok(Some(found)),
            Err(error) => damage = Some(Finding::of(&object.name, error)?),
        }
    }
    Ok(damage.map(|finding| Found::new(slot, Slot::Damaged(finding))))
}

/// What was found in a slot.
struct Found {
    slot: u64,
    of: Slot,
    /// Who wrote it, if that can be read.
    by: Option<Author>,
    /// The keyspaces of its entries that had not been given out.
    unnamed: BTreeSet<u32>,
}

impl Found {
    fn new(slot: u64, of: Slot) -> Self {
        Self { slot, of, by: None, unnamed: BTreeSet::new() }
    }

    /// `object`, where keyspaces from `given_out` on have not been given out.
    fn of(slot: u64, object: WalObject, given_out: u32) -> Result<Self> {
        let by = Some(Author::of(&object));
        Ok(match object {
            WalObject::Fence { header, .. } => {
                Self { by, ..Self::new(slot, Slot::Fence { epoch: header.epoch }) }
            }
            WalObject::Data { header, last_seq, entries, .. } => {
                let of = Slot::Data {
                    epoch: header.epoch,
                    first_seq: header.first_seq,
                    last_seq,
                    durable_to: header.durable_to,
                };
                let keyspace = |entry: &Entry| split_full_key(&entry.key).map(|(id, _)| id.0);
                let unnamed = entries.iter().filter_map(keyspace).filter(|id| *id >= given_out).collect();
                Self { slot, of, by, unnamed }
            }
        })
    }
}

/// The slots of the log of `root`; what another writer wrote than the one that had the epoch is damage.
fn of_one_history(found: Vec<Found>, root: &Root) -> BTreeMap<u64, Slot> {
    let of_fences = found.iter().filter(|one| matches!(one.of, Slot::Fence { .. })).filter_map(|one| one.by);
    let mut authors = BTreeMap::new();
    for by in Author::of_version(root).into_iter().chain(of_fences) {
        authors.entry(by.epoch).or_insert(by);
    }
    let judge = |one: Found| {
        let foreign = one.by.and_then(|by| by.foreign(*authors.entry(by.epoch).or_insert(by)));
        let of = match foreign {
            Some(why) => Slot::Damaged(Finding::damage(Name::Wal(one.slot), why)),
            None => one.of,
        };
        (one.slot, of)
    };
    found.into_iter().map(judge).collect()
}
