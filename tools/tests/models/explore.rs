//! How a model is explored: every state when it is to hold, by chance when it has a mutation.
//!
//! A model that is to hold is walked by `stateright`, depth first, which keeps few states at hand, over every
//! state within its bounds: what it promises must hold in each, and each of its coverage marks must be reached,
//! so that no bound makes it true by leaving out what is interesting. A mutation is looked for by walks of
//! chance from a fixed seed, which find in seconds what lies too deep to be found in order.
//!
//! A counterexample found in either way is long; it is shortened by leaving out steps for as long as the rest
//! still breaks the promise, so that a person can read it.
//!
//! | variable | effect |
//! |---|---|
//! | `ESKER_MODEL_STATES=100000000` | wide bounds, and up to so many states of each model |
//! | `ESKER_MODEL_STEPS=1` | prints the steps of each counterexample |

use std::{collections::BTreeSet, fmt::Debug, hash::Hash, time::Instant};

use stateright::{Checker, Expectation, HasDiscoveries, Model};

const THREADS: usize = 2;
/// How long a walk by chance is, and how many steps all walks of a mutation may take together.
const WALK_STEPS: usize = 80;
const MOST_STEPS: usize = 40_000_000;

/// How many states each model may take, if this run is the long one.
pub(crate) fn wide() -> Option<usize> {
    std::env::var("ESKER_MODEL_STATES").ok()?.parse().ok()
}

/// Walks every state of `model`, and returns how many there are. Panics with the steps that lead there if a
/// promise breaks, and if a coverage mark was not reached.
pub(crate) fn holds<M>(what: &str, model: &M) -> usize
where
    M: Model + Clone + Send + Sync + 'static,
    M::State: Clone + PartialEq + Debug + Hash + Send + Sync,
    M::Action: Clone + PartialEq + Debug + Send + Sync,
{
    let started = now();
    let mut checker = model.clone().checker().threads(THREADS).finish_when(HasDiscoveries::AnyFailures);
    // This counts every step; one in eight or more comes to a new state.
    let most = wide().map(|states| states.saturating_mul(8));
    if let Some(steps) = most {
        checker = checker.target_state_count(steps);
    }
    let checker = checker.spawn_dfs().join();
    let found: BTreeSet<&str> = checker.discoveries().into_keys().collect();
    let seconds = started.elapsed().as_secs_f64();
    let states = checker.unique_state_count();
    println!(
        "{what}: {states} states, {} steps, depth {}, {seconds:.1} s",
        checker.state_count(),
        checker.max_depth()
    );
    if let Some((name, steps)) = shortest(model, &checker) {
        panic!("{what}: broken: {name}, after {} steps:\n{}", steps.len(), lines(&steps));
    }
    let marks = model.properties().into_iter().filter(|p| p.expectation == Expectation::Sometimes);
    let missed: Vec<_> = marks.map(|mark| mark.name).filter(|name| !found.contains(name)).collect();
    // Who does not come to an end may not come to a mark.
    let is_whole = most.is_none_or(|most| checker.state_count() < most);
    assert!(!is_whole || missed.is_empty(), "{what}: within these bounds never: {missed:?}");
    states
}

/// Looks for each of `mutations`. Panics with those that break nothing: mistakes that the model does not notice.
pub(crate) fn all_caught<M: Model, T: Copy + Debug>(what: &str, mutations: &[T], model: impl Fn(T) -> M)
where
    M::Action: Clone + Debug,
{
    let missed: Vec<_> =
        mutations.iter().filter(|mutation| !caught(what, *mutation, &model(**mutation))).collect();
    assert!(missed.is_empty(), "{what}: these break nothing: {missed:?}");
}

/// Walks `model`, which has a mutation, by chance from a fixed seed until a promise breaks, and shortens the walk.
fn caught<M: Model>(what: &str, mutation: impl Debug, model: &M) -> bool
where
    M::Action: Clone + Debug,
{
    let started = now();
    let promises: Vec<_> =
        model.properties().into_iter().filter(|p| p.expectation == Expectation::Always).collect();
    let mut chance = Chance(1);
    let mut taken = 0;
    while taken < MOST_STEPS {
        let steps = walk(model, &mut chance, WALK_STEPS, |state| {
            promises.iter().all(|promise| (promise.condition)(model, state))
        });
        taken += steps.len();
        let broken = promises.iter().find(|p| breaking(model, p.condition, steps.iter()).is_some());
        if let Some(promise) = broken {
            let found = started.elapsed().as_secs_f64();
            let steps = shorten(model, promise.condition, steps);
            println!(
                "{what}: {mutation:?}: broken: {}, {} steps, found after {taken} in {found:.2} s",
                promise.name,
                steps.len()
            );
            if std::env::var_os("ESKER_MODEL_STEPS").is_some() {
                println!("{}", lines(&steps));
            }
            return true;
        }
    }
    println!("{what}: {mutation:?}: breaks nothing in {taken} steps");
    false
}

