//! Picking: a pure function from a version to a plan.
//!
//! What makes a merge due, the most urgent first:
//!
//! ```text
//! size, last   the last level is larger than it is to be        all of it into the next, which is empty: a move
//! L0, runs     a level holds more runs than the shape says      the whole level (the oldest runs of L0) into the next
//! size         a level of one run is larger than it is to be    its cheapest SST into the next level
//! tombstones   most entries of an SST delete something          that SST down, or again where it lies
//! expiry       most entries of an SST have expired              likewise
//! manual       someone asked                                    everything into one run
//! ```
//!
//! SSTs that overlap nothing where they go are moved: only the manifest changes.
//!
//! The size of the last level comes first because it costs nothing, and what it saves is much: under a load that keeps L0 full, L0 is always due, and
//! would go on being merged into all of a last level that should long have been the one below. Of levels with too many runs the one
//! that is fullest for its shape is first: neither L0 nor those below it grow without bound for the other's sake.
//!
//! A hole ([`crate::sst::hole`]) stops what would have to pass it, and nothing else: `spare`.
//!
//! Always true: newer data never ends below older data for the same key ([`Plan::keeps_order`]); the same
//! version and time give the same plan; plans applied one after the other come to an end.

use std::{cmp::Reverse, collections::HashSet, fmt, ops::RangeInclusive, sync::Arc};

use crate::{
    compaction::{
        levels::{
            Levels, Taken, are_disjoint, bytes, filled, overlap, overlapping, run_bytes, spans_keyspaces,
        },
        shape::MAX_LEVEL,
        spare::{self, spare},
    },
    manifest::{RunView, View},
    sst::{OpenSst, SstMeta},
    store::ObjectId,
};

/// The most L0 runs that one plan takes: what bounds the memory of a job after a long time without merging.
pub const MAX_L0_RUNS: usize = 64;

/// How long after its time an entry still counts as alive here, in milliseconds: readers whose clocks are
/// behind by less than this never miss a row too early.
pub const EXPIRY_MARGIN_MS: u64 = 60_000;

/// What to merge, and where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The runs that take part, newest first, and which of their SSTs, in key order.
    pub inputs: Vec<(u64, Vec<ObjectId>)>,
    /// The level the outputs go to.
    pub level: u32,
    /// No older data for these keys lies anywhere else: tombstones may go.
    pub bottom: bool,
    /// The SSTs stay as they are; only the manifest changes.
    pub moved: bool,
    /// What made it due.
    pub reason: Reason,
}

/// What made a merge due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// L0 holds too many runs.
    L0,
    /// A level holds more runs than the shape allows.
    Runs,
    /// A level holds more bytes than the shape allows.
    Size,
    /// Most entries of an SST are tombstones.
    Tombstones,
    /// Most entries of an SST have expired.
    Expiry,
    /// Someone asked.
    Manual,
}

impl Reason {
    /// The reason as one lower-case word, as used in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::L0 => "l0",
            Self::Runs => "runs",
            Self::Size => "size",
            Self::Tombstones => "tombstones",
            Self::Expiry => "expiry",
            Self::Manual => "manual",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Plan {
    /// How many SSTs take part.
    pub fn ssts(&self) -> usize {
        self.inputs.iter().map(|(_, ssts)| ssts.len()).sum()
    }

    /// The ids of all SSTs that take part.
    pub fn ids(&self) -> impl Iterator<Item = ObjectId> + '_ {
        self.inputs.iter().flat_map(|(_, ssts)| ssts).copied()
    }

    /// Whether no SST of `view` outside the plan, in a run older than the newest that takes part, overlaps one inside.
    pub fn is_bottom(&self, view: &View) -> bool {
        let ssts = |ids: &[ObjectId]| ids.iter().filter_map(|id| view.sst(*id)).cloned().collect();
        let taken: Taken = self.inputs.iter().map(|(run, ids)| (*run, ssts(ids))).collect();
        Levels::of(view).is_bottom(&taken)
    }

