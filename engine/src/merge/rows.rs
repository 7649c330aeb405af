//! The rows of a stretch of a block, decided all at once.
//!
//! Where no other source has anything among the entries of a block, nothing has to be compared: which of them are rows
//! depends on them alone. A scan then goes on by blocks, and a row costs what it takes to hand it over.
//!
//! Always true: what is shown is what [`Visible`](super::Visible) would show entry by entry, in the same order, an error in its place.

use bytes::Bytes;

use super::{Direction, is_row};
use crate::{
    block::stretch::{Room, Stretch},
    error::{Error, Result},
    key::{EntryRef, Seq},
};

/// Rows of a stretch, and which of them is shown.
#[derive(Debug)]
pub(super) struct Rows {
    stretch: Stretch,
    /// The rows by number, in the order in which they are shown.
    picked: Vec<u32>,
    next: usize,
    /// The rows before this one have their values here.
    brought: usize,
    /// What comes after the last row.
    failed: Option<Error>,
}

/// What rows are put into: kept, so that one stretch after another costs no memory.
#[derive(Debug, Default)]
pub(super) struct Spare {
    pub(super) room: Room,
    picked: Vec<u32>,
}

impl Rows {
    /// The rows of `stretch` visible at `seq` and `now_ms`. Forward, `decided` is the key that has been decided before, whose
    /// versions may go on here; it becomes the last key decided here.
    pub(super) fn pick(
        stretch: Stretch,
        seq: Seq,
        now_ms: u64,
        direction: Direction,
        decided: &mut Option<Vec<u8>>,
        spare: &mut Spare,
    ) -> Self {
        let mut picked = std::mem::take(&mut spare.picked);
        picked.clear();
        let mut failed = None;
        let (mut first, mut last_decided) = (0, None);
        while first < stretch.len() {
            let mut end = first + 1;
            while end < stretch.len() && stretch.goes_on(end) {
                end += 1;
            }
            let is_decided = first == 0
                && direction == Direction::Forward
                && decided.as_deref().is_some_and(|key| key == stretch.key(0));
            if !is_decided && let Some(newest) = (first..end).find(|n| stretch.seq(*n) <= seq) {
                last_decided = Some(newest);
                match is_row(stretch.kind(newest), stretch.expire_at_ms(newest), now_ms) {
                    Ok(true) => picked.push(newest as u32),
                    Ok(false) => {}
                    Err(error) => {
                        failed = Some(error);
                        match direction {
                            Direction::Forward => break,
                            // What lies before it is not reached.
                            Direction::Reverse => picked.clear(),
                        }
                    }
                }
            }
            first = end;
        }
        match direction {
            Direction::Forward => {
                if let Some(last) = last_decided {
                    let decided = decided.get_or_insert_default();
                    decided.clear();
                    decided.extend_from_slice(stretch.key(last));
                }
            }
            Direction::Reverse => picked.reverse(),
        }
        Self { stretch, picked, next: 0, brought: 0, failed }
    }

    /// To the next row, if there is one. About `wanted` will be asked for.
    #[inline]
    pub(super) fn step(&mut self, wanted: usize) -> Result<bool> {
        if self.next < self.picked.len() {
            if self.next == self.brought {
                self.bring(wanted)?;
            }
            self.next += 1;
            return Ok(true);
        }
        self.failed.take().map_or(Ok(false), Err)
    }

    /// The row. Only after a step to one.
    #[inline]
    pub(super) fn entry(&self) -> EntryRef<'_> {
        self.stretch.entry(self.here())
    }

    /// Its value, sharing the block's bytes.
    #[inline]
    pub(super) fn value(&self) -> Bytes {
        self.stretch.value(self.here())
    }

    /// What they are of.
    pub(super) fn stretch(&mut self) -> &mut Stretch {
        &mut self.stretch
    }

    /// What it was put into, for others.
    pub(super) fn into_spare(self) -> Spare {
        Spare { room: self.stretch.into_room(), picked: self.picked }
    }

    /// Brings the values of the next rows, unless they are here: those behind them wait, so that no chunk of values that two
    /// stretches share is decompressed twice.
    fn bring(&mut self, wanted: usize) -> Result<()> {
        let end = self.next.saturating_add(wanted.max(1)).min(self.picked.len());
        let here = |n: &u32| self.stretch.has(*n as usize..*n as usize + 1);
        let ready = self.picked[self.next..end].iter().take_while(|n| here(n)).count();
        if ready > 0 {
            self.brought = self.next + ready;
            return Ok(());
        }
        let (one, other) = (self.picked[self.next] as usize, self.picked[end - 1] as usize);
        self.brought = end;
        self.stretch.bring(one.min(other)..one.max(other) + 1)
    }

    #[inline]
    fn here(&self) -> usize {
        self.picked[self.next - 1] as usize
    }
}
