//! What a compactor does, from its claim to its Done.

use super::{
    Takeover,
    mutation::Mutation,
    state::{At, Compactor, Kind, State, Step},
};

impl Takeover {
    pub(super) fn compact(&self, next: &mut State, step: Step) -> Option<()> {
        let s = next.clone();
        let (Step::Claim(e)
        | Step::FindTail(e)
        | Step::Append(e)
        | Step::AppendLater(e)
        | Step::CheckFloor(e)
        | Step::ReadLog(e, _)
        | Step::Start(e, _)
        | Step::Upload(e)
        | Step::Commit(e)
        | Step::GiveUp(e)
        | Step::RaiseCounterFloor(e)
        | Step::RaiseJobFloor(e)) = step
        else {
            return None;
        };
        let fenced = s.epoch != e && !self.has(Mutation::CommitUnfenced);
        let c = next.compactor(e);
        match (step, c.at) {
            (Step::Claim(_), At::Away) if s.epoch == e - 1 => {
                c.at = At::Tail;
                next.commit(s.latest);
                (next.epoch, next.counter_floor) = (e, 0);
            }
            (Step::FindTail(_), At::Tail) => {
                c.slot = s.tail() + 1;
                c.at = match self.mutation {
                    Some(Mutation::ReadBeforeTakeover) => At::Read,
                    _ => At::Take,
                };
            }
            (Step::Append(_), _) => {
                let record = Self::next_record(c, e)?;
                if c.slot > self.bounds.slots {
                    return None;
                }
                let found = s.record(c.slot);
                if found.kind == Kind::Absent || found == record {
                    let slot = c.slot;
                    self.appended(c);
                    next.log[usize::from(slot - 1)] = record;
                } else {
                    // Another's; or our own earlier one, when a Job is given up whose append was not decided.
                    if c.at == At::Finish && found.kind == Kind::Job && found.epoch == e && c.job == 0 {
                        c.job = c.slot;
                    }
                    c.slot += 1;
                }
            }
            (Step::AppendLater(_), _) => {
                let record = Self::next_record(c, e)?;
                let flight = (c.slot, record);
                let flown = usize::from(s.flown);
                if c.slot > self.bounds.slots || flown >= self.bounds.flights || s.flights.contains(&flight) {
                    return None;
                }
                next.flights[flown] = flight;
                next.flights.sort_unstable_by(|a, b| b.cmp(a));
                next.flown += 1;
            }
            (Step::CheckFloor(_), At::CheckTake) => {
                c.at = if s.floor < c.takeover { self.after_takeover() } else { At::Tail };
            }
            (Step::CheckFloor(_), At::CheckAdopt) => {
                if s.floor < c.from {
                    c.at = self.before_commit()
                } else {
                    Self::finish(c)
                }
            }
            (Step::ReadLog(..), At::Read)
                if self.adoptable(&s, e).newest > e && !self.has(Mutation::VoidTakeoverGoesOn) =>
            {
                *c = Compactor { at: At::Fenced, ..Compactor::default() };
            }
            (Step::ReadLog(_, 0), At::Read) => match self.mutation {
                Some(Mutation::ReadBeforeTakeover) => return None,
                _ => c.at = At::Idle,
            },
            (Step::ReadLog(_, from), At::Read) => {
                let reading = self.adoptable(&s, e);
                if !reading.unfinished[..reading.jobs].contains(&from) {
                    return None;
                }
                let job = s.record(from);
                // Outputs that are not there are not adopted. They are looked for once, and early.
                let outputs = job.names & s.stored;
                if outputs == 0 {
                    return None;
                }
                (c.from, c.outputs, c.input) = (from, outputs, job.input);
                c.at = match self.mutation {
                    Some(Mutation::AdoptWithoutRecord) => At::CommitAdopted,
                    Some(Mutation::ReadBeforeTakeover) => At::Take,
                    _ => At::Adopt,
                };
            }
            (Step::Start(_, input), At::Idle) => {
                if c.counter >= self.bounds.outputs[usize::from(e - 1)] || s.latest & input == 0 {
                    return None;
                }
                c.outputs = 1 << (2 * (e - 1) + c.counter);
                c.input = input;
                c.counter += 1;
                c.at = At::Job;
            }
            (Step::Upload(_), At::Job) if !c.is_uploaded => {
                c.is_uploaded = true;
                next.stored |= s.compactors[usize::from(e - 1)].outputs;
            }
            (Step::Commit(_), At::CommitAdopted | At::CommitFinished | At::Job) => {
                if c.at == At::Job && (c.job == 0 || !c.is_uploaded) {
                    return None;
                }
                if fenced {
                    *c = Compactor { at: At::Fenced, ..Compactor::default() };
                    return Some(());
                }
                if c.at == At::CommitFinished {
                    Self::rest(c)
                } else {
                    Self::finish(c)
                }
                let (input, outputs, counter) = {
                    let c = &s.compactors[usize::from(e - 1)];
                    (c.input, c.outputs, c.counter)
                };
                if s.latest & input != 0 {
                    next.commit(s.latest & !input | outputs);
                    next.counter_floor = s.counter_floor.max(counter);
                }
            }
            (Step::GiveUp(_), At::Job) => {
                if self.has(Mutation::CountersBeforeDone) {
                    Self::rest(c)
                } else {
                    Self::finish(c)
                }
            }
            (Step::RaiseCounterFloor(_), At::Idle) if !fenced && s.counter_floor < c.counter => {
                let counter = c.counter;
                next.commit(s.latest);
                next.counter_floor = counter;
            }
            (Step::RaiseJobFloor(_), at) => {
                let has_decided = match at {
                    At::CommitAdopted | At::CommitFinished | At::Idle | At::Job | At::Finish => true,
                    At::Adopt => self.has(Mutation::FloorBeforeRecord),
                    _ => false,
                };
                let floor = if self.has(Mutation::FloorOverTakeover) {
                    c.takeover
                } else {
                    c.takeover.saturating_sub(1)
                };
                if !has_decided || floor <= s.floor {
                    return None;
                }
                next.floor = floor;
            }
            _ => return None,
        }
        Some(())
    }
}
