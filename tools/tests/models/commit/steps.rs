//! How the model of the commit rule begins, and which steps there are from where.

use stateright::{Model, Property};

use super::{
    Commit,
    state::{
        ATTEMPTS, At, Attempt, COLLECTORS, COMMITTERS, Collector, Committer, FLIGHTS, Pass, SLOTS, State,
        Step, Verdict,
    },
};

impl Model for Commit {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let mut slots = [0; SLOTS];
        slots[0] = 1;
        let mut attempts = [Attempt::default(); ATTEMPTS];
        attempts[0] = Attempt { slot: 1, base: 0, verdict: Verdict::Committed };
        vec![State {
            slots,
            chain: slots,
            floor: 0,
            attempts,
            made: 1,
            flights: [0; FLIGHTS],
            committers: [Committer { at: At::Idle, base: 1, ..Committer::default() }; COMMITTERS],
            collectors: [Collector::default(); COLLECTORS],
        }]
    }

    fn actions(&self, s: &State, steps: &mut Vec<Step>) {
        for c in 0..self.bounds.committers {
            let committer = &s.committers[usize::from(c)];
            match committer.at {
                At::List => steps.push(Step::List(c)),
                At::Get => steps.push(Step::Get(c)),
                At::CheckFloor => steps.push(Step::CheckFloor(c)),
                At::Idle => steps.extend([Step::GetNext(c), Step::Start(c)]),
                At::Create => steps.extend([Step::Create(c), Step::CreateLater(c), Step::Refuse(c)]),
                At::Look => steps.push(Step::Look(c)),
                At::Verify => steps.push(Step::Verify(c)),
            }
            if committer.attempt != 0 {
                steps.push(Step::GiveUp(c));
            }
        }
        steps
            .extend((0..FLIGHTS as u8).filter(|flight| s.flights[usize::from(*flight)] != 0).map(Step::Land));
        for g in 0..self.bounds.collectors {
            match s.collectors[usize::from(g)].at {
                Pass::Idle => {
                    steps.extend((s.floor.max(1)..=s.top()).map(|floor| Step::Choose(g, floor)));
                }
                Pass::Raise => steps.push(Step::Raise(g)),
                Pass::Delete => {
                    let floor = s.collectors[usize::from(g)].floor;
                    let there = (1..=floor).filter(|slot| s.slot(*slot) != 0);
                    steps.extend(there.map(|slot| Step::Delete(g, slot)));
                    steps.push(Step::End(g));
                }
            }
        }
    }

    fn next_state(&self, s: &State, step: Step) -> Option<State> {
        let mut next = s.clone();
        match step {
            Step::Land(flight) => {
                let attempt = s.flights[usize::from(flight)];
                if attempt == 0 || s.slot(s.attempt(attempt).slot) != 0 {
                    return None;
                }
                next.land(attempt);
                next.flights[usize::from(flight)] = 0;
                next.flights.sort_unstable_by(|a, b| b.cmp(a));
            }
            Step::Choose(..) | Step::Raise(_) | Step::Delete(..) | Step::End(_) => {
                self.collect(&mut next, step)?;
            }
            _ => self.commit(&mut next, step)?,
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        self.rules()
    }
}
