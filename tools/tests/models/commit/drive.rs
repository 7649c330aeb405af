//! The manifest of the engine, driven along the model of the commit rule: each committer is a `Manifest` of its own.
//!
//! A step of a committer is one request of it. What the network and the collectors do is done to the store from
//! outside. An edit that has lost is rebased by the engine: that it is about to create the next version shows what
//! it believes, and there the driver drops it, as a caller may; the model's next attempt is a commit of its own.
//!
//! After each step: the request that each committer waits for, or what its commit has come to; the attempt whose
//! bytes are in each slot; the floor.
//!
//! The ring is never too short here: the engine's has 64 slots, and a walk fills few.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use esker::{
    ErrorKind, Result,
    manifest::{Edit, Manifest, StoredOptions, View},
    stats::Cause,
    store::{Folder, Name, Store, Token},
};

use super::{
    ALL, Bounds, Commit,
    state::{At, COMMITTERS, SLOTS, State, Step, Verdict},
};
use crate::drive::{Answer, Gate, Place, Request, StillClock, Work, along, at_once, retrace};

const WALKS: usize = 1_000;

/// A committer of the engine.
struct Node {
    gate: Gate,
    clock: Arc<StillClock>,
    manifest: Manifest,
    work: Option<Work<Result<Arc<View>>>>,
    /// What the work has come to.
    done: Option<Result<Arc<View>>>,
}

impl Node {
    fn new(place: &Place, seed: u64) -> Self {
        let (gate, clock) = (Gate::new(place.store().clone()), Arc::new(StillClock::new(seed)));
        let store = Store::from_object_store(Arc::new(gate.clone()), "memory", clock.clone());
        let options = StoredOptions { wal_window: 2, ..StoredOptions::default() };
        let manifest = at_once(&gate, Manifest::open_or_create(store, options));
        Self { gate, clock, manifest: manifest.expect("opened"), work: None, done: None }
    }

    fn begin(&mut self, work: impl Future<Output = Result<Arc<View>>> + 'static) {
        assert!(self.work.is_none(), "a committer does one thing at a time");
        (self.work, self.done) = (Some(Work::new(work)), None);
        self.go_on();
    }

    /// It opens anew, and reads the latest version.
    fn open(&mut self) {
        let manifest = self.manifest.clone();
        self.begin(async move { manifest.latest(Cause::Open).await });
    }

    fn go_on(&mut self) {
        if let Some(done) = self.work.as_mut().expect("it is under way").go_on() {
            (self.work, self.done) = (None, Some(done));
        }
    }

    fn answer(&mut self, answer: Answer) {
        let held = self.gate.take(|_| true).expect("it waits for the store");
        held.answer(answer);
        self.go_on();
    }
}

struct Driver<'a> {
    model: &'a Commit,
    place: Place,
    nodes: Vec<Node>,
    /// Of each attempt: its bytes, and the version if somebody believes it.
    bodies: BTreeMap<u8, Bytes>,
    views: BTreeMap<u8, Arc<View>>,
}

impl<'a> Driver<'a> {
    fn new(model: &'a Commit, seed: u64) -> Self {
        let place = Place::default();
        let nodes: Vec<_> =
            (0..COMMITTERS as u64).map(|n| Node::new(&place, seed * COMMITTERS as u64 + n)).collect();
        let mut first = None;
        for node in &nodes {
            first = Some(at_once(&node.gate, node.manifest.latest(Cause::Open)).expect("read"));
        }
        let bodies = [(1, place.numbered(Folder::Manifest).remove(&1).expect("the first version"))].into();
        let views = first.map(|view| (1, view)).into_iter().collect();
        Self { model, place, nodes, bodies, views }
    }

    /// Takes `step`, which leads from `before` to `after` in the model.
    fn take(&mut self, step: Step, before: &State, after: &State) {
        match step {
            Step::List(c)
            | Step::Get(c)
            | Step::CheckFloor(c)
            | Step::Create(c)
            | Step::Look(c)
            | Step::Verify(c) => {
                self.node(c).answer(Answer::Do);
            }
            Step::CreateLater(c) => self.node(c).answer(Answer::Lose),
            Step::Refuse(c) => {
                self.node(c).answer(Answer::Refuse);
                self.fails(c, |kind| kind != ErrorKind::OutcomeUnknown && kind != ErrorKind::Unavailable);
            }
            Step::GiveUp(c) => {
                let node = self.node(c);
                node.clock.pass_all_deadlines();
                // A create that is lost is looked for once before it gives up.
                while node.work.is_some() {
                    node.answer(Answer::Lose);
                }
                self.fails(c, |kind| kind == ErrorKind::OutcomeUnknown);
            }
            Step::GetNext(c) => {
                let (base, node) = (self.base(before, c), self.node(c));
                let manifest = node.manifest.clone();
                node.begin(
                    async move { Ok(manifest.follow(&base, Cause::Read).await?.expect("it is there")) },
                );
                node.answer(Answer::Do);
            }
            Step::Start(c) => {
                let (base, node) = (self.base(before, c), self.node(c));
                let (manifest, uuid) = (node.manifest.clone(), u128::from(after.made));
                let edit = Edit::ClaimWriter { uuid, name: String::new() };
                node.begin(async move { manifest.commit(&base, &edit, Cause::Manifest).await });
                let held = node.gate.held();
                let [Request::Put(_, body)] = &held[..] else { panic!("an attempt begins with {held:?}") };
                let body = body.clone();
                self.bodies.insert(after.made, body);
            }
            Step::Land(flight) => {
                let attempt = before.flights[usize::from(flight)];
                let name = Name::Manifest(before.attempt(attempt).slot.into());
                assert!(self.place.create(&name, &self.bodies[&attempt]), "{name} is free");
            }
            Step::Raise(g) => {
                let floor = before.collectors[usize::from(g)].floor;
                self.place.create(&Name::ManifestFloor(floor.into()), &Bytes::from_static(b"floor"));
            }
            Step::Delete(_, slot) => self.place.delete(&Name::Manifest(slot.into())),
            Step::Choose(..) | Step::End(_) => {}
        }
        for c in 0..self.model.bounds.committers {
            self.compare(c, before, after);
        }
        self.compare_store(after);
    }

