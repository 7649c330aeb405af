//! A session: one engine on one store in one round, in a process of its own.
//!
//! ```text
//! data wanted ──▶ load, unshaped (or `fill`, measured) ──▶ flush ──▶ merge until quiet ──▶ the workloads, in their order
//! ```
//!
//! A process of its own, so that its peak of memory, its allocator and its threads are nobody else's. Where the objects lie in
//! its memory, and that memory is not what is measured, it takes hold of enough before it begins: what a hypervisor gives a
//! page at a time costs more than what any engine does with it.
//!
//! Overwriting, and what it leaves behind, is in `overwrite`.
//!
//! Always true: a store is shaped while something is measured or warmed up, and not while data is loaded; every handle
//! that was opened is closed before the next one opens.

mod overwrite;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use esker_bench::{
    dataset::Dataset,
    figures::short,
    measure::{Latencies, Usage, peak_memory},
    sample::{Quantiles, Requests, Sample, Scale},
    workload::{READ, Spread, UPDATE},
};
use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};
use serde::{Deserialize, Serialize};

use crate::{
    clients::{self, Load, Ran, Until},
    engine::{Engine, Esker, Fjall, Kind, Order, Setup, SlateDb},
    options::Plan,
    store::{Base, Home, Place, Server, Store},
    workload::{Work, Workload},
};

/// Nothing written for so long: merging is done. SlateDB looks for merges every 5 s.
const QUIET: Duration = Duration::from_secs(6);
/// Longer than this nobody waits for merging, and so much more for each row.
const MOST_QUIET: Duration = Duration::from_secs(180);
const MOST_QUIET_A_ROW: Duration = Duration::from_micros(20);
/// Clients that write the log for `open-log`.
const LOG_CLIENTS: usize = 256;

/// What a session's process is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Session {
    pub(crate) plan: Plan,
    pub(crate) engine: Kind,
    pub(crate) store: Store,
    pub(crate) round: u32,
    pub(crate) server: Option<Server>,
    /// A name that no other session of the run has.
    pub(crate) unique: String,
}

impl Session {
    /// Whether memory and space are measured.
    pub(crate) fn measures_memory(&self) -> bool {
        let workloads = Workload::parse_list(&self.plan.workloads, self.store);
        workloads.is_ok_and(|all| all.iter().any(|workload| matches!(workload.work, Work::Overwrite)))
    }

    /// Which one it is, for people.
    pub(crate) fn title(&self) -> String {
        let Plan { rows, clients, .. } = self.plan;
        format!(
            "round {} on {}, {} rows, {clients} clients: {}",
            self.round,
            self.store,
            short(rows as f64),
            self.engine
        )
    }
}

/// What a session's process says, a line each.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Said {
    /// What it does now.
    Doing(String),
    Measured(Box<Sample>),
    Failed(String),
}

/// Runs `session` and tells what it measures.
pub(crate) async fn run(session: &Session, tell: &(dyn Fn(Said) + Send + Sync)) -> Result<()> {
    match session.engine {
        Kind::Esker => with::<Esker>(session, tell).await,
        Kind::SlateDb | Kind::SlateDbTuned => with::<SlateDb>(session, tell).await,
        Kind::Fjall => with::<Fjall>(session, tell).await,
        #[cfg(feature = "rocksdb")]
        Kind::RocksDb => with::<crate::engine::RocksDb>(session, tell).await,
        #[cfg(not(feature = "rocksdb"))]
        Kind::RocksDb => anyhow::bail!("this program was built without rocksdb"),
    }
}

/// In memory before anything is measured, for each byte of the rows: objects, those that wait to be collected, caches.
const TOUCHED: u64 = 12;
const MOST_TOUCHED: u64 = 6 << 30;

/// For how long engines keep garbage where what lies there is measured: their defaults, a quarter of an hour and the like, are longer
/// than the run.
const KEPT: Duration = Duration::from_secs(10);

