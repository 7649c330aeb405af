//! The machines and what runs on them: writers, readers, compactors, collectors; started, crashed, restarted.
//!
//! ```text
//! machine   life 0 ── crash ── wait ── life 1 ── fenced ── standby ── woken ── life 2 …
//! life      options drawn anew, a clock of its own, a connection of its own, the engine, its clients
//! ```
//!
//! Always true: a life that ended is killed before anything of it is dropped, so that no last word of a
//! destructor reaches the store; a machine has one life at a time.

use std::{sync::Arc, time::Duration};

use esker::{
    Compaction, Db, ErrorKind, Options, Reader,
    clock::{SharedClock, Task},
    compaction::{
        collect as garbage,
        publish::{Compactor, Did},
    },
    manifest::Manifest,
    store::Store,
};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{
    dice::Dice,
    history::{HandleId, HandleKind, Happening, Node},
    judge::judge,
    life::Life,
    store::SimStore,
    swarm::{LEAST_MEMTABLE_BYTES, Merging},
    workload,
    world::SharedWorld,
};

/// What a machine runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Writer,
    Reader,
    Compactor,
    Collector,
}

/// A machine, from outside.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) index: u32,
    pub(crate) role: Role,
    /// Ends the life that runs.
    pub(crate) crash: Notify,
    /// Begins the next one of a machine on standby.
    pub(crate) wake: Notify,
    /// Whether this writer shall take writing over at its next start.
    pub(crate) may_open: Mutex<bool>,
    pub(crate) life: Mutex<Option<Arc<Life>>>,
    /// The database that the present life of a writer has opened.
    pub(crate) db: Mutex<Option<(Db, HandleId)>>,
}

/// What one life has to work with.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    pub(crate) world: SharedWorld,
    pub(crate) life: Arc<Life>,
    pub(crate) clock: SharedClock,
    /// By how much its clock is fast, in millionths.
    drift_ppm: i64,
    /// It began after faults had ended, so nothing excuses it.
    pub(crate) healed: bool,
    pub(crate) dice: Dice,
}

impl Machine {
    pub(crate) fn new(index: u32, role: Role) -> Arc<Self> {
        Arc::new(Self {
            index,
            role,
            crash: Notify::new(),
            wake: Notify::new(),
            may_open: Mutex::new(true),
            life: Mutex::new(None),
            db: Mutex::new(None),
        })
    }

    /// Whether `node` is the life that runs here.
    pub(crate) fn is_living(&self, node: Node) -> bool {
        self.life.lock().as_ref().is_some_and(|life| life.node == node && !life.has_ended())
    }

    /// The machine's whole existence.
    pub(crate) async fn run(self: Arc<Self>, world: SharedWorld) {
        let mut dice = Dice::new(world.drawn.seed, &format!("machine {}", self.index));
        for incarnation in 0.. {
            let node = Node { index: self.index, incarnation };
            let process = Process::begin(&world, node, &mut dice);
            let life = Arc::clone(&process.life);
            *self.life.lock() = Some(Arc::clone(&life));
            world.event(Some(node), Happening::Started);
            let running = Task::spawn(Arc::clone(&self).live(process));
            let crashed = tokio::select! {
                biased;
                () = self.crash.notified() => true,
                () = running.join() => false,
            };
            life.kill();
            drop(self.db.lock().take());
            if crashed {
                world.event(Some(node), Happening::Crashed);
                world.state().counts.crashes += 1;
                world.sleep_ms(dice.spread(10..=2_000)).await;
            } else {
                tokio::select! {
                    biased;
                    () = self.crash.notified() => {}
                    () = self.wake.notified() => {}
                }
            }
        }
    }

    /// One life, to its voluntary end.
    async fn live(self: Arc<Self>, process: Process) {
        match self.role {
            Role::Writer => self.write(process).await,
            Role::Reader => read(process).await,
            Role::Compactor => compact(process).await,
            Role::Collector => collect(process).await,
        }
    }

