//! A cursor over one sorted run: SST after SST, block after block, within a range.
//!
//! ```text
//! SST by first and last key (no bytes needed) → its tail → block by index → entry in the block
//!     or a hole: one entry that shows nothing, and an error at the step from there
//! ```
//!
//! Always true: a step that answers `Missing` has not moved; blocks outside the range are never asked
//! for, but for the one that may straddle its edge.

use std::sync::Arc;

use bytes::Bytes;

use super::{BlockSource, Direction, Missing, Step};
use crate::{
    block::{
        Block, BlockCursor,
        stretch::{Room, Stretch},
    },
    chaos,
    error::{Error, Result},
    key::{EntryRef, Kind, NEVER, Seq},
    range::FullRange,
    sst::{OpenSst, Tail},
    store::Name,
};

/// A position in a sorted run.
#[derive(Debug)]
pub struct RunCursor {
    ssts: Arc<[Arc<OpenSst>]>,
    range: FullRange,
    direction: Direction,
    /// The SST the cursor is in, or is about to enter; `None` at the end.
    sst: Option<usize>,
    /// The tail of that SST, once it is here.
    tail: Option<Arc<Tail>>,
    /// The block the cursor is in, or is about to enter.
    block: usize,
    /// The position in that block, once it is here.
    cursor: Option<BlockCursor>,
    /// Whether the cursor stands on a hole, and the step from there fails.
    on_hole: bool,
    /// Whether the near edge of the range lies in this SST and has not been found yet.
    seeking: bool,
    /// Whether the far edge of the range lies in this SST, so that entries must be compared with it.
    edged: bool,
    /// Whether values are brought only when they are asked for.
    is_lazy: bool,
    /// What came of asking for the first block ahead of the first step.
    ahead: Option<Asked>,
}

/// What came of asking for a block.
#[derive(Debug)]
enum Asked {
    Here(Block),
    Missing,
}

impl RunCursor {
    /// A cursor that stands before its first entry. `ssts` are disjoint and ascend.
    pub fn new(ssts: Arc<[Arc<OpenSst>]>, range: FullRange, direction: Direction) -> Self {
        let first = match direction {
            Direction::Forward => Some(ssts.partition_point(|sst| sst.meta.last_key < range.start)),
            Direction::Reverse => match &range.end {
                Some(end) => ssts.partition_point(|sst| sst.meta.first_key < *end).checked_sub(1),
                None => ssts.len().checked_sub(1),
            },
        };
        let mut run = Self {
            ssts,
            range,
            direction,
            sst: None,
            tail: None,
            block: 0,
            cursor: None,
            on_hole: false,
            seeking: false,
            edged: false,
            is_lazy: false,
            ahead: None,
        };
        run.enter_sst(first);
        run
    }

    /// From here on the value under the cursor is empty until it is [brought](Self::bring).
    pub(super) fn make_lazy(&mut self) {
        self.is_lazy = true;
    }

    /// Brings the value under the cursor, where that is not done on arriving there.
    #[inline]
    pub(super) fn bring(&mut self) -> Result<()> {
        match &mut self.cursor {
            Some(cursor) => cursor.bring().map_err(|error| self.named(error)),
            None => Ok(()),
        }
    }

    /// Asks for the first block, so that its bytes come near while other sources ask for theirs. Before the first step.
    pub(super) fn begin(&mut self, blocks: &impl BlockSource) {
        let Some(sst) = self.sst.map(|at| &self.ssts[at]).filter(|sst| !sst.meta.is_hole()) else { return };
        let Some(tail) = blocks.tail(sst) else { return };
        let Some(block) = first_block(&tail, &self.range, self.direction, self.seeking) else { return };
        self.ahead = Some(blocks.block(sst, block).map_or(Asked::Missing, Asked::Here));
        (self.block, self.tail) = (block, Some(tail));
    }

