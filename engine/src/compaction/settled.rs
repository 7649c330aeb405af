//! What is garbage: an object that no version names, and that nobody can publish any more.
//!
//! ```text
//! object of     named by nothing, and   settled once
//! writer        any                     its epoch is superseded, or its counter lies under the floor that it committed
//! compactor     part                    the same
//! compactor     SST                     a takeover of a later epoch is in the job log, or the counter lies under the floor
//! ```
//!
//! **SSTs of the compactor.** A later holder may adopt what a job of an earlier epoch made, if valid records name it
//! ([`super::log`]). Let an SST of epoch e be unnamed when the log is read, and in the versions read after it.
//!
//! - *A takeover of an epoch above e was in the log.* Records of epoch e that land later are void. What was valid was
//!   read: either its job had ended, or the SST is named. Whoever carries a job on records the outputs under its own
//!   epoch before the older records end or go under the floor, so between its first record and its end an output
//!   is named at every moment. The producer itself was fenced before the takeover, and what it published before is
//!   in the versions. So nobody can publish the SST any more. The root's epoch would not do: between claim and takeover the
//!   fenced one may still record, and be adopted.
//! - *The root is at epoch e, and the counter under its floor.* Then the holder had published the SST, or given it up:
//!   it leaves the floor under every number of a job that it or a successor may resume. A record that lands after the
//!   log was read cannot name it.
//! - *There is no takeover in the log* (it was lost, or no holder has written one): the second case alone.
//!
//! A job of several epochs: the floor of the log lies before the newest takeover, its holder has decided about
//! everything under it, and raises it only then. A record under the floor, put there again by a late PUT, is void.
//! A record that cannot be read could name anything: it holds every SST, until a holder has raised the floor over it.
//! Parts are never adopted: for them the root's epoch counts.
//!
//! Always true: pure; a collection asks only once it has read pins, checkpoints, the job log and then the versions, in
//! that order (`collect.rs`).

use std::collections::HashSet;

use crate::{
    chaos::{Bug, bug},
    manifest::{Root, View},
    store::{ObjectId, Role},
};

/// What the remaining versions need.
pub(super) struct Named {
    /// SSTs and parts.
    pub(super) objects: HashSet<ObjectId>,
    /// The oldest replay point of them.
    pub(super) replay_from: u64,
}

impl Named {
    /// What no version needs.
    pub(super) fn nothing() -> Self {
        Self { objects: HashSet::new(), replay_from: u64::MAX }
    }

    /// Notes what a version that remains needs.
    pub(super) fn add(&mut self, view: &View) {
        self.replay_from = self.replay_from.min(view.root.writer.replay_from);
        self.add_objects(view);
    }

    /// Notes what a version that is only held needs: its log is nobody's.
    pub(super) fn add_objects(&mut self, view: &View) {
        // Of a hole, what was lost, should it be there: who knows what may yet be read of it?
        self.objects.extend(view.runs.iter().flat_map(|run| run.ssts.iter()).map(|sst| sst.meta.lost_id()));
        let parts = view.root.runs.iter().flat_map(|run| &run.parts);
        self.objects.extend(parts.filter_map(|part| ObjectId::from_bytes(&part.id)));
    }
}

/// Whether nobody can publish an SST any more that neither versions nor unfinished jobs name (see the head).
/// `log_epoch` is that of the newest takeover in the job log.
pub(super) fn is_sst_settled(id: ObjectId, latest: &Root, log_epoch: u32) -> bool {
    let compactor = &latest.compactor;
    match id.role {
        Role::Writer => is_settled(id, latest),
        Role::Compactor => {
            id.epoch < log_epoch || (id.epoch == compactor.epoch && id.counter < compactor.counter_floor)
        }
    }
}

/// Whether the producer of an object that no version names can no longer publish it.
pub(super) fn is_settled(id: ObjectId, latest: &Root) -> bool {
    let (epoch, counter_floor) = match id.role {
        Role::Writer => (latest.writer.epoch, latest.writer.counter_floor),
        Role::Compactor => (latest.compactor.epoch, latest.compactor.counter_floor),
    };
    // slatedb #604, PR #1029, #1031, #1044, ZeroFS #453: what was just uploaded was collected.
    bug(Bug::UncommittedCollected) || id.epoch < epoch || (id.epoch == epoch && id.counter < counter_floor)
}
