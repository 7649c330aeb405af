//! From entries to rows: what a reader at one sequence number and one time sees.
//!
//! Forward, the first version of a key at or below the number decides. In reverse the versions come
//! oldest first, so the last one at or below the number decides, which is known when the key changes.
//! A delete, or a version that has expired, hides all older ones and is itself no row.
//!
//! Always true: a key is shown at most once; a kind whose meaning is not known here is refused by name,
//! never skipped.

use bytes::Bytes;

use super::{BlockSource, Direction, Missing, Step, Tree};
use crate::{
    error::{Error, Result},
    key::{EntryRef, Kind, Seq, is_expired},
};

/// The rows of a [`Tree`] that are visible at a sequence number and a time.
#[derive(Debug)]
pub struct Visible {
    tree: Tree,
    seq: Seq,
    now_ms: u64,
    /// Forward: the key that has been decided last. Reverse: the key of the row.
    key: Vec<u8>,
    /// Forward: whether a key has been decided.
    decided: bool,
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
            tree,
            seq,
            now_ms,
            key: Vec::new(),
            decided: false,
            row: None,
            newest: None,
            newest_key: Vec::new(),
            unread: false,
        }
    }

    /// To the next row. After [`Step::Missing`], bring what [`Self::missing`] names and call again.
    #[inline]
    pub fn step(&mut self, blocks: &impl BlockSource) -> Result<Step> {
        match self.tree.direction() {
            Direction::Forward => self.step_forward(blocks),
            Direction::Reverse => self.step_reverse(blocks),
        }
    }

    /// The row: its entry. `None` unless the last step was [`Step::Ready`].
    #[inline]
    pub fn row(&self) -> Option<EntryRef<'_>> {
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

    fn step_forward(&mut self, blocks: &impl BlockSource) -> Result<Step> {
        loop {
            match self.tree.advance(blocks)? {
                Step::Ready => {}
                stop => return Ok(stop),
            }
            let Some(entry) = self.tree.peek() else { return Ok(Step::End) };
            if entry.seq > self.seq || (self.decided && entry.key == self.key) {
                continue;
            }
            self.decided = true;
            self.key.clear();
            self.key.extend_from_slice(entry.key);
            if is_row(entry.kind, entry.expire_at_ms, self.now_ms)? {
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
            let Some(entry) = self.tree.peek() else { return Ok(Step::End) };
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
                self.newest = Some(Version { seq, kind, expire_at_ms, value: self.tree.value() });
            }
            self.unread = false;
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

/// Whether the newest visible version of a key is a row: a put that has not expired. Fails with
/// `Unsupported`, naming the kind, for kinds that need more than the version itself.
#[inline]
pub fn is_row(kind: Kind, expire_at_ms: u64, now_ms: u64) -> Result<bool> {
    match kind {
        Kind::Put => Ok(!is_expired(expire_at_ms, now_ms)),
        Kind::Delete => Ok(false),
        Kind::Merge | Kind::RangeDelete | Kind::PutIndirect => Err(refuse(kind)),
    }
}

/// The refusal of a kind whose meaning this version does not implement.
pub(super) fn refuse(kind: Kind) -> Error {
    Error::unsupported(format!("an entry is a {}, which this version cannot read", kind.name()))
        .hint("open this database with a newer esker")
}
