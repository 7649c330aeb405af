//! How the model of collection beside writers, pins and checkpoints begins, and which steps there are from where.

use stateright::{Model, Property};

use super::{
    Collect,
    mutation::Mutation,
    state::{
        At, COLLECTORS, Checkpoint, Collector, EPOCHS, FIRST, Holder, Pass, READERS, Role, State, Step,
        VERSIONS, Writer, bits,
    },
};

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
        self.rules()
    }
}

impl Collect {
    pub(super) fn land(next: &mut State, step: Step) -> Option<()> {
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
}
