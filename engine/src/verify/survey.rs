//! References and sizes: what every version names, and whether it is there.
//!
//! ```text
//! DB                          decodes
//! every version > floor       is there, decodes, names the hash of the one before (I3); epochs, replay point and
//!                             numbers do not go back (I10); runs ascend and do not overlap, sums add up
//! every pin and checkpoint    decodes; a checkpoint counts as a version that is needed
//! every SST and part          is there with its size (I8), and is described alike by all of them
//! ```
//!
//! Always true: one version is held at a time, beside the list of all SSTs; what only superseded versions need is a
//! notice, for the next collection takes it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    error::{Error, ErrorKind, Result},
    manifest::{Identity, Manifest, View, codec, copy},
    sst::SstMeta,
    stats::Cause,
    store::{Folder, Name, ObjectId, Store, floor_of},
    verify::{Finding, Report, Severity},
};

/// How often the newest version may be collected before it is read.
const MAX_LOOKS: u32 = 20;
/// Where the objects that are numbered lie, with whatever lies beside them.
const NUMBERED: [&str; 4] = ["manifest", "wal", "job", "floor"];
/// What is wrong where no version is.
const EVERY_VERSION: &str = "every version is missing: there is data here, and nothing that says what it is";
/// How many missing versions in a row are told one by one.
const MISSING_ONE_BY_ONE: u64 = 64;

/// An SST that something names.
#[derive(Debug, Clone)]
pub struct Named {
    /// What is said of it.
    pub meta: SstMeta,
    /// Whether the newest version or a checkpoint names it.
    pub is_needed: bool,
    /// The checkpoints that name it.
    pub checkpoints: Vec<Name>,
    /// Whether it is there, with its size.
    pub is_there: bool,
}

/// What all versions name.
#[derive(Debug, Default)]
pub struct Survey {
    /// The newest version, if it can be read.
    pub latest: Option<Arc<View>>,
    /// Versions that are there and can be read, ascending.
    pub versions: Vec<u64>,
    /// Every SST.
    pub ssts: BTreeMap<ObjectId, Named>,
    /// Every part, and every object whose loss a hole marks: not to be taken for orphans.
    kept: BTreeSet<ObjectId>,
    /// Every SST, part and blob that is there.
    there: BTreeMap<Name, u64>,
}

impl Named {
    /// A finding about this SST, weighed by who needs it.
    pub fn judge(&self, finding: Finding) -> Finding {
        if self.is_needed || finding.severity != Severity::Damage {
            return finding;
        }
        let what = format!("{} (only superseded versions name it)", finding.what);
        Finding { severity: Severity::Notice, what, is_superseded: true, ..finding }
    }
}

/// The identity of the database in `store`; `None`, with the finding, if it cannot be read.
///
/// Fails with `Invalid` if there is none and nothing else either.
pub async fn identity(store: &Store, report: &mut Report) -> Result<Option<Identity>> {
    match Identity::load(store).await {
        Ok(Some(identity)) => Ok(Some(identity)),
        // Says which: no database at all, or one whose identity is missing.
        Ok(None) => match Manifest::open(store.clone()).await {
            Ok(_) => Ok(Identity::load(store).await?),
            Err(error) => {
                report.add(Finding::of(&Name::Identity, error)?);
                Ok(None)
            }
        },
        Err(error) => {
            report.add(Finding::of(&Name::Identity, error)?);
            Ok(None)
        }
    }
}

/// Notes what lies among numbered objects and is none of ours.
pub(super) async fn strangers(store: &Store, report: &mut Report) -> Result<()> {
    for folder in NUMBERED {
        for path in store.strangers(folder, Cause::Admin).await? {
            let what = format!("{path:?} is no name of an object of this database: it is left alone");
            report.add(Finding::notice(Name::Identity, what));
        }
    }
    Ok(())
}

