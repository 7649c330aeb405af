//! A model of writers that fence one another, of the log between them, and of a reader that follows it.
//!
//! ```text
//! writer e    claim epoch e, at the root as it is ─▶ walk from its replay point, slot by slot
//!               ├─ DATA: replay it; FENCE at f: go on at f+K; an epoch above e: fenced
//!               └─ first absent slot t: does anything show that there was an object? ─▶ create FENCE(e) in t
//!                    ├─ an older writer was quicker: walk on over it
//!                    └─ ours ─▶ is the epoch still e? ─▶ run
//!             run: the n-th write goes to t+K+n, at most K of them in flight, acknowledged in slot order;
//!               flush what lies before p: SSTs, the replay point p, and the last durable slot as tail hint
//! collection  at any time: delete DATA before the replay point; each DELETE may come again
//! reader      strong read: walk to the first absent slot ─▶ take the newest version
//!               ├─ its replay point is past the slot the walk began at: discard the walk, begin again there
//!               └─ else answer, and remember the place for the next read; or read anew, with nothing remembered
//! the network does any create that was sent, and any DELETE, once more at any later moment
//! ```
//!
//! Nobody learns from a reply that is not there: a create that was sent lands now, later, never, or again
//! after its object was collected; its sender goes by the bytes in the slot. A crash is a writer that takes no
//! further step, which is every prefix of every run; so is a writer that has seen that it is fenced.
//!
//! Promised: what was acknowledged is in SSTs or replayed by every later opener; once an opener runs, no older
//! epoch acknowledges what it has not replayed, and nothing older that it has not replayed ever comes back;
//! void slots are never replayed; a strong read answers with all that was acknowledged or read before it
//! began, and what it has shown stays; nobody is fenced but by a newer epoch; what a crash leaves behind is never
//! taken for a hole in the log.
//!
//! Two rules are not among the mutations, since the others make them needless; they stay as a second defence: that
//! an object of an older epoch is stepped over (there is none outside the jump over a fence), and that the reader
//! looks behind the end of its walk.
//!
//! Left out: the commit rule (a commit of the manifest is one step here; `commit.rs` is its model), contents and
//! sequence numbers (a write is a bit, so replaying it twice is replaying it once), SSTs, and objects that
//! the store loses: the checks for those are here only to show that they raise no false alarm.

use stateright::{Checker, Expectation, HasDiscoveries, Model, Property};

use crate::explore;

const EPOCHS: usize = 3;
const SLOTS: usize = 18;
/// The most writes of an epoch. Write `n` of epoch `e` is bit `PUTS * (e - 1) + n`.
const PUTS: u8 = 3;

/// How far the model goes.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    /// How many writers there are, one an epoch.
    epochs: u8,
    /// How many writes each makes.
    puts: [u8; EPOCHS],
    /// K.
    window: u8,
    /// How many strong reads there are.
    reads: u8,
}

/// A mistake that the model must notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mutation {
    /// Collection takes FENCE objects too.
    FencesCollected,
    /// Collection takes the object at the replay point.
    ReplayPointCollected,
    /// A FENCE leads to the next slot.
    NoJump,
    /// A FENCE at f leads to f+K-1.
    ShortJump,
    /// K+1 writes are in flight.
    WindowOverrun,
    /// An opener walks on over objects of a newer epoch.
    NewerEpochIgnored,
    /// An opener does not look at its epoch once its FENCE is there.
    NotValidated,
    /// An opener whose FENCE is there already takes it for another's, and gives up.
    OwnFenceTakenForAnothers,
    /// An opener takes whatever lies in its slot for its FENCE.
    AnothersTakenForOwnFence,
    /// A writer whose write is there already takes it for another's, and gives up.
    OwnWriteTakenForAnothers,
    /// A writer takes whatever lies in its slot for its write.
    AnothersTakenForOwnWrite,
    /// A write is acknowledged as soon as it is in its slot.
    AcknowledgedOutOfOrder,
    /// A write is acknowledged when no answer comes.
    AcknowledgedOnTimeout,
    /// A flush commits the slot of the next write as replay point, whatever has landed.
    ReplayPointAhead,
    /// A flush does not look at the epoch.
    FlushUnfenced,
    /// An object says that all before it was durable, when it was only sent.
    DurableWhenSent,
    /// An opener takes anything behind an absent slot for the sign of a hole.
    AnythingBehindIsAHole,
    /// A reader trusts an absent slot, and does not look at the manifest.
    TailTrusted,
    /// A reader asks only whether the replay point has passed the end of its walk.
    BoundaryAtTheTail,
    /// A reader takes the newest version before it walks, not after.
    VersionBeforeWalk,
}

