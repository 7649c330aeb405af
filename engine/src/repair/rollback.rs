//! Rung 3, and the cut: an older tree, with what the log still has of what came after it.
//!
//! ```text
//! versions   … V   V+1  V+2 (damaged)         V+3, V+4: both roles claimed    V+5 = the runs of V
//! log            └─ replay point of V ─────────────────┐                            + what the log gives back
//!                [ 7  8  9  10 ]  ── replayed into level 0, fenced behind it
//! ```
//!
//! Collection keeps the log from the oldest replay point of all versions, so most often a roll-back loses nothing: a
//! merge that went wrong is undone, a flush that was lost is made again. What is lost is told by number.
//!
//! A cut of the log is the same with the newest version itself: everything that can be read, before and behind
//! the hole, goes into level 0, and the replay point moves behind it.
//!
//! Collection needs no role and goes on beside it, so the older version is pinned before anything is claimed, and
//! the log is looked at again when no one can add to it: what was lost of it meanwhile stops the repair.
//!
//! Always true: epochs, replay point and last number only go forward, so every fence holds; the old versions
//! and everything they name stay.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    error::{Error, ErrorKind, Result},
    key::Seq,
    manifest::{Edit, Manifest, Root, Run, View, WriterState, claim, pinned::Pinned, salvage::Restored},
    memtable::Memtable,
    repair::{Names, Rung, Work, claim_compactor, tree},
    sst::SstMeta,
    stats::Cause,
    store::{Folder, Name, ObjectId, Sequence},
    verify::{
        Finding, Survey,
        log::{Log, Walked},
    },
    wal::{WalObject, fence::Fencer, read},
};

/// A memtable of the replay is written when it is this large.
const MEMTABLE_BYTES: usize = 64 << 20;

/// More numbers than were ever given out in the part of a log whose end is lost.
const LOST_NUMBERS: u64 = 1 << 32;

const ROLL_BACK: &str = "esker repair --rollback";
const ROLL_BACK_AND_CUT: &str = "esker repair --rollback --cut-log";

/// Says what a roll-back would do, if one is possible.
pub(super) async fn offer(
    work: &mut Work<'_>,
    manifest: &Manifest,
    latest: &Arc<View>,
    survey: &Survey,
    damaged: &BTreeMap<ObjectId, Finding>,
) -> Result<()> {
    if let Some(back) = newest_whole(manifest, survey, damaged).await? {
        let (command, but) = way_back(work, manifest, latest, &back).await?;
        let what = format!(
            "`{command}` would go back to version {}, the newest that is whole, and take what the log has of what came after it{but}",
            back.id()
        );
        work.tell(Rung::Told, Some(Name::Manifest(back.id())), what, false);
    }
    Ok(())
}

/// The one command that goes back to `back`, and what the log would not give.
pub(super) async fn way_back(
    work: &Work<'_>,
    manifest: &Manifest,
    latest: &View,
    back: &View,
) -> Result<(&'static str, String)> {
    let log = Log::read(work.store, manifest.identity(), &latest.root, false).await?;
    Ok(match walk(&log, latest, back).holes.first() {
        None => (ROLL_BACK, String::new()),
        Some(hole) => {
            let but = format!("; the log has lost {}: {}", Name::Wal(hole.slot), hole.numbers());
            (ROLL_BACK_AND_CUT, but)
        }
    })
}

/// Rolls back to the newest version that names nothing damaged.
pub(super) async fn roll_back(
    work: &mut Work<'_>,
    manifest: &Manifest,
    survey: &Survey,
    damaged: &BTreeMap<ObjectId, Finding>,
) -> Result<()> {
    let (Some(latest), Some(back)) = (&survey.latest, newest_whole(manifest, survey, damaged).await?) else {
        let what = "no version is whole, so there is nothing to roll back to; `esker repair --salvage` keeps what can be read";
        work.tell(Rung::Told, None, what, false);
        return Ok(());
    };
    put_back(work, manifest, latest, &back, Rung::RollBack).await?;
    Ok(())
}

