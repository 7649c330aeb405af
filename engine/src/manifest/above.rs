//! What to commit on when the newest version is damaged or lost: the one before it, in its place.
//!
//! ```text
//! 7   8   9 (damaged)      the content of 8 as version 9   10: whatever is committed on it
//! 7   8   (9 is missing)   the content of 8                 9: whatever is committed on it
//! ```
//!
//! Nobody knows what the newest said. So epochs, run and keyspace numbers go on above everything it can have given out, and
//! keyspaces that only it named get names: entries in them are there.
//!
//! Always true: nothing is written here; what is committed on it fences everyone who worked on the version that is lost.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    error::{Error, Result},
    manifest::{KeyspaceEntry, RING_SLOTS, Root, View},
};

/// More runs than a commit ever adds.
const RUNS_PER_COMMIT: u64 = 1 << 20;
/// More versions than are lost without anybody noticing.
const LOST_COMMITS: u32 = RING_SLOTS as u32;

/// The content of `back` in the place of `top`, which cannot be read; `top_hash` is the hash of what lies there.
///
/// A commit raises an epoch by one at most, and adds one keyspace.
pub(crate) fn damaged(
    back: &View,
    (top, top_hash): (u64, u128),
    keyspaces: &BTreeSet<u32>,
) -> Result<Arc<View>> {
    let raised = u32::try_from(top.saturating_sub(back.id()))
        .map_err(|_| Error::unsupported("too many versions are damaged to go back over them"))?;
    let mut root = back.root.clone();
    root.id = top;
    root.ring.clear();
    raise(&mut root, raised, keyspaces);
    Ok(Arc::new(View::stored(root, top_hash, Some(back))?))
}

/// The content of `newest`, behind which versions are missing. Nobody knows how many, but that what is there belongs to
/// no higher epochs than these of the writer and the compactor.
pub(crate) fn missing(
    newest: &View,
    (writer, compactor): (u32, u32),
    keyspaces: &BTreeSet<u32>,
) -> Result<Arc<View>> {
    let mut root = newest.root.clone();
    root.writer.epoch = root.writer.epoch.max(writer);
    root.compactor.epoch = root.compactor.epoch.max(compactor);
    raise(&mut root, LOST_COMMITS, keyspaces);
    Ok(Arc::new(View::stored(root, newest.stored_hash(), Some(newest))?))
}

/// Goes above what `commits` versions can have given out.
fn raise(root: &mut Root, commits: u32, keyspaces: &BTreeSet<u32>) {
    root.writer.epoch = root.writer.epoch.saturating_add(commits);
    // The epoch is nobody's: only whoever claims the next one has one.
    root.writer.uuid.clear();
    root.writer.counter_floor = 0;
    root.compactor.epoch = root.compactor.epoch.saturating_add(commits);
    root.compactor.counter_floor = 0;
    root.compactor.busy_until_ms = 0;
    root.next_run = root.next_run.saturating_add(u64::from(commits).saturating_mul(RUNS_PER_COMMIT));
    let highest = keyspaces.last().map_or(0, |id| id.saturating_add(1));
    root.next_keyspace = root.next_keyspace.max(highest).saturating_add(commits);
    for id in keyspaces {
        if root.keyspaces.iter().all(|keyspace| keyspace.id != *id) {
            root.keyspaces.push(KeyspaceEntry { id: *id, name: free_name(root, *id) });
        }
    }
}

/// `lost-7`, or, where somebody has called another keyspace that, `lost-7-2`, and so on.
fn free_name(root: &Root, id: u32) -> String {
    let mut name = format!("lost-{id}");
    let mut next = 2;
    while root.keyspaces.iter().any(|keyspace| keyspace.name == name) {
        name = format!("lost-{id}-{next}");
        next += 1;
    }
    name
}
