//! What the collector does with the job log and the versions.

use super::{
    Takeover,
    mutation::Mutation,
    state::{Collector, INPUTS, Kind, Pass, SLOTS, State, Step, bits, name_of},
};

impl Takeover {
    pub(super) fn collect(&self, next: &mut State, step: Step) -> Option<()> {
        let s = next.clone();
        let gc = &mut next.collector;
        match (step, gc.at) {
            (Step::Begin, Pass::Idle) => {
                gc.at = Pass::FloorRead;
                gc.floor = s.floor;
                next.older = 0;
                if self.has(Mutation::RootBeforeLog) {
                    gc.early = (s.latest, s.epoch, s.counter_floor);
                }
            }
            (Step::ListLog, Pass::FloorRead) => {
                for slot in 1..=SLOTS as u8 {
                    if s.record(slot).kind != Kind::Absent {
                        gc.listed |= 1 << (slot - 1);
                    }
                }
                gc.at = Pass::Listed;
            }
            (Step::ReadRecords, Pass::Listed) => {
                let floor = if self.has(Mutation::FloorOnlyAfterTheRecords) { s.floor } else { gc.floor };
                if floor != s.floor && !self.has(Mutation::FloorOnlyBeforeTheList) {
                    (gc.floor, gc.listed) = (s.floor, 0);
                    gc.at = Pass::FloorRead;
                    return Some(());
                }
                let listed = gc.listed;
                let is_read = |slot: u8| listed & (1 << (slot - 1)) != 0 && slot > floor;
                let reading = self.read(&s, is_read, false, true);
                gc.newest = reading.newest;
                gc.named = if self.has(Mutation::LogIgnored) { 0 } else { reading.names };
                (gc.floor, gc.listed) = (0, 0);
                gc.at = Pass::LogRead;
            }
            (Step::ReadVersions, Pass::LogRead) => {
                let (latest, epoch, counter_floor) = if self.has(Mutation::RootBeforeLog) {
                    gc.early
                } else {
                    (s.latest, s.epoch, s.counter_floor)
                };
                let older = if self.has(Mutation::LatestVersionOnly) { 0 } else { s.older };
                let newest = if self.has(Mutation::EpochFromTheRoot) { epoch } else { gc.newest };
                let kept = latest | older | gc.named | INPUTS;
                gc.doomed = bits(!kept)
                    .filter(|sst| {
                        let (e, counter) = name_of(*sst);
                        e < newest || (e == epoch && counter < counter_floor)
                    })
                    .sum();
                gc.doomed &= s.stored | s.may_be_uploaded();
                (gc.newest, gc.named, gc.early) = (0, 0, (0, 0, 0));
                gc.at = Pass::Deleting;
                if gc.doomed == 0 {
                    *gc = Collector::default();
                }
            }
            (Step::Delete(sst), Pass::Deleting) => {
                // The list of SSTs may have been made at any moment up to now.
                if gc.doomed & s.stored & sst == 0 {
                    return None;
                }
                next.stored &= !sst;
            }
            (Step::End, Pass::Deleting) => *gc = Collector::default(),
            _ => return None,
        }
        Some(())
    }
}
