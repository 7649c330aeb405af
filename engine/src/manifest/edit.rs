//! Edits: functions from the newest version to the next.
//!
//! An edit says what changes, not what results, so that it can be applied again when another
//! commit came first: a writer appends L0s and moves the replay point, a compactor takes inputs out *by
//! id* and puts outputs in ([`crate::manifest::replace`]).
//!
//! Always true: [`Edit::apply`] is pure; it returns a version that keeps the rules at the head of
//! [`crate::manifest`], or an error, and never lets a role whose epoch is superseded change anything.

use std::{cmp::Ordering, collections::HashSet};

use bytes::Bytes;

use crate::{
    chaos::{Bug, bug},
    codec::sum::Sum,
    error::{Error, ErrorKind, Result},
    key::{Seq, check_keyspace},
    manifest::{
        CompactorState, KeyspaceEntry, Root, Run, WriterState, codec,
        replace::{Replacement, replace},
        salvage::{self, Restored, Salvaged},
    },
    sst::SstMeta,
    store::{Name, ObjectId, Role},
};

/// The longest name of a role's holder that is kept, in bytes.
const MAX_HOLDER_NAME_BYTES: usize = 255;

/// A change to the manifest.
#[derive(Debug, Clone)]
pub enum Edit {
    /// The writer role changes hands: its epoch goes up by one.
    ClaimWriter {
        /// The new writer.
        uuid: u128,
        /// Who it is: host and process.
        name: String,
    },
    /// The compactor role changes hands: its epoch goes up by one. Refused with `Conflict` while the holder
    /// asks others to stay away.
    ClaimCompactor {
        /// The new compactor.
        uuid: u128,
        /// Who it is: host and process.
        name: String,
        /// Wall clock until which it asks others to stay away.
        busy_until_ms: u64,
        /// Wall clock of the claim.
        now_ms: u64,
        /// Whether to take the role from a holder that is at work.
        force: bool,
    },
    /// The writer's FENCE is in its slot, with nothing missing before it. What lets the writer in: refused if the
    /// epoch is superseded.
    Fence {
        /// The writer's epoch.
        epoch: u32,
        /// The slot.
        slot: u64,
    },
    /// How far the log is durable, where no flush says so.
    Tail {
        /// The writer's epoch.
        epoch: u32,
        /// The highest slot known to be durable.
        slot: u64,
    },
    /// A memtable became L0 SSTs (one run; none if it was empty).
    Flush {
        /// The writer's epoch.
        epoch: u32,
        /// The new SSTs, ascending and disjoint.
        ssts: Vec<SstMeta>,
        /// The slot after the last one whose entries are all in SSTs now.
        replay_from: u64,
        /// The highest slot known to be durable.
        tail_hint: u64,
        /// The last sequence number that is in SSTs now.
        last_seq: Seq,
        /// Objects of this epoch with a lower counter are committed by this or will never be.
        counter_floor: u64,
    },
    /// A compaction: inputs out by id, outputs in.
    Compact {
        /// The compactor's epoch.
        epoch: u32,
        /// The SSTs that were merged.
        inputs: Vec<ObjectId>,
        /// What they became, ascending and disjoint; an input that only moves is in both.
        outputs: Vec<SstMeta>,
        /// The level of the outputs.
        level: u32,
        /// The sum of the entries that were merged away.
        dropped: Sum,
        /// Objects of this epoch with a lower counter are committed by this or will never be.
        counter_floor: u64,
        /// Wall clock until which the compactor asks others to stay away.
        busy_until_ms: u64,
    },
    /// The compactor says how it stands.
    CompactorState {
        /// Its epoch.
        epoch: u32,
        /// Objects of this epoch with a lower counter are committed or will never be.
        counter_floor: u64,
        /// Wall clock until which it asks others to stay away.
        busy_until_ms: u64,
    },
    /// A repair puts what was saved in the place of what was damaged.
    Salvage {
        /// The compactor's epoch.
        epoch: u32,
        /// What is replaced, and by what.
        salvaged: Vec<Salvaged>,
        /// Objects of this epoch with a lower counter are committed by this or will never be.
        counter_floor: u64,
    },
    /// A repair puts an older tree back, with what the log still holds. Needs both roles.
    Restore(Restored),
    /// A new keyspace. One that exists already is left as it is.
    CreateKeyspace {
        /// The writer's epoch.
        epoch: u32,
        /// Its name.
        name: String,
    },
}

