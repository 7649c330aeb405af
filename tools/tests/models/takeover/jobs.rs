//! What the job log says, and what a compactor appends to it.

use super::{
    Takeover,
    mutation::Mutation,
    state::{At, Compactor, Kind, Record, SLOTS, State},
};

/// What records in `slots` say: the newest Takeover, and the unfinished jobs that count.
pub(super) struct Reading {
    pub(super) newest: u8,
    pub(super) unfinished: [u8; SLOTS],
    pub(super) jobs: usize,
    pub(super) names: u8,
}

impl Takeover {
    /// Reads `slots` (bits) in order: records of an epoch lower than a Takeover before them are void.
    pub(super) fn read(
        &self,
        s: &State,
        slots: impl Fn(u8) -> bool,
        void_counts: bool,
        done_counts: bool,
    ) -> Reading {
        let mut reading = Reading { newest: 0, unfinished: [0; SLOTS], jobs: 0, names: 0 };
        let mut open = 0u16;
        for slot in (1..=SLOTS as u8).filter(|slot| slots(*slot)) {
            let record = s.record(slot);
            let is_void = record.epoch < reading.newest;
            match record.kind {
                Kind::Absent => {}
                Kind::Takeover => reading.newest = reading.newest.max(record.epoch),
                Kind::Job if !is_void || void_counts => open |= 1 << slot,
                Kind::Done if done_counts && (!is_void || self.has(Mutation::VoidDoneCounts)) => {
                    open &= !(1 << record.names);
                }
                _ => {}
            }
        }
        for slot in (1..=SLOTS as u8).filter(|slot| open & (1 << slot) != 0) {
            reading.unfinished[reading.jobs] = slot;
            reading.jobs += 1;
            reading.names |= s.record(slot).names;
        }
        reading
    }

    /// The jobs that compactor `e` may take over.
    pub(super) fn adoptable(&self, s: &State, e: u8) -> Reading {
        let end = if self.has(Mutation::ReadBeforeTakeover) {
            SLOTS as u8 + 1
        } else {
            s.compactors[usize::from(e - 1)].takeover
        };
        self.read(
            s,
            |slot| slot < end,
            self.has(Mutation::VoidJobAdopted),
            !self.has(Mutation::DoneJobAdopted),
        )
    }

    /// The record that compactor `e` appends next.
    pub(super) fn next_record(c: &Compactor, e: u8) -> Option<Record> {
        let record = |kind, names, input| Some(Record { kind, epoch: e, names, input });
        match c.at {
            At::Take => record(Kind::Takeover, 0, 0),
            At::Adopt => record(Kind::Job, c.outputs, c.input),
            At::Job if c.job == 0 => record(Kind::Job, c.outputs, c.input),
            At::Finish => record(Kind::Done, c.job, 0),
            _ => None,
        }
    }

    /// Its record is in the slot: what comes next.
    pub(super) fn appended(&self, c: &mut Compactor) {
        match c.at {
            At::Take => {
                c.takeover = c.slot;
                c.at = At::CheckTake;
            }
            At::Adopt => {
                c.job = c.slot;
                c.at = if self.has(Mutation::NoFloorCheck) { self.before_commit() } else { At::CheckAdopt };
            }
            At::Job => c.job = c.slot,
            At::Finish if self.has(Mutation::DoneBeforeCommit) && c.from != 0 => c.at = At::CommitFinished,
            At::Finish => Self::rest(c),
            _ => {}
        }
        c.slot += 1;
    }

    pub(super) fn after_takeover(&self) -> At {
        if self.has(Mutation::ReadBeforeTakeover) { At::Adopt } else { At::Read }
    }

    pub(super) fn before_commit(&self) -> At {
        if self.has(Mutation::DoneBeforeCommit) { At::Finish } else { At::CommitAdopted }
    }

    /// No job any more.
    pub(super) fn rest(c: &mut Compactor) {
        *c = Compactor {
            at: At::Idle,
            slot: c.slot,
            takeover: c.takeover,
            counter: c.counter,
            ..Compactor::default()
        };
    }

    /// The job is over: Done, if there is a record to finish or one that may still land.
    pub(super) fn finish(c: &mut Compactor) {
        c.at = At::Finish;
    }
}