/// Goes on behind what the log has lost.
///
/// `tree_is_damaged`: the newest version is, too, and what is to be done about that is told as one command.
pub(super) async fn cut_log(
    work: &mut Work<'_>,
    manifest: &Manifest,
    latest: &Arc<View>,
    tree_is_damaged: bool,
) -> Result<()> {
    let log = Log::read(work.store, manifest.identity(), &latest.root, false).await?;
    let walk = log.walk(&latest.root);
    if walk.holes.is_empty() {
        return Ok(());
    }
    if !work.options.cut_log {
        let command =
            if tree_is_damaged { "esker repair --salvage --cut-log" } else { "esker repair --cut-log" };
        for hole in &walk.holes {
            let what = format!(
                "the log has lost {}: {}; a copy would bring it back (--from), `{command}` would go on without it",
                Name::Wal(hole.slot),
                hole.numbers()
            );
            work.tell(Rung::Told, Some(Name::Wal(hole.slot)), what, false);
        }
        return Ok(());
    }
    // Where the tree is damaged, too, a salvage may have come first.
    let latest = if work.options.act { manifest.latest(Cause::Admin).await? } else { Arc::clone(latest) };
    put_back(work, manifest, &latest, &latest.clone(), Rung::CutLog).await?;
    Ok(())
}

/// The newest version of which nothing is damaged.
pub(super) async fn newest_whole(
    manifest: &Manifest,
    survey: &Survey,
    damaged: &BTreeMap<ObjectId, Finding>,
) -> Result<Option<Arc<View>>> {
    let is_whole =
        |view: &View| !view.root.ssts().any(|sst| !sst.is_hole() && damaged.contains_key(&sst.object_id()));
    newest(manifest, survey, is_whole).await
}

/// The newest version that can be read and of which `is_wanted` says so.
pub(super) async fn newest(
    manifest: &Manifest,
    survey: &Survey,
    is_wanted: impl Fn(&View) -> bool,
) -> Result<Option<Arc<View>>> {
    let mut near: Option<Arc<View>> = survey.latest.clone();
    for id in survey.versions.iter().rev() {
        let view = match manifest.stored_version(*id, near.as_deref(), Cause::Admin).await {
            Ok(Some(view)) => view,
            Ok(None) => continue,
            Err(error) if error.kind() == ErrorKind::Corruption => continue,
            Err(error) => return Err(error),
        };
        if is_wanted(&view) {
            return Ok(Some(view));
        }
        near = Some(view);
    }
    Ok(None)
}

/// Makes the tree of `back`, and what the log has after it, the newest version, on top of `latest`. Gives whether that
/// was done, or would be.
pub(super) async fn put_back(
    work: &mut Work<'_>,
    manifest: &Manifest,
    latest: &Arc<View>,
    back: &Arc<View>,
    rung: Rung,
) -> Result<bool> {
    let act = work.options.act;
    let store = work.store;
    // Before any role changes hands: is there a way at all?
    let log = Log::read(store, manifest.identity(), &latest.root, false).await?;
    let walk = walk(&log, latest, back);
    let name = format!("version {}", back.id());
    if let Some(hole) = walk.holes.first()
        && !work.options.cut_log
    {
        let what = format!(
            "the log that follows {name} has lost {}: {}; a copy would bring it back (--from), `{ROLL_BACK_AND_CUT}` goes on without it",
            Name::Wal(hole.slot),
            hole.numbers()
        );
        work.tell(Rung::Told, Some(Name::Wal(hole.slot)), what, false);
        return Ok(false);
    }
    if !act {
        told(work, rung, latest, back, &log, &walk, &name, false);
        return Ok(true);
    }
    let pinned = Pinned::on(manifest, back).await?;
    let restored = pinned.during(restore(work, manifest, latest, back, &pinned)).await;
    let is_held = pinned.check().is_ok();
    pinned.release().await;
    let (view, log, walk) = restored?;
    told(work, rung, latest, back, &log, &walk, &name, true);
    let what = format!("version {} is the newest now; whoever wrote or merged before is fenced", view.id());
    work.tell(rung, Some(Name::Manifest(view.id())), what, true);
    if !is_held {
        let what = format!(
            "the pin on {name} lapsed while it was put back: run `esker verify`, what it named may be gone"
        );
        work.tell(Rung::Told, Some(Name::Manifest(back.id())), what, false);
    }
    Ok(true)
}

