//! A small database with an object of every kind, and everything that can be asked of it.
//!
//! Always true: all of it runs in one thread under virtual time, so that waiting costs nothing and memory can
//! be counted; damage is done to a fork, never to the database itself.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use esker::{
    Compaction, Db, Error, ErrorKind, Reader, Result,
    compaction::Compactor,
    manifest::{Manifest, Pin},
    store::Store,
    testing::SimClock,
    verify::{Finding, VerifyOptions, verify},
};
use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt as _, memory::InMemory, path::Path};

use super::allocator::peak_of;
use crate::virtual_time::simulated;

/// A case may take this many times the memory that the sound database takes, and a MiB.
const MOST_MEMORY: usize = 4;

type Row = (Vec<u8>, Vec<u8>);
type Rows = Vec<Row>;

/// What a question was answered with: rows in text, so that answers can be compared and shown.
type Answer = Result<String>;

/// The database as it should be.
pub(super) struct Database {
    store: InMemory,
    /// Every object, by path.
    pub(super) objects: Vec<(String, Bytes)>,
    /// What each question is answered with.
    expected: Vec<String>,
    memory: usize,
}

/// How a case went.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Tally {
    pub(super) cases: u64,
    pub(super) detected: u64,
    pub(super) harmless: u64,
}

impl Tally {
    #[expect(clippy::print_stdout, reason = "how much was looked at is for whoever runs it")]
    pub(super) fn print(&self, what: &str) {
        let Self { cases, detected, harmless } = self;
        println!(
            "hostile sweep of {what}: {cases} cases, {detected} detected, {harmless} harmless and equal"
        );
    }
}

fn shared(store: &InMemory) -> Arc<dyn ObjectStore> {
    // A clone shares its objects with what it was cloned from; a fork does not.
    Arc::new(store.fork())
}

impl Database {
    /// Two keyspaces, rows in level 0, below it, and in the log; versions, a floor, a fence.
    pub(super) fn small() -> Self {
        Self::made(build_small)
    }

    /// One whose versions name parts: its keys are long.
    pub(super) fn with_parts() -> Self {
        Self::made(build_with_parts)
    }

    fn made<F: Future<Output = Result<()>>>(build: impl FnOnce(Arc<dyn ObjectStore>) -> F) -> Self {
        let store = Arc::new(InMemory::new());
        simulated(build(Arc::clone(&store) as _)).expect("the database is built");
        let store = store.fork();
        let objects = simulated(async {
            let listed: Vec<_> = store.list(None).try_collect().await.expect("it lists");
            let mut objects = Vec::new();
            for meta in listed {
                let bytes =
                    store.get(&meta.location).await.expect("it is there").bytes().await.expect("it reads");
                objects.push((meta.location.to_string(), bytes));
            }
            objects.sort();
            objects
        });
        let mut database = Self { store, objects, expected: Vec::new(), memory: usize::MAX / 8 };
        let (answers, memory) = peak_of(|| database.ask(&[]));
        database.expected =
            answers.into_iter().map(|answer| answer.expect("a sound database answers")).collect();
        database.memory = memory;
        database
    }

    /// The objects whose path begins with `prefix`.
    pub(super) fn of(&self, prefix: &str) -> impl Iterator<Item = &(String, Bytes)> {
        self.objects.iter().filter(move |(path, _)| path.starts_with(prefix))
    }

    /// Asks everything of the database with `damaged` objects in place of its own; each answer must be the
    /// right one, or an error that names one of them.
    pub(super) fn check(&self, damaged: &[(&str, Bytes)], what: &str, tally: &mut Tally) {
        let (answers, memory) = peak_of(|| self.ask(damaged));
        tally.cases += 1;
        let mut detected = false;
        for (at, (answer, expected)) in answers.iter().zip(&self.expected).enumerate() {
            match answer {
                Ok(answer) => assert_eq!(answer, expected, "{what}: question {at} has a wrong answer"),
                Err(error) => {
                    detected = true;
                    assert_names(error, damaged, what);
                }
            }
        }
        tally.detected += u64::from(detected);
        tally.harmless += u64::from(!detected);
        let ceiling = MOST_MEMORY * self.memory + (1 << 20);
        assert!(memory <= ceiling, "{what}: {memory} bytes of memory, {ceiling} would be enough");
    }