    /// Whether, once applied to `view`, newer data still lies above older data for every key: of two
    /// overlapping SSTs of which one takes part, the other lies above the target level exactly if it is newer.
    pub fn keeps_order(&self, view: &View) -> bool {
        let taken: HashSet<ObjectId> = self.ids().collect();
        let inputs: Vec<(usize, &RunView, &SstMeta)> = view
            .runs
            .iter()
            .enumerate()
            .flat_map(|(age, run)| run.ssts.iter().map(move |sst| (age, run, sst)))
            .filter(|(_, _, sst)| taken.contains(&sst.id))
            .map(|(age, run, sst)| (age, run, &sst.meta))
            .collect();
        inputs.len() == taken.len()
            && view.runs.iter().enumerate().all(|(age, run)| {
                inputs.iter().filter(|(input_age, _, _)| *input_age != age).all(|(input_age, _, input)| {
                    let stays_above = run.level < self.level;
                    let is_newer = age < *input_age;
                    stays_above == is_newer
                        || overlapping(run, input).iter().all(|sst| taken.contains(&sst.id))
                })
            })
    }
}

/// The most urgent plan, or `None` when nothing is due. `now_ms` is wall-clock time, for expiry only.
pub fn pick(view: &View, now_ms: u64) -> Option<Plan> {
    let levels = Levels::of(view);
    by_depth(&levels)
        .or_else(|| by_runs(&levels))
        .or_else(|| by_size(&levels))
        .or_else(|| by_share(&levels, Reason::Tombstones, &|meta| meta.tombstones))
        .or_else(|| by_share(&levels, Reason::Expiry, &|meta| expired(meta, now_ms)))
}

/// Everything into one run at the bottom; `None` when it is so already and holds no tombstones.
pub fn pick_all(view: &View) -> Option<Plan> {
    let levels = Levels::of(view);
    let runs: Vec<&RunView> = filled(view).collect();
    let clear = |sst: &OpenSst| sst.meta.tombstones == 0 || spare::meets_hole(view, &sst.meta);
    let total: u64 = runs.iter().map(|run| run_bytes(run)).sum();
    let clean = |run: &RunView| run.level > 0 && run.ssts.iter().all(|sst| clear(sst));
    match &runs[..] {
        [] => return None,
        [run] if clean(run) => return None,
        _ => {}
    }
    let level =
        (levels.last..MAX_LEVEL).find(|level| levels.shape.level_bytes(*level) >= total).unwrap_or(MAX_LEVEL);
    let inputs = runs.iter().map(|run| (run.id, run.ssts.iter().map(|sst| sst.id).collect())).collect();
    spare(&levels, Plan { inputs, level, bottom: true, moved: false, reason: Reason::Manual })
}

/// How many bytes wait to be merged, roughly: what is over the limits of each level.
pub fn debt_bytes(view: &View) -> u64 {
    let levels = Levels::of(view);
    let waiting = |level| match too_many_runs(&levels, level) {
        Some(_) => levels.bytes(level),
        None => excess(&levels, level).unwrap_or(0),
    };
    (0..=levels.last).map(waiting).fold(0, u64::saturating_add)
}

/// The last level, of one run, that is larger than it is to be: what comes down next is to be a run of its own above it.
fn by_depth(levels: &Levels<'_>) -> Option<Plan> {
    let level = levels.last;
    excess(levels, level)?;
    spare(levels, down(levels, levels.all(level), level + 1, Reason::Size)).filter(|plan| plan.moved)
}

/// The level that holds the most runs for what it may hold, L0 before others.
fn by_runs(levels: &Levels<'_>) -> Option<Plan> {
    fullest_first(0..=levels.last, |level| too_many_runs(levels, level)).find_map(|level| match level {
        0 => l0(levels),
        _ => spare(levels, whole_level(levels, level, Reason::Runs)),
    })
}

/// Those `levels` that are too full, by how full they are; of equals the higher one first.
fn fullest_first(
    levels: RangeInclusive<u32>,
    fullness: impl Fn(u32) -> Option<u128>,
) -> impl Iterator<Item = u32> {
    let mut full: Vec<(u128, u32)> =
        levels.filter_map(|level| fullness(level).map(|full| (full, level))).collect();
    full.sort_by_key(|(full, level)| (Reverse(*full), *level));
    full.into_iter().map(|(_, level)| level)
}

