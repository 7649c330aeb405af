//! Not faster than one was asked to be: so many bytes a second, whoever reads them.
//!
//! Always true: over any stretch longer than a second, no more than the rate and one read beyond it.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use crate::clock::SharedClock;

/// Holds readers back to a rate. Shared by all that are to keep to it together.
#[derive(Debug)]
pub struct Pace {
    clock: SharedClock,
    bytes_per_second: Option<u64>,
    /// When the next read may begin, in microseconds of the clock's monotonic time.
    free_at_us: AtomicU64,
}

impl Pace {
    /// At most `bytes_per_second`, by `clock`; `None` holds nobody back.
    pub fn new(clock: SharedClock, bytes_per_second: Option<u64>) -> Self {
        Self {
            clock,
            bytes_per_second: bytes_per_second.map(|rate| rate.max(1)),
            free_at_us: AtomicU64::new(0),
        }
    }

    /// Waits until another `bytes` may be read.
    pub async fn take(&self, bytes: u64) {
        let Some(rate) = self.bytes_per_second else { return };
        let now = u64::try_from(self.clock.monotonic().as_micros()).unwrap_or(u64::MAX);
        let cost = u64::try_from(u128::from(bytes) * 1_000_000 / u128::from(rate)).unwrap_or(u64::MAX);
        let next = |free_at: u64| Some(free_at.max(now).saturating_add(cost));
        let free_at = self.free_at_us.fetch_update(Relaxed, Relaxed, next).unwrap_or(now);
        if free_at > now {
            self.clock.sleep(Duration::from_micros(free_at - now)).await;
        }
    }
}