/// Those that walks by chance find.
const MUTATIONS: [Mutation; 19] = [
    Mutation::FencesCollected,
    Mutation::ReplayPointCollected,
    Mutation::NoJump,
    Mutation::ShortJump,
    Mutation::WindowOverrun,
    Mutation::NewerEpochIgnored,
    Mutation::NotValidated,
    Mutation::OwnFenceTakenForAnothers,
    Mutation::AnothersTakenForOwnFence,
    Mutation::OwnWriteTakenForAnothers,
    Mutation::AnothersTakenForOwnWrite,
    Mutation::AcknowledgedOutOfOrder,
    Mutation::AcknowledgedOnTimeout,
    Mutation::ReplayPointAhead,
    Mutation::FlushUnfenced,
    Mutation::DurableWhenSent,
    Mutation::AnythingBehindIsAHole,
    Mutation::TailTrusted,
    Mutation::VersionBeforeWalk,
];

#[derive(Debug, Clone)]
struct Fencing {
    bounds: Bounds,
    mutation: Option<Mutation>,
}

/// What a slot holds. In one byte, for there are many: 0 nothing, `e` the FENCE of epoch e, 8 and up a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Object(u8);

const ABSENT: Object = Object(0);

impl Object {
    fn fence(e: u8) -> Self {
        Self(e)
    }

    fn data(e: u8, n: u8) -> Self {
        Self(8 + PUTS * (e - 1) + n)
    }

    /// Whether it is a FENCE. Not asked of what is absent.
    fn is_fence(self) -> bool {
        self.0 < 8
    }

    fn epoch(self) -> u8 {
        if self.is_fence() { self.0 } else { (self.0 - 8) / PUTS + 1 }
    }

    /// Its write as a bit; none if it is a FENCE or absent.
    fn bit(self) -> u16 {
        if self.is_fence() { 0 } else { 1 << (self.0 - 8) }
    }
}

/// The newest version of the manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Root {
    epoch: u8,
    replay_from: u8,
    tail_hint: u8,
    /// Writes in SSTs.
    flushed: u16,
}

/// A place in a walk along the log, and what was replayed on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Walk {
    slot: u8,
    max_epoch: u8,
    found: u16,
}

impl Walk {
    fn start(root: &Root) -> Self {
        Self { slot: root.replay_from, ..Self::default() }
    }

    /// Steps over `object`.
    fn pass(&mut self, object: Object, jump: u8) {
        if object.epoch() < self.max_epoch {
            self.slot += 1;
            return;
        }
        self.max_epoch = object.epoch();
        self.found |= object.bit();
        self.slot += if object.is_fence() { jump } else { 1 };
    }
}

/// Where a writer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum At {
    #[default]
    Away,
    Walk,
    Fence,
    Validate,
    Run,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Writer {
    at: At,
    /// Its walk; once it runs, the slot of its FENCE, and all that was written before it.
    walk: Walk,
    /// The tail hint of the version that gave it the epoch; 0 once it runs.
    tail_hint: u8,
    /// Slots, as bits, into which it has sent its FENCE.
    fences: u32,
    /// How many writes it has sent.
    sent: u8,
    /// What each says was durable before it: how many writes of this epoch.
    durable: [u8; PUTS as usize],
}

/// Where the reader is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum Reading {
    #[default]
    No,
    Walk,
    Check,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Reader {
    at: Reading,
    /// The version it has.
    version: Root,
    /// Where the walk begins, and all that the reader knows from before.
    place: Walk,
    walk: Walk,
    /// What this read must answer with at least.
    must: u16,
    /// How many reads are over.
    reads: u8,
    /// What all of them have shown.
    shown: u16,
}