    /// Does something with a copy of the store.
    pub(super) fn run<T>(&self, work: impl AsyncFnOnce(Arc<dyn ObjectStore>) -> T) -> T {
        simulated(async { work(shared(&self.store)).await })
    }

    fn ask(&self, damaged: &[(&str, Bytes)]) -> Vec<Answer> {
        simulated(async {
            let store = self.store.fork();
            for (path, bytes) in damaged {
                store.put(&Path::from(*path), bytes.clone().into()).await.expect("memory takes it");
            }
            let mut answers = ask_reader(&store).await;
            answers.extend(ask_writer(&store).await);
            answers.push(check(&store, damaged).await);
            answers
        })
    }
}

/// How many answers a reader gives, and a writer.
const ANSWERS: usize = 9;

async fn ask_reader(store: &InMemory) -> Vec<Answer> {
    let store = Store::from_object_store(shared(store), "memory://hostile", SimClock::shared(1));
    let reader =
        Reader::builder("memory://hostile").store(store).cache_bytes(64 << 10).follow(false).open().await;
    let reader = match reader {
        Ok(reader) => reader,
        Err(error) => return vec![Err(error); ANSWERS],
    };
    let mut answers = Vec::new();
    for name in ["default", "second"] {
        let there = async { reader.keyspace(name).await?.strong().await };
        match there.await {
            Ok(there) => {
                answers.push(collect(there.scan_prefix("")).await);
                answers.push(collect(there.scan_prefix("").rev()).await);
                answers.push(gets(|key| there.get(key)).await);
                answers.push(there.multi_get(keys()).await.map(|found| format!("{found:?}")));
            }
            Err(error) => answers.extend(vec![Err(error); 4]),
        }
    }
    answers.push(reader.close().await.map(|()| "closed".into()));
    answers
}

async fn ask_writer(store: &InMemory) -> Vec<Answer> {
    let db = match options(shared(store)).must_exist().open().await {
        Ok(db) => db,
        Err(error) => return vec![Err(error); ANSWERS],
    };
    let mut answers = Vec::new();
    for name in ["default", "second"] {
        match db.keyspace(name).await {
            Ok(there) => {
                answers.push(collect(there.scan_prefix("")).await);
                answers.push(collect(there.scan_prefix("").rev()).await);
                answers.push(gets(|key| there.get(key)).await);
                answers.push(there.multi_get(keys()).await.map(|found| format!("{found:?}")));
            }
            Err(error) => answers.extend(vec![Err(error); 4]),
        }
    }
    answers.push(db.close().await.map(|()| "closed".into()));
    answers
}

/// Everything that can be checked, by `verify` itself: an error is the damage it found.
async fn check(store: &InMemory, damaged: &[(&str, Bytes)]) -> Answer {
    let store = Store::from_object_store(shared(store), "memory://hostile", SimClock::shared(2));
    let report = verify(&store, &VerifyOptions::default(), &|_, _| ()).await?;
    if report.is_whole() {
        return Ok("whole".into());
    }
    let is_damaged = |finding: &&Finding| damaged.iter().any(|(path, _)| *path == finding.object.path());
    let found = report.damage().find(is_damaged).or_else(|| report.damage().next()).expect("it is not whole");
    Err(Error::corruption(found.object.path(), found.offset.unwrap_or(0), &*found.what))
}

async fn gets<F, G>(get: G) -> Answer
where
    G: Fn(Vec<u8>) -> F,
    F: Future<Output = Result<Option<Bytes>>>,
{
    let mut found = Vec::new();
    for key in keys() {
        found.push(get(key).await?);
    }
    Ok(format!("{found:?}"))
}

async fn collect(mut scan: esker::Scan) -> Answer {
    let mut rows: Rows = Vec::new();
    while let Some(row) = scan.next().await? {
        rows.push((row.key.to_vec(), row.value.to_vec()));
    }
    Ok(format!("{rows:?}"))
}

/// Some that are there, and some that are not.
fn keys() -> Vec<Vec<u8>> {
    let there = [0, 3, 7, 8, 15, 22, 29].map(|n| key(n, 0));
    let long = [0, 2, 5].map(|n| key(n, LONG_KEY_BYTES));
    let absent = [b"".to_vec(), b"key/0003x".to_vec(), b"zzz".to_vec()];
    [&there[..], &long, &absent].concat()
}

