//! Every public future, dropped at each of its polls: nothing hangs afterwards, nothing is half done, and what was
//! acknowledged stays (a lesson of slatedb#1733).
//!
//! Always true: each case runs in one thread and virtual time, on a store whose every call takes some of it, so a
//! future is polled as often as it has something to wait for.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use esker::{
    Compaction, Db, ErrorKind, Reader, Result, WriteBatch,
    compaction::Compactor,
    manifest::{Manifest, StoredShape},
    repair::{RepairOptions, repair},
    store::Store,
    testing::SimClock,
    verify::{VerifyOptions, verify},
};
use futures::future::{FutureExt as _, LocalBoxFuture};
use object_store::{ObjectStore, memory::InMemory};

use super::crashes::gate::{Gate, Meets, World};
use crate::virtual_time::simulated;

type Rows = BTreeMap<Bytes, Bytes>;
type Call = for<'a> fn(&'a Bench) -> LocalBoxFuture<'a, Result<()>>;

/// Nothing takes longer.
const LONG: Duration = Duration::from_secs(3600);
/// What every few calls to the store meet meanwhile.
type Weather = Option<Meets>;
const WEATHERS: [Weather; 4] =
    [None, Some(Meets::FailsBefore), Some(Meets::LosesReply), Some(Meets::LandsLate)];
const EVERY: u64 = 4;
/// A checkpoint that is there before each call.
const MADE_BEFORE: &str = "made-before";
/// The keys that calls write: all of them, or none.
const WRITTEN: [&str; 3] = ["new 1", "new 2", "new 3"];

/// An open database with something in every place: SSTs in two levels, frozen and active memtables, a log.
struct Bench {
    world: Arc<World>,
    gate: Gate,
    db: Db,
    reader: Reader,
}

/// What is dropped, by name.
const CALLS: [(&str, Call); 25] = [
    ("put", |b| write(b).boxed_local()),
    ("put, accepted", |b| async { b.db.write(batch(&b.db)).accepted().await.map(drop) }.boxed_local()),
    ("durable", |b| {
        async { b.db.write(batch(&b.db)).accepted().await?.durable().await.map(drop) }.boxed_local()
    }),
    ("sync", |b| b.db.sync().map(|done| done.map(drop)).boxed_local()),
    ("flush", |b| b.db.flush().boxed_local()),
    ("compact", |b| b.db.compact().boxed_local()),
    ("get", |b| b.db.get("key 03").map(|done| done.map(drop)).boxed_local()),
    ("multi_get", |b| b.db.multi_get(["key 01", "key 11", "none"]).map(|done| done.map(drop)).boxed_local()),
    ("scan", |b| whole(b.db.scan::<&[u8]>(..)).boxed_local()),
    ("scan backwards", |b| whole(b.db.scan::<&[u8]>(..).rev()).boxed_local()),
    ("snapshot", |b| async { b.db.snapshot().get("key 05").await.map(drop) }.boxed_local()),
    ("keyspace", |b| async { b.db.keyspace("another").await.map(drop) }.boxed_local()),
    ("close", |b| b.db.close().boxed_local()),
    ("open for reading", |b| async { read(b).await.map(drop) }.boxed_local()),
    ("strong read", |b| async { b.reader.strong().await?.get("key 07").await.map(drop) }.boxed_local()),
    ("read at least", |b| {
        async { b.reader.at_least(b.db.put("token", "t").await?).await?.get("token").await.map(drop) }
            .boxed_local()
    }),
    ("claim", |b| async { claim(b).await.map(drop) }.boxed_local()),
    ("merge", |b| async { claim(b).await?.step_all().await.map(drop) }.boxed_local()),
    ("collect", |b| {
        async { claim(b).await?.collect_with(Some(Duration::ZERO), false).await.map(drop) }.boxed_local()
    }),
    ("release", |b| async { claim(b).await?.release().await }.boxed_local()),
    ("checkpoint", |b| b.db.checkpoint("kept").map(|done| done.map(drop)).boxed_local()),
    ("delete checkpoint", |b| b.db.delete_checkpoint(MADE_BEFORE).boxed_local()),
    ("verify", |b| verified(b).boxed_local()),
    ("repair", |b| repaired(b).boxed_local()),
    ("open for writing", |b| {
        async { open(&b.gate, 31).await?.put("token", "t").await.map(drop) }.boxed_local()
    }),
];

