//! Keeps what long reads are at: pins their versions, renews the pins, releases them.
//!
//! ```text
//! Snapshot, Scan ──► Hold ──► Holds (read/holds.rs: who, which version, since when; what is due)
//!                                ▲
//!                     one task ──┘  PUT pin/…, LIST floor/manifest, and a PUT now and then
//! ```
//!
//! A read that is over before its grace costs no request. The grace is half the retention that the database
//! stores, because what a version names is kept for that long after a newer one has come; with a retention of
//! zero a read is pinned before its first fetch. All requests are the task's, so a read may be dropped at any
//! moment: the task goes on until everything is released, also when the handle is gone.
//!
//! Without the permission to write pins reads go on as well, unpinned, and end in `SnapshotExpired` if what they
//! read is collected. The same if this process cannot reach the store to renew its pin for most of a pin's life.
//!
//! Always true: a pin costs at most a scan (a typed error), never a row; nothing waits for the task once it is gone.

use std::{fmt, pin::pin, sync::Arc, time::Duration};

use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::holds::{Done, HoldKey, Holds, Job, Verdict};
use crate::{
    clock::{Task, deadline},
    error::{Error, ErrorKind, Result},
    manifest::{Manifest, Pin, View},
};

/// Requests for pins in flight at once.
const PARALLEL: usize = 16;
/// The longest that closing a handle waits for pins to be released.
const DRAIN_TIME: Duration = Duration::from_secs(5);

/// The keeper of one handle. Cheap to clone; its task ends when all clones and holds are gone.
#[derive(Debug, Clone)]
pub(super) struct Keeper(Arc<Door>);

/// A hold on a version: while it lives, the version is pinned if need be.
pub(super) struct Hold {
    key: HoldKey,
    door: Arc<Door>,
}

/// Tells the task when nobody is left.
#[derive(Debug)]
struct Door(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    manifest: Manifest,
    holds: Mutex<Holds>,
    /// Wakes the task.
    wake: Notify,
    /// Wakes those who wait for their pin.
    changed: Notify,
}

impl Keeper {
    /// A keeper of versions of `manifest`, with a task on the caller's runtime.
    pub(super) fn start(manifest: Manifest) -> Self {
        let shared = Arc::new(Shared {
            manifest,
            holds: Mutex::default(),
            wake: Notify::new(),
            changed: Notify::new(),
        });
        let (gone, run) = (Gone(Arc::clone(&shared)), run(Arc::clone(&shared)));
        // The task keeps its own handle, because a dropped handle would end it before the last release.
        let (keep, kept) = oneshot::channel::<Task>();
        let task = Task::spawn(async move {
            let _gone = gone;
            let _own = kept.await;
            run.await;
        });
        let _ = keep.send(task);
        Self(Arc::new(Door(shared)))
    }

    /// A hold on `view` from now on; `None` if there is nothing in it to keep.
    pub(super) fn hold(&self, view: &Arc<View>) -> Option<Arc<Hold>> {
        if view.runs.iter().all(|run| run.ssts.is_empty()) {
            return None;
        }
        let shared = &self.0.0;
        let now = shared.now();
        let (key, wake) = shared.holds.lock().add(view, now);
        if wake {
            shared.wake.notify_one();
        }
        Some(Arc::new(Hold { key, door: Arc::clone(&self.0) }))
    }

    /// Waits until every pin that nobody needs has been released; not for what is still held, and not for long.
    pub(super) async fn drain(&self) {
        let shared = &self.0.0;
        let drained = async {
            // Once: the task answers each time, and the two would wake one another until the requests are back.
            shared.wake.notify_one();
            loop {
                let mut changed = pin!(shared.changed.notified());
                changed.as_mut().enable();
                if shared.holds.lock().is_drained() {
                    return Ok(());
                }
                changed.await;
            }
        };
        // A pin that is not released in time lapses by itself.
        let _ = deadline(&**shared.manifest.store().clock(), DRAIN_TIME, "releasing pins", drained).await;
    }
}

impl Hold {
    /// To be awaited before each fetch: at once while the hold is young or its pin counts; after a request or two
    /// if it has just outlived the grace. Fails with `SnapshotExpired` if the version has been collected.
    pub(super) async fn secure(&self) -> Result<()> {
        let shared = &self.door.0;
        let mut has_asked = false;
        loop {
            let mut changed = pin!(shared.changed.notified());
            // From here on no change is missed.
            changed.as_mut().enable();
            let verdict = shared.holds.lock().verdict(self.key, shared.now());
            match verdict {
                Verdict::Go => return Ok(()),
                Verdict::Lost => return Err(lost()),
                // Again would be without end: the task answers each time, also while the pin is on its way.
                Verdict::Wait if has_asked => {}
                Verdict::Wait => {
                    has_asked = true;
                    shared.wake.notify_one();
                }
            }
            changed.await;
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let shared = &self.door.0;
        let wake = shared.holds.lock().drop_hold(self.key);
        if wake {
            shared.wake.notify_one();
        }
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Hold").field(&self.key).finish()
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.0.holds.lock().close();
        self.0.wake.notify_one();
    }
}

impl Shared {
    fn now(&self) -> Duration {
        self.manifest.store().clock().monotonic()
    }
}

/// The task.
async fn run(shared: Arc<Shared>) {
    let clock = Arc::clone(shared.manifest.store().clock());
    let mut under_way: FuturesUnordered<BoxFuture<'static, Done>> = FuturesUnordered::new();
    loop {
        let now = clock.monotonic();
        let room = PARALLEL - under_way.len().min(PARALLEL);
        let due = shared.holds.lock().due(now, room, |view| Pin::on(view, &*clock));
        // What was lost by standing still concerns those who wait as well.
        shared.changed.notify_waiters();
        for job in due.jobs {
            under_way.push(Box::pin(send(shared.manifest.clone(), job)));
        }
        if due.finished && under_way.is_empty() {
            return;
        }
        let pause = due.look_at.map(|at| at.saturating_sub(now));
        tokio::select! {
            biased;
            Some(done) = under_way.next() => {
                shared.holds.lock().settle(done, clock.monotonic());
                shared.changed.notify_waiters();
            }
            () = shared.wake.notified() => {}
            () = clock.sleep(pause.unwrap_or_default()), if pause.is_some() => {}
        }
    }
}

/// Says that the task has ended, for whatever reason.
struct Gone(Arc<Shared>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.holds.lock().orphan();
        self.0.changed.notify_waiters();
    }
}

async fn send(manifest: Manifest, job: Job) -> Done {
    let began = manifest.store().clock().monotonic();
    match job {
        Job::Write(number, pin) => Done::Wrote(number, began, pin.write(&manifest).await),
        Job::Renew(number, pin) => Done::Renewed(number, began, pin.renew(&manifest).await),
        Job::Release(pin) => {
            if let Err(error) = pin.release(&manifest).await {
                tracing::debug!(%error, "a pin was not released; it lapses by itself");
            }
            Done::Released
        }
    }
}

fn lost() -> Error {
    Error::new(
        ErrorKind::SnapshotExpired,
        "the version that was read has been collected, or its pin could not be kept up",
    )
    .hint("start again from a new snapshot")
}