/// What somebody has come to that must not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum Fault {
    #[default]
    None,
    /// A slot was taken for lost.
    Hole,
    /// A writer has given up, and no newer epoch made it.
    FencedByNone,
    /// A read did not see what it had to.
    StaleRead,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    log: [Object; SLOTS],
    root: Root,
    writers: [Writer; EPOCHS],
    acknowledged: u16,
    /// Slots, as bits, for which a DELETE was sent.
    deletes: u32,
    reader: Reader,
    fault: Fault,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Writer e commits the claim of epoch e.
    Claim(u8),
    /// It looks at the next slot; if that is absent, it sends its FENCE there.
    Walk(u8),
    /// The FENCE that e has sent into this slot lands.
    LandFence(u8, u8),
    /// It sees what is in the slot of its FENCE.
    SeeFence(u8),
    Validate(u8),
    /// It sends its next write.
    Send(u8),
    /// Write n of e lands in its slot.
    Land(u8, u8),
    /// Writer e sees what is in the slot of its write n, and acknowledges it.
    Acknowledge(u8, u8),
    /// It commits SSTs of all that it knows before this slot, the new replay point.
    Flush(u8, u8),
    Collect(u8),
    /// A strong read begins; anew, or where the one before has ended.
    Read(bool),
    ReadSlot,
    /// The reader takes the newest version.
    Check,
}

fn bits(mask: u32) -> impl Iterator<Item = u8> {
    (0..32).filter(move |bit| mask & (1 << bit) != 0)
}

/// All writes of epochs before `e`.
fn older(e: u8) -> u16 {
    (1 << (PUTS * (e - 1))) - 1
}

impl State {
    fn object(&self, slot: u8) -> Object {
        self.log.get(usize::from(slot - 1)).copied().unwrap_or_default()
    }

    fn put(&mut self, slot: u8, object: Object) -> Option<()> {
        let place = self.log.get_mut(usize::from(slot - 1))?;
        (*place == ABSENT).then(|| *place = object)
    }

    fn writer(&self, e: u8) -> &Writer {
        &self.writers[usize::from(e - 1)]
    }

    /// How many writes of `e` are acknowledged, with none missing before them.
    fn acked(&self, e: u8) -> u8 {
        let own = self.acknowledged >> (PUTS * (e - 1)) & ((1 << PUTS) - 1);
        own.trailing_ones() as u8
    }

    /// The epochs that run, or have run.
    fn ran(&self) -> impl Iterator<Item = u8> {
        (1..=EPOCHS as u8).filter(|e| self.writer(*e).at == At::Run)
    }
}

impl Fencing {
    fn has(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    /// How far a FENCE leads.
    fn jump(&self) -> u8 {
        match self.mutation {
            Some(Mutation::NoJump) => 1,
            Some(Mutation::ShortJump) => self.bounds.window - 1,
            _ => self.bounds.window,
        }
    }

    /// The slot of write `n` of `e`, which runs or has run.
    fn slot_of(&self, s: &State, e: u8, n: u8) -> u8 {
        s.writer(e).walk.slot + self.jump() + n
    }

    /// What `e` says in its write `n` was the last durable slot.
    fn durable_to(&self, s: &State, e: u8, n: u8) -> u8 {
        match s.writer(e).durable[usize::from(n)] {
            0 => s.writer(e).walk.slot,
            count => self.slot_of(s, e, count - 1),
        }
    }

    /// Whether objects behind the absent `slot` show that there was one in it.
    fn goes_on_behind(&self, s: &State, slot: u8) -> bool {
        let beyond = slot + self.bounds.window;
        let shows = |behind: u8, object: Object| {
            if object == ABSENT || object.is_fence() {
                return object != ABSENT && (behind >= beyond || self.has(Mutation::AnythingBehindIsAHole));
            }
            let n = (object.0 - 8) % PUTS;
            behind >= beyond
                || self.durable_to(s, object.epoch(), n) >= slot
                || self.has(Mutation::AnythingBehindIsAHole)
        };
        (slot + 1..=SLOTS as u8).any(|behind| shows(behind, s.object(behind)))
    }

    /// What an opener would know that came now.
    fn known(&self, s: &State) -> u16 {
        let mut walk = Walk::start(&s.root);
        loop {
            match s.object(walk.slot) {
                ABSENT => return s.root.flushed | walk.found,
                object => walk.pass(object, self.jump()),
            }
        }
    }

    /// Of `writes`, those that lie before `slot`.
    fn before(&self, s: &State, writes: u16, slot: u8) -> u16 {
        bits(writes.into())
            .filter(|bit| self.slot_of(s, bit / PUTS + 1, bit % PUTS) < slot)
            .fold(0, |mask, bit| mask | 1 << bit)
    }

    /// Writes that lie behind the FENCE of a newer epoch which has run.
    fn void(&self, s: &State) -> u16 {
        let sent = |e: u8| (0..s.writer(e).sent).map(move |n| (e, n));
        (1..=EPOCHS as u8)
            .flat_map(sent)
            .filter(|(e, n)| {
                s.ran().any(|newer| newer > *e && s.writer(newer).walk.slot <= self.slot_of(s, *e, *n))
            })
            .fold(0, |mask, (e, n)| mask | Object::data(e, n).bit())
    }

    fn open(&self, next: &mut State, step: Step) -> Option<()> {
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
                w.tail_hint = s.root.tail_hint;
                next.root.epoch = e;
            }
            (Step::Walk(_), At::Walk) => {
                let object = s.object(w.walk.slot);
                if object != ABSENT {
                    if object.epoch() > e && !self.has(Mutation::NewerEpochIgnored) {
                        return None;
                    }
                    w.walk.pass(object, self.jump());
                } else if w.walk.slot <= w.tail_hint || self.goes_on_behind(&s, w.walk.slot) {
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
                Self::run(w, &s.root);
            }
            _ => return None,
        }
        Some(())
    }