/// Takes both roles, and commits the tree of `back` with what the log has after it.
async fn restore(
    work: &Work<'_>,
    manifest: &Manifest,
    latest: &Arc<View>,
    back: &Arc<View>,
    pinned: &Pinned<'_>,
) -> Result<(Arc<View>, Log, Walked)> {
    let uuid = work.store.clock().random();
    let base = claim::writer(manifest, latest, uuid, &work.options.name, Cause::Admin).await?;
    let (base, mut names) = claim_compactor(manifest, &base, &work.options.name).await?;
    let (log, walk) = fence(work, manifest, (latest, &base), back, uuid).await?;
    if let Some(hole) = walk.holes.first()
        && !work.options.cut_log
    {
        let what = format!(
            "the log that follows version {} was collected or lost while it was put back: {}",
            back.id(),
            hole.numbers()
        );
        return Err(Error::corruption(Name::Wal(hole.slot).path(), 0, what).hint(
            "the tree is as it was; repair again, `esker repair --rollback --cut-log` goes on without it",
        ));
    }
    let mut runs = replay(work, manifest, back, &walk, &mut names).await?;
    runs.extend(back.root.runs.iter().cloned());
    // Nobody knows how many numbers the lost end of the log had, and a reader may have seen them: none is given out again.
    let lost = if open_end(&walk).is_some() { LOST_NUMBERS } else { 0 };
    let last_seq = base.root.writer.last_seq.max(walk.last_seq).saturating_add(lost);
    let edit = Edit::Restore(Restored {
        writer_epoch: base.root.writer.epoch,
        compactor_epoch: names.epoch,
        runs,
        replay_from: walk.tail,
        tail_hint: walk.tail,
        last_seq,
        counter_floor: names.counter,
    });
    pinned.check()?;
    let view = manifest.commit(&base, &edit, Cause::Admin).await?;
    Ok((view, log, walk))
}

/// The walk from the replay point of `back`, with what `latest` knows of the log: its last FENCE, and how far it went.
fn walk(log: &Log, latest: &View, back: &View) -> Walked {
    let wal_window = u64::from(back.root.options.wal_window);
    let WriterState { replay_from, last_seq, .. } = back.root.writer;
    let writer = WriterState { replay_from, last_seq, ..latest.root.writer.clone() };
    let mut walk = log.walk(&Root { writer, ..Root::default() });
    // Whoever put that FENCE writes from there on, if it is still at work: also when the FENCE is lost.
    let fence_slot = latest.root.writer.fence_slot;
    if fence_slot > 0 {
        walk.tail = walk.tail.max(fence_slot.saturating_add(wal_window));
    }
    walk
}

/// From which number on nobody can say what was lost, if the walk has lost its end.
fn open_end(walk: &Walked) -> Option<Seq> {
    walk.holes.iter().filter(|hole| hole.to_seq.is_none()).map(|hole| hole.from_seq).min()
}

/// Says what is put back, what the log gives, and what is lost.
#[expect(clippy::too_many_arguments, reason = "all that is known of a roll-back goes into its sentences")]
fn told(
    work: &mut Work<'_>,
    rung: Rung,
    latest: &View,
    back: &View,
    log: &Log,
    walk: &Walked,
    name: &str,
    done: bool,
) {
    let (after, last) = (back.root.writer.last_seq, latest.root.writer.last_seq.max(walk.last_seq));
    let covered = log.numbers(&walk.data);
    let lost = gaps(after, last, &covered);
    let verb = match (rung, done) {
        (Rung::CutLog, true) => {
            "the log was cut: everything that could be read of it is in SSTs now".to_owned()
        }
        (Rung::CutLog, false) => {
            "would cut the log, and put everything that can be read of it into SSTs".to_owned()
        }
        (_, true) => format!("went back to {name}"),
        (_, false) => format!("would go back to {name}"),
    };
    let given = format!("the log gives {} of {} numbers after {after}", count(&covered, after), last - after);
    let open_end = open_end(walk).map(|from| format!("numbers from {} on may be lost", from.max(last + 1)));
    let lost = (!lost.is_empty()).then(|| format!("lost: {}", ranges(&lost)));
    let rest: Vec<String> = lost.into_iter().chain(open_end).collect();
    let rest = if rest.is_empty() { "nothing is lost".to_owned() } else { rest.join("; ") };
    work.tell(rung, Some(Name::Manifest(back.id())), format!("{verb}; {given}; {rest}"), done);
}

