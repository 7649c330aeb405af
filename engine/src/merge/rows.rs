//! The rows of a stretch of a block, decided all at once.
//!
//! Where no other source has anything among the entries of a block, nothing has to be compared: which of them are rows
//! depends on them alone. A scan then goes on by blocks, and a row costs what it takes to hand it over.
//!
//! Always true: what is shown is what [`Visible`](super::Visible) would show entry by entry, in the same order, an error in its place.

use std::sync::Arc;

use bytes::Bytes;

use super::{Direction, is_row};
use crate::{
    block::stretch::Stretch,
    error::{Error, Result},
    key::{EntryRef, Seq},
    sst::OpenSst,
    store::Name,
};

/// Rows of a stretch, and which of them is shown.
#[derive(Debug)]
pub(super) struct Rows {
    stretch: Stretch,
    origin: Origin,
    /// The rows by number, in the order in which they are shown.
    picked: Vec<u32>,
    next: usize,
    /// The rows before this one have their values here.
    brought: usize,
    /// What comes after the last row.
    failed: Option<Error>,
}

/// Where a stretch is from.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) sst: Arc<OpenSst>,
    /// Where its block begins.
    pub(super) offset: u64,
}

impl Rows {
    /// The rows of `stretch` visible at `seq` and `now_ms`. Forward, `decided` is the key that has been decided before, whose
    /// versions may go on here; it becomes the last key decided here.
    pub(super) fn pick(
        (stretch, origin): (Stretch, Origin),
        seq: Seq,
        now_ms: u64,
        direction: Direction,
        decided: &mut Option<Vec<u8>>,
    ) -> Self {
        let mut picked = Vec::with_capacity(stretch.len());
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
        Self { stretch, origin, picked, next: 0, brought: 0, failed }
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

    /// Its full key from byte `from` on, sharing the stretch's bytes.
    #[inline]
    pub(super) fn shared_key(&self, from: usize) -> Bytes {
        self.stretch.shared_key(self.here(), from)
    }

    /// Brings the values of the next rows.
    fn bring(&mut self, wanted: usize) -> Result<()> {
        let end = self.next.saturating_add(wanted.max(1)).min(self.picked.len());
        let (one, other) = (self.picked[self.next] as usize, self.picked[end - 1] as usize);
        self.brought = end;
        self.stretch
            .bring(one.min(other)..one.max(other) + 1)
            .map_err(|error| error.at(Name::Sst(self.origin.sst.id).path(), self.origin.offset))
    }

    #[inline]
    fn here(&self) -> usize {
        self.picked[self.next - 1] as usize
    }
}
