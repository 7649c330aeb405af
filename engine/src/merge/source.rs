//! What is merged: memtables and sorted runs.
//!
//! An enum and not a trait object, so that a step on a row's path is a branch and not a virtual call.
//!
//! Always true: a cursor yields only entries inside its range.

use std::sync::Arc;

use bytes::Bytes;

use super::{BlockSource, Direction, RunCursor, Step};
use crate::{
    error::Result,
    key::{EntryRef, Seq},
    memtable::{MemCursor, Memtable},
    range::FullRange,
    sst::OpenSst,
};

/// One sorted source of a [`Tree`](super::Tree).
#[derive(Debug, Clone)]
pub enum Source {
    /// A memtable.
    Mem(Arc<Memtable>),
    /// A sorted run: SSTs with disjoint ranges, ascending.
    Run(Arc<[Arc<OpenSst>]>),
}

/// A position in a [`Source`].
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "most are runs, and a box would be one more allocation for each"
)]
pub(super) enum Cursor {
    Mem(MemWalk),
    Run(RunCursor),
}

impl Cursor {
    pub(super) fn new(source: Source, range: FullRange, direction: Direction) -> Self {
        match source {
            Source::Mem(memtable) => Self::Mem(MemWalk::new(&memtable, range, direction)),
            Source::Run(ssts) => Self::Run(RunCursor::new(ssts, range, direction)),
        }
    }

    #[inline]
    pub(super) fn step(&mut self, blocks: &impl BlockSource) -> Result<Step> {
        match self {
            Self::Mem(walk) => Ok(walk.step()),
            Self::Run(run) => run.step(blocks),
        }
    }

    /// See [`RunCursor::begin`].
    pub(super) fn begin(&mut self, blocks: &impl BlockSource) {
        if let Self::Run(run) = self {
            run.begin(blocks);
        }
    }

    /// See [`RunCursor::make_lazy`].
    pub(super) fn make_lazy(&mut self) {
        if let Self::Run(run) = self {
            run.make_lazy();
        }
    }

    /// See [`RunCursor::bring`].
    #[inline]
    pub(super) fn bring(&mut self) -> Result<()> {
        match self {
            Self::Mem(_) => Ok(()),
            Self::Run(run) => run.bring(),
        }
    }

    #[inline]
    pub(super) fn entry(&self) -> EntryRef<'_> {
        match self {
            Self::Mem(walk) => walk.entry(),
            Self::Run(run) => run.entry(),
        }
    }

    /// What places the entry among all: its key and its number.
    #[inline]
    pub(super) fn order(&self) -> (&[u8], Seq) {
        match self {
            Self::Mem(walk) => {
                let entry = walk.entry();
                (entry.key, entry.seq)
            }
            Self::Run(run) => run.order(),
        }
    }

    pub(super) fn value(&self) -> Bytes {
        match self {
            Self::Mem(walk) => walk.value(),
            Self::Run(run) => run.value(),
        }
    }
}

/// A walk through a memtable, within a range and in one direction.
#[derive(Debug)]
pub struct MemWalk {
    cursor: MemCursor,
    range: FullRange,
    direction: Direction,
    started: bool,
}

impl MemWalk {
    /// A walk that stands before its first entry.
    pub fn new(memtable: &Arc<Memtable>, range: FullRange, direction: Direction) -> Self {
        Self { cursor: memtable.cursor(), range, direction, started: false }
    }

    /// To the next entry in the walk's direction; never [`Step::Missing`].
    pub fn step(&mut self) -> Step {
        match (self.started, self.direction) {
            (true, Direction::Forward) => self.cursor.next(),
            (true, Direction::Reverse) => self.cursor.prev(),
            (false, Direction::Forward) => self.cursor.seek(&self.range.start, Seq::MAX),
            (false, Direction::Reverse) => match &self.range.end {
                Some(end) => self.cursor.seek_before(end, Seq::MAX),
                None => self.cursor.last(),
            },
        }
        self.started = true;
        if self.cursor.is_valid() && self.range.contains(self.cursor.entry().key) {
            Step::Ready
        } else {
            Step::End
        }
    }

    /// The entry under the walk. Only after a step that was [`Step::Ready`].
    pub fn entry(&self) -> EntryRef<'_> {
        self.cursor.entry()
    }

    /// Its value, sharing the memtable's bytes.
    pub fn value(&self) -> Bytes {
        self.cursor.value()
    }
}
