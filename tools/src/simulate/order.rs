//! The one order of writes that a history implies: which writes are in it, and where.
//!
//! ```text
//! epoch 1   base 0   1 2 3 4 5 6 7          accepted; 7 never landed
//! epoch 2   base 6               7 8 9      took over up to 6, and gave 7 again
//! epoch 4   base 9                     10 …
//! order              1 2 3 4 5 6 7 8 9 10 …
//! ```
//!
//! A writer gives numbers without a hole, each change one, and the next writer goes on after the last
//! number that had become durable: its *base*. So the bases decide what became of every write that was
//! accepted and not acknowledged, and "a prefix survives, without a hole" is not a search but arithmetic.
//!
//! Always true: what was acknowledged is in the order, what failed as fenced is not, or [`Order::of`] says
//! which rule was broken; of two writes in the order, the one with the higher number is the later.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    failure::Failure,
    history::{Handle, HandleId, HandleKind, History, Key, OpId, Outcome, Stamp, What},
};

/// Rules that the writes and points of a history must keep.
pub(crate) mod rules {
    pub(crate) const ACKNOWLEDGED: &str = "a write that was acknowledged is never lost";
    pub(crate) const REFUSED: &str = "a write that failed as fenced is never applied";
    pub(crate) const BATCH: &str = "a batch survives whole or not at all";
    pub(crate) const NUMBERS: &str = "a writer numbers its writes in order, without a hole, from its base";
    pub(crate) const BASES: &str = "a later writer takes over everything that an earlier one had taken over";
    pub(crate) const SEEN: &str = "what a reader has seen survives a takeover";
    pub(crate) const EPOCHS: &str = "no two writers have the same epoch";
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is none, or was never accepted.
    None,
    /// It is in the order.
    Durable,
    /// It is in the order if it landed before the end; nothing that was recorded says so.
    Open,
    /// It is not in the order; only its own writer may have shown it.
    Lost,
}

/// A change that its writer made visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version {
    /// Its number.
    pub(crate) seq: u64,
    /// The last number of its batch: where it becomes visible.
    pub(crate) end: u64,
    /// Its writer.
    pub(crate) epoch: u32,
    /// Which change it is.
    pub(crate) stamp: Stamp,
    /// What it does.
    pub(crate) what: What,
}

/// Whose eyes: a writer sees its own writes when they are accepted, a reader when they are durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Eyes {
    /// Of the writer with this epoch.
    Writer(u32),
    /// Of any reader.
    Reader,
}

/// The versions of one key.
#[derive(Debug, Default)]
struct Versions {
    /// In the order, or open.
    kept: Vec<Version>,
    /// Lost, by their epochs.
    lost: BTreeMap<u32, Vec<Version>>,
}

/// An epoch that somebody wrote in, or could have.
#[derive(Debug, Clone, Copy)]
struct Epoch {
    handle: HandleId,
    base: u64,
    /// The least base of a later epoch: what is above it is lost.
    cut: u64,
}

/// The order of writes.
#[derive(Debug)]
pub(crate) struct Order {
    fates: Vec<Fate>,
    keys: BTreeMap<Key, Versions>,
    epochs: BTreeMap<u32, Epoch>,
    /// Where batches of the order end; 0 as well.
    ends: BTreeSet<u64>,
    /// The same of batches that were lost.
    lost_ends: BTreeSet<(u32, u64)>,
}

impl Order {
    /// The order that `history` implies. Fails if there is none.
    pub(crate) fn of(history: &History) -> Result<Self, Failure> {
        let epochs = epochs(history)?;
        check_points(history, &epochs)?;
        let mut order = Self {
            fates: vec![Fate::None; history.operations.len()],
            keys: BTreeMap::new(),
            ends: BTreeSet::from([0]),
            lost_ends: BTreeSet::new(),
            epochs,
        };
        let known = order.durable_up_to(history);
        let mut by_epoch: BTreeMap<u32, Vec<OpId>> = BTreeMap::new();
        for (op, operation) in history.operations.iter().enumerate() {
            if let (Some(token), false) = (operation.token(), operation.changes().is_empty()) {
                by_epoch.entry(token.epoch).or_default().push(op);
            }
        }
        for (epoch, ops) in by_epoch {
            let Some(of) = order.epochs.get(&epoch).copied() else {
                let detail = format!("{} has a token of epoch {epoch}, which no handle has", Named(ops[0]));
                return Err(Failure::new(rules::NUMBERS, detail).by(ops));
            };
            order.settle(history, epoch, of, ops, known)?;
        }
        for versions in order.keys.values_mut() {
            versions.kept.sort_unstable_by_key(|version| version.seq);
        }
        Ok(order)
    }

    /// What became of a write.
    pub(crate) fn fate(&self, op: OpId) -> Fate {
        self.fates.get(op).copied().unwrap_or(Fate::None)
    }

