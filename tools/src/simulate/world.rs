//! The world of one run: the store and its weather, the history, the counts, and the hash of everything said.
//!
//! ```text
//! process ── request ──► fate ──► applied, in a task of the world ──► answer, if any
//!                                   └ each change is seen here first: marks, invariants
//! ```
//!
//! Always true: one thread, one runtime, virtual time; every draw is from a stream of the seed; whatever is
//! said between a process and the store goes into the trace, so that two runs of a seed have one hash.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fs::File,
    future::Future,
    hash::{DefaultHasher, Hasher as _},
    io::{BufWriter, Write as _},
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use esker::{
    Token,
    clock::SharedClock,
    manifest::{Identity, Root, codec},
    testing::SimClock,
};
use parking_lot::{Mutex, MutexGuard};

use super::{
    dice::Dice,
    failure::Failure,
    fate::{Fate, Verb, Weather},
    history::{Happening, History, Node},
    invariants::Checker,
    objects::Objects,
    swarm::Drawn,
};

thread_local! {
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

static TOLD: OnceLock<Mutex<BufWriter<File>>> = OnceLock::new();

/// The world, shared by everything in it.
pub(crate) type SharedWorld = Arc<World>;

/// What does not change, and what does.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) drawn: Drawn,
    /// True time.
    pub(crate) clock: SharedClock,
    state: Mutex<State>,
}

/// What changes.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) objects: Objects,
    pub(crate) weather: Weather,
    pub(crate) history: History,
    pub(crate) counts: Counts,
    pub(crate) marks: BTreeMap<&'static str, u64>,
    /// What went wrong, in the order in which it was seen.
    pub(crate) failures: Vec<Failure>,
    /// The invariants of the store.
    pub(crate) checker: Checker,
    /// When the first version landed.
    pub(crate) created_ms: Option<u64>,
    /// The newest write known to be durable.
    pub(crate) token: Option<Token>,
    /// How many operations clients may still begin.
    pub(crate) left: u64,
    /// Requests that are on their way and may still be applied.
    pub(crate) in_flight: u64,
    /// Bodies that were spoiled so far, by machine.
    pub(crate) spoiled: BTreeMap<u32, u64>,
    /// Machines that were refused for lost credentials so far.
    pub(crate) forbidden: BTreeSet<u32>,
    /// The newest version that has landed.
    pub(crate) latest: Option<Root>,
    dice: Dice,
    trace: DefaultHasher,
    identity: Option<Identity>,
}

/// How much of everything there was.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) operations: u64,
    pub(crate) calls: u64,
    pub(crate) faults: u64,
    pub(crate) crashes: u64,
    pub(crate) pauses: u64,
    pub(crate) versions: u64,
}

impl World {
    /// The world that `drawn` describes. On the runtime that it shall live in.
    pub(crate) fn new(drawn: Drawn) -> SharedWorld {
        let state = State {
            objects: Objects::default(),
            weather: Weather::default(),
            history: History::new(),
            counts: Counts::default(),
            marks: BTreeMap::new(),
            failures: Vec::new(),
            checker: Checker::new(),
            created_ms: None,
            token: None,
            left: drawn.operations,
            in_flight: 0,
            spoiled: BTreeMap::new(),
            forbidden: BTreeSet::new(),
            latest: None,
            dice: Dice::new(drawn.seed, "store"),
            trace: DefaultHasher::new(),
            identity: None,
        };
        let clock = SimClock::shared(drawn.seed);
        Arc::new(Self { drawn, clock, state: Mutex::new(state) })
    }

