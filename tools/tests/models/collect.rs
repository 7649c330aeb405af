//! A model of garbage collection beside writers, a compactor, readers with pins, and a maker of checkpoints.
//!
//! ```text
//! writer e    claim ─▶ upload, commit, give up, in any order; commit a counter floor under what is undecided
//! compactor   replaces everything the latest version names, in one step
//! reader      choose the latest version ─▶ write the pin ─▶ above floor/manifest? ─▶ read SST after SST ─▶ release
//! maker       choose ─▶ pin ─▶ above the floor? ─▶ create the checkpoint ─▶ pin not lapsed, or above the floor?
//!               ─▶ release; somebody deletes the checkpoint at any time
//! collector   choose F, note what the versions above it name ─▶ raise floor/manifest to F ─▶ drop versions up to F
//!               ─▶ pins ─▶ checkpoints ─▶ versions committed since ─▶ list SSTs, delete them one by one
//! the network does any PUT of an SST, pin or checkpoint again later, long after its sender has gone on
//! time        lets a pin lapse at any moment: its holder knows that first, and a scan ends in "expired"
//! ```
//!
//! An SST may go when nothing that was read names it, and it is settled: its epoch is under that of the latest
//! version *as read in this pass*, or is that one and its counter is under the floor in the same version.
//!
//! Promised: what a version above the floor, a pin whose reader counts on it, or a checkpoint names is there; a
//! version above the floor is there; a reader that believes in its pin finds every SST; a name is given out once.
//!
//! A checkpoint counts from the moment it is in the store, if its maker's pin has not lapsed by then; the maker may
//! have crashed right after. One that comes later counts if its maker has seen that it is above the floor; otherwise
//! the maker has said that the outcome is unknown, and nothing is promised.
//!
//! What the walk taught:
//! - a pass must stop at a version that another pass has dropped, not go over it: `MissingVersionPassedOver`;
//! - reading versions before pins is no mistake by itself (most are read when F is chosen): it is one if the epoch or
//!   the counter floor come from a later version than the names.
//!
//! Left out: the commit rule (a commit is one step; `commit.rs` is its model), the job log and compactors that take
//! over (`takeover.rs`), scans so short that they are not pinned, and how old things are: F is any version under
//! the latest. A crash is an actor that takes no further step; a pass that crashes is begun anew.

use stateright::{Model, Property};

use crate::explore;

const EPOCHS: usize = 2;
const READERS: usize = 2;
const COLLECTORS: usize = 2;
const VERSIONS: usize = 8;
/// SSTs are bits of a byte: number `c` of writer `e` is bit `3(e-1)+c`; the last two are the compactor's.
const OF_A_WRITER: u8 = 3;
const FIRST: u8 = 0b0100_0000;
const COMPACTED: u8 = 0b1000_0000;

/// How far the model goes.
#[derive(Debug, Clone)]
struct Bounds {
    /// How many SSTs each writer makes.
    outputs: [u8; EPOCHS],
    /// How many SSTs of a writer are undecided at a time.
    undecided: u32,
    compactions: u8,
    versions: u8,
    /// How many scans each reader makes.
    scans: [u8; READERS],
    checkpoints: u8,
    collectors: u8,
    /// How many PUTs are under way for long, or twice.
    flights: u32,
}

/// A mistake that the model must notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mutation {
    /// The collector lists pins before it raises the floor.
    PinsBeforeFloor,
    /// The collector lists checkpoints before pins.
    CheckpointsBeforePins,
    /// The collector drops versions before it raises the floor.
    DropBeforeFloor,
    /// The collector reads the versions when it chooses F, the epoch and the counter floor after the pins.
    VersionsBeforePins,
    /// The collector looks at the latest version only.
    LatestVersionOnly,
    /// The collector goes over a version that another pass has dropped.
    MissingVersionPassedOver,
    /// The collector does not look at pins.
    PinsIgnored,
    /// The collector does not look at checkpoints.
    CheckpointsIgnored,
    /// What nothing names is deleted, whoever may still publish it.
    ByAge,
    /// SSTs of the current epoch are settled.
    EpochInclusive,
    /// The counter floor is committed above what is undecided.
    CounterFloorTooHigh,
    /// A commit does not look at the epoch.
    CommitUnfenced,
    /// A writer takes the epoch of the one before it in the names it gives.
    EpochReused,
    /// A reader does not look at the floor once its pin is written.
    NoFloorCheckOfPin,
    /// The floor is looked at before the pin is written, and not after.
    FloorCheckBeforePin,
    /// The pin is released when the scan begins.
    ReleasedAtOnce,
    /// A reader whose pin has lapsed goes on.
    LapsedGoesOn,
    /// A checkpoint is made without a pin.
    CheckpointWithoutPin,
    /// A maker whose pin has lapsed does not look at the floor once the checkpoint is there.
    NoFloorCheckOfCheckpoint,
}

