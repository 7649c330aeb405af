//! The log of the engine, driven along the model of fencing: each writer is an `Opening`, then a `LogWriter`.
//!
//! Objects land when the model says so, and a writer's own request then hears one of three things: that the name
//! is taken, nothing at all, or that it is done; it must come to the same each time. Of some writes it hears at once
//! that they have landed, and acknowledges them once all before them are, a step before the model. A flush, as a claim, is one
//! commit, since the commit rule is another model; it has no SSTs, and says by its last number what is in them.
//!
//! After each step: the request that the opener waits for, what it has replayed, which writes are acknowledged; what
//! lies in each slot, and whose; the epoch, the replay point, the tail hint and the last FENCE of the newest version.
//! At the end: one more opener comes, and must know what the model says that it would; every older writer is made to
//! write and to flush, and must find that it is fenced, however far it had come.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use esker::{
    Error, ErrorKind, Result,
    key::{Kind, Seq},
    manifest::{Edit, Manifest, StoredOptions, View},
    memory::Memory,
    stats::Cause,
    store::{Folder, Name, Sequence, Store},
    wal::{
        LogBuffer, Op, Opened, Opening, WalObject,
        pipe::{Landing, Pipe},
        writer::LogWriter,
    },
};

use super::{
    Bounds, Fencing,
    state::{ABSENT, At, EPOCHS, Object, PUTS, SLOTS, State, Step, bits},
};
use crate::{
    drive::{Answer, Gate, Place, Request, StillClock, Work, along, at_once, retrace},
    explore::Chance,
};

const KEY: &[u8] = b"\0\0\0\0key";
/// More writes than lie between a fenced writer and the fence.
const LAST_WRITES: u8 = 24;
const WALKS: usize = 1_000;

/// What an opener has come to: its place in the log, and the writes that it has replayed, as bits.
type Taken = Result<(Opened, u16)>;

/// A writer that runs.
struct Running {
    pipe: Arc<Pipe>,
    log: Work<Error>,
    ended: Option<Error>,
    landings: Vec<Arc<Landing>>,
    /// That of the object which is sent next.
    open: Arc<Landing>,
    next_slot: u64,
    next_seq: Seq,
}

/// A writer of the engine.
struct Node {
    gate: Gate,
    clock: Arc<StillClock>,
    manifest: Manifest,
    opening: Option<Work<Taken>>,
    running: Option<Running>,
    /// The bytes of its FENCE, by slot, and of its writes.
    fences: BTreeMap<u8, Bytes>,
    writes: BTreeMap<u8, Bytes>,
    /// Writes of which it has heard that they have landed, while others before them were not acknowledged.
    heard: BTreeSet<u8>,
}

impl Node {
    fn new(place: &Place, seed: u64, window: u8) -> Self {
        let (gate, clock) = (Gate::new(place), Arc::new(StillClock::new(seed)));
        let store = Store::from_object_store(Arc::new(gate.clone()), "memory", clock.clone());
        let options = StoredOptions { wal_window: window.into(), ..StoredOptions::default() };
        let manifest = at_once(&gate, Manifest::open_or_create(store, options)).expect("opened");
        Self {
            gate,
            clock,
            manifest,
            opening: None,
            running: None,
            fences: BTreeMap::new(),
            writes: BTreeMap::new(),
            heard: BTreeSet::new(),
        }
    }

    /// Claims the next epoch, and begins to take the log over.
    fn claim(&mut self, e: u8) {
        let manifest = self.manifest.clone();
        let claimed = at_once(&self.gate, async {
            let latest = manifest.latest(Cause::Open).await?;
            let edit = Edit::ClaimWriter { uuid: e.into(), name: format!("writer {e}") };
            manifest.commit(&latest, &edit, Cause::Open).await
        });
        let mut opening = Opening::begin(&manifest, claimed.expect("claimed"), e.into(), "writer");
        let opening = async move {
            let mut replayed = 0;
            while let Some(object) = opening.next().await? {
                let values =
                    object.entries.iter().map(|entry| Object::data(entry.value[0], entry.value[1]).bit());
                replayed |= values.sum::<u16>();
            }
            Ok((opening.finish().await?, replayed))
        };
        self.opening = Some(Work::new(opening));
        assert!(self.go_on().is_none(), "it begins with the log");
    }