#[test]
fn a_future_dropped_at_any_poll_leaves_everything_whole() {
    let start = simulated(async {
        let world = Arc::new(World::default());
        fill(&Gate::new(&world, SimClock::shared(1), Vec::new())).await;
        world.objects.fork()
    });
    let (mut runs, mut most) = (0, 0);
    for ((name, call), weather) in CALLS.into_iter().flat_map(|call| WEATHERS.map(|weather| (call, weather)))
    {
        for polls in 1.. {
            runs += 1;
            most = most.max(polls);
            if simulated(drop_after(polls, name, call, weather, start.fork())) {
                break;
            }
            assert!(polls < 10_000, "{name} is polled for ever");
        }
    }
    assert!(runs >= 500, "{runs} runs");
    println!("{runs} futures dropped, the longest at its poll {most}");
}

/// Drops `call` after so many polls, and looks at what is left. Gives whether it had ended before.
async fn drop_after(polls: usize, name: &str, call: Call, weather: Weather, objects: InMemory) -> bool {
    let world = Arc::new(World::of(objects));
    let faults = weather.into_iter().flat_map(|meets| (1..200).map(move |n| (n * EVERY, meets))).collect();
    let gate = Gate::new(&world, SimClock::shared(2), faults);
    let db = within(open(&gate, 3)).await.expect("the database opens");
    let store = store_of(&gate);
    let reader = within(Reader::builder("gate").store(store).open()).await.expect("a reader opens");
    for n in 0..6 {
        db.put(format!("log {n}"), "unflushed").accepted().await.expect("accepted");
    }
    within(db.sync()).await.expect("durable");
    let bench = Bench { world, gate, db, reader };
    let before = within(rows_of(&bench.db)).await.expect("a scan");
    let filled: Rows = before
        .iter()
        .filter(|(key, _)| !key.starts_with(b"log"))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();

    let ended = within(Polls { call: call(&bench), left: polls }).await;
    let taken_over = name == "open for writing";
    let closed = name == "close";
    match &ended {
        Some(Ok(())) => {}
        // Whether a checkpoint was made before a store failed is not always to be found out.
        Some(Err(error)) if name == "checkpoint" => {
            assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{name}: {error}");
        }
        Some(Err(error)) => assert_eq!(error.kind(), ErrorKind::Conflict, "{name}: {error}"),
        None => {}
    }
    // Whatever still runs by itself gets the time to do so.
    SimClock::shared(4).sleep(Duration::from_secs(120)).await;

    bench.world.land_late().await;

    let where_it_was = format!("{name}, dropped after {polls} polls, {weather:?}");
    if !taken_over && !closed {
        let value = within(bench.db.get("log 3")).await.expect(&where_it_was);
        assert_eq!(value.as_deref(), Some(&b"unflushed"[..]), "{where_it_was}");
        within(bench.db.put("after", "it").into_future()).await.expect(&where_it_was);
        within(bench.db.flush()).await.expect(&where_it_was);
        check(&within(rows_of(&bench.db)).await.expect(&where_it_was), &before, &where_it_was);
        let snapshot = within(bench.reader.strong()).await.expect(&where_it_was);
        let after = within(snapshot.get("after")).await.expect(&where_it_was);
        assert_eq!(after.as_deref(), Some(&b"it"[..]), "{where_it_was}");
    }
    match within(bench.db.close()).await {
        Ok(()) => {}
        Err(error) => assert!(taken_over && error.kind() == ErrorKind::Fenced, "{where_it_was}: {error}"),
    }
    drop((bench.db, bench.reader));
    let gate = Gate::new(&bench.world, SimClock::shared(5), Vec::new());
    let next = within(open(&gate, 6)).await.expect(&where_it_was);
    check(&within(rows_of(&next)).await.expect(&where_it_was), &before, &where_it_was);
    let kept = within(next.checkpoints()).await.expect(&where_it_was);
    for checkpoint in &kept {
        let reader = Reader::builder("gate").store(store_of(&gate)).checkpoint(checkpoint).open();
        let reader = within(reader).await.expect(&where_it_was);
        let expected = if *checkpoint == MADE_BEFORE { &filled } else { &before };
        let found = within(rows_in(reader.scan::<&[u8]>(..))).await.expect(&where_it_was);
        assert_eq!(&found, expected, "{where_it_was}: the checkpoint {checkpoint}");
    }
    if name == "checkpoint" && matches!(ended, Some(Ok(()))) {
        assert!(kept.iter().any(|checkpoint| checkpoint == "kept"), "{where_it_was}: it was made");
    }
    let is_there = kept.iter().any(|checkpoint| checkpoint == MADE_BEFORE);
    let is_deleted = name == "delete checkpoint" && matches!(ended, Some(Ok(())));
    assert!(name == "delete checkpoint" || is_there, "{where_it_was}: a checkpoint is lost");
    assert!(!is_deleted || !is_there, "{where_it_was}: a checkpoint that was deleted is there");
    within(next.close()).await.expect(&where_it_was);
    ended.is_some()
}

