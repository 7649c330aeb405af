//! Writing: what is acknowledged is there, what is refused is not, and who may write.

mod held_back;
mod warm;

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Poll, Waker},
    time::Duration,
};

use esker::{
    Compaction, Db, ErrorKind, Keyspace, WriteBatch,
    clock::{Clock, SharedClock, SystemClock},
    compaction::publish::Compactor,
    key::{MAX_KEY_BYTES, MAX_VALUE_BYTES},
    manifest::{Manifest, StoredShape},
    stats::{Cause, RequestKind},
    store::Store,
    testing::{Fault, FaultyStore, Operation, Rule},
};
use futures::future::join_all;
use object_store::{ObjectStore, memory::InMemory};
use parking_lot::Mutex;

type Shared = Arc<dyn ObjectStore>;

fn memory() -> Shared {
    Arc::new(InMemory::new())
}

fn faulty(seed: u64) -> FaultyStore {
    FaultyStore::memory(SystemClock::shared(), seed)
}

/// A small database that merges nothing by itself.
fn small(store: &Shared) -> esker::Builder {
    Db::builder("memory://writing")
        .object_store(store.clone())
        .compaction(Compaction::Off)
        .memory_bytes(8 << 20)
        .cache_bytes(1 << 20)
}

async fn open(store: &Shared) -> Db {
    small(store).open().await.unwrap()
}

async fn value(db: &Db, key: impl AsRef<[u8]>) -> Option<Vec<u8>> {
    db.get(key).await.unwrap().map(|value| value.to_vec())
}

async fn rows(db: &Db) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut scan = db.scan_prefix("");
    let mut rows = Vec::new();
    while let Some(row) = scan.next().await.unwrap() {
        rows.push((row.key.to_vec(), row.value.to_vec()));
    }
    rows
}

/// Runs `future` on another thread of the test's runtime.
#[expect(clippy::disallowed_methods, reason = "a test's own tasks are joined, not kept")]
fn spawn(future: impl Future<Output = ()> + Send + 'static) -> impl Future<Output = ()> {
    let task = tokio::spawn(future);
    async { task.await.unwrap() }
}

fn wal_puts(db: &Db) -> u64 {
    db.stats().count(RequestKind::Put, Cause::Wal).requests
}

#[tokio::test]
async fn what_was_awaited_survives_a_drop_without_close() {
    let store = memory();
    let db = open(&store).await;
    for n in 0..100_u32 {
        db.put(n.to_be_bytes(), format!("value {n}")).await.unwrap();
    }
    db.delete(7_u32.to_be_bytes()).await.unwrap();
    drop(db);
    let db = open(&store).await;
    for n in 0..100_u32 {
        let expected = (n != 7).then(|| format!("value {n}").into_bytes());
        assert_eq!(value(&db, n.to_be_bytes()).await, expected, "key {n}");
    }
}

#[tokio::test]
async fn what_was_accepted_is_visible_at_once_and_durable_after_sync() {
    let store = memory();
    let db = open(&store).await;
    let before = wal_puts(&db);
    let mut last = None;
    for n in 0..1000_u32 {
        last = Some(db.put(n.to_be_bytes(), "v").accepted().await.unwrap());
        assert_eq!(value(&db, n.to_be_bytes()).await.unwrap(), b"v");
    }
    assert_eq!(wal_puts(&db), before, "nobody waited, so nothing was sent");
    let token = db.sync().await.unwrap();
    assert_eq!(token, last.unwrap().token());
    assert_eq!(wal_puts(&db), before + 1, "one object holds them all");
    drop(db);
    assert_eq!(rows(&open(&store).await).await.len(), 1000);
}