    fn go_on(&mut self) -> Option<Taken> {
        let taken = self.opening.as_mut().expect("it opens").go_on()?;
        self.opening = None;
        Some(taken)
    }

    /// Lets go what it asks for now, as long as that is `wanted`.
    fn let_go(&mut self, wanted: impl Fn(&Request) -> bool) -> Option<Taken> {
        while let Some(held) = self.gate.take(&wanted) {
            held.answer(Answer::Do);
            if let Some(taken) = self.go_on() {
                return Some(taken);
            }
        }
        None
    }

    /// The log is its own: it runs.
    fn run(&mut self, e: u8, opened: &Opened, window: u8) {
        let clock = self.clock.clone();
        let last_seq = opened.last_seq.max(opened.view.root.writer.last_seq);
        let pipe = Arc::new(Pipe::new(last_seq, opened.fence_slot, clock.clone(), Duration::from_secs(60)));
        let writer = LogWriter {
            sequence: Sequence::new(self.manifest.store().clone(), Folder::Wal),
            db_uuid: self.manifest.identity().db_uuid,
            writer_uuid: e.into(),
            epoch: e.into(),
            window: window.into(),
            memory: Memory::new(usize::MAX),
            clock,
        };
        let log = Work::new(writer.run(pipe.clone(), || {}, |_| {}));
        let (next_slot, next_seq) = (opened.next_slot, last_seq + 1);
        let open = pipe.open();
        self.running =
            Some(Running { pipe, log, ended: None, landings: Vec::new(), open, next_slot, next_seq });
    }

    /// Sends write `n` on its way. Gives its slot.
    fn send(&mut self, e: u8, n: u8) -> u64 {
        let w = self.running.as_mut().expect("it runs");
        let mut log = LogBuffer::new(w.next_seq);
        let op = Op { kind: Kind::Put, key: KEY, expire_at_ms: 0, value: &[e, n] };
        log.append(w.next_seq, [op].into_iter(), drop);
        let next = w.pipe.cut(w.next_slot, log.seal(w.next_seq + 1));
        w.landings.push(mem::replace(&mut w.open, next));
        (w.next_slot, w.next_seq) = (w.next_slot + 1, w.next_seq + 1);
        w.go_on();
        w.next_slot - 1
    }

    /// Commits a flush, with what the log before `replay_from` holds in SSTs.
    fn flush(&self, epoch: u8, replay_from: u64, tail_hint: u64, last_seq: Seq) -> Result<Arc<View>> {
        let epoch = epoch.into();
        let edit = Edit::Flush { epoch, ssts: vec![], replay_from, tail_hint, last_seq, counter_floor: 0 };
        at_once(&self.gate, async {
            let latest = self.manifest.latest(Cause::Flush).await?;
            self.manifest.commit(&latest, &edit, Cause::Flush).await
        })
    }
}

impl Running {
    fn go_on(&mut self) {
        if self.ended.is_none() {
            self.ended = self.log.go_on();
        }
    }

    fn acknowledged(&self, n: usize) -> bool {
        matches!(self.landings[n].outcome(), Some(Ok(())))
    }
}

struct Driver<'a> {
    model: &'a Fencing,
    place: Place,
    nodes: Vec<Node>,
    observer: Node,
    /// The number of each write, by its bit.
    seqs: BTreeMap<u8, Seq>,
    chance: Chance,
}

impl<'a> Driver<'a> {
    fn new(model: &'a Fencing, seed: u64) -> Self {
        let (place, window) = (Place::default(), model.bounds.window);
        let observer = Node::new(&place, seed, window);
        let nodes = (1..=EPOCHS as u64).map(|e| Node::new(&place, seed * 8 + e, window)).collect();
        let mut driver = Self { model, place, nodes, observer, seqs: BTreeMap::new(), chance: Chance(seed) };
        // The model begins with a writer that runs.
        let first = driver.node(1);
        first.claim(1);
        let taken = first.let_go(|_| true).expect("it is alone").expect("nothing is in its way");
        first.run(1, &taken.0, window);
        let fence = driver.place.numbered(Folder::Wal).remove(&1).expect("its fence");
        driver.node(1).fences.insert(1, fence);
        driver
    }

