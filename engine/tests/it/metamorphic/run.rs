//! A history, lived under one option set.
//!
//! The wall clock moves only by the history's own steps, so that rows expire at the same step everywhere.

use std::{future::Future, path::Path, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use esker::{
    Db, ErrorKind, KeyRange, Keyspace, Reader, Result, Scan, Snapshot, WriteBatch,
    clock::{Clock, SharedClock, SystemClock},
    compaction::collect,
    manifest::Manifest,
    store::{ObjectStore, Store},
    testing::{Fault, FaultyStore, Operation, Rule, SimClock, single_threaded},
};
use object_store::{local::LocalFileSystem, memory::InMemory};
use parking_lot::Mutex;

use super::{
    EXPIRED,
    choices::{Choices, Place},
    steps::{SLOTS, Step},
};

/// No step takes longer by its clock.
const LONG: Duration = Duration::from_secs(24 * 3600);
const SECOND_KEYSPACE: &str = "second";
const START_MS: u64 = 1_800_000_000_000;

/// What each step answers. Panics if one fails: no option set is a reason for that.
pub(super) fn answers(steps: &[Step], choices: &Choices) -> Vec<String> {
    let _one_thread = single_threaded();
    let in_real_time = choices.place == Place::Directory;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(!in_real_time).build();
    let folder = tempfile::tempdir().expect("a temporary folder");
    runtime.expect("a runtime").block_on(async {
        let time = if in_real_time { SystemClock::shared() } else { SimClock::shared(choices.chance) };
        let clock = Arc::new(StepClock { time: time.clone(), wall_ms: Mutex::new(START_MS) });
        let objects = folder.path().join("objects");
        let objects: Arc<dyn ObjectStore> = match choices.place {
            Place::Memory => Arc::new(InMemory::new()),
            Place::Faulty => Arc::new(faulty(clock.clone(), choices.chance)),
            Place::Directory => {
                std::fs::create_dir(&objects).expect("a folder");
                Arc::new(LocalFileSystem::new_with_prefix(&objects).expect("a folder"))
            }
        };
        let cache = folder.path().join("cache");
        let mut life = Life::begin(objects, clock, choices, &cache).await;
        let mut answers = Vec::with_capacity(steps.len());
        for (at, step) in steps.iter().enumerate() {
            let answer = tokio::select! {
                biased;
                answer = life.step(at, step) => answer,
                () = time.sleep(LONG) => panic!("step {at} {step:?} hangs"),
            };
            answers.push(answer.unwrap_or_else(|error| panic!("step {at} {step:?} fails: {error}")));
        }
        life.db.close().await.expect("it can be closed");
        answers
    })
}

/// Calls fail, lose their reply, wait, come twice; none for so long that an operation would give up.
fn faulty(clock: SharedClock, chance: u64) -> FaultyStore {
    let store = FaultyStore::memory(clock, chance);
    for fault in [Fault::FailBefore, Fault::DropReply, Fault::Duplicate, Fault::FalseConflict] {
        let conditional = fault == Fault::FalseConflict;
        store.add(
            Rule::on(if conditional { Operation::Put } else { Operation::Any }).chance(0.02).meets(fault),
        );
    }
    store.add(Rule::on(Operation::Any).chance(0.1).meets(Fault::Delay(Duration::from_millis(300))));
    store
}

/// Time passes as it does; the date only by the history's steps.
#[derive(Debug)]
struct StepClock {
    time: SharedClock,
    wall_ms: Mutex<u64>,
}

impl Clock for StepClock {
    fn wall_ms(&self) -> u64 {
        *self.wall_ms.lock()
    }
    fn monotonic(&self) -> Duration {
        self.time.monotonic()
    }
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.time.sleep(duration)
    }
    fn random(&self) -> u128 {
        self.time.random()
    }
}

/// An open database on its way through the history.
struct Life<'a> {
    objects: Arc<dyn ObjectStore>,
    clock: Arc<StepClock>,
    choices: &'a Choices,
    cache: &'a Path,
    db: Db,
    keyspaces: [Keyspace; 2],
    reader: Reader,
    snapshots: [Option<Snapshot>; SLOTS as usize],
}

impl<'a> Life<'a> {
    async fn begin(
        objects: Arc<dyn ObjectStore>,
        clock: Arc<StepClock>,
        choices: &'a Choices,
        cache: &'a Path,
    ) -> Self {
        let store = Store::from_object_store(objects.clone(), "metamorphic", clock.clone());
        Manifest::open_or_create(store.clone(), choices.stored.clone()).await.expect("a new database");
        let (db, keyspaces) = open(&objects, &clock, choices, cache).await.expect("it opens");
        let reader =
            Reader::builder("metamorphic").store(store).cache_bytes(choices.cache_bytes).open().await;
        Self {
            objects,
            clock,
            choices,
            cache,
            db,
            keyspaces,
            reader: reader.expect("a reader opens"),
            snapshots: Default::default(),
        }
    }

