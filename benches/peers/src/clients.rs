//! The clients: tasks that do operations one after another, timed and verified.
//!
//! A closed loop reads the clock once an operation: an operation lasts from the end of the one before, with the choice of
//! a row and the check of the answer, which take some 100 ns. An open loop (`--rate`) has intended starts; see
//! `esker_bench::pace`.
//!
//! Always true: an answer that is not what it must be ends the run with an error; the operations of one row are in order.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use esker_bench::{
    dataset::Dataset,
    distribution::{Chooser, Zipf},
    measure::Latencies,
    pace::wait_until,
    workload::{Mix, Operation, Spread},
};
use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};
use tokio::task::JoinSet;

use crate::engine::{Engine, Order};

/// After so many operations a client lets others have its thread: operations that find everything in memory never wait.
const YIELD_EVERY: u64 = 64;
/// New rows that a client takes at a time.
const CHUNK: u64 = 64;
/// Keys of one read of several.
const MULTI_KEYS: usize = 16;

/// What clients are to do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) mix: Mix,
    pub(crate) spread: Spread,
    pub(crate) clients: usize,
    pub(crate) until: Until,
    /// Operations a second over all clients, with intended starts.
    pub(crate) rate: Option<f64>,
    /// The fewest and the most rows of a scan.
    pub(crate) scan_rows: [u64; 2],
    pub(crate) durable: bool,
    /// Rows a second that one more client writes, unmeasured.
    pub(crate) write_rate: Option<f64>,
    pub(crate) seed: u64,
}

/// When clients end.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Until {
    Elapsed(Duration),
    /// Each after so many operations.
    Operations(u64),
}

/// What clients did.
#[derive(Debug)]
pub(crate) struct Ran {
    /// From the intended start, where there was one.
    pub(crate) latencies: Latencies,
    /// From the actual start, of an open loop.
    pub(crate) service: Option<Latencies>,
    pub(crate) operations: u64,
    pub(crate) rows: u64,
    pub(crate) took: Duration,
}

impl Ran {
    /// One thing that was done.
    pub(crate) fn once(operations: u64, took: Duration) -> Self {
        Self { latencies: Latencies::new(), service: None, operations, rows: operations, took }
    }

    fn add(&mut self, other: &Self) {
        self.latencies.add(&other.latencies);
        if let Some(theirs) = &other.service {
            self.service.get_or_insert_default().add(theirs);
        }
        self.operations += other.operations;
        self.rows += other.rows;
    }
}

/// Writes `rows` new rows, accepted, or durable.
pub(crate) async fn fill<E: Engine>(
    engine: &E,
    data: &Arc<Dataset>,
    rows: u64,
    clients: usize,
    durable: bool,
) -> Result<Ran> {
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for number in 0..clients as u64 {
        let mut left = rows / clients as u64 + u64::from(number < rows % clients as u64);
        let mut client = Client::new(engine, data, number, durable);
        tasks.spawn(async move {
            let mut last = Instant::now();
            while left > 0 {
                let chunk = client.data.add_rows(CHUNK.min(left));
                ensure!(!chunk.is_empty(), "there is no room for all rows");
                left -= chunk.end - chunk.start;
                for row in chunk {
                    client.insert(row).await?;
                    last = client.done(last, last);
                }
                tokio::task::yield_now().await;
            }
            Ok(client.ran)
        });
    }
    gather(tasks, started).await
}

/// Does what `load` says.
pub(crate) async fn run<E: Engine>(engine: &E, data: &Arc<Dataset>, load: &Load) -> Result<Ran> {
    let chooser = Arc::new(match load.spread {
        Spread::Uniform => Chooser::Uniform,
        Spread::Zipf => Chooser::Zipf(Zipf::new(data.rows())),
        Spread::Latest => Chooser::Latest(Zipf::new(data.rows())),
    });
    let stop = Arc::new(AtomicBool::new(false));
    let writer = load.write_rate.map(|rate| {
        let client = Client::new(engine, data, load.seed ^ 1 << 63, false);
        let stop = Arc::clone(&stop);
        let pace = Duration::from_secs_f64(1.0 / rate);
        let mut writer = JoinSet::new();
        writer.spawn(client.write_at(pace, stop));
        writer
    });
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for number in 0..load.clients {
        let client = Client::new(engine, data, load.seed ^ (number as u64 + 1) << 40, load.durable);
        let pace = load.rate.map(|rate| {
            let pace = Duration::from_secs_f64(load.clients as f64 / rate);
            // The clients' starts lie between each other's.
            (started + pace.mul_f64(number as f64 / load.clients as f64), pace)
        });
        tasks.spawn(client.run(*load, Arc::clone(&chooser), started, pace));
    }
    let ran = gather(tasks, started).await;
    stop.store(true, Ordering::Relaxed);
    if let Some(writer) = writer {
        gather(writer, started).await.context("the client that writes beside")?;
    }
    ran
}