    /// Takes `step`, which leads from `before` to `after` in the model.
    fn take(&mut self, step: Step, before: &State, after: &State) {
        let is_log = |request: &Request| match request {
            Request::Get(Name::Wal(_)) => true,
            Request::List(folder) => folder == Folder::Wal.path(),
            _ => false,
        };
        match step {
            Step::Claim(e) => self.node(e).claim(e),
            Step::Walk(e) => {
                let slot = before.writer(e).walk.slot;
                let object = before.object(slot);
                let node = self.node(e);
                let get = Request::Get(Name::Wal(slot.into()));
                node.gate
                    .take(|request| *request == get)
                    .expect("it looks at the next slot")
                    .answer(Answer::Do);
                let mut taken = node.go_on();
                if object == ABSENT {
                    // It looks behind that, and then sends its FENCE.
                    taken = taken.or_else(|| node.let_go(is_log));
                    if let [Request::Put(_, body)] = &node.gate.held()[..] {
                        node.fences.insert(slot, body.clone());
                    }
                }
                assert!(taken.is_none(), "writer {e} does not go on: {:?}", taken.map(|taken| taken.err()));
            }
            Step::LandFence(e, slot) => {
                self.land(slot.into(), |nodes| nodes[usize::from(e - 1)].fences[&slot].clone())
            }
            Step::SeeFence(e) => {
                let slot = before.writer(e).walk.slot;
                let is_own = before.object(slot) == Object::fence(e);
                let answer = self.hears(is_own);
                let is_ours = after.writer(e).at == At::Validate;
                let node = self.node(e);
                let put = node.gate.take(|request| matches!(request, Request::Put(..)));
                put.expect("its FENCE is under way").answer(answer);
                let mut taken = node.go_on();
                if taken.is_none() && answer != Answer::Done {
                    // It reads what is in the slot.
                    node.gate.take(is_log).expect("the bytes decide").answer(Answer::Do);
                    taken = node.go_on();
                }
                if taken.is_none() && is_ours {
                    taken = node.let_go(is_log);
                }
                assert!(taken.is_none(), "writer {e} does not go on: {:?}", taken.map(|taken| taken.err()));
            }
            Step::Validate(e) => {
                let window = self.model.bounds.window;
                let walk = before.writer(e).walk;
                let node = self.node(e);
                let taken = node.let_go(|_| true).expect("it is done");
                let (opened, replayed) =
                    taken.unwrap_or_else(|error| panic!("writer {e} has the log: {error}"));
                assert_eq!(opened.fence_slot, u64::from(walk.slot), "the fence of writer {e}");
                assert_eq!(replayed, walk.found, "what writer {e} has replayed");
                node.run(e, &opened, window);
            }
            Step::Send(e) => {
                let n = before.writer(e).sent;
                let slot = self.node(e).send(e, n);
                let node = self.node(e);
                let name = Name::Wal(slot);
                let held = node.gate.held();
                let sent = held.iter().find_map(|request| match request {
                    Request::Put(put, body) if *put == name => Some(body.clone()),
                    _ => None,
                });
                node.writes.insert(n, sent.unwrap_or_else(|| panic!("{name} is sent: {held:?}")));
                let seq = node.running.as_ref().map(|w| w.next_seq - 1).expect("it runs");
                self.seqs.insert(PUTS * (e - 1) + n, seq);
                assert_eq!(slot, u64::from(self.model.slot_of(after, e, n)), "the slot of write {n} of {e}");
            }
            Step::Land(e, n) => {
                let slot = self.model.slot_of(before, e, n).into();
                self.land(slot, |nodes| nodes[usize::from(e - 1)].writes[&n].clone());
                let is_heard_of = self.chance.below(2) == 0;
                let node = self.node(e);
                let put =
                    |request: &Request| matches!(request, Request::Put(Name::Wal(put), _) if *put == slot);
                if is_heard_of && let Some(put) = node.gate.take(put) {
                    put.answer(Answer::Done);
                    node.heard.insert(n);
                    node.running.as_mut().expect("it runs").go_on();
                }
            }
            Step::Acknowledge(e, n) if self.node(e).heard.contains(&n) => {}
            Step::Acknowledge(e, n) => {
                let name = Name::Wal(self.model.slot_of(before, e, n).into());
                let answer = self.hears(true);
                let node = self.node(e);
                let put = node.gate.take(|request| matches!(request, Request::Put(put, _) if *put == name));
                put.expect("the write is under way").answer(answer);
                let w = node.running.as_mut().expect("it runs");
                w.go_on();
                if answer != Answer::Done {
                    let get = node.gate.take(|request| *request == Request::Get(name.clone()));
                    get.expect("the bytes decide").answer(Answer::Do);
                    w.go_on();
                }
            }
            Step::Flush(e, to) => {
                let flushed = bits(after.root.flushed.into()).map(|bit| self.seqs[&bit]).max().unwrap_or(0);
                let tail_hint = after.root.tail_hint.into();
                let flushed = self.node(e).flush(e, to.into(), tail_hint, flushed);
                flushed.unwrap_or_else(|error| panic!("writer {e} holds the role: {error}"));
            }
            Step::Collect(slot) => self.place.delete(&Name::Wal(slot.into())),
            Step::Read(_) | Step::ReadSlot | Step::Check => panic!("nobody reads in this world"),
        }
        self.compare(after);
    }

