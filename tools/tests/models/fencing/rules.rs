//! What the model of writers that fence one another promises, and what its bounds must reach.

use stateright::Property;

use super::{
    Fencing,
    state::{ABSENT, At, Fault, Reading, State, Writer, bits, older},
};

impl Fencing {
    pub(super) fn rules(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always("what was acknowledged is in SSTs or replayed", |model: &Self, s: &State| {
                s.acknowledged & !model.known(s) == 0
            }),
            Property::always(
                "once an opener runs, older epochs acknowledge only what it replayed",
                |_, s: &State| s.ran().all(|e| s.acknowledged & older(e) & !s.writer(e).walk.found == 0),
            ),
            Property::always("what an opener did not see never comes back", |model: &Self, s: &State| {
                let known = model.known(s);
                s.ran().all(|e| known & older(e) & !s.writer(e).walk.found == 0)
            }),
            Property::always("void slots are never replayed", |model: &Self, s: &State| {
                let replayed = s.ran().map(|e| s.writer(e).walk.found).fold(0, |all, found| all | found);
                model.void(s) & (model.known(s) | replayed) == 0
            }),
            Property::always("what a read has shown stays", |model: &Self, s: &State| {
                s.reader.shown & !model.known(s) == 0
            }),
            Property::always("a strong read shows what was there before it", |_, s: &State| {
                s.fault != Fault::StaleRead
            }),
            Property::always("only a newer epoch fences", |_, s: &State| s.fault != Fault::FencedByNone),
            Property::always("nothing is taken for lost", |_, s: &State| s.fault != Fault::Hole),
        ];
        properties.extend(self.marks());
        properties
    }

    /// What these bounds must reach.
    fn marks(&self) -> Vec<Property<Self>> {
        let mut marks = vec![Property::sometimes("a flush goes past what was replayed", |_, s: &State| {
            s.ran().any(|e| {
                e > 1 && s.root.replay_from > s.writer(e).walk.slot && s.root.flushed & older(e) != 0
            })
        })];
        if self.bounds.puts[0] > 1 {
            marks.extend([
                Property::sometimes("a stray lands behind a fence", |model: &Self, s: &State| {
                    let void = model.void(s);
                    s.log.iter().any(|object| object.bit() & void != 0)
                }),
                Property::sometimes(
                    "an older writer acknowledges after a newer one has its epoch",
                    |_, s: &State| {
                        let late = |w: &Writer| w.at == At::Walk && w.fences & 1 << w.walk.slot != 0;
                        late(s.writer(2)) && s.acknowledged & s.object(s.writer(2).walk.slot).bit() != 0
                    },
                ),
            ]);
        }
        if self.bounds.epochs > 2 {
            marks.extend([
                Property::sometimes("an older writer is quicker than a fence", |_, s: &State| {
                    s.writers.iter().any(|w| w.at == At::Walk && w.fences & 1 << w.walk.slot != 0)
                }),
                Property::sometimes(
                    "an opener finds itself superseded with its fence in place",
                    |_, s: &State| {
                        s.writers.iter().zip(1..).any(|(w, e)| w.at == At::Validate && e < s.root.epoch)
                    },
                ),
                Property::sometimes("a fence lands where a write was collected", |_, s: &State| {
                    let at = |slot: u8| s.object(slot) != ABSENT && s.object(slot).is_fence();
                    bits(s.deletes).any(|slot| slot < s.root.replay_from && at(slot))
                }),
                Property::sometimes("an opener replays two epochs", |_, s: &State| {
                    let replayed = s.writer(3).walk.found;
                    s.writer(3).at == At::Run && replayed & older(2) != 0 && replayed & !older(2) != 0
                }),
            ]);
        }
        if self.bounds.reads > 0 {
            marks.push(Property::sometimes("a walk is discarded", |_, s: &State| {
                s.reader.at == Reading::Check && s.root.replay_from > s.reader.place.slot
            }));
        }
        // With one object in flight nothing lies behind a gap for a walk to miss.
        if self.bounds.reads > 0 && self.bounds.epochs > 2 && self.bounds.window > 1 {
            marks.push(Property::sometimes(
                "a fence where a write was leads a walk past the log",
                |_, s: &State| {
                    let r = &s.reader;
                    let is_inside = s.root.replay_from > r.place.slot && s.root.replay_from <= r.walk.slot;
                    r.at == Reading::Check && is_inside && r.must & !(r.walk.found | s.root.flushed) != 0
                },
            ));
        }
        if self.bounds.reads > 1 {
            marks.push(Property::sometimes(
                "a read goes on where the one before has ended",
                |_, s: &State| {
                    let r = &s.reader;
                    r.reads > 0
                        && r.at == Reading::Check
                        && r.place.slot > r.version.replay_from
                        && r.walk.slot > r.place.slot
                },
            ));
        }
        marks
    }
}