impl Edit {
    /// The next root. Its id, token, ring and hash are the committer's to fill.
    ///
    /// Fails with `Fenced`, naming the holder, if our epoch is superseded; with `Conflict` if an input
    /// is gone; with `Corruption` if a compaction does not balance; with `Invalid` if a rule would break.
    pub fn apply(&self, base: &Root) -> Result<Root> {
        let mut next = base.clone();
        match self {
            Self::ClaimWriter { uuid, name } => {
                next.writer = WriterState {
                    epoch: next_epoch(base.writer.epoch)?,
                    counter_floor: 0,
                    uuid: Bytes::copy_from_slice(&uuid.to_le_bytes()),
                    name: holder_name(name),
                    ..base.writer.clone()
                };
            }
            Self::ClaimCompactor { uuid, name, busy_until_ms, now_ms, force } => {
                if !force {
                    check_not_busy(&base.compactor, *uuid, *now_ms, *busy_until_ms)?;
                }
                next.compactor = CompactorState {
                    epoch: next_epoch(base.compactor.epoch)?,
                    counter_floor: 0,
                    uuid: Bytes::copy_from_slice(&uuid.to_le_bytes()),
                    name: holder_name(name),
                    busy_until_ms: *busy_until_ms,
                };
            }
            Self::Fence { epoch, slot } => {
                check_writer_epoch(base, *epoch)?;
                if *slot < base.writer.fence_slot {
                    let before = base.writer.fence_slot;
                    let what =
                        format!("a fence in slot {slot} would lie before the last one, in slot {before}");
                    return Err(Error::invalid(what));
                }
                (next.writer.fence_slot, next.writer.fence_epoch) = (*slot, *epoch);
                next.writer.tail_hint = base.writer.tail_hint.max(*slot);
            }
            Self::Tail { epoch, slot } => {
                check_writer_epoch(base, *epoch)?;
                next.writer.tail_hint = base.writer.tail_hint.max(*slot);
            }
            Self::Flush { epoch, ssts, replay_from, tail_hint, last_seq, counter_floor } => {
                check_writer_epoch(base, *epoch)?;
                let writer = WriterState {
                    replay_from: *replay_from,
                    last_seq: *last_seq,
                    tail_hint: base.writer.tail_hint.max(*tail_hint),
                    counter_floor: base.writer.counter_floor.max(*counter_floor),
                    ..base.writer.clone()
                };
                flush(&mut next, ssts, writer)?;
            }
            Self::Compact { epoch, inputs, outputs, level, dropped, counter_floor, busy_until_ms } => {
                check_compactor_epoch(base, *epoch)?;
                replace(&mut next, &Replacement { inputs, outputs, level: *level, dropped })?;
                next.compactor.counter_floor = base.compactor.counter_floor.max(*counter_floor);
                next.compactor.busy_until_ms = *busy_until_ms;
            }
            Self::CompactorState { epoch, counter_floor, busy_until_ms } => {
                check_compactor_epoch(base, *epoch)?;
                next.compactor.counter_floor = base.compactor.counter_floor.max(*counter_floor);
                next.compactor.busy_until_ms = *busy_until_ms;
            }
            Self::Salvage { epoch, salvaged, counter_floor } => {
                check_compactor_epoch(base, *epoch)?;
                salvage::salvage(&mut next, salvaged)?;
                next.compactor.counter_floor = base.compactor.counter_floor.max(*counter_floor);
            }
            Self::Restore(with) => {
                check_writer_epoch(base, with.writer_epoch)?;
                check_compactor_epoch(base, with.compactor_epoch)?;
                salvage::restore(&mut next, with)?;
                next.compactor.counter_floor = base.compactor.counter_floor.max(with.counter_floor);
            }
            Self::CreateKeyspace { epoch, name } => {
                check_writer_epoch(base, *epoch)?;
                create_keyspace(&mut next, name)?;
            }
        }
        assert_forward(base, &next);
        Ok(next)
    }

