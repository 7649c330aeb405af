//! How the model of compactors that take over from one another begins, and which steps there are from where.

use stateright::{Model, Property};

use super::{
    Takeover,
    state::{
        At, Collector, Compactor, EPOCHS, FLIGHTS, INPUTS, Kind, Pass, Record, SLOTS, State, Step, bits,
    },
};

impl Model for Takeover {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let mut compactors = [Compactor::default(); EPOCHS];
        compactors[0] = Compactor { at: At::Idle, slot: 2, takeover: 1, ..Compactor::default() };
        let mut log = [Record::default(); SLOTS];
        log[0] = Record { kind: Kind::Takeover, epoch: 1, names: 0, input: 0 };
        let inputs = if self.bounds.inputs == 2 { INPUTS } else { INPUTS & (INPUTS << 1) };
        vec![State {
            log,
            floor: 0,
            flights: [(0, Record::default()); FLIGHTS],
            flown: 0,
            epoch: 1,
            counter_floor: 0,
            latest: inputs,
            older: 0,
            stored: inputs,
            compactors,
            collector: Collector::default(),
        }]
    }

    fn actions(&self, s: &State, steps: &mut Vec<Step>) {
        for e in 1..=self.bounds.epochs {
            let c = &s.compactors[usize::from(e - 1)];
            match c.at {
                At::Away => steps.push(Step::Claim(e)),
                At::Tail => steps.push(Step::FindTail(e)),
                At::Take | At::Adopt | At::Finish => steps.extend([Step::Append(e), Step::AppendLater(e)]),
                At::CheckTake | At::CheckAdopt => steps.push(Step::CheckFloor(e)),
                At::Read => steps.extend((0..=self.bounds.slots).map(|slot| Step::ReadLog(e, slot))),
                At::CommitAdopted | At::CommitFinished => steps.push(Step::Commit(e)),
                At::Idle => {
                    steps.extend(bits(s.latest).map(|input| Step::Start(e, input)));
                    steps.push(Step::RaiseCounterFloor(e));
                }
                At::Job => {
                    steps.extend([Step::Append(e), Step::AppendLater(e), Step::Upload(e)]);
                    steps.extend([Step::Commit(e), Step::GiveUp(e)]);
                }
                At::Fenced => {}
            }
            steps.push(Step::RaiseJobFloor(e));
        }
        steps.extend((0..s.flown).map(Step::Land));
        steps.push(Step::DeleteRecords);
        match s.collector.at {
            Pass::Idle => steps.push(Step::Begin),
            Pass::FloorRead => steps.push(Step::ListLog),
            Pass::Listed => steps.push(Step::ReadRecords),
            Pass::LogRead => steps.push(Step::ReadVersions),
            Pass::Deleting => {
                steps.extend(bits(s.collector.doomed).map(Step::Delete));
                steps.push(Step::End);
            }
        }
    }

    fn next_state(&self, s: &State, step: Step) -> Option<State> {
        let mut next = s.clone();
        match step {
            Step::Land(flight) => {
                let (slot, record) = s.flights[usize::from(flight)];
                if slot == 0 || s.record(slot).kind != Kind::Absent {
                    return None;
                }
                next.log[usize::from(slot - 1)] = record;
                next.flights[usize::from(flight)] = (0, Record::default());
                next.flights.sort_unstable_by(|a, b| b.cmp(a));
            }
            Step::DeleteRecords => {
                let under = &mut next.log[..usize::from(s.floor)];
                if under.iter().all(|record| record.kind == Kind::Absent) {
                    return None;
                }
                under.fill(Record::default());
            }
            Step::Begin
            | Step::ListLog
            | Step::ReadRecords
            | Step::ReadVersions
            | Step::Delete(_)
            | Step::End => self.collect(&mut next, step)?,
            _ => self.compact(&mut next, step)?,
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        self.rules()
    }
}
