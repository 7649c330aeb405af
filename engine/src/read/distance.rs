//! How far away the store is: what a small request takes at least, about.
//!
//! Whether a block that may not be needed is brought along depends on it: where a request takes as long as decoding a
//! block it does not pay, where it takes as long as decoding a thousand it does.
//!
//! Always true: few slow answers do not make a near store far (a thread may have been put off, a request tried again).

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// From here on a store is far, in microseconds.
const FAR_US: u64 = 1000;
/// The part that a quicker answer has in what is known, one in so many; and one that took longer.
const QUICKER_PART: u64 = 4;
const SLOWER_PART: u64 = 32;

/// What requests take at least, about, in microseconds; 0 while nothing is known.
#[derive(Debug, Default)]
pub(super) struct Distance(AtomicU64);

impl Distance {
    /// A small request took so long.
    pub(super) fn took(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
        let known = self.0.load(Relaxed);
        let now = match known {
            0 => took,
            _ if took < known => known - (known - took).div_ceil(QUICKER_PART),
            _ => known.saturating_add((took - known) / SLOWER_PART),
        };
        // Of two at the same moment one may be lost: the next one counts.
        self.0.store(now, Relaxed);
    }

    /// Whether waiting for one more request costs more than bringing a block in vain.
    pub(super) fn is_far(&self) -> bool {
        self.0.load(Relaxed) >= FAR_US
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(took: impl IntoIterator<Item = u64>) -> Distance {
        let distance = Distance::default();
        took.into_iter().for_each(|micros| distance.took(Duration::from_micros(micros)));
        distance
    }

    #[test]
    fn a_store_is_as_far_as_its_quick_answers() {
        assert!(!after([]).is_far(), "nothing is known");
        assert!(after([15_000]).is_far());
        assert!(!after([0]).is_far());
        assert!(after([4000, 2000, 9000, 60_000, 3000]).is_far());
        let now_and_then_slow = (0..1000).map(|n| if n % 20 == 0 { 10_000 } else { 30 });
        assert!(!after(now_and_then_slow).is_far());
    }

    #[test]
    fn it_is_noticed_when_a_store_moves() {
        assert!(!after([15_000; 100].into_iter().chain([100; 20])).is_far());
        assert!(after([100; 100].into_iter().chain([15_000; 10])).is_far());
        assert!(after([u64::MAX; 3]).is_far());
    }
}
