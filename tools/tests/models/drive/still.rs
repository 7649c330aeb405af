//! A clock that stands still: pauses end at once, deadlines do not come, until the driver says that they have.

use std::{
    future::{Future, pending, ready},
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use esker::clock::Clock;

use crate::explore::Chance;

/// Longer than any pause between two attempts, and shorter than any deadline.
const PAUSE: Duration = Duration::from_secs(3);
/// Longer than any deadline.
const HOUR_MS: u64 = 3_600_000;

/// The clock of one process.
#[derive(Debug)]
pub(crate) struct StillClock {
    ms: AtomicU64,
    chance: AtomicU64,
}

impl StillClock {
    /// A clock whose chance is that of `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        Self { ms: AtomicU64::new(HOUR_MS), chance: AtomicU64::new(seed) }
    }

    /// Whatever was begun before this has no time left.
    pub(crate) fn pass_all_deadlines(&self) {
        self.ms.fetch_add(HOUR_MS, Ordering::Relaxed);
    }
}

impl Clock for StillClock {
    fn wall_ms(&self) -> u64 {
        self.ms.load(Ordering::Relaxed)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.wall_ms())
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        if duration <= PAUSE { Box::pin(ready(())) } else { Box::pin(pending()) }
    }

    fn random(&self) -> u128 {
        let mut chance = Chance(self.chance.load(Ordering::Relaxed));
        let half = |chance: &mut Chance| chance.below(usize::MAX) as u128;
        let random = half(&mut chance) << 64 | half(&mut chance);
        self.chance.store(chance.0, Ordering::Relaxed);
        random
    }
}
