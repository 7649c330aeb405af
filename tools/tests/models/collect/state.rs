//! The states of the model of collection beside writers, pins and checkpoints, and its steps.

use super::{Bounds, mutation::Mutation};

pub(super) const EPOCHS: usize = 2;

pub(super) const READERS: usize = 2;

pub(super) const COLLECTORS: usize = 2;

pub(super) const VERSIONS: usize = 8;

/// SSTs are bits of a byte: number `c` of writer `e` is bit `3(e-1)+c`; the last two are the compactor's.
pub(super) const OF_A_WRITER: u8 = 3;

pub(super) const FIRST: u8 = 0b0100_0000;

pub(super) const COMPACTED: u8 = 0b1000_0000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) enum Role {
    #[default]
    Away,
    Open,
    Fenced,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Writer {
    pub(super) role: Role,
    /// How many counters are given out.
    pub(super) counter: u8,
    /// SSTs that are neither committed nor given up.
    pub(super) undecided: u8,
    /// Those of them whose upload was acknowledged.
    pub(super) uploaded: u8,
}

/// Where a reader or the maker of checkpoints is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) enum At {
    #[default]
    Idle,
    Chosen,
    /// The pin is written.
    Pinned,
    /// The version was above the floor after that: from here on the holder counts on the pin.
    Held,
    /// The maker's checkpoint is in the store. (Of a reader, only with a mutation: the floor was looked at too early.)
    Created,
    /// The reader's scan ended in "expired".
    Expired,
}

/// A reader, or the maker of checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Holder {
    pub(super) at: At,
    pub(super) version: u8,
    pub(super) names: u8,
    /// Of a reader: what it has still to read.
    pub(super) unread: u8,
    /// Its pin has lapsed.
    pub(super) has_lapsed: bool,
    /// How many scans or checkpoints it has finished.
    pub(super) finished: u8,
    /// It believed in its pin, and an SST was not there.
    pub(super) has_missed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Checkpoint {
    pub(super) names: u8,
    /// Whether it counts.
    pub(super) counts: bool,
}