#[tokio::test]
async fn accepted_writes_become_durable_in_order_and_can_be_waited_for_twice() {
    let store = memory();
    let db = open(&store).await;
    let first = db.put("a", "1").accepted().await.unwrap();
    let second = db.put("a", "2").accepted().await.unwrap();
    assert!(first.token() < second.token());
    second.durable().await.unwrap();
    assert_eq!(first.durable().await.unwrap(), first.token());
    assert_eq!(first.clone().durable().await.unwrap(), first.token());
}

#[tokio::test]
async fn a_dropped_database_tells_those_who_still_wait() {
    let store = faulty(1);
    store.add(Rule::on(Operation::Put).path("wal/").nth(1));
    let shared: Shared = Arc::new(store.clone());
    let db = open(&shared).await;
    store.add(Rule::on(Operation::Put).path("wal/"));
    let accepted = db.put("k", "v").accepted().await.unwrap();
    drop(db);
    assert_eq!(accepted.durable().await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn a_batch_spans_keyspaces_and_applies_as_a_whole() {
    let store = memory();
    let db = open(&store).await;
    let users = db.keyspace("users").await.unwrap();
    let mut batch = WriteBatch::new();
    batch.put(&db, "k", "default").put(&users, "k", "users").put(&users, "gone", "x").delete(&users, "gone");
    assert_eq!(batch.len(), 4);
    assert_eq!(batch.bytes(), "kdefault".len() + "kusers".len() + "gonex".len() + "gone".len());
    db.write(batch).await.unwrap();
    drop((users, db));

    let db = open(&store).await;
    let users = db.keyspace("users").await.unwrap();
    assert_eq!(value(&db, "k").await.unwrap(), b"default");
    assert_eq!(users.get("k").await.unwrap().unwrap(), "users");
    assert_eq!(users.get("gone").await.unwrap(), None);

    let mut bad = WriteBatch::new();
    bad.put(&db, "fine", "x").put(&db, vec![0; MAX_KEY_BYTES + 1], "x").put(&db, "also fine", "x");
    assert_eq!(db.write(bad).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(value(&db, "fine").await, None, "nothing of a refused batch is applied");
    assert_eq!(rows(&db).await.len(), 1);
}

#[tokio::test]
async fn an_empty_batch_is_durable_without_a_request() {
    let db = open(&memory()).await;
    let before = wal_puts(&db);
    db.write(WriteBatch::new()).await.unwrap();
    db.sync().await.unwrap();
    assert_eq!(wal_puts(&db), before);
}

#[tokio::test]
async fn keyspaces_are_apart_and_keep_their_names() {
    let store = memory();
    let db = open(&store).await;
    let (a, b) = (db.keyspace("a").await.unwrap(), db.keyspace("b").await.unwrap());
    a.put("k", "in a").await.unwrap();
    b.put("k", "in b").await.unwrap();
    assert_eq!(value(&db, "k").await, None);
    assert_eq!(db.default_keyspace().get("k").await.unwrap(), None);
    db.close().await.unwrap();
    let db = open(&store).await;
    let read = |keyspace: Keyspace| async move { keyspace.get("k").await.unwrap().unwrap() };
    assert_eq!(read(db.keyspace("b").await.unwrap()).await, "in b");
    assert_eq!(read(db.keyspace("a").await.unwrap()).await, "in a");
    assert_eq!(db.keyspace("").await.unwrap_err().kind(), ErrorKind::Invalid);
    let (one, two) = tokio::join!(db.keyspace("same"), db.keyspace("same"));
    one.unwrap().put("k", "v").await.unwrap();
    assert_eq!(
        two.unwrap().get("k").await.unwrap().unwrap(),
        "v",
        "asked for twice at once, it is one keyspace"
    );
}

#[tokio::test]
async fn rows_expire_by_the_wall_clock() {
    let (store, clock) = (memory(), TestClock::shared());
    let db = small(&store).clock(clock.clone()).open().await.unwrap();
    db.put("short", "v").ttl(Duration::from_secs(10)).accepted().await.unwrap();
    db.put("long", "v").ttl(Duration::from_secs(1000)).accepted().await.unwrap();
    let mut batch = WriteBatch::new();
    batch.put_ttl(&db, "in a batch", "v", Duration::from_secs(10));
    batch.put_expiring_at(&db, "at", "v", clock.wall_ms() + 10_000);
    batch.put(&db, "for ever", "v");
    db.write(batch).accepted().await.unwrap();
    assert_eq!(rows(&db).await.len(), 5);
    clock.advance(Duration::from_secs(9));
    assert_eq!(rows(&db).await.len(), 5);
    clock.advance(Duration::from_secs(1));
    assert_eq!(value(&db, "short").await, None);
    assert_eq!(value(&db, "at").await, None);
    assert_eq!(value(&db, "in a batch").await, None);
    assert_eq!(value(&db, "long").await.unwrap(), b"v");
    assert_eq!(rows(&db).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_waiting_writers_share_few_log_objects() {
    let store = faulty(1);
    let shared: Shared = Arc::new(store.clone());
    let db = open(&shared).await;
    store.add(Rule::on(Operation::Put).path("wal/").meets(Fault::Delay(Duration::from_millis(20))));
    let before = wal_puts(&db);
    let writers = (0..500_u32).map(|n| {
        let db = db.clone();
        spawn(async move {
            for round in 0..2_u32 {
                db.put((n * 2 + round).to_be_bytes(), "v").await.unwrap();
            }
        })
    });
    join_all(writers).await;
    let puts = wal_puts(&db) - before;
    assert!(puts <= 40, "1000 durable writes took {puts} log objects");
    drop(db);
    assert_eq!(rows(&open(&shared).await).await.len(), 1000);
}

#[tokio::test]
async fn an_idle_database_sends_nothing() {
    let (store, clock) = (memory(), TestClock::shared());
    let db = Db::builder("memory://idle").object_store(store).clock(clock.clone()).open().await.unwrap();
    db.put("k", "v").await.unwrap();
    let before = db.stats();
    for _ in 0..600 {
        clock.advance(Duration::from_secs(10));
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }
    let sent = db.stats().since(&before);
    assert_eq!((sent.total(RequestKind::Put), sent.total(RequestKind::List)), (0, 0), "in 100 minutes");
    let gets = sent.total(RequestKind::Get);
    // One for the next version, and one that proves that it cannot have come and gone.
    assert!((200..=420).contains(&gets), "{gets} GETs in 100 minutes are not two every 30 s");
}

#[tokio::test]
async fn a_database_that_leaves_merging_to_others_follows_what_they_commit() {
    let (store, clock) = (memory(), TestClock::shared());
    let db = small(&store).clock(clock.clone()).open().await.unwrap();
    for n in 0..6_u32 {
        db.put(n.to_be_bytes(), "v").await.unwrap();
        db.flush().await.unwrap();
    }
    let place = Store::from_object_store(store.clone(), "memory://writing", SystemClock::shared());
    let manifest = Manifest::open(place).await.unwrap();
    let mut compactor = Compactor::claim(manifest, "another process", false).await.unwrap();
    compactor.step_all().await.unwrap();
    assert!(db.view().id() < compactor.view().id());
    let expected = compactor.view().id();
    for _ in 0..10_000 {
        if db.view().id() == expected {
            break;
        }
        clock.advance(Duration::from_secs(1));
        tokio::task::yield_now().await;
    }
    assert_eq!(db.view().id(), expected, "the version that another process committed is in use");
    assert_eq!(db.view().root.runs.len(), 1);
    assert_eq!(rows(&db).await.len(), 6);
}

#[tokio::test]
async fn the_older_of_two_writers_is_fenced_and_says_by_whom() {
    let store = memory();
    let old = small(&store).name("the old one").open().await.unwrap();
    old.put("a", "old").await.unwrap();
    let new = small(&store).name("the new one").open().await.unwrap();
    assert_eq!(value(&new, "a").await.unwrap(), b"old");

    let error = old.put("a", "too late").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced);
    assert!(error.to_string().contains("the new one"), "{error}");
    let again = old.put("b", "too late").accepted().await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Fenced);
    assert!(again.to_string().contains("the new one"), "{again}");
    assert_eq!(old.flush().await.unwrap_err().kind(), ErrorKind::Fenced);
    assert_eq!(value(&old, "a").await.unwrap(), b"old", "a refused write is not shown");
    assert_eq!(old.get_cached("a").unwrap().unwrap().unwrap(), "old");
    assert_eq!(old.multi_get(["a"]).await.unwrap()[0].as_ref().unwrap(), "old");
    assert_eq!(rows(&old).await, [(b"a".to_vec(), b"old".to_vec())]);
    assert_eq!(old.snapshot().get("a").await.unwrap().unwrap(), "old");

    new.put("c", "new").await.unwrap();
    drop((old, new));
    let db = open(&store).await;
    assert_eq!(rows(&db).await, [(b"a".to_vec(), b"old".to_vec()), (b"c".to_vec(), b"new".to_vec())]);
}

#[tokio::test]
async fn a_fenced_writer_cannot_commit_a_flush() {
    let store = memory();
    let old = open(&store).await;
    old.put("a", "durable").await.unwrap();
    let new = open(&store).await;
    assert_eq!(old.flush().await.unwrap_err().kind(), ErrorKind::Fenced);
    new.flush().await.unwrap();
    assert_eq!(new.view().root.runs.len(), 1, "only the new writer's flush is there");
    assert_eq!(rows(&new).await, [(b"a".to_vec(), b"durable".to_vec())]);
    // What a fenced handle still has can be read; closing it reports nothing lost, for nothing was.
    old.close().await.unwrap();
}

#[tokio::test]
async fn a_long_line_of_writers_hands_over_without_losing_a_row() {
    let store = memory();
    for n in 0..12_u32 {
        let db = small(&store).memtable_bytes(4 << 10).wal_window(1 + n % 3).open().await.unwrap();
        assert_eq!(rows(&db).await.len() as u32, n * 20);
        for row in 0..20_u32 {
            let accepted = db.put((n * 20 + row).to_be_bytes(), vec![b'v'; 300]).accepted().await.unwrap();
            if row % 7 == n % 7 {
                accepted.durable().await.unwrap();
            }
        }
        if n % 4 == 1 {
            db.flush().await.unwrap();
        }
        if n % 3 == 0 {
            db.close().await.unwrap();
        } else {
            db.sync().await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flushes_do_not_stop_writers_and_lose_nothing() {
    let store = memory();
    let db =
        small(&store).memtable_bytes(64 << 10).sst_bytes(4 << 10).block_bytes(1 << 10).open().await.unwrap();
    let writers = (0..4_u32).map(|writer| {
        let db = db.clone();
        spawn(async move {
            for n in 0..2000_u32 {
                let key = (n * 4 + writer).to_be_bytes();
                db.put(key, [&key[..], &[7; 100]].concat()).accepted().await.unwrap();
                assert!(db.get(key).await.unwrap().is_some(), "a write is visible to its writer");
            }
        })
    });
    join_all(writers).await;
    db.flush().await.unwrap();
    let view = db.view();
    assert!(view.root.runs.len() > 5, "{} runs", view.root.runs.len());
    assert!(view.root.runs.iter().any(|run| run.ssts.len() > 1), "a large memtable becomes several SSTs");
    assert!(view.root.runs.iter().all(|run| run.level == 0));
    assert_eq!(view.root.runs.iter().flat_map(|run| &run.ssts).map(|sst| sst.entries).sum::<u64>(), 8000);
    for db in [db.clone(), open(&store).await] {
        let rows = rows(&db).await;
        assert_eq!(rows.len(), 8000);
        for (n, (key, value)) in rows.iter().enumerate() {
            assert_eq!(key[..], (n as u32).to_be_bytes());
            assert_eq!(value[..4], key[..]);
        }
    }
}

#[tokio::test]
async fn a_flush_moves_the_replay_point_and_frees_the_memory() {
    let store = memory();
    let db = open(&store).await;
    db.put("k", vec![1; 100_000]).accepted().await.unwrap();
    let snapshot = db.snapshot();
    let replay_from = db.view().root.writer.replay_from;
    db.flush().await.unwrap();
    assert!(db.view().root.writer.replay_from > replay_from);
    assert!(db.memory_stats().total_bytes() >= 100_000, "a snapshot holds the memtable");
    drop(snapshot);
    assert!(
        db.memory_stats().total_bytes() < 10_000,
        "{} bytes are charged",
        db.memory_stats().total_bytes()
    );
    db.flush().await.unwrap();
    assert_eq!(db.view().root.runs.len(), 1, "nothing to flush adds no run");
    drop(db);
    let db = open(&store).await;
    assert_eq!(value(&db, "k").await.unwrap().len(), 100_000);
    assert!(db.memory_stats().total_bytes() < 10_000, "what was flushed is not replayed");
}

#[tokio::test]
async fn memory_stays_within_the_budget_when_the_store_takes_nothing_and_writing_goes_on_after() {
    let store = faulty(3);
    let shared: Shared = Arc::new(store.clone());
    let db = small(&shared)
        .memory_bytes(1 << 20)
        .memtable_bytes(128 << 10)
        .deadline(Duration::from_millis(200))
        .open()
        .await
        .unwrap();
    store.add(Rule::on(Operation::Put));
    let mut written = 0_u32;
    let refused = loop {
        match db.put(written.to_be_bytes(), vec![b'v'; 1000]).accepted().await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
        assert!(
            db.memory_stats().total_bytes() <= 1 << 20,
            "{} bytes are charged",
            db.memory_stats().total_bytes()
        );
    };
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    assert!(refused.to_string().contains("memory budget"), "{refused}");
    // Copies of the log take their part, and so does what is kept for a flush and for merges.
    assert!(written > 400, "only {written} writes fitted");
    assert_eq!(db.sync().await.unwrap_err().kind(), ErrorKind::OutcomeUnknown);
    store.clear();
    while db.sync().await.is_err() {}
    while db.flush().await.is_err() {}
    db.put("after", "v").await.unwrap();
    assert_eq!(rows(&db).await.len() as u32, written + 1);
}

#[tokio::test]
async fn a_write_larger_than_the_whole_budget_goes_through() {
    let store = memory();
    let db = small(&store).memory_bytes(1 << 20).open().await.unwrap();
    db.put("small", "v").accepted().await.unwrap();
    db.put("large", vec![1; 3 << 20]).await.unwrap();
    db.put("next", "v").await.unwrap();
    drop(db);
    let db = small(&store).memory_bytes(1 << 20).open().await.unwrap();
    assert_eq!(value(&db, "large").await.unwrap().len(), 3 << 20);
    assert_eq!(rows(&db).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_larger_than_the_budget_is_not_starved_by_small_ones() {
    let db = small(&memory()).memory_bytes(1 << 20).deadline(Duration::from_secs(20)).open().await.unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let writers = (0..4_u32).map(|n| {
        let (db, done) = (db.clone(), done.clone());
        spawn(async move {
            while !done.load(Ordering::Relaxed) {
                db.put(n.to_be_bytes(), vec![1; 10_000]).accepted().await.unwrap();
            }
        })
    });
    let large = async {
        for _ in 0..3 {
            let written = db.put("large", vec![1; 3 << 20]).await;
            done.fetch_or(written.is_err(), Ordering::Relaxed);
            written.unwrap();
        }
        done.store(true, Ordering::Relaxed);
    };
    tokio::join!(large, join_all(writers));
    assert_eq!(rows(&db).await.len(), 5);
}

#[tokio::test]
async fn close_makes_everything_durable_is_idempotent_and_final() {
    let store = memory();
    let db = open(&store).await;
    let clone = db.clone();
    db.put("k", "v").accepted().await.unwrap();
    let (first, second) = tokio::join!(db.close(), clone.close());
    first.unwrap();
    second.unwrap();
    db.close().await.unwrap();
    let closed = ErrorKind::Closed;
    assert_eq!(clone.put("k", "w").await.unwrap_err().kind(), closed);
    assert_eq!(clone.delete("k").accepted().await.unwrap_err().kind(), closed);
    assert_eq!(clone.get("k").await.unwrap_err().kind(), closed);
    assert_eq!(clone.multi_get(["k"]).await.unwrap_err().kind(), closed);
    assert_eq!(clone.scan_prefix("").next().await.unwrap_err().kind(), closed);
    assert_eq!(clone.flush().await.unwrap_err().kind(), closed);
    assert_eq!(clone.compact().await.unwrap_err().kind(), closed);
    assert_eq!(clone.keyspace("a").await.unwrap_err().kind(), closed);
    assert_eq!(value(&open(&store).await, "k").await.unwrap(), b"v");
}

#[tokio::test]
async fn a_store_that_refuses_for_a_while_does_not_end_writing() {
    let store = faulty(6);
    let shared: Shared = Arc::new(store.clone());
    let db = open(&shared).await;
    // As while keys are rotated: two SSTs and two commits are answered with 403.
    store.add(Rule::on(Operation::Put).path("sst/").first(2).meets(Fault::Refuse));
    store.add(Rule::on(Operation::Put).path("manifest/").first(2).meets(Fault::Refuse));
    db.put("k", "v").await.unwrap();
    db.flush().await.unwrap();
    assert_eq!(store.faults(), 4);
    assert_eq!(db.view().root.runs.len(), 1, "it was committed once");
    db.put("after", "v").await.unwrap();
    db.flush().await.unwrap();
    assert_eq!(rows(&db).await.len(), 2);
}

#[tokio::test]
async fn a_log_slower_than_the_deadline_does_not_end_the_flush() {
    let store = faulty(7);
    let shared: Shared = Arc::new(store.clone());
    let db = small(&shared).deadline(Duration::from_millis(20)).open().await.unwrap();
    store.add(Rule::on(Operation::Put).path("wal/").first(1).meets(Fault::Delay(Duration::from_millis(110))));
    db.put("k", "v").accepted().await.unwrap();
    while db.flush().await.is_err_and(|error| error.kind() != ErrorKind::Fenced) {
        assert!(db.put("more", "v").accepted().await.is_ok(), "the writer goes on");
    }
    assert_eq!(rows(&db).await.len(), if value(&db, "more").await.is_some() { 2 } else { 1 });
}

#[tokio::test]
async fn a_lost_reply_is_not_taken_for_a_lost_write() {
    let store = faulty(5);
    let shared: Shared = Arc::new(store.clone());
    let db = open(&shared).await;
    for fault in [Fault::DropReply, Fault::Duplicate, Fault::FalseConflict, Fault::FailBefore] {
        store.clear();
        store.add(Rule::on(Operation::Put).path("wal/").first(1).meets(fault));
        store.add(Rule::on(Operation::Put).path("manifest/").first(1).meets(fault));
        db.put(format!("{fault:?}"), "v").await.unwrap();
        db.flush().await.unwrap();
    }
    assert_eq!(db.view().root.runs.len(), 4, "each flush was committed once");
    drop(db);
    store.clear();
    assert_eq!(rows(&open(&shared).await).await.len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_the_store_loses_no_acknowledged_write_is_lost_and_no_refused_one_appears() {
    for seed in 0..12_u64 {
        let store = faulty(seed);
        let shared: Shared = Arc::new(store.clone());
        let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        // By key: the last value acknowledged as durable, and the values that may also be there.
        let mut durable = vec![None::<u32>; 40];
        let mut maybe = vec![Vec::<u32>::new(); 40];
        let mut next = 0_u32;
        for _life in 0..4 {
            store.clear();
            let db = small(&shared)
                .memtable_bytes(4 << 10)
                .deadline(Duration::from_secs(20))
                .compaction(if dice.roll(2) == 0 { Compaction::InProcess } else { Compaction::Off })
                .shape(StoredShape { l0_runs: 2, ..StoredShape::leveled() })
                .open()
                .await
                .unwrap();
            for key in 0..40_u8 {
                let found =
                    db.get([key]).await.unwrap().map(|v| u32::from_be_bytes(v[..4].try_into().unwrap()));
                let (sure, also) = (durable[key as usize], &mut maybe[key as usize]);
                let allowed = found == sure || found.is_some_and(|found| also.contains(&found));
                assert!(
                    allowed,
                    "seed {seed}, key {key}: {found:?}, but {sure:?} is durable, {also:?} possible"
                );
                durable[key as usize] = found;
                also.clear();
            }
            for fault in [Fault::DropReply, Fault::FailBefore, Fault::Duplicate, Fault::FalseConflict] {
                store.add(Rule::on(Operation::Put).chance(0.05).meets(fault));
                store.add(Rule::on(Operation::Get).chance(0.02));
            }
            let dies_at = dice.roll(120);
            for step in 0..120 {
                if step == dies_at {
                    store.add(Rule::on(Operation::Any));
                }
                let (key, number) = (dice.roll(40) as usize, next);
                next += 1;
                let mut bytes = number.to_be_bytes().to_vec();
                bytes.resize(4 + dice.roll(400) as usize, 0);
                let accepted = db.put([key as u8], bytes).accepted().await.unwrap();
                maybe[key].push(number);
                if step < dies_at && dice.roll(3) == 0 {
                    accepted.durable().await.unwrap();
                    durable[key] = Some(number);
                    maybe[key].clear();
                }
            }
            // Killed: no close, and what is in flight is cut off.
        }
    }
}

#[tokio::test]
async fn keys_and_values_up_to_their_limits_are_kept_and_over_them_refused() {
    let store = memory();
    let db = small(&store).memory_bytes(256 << 20).memtable_bytes(128 << 20).open().await.unwrap();
    let long_key = vec![0xFF; MAX_KEY_BYTES];
    let keys: Vec<&[u8]> = vec![b"", b"\0", b"\0\0", b"\0\xFF", b"a", b"\xFF", b"\xFF\xFF\0", &long_key];
    for key in &keys {
        db.put(key, *key).accepted().await.unwrap();
    }
    db.put("huge", vec![3; MAX_VALUE_BYTES]).accepted().await.unwrap();
    for (key, value) in [(vec![0; MAX_KEY_BYTES + 1], vec![]), (vec![], vec![0; MAX_VALUE_BYTES + 1])] {
        let error = db.put(key, value).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("limit"), "{error}");
    }
    assert_eq!(db.get(vec![0; MAX_KEY_BYTES + 1]).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(db.delete(vec![0; MAX_KEY_BYTES + 1]).await.unwrap_err().kind(), ErrorKind::Invalid);
    db.flush().await.unwrap();
    db.close().await.unwrap();
    let db = open(&store).await;
    for key in &keys {
        assert_eq!(value(&db, key).await.as_deref(), Some(*key));
    }
    assert_eq!(value(&db, "huge").await.unwrap().len(), MAX_VALUE_BYTES);
    let rows = rows(&db).await;
    assert_eq!(rows.len(), keys.len() + 1);
    assert!(rows.is_sorted());
}

#[tokio::test]
async fn opening_again_and_again_leaves_no_long_log_and_no_tiny_runs() {
    let store = memory();
    for n in 0..100_u32 {
        let db = open(&store).await;
        db.put(n.to_be_bytes(), "v").await.unwrap();
        db.close().await.unwrap();
    }
    let db = open(&store).await;
    let opening = db.stats().count(RequestKind::Get, Cause::Open).requests;
    assert!(opening < 120, "the last opening took {opening} GETs");
    assert!(db.view().root.runs.len() < 6, "{} runs", db.view().root.runs.len());
    assert_eq!(rows(&db).await.len(), 100);
}

#[tokio::test]
async fn bounds_the_wrong_way_round_are_an_error_of_the_first_row() {
    let db = open(&memory()).await;
    let error = db.scan("z".."a").next().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.hint_text().is_some());
    assert!(db.scan("a".."a").next().await.unwrap().is_none());
}

#[tokio::test]
async fn a_database_that_must_exist_is_not_created() {
    let store = memory();
    let error = small(&store).must_exist().open().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    open(&store).await.close().await.unwrap();
    small(&store).must_exist().open().await.unwrap();
}

#[test]
fn the_blocking_form_works_outside_a_runtime() {
    let store = memory();
    blocking_tour(&store);
}

#[tokio::test]
async fn the_blocking_form_works_inside_a_runtime() {
    let store = memory();
    blocking_tour(&store);
}

fn blocking_tour(store: &Shared) {
    use esker::blocking;
    let db = blocking::Db::open_with(small(store)).unwrap();
    let users = db.keyspace("users").unwrap();
    for n in 0..100_u8 {
        db.put([n], [n]).unwrap();
    }
    users.put("k", "v").unwrap();
    db.delete([3]).unwrap();
    db.flush().unwrap();
    db.compact().unwrap();
    assert_eq!(db.get([1]).unwrap().unwrap()[..], [1]);
    assert_eq!(db.get([3]).unwrap(), None);
    assert_eq!(db.multi_get([[1], [3]]).unwrap().iter().flatten().count(), 1);
    assert_eq!(users.get("k").unwrap().unwrap(), "v");
    assert_eq!(db.scan_prefix("").map(Result::unwrap).count(), 99);
    let last: Vec<_> = db.scan(&[10_u8][..]..).rev().limit(2).map(|row| row.unwrap().key[0]).collect();
    assert_eq!(last, [99, 98]);
    assert!(db.scan("z".."a").next().unwrap().is_err());
    db.close().unwrap();
    assert_eq!(db.put("k", "v").unwrap_err().kind(), ErrorKind::Closed);
}

/// Time that moves when told; what sleeps until then is woken.
#[derive(Debug)]
struct TestClock {
    time: Arc<Mutex<Time>>,
    chance: SharedClock,
}

#[derive(Debug, Default)]
struct Time {
    now: Duration,
    sleeping: Vec<(Duration, Waker)>,
}

impl TestClock {
    fn shared() -> Arc<Self> {
        Arc::new(Self { time: Arc::default(), chance: SystemClock::shared() })
    }
    fn advance(&self, by: Duration) {
        let mut time = self.time.lock();
        time.now += by;
        let now = time.now;
        let woken: Vec<_> = time.sleeping.extract_if(.., |(until, _)| *until <= now).collect();
        drop(time);
        woken.into_iter().for_each(|(_, waker)| waker.wake());
    }
}

impl Clock for TestClock {
    fn wall_ms(&self) -> u64 {
        1_700_000_000_000 + self.monotonic().as_millis() as u64
    }
    fn monotonic(&self) -> Duration {
        self.time.lock().now
    }
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let time = self.time.clone();
        let until = time.lock().now + duration;
        Box::pin(poll_fn(move |context| {
            let mut time = time.lock();
            if time.now >= until {
                return Poll::Ready(());
            }
            time.sleeping.push((until, context.waker().clone()));
            Poll::Pending
        }))
    }
    fn random(&self) -> u128 {
        self.chance.random()
    }
}

/// A small random source, so that a seed names a run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}
