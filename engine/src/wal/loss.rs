//! Whether the log ends where a walk has ended, or has lost something there.
//!
//! ```text
//! wal/    F      …   s-1    s     s+1   s+2          s+K
//!         FENCE      DATA   none  DATA  FENCE        any
//!         │                       │     │            └ was sent after what was in s had been acknowledged
//!         │                       │     └ its opener had walked over what was in s
//!         │                       └ "durable to s", if it says so
//!         └ the newest version says that it is there, and nobody ever deletes a FENCE
//! ```
//!
//! The newest version adds a proof of its own: everything of the walk up to its tail hint was durable. It is committed
//! as each writer is let in, with each flush, and by each writer that is closed.
//!
//! What lies behind s without a proof is what a writer has in flight, or had when it crashed. Along the slots
//! "durable to" never falls, so of all DATA there only the last need be asked; what is small may be a FENCE. One of
//! an epoch older than that of F may have been put there by an opener that a collection had led astray, while
//! it was superseded already: it proves nothing.
//!
//! What nothing proves: that objects were lost from the very end, written after the newest version said how far
//! the log went, with nothing behind them.
//!
//! Always true: two requests at most while nothing is behind, and a GET for each small object that is, besides one
//! more; a store that lies about an absence for a moment makes an error of it, never a slot that is used twice.

use futures::future::try_join;

use crate::{
    error::{Error, Result},
    manifest::{Manifest, Root},
    stats::Cause,
    store::{Folder, Name, Sequence},
    wal::{WalObject, record::MAX_FENCE_BYTES, replay::read},
};

/// An object of the log that was there, and is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// Its slot.
    pub slot: u64,
    /// How that is known.
    pub why: String,
}

impl Lost {
    /// The error of whoever needs the log.
    pub fn error(&self) -> Error {
        let what = format!("the log has lost an object: {}", self.why);
        Error::corruption(Name::Wal(self.slot).path(), 0, what).hint(
            "`esker verify` says what else is missing; `esker repair --from` brings it back from a copy, and `esker repair --cut-log` goes on without it, which gives up the writes that it held",
        )
    }
}

/// What proves, if anything does, that a walk which began at `from` and ended at the absent slot `end` has not come to
/// the end of the log. `root` is the newest version that is known.
///
/// For one who follows the log what comes back is a proof only if no newer version has moved the replay point.
pub async fn look(
    manifest: &Manifest,
    root: &Root,
    from: u64,
    end: u64,
    cause: Cause,
) -> Result<Option<Lost>> {
    if let Some(lost) = before_tail(root, end) {
        return Ok(Some(lost));
    }
    let (fence, behind) =
        try_join(fence(manifest, root, from, cause), behind(manifest, root, end, cause)).await?;
    match (fence, behind) {
        (Some(lost), _) => Ok(Some(lost)),
        // It may have landed meanwhile, and what is behind it after it.
        (None, Some(lost)) if log(manifest).get(end, cause).await?.is_none() => Ok(Some(lost)),
        _ => Ok(None),
    }
}

/// The absent `slot`, if the version says that it was durable.
pub fn before_tail(root: &Root, slot: u64) -> Option<Lost> {
    let tail = root.writer.tail_hint;
    let why = || format!("version {} says that every slot up to {tail} was durable", root.id);
    (slot <= tail).then(|| Lost { slot, why: why() })
}

/// The FENCE that the version knows of, if a walk from `from` does not come by it and it is not there.
async fn fence(manifest: &Manifest, root: &Root, from: u64, cause: Cause) -> Result<Option<Lost>> {
    let (slot, epoch) = (root.writer.fence_slot, root.writer.fence_epoch);
    if slot == 0 || slot >= from || log(manifest).get(slot, cause).await?.is_some() {
        return Ok(None);
    }
    let why = format!(
        "this was the fence of epoch {epoch}, and no fence is ever deleted; what else was there nobody can say"
    );
    Ok(Some(Lost { slot, why }))
}

/// Whether what lies behind `slot` shows that there was something in it. One LIST, which is empty but for what is in
/// flight.
pub async fn behind(manifest: &Manifest, root: &Root, slot: u64, cause: Cause) -> Result<Option<Lost>> {
    let behind = manifest.store().list(Folder::Wal, Some(&Name::Wal(slot)), cause).await?;
    let lost = |why: String| Ok(Some(Lost { slot, why }));
    let Some(last) = behind.last().and_then(|last| last.name.number()) else { return Ok(None) };
    let identity = manifest.identity();
    if last >= slot + u64::from(identity.wal_window) {
        return lost(format!("{} is there, which was sent after it was durable", Name::Wal(last)));
    }
    for object in &behind {
        let Some(number) = object.name.number() else { continue };
        if number != last && object.bytes > MAX_FENCE_BYTES {
            continue;
        }
        match read(&log(manifest), identity.db_uuid, number, cause).await? {
            Some(WalObject::Data { header, .. }) if header.durable_to >= slot => {
                return lost(format!("{} says that it was durable", object.name));
            }
            Some(WalObject::Fence { header, .. }) if header.epoch >= root.writer.fence_epoch => {
                return lost(format!("the fence in {} was put behind it", object.name));
            }
            _ => {}
        }
    }
    Ok(None)
}

fn log(manifest: &Manifest) -> Sequence {
    Sequence::new(manifest.store().clone(), Folder::Wal)
}
