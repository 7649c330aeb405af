//! What the model of collection beside writers, pins and checkpoints promises, and what its bounds must reach.

use stateright::Property;

use super::{
    Collect,
    state::{At, Pass, State, bits, name_of},
};

impl Collect {
    pub(super) fn rules(&self) -> Vec<Property<Self>> {
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
