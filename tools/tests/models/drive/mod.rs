//! The engine, driven along the steps of a model: what it needs, whatever the model.
//!
//! ```text
//! model   ── walks by chance ──▶ traces: steps, with the state that the model says comes after each
//! driver  ── a step is: let this one request of this one process go, lose its reply, apply it again later, …
//! engine  ── the real thing, over a store whose every request waits to be let go ([`Gate`])
//! after each step: which request each process waits for, what it was told, what is in the store: as the model says
//! ```
//!
//! There is no runtime and no time: a process is a future that is polled until it waits for the store, its clock
//! stands still ([`StillClock`]), so a pause ends at once and a deadline comes when the trace says so.

mod gate;
mod place;
mod still;

use std::{
    collections::BTreeSet,
    fmt::Debug,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    task::{Context, Poll, Waker},
};

use stateright::{Expectation, Model};

pub(crate) use gate::{Answer, Gate, Request};
pub(crate) use place::Place;
pub(crate) use still::StillClock;

use crate::explore::{Chance, walk};

/// How many walks are looked at for the marks that those taken as they come have not reached.
const LOOKED_AT: usize = 100_000;

/// Something of the engine that is under way.
pub(crate) struct Work<T>(Pin<Box<dyn Future<Output = T>>>);

impl<T> Work<T> {
    pub(crate) fn new(future: impl Future<Output = T> + 'static) -> Self {
        Self(Box::pin(future))
    }

    /// Goes on until it waits for the store, or gives what it has come to. Not to be called after that.
    pub(crate) fn go_on(&mut self) -> Option<T> {
        match self.0.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(done) => Some(done),
            Poll::Pending => None,
        }
    }
}

/// What a process does in one go, while its requests do not wait.
pub(crate) fn at_once<T>(gate: &Gate, future: impl Future<Output = T>) -> T {
    let _open = gate.open();
    let mut future = Box::pin(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => panic!("something waits for more than the store"),
    }
}

/// Goes along `steps` from where `model` begins: `take` gets each step, with the state before it and the one after.
/// Returns the last state.
pub(crate) fn retrace<M: Model>(
    model: &M,
    steps: &[M::Action],
    mut take: impl FnMut(&M::Action, &M::State, &M::State),
) -> M::State
where
    M::Action: Clone,
{
    let mut before = model.init_states().swap_remove(0);
    for step in steps {
        let after = model.next_state(&before, step.clone()).expect("it was taken before");
        take(step, &before, &after);
        before = after;
    }
    before
}

/// Drives something along `taken` walks of `model`, each of at most `steps` steps, and as many more as it takes to
/// reach each coverage mark of the model once. `drive` gets the number of the walk and its steps, and panics if
/// what it drives does not do as the model. Returns how many walks that were.
pub(crate) fn along<M: Model>(
    what: &str,
    model: &M,
    taken: usize,
    steps: usize,
    mut drive: impl FnMut(u64, &[M::Action]),
) -> usize
where
    M::Action: Clone + Debug,
{
    let marks: Vec<_> =
        model.properties().into_iter().filter(|p| p.expectation == Expectation::Sometimes).collect();
    let mut missing: BTreeSet<&str> = marks.iter().map(|mark| mark.name).collect();
    let (mut walks, mut all_steps) = (0, 0);
    for seed in 0..LOOKED_AT as u64 {
        if walks >= taken && missing.is_empty() {
            break;
        }
        let mut reached = BTreeSet::new();
        let trace = walk(model, &mut Chance(seed), steps, |state| {
            reached.extend(marks.iter().filter(|mark| (mark.condition)(model, state)).map(|mark| mark.name));
            true
        });
        if walks >= taken && missing.is_disjoint(&reached) {
            continue;
        }
        missing.retain(|mark| !reached.contains(mark));
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drive(seed, &trace))) {
            println!("{what}: the engine does not do as the model in walk {seed}: {trace:?}");
            resume_unwind(panic);
        }
        walks += 1;
        all_steps += trace.len();
    }
    assert!(missing.is_empty(), "{what}: no walk comes to {missing:?}");
    println!("{what}: the engine does as the model in {walks} walks, {all_steps} steps");
    walks
}
