//! The states of the model of compactors that take over from one another, and its steps.

pub(super) const EPOCHS: usize = 3;

pub(super) const SLOTS: usize = 8;

pub(super) const FLIGHTS: usize = 2;

/// SSTs are bits of a byte: output `c` of epoch `e` is bit `2(e-1)+c`; the last two are inputs from a writer.
pub(super) const INPUTS: u8 = 0b1100_0000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(super) enum Kind {
    /// Nothing is in the slot.
    #[default]
    Absent,
    Takeover,
    Job,
    Done,
}

/// What a slot of the job log holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(super) struct Record {
    pub(super) kind: Kind,
    pub(super) epoch: u8,
    /// Of a Job: its outputs. Of a Done: the slot of its Job.
    pub(super) names: u8,
    /// Of a Job: its input.
    pub(super) input: u8,
}

/// Where a compactor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) enum At {
    #[default]
    Away,
    Tail,
    Take,
    CheckTake,
    Read,
    Adopt,
    CheckAdopt,
    CommitAdopted,
    Idle,
    Job,
    Finish,
    /// Only with a mutation: the job is finished before it is committed.
    CommitFinished,
    Fenced,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Compactor {
    pub(super) at: At,
    /// The slot of the next append.
    pub(super) slot: u8,
    /// The slot of its Takeover.
    pub(super) takeover: u8,
    /// The job it is at.
    pub(super) outputs: u8,
    pub(super) input: u8,
    /// The slot of its Job record; 0 before.
    pub(super) job: u8,
    /// The slot of the record whose outputs are adopted; 0 for a job of its own.
    pub(super) from: u8,
    pub(super) is_uploaded: bool,
    /// How many counters are given out.
    pub(super) counter: u8,
}

/// Where the collector is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) enum Pass {
    #[default]
    Idle,
    FloorRead,
    Listed,
    LogRead,
    Deleting,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Collector {
    pub(super) at: Pass,
    pub(super) floor: u8,
    /// The slots listed.
    pub(super) listed: u8,
    /// The epoch of the newest Takeover seen.
    pub(super) newest: u8,
    /// SSTs that unfinished jobs name.
    pub(super) named: u8,
    /// SSTs to delete.
    pub(super) doomed: u8,
    /// With a mutation: what the versions named before the log was read, the epoch, the counter floor.
    pub(super) early: (u8, u8, u8),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) log: [Record; SLOTS],
    pub(super) floor: u8,
    /// Creates that may land later.
    pub(super) flights: [(u8, Record); FLIGHTS],
    pub(super) flown: u8,
    /// The latest version: who holds the role, its counter floor, what it names.
    pub(super) epoch: u8,
    pub(super) counter_floor: u8,
    pub(super) latest: u8,
    /// What the older versions name that still exist.
    pub(super) older: u8,
    /// The SSTs in the store.
    pub(super) stored: u8,
    pub(super) compactors: [Compactor; EPOCHS],
    pub(super) collector: Collector,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Compactor e commits the claim of epoch e.
    Claim(u8),
    /// It lists the job log: the highest slot.
    FindTail(u8),
    /// It creates its next record; the bytes in the slot decide.
    Append(u8),
    /// It sends that create, and hears nothing.
    AppendLater(u8),
    /// It compares floor/job.
    CheckFloor(u8),
    /// It reads the log before its Takeover, and takes the job in this slot (0: none).
    ReadLog(u8, u8),
    /// It starts a job on this input.
    Start(u8, u8),
    Upload(u8),
    Commit(u8),
    GiveUp(u8),
    RaiseCounterFloor(u8),
    RaiseJobFloor(u8),
    /// A create under way lands, if its slot is free.
    Land(u8),
    /// The records at or under floor/job are deleted.
    DeleteRecords,
    /// The collector drops all versions but the latest, and reads floor/job.
    Begin,
    ListLog,
    /// It reads the records, and floor/job again: if that has moved it lists again.
    ReadRecords,
    ReadVersions,
    Delete(u8),
    End,
}

pub(super) fn bits(mask: u8) -> impl Iterator<Item = u8> {
    (0..8).map(|bit| 1 << bit).filter(move |bit| mask & bit != 0)
}

/// The epoch and the counter in the name of an SST.
pub(super) fn name_of(sst: u8) -> (u8, u8) {
    let bit = sst.trailing_zeros() as u8;
    (bit / 2 + 1, bit % 2)
}

impl State {
    pub(super) fn record(&self, slot: u8) -> Record {
        self.log[usize::from(slot - 1)]
    }

    pub(super) fn compactor(&mut self, e: u8) -> &mut Compactor {
        &mut self.compactors[usize::from(e - 1)]
    }

    pub(super) fn tail(&self) -> u8 {
        (1..=SLOTS as u8).rev().find(|slot| self.record(*slot).kind != Kind::Absent).unwrap_or(self.floor)
    }

    /// SSTs whose upload is still to come. No one else is worth remembering as doomed.
    pub(super) fn may_be_uploaded(&self) -> u8 {
        let coming = |c: &&Compactor| c.at == At::Job && !c.is_uploaded;
        self.compactors.iter().filter(coming).map(|c| c.outputs).sum()
    }

    pub(super) fn commit(&mut self, names: u8) {
        self.older |= self.latest;
        self.latest = names;
    }
}
