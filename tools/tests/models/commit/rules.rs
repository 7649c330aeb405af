//! What the model of the commit rule promises, and what its bounds must reach.

use stateright::Property;

use super::{
    Commit,
    state::{At, Pass, SLOTS, State, Verdict},
};

impl Commit {
    pub(super) fn rules(&self) -> Vec<Property<Self>> {
        fn attempts(s: &State) -> impl Iterator<Item = u8> {
            1..=s.made
        }
        fn was(s: &State, attempt: u8, verdict: Verdict) -> bool {
            s.attempt(attempt).verdict == verdict
        }
        vec![
            Property::always("the chain is one", |_, s: &State| {
                (2..=SLOTS as u8)
                    .filter(|slot| s.chain(*slot) != 0)
                    .all(|slot| s.chain(slot - 1) != 0 && s.attempt(s.chain(slot)).base == s.chain(slot - 1))
            }),
            Property::always("what was reported as committed is in the chain", |_, s: &State| {
                attempts(s).filter(|a| was(s, *a, Verdict::Committed)).all(|a| s.is_in_chain(a))
            }),
            Property::always("what was reported as not committed is not in the chain", |_, s: &State| {
                attempts(s).filter(|a| was(s, *a, Verdict::NotCommitted)).all(|a| !s.is_in_chain(a))
            }),
            Property::always("what is believed is in the chain", |_, s: &State| {
                s.committers.iter().all(|c| c.base == 0 || s.is_in_chain(c.base))
            }),
            Property::always("what lies above the floor is of the chain", |_, s: &State| {
                (s.floor + 1..=SLOTS as u8).all(|slot| s.slot(slot) == s.chain(slot))
            }),
            Property::always("the latest is there, above the floor", |_, s: &State| {
                let latest = (1..=SLOTS as u8).rev().find(|slot| s.chain(*slot) != 0);
                latest.is_some_and(|slot| slot > s.floor && s.slot(slot) == s.chain(slot))
            }),
            Property::sometimes("a create lands where a version was deleted", |_, s: &State| {
                (1..=SLOTS as u8).any(|slot| s.slot(slot) != 0 && s.slot(slot) != s.chain(slot))
            }),
            Property::sometimes("a void create finds that out by the floor", |_, s: &State| {
                s.committers.iter().any(|c| {
                    c.at == At::Verify && s.attempt(c.attempt).slot <= s.floor && !s.is_in_chain(c.attempt)
                })
            }),
            Property::sometimes("the ring lists the attempt itself", |model, s: &State| {
                model.bounds.ring < 2
                    || s.committers
                        .iter()
                        .any(|c| c.at == At::CheckFloor && model.is_listed(s, c) == Some(true))
            }),
            Property::sometimes("the ring lists another", |model, s: &State| {
                s.committers.iter().any(|c| c.at == At::CheckFloor && model.is_listed(s, c) == Some(false))
            }),
            Property::sometimes("the ring does not reach back", |model, s: &State| {
                usize::from(model.bounds.attempts) < model.bounds.ring + 3
                    || s.committers.iter().any(|c| {
                        c.at == At::CheckFloor
                            && c.attempt != 0
                            && s.attempt(c.found).slot > s.floor
                            && model.is_listed(s, c).is_none()
                    })
            }),
            Property::sometimes("an unknown outcome is a commit", |_, s: &State| {
                attempts(s).any(|a| was(s, a, Verdict::Unknown) && s.is_in_chain(a))
            }),
            Property::sometimes("an unknown outcome is none", |_, s: &State| {
                attempts(s).any(|a| was(s, a, Verdict::Unknown) && !s.is_in_chain(a))
            }),
            Property::sometimes("a slow collector writes a lower mark", |model, s: &State| {
                model.bounds.collectors < 2
                    || s.collectors.iter().any(|g| g.at == Pass::Raise && g.floor < s.floor)
            }),
        ]
    }
}