impl Survey {
    /// Looks at every version, and at what is there. If it finds no newest version, there is damage in the report.
    ///
    /// Fails with `Unavailable` if the newest version is collected again and again before it has been read.
    pub async fn take(manifest: &Manifest, report: &mut Report) -> Result<Self> {
        let mut looks = 1;
        let mut survey = loop {
            let (mut survey, mut found) = (Self::default(), Report::default());
            survey.versions(manifest, &mut found).await?;
            if survey.latest.is_some() || !found.is_whole() {
                report.versions += found.versions;
                report.more += found.more;
                found.findings.into_iter().for_each(|finding| report.add(finding));
                break survey;
            }
            if looks == MAX_LOOKS {
                let what = format!("the newest version went away {looks} times before it was read");
                return Err(Error::unavailable(what).hint("a collection is running; run this again"));
            }
            looks += 1;
        };
        survey.copies(manifest, report).await?;
        survey.references(manifest.store(), report).await?;
        report.ssts = survey.ssts.len() as u64;
        report.entries = survey.ssts.values().map(|named| named.meta.entries).sum();
        Ok(survey)
    }

    /// The SSTs that are there with their size, and can be read.
    pub fn whole(&self) -> impl Iterator<Item = &Named> {
        self.ssts.values().filter(|named| named.is_there)
    }

    /// The bytes of this SST, part or blob that are there; 0 if it is not.
    pub fn stored_bytes(&self, name: &Name) -> u64 {
        self.there.get(name).copied().unwrap_or(0)
    }

    /// Every SST, part and blob that is there.
    pub fn stored(&self) -> impl Iterator<Item = &Name> {
        self.there.keys()
    }

    /// Notes which SSTs, parts and blobs are there and nothing names.
    pub(super) fn orphans(&self, report: &mut Report) {
        let named = |id: &ObjectId| self.ssts.contains_key(id) || self.kept.contains(id);
        let orphan = |name: &Name| name.object_id().is_some_and(|id| !named(&id));
        report.orphans.extend(
            self.there.iter().filter(|(name, _)| orphan(name)).map(|(name, bytes)| (name.clone(), *bytes)),
        );
    }

    async fn versions(&mut self, manifest: &Manifest, report: &mut Report) -> Result<()> {
        let store = manifest.store();
        let listed = store.list(Folder::Manifest, None, Cause::Admin).await?;
        // After the versions: the floor is raised before any of them is deleted.
        let floor = store.list(Folder::ManifestFloor, None, Cause::Admin).await?;
        let floor = floor_of(&floor);
        let mut next = floor + 1;
        let mut before: Option<Arc<View>> = None;
        // What is wrong with the version before, until the one after it has been read.
        let mut unread: Vec<Finding> = Vec::new();
        let last = listed.last().and_then(|object| object.name.number());
        if last.is_none() {
            let what = match manifest.latest(Cause::Admin).await {
                Err(error) if error.kind() == ErrorKind::Corruption => {
                    Finding::damage(Name::Manifest(next), EVERY_VERSION)
                }
                _ => Finding::damage(Name::Identity, "there is a database, and no version of it"),
            };
            report.add(what);
        } else if last <= Some(floor)
            && let Some(error) = manifest.void(Cause::Admin).await?
        {
            report.add(Finding::of(&Name::ManifestFloor(floor), error)?);
        }
        for object in listed {
            let Some(id) = object.name.number().filter(|id| *id >= next) else { continue };
            if next < id {
                if id - next <= MISSING_ONE_BY_ONE {
                    let gone =
                        (next..id).map(|gone| Finding::damage(Name::Manifest(gone), missing(gone, gone)));
                    gone.for_each(|finding| report.add(finding));
                } else {
                    report.add(Finding::damage(Name::Manifest(next), missing(next, id - 1)));
                }
                before = None;
            }
            next = id + 1;
            let mut found = Report::default();
            let read = read_version(manifest, id, before.as_deref(), &mut found).await?;
            for finding in unread {
                report.add(weighed(store, finding, read.as_deref()).await?);
            }
            unread = found.findings;
            match read {
                Some(view) => {
                    report.versions += 1;
                    self.versions.push(id);
                    self.note(&object.name, &view, Some(id) == last, report);
                    if let Some(before) = &before {
                        follows(before, &view, report);
                    }
                    if Some(id) == last {
                        self.latest = Some(Arc::clone(&view));
                    }
                    before = Some(view);
                }
                None => before = None,
            }
        }
        unread.into_iter().for_each(|finding| report.add(finding));
        Ok(())
    }

