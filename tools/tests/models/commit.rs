//! A model of the commit rule of the manifest: committers, a network that repeats itself, and collectors beside them.
//!
//! ```text
//! committer     list versions ─▶ get the highest ─▶ above the floor? believe it (else list again); or get the next
//!                 ─▶ a new attempt: its slot is the next one, it builds on what is believed
//!                 ─▶ create ─┬─ a definite success ───────────────────▶ above the floor? ── yes: committed
//!                    ▲       └─ any other answer, or none ─▶ get slot ─┬─ ours ─▲           no ─┐
//!                    └──────────────── absent: the same bytes again ───┴─ another's ────────────┴▶ the latest, its ring
//!               the ring: lists us: committed; lists another: not committed; does not reach back: OutcomeUnknown
//! collector     choose a floor under the latest ─▶ raise the floor ─▶ delete what is at or under it, in any order
//! the network   does any create again later, long after its slot was filled and was freed
//! ```
//!
//! The *chain* is the first object that ever was in each slot. Promised:
//!
//! - it is one chain: each version builds on the one before it;
//! - what was reported as committed is in it, what was reported as not committed is not and never will be;
//! - whatever is believed is in it: an object at or under the floor is never believed by how it looks;
//! - what lies above the floor is of the chain, and its end is there: the latest is never deleted.
//!
//! Left out: edits (an attempt is its bytes; rebasing one is a new attempt), parts, epochs, the proof of a follower
//! that nothing newer is there. The collector finds the latest in one step, and a list is of one moment. A crash is
//! a committer that takes no further step, which is every prefix of every run; one that gives up may open again.

use stateright::{Model, Property};

use crate::explore;

const COMMITTERS: usize = 3;
const COLLECTORS: usize = 2;
const SLOTS: usize = 6;
/// The first version is attempt 1. 0 is no attempt.
const ATTEMPTS: usize = 7;
const FLIGHTS: usize = 2;

/// How far the model goes.
#[derive(Debug, Clone)]
struct Bounds {
    committers: u8,
    collectors: u8,
    /// The last slot of the manifest.
    slots: u8,
    /// How many attempts there are in all, the first version being one.
    attempts: u8,
    /// How many creates are under way for long, or twice.
    flights: usize,
    /// How many attempts a version remembers, itself being one.
    ring: usize,
}

/// A mistake that the model must notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mutation {
    /// A create that succeeded is taken for a commit.
    NoVerify,
    /// Instead of the floor: is the version before it still there, with the bytes it builds on?
    PredecessorForFloor,
    /// "It exists already" is taken for a defeat, and the bytes in the slot are not read.
    VerdictByErrorKind,
    /// "Refused" is taken for a defeat although the same bytes were sent before.
    RefusalAfterSending,
    /// Defeat is reported while nothing is in the slot.
    DefeatWhileAbsent,
    /// Nothing is in the slot: other bytes are offered for it, and the first are forgotten.
    OtherBytes,
    /// Whoever finds another's bytes in its slot does not look at the ring.
    RingIgnored,
    /// A ring that does not reach back as far is taken for a defeat.
    ShortRingBelieved,
    /// The ring lists the slot, which is enough: the token is not compared.
    RingWithoutToken,
    /// A version is believed whatever the floor is.
    FloorIgnored,
    /// The floor is read before the version, not after it.
    FloorBeforeGet,
    /// The collector deletes before it raises the floor.
    DeleteBeforeFloor,
    /// The mark written last is the floor, not the highest.
    FloorGoesBack,
    /// The collector raises the floor over the latest.
    LatestCollected,
}

const MUTATIONS: [Mutation; 14] = [
    Mutation::NoVerify,
    Mutation::PredecessorForFloor,
    Mutation::VerdictByErrorKind,
    Mutation::RefusalAfterSending,
    Mutation::DefeatWhileAbsent,
    Mutation::OtherBytes,
    Mutation::RingIgnored,
    Mutation::ShortRingBelieved,
    Mutation::RingWithoutToken,
    Mutation::FloorIgnored,
    Mutation::FloorBeforeGet,
    Mutation::DeleteBeforeFloor,
    Mutation::FloorGoesBack,
    Mutation::LatestCollected,
];

#[derive(Debug, Clone)]
struct Commit {
    bounds: Bounds,
    mutation: Option<Mutation>,
}

/// What a committer was told of its attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum Verdict {
    /// Nothing: it goes on, or its committer is gone.
    #[default]
    None,
    Committed,
    NotCommitted,
    Unknown,
}

/// The bytes for one slot, with a token of their own. Their ring is what they build on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Attempt {
    slot: u8,
    /// The attempt that it builds on.
    base: u8,
    verdict: Verdict,
}

/// Where a committer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum At {
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
struct Committer {
    at: At,
    /// The attempt that is the version it believes.
    base: u8,
    /// The attempt it is at.
    attempt: u8,
    /// Whether the bytes of that may be on their way.
    is_sent: bool,
    slot: u8,
    found: u8,
}

