//! The rows of a stretch of a block, decided all at once.
//!
//! Where no other source has anything among the entries of a block, nothing has to be compared: which of them are rows
//! depends on them alone. A scan then goes on by blocks, and a row costs what it takes to hand it over.
//!
//! Always true: what is shown is what [`Visible`](super::Visible) would show entry by entry, in the same order, an error in its place.

use bytes::Bytes;

use super::{Direction, is_row};
use crate::{
    block::stretch::Stretch,
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
    /// What comes after the last row.
    failed: Option<Error>,
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
        Self { stretch, picked, next: 0, failed }
    }

    /// To the next row, if there is one.
    #[inline]
    pub(super) fn step(&mut self) -> Result<bool> {
        if self.next < self.picked.len() {
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

    #[inline]
    fn here(&self) -> usize {
        self.picked[self.next - 1] as usize
    }
}
