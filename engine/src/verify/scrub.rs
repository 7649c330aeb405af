//! Scrubbing: verifying all the time, slowly, an SST after the other, from where it stopped.
//!
//! ```text
//! round   versions, log, jobs ─▶ SST, SST, SST, … in the order of their ids ─▶ next round
//!                                └─ the place: this one is done
//! ```
//!
//! Always true: nothing is written to the database; a scrub that is stopped goes on behind the last SST that it
//! finished; SSTs that come and go while a round lasts are checked in it or in the next.

use std::collections::VecDeque;

use crate::{
    error::Result,
    manifest::Manifest,
    store::{ObjectId, Store},
    verify::{Finding, Pace, Report, Survey, look::Looked, sst, survey},
};

/// How far a scrub has come: what to keep between two runs of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Place {
    /// Rounds that were finished.
    pub rounds: u64,
    /// The last SST of this round that was checked.
    pub after: Option<ObjectId>,
}

/// A scrub of one database.
#[derive(Debug)]
pub struct Scrub {
    store: Store,
    pace: Pace,
    place: Place,
    /// SSTs checked and bytes read since this was made.
    done: (u64, u64),
    /// What is left of this round.
    left: Option<VecDeque<survey::Named>>,
}

/// What a step of a scrub did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stepped {
    /// A round began: every version, the log and the job log were looked at.
    Surveyed(Vec<Finding>),
    /// An SST was read.
    Read(ObjectId, Vec<Finding>),
    /// The round is finished.
    Finished,
}

impl Scrub {
    /// A scrub that goes on from `place`, at most at `bytes_per_second`.
    pub fn new(store: Store, place: Place, bytes_per_second: Option<u64>) -> Self {
        let pace = Pace::new(store.clock().clone(), bytes_per_second);
        Self { store, pace, place, done: (0, 0), left: None }
    }

    /// Where it is.
    pub fn place(&self) -> Place {
        self.place
    }

    /// SSTs checked and bytes read since it was made.
    pub fn done(&self) -> (u64, u64) {
        self.done
    }

    /// One step. Fails as the store does; the next call tries the same again, as it does when this one is dropped.
    pub async fn step(&mut self) -> Result<Stepped> {
        let Some(left) = &self.left else { return self.survey().await };
        let Some(named) = left.front().cloned() else {
            self.left = None;
            self.place = Place { rounds: self.place.rounds + 1, after: None };
            return Ok(Stepped::Finished);
        };
        let id = named.meta.object_id();
        let mut findings = sst::check(&self.store, &named.meta, &self.pace).await?;
        if !findings.is_empty() {
            findings = self.still_named(&named, findings).await?;
        }
        // Only now: an error before this leaves it to the next call, findings and all.
        self.left.as_mut().and_then(VecDeque::pop_front);
        self.done = (self.done.0 + 1, self.done.1 + named.meta.bytes);
        self.place.after = Some(id);
        Ok(Stepped::Read(id, findings))
    }

    async fn survey(&mut self) -> Result<Stepped> {
        let looked = Looked::at(&self.store, false).await?;
        let after = self.place.after;
        let is_to_do = |named: &&survey::Named| after.is_none_or(|after| named.meta.object_id() > after);
        let ssts = looked.found.iter().flat_map(|(_, survey)| survey.whole().filter(is_to_do));
        self.left = Some(ssts.cloned().collect());
        Ok(Stepped::Surveyed(looked.report.findings))
    }

    /// What was found, unless the SST has been collected since the round began.
    async fn still_named(&self, named: &survey::Named, findings: Vec<Finding>) -> Result<Vec<Finding>> {
        let mut report = Report::default();
        let manifest = Manifest::open(self.store.clone()).await?;
        let survey = Survey::take(&manifest, &mut report).await?;
        let now = survey.ssts.get(&named.meta.object_id());
        Ok(now.map_or_else(Vec::new, |now| findings.into_iter().map(|finding| now.judge(finding)).collect()))
    }
}
