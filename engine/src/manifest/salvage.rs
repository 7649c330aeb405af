//! What a repair does to the list of runs: put what was saved where a damaged SST was, or a whole older tree back.
//!
//! ```text
//! level 1   [ a  S  c ]                      S is damaged
//!
//! level 1   [ a  S' c ]                      what could be read of it, under a new name
//!           [    H    ]                      a hole for what could not
//!
//! level 1   [    H    ]   filled by F  ─▶    [    F    ]
//! ```
//!
//! Always true, or the edit is refused: the entries of what is taken out are those of what is put in, holes
//! included, by their conservation sums; nothing else changes its place; both roles of a tree that is put back are
//! held by whoever puts it back, and its numbers do not go back.

use bytes::Bytes;

use crate::{
    codec::sum::Sum,
    error::{Error, ErrorKind, Result},
    key::Seq,
    manifest::{Root, Run, codec},
    sst::SstMeta,
    store::{Name, ObjectId},
};

/// A damaged SST, or a hole, and what takes its place.
#[derive(Debug, Clone)]
pub struct Salvaged {
    /// What is taken out.
    pub out: ObjectId,
    /// What could be read of it, in SSTs, ascending; nothing if nothing could be.
    pub kept: Vec<SstMeta>,
    /// What could not, as holes, ascending.
    pub holes: Vec<SstMeta>,
}

/// A whole tree, and where its log begins.
#[derive(Debug, Clone)]
pub struct Restored {
    /// The writer's epoch.
    pub writer_epoch: u32,
    /// The compactor's epoch.
    pub compactor_epoch: u32,
    /// The runs, newest data first; those without a number (0) get one.
    pub runs: Vec<Run>,
    /// The slot at which replay begins: that of the repair's own FENCE.
    pub replay_from: u64,
    /// The highest slot known to be durable.
    pub tail_hint: u64,
    /// The last sequence number that is in SSTs, or was lost.
    pub last_seq: Seq,
    /// Objects of the compactor's epoch with a lower counter are committed by this or will never be.
    pub counter_floor: u64,
}

/// Puts what was saved in the place of what was damaged.
pub(crate) fn salvage(root: &mut Root, salvaged: &[Salvaged]) -> Result<()> {
    let new: Vec<SstMeta> =
        salvaged.iter().flat_map(|one| one.kept.iter().chain(&one.holes)).cloned().collect();
    new.iter().try_for_each(codec::check_sst).map_err(refused)?;
    if let Some(twice) = root.named_twice(&new) {
        return Err(refused(format!("{} is in the version already", codec::sst_name(twice))));
    }
    let (mut taken, mut put) = (Sum::default(), Sum::default());
    for one in salvaged {
        replace(root, one, &mut taken, &mut put)?;
    }
    // Of several holes in one SST, one tells of all entries.
    if taken != put {
        let what = "what was saved and what was not do not add up to what is taken out";
        return Err(Error::new(ErrorKind::Corruption, what).hint("nothing was changed"));
    }
    root.runs.retain(|run| !run.ssts.is_empty());
    root.runs.iter().try_for_each(codec::check_order).map_err(refused)?;
    root.required_features = codec::required_features(root);
    codec::check_sum(root).map_err(refused)
}