    /// Every key that was ever written.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.keys.keys()
    }

    /// The last change of `key` that `eyes` see at `point`.
    pub(crate) fn at(&self, eyes: Eyes, key: &Key, point: u64) -> Option<&Version> {
        let (kept, lost) = self.seen(eyes, key);
        let last = |of: &'_ [Version]| of.partition_point(|version| version.end <= point).checked_sub(1);
        last(lost).map(|at| &lost[at]).or_else(|| last(kept).map(|at| &kept[at]))
    }

    /// The first change of `key` after `point` that `eyes` can come to see and `wanted` wants.
    pub(crate) fn next(
        &self,
        eyes: Eyes,
        key: &Key,
        point: u64,
        wanted: impl Fn(&Version) -> bool,
    ) -> Option<&Version> {
        let (kept, lost) = self.seen(eyes, key);
        let mut all = kept.iter().chain(lost);
        all.find(|version| version.end > point && wanted(version))
    }

    /// The version that `stamp` made, if `eyes` can ever see it.
    pub(crate) fn version(&self, eyes: Eyes, key: &Key, stamp: Stamp) -> Option<&Version> {
        let (kept, lost) = self.seen(eyes, key);
        kept.iter().chain(lost).find(|version| version.stamp == stamp)
    }

    /// Whether `eyes` can be at `point`: nothing is half seen there.
    pub(crate) fn is_whole(&self, eyes: Eyes, point: u64) -> bool {
        match eyes {
            Eyes::Reader => self.ends.contains(&point),
            Eyes::Writer(epoch) => {
                point <= self.cut(epoch) && self.ends.contains(&point)
                    || self.lost_ends.contains(&(epoch, point))
            }
        }
    }

    /// The last number that the writer of `epoch` made durable, or took over; unknown while it is the last writer.
    pub(crate) fn cut(&self, epoch: u32) -> u64 {
        self.epochs.get(&epoch).map_or(u64::MAX, |of| of.cut)
    }

    /// The changes of `key` that `eyes` can see, in and out of the order.
    fn seen(&self, eyes: Eyes, key: &Key) -> (&[Version], &[Version]) {
        let Some(versions) = self.keys.get(key) else { return (&[], &[]) };
        match eyes {
            Eyes::Reader => (&versions.kept, &[]),
            Eyes::Writer(epoch) => {
                let cut = self.cut(epoch);
                let kept = versions.kept.partition_point(|version| version.seq <= cut);
                (&versions.kept[..kept], versions.lost.get(&epoch).map_or(&[], Vec::as_slice))
            }
        }
    }

    /// The highest number that something recorded proves durable.
    fn durable_up_to(&self, history: &History) -> u64 {
        let acknowledged = history
            .operations
            .iter()
            .filter(|operation| operation.acknowledged().is_some())
            .filter_map(|operation| operation.token());
        let seen = points(history).map(|(_, _, point)| point);
        let taken_over = self.epochs.values().map(|of| of.base);
        acknowledged.map(|token| token.seq).chain(seen).chain(taken_over).max().unwrap_or(0)
    }

    /// Decides the writes of one epoch.
    fn settle(
        &mut self,
        history: &History,
        epoch: u32,
        of: Epoch,
        mut ops: Vec<OpId>,
        known: u64,
    ) -> Result<(), Failure> {
        let operation = |op: OpId| &history.operations[op];
        let last_of = |op: OpId| operation(op).token().map_or(0, |token| token.seq);
        ops.sort_unstable_by_key(|op| last_of(*op));
        let mut next = of.base + 1;
        let mut latest: Option<OpId> = None;
        // A log that came to an end takes nothing more.
        let mut ended = None;
        for op in ops {
            let (first, last) = (operation(op).first_seq().unwrap_or(0), last_of(op));
            let handle = operation(op).handle;
            if handle != of.handle || first != next {
                let detail = format!(
                    "{} of epoch {epoch} has the numbers {first} to {last}, and {next} was due",
                    Named(op)
                );
                return Err(Failure::new(rules::NUMBERS, detail).by(latest.into_iter().chain([op])));
            }
            next = last + 1;
            if let Some(before) = latest
                && operation(op).returned < Some(operation(before).invoked)
            {
                let detail = format!(
                    "{} was accepted before {} was called, and has the higher number {last}",
                    Named(op),
                    Named(before)
                );
                return Err(Failure::new(rules::NUMBERS, detail).by([op, before]));
            }
            if latest.is_none_or(|before| operation(before).invoked < operation(op).invoked) {
                latest = Some(op);
            }
            let is_acknowledged = operation(op).acknowledged().is_some();
            if first <= of.cut && of.cut < last {
                let detail = format!(
                    "{} has the numbers {first} to {last}, and the next writer began after {}",
                    Named(op),
                    of.cut
                );
                return Err(failure(history, rules::BATCH, detail, op));
            }
            if is_acknowledged && (last > of.cut || ended.is_some()) {
                let detail = match ended {
                    Some(refused) => {
                        format!(
                            "{} ({first} to {last}) was acknowledged after {} was refused",
                            Named(op),
                            Named(refused)
                        )
                    }
                    None => format!(
                        "{} ({first} to {last}) was acknowledged, and a later writer took over only what is up to {}",
                        Named(op),
                        of.cut
                    ),
                };
                return Err(failure(history, rules::ACKNOWLEDGED, detail, op));
            }
            if operation(op).refused() {
                if last <= of.cut.min(known) {
                    let detail = format!(
                        "{} ({first} to {last}) failed as fenced, and everything up to {} is durable",
                        Named(op),
                        of.cut.min(known)
                    );
                    return Err(failure(history, rules::REFUSED, detail, op));
                }
                ended.get_or_insert(op);
            }
            self.fates[op] = match () {
                () if last > of.cut || ended.is_some() => Fate::Lost,
                () if last <= known => Fate::Durable,
                () => Fate::Open,
            };
            self.file(history, op, epoch, (first, last));
        }
        Ok(())
    }

    /// Files the changes of a write under their keys.
    fn file(&mut self, history: &History, op: OpId, epoch: u32, (first, end): (u64, u64)) {
        let lost = self.fates[op] == Fate::Lost;
        if lost {
            self.lost_ends.insert((epoch, end));
        } else {
            self.ends.insert(end);
        }
        for (change, of) in history.operations[op].changes().iter().enumerate() {
            let stamp = Stamp { op, change };
            let version = Version { seq: first + change as u64, end, epoch, stamp, what: of.what };
            let versions = self.keys.entry(of.key.clone()).or_default();
            if lost {
                versions.lost.entry(epoch).or_default().push(version);
            } else {
                versions.kept.push(version);
            }
        }
    }
}

