//! What a compaction keeps.
//!
//! Snapshots hold the version they read (its SSTs stay as long as they are named), so a compaction
//! respects no list of snapshots: of each key it keeps the newest version and drops the ones in its
//! shadow. At the bottom, where no older data lies below, a delete has nothing left to hide and goes,
//! and so does a put that has expired; above it both stay, since they must go on hiding.
//!
//! Always true: kept plus [`Retain::dropped`] is exactly what came in (the conservation sum).

use super::refuse;
use crate::{
    chaos::{Bug, bug},
    codec::sum::Sum,
    error::Result,
    key::{EntryRef, Kind, is_expired},
};

/// Decides, entry by entry in merge order (forward), what a compaction keeps.
#[derive(Debug)]
pub struct Retain {
    bottom: bool,
    expired_by_ms: u64,
    key: Vec<u8>,
    decided: bool,
    dropped: Sum,
    dropped_entries: u64,
}

impl Retain {
    /// `bottom`: no run below the output holds keys of the job's range. A put counts as expired once
    /// `margin_ms` have passed since its time, by the clock that said `now_ms`: readers whose clocks
    /// are behind by less than that never miss a row too early.
    pub fn new(bottom: bool, now_ms: u64, margin_ms: u64) -> Self {
        Self {
            bottom,
            expired_by_ms: now_ms.saturating_sub(margin_ms),
            key: Vec::new(),
            decided: false,
            dropped: Sum::default(),
            dropped_entries: 0,
        }
    }

    /// Whether to keep `entry`; one that is not kept is added to [`Self::dropped`]. Fails with
    /// `Unsupported`, naming the kind, for kinds whose merging rules this version does not know.
    #[inline]
    pub fn keep(&mut self, entry: EntryRef<'_>) -> Result<bool> {
        let shadowed = self.decided && entry.key == self.key;
        let gone = match entry.kind {
            Kind::Put => is_expired(entry.expire_at_ms, self.expired_by_ms),
            Kind::Delete => true,
            Kind::Merge | Kind::RangeDelete | Kind::PutIndirect => return Err(refuse(entry.kind)),
        };
        if !shadowed {
            self.decided = true;
            self.key.clear();
            self.key.extend_from_slice(entry.key);
        }
        // Put back, a delete goes although it has to go on hiding.
        let hides_nothing = gone && (self.bottom || bug(Bug::TombstoneDroppedEarly));
        let keep = !shadowed && !hides_nothing;
        if !keep {
            self.dropped.add_entry(entry);
            self.dropped_entries += 1;
        }
        Ok(keep)
    }

    /// The conservation sum of what was not kept.
    pub fn dropped(&self) -> &Sum {
        &self.dropped
    }

    /// How many entries were not kept.
    pub fn dropped_entries(&self) -> u64 {
        self.dropped_entries
    }
}