/// How full a level is that holds more runs than it may, in thousandths of the number that is one too many; `None` for others.
fn too_many_runs(levels: &Levels<'_>, level: u32) -> Option<u128> {
    let (runs, allowed) = (levels.runs(level).len(), levels.shape.runs_allowed(level, levels.last));
    (runs > allowed).then(|| per_mille(runs as u64, allowed as u64 + 1))
}

/// By how many bytes a level of one run is larger than it is to be; `None` for others, for L0 and for the deepest.
fn excess(levels: &Levels<'_>, level: u32) -> Option<u64> {
    let is_bounded = (1..MAX_LEVEL).contains(&level) && levels.runs(level).len() == 1;
    let excess = levels.bytes(level).saturating_sub(levels.shape.level_bytes(level));
    (is_bounded && excess > 0).then_some(excess)
}

fn per_mille(part: u64, whole: u64) -> u128 {
    u128::from(part) * 1000 / u128::from(whole.max(1))
}

fn l0(levels: &Levels<'_>) -> Option<Plan> {
    let runs = levels.all(0);
    // The newest may stay, the oldest may not: what goes down must be older than what stays.
    let oldest = runs.len().saturating_sub(MAX_L0_RUNS);
    spare(levels, down(levels, runs[oldest..].to_vec(), 1, Reason::L0)).or_else(|| {
        // Above a hole they cannot go down; so that they do not pile up, they become fewer where they lie.
        let newest = spare::above_hole(levels, &runs)?;
        Some(plan(levels, &newest, 0, Reason::L0))
    })
}

fn by_size(levels: &Levels<'_>) -> Option<Plan> {
    let fullness = |level| {
        excess(levels, level).map(|_| per_mille(levels.bytes(level), levels.shape.level_bytes(level)))
    };
    fullest_first(1..=levels.last, fullness).find_map(|level| spare(levels, by_size_of(levels, level)?))
}

/// The cheapest SSTs of a level that is too large, into the next.
fn by_size_of(levels: &Levels<'_>, level: u32) -> Option<Plan> {
    let excess = excess(levels, level)?;
    if level == levels.last || !levels.is_one_run(level + 1) {
        return Some(down(levels, levels.all(level), level + 1, Reason::Size));
    }
    let run = *levels.runs(level).first()?;
    let below = levels.runs(level + 1);
    let may_sink = |sst: &&Arc<OpenSst>| !spare::is_held(levels.view, run, &sst.meta, level + 1);
    let cost = |sst: &Arc<OpenSst>| bytes(below.iter().flat_map(|run| overlapping(run, &sst.meta)));
    let free: Vec<Arc<OpenSst>> = run
        .ssts
        .iter()
        .filter(may_sink)
        .filter(|sst| cost(sst) == 0)
        .scan(0, |moved, sst| {
            let more = *moved < excess;
            *moved += sst.meta.bytes;
            more.then(|| Arc::clone(sst))
        })
        .collect();
    let cheapest = || {
        let ratio = |sst: &&Arc<OpenSst>| u128::from(cost(sst)) * 1000 / u128::from(sst.meta.bytes.max(1));
        run.ssts.iter().filter(may_sink).min_by_key(ratio).map(|sst| vec![Arc::clone(sst)])
    };
    let ssts = if free.is_empty() { cheapest()? } else { free };
    Some(down(levels, vec![(run.id, ssts)], level + 1, Reason::Size))
}