/// A walk of at most `most` steps by chance; ends early where nothing can happen, or `goes_on` says so.
pub(crate) fn walk<M: Model>(
    model: &M,
    chance: &mut Chance,
    most: usize,
    mut goes_on: impl FnMut(&M::State) -> bool,
) -> Vec<M::Action>
where
    M::Action: Clone,
{
    let mut state = model.init_states().swap_remove(0);
    let mut steps = Vec::with_capacity(most);
    let mut able = Vec::new();
    while steps.len() < most && goes_on(&state) {
        model.actions(&state, &mut able);
        let next = loop {
            if able.is_empty() {
                return steps;
            }
            let step = able.swap_remove(chance.below(able.len()));
            if let Some(next) = model.next_state(&state, step.clone()) {
                steps.push(step);
                break next;
            }
        };
        able.clear();
        state = next;
    }
    steps
}

/// Chance from a seed (SplitMix64).
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    /// A number under `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % end as u64) as usize
    }
}

/// The promise that is broken, and few steps that break it.
fn shortest<M>(model: &M, checker: &impl Checker<M>) -> Option<(&'static str, Vec<M::Action>)>
where
    M: Model,
    M::State: Clone + PartialEq + Debug + Hash,
    M::Action: Clone + PartialEq + Debug,
{
    let promises = model.properties();
    let mut found: Vec<_> = checker.discoveries().into_iter().collect();
    found.sort_by_key(|(name, _)| *name);
    found.into_iter().find_map(|(name, path)| {
        let promise = promises.iter().find(|p| p.name == name && p.expectation == Expectation::Always)?;
        Some((name, shorten(model, promise.condition, path.into_actions())))
    })
}

/// How long a walk takes is told to people, and decides nothing.
#[expect(clippy::disallowed_methods, reason = "a model has no clock, and its figures are in real seconds")]
fn now() -> Instant {
    Instant::now()
}

/// Leaves out runs of steps, shorter and shorter ones, for as long as what remains breaks `promise`.
fn shorten<M: Model>(
    model: &M,
    promise: fn(&M, &M::State) -> bool,
    mut steps: Vec<M::Action>,
) -> Vec<M::Action>
where
    M::Action: Clone,
{
    let mut run = steps.len() / 2;
    while run > 0 {
        let mut has_shrunk = false;
        let mut at = 0;
        while at < steps.len() {
            let rest = steps[..at].iter().chain(steps.iter().skip(at + run));
            match breaking(model, promise, rest) {
                Some(fewer) if fewer.len() < steps.len() => {
                    steps = fewer;
                    has_shrunk = true;
                }
                _ => at += 1,
            }
        }
        if !has_shrunk {
            run /= 2;
        }
    }
    steps
}

/// Whether taking `steps`, but for those that cannot be taken, breaks a promise of `model`.
pub(crate) fn breaks<M: Model>(model: &M, steps: &[M::Action]) -> bool
where
    M::Action: Clone,
{
    let mut promises = model.properties().into_iter().filter(|p| p.expectation == Expectation::Always);
    promises.any(|promise| breaking(model, promise.condition, steps.iter()).is_some())
}

/// Those of `steps` that can be taken, up to where `promise` breaks; `None` if it does not.
fn breaking<'a, M: Model>(
    model: &M,
    promise: fn(&M, &M::State) -> bool,
    steps: impl Iterator<Item = &'a M::Action>,
) -> Option<Vec<M::Action>>
where
    M::Action: Clone + 'a,
{
    let mut state = model.init_states().into_iter().next()?;
    let mut taken = Vec::new();
    for step in steps {
        if let Some(next) = model.next_state(&state, step.clone()) {
            state = next;
            taken.push(step.clone());
            if !promise(model, &state) {
                return Some(taken);
            }
        }
    }
    None
}

fn lines<A: Debug>(steps: &[A]) -> String {
    steps.iter().enumerate().map(|(n, step)| format!("  {:2} {step:?}\n", n + 1)).collect()
}