const MUTATIONS: [Mutation; 19] = [
    Mutation::PinsBeforeFloor,
    Mutation::CheckpointsBeforePins,
    Mutation::DropBeforeFloor,
    Mutation::VersionsBeforePins,
    Mutation::LatestVersionOnly,
    Mutation::MissingVersionPassedOver,
    Mutation::PinsIgnored,
    Mutation::CheckpointsIgnored,
    Mutation::ByAge,
    Mutation::EpochInclusive,
    Mutation::CounterFloorTooHigh,
    Mutation::CommitUnfenced,
    Mutation::EpochReused,
    Mutation::NoFloorCheckOfPin,
    Mutation::FloorCheckBeforePin,
    Mutation::ReleasedAtOnce,
    Mutation::LapsedGoesOn,
    Mutation::CheckpointWithoutPin,
    Mutation::NoFloorCheckOfCheckpoint,
];

#[derive(Debug, Clone)]
struct Collect {
    bounds: Bounds,
    mutation: Option<Mutation>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum Role {
    #[default]
    Away,
    Open,
    Fenced,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Writer {
    role: Role,
    /// How many counters are given out.
    counter: u8,
    /// SSTs that are neither committed nor given up.
    undecided: u8,
    /// Those of them whose upload was acknowledged.
    uploaded: u8,
}

/// Where a reader or the maker of checkpoints is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum At {
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
struct Holder {
    at: At,
    version: u8,
    names: u8,
    /// Of a reader: what it has still to read.
    unread: u8,
    /// Its pin has lapsed.
    has_lapsed: bool,
    /// How many scans or checkpoints it has finished.
    finished: u8,
    /// It believed in its pin, and an SST was not there.
    has_missed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Checkpoint {
    names: u8,
    /// Whether it counts.
    counts: bool,
}

/// What a collector does one after another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    Raise,
    Drop,
    Pins,
    Checkpoints,
    Versions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum Pass {
    #[default]
    Idle,
    /// Which task is next.
    Doing(u8),
    Deleting,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Collector {
    at: Pass,
    /// F; 0 once it is not needed any more.
    floor: u8,
    /// The latest version when F was chosen.
    known: u8,
    named: u8,
    doomed: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    /// What versions name, by id; 0 for one that was dropped.
    versions: [u8; VERSIONS],
    /// Which versions are in the store (bit id-1), and the id of the latest.
    existing: u8,
    latest: u8,
    floor: u8,
    /// What the latest version says of writers, and how often the compactor has committed.
    epoch: u8,
    counter_floor: u8,
    compactions: u8,
    /// The SSTs in the store, those whose PUT may land later, every name given out, and whether one was twice.
    stored: u8,
    flying: u8,
    given: u8,
    is_reused: bool,
    writers: [Writer; EPOCHS],
    readers: [Holder; READERS],
    maker: Holder,
    checkpoint: Option<Checkpoint>,
    /// What a pin and a checkpoint name whose PUTs may land later.
    flying_pin: u8,
    flying_checkpoint: u8,
    /// What pins name that landed after their reader had gone on.
    left_behind: u8,
    collectors: [Collector; COLLECTORS],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
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

fn bits(mask: u8) -> impl Iterator<Item = u8> {
    (0..8).map(|bit| 1 << bit).filter(move |bit| mask & bit != 0)
}

/// The epoch and the counter in the name of a writer's SST; `None` for one of the compactor.
fn name_of(sst: u8) -> Option<(u8, u8)> {
    let bit = sst.trailing_zeros() as u8;
    (sst < FIRST).then_some((bit / OF_A_WRITER + 1, bit % OF_A_WRITER))
}

impl Writer {
    /// The counter under which everything is committed or given up.
    fn settled_under(&self, mutation: Option<Mutation>) -> u8 {
        let counters = bits(self.undecided).filter_map(name_of).map(|(_, counter)| counter);
        match mutation {
            Some(Mutation::CounterFloorTooHigh) => self.counter,
            _ => counters.min().unwrap_or(self.counter),
        }
    }
}

impl State {
    fn names(&self, version: u8) -> u8 {
        self.versions[usize::from(version - 1)]
    }

    fn exists(&self, version: u8) -> bool {
        self.existing & (1 << (version - 1)) != 0
    }

    /// What the versions above the floor name.
    fn named_by_versions(&self) -> u8 {
        (self.floor + 1..=self.latest).fold(0, |named, id| named | self.names(id))
    }

    fn commit(&mut self, names: u8, bounds: &Bounds) -> Option<()> {
        if self.latest >= bounds.versions {
            return None;
        }
        self.latest += 1;
        self.versions[usize::from(self.latest - 1)] = names;
        self.existing |= 1 << (self.latest - 1);
        Some(())
    }

    fn in_flight(&self) -> u32 {
        let others = [self.flying_pin, self.flying_checkpoint];
        self.flying.count_ones() + others.map(|names| u32::from(names != 0)).iter().sum::<u32>()
    }

    /// Whether no writer will publish `sst` any more, by the latest version.
    fn is_settled(&self, sst: u8, mutation: Option<Mutation>) -> bool {
        // The compactor uploads and commits in one step.
        let Some((epoch, counter)) = name_of(sst) else { return true };
        match mutation {
            Some(Mutation::ByAge) => true,
            Some(Mutation::EpochInclusive) => epoch <= self.epoch,
            _ => epoch < self.epoch || (epoch == self.epoch && counter < self.counter_floor),
        }
    }

    /// What may still land in the store.
    fn may_come(&self) -> u8 {
        self.writers.iter().fold(self.flying, |coming, writer| coming | (writer.undecided & !writer.uploaded))
    }

    fn reader(&mut self, r: u8) -> &mut Holder {
        &mut self.readers[usize::from(r)]
    }
}

impl Collect {
    fn has(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    /// What a collector does one after another.
    fn tasks(&self) -> [Task; 5] {
        use Task::{Checkpoints, Drop, Pins, Raise, Versions};
        match self.mutation {
            Some(Mutation::PinsBeforeFloor) => [Pins, Raise, Drop, Checkpoints, Versions],
            Some(Mutation::CheckpointsBeforePins) => [Raise, Drop, Checkpoints, Pins, Versions],
            Some(Mutation::DropBeforeFloor) => [Drop, Raise, Pins, Checkpoints, Versions],
            _ => [Raise, Drop, Pins, Checkpoints, Versions],
        }
    }

    /// What the pin of `holder` names, if it is in the store and young enough.
    fn pinned(&self, holder: &Holder, is_reader: bool) -> u8 {
        let is_written = match holder.at {
            At::Pinned => true,
            At::Created if is_reader => false,
            At::Held if is_reader => !self.has(Mutation::ReleasedAtOnce),
            At::Held | At::Created => !self.has(Mutation::CheckpointWithoutPin),
            At::Idle | At::Chosen | At::Expired => false,
        };
        if is_written && !holder.has_lapsed { holder.names } else { 0 }
    }

    fn all_pinned(&self, s: &State) -> u8 {
        let readers = s.readers.iter().fold(0, |named, reader| named | self.pinned(reader, true));
        readers | self.pinned(&s.maker, false) | s.left_behind
    }

    fn write(&self, next: &mut State, step: Step) -> Option<()> {
        let s = next.clone();
        let (Step::Claim(e)
        | Step::Start(e)
        | Step::Upload(e, _)
        | Step::UploadLater(e, _)
        | Step::Commit(e, _)
        | Step::GiveUp(e, _)
        | Step::RaiseCounterFloor(e)) = step
        else {
            return None;
        };
        let is_fenced = s.epoch != e && !self.has(Mutation::CommitUnfenced);
        let w = &mut next.writers[usize::from(e - 1)];
        match (step, w.role) {
            (Step::Claim(_), Role::Away) if s.epoch + 1 == e => {
                w.role = Role::Open;
                next.commit(s.names(s.latest), &self.bounds)?;
                (next.epoch, next.counter_floor) = (e, 0);
            }
            (Step::Start(_), Role::Open) => {
                let most = self.bounds.outputs[usize::from(e - 1)];
                if w.counter >= most || w.undecided.count_ones() >= self.bounds.undecided {
                    return None;
                }
                let epoch = if self.has(Mutation::EpochReused) { 1 } else { e };
                let sst = 1 << (OF_A_WRITER * (epoch - 1) + w.counter);
                w.counter += 1;
                w.undecided |= sst;
                next.is_reused |= s.given & sst != 0;
                next.given |= sst;
            }
            (Step::Upload(_, sst), Role::Open) if w.undecided & !w.uploaded & sst != 0 => {
                w.uploaded |= sst;
                next.stored |= sst;
            }
            (Step::UploadLater(_, sst), Role::Open) if w.undecided & !w.uploaded & sst != 0 => {
                if s.flying & sst != 0 || s.in_flight() >= self.bounds.flights {
                    return None;
                }
                next.flying |= sst;
            }
            (Step::Commit(_, sst), Role::Open) if w.uploaded & sst != 0 => {
                if is_fenced {
                    *w = Writer { role: Role::Fenced, ..Writer::default() };
                    return Some(());
                }
                w.undecided &= !sst;
                w.uploaded &= !sst;
                let counter = w.settled_under(self.mutation);
                next.commit(s.names(s.latest) | sst, &self.bounds)?;
                next.counter_floor = s.counter_floor.max(counter);
            }
            (Step::GiveUp(_, sst), Role::Open) if w.undecided & sst != 0 => {
                w.undecided &= !sst;
                w.uploaded &= !sst;
            }
            (Step::RaiseCounterFloor(_), Role::Open) if !is_fenced => {
                let counter = w.settled_under(self.mutation);
                if counter <= s.counter_floor {
                    return None;
                }
                next.commit(s.names(s.latest), &self.bounds)?;
                next.counter_floor = counter;
            }
            _ => return None,
        }
        Some(())
    }

    fn compact(&self, next: &mut State) -> Option<()> {
        let names = next.names(next.latest);
        if next.compactions >= self.bounds.compactions || names == 0 {
            return None;
        }
        // The second finds that everything was deleted.
        let output = if next.compactions == 0 { COMPACTED } else { 0 };
        next.commit(output, &self.bounds)?;
        next.compactions += 1;
        next.stored |= output;
        Some(())
    }

    fn read(&self, next: &mut State, step: Step) -> Option<()> {
        let s = next.clone();
        let (Step::Choose(r)
        | Step::WritePin(r)
        | Step::WritePinLater(r)
        | Step::CheckFloor(r)
        | Step::Read(r)
        | Step::Release(r)
        | Step::Lapse(r)) = step
        else {
            return None;
        };
        let reader = next.reader(r);
        let again = Holder { finished: reader.finished, ..Holder::default() };
        match (step, reader.at) {
            (Step::Choose(_), At::Idle) if reader.finished < self.bounds.scans[usize::from(r)] => {
                *reader = self.choose(&s, again, s.names(s.latest))?;
            }
            (Step::WritePin(_), At::Chosen) => {
                reader.at = if self.has(Mutation::NoFloorCheckOfPin) { At::Held } else { At::Pinned };
            }
            (Step::CheckFloor(_), At::Chosen) if self.has(Mutation::FloorCheckBeforePin) => {
                *reader =
                    if reader.version > s.floor { Holder { at: At::Created, ..*reader } } else { again };
            }
            (Step::WritePin(_), At::Created) => reader.at = At::Held,
            (Step::WritePinLater(_), At::Chosen) => {
                let names = reader.names;
                if s.flying_pin != 0 || s.in_flight() >= self.bounds.flights {
                    return None;
                }
                next.flying_pin = names;
            }
            (Step::CheckFloor(_), At::Pinned) => {
                if reader.version > s.floor {
                    reader.at = At::Held;
                } else {
                    *reader = again;
                }
            }
            (Step::Read(_), At::Held) => {
                let sst = bits(reader.unread).next()?;
                reader.unread &= !sst;
                reader.has_missed |= s.stored & sst == 0;
            }
            (Step::Release(_), At::Held | At::Expired) => {
                *reader = Holder { finished: reader.finished + 1, has_missed: reader.has_missed, ..again };
            }
            (Step::Lapse(_), At::Pinned) => *reader = again,
            (Step::Lapse(_), At::Held) if self.has(Mutation::LapsedGoesOn) && !reader.has_lapsed => {
                reader.has_lapsed = true;
            }
            (Step::Lapse(_), At::Held) if !reader.has_lapsed => {
                *reader = Holder { at: At::Expired, ..again };
            }
            _ => return None,
        }
        Some(())
    }

    /// Chooses the latest version, which names `names`, if nothing speaks against it.
    fn choose(&self, s: &State, again: Holder, names: u8) -> Option<Holder> {
        (names != 0).then_some(Holder { at: At::Chosen, version: s.latest, names, unread: names, ..again })
    }

    fn make(&self, next: &mut State, step: Step) -> Option<()> {
        let s = next.clone();
        let maker = &mut next.maker;
        let again = Holder { finished: maker.finished, ..Holder::default() };
        let over = Holder { finished: maker.finished + 1, ..Holder::default() };
        match (step, maker.at) {
            (Step::MakerChooses, At::Idle) if maker.finished < self.bounds.checkpoints => {
                *maker = Holder { unread: 0, ..self.choose(&s, again, s.names(s.latest))? };
                if s.checkpoint.is_some() {
                    return None;
                }
                if self.has(Mutation::CheckpointWithoutPin) {
                    maker.at = At::Held;
                }
            }
            (Step::MakerPins, At::Chosen) => maker.at = At::Pinned,
            (Step::MakerChecksFloor, At::Pinned) => {
                if maker.version > s.floor && !maker.has_lapsed || self.has(Mutation::NoFloorCheckOfPin) {
                    maker.at = At::Held;
                } else {
                    *maker = again;
                }
            }
            (Step::Create, At::Held) => {
                maker.at = At::Created;
                // Its own may be there already.
                if s.checkpoint.is_none() {
                    next.checkpoint = Some(Checkpoint { names: s.maker.names, counts: !s.maker.has_lapsed });
                }
            }
            (Step::CreateLater, At::Held) => {
                if s.flying_checkpoint != 0 || s.in_flight() >= self.bounds.flights {
                    return None;
                }
                next.flying_checkpoint = s.maker.names;
            }
            (Step::MakerGivesUp, At::Held) => *maker = over,
            (Step::Confirm, At::Created) => {
                let is_kept = !maker.has_lapsed
                    || maker.version > s.floor
                    || self.has(Mutation::NoFloorCheckOfCheckpoint);
                *maker = over;
                if let Some(checkpoint) = &mut next.checkpoint {
                    checkpoint.counts |= is_kept;
                }
            }
            (Step::MakerLapses, At::Pinned | At::Held | At::Created) if !maker.has_lapsed => {
                maker.has_lapsed = true;
            }
            _ => return None,
        }
        Some(())
    }

    fn collect(&self, next: &mut State, step: Step) -> Option<()> {
        let s = next.clone();
        let (Step::Begin(g, _) | Step::Next(g) | Step::Delete(g, _) | Step::End(g)) = step else {
            return None;
        };
        let gc = &mut next.collectors[usize::from(g)];
        match (step, gc.at) {
            (Step::Begin(_, floor), Pass::Idle) if (s.floor..s.latest).contains(&floor) => {
                let ids = floor + 1..=s.latest;
                // One that another pass has dropped already ends this one.
                if ids.clone().any(|id| !s.exists(id)) {
                    return None;
                }
                let named = ids.fold(0, |named, id| named | s.names(id));
                let named = if self.has(Mutation::LatestVersionOnly) { s.names(s.latest) } else { named };
                *gc = Collector { at: Pass::Doing(0), floor, known: s.latest, named, doomed: 0 };
            }
            (Step::Next(_), Pass::Doing(n)) => {
                gc.at = Pass::Doing(n + 1);
                match self.tasks()[usize::from(n)] {
                    Task::Raise => next.floor = s.floor.max(gc.floor),
                    Task::Drop => {
                        let under = (1 << gc.floor) - 1;
                        if self.tasks()[1] == Task::Drop || self.has(Mutation::PinsBeforeFloor) {
                            gc.floor = 0;
                        }
                        next.existing &= !under;
                        for id in bits(under).map(|bit| bit.trailing_zeros() as usize) {
                            next.versions[id] = 0;
                        }
                    }
                    Task::Pins if self.has(Mutation::PinsIgnored) => {}
                    Task::Pins => gc.named |= self.all_pinned(&s),
                    Task::Checkpoints if self.has(Mutation::CheckpointsIgnored) => {}
                    Task::Checkpoints => gc.named |= s.checkpoint.map_or(0, |checkpoint| checkpoint.names),
                    Task::Versions => self.read_newer(&s, gc),
                }
            }
            (Step::Delete(_, sst), Pass::Deleting) => {
                // The list of SSTs may have been made at any moment up to now.
                if gc.doomed & s.stored & sst == 0 {
                    return None;
                }
                next.stored &= !sst;
            }
            (Step::End(_), Pass::Doing(_) | Pass::Deleting) => *gc = Collector::default(),
            _ => return None,
        }
        Some(())
    }

    /// The versions committed since F was chosen, and with the latest of them what may go.
    fn read_newer(&self, s: &State, gc: &mut Collector) {
        let is_lost = (gc.known + 1..=s.latest).any(|id| !s.exists(id));
        if is_lost && !self.has(Mutation::MissingVersionPassedOver) {
            *gc = Collector::default();
            return;
        }
        let newer = match self.mutation {
            Some(Mutation::VersionsBeforePins) => 0,
            Some(Mutation::LatestVersionOnly) => s.names(s.latest),
            _ => (gc.known + 1..=s.latest).fold(0, |named, id| named | s.names(id)),
        };
        let named = gc.named | newer;
        let garbage = bits(!named & (s.stored | s.may_come()));
        let doomed: u8 = garbage.filter(|sst| s.is_settled(*sst, self.mutation)).sum();
        *gc = match doomed {
            0 => Collector::default(),
            _ => Collector { at: Pass::Deleting, doomed, ..Collector::default() },
        };
    }

    fn land(next: &mut State, step: Step) -> Option<()> {
        match step {
            Step::LandSst(sst) if next.flying & sst != 0 => {
                next.flying &= !sst;
                next.stored |= sst;
            }
            Step::LandPin if next.flying_pin != 0 => {
                next.left_behind |= next.flying_pin;
                next.flying_pin = 0;
            }
            Step::LandCheckpoint if next.flying_checkpoint != 0 => {
                let names = next.flying_checkpoint;
                next.flying_checkpoint = 0;
                // A name that is taken stays what it is.
                if next.checkpoint.is_none() {
                    let is_pinned = matches!(next.maker.at, At::Held | At::Created)
                        && !next.maker.has_lapsed
                        && next.maker.names == names;
                    next.checkpoint = Some(Checkpoint { names, counts: is_pinned });
                }
            }
            Step::LeftBehindLapses if next.left_behind != 0 => next.left_behind = 0,
            Step::DeleteCheckpoint if next.checkpoint.is_some() => next.checkpoint = None,
            _ => return None,
        }
        Some(())
    }

    /// What a pass that is about to delete has kept, stored and settled, though no version above the floor names it.
    fn kept_besides_versions(&self, s: &State) -> u8 {
        let deleting = s.collectors.iter().filter(|gc| gc.at == Pass::Deleting);
        let kept = deleting.fold(0, |kept, gc| kept | !gc.doomed);
        let settled: u8 = bits(s.stored).filter(|sst| s.is_settled(*sst, None)).sum();
        kept & settled & !s.named_by_versions()
    }
}

impl Model for Collect {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let mut versions = [0; VERSIONS];
        versions[0] = FIRST;
        let mut writers = [Writer::default(); EPOCHS];
        writers[0].role = Role::Open;
        vec![State {
            versions,
            existing: 1,
            latest: 1,
            floor: 0,
            epoch: 1,
            counter_floor: 0,
            compactions: 0,
            stored: FIRST,
            flying: 0,
            given: 0,
            is_reused: false,
            writers,
            readers: [Holder::default(); READERS],
            maker: Holder::default(),
            checkpoint: None,
            flying_pin: 0,
            flying_checkpoint: 0,
            left_behind: 0,
            collectors: [Collector::default(); COLLECTORS],
        }]
    }

    fn actions(&self, s: &State, steps: &mut Vec<Step>) {
        for (e, w) in (1..).zip(&s.writers) {
            match w.role {
                Role::Away => steps.push(Step::Claim(e)),
                Role::Open => {
                    steps.extend([Step::Start(e), Step::RaiseCounterFloor(e)]);
                    for sst in bits(w.undecided) {
                        steps.extend([Step::Upload(e, sst), Step::UploadLater(e, sst)]);
                        steps.extend([Step::Commit(e, sst), Step::GiveUp(e, sst)]);
                    }
                }
                Role::Fenced => {}
            }
        }
        steps.push(Step::Compact);
        for (r, reader) in (0..).zip(&s.readers) {
            match reader.at {
                At::Idle => steps.push(Step::Choose(r)),
                At::Chosen if self.has(Mutation::FloorCheckBeforePin) => steps.push(Step::CheckFloor(r)),
                At::Chosen => steps.extend([Step::WritePin(r), Step::WritePinLater(r)]),
                At::Pinned => steps.extend([Step::CheckFloor(r), Step::Lapse(r)]),
                At::Held => steps.extend([Step::Read(r), Step::Release(r), Step::Lapse(r)]),
                At::Expired => steps.push(Step::Release(r)),
                At::Created => steps.push(Step::WritePin(r)),
            }
        }
        match s.maker.at {
            At::Idle => steps.push(Step::MakerChooses),
            At::Chosen => steps.push(Step::MakerPins),
            At::Pinned => steps.extend([Step::MakerChecksFloor, Step::MakerLapses]),
            At::Held => {
                steps.extend([Step::Create, Step::CreateLater, Step::MakerGivesUp, Step::MakerLapses]);
            }
            At::Created => steps.extend([Step::Confirm, Step::MakerLapses]),
            At::Expired => {}
        }
        steps.extend(bits(s.flying).map(Step::LandSst));
        steps.extend([Step::LandPin, Step::LandCheckpoint, Step::LeftBehindLapses, Step::DeleteCheckpoint]);
        for (g, gc) in (0..self.bounds.collectors).zip(&s.collectors) {
            match gc.at {
                Pass::Idle => steps.extend((s.floor..s.latest).map(|floor| Step::Begin(g, floor))),
                Pass::Doing(_) => steps.extend([Step::Next(g), Step::End(g)]),
                Pass::Deleting => {
                    steps.extend(bits(gc.doomed).map(|sst| Step::Delete(g, sst)));
                    steps.push(Step::End(g));
                }
            }
        }
    }

    fn next_state(&self, s: &State, step: Step) -> Option<State> {
        let mut next = s.clone();
        let next_ref = &mut next;
        match step {
            Step::Claim(_)
            | Step::Start(_)
            | Step::Upload(..)
            | Step::UploadLater(..)
            | Step::Commit(..)
            | Step::GiveUp(..)
            | Step::RaiseCounterFloor(_) => self.write(next_ref, step)?,
            Step::Compact => self.compact(next_ref)?,
            Step::Choose(_)
            | Step::WritePin(_)
            | Step::WritePinLater(_)
            | Step::CheckFloor(_)
            | Step::Read(_)
            | Step::Release(_)
            | Step::Lapse(_) => self.read(next_ref, step)?,
            Step::MakerChooses
            | Step::MakerPins
            | Step::MakerChecksFloor
            | Step::Create
            | Step::CreateLater
            | Step::MakerGivesUp
            | Step::Confirm
            | Step::MakerLapses => self.make(next_ref, step)?,
            Step::LandSst(_)
            | Step::LandPin
            | Step::LandCheckpoint
            | Step::LeftBehindLapses
            | Step::DeleteCheckpoint => Self::land(next_ref, step)?,
            Step::Begin(..) | Step::Next(_) | Step::Delete(..) | Step::End(_) => {
                self.collect(next_ref, step)?;
            }
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("the latest version names no deleted SST", |_, s: &State| {
                s.names(s.latest) & !s.stored == 0
            }),
            Property::always("a version above the floor names no deleted SST", |_, s: &State| {
                s.named_by_versions() & !s.stored == 0
            }),
            Property::always("a version above the floor is there", |_, s: &State| {
                (s.floor + 1..=s.latest).all(|id| s.exists(id))
            }),
            Property::always("a pin that is counted on names no deleted SST", |_, s: &State| {
                let held = s.readers.iter().filter(|reader| reader.at == At::Held && !reader.has_lapsed);
                held.fold(0, |named, reader| named | reader.names) & !s.stored == 0
            }),
            Property::always("a reader that believes in its pin finds every SST", |_, s: &State| {
                s.readers.iter().all(|reader| !reader.has_missed)
            }),
            Property::always("a checkpoint that counts names no deleted SST", |_, s: &State| {
                s.checkpoint.is_none_or(|checkpoint| !checkpoint.counts || checkpoint.names & !s.stored == 0)
            }),
            Property::always("a name is given out once", |_, s: &State| !s.is_reused),
            Property::sometimes("a pin alone keeps an SST", |model, s: &State| {
                let held = s.readers.iter().filter(|reader| reader.at == At::Held);
                let pinned = held.fold(0, |named, reader| named | model.pinned(reader, true));
                let others = s.checkpoint.map_or(0, |checkpoint| checkpoint.names) | s.left_behind;
                model.bounds.scans[0] == 0 || model.kept_besides_versions(s) & pinned & !others != 0
            }),
            Property::sometimes("a checkpoint alone keeps an SST", |model, s: &State| {
                let named = s.checkpoint.map_or(0, |checkpoint| checkpoint.names);
                model.bounds.checkpoints == 0
                    || model.kept_besides_versions(s) & named & !model.all_pinned(s) != 0
            }),
            Property::sometimes("an orphan of a superseded epoch is collected", |model, s: &State| {
                let undecided = s.writers[0].undecided;
                model.bounds.outputs[0] == 0
                    || s.epoch == 2 && s.collectors.iter().any(|gc| gc.doomed & s.stored & undecided != 0)
            }),
            Property::sometimes("an orphan under the counter floor is collected", |model, s: &State| {
                // Nothing was ever replaced, so it was never committed.
                let doomed = s.collectors.iter().fold(0, |doomed, gc| doomed | gc.doomed);
                model.bounds.outputs[0] == 0
                    || s.compactions == 0
                    && bits(doomed & s.stored).any(|sst| name_of(sst).is_some_and(|(e, _)| e == s.epoch))
            }),
            Property::sometimes("a late pin is refused", |model, s: &State| {
                model.bounds.scans[0] == 0
                    || s.readers.iter().any(|reader| reader.at == At::Pinned && reader.version <= s.floor)
            }),
            Property::sometimes("a scan ends because its pin lapsed", |model, s: &State| {
                model.bounds.scans[0] == 0 || s.readers.iter().any(|reader| reader.at == At::Expired)
            }),
            Property::sometimes("a checkpoint is refused when its pin has lapsed", |model, s: &State| {
                let maker = &s.maker;
                model.bounds.checkpoints == 0
                    || (maker.at == At::Created && maker.has_lapsed && maker.version <= s.floor)
            }),
            Property::sometimes("a checkpoint that does not count has lost an SST", |model, s: &State| {
                model.bounds.checkpoints == 0
                    || s.checkpoint.is_some_and(|checkpoint| checkpoint.names & !s.stored != 0)
            }),
            Property::sometimes("a PUT puts a deleted SST there again", |model, s: &State| {
                let dead = s.given & !s.writers.iter().fold(0, |open, writer| open | writer.undecided);
                model.bounds.flights == 0
                    || (s.flying & dead & !s.stored != 0
                        && s.collectors.iter().any(|gc| gc.doomed & s.flying & dead != 0))
            }),
            Property::sometimes("a pass is overtaken by another", |model, s: &State| {
                model.bounds.collectors < 2
                    || s.collectors.iter().any(|gc| {
                        gc.at == Pass::Doing(4) && (gc.known + 1..=s.latest).any(|id| !s.exists(id))
                    })
            }),
        ]
    }
}

/// A reader and a checkpoint, and a network that delivers at once.
const PINS: Bounds = Bounds {
    outputs: [1, 0],
    undecided: 1,
    compactions: 1,
    versions: 4,
    scans: [1, 0],
    checkpoints: 1,
    collectors: 1,
    flights: 0,
};
/// Two passes side by side; writers only claim.
const TWO_PASSES: Bounds = Bounds { outputs: [0, 0], compactions: 2, checkpoints: 0, collectors: 2, ..PINS };
/// PUTs of SSTs and of a pin that land late.
const LATE_PIN: Bounds = Bounds { checkpoints: 0, flights: 1, ..PINS };
/// PUTs of SSTs and of a checkpoint that land late.
const LATE_CHECKPOINT: Bounds = Bounds { scans: [0, 0], flights: 1, ..PINS };
/// Two writers with several SSTs that land late; nobody reads.
const WRITERS: Bounds =
    Bounds { outputs: [2, 1], undecided: 2, scans: [0, 0], checkpoints: 0, flights: 1, ..PINS };
/// All of it: a base for the long run.
const ALL: Bounds = Bounds {
    outputs: [2, 1],
    undecided: 2,
    compactions: 2,
    versions: 7,
    scans: [1, 1],
    checkpoints: 1,
    collectors: 2,
    flights: 1,
};

#[test]
fn nothing_that_a_version_a_pin_or_a_checkpoint_names_is_collected() {
    let bounds = match explore::wide() {
        Some(_) => vec![Bounds { outputs: [3, 2], versions: 8, flights: 2, ..ALL }],
        None => vec![PINS, TWO_PASSES, LATE_PIN, LATE_CHECKPOINT, WRITERS],
    };
    let states: usize =
        bounds.into_iter().map(|bounds| explore::holds("collect", &Collect { bounds, mutation: None })).sum();
    assert!(states > 1_000_000, "only {states} states");
}

#[test]
fn every_mistake_of_a_collection_is_caught() {
    explore::all_caught("collect", &MUTATIONS, |mutation| Collect { bounds: ALL, mutation: Some(mutation) });
}
