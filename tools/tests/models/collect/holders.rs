//! What holds a version: readers with pins, and the maker of checkpoints.

use super::{
    Collect,
    mutation::Mutation,
    state::{At, Checkpoint, Holder, State, Step, bits},
};

impl Collect {
    /// What the pin of `holder` names, if it is in the store and young enough.
    pub(super) fn pinned(&self, holder: &Holder, is_reader: bool) -> u8 {
        let is_written = match holder.at {
            At::Pinned => true,
            At::Created if is_reader => false,
            At::Held if is_reader => !self.has(Mutation::ReleasedAtOnce),
            At::Held | At::Created => !self.has(Mutation::CheckpointWithoutPin),
            At::Idle | At::Chosen | At::Expired => false,
        };
        if is_written && !holder.has_lapsed { holder.names } else { 0 }
    }

    pub(super) fn all_pinned(&self, s: &State) -> u8 {
        let readers = s.readers.iter().fold(0, |named, reader| named | self.pinned(reader, true));
        readers | self.pinned(&s.maker, false) | s.left_behind
    }

    /// Chooses the latest version, which names `names`, if nothing speaks against it.
    pub(super) fn choose(&self, s: &State, again: Holder, names: u8) -> Option<Holder> {
        (names != 0).then_some(Holder { at: At::Chosen, version: s.latest, names, unread: names, ..again })
    }

    pub(super) fn read(&self, next: &mut State, step: Step) -> Option<()> {
        let s = next.clone();
        let (Step::Choose(r)
        | Step::WritePin(r)
        | Step::WritePinLater(r)
        | Step::CheckFloor(r)
        | Step::Read(r)
        | Step::Release(r)
        | Step::Lapse(r)) = step
        else {
            return None;
        };
        let reader = next.reader(r);
        let again = Holder { finished: reader.finished, ..Holder::default() };
        match (step, reader.at) {
            (Step::Choose(_), At::Idle) if reader.finished < self.bounds.scans[usize::from(r)] => {
                *reader = self.choose(&s, again, s.names(s.latest))?;
            }
            (Step::WritePin(_), At::Chosen) => {
                reader.at = if self.has(Mutation::NoFloorCheckOfPin) { At::Held } else { At::Pinned };
            }
            (Step::CheckFloor(_), At::Chosen) if self.has(Mutation::FloorCheckBeforePin) => {
                *reader =
                    if reader.version > s.floor { Holder { at: At::Created, ..*reader } } else { again };
            }
            (Step::WritePin(_), At::Created) => reader.at = At::Held,
            (Step::WritePinLater(_), At::Chosen) => {
                let names = reader.names;
                if s.flying_pin != 0 || s.in_flight() >= self.bounds.flights {
                    return None;
                }
                next.flying_pin = names;
            }
            (Step::CheckFloor(_), At::Pinned) => {
                if reader.version > s.floor {
                    reader.at = At::Held;
                } else {
                    *reader = again;
                }
            }
            (Step::Read(_), At::Held) => {
                let sst = bits(reader.unread).next()?;
                reader.unread &= !sst;
                reader.has_missed |= s.stored & sst == 0;
            }
            (Step::Release(_), At::Held | At::Expired) => {
                *reader = Holder { finished: reader.finished + 1, has_missed: reader.has_missed, ..again };
            }
            (Step::Lapse(_), At::Pinned) => *reader = again,
            (Step::Lapse(_), At::Held) if self.has(Mutation::LapsedGoesOn) && !reader.has_lapsed => {
                reader.has_lapsed = true;
            }
            (Step::Lapse(_), At::Held) if !reader.has_lapsed => {
                *reader = Holder { at: At::Expired, ..again };
            }
            _ => return None,
        }
        Some(())
    }

    pub(super) fn make(&self, next: &mut State, step: Step) -> Option<()> {
        let s = next.clone();
        let maker = &mut next.maker;
        let again = Holder { finished: maker.finished, ..Holder::default() };
        let over = Holder { finished: maker.finished + 1, ..Holder::default() };
        match (step, maker.at) {
            (Step::MakerChooses, At::Idle) if maker.finished < self.bounds.checkpoints => {
                *maker = Holder { unread: 0, ..self.choose(&s, again, s.names(s.latest))? };
                if s.checkpoint.is_some() {
                    return None;
                }
                if self.has(Mutation::CheckpointWithoutPin) {
                    maker.at = At::Held;
                }
            }
            (Step::MakerPins, At::Chosen) => maker.at = At::Pinned,
            (Step::MakerChecksFloor, At::Pinned) => {
                if maker.version > s.floor && !maker.has_lapsed || self.has(Mutation::NoFloorCheckOfPin) {
                    maker.at = At::Held;
                } else {
                    *maker = again;
                }
            }
            (Step::Create, At::Held) => {
                maker.at = At::Created;
                // Its own may be there already.
                if s.checkpoint.is_none() {
                    next.checkpoint = Some(Checkpoint { names: s.maker.names, counts: !s.maker.has_lapsed });
                }
            }
            (Step::CreateLater, At::Held) => {
                if s.flying_checkpoint != 0 || s.in_flight() >= self.bounds.flights {
                    return None;
                }
                next.flying_checkpoint = s.maker.names;
            }
            (Step::MakerGivesUp, At::Held) => *maker = over,
            (Step::Confirm, At::Created) => {
                let is_kept = !maker.has_lapsed
                    || maker.version > s.floor
                    || self.has(Mutation::NoFloorCheckOfCheckpoint);
                *maker = over;
                if let Some(checkpoint) = &mut next.checkpoint {
                    checkpoint.counts |= is_kept;
                }
            }
            (Step::MakerLapses, At::Pinned | At::Held | At::Created) if !maker.has_lapsed => {
                maker.has_lapsed = true;
            }
            _ => return None,
        }
        Some(())
    }
}
