//! Counting requests: each attempt once, however it ends.
//!
//! Counting is done at our own door rather than in a wrapper of the object store, because here the
//! cause is known and every retry is ours. What a client does inside one attempt (pages of a listing,
//! parts of an upload) is counted where it is done.
//!
//! Always true: an attempt that is dropped half-way, by a deadline or by its caller, is counted as a
//! request and as a failure. A 404, and a create that finds the slot taken, are answers, not failures.

use crate::stats::{Cause, RequestKind, Stats};

/// One request on its way; counted when it ends or is dropped.
#[derive(Debug)]
pub(super) struct Attempt<'a> {
    stats: &'a Stats,
    kind: RequestKind,
    cause: Cause,
    bytes: u64,
    answered: bool,
}

impl<'a> Attempt<'a> {
    /// Starts one; `sent` are the bytes of its body.
    pub(super) fn start(stats: &'a Stats, kind: RequestKind, cause: Cause, sent: u64) -> Self {
        Self { stats, kind, cause, bytes: sent, answered: false }
    }

    /// The store answered, with `received` bytes of body.
    pub(super) fn answered(&mut self, received: u64) {
        self.bytes += received;
        self.answered = true;
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.stats.request(self.kind, self.cause, self.bytes);
        if !self.answered {
            self.stats.failure(self.kind, self.cause);
        }
    }
}