/// Makes this process the owner of memory that it then gives back to its allocator, which keeps it (see `rounds`).
fn touch_memory(session: &Session) {
    const PIECE: usize = 1 << 20;
    let plan = &session.plan;
    if session.store.base != Base::Memory || session.measures_memory() {
        return;
    }
    let bytes = plan.rows.saturating_mul((plan.key_bytes + plan.value_bytes) as u64).saturating_mul(TOUCHED);
    let pieces = bytes.min(MOST_TOUCHED) / PIECE as u64;
    let touched: Vec<Vec<u8>> = (0..pieces).map(|_| std::hint::black_box(vec![1; PIECE])).collect();
    drop(touched);
}

async fn with<E: Engine>(session: &Session, tell: &(dyn Fn(Said) + Send + Sync)) -> Result<()> {
    touch_memory(session);
    let plan = &session.plan;
    let place = Place::prepare(
        session.store,
        session.server.as_ref(),
        &session.unique,
        plan.seed ^ u64::from(session.round),
    )?;
    let workloads = Workload::parse_list(&plan.workloads, session.store)?;
    let home = place.home("rows")?;
    let mut stage = Stage::<E> {
        session,
        place: &place,
        home,
        // Workloads that insert may add as many rows again as were loaded.
        data: Arc::new(Dataset::new(plan.rows * 2, plan.key_bytes, plan.value_bytes, true, plan.seed)),
        open: None,
        tell,
    };
    for workload in workloads {
        (stage.tell)(Said::Doing(workload.name.into()));
        stage.perform(&workload).await.with_context(|| format!("workload {}", workload.name))?;
    }
    stage.close().await?;
    drop(stage);
    place.remove().await
}

struct Stage<'a, E> {
    session: &'a Session,
    place: &'a Place,
    home: Home,
    data: Arc<Dataset>,
    open: Option<E>,
    tell: &'a (dyn Fn(Said) + Send + Sync),
}

/// The moment from which something is measured.
struct Before {
    requests: Requests,
    usage: Usage,
}

