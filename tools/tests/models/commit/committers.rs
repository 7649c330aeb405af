//! What a committer does: it reads, creates, looks, and reports.

use super::{
    Commit,
    mutation::Mutation,
    state::{At, Attempt, Committer, State, Step, Verdict},
};

impl Commit {
    pub(super) fn commit(&self, next: &mut State, step: Step) -> Option<()> {
        let (Step::List(who)
        | Step::Get(who)
        | Step::GetNext(who)
        | Step::CheckFloor(who)
        | Step::Start(who)
        | Step::Create(who)
        | Step::CreateLater(who)
        | Step::Refuse(who)
        | Step::Look(who)
        | Step::Verify(who)
        | Step::GiveUp(who)) = step
        else {
            return None;
        };
        let mut c = next.committers[usize::from(who)];
        let own = if c.attempt == 0 { Attempt::default() } else { next.attempt(c.attempt) };
        match (step, c.at) {
            (Step::List(_), At::List) => {
                c.slot = next.top();
                // A database without versions is an error.
                if c.slot == 0 {
                    return None;
                }
                if !self.has(Mutation::FloorBeforeGet) || c.slot > next.floor {
                    c.at = At::Get;
                }
            }
            (Step::Get(_), At::Get) => {
                c.found = next.slot(c.slot);
                self.read(next, &mut c);
            }
            (Step::GetNext(_), At::Idle) => {
                c.slot = next.attempt(c.base).slot + 1;
                if c.slot > self.bounds.slots || next.slot(c.slot) == 0 {
                    return None;
                }
                if self.has(Mutation::FloorBeforeGet) {
                    c.at = At::Get;
                } else {
                    c.found = next.slot(c.slot);
                    self.read(next, &mut c);
                }
            }
            (Step::CheckFloor(_), At::CheckFloor) => {
                if next.attempt(c.found).slot > next.floor {
                    self.believe(next, &mut c);
                } else {
                    (c.at, c.found) = (At::List, 0);
                }
            }
            (Step::Start(_), At::Idle) => {
                let slot = next.attempt(c.base).slot + 1;
                if slot > self.bounds.slots {
                    return None;
                }
                self.start(next, &mut c, slot)?;
            }
            (Step::Create(_), At::Create) => {
                if next.slot(own.slot) == 0 {
                    next.land(c.attempt);
                    self.verify(next, &mut c);
                } else if self.has(Mutation::VerdictByErrorKind) {
                    Self::report(next, &mut c, Verdict::NotCommitted);
                } else {
                    // It was not ours to write, or we have written it before.
                    (c.at, c.is_sent) = (At::Look, true);
                }
            }
            (Step::CreateLater(_), At::Create) => {
                let free = next.flights[..self.bounds.flights].iter_mut().find(|flight| **flight == 0)?;
                *free = c.attempt;
                next.flights.sort_unstable_by(|a, b| b.cmp(a));
                (c.at, c.is_sent) = (At::Look, true);
            }
            (Step::Refuse(_), At::Create) if !c.is_sent || self.has(Mutation::RefusalAfterSending) => {
                Self::report(next, &mut c, Verdict::NotCommitted);
            }
            (Step::Look(_), At::Look) => match next.slot(own.slot) {
                0 if self.has(Mutation::DefeatWhileAbsent) => {
                    Self::report(next, &mut c, Verdict::NotCommitted);
                }
                0 if self.has(Mutation::OtherBytes) => {
                    next.of(c.attempt).verdict = Verdict::NotCommitted;
                    self.start(next, &mut c, own.slot)?;
                }
                0 => c.at = At::Create,
                found if found == c.attempt => self.verify(next, &mut c),
                _ if self.has(Mutation::RingIgnored) => Self::report(next, &mut c, Verdict::NotCommitted),
                _ => c.at = At::List,
            },
            (Step::Verify(_), At::Verify) => {
                let counts = match self.mutation {
                    Some(Mutation::PredecessorForFloor) => next.slot(own.slot - 1) == own.base,
                    _ => own.slot > next.floor,
                };
                if counts {
                    self.won(next, &mut c);
                } else {
                    c.at = At::List;
                }
            }
            (Step::GiveUp(_), at) if c.attempt != 0 && (at != At::Create || c.is_sent) => {
                Self::report(next, &mut c, Verdict::Unknown);
            }
            _ => return None,
        }
        if !matches!(c.at, At::Get) {
            c.slot = 0;
        }
        next.committers[usize::from(who)] = c;
        Some(())
    }

    pub(super) fn start(&self, next: &mut State, c: &mut Committer, slot: u8) -> Option<()> {
        if next.made >= self.bounds.attempts {
            return None;
        }
        next.made += 1;
        *next.of(next.made) = Attempt { slot, base: c.base, verdict: Verdict::None };
        (c.at, c.attempt, c.is_sent) = (At::Create, next.made, false);
        Some(())
    }

    /// A version was read, or was not there.
    pub(super) fn read(&self, next: &mut State, c: &mut Committer) {
        if c.found == 0 {
            c.at = At::List;
        } else if self.has(Mutation::FloorIgnored) || self.has(Mutation::FloorBeforeGet) {
            self.believe(next, c);
        } else {
            c.at = At::CheckFloor;
        }
    }

    /// Its bytes are in its slot.
    pub(super) fn verify(&self, next: &mut State, c: &mut Committer) {
        c.at = At::Verify;
        if self.has(Mutation::NoVerify) {
            self.won(next, c);
        }
    }

    pub(super) fn won(&self, next: &mut State, c: &mut Committer) {
        next.of(c.attempt).verdict = Verdict::Committed;
        *c = Committer { at: At::Idle, base: c.attempt, ..Committer::default() };
    }

    /// What was read is the latest version, which knows what became of an attempt.
    pub(super) fn believe(&self, next: &mut State, c: &mut Committer) {
        if c.attempt != 0 {
            let slot = next.attempt(c.attempt).slot;
            let verdict = match next.in_ring(c.found, slot, self.bounds.ring) {
                Some(listed) if listed == c.attempt || self.has(Mutation::RingWithoutToken) => {
                    Verdict::Committed
                }
                Some(_) => Verdict::NotCommitted,
                None if self.has(Mutation::ShortRingBelieved) => Verdict::NotCommitted,
                None => Verdict::Unknown,
            };
            next.of(c.attempt).verdict = verdict;
        }
        *c = Committer { at: At::Idle, base: c.found, ..Committer::default() };
    }

    /// The attempt is over, and its committer opens again.
    pub(super) fn report(next: &mut State, c: &mut Committer, verdict: Verdict) {
        next.of(c.attempt).verdict = verdict;
        *c = Committer::default();
    }

    /// Whether the version that a committer has read lists its attempt; `None` if it does not reach back.
    pub(super) fn is_listed(&self, s: &State, c: &Committer) -> Option<bool> {
        let own = c.attempt.checked_sub(1).map(|at| s.attempts[usize::from(at)])?;
        s.in_ring(c.found, own.slot, self.bounds.ring).map(|listed| listed == c.attempt)
    }
}
