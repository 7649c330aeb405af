//! The clients: tasks that do operations one after another, timed and verified.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use esker::{Reader, Scan};
use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};
use tokio::task::JoinSet;

use crate::{
    distribution::{Chooser, Zipf},
    measure::Latencies,
    pace::wait_until,
    phases::Bench,
    workload::{Mix, Operation, Spread},
};

/// After so many operations a client lets others have its thread: warm operations never wait by themselves.
const YIELD_EVERY: u64 = 64;
/// Keys of one `multi_get`.
const MULTI: usize = 16;

/// What the clients of a phase did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) latencies: Latencies,
    pub(crate) rows: u64,
    pub(crate) measured: Duration,
}

/// Writes new rows until there are as many as the plan says.
pub(crate) async fn fill(bench: &Arc<Bench>, durable: bool) -> Result<Latencies> {
    let target = bench.plan.rows;
    let mut clients = JoinSet::new();
    for _ in 0..bench.plan.clients {
        let bench = bench.clone();
        clients.spawn(async move {
            let mut client = Client::new(&bench, 0, None);
            while bench.data.rows() < target
                && let Some(row) = bench.data.add_row()
            {
                let started = Instant::now();
                client.write(row, durable).await?;
                client.done(started).await;
            }
            anyhow::Ok(client.latencies)
        });
    }
    let latencies = gather(clients).await?;
    bench.db.sync().await?;
    Ok(latencies)
}

/// Runs `mix` on all clients for the plan's time; reads go to `reader`, or to the writer's handle.
pub(crate) async fn run_mix(
    bench: &Arc<Bench>,
    reader: Option<&Reader>,
    mix: Mix,
    spread: Spread,
    durable: bool,
) -> Result<Ran> {
    let rows = bench.data.rows();
    let chooser = Arc::new(match spread {
        Spread::Uniform => Chooser::Uniform,
        Spread::Zipf => Chooser::Zipf(Zipf::new(rows)),
        Spread::Latest => Chooser::Latest(Zipf::new(rows)),
    });
    let scanned = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    let mut clients = JoinSet::new();
    for number in 0..bench.plan.clients {
        let (bench, chooser, scanned, reader) =
            (bench.clone(), chooser.clone(), scanned.clone(), reader.cloned());
        clients.spawn(async move {
            let mut client = Client::new(&bench, number as u64 + 1, reader);
            let pace = bench.plan.rate.map(|rate| Duration::from_secs_f64(bench.plan.clients as f64 / rate));
            let mut intended = started;
            while started.elapsed() < bench.plan.duration {
                let from = match pace {
                    None => Instant::now(),
                    // The next one would start when it is all over.
                    Some(_) if intended >= started + bench.plan.duration => break,
                    Some(pace) => {
                        let from = intended;
                        wait_until(from).await;
                        intended += pace;
                        from
                    }
                };
                let row = chooser.choose(bench.data.rows(), &mut client.random);
                scanned.fetch_add(client.operate(mix, row, durable).await?, Ordering::Relaxed);
                client.done(from).await;
            }
            anyhow::Ok(client.latencies)
        });
    }
    let latencies = gather(clients).await?;
    let measured = started.elapsed();
    bench.db.sync().await?;
    Ok(Ran { latencies, rows: scanned.load(Ordering::Relaxed), measured })
}

/// Reads every row in order, checks each, and that none is missing.
pub(crate) async fn full_scan(bench: &Bench, reader: &Reader, reverse: bool) -> Result<u64> {
    let mut scan = reader.scan::<&[u8]>(..);
    if reverse {
        scan = scan.rev();
    }
    let mut seen = 0;
    let mut last: Option<Bytes> = None;
    while let Some(row) = scan.next().await? {
        if let Some(last) = &last {
            anyhow::ensure!((*last < row.key) != reverse, "a full scan gave {:?} after {last:?}", row.key);
        }
        let number = bench.data.row_of(&row.key)?;
        bench.data.check(number, bench.data.confirmed(number), Some(&row.value))?;
        last = Some(row.key);
        seen += 1;
        if seen % 4096 == 0 {
            tokio::task::yield_now().await;
        }
    }
    anyhow::ensure!(seen == bench.data.rows(), "a full scan gave {seen} of {} rows", bench.data.rows());
    Ok(seen)
}

async fn gather(mut clients: JoinSet<Result<Latencies>>) -> Result<Latencies> {
    let mut all = Latencies::new();
    while let Some(client) = clients.join_next().await {
        all.add(&client.context("a client stopped")??);
    }
    Ok(all)
}

