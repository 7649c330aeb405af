//! Checkpoints: versions that are kept under a name until somebody deletes the name.
//!
//! ```text
//! 1 pin the latest version and look at the floor     (a version collected meanwhile: again with a newer one)
//! 2 create checkpoint/{name}, put-if-absent          (a name that is taken stays what it is)
//! 3 look whether the version is still above the floor, or the pin still there
//! 4 release the pin
//! ```
//!
//! The pin is there because a checkpoint that was created and not looked at again (a crash in between) must be
//! as good as any: whatever was pinned when the checkpoint appeared is kept from then on by one or the other.
//! Collection therefore lists pins before checkpoints.
//!
//! The look afterwards is for a maker that stood still for longer than a pin lives, without its clock noticing. A
//! version above the floor has lost nothing, and whoever raises the floor later sees the checkpoint; a pin that is there
//! was not taken for lapsed before the checkpoint could be seen.
//!
//! A checkpoint needs nothing of the log: it holds what had been flushed, and whoever makes one through
//! [`Db::checkpoint`](crate::Db::checkpoint) flushes first.
//!
//! Always true: a checkpoint never changes; deleting one is for
//! [`compaction::collect::delete_checkpoint`](crate::compaction::collect::delete_checkpoint).

use std::{sync::Arc, time::Duration};

use crate::{
    chaos::{Bug, bug},
    error::{Error, ErrorKind, Result},
    manifest::{Manifest, Pin, VersionCopy, View, copy},
    stats::Cause,
    store::{Folder, Listed, Name, Slot, Token},
};

/// How often the latest version may be collected while it is being pinned.
const MAX_TRIES: u32 = 20;
/// How long a create may be without an answer: well within what a pin counts for.
const GIVE_UP: Duration = Duration::from_secs(60);
/// How many names a hint lists.
const SHOWN: usize = 10;

/// Keeps the latest version under `name`, and gives it.
///
/// Fails with `Invalid` if the name is taken or cannot be one, with `OutcomeUnknown` if the store did not say
/// whether it was made, or as the store does.
pub async fn create(manifest: &Manifest, name: &str) -> Result<Arc<View>> {
    let object = Name::checkpoint(name)?;
    let store = manifest.store();
    if store.get(&object, Cause::Admin).await?.is_some() {
        return Err(taken(name));
    }
    let clock = store.clock();
    for _ in 0..MAX_TRIES {
        let view = manifest.latest(Cause::Admin).await?;
        let pin = Pin::on(&view, &**clock);
        let began = clock.monotonic();
        // slatedb #1643, #477: checkpoints of what was being collected.
        if !bug(Bug::CheckpointUnpinned) && !pin.write(manifest).await? {
            release(&pin, manifest).await;
            continue;
        }
        let copy = VersionCopy::of(&view, 0, clock.wall_ms());
        let body = copy::encode(&object, Token::fresh(&**clock), Some(&copy));
        let created = store.create(&object, vec![body], Cause::Admin, Some(GIVE_UP)).await;
        let unheard = match created {
            Ok(Slot::Ours) => {
                let in_time = clock.monotonic().saturating_sub(began) < Pin::counts_for();
                let kept = pin.is_above_floor(manifest).await.unwrap_or(false)
                    || in_time && pin.is_there(manifest).await.unwrap_or(false);
                release(&pin, manifest).await;
                let again = "it was made too late to be sure of: delete it, and make it again";
                return if kept { Ok(view) } else { Err(unknown(name).hint(again)) };
            }
            Ok(Slot::Theirs(bytes)) => match copy::decode(&object, manifest.identity().db_uuid, &bytes) {
                // What was read may be wrong, and not what is there, which may be ours.
                Err(error) if error.kind() == ErrorKind::Corruption => error,
                _ => {
                    release(&pin, manifest).await;
                    return Err(taken(name));
                }
            },
            Err(error) if error.kind() == ErrorKind::Unavailable => error,
            Err(error) => {
                release(&pin, manifest).await;
                return Err(error);
            }
        };
        // It may yet appear, and is whole as long as the pin counts: that lapses by itself.
        let look = "look at the list of checkpoints in a quarter of an hour: if it is there, delete it and make it again";
        return Err(unknown(name).because(unheard).hint(look));
    }
    Err(Error::unavailable(format!(
        "the latest version was collected {MAX_TRIES} times while it was being pinned"
    )))
}

/// The checkpoint `name`. Fails with `Invalid`, naming those there are, if there is none of that name.
pub async fn load(manifest: &Manifest, name: &str, cause: Cause) -> Result<VersionCopy> {
    let object = Name::checkpoint(name)?;
    let Some(copy) = copy::load(manifest, &object, cause).await? else {
        return Err(missing(manifest, name).await);
    };
    copy.ok_or_else(|| Error::corruption(object.path(), 0, "there is no version in it"))
}

/// All checkpoints, by name.
pub async fn list(manifest: &Manifest, cause: Cause) -> Result<Vec<Listed>> {
    manifest.store().list(Folder::Checkpoint, None, cause).await
}

/// The names of all checkpoints, in order.
pub async fn names(manifest: &Manifest) -> Result<Vec<String>> {
    let listed = list(manifest, Cause::Admin).await?;
    Ok(listed
        .into_iter()
        .filter_map(|listed| match listed.name {
            Name::Checkpoint(name) => Some(name),
            _ => None,
        })
        .collect())
}

/// What to say of a checkpoint that is not there.
pub(crate) async fn missing(manifest: &Manifest, name: &str) -> Error {
    let error = Error::invalid(format!("there is no checkpoint {name:?}"));
    match names(manifest).await {
        Ok(names) if names.is_empty() => error.hint("this database has none"),
        Ok(mut names) => {
            names.truncate(SHOWN);
            error.hint(format!("this database has {}", names.join(", ")))
        }
        Err(_) => error,
    }
}

/// A pin that cannot be released lapses by itself.
async fn release(pin: &Pin, manifest: &Manifest) {
    if let Err(error) = pin.release(manifest).await {
        tracing::debug!(%error, "a pin was not released; it lapses by itself");
    }
}

fn taken(name: &str) -> Error {
    Error::invalid(format!("there is a checkpoint {name:?} already"))
        .hint("a checkpoint never changes: choose another name, or delete that one first")
}

fn unknown(name: &str) -> Error {
    Error::new(ErrorKind::OutcomeUnknown, format!("it is not known whether the checkpoint {name:?} was made"))
}