    /// What the sender of a create hears of it, whose object is there by now.
    fn hears(&mut self, is_own: bool) -> Answer {
        let answers = [Answer::Do, Answer::Lose, Answer::Done];
        answers[self.chance.below(if is_own { 3 } else { 2 })]
    }

    fn land(&mut self, slot: u64, body: impl Fn(&[Node]) -> Bytes) {
        assert!(self.place.create(&Name::Wal(slot), &body(&self.nodes)), "slot {slot} is free");
    }

    fn node(&mut self, e: u8) -> &mut Node {
        &mut self.nodes[usize::from(e - 1)]
    }

    /// The writers, the log and the newest version are what the model says.
    fn compare(&mut self, after: &State) {
        for (e, node) in (1..).zip(&self.nodes) {
            let w = after.writer(e);
            let held = node.gate.held();
            let waits_for = match w.at {
                At::Away => continue,
                At::Walk => Request::Get(Name::Wal(w.walk.slot.into())),
                At::Fence => Request::Put(Name::Wal(w.walk.slot.into()), node.fences[&w.walk.slot].clone()),
                At::Validate => {
                    // It commits its FENCE; or it had to be quicker than an older writer, looks behind that only now, and
                    // finds what a newer one has put there.
                    let commits = |r: &Request| matches!(r, Request::Put(Name::Manifest(_), _));
                    let is_superseded =
                        after.root.epoch > e && held.contains(&Request::list(Folder::Manifest));
                    assert!(
                        is_superseded || held.iter().any(commits),
                        "writer {e}, {w:?} waits for {held:?}"
                    );
                    continue;
                }
                At::Run => {
                    let running = node.running.as_ref().expect("it runs");
                    let is_due = |n: &u8| {
                        after.acknowledged & Object::data(e, *n).bit() != 0 || node.heard.contains(n)
                    };
                    let due: Vec<_> = (0..w.sent).take_while(is_due).collect();
                    let told: Vec<_> = (0..w.sent).filter(|n| running.acknowledged((*n).into())).collect();
                    assert_eq!(told, due, "the writes that writer {e} has acknowledged");
                    assert!(running.ended.is_none(), "writer {e} has ended: {:?}", running.ended);
                    continue;
                }
            };
            assert!(held.contains(&waits_for), "writer {e}, {w:?} waits for {held:?}");
        }
        let log = self.place.numbered(Folder::Wal);
        for slot in 1..=SLOTS as u8 {
            let found = log.get(&slot.into()).map_or(ABSENT, |body| self.object(slot, body));
            assert_eq!(found, after.object(slot), "slot {slot}");
        }
        let latest = at_once(&self.observer.gate, self.observer.manifest.latest(Cause::Read)).expect("read");
        let (root, writer) = (after.root, &latest.root.writer);
        let found = [writer.replay_from, writer.tail_hint, writer.fence_slot];
        let expected = [root.replay_from, root.tail_hint, root.fence_slot].map(u64::from);
        assert_eq!(found, expected, "the newest version");
        let epochs = (writer.epoch, writer.fence_epoch);
        assert_eq!(epochs, (root.epoch.into(), root.fence_epoch.into()), "the epochs of the newest version");
    }