/// What a collector does one after another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    Raise,
    Drop,
    Pins,
    Checkpoints,
    Versions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) enum Pass {
    #[default]
    Idle,
    /// Which task is next.
    Doing(u8),
    Deleting,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Collector {
    pub(super) at: Pass,
    /// F; 0 once it is not needed any more.
    pub(super) floor: u8,
    /// The latest version when F was chosen.
    pub(super) known: u8,
    pub(super) named: u8,
    pub(super) doomed: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct State {
    /// What versions name, by id; 0 for one that was dropped.
    pub(super) versions: [u8; VERSIONS],
    /// Which versions are in the store (bit id-1), and the id of the latest.
    pub(super) existing: u8,
    pub(super) latest: u8,
    pub(super) floor: u8,
    /// What the latest version says of writers, and how often the compactor has committed.
    pub(super) epoch: u8,
    pub(super) counter_floor: u8,
    pub(super) compactions: u8,
    /// The SSTs in the store, those whose PUT may land later, every name given out, and whether one was twice.
    pub(super) stored: u8,
    pub(super) flying: u8,
    pub(super) given: u8,
    pub(super) is_reused: bool,
    pub(super) writers: [Writer; EPOCHS],
    pub(super) readers: [Holder; READERS],
    pub(super) maker: Holder,
    pub(super) checkpoint: Option<Checkpoint>,
    /// What a pin and a checkpoint name whose PUTs may land later.
    pub(super) flying_pin: u8,
    pub(super) flying_checkpoint: u8,
    /// What pins name that landed after their reader had gone on.
    pub(super) left_behind: u8,
    pub(super) collectors: [Collector; COLLECTORS],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Writer e commits the claim of epoch e.
    Claim(u8),
    /// It gives the next name.
    Start(u8),
    Upload(u8, u8),
    /// It sends an upload, and hears nothing.
    UploadLater(u8, u8),
    Commit(u8, u8),
    GiveUp(u8, u8),
    RaiseCounterFloor(u8),
    Compact,
    /// A reader chooses the latest version.
    Choose(u8),
    WritePin(u8),
    WritePinLater(u8),
    CheckFloor(u8),
    /// It reads the next SST.
    Read(u8),
    /// The scan is at its end, or is given up.
    Release(u8),
    Lapse(u8),
    /// The same of the maker of checkpoints.
    MakerChooses,
    MakerPins,
    MakerChecksFloor,
    Create,
    CreateLater,
    /// It hears nothing of its create for too long, and releases the pin.
    MakerGivesUp,
    /// It says that the checkpoint is kept, if it is, and releases the pin.
    Confirm,
    MakerLapses,
    DeleteCheckpoint,
    LandSst(u8),
    LandPin,
    LandCheckpoint,
    /// A pin that was left behind is too old to count.
    LeftBehindLapses,
    /// Collector g chooses F.
    Begin(u8, u8),
    /// It does its next task.
    Next(u8),
    Delete(u8, u8),
    /// It has deleted what it wanted, or crashed.
    End(u8),
}

pub(super) fn bits(mask: u8) -> impl Iterator<Item = u8> {
    (0..8).map(|bit| 1 << bit).filter(move |bit| mask & bit != 0)
}

/// The epoch and the counter in the name of a writer's SST; `None` for one of the compactor.
pub(super) fn name_of(sst: u8) -> Option<(u8, u8)> {
    let bit = sst.trailing_zeros() as u8;
    (sst < FIRST).then_some((bit / OF_A_WRITER + 1, bit % OF_A_WRITER))
}

impl Writer {
    /// The counter under which everything is committed or given up.
    pub(super) fn settled_under(&self, mutation: Option<Mutation>) -> u8 {
        let counters = bits(self.undecided).filter_map(name_of).map(|(_, counter)| counter);
        match mutation {
            Some(Mutation::CounterFloorTooHigh) => self.counter,
            _ => counters.min().unwrap_or(self.counter),
        }
    }
}

impl State {
    pub(super) fn names(&self, version: u8) -> u8 {
        self.versions[usize::from(version - 1)]
    }

    pub(super) fn exists(&self, version: u8) -> bool {
        self.existing & (1 << (version - 1)) != 0
    }

    /// What the versions above the floor name.
    pub(super) fn named_by_versions(&self) -> u8 {
        (self.floor + 1..=self.latest).fold(0, |named, id| named | self.names(id))
    }

    pub(super) fn commit(&mut self, names: u8, bounds: &Bounds) -> Option<()> {
        if self.latest >= bounds.versions {
            return None;
        }
        self.latest += 1;
        self.versions[usize::from(self.latest - 1)] = names;
        self.existing |= 1 << (self.latest - 1);
        Some(())
    }

    pub(super) fn in_flight(&self) -> u32 {
        let others = [self.flying_pin, self.flying_checkpoint];
        self.flying.count_ones() + others.map(|names| u32::from(names != 0)).iter().sum::<u32>()
    }

    /// Whether no writer will publish `sst` any more, by the latest version.
    pub(super) fn is_settled(&self, sst: u8, mutation: Option<Mutation>) -> bool {
        // The compactor uploads and commits in one step.
        let Some((epoch, counter)) = name_of(sst) else { return true };
        match mutation {
            Some(Mutation::ByAge) => true,
            Some(Mutation::EpochInclusive) => epoch <= self.epoch,
            _ => epoch < self.epoch || (epoch == self.epoch && counter < self.counter_floor),
        }
    }

    /// What may still land in the store.
    pub(super) fn may_come(&self) -> u8 {
        self.writers.iter().fold(self.flying, |coming, writer| coming | (writer.undecided & !writer.uploaded))
    }

    pub(super) fn reader(&mut self, r: u8) -> &mut Holder {
        &mut self.readers[usize::from(r)]
    }
}
