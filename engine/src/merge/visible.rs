//! From entries to rows: what a reader at one sequence number and one time sees.
//!
//! Forward, the first version of a key at or below the number decides. In reverse the versions come
//! oldest first, so the last one at or below the number decides, which is known when the key changes.
//! A delete, or a version that has expired, hides all older ones and is itself no row.
//!
//! Always true: a key is shown at most once; a kind whose meaning is not known here is refused by name,
//! never skipped.

use bytes::Bytes;

use super::{
    BlockSource, Direction, Missing, Step, Tree, is_row,
    rows::{Rows, Spare},
};
use crate::{
    error::Result,
    key::{EntryRef, Kind, Seq},
};

/// The rows of a [`Tree`] that are visible at a sequence number and a time.
#[derive(Debug)]
pub struct Visible {
    tree: Tree,
    seq: Seq,
    now_ms: u64,
    /// How many more rows are wanted, about.
    wanted: usize,
    /// The rows of a stretch that belongs to one source alone: shown before the tree goes on.
    rows: Option<Rows>,
    spare: Spare,
    /// Forward: the key that has been decided last.
    decided: Option<Vec<u8>>,
    /// Reverse: the key of the row.
    key: Vec<u8>,
    /// Reverse: the row, and the newest version so far of the key the tree is at.
    row: Option<Version>,
    newest: Option<Version>,
    newest_key: Vec<u8>,
    /// Reverse: whether the tree is on an entry that has not been looked at.
    unread: bool,
}

/// What an entry says, without its key.
#[derive(Debug)]
struct Version {
    seq: Seq,
    kind: Kind,
    expire_at_ms: u64,
    value: Bytes,
}

impl Visible {
    /// The rows of `tree` (which has not been stepped yet) at `seq` and `now_ms`.
    pub fn new(tree: Tree, seq: Seq, now_ms: u64) -> Self {
        Self {
            tree: tree.lazy(),
            seq,
            now_ms,
            wanted: usize::MAX,
            rows: None,
            spare: Spare::default(),
            decided: None,
            key: Vec::new(),
            row: None,
            newest: None,
            newest_key: Vec::new(),
            unread: false,
        }
    }

    /// The same for one who wants about `rows` rows: less is done ahead of them.
    #[must_use]
    pub fn wanted(mut self, rows: usize) -> Self {
        self.wanted = rows;
        self
    }

    /// To the next row. After [`Step::Missing`], bring what [`Self::missing`] names and call again.
    #[inline]
    pub fn step(&mut self, blocks: &impl BlockSource) -> Result<Step> {
        let step = self.next(blocks)?;
        if let Step::Ready = step {
            self.wanted = self.wanted.saturating_sub(1);
        }
        Ok(step)
    }

