//! Repairing: a ladder of remedies, the gentle ones first (faults §4.5).
//!
//! ```text
//! 1  read again      what only a first read saw was on the way           verify does that by itself
//! 2  another copy    a replica of the same database has the object       nothing is lost, where it is proved
//!    rebuild         the identity, from what the versions say of it      nothing is lost
//! 3  roll back       to the newest version that is whole, and what the   numbers may be lost; told which
//!                    log still has of what came after
//! 4  salvage         what can be read is kept, the rest becomes holes    keys are lost; reads of them say so
//! -  cut the log     go on behind an object of the log that is lost      numbers are lost; told which
//! ```
//!
//! 3, 4 and the cut are done only if asked for: they give something up. A salvage needs the compactor's role only,
//! and goes on beside a live writer; a roll-back and a cut take both roles, under fresh epochs, so everyone
//! who worked on the damaged state is fenced.
//!
//! Always true: nothing is deleted, and no object is overwritten but a damaged one, with bytes that are proved to
//! be, or to mean, those written first, or, only with [`RepairOptions::unproved`], that nothing contradicts (`proof.rs` says
//! what counts as a proof); without [`RepairOptions::act`] nothing is written at all, but for the pin of a
//! check that lasts; every action is told, done or not.

mod beyond;
mod copy;
mod identity;
mod over;
mod proof;
mod refill;
mod rollback;
mod salvage;
mod tree;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use crate::{
    error::Result,
    manifest::{Manifest, View, claim},
    stats::Cause,
    store::{Name, ObjectId, Role, Store},
    verify::{self, Finding, Progress, Report, Severity, Survey, VerifyOptions},
};

/// How often what the last round put back is looked at for what it laid bare.
const ROUNDS: usize = 16;

/// Which remedy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rung {
    /// Nothing to do, or nothing that can be done.
    Told,
    /// From another copy.
    Copy,
    /// Made again from what else says what it was.
    Rebuild,
    /// Back to an older version.
    RollBack,
    /// What can be read is kept.
    Salvage,
    /// The log goes on behind what it lost.
    CutLog,
}

impl Rung {
    /// As one lower-case word, for logs and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Told => "told",
            Self::Copy => "copy",
            Self::Rebuild => "rebuild",
            Self::RollBack => "roll_back",
            Self::Salvage => "salvage",
            Self::CutLog => "cut_log",
        }
    }
}

/// What was done, or would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    /// By which remedy.
    pub rung: Rung,
    /// To which object, if it is one.
    pub object: Option<Name>,
    /// What: a sentence without a full stop.
    pub what: String,
    /// Whether it was done; else it would be.
    pub done: bool,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// What may be done.
#[derive(Debug, Clone, Default)]
pub struct RepairOptions {
    /// Do it. Without, everything is only told.
    pub act: bool,
    /// Another copy of the same database.
    pub from: Option<Store>,
    /// Put in from the copy also what nothing here proves to be what was written first: a copy that was itself
    /// opened and written may have another object under the same number.
    pub unproved: bool,
    /// Roll back to the newest version that is whole, if the newest is not.
    pub roll_back: bool,
    /// Keep what can be read of damaged SSTs, and mark the rest as holes.
    pub salvage: bool,
    /// Go on behind what the log has lost.
    pub cut_log: bool,
    /// Who does it, for those it fences.
    pub name: String,
}

/// What was found, done, and left.
#[derive(Debug)]
pub struct Outcome {
    /// What was wrong before.
    pub before: Report,
    /// What was done, or would be, in order.
    pub actions: Vec<Action>,
    /// What is wrong now; `None` if nothing was done.
    pub after: Option<Report>,
    /// How far another copy goes on behind what is here, if it does: this may be an older state, however whole.
    pub copy_goes_on: Option<String>,
}

impl Outcome {
    /// Whether nothing is damaged now, and no copy that was looked at has more.
    pub fn is_whole(&self) -> bool {
        self.after.as_ref().unwrap_or(&self.before).is_whole() && self.copy_goes_on.is_none()
    }
}

