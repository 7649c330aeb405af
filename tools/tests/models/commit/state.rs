//! The states of the model of the commit rule, and its steps.

pub(super) const COMMITTERS: usize = 3;

pub(super) const COLLECTORS: usize = 2;

pub(super) const SLOTS: usize = 6;

/// The first version is attempt 1. 0 is no attempt.
pub(super) const ATTEMPTS: usize = 7;

pub(super) const FLIGHTS: usize = 2;

/// What a committer was told of its attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) enum Verdict {
    /// Nothing: it goes on, or its committer is gone.
    #[default]
    None,
    Committed,
    NotCommitted,
    Unknown,
}

/// The bytes for one slot, with a token of their own. Their ring is what they build on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Attempt {
    pub(super) slot: u8,
    /// The attempt that it builds on.
    pub(super) base: u8,
    pub(super) verdict: Verdict,
}

/// Where a committer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) enum At {
    /// It must list the versions; with an attempt: to learn what became of it.
    #[default]
    List,
    /// It gets the version in `slot`.
    Get,
    /// It has read `found`, and compares the floor.
    CheckFloor,
    /// It believes `base`.
    Idle,
    Create,
    /// It has no definite answer, and reads its slot.
    Look,
    /// Its bytes are in its slot, and it compares the floor.
    Verify,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Committer {
    pub(super) at: At,
    /// The attempt that is the version it believes.
    pub(super) base: u8,
    /// The attempt it is at.
    pub(super) attempt: u8,
    /// Whether the bytes of that may be on their way.
    pub(super) is_sent: bool,
    pub(super) slot: u8,
    pub(super) found: u8,
}

/// Where a collector is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) enum Pass {
    #[default]
    Idle,
    Raise,
    Delete,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Collector {
    pub(super) at: Pass,
    pub(super) floor: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct State {
    /// The attempt whose bytes are in each slot.
    pub(super) slots: [u8; SLOTS],
    /// The attempt whose bytes were the first there. No one can read this.
    pub(super) chain: [u8; SLOTS],
    pub(super) floor: u8,
    pub(super) attempts: [Attempt; ATTEMPTS],
    pub(super) made: u8,
    /// The attempts whose creates may land later.
    pub(super) flights: [u8; FLIGHTS],
    pub(super) committers: [Committer; COMMITTERS],
    pub(super) collectors: [Collector; COLLECTORS],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Committer c lists the versions: the highest slot.
    List(u8),
    /// It gets that version.
    Get(u8),
    /// It gets the version after the one it believes, and finds it.
    GetNext(u8),
    /// It compares the floor with what it has read.
    CheckFloor(u8),
    /// It makes a new attempt, on what it believes.
    Start(u8),
    /// It creates its slot, and hears the answer.
    Create(u8),
    /// It sends that create, and hears nothing.
    CreateLater(u8),
    /// Its create is refused: nothing was written by it.
    Refuse(u8),
    /// It reads its slot.
    Look(u8),
    /// It compares the floor with its slot.
    Verify(u8),
    /// It has no more time: the outcome is not known.
    GiveUp(u8),
    /// A create under way lands, if its slot is free.
    Land(u8),
    /// Collector g chooses this floor.
    Choose(u8, u8),
    Raise(u8),
    Delete(u8, u8),
    End(u8),
}

impl State {
    pub(super) fn attempt(&self, attempt: u8) -> Attempt {
        self.attempts[usize::from(attempt - 1)]
    }

    pub(super) fn of(&mut self, attempt: u8) -> &mut Attempt {
        &mut self.attempts[usize::from(attempt - 1)]
    }

    /// The attempt in a slot; 0 if it is free.
    pub(super) fn slot(&self, slot: u8) -> u8 {
        self.slots[usize::from(slot - 1)]
    }

    pub(super) fn chain(&self, slot: u8) -> u8 {
        self.chain[usize::from(slot - 1)]
    }

    pub(super) fn top(&self) -> u8 {
        (1..=SLOTS as u8).rev().find(|slot| self.slot(*slot) != 0).unwrap_or(0)
    }

    pub(super) fn is_in_chain(&self, attempt: u8) -> bool {
        self.chain(self.attempt(attempt).slot) == attempt
    }

    /// The store puts the bytes of `attempt` into its free slot.
    pub(super) fn land(&mut self, attempt: u8) {
        let at = usize::from(self.attempt(attempt).slot - 1);
        self.slots[at] = attempt;
        if self.chain[at] == 0 {
            self.chain[at] = attempt;
        }
    }

    /// The attempt in the ring of `version` for `slot`, if the ring reaches so far back.
    pub(super) fn in_ring(&self, version: u8, slot: u8, ring: usize) -> Option<u8> {
        let versions = std::iter::successors(Some(version), |version| {
            Some(self.attempt(*version).base).filter(|base| *base != 0)
        });
        versions.take(ring).find(|version| self.attempt(*version).slot == slot)
    }
}