/// Puts one in its place, and adds what is taken out and put in to the sums.
fn replace(root: &mut Root, one: &Salvaged, taken_sum: &mut Sum, put_sum: &mut Sum) -> Result<()> {
    let id: Bytes = one.out.to_bytes().into();
    let place = root
        .runs
        .iter()
        .enumerate()
        .find_map(|(run, of)| of.ssts.iter().position(|sst| sst.id == id).map(|at| (run, at)));
    let Some((place, at)) = place else {
        let what = format!("{} is not in version {} any more", Name::Sst(one.out).path(), root.id);
        return Err(Error::new(ErrorKind::Conflict, what).hint("look at the newest version again"));
    };
    let taken = root.runs[place].ssts.remove(at);
    taken_sum.add(&taken.sum());
    for sst in one.kept.iter().chain(&one.holes) {
        put_sum.add(&sst.sum());
        if sst.first_key < taken.first_key || taken.last_key < sst.last_key {
            return Err(refused(format!("{} reaches beyond what it replaces", codec::sst_name(sst))));
        }
        if sst.min_seq < taken.min_seq || taken.max_seq < sst.max_seq {
            return Err(refused(format!(
                "{} holds numbers that are not in what it replaces",
                codec::sst_name(sst)
            )));
        }
    }
    let (level, was_hole) = (root.runs[place].level, taken.is_hole());
    let (same, other) = if was_hole { (&one.holes, &one.kept) } else { (&one.kept, &one.holes) };
    root.runs[place].ssts.splice(at..at, same.iter().cloned());
    // SSTs and holes are never in one run. Holes lie behind the run they were in, what fills one in front of it.
    let beside = if was_hole { place.checked_sub(1) } else { Some(place + 1) };
    add(root, beside, place + usize::from(!was_hole), level, other);
    Ok(())
}

/// Adds `ssts` to the run `beside`, if they are of one kind and level and do not overlap: then there is no order
/// between them. Else as a new run at `place`.
fn add(root: &mut Root, beside: Option<usize>, place: usize, level: u32, ssts: &[SstMeta]) {
    if ssts.is_empty() {
        return;
    }
    if let Some(run) = beside.and_then(|at| root.runs.get_mut(at)).filter(|run| run.level == level) {
        let mut joined = [&run.ssts[..], ssts].concat();
        joined.sort_by(|a, b| a.first_key.cmp(&b.first_key));
        let joined = Run { ssts: joined, parts: Vec::new(), ..*run };
        if level > 0 && codec::check_order(&joined).is_ok() {
            *run = joined;
            return;
        }
    }
    root.runs.insert(place, Run { id: root.next_run, level, ssts: ssts.to_vec(), parts: Vec::new() });
    root.next_run += 1;
}

/// Puts a whole tree in the place of the one that is there.
pub(crate) fn restore(root: &mut Root, with: &Restored) -> Result<()> {
    let before = &root.writer;
    for (what, from, to) in [
        ("replay point", before.replay_from, with.replay_from),
        ("last fence", before.fence_slot, with.replay_from),
        ("last sequence number", before.last_seq, with.last_seq),
    ] {
        if to < from {
            return Err(refused(format!("it would move the {what} back from {from} to {to}")));
        }
    }
    root.runs.clone_from(&with.runs);
    for run in &mut root.runs {
        run.parts.clear();
        if run.id == 0 {
            run.id = root.next_run;
            root.next_run += 1;
        }
    }
    root.ssts().try_for_each(codec::check_sst).map_err(refused)?;
    root.runs.iter().try_for_each(codec::check_order).map_err(refused)?;
    if !root.runs.is_sorted_by_key(|run| run.level) {
        return Err(refused("the runs are not in the order of their levels"));
    }
    let mut sum = Sum::default();
    for sst in root.ssts() {
        sum.add(&sst.sum());
        if sst.max_seq > with.last_seq {
            return Err(refused(format!("{} holds numbers above the last one", codec::sst_name(sst))));
        }
    }
    root.sum = Bytes::copy_from_slice(&sum.to_bytes());
    root.required_features = codec::required_features(root);
    root.writer.replay_from = with.replay_from;
    root.writer.tail_hint = root.writer.tail_hint.max(with.tail_hint).max(with.replay_from);
    // What the log has lost is given up; from here on this is the fence that must be there.
    (root.writer.fence_slot, root.writer.fence_epoch) = (with.replay_from, with.writer_epoch);
    root.writer.last_seq = with.last_seq;
    Ok(())
}

fn refused(what: impl std::fmt::Display) -> Error {
    Error::invalid(format!("a repair cannot be committed: {what}"))
}
