//! A pin: a reader's hold on a version, without which garbage collection takes what the version names.
//!
//! ```text
//! write    PUT pin/{uuid}, then LIST floor/manifest: held only if the version is above the floor
//! renew    the same PUT with the same bytes: the store's own Last-Modified moves
//! release  PUT of a body without a root over it: it holds nothing, and the next collection removes it
//! ```
//!
//! Write first and look afterwards: a pass of collection raises the floor before it lists pins, so a pass
//! whose floor does not cover the version when we look has not listed pins yet, or never needs to
//! (the model of collection, `tools/tests/models/collect`, finds the lost SST if either order is turned round).
//!
//! **Why a pin is released by a PUT and not by a delete:** a reader needs no permission to delete anything, and
//! nothing outside collection deletes. What is left is a hundred bytes until the next pass.
//!
//! Whether a pin has been left behind is judged by the store's clock alone, against other objects of the same
//! store; its reader goes by its own monotonic clock and stops earlier ([`Pin::counts_for`]). If the two disagree
//! badly a read ends in `SnapshotExpired`; it cannot see wrong rows, because names are never reused.

use std::time::Duration;

use bytes::Bytes;

use crate::{
    chaos::{Bug, bug},
    clock::Clock,
    error::Result,
    manifest::{Manifest, VersionCopy, View, copy},
    stats::Cause,
    store::{Name, Token},
};

/// How long a pin counts after its last heartbeat, in milliseconds by the store's clock: how long what a
/// crashed reader held stays, and how long a store may be away before readers give up.
pub const PIN_LIFE_MS: u64 = 10 * 60 * 1000;
/// A quarter of the life lies between two heartbeats; another is left at the end as a margin between two clocks.
const PARTS_OF_LIFE: u64 = 4;

/// A pin that was or will be written.
#[derive(Debug, Clone)]
pub struct Pin {
    name: Name,
    version: u64,
    body: Bytes,
}

impl Pin {
    /// A pin on `view`, under a fresh name. Nothing is written yet.
    pub fn on(view: &View, clock: &dyn Clock) -> Self {
        let name = Name::Pin(clock.random());
        let copy = VersionCopy::of(view, PIN_LIFE_MS, clock.wall_ms());
        let body = copy::encode(&name, Token::fresh(clock), Some(&copy));
        Self { name, version: view.id(), body }
    }

    /// Its name in the store.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Writes it, and says whether it holds: false if its version had been collected by then, and what it
    /// names may be gone. One PUT and one LIST.
    pub async fn write(&self, manifest: &Manifest) -> Result<bool> {
        self.renew(manifest).await?;
        // slatedb #2073: the lease came too late.
        Ok(bug(Bug::PinWithoutALook) || self.is_above_floor(manifest).await?)
    }

    /// A heartbeat: one PUT.
    pub async fn renew(&self, manifest: &Manifest) -> Result<()> {
        manifest.store().replace(&self.name, self.body.clone(), Cause::Pin).await
    }

    /// Whether the version has not been collected. One LIST.
    pub async fn is_above_floor(&self, manifest: &Manifest) -> Result<bool> {
        Ok(self.version > manifest.floor(Cause::Pin).await?)
    }

    /// Whether it is still in the store and was not released. One GET.
    ///
    /// A pass of collection deletes what has lapsed before it lists checkpoints, so what was there before this
    /// is seen by every pass that does not heed this pin.
    pub async fn is_there(&self, manifest: &Manifest) -> Result<bool> {
        Ok(matches!(copy::load(manifest, &self.name, Cause::Pin).await?, Some(Some(_))))
    }

    /// Gives it up: it holds nothing any more. If this fails it lapses by itself.
    pub async fn release(&self, manifest: &Manifest) -> Result<()> {
        let token = Token::fresh(&**manifest.store().clock());
        let body = copy::encode(&self.name, token, None);
        manifest.store().replace(&self.name, body, Cause::Pin).await
    }

    /// For how long after a heartbeat was **begun** its reader may count on it.
    pub const fn counts_for() -> Duration {
        Duration::from_millis(PIN_LIFE_MS - PIN_LIFE_MS / PARTS_OF_LIFE)
    }

    /// The time from one heartbeat to the next.
    pub const fn heartbeat() -> Duration {
        Duration::from_millis(PIN_LIFE_MS / PARTS_OF_LIFE)
    }
}
