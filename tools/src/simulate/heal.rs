//! After the faults: everyone is restarted once, and the database must converge.
//!
//! ```text
//! serve     one writer opens; every operation begun from here on ends well
//! flush     what is in memory goes into SSTs
//! land      what was on its way when the faults ended lands: up to an hour later
//! lapse     pins of reads that died with their process: a pin's life later they hold nothing
//! merge     nothing is due any more, within so many steps
//! collect   twice; then no SST, part, version or log object is there that nothing names
//! read      everything, by the writer, by a new reader, and by a new writer
//! ```
//!
//! Always true: every wait here has a limit in virtual time, so a run that hangs fails.

use std::{collections::BTreeSet, future::Future, sync::Arc, time::Duration};

use esker::{
    Db, Error, Reader,
    compaction::publish::{Compactor, Did},
    manifest::{Manifest, View, pin::PIN_LIFE_MS},
    stats::Cause,
    store::Name,
};

use super::{
    dice::Dice,
    fate::LONGEST_DELAY_MS,
    history::{HandleId, HandleKind, Happening, History, Node, Range, Reads},
    process::{Machine, Process, Role},
    workload::{Client, Source},
    world::SharedWorld,
};

/// How many operations are done after healing.
const SERVED: u64 = 60;
/// How long each stage may take: every deadline is at most a minute, and a request on its way may be delayed and then
/// come once more.
const LIMIT_MS: u64 = 2 * LONGEST_DELAY_MS + 15 * 60 * 1000;
/// How often merging and collecting is begun again because another process was at it.
const ROUNDS: usize = 10;
/// How many steps merging may take.
const STEPS: usize = 2_000;

/// Heals the world, and fails the run if it does not converge.
pub(crate) async fn heal(world: &SharedWorld, machines: &[Arc<Machine>]) {
    {
        let state = &mut *world.state();
        state.weather.healed = true;
        state.left = 0;
    }
    world.event(None, Happening::Healed);
    for (number, machine) in machines.iter().enumerate() {
        *machine.may_open.lock() = number == 0;
        if let Some(life) = machine.life.lock().clone() {
            life.resume();
        }
    }
    // What stood still for hours wakes up, and gets a moment to do harm.
    world.sleep_ms(500).await;
    let begun = world.state().history.operations.len();
    for machine in machines {
        machine.crash.notify_one();
    }
    world.state().left = SERVED;
    if let Err(stage) = converge(world, machines, begun).await {
        world.fail("after the faults everything converges", stage);
    }
}

async fn converge(world: &SharedWorld, machines: &[Arc<Machine>], begun: usize) -> Result<(), String> {
    until(world, "one writer opens", || machines[0].db.lock().is_some()).await?;
    until(world, "pending operations end", || {
        let state = world.state();
        state.left == 0 && !is_any_pending(&state.history, machines, begun)
    })
    .await?;
    // A claim that was on its way when its sender died may fence the one writer, which then opens again.
    until(world, "what was on its way lands", || world.state().in_flight == 0).await?;
    until(world, "one writer is open", || machines[0].db.lock().is_some()).await?;
    let (db, handle) = machines[0].db.lock().clone().ok_or("the one writer is gone")?;
    if let Err(error) = within(world, "flushing", db.flush()).await? {
        return Err(format!("flushing: {error}"));
    }

    let mut dice = Dice::new(world.drawn.seed, "healer");
    let healer = Process::begin(world, Node { index: 90, incarnation: 0 }, &mut dice);
    // Others that merge and collect have had their restart; from here on there is one.
    for machine in machines.iter().filter(|machine| matches!(machine.role, Role::Compactor | Role::Collector))
    {
        if let Some(life) = machine.life.lock().clone() {
            life.kill();
        }
    }
    // Reads that died with their process have left pins behind, which count until they lapse.
    world.sleep_ms(PIN_LIFE_MS + 60_000).await;
    let opened = within(world, "opening the manifest", Manifest::open(healer.store())).await?;
    let manifest = done(opened, "opening the manifest")?;
    let mut rounds = 0;
    while let Err(stage) = tidy(world, &manifest).await? {
        // A writer that merges by itself may take the role in between, as it should.
        rounds += 1;
        if rounds >= ROUNDS {
            return Err(stage);
        }
        world.sleep_ms(10_000).await;
    }

    let mut client = Client::new(healer.clone(), 9_000);
    // A writer looks for what others merged at least every half minute.
    world.sleep_ms(60_000).await;
    read_all(world, &mut client, &Source::Db(&db), handle, Some(db.view().root.writer.epoch)).await?;
    let opening = Reader::builder("simulated://").store(healer.store()).open();
    let reader = done(within(world, "opening a reader", opening).await?, "opening a reader")?;
    let strong = done(within(world, "a strong read", reader.strong()).await?, "a strong read")?;
    drop(strong);
    let reading = healer.opened(HandleKind::Reader);
    read_all(world, &mut client, &Source::Reader(&reader), reading, None).await?;
    done(within(world, "closing", db.close()).await?, "closing")?;
    drop(db);

    let mut successor = Process::begin(world, Node { index: 91, incarnation: 0 }, &mut dice);
    let db: Db = within(world, "opening once more", successor.open()).await?.ok_or("fenced by nobody")?;
    let epoch = db.view().root.writer.epoch;
    let handle = successor.opened(HandleKind::Writer { epoch, base: db.snapshot().seq() });
    let mut client = Client::new(successor, 9_100);
    read_all(world, &mut client, &Source::Db(&db), handle, Some(epoch)).await?;
    done(within(world, "closing", db.close()).await?, "closing")
}

