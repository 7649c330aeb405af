//! Which steps of the model the compactors of the engine take:
//!
//! - it looks at the manifest before it reads the log, before a job and before it raises a floor: who is fenced by then stops;
//! - it uploads before it records, gives up only what it has uploaded, and raises floors between two jobs only (a mark that it
//!   had sent by then may land when it is fenced);
//! - it adopts the newest unfinished job above the floor, or ends it, and never passes one over;
//! - it stops at a record of a newer epoch in its way or, when it reads the log, anywhere in it, and when its own record
//!   lies under the floor;
//! - its collector deletes the records under the floor before it reads the versions.
//!
//! Walks are made of these, before anything is driven along them.

use super::{
    Takeover,
    state::{At, EPOCHS, Kind, SLOTS, State, Step},
};

/// What a compactor that is between two jobs is ready to do without looking at the manifest once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Ready {
    #[default]
    Nothing,
    Merge,
    RaiseFloor,
}

/// What is known of a compactor of the engine beside the state of the model.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Mind {
    pub(super) was: At,
    pub(super) ready: Ready,
    /// Whether it had the role when it looked, before it read the log; and what the version named.
    pub(super) is_holder: bool,
    pub(super) seen: u8,
}

/// Which steps of the model the engine takes.
#[derive(Debug, Default)]
pub(super) struct Engine([Mind; EPOCHS]);

impl Engine {
    pub(super) fn mind(&self, e: u8) -> Mind {
        self.0[usize::from(e - 1)]
    }

    /// Takes a look at `s`, which comes after the one seen before.
    pub(super) fn see(&mut self, s: &State) {
        for (e, mind) in (1..).zip(&mut self.0) {
            let c = &s.compactors[usize::from(e - 1)];
            let (was, holds) = (mind.was, s.epoch == e);
            mind.was = c.at;
            match c.at {
                At::Read if was != At::Read => (mind.is_holder, mind.seen) = (holds, s.latest),
                At::Idle if holds => {
                    mind.seen = s.latest;
                    let raises = c.takeover.saturating_sub(1) > s.floor && s.counter_floor >= c.counter;
                    mind.ready = if raises { Ready::RaiseFloor } else { Ready::Merge };
                }
                // Having read the log it goes on to merge.
                At::Idle if was == At::Read => mind.ready = Ready::Merge,
                At::Idle if was == At::Idle => {}
                _ => mind.ready = Ready::Nothing,
            }
        }
    }

    /// Whether the engine takes `step` from `s`.
    pub(super) fn takes(&mut self, s: &State, step: Step) -> bool {
        self.see(s);
        let seat = |e: u8| s.compactors[usize::from(e - 1)];
        match step {
            Step::Append(e) => {
                let c = seat(e);
                let found = s.record(c.slot.clamp(1, SLOTS as u8));
                let lands = found.kind == Kind::Absent || Takeover::next_record(&c, e) == Some(found);
                let is_void = lands && c.slot <= s.floor && c.at != At::Take;
                (c.at != At::Job || c.is_uploaded) && found.epoch <= e && !is_void
            }
            Step::AppendLater(e) => seat(e).at != At::Job || seat(e).is_uploaded,
            Step::CheckFloor(e) => seat(e).at != At::CheckAdopt || seat(e).job > s.floor,
            Step::ReadLog(e, from) => {
                let is_next = match Self::unfinished(s, e) {
                    None => from == 0,
                    Some(slot) => from == slot && self.makes_sense(s, e, slot),
                };
                self.mind(e).is_holder && !Self::is_overtaken(s, e) && is_next
            }
            Step::Decline(e, from) => {
                let is_next = Self::unfinished(s, e) == Some(from) && !self.makes_sense(s, e, from);
                self.mind(e).is_holder && !Self::is_overtaken(s, e) && is_next
            }
            Step::Start(e, input) => {
                let mind = self.mind(e);
                let is_ready = mind.ready == Ready::Merge || s.epoch == e;
                is_ready && mind.seen & input != 0 && s.stored & input != 0
            }
            Step::GiveUp(e) => seat(e).is_uploaded,
            Step::RaiseJobFloor(e) => seat(e).at == At::Idle && self.mind(e).ready == Ready::RaiseFloor,
            Step::ReadVersions => (1..=s.floor).all(|slot| s.record(slot).kind == Kind::Absent),
            _ => true,
        }
    }

    /// Whether compactor `e` would find in the log that another has taken over.
    fn is_overtaken(s: &State, e: u8) -> bool {
        let newer = |slot| s.record(slot).kind == Kind::Takeover && s.record(slot).epoch > e;
        (s.floor + 1..=SLOTS as u8).any(newer)
    }

    /// The job that compactor `e` has to decide about. One that names what an older one names carries that on.
    fn unfinished(s: &State, e: u8) -> Option<u8> {
        let (mut newest, mut open) = (0, Vec::<u8>::new());
        for slot in s.floor + 1..s.compactors[usize::from(e - 1)].takeover {
            let record = s.record(slot);
            match record.kind {
                Kind::Takeover => newest = newest.max(record.epoch),
                Kind::Job if record.epoch >= newest => {
                    open.retain(|older| s.record(*older).names != record.names);
                    open.push(slot);
                }
                Kind::Done if record.epoch >= newest => open.retain(|job| *job != record.names),
                _ => {}
            }
        }
        assert!(open.len() <= 1, "a compactor decides before it begins: {open:?}");
        open.pop()
    }

    /// Whether the input of the job in `slot` was in the version that compactor `e` saw, and its output is there.
    fn makes_sense(&self, s: &State, e: u8, slot: u8) -> bool {
        let job = s.record(slot);
        self.mind(e).seen & job.input != 0 && s.stored & job.names == job.names
    }
}
