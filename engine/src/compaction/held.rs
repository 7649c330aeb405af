//! What pins and checkpoints hold: the version in each, with its parts.
//!
//! ```text
//! pin, checkpoint ─► a version, and its parts ─► it counts, if it has not lapsed
//!                    a part is damaged, or gone ─► the version alone: whether that matters, the caller knows
//!                    it cannot be read ─► it may hold anything
//! ```
//!
//! Always true: a store that does not answer is an error, and never "holds nothing".

use std::sync::Arc;

use futures::future::try_join_all;

use crate::{
    error::{Error, ErrorKind, Result},
    manifest::{Manifest, VersionCopy, View, copy},
    stats::Cause,
    store::Listed,
};

/// The most that a pin or checkpoint has around its body.
const FRAME_BYTES: u64 = 64;
/// How many are read at a time.
const PARALLEL: usize = 16;

/// What a pin or checkpoint holds.
pub(super) enum Held {
    /// What a version names.
    Version(Box<VersionCopy>, Arc<View>),
    /// A version with a part that cannot be read.
    Unfollowed(Box<VersionCopy>, Error),
    /// Nothing: a pin that was released.
    Nothing,
    /// It cannot be known.
    Unreadable(Error),
    /// It has gone since it was listed.
    Absent,
}

/// What the pins or checkpoints in `listed` hold, each with its listing.
pub(super) async fn all(
    manifest: &Manifest,
    listed: Vec<Listed>,
    near: &View,
) -> Result<Vec<(Listed, Held)>> {
    let mut read = Vec::with_capacity(listed.len());
    for batch in listed.chunks(PARALLEL) {
        let held = try_join_all(batch.iter().map(|listed| held_by(manifest, listed, near))).await?;
        read.extend(batch.iter().cloned().zip(held));
    }
    Ok(read)
}

async fn held_by(manifest: &Manifest, listed: &Listed, near: &View) -> Result<Held> {
    if listed.bytes > copy::MAX_BODY_BYTES + FRAME_BYTES {
        let error = Error::corruption(listed.name.path(), 0, "it is larger than any version can be");
        return Ok(Held::Unreadable(error));
    }
    let copy = match copy::load(manifest, &listed.name, Cause::Gc).await {
        Ok(Some(Some(copy))) => copy,
        Ok(Some(None)) => return Ok(Held::Nothing),
        Ok(None) => return Ok(Held::Absent),
        Err(error) if is_unreadable(&error) => return Ok(Held::Unreadable(error)),
        Err(error) => return Err(error),
    };
    match copy.view(manifest, Some(near), Cause::Gc).await {
        Ok(view) => Ok(Held::Version(Box::new(copy), view)),
        Err(error) if is_unreadable(&error) => Ok(Held::Unfollowed(Box::new(copy), error)),
        Err(error) => Err(error),
    }
}

/// Whether `error` says that what was read cannot be understood, and not that it could not be had.
pub(super) fn is_unreadable(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Corruption | ErrorKind::Unsupported)
}
