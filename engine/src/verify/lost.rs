//! Is the newest version that is there the newest there was? One that was deleted from outside is missed by nobody
//! who lists: the version before it looks like the newest.
//!
//! ```text
//! what is there                             speaks of a lost version if
//! object of the log, its epoch              no version that is there gave the epoch out
//! SST, the epoch in its name                the same
//! last record of the job log, its epoch     the same
//! entry in the log, its keyspace            no version that is there has the keyspace
//! ```
//!
//! What leaves none of these behind (a flush, a merge) loses nothing: the log and the inputs are kept for as long as
//! a version needs them that is there.
//!
//! Always true: what was written while this was looking is taken for lost only if the caller looks again and finds
//! no newer version.

use crate::{
    compaction::log::last_epoch,
    error::Result,
    manifest::{Manifest, View},
    stats::Cause,
    store::{Name, Role},
    verify::{
        Finding, Report, Survey,
        log::{Log, Slot},
    },
    wal::behind,
};

/// The highest epochs that anything that is there belongs to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Epochs {
    /// Of the writer's role.
    pub(crate) writer: u32,
    /// Of the compactor's role.
    pub(crate) compactor: u32,
}

/// What says that a version after `root`, the newest, is lost.
pub(super) async fn check(
    manifest: &Manifest,
    survey: &Survey,
    log: &Log,
    latest: &View,
    report: &mut Report,
) -> Result<()> {
    let root = &latest.root;
    let mut epochs = Epochs::of(survey, log);
    let of_jobs = last_epoch(manifest.store(), manifest.identity().db_uuid, Cause::Admin).await?;
    epochs.compactor = epochs.compactor.max(of_jobs);
    let mut why = Vec::new();
    for (role, known, found) in
        [("writer", root.writer.epoch, epochs.writer), ("compactor", root.compactor.epoch, epochs.compactor)]
    {
        if found > known {
            why.push(behind::of_epoch(role, found));
        }
    }
    why.extend(log.unnamed_keyspaces(root).into_iter().map(behind::of_keyspace));
    if !why.is_empty() {
        report.add(Finding::damage(
            Name::Manifest(latest.id() + 1),
            behind::missing(latest.id(), &why.join(", ")),
        ));
    }
    Ok(())
}

impl Epochs {
    /// What the log and the names of SSTs say.
    pub(crate) fn of(survey: &Survey, log: &Log) -> Self {
        let mut epochs = Self::default();
        for slot in log.slots.values() {
            if let Slot::Data { epoch, .. } | Slot::Fence { epoch } = slot {
                epochs.writer = epochs.writer.max(*epoch);
            }
        }
        // Not of parts: those of a claim are written before it is made.
        let ssts = survey.stored().filter(|name| matches!(name, Name::Sst(_)));
        for id in ssts.filter_map(Name::object_id) {
            let of_role = match id.role {
                Role::Writer => &mut epochs.writer,
                Role::Compactor => &mut epochs.compactor,
            };
            *of_role = (*of_role).max(id.epoch);
        }
        epochs
    }
}