struct Client<'a> {
    bench: &'a Bench,
    reader: Option<Reader>,
    random: SmallRng,
    latencies: Latencies,
    key: Vec<u8>,
    value: Vec<u8>,
    operations: u64,
}

impl<'a> Client<'a> {
    fn new(bench: &'a Bench, number: u64, reader: Option<Reader>) -> Self {
        Self {
            bench,
            reader,
            random: SmallRng::seed_from_u64(bench.plan.seed ^ number << 40),
            latencies: Latencies::new(),
            key: Vec::new(),
            value: Vec::new(),
            operations: 0,
        }
    }

    async fn done(&mut self, from: Instant) {
        self.latencies.record(from.elapsed());
        self.operations += 1;
        if self.operations.is_multiple_of(YIELD_EVERY) {
            tokio::task::yield_now().await;
        }
    }

    /// One operation of `mix` on `row`; says how many rows it touched.
    async fn operate(&mut self, mix: Mix, row: u64, durable: bool) -> Result<u64> {
        match mix.operation(self.random.random_range(0..100)) {
            Operation::Read => self.read(row).await,
            Operation::Update => self.write(row, durable).await,
            Operation::Insert => {
                let row = self.bench.data.add_row().unwrap_or(row);
                self.write(row, durable).await
            }
            Operation::Scan => self.scan(row).await,
            Operation::Missing => self.read_missing(row).await,
            Operation::Multi => self.multi(row).await,
            Operation::Modify => {
                self.read(row).await?;
                self.write(row, durable).await
            }
        }
    }

    async fn read(&mut self, row: u64) -> Result<u64> {
        let data = &self.bench.data;
        data.key(row, &mut self.key);
        // A reader follows at its own pace: what it must have is what was loaded before it was opened, not the last update.
        let at_least = if self.reader.is_some() { data.confirmed(row).min(1) } else { data.confirmed(row) };
        let value = match &self.reader {
            Some(reader) => reader.get(&self.key).await?,
            None => self.bench.db.get(&self.key).await?,
        };
        if value.is_none() && self.reader.is_some() && row >= self.bench.plan.rows {
            return Ok(0); // inserted by another client a moment ago
        }
        data.check(row, at_least, value.as_deref())?;
        Ok(1)
    }

    async fn read_missing(&mut self, row: u64) -> Result<u64> {
        self.bench.data.missing_key(row, &mut self.key);
        let value = match &self.reader {
            Some(reader) => reader.get(&self.key).await?,
            None => self.bench.db.get(&self.key).await?,
        };
        anyhow::ensure!(
            value.is_none(),
            "key {:?} was never written and has a value",
            self.key.escape_ascii().to_string()
        );
        Ok(1)
    }

    async fn multi(&mut self, row: u64) -> Result<u64> {
        let data = &self.bench.data;
        let rows: Vec<u64> = (0..MULTI as u64).map(|i| (row + i * 7919) % self.bench.plan.rows).collect();
        let keys: Vec<Vec<u8>> = rows
            .iter()
            .map(|row| {
                let mut key = Vec::with_capacity(self.bench.plan.key_bytes);
                data.key(*row, &mut key);
                key
            })
            .collect();
        let values = match &self.reader {
            Some(reader) => reader.multi_get(&keys).await?,
            None => self.bench.db.multi_get(&keys).await?,
        };
        for (row, value) in rows.iter().zip(&values) {
            data.check(*row, data.confirmed(*row).min(1), value.as_deref())?;
        }
        Ok(values.len() as u64)
    }

    async fn write(&mut self, row: u64, durable: bool) -> Result<u64> {
        let data = &self.bench.data;
        data.key(row, &mut self.key);
        let change = data.change(row).await;
        data.value(row, change.version, &mut self.value);
        let put = self.bench.db.put(&self.key, &self.value);
        if durable {
            put.await?;
        } else {
            put.accepted().await?;
        }
        change.confirm();
        Ok(1)
    }

    async fn scan(&mut self, row: u64) -> Result<u64> {
        let data = &self.bench.data;
        data.key(row, &mut self.key);
        let limit = self.random.random_range(1..=self.bench.plan.scan_rows);
        let from = &self.key[..];
        let mut scan: Scan = match &self.reader {
            Some(reader) => reader.scan(from..),
            None => self.bench.db.scan(from..),
        }
        .limit(limit);
        let mut rows = 0;
        while let Some(found) = scan.next().await? {
            anyhow::ensure!(rows > 0 || *found.key >= *self.key, "a scan began before its start");
            let number = data.row_of(&found.key)?;
            let at_least = data.confirmed(number).min(1);
            data.check(number, at_least, Some(&found.value))?;
            rows += 1;
        }
        Ok(rows)
    }
}
