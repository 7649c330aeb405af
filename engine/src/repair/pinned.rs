//! Holds an older version while it is put back: what only it names must not be collected under our hands.
//!
//! ```text
//! pin back ─ look at the floor ─ claims ─ fence ─ replay (minutes) ─ commit ─ release
//!                 └─ counts?                └─ a heartbeat now and then
//! ```
//!
//! Collection needs no role, so the claims do not keep it away. A pin keeps no log: whether the log is still
//! there is looked at when the fence is in place.
//!
//! Always true: nothing is committed on a pin that no longer counts; it is released however the work ends.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;

use crate::{
    error::{Error, ErrorKind, Result},
    manifest::{Manifest, Pin, View},
    store::Name,
};

/// A version that is pinned.
pub(super) struct Pinned<'a> {
    manifest: &'a Manifest,
    version: u64,
    pin: Pin,
    /// When the last heartbeat that was answered began.
    since: Mutex<Duration>,
}

impl<'a> Pinned<'a> {
    /// Pins `view`. Fails with `Conflict` if it has been collected by then.
    pub(super) async fn on(manifest: &'a Manifest, view: &Arc<View>) -> Result<Self> {
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
    pub(super) async fn during<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            biased;
            done = work => done,
            error = self.keep_renewing() => Err(error),
        }
    }

    /// Fails with `Unavailable` if the pin may have lapsed.
    pub(super) fn check(&self) -> Result<()> {
        let age = self.manifest.store().clock().monotonic().saturating_sub(*self.since.lock());
        if age < Pin::counts_for() {
            return Ok(());
        }
        let what = format!("the pin on this version could not be renewed for {} s", age.as_secs());
        Err(Error::unavailable(what).on(Name::Manifest(self.version).path()).hint("repair again"))
    }

    /// Gives the version up.
    pub(super) async fn release(self) {
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