    /// A writer: opens, serves its clients, until it is fenced.
    async fn write(self: Arc<Self>, mut process: Process) {
        if !*self.may_open.lock() {
            return;
        }
        let Some(db) = process.open().await else { return };
        let epoch = db.view().root.writer.epoch;
        let handle = process.opened(HandleKind::Writer { epoch, base: db.snapshot().seq() });
        *self.db.lock() = Some((db.clone(), handle));
        let over = Arc::new(Notify::new());
        let clients: Vec<Task> = (0..process.world.drawn.writer_clients)
            .map(|number| {
                let client = process.client(number);
                Task::spawn(workload::writer_client(client, db.clone(), handle, epoch, Arc::clone(&over)))
            })
            .collect();
        let closes_after = process.dice.wait_ms(process.world.drawn.close_every_ms);
        tokio::select! {
            biased;
            () = over.notified() => {
                process.world.event(Some(process.life.node), Happening::Fenced(handle));
                if process.healed {
                    // By a claim that was on its way when its sender died.
                    self.wake.notify_one();
                }
            }
            () = process.clock.sleep(Duration::from_millis(closes_after)), if !process.world.is_healed() => {
                drop(clients);
                match db.close().await {
                    Ok(()) => process.world.note(Some(process.life.node), "closed"),
                    Err(error) => judge(&process, Some(epoch), &error, "closing"),
                }
                // Some come back at once.
                if process.dice.chance(0.7) {
                    self.wake.notify_one();
                }
            }
        }
        drop(self.db.lock().take());
    }
}

impl Process {
    /// A new life on machine `node.index`.
    pub(crate) fn begin(world: &SharedWorld, node: Node, dice: &mut Dice) -> Self {
        let life = Life::begin(node);
        let (skew_ms, drift_ppm) = if world.drawn.skewed && !world.is_healed() {
            let day = 24 * 3600 * 1000;
            let skew = dice.pick(&[1_000, 60_000, day]);
            (dice.below(2 * skew) as i64 - skew as i64, dice.below(2_000) as i64 - 1_000)
        } else {
            (0, 0)
        };
        // Wall clocks go on while nobody lives.
        let clock = life.clock(dice.bits(), skew_ms.saturating_add_unsigned(world.now_ms()), drift_ppm);
        let dice = Dice::new(dice.bits(), "life");
        Self { world: Arc::clone(world), life, clock, drift_ppm, healed: world.is_healed(), dice }
    }

    /// The most true time that can pass while the process's clock shows `ms`, in microseconds.
    pub(crate) fn true_us(&self, ms: u64) -> u64 {
        // A slow clock takes longer; one more for what is rounded.
        let slow_ppm = (-self.drift_ppm).max(0) as u64;
        ms * 1_000_000_000 / (1_000_000 - slow_ppm) + 1
    }

    /// The same process, for its client `number`.
    fn client(&mut self, number: u64) -> workload::Client {
        let id = self.life.node.index * 100 + number as u32;
        workload::Client::new(Self { dice: Dice::new(self.dice.bits(), "client"), ..self.clone() }, id)
    }

    pub(crate) fn store(&self) -> Store {
        let connection = Arc::new(SimStore::new(&self.world, &self.life));
        Store::from_object_store(connection, "simulated://", Arc::clone(&self.clock))
    }

    /// Notes a handle that was opened.
    pub(crate) fn opened(&self, kind: HandleKind) -> HandleId {
        let now_us = self.world.now_us();
        self.world.state().history.open(self.life.node, kind, now_us)
    }

    pub(crate) async fn pause(&mut self, least_ms: u64, most_ms: u64) {
        let ms = self.dice.spread(least_ms..=most_ms);
        self.clock.sleep(Duration::from_millis(ms)).await;
    }

    /// Opens the database with options drawn anew, again and again; `None` if another took over meanwhile.
    pub(crate) async fn open(&mut self) -> Option<Db> {
        loop {
            let connection = Arc::new(SimStore::new(&self.world, &self.life));
            let drawn = &self.world.drawn;
            let dice = &mut self.dice;
            let memory_bytes = dice.spread(1 << 20..=8 << 20) as usize;
            let compaction = match drawn.merging {
                Merging::Writer => Compaction::InProcess,
                Merging::Compactors => Compaction::Off,
                Merging::Both => dice.pick(&[Compaction::InProcess, Compaction::Off]),
            };
            let options = Options {
                memory_bytes,
                memtable_bytes: dice.spread(LEAST_MEMTABLE_BYTES..=drawn.memtable_bytes) as usize,
                cache_bytes: dice.spread(65_536..=4 << 20) as usize,
                compaction,
                deadline: Duration::from_millis(dice.spread(1_000..=60_000)),
                name: Some(self.life.node.to_string()),
                ..Options::default()
            };
            let opening = Db::builder("simulated://")
                .options(options)
                .block_bytes(drawn.block_bytes)
                .sst_bytes(drawn.sst_bytes)
                .shape(drawn.shape.clone())
                .retention(drawn.retention)
                .wal_window(drawn.wal_window)
                .object_store(connection)
                .clock(Arc::clone(&self.clock));
            match opening.open().await {
                Ok(db) => return Some(db),
                Err(error) => {
                    judge(self, None, &error, "opening for writing");
                    if error.kind() == ErrorKind::Fenced {
                        return None;
                    }
                }
            }
            self.pause(50, 2_000).await;
        }
    }