/// Repairs the database in `store`.
///
/// Fails as the store does; with `Fenced` if another process takes a role over meanwhile. What was done until then
/// stays done, and running it again goes on from there.
pub async fn repair(store: &Store, options: &RepairOptions, progress: Progress<'_>) -> Result<Outcome> {
    let full = VerifyOptions::default();
    let before = verify::verify(store, &full, progress).await?;
    let mut work = Work { store, options, actions: Vec::new(), mended: BTreeSet::new() };
    let mut now = None;
    // What was put back may name more that is missing: a version its SSTs.
    for _ in 0..ROUNDS {
        let report = now.as_ref().unwrap_or(&before);
        let copied = match &options.from {
            Some(from) => copy::round(&mut work, from, report).await?,
            None => 0,
        };
        let rebuilt = identity::rebuild(&mut work, report).await?;
        if copied + rebuilt == 0 || !options.act {
            break;
        }
        // It may be damaged again tomorrow, and this round's names are no longer of interest.
        work.mended.clear();
        now = Some(verify::verify(store, &full, progress).await?);
    }
    let report = now.as_ref().unwrap_or(&before);
    let mut copy_goes_on = None;
    if let Some(from) = &options.from {
        refill::holes(&mut work, from, report).await?;
        copy_goes_on = beyond::tell(&mut work, from).await?;
    }
    let left: Vec<Finding> =
        report.damage().filter(|finding| !work.mended.contains(&finding.object)).cloned().collect();
    if !left.is_empty() {
        work.give_up_some(&left, report).await?;
    }
    let mut after = None;
    if work.actions.iter().any(|action| action.done) {
        let report = after.insert(verify::verify(store, &full, progress).await?);
        let left: Vec<Finding> = report.damage().cloned().collect();
        // Without an identity nothing more can be said than has been.
        if !left.is_empty()
            && let Ok(manifest) = Manifest::open(store.clone()).await
        {
            let survey = Survey::take(&manifest, &mut Report::default()).await?;
            work.advise(&left, &survey);
        }
    }
    Ok(Outcome { before, actions: work.actions, after, copy_goes_on })
}

/// A repair under way.
struct Work<'a> {
    store: &'a Store,
    options: &'a RepairOptions,
    actions: Vec<Action>,
    /// What a copy has mended, or would.
    mended: BTreeSet<Name>,
}

impl Work<'_> {
    fn tell(&mut self, rung: Rung, object: Option<Name>, what: impl Into<String>, done: bool) {
        let what = what.into();
        if done {
            tracing::warn!(rung = rung.as_str(), %what, "repair");
        }
        self.actions.push(Action { rung, object, what, done });
    }

    /// The rungs that give something up, for the damage that is `left`.
    async fn give_up_some(&mut self, left: &[Finding], report: &Report) -> Result<()> {
        let manifest = match Manifest::open(self.store.clone()).await {
            Ok(manifest) => manifest,
            Err(error) => {
                let what = format!("nothing else can be done before the identity is mended: {error}");
                self.tell(Rung::Told, Some(Name::Identity), what, false);
                return Ok(());
            }
        };
        let survey = Survey::take(&manifest, &mut Report::default()).await?;
        let damaged: BTreeMap<ObjectId, Finding> = report
            .findings
            .iter()
            .filter(|finding| finding.severity != Severity::Hole && !self.mended.contains(&finding.object))
            .filter_map(|finding| match finding.object {
                Name::Sst(id) if finding.what_is_wrong() => Some((id, finding.clone())),
                _ => None,
            })
            .collect();
        let Some(latest) = survey.latest.clone() else {
            return over::damaged(self, &manifest, &survey, &damaged).await;
        };
        if left.iter().any(|finding| finding.object == Name::Manifest(latest.id() + 1)) {
            over::missing(self, &manifest, &latest, &survey, &damaged).await?;
            self.advise(left, &survey);
            return Ok(());
        }
        let log_is_cut = left.iter().any(|finding| matches!(finding.object, Name::Wal(_)));
        let needed = || latest.root.ssts().filter(|sst| !sst.is_hole());
        let is_damaged = needed().any(|sst| damaged.contains_key(&sst.object_id()));
        if is_damaged && self.options.roll_back {
            rollback::roll_back(self, &manifest, &survey, &damaged).await?;
        } else if is_damaged && self.options.salvage {
            salvage::salvage(self, &manifest, &latest, &survey, &damaged).await?;
        } else if is_damaged {
            rollback::offer(self, &manifest, &latest, &survey, &damaged).await?;
            let too = if log_is_cut { " --cut-log" } else { "" };
            let what = format!(
                "`esker repair --salvage{too}` would keep what can be read of the damaged SSTs, and mark the rest as holes"
            );
            self.tell(Rung::Told, None, what, false);
        }
        if log_is_cut && !(is_damaged && self.options.roll_back) {
            rollback::cut_log(self, &manifest, &latest, is_damaged).await?;
        }
        self.advise(left, &survey);
        Ok(())
    }

    /// Says why each of `left` stays, and what would end it; once an object, and not what was said before.
    fn advise(&mut self, left: &[Finding], survey: &Survey) {
        let below = |finding: &Finding| match finding.object {
            Name::Manifest(id) if survey.latest.as_ref().is_some_and(|latest| id < latest.id()) => Some(id),
            _ => None,
        };
        for (from, to) in stretches(left.iter().filter_map(below).collect()) {
            let (which, them) = if from == to {
                (format!("version {from} stays as it is, nothing needs it"), "it")
            } else {
                (format!("versions {from} to {to} stay as they are, nothing needs them"), "them")
            };
            let what = format!(
                "{which}; the next collection that keeps only newer ones takes {them} (`esker gc`, at once with `--retention 0s`)"
            );
            if !self.actions.iter().any(|action| action.what == what) {
                self.tell(Rung::Told, Some(Name::Manifest(from)), what, false);
            }
        }
        let mut objects = BTreeSet::new();
        let others = left.iter().filter(|finding| below(finding).is_none());
        for finding in others.filter(|finding| objects.insert(&finding.object)) {
            let Some(what) = advice(finding, survey) else { continue };
            if !self.actions.iter().any(|action| action.what == what) {
                self.tell(Rung::Told, Some(finding.object.clone()), what, false);
            }
        }
    }
}