    /// Its FENCE is in place, and what is in SSTs or was replayed is all there is.
    fn run(w: &mut Writer, root: &Root) {
        w.at = At::Run;
        w.walk.found |= root.flushed;
        (w.walk.max_epoch, w.tail_hint) = (0, 0);
    }

    fn write(&self, next: &mut State, step: Step) -> Option<()> {
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

    /// Where a flush of `e` may put the replay point: behind any object that was replayed, to the FENCE, behind the
    /// jump, behind any acknowledged write.
    fn replay_points(&self, s: &State, e: u8) -> u32 {
        let w = s.writer(e);
        let own = if self.has(Mutation::ReplayPointAhead) { w.sent } else { s.acked(e) };
        let behind_own = (0..=own).fold(1 << w.walk.slot, |mask, n| mask | 1 << self.slot_of(s, e, n));
        bits(w.walk.found.into())
            .map(|bit| self.slot_of(s, bit / PUTS + 1, bit % PUTS) + 1)
            .fold(behind_own, |mask, slot| mask | 1 << slot)
    }

    fn read(&self, next: &mut State, step: Step) -> Option<()> {
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
                    let beyond = r.walk.slot + self.bounds.window;
                    let is_behind = s.object(beyond) != ABSENT && s.object(r.walk.slot) == ABSENT;
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
    fn adopt(r: &mut Reader, version: Root) {
        if version.replay_from > r.place.slot {
            r.place = Walk { found: r.place.found, ..Walk::start(&version) };
        }
        r.place.found |= version.flushed;
        r.version = version;
    }
}

impl Model for Fencing {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let mut writers = [Writer::default(); EPOCHS];
        writers[0] =
            Writer { at: At::Run, walk: Walk { slot: 1, ..Walk::default() }, fences: 2, ..Writer::default() };
        let mut log = [ABSENT; SLOTS];
        log[0] = Object::fence(1);
        vec![State {
            log,
            root: Root { epoch: 1, replay_from: 1, ..Root::default() },
            writers,
            acknowledged: 0,
            deletes: 0,
            reader: Reader::default(),
            fault: Fault::None,
        }]
    }

    fn actions(&self, s: &State, steps: &mut Vec<Step>) {
        if s.fault != Fault::None {
            return;
        }
        for e in 1..=self.bounds.epochs {
            let w = s.writer(e);
            match w.at {
                At::Away => steps.push(Step::Claim(e)),
                At::Walk => steps.push(Step::Walk(e)),
                At::Fence => steps.push(Step::SeeFence(e)),
                At::Validate => steps.push(Step::Validate(e)),
                At::Run => {
                    steps.push(Step::Send(e));
                    steps.extend((0..w.sent).flat_map(|n| [Step::Land(e, n), Step::Acknowledge(e, n)]));
                    steps.extend(bits(self.replay_points(s, e)).map(|slot| Step::Flush(e, slot)));
                }
            }
            steps.extend(bits(w.fences).map(|slot| Step::LandFence(e, slot)));
        }
        let collected = s.root.replay_from + u8::from(self.has(Mutation::ReplayPointCollected));
        steps.extend((1..collected).map(Step::Collect));
        match s.reader.at {
            Reading::No => steps.extend([Step::Read(true), Step::Read(false)]),
            Reading::Walk => steps.push(Step::ReadSlot),
            Reading::Check => steps.push(Step::Check),
        }
    }

    fn next_state(&self, s: &State, step: Step) -> Option<State> {
        let mut next = s.clone();
        match step {
            Step::LandFence(e, slot) => {
                if s.writer(e).fences & 1 << slot == 0 {
                    return None;
                }
                next.put(slot, Object::fence(e))?;
            }
            Step::Land(e, n) => {
                if s.writer(e).sent <= n {
                    return None;
                }
                next.put(self.slot_of(s, e, n), Object::data(e, n))?;
            }
            Step::Collect(slot) => {
                let object = s.object(slot);
                let collects_fences = self.has(Mutation::FencesCollected);
                let end = s.root.replay_from + u8::from(self.has(Mutation::ReplayPointCollected));
                let is_garbage = slot < end && (collects_fences || !object.is_fence());
                if object == ABSENT || (!is_garbage && s.deletes & 1 << slot == 0) {
                    return None;
                }
                next.log[usize::from(slot - 1)] = ABSENT;
                next.deletes |= 1 << slot;
            }
            Step::Claim(_) | Step::Walk(_) | Step::SeeFence(_) | Step::Validate(_) => {
                self.open(&mut next, step)?
            }
            Step::Send(_) | Step::Acknowledge(..) | Step::Flush(..) => {
                if let Step::Flush(e, to) = step
                    && (s.writer(e).at != At::Run || self.replay_points(s, e) & 1 << to == 0)
                {
                    return None;
                }
                self.write(&mut next, step)?;
            }
            Step::Read(_) | Step::ReadSlot | Step::Check => self.read(&mut next, step)?,
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
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
}

impl Fencing {
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
        if self.bounds.reads > 0 && self.bounds.epochs > 2 {
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

/// The worlds of one run, and of the long one. What the marks of a world are is in [`Fencing::marks`].
fn worlds() -> Vec<Bounds> {
    let writers = Bounds { epochs: 3, puts: [2, 1, 1], window: 2, reads: 0 };
    let reader = Bounds { puts: [1, 1, 1], reads: 1, ..writers };
    let again = Bounds { epochs: 2, puts: [1, 1, 0], reads: 2, ..writers };
    match explore::wide() {
        Some(_) => vec![
            Bounds { puts: [2, 2, 1], ..writers },
            Bounds { puts: [3, 2, 1], window: 3, ..writers },
            Bounds { window: 1, ..reader },
            Bounds { puts: [2, 1, 1], ..reader },
            Bounds { puts: [2, 2, 0], ..again },
        ],
        None => vec![writers, reader, again],
    }
}

#[test]
fn writers_fence_one_another_and_nothing_acknowledged_is_lost() {
    for bounds in worlds() {
        let what = format!("fencing, {bounds:?}");
        explore::holds(&what, &Fencing { bounds, mutation: None });
    }
}

#[test]
fn every_mistake_of_fencing_is_caught() {
    explore::all_caught("fencing", &MUTATIONS, |mutation| {
        let usual = Bounds { epochs: 3, puts: [2, 2, 1], window: 2, reads: 1 };
        let bounds = match mutation {
            Mutation::ShortJump => Bounds { puts: [3, 1, 1], window: 3, ..usual },
            Mutation::WindowOverrun => Bounds { puts: [3, 1, 1], ..usual },
            _ => usual,
        };
        Fencing { bounds, mutation: Some(mutation) }
    });
}

/// Some thirty steps deep, and no walk by chance comes there: a stalled opener's fence lands where a write was
/// collected, and leads a reader past what is new. So this one is looked for in order.
#[test]
fn a_boundary_that_is_compared_with_the_tail_alone_is_caught() {
    let bounds = Bounds { epochs: 3, puts: [1, 0, 1], window: 2, reads: 1 };
    let model = Fencing { bounds, mutation: Some(Mutation::BoundaryAtTheTail) };
    let promises = model.properties().into_iter().filter(|p| p.expectation == Expectation::Always);
    let checker =
        model.clone().checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_dfs().join();
    let found = checker.discoveries();
    let broken: Vec<_> =
        promises.map(|promise| promise.name).filter(|name| found.contains_key(name)).collect();
    println!("fencing: BoundaryAtTheTail: broken: {broken:?}, after {} states", checker.unique_state_count());
    assert!(!broken.is_empty(), "a reader may compare the replay point with the end of its walk alone");
}
