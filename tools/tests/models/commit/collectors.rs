//! What a collector of versions does: it raises the floor, then deletes.

use super::{
    Commit,
    mutation::Mutation,
    state::{Collector, Pass, State, Step},
};

impl Commit {
    pub(super) fn collect(&self, next: &mut State, step: Step) -> Option<()> {
        let (Step::Choose(who, _) | Step::Raise(who) | Step::Delete(who, _) | Step::End(who)) = step else {
            return None;
        };
        let mut g = next.collectors[usize::from(who)];
        let deletes_first = self.has(Mutation::DeleteBeforeFloor);
        match (step, g.at) {
            (Step::Choose(_, floor), Pass::Idle) => {
                let end = if self.has(Mutation::LatestCollected) { next.top() + 1 } else { next.top() };
                if floor >= end || floor < next.floor {
                    return None;
                }
                let is_raised = floor == next.floor || deletes_first;
                g = Collector { at: if is_raised { Pass::Delete } else { Pass::Raise }, floor };
            }
            (Step::Raise(_), Pass::Raise) => {
                let highest = next.floor.max(g.floor);
                next.floor = if self.has(Mutation::FloorGoesBack) { g.floor } else { highest };
                g.at = if deletes_first { Pass::Idle } else { Pass::Delete };
            }
            (Step::Delete(_, slot), Pass::Delete) => {
                if slot > g.floor || next.slot(slot) == 0 {
                    return None;
                }
                next.slots[usize::from(slot - 1)] = 0;
            }
            (Step::End(_), Pass::Delete) => {
                g.at = if deletes_first && g.floor > next.floor { Pass::Raise } else { Pass::Idle };
            }
            _ => return None,
        }
        if g.at == Pass::Idle {
            g = Collector::default();
        }
        next.collectors[usize::from(who)] = g;
        Some(())
    }
}
