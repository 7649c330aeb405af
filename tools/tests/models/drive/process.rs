//! A process of the engine: its way to the store, its clock, its manifest, and the one thing that it is at.

use std::{future::pending, sync::Arc};

use esker::{
    Result,
    manifest::{Manifest, StoredOptions},
    store::Store,
};

use super::{Answer, Gate, Place, Request, StillClock, Work, at_once};

/// A process, at most at one thing that comes to a `T`.
pub(crate) struct Process<T> {
    pub(crate) gate: Gate,
    pub(crate) clock: Arc<StillClock>,
    pub(crate) manifest: Manifest,
    work: Option<Work<Result<T>>>,
    /// What the work has come to.
    done: Option<Result<T>>,
}

impl<T> Process<T> {
    /// One that opens the database in `place`, or makes it with `options`.
    pub(crate) fn new(place: &Place, seed: u64, options: StoredOptions) -> Self {
        let (gate, clock) = (Gate::new(place), Arc::new(StillClock::new(seed)));
        let store = Store::from_object_store(Arc::new(gate.clone()), "memory", clock.clone());
        let manifest = at_once(&gate, Manifest::open_or_create(store, options)).expect("opened");
        Self { gate, clock, manifest, work: None, done: None }
    }

    /// Begins something, and goes on until it waits for the store.
    pub(crate) fn begin(&mut self, work: impl Future<Output = Result<T>> + 'static) {
        assert!(self.work.is_none(), "a process does one thing at a time");
        (self.work, self.done) = (Some(Work::new(work)), None);
        self.go_on();
    }

    /// It crashes, or gives up what it was at.
    pub(crate) fn stop(&mut self) {
        (self.work, self.done) = (None, None);
        // What it had spawned ends.
        Work::new(pending::<()>()).go_on();
    }

    pub(crate) fn is_at_work(&self) -> bool {
        self.work.is_some()
    }

    /// What it has come to, once.
    pub(crate) fn done(&mut self) -> Option<Result<T>> {
        self.done.take()
    }

    pub(crate) fn held(&self) -> Vec<Request> {
        self.gate.held()
    }

    pub(crate) fn waits_for(&self, wanted: impl Fn(&Request) -> bool) -> bool {
        self.held().iter().any(wanted)
    }

    /// Answers the one request that is `wanted`.
    pub(crate) fn answer(&mut self, wanted: impl Fn(&Request) -> bool, answer: Answer) {
        match self.gate.take(wanted) {
            Some(held) => held.answer(answer),
            None => panic!("it waits for {:?}", self.held()),
        }
        self.go_on();
    }

    /// Lets go what it asks for, as long as that is `wanted`.
    pub(crate) fn let_go(&mut self, wanted: impl Fn(&Request) -> bool) {
        self.answer_all(wanted, Answer::Do);
    }

    /// Answers what it asks for, as long as that is `wanted`.
    pub(crate) fn answer_all(&mut self, wanted: impl Fn(&Request) -> bool, answer: Answer) {
        while self.work.is_some()
            && let Some(held) = self.gate.take(&wanted)
        {
            held.answer(answer);
            self.go_on();
        }
    }

    /// Does something beside its work, at once.
    pub(crate) fn at_once<U>(&self, work: impl Future<Output = U>) -> U {
        at_once(&self.gate, work)
    }

    fn go_on(&mut self) {
        if let Some(done) = self.work.as_mut().and_then(Work::go_on) {
            (self.work, self.done) = (None, Some(done));
        }
    }
}
