//! Asking memory for bytes before they are read.
//!
//! A read of what is in no cache of the processor's takes a hundred nanoseconds, and so do ten of them if they are asked for at
//! once. Whoever knows what it will read next says so here; nothing waits, and nothing else changes.

use prefetch_index::prefetch_index;

/// A line of the processor's caches.
const LINE_BYTES: usize = 64;

/// Asks for `bytes`, up to the first `most` of them.
#[inline]
pub(crate) fn ask_for(bytes: &[u8], most: usize) {
    (0..bytes.len().min(most)).step_by(LINE_BYTES).for_each(|at| prefetch_index(bytes, at));
}
