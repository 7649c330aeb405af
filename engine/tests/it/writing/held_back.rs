//! Writing while one request is held back, or one write is given up: what may happen meanwhile, and what may not.
//!
//! Always true: each test runs in one thread and virtual time, so that a request is held back for as long as it says,
//! and nothing happens between two lines that do not wait.

use std::{future::Future, sync::Arc, time::Duration};

use esker::{
    Builder, Compaction, Db, WriteBatch,
    clock::SharedClock,
    compaction::collect,
    manifest::Manifest,
    stats::{Cause, RequestKind},
    store::{Folder, Name},
    testing::{Fault, FaultyStore, Operation, Rule, SimClock},
};
use futures::{FutureExt as _, future::join_all};

use super::{rows, value};
use crate::virtual_time::simulated;

const MOMENT: Duration = Duration::from_millis(100);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// A store, and the time that passes there.
struct Place {
    store: FaultyStore,
    clock: SharedClock,
}

impl Place {
    fn new() -> Self {
        let clock = SimClock::shared(1);
        Self { store: FaultyStore::memory(clock.clone(), 1), clock }
    }

    /// A small database that merges nothing by itself.
    fn builder(&self) -> Builder {
        Db::builder("held back")
            .object_store(Arc::new(self.store.clone()))
            .clock(self.clock.clone())
            .compaction(Compaction::Off)
            .memory_bytes(1 << 20)
            .cache_bytes(64 << 10)
    }

    async fn open(&self) -> Db {
        self.builder().open().await.unwrap()
    }

    /// What came of `call` in this time, if anything did.
    async fn within<T>(&self, time: Duration, call: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = call => Some(done),
            () = self.clock.sleep(time) => None,
        }
    }

    /// The slots of the log that are filled.
    async fn slots(&self) -> Vec<u64> {
        let listed = self.store.sound_store().list(Folder::Wal, None, Cause::Admin).await.unwrap();
        listed.iter().filter_map(|listed| listed.name.number()).collect()
    }
}

#[test]
fn a_log_object_that_lands_early_is_not_acknowledged_before_the_one_below_it() {
    simulated(async {
        let place = Place::new();
        let db = place.open().await;
        db.put("before", "v").await.unwrap();
        let last = *place.slots().await.last().unwrap();

        place.store.add(Rule::on(Operation::Put).path("wal/").nth(1).meets(Fault::Delay(3 * SECOND)));
        let below = db.put("below", "v").accepted().await.unwrap();
        assert!(place.within(MOMENT, below.durable()).await.is_none(), "it is on its way");
        let early = db.put("early", "v").accepted().await.unwrap();
        let (below_done, early_done) =
            tokio::join!(place.within(SECOND, below.durable()), place.within(SECOND, early.durable()));
        let slots = place.slots().await;
        assert!(!slots.contains(&(last + 1)) && slots.contains(&(last + 2)), "{slots:?} after {last}");
        assert!(below_done.is_none(), "acknowledged, and not there: {below_done:?}");
        assert!(early_done.is_none(), "acknowledged before what lies below it: {early_done:?}");

        early.durable().await.unwrap();
        below.durable().now_or_never().expect("it was acknowledged earlier").unwrap();
        drop(db);
        assert_eq!(rows(&place.open().await).await.len(), 3);
    });
}

#[test]
fn behind_a_log_object_that_there_is_no_memory_for_writers_share_one() {
    simulated(async {
        let place = Place::new();
        let db = place.builder().memtable_bytes(512 << 10).deadline(5 * MINUTE).open().await.unwrap();
        // A third of the memory is a snapshot's, and no flush gives any back.
        db.put("read", vec![b'v'; 300_000]).accepted().await.unwrap();
        let snapshot = db.snapshot();
        db.flush().await.unwrap();
        let before = place.slots().await.len();
        place.store.add(Rule::on(Operation::Put).path("wal/").nth(1).meets(Fault::Delay(MINUTE)));
        place.store.add(Rule::on(Operation::Put).path("sst/").meets(Fault::Delay(MINUTE)));
        let in_flight = db.put("in flight", vec![b'v'; 100_000]).accepted().await.unwrap();
        assert!(place.within(MOMENT, in_flight.durable()).await.is_none(), "it is on its way");
        // Its bytes are its memtable's as well, and what is left does not hold them a second time.
        let large = db.put("large", vec![b'v'; 300_000]).accepted().await.unwrap();
        assert!(place.within(MOMENT, large.durable()).await.is_none(), "it waits for memory");
        assert_eq!(place.slots().await.len(), before, "nothing has landed, and one is in flight");
        let one_after_another = (0..20_u32).map(|n| {
            let (db, place) = (&db, &place);
            async move {
                place.clock.sleep(MOMENT * (n + 1)).await;
                db.put(n.to_be_bytes(), "v").await.unwrap();
            }
        });
        join_all(one_after_another).await;
        large.durable().now_or_never().expect("it lies before those").unwrap();
        assert_eq!(
            place.slots().await.len() - before,
            3,
            "one in flight, the large one, and the other twenty"
        );
        drop((snapshot, db));
        assert_eq!(rows(&place.open().await).await.len(), 23);
    });
}

