//! What the model of compactors that take over from one another promises, and what its bounds must reach.

use stateright::Property;

use super::{
    Takeover,
    state::{At, Kind, State, bits, name_of},
};

impl Takeover {
    pub(super) fn rules(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("a version that exists names no deleted SST", |_, s: &State| {
                (s.latest | s.older) & !s.stored == 0
            }),
            Property::sometimes("adopted outputs are committed", |_, s: &State| {
                s.compactors.iter().any(|c| c.at == At::Finish && c.from != 0 && s.latest & c.outputs != 0)
            }),
            Property::sometimes("outputs are adopted twice", |model, s: &State| {
                model.bounds.epochs < 3
                    || s.compactors
                        .iter()
                        .any(|c| c.from != 0 && s.record(c.from).epoch == 2 && c.outputs & 3 != 0)
            }),
            Property::sometimes("an adoption is refused because of the floor", |model, s: &State| {
                model.bounds.epochs < 3
                    || s.compactors.iter().any(|c| c.at == At::CheckAdopt && s.floor >= c.from)
            }),
            Property::sometimes("outputs of a superseded epoch are collected", |_, s: &State| {
                bits(s.collector.doomed & s.stored).any(|sst| name_of(sst).0 < s.epoch)
            }),
            Property::sometimes("outputs given up are collected", |_, s: &State| {
                bits(s.collector.doomed & s.stored).any(|sst| name_of(sst).0 == s.epoch)
            }),
            Property::sometimes("records are deleted", |_, s: &State| s.log[0].kind == Kind::Absent),
            Property::sometimes("a create lands where a record was deleted", |model, s: &State| {
                let free = |slot: u8| slot != 0 && slot <= s.floor && s.record(slot).kind == Kind::Absent;
                model.bounds.flights == 0
                    || (s.log[0].kind == Kind::Absent && s.flights.iter().any(|(slot, _)| free(*slot)))
            }),
        ]
    }
}