fn key(n: usize, padding: usize) -> Vec<u8> {
    format!("key/{n:04}{}", "p".repeat(padding)).into_bytes()
}

fn options(store: Arc<dyn ObjectStore>) -> esker::Builder {
    Db::builder("memory://hostile")
        .object_store(store)
        .clock(SimClock::shared(3))
        .compaction(Compaction::Off)
        .memory_bytes(1 << 20)
        .memtable_bytes(64 << 10)
        .cache_bytes(64 << 10)
        .block_bytes(256)
        .sst_bytes(4 << 10)
        .retention(Duration::ZERO)
        .wal_window(2)
        .name("host:1")
}

async fn build_small(store: Arc<dyn ObjectStore>) -> Result<()> {
    let db = options(Arc::clone(&store)).open().await?;
    let second = db.keyspace("second").await?;
    for n in 0..30 {
        db.put(key(n, 0), format!("value {n}").repeat(1 + n % 3)).accepted().await?;
        if n % 4 == 0 {
            second.put(key(n, 0), "second").accepted().await?;
        }
    }
    db.flush().await?;
    for n in 8..12 {
        db.delete(key(n, 0)).accepted().await?;
    }
    db.flush().await?;
    db.compact().await?;
    db.checkpoint("kept").await?;
    let reader = Store::from_object_store(Arc::clone(&store), "memory://hostile", SimClock::shared(5));
    let manifest = Manifest::open(reader.clone()).await?;
    Pin::on(&db.view(), &**reader.clock()).write(&manifest).await?;
    for n in 20..24 {
        db.put(key(n, 0), "newer, in level 0").accepted().await?;
    }
    db.flush().await?;
    db.close().await?;

    let clock = SimClock::shared(4);
    clock.sleep(Duration::from_secs(3600)).await;
    let objects = Store::from_object_store(Arc::clone(&store), "memory://hostile", clock);
    let mut compactor = Compactor::claim(Manifest::open(objects).await?, "host:1", true).await?;
    compactor.collect_with(Some(Duration::ZERO), false).await?;
    compactor.release().await?;

    let db = options(store).open().await?;
    db.put(key(1, 0), "in the log").await?;
    db.put(key(31, 0), "in the log, and new").await?;
    db.keyspace("second").await?.delete(key(4, 0)).await?;
    db.close().await
}

const LONG_KEY_BYTES: usize = 4 << 10;

/// Two entries of SSTs with keys this long are about what a version carries itself.
async fn build_with_parts(store: Arc<dyn ObjectStore>) -> Result<()> {
    let db = options(store).open().await?;
    db.keyspace("second").await?;
    for n in 0..6 {
        db.put(key(n, LONG_KEY_BYTES), "long").accepted().await?;
        db.flush().await?;
    }
    db.compact().await?;
    db.close().await
}

fn assert_names(error: &Error, damaged: &[(&str, Bytes)], what: &str) {
    assert!(
        matches!(error.kind(), ErrorKind::Corruption | ErrorKind::Unsupported),
        "{what}: the damage shows as {error:?}"
    );
    let named = error.object().unwrap_or_else(|| panic!("{what}: no object is named: {error:?}"));
    assert!(damaged.iter().any(|(path, _)| *path == named), "{what}: another object is named: {error:?}");
}

#[test]
fn the_small_database_has_an_object_of_every_kind() {
    let database = Database::small();
    let paths: Vec<_> = database.objects.iter().map(|(path, bytes)| (path.as_str(), bytes.len())).collect();
    for (folder, least) in [
        ("DB", 1),
        ("manifest/", 2),
        ("wal/", 3),
        ("sst/", 2),
        ("floor/manifest/", 1),
        ("checkpoint/", 1),
        ("pin/", 1),
        ("job/", 1),
    ] {
        assert!(database.of(folder).count() >= least, "{folder} in {paths:?}");
    }
    let parts = Database::with_parts();
    let paths: Vec<_> = parts.objects.iter().map(|(path, bytes)| (path.as_str(), bytes.len())).collect();
    assert!(parts.of("part/").count() >= 1, "{paths:?}");
}