#[test]
fn a_write_that_is_dropped_while_it_waits_for_memory_leaves_nothing_charged() {
    simulated(async {
        let place = Place::new();
        let db = place.builder().memtable_bytes(512 << 10).open().await.unwrap();
        let held = db.memory_stats();
        let (empty, limit) = (held.total_bytes(), held.limit_bytes);
        // While the store takes nothing, nothing is given back.
        place.store.add(Rule::on(Operation::Put));
        let mut written = 0_u32;
        while db.memory_stats().total_bytes() < limit / 10 * 8 {
            db.put(written.to_be_bytes(), vec![b'v'; 1000]).accepted().await.unwrap();
            written += 1;
        }
        let held = db.memory_stats().total_bytes();
        let batch = || {
            let mut batch = WriteBatch::new();
            batch.put(&db, "one of two", vec![b'v'; 10_000]).put(&db, "two of two", vec![b'v'; 10_000]);
            batch
        };
        for _ in 0..20 {
            let paused = db.put("paused", vec![b'v'; 20_000]).accepted().now_or_never();
            assert!(paused.is_none(), "it is slowed down");
            assert_eq!(db.memory_stats().total_bytes(), held, "after a put that was given up in its pause");
            let paused = db.write(batch()).accepted().now_or_never();
            assert!(paused.is_none(), "it is slowed down");
            assert_eq!(db.memory_stats().total_bytes(), held, "after a batch that was given up in its pause");
            let in_line = db.put("in line", vec![b'v'; 900_000]).accepted().now_or_never();
            assert!(in_line.is_none(), "there is no room");
            assert_eq!(db.memory_stats().total_bytes(), held, "after a put that was given up in line");
        }
        place.store.clear();
        while db.flush().await.is_err() {}
        place.clock.sleep(MINUTE).await;
        assert_eq!(db.memory_stats().total_bytes(), empty, "everything is flushed");
        assert_eq!(rows(&db).await.len() as u32, written, "what was dropped was not written");
    });
}

#[test]
fn a_collection_between_the_upload_and_the_commit_of_a_flush_takes_nothing_of_it() {
    simulated(async {
        let place = Place::new();
        let db = place.open().await;
        let others = Manifest::open(place.store.sound_store()).await.unwrap();
        let mut uncommitted = Vec::new();
        for round in 0..4_u32 {
            for n in 0..50_u32 {
                db.put(n.to_be_bytes(), round.to_be_bytes()).accepted().await.unwrap();
            }
            place
                .store
                .add(Rule::on(Operation::Put).path("manifest/").nth(1).meets(Fault::Delay(2 * SECOND)));
            let mut waiting = 0;
            let collecting = async {
                loop {
                    place.clock.sleep(MOMENT).await;
                    let pass = collect(&others, Some(Duration::ZERO), false).await.unwrap();
                    waiting = waiting.max(pass.waiting);
                }
            };
            tokio::select! {
                biased;
                flushed = db.flush() => flushed.unwrap(),
                () = collecting => {}
            }
            uncommitted.push(waiting);
            place.store.clear();
        }
        drop(db);
        let db = place.open().await;
        for n in 0..50_u32 {
            assert_eq!(value(&db, n.to_be_bytes()).await.unwrap(), 3_u32.to_be_bytes());
        }
        assert_eq!(db.view().root.runs.len(), 4);
        assert_eq!(rows(&db).await.len(), 50);
        assert_eq!(uncommitted, [1; 4], "each SST lay there when garbage was collected, and waited");
    });
}