    /// What changes. Never held over an await.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    pub(crate) fn now_us(&self) -> u64 {
        self.clock.monotonic().as_micros() as u64
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.clock.monotonic().as_millis() as u64
    }

    /// Waits in true time.
    pub(crate) async fn sleep_ms(&self, ms: u64) {
        if ms > 0 {
            self.clock.sleep(Duration::from_millis(ms)).await;
        }
    }

    /// Notes something that happened.
    pub(crate) fn event(&self, node: Option<Node>, happening: Happening) {
        let now_us = self.now_us();
        self.state().history.event(node, happening, now_us);
    }

    /// Notes a line for people.
    pub(crate) fn note(&self, node: Option<Node>, line: impl Into<String>) {
        self.event(node, Happening::Note(line.into()));
    }

    /// Something is wrong: the run has failed.
    pub(crate) fn fail(&self, rule: &'static str, detail: impl Into<String>) {
        self.broken(Failure::new(rule, detail));
    }

    /// The run has failed, as an oracle says.
    pub(crate) fn broken(&self, failure: Failure) {
        self.note(None, format!("FAILURE {failure}"));
        self.state().failures.push(failure);
    }

    /// Takes one of the operations that are left.
    pub(crate) fn take_operation(&self) -> bool {
        let state = &mut *self.state();
        let some = state.left > 0;
        if some {
            state.left -= 1;
            state.counts.operations += 1;
        }
        some
    }

    /// Whether faults have ended.
    pub(crate) fn is_healed(&self) -> bool {
        self.state().weather.healed
    }

    /// A request is sent: what becomes of it.
    pub(crate) fn fate(&self, node: Node, verb: Verb, path: &str) -> Fate {
        let now_ms = self.now_ms();
        let state = &mut *self.state();
        let fate = state.weather.fate(&self.drawn, now_ms, node.index, verb, path, &mut state.dice);
        state.counts.calls += 1;
        state.counts.faults += fate.faults;
        if fate.spoil.is_some() {
            *state.spoiled.entry(node.index).or_default() += 1;
        }
        if fate.answer == super::fate::Answer::Forbidden {
            state.forbidden.insert(node.index);
        }
        state.say(now_ms, node, verb as u64, path.as_bytes());
        fate
    }

    /// Something comes back to a process.
    pub(crate) fn answered(&self, node: Node, path: &str, what: &[u8]) {
        let now_ms = self.now_ms();
        let state = &mut *self.state();
        state.say(now_ms, node, 100, path.as_bytes());
        state.trace.write(what);
    }

    /// A create or a PUT reaches the store. False if the create finds something there.
    pub(crate) fn put(&self, path: &str, body: &Bytes, create: bool) -> bool {
        let now_ms = self.now_ms();
        let (done, failures) = {
            let state = &mut *self.state();
            let done = if create {
                state.objects.create(path, body.clone(), now_ms)
            } else {
                state.objects.put(path, body.clone(), now_ms);
                true
            };
            state.checker.at(now_ms);
            let failures = if done { state.landed(path, body) } else { Vec::new() };
            if state.latest.is_some() {
                state.created_ms.get_or_insert(now_ms);
            }
            (done, failures)
        };
        if done && let Some(id) = path.strip_prefix("manifest/").and_then(|id| id.parse().ok()) {
            self.event(None, Happening::Manifest(id));
        }
        failures.into_iter().for_each(|failure| self.broken(failure));
        done
    }

    /// A DELETE reaches the store.
    pub(crate) fn delete(&self, path: &str) {
        let now_ms = self.now_ms();
        let checked = {
            let state = &mut *self.state();
            if state.objects.delete(path).is_none() {
                return;
            }
            if path.starts_with("sst/") {
                state.mark("a collection that deleted");
            }
            state.checker.at(now_ms);
            if state.objects.lies() { Ok(()) } else { state.checker.delete(path) }
        };
        if let Err(failure) = checked {
            self.broken(failure);
        }
    }
}

impl State {
    /// Something was reached.
    pub(crate) fn mark(&mut self, what: &'static str) {
        *self.marks.entry(what).or_default() += 1;
    }

    /// The hash of everything said so far.
    pub(crate) fn trace(&self) -> u64 {
        self.trace.finish()
    }

    fn say(&mut self, now_ms: u64, node: Node, what: u64, path: &[u8]) {
        if let Some(file) = TOLD.get() {
            let path = String::from_utf8_lossy(path);
            // Whoever asked for it will notice that it is short.
            let _ = writeln!(file.lock(), "{now_ms} {node} {what} {path}");
        }
        self.trace.write_u64(now_ms);
        self.trace.write_u64(u64::from(node.index) << 32 | u64::from(node.incarnation));
        self.trace.write_u64(what);
        self.trace.write(path);
    }

    /// An object has come to lie at `path`.
    fn landed(&mut self, path: &str, body: &Bytes) -> Vec<Failure> {
        let mut failures = Vec::new();
        if !self.objects.lies() {
            failures.extend(self.checker.put(path, body).err());
        }
        if path == "DB" {
            self.identity = Identity::decode(body).ok();
        }
        if let Some(id) = path.strip_prefix("manifest/").and_then(|id| id.parse().ok())
            && let Some(identity) = &self.identity
        {
            self.counts.versions += 1;
            // What cannot be read the invariants have noticed.
            if let Ok(root) = codec::decode(id, identity.db_uuid, body) {
                self.version(root);
            }
        }
        failures
    }

    /// A version has landed: what it shows was reached.
    fn version(&mut self, root: Root) {
        let Some(latest) = self.latest.take_if(|latest| latest.id < root.id) else {
            if self.latest.is_none() {
                self.latest = Some(root);
            }
            return;
        };
        if root.writer.epoch > latest.writer.epoch && latest.writer.epoch > 0 {
            self.mark("a takeover");
        }
        if root.compactor.epoch > latest.compactor.epoch && latest.compactor.epoch > 0 {
            self.mark("a takeover of compacting");
        }
        let named: BTreeSet<&[u8]> = root.ssts().map(|sst| &sst.id[..]).collect();
        if latest.ssts().any(|sst| !named.contains(&sst.id[..])) {
            self.mark("a compaction");
        }
        self.latest = Some(root);
    }
}

/// From now on everything that goes into a trace is written to `file`, too.
pub(crate) fn tell_to(file: File) {
    // Only the first file counts.
    let _ = TOLD.set(Mutex::new(BufWriter::new(file)));
}

/// Starts a task that nobody can end: what is on its way outlives who sent it.
#[expect(clippy::disallowed_methods, reason = "a task of the engine's clock ends with its handle")]
pub(crate) fn detach(task: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(task);
}

/// From now on a panic in this process is remembered by its thread instead of printed.
pub(crate) fn remember_panics() {
    std::panic::set_hook(Box::new(|panic| {
        PANICS.with_borrow_mut(|panics| panics.push(panic.to_string()));
    }));
}

/// The panics of this thread since the last call.
pub(crate) fn take_panics() -> Vec<String> {
    PANICS.take()
}
