//! A pass of the collector, task after task.

use super::{
    Collect,
    mutation::Mutation,
    state::{Collector, Pass, State, Step, Task, bits},
};

impl Collect {
    /// What a collector does one after another.
    pub(super) fn tasks(&self) -> [Task; 5] {
        use Task::{Checkpoints, Drop, Pins, Raise, Versions};
        match self.mutation {
            Some(Mutation::PinsBeforeFloor) => [Pins, Raise, Drop, Checkpoints, Versions],
            Some(Mutation::CheckpointsBeforePins) => [Raise, Drop, Checkpoints, Pins, Versions],
            Some(Mutation::DropBeforeFloor) => [Drop, Raise, Pins, Checkpoints, Versions],
            _ => [Raise, Drop, Pins, Checkpoints, Versions],
        }
    }

    pub(super) fn collect(&self, next: &mut State, step: Step) -> Option<()> {
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
    pub(super) fn read_newer(&self, s: &State, gc: &mut Collector) {
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

    /// What a pass that is about to delete has kept, stored and settled, though no version above the floor names it.
    pub(super) fn kept_besides_versions(&self, s: &State) -> u8 {
        let deleting = s.collectors.iter().filter(|gc| gc.at == Pass::Deleting);
        let kept = deleting.fold(0, |kept, gc| kept | !gc.doomed);
        let settled: u8 = bits(s.stored).filter(|sst| s.is_settled(*sst, None)).sum();
        kept & settled & !s.named_by_versions()
    }
}