/// Reads rows in order from the first (or the last) on, to the end or until `limit`; says how many. Nobody may write
/// meanwhile: unless it was cut, all rows must be there, and add up to `sum`, which is [`Dataset::sum`] (not taken here, where
/// it would be measured).
pub(crate) async fn scan_all<E: Engine>(
    engine: &E,
    data: &Dataset,
    order: Order,
    limit: Option<Duration>,
    sum: u64,
) -> Result<u64> {
    let started = Instant::now();
    let (mut seen, mut seen_sum, mut cut) = (0u64, 0u64, false);
    let mut last = Vec::new();
    let row = |key: &[u8], value: &[u8]| {
        check_order(&last, key, order)?;
        last.clear();
        last.extend_from_slice(key);
        seen_sum = seen_sum.wrapping_add(data.check_row(key, value)?);
        seen += 1;
        cut = seen % 16 == 0 && limit.is_some_and(|limit| started.elapsed() > limit);
        Ok(!cut)
    };
    engine.scan(None, order, u64::from(u32::MAX), row).await?;
    ensure!(
        cut || (seen == data.rows() && seen_sum == sum),
        "a scan of everything gave {seen} of {} rows, or old versions of some",
        data.rows()
    );
    Ok(seen)
}

fn check_order(last: &[u8], key: &[u8], order: Order) -> Result<()> {
    let is_after = if order == Order::Ascending { last < key } else { last > key };
    ensure!(
        last.is_empty() || is_after,
        "a scan gave {:?} after {:?}",
        key.escape_ascii().to_string(),
        last.escape_ascii().to_string()
    );
    Ok(())
}

async fn gather(mut tasks: JoinSet<Result<Ran>>, started: Instant) -> Result<Ran> {
    let mut all = Ran::once(0, Duration::ZERO);
    while let Some(client) = tasks.join_next().await {
        all.add(&client.context("a client stopped")??);
    }
    all.took = started.elapsed();
    Ok(all)
}

struct Client<E> {
    engine: E,
    data: Arc<Dataset>,
    random: SmallRng,
    durable: bool,
    key: Vec<u8>,
    value: Vec<u8>,
    last: Vec<u8>,
    /// Keys of one read of several, and which rows they are of, and at least at which version.
    keys: Vec<Vec<u8>>,
    asked: Vec<(u64, u32)>,
    ran: Ran,
}

impl<E: Engine> Client<E> {
    fn new(engine: &E, data: &Arc<Dataset>, seed: u64, durable: bool) -> Self {
        Self {
            engine: engine.clone(),
            data: Arc::clone(data),
            random: SmallRng::seed_from_u64(seed),
            durable,
            key: Vec::new(),
            value: Vec::new(),
            last: Vec::new(),
            keys: Vec::new(),
            asked: Vec::new(),
            ran: Ran::once(0, Duration::ZERO),
        }
    }

    async fn run(
        mut self,
        load: Load,
        chooser: Arc<Chooser>,
        started: Instant,
        pace: Option<(Instant, Duration)>,
    ) -> Result<Ran> {
        let is_over = |done: u64, now: Instant| match load.until {
            Until::Elapsed(limit) => now - started >= limit,
            Until::Operations(number) => done >= number,
        };
        let (mut now, mut pace) = (Instant::now(), pace);
        while !is_over(self.ran.operations, now) {
            let intended = match &mut pace {
                None => now,
                Some((next, interval)) => {
                    let intended = *next;
                    *next += *interval;
                    wait_until(intended).await;
                    now = Instant::now();
                    intended
                }
            };
            let row = chooser.choose(self.data.rows(), &mut self.random);
            let dice = self.random.random_range(0..100);
            self.ran.rows += self.operate(load.mix.operation(dice), row, load.scan_rows).await?;
            now = self.done(intended, now);
            if pace.is_some() {
                continue;
            }
            if self.ran.operations.is_multiple_of(YIELD_EVERY) {
                tokio::task::yield_now().await;
                now = Instant::now();
            }
        }
        Ok(self.ran)
    }

