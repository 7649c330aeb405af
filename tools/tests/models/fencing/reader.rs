//! What a strong read does: a walk, then a look at the manifest.

use super::{
    Fencing,
    mutation::Mutation,
    state::{ABSENT, Fault, Reader, Reading, Root, State, Step, Walk},
};

impl Fencing {
    pub(super) fn read(&self, next: &mut State, step: Step) -> Option<()> {
        let s = next.clone();
        let r = &mut next.reader;
        match (step, r.at) {
            (Step::Read(anew), Reading::No) if r.reads < self.bounds.reads => {
                if anew {
                    (r.version, r.place) = (s.root, Walk { found: s.root.flushed, ..Walk::start(&s.root) });
                } else if r.version == Root::default() {
                    return None;
                }
                if self.has(Mutation::VersionBeforeWalk) {
                    Self::adopt(r, s.root);
                }
                r.walk = r.place;
                r.must = s.acknowledged | r.shown;
                r.at = Reading::Walk;
            }
            (Step::ReadSlot, Reading::Walk) => match s.object(r.walk.slot) {
                ABSENT => r.at = Reading::Check,
                object => r.walk.pass(object, self.jump()),
            },
            (Step::Check, Reading::Check) => {
                r.at = Reading::Walk;
                let is_newer = s.root != r.version;
                if !self.has(Mutation::TailTrusted) && !self.has(Mutation::VersionBeforeWalk) {
                    let boundary = if self.has(Mutation::BoundaryAtTheTail) { r.walk } else { r.place };
                    let is_overtaken = s.root.replay_from > boundary.slot;
                    r.walk.found |= s.root.flushed;
                    if is_overtaken {
                        Self::adopt(r, s.root);
                        r.walk = r.place;
                        return Some(());
                    }
                    r.version = s.root;
                    let is_behind = s.object(r.walk.slot) == ABSENT
                        && (s.object(s.root.fence_slot) == ABSENT
                            || self.goes_on_behind(&s, r.walk.slot, s.root.fence_epoch));
                    if r.walk.slot <= r.version.tail_hint && is_newer {
                        r.place = r.walk;
                        return Some(());
                    }
                    if r.walk.slot <= r.version.tail_hint || is_behind {
                        next.fault = Fault::Hole;
                        return Some(());
                    }
                }
                r.place = r.walk;
                if r.must & !r.walk.found != 0 {
                    next.fault = Fault::StaleRead;
                }
                let (reads, shown) = (r.reads + 1, r.shown | r.walk.found);
                (r.at, r.walk, r.must) = (Reading::No, Walk::default(), 0);
                if reads == self.bounds.reads {
                    *r = Reader::default();
                }
                (r.reads, r.shown) = (reads, shown);
            }
            _ => return None,
        }
        Some(())
    }

    /// The reader has `version`, and begins where that says that the log does.
    pub(super) fn adopt(r: &mut Reader, version: Root) {
        if version.replay_from > r.place.slot {
            r.place = Walk { found: r.place.found, ..Walk::start(&version) };
        }
        r.place.found |= version.flushed;
        r.version = version;
    }
}