/// Where a collector is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum Pass {
    #[default]
    Idle,
    Raise,
    Delete,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Collector {
    at: Pass,
    floor: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    /// The attempt whose bytes are in each slot.
    slots: [u8; SLOTS],
    /// The attempt whose bytes were the first there. No one can read this.
    chain: [u8; SLOTS],
    floor: u8,
    attempts: [Attempt; ATTEMPTS],
    made: u8,
    /// The attempts whose creates may land later.
    flights: [u8; FLIGHTS],
    committers: [Committer; COMMITTERS],
    collectors: [Collector; COLLECTORS],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
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
    fn attempt(&self, attempt: u8) -> Attempt {
        self.attempts[usize::from(attempt - 1)]
    }

    fn of(&mut self, attempt: u8) -> &mut Attempt {
        &mut self.attempts[usize::from(attempt - 1)]
    }

    /// The attempt in a slot; 0 if it is free.
    fn slot(&self, slot: u8) -> u8 {
        self.slots[usize::from(slot - 1)]
    }

    fn chain(&self, slot: u8) -> u8 {
        self.chain[usize::from(slot - 1)]
    }

    fn top(&self) -> u8 {
        (1..=SLOTS as u8).rev().find(|slot| self.slot(*slot) != 0).unwrap_or(0)
    }

    fn is_in_chain(&self, attempt: u8) -> bool {
        self.chain(self.attempt(attempt).slot) == attempt
    }

    /// The store puts the bytes of `attempt` into its free slot.
    fn land(&mut self, attempt: u8) {
        let at = usize::from(self.attempt(attempt).slot - 1);
        self.slots[at] = attempt;
        if self.chain[at] == 0 {
            self.chain[at] = attempt;
        }
    }

    /// The attempt in the ring of `version` for `slot`, if the ring reaches so far back.
    fn in_ring(&self, version: u8, slot: u8, ring: usize) -> Option<u8> {
        let versions = std::iter::successors(Some(version), |version| {
            Some(self.attempt(*version).base).filter(|base| *base != 0)
        });
        versions.take(ring).find(|version| self.attempt(*version).slot == slot)
    }
}