/// SSTs below L0 most of whose entries are dead: rewritten where nothing older lies, else taken one level down.
fn by_share(levels: &Levels<'_>, reason: Reason, dead: &dyn Fn(&SstMeta) -> u64) -> Option<Plan> {
    // Over a hole nothing dead may go: it may hide what was lost.
    let dead = |meta: &SstMeta| if spare::meets_hole(levels.view, meta) { 0 } else { dead(meta) };
    let mostly_dead = |ssts: &[Arc<OpenSst>]| {
        let gone: u64 = ssts.iter().map(|sst| dead(&sst.meta)).sum();
        gone > 0 && gone.saturating_mul(2) > ssts.iter().map(|sst| sst.meta.entries).sum()
    };
    (1..=levels.last).find_map(|level| {
        let runs = levels.runs(level);
        let [run] = runs[..] else {
            let all: Vec<Arc<OpenSst>> = runs.iter().flat_map(|run| run.ssts.iter()).cloned().collect();
            let plan = || spare(levels, whole_level(levels, level, reason));
            return if mostly_dead(&all) { plan() } else { None };
        };
        let sst = run.ssts.iter().find(|sst| mostly_dead(std::slice::from_ref(*sst)))?;
        let taken = vec![(run.id, vec![Arc::clone(sst)])];
        let again = plan(levels, &taken, level, reason);
        if again.bottom { Some(again) } else { spare(levels, down(levels, taken, level + 1, reason)) }
    })
}

/// All runs of a level into one: in the next level, or in place where the tree ends in one run.
fn whole_level(levels: &Levels<'_>, level: u32, reason: Reason) -> Plan {
    let taken = levels.all(level);
    let ends_here = level == levels.last && (levels.is_one_run(level) || reason != Reason::Runs);
    if ends_here || level >= MAX_LEVEL {
        return plan(levels, &taken, level, reason);
    }
    down(levels, taken, level + 1, reason)
}

/// `taken` into `level`, together with what overlaps it there if that level is to be one run.
fn down(levels: &Levels<'_>, mut taken: Taken, level: u32, reason: Reason) -> Plan {
    let runs = levels.runs(level);
    let mut joined = false;
    if levels.is_one_run(level) {
        // More than one run here means the shape was changed: SSTs of one may tie those of the other together.
        let all = runs.len() > 1;
        for run in runs {
            let beside: Vec<Arc<OpenSst>> = run
                .ssts
                .iter()
                .filter(|sst| {
                    all || taken.iter().flat_map(|(_, ssts)| ssts).any(|t| overlap(&t.meta, &sst.meta))
                })
                .cloned()
                .collect();
            if !beside.is_empty() {
                joined = true;
                taken.push((run.id, beside));
            }
        }
    }
    let mut plan = plan(levels, &taken, level, reason);
    plan.moved = !joined && may_move(levels, &taken, &plan);
    plan
}

/// Whether the SSTs may go where they are to go just as they are.
fn may_move(levels: &Levels<'_>, taken: &Taken, plan: &Plan) -> bool {
    let ssts = || taken.iter().flat_map(|(_, ssts)| ssts);
    let count = ssts().count() as u64;
    let tombstones: u64 = ssts().map(|sst| sst.meta.tombstones).sum();
    let entries: u64 = ssts().map(|sst| sst.meta.entries).sum();
    // Many small SSTs are worth joining into few; an SST below L0 has had its chance.
    let small =
        plan.reason == Reason::L0 && bytes(ssts()) / count.max(1) < levels.view.root.options.sst_bytes / 8;
    let mixed = ssts().any(|sst| spans_keyspaces(&sst.meta));
    let dead = plan.bottom && tombstones.saturating_mul(4) > entries;
    are_disjoint(taken) && !small && !mixed && !dead
}

fn plan(levels: &Levels<'_>, taken: &Taken, level: u32, reason: Reason) -> Plan {
    Plan {
        inputs: taken.iter().map(|(id, ssts)| (*id, ssts.iter().map(|sst| sst.id).collect())).collect(),
        level,
        bottom: levels.is_bottom(taken),
        moved: false,
        reason,
    }
}

/// How many entries have expired, if expiry times lie evenly between the first and the last.
fn expired(meta: &SstMeta, now_ms: u64) -> u64 {
    let now_ms = now_ms.saturating_sub(EXPIRY_MARGIN_MS);
    if meta.expiring == 0 || now_ms < meta.min_expire_ms {
        return 0;
    }
    if now_ms >= meta.max_expire_ms {
        return meta.expiring;
    }
    let span = u128::from(meta.max_expire_ms - meta.min_expire_ms);
    let gone = u128::from(meta.expiring) * u128::from(now_ms - meta.min_expire_ms) / span.max(1);
    u64::try_from(gone).unwrap_or(meta.expiring)
}
