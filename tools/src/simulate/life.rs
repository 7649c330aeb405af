//! One life of a simulated process: running, paused, or dead; and the clock it tells the time by.
//!
//! A process is made of tasks that the engine spawns itself, so it is stopped where it touches the world: its
//! sleeps do not end and its requests neither leave nor are answered while it is paused, and never again when
//! it is dead. Work in memory that was ready may still go on, and nobody can tell.
//!
//! Always true: after [`Life::kill`] nothing that the process does reaches the store; what it had sent before
//! is the store's and may land.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use esker::{
    clock::{Clock, SharedClock},
    testing::SimClock,
};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::history::Node;

/// A process's life. Shared by everything the process is made of.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) node: Node,
    state: Mutex<State>,
    /// Wakes in the order of waiting; tokio's `watch` wakes in an order of its own chance.
    changed: Notify,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    Paused,
    Dead,
}

impl Life {
    /// A life begins.
    pub(crate) fn begin(node: Node) -> Arc<Self> {
        Arc::new(Self { node, state: Mutex::new(State::Running), changed: Notify::new() })
    }

    /// It ends, without a word.
    pub(crate) fn kill(&self) {
        *self.state.lock() = State::Dead;
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&self) -> bool {
        *self.state.lock() == State::Dead
    }

    /// It stands still.
    pub(crate) fn pause(&self) {
        let state = &mut *self.state.lock();
        if *state == State::Running {
            *state = State::Paused;
        }
    }

    /// It goes on.
    pub(crate) fn resume(&self) {
        let state = &mut *self.state.lock();
        if *state == State::Paused {
            *state = State::Running;
            self.changed.notify_waiters();
        }
    }

    /// Returns while the process runs: at once, after a pause, or never.
    pub(crate) async fn runs(&self) {
        loop {
            // Counts from here on, so a change after the look is not missed.
            let changed = self.changed.notified();
            if *self.state.lock() == State::Running {
                return;
            }
            changed.await;
        }
    }

    /// A clock for this life: over virtual time, with chance, skew and drift of its own.
    pub(crate) fn clock(self: &Arc<Self>, seed: u64, skew_ms: i64, drift_ppm: i64) -> SharedClock {
        Arc::new(LifeClock { clock: SimClock::new(seed, skew_ms, drift_ppm), life: Arc::clone(self) })
    }
}

/// A process's clock: its sleeps do not end while it stands still.
struct LifeClock {
    clock: SimClock,
    life: Arc<Life>,
}

impl Clock for LifeClock {
    fn wall_ms(&self) -> u64 {
        self.clock.wall_ms()
    }

    fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let (slept, life) = (self.clock.sleep(duration), Arc::clone(&self.life));
        Box::pin(async move {
            slept.await;
            life.runs().await;
        })
    }

    fn random(&self) -> u128 {
        self.clock.random()
    }
}

impl fmt::Debug for LifeClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LifeClock({})", self.life.node)
    }
}