    /// Writes rows at a pace until it is told to stop.
    async fn write_at(mut self, pace: Duration, stop: Arc<AtomicBool>) -> Result<Ran> {
        let mut next = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            next += pace;
            wait_until(next).await;
            let row = self.random.random_range(0..self.data.rows());
            self.update(row).await?;
        }
        Ok(self.ran)
    }

    /// An operation has ended: says when.
    fn done(&mut self, intended: Instant, started: Instant) -> Instant {
        let now = Instant::now();
        self.ran.operations += 1;
        self.ran.latencies.record(now - intended);
        if intended != started {
            self.ran.service.get_or_insert_default().record(now - started);
        }
        now
    }

    /// One operation; says how many rows it touched.
    async fn operate(&mut self, operation: Operation, row: u64, scan_rows: [u64; 2]) -> Result<u64> {
        match operation {
            Operation::Read => self.read(row).await?,
            Operation::Multi => return self.read_many(row).await,
            Operation::Missing => self.read_missing(row).await?,
            Operation::Update => self.update(row).await?,
            Operation::Insert => match self.data.add_row() {
                Some(new) => self.insert(new).await?,
                // The room is used up.
                None => self.update(row).await?,
            },
            Operation::Modify => {
                self.read(row).await?;
                self.update(row).await?;
            }
            Operation::Scan => return self.scan(row, scan_rows).await,
        }
        Ok(1)
    }

    async fn read(&mut self, row: u64) -> Result<()> {
        let data = &*self.data;
        data.key(row, &mut self.key);
        let at_least = data.confirmed(row);
        self.engine.get(&self.key, |value| data.check(row, at_least, value)).await
    }

    /// `row` and others at random, in one call.
    async fn read_many(&mut self, row: u64) -> Result<u64> {
        let data = &*self.data;
        self.keys.resize_with(MULTI_KEYS, Vec::new);
        self.asked.clear();
        for (number, key) in self.keys.iter_mut().enumerate() {
            let row = if number == 0 { row } else { self.random.random_range(0..data.rows()) };
            data.key(row, key);
            self.asked.push((row, data.confirmed(row)));
        }
        let (asked, mut answers) = (&self.asked, 0);
        let check = |number: usize, value: Option<&[u8]>| {
            answers += 1;
            let (row, at_least) = asked[number];
            data.check(row, at_least, value)
        };
        self.engine.multi_get(&self.keys, check).await?;
        ensure!(answers == MULTI_KEYS, "{MULTI_KEYS} keys had {answers} answers");
        Ok(MULTI_KEYS as u64)
    }

    async fn read_missing(&mut self, row: u64) -> Result<()> {
        self.data.missing_key(row, &mut self.key);
        let key = &self.key;
        let check = |value: Option<&[u8]>| {
            ensure!(
                value.is_none(),
                "the key {:?}, never written, has a value",
                key.escape_ascii().to_string()
            );
            Ok(())
        };
        self.engine.get(key, check).await
    }

    async fn insert(&mut self, row: u64) -> Result<()> {
        let version = self.data.issue_first(row);
        self.data.key(row, &mut self.key);
        self.data.value(row, version, &mut self.value);
        self.put().await?;
        self.data.confirm_first(row);
        Ok(())
    }

    async fn update(&mut self, row: u64) -> Result<()> {
        let data = Arc::clone(&self.data);
        let change = data.change(row).await;
        data.key(row, &mut self.key);
        data.value(row, change.version, &mut self.value);
        self.put().await?;
        change.confirm();
        Ok(())
    }

    async fn put(&self) -> Result<()> {
        if self.durable {
            self.engine.put_durable(&self.key, &self.value).await
        } else {
            self.engine.put(&self.key, &self.value).await
        }
    }

    async fn scan(&mut self, row: u64, [least, most]: [u64; 2]) -> Result<u64> {
        let data = &*self.data;
        data.key(row, &mut self.key);
        let must_begin = data.confirmed(row) > 0;
        let limit = self.random.random_range(least..=most);
        let (from, last, mut rows) = (&self.key[..], &mut self.last, 0);
        last.clear();
        let check = |key: &[u8], value: &[u8]| {
            ensure!(rows > 0 || key >= from, "a scan began before its start");
            ensure!(rows > 0 || !must_begin || key == from, "a scan left out the row that it began at");
            check_order(last, key, Order::Ascending)?;
            last.clear();
            last.extend_from_slice(key);
            data.check_row(key, value)?;
            rows += 1;
            Ok(true)
        };
        self.engine.scan(Some(from), Order::Ascending, limit, check).await?;
        ensure!(!must_begin || rows > 0, "a scan found nothing where a row is");
        Ok(rows)
    }
}