    /// The row: its entry. `None` unless the last step was [`Step::Ready`].
    #[inline]
    pub fn row(&self) -> Option<EntryRef<'_>> {
        if let Some(rows) = &self.rows {
            return Some(rows.entry());
        }
        match (self.tree.direction(), &self.row) {
            (Direction::Forward, _) => self.tree.peek(),
            (Direction::Reverse, Some(row)) => Some(EntryRef {
                key: &self.key,
                seq: row.seq,
                kind: row.kind,
                expire_at_ms: row.expire_at_ms,
                value: &row.value,
            }),
            (Direction::Reverse, None) => None,
        }
    }

    /// The row's value, sharing the bytes it lies in.
    #[inline]
    pub fn value(&self) -> Bytes {
        if let Some(rows) = &self.rows {
            return rows.value();
        }
        match (self.tree.direction(), &self.row) {
            (Direction::Forward, _) => self.tree.value(),
            (Direction::Reverse, row) => row.as_ref().map_or_else(Bytes::new, |row| row.value.clone()),
        }
    }

    /// What is missing before the next row (see [`Tree::missing`]).
    pub fn missing(&self) -> &[Missing] {
        self.tree.missing()
    }

    /// What will be needed after that (see [`Tree::ahead`]).
    pub fn ahead(&self, bytes: u64, blocks: &impl BlockSource, found: &mut Vec<Missing>) {
        self.tree.ahead(bytes, blocks, found);
    }

    #[inline]
    fn next(&mut self, blocks: &impl BlockSource) -> Result<Step> {
        if let Some(rows) = &mut self.rows {
            if rows.step(self.wanted).map_err(|error| self.tree.named(error))? {
                return Ok(Step::Ready);
            }
            self.leave_rows();
        }
        match self.tree.direction() {
            Direction::Forward => self.step_forward(blocks),
            Direction::Reverse => self.step_reverse(blocks),
        }
    }

    fn step_forward(&mut self, blocks: &impl BlockSource) -> Result<Step> {
        loop {
            match self.tree.advance(blocks)? {
                Step::Ready => {}
                stop => return Ok(stop),
            }
            if self.take()? {
                return Ok(Step::Ready);
            }
            // Nothing of what was taken is a row.
            let Some(entry) = self.tree.peek() else { continue };
            if entry.seq > self.seq || self.decided.as_deref().is_some_and(|key| key == entry.key) {
                continue;
            }
            let decided = self.decided.get_or_insert_default();
            decided.clear();
            decided.extend_from_slice(entry.key);
            if is_row(entry.kind, entry.expire_at_ms, self.now_ms)? {
                self.tree.bring()?;
                return Ok(Step::Ready);
            }
        }
    }

    fn step_reverse(&mut self, blocks: &impl BlockSource) -> Result<Step> {
        self.row = None;
        loop {
            if !self.unread {
                match self.tree.advance(blocks)? {
                    Step::Ready => self.unread = true,
                    Step::End if self.show_newest()? => return Ok(Step::Ready),
                    stop => return Ok(stop),
                }
            }
            if self.newest.is_none() && self.take()? {
                self.unread = false;
                return Ok(Step::Ready);
            }
            let Some(entry) = self.tree.peek() else {
                self.unread = false;
                continue;
            };
            if self.newest.is_some() && entry.key != self.newest_key {
                if self.show_newest()? {
                    return Ok(Step::Ready);
                }
                continue;
            }
            if entry.seq <= self.seq {
                if self.newest.is_none() {
                    self.newest_key.clear();
                    self.newest_key.extend_from_slice(entry.key);
                }
                let (seq, kind, expire_at_ms) = (entry.seq, entry.kind, entry.expire_at_ms);
                self.tree.bring()?;
                self.newest = Some(Version { seq, kind, expire_at_ms, value: self.tree.value() });
            }
            self.unread = false;
        }
    }

    /// Whether the next row is one of a stretch that was taken at once.
    fn take(&mut self) -> Result<bool> {
        let most = match self.tree.direction() {
            Direction::Forward => self.wanted,
            // All or nothing: of a block of many more, most would be taken apart for nothing.
            Direction::Reverse => self.wanted.saturating_mul(4),
        };
        let Some(stretch) = self.tree.take(most, &mut self.spare.room)? else { return Ok(false) };
        let (seq, now_ms, direction) = (self.seq, self.now_ms, self.tree.direction());
        let rows = Rows::pick(stretch, seq, now_ms, direction, &mut self.decided, &mut self.spare);
        let found = self.rows.insert(rows).step(self.wanted).map_err(|error| self.tree.named(error))?;
        if !found {
            self.leave_rows();
        }
        Ok(found)
    }

    /// All rows of the stretch have been shown.
    fn leave_rows(&mut self) {
        if let Some(mut rows) = self.rows.take() {
            self.tree.has_shown(rows.stretch());
            self.spare = rows.into_spare();
        }
    }

    /// Makes the newest version of the key that has just ended the row, if it is one.
    fn show_newest(&mut self) -> Result<bool> {
        let Some(newest) = self.newest.take() else { return Ok(false) };
        if !is_row(newest.kind, newest.expire_at_ms, self.now_ms)? {
            return Ok(false);
        }
        std::mem::swap(&mut self.key, &mut self.newest_key);
        self.row = Some(newest);
        Ok(true)
    }
}
