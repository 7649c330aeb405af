//! Refusing to write behind a version that was lost.
//!
//! If the newest version was deleted from outside, the one before it looks like the newest. Whoever claims the role on
//! that gives an epoch out again, and a keyspace's number; and takes the place of the version that a copy could have
//! brought back. So before the claim the end of the log is looked at, and after the replay what came out of it.
//!
//! ```text
//! newest version: epoch 4      log   … DATA e4   FENCE e5   (strays e4)   DATA e5
//!                                                └──── the last objects: e5 was given out by a version that is lost
//! ```
//!
//! Always true: a claim that came meanwhile, or a listing that was stale, is no loss: the newest version is looked for
//! again before anything is refused.

use futures::future::try_join_all;

use crate::{
    error::{ErrorKind, Result},
    key::split_full_key,
    manifest::{Manifest, View},
    memtable::Memtable,
    stats::Cause,
    store::{Folder, Name, Sequence},
    verify::lost,
    wal::{record::MAX_FENCE_BYTES, replay::read},
    write::head::Start,
};

/// Fails with `Corruption` if the log says that a version after `latest` gave an epoch out.
///
/// One LIST of the log from the replay point on, and GETs of its last object and of what may be a FENCE shortly
/// before it.
pub(super) async fn check_epoch(manifest: &Manifest, latest: &View) -> Result<()> {
    let before = Name::Wal(latest.root.writer.replay_from.saturating_sub(1));
    let listed = manifest.store().list(Folder::Wal, Some(&before), Cause::Open).await?;
    let Some(last) = listed.last().and_then(|object| object.name.number()) else { return Ok(()) };
    let near = last.saturating_sub(manifest.identity().wal_window.into());
    let of_interest = listed.iter().filter_map(|object| {
        let slot = object.name.number()?;
        (slot == last || slot > near && object.bytes <= MAX_FENCE_BYTES).then_some(slot)
    });
    let log = Sequence::new(manifest.store().clone(), Folder::Wal);
    let db_uuid = manifest.identity().db_uuid;
    let epochs = try_join_all(of_interest.map(|slot| epoch(&log, db_uuid, slot))).await?;
    let Some(epoch) = epochs.into_iter().flatten().max().filter(|e| *e > latest.root.writer.epoch) else {
        return Ok(());
    };
    let newest = manifest.latest(Cause::Open).await?;
    let is_stale = || manifest.stored_version(newest.id() + 1, Some(&newest), Cause::Open);
    if newest.root.writer.epoch >= epoch || is_stale().await?.is_some() {
        return Ok(());
    }
    Err(lost::refused(newest.id(), &format!("there are objects of writer epoch {epoch}")))
}

/// Fails with `Corruption` if what was replayed is of a keyspace that the version it was replayed on has not given out.
pub(crate) fn check_keyspaces(start: &Start) -> Result<()> {
    let memtables = start.replayed.iter().map(|replayed| &*replayed.memtable);
    let last_keys = memtables.chain([&start.active]).filter_map(Memtable::last_key);
    let highest = last_keys.filter_map(|key| split_full_key(&key).map(|(id, _)| id.0)).max();
    match highest.filter(|id| *id >= start.view.root.next_keyspace) {
        None => Ok(()),
        Some(id) => {
            let why = format!("there are entries of keyspace {id} in the log");
            Err(lost::refused(start.view.id(), &why))
        }
    }
}

/// The epoch of the object in `slot`. What cannot be read is for the opener to meet.
async fn epoch(log: &Sequence, db_uuid: u128, slot: u64) -> Result<Option<u32>> {
    match read(log, db_uuid, slot, Cause::Open).await {
        Ok(object) => Ok(object.map(|object| object.header().epoch)),
        Err(error) if matches!(error.kind(), ErrorKind::Corruption | ErrorKind::Unsupported) => Ok(None),
        Err(error) => Err(error),
    }
}
