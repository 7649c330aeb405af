//! What a hole holds up: SSTs that would have to go past it, and no others.
//!
//! A hole is older data that nobody can read, so nothing can be merged with it. What is newer than it must stay
//! in front of it, at its level or above; what is older may go on down. So a lost SST stops its own range, and
//! the rest of the tree goes on being merged.
//!
//! ```text
//! level 0   [ f      ]   [ e ]       e lies beside the hole and goes down
//! level 1        [  H  ]             f stays: behind the hole, what it holds could not be found any more
//! level 2   [ x   y   z ]
//! ```
//!
//! Always true: a version without holes is planned as if this file were not there; a plan that is left takes at
//! least one SST down, or makes two runs one, so plans still come to an end.

use std::{collections::HashSet, sync::Arc};

use crate::{
    compaction::{
        levels::{Levels, Taken, overlapping},
        plan::Plan,
    },
    manifest::{RunView, View},
    sst::{OpenSst, SstMeta},
    store::ObjectId,
};

/// The plan without what would pass a hole; `None` if what is left is not worth doing.
pub(super) fn spare(levels: &Levels<'_>, plan: Plan) -> Option<Plan> {
    if !levels.view.runs.iter().any(RunView::is_hole) {
        return Some(plan);
    }
    let mut plan = plan;
    loop {
        let held = held(levels.view, &plan);
        if held.is_empty() {
            break;
        }
        for (_, ssts) in &mut plan.inputs {
            ssts.retain(|id| !held.contains(id));
        }
        plan.inputs.retain(|(_, ssts)| !ssts.is_empty());
    }
    let from_above = |id: &u64| levels.view.runs.iter().any(|run| run.id == *id && run.level < plan.level);
    let goes_down = plan.inputs.iter().any(|(id, _)| from_above(id));
    if plan.inputs.is_empty() || !goes_down && plan.inputs.len() < 2 {
        return None;
    }
    let find = |id: &ObjectId| levels.view.sst(*id).cloned();
    let taken: Taken =
        plan.inputs.iter().map(|(run, ssts)| (*run, ssts.iter().filter_map(find).collect())).collect();
    plan.bottom = levels.is_bottom(&taken);
    Some(plan)
}

/// The inputs of `plan` that would change their order with something that stays, a hole or what a hole holds up.
fn held(view: &View, plan: &Plan) -> HashSet<ObjectId> {
    let taken: HashSet<ObjectId> = plan.ids().collect();
    let mut held = HashSet::new();
    for (age, run) in view.runs.iter().enumerate() {
        for input in run.ssts.iter().filter(|sst| taken.contains(&sst.id)) {
            let crosses = view.runs.iter().enumerate().any(|(other_age, other)| {
                let stays_above = other.level < plan.level;
                let is_newer = other_age < age;
                other_age != age
                    && stays_above != is_newer
                    && overlapping(other, &input.meta).iter().any(|sst| !taken.contains(&sst.id))
            });
            if crosses {
                held.insert(input.id);
            }
        }
    }
    held
}

/// The newest runs of L0, if a hole keeps them from going down: as many as are of like size, so that what has been
/// merged once is not merged again with every flush.
pub(super) fn above_hole(levels: &Levels<'_>, l0: &Taken) -> Option<Taken> {
    let hole = levels.view.runs.iter().find(|run| run.is_hole())?.id;
    let above: HashSet<u64> =
        levels.view.runs.iter().map(|run| run.id).take_while(|id| *id != hole).collect();
    let mut newest = Taken::new();
    let mut bytes = 0u64;
    for (id, ssts) in l0.iter().filter(|(id, _)| above.contains(id)) {
        let of_run: u64 = ssts.iter().map(|sst| sst.meta.bytes).sum();
        if newest.len() >= 2 && of_run > bytes.saturating_mul(2) {
            break;
        }
        bytes += of_run;
        newest.push((*id, ssts.clone()));
    }
    (newest.len() >= 2).then_some(newest)
}

/// Whether an SST of `run` would pass a hole on its way to `level`.
pub(super) fn is_held(view: &View, run: &RunView, meta: &SstMeta, level: u32) -> bool {
    let behind = view.runs.iter().skip_while(|other| other.id != run.id).skip(1);
    behind.filter(|other| other.is_hole() && other.level < level).any(|hole| meets(hole, meta))
}

/// Whether there is a hole among the keys of this SST.
pub(super) fn meets_hole(view: &View, meta: &SstMeta) -> bool {
    view.runs.iter().filter(|run| run.is_hole()).any(|hole| meets(hole, meta))
}

fn meets(hole: &RunView, meta: &SstMeta) -> bool {
    let of_hole: &[Arc<OpenSst>] = overlapping(hole, meta);
    !of_hole.is_empty()
}