#[test]
fn a_flush_that_failed_is_made_again_though_nobody_writes_after_it() {
    simulated(async {
        for fault in [Fault::Refuse, Fault::FailBefore] {
            let place = Place::new();
            let db = place.builder().memtable_bytes(4 << 10).open().await.unwrap();
            place.store.add(Rule::on(Operation::Put).path("sst/").meets(fault));
            // It fills the memtable, so that nobody has to ask for the flush.
            db.put("k", vec![b'v'; 5000]).await.unwrap();
            place.clock.sleep(2 * MINUTE).await;
            assert_eq!(db.view().root.runs.len(), 0, "{fault:?}");
            assert!(place.store.faults() > 4, "{fault:?} was met {} times", place.store.faults());
            place.store.clear();
            place.clock.sleep(MINUTE).await;
            assert_eq!(db.view().root.runs.len(), 1, "a minute after the last {fault:?}");
        }
    });
}

#[test]
fn writers_who_wait_for_each_write_come_to_go_together_and_one_alone_waits_for_nobody() {
    simulated(async {
        let place = Place::new();
        let db = place.open().await;
        let put = Duration::from_millis(40);
        place.store.add(Rule::on(Operation::Put).path("wal/").meets(Fault::Delay(put)));
        let puts = || db.stats().count(RequestKind::Put, Cause::Wal).requests;
        let write = async |n: u64, thought: Duration, rounds: u32| {
            for _ in 0..rounds {
                db.put(n.to_be_bytes(), "v").await.unwrap();
                place.clock.sleep(thought).await;
            }
        };

        let (before, start) = (puts(), place.clock.monotonic());
        write(0, Duration::ZERO, 50).await;
        assert_eq!(
            (puts() - before, place.clock.monotonic() - start),
            (50, 50 * put),
            "one waits for its PUT"
        );

        // They come at once; then one answers at once, two after a millisecond, one after two.
        let ms = Duration::from_millis(1);
        let (before, start) = (puts(), place.clock.monotonic());
        let thoughts = [Duration::ZERO, ms, ms, 2 * ms];
        join_all((0..4).map(|n| write(n, thoughts[n as usize], 50))).await;
        let took = place.clock.monotonic() - start;
        assert_eq!(puts() - before, 50, "all four go together each time");
        assert_eq!(took, 50 * (put + 2 * ms), "the last of them is waited for, and nothing else");

        // Of two one goes away: the other waits for it once, for an eighth of a round trip.
        place.clock.sleep(SECOND).await;
        let (before, start) = (puts(), place.clock.monotonic());
        futures::join!(write(0, ms, 1), write(1, Duration::ZERO, 3));
        let took = place.clock.monotonic() - start;
        assert_eq!(puts() - before, 3);
        assert_eq!(took, 3 * put + put / 8, "who does not come back is waited for once");
    });
}

#[test]
fn log_objects_are_compressed_once_half_of_the_window_is_in_flight() {
    simulated(async {
        let place = Place::new();
        let db = place.builder().wal_window(8).open().await.unwrap();
        let before = Name::Wal(*place.slots().await.last().unwrap());
        place.store.add(Rule::on(Operation::Put).path("wal/").meets(Fault::Delay(3 * SECOND)));
        let mut landing = Vec::new();
        for n in 0..8_u32 {
            // Nothing has landed yet, so that each is sent at once.
            let accepted = db.put(n.to_be_bytes(), vec![b'v'; 4000]).accepted().await.unwrap();
            assert!(place.within(MOMENT, accepted.durable()).await.is_none(), "it is on its way");
            landing.push(accepted);
        }
        for accepted in landing {
            accepted.durable().await.unwrap();
        }
        let listed = place.store.sound_store().list(Folder::Wal, Some(&before), Cause::Admin).await.unwrap();
        let sizes: Vec<u64> = listed.iter().map(|listed| listed.bytes).collect();
        assert_eq!(sizes.len(), 8);
        let (early, late) = sizes.split_at(4);
        assert!(early.iter().all(|&size| size > 4000) && late.iter().all(|&size| size < 1000), "{sizes:?}");
    });
}
