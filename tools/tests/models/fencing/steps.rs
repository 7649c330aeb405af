//! How the model of writers that fence one another begins, and which steps there are from where.

use stateright::{Model, Property};

use super::{
    Fencing,
    mutation::Mutation,
    state::{
        ABSENT, At, EPOCHS, Fault, Object, Reader, Reading, Root, SLOTS, State, Step, Walk, Writer, bits,
    },
};

impl Model for Fencing {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let mut writers = [Writer::default(); EPOCHS];
        writers[0] =
            Writer { at: At::Run, walk: Walk { slot: 1, ..Walk::default() }, fences: 2, ..Writer::default() };
        let mut log = [ABSENT; SLOTS];
        log[0] = Object::fence(1);
        vec![State {
            log,
            root: Root {
                epoch: 1,
                replay_from: 1,
                tail_hint: 1,
                fence_slot: 1,
                fence_epoch: 1,
                ..Root::default()
            },
            writers,
            acknowledged: 0,
            deletes: 0,
            reader: Reader::default(),
            fault: Fault::None,
        }]
    }

    fn actions(&self, s: &State, steps: &mut Vec<Step>) {
        if s.fault != Fault::None {
            return;
        }
        for e in 1..=self.bounds.epochs {
            let w = s.writer(e);
            match w.at {
                At::Away => steps.push(Step::Claim(e)),
                At::Walk => steps.push(Step::Walk(e)),
                At::Fence => steps.push(Step::SeeFence(e)),
                At::Validate => steps.push(Step::Validate(e)),
                At::Run => {
                    steps.push(Step::Send(e));
                    steps.extend((0..w.sent).flat_map(|n| [Step::Land(e, n), Step::Acknowledge(e, n)]));
                    steps.extend(bits(self.replay_points(s, e)).map(|slot| Step::Flush(e, slot)));
                }
            }
            steps.extend(bits(w.fences).map(|slot| Step::LandFence(e, slot)));
        }
        let collected = s.root.replay_from + u8::from(self.has(Mutation::ReplayPointCollected));
        steps.extend((1..collected).map(Step::Collect));
        match s.reader.at {
            Reading::No => steps.extend([Step::Read(true), Step::Read(false)]),
            Reading::Walk => steps.push(Step::ReadSlot),
            Reading::Check => steps.push(Step::Check),
        }
    }

    fn next_state(&self, s: &State, step: Step) -> Option<State> {
        let mut next = s.clone();
        match step {
            Step::LandFence(e, slot) => {
                if s.writer(e).fences & 1 << slot == 0 {
                    return None;
                }
                next.put(slot, Object::fence(e))?;
            }
            Step::Land(e, n) => {
                if s.writer(e).sent <= n {
                    return None;
                }
                next.put(self.slot_of(s, e, n), Object::data(e, n))?;
            }
            Step::Collect(slot) => {
                let object = s.object(slot);
                let collects_fences = self.has(Mutation::FencesCollected);
                let end = s.root.replay_from + u8::from(self.has(Mutation::ReplayPointCollected));
                let is_garbage = slot < end && (collects_fences || !object.is_fence());
                if object == ABSENT || (!is_garbage && s.deletes & 1 << slot == 0) {
                    return None;
                }
                next.log[usize::from(slot - 1)] = ABSENT;
                next.deletes |= 1 << slot;
            }
            Step::Claim(_) | Step::Walk(_) | Step::SeeFence(_) | Step::Validate(_) => {
                self.open(&mut next, step)?
            }
            Step::Send(_) | Step::Acknowledge(..) | Step::Flush(..) => {
                if let Step::Flush(e, to) = step
                    && (s.writer(e).at != At::Run || self.replay_points(s, e) & 1 << to == 0)
                {
                    return None;
                }
                self.write(&mut next, step)?;
            }
            Step::Read(_) | Step::ReadSlot | Step::Check => self.read(&mut next, step)?,
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        self.rules()
    }
}