/// Merges all that is due, collects twice, and looks for what is left over. The outer error is a wait that
/// never ended; the other may be another process at work.
async fn tidy(world: &SharedWorld, manifest: &Manifest) -> Result<Result<(), String>, String> {
    let tidied = async {
        let mut role = done(Compactor::claim(manifest.clone(), "healer", true).await, "claiming")?;
        let mut steps = 0;
        while !matches!(done(role.step().await, "merging")?, Did::Nothing) {
            steps += 1;
            if steps > STEPS {
                return Err(format!("after {steps} merges more are still due"));
            }
        }
        for _ in 0..2 {
            done(role.collect_with(Some(Duration::ZERO), false).await, "collecting")?;
        }
        let latest = done(manifest.latest(Cause::Read).await, "looking for the latest version")?;
        no_orphans(world, &latest)
    };
    within(world, "merging and collecting", tidied).await
}

/// Whether one of the operations from `begun` on may still return. What a process has open when it ends never does,
/// and a process that began after the faults may end as well: restarted with everyone, or fenced.
fn is_any_pending(history: &History, machines: &[Arc<Machine>], begun: usize) -> bool {
    history.operations[begun..].iter().any(|operation| {
        let node = history.handles[operation.handle].node;
        operation.returned.is_none() && machines.iter().any(|machine| machine.is_living(node))
    })
}

async fn read_all(
    world: &SharedWorld,
    client: &mut Client,
    source: &Source<'_>,
    handle: HandleId,
    epoch: Option<u32>,
) -> Result<(), String> {
    let reading = client.scan_from(source, handle, epoch, Reads::Handle, Range::all(0));
    if within(world, "reading everything", reading).await? {
        return Ok(());
    }
    Err("reading everything failed".to_owned())
}

fn done<T>(result: Result<T, Error>, stage: &str) -> Result<T, String> {
    result.map_err(|error| format!("{stage}: {}: {error}", error.kind().as_str()))
}

/// Waits until `reached`.
async fn until(world: &SharedWorld, stage: &str, reached: impl Fn() -> bool) -> Result<(), String> {
    let last_ms = world.now_ms() + LIMIT_MS;
    while !reached() {
        if world.now_ms() > last_ms {
            return Err(format!("{stage}: not within {} minutes", LIMIT_MS / 60_000));
        }
        world.sleep_ms(200).await;
    }
    Ok(())
}

/// Waits for `future`.
async fn within<T>(world: &SharedWorld, stage: &str, future: impl Future<Output = T>) -> Result<T, String> {
    tokio::select! {
        biased;
        done = future => Ok(done),
        () = world.sleep_ms(LIMIT_MS) => Err(format!("{stage}: no end within {} minutes", LIMIT_MS / 60_000)),
    }
}

/// Fails if there is an object that nothing names and nothing will.
fn no_orphans(world: &SharedWorld, latest: &View) -> Result<(), String> {
    let mut named: BTreeSet<String> =
        latest.runs.iter().flat_map(|run| run.ssts.iter()).map(|sst| Name::Sst(sst.id).path()).collect();
    let parts = latest.root.runs.iter().flat_map(|run| &run.parts);
    named.extend(
        parts.filter_map(|part| esker::store::ObjectId::from_bytes(&part.id)).map(|id| Name::Part(id).path()),
    );
    let state = world.state();
    let mut orphans: Vec<String> = Vec::new();
    for folder in ["sst/", "part/"] {
        orphans.extend(
            state.objects.under(folder).map(|(path, _)| path.to_owned()).filter(|path| !named.contains(path)),
        );
    }
    if orphans.is_empty() {
        return Ok(());
    }
    Err(format!("after two collections nothing names {}", orphans.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            history::{Call, Outcome},
            life::Life,
        },
        *,
    };

    #[test]
    fn an_operation_is_waited_for_only_while_the_process_that_began_it_lives() {
        let machines = [Machine::new(0, Role::Writer), Machine::new(1, Role::Reader)];
        let lives = |incarnation| {
            machines.each_ref().map(|machine| {
                let life = Life::begin(Node { index: machine.index, incarnation });
                *machine.life.lock() = Some(Arc::clone(&life));
                life
            })
        };
        let mut history = History::new();
        let invoke = |life: &Life, history: &mut History| {
            let handle = history.open(life.node, HandleKind::Reader, 0);
            history.invoke(0, handle, Call::Get(Reads::Handle, Vec::new()), 0)
        };
        let [ended, restarted] = lives(0);
        invoke(&ended, &mut history);
        assert!(is_any_pending(&history, &machines, 0));
        ended.kill();
        assert!(!is_any_pending(&history, &machines, 0), "it ended");

        invoke(&restarted, &mut history);
        assert!(is_any_pending(&history, &machines, 0));
        let [_, living] = lives(1);
        assert!(!is_any_pending(&history, &machines, 0), "another life runs there");

        let op = invoke(&living, &mut history);
        assert!(is_any_pending(&history, &machines, op));
        history.returns(op, Outcome::Values(Vec::new()), 0);
        assert!(!is_any_pending(&history, &machines, 0));
    }
}
