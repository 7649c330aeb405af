//! A version as the picker sees it: levels of runs, newest data first, and what overlaps what.
//!
//! Always true: runs without SSTs are not here, nor are holes, which nothing merges (`spare`); `runs[..]` of a level is ordered newest first; positions
//! grow with age over the whole tree.

use std::{collections::HashSet, sync::Arc};

use crate::{
    key::split_full_key,
    manifest::{RunView, StoredShape, View},
    sst::{OpenSst, SstMeta},
    store::ObjectId,
};

/// The SSTs that take part, run by run, newest first.
pub(super) type Taken = Vec<(u64, Vec<Arc<OpenSst>>)>;

/// The levels of one version.
#[derive(Debug)]
pub(super) struct Levels<'a> {
    pub(super) view: &'a View,
    pub(super) shape: &'a StoredShape,
    /// The deepest level with data, at least 1.
    pub(super) last: u32,
}

impl<'a> Levels<'a> {
    pub(super) fn of(view: &'a View) -> Self {
        let last = filled(view).map(|run| run.level).max().unwrap_or(0).max(1);
        Self { view, shape: &view.root.options.shape, last }
    }

    /// The runs of one level, newest first.
    pub(super) fn runs(&self, level: u32) -> Vec<&'a RunView> {
        filled(self.view).filter(|run| run.level == level).collect()
    }

    /// Bytes of one level.
    pub(super) fn bytes(&self, level: u32) -> u64 {
        filled(self.view).filter(|run| run.level == level).map(run_bytes).sum()
    }

    /// Whether data that comes down to `level` is merged with what lies there, because the level is to be one run.
    pub(super) fn is_one_run(&self, level: u32) -> bool {
        self.shape.runs_allowed(level, self.last.max(level)) == 1
    }

    /// Every SST of the level, run by run.
    pub(super) fn all(&self, level: u32) -> Taken {
        self.runs(level).into_iter().map(|run| (run.id, run.ssts.to_vec())).collect()
    }

    /// Whether no SST outside `taken`, in a run older than the newest taken one, overlaps one inside.
    pub(super) fn is_bottom(&self, taken: &Taken) -> bool {
        let ids: HashSet<ObjectId> = taken.iter().flat_map(|(_, ssts)| ssts).map(|sst| sst.id).collect();
        let ssts = || taken.iter().flat_map(|(_, ssts)| ssts);
        // Holes count: what was lost there may be older data that a tombstone still hides.
        let runs = self.view.runs.iter();
        runs.skip_while(|run| !taken.iter().any(|(id, _)| *id == run.id)).all(|run| {
            ssts().all(|sst| overlapping(run, &sst.meta).iter().all(|older| ids.contains(&older.id)))
        })
    }
}

/// The closed range of full keys that some SSTs span together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hull<'a> {
    first: &'a [u8],
    last: &'a [u8],
}

impl<'a> Hull<'a> {
    pub(super) fn of(ssts: impl IntoIterator<Item = &'a Arc<OpenSst>>) -> Option<Self> {
        let mut ssts = ssts.into_iter();
        let one = ssts.next()?;
        let start = Self { first: &one.meta.first_key, last: &one.meta.last_key };
        Some(ssts.fold(start, |hull, sst| Self {
            first: hull.first.min(&sst.meta.first_key),
            last: hull.last.max(&sst.meta.last_key),
        }))
    }

    pub(super) fn holds(&self, meta: &SstMeta) -> bool {
        self.first <= &meta.first_key[..] && &meta.last_key[..] <= self.last
    }
}

/// The runs that hold SSTs, newest data first.
pub(super) fn filled(view: &View) -> impl Iterator<Item = &RunView> {
    view.runs.iter().filter(|run| !run.ssts.is_empty() && !run.is_hole())
}

/// Bytes of one run.
pub(super) fn run_bytes(run: &RunView) -> u64 {
    bytes(run.ssts.iter())
}

/// Bytes of some SSTs.
pub(super) fn bytes<'a>(ssts: impl IntoIterator<Item = &'a Arc<OpenSst>>) -> u64 {
    ssts.into_iter().map(|sst| sst.meta.bytes).sum()
}

/// Whether the two ranges share a key, as far as their ends tell.
pub(super) fn overlap(a: &SstMeta, b: &SstMeta) -> bool {
    a.first_key <= b.last_key && b.first_key <= a.last_key
}

/// The SSTs of a sorted run whose range meets `meta`: found by bisection, as they lie side by side.
pub(super) fn overlapping<'a>(run: &'a RunView, meta: &SstMeta) -> &'a [Arc<OpenSst>] {
    let from = run.ssts.partition_point(|sst| sst.meta.last_key < meta.first_key);
    let to = run.ssts.partition_point(|sst| sst.meta.first_key <= meta.last_key);
    run.ssts.get(from..to).unwrap_or_default()
}

/// Whether none of the SSTs overlaps another.
pub(super) fn are_disjoint(taken: &Taken) -> bool {
    let mut all: Vec<&SstMeta> = taken.iter().flat_map(|(_, ssts)| ssts).map(|sst| &sst.meta).collect();
    all.sort_by(|a, b| a.first_key.cmp(&b.first_key));
    all.windows(2).all(|pair| pair[0].last_key < pair[1].first_key)
}

/// Whether the SST holds keys of more than one keyspace.
pub(super) fn spans_keyspaces(meta: &SstMeta) -> bool {
    let keyspace = |key| split_full_key(key).map(|(id, _)| id);
    keyspace(&meta.first_key) != keyspace(&meta.last_key)
}