    /// Whether `root` has this change already: what an earlier attempt, whose outcome its committer could
    /// not learn, has come to. Names are never reused, so a new SST that is there proves it.
    pub(crate) fn is_in(&self, root: &Root) -> bool {
        let (new, gone): (&[SstMeta], &[ObjectId]) = match self {
            Self::Flush { ssts, .. } => (ssts, &[]),
            Self::Compact { outputs, inputs, .. } => (outputs, inputs),
            _ => return false,
        };
        if !new.first().is_some_and(|first| root.ssts().any(|sst| sst.id == first.id)) {
            return false;
        }
        let named: HashSet<&[u8]> = root.ssts().map(|sst| &sst.id[..]).collect();
        // An input that is also an output has only moved, and proves nothing.
        let moved = gone.iter().any(|id| named.contains(&id.to_bytes()[..]));
        !moved && new.iter().all(|sst| named.contains(&sst.id[..]))
    }

    /// The role, epoch and counter with which the committer names the parts it writes for `next`.
    ///
    /// The counter is the role's floor in `next`: the floor is what the producer has declared it may still
    /// publish from, and it can only rise by a commit, which takes the slot away from ours. So
    /// collection never takes a part whose commit is still under way.
    pub(crate) fn producer(&self, next: &Root) -> (Role, u32, u64) {
        match self {
            Self::ClaimWriter { .. }
            | Self::Fence { .. }
            | Self::Tail { .. }
            | Self::Flush { .. }
            | Self::CreateKeyspace { .. } => (Role::Writer, next.writer.epoch, next.writer.counter_floor),
            Self::ClaimCompactor { .. }
            | Self::Compact { .. }
            | Self::CompactorState { .. }
            | Self::Salvage { .. }
            | Self::Restore(_) => (Role::Compactor, next.compactor.epoch, next.compactor.counter_floor),
        }
    }
}

/// The error of a handle whose role (`"writing to"`, `"compacting"`) `who` has taken over with `epoch`.
pub fn fenced(role: &str, who: &str, epoch: u32, ours: u32) -> Error {
    let who = if who.is_empty() { "another process" } else { who };
    let what =
        format!("{who} has taken over {role} this database (epoch {epoch}; this handle was epoch {ours})");
    Error::new(ErrorKind::Fenced, what).hint("this handle is finished; open again to take the role back")
}

/// Fails unless `epoch` holds the writer role in `root`.
pub fn check_writer_epoch(root: &Root, epoch: u32) -> Result<()> {
    check_epoch(root, "writing to", root.writer.epoch, &root.writer.name, epoch)
}

/// Fails unless `epoch` holds the compactor role in `root`.
pub fn check_compactor_epoch(root: &Root, epoch: u32) -> Result<()> {
    check_epoch(root, "compacting", root.compactor.epoch, &root.compactor.name, epoch)
}

fn check_epoch(root: &Root, role: &str, current: u32, holder: &str, ours: u32) -> Result<()> {
    match current.cmp(&ours) {
        // slatedb RFC 29.
        _ if bug(Bug::EpochNotChecked) => Ok(()),
        Ordering::Equal => Ok(()),
        Ordering::Greater => Err(fenced(role, holder, current, ours)),
        Ordering::Less => Err(Error::corruption(
            Name::Manifest(root.id).path(),
            0,
            format!("the manifest is at epoch {current} for {role} this database, and epoch {ours} has been claimed"),
        )
        .hint("the manifest has been rolled back, or this is another copy of the database")),
    }
}

