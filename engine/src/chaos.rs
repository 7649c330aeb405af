//! Switches by which a simulator makes rare paths common, and sees which were taken.
//!
//! Paths that hardly ever run are where engines lose data. A simulator turns a [`Storm`] on for its
//! thread; from then on [`rare`] answers yes now and then, at a share of its sites that the seed draws, and
//! [`mark`] notes what was reached. Without a storm both cost a look at one thread-local and do nothing.
//! The idea is FoundationDB's BUGGIFY; the marks are TigerBeetle's.
//!
//! Always true: a yes may make the engine slower or busier, and never wrong: every branch it opens is one
//! that some store, load or timing would open as well; the same seed and the same order of questions give
//! the same answers.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    hash::Hasher as _,
    marker::PhantomData,
};

use twox_hash::XxHash3_64;

thread_local! {
    static STORMY: Cell<bool> = const { Cell::new(false) };
    static STORM: RefCell<State> = const { RefCell::new(State::calm()) };
}

#[derive(Debug)]
struct State {
    seed: u64,
    asked: u64,
    sites_percent: u64,
    yes_percent: u64,
    marks: BTreeMap<&'static str, u64>,
}

/// Chaos on this thread, from [`Storm::begin`] until it is dropped.
///
/// ```
/// use esker::{chaos, testing::Storm};
///
/// assert!(!chaos::rare("a buffer is cut early"));
/// let storm = Storm::begin(42, 100, 100);
/// assert!(chaos::rare("a buffer is cut early"));
/// chaos::mark("a takeover");
/// assert_eq!(storm.marks()["a takeover"], 1);
/// ```
#[derive(Debug)]
#[must_use = "it ends when it is dropped"]
pub struct Storm(PhantomData<*const ()>);

impl Storm {
    /// Turns chaos on for this thread: of all sites, `sites_percent` of a hundred are chosen by `seed`, and
    /// each of those says yes `yes_percent` times of a hundred.
    ///
    /// # Panics
    ///
    /// If there is one on this thread already.
    pub fn begin(seed: u64, sites_percent: u64, yes_percent: u64) -> Self {
        assert!(!STORMY.replace(true), "two storms on one thread would share their marks");
        STORM.replace(State { seed, asked: 0, sites_percent, yes_percent, marks: BTreeMap::new() });
        Self(PhantomData)
    }

    /// From now on no site says yes; marks go on.
    pub fn calm(&self) {
        STORM.with_borrow_mut(|state| state.yes_percent = 0);
    }

    /// What was reached, and how often. A yes of [`rare`] counts under its site.
    pub fn marks(&self) -> BTreeMap<&'static str, u64> {
        STORM.with_borrow(|state| state.marks.clone())
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        STORMY.set(false);
        STORM.replace(State::calm());
    }
}

impl State {
    const fn calm() -> Self {
        Self { seed: 0, asked: 0, sites_percent: 0, yes_percent: 0, marks: BTreeMap::new() }
    }

    fn rare(&mut self, site: &'static str) -> bool {
        self.asked += 1;
        let chosen = draw(self.seed, site, 0) % 100 < self.sites_percent;
        let yes = chosen && draw(self.seed, site, self.asked) % 100 < self.yes_percent;
        if yes {
            *self.marks.entry(site).or_default() += 1;
        }
        yes
    }
}

/// Whether to take the rare path at `site` this time. Always no outside a [`Storm`].
#[inline]
pub fn rare(site: &'static str) -> bool {
    STORMY.get() && STORM.with_borrow_mut(|state| state.rare(site))
}

/// Notes that `what` was reached. Nothing outside a [`Storm`].
#[inline]
pub fn mark(what: &'static str) {
    if STORMY.get() {
        STORM.with_borrow_mut(|state| *state.marks.entry(what).or_default() += 1);
    }
}

fn draw(seed: u64, site: &str, turn: u64) -> u64 {
    let mut hash = XxHash3_64::with_seed(seed);
    hash.write(site.as_bytes());
    hash.write_u64(turn);
    hash.finish()
}
