//! Answers spoiled on the way: one or two go unnoticed by everyone; when all are, it is `Corruption` and says where.

use std::sync::Arc;

use esker::{
    Compaction, Db, Error, ErrorKind, Reader, Result,
    clock::SharedClock,
    compaction::{Compactor, Did},
    manifest::{Manifest, checkpoint},
    stats::Cause,
    store::{Folder, Name, Store},
    testing::{Fault, FaultyStore, Operation, Rule, SimClock},
};
use object_store::memory::InMemory;

use crate::virtual_time::simulated;

const ROWS: usize = 120;

/// What is read, by a piece of its path.
const KINDS: [&str; 5] = ["DB$", "^manifest/", "^wal/", "^sst/", "^checkpoint/"];

/// A byte that every kind of object has, and no token lies at.
const FLIP: Fault = Fault::Flip(37);

fn key(n: usize) -> String {
    format!("key{n:04}")
}

/// A database with several runs, a log that is not flushed, and a checkpoint.
struct World {
    clock: SharedClock,
    objects: Arc<InMemory>,
}

impl World {
    async fn new() -> Self {
        let world = Self { clock: SimClock::shared(3), objects: Arc::new(InMemory::new()) };
        let direct = FaultyStore::new(world.objects.clone(), world.clock.clone(), 1);
        let db = world.open(&direct).await.expect("a database");
        for round in 0..3 {
            for n in 0..ROWS {
                let put = db.put(key(n), format!("{round} {}", "v".repeat(50))).accepted();
                put.await.expect("an accepted put");
            }
            db.flush().await.expect("a flush");
        }
        db.checkpoint("kept").await.expect("a checkpoint");
        db.put("in the log", "1").await.expect("a put");
        db.sync().await.expect("durable");
        db.close().await.expect("a close");
        world
    }

    /// A way to the objects that a test can spoil. They are its own from here on.
    fn faulty(&self) -> FaultyStore {
        let objects = Arc::new(self.objects.fork());
        FaultyStore::new(objects, self.clock.clone(), 1)
    }

    async fn open(&self, faulty: &FaultyStore) -> Result<Db> {
        Db::builder("memory://spoiled")
            .object_store(Arc::new(faulty.clone()))
            .clock(self.clock.clone())
            .retention(std::time::Duration::ZERO)
            .block_bytes(512)
            .sst_bytes(4096)
            .compaction(Compaction::Off)
            .open()
            .await
    }
}

async fn reader(store: Store) -> Result<Reader> {
    Reader::builder("memory://spoiled").store(store).follow(false).cache_bytes(1 << 10).open().await
}

async fn read_all(reader: &Reader) -> Result<()> {
    for n in (0..ROWS).step_by(17) {
        assert!(reader.get(key(n)).await?.is_some(), "{n} is lost");
    }
    let mut scan = reader.scan::<&str>(..);
    let mut rows = 0;
    while scan.next().await?.is_some() {
        rows += 1;
    }
    assert!(rows >= ROWS, "{rows} rows");
    Ok(())
}

/// All that is done with a database, with `rule` in force afresh at each step.
async fn life(world: &World, faulty: &FaultyStore, rule: &Rule) -> Result<()> {
    let spoil = || {
        faulty.clear();
        faulty.add(rule.clone());
    };
    spoil();
    let behind = Manifest::open(faulty.store()).await?;
    spoil();
    let base = behind.latest(Cause::Read).await?;
    spoil();
    checkpoint::load(&behind, "kept", Cause::Read).await?;
    spoil();
    let db = world.open(faulty).await?;
    assert!(db.get("in the log").await?.is_some(), "what was in the log is lost");
    spoil();
    let mut compactor = Compactor::claim(Manifest::open(faulty.store()).await?, "compactor", true).await?;
    spoil();
    db.put(key(0), "anew").await?;
    // The compactor has committed since, so this comes to a slot that is taken.
    db.flush().await?;
    spoil();
    while !matches!(compactor.step_all().await?, Did::Nothing) {
        spoil();
    }
    spoil();
    let collected = compactor.collect(false).await?;
    assert!(!collected.deleted.is_empty(), "nothing was collected");
    spoil();
    let newer = behind.follow(&base, Cause::Read).await?;
    assert!(newer.is_some_and(|view| view.id() > base.id()), "it does not follow");
    spoil();
    let reader = reader(faulty.store()).await?;
    spoil();
    read_all(&reader).await?;
    spoil();
    db.close().await?;
    Ok(())
}

