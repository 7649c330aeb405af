//! Which tails stay decoded and pinned to their SST: a clock with a byte limit.
//!
//! A pinned tail (filter and index) makes a point read a function call. Many of them would eat the
//! memory, so the SSTs that hold one stand on a ring; when the limit is passed, the hand goes round,
//! spares each one that has been used since it last came by, and unpins the others (the second-chance
//! algorithm of Corbató's Multics paper, 1968). An unpinned tail is still in the cache as bytes.
//!
//! Always true: pinned bytes are at most the limit, but for one tail that alone exceeds it.

use std::{
    collections::VecDeque,
    sync::{Arc, Weak, atomic::Ordering::Relaxed},
};

use parking_lot::Mutex;

use crate::sst::{OpenSst, Tail};

/// The pinned tails of one handle.
#[derive(Debug, Default)]
pub(super) struct PinnedTails {
    ring: Mutex<Ring>,
}

#[derive(Debug, Default)]
struct Ring {
    pinned: VecDeque<(Weak<OpenSst>, usize)>,
    bytes: usize,
}

impl PinnedTails {
    /// Pins `tail` to `sst`, and unpins others until at most `limit` bytes are pinned.
    pub(super) fn pin(&self, sst: &Arc<OpenSst>, tail: &Arc<Tail>, limit: usize) {
        sst.touched.store(true, Relaxed);
        if sst.tail.swap(Some(Arc::clone(tail))).is_some() {
            // Somebody else has pinned it at the same moment, and put it on the ring.
            return;
        }
        let mut ring = self.ring.lock();
        ring.pinned.push_back((Arc::downgrade(sst), tail.bytes()));
        ring.bytes += tail.bytes();
        while ring.bytes > limit && ring.pinned.len() > 1 {
            let Some((candidate, bytes)) = ring.pinned.pop_front() else { break };
            match candidate.upgrade() {
                Some(used) if used.touched.swap(false, Relaxed) => {
                    ring.pinned.push_back((candidate, bytes));
                    continue;
                }
                Some(unused) => unused.tail.store(None),
                // The SST is in no version any more; its tail went with it.
                None => {}
            }
            ring.bytes -= bytes;
        }
    }

    /// Bytes pinned, counting SSTs that have gone since the hand last came by.
    pub(super) fn bytes(&self) -> usize {
        self.ring.lock().bytes
    }
}
