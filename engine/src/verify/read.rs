//! Reading every SST, which may take hours, and judging afterwards what was found.
//!
//! ```text
//! survey ─▶ SSTs of all versions, block by block ─▶ order across the runs of the newest ─▶ a fresh survey: who needs
//!           └── the newest version of the survey is pinned once this has lasted ───────┘    what was damaged?
//! ```
//!
//! Meanwhile versions come, and SSTs that no version names any more go. The pin keeps those of the newest; what was only
//! superseded then, or could not be pinned, may go missing under the check. So nothing is held against an SST that no version
//! names when it is done.
//!
//! Always true: an SST is read once, however often the database is looked at.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures::{StreamExt as _, stream};

use crate::{
    error::{ErrorKind, Result},
    manifest::{Manifest, View, pinned},
    stats::Cause,
    store::{Name, ObjectId, Store},
    verify::{Finding, Pace, Progress, Report, Severity, Survey, VerifyOptions, order, sst},
};

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Read {
    done: BTreeSet<ObjectId>,
    bytes: u64,
    found: BTreeMap<ObjectId, Vec<Finding>>,
    /// The version whose order across runs could not be checked, because it was collected meanwhile.
    unordered: Option<u64>,
}

impl Read {
    /// Reads every SST of `survey`, and looks at the order across the runs of its newest version.
    pub(super) async fn all(
        &mut self,
        (manifest, survey): &(Manifest, Survey),
        options: &VerifyOptions,
        progress: Progress<'_>,
    ) -> Result<()> {
        let store = manifest.store();
        let Some(latest) = &survey.latest else {
            return self.ssts(store, survey, options, progress).await;
        };
        let work = async {
            self.ssts(store, survey, options, progress).await?;
            self.order(manifest, latest).await
        };
        pinned::once_it_lasts(manifest, latest, work).await
    }

    /// Files what was found, weighed by who needs it `now`.
    pub(super) fn file(self, now: &Survey, report: &mut Report) {
        report.sst_bytes = self.bytes;
        for (id, found) in self.found {
            // One that is missing, and should not be, the survey has told of.
            let Some(named) = now.ssts.get(&id).filter(|named| named.is_there) else { continue };
            found.into_iter().for_each(|finding| report.add(named.judge(finding)));
        }
        if let Some(version) = self.unordered {
            let what =
                "its order across runs was not checked: collections took it first, and no pin could hold it";
            report.add(Finding::notice(Name::Manifest(version), what));
        }
    }

    async fn ssts(
        &mut self,
        store: &Store,
        survey: &Survey,
        options: &VerifyOptions,
        progress: Progress<'_>,
    ) -> Result<()> {
        let pace = &Pace::new(store.clock().clone(), options.bytes_per_second);
        let todo: Vec<_> = survey.whole().collect();
        let total = todo.iter().map(|named| named.meta.bytes).sum::<u64>();
        // Boxed, because what waits for it would else not be `Send` (rust-lang/rust#102211).
        let checks = todo
            .into_iter()
            .map(|named| async move { (&named.meta, sst::check(store, &named.meta, pace).await) });
        let mut checks = stream::iter(checks).buffered(options.parallel.max(1)).boxed();
        while let Some((meta, checked)) = checks.next().await {
            let found = checked?;
            if !found.is_empty() {
                self.found.insert(meta.object_id(), found);
            }
            self.done.insert(meta.object_id());
            self.bytes += meta.bytes;
            progress(self.bytes, total);
        }
        Ok(())
    }

    /// The order across the runs of `view`, if all its SSTs are whole.
    async fn order(&mut self, manifest: &Manifest, view: &Arc<View>) -> Result<()> {
        let is_damaged = |found: &Vec<Finding>| found.iter().any(|one| one.severity == Severity::Damage);
        let is_whole = |id: &ObjectId| self.done.contains(id) && !self.found.get(id).is_some_and(is_damaged);
        let mut ssts = view.root.ssts().filter(|sst| !sst.is_hole());
        let checked = if ssts.all(|sst| is_whole(&sst.object_id())) {
            order::check(manifest.store(), view).await.map(Some)
        } else {
            Ok(None)
        };
        let is_collected = match &checked {
            Ok(Some(_)) => false,
            Err(error) if error.kind() != ErrorKind::Corruption => false,
            _ => view.id() <= manifest.floor(Cause::Admin).await?,
        };
        self.unordered = is_collected.then_some(view.id());
        if is_collected {
            return Ok(());
        }
        for finding in checked?.into_iter().flatten() {
            if let Some(id) = finding.object.object_id() {
                self.found.entry(id).or_default().push(finding);
            }
        }
        Ok(())
    }
}
