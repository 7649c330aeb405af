//! What lies where in the log, and what it says to an opener.

use super::{
    Fencing,
    mutation::Mutation,
    state::{ABSENT, EPOCHS, Object, PUTS, SLOTS, State, Walk, bits},
};

impl Fencing {
    /// How far a FENCE leads.
    pub(super) fn jump(&self) -> u8 {
        match self.mutation {
            Some(Mutation::NoJump) => 1,
            Some(Mutation::ShortJump) => self.bounds.window - 1,
            _ => self.bounds.window,
        }
    }

    /// The slot of write `n` of `e`, which runs or has run.
    pub(super) fn slot_of(&self, s: &State, e: u8, n: u8) -> u8 {
        s.writer(e).walk.slot + self.jump() + n
    }

    /// What `e` says in its write `n` was the last durable slot.
    pub(super) fn durable_to(&self, s: &State, e: u8, n: u8) -> u8 {
        match s.writer(e).durable[usize::from(n)] {
            0 => s.writer(e).walk.slot,
            count => self.slot_of(s, e, count - 1),
        }
    }

    /// Whether objects behind the absent `slot` show that there was one in it; a FENCE does if it is not older than
    /// the last whose writer is known to have been let in, that of `fence_epoch`.
    pub(super) fn goes_on_behind(&self, s: &State, slot: u8, fence_epoch: u8) -> bool {
        let beyond = slot + self.bounds.window;
        let shows = |behind: u8, object: Object| {
            if object == ABSENT {
                return false;
            }
            if object.is_fence() {
                return behind >= beyond || object.epoch() >= fence_epoch;
            }
            let n = (object.0 - 8) % PUTS;
            behind >= beyond
                || self.durable_to(s, object.epoch(), n) >= slot
                || self.has(Mutation::AnythingBehindIsAHole)
        };
        (slot + 1..=SLOTS as u8).any(|behind| shows(behind, s.object(behind)))
    }

    /// What an opener would know that came now.
    pub(super) fn known(&self, s: &State) -> u16 {
        let mut walk = Walk::start(&s.root);
        loop {
            match s.object(walk.slot) {
                ABSENT => return s.root.flushed | walk.found,
                object => walk.pass(object, self.jump()),
            }
        }
    }

    /// Of `writes`, those that lie before `slot`.
    pub(super) fn before(&self, s: &State, writes: u16, slot: u8) -> u16 {
        bits(writes.into())
            .filter(|bit| self.slot_of(s, bit / PUTS + 1, bit % PUTS) < slot)
            .fold(0, |mask, bit| mask | 1 << bit)
    }

    /// Writes that lie behind the FENCE of a newer epoch which has run.
    pub(super) fn void(&self, s: &State) -> u16 {
        let sent = |e: u8| (0..s.writer(e).sent).map(move |n| (e, n));
        (1..=EPOCHS as u8)
            .flat_map(sent)
            .filter(|(e, n)| {
                s.ran().any(|newer| newer > *e && s.writer(newer).walk.slot <= self.slot_of(s, *e, *n))
            })
            .fold(0, |mask, (e, n)| mask | Object::data(e, n).bit())
    }

    /// Where a flush of `e` may put the replay point: behind any object that was replayed, to the FENCE, behind the
    /// jump, behind any acknowledged write.
    pub(super) fn replay_points(&self, s: &State, e: u8) -> u32 {
        let w = s.writer(e);
        let own = if self.has(Mutation::ReplayPointAhead) { w.sent } else { s.acked(e) };
        let behind_own = (0..=own).fold(1 << w.walk.slot, |mask, n| mask | 1 << self.slot_of(s, e, n));
        bits(w.walk.found.into())
            .map(|bit| self.slot_of(s, bit / PUTS + 1, bit % PUTS) + 1)
            .fold(behind_own, |mask, slot| mask | 1 << slot)
    }
}
