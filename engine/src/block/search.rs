//! Finding a place in a block: a binary search over the restarts, then a walk from the nearest.
//!
//! Always true: nothing is allocated, and the target is compared byte by byte once, not once an entry.

use std::{cmp::Ordering, ops::Range};

use crate::{block::Block, error::Result, key::Seq};

/// The last restart that lies strictly before (key, seq), or the first one.
pub(super) fn restart_before(block: &Block, key: &[u8], seq: Seq) -> Result<usize> {
    let (mut low, mut high) = (0, block.restarts());
    // The answer is in [low, high): everything from `high` on is at or after the target.
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        let head = block.head(block.restart(middle).0)?;
        let before = match block.suffix(&head).cmp(key) {
            Ordering::Less => true,
            Ordering::Equal => block.seq(middle * block.interval()) > seq,
            Ordering::Greater => false,
        };
        if before {
            low = middle;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

/// The index of the newest entry of `key` at or under `seq`, and where its value lies among the values.
pub(super) fn find(block: &Block, key: &[u8], seq: Seq) -> Result<Option<(usize, Range<usize>)>> {
    let restart = restart_before(block, key, seq)?;
    let (mut at, mut value_at) = block.restart(restart);
    let mut probe = Probe::new(key);
    let mut until_restart = block.interval();
    for index in restart * block.interval()..block.entries() {
        if until_restart == 0 {
            until_restart = block.interval();
            probe.restart();
        }
        until_restart -= 1;
        let head = block.head(at)?;
        match probe.order(head.shared, block.suffix(&head)) {
            Ordering::Greater => return Ok(None),
            Ordering::Equal if block.seq(index) <= seq => {
                return Ok(Some((index, block.value_range(value_at, head.value_bytes)?)));
            }
            Ordering::Equal | Ordering::Less => {}
        }
        at = head.next();
        value_at += head.value_bytes;
    }
    Ok(None)
}

/// Compares successive entries with one target by what they share with each other.
pub(super) struct Probe<'k> {
    key: &'k [u8],
    /// How many bytes of the target the last entry shared with it.
    matched: usize,
}

impl<'k> Probe<'k> {
    pub(super) fn new(key: &'k [u8]) -> Self {
        Self { key, matched: 0 }
    }
    /// The next entry is a restart.
    #[inline]
    pub(super) fn restart(&mut self) {
        self.matched = 0;
    }
    /// How the next entry's key compares with the target. The entry before it (if it is no restart)
    /// compared less or equal.
    #[inline]
    pub(super) fn order(&mut self, shared: usize, suffix: &[u8]) -> Ordering {
        match shared.cmp(&self.matched) {
            Ordering::Greater => Ordering::Less,
            Ordering::Less => Ordering::Greater,
            Ordering::Equal => {
                let rest = &self.key[shared..];
                let n = common_prefix(suffix, rest);
                self.matched = shared + n;
                suffix.get(n).cmp(&rest.get(n))
            }
        }
    }
}

/// How many bytes `a` and `b` share at their fronts.
#[inline]
pub(super) fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let mut n = 0;
    while let (Some(x), Some(y)) = (a[n..].first_chunk::<8>(), b[n..].first_chunk::<8>()) {
        let differ = u64::from_le_bytes(*x) ^ u64::from_le_bytes(*y);
        if differ != 0 {
            return n + (differ.trailing_zeros() / 8) as usize;
        }
        n += 8;
    }
    n + a[n..].iter().zip(&b[n..]).take_while(|(x, y)| x == y).count()
}