    /// Its commit fails, and it opens again.
    fn fails(&mut self, c: u8, is_right: impl Fn(ErrorKind) -> bool) {
        let done = self.node(c).done.take().expect("the commit is over");
        let error = done.expect_err("the commit fails");
        assert!(is_right(error.kind()), "committer {c} is told {:?}: {error}", error.kind());
        self.node(c).open();
    }

    /// What committer `c` is at and was told is what the model says.
    fn compare(&mut self, c: u8, before: &State, after: &State) {
        let (was, is) = (before.committers[usize::from(c)], after.committers[usize::from(c)]);
        let held = self.node(c).gate.held();
        let expected = match is.at {
            At::Idle if was == is => return,
            At::Idle => return self.believes(c, before, after),
            At::List => Request::list(Folder::Manifest),
            At::Get => Request::Get(Name::Manifest(is.slot.into())),
            At::CheckFloor | At::Verify => Request::list(Folder::ManifestFloor),
            At::Create => {
                let name = Name::Manifest(after.attempt(is.attempt).slot.into());
                Request::Put(name, self.bodies[&is.attempt].clone())
            }
            At::Look => Request::Get(Name::Manifest(after.attempt(is.attempt).slot.into())),
        };
        assert_eq!(held, [expected], "committer {c}, {is:?}");
    }

    /// Committer `c` has come to believe a version.
    fn believes(&mut self, c: u8, before: &State, after: &State) {
        let (was, base) = (before.committers[usize::from(c)], after.committers[usize::from(c)].base);
        let slot = u64::from(after.attempt(base).slot);
        let is_defeat = was.attempt != 0 && after.attempt(was.attempt).verdict == Verdict::NotCommitted;
        let view = if is_defeat {
            let node = self.node(c);
            let held = node.gate.held();
            let is_rebased =
                matches!(&held[..], [Request::Put(Name::Manifest(next), _)] if *next == slot + 1);
            assert!(is_rebased, "committer {c} has lost, and rebases on version {slot}: {held:?}");
            node.work = None;
            let read = node.manifest.stored_version(slot, None, Cause::Read);
            at_once(&node.gate, read).expect("read").expect("it is above the floor")
        } else {
            let done = self.node(c).done.take();
            done.unwrap_or_else(|| panic!("committer {c} is done")).expect("it is told of a version")
        };
        assert_eq!(view.id(), slot, "committer {c} believes");
        let token = Token::of(&self.bodies[&base]).expect("it has one");
        assert_eq!(view.root.token[..], token.0, "committer {c} believes attempt {base}");
        self.views.insert(base, view);
    }

    fn compare_store(&self, after: &State) {
        let slots = self.place.numbered(Folder::Manifest);
        for slot in 1..=SLOTS as u8 {
            let expected = Some(after.slot(slot)).filter(|attempt| *attempt != 0);
            let expected = expected.map(|attempt| &self.bodies[&attempt]);
            assert_eq!(slots.get(&slot.into()), expected, "version {slot}");
        }
        let floor = self.place.numbered(Folder::ManifestFloor).keys().next_back().copied();
        assert_eq!(floor.unwrap_or(0), u64::from(after.floor), "the floor");
    }

    fn node(&mut self, c: u8) -> &mut Node {
        &mut self.nodes[usize::from(c)]
    }

    fn base(&self, s: &State, c: u8) -> Arc<View> {
        self.views[&s.committers[usize::from(c)].base].clone()
    }
}

#[test]
fn the_manifest_does_as_the_model_of_the_commit_rule() {
    let model = Commit { bounds: Bounds { ring: SLOTS + 1, ..ALL }, mutation: None };
    let walks = along("commit", &model, WALKS, 80, |seed, steps| {
        let mut driver = Driver::new(&model, seed);
        retrace(&model, steps, |step, before, after| driver.take(*step, before, after));
    });
    assert!(walks >= WALKS);
}