    /// Opens the manifest, again and again.
    async fn manifest(&mut self) -> Manifest {
        loop {
            match Manifest::open(self.store()).await {
                Ok(manifest) => return manifest,
                Err(error) => judge(self, None, &error, "opening the manifest"),
            }
            self.pause(50, 2_000).await;
        }
    }
}

async fn read(mut process: Process) {
    let cache_bytes = process.dice.spread(65_536..=4 << 20) as usize;
    let (deadline_ms, follow) = (process.dice.spread(1_000..=60_000), process.dice.chance(0.7));
    let reader = loop {
        let opening = Reader::builder("simulated://")
            .store(process.store())
            .cache_bytes(cache_bytes)
            .deadline(Duration::from_millis(deadline_ms))
            .follow(follow);
        match opening.open().await {
            Ok(reader) => break reader,
            Err(error) => judge(&process, None, &error, "opening for reading"),
        }
        process.pause(50, 2_000).await;
    };
    let handle = process.opened(HandleKind::Reader);
    let clients: Vec<Task> = (0..process.world.drawn.reader_clients)
        .map(|number| Task::spawn(workload::reader_client(process.client(number), reader.clone(), handle)))
        .collect();
    for client in clients {
        client.join().await;
    }
    // Alive until it is killed.
    std::future::pending::<()>().await;
}

async fn compact(mut process: Process) {
    let manifest = process.manifest().await;
    let name = process.life.node.to_string();
    loop {
        let force = if process.world.drawn.skewed { 0.5 } else { 0.3 };
        let force = !process.healed && process.dice.chance(force);
        let idle_ms = if process.healed { 60_000 } else { 2_000 };
        let mut role = match Compactor::claim(manifest.clone(), &name, force).await {
            Ok(role) => role,
            Err(error) => {
                judge(&process, None, &error, "claiming the compactor's role");
                process.pause(100, 10_000).await;
                continue;
            }
        };
        loop {
            match role.step().await {
                Ok(Did::Nothing) => {
                    if process.dice.chance(0.3)
                        && let Err(error) = role.collect(false).await
                    {
                        judge(&process, None, &error, "collecting as the compactor");
                    }
                    process.pause(50, idle_ms).await;
                }
                Ok(_) => {}
                Err(error) => {
                    judge(&process, None, &error, "merging");
                    if error.kind() == ErrorKind::Fenced {
                        break;
                    }
                    process.pause(50, 2_000).await;
                }
            }
            if process.dice.chance(0.02) && !process.healed {
                if let Err(error) = role.release().await {
                    judge(&process, None, &error, "giving the compactor's role up");
                }
                break;
            }
        }
        process.pause(50, 2 * idle_ms).await;
    }
}

async fn collect(mut process: Process) {
    let manifest = process.manifest().await;
    loop {
        let wait_ms = process.dice.wait_ms(process.world.drawn.collect_every_ms).max(10);
        let wait_ms = if process.healed { wait_ms.max(60_000) } else { wait_ms };
        process.clock.sleep(Duration::from_millis(wait_ms)).await;
        match garbage::collect(&manifest, None, false).await {
            Ok(collected) if collected.deleted.is_empty() => {}
            Ok(collected) => {
                let line =
                    format!("collected {} objects, floor {}", collected.deleted.len(), collected.floor);
                process.world.note(Some(process.life.node), line);
            }
            Err(error) => judge(&process, None, &error, "collecting"),
        }
    }
}
