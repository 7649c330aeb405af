//! What a read reads: memtables and a version, as one immutable value.
//!
//! A handle keeps its current one in an `ArcSwap` and replaces it as a whole whenever a memtable
//! freezes, a flush or a compaction commits, or a manifest is followed. Whoever holds an old one keeps
//! its memtables and the description of its SSTs alive, which is all that a snapshot is.
//!
//! A read needs a pair: a superversion, and the number of the newest visible entry. The order of the
//! two loads matters, and either order alone is wrong:
//!
//! * number first, superversion second: the newer superversion may come from a compaction that dropped
//!   a version at or below the number, because a later write had put it in the shadow;
//! * superversion first, number second: the newer number may count entries that went into a memtable
//!   that the older superversion does not have.
//!
//! So: superversion, number, and then the superversion once more; if it is not the same, again. A
//! writer publishes a number only after the entry is in the active memtable of the superversion that is
//! current, so an unchanged superversion holds every entry up to the number. [`pin`] and
//! [`with_pinned`] are the only places that do this.
//!
//! Always true: `frozen` is newest first; every number in a memtable is above every number in the
//! memtables after it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Acquire},
};

use arc_swap::ArcSwap;

use crate::{key::Seq, manifest::View, memtable::Memtable};

/// Memtables and a version: all that a read reads.
#[derive(Debug, Clone)]
pub struct SuperVersion {
    /// The memtable that takes inserts.
    pub active: Arc<Memtable>,
    /// Memtables that wait for their flush, newest first.
    pub frozen: Vec<Arc<Memtable>>,
    /// The version of the manifest.
    pub view: Arc<View>,
}

impl SuperVersion {
    /// All memtables, newest first.
    pub fn memtables(&self) -> impl Iterator<Item = &Arc<Memtable>> {
        std::iter::once(&self.active).chain(&self.frozen)
    }
}

/// A superversion and a number that go together, to keep.
pub fn pin(current: &ArcSwap<SuperVersion>, visible: &AtomicU64) -> (Arc<SuperVersion>, Seq) {
    with_pinned(current, visible, |sv, seq| (Arc::clone(sv), seq))
}

/// Calls `read` with a superversion and a number that go together: for reads that end before they
/// return, which are spared the contention on the superversion's reference count.
#[inline]
pub fn with_pinned<T>(
    current: &ArcSwap<SuperVersion>,
    visible: &AtomicU64,
    read: impl FnOnce(&Arc<SuperVersion>, Seq) -> T,
) -> T {
    loop {
        let sv = current.load();
        let seq = visible.load(Acquire);
        // The pointer cannot have been reused: `sv` is still held.
        if Arc::ptr_eq(&sv, &current.load()) {
            return read(&sv, seq);
        }
    }
}
