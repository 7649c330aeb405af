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
use tokio::sync::watch;

use super::history::Node;

/// A process's life. Shared by everything the process is made of.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) node: Node,
    state: watch::Sender<State>,
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
        Arc::new(Self { node, state: watch::Sender::new(State::Running) })
    }

    /// It ends, without a word.
    pub(crate) fn kill(&self) {
        self.state.send_replace(State::Dead);
    }

    /// It stands still.
    pub(crate) fn pause(&self) {
        self.state.send_if_modified(|state| {
            let running = *state == State::Running;
            if running {
                *state = State::Paused;
            }
            running
        });
    }

    /// It goes on.
    pub(crate) fn resume(&self) {
        self.state.send_if_modified(|state| {
            let paused = *state == State::Paused;
            if paused {
                *state = State::Running;
            }
            paused
        });
    }

    /// Whether it has ended.
    pub(crate) fn is_dead(&self) -> bool {
        *self.state.borrow() == State::Dead
    }

    /// Returns while the process runs: at once, after a pause, or never.
    pub(crate) async fn runs(&self) {
        if *self.state.borrow() == State::Running {
            return;
        }
        let mut state = self.state.subscribe();
        loop {
            match *state.borrow_and_update() {
                State::Running => return,
                State::Paused => {}
                State::Dead => break,
            }
            // The sender is in `self`, so it cannot have gone.
            if state.changed().await.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await;
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