    /// Pins and checkpoints. What a checkpoint names must be there. A pin is decoded and no more: one that was
    /// written too late may name what has gone, which its reader knows.
    async fn copies(&mut self, manifest: &Manifest, report: &mut Report) -> Result<()> {
        let store = manifest.store();
        for folder in [Folder::Checkpoint, Folder::Pin] {
            for listed in store.list(folder, None, Cause::Admin).await? {
                // Deleted since it was listed.
                let loaded = copy::load(manifest, &listed.name, Cause::Admin).await;
                let Some(copy) = loaded.transpose() else { continue };
                report.copies += 1;
                let view = match copy {
                    Ok(Some(copy)) => copy.view(manifest, self.latest.as_deref(), Cause::Admin).await,
                    Ok(None) => continue,
                    Err(error) => Err(error),
                };
                match view {
                    Ok(view) if folder == Folder::Checkpoint => self.note(&listed.name, &view, true, report),
                    Ok(view) => {
                        self.kept.extend(view.root.ssts().map(SstMeta::lost_id));
                        let parts = view.root.runs.iter().flat_map(|run| &run.parts);
                        self.kept.extend(parts.filter_map(|part| part.object_id()));
                    }
                    // A newer program's: it holds collections up, and nothing that this one reads.
                    Err(error) if error.kind() == ErrorKind::Unsupported => {
                        report.add(Finding::notice(listed.name, error.to_string()));
                    }
                    // A pin whose reader has gone may have lost its parts to a collection.
                    Err(error) => {
                        let finding = Finding::of(&listed.name, error)?;
                        let of_pin = folder == Folder::Pin && finding.object != listed.name;
                        let severity = if of_pin { Severity::Notice } else { finding.severity };
                        let what = if finding.object == listed.name {
                            finding.what
                        } else {
                            format!("{} ({} needs it)", finding.what, listed.name)
                        };
                        report.add(Finding { severity, what, ..finding });
                    }
                }
            }
        }
        Ok(())
    }

    /// Notes what a version names.
    fn note(&mut self, name: &Name, view: &View, is_needed: bool, report: &mut Report) {
        for meta in view.root.ssts() {
            if meta.is_hole() {
                let object = Name::Sst(meta.lost_id());
                self.kept.insert(meta.lost_id());
                if is_needed && let Ok(mut finding) = Finding::of(&object, meta.lost()) {
                    if matches!(name, Name::Checkpoint(_)) {
                        // The newest version's own has been told.
                        let is_same =
                            |told: &Finding| told.object == finding.object && told.what == finding.what;
                        if report.findings.iter().any(is_same) {
                            continue;
                        }
                        finding.what.push_str(&format!(" ({name} keeps a version with this hole)"));
                    }
                    report.add(Finding { severity: Severity::Hole, ..finding });
                }
                continue;
            }
            let fresh = || Named { meta: meta.clone(), is_needed, checkpoints: Vec::new(), is_there: false };
            let named = self.ssts.entry(meta.object_id()).or_insert_with(fresh);
            named.is_needed |= is_needed;
            if matches!(name, Name::Checkpoint(_)) {
                named.checkpoints.push(name.clone());
            }
            if named.meta != *meta {
                let what = format!("it describes SST {} otherwise than another version", meta.object_id());
                report.add(Finding::damage(name.clone(), what));
            }
        }
        let parts = view.root.runs.iter().flat_map(|run| &run.parts);
        self.kept.extend(parts.filter_map(|part| part.object_id()));
    }