/// Fails with `Conflict`, naming the holder, if one of another uuid than `uuid` is at work at `now_ms`.
///
/// Names are for people: processes in two containers may well have the same.
fn check_not_busy(holder: &CompactorState, uuid: u128, now_ms: u64, lease_end_ms: u64) -> Result<()> {
    let left_ms = holder.busy_until_ms.saturating_sub(now_ms);
    if left_ms == 0 || holder.uuid[..] == uuid.to_le_bytes() {
        return Ok(());
    }
    // A clock that is far ahead of ours is not to be quoted: nobody asks for more than a lease.
    let left_ms = left_ms.min(lease_end_ms.saturating_sub(now_ms));
    let what = format!(
        "compactor {} is at work on this database, for another {} s at least",
        holder.name,
        left_ms.div_ceil(1000)
    );
    Err(Error::new(ErrorKind::Conflict, what)
        .hint("wait until it has finished, or take the role over (`--force`)"))
}

fn next_epoch(epoch: u32) -> Result<u32> {
    epoch.checked_add(1).ok_or_else(|| Error::unsupported("this database has run out of epochs"))
}

fn holder_name(name: &str) -> String {
    name[..name.floor_char_boundary(MAX_HOLDER_NAME_BYTES)].to_owned()
}

fn flush(next: &mut Root, ssts: &[SstMeta], writer: WriterState) -> Result<()> {
    let before = &next.writer;
    let back = |what: &str, from: u64, to: u64| {
        Error::invalid(format!("a flush would move the {what} back from {from} to {to}"))
    };
    if !ssts.is_empty() && writer.last_seq == before.last_seq {
        let what =
            format!("everything up to sequence number {} is in version {} already", writer.last_seq, next.id);
        return Err(Error::invalid(what));
    }
    if writer.replay_from < before.replay_from {
        return Err(back("replay point", before.replay_from, writer.replay_from));
    }
    if writer.last_seq < before.last_seq {
        return Err(back("last sequence number", before.last_seq, writer.last_seq));
    }
    let run = Run { id: next.next_run, level: 0, ssts: ssts.to_vec(), parts: Vec::new() };
    ssts.iter()
        .try_for_each(codec::check_sst)
        .and_then(|()| codec::check_order(&run))
        .map_err(|what| Error::invalid(format!("a flush cannot be committed: {what}")))?;
    if let Some(twice) = next.named_twice(ssts) {
        return Err(Error::invalid(format!("{} is in version {} already", codec::sst_name(twice), next.id)));
    }
    if let Some(sst) = ssts.iter().find(|sst| sst.max_seq > writer.last_seq) {
        let (name, seq) = (codec::sst_name(sst), sst.max_seq);
        return Err(Error::invalid(format!(
            "{name} holds sequence number {seq}, above the flush's {}",
            writer.last_seq
        )));
    }
    let mut sum = Sum::from_bytes(&next.sum).unwrap_or_default();
    for sst in ssts {
        sum.add(&Sum::from_bytes(&sst.sum).unwrap_or_default());
    }
    next.sum = Bytes::copy_from_slice(&sum.to_bytes());
    next.writer = writer;
    if !ssts.is_empty() {
        next.runs.insert(0, run);
        next.next_run += 1;
    }
    Ok(())
}

fn create_keyspace(next: &mut Root, name: &str) -> Result<()> {
    check_keyspace(name)?;
    if next.keyspaces.iter().any(|keyspace| keyspace.name == name) {
        return Ok(());
    }
    let id = next.next_keyspace;
    next.next_keyspace =
        id.checked_add(1).ok_or_else(|| Error::unsupported("this database has run out of keyspaces"))?;
    next.keyspaces.push(KeyspaceEntry { id, name: name.to_owned() });
    Ok(())
}

/// I10 of the protocol: what must never go back has not.
fn assert_forward(base: &Root, next: &Root) {
    let (a, b) = (&base.writer, &next.writer);
    assert!(a.replay_from <= b.replay_from && a.last_seq <= b.last_seq && a.tail_hint <= b.tail_hint);
    assert!(a.fence_slot <= b.fence_slot && a.fence_epoch <= b.fence_epoch);
    assert!(a.epoch < b.epoch || (a.epoch == b.epoch && a.counter_floor <= b.counter_floor));
    let (a, b) = (&base.compactor, &next.compactor);
    assert!(a.epoch < b.epoch || (a.epoch == b.epoch && a.counter_floor <= b.counter_floor));
    assert!(base.next_run <= next.next_run && base.next_keyspace <= next.next_keyspace);
}
