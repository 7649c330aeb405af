//! A look at everything but the insides of SSTs: every version and what it names, the log, what is lost, the jobs.
//!
//! A look is several requests, and others work meanwhile: a log object may be collected between the version that
//! needs it and the listing of the log. So damage is looked for again if anything was committed or logged in between.
//!
//! ```text
//! newest objects ─ survey ─ log ─ lost ─ jobs ─ newest objects
//!       └────────────── the same? then it is so ──────┘   else again; damage that two looks found is so, too
//! ```
//!
//! Always true: damage that is reported was found while nothing changed, or found twice.

use std::collections::BTreeSet;

use crate::{
    error::Result,
    manifest::Manifest,
    stats::Cause,
    store::{Folder, Name, Store},
    verify::{Finding, Report, Severity, Survey, jobs, log::Log, lost, survey},
};

/// How often a database that changes under the check is looked at again before what was found is believed.
const LOOKS: usize = 3;

/// Said where the identity is all that was looked at.
const ALL_THERE_IS: &str = "nothing else was checked, as every object is read by what this one says: repair this one, and \
     verify again";

/// What a look found.
#[derive(Debug)]
pub(super) struct Looked {
    /// What is wrong.
    pub(super) report: Report,
    /// What is there; `None` if the identity cannot be read.
    pub(super) found: Option<(Manifest, Survey)>,
    /// The newest version, floor and log object before it began.
    newest: [Option<Name>; 3],
}

impl Looked {
    /// Looks, and again if something changed meanwhile that damage may come of.
    pub(super) async fn at(store: &Store, quick: bool) -> Result<Self> {
        let mut looked = Self::once(store, quick).await?;
        for _ in 1..LOOKS {
            if looked.report.is_whole() || looked.is_current(store).await? {
                return Ok(looked);
            }
            let before: BTreeSet<Name> = looked.report.damage().map(|found| found.object.clone()).collect();
            looked = Self::once(store, quick).await?;
            if !looked.is_current(store).await? {
                looked.report.doubt(&before);
            }
        }
        Ok(looked)
    }

    /// Whether nothing was committed or logged since it began.
    pub(super) async fn is_current(&self, store: &Store) -> Result<bool> {
        Ok(newest(store).await? == self.newest)
    }

    async fn once(store: &Store, quick: bool) -> Result<Self> {
        let mut looked = Self { report: Report::default(), found: None, newest: newest(store).await? };
        let report = &mut looked.report;
        let Some(identity) = survey::identity(store, report).await? else {
            report.add(Finding::notice(Name::Identity, ALL_THERE_IS));
            return Ok(looked);
        };
        let manifest = match Manifest::open(store.clone()).await {
            Ok(manifest) => manifest,
            Err(error) => {
                report.add(Finding::of(&Name::Identity, error)?);
                return Ok(looked);
            }
        };
        let survey = Survey::take(&manifest, report).await?;
        survey::strangers(store, report).await?;
        if let Some(latest) = &survey.latest {
            let log = Log::read(store, &identity, &latest.root, quick).await?;
            log.report(&latest.root, report);
            lost::check(&manifest, &survey, &log, latest, report).await?;
            survey.orphans(report);
            jobs::check(&manifest, latest.root.compactor.epoch, report).await?;
        }
        looked.found = Some((manifest, survey));
        Ok(looked)
    }
}

impl Report {
    /// What was found of objects that the look `before` had nothing against may be the doing of those at work.
    fn doubt(&mut self, before: &BTreeSet<Name>) {
        let is_new = |finding: &&mut Finding| {
            finding.severity == Severity::Damage && !before.contains(&finding.object)
        };
        for finding in self.findings.iter_mut().filter(is_new) {
            finding.severity = Severity::Notice;
            finding.what.push_str(" (seen once, and the database was changing: verify again)");
        }
    }
}

/// The newest version, floor and log object: when none has changed, nothing was committed in between.
async fn newest(store: &Store) -> Result<[Option<Name>; 3]> {
    let mut newest = [None, None, None];
    for (at, folder) in [Folder::Manifest, Folder::ManifestFloor, Folder::Wal].into_iter().enumerate() {
        newest[at] = store.list(folder, None, Cause::Admin).await?.pop().map(|object| object.name);
    }
    Ok(newest)
}