    /// To the next entry in the cursor's direction.
    #[inline]
    pub fn step(&mut self, blocks: &impl BlockSource) -> Result<Step> {
        if let Some(cursor) = &mut self.cursor {
            let moved = match self.direction {
                Direction::Forward => cursor.next(),
                Direction::Reverse => cursor.prev(),
            };
            if let Err(error) = moved {
                return Err(self.named(error));
            }
            if cursor.is_valid() {
                return Ok(self.within());
            }
            self.leave_block();
        }
        if self.on_hole {
            return Err(self.lost());
        }
        self.enter_block(blocks)
    }

    /// The entry under the cursor. Only after a step that was [`Step::Ready`].
    #[inline]
    pub fn entry(&self) -> EntryRef<'_> {
        match &self.cursor {
            Some(cursor) => cursor.entry(),
            None => self.hole(),
        }
    }

    /// Its value, sharing the block's bytes.
    pub fn value(&self) -> Bytes {
        self.cursor.as_ref().map_or_else(Bytes::new, BlockCursor::value)
    }

    /// What places the entry under the cursor among all: its key and its number.
    #[inline]
    pub(super) fn order(&self) -> (&[u8], Seq) {
        match &self.cursor {
            Some(cursor) => (cursor.key(), cursor.seq()),
            None => {
                let hole = self.hole();
                (hole.key, hole.seq)
            }
        }
    }

    /// Which block it is in: differs from that of every other block of the run.
    pub(super) fn place(&self) -> (usize, usize) {
        (self.sst.unwrap_or(self.ssts.len()), self.block)
    }

    /// The entries of this block from the one under the cursor on that come before `rival` in the cursor's direction and
    /// lie within the range. They have been passed then: the next thing to do is a step. Forward at most `most`. In reverse
    /// all that are left in the block or none: none if there are more than `most`, or if they share a key with a block that is
    /// still to come (forward the caller remembers the last key). `None` too if it is not worth it.
    ///
    /// Why not a part of a block in reverse, too? Going on from it walks up to it from a restart once more, which costs more
    /// than is won.
    pub(super) fn take(
        &mut self,
        rival: Option<&[u8]>,
        most: usize,
        room: &mut Room,
    ) -> Result<Option<Stretch>> {
        if chaos::rare("a block is merged entry by entry") {
            return Ok(None);
        }
        let taken = match self.direction {
            Direction::Forward => self.take_forward(rival, most, room),
            Direction::Reverse => self.take_reverse(rival, most, room),
        };
        taken.map_err(|error| self.named(error))
    }

    fn take_forward(
        &mut self,
        rival: Option<&[u8]>,
        most: usize,
        room: &mut Room,
    ) -> Result<Option<Stretch>> {
        let Some(cursor) = &mut self.cursor else { return Ok(None) };
        let until = match (rival, self.range.end.as_deref().filter(|_| self.edged)) {
            (Some(rival), Some(end)) => Some(rival.min(end)),
            (one, other) => one.or(other),
        };
        cursor.take(until, most, room)
    }

    fn take_reverse(
        &mut self,
        rival: Option<&[u8]>,
        most: usize,
        room: &mut Room,
    ) -> Result<Option<Stretch>> {
        let (Some(cursor), Some(tail), Some(at)) = (&mut self.cursor, &self.tail, self.sst) else {
            return Ok(None);
        };
        let (first_key, before) = (&self.ssts[at].meta.first_key[..], self.block.checked_sub(1));
        // By the index alone: a block that lies behind may not be told. Its separator lies before the first key of this
        // block, unless that key is split.
        let is_after = |key: &[u8]| match before {
            Some(before) => tail.compare_separator(before, key).is_ge(),
            None => key < first_key,
        };
        let is_whole = before.is_none_or(|before| !tail.is_split(before));
        let within = !self.edged || is_after(&self.range.start);
        let entries = cursor.index() + 1;
        if entries < 2 || entries > most || !is_whole || !within || !rival.is_none_or(is_after) {
            return Ok(None);
        }
        cursor.take_back(room)
    }

    /// To be told once the last of the rows of what was [taken](Self::take) has been shown.
    pub(super) fn has_shown(&mut self, stretch: &mut Stretch) {
        if let Some(cursor) = &mut self.cursor {
            cursor.keep_values(stretch);
        }
    }

    /// The entry that stands for a hole: where the hole begins in the cursor's direction, and before every version
    /// of the same key. Whoever merges takes it for a version that shows nothing, and fails at the next step.
    #[cold]
    fn hole(&self) -> EntryRef<'_> {
        let at = self.sst.filter(|_| self.on_hole).expect("a run that answered Ready is on an entry");
        let meta = &self.ssts[at].meta;
        let (key, seq) = match (self.direction, &self.range.end) {
            (Direction::Forward, _) => ((&meta.first_key[..]).max(&self.range.start[..]), Seq::MAX),
            (Direction::Reverse, Some(end)) => ((&meta.last_key[..]).min(&end[..]), 0),
            (Direction::Reverse, None) => (&meta.last_key[..], 0),
        };
        EntryRef { key, seq, kind: Kind::Delete, expire_at_ms: NEVER, value: &[] }
    }

    #[cold]
    fn lost(&self) -> Error {
        match self.sst {
            Some(at) => self.ssts[at].meta.lost(),
            None => Error::closed("a run is on a hole, and in no SST"),
        }
    }

    /// What lies behind the block the cursor is at, in its direction and its range, in the order it will be needed: at most
    /// `bytes` of stored blocks, on into the SSTs after this one; up to the first whose tail is not here, and then that tail.
    pub fn ahead(&self, bytes: u64, blocks: &impl BlockSource, found: &mut Vec<Missing>) {
        let (Some(mut at), Some(tail)) = (self.sst, &self.tail) else { return };
        if self.last_block(at, tail) == Some(self.block) {
            return;
        }
        let (mut tail, mut left) = (Arc::clone(tail), bytes);
        let mut block = after(self.block, tail.blocks(), self.direction);
        loop {
            let (sst, last) = (&self.ssts[at], self.last_block(at, &tail));
            while let Some(here) = block {
                let Some(rest) = left.checked_sub(u64::from(tail.block(here).bytes)) else { return };
                left = rest;
                found.push(Missing::Block(Arc::clone(sst), here));
                if last == Some(here) {
                    return;
                }
                block = after(here, tail.blocks(), self.direction);
            }
            let Some(next) = after(at, self.ssts.len(), self.direction) else { return };
            let sst = &self.ssts[next];
            if !self.range.meets(&sst.meta.first_key, &sst.meta.last_key) || sst.meta.is_hole() {
                return;
            }
            let Some(next_tail) = blocks.tail(sst) else {
                found.push(Missing::Tail(Arc::clone(sst)));
                return;
            };
            block = first_block(&next_tail, &self.range, self.direction, false);
            (at, tail) = (next, next_tail);
        }
    }

    /// The block in which the range ends in the cursor's direction, if it does so in the SST `at`, which has this `tail`.
    fn last_block(&self, at: usize, tail: &Tail) -> Option<usize> {
        match self.direction {
            Direction::Forward => self.range.end.as_ref().and_then(|end| tail.find(end)),
            Direction::Reverse if self.range.start[..] < self.ssts[at].meta.first_key[..] => None,
            Direction::Reverse => tail.find(&self.range.start),
        }
    }

    fn enter_block(&mut self, blocks: &impl BlockSource) -> Result<Step> {
        while let Some(at) = self.sst {
            let sst = &self.ssts[at];
            if sst.meta.is_hole() {
                self.on_hole = true;
                return Ok(Step::Ready);
            }
            let tail = match &self.tail {
                Some(tail) => tail,
                None => {
                    let Some(tail) = blocks.tail(sst) else {
                        return Ok(Step::Missing(Missing::Tail(Arc::clone(sst))));
                    };
                    let Some(block) = first_block(&tail, &self.range, self.direction, self.seeking) else {
                        self.enter_sst(after(at, self.ssts.len(), self.direction));
                        continue;
                    };
                    self.block = block;
                    self.tail.insert(tail)
                }
            };
            debug_assert!(self.block < tail.blocks());
            let block = match self.ahead.take() {
                Some(Asked::Here(block)) => Some(block),
                Some(Asked::Missing) => None,
                None => blocks.block(sst, self.block),
            };
            let Some(block) = block else {
                return Ok(Step::Missing(Missing::Block(Arc::clone(sst), self.block)));
            };
            let cursor = if self.is_lazy { BlockCursor::lazy(block) } else { BlockCursor::new(block) };
            let cursor = self.cursor.insert(cursor);
            let found = match (self.direction, &self.range.end) {
                (Direction::Forward, _) if self.seeking => cursor.seek(&self.range.start, Seq::MAX),
                (Direction::Forward, _) => cursor.first(),
                (Direction::Reverse, Some(end)) if self.seeking => cursor.seek_before(end, Seq::MAX),
                (Direction::Reverse, _) => cursor.last(),
            };
            if let Err(error) = found {
                return Err(self.named(error));
            }
            if cursor.is_valid() {
                self.seeking = false;
                return Ok(self.within());
            }
            self.leave_block();
        }
        Ok(Step::End)
    }

    /// A block names the byte within itself; the SST it lies in is known here.
    #[cold]
    pub(super) fn named(&self, error: Error) -> Error {
        match self.sst {
            Some(at) => {
                let offset = self.tail.as_ref().map_or(0, |tail| tail.block(self.block).offset);
                error.at(Name::Sst(self.ssts[at].id).path(), offset)
            }
            None => error,
        }
    }

    /// Ready, or the end if the far edge of the range has been passed.
    #[inline]
    fn within(&mut self) -> Step {
        if self.edged && !self.range.contains(self.order().0) {
            self.enter_sst(None);
            return Step::End;
        }
        Step::Ready
    }

    /// Goes to the block after this one, or the SST after this one.
    fn leave_block(&mut self) {
        self.cursor = None;
        let Some(at) = self.sst else { return };
        match self.tail.as_ref().and_then(|tail| after(self.block, tail.blocks(), self.direction)) {
            Some(next) => self.block = next,
            None => self.enter_sst(after(at, self.ssts.len(), self.direction)),
        }
    }

    /// Goes to the near end of an SST, or to the end of the run if it is none or outside the range.
    fn enter_sst(&mut self, sst: Option<usize>) {
        self.tail = None;
        self.cursor = None;
        self.on_hole = false;
        let meta = |at: usize| &self.ssts[at].meta;
        self.sst = sst.filter(|&at| {
            at < self.ssts.len()
                && !self.range.is_empty()
                && self.range.meets(&meta(at).first_key, &meta(at).last_key)
        });
        let Some(at) = self.sst else { return };
        let before_start = meta(at).first_key < self.range.start;
        let after_end = self.range.end.as_ref().is_some_and(|end| meta(at).last_key >= *end);
        (self.seeking, self.edged) = match self.direction {
            Direction::Forward => (before_start, after_end),
            Direction::Reverse => (after_end, before_start),
        };
    }
}

/// The block in which the near edge of the range lies.
fn first_block(tail: &Tail, range: &FullRange, direction: Direction, seeking: bool) -> Option<usize> {
    match (direction, &range.end) {
        (Direction::Forward, _) if seeking => tail.find(&range.start),
        (Direction::Forward, _) => (tail.blocks() > 0).then_some(0),
        (Direction::Reverse, Some(end)) if seeking => tail.find(end).or_else(|| tail.blocks().checked_sub(1)),
        (Direction::Reverse, _) => tail.blocks().checked_sub(1),
    }
}

/// The place after `at` among `count` in this direction.
fn after(at: usize, count: usize, direction: Direction) -> Option<usize> {
    match direction {
        Direction::Forward => Some(at + 1).filter(|next| *next < count),
        Direction::Reverse => at.checked_sub(1),
    }
}
