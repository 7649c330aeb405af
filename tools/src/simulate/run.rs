//! One run: chaos, then healing, then what the oracles say.
//!
//! ```text
//! lie     (some seeds) the store lies: creating a database on it must be refused
//! chaos   machines crash, stand still, race for the role, lose credentials; the store does its worst
//! heal    no faults from here on, every machine restarted once: it must converge (heal.rs)
//! check   the history against the oracles
//! ```
//!
//! Always true: one thread and one runtime for each run; nothing of a run survives it.

use std::{collections::BTreeMap, sync::Arc};

use esker::{
    Db, ErrorKind,
    clock::Task,
    testing::{Storm, single_threaded},
};

use super::{
    dice::Dice,
    failure::Failure,
    heal,
    history::{History, Node},
    linear::{self, Checked},
    model,
    order::Order,
    process::{Machine, Process, Role},
    shorten::Options,
    store::SimStore,
    swarm::Drawn,
    world::{self, Counts, SharedWorld, World, detach},
};

/// What came of a run.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) options: Options,
    pub(crate) drawn: Drawn,
    pub(crate) counts: Counts,
    /// What was reached, and how often.
    pub(crate) marks: BTreeMap<&'static str, u64>,
    pub(crate) failures: Vec<Failure>,
    pub(crate) history: History,
    /// Keys whose calls had too many orders for the second opinion to try.
    pub(crate) given_up: usize,
    /// Two runs of a seed have the same.
    pub(crate) trace: u64,
    /// How long it took in the world.
    pub(crate) virtual_ms: u64,
}

/// What every seed must reach, and how often.
const WANTED: [(&str, u64); 4] =
    [("a takeover", 1), ("a compaction", 3), ("a collection that deleted", 1), ("scan pinned", 1)];

/// Chaos ends, too, when so many requests were made for each operation of the run.
const CALLS_PER_OPERATION: u64 = 60;

/// Chaos ends after this, however little was done.
const LONGEST_CHAOS_MS: u64 = 30 * 60 * 1000;

impl Report {
    /// What the run should have reached and did not.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        let reached = |what| self.marks.get(what).copied().unwrap_or(0);
        WANTED.iter().filter(|(what, times)| reached(*what) < *times).map(|(what, _)| *what).collect()
    }
}

/// Runs a seed, less what `options` leave out.
pub(crate) fn run(options: &Options) -> Report {
    let drawn = options.drawn();
    let storm = Storm::begin(drawn.seed, drawn.storm.0, drawn.storm.1);
    let _one = single_threaded();
    world::take_panics();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap_or_else(|error| unreachable!("a runtime without I/O needs nothing: {error}"));
    let world = runtime.block_on(async {
        let world = World::new(drawn.clone());
        play(&world, &storm).await;
        world
    });
    let virtual_ms = runtime.block_on(async { world.now_ms() });
    drop(runtime);
    for panic in world::take_panics() {
        world.state().failures.push(Failure::new("nothing panics", panic));
    }
    let state = &mut *world.state();
    let mut given_up = 0;
    if state.failures.is_empty() {
        match check(&state.history) {
            Ok(checked) => given_up = checked.given_up,
            Err(failure) => state.failures.push(failure),
        }
    }
    let mut marks = std::mem::take(&mut state.marks);
    marks.extend(storm.marks());
    Report {
        options: options.clone(),
        drawn,
        counts: state.counts,
        marks,
        failures: std::mem::take(&mut state.failures),
        history: std::mem::take(&mut state.history),
        given_up,
        trace: state.trace(),
        virtual_ms,
    }
}

/// What the oracles say about the history.
fn check(history: &History) -> Result<Checked, Failure> {
    let order = Order::of(history)?;
    model::check(history)?;
    linear::check(history, &order)
}

