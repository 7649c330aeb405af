//! How far background work has come, and waiting for it to come further.
//!
//! tokio's `watch` would do, but it wakes those who wait in an order of its own chance, and a run that is
//! repeated from its seed must wake them in the same order.
//!
//! Always true: whoever waits is woken in the order of waiting; a change after a look is never missed.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{error::Error, key::Seq};

/// How far background work has come; watched by those who wait for it.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// Everything up to here is in SSTs.
    pub flushed_seq: Seq,
    /// The version in use.
    pub view_id: u64,
    /// Why no more can be written, if so.
    pub stopped: Option<Error>,
}

/// The progress of one writer, where it is changed.
#[derive(Debug)]
pub(super) struct Watched {
    /// With the number of changes so far.
    now: Mutex<(u64, Progress)>,
    changed: Notify,
}

/// The progress of one writer, as one who waits sees it.
#[derive(Debug)]
pub struct Watcher {
    watched: Arc<Watched>,
    seen: u64,
}

impl Watched {
    pub(super) fn new(progress: Progress) -> Arc<Self> {
        Arc::new(Self { now: Mutex::new((1, progress)), changed: Notify::new() })
    }

    /// Changes it, and wakes whoever waits.
    pub(super) fn change(&self, change: impl FnOnce(&mut Progress)) {
        let (changes, progress) = &mut *self.now.lock();
        change(progress);
        *changes += 1;
        self.changed.notify_waiters();
    }

    /// One more who waits, and has seen what is now.
    pub(super) fn watcher(self: &Arc<Self>) -> Watcher {
        Watcher { seen: self.now.lock().0, watched: Arc::clone(self) }
    }
}

impl Watcher {
    /// Returns when there is something that this watcher has not seen.
    pub async fn changed(&mut self) {
        loop {
            // Made before the look, so that a change after it is heard.
            let changed = self.watched.changed.notified();
            if self.watched.now.lock().0 != self.seen {
                break;
            }
            changed.await;
        }
        self.seen = self.watched.now.lock().0;
    }

    /// What is now counts as not seen.
    pub fn mark_changed(&mut self) {
        self.seen = 0;
    }

    /// What is now, which is seen then.
    pub fn look(&mut self) -> Progress {
        let (changes, progress) = &*self.watched.now.lock();
        self.seen = *changes;
        progress.clone()
    }

    /// Returns when what is now satisfies `enough`: that.
    pub async fn wait_for(&mut self, enough: impl Fn(&Progress) -> bool) -> Progress {
        loop {
            let now = self.look();
            if enough(&now) {
                return now;
            }
            self.changed().await;
        }
    }
}
