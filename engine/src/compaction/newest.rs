//! Refusing to merge or collect on a version that is not the newest there was: the log and the job log know of epochs
//! that a version gave out, whether or not it is still there.
//!
//! ```text
//! last objects of the log, FENCEs before them     epoch of the writer      > that of the version?  one is lost
//! last record of the job log                      epoch of the compactor   > that of the version?  one is lost
//! ```
//!
//! Whoever merges would take the place of the lost version, which a copy may still have; whoever collects would delete
//! what it names.
//!
//! Always true: what was committed meanwhile is no loss: the newest version is looked for again before anything is refused;
//! nothing has been written or deleted by then.

use crate::{
    compaction::log,
    error::Result,
    manifest::{Manifest, Root, View},
    stats::Cause,
    wal::behind,
};

/// Fails with `Corruption` if the log or the job log says that a version newer than `latest` is lost.
pub(super) async fn check(manifest: &Manifest, latest: &View, cause: Cause) -> Result<()> {
    behind::check_epoch(manifest, latest, cause).await?;
    let epoch = log::last_epoch(manifest.store(), manifest.identity().db_uuid, cause).await?;
    let known = |root: &Root| root.compactor.epoch;
    behind::check_given_out(manifest, latest, "compactor", epoch, known, cause).await
}
