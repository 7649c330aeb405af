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
//! "durable to" never falls, so of all DATA there only the last that can be read need be asked; what is small may be a
//! FENCE. One of an epoch older than that of F may have been put there by an opener that a collection had led astray,
//! while it was superseded already: it proves nothing. Nor does what is damaged: it may never have counted.
//!
//! What nothing proves: that objects were lost from the very end, written after the newest version said how far
//! the log went, with nothing behind them.
//!
//! [`proof`], [`tail_proof`] and [`lost_fence`] are all of the rule, and pure: openers, readers and verify go by them.
//!
//! Always true: two requests at most while nothing is behind, and a GET for each small object that is, besides one
//! more; a store that lies about an absence for a moment makes an error of it, never a slot that is used twice.

use std::collections::BTreeMap;

use futures::{StreamExt as _, TryStreamExt as _, future::try_join, stream};

use crate::{
    error::{Error, ErrorKind, Result},
    manifest::{Manifest, Root},
    stats::Cause,
    store::{Folder, Listed, Name, Sequence},
    wal::{
        read::read,
        record::{MAX_FENCE_BYTES, WalObject},
    },
};

/// How many objects are asked at a time.
const PARALLEL: usize = 8;

/// What an object of the log says of the slots before its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Says {
    /// DATA: every slot of the walk up to `durable_to` was durable when it was sent.
    Data {
        /// The writer's epoch.
        epoch: u32,
        /// The slot.
        durable_to: u64,
    },
    /// FENCE: its opener had walked over everything before it.
    Fence {
        /// The writer's epoch.
        epoch: u32,
    },
    /// Nothing: it is damaged, or was not looked at.
    Nothing,
}

/// An object of the log that was there, and is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lost {
    /// Its slot.
    pub(crate) slot: u64,
    /// How that is known.
    pub(crate) why: String,
}

impl Says {
    pub(crate) fn of(object: &WalObject) -> Self {
        let header = object.header();
        match object {
            WalObject::Data { .. } => Self::Data { epoch: header.epoch, durable_to: header.durable_to },
            WalObject::Fence { .. } => Self::Fence { epoch: header.epoch },
        }
    }

    /// The epoch of its writer, if it says.
    pub(crate) fn epoch(self) -> Option<u32> {
        match self {
            Self::Data { epoch, .. } | Self::Fence { epoch } => Some(epoch),
            Self::Nothing => None,
        }
    }

    /// Whether it says that the absent `slot` before it was durable. `fence_epoch` is that of the newest FENCE that a
    /// version knows of.
    pub(crate) fn that_durable(self, slot: u64, fence_epoch: u32) -> bool {
        match self {
            Self::Data { durable_to, .. } => durable_to >= slot,
            Self::Fence { epoch } => epoch >= fence_epoch,
            Self::Nothing => false,
        }
    }
}

impl Lost {
    /// The error of whoever needs the log.
    pub(crate) fn error(&self) -> Error {
        let what = format!("the log has lost an object: {}", self.why);
        Error::corruption(Name::Wal(self.slot).path(), 0, what).hint(
            "`esker verify` says what else is missing; `esker repair --from` brings it back from a copy, and `esker repair --cut-log` goes on without it, which gives up the writes that it held",
        )
    }
}

/// How the object in `at`, behind the absent `slot`, proves that `slot` was durable, if it does.
pub(crate) fn proof(slot: u64, (at, says): (u64, Says), wal_window: u64, fence_epoch: u32) -> Option<String> {
    let name = Name::Wal(at);
    if at >= slot.saturating_add(wal_window) {
        return Some(format!("{name} is there, which was sent after it was durable"));
    }
    says.that_durable(slot, fence_epoch).then(|| match says {
        Says::Fence { .. } => format!("the fence in {name} was put behind it"),
        Says::Data { .. } | Says::Nothing => format!("{name} says that it was durable"),
    })
}

/// How the version's tail hint proves that the absent `slot` was durable, if it does.
pub(crate) fn tail_proof(slot: u64, tail_hint: u64) -> Option<String> {
    (slot <= tail_hint).then(|| format!("the manifest says that every slot up to {tail_hint} was durable"))
}

/// The slot of the FENCE that the version knows of, if a walk from `from` does not come by it.
pub(crate) fn fence_behind(root: &Root, from: u64) -> Option<u64> {
    Some(root.writer.fence_slot).filter(|slot| *slot != 0 && *slot < from)
}

/// The FENCE that the version knows of, if it is not what was `found` in its slot.
pub(crate) fn lost_fence(root: &Root, found: Option<Says>) -> Option<Lost> {
    let (slot, epoch) = (root.writer.fence_slot, root.writer.fence_epoch);
    let why = match found {
        None => format!(
            "this was the fence of epoch {epoch}, and no fence is ever deleted; what else was there nobody can say"
        ),
        Some(Says::Data { epoch: of, .. }) => format!(
            "the fence of epoch {epoch} was here, and there is an object of epoch {of} with entries; what else was there nobody can say"
        ),
        Some(Says::Fence { .. } | Says::Nothing) => return None,
    };
    Some(Lost { slot, why })
}

/// What proves, if anything does, that a walk which began at `from` and ended at the absent slot `end` has not come to
/// the end of the log. `root` is the newest version that is known.
///
/// For one who follows the log what comes back is a proof only if no newer version has moved the replay point.
pub(crate) async fn look(
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
    match fence {
        Some(lost) => Ok(Some(lost)),
        None => confirm(manifest, behind, cause).await,
    }
}