    async fn step(&mut self, at: usize, step: &Step) -> Result<String> {
        let value = |key: u16, bytes: u16| format!("{at}.{key}.{:x<1$}", "", bytes as usize);
        let done = Ok("done".to_owned());
        match step {
            Step::Put { keyspace, key, bytes } => {
                let put = self.keyspaces[*keyspace as usize].put(name(*key), value(*key, *bytes));
                if at.is_multiple_of(9) {
                    put.await?;
                } else {
                    put.accepted().await?;
                }
                done
            }
            Step::Expiring { key, seconds } => {
                self.db.put(name(*key), value(*key, 9)).ttl(Duration::from_secs(*seconds)).accepted().await?;
                done
            }
            Step::Delete { keyspace, key } => {
                self.keyspaces[*keyspace as usize].delete(name(*key)).accepted().await?;
                done
            }
            Step::Batch { keys } => {
                let mut batch = WriteBatch::new();
                for (keyspace, key, bytes) in keys {
                    let keyspace = &self.keyspaces[*keyspace as usize];
                    match bytes {
                        Some(bytes) => batch.put(keyspace, name(*key), value(*key, *bytes)),
                        None => batch.delete(keyspace, name(*key)),
                    };
                }
                self.db.write(batch).accepted().await?;
                done
            }
            Step::Get { keyspace, key } => {
                self.keyspaces[*keyspace as usize].get(name(*key)).await.map(|found| spell(&found))
            }
            Step::MultiGet { keys } => {
                let found = self.db.multi_get(keys.iter().map(|key| name(*key))).await?;
                Ok(found.iter().map(spell).collect::<Vec<_>>().join(" "))
            }
            Step::Scan { keyspace, from, to, reverse, limit } => {
                let (from, to) = (name(*from), name(*to));
                let range = KeyRange::new(from.clone().min(to.clone())..from.max(to))?;
                rows(self.keyspaces[*keyspace as usize].scan_range(range), *reverse, *limit).await
            }
            Step::Snapshot { slot } => {
                self.snapshots[*slot as usize] = Some(self.db.snapshot());
                done
            }
            Step::SnapshotGet { slot, key } => match &self.snapshots[*slot as usize] {
                Some(snapshot) => or_expired(snapshot.get(name(*key)).await.map(|found| spell(&found))),
                None => done,
            },
            Step::SnapshotScan { slot, from, limit, reverse } => match &self.snapshots[*slot as usize] {
                Some(snapshot) => or_expired(rows(snapshot.scan(name(*from)..), *reverse, *limit).await),
                None => done,
            },
            Step::ReaderGet { key } => {
                self.db.sync().await?;
                self.reader.strong().await?.get(name(*key)).await.map(|found| spell(&found))
            }
            Step::ReaderScan { from, limit, reverse } => {
                self.db.sync().await?;
                let snapshot = self.reader.strong().await?;
                let second = snapshot.keyspace(SECOND_KEYSPACE).expect("it was created at the beginning");
                rows(second.scan(name(*from)..), *reverse, *limit).await
            }
            Step::Flush | Step::Compact | Step::Collect if !self.choices.tends => done,
            Step::Flush => self.db.flush().await.and(done),
            Step::Compact => self.db.compact().await.and(done),
            Step::Collect => {
                let store = Store::from_object_store(self.objects.clone(), "metamorphic", self.clock.clone());
                // Another pass may run in the background: that one then does the work.
                match collect(&Manifest::open(store).await?, None, false).await {
                    Err(error) if error.kind() != ErrorKind::Conflict => Err(error),
                    _ => done,
                }
            }
            Step::Later { seconds } => {
                *self.clock.wall_ms.lock() += seconds * 1000;
                if self.choices.place != Place::Directory {
                    self.clock.sleep(Duration::from_secs(*seconds)).await;
                }
                done
            }
            Step::Reopen => {
                self.snapshots = Default::default();
                self.db.close().await?;
                (self.db, self.keyspaces) =
                    open(&self.objects, &self.clock, self.choices, self.cache).await?;
                done
            }
        }
    }
}

async fn open(
    objects: &Arc<dyn ObjectStore>,
    clock: &Arc<StepClock>,
    choices: &Choices,
    cache: &Path,
) -> Result<(Db, [Keyspace; 2])> {
    let mut builder = Db::builder("metamorphic")
        .object_store(objects.clone())
        .clock(clock.clone())
        .memory_bytes(choices.memory_bytes)
        .memtable_bytes(choices.memtable_bytes)
        .cache_bytes(choices.cache_bytes)
        .compaction(choices.compaction)
        .must_exist();
    if choices.cache_on_ssd {
        builder = builder.cache_dir(cache, 64 << 20);
    }
    let db = builder.open().await?;
    let keyspaces = [db.default_keyspace(), db.keyspace(SECOND_KEYSPACE).await?];
    Ok((db, keyspaces))
}

fn name(key: u16) -> Bytes {
    // Prefixes shared and not, lengths of all kinds.
    format!("{}/{key}", "abcdefgh".repeat(key as usize % 4)).into()
}

fn spell(found: &Option<Bytes>) -> String {
    found.as_ref().map_or_else(|| "-".to_owned(), |value| String::from_utf8_lossy(value).into_owned())
}

async fn rows(scan: Scan, reverse: bool, limit: usize) -> Result<String> {
    let mut scan = (if reverse { scan.rev() } else { scan }).limit(limit);
    let mut rows = String::new();
    while let Some(row) = scan.next().await? {
        rows += &format!("{}={} ", String::from_utf8_lossy(&row.key), String::from_utf8_lossy(&row.value));
    }
    Ok(rows)
}

/// A snapshot older than the retention may end so, and says so.
fn or_expired(answer: Result<String>) -> Result<String> {
    match answer {
        Err(error) if error.kind() == ErrorKind::SnapshotExpired => Ok(EXPIRED.to_owned()),
        answer => answer,
    }
}
