//! What a writer does: it opens, writes, acknowledges, flushes.

use super::{
    Fencing,
    mutation::Mutation,
    state::{ABSENT, At, Fault, Object, Root, State, Step, Walk, Writer, older},
};

impl Fencing {
    pub(super) fn open(&self, next: &mut State, step: Step) -> Option<()> {
        let s = next.clone();
        let (Step::Claim(e) | Step::Walk(e) | Step::SeeFence(e) | Step::Validate(e)) = step else {
            return None;
        };
        let w = &mut next.writers[usize::from(e - 1)];
        let is_superseded = s.root.epoch > e;
        match (step, w.at) {
            (Step::Claim(_), At::Away) if s.root.epoch == e - 1 => {
                w.at = At::Walk;
                w.walk = Walk::start(&s.root);
                (w.tail_hint, w.fence_slot, w.fence_epoch) =
                    (s.root.tail_hint, s.root.fence_slot, s.root.fence_epoch);
                next.root.epoch = e;
            }
            (Step::Walk(_), At::Walk) => {
                let object = s.object(w.walk.slot);
                if object != ABSENT {
                    if object.epoch() > e && !self.has(Mutation::NewerEpochIgnored) {
                        return None;
                    }
                    w.walk.pass(object, self.jump());
                } else if w.walk.slot <= w.tail_hint
                    || s.object(w.fence_slot) == ABSENT
                    || self.goes_on_behind(&s, w.walk.slot, w.fence_epoch)
                {
                    if is_superseded {
                        return None;
                    }
                    next.fault = Fault::Hole;
                } else {
                    w.fences |= 1 << w.walk.slot;
                    w.at = At::Fence;
                }
            }
            (Step::SeeFence(_), At::Fence) => match s.object(w.walk.slot) {
                ABSENT => return None,
                object if object == Object::fence(e) || self.has(Mutation::AnothersTakenForOwnFence) => {
                    if self.has(Mutation::OwnFenceTakenForAnothers) && !is_superseded {
                        next.fault = Fault::FencedByNone;
                    } else if self.has(Mutation::NotValidated) {
                        Self::run(w, &s.root);
                    } else {
                        w.at = At::Validate;
                    }
                }
                _ => w.at = At::Walk,
            },
            (Step::Validate(_), At::Validate) if !is_superseded => {
                if s.root.replay_from > w.walk.slot {
                    next.fault = Fault::Hole;
                }
                (next.root.fence_slot, next.root.fence_epoch) = (w.walk.slot, e);
                next.root.tail_hint = s.root.tail_hint.max(w.walk.slot);
                Self::run(w, &s.root);
            }
            _ => return None,
        }
        Some(())
    }

    /// Its FENCE is in place, and what is in SSTs or was replayed is all there is.
    pub(super) fn run(w: &mut Writer, root: &Root) {
        w.at = At::Run;
        w.walk.found |= root.flushed;
        (w.walk.max_epoch, w.tail_hint, w.fence_slot, w.fence_epoch) = (0, 0, 0, 0);
    }

    pub(super) fn write(&self, next: &mut State, step: Step) -> Option<()> {
        let s = next.clone();
        let (Step::Send(e) | Step::Acknowledge(e, _) | Step::Flush(e, _)) = step else { return None };
        let w = &mut next.writers[usize::from(e - 1)];
        let acked = s.acked(e);
        if w.at != At::Run {
            return None;
        }
        match step {
            Step::Send(_) => {
                let room = self.bounds.window + u8::from(self.has(Mutation::WindowOverrun));
                if w.sent >= self.bounds.puts[usize::from(e - 1)] || w.sent - acked >= room {
                    return None;
                }
                w.durable[usize::from(w.sent)] =
                    if self.has(Mutation::DurableWhenSent) { w.sent } else { acked };
                w.sent += 1;
            }
            Step::Acknowledge(_, n) => {
                let own = Object::data(e, n);
                let is_next = n == acked || self.has(Mutation::AcknowledgedOutOfOrder);
                if n >= w.sent || s.acknowledged & own.bit() != 0 || !is_next {
                    return None;
                }
                match s.object(self.slot_of(&s, e, n)) {
                    ABSENT if !self.has(Mutation::AcknowledgedOnTimeout) => return None,
                    object if object == own && self.has(Mutation::OwnWriteTakenForAnothers) => {
                        next.fault = Fault::FencedByNone;
                    }
                    object
                        if object == ABSENT
                            || object == own
                            || self.has(Mutation::AnothersTakenForOwnWrite) =>
                    {
                        next.acknowledged |= own.bit();
                    }
                    object if object.epoch() > e => return None,
                    _ => next.fault = Fault::FencedByNone,
                }
            }
            Step::Flush(_, to) => {
                if (s.root.epoch > e && !self.has(Mutation::FlushUnfenced)) || to <= s.root.replay_from {
                    return None;
                }
                let durable = s.acknowledged & !older(e) & older(e + 1);
                next.root.flushed |= self.before(&s, w.walk.found | durable, to);
                next.root.replay_from = to;
                let last = if acked == 0 { w.walk.slot } else { self.slot_of(&s, e, acked - 1) };
                next.root.tail_hint = s.root.tail_hint.max(last);
            }
            _ => return None,
        }
        Some(())
    }
}