impl<'a, E: Engine> Stage<'a, E> {
    fn plan(&self) -> &'a Plan {
        &self.session.plan
    }

    async fn perform(&mut self, workload: &Workload) -> Result<()> {
        let plan = self.plan();
        if !matches!(workload.work, Work::Fill | Work::OpenLog) {
            self.load().await?;
        }
        self.place.shape(true);
        match workload.work {
            Work::Fill => return self.fill(workload.name).await,
            Work::Warm { mix, spread, scan_rows, writer } => {
                let mut load = self.base_load();
                load = Load { mix, spread, scan_rows, ..load };
                let engine = self.warm().await?;
                let warm_up = Load { until: Until::Elapsed(plan.warmup), ..load };
                clients::run(&engine, &self.data, &warm_up).await.context("while warming up")?;
                load.rate = plan.rate;
                load.seed += 1;
                load.write_rate = writer.then_some(plan.write_rate);
                self.measured(workload.name, clients::run(&engine, &self.data, &load)).await?;
            }
            Work::Durable { clients } => {
                let engine = self.warm().await?;
                let clients = clients.unwrap_or(plan.clients);
                let load = Load { mix: UPDATE, clients, durable: true, rate: plan.rate, ..self.base_load() };
                self.measured(workload.name, clients::run(&engine, &self.data, &load)).await?;
            }
            Work::ScanAll { reverse } => {
                let engine = self.warm().await?;
                let order = if reverse { Order::Descending } else { Order::Ascending };
                let sum = self.data.sum();
                clients::scan_all(&engine, &self.data, order, Some(plan.warmup), sum)
                    .await
                    .context("while warming up")?;
                self.measured(workload.name, repeated_scan(&engine, &self.data, order, plan.duration, sum))
                    .await?;
            }
            Work::Cold { mix, scan_rows } => {
                let engine = self.cold().await?;
                let load = Load {
                    mix,
                    clients: 1,
                    scan_rows: [scan_rows; 2],
                    until: Until::Operations(plan.cold_warmup),
                    ..self.base_load()
                };
                clients::run(&engine, &self.data, &load).await.context("while loading metadata")?;
                let load =
                    Load { until: Until::Operations(plan.cold_operations), seed: load.seed + 1, ..load };
                self.measured(workload.name, clients::run(&engine, &self.data, &load)).await?;
            }
            Work::ColdScanAll => {
                let engine = self.cold().await?;
                let scan = async {
                    let sum = self.data.sum();
                    let started = Instant::now();
                    let limit = Some(plan.duration);
                    let rows = clients::scan_all(&engine, &self.data, Order::Ascending, limit, sum).await?;
                    Ok(Ran::once(rows, started.elapsed()))
                };
                self.measured(workload.name, scan).await?;
            }
            Work::ColdFirst => self.first_gets(workload.name, false).await?,
            Work::Open => self.first_gets(workload.name, true).await?,
            Work::OpenLog => self.open_log(workload.name).await?,
            Work::Overwrite => self.overwrite(workload.name).await?,
        }
        Ok(())
    }

    fn base_load(&self) -> Load {
        let plan = self.plan();
        Load {
            mix: READ,
            spread: Spread::Uniform,
            clients: plan.clients,
            until: Until::Elapsed(plan.duration),
            rate: None,
            scan_rows: [1, 1],
            durable: false,
            write_rate: None,
            seed: plan.seed ^ u64::from(self.session.round) << 32,
        }
    }

    fn setup(&self) -> Setup {
        Setup {
            cache_bytes: self.plan().cache_bytes,
            is_tuned: self.session.engine == Kind::SlateDbTuned,
            keep: self.session.measures_memory().then_some(KEPT),
        }
    }

    fn before(&self) -> Before {
        Before { requests: self.place.objects.requests(), usage: Usage::now() }
    }

    /// Does `work` and tells what it took.
    async fn measured(&self, name: &str, work: impl Future<Output = Result<Ran>>) -> Result<()> {
        let before = self.before();
        let ran = work.await?;
        self.tell(name, &before, &ran);
        Ok(())
    }

    fn tell(&self, name: &str, before: &Before, ran: &Ran) {
        (self.tell)(Said::Measured(Box::new(self.sample(name, before, ran))));
    }

    /// What `ran` was, and what was asked of the store and the processor since `before`.
    fn sample(&self, name: &str, before: &Before, ran: &Ran) -> Sample {
        let (_, cpu) = before.usage.elapsed();
        let seconds = ran.took.as_secs_f64().max(1e-9);
        let requests = self.place.objects.requests().since(&before.requests);
        Sample {
            engine: self.session.engine.to_string(),
            store: self.session.store.to_string(),
            workload: name.into(),
            round: self.session.round,
            operations: ran.operations,
            rows: ran.rows,
            seconds,
            ops_per_second: ran.operations as f64 / seconds,
            latency: Quantiles::of(&ran.latencies),
            service: ran.service.as_ref().and_then(Quantiles::of),
            requests: self.session.engine.keeps_objects().then_some(requests),
            cpu_seconds: cpu.as_secs_f64(),
            peak_memory_bytes: peak_memory(),
            scale: Some(Scale { rows: self.plan().rows, clients: self.plan().clients as u64 }),
            volume: None,
        }
    }

    /// Sees to it that the rows are there.
    async fn load(&mut self) -> Result<()> {
        if self.data.rows() > 0 {
            return Ok(());
        }
        (self.tell)(Said::Doing("load".into()));
        self.place.shape(false);
        let engine = self.warm().await?;
        let plan = self.plan();
        clients::fill(&engine, &self.data, plan.rows, plan.clients, false).await?;
        self.settle(&engine).await
    }

    /// Writes every row, and merges, each measured.
    async fn fill(&mut self, name: &str) -> Result<()> {
        ensure!(self.data.rows() == 0, "rows are there already: name fill first");
        let engine = self.warm().await?;
        let plan = self.plan();
        self.measured(name, clients::fill(&engine, &self.data, plan.rows, plan.clients, false)).await?;
        let before = self.before();
        let started = Instant::now();
        self.settle(&engine).await?;
        self.tell("fill-settle", &before, &Ran::once(plan.rows, started.elapsed()));
        Ok(())
    }

    /// Flushes, and waits until merging is done.
    async fn settle(&self, engine: &E) -> Result<()> {
        engine.flush().await?;
        let started = Instant::now();
        let (mut written, mut since) = (self.place.objects.requests().put, Instant::now());
        let most = MOST_QUIET + MOST_QUIET_A_ROW.mul_f64(self.plan().rows as f64);
        while started.elapsed() < most {
            match engine.is_quiet() {
                Some(true) => return Ok(()),
                Some(false) => {}
                None => {
                    let now = self.place.objects.requests().put;
                    if now != written {
                        (written, since) = (now, Instant::now());
                    }
                    if since.elapsed() > QUIET.min(self.plan().quiet) {
                        return Ok(());
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// The handle, with whatever it has in memory.
    async fn warm(&mut self) -> Result<E> {
        if self.open.is_none() {
            self.open = Some(E::open(&self.home, self.setup()).await.context("while opening")?);
        }
        self.open.clone().context("a handle was just opened")
    }

    /// A new handle, with nothing in memory.
    async fn cold(&mut self) -> Result<E> {
        self.close().await?;
        self.warm().await
    }

    async fn close(&mut self) -> Result<()> {
        match self.open.take() {
            Some(engine) => engine.close(false).await.context("while closing"),
            None => Ok(()),
        }
    }

    /// Gets on new handles, one each, with or without the time that opening took.
    async fn first_gets(&mut self, name: &str, with_open: bool) -> Result<()> {
        let mut random = SmallRng::seed_from_u64(self.base_load().seed);
        let (mut ran, mut requests) = (Ran::once(0, Duration::ZERO), Requests::default());
        let usage = Usage::now();
        for _ in 0..self.plan().opens {
            self.close().await?;
            let row = random.random_range(0..self.data.rows());
            let mut before = self.place.objects.requests();
            let mut started = Instant::now();
            let engine = self.warm().await?;
            if !with_open {
                before = self.place.objects.requests();
                started = Instant::now();
            }
            get(&engine, &self.data, row).await?;
            one_more(&mut ran, started.elapsed());
            plus(&mut requests, &self.place.objects.requests().since(&before));
        }
        // What came between the gets is not theirs.
        let now = self.place.objects.requests();
        self.tell(name, &Before { requests: now.since(&requests), usage }, &ran);
        Ok(())
    }

    /// Opens a database that died with rows in its log.
    async fn open_log(&mut self, name: &str) -> Result<()> {
        self.close().await?;
        let plan = self.plan();
        let data = Arc::new(Dataset::new(plan.log_rows, plan.key_bytes, plan.value_bytes, true, plan.seed));
        let home = self.place.home("log")?;
        let engine = E::open(&home, self.setup()).await?;
        clients::fill(&engine, &data, plan.log_rows, LOG_CLIENTS, true).await?;
        engine.close(true).await?;
        let mut ran = Ran::once(0, Duration::ZERO);
        let before = self.before();
        let started = Instant::now();
        let engine = E::open(&home, self.setup()).await?;
        get(&engine, &data, plan.log_rows - 1).await?;
        one_more(&mut ran, started.elapsed());
        self.tell(name, &before, &ran);
        engine.close(false).await
    }
}

/// Scans everything again and again until `limit` is over; at least once.
async fn repeated_scan<E: Engine>(
    engine: &E,
    data: &Dataset,
    order: Order,
    limit: Duration,
    sum: u64,
) -> Result<Ran> {
    let started = Instant::now();
    let mut rows = 0;
    while rows == 0 || started.elapsed() < limit {
        rows += clients::scan_all(engine, data, order, None, sum).await?;
        tokio::task::yield_now().await;
    }
    Ok(Ran::once(rows, started.elapsed()))
}

async fn get<E: Engine>(engine: &E, data: &Dataset, row: u64) -> Result<()> {
    let mut key = Vec::new();
    data.key(row, &mut key);
    engine.get(&key, |value| data.check(row, data.confirmed(row), value)).await
}

fn one_more(ran: &mut Ran, took: Duration) {
    let mut latencies = Latencies::new();
    latencies.record(took);
    ran.latencies.add(&latencies);
    ran.operations += 1;
    ran.rows += 1;
    ran.took += took;
}

fn plus(sum: &mut Requests, more: &Requests) {
    sum.get += more.get;
    sum.put += more.put;
    sum.list += more.list;
    sum.delete += more.delete;
    sum.get_bytes += more.get_bytes;
    sum.put_bytes += more.put_bytes;
}