impl Commit {
    fn has(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    fn commit(&self, next: &mut State, step: Step) -> Option<()> {
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

    fn start(&self, next: &mut State, c: &mut Committer, slot: u8) -> Option<()> {
        if next.made >= self.bounds.attempts {
            return None;
        }
        next.made += 1;
        *next.of(next.made) = Attempt { slot, base: c.base, verdict: Verdict::None };
        (c.at, c.attempt, c.is_sent) = (At::Create, next.made, false);
        Some(())
    }

    /// A version was read, or was not there.
    fn read(&self, next: &mut State, c: &mut Committer) {
        if c.found == 0 {
            c.at = At::List;
        } else if self.has(Mutation::FloorIgnored) || self.has(Mutation::FloorBeforeGet) {
            self.believe(next, c);
        } else {
            c.at = At::CheckFloor;
        }
    }

    /// Its bytes are in its slot.
    fn verify(&self, next: &mut State, c: &mut Committer) {
        c.at = At::Verify;
        if self.has(Mutation::NoVerify) {
            self.won(next, c);
        }
    }

    fn won(&self, next: &mut State, c: &mut Committer) {
        next.of(c.attempt).verdict = Verdict::Committed;
        *c = Committer { at: At::Idle, base: c.attempt, ..Committer::default() };
    }

    /// What was read is the latest version, which knows what became of an attempt.
    fn believe(&self, next: &mut State, c: &mut Committer) {
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
    fn report(next: &mut State, c: &mut Committer, verdict: Verdict) {
        next.of(c.attempt).verdict = verdict;
        *c = Committer::default();
    }

    fn collect(&self, next: &mut State, step: Step) -> Option<()> {
        let (Step::Choose(who, _) | Step::Raise(who) | Step::Delete(who, _) | Step::End(who)) = step else {
            return None;
        };
        let mut g = next.collectors[usize::from(who)];
        let deletes_first = self.has(Mutation::DeleteBeforeFloor);
        match (step, g.at) {
            (Step::Choose(_, floor), Pass::Idle) => {
                let end = if self.has(Mutation::LatestCollected) { next.top() + 1 } else { next.top() };
                if floor >= end || floor < next.floor {
                    return None;
                }
                let is_raised = floor == next.floor || deletes_first;
                g = Collector { at: if is_raised { Pass::Delete } else { Pass::Raise }, floor };
            }
            (Step::Raise(_), Pass::Raise) => {
                let highest = next.floor.max(g.floor);
                next.floor = if self.has(Mutation::FloorGoesBack) { g.floor } else { highest };
                g.at = if deletes_first { Pass::Idle } else { Pass::Delete };
            }
            (Step::Delete(_, slot), Pass::Delete) => {
                if slot > g.floor || next.slot(slot) == 0 {
                    return None;
                }
                next.slots[usize::from(slot - 1)] = 0;
            }
            (Step::End(_), Pass::Delete) => {
                g.at = if deletes_first && g.floor > next.floor { Pass::Raise } else { Pass::Idle };
            }
            _ => return None,
        }
        if g.at == Pass::Idle {
            g = Collector::default();
        }
        next.collectors[usize::from(who)] = g;
        Some(())
    }
}

impl Model for Commit {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let mut slots = [0; SLOTS];
        slots[0] = 1;
        let mut attempts = [Attempt::default(); ATTEMPTS];
        attempts[0] = Attempt { slot: 1, base: 0, verdict: Verdict::Committed };
        vec![State {
            slots,
            chain: slots,
            floor: 0,
            attempts,
            made: 1,
            flights: [0; FLIGHTS],
            committers: [Committer { at: At::Idle, base: 1, ..Committer::default() }; COMMITTERS],
            collectors: [Collector::default(); COLLECTORS],
        }]
    }

    fn actions(&self, s: &State, steps: &mut Vec<Step>) {
        for c in 0..self.bounds.committers {
            let committer = &s.committers[usize::from(c)];
            match committer.at {
                At::List => steps.push(Step::List(c)),
                At::Get => steps.push(Step::Get(c)),
                At::CheckFloor => steps.push(Step::CheckFloor(c)),
                At::Idle => steps.extend([Step::GetNext(c), Step::Start(c)]),
                At::Create => steps.extend([Step::Create(c), Step::CreateLater(c), Step::Refuse(c)]),
                At::Look => steps.push(Step::Look(c)),
                At::Verify => steps.push(Step::Verify(c)),
            }
            if committer.attempt != 0 {
                steps.push(Step::GiveUp(c));
            }
        }
        steps
            .extend((0..FLIGHTS as u8).filter(|flight| s.flights[usize::from(*flight)] != 0).map(Step::Land));
        for g in 0..self.bounds.collectors {
            match s.collectors[usize::from(g)].at {
                Pass::Idle => {
                    steps.extend((s.floor.max(1)..=s.top()).map(|floor| Step::Choose(g, floor)));
                }
                Pass::Raise => steps.push(Step::Raise(g)),
                Pass::Delete => {
                    let floor = s.collectors[usize::from(g)].floor;
                    let there = (1..=floor).filter(|slot| s.slot(*slot) != 0);
                    steps.extend(there.map(|slot| Step::Delete(g, slot)));
                    steps.push(Step::End(g));
                }
            }
        }
    }

    fn next_state(&self, s: &State, step: Step) -> Option<State> {
        let mut next = s.clone();
        match step {
            Step::Land(flight) => {
                let attempt = s.flights[usize::from(flight)];
                if attempt == 0 || s.slot(s.attempt(attempt).slot) != 0 {
                    return None;
                }
                next.land(attempt);
                next.flights[usize::from(flight)] = 0;
                next.flights.sort_unstable_by(|a, b| b.cmp(a));
            }
            Step::Choose(..) | Step::Raise(_) | Step::Delete(..) | Step::End(_) => {
                self.collect(&mut next, step)?;
            }
            _ => self.commit(&mut next, step)?,
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
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

impl Commit {
    /// Whether the version that a committer has read lists its attempt; `None` if it does not reach back.
    fn is_listed(&self, s: &State, c: &Committer) -> Option<bool> {
        let own = c.attempt.checked_sub(1).map(|at| s.attempts[usize::from(at)])?;
        s.in_ring(c.found, own.slot, self.bounds.ring).map(|listed| listed == c.attempt)
    }
}

/// Two committers and one collector, creates that land late and twice.
const LATE: Bounds = Bounds { committers: 2, collectors: 1, slots: 4, attempts: 4, flights: 2, ring: 2 };
/// A ring that soon does not reach back.
const FORGETFUL: Bounds = Bounds { slots: 3, flights: 0, ring: 1, ..LATE };
/// Two collectors, one slower than the other.
const SLOW: Bounds = Bounds { collectors: 2, slots: 3, flights: 0, ..LATE };
/// All: for walks by chance, and a base for the long run.
const ALL: Bounds = Bounds { committers: 3, collectors: 2, slots: 6, attempts: 7, flights: 2, ring: 2 };

#[test]
fn a_commit_is_reported_as_what_it_is() {
    let bounds = match explore::wide() {
        Some(_) => vec![Bounds { ring: 3, ..ALL }],
        None => vec![LATE, FORGETFUL, SLOW],
    };
    let states: usize =
        bounds.into_iter().map(|bounds| explore::holds("commit", &Commit { bounds, mutation: None })).sum();
    assert!(states > 1_000_000, "only {states} states");
}

#[test]
fn every_mistake_of_a_commit_is_caught() {
    explore::all_caught("commit", &MUTATIONS, |mutation| {
        let bounds = match mutation {
            // Two come this far apart too seldom.
            Mutation::ShortRingBelieved => Bounds { ring: 1, ..ALL },
            _ => ALL,
        };
        Commit { bounds, mutation: Some(mutation) }
    });
}
