//! What writers and the compactor do: names, uploads, commits, the counter floor.

use super::{
    Collect,
    mutation::Mutation,
    state::{COMPACTED, OF_A_WRITER, Role, State, Step, Writer},
};

impl Collect {
    pub(super) fn write(&self, next: &mut State, step: Step) -> Option<()> {
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

    pub(super) fn compact(&self, next: &mut State) -> Option<()> {
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
}
