//! What the records of the job log say, taken together: who holds the role, which jobs need looking after.
//!
//! ```text
//! slot      7  Takeover of epoch 3
//!           8  Job 1 of epoch 3: outputs a b, boundary k
//!           9  Progress of job 1: outputs a b c, boundary q
//!          10  Takeover of epoch 4
//!          11  Progress of job 1 of epoch 3: outputs a b c d        void: epoch 4 has been there before
//!          12  Job 1 of epoch 4, from job 1 of epoch 3: outputs a b c, boundary q
//! ```
//!
//! Pure. Always true: a record of a lower epoch than a takeover before it changes nothing; a job ends with its
//! own `Done`, with its successor's, or by being carried on; of a job that has not ended, every output that any
//! of its records names is [`named`](History::named).

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    compaction::record::{Done, Event, Job, JobRef, Record, SoFar},
    error::Error,
    store::ObjectId,
};

/// What the records say.
#[derive(Debug, Default)]
pub struct History {
    /// The newest takeover, which is the one of the highest epoch.
    pub holder: Option<Holder>,
    /// Every job that a valid record names, in the order of epochs and numbers.
    pub jobs: BTreeMap<JobRef, PastJob>,
    /// The slots of void records.
    pub void: Vec<u64>,
    /// What could not be decoded, or is missing between others.
    pub unreadable: Vec<(u64, Error)>,
    /// The slots of records of an epoch whose takeover is not before them.
    pub unannounced: Vec<u64>,
}

/// Who held the role when the log was read, as far as the log knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The slot of its newest takeover.
    pub slot: u64,
    /// Its epoch.
    pub epoch: u32,
    /// Host and process.
    pub name: String,
}

/// A job as its records tell it.
#[derive(Debug, Clone, Default)]
pub struct PastJob {
    /// The slot of the newest record about it.
    pub slot: u64,
    /// Its first record; `None` if that is not there.
    pub job: Option<Job>,
    /// How far it came, by its newest record.
    pub so_far: Option<SoFar>,
    /// Every output that any record of it names.
    pub named: BTreeSet<ObjectId>,
    /// How it ended.
    pub end: Option<End>,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// What it made is in a version.
    Published,
    /// Nobody resumes it.
    GivenUp(String),
    /// Another job carries it on.
    CarriedOn(JobRef),
}

impl History {
    /// The history of `records`, which come in the order of their slots.
    pub fn of(records: impl IntoIterator<Item = (u64, Result<Record, Error>)>) -> Self {
        let mut history = Self::default();
        for (slot, record) in records {
            match record {
                Ok(record) => history.add(slot, record),
                Err(error) => history.unreadable.push((slot, error)),
            }
        }
        history
    }

    /// The jobs that have not ended, the newest first.
    pub fn unfinished(&self) -> impl Iterator<Item = (JobRef, &PastJob)> {
        let mut open: Vec<_> = self.jobs.iter().filter(|(_, job)| job.end.is_none()).collect();
        open.sort_by_key(|(at, job)| std::cmp::Reverse((at.epoch, job.slot)));
        open.into_iter().map(|(at, job)| (*at, job))
    }

    /// Every output of every job that has not ended: what may still be adopted.
    pub fn named(&self) -> BTreeSet<ObjectId> {
        self.unfinished().flat_map(|(_, job)| job.named.iter().copied()).collect()
    }

    /// Whether something in it is not to be relied upon: then nothing is adopted.
    pub fn is_doubtful(&self) -> bool {
        !self.unreadable.is_empty() || !self.unannounced.is_empty()
    }

    fn add(&mut self, slot: u64, record: Record) {
        let held = self.holder.as_ref().map_or(0, |holder| holder.epoch);
        if record.epoch < held {
            self.void.push(slot);
            return;
        }
        let epoch = record.epoch;
        let is_takeover = matches!(record.event, Some(Event::Takeover(_)));
        if epoch > held && !is_takeover {
            self.unannounced.push(slot);
        }
        match record.event {
            Some(Event::Takeover(takeover)) => {
                self.holder = Some(Holder { slot, epoch, name: takeover.name });
            }
            Some(Event::Job(job)) => {
                let at = JobRef { epoch, job: job.job };
                if let Some(from) = job.from {
                    self.end(from, slot, End::CarriedOn(at));
                }
                let past = self.come_to(at, slot, &job.so_far);
                past.job = Some(job);
            }
            Some(Event::Progress(progress)) => {
                self.come_to(JobRef { epoch, job: progress.job }, slot, &progress.so_far);
            }
            Some(Event::Done(Done { of, published, why })) => {
                self.end(of, slot, if published { End::Published } else { End::GivenUp(why) });
            }
            None => {}
        }
    }

    fn come_to(&mut self, at: JobRef, slot: u64, so_far: &SoFar) -> &mut PastJob {
        let past = self.jobs.entry(at).or_default();
        past.slot = slot;
        past.named.extend(so_far.ids());
        past.so_far = Some(so_far.clone());
        past
    }

    fn end(&mut self, of: JobRef, slot: u64, end: End) {
        let past = self.jobs.entry(of).or_default();
        past.slot = slot;
        past.end = Some(end);
    }
}
