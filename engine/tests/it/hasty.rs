//! A clock for tests of who waits: nobody waits for it.

use std::{
    future::Future,
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use esker::clock::{Clock, SystemClock};
use parking_lot::Mutex;

/// What sleeps longer than this is a deadline.
const LONGEST_NAP: Duration = Duration::from_secs(6);

/// A clock whose short sleeps pass at once and are noted down; the long ones, which are deadlines,
/// never end.
#[derive(Debug, Default)]
pub(crate) struct Hasty {
    now_ms: AtomicU64,
    naps: Mutex<Vec<Duration>>,
}

impl Hasty {
    fn advance(&self, by: Duration) {
        self.now_ms.fetch_add(by.as_millis() as u64, Relaxed);
    }

    /// The next `count` naps that anybody takes, in their order.
    pub(crate) async fn naps(&self, count: usize) -> Vec<Duration> {
        let before = self.naps.lock().len();
        while self.naps.lock().len() < before + count {
            tokio::task::yield_now().await;
        }
        self.naps.lock()[before..].to_vec()
    }
}

impl Clock for Hasty {
    fn wall_ms(&self) -> u64 {
        1_000_000 + self.now_ms.load(Relaxed)
    }
    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.now_ms.load(Relaxed))
    }
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        if duration > LONGEST_NAP {
            return Box::pin(std::future::pending());
        }
        self.naps.lock().push(duration);
        self.advance(duration);
        Box::pin(tokio::task::yield_now())
    }
    fn random(&self) -> u128 {
        SystemClock::shared().random()
    }
}