/// The same, for whoever has looked for the [`fence`], listed what lies behind `end` and knows the last
/// [words](last_words) of that.
pub(crate) async fn look_among(
    manifest: &Manifest,
    root: &Root,
    end: u64,
    lost_fence: Option<&Lost>,
    words: &BTreeMap<u64, Says>,
    cause: Cause,
) -> Result<Option<Lost>> {
    if let Some(lost) = before_tail(root, end) {
        return Ok(Some(lost));
    }
    match lost_fence {
        Some(lost) => Ok(Some(lost.clone())),
        None => confirm(manifest, among(manifest, root, end, words), cause).await,
    }
}

/// The absent `slot`, if the version says that it was durable.
pub(crate) fn before_tail(root: &Root, slot: u64) -> Option<Lost> {
    tail_proof(slot, root.writer.tail_hint).map(|why| Lost { slot, why })
}

/// Whether what lies behind `slot` shows that there was something in it. One LIST, which is empty but for what is in
/// flight.
pub(crate) async fn behind(
    manifest: &Manifest,
    root: &Root,
    slot: u64,
    cause: Cause,
) -> Result<Option<Lost>> {
    let listed = manifest.store().list(Folder::Wal, Some(&Name::Wal(slot)), cause).await?;
    let Some(last) = listed.last().and_then(|last| last.name.number()) else { return Ok(None) };
    // What lies far away proves it unread.
    let far = BTreeMap::from([(last, Says::Nothing)]);
    if let Some(lost) = among(manifest, root, slot, &far) {
        return Ok(Some(lost));
    }
    Ok(among(manifest, root, slot, &last_words(manifest, &listed, cause).await?))
}

/// What the last of the objects `listed` say, in K slots: what may be a FENCE, and of the rest the last DATA that
/// can be read.
pub(crate) async fn last_words(
    manifest: &Manifest,
    listed: &[Listed],
    cause: Cause,
) -> Result<BTreeMap<u64, Says>> {
    let Some(last) = listed.last().and_then(|last| last.name.number()) else { return Ok(BTreeMap::new()) };
    let near = last.saturating_sub(manifest.identity().wal_window.into());
    let near = listed.iter().filter_map(|one| Some((one.name.number().filter(|at| *at > near)?, one.bytes)));
    let (asked, large): (Vec<_>, Vec<_>) =
        near.partition(|(slot, bytes)| *slot == last || *bytes <= MAX_FENCE_BYTES);
    let asked =
        asked.into_iter().map(|(slot, _)| async move { Ok((slot, says(manifest, slot, cause).await?)) });
    let said: Vec<_> = stream::iter(asked).buffered(PARALLEL).try_collect().await?;
    let mut words: BTreeMap<u64, Says> =
        said.into_iter().filter_map(|(slot, says)| Some((slot, says?))).collect();
    for (slot, _) in large.into_iter().rev() {
        if words.range(slot..).any(|(_, says)| matches!(says, Says::Data { .. })) {
            break;
        }
        words.extend(says(manifest, slot, cause).await?.map(|says| (slot, says)));
    }
    Ok(words)
}

/// The first proof among `words` that the absent `slot` before them was durable.
fn among(manifest: &Manifest, root: &Root, slot: u64, words: &BTreeMap<u64, Says>) -> Option<Lost> {
    let wal_window = manifest.identity().wal_window.into();
    let prove = |(at, says): (&u64, &Says)| proof(slot, (*at, *says), wal_window, root.writer.fence_epoch);
    words.iter().find_map(prove).map(|why| Lost { slot, why })
}

/// `lost`, unless it has landed meanwhile, and what is behind it after it.
async fn confirm(manifest: &Manifest, lost: Option<Lost>, cause: Cause) -> Result<Option<Lost>> {
    let Some(lost) = lost else { return Ok(None) };
    Ok(log(manifest).get(lost.slot, cause).await?.is_none().then_some(lost))
}

/// The FENCE that the version knows of, if a walk from `from` does not come by it and it is not there.
pub(crate) async fn fence(manifest: &Manifest, root: &Root, from: u64, cause: Cause) -> Result<Option<Lost>> {
    let Some(slot) = fence_behind(root, from) else { return Ok(None) };
    let found = match says(manifest, slot, cause).await {
        // Whatever a newer version has put there, something is.
        Err(error) if error.kind() == ErrorKind::Unsupported => Some(Says::Nothing),
        found => found?,
    };
    Ok(lost_fence(root, found))
}

/// What the object in `slot` says; `None` if there is none.
async fn says(manifest: &Manifest, slot: u64, cause: Cause) -> Result<Option<Says>> {
    match read(&log(manifest), manifest.identity().db_uuid, slot, cause).await {
        Err(error) if error.kind() == ErrorKind::Corruption => Ok(Some(Says::Nothing)),
        object => Ok(object?.as_ref().map(Says::of)),
    }
}

fn log(manifest: &Manifest) -> Sequence {
    Sequence::new(manifest.store().clone(), Folder::Wal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_behind_an_absent_slot_proves_what_it_says_and_no_more() {
        let (slot, wal_window, fence_epoch) = (20, 8, 3);
        let data = |durable_to| Says::Data { epoch: 3, durable_to };
        for (at, says, is_proof) in [
            (21, data(19), false),
            (21, data(20), true),
            (27, data(19), false),
            (28, data(19), true),
            (21, Says::Fence { epoch: 2 }, false),
            (21, Says::Fence { epoch: 3 }, true),
            (28, Says::Fence { epoch: 2 }, true),
            (27, Says::Nothing, false),
            (28, Says::Nothing, true),
        ] {
            assert_eq!(
                proof(slot, (at, says), wal_window, fence_epoch).is_some(),
                is_proof,
                "{at}: {says:?}"
            );
        }
        assert!(tail_proof(20, 20).is_some() && tail_proof(21, 20).is_none());
    }
}
