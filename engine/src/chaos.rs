//! Switches by which a simulator makes rare paths common, and sees which were taken.
//!
//! Paths that hardly ever run are where engines lose data. A simulator turns a [`Storm`] on for its
//! thread; from then on [`rare`] answers yes now and then, at a share of its sites that the seed draws, and
//! [`mark`] notes what was reached. Without a storm both cost a look at one thread-local and do nothing.
//! The idea is FoundationDB's BUGGIFY; the marks are TigerBeetle's.
//!
//! The third switch puts a bug back: each [`Bug`] has lost data in an engine of this kind, or in a cache or store
//! under one, and stands at the place in this one where it would stand. With the cargo feature `seeded-bugs`,
//! `ESKER_BUG=name` in the environment makes it happen; `tools/tests/seeded_bugs.sh` does that for each and says
//! which test finds it. Without the feature [`bug`] is a constant and nothing of it is compiled.
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

/// Whether to do it wrong, in the way of `which`, on purpose. Never without the feature `seeded-bugs`.
#[cfg(not(feature = "seeded-bugs"))]
#[inline]
pub const fn bug(_which: Bug) -> bool {
    false
}

/// Whether to do it wrong, in the way of `which`, on purpose: the one bug that `ESKER_BUG` names.
///
/// # Panics
///
/// If `ESKER_BUG` names none: a bug that is not there would be found by nobody.
#[cfg(feature = "seeded-bugs")]
pub fn bug(which: Bug) -> bool {
    *NAMED.get_or_init(named_bug) == Some(which)
}

#[cfg(feature = "seeded-bugs")]
static NAMED: std::sync::OnceLock<Option<Bug>> = std::sync::OnceLock::new();

#[cfg(feature = "seeded-bugs")]
fn named_bug() -> Option<Bug> {
    let name = std::env::var("ESKER_BUG").ok().filter(|name| !name.is_empty())?;
    let found = Bug::ALL.into_iter().find(|bug| bug.name() == name);
    assert!(found.is_some(), "ESKER_BUG={name} is none of {:?}", Bug::ALL.map(Bug::name));
    found
}

/// Declares the bugs: variant, name, whose they were, what they do.
macro_rules! bugs {
    ($($bug:ident $name:literal $peers:literal $what:literal)*) => {
        /// A bug that can be put back.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Bug {
            $(#[doc = concat!($what, " (", $peers, ").")] $bug,)*
        }

        impl Bug {
            /// All of them, in the order of the floors they stand on.
            pub const ALL: [Self; [$(Self::$bug),*].len()] = [$(Self::$bug),*];

            /// Its name in `ESKER_BUG`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$bug => $name,)* }
            }
        }
    };
}

bugs! {
    DecodeUnbounded "decode-unbounded" "slatedb decode_all" "a declared length is believed without a limit"
    ChecksumWithoutPlace "checksum-without-place" "foyer #743" "a block's checksum does not know where it lies"
    ShortBodyAccepted "short-body-accepted" "rustfs #4594, scylla #31730" "a body that ends early is a success"
    OwnPutIsDefeat "own-put-is-defeat" "slatedb #766, object_store #852" "a 409 or 412 means that the slot is another's"
    AbsentSlotIsOurs "absent-slot-is-ours" "ydb #49947, fdb #14027" "a PUT that failed in doubt counts as done"
    TrustsAnyStore "trusts-any-store" "minio #21603, seaweedfs #8800" "a store whose put-if-absent is not one is used"
    FloorNotChecked "floor-not-checked" "slatedb RFC 26, delta #1410" "a version counts though its id is void"
    EpochNotChecked "epoch-not-checked" "slatedb RFC 29" "a role that was taken over commits all the same"
    InputsByPosition "inputs-by-position" "slatedb #1871" "a merge takes out so many of the oldest SSTs, whichever they are"
    PinWithoutALook "pin-without-a-look" "slatedb #2073" "a pin counts though its version was collected before"
    CheckpointUnpinned "checkpoint-unpinned" "slatedb #1643, #477" "a checkpoint is made of a version that may be collected meanwhile"
    AcknowledgedOutOfOrder "acknowledged-out-of-order" "nobody's: the protocol's own rule" "a log object is acknowledged before the ones below it"
    AcknowledgedOnTimeout "acknowledged-on-timeout" "nobody's: the protocol's own rule" "a write is durable when its deadline has passed"
    NoJump "no-jump" "nobody's: the protocol's own rule" "the new writer goes on right behind its fence"
    NoFence "no-fence" "slatedb #271" "the log is taken over without a fence in it"
    FenceNotValidated "fence-not-validated" "slatedb #271" "an opener does not look whether the epoch is still its own"
    HoleIsTheEnd "hole-is-the-end" "nobody's: the protocol's own rule" "a lost log object is taken for the end of the log"
    TombstoneDroppedEarly "tombstone-dropped-early" "nobody's: the protocol's own rule" "a delete goes though older data lies below"
    MergeResumesTooFar "merge-resumes-too-far" "slatedb #1769" "a merge that waited for bytes goes on one entry too far"
    FencesCollected "fences-collected" "slatedb #352, #1622" "collection takes fences, so that their slots are free again"
    UncommittedCollected "uncommitted-collected" "slatedb #604, ZeroFS #453" "collection takes what nothing names yet"
    PinsListedFirst "pins-listed-first" "slatedb #2073" "collection lists pins before it raises the floor"
    DeletedBeforeTheFloor "deleted-before-the-floor" "slatedb RFC 26" "collection deletes versions before their ids are void"
    LeaseRaisesTheFloor "lease-raises-the-floor" "slatedb #1044" "a lease renewal declares the running job's SSTs abandoned"
    ClaimNotChecked "claim-not-checked" "slatedb #271" "a claim counts though another's came after it"
    StaleCacheKey "stale-cache-key" "foyer #1004, #743" "the cache knows a block by epoch and offset only"
    HoleReadsAsAbsent "hole-reads-as-absent" "ZeroFS #586" "what was lost reads as if it had never been"
    ScanUnprotected "scan-unprotected" "slatedb #2073" "a scan lets go of its version at once"
    ExpiredIsTheEnd "expired-is-the-end" "slatedb #2073" "a scan whose SSTs are gone ends as if it were complete"
    RoomNotGivenBack "room-not-given-back" "slatedb #1967, lix #948" "a write that was dropped keeps its memory charged"
    ChargedTwice "charged-twice" "slatedb #1967" "a memtable that is frozen is charged a second time"
    HalfABatch "half-a-batch" "slatedb PR #1733" "a batch that is cancelled has been applied by half"
    ReplayPointAhead "replay-point-ahead" "slatedb #1625" "the replay point lies one slot behind the data"
    ReplayPointAtPublish "replay-point-at-publish" "slatedb #1857" "the replay point is taken when the flush is done"
    FlushCounterAhead "flush-counter-ahead" "slatedb #604, PR #1029" "a flush declares the next flush's SSTs abandoned"
    FrozenByPosition "frozen-by-position" "slatedb #1871" "each new version takes the oldest frozen memtable away"
    FlushSleepsOn "flush-sleeps-on" "slatedb #1687, #640" "a flush that failed waits for a wake-up that nobody gives"
}

fn draw(seed: u64, site: &str, turn: u64) -> u64 {
    let mut hash = XxHash3_64::with_seed(seed);
    hash.write(site.as_bytes());
    hash.write_u64(turn);
    hash.finish()
}
