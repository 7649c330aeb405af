//! Holds a version while work on it lasts: what only it names must not be collected under our hands.
//!
//! ```text
//! a repair   pin ─ look at the floor ─ claims ─ fence ─ replay (minutes) ─ commit ─ release
//!                       └─ counts?                └─ a heartbeat now and then
//! a check    … half the retention … ─ pin ─ look at the floor ─ … (hours) … ─ release
//! ```
//!
//! Collection needs no role, so the claims of a repair do not keep it away. A pin keeps no log: whether the log is
//! still there is looked at when the fence is in place.
//!
//! A check goes on without a pin where it may not write, and looks afterwards at what was collected. It sends nothing if it
//! is quick, as reads do.
//!
//! Always true: nothing is committed on a pin that no longer counts; it is released however the work ends.

use std::{convert::Infallible, future::pending, sync::Arc, time::Duration};

use parking_lot::Mutex;

use crate::{
    error::{Error, ErrorKind, Result},
    manifest::{Manifest, Pin, View},
    store::Name,
};

/// Work that ends within this writes no pin, however little is kept.
const SOONEST: Duration = Duration::from_secs(1);

/// Does `work` on `view`, which is pinned once that has lasted for half the time that versions are kept. Where it cannot
/// be pinned the work goes on all the same.
pub(crate) async fn once_it_lasts<T>(
    manifest: &Manifest,
    view: &Arc<View>,
    work: impl Future<Output = T>,
) -> T {
    let mut pinned = None;
    let keep = async {
        let grace = Duration::from_millis(view.root.options.retention_ms / 2);
        manifest.store().clock().sleep(grace.max(SOONEST)).await;
        let error = match Pinned::on(manifest, view).await {
            Ok(pin) => pinned.insert(pin).keep_renewing().await,
            Err(error) => error,
        };
        tracing::info!(%error, version = view.id(), "a version is read that no pin holds");
        pending::<Infallible>().await
    };
    let done = tokio::select! {
        biased;
        done = work => done,
        never = keep => match never {},
    };
    if let Some(pinned) = pinned {
        pinned.release().await;
    }
    done
}

/// A version that is pinned.
pub(crate) struct Pinned<'a> {
    manifest: &'a Manifest,
    version: u64,
    pin: Pin,
    /// When the last heartbeat that was answered began.
    since: Mutex<Duration>,
}

impl<'a> Pinned<'a> {
    /// Pins `view`. Fails with `Conflict` if it has been collected by then.
    pub(crate) async fn on(manifest: &'a Manifest, view: &Arc<View>) -> Result<Self> {
        let clock = manifest.store().clock();
        let pin = Pin::on(view, &**clock);
        let since = Mutex::new(clock.monotonic());
        let pinned = Self { manifest, version: view.id(), pin, since };
        match pinned.pin.write(manifest).await {
            Ok(true) => Ok(pinned),
            Ok(false) => {
                let what = "this version was collected before it could be pinned: what it names may be gone";
                let error = Error::new(ErrorKind::Conflict, what)
                    .on(Name::Manifest(pinned.version).path())
                    .hint("no role was taken and no version made; repair again");
                pinned.release().await;
                Err(error)
            }
            Err(error) => {
                pinned.release().await;
                Err(error)
            }
        }
    }

    /// Does `work`, and renews the pin for as long as it lasts. It ends early if that fails for too long.
    pub(crate) async fn during<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            biased;
            done = work => done,
            error = self.keep_renewing() => Err(error),
        }
    }

    /// Fails with `Unavailable` if the pin may have lapsed.
    pub(crate) fn check(&self) -> Result<()> {
        let age = self.manifest.store().clock().monotonic().saturating_sub(*self.since.lock());
        if age < Pin::counts_for() {
            return Ok(());
        }
        let what = format!("the pin on this version could not be renewed for {} s", age.as_secs());
        Err(Error::unavailable(what).on(Name::Manifest(self.version).path()).hint("repair again"))
    }

    /// Gives the version up.
    pub(crate) async fn release(self) {
        if let Err(error) = self.pin.release(self.manifest).await {
            tracing::warn!(%error, pin = %self.pin.name(), "a pin could not be released; it lapses by itself");
        }
    }

    async fn keep_renewing(&self) -> Error {
        let clock = self.manifest.store().clock();
        loop {
            clock.sleep(Pin::heartbeat()).await;
            let began = clock.monotonic();
            match self.pin.renew(self.manifest).await {
                Ok(()) => *self.since.lock() = began,
                Err(error) => {
                    tracing::warn!(%error, pin = %self.pin.name(), "could not renew a pin");
                    if let Err(lapsed) = self.check() {
                        return lapsed.because(error);
                    }
                }
            }
        }
    }
}