    /// Compares what is named with what is there.
    async fn references(&mut self, store: &Store, report: &mut Report) -> Result<()> {
        for folder in [Folder::Sst, Folder::Part, Folder::Blob] {
            let listed = store.list(folder, None, Cause::Admin).await?;
            self.there.extend(listed.into_iter().map(|object| (object.name, object.bytes)));
        }
        for (id, named) in &mut self.ssts {
            let name = Name::Sst(*id);
            let what = match self.there.get(&name) {
                None => "a version names this SST, and it is not there".to_owned(),
                Some(bytes) if *bytes != named.meta.bytes => {
                    format!("it has {bytes} bytes, and {} were written", named.meta.bytes)
                }
                Some(_) => {
                    named.is_there = true;
                    continue;
                }
            };
            report.add(named.judge(Finding::damage(name, what)));
        }
        Ok(())
    }
}

/// A version, read twice if the first time was no good; `None` if it is damaged, which is in the report then, or has
/// been collected since it was listed.
async fn read_version(
    manifest: &Manifest,
    id: u64,
    near: Option<&View>,
    report: &mut Report,
) -> Result<Option<Arc<View>>> {
    match manifest.stored_version(id, near, Cause::Admin).await {
        Ok(view) => Ok(view),
        Err(error) => {
            report.add(Finding::of(&Name::Manifest(id), error)?);
            Ok(None)
        }
    }
}

/// What is wrong with a version, weighed by the one after it: if that was made over the very bytes that cannot be read, a
/// repair has gone back over them.
async fn weighed(store: &Store, finding: Finding, after: Option<&View>) -> Result<Finding> {
    let Some(after) = after.filter(|after| finding.object == Name::Manifest(after.id() - 1)) else {
        return Ok(finding);
    };
    let body = store.get(&finding.object, Cause::Admin).await?;
    let hash = body.map(|body| codec::object_hash(&body));
    if hash.is_none_or(|hash| after.root.prev_hash[..] != hash.to_le_bytes()) {
        return Ok(finding);
    }
    let what = format!("{} (a repair went back over it, and nothing needs it)", finding.what);
    Ok(Finding { severity: Severity::Notice, what, is_superseded: true, ..finding })
}

/// I3 and I10: `view` was made from `before`, and nothing that only grows went back.
fn follows(before: &View, view: &View, report: &mut Report) {
    let name = Name::Manifest(view.id());
    if view.root.prev_hash[..] != before.stored_hash().to_le_bytes() {
        let what = format!("it does not follow version {} that is stored: its chain is broken", before.id());
        report.add(Finding::damage(name.clone(), what));
    }
    let (a, b) = (&before.root, &view.root);
    let counters =
        |epoch: (u32, u32), floor: (u64, u64)| epoch.0 < epoch.1 || epoch.0 == epoch.1 && floor.0 <= floor.1;
    for (what, holds) in [
        ("replay point", a.writer.replay_from <= b.writer.replay_from),
        ("last sequence number", a.writer.last_seq <= b.writer.last_seq),
        ("tail hint", a.writer.tail_hint <= b.writer.tail_hint),
        ("next run", a.next_run <= b.next_run),
        ("next keyspace", a.next_keyspace <= b.next_keyspace),
        (
            "writer's epoch or counter",
            counters((a.writer.epoch, b.writer.epoch), (a.writer.counter_floor, b.writer.counter_floor)),
        ),
        (
            "compactor's epoch or counter",
            counters(
                (a.compactor.epoch, b.compactor.epoch),
                (a.compactor.counter_floor, b.compactor.counter_floor),
            ),
        ),
    ] {
        if !holds {
            report.add(Finding::damage(
                name.clone(),
                format!("its {what} went back from version {}", before.id()),
            ));
        }
    }
}

/// What is wrong with versions `first` to `last`, which nothing says were collected.
fn missing(first: u64, last: u64) -> String {
    let which = if first == last {
        "this version is missing".to_owned()
    } else {
        format!("the versions from this one to {last} are missing")
    };
    format!("{which}: a later one is there, and no mark in the floor folder says that it was collected")
}