/// All that was there is there; what the dropped call wrote is there as a whole or not at all.
fn check(rows: &Rows, before: &Rows, where_it_was: &str) {
    for (key, value) in before {
        assert_eq!(rows.get(key), Some(value), "{where_it_was}: {key:?}");
    }
    let written = WRITTEN.iter().filter(|key| rows.contains_key(key.as_bytes())).count();
    assert!(written == 0 || written == WRITTEN.len(), "{where_it_was}: half a batch");
    let others = ["after", "token"].iter().filter(|key| rows.contains_key(key.as_bytes())).count();
    assert_eq!(rows.len(), before.len() + written + others, "{where_it_was}: rows nobody wrote");
}

/// A call that is polled so often and no more.
struct Polls<'a> {
    call: LocalBoxFuture<'a, Result<()>>,
    left: usize,
}

impl Future for Polls<'_> {
    type Output = Option<Result<()>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.left -= 1;
        match self.call.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if self.left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }
}

async fn within<T>(call: impl Future<Output = T>) -> T {
    tokio::select! {
        biased;
        done = call => done,
        () = SimClock::shared(0).sleep(LONG) => panic!("a call hangs"),
    }
}

/// A database of several runs, some of them merged.
async fn fill(gate: &Gate) {
    let db = open(gate, 30).await.expect("a new database");
    for round in 0..5 {
        for n in 0..20 {
            db.put(format!("key {n:02}"), format!("{round:-<100}")).accepted().await.expect("accepted");
        }
        db.flush().await.expect("flushed");
        if round == 2 {
            db.compact().await.expect("merged");
        }
    }
    db.checkpoint(MADE_BEFORE).await.expect("kept");
    db.close().await.expect("closed");
}

async fn open(gate: &Gate, seed: u64) -> Result<Db> {
    Db::builder("gate")
        .object_store(Arc::new(gate.clone()) as Arc<dyn ObjectStore>)
        .clock(SimClock::shared(seed))
        .memory_bytes(1 << 20)
        .memtable_bytes(4 << 10)
        .cache_bytes(64 << 10)
        .block_bytes(512)
        .sst_bytes(4 << 10)
        .shape(StoredShape { l0_runs: 2, base_bytes: 8 << 10, ratio: 3, ..StoredShape::leveled() })
        .wal_window(3)
        .compaction(Compaction::Off)
        .name("a process")
        .open()
        .await
}

async fn read(bench: &Bench) -> Result<Reader> {
    Reader::builder("gate").store(store_of(&bench.gate)).open().await
}

async fn claim(bench: &Bench) -> Result<Compactor> {
    let manifest = Manifest::open(store_of(&bench.gate)).await?;
    Compactor::claim(manifest, "a compactor", true).await
}

async fn write(bench: &Bench) -> Result<()> {
    bench.db.write(batch(&bench.db)).await.map(drop)
}

fn batch(db: &Db) -> WriteBatch {
    let mut batch = WriteBatch::new();
    for key in WRITTEN {
        batch.put(db, key, "written");
    }
    batch
}

async fn whole(mut scan: esker::Scan) -> Result<()> {
    while scan.next().await?.is_some() {}
    Ok(())
}

async fn verified(bench: &Bench) -> Result<()> {
    let report = verify(&store_of(&bench.gate), &VerifyOptions::default(), &|_, _| {}).await?;
    assert!(report.is_whole(), "{:?}", report.findings);
    Ok(())
}

async fn repaired(bench: &Bench) -> Result<()> {
    let options = RepairOptions { act: true, name: "a repair".to_owned(), ..RepairOptions::default() };
    let outcome = repair(&store_of(&bench.gate), &options, &|_, _| {}).await?;
    assert!(outcome.actions.is_empty(), "{:?}", outcome.actions);
    Ok(())
}

async fn rows_of(db: &Db) -> Result<Rows> {
    rows_in(db.scan::<&[u8]>(..)).await
}

async fn rows_in(mut scan: esker::Scan) -> Result<Rows> {
    let mut rows = Rows::new();
    while let Some(row) = scan.next().await? {
        rows.insert(row.key, row.value);
    }
    Ok(rows)
}

fn store_of(gate: &Gate) -> Store {
    Store::from_object_store(Arc::new(gate.clone()), "gate", SimClock::shared(7))
}