/// What to do about damage that no rung of the ladder is for; `None` if one is.
fn advice(finding: &Finding, survey: &Survey) -> Option<String> {
    let delete = |of: &Name| match of {
        Name::Checkpoint(name) => format!("`esker checkpoint URL delete {name}`"),
        other => other.to_string(),
    };
    Some(match &finding.object {
        // What is missing behind the newest that is there, and the log, have rungs of their own.
        Name::Manifest(id) if survey.latest.as_ref().is_some_and(|latest| *id > latest.id()) => return None,
        Name::Wal(_) => return None,
        name @ Name::Sst(id) => {
            let checkpoints = survey.ssts.get(id).map_or(&[][..], |named| &named.checkpoints);
            let names: Vec<String> = checkpoints.iter().map(Name::to_string).collect();
            if names.is_empty() {
                return None;
            }
            let delete: Vec<String> = checkpoints.iter().map(delete).collect();
            format!(
                "{name} is needed by {}: a copy would bring it back (--from), {} gives up what is kept so",
                names.join(", "),
                delete.join(", ")
            )
        }
        name @ Name::Checkpoint(_) => {
            format!("{finding}: a copy would bring it back (--from), {} gives up what it keeps", delete(name))
        }
        Name::Pin(_) => format!("{finding}: it lapses by itself, at most a day after its last heartbeat"),
        _ => format!("{finding}: only another copy helps (--from)"),
    })
}

/// The first and last of each stretch of `ids` without a gap.
fn stretches(ids: BTreeSet<u64>) -> Vec<(u64, u64)> {
    let mut stretches: Vec<(u64, u64)> = Vec::new();
    for id in ids {
        match stretches.last_mut() {
            Some((_, last)) if *last + 1 == id => *last = id,
            _ => stretches.push((id, id)),
        }
    }
    stretches
}

impl Finding {
    /// Whether it speaks of bytes that are not right, and not of a first read that was not.
    fn what_is_wrong(&self) -> bool {
        self.severity == Severity::Damage || self.is_superseded
    }
}

/// Takes the compactor's role, whoever has it.
async fn claim_compactor(manifest: &Manifest, base: &Arc<View>, name: &str) -> Result<(Arc<View>, Names)> {
    let (view, _) = claim::compactor(manifest, base, name, 0, true, Cause::Admin).await?;
    let state = &view.root.compactor;
    let names = Names { epoch: state.epoch, counter: state.counter_floor };
    Ok((view, names))
}

/// Gives out never-reused names in the compactor's epoch. In a dry run the epoch is 0, and nothing gets that name.
#[derive(Debug)]
struct Names {
    epoch: u32,
    counter: u64,
}

impl Names {
    fn none() -> Self {
        Self { epoch: 0, counter: 0 }
    }

    fn next(&mut self, store: &Store) -> ObjectId {
        let nonce = store.clock().random() as u64;
        self.counter += 1;
        ObjectId { role: Role::Compactor, epoch: self.epoch, counter: self.counter - 1, nonce }
    }
}