/// Puts a fence of the epoch claimed in `base` at the end of the log; what lies before it is all there will be. Who wrote
/// it `latest` says, which was the newest before.
async fn fence(
    work: &Work<'_>,
    manifest: &Manifest,
    (latest, base): (&View, &View),
    back: &View,
    uuid: u128,
) -> Result<(Log, Walked)> {
    let mut fencer = Fencer::new(manifest, uuid, base.root.writer.epoch, &work.options.name, Cause::Admin);
    loop {
        let log = Log::read(work.store, manifest.identity(), &latest.root, false).await?;
        let walk = walk(&log, base, back);
        if fencer.put(walk.tail).await? {
            return Ok((log, walk));
        }
    }
}

/// What the log has after `back`, as runs of level 0, newest first.
async fn replay(
    work: &Work<'_>,
    manifest: &Manifest,
    back: &View,
    walk: &Walked,
    names: &mut Names,
) -> Result<Vec<Run>> {
    let (db_uuid, sequence) = (manifest.identity().db_uuid, Sequence::new(work.store.clone(), Folder::Wal));
    let options = &back.root.options;
    let mut runs: Vec<Run> = Vec::new();
    let mut memtable = Memtable::new();
    let run = |sst: SstMeta| Run { id: 0, level: 0, ssts: vec![sst], parts: Vec::new() };
    for slot in &walk.data {
        let Some(object) = read::read(&sequence, db_uuid, *slot, Cause::Admin).await? else {
            let name = Name::Wal(*slot);
            return Err(Error::corruption(name.path(), 0, "a log object went away while it was replayed"));
        };
        if let WalObject::Data { entries, .. } = object {
            entries
                .into_iter()
                .filter(|e| e.seq > back.root.writer.last_seq)
                .for_each(|e| memtable.insert(e));
        }
        if memtable.bytes() >= MEMTABLE_BYTES {
            let full = std::mem::take(&mut memtable);
            runs.insert(0, run(tree::flush(work.store, names.next(work.store), options, full, true).await?));
        }
    }
    if !memtable.is_empty() {
        runs.insert(0, run(tree::flush(work.store, names.next(work.store), options, memtable, true).await?));
    }
    Ok(runs)
}

/// The stretches of `after + 1 ..= last` that no range of `covered` (ascending) holds.
fn gaps(after: Seq, last: Seq, covered: &[(Seq, Seq)]) -> Vec<(Seq, Seq)> {
    let mut gaps = Vec::new();
    let mut next = after + 1;
    for (from, to) in covered {
        if *from > next {
            gaps.push((next, *from - 1));
        }
        next = next.max(*to + 1);
    }
    if next <= last {
        gaps.push((next, last));
    }
    gaps
}

fn count(covered: &[(Seq, Seq)], after: Seq) -> u64 {
    covered.iter().map(|(from, to)| (to + 1).saturating_sub((*from).max(after + 1))).sum()
}

fn ranges(of: &[(Seq, Seq)]) -> String {
    let one = |(from, to): &(Seq, Seq)| {
        if from == to { format!("number {from}") } else { format!("numbers {from} to {to}") }
    };
    of.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_log_object_covers_is_lost() {
        assert_eq!(gaps(10, 20, &[(5, 12), (15, 16)]), [(13, 14), (17, 20)]);
        assert_eq!(gaps(10, 20, &[(11, 20)]), []);
        assert_eq!(gaps(10, 10, &[]), []);
        assert_eq!(
            (count(&[(5, 12), (15, 16)], 10), ranges(&[(13, 14), (17, 17)]).as_str()),
            (4, "numbers 13 to 14, number 17")
        );
    }
}