async fn play(world: &SharedWorld, storm: &Storm) {
    refuse_a_liar(world).await;
    let drawn = &world.drawn;
    let roles = [
        (Role::Writer, drawn.writers),
        (Role::Reader, drawn.readers),
        (Role::Compactor, drawn.compactors),
        (Role::Collector, 1),
    ];
    let roles = roles.into_iter().flat_map(|(role, number)| (0..number).map(move |_| role));
    let machines: Vec<Arc<Machine>> =
        (0..).zip(roles).map(|(index, role)| Machine::new(index, role)).collect();
    let running: Vec<Task> =
        machines.iter().map(|machine| Task::spawn(Arc::clone(machine).run(Arc::clone(world)))).collect();

    let chaos = [
        Task::spawn(crashes(Arc::clone(world), machines.clone())),
        Task::spawn(pauses(Arc::clone(world), machines.clone())),
        Task::spawn(takeovers(Arc::clone(world), machines.clone())),
        Task::spawn(lost_credentials(Arc::clone(world), machines.clone())),
    ];
    let most_calls = CALLS_PER_OPERATION * drawn.operations;
    let goes_on = || {
        let state = world.state();
        state.left > 0 && state.counts.calls < most_calls
    };
    while goes_on() && world.now_ms() < LONGEST_CHAOS_MS {
        world.sleep_ms(100).await;
    }
    drop(chaos);
    storm.calm();
    heal::heal(world, &machines).await;
    drop(running);
}

/// A store that lies must be refused by name when a database is to be created on it.
async fn refuse_a_liar(world: &SharedWorld) {
    let Some(lie) = world.drawn.lie else { return };
    {
        let state = &mut *world.state();
        state.weather.healed = true;
        state.objects.set_lie(Some(lie));
    }
    let mut dice = Dice::new(world.drawn.seed, "liar");
    let process = Process::begin(world, Node { index: 99, incarnation: 0 }, &mut dice);
    let connection = Arc::new(SimStore::new(world, &process.life));
    let opening = Db::builder("simulated://").object_store(connection).clock(Arc::clone(&process.clock));
    match opening.open().await {
        Err(error) if error.kind() == ErrorKind::Unsupported => world.state().mark("a liar refused"),
        Err(error) => world.fail("a store that lies is refused by name", format!("{lie:?}: {error}")),
        Ok(_) => world.fail("a store that lies is refused by name", format!("{lie:?}: it was taken")),
    }
    let state = &mut *world.state();
    state.weather.healed = false;
    state.objects.set_lie(None);
}

async fn crashes(world: SharedWorld, machines: Vec<Arc<Machine>>) {
    let mut dice = Dice::new(world.drawn.seed, "crashes");
    loop {
        world.sleep_ms(dice.wait_ms(world.drawn.crash_every_ms).max(1)).await;
        machines[dice.below(machines.len() as u64) as usize].crash.notify_one();
    }
}

async fn pauses(world: SharedWorld, machines: Vec<Arc<Machine>>) {
    let mut dice = Dice::new(world.drawn.seed, "pauses");
    if world.drawn.pause_every_ms == 0 {
        return;
    }
    loop {
        world.sleep_ms(dice.wait_ms(world.drawn.pause_every_ms).max(1)).await;
        let machine = &machines[dice.below(machines.len() as u64) as usize];
        let Some(life) = machine.life.lock().clone() else { continue };
        let ms = dice.spread(100..=world.drawn.longest_pause_ms);
        world.event(Some(life.node), super::history::Happening::Paused);
        world.state().counts.pauses += 1;
        life.pause();
        let world = Arc::clone(&world);
        detach(async move {
            world.sleep_ms(ms).await;
            life.resume();
            world.event(Some(life.node), super::history::Happening::Resumed);
        });
    }
}

async fn takeovers(world: SharedWorld, machines: Vec<Arc<Machine>>) {
    let mut dice = Dice::new(world.drawn.seed, "takeovers");
    loop {
        world.sleep_ms(dice.wait_ms(world.drawn.takeover_every_ms).max(1)).await;
        // Sometimes several race.
        for _ in 0..dice.pick(&[1, 1, 2, 4]) {
            machines[dice.below(world.drawn.writers) as usize].wake.notify_one();
        }
    }
}

async fn lost_credentials(world: SharedWorld, machines: Vec<Arc<Machine>>) {
    let mut dice = Dice::new(world.drawn.seed, "credentials");
    if world.drawn.forbid_every_ms == 0 {
        return;
    }
    loop {
        world.sleep_ms(dice.wait_ms(world.drawn.forbid_every_ms).max(1)).await;
        let machine = dice.below(machines.len() as u64) as u32;
        let until_ms = world.now_ms() + dice.spread(1_000..=300_000);
        world.note(None, format!("machine {machine} loses its credentials until {until_ms} ms"));
        world.state().weather.forbid(machine, until_ms);
    }
}
