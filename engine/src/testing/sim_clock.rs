//! Virtual time for one process of a simulation: its own skew, drift and chance.
//!
//! Stands on tokio's paused time, which jumps to the next timer whenever nothing can run: hours take
//! milliseconds. Each simulated process has a clock of its own, so that no two agree.
//!
//! Always true: the same seed and the same order of questions give the same answers; the monotonic clock
//! never goes back; nothing here reads the machine's clock.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use parking_lot::Mutex;
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use tokio::time::Instant;

pub use crate::clock::OneThread;
use crate::clock::{Clock, SharedClock};

/// Where wall clocks begin: 2026-01-01T00:00:00Z, in milliseconds since the Unix epoch.
const EPOCH_MS: u64 = 1_767_225_600_000;
const PER_MILLION: i64 = 1_000_000;

/// A [`Clock`] over the runtime's time, for a current-thread runtime whose time is paused.
///
/// ```
/// use std::time::Duration;
/// use esker::testing::SimClock;
///
/// let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
/// runtime.block_on(async {
///     let clock = SimClock::shared(42);
///     let before = clock.monotonic();
///     clock.sleep(Duration::from_secs(3600)).await;
///     assert_eq!(clock.monotonic() - before, Duration::from_secs(3600));
/// });
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct SimClock {
    origin: Instant,
    skew_ms: Mutex<i64>,
    drift_ppm: i64,
    chance: Mutex<SmallRng>,
}

/// Everything of the engine on this thread's runtime runs in this thread, while the guard lives.
pub fn single_threaded() -> OneThread {
    OneThread::begin()
}

impl SimClock {
    /// A clock that is right, with the chance of `seed`. Call it on the runtime whose time it is to tell.
    pub fn shared(seed: u64) -> SharedClock {
        Arc::new(Self::new(seed, 0, 0))
    }

    /// A clock that is `skew_ms` ahead and gains `drift_ppm` microseconds a second (at most 500,000 either way).
    pub fn new(seed: u64, skew_ms: i64, drift_ppm: i64) -> Self {
        Self {
            origin: Instant::now(),
            skew_ms: Mutex::new(skew_ms),
            drift_ppm: drift_ppm.clamp(-PER_MILLION / 2, PER_MILLION / 2),
            chance: Mutex::new(SmallRng::seed_from_u64(seed)),
        }
    }

    /// Moves the wall clock, as an operator or a time server does; the monotonic one goes on as before.
    pub fn jump(&self, by_ms: i64) {
        let mut skew_ms = self.skew_ms.lock();
        *skew_ms = skew_ms.saturating_add(by_ms);
    }
}

impl Clock for SimClock {
    fn wall_ms(&self) -> u64 {
        let elapsed = u64::try_from(self.monotonic().as_millis()).unwrap_or(u64::MAX);
        EPOCH_MS.saturating_add(elapsed).saturating_add_signed(*self.skew_ms.lock())
    }

    fn monotonic(&self) -> Duration {
        scaled(self.origin.elapsed(), PER_MILLION + self.drift_ppm, PER_MILLION)
    }

    #[expect(clippy::disallowed_methods, reason = "this is a clock, over virtual time")]
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let mut slept = scaled(duration, PER_MILLION, PER_MILLION + self.drift_ppm);
        if self.drift_ppm != 0 && !duration.is_zero() {
            // Rounded up: who sleeps for the last nanosecond before something is due must not wake at the same moment.
            slept += Duration::from_nanos(1);
        }
        Box::pin(tokio::time::sleep(slept))
    }

    fn random(&self) -> u128 {
        let mut chance = self.chance.lock();
        u128::from(chance.next_u64()) | u128::from(chance.next_u64()) << 64
    }
}

fn scaled(duration: Duration, by: i64, of: i64) -> Duration {
    if by == of {
        return duration;
    }
    let nanos = duration.as_nanos().saturating_mul(by.unsigned_abs().into()) / u128::from(of.unsigned_abs());
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}