#[test]
fn one_spoiled_answer_or_two_are_noticed_by_nobody() {
    simulated(async {
        let world = World::new().await;
        for kind in KINDS {
            for fault in [FLIP, Fault::Truncate(10), Fault::Swap] {
                // The identity is read first: there is no other answer yet to give in its place.
                if fault == Fault::Swap && kind == KINDS[0] {
                    continue;
                }
                for spoiled in [1, 2] {
                    let faulty = world.faulty();
                    let rule = Rule::on(Operation::Get).path(kind).first(spoiled).meets(fault);
                    let lived = life(&world, &faulty, &rule).await;
                    assert!(lived.is_ok(), "{kind} {fault:?} {spoiled}: {lived:?}");
                    assert!(faulty.faults() >= spoiled, "{kind} {fault:?}: {} were met", faulty.faults());
                }
            }
        }
    });
}

#[test]
fn when_every_answer_is_spoiled_it_is_corruption_of_that_object() {
    simulated(async {
        let world = World::new().await;
        for (kind, begins) in KINDS.into_iter().zip(["DB", "manifest/", "wal/", "sst/", "checkpoint/"]) {
            for fault in [FLIP, Fault::Truncate(10)] {
                let faulty = world.faulty();
                let rule = Rule::on(Operation::Get).path(kind).meets(fault);
                let error = life(&world, &faulty, &rule).await.expect_err("nothing of it can be read");
                assert_eq!(error.kind(), ErrorKind::Corruption, "{kind} {fault:?}: {error}");
                assert!(error.object().is_some_and(|object| object.starts_with(begins)), "{kind}: {error}");
                assert!(error.offset().is_some(), "{kind}: {error}");
                assert!(error.to_string().contains("it was read 3 times"), "{kind}: {error}");
            }
        }
    });
}

#[test]
fn a_flaw_at_rest_costs_two_more_requests_and_what_is_sound_none() {
    simulated(async {
        let world = World::new().await;
        let gets = |faulty: &FaultyStore| faulty.calls().iter().filter(|(_, path)| path == "DB").count();
        let faulty = world.faulty();
        Manifest::open(faulty.store()).await.expect("opened");
        assert_eq!(gets(&faulty), 1);
        faulty.add(Rule::on(Operation::Get).path("DB$").meets(FLIP));
        Manifest::open(faulty.store()).await.expect_err("spoiled");
        assert_eq!(gets(&faulty), 1 + 3);
    });
}

#[test]
fn what_is_missing_is_not_asked_for_again() {
    simulated(async {
        let faulty = World::new().await.faulty();
        let (store, name) = (faulty.store(), Name::Wal(77));
        let error: Error = store
            .reread(&name, || async { store.get_range(&name, 0..8, Cause::Read).await })
            .await
            .expect_err("it is missing");
        assert!(esker::store::is_missing(&error), "{error}");
        assert_eq!(faulty.calls().iter().filter(|(_, path)| *path == name.path()).count(), 1);
    });
}

#[test]
fn a_log_slot_that_reads_back_spoiled_is_still_ours() {
    simulated(async {
        let world = World::new().await;
        let faulty = world.faulty();
        let db = world.open(&faulty).await.expect("a database");
        // The answer to the PUT is lost, and what is read to find out whose bytes are there has another token.
        faulty.add(Rule::on(Operation::Put).path("^wal/").nth(1).meets(Fault::DropReply));
        faulty.add(Rule::on(Operation::Get).path("^wal/").nth(1).meets(Fault::Flip(10)));
        db.put("a", "1").await.expect("written");
        db.sync().await.expect("durable");
        assert_eq!(faulty.faults(), 2);
        db.close().await.expect("a close");
    });
}

#[test]
fn a_spoiled_tail_is_not_kept_in_the_cache() {
    simulated(async {
        let world = World::new().await;
        let faulty = world.faulty();
        let store = faulty.store();
        let large = Reader::builder("memory://spoiled").store(store).follow(false).cache_bytes(8 << 20);
        let reader = large.open().await.expect("a reader");
        faulty.add(Rule::on(Operation::Get).path("^sst/").meets(FLIP));
        assert_eq!(reader.get(key(1)).await.expect_err("spoiled").kind(), ErrorKind::Corruption);
        faulty.clear();
        assert!(reader.get(key(1)).await.expect("sound again").is_some());
        assert!(!reader.store().list(Folder::Sst, None, Cause::Read).await.expect("a listing").is_empty());
    });
}