/// The epochs of all writers, each with what the later ones leave of it.
fn epochs(history: &History) -> Result<BTreeMap<u32, Epoch>, Failure> {
    let mut epochs = BTreeMap::new();
    for (handle, of) in history.handles.iter().enumerate() {
        let HandleKind::Writer { epoch, base } = of.kind else { continue };
        if epochs.insert(epoch, Epoch { handle, base, cut: u64::MAX }).is_some() {
            return Err(Failure::new(rules::EPOCHS, format!("epoch {epoch} was given out twice")));
        }
    }
    let mut cut = u64::MAX;
    for (epoch, of) in epochs.iter_mut().rev() {
        of.cut = cut;
        if of.base > cut {
            let detail =
                format!("the writer of epoch {epoch} began after {}, and a later one after {cut}", of.base);
            return Err(Failure::new(rules::BASES, detail));
        }
        cut = of.base;
    }
    Ok(epochs)
}

/// Every point that a reader was at: the operation, and when it returned.
fn points(history: &History) -> impl Iterator<Item = (OpId, u64, u64)> + '_ {
    history.operations.iter().enumerate().filter_map(|(op, operation)| {
        let is_reader = history.handles[operation.handle].kind == HandleKind::Reader;
        match (&operation.outcome, operation.returned) {
            (Outcome::Point(point), Some(returned)) if is_reader => Some((op, returned.order, *point)),
            _ => None,
        }
    })
}

/// A writer has all that any reader had seen before it was open.
fn check_points(history: &History, epochs: &BTreeMap<u32, Epoch>) -> Result<(), Failure> {
    for (op, returned, point) in points(history) {
        for (epoch, of) in epochs {
            let opened = &history.handles[of.handle].opened;
            // A newer writer may have been open before this one knew that it had lost: what is seen then is that one's.
            let newer = epochs
                .range(epoch + 1..)
                .any(|(_, newer)| history.handles[newer.handle].opened.order < returned);
            if returned < opened.order && point > of.base && !newer {
                let detail = format!(
                    "{} saw everything up to {point} before the writer of epoch {epoch} was open, which took over up to {}",
                    Named(op),
                    of.base
                );
                return Err(Failure::new(rules::SEEN, detail).by([op]));
            }
        }
    }
    Ok(())
}

/// A failure that one write shows.
fn failure(history: &History, rule: &'static str, detail: String, op: OpId) -> Failure {
    let keys = history.operations[op].changes().iter().map(|change| &change.key);
    Failure::new(rule, detail).by([op]).on(keys)
}

/// An operation's name in sentences.
struct Named(OpId);

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "operation {}", self.0)
    }
}

impl Eyes {
    /// Whose eyes `handle` has.
    pub(crate) fn of(handle: &Handle) -> Self {
        match handle.kind {
            HandleKind::Writer { epoch, .. } => Self::Writer(epoch),
            HandleKind::Reader => Self::Reader,
        }
    }
}