    fn object(&self, slot: u8, body: &Bytes) -> Object {
        let uuid = self.observer.manifest.identity().db_uuid;
        match WalObject::decode(slot.into(), uuid, body.clone()).expect("it is sound") {
            WalObject::Fence { header, .. } => Object::fence(header.epoch as u8),
            WalObject::Data { header, entries, .. } => {
                let value = &entries[0].value;
                assert_eq!(header.epoch, u32::from(value[0]), "the epoch of what {slot} holds");
                Object::data(value[0], value[1])
            }
        }
    }

    /// One more opener comes, and then all older writers go on as far as they can.
    fn end(mut self, last: &State) {
        let known = self.model.known(last);
        let epoch = last.root.epoch + 1;
        let window = self.model.bounds.window;
        let mut next = Node::new(&self.place, u64::from(epoch), window);
        next.claim(epoch);
        let taken = next.let_go(|_| true).expect("it is done");
        let (opened, replayed) = taken.unwrap_or_else(|error| panic!("the last opener has the log: {error}"));
        assert_eq!(replayed | last.root.flushed, known, "what the last opener knows");
        for e in 1..epoch {
            let w = last.writer(e);
            let node = self.node(e);
            if w.at != At::Run {
                let taken = node.let_go(|_| true).expect("it is done");
                let error =
                    taken.err().unwrap_or_else(|| panic!("writer {e} has opened after writer {epoch}"));
                assert_eq!(error.kind(), ErrorKind::Fenced, "writer {e}: {error}");
                continue;
            }
            let root = &opened.view.root.writer;
            let flushed = node.flush(e, root.replay_from, root.tail_hint, root.last_seq);
            let kind = flushed.err().map(|error| error.kind());
            assert_eq!(kind, Some(ErrorKind::Fenced), "a flush of writer {e}");
            let running = |node: &mut Node| node.running.take().expect("it runs");
            for n in w.sent..LAST_WRITES {
                node.send(e, n);
                while let Some(held) = node.gate.take(|_| true) {
                    held.answer(Answer::Do);
                    node.running.as_mut().expect("it runs").go_on();
                }
            }
            let ended = running(node);
            let why = ended.ended.as_ref().map(Error::kind);
            assert_eq!(why, Some(ErrorKind::Fenced), "writer {e} goes on writing");
            let told = (0..LAST_WRITES).filter(|n| ended.acknowledged(usize::from(*n)));
            let lost: Vec<_> =
                told.filter(|n| *n >= PUTS || known & Object::data(e, *n).bit() == 0).collect();
            assert!(lost.is_empty(), "writer {e} was told that its writes {lost:?} are durable");
        }
    }
}

#[test]
fn the_log_does_as_the_model_of_fencing() {
    let bounds = Bounds { epochs: 3, puts: [2, 2, 2], window: 2, reads: 0 };
    let model = Fencing { bounds, mutation: None };
    let walks = along("fencing", &model, WALKS, 60, |seed, steps| {
        let mut driver = Driver::new(&model, seed);
        let last = retrace(&model, steps, |step, before, after| driver.take(*step, before, after));
        driver.end(&last);
    });
    assert!(walks >= WALKS);
}
