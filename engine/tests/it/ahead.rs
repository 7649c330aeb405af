//! What a scan fetches ahead of the row that is asked for: a long one what comes next while its rows are taken, a short one what
//! its rows may take, where the store is far.

use std::{sync::Arc, time::Duration};

use esker::{
    Builder, Compaction, Db,
    stats::{Cause, RequestKind},
    testing::{Fault, FaultyStore, Operation, Rule, SimClock},
};
use object_store::memory::InMemory;

use crate::virtual_time::simulated;

const ROWS: u64 = 6000;

/// Bytes that do not compress.
fn value(n: u64) -> Vec<u8> {
    let mut x = n + 1;
    let mut bytes = Vec::with_capacity(4000);
    while bytes.len() < 4000 {
        x = x.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(31) ^ n;
        bytes.extend_from_slice(&x.to_le_bytes());
    }
    bytes
}

/// Of a database with a small cache, and SSTs of so many bytes.
fn builder(sst_bytes: u64) -> Builder {
    Db::builder("memory://ahead").compaction(Compaction::Off).cache_bytes(1 << 20).sst_bytes(sst_bytes)
}

/// A database far larger than its cache: so many runs, whose keys alternate, in SSTs of so many bytes.
async fn filled(runs: u64, sst_bytes: u64) -> Db {
    filled_in(builder(sst_bytes).object_store(Arc::new(InMemory::new())), runs).await
}

async fn filled_in(builder: Builder, runs: u64) -> Db {
    let db = builder.open().await.unwrap();
    for run in 0..runs {
        for n in (0..ROWS).filter(|n| n % runs == run) {
            db.put(n.to_be_bytes(), value(n)).accepted().await.unwrap();
        }
        db.flush().await.unwrap();
    }
    db
}

fn gets(db: &Db) -> u64 {
    db.stats().count(RequestKind::Get, Cause::Read).requests
}

#[tokio::test]
async fn the_next_round_of_a_long_scan_is_under_way_before_it_is_needed() {
    for (runs, sst_bytes, reverse) in
        [(1, 64, false), (1, 64, true), (1, 3, false), (1, 3, true), (2, 64, false), (2, 64, true)]
    {
        let db = filled(runs, sst_bytes << 20).await;
        let mut rows = db.scan::<&[u8]>(..);
        if reverse {
            rows = rows.rev();
        }
        let (mut early, mut late) = (0, 0);
        for at in 0..ROWS {
            let n = if reverse { ROWS - 1 - at } else { at };
            let before = gets(&db);
            let row = rows.next().await.unwrap().expect("not all rows have come");
            assert_eq!((&row.key[..], &row.value[..]), (&n.to_be_bytes()[..], &value(n)[..]));
            late += gets(&db) - before;
            // Nobody asks for a row, and the scan goes on fetching.
            let before = gets(&db);
            tokio::task::yield_now().await;
            early += gets(&db) - before;
        }
        assert!(rows.next().await.unwrap().is_none());
        let what = format!("{runs} runs, SSTs of {sst_bytes} MiB, reverse {reverse}");
        assert!(early > late, "{what}: {early} requests came before they were needed, {late} when they were");
    }
}

#[test]
fn a_scan_that_is_dropped_gives_its_memory_back_and_fetches_no_more() {
    simulated(async {
        let store = FaultyStore::memory(SimClock::shared(1), 1);
        let db =
            filled_in(builder(64 << 20).object_store(Arc::new(store.clone())).clock(SimClock::shared(2)), 1)
                .await;
        store.add(Rule::on(Operation::Get).path("sst/").meets(Fault::Delay(Duration::from_secs(1))));
        let mut rows = db.scan::<&[u8]>(..);
        for _ in 0..2000 {
            rows.next().await.unwrap().expect("a row");
        }
        let (before, held) = (gets(&db), db.memory_stats().scan_bytes);
        assert!(held > 1 << 20, "much is under way: {held} bytes");
        drop(rows);
        // What was under way is dropped by the runtime, and no second passes for it.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert_eq!(db.memory_stats().scan_bytes, 0);
        SimClock::shared(3).sleep(Duration::from_secs(60)).await;
        assert_eq!(gets(&db), before);
    });
}

/// Ten rows of a fresh scan that begins at row `n`: how many requests and bytes they take, of a database that was opened for it
/// alone and has read a little.
async fn ten_rows(store: &FaultyStore, n: u64, reverse: bool) -> (u64, u64) {
    let builder = builder(64 << 20).object_store(Arc::new(store.clone())).clock(SimClock::shared(n));
    let db = builder.open().await.unwrap();
    // It takes one block to know how far the store is.
    assert!(db.get((ROWS - 1).to_be_bytes()).await.unwrap().is_some());
    let count = || db.stats().count(RequestKind::Get, Cause::Read);
    let before = count();
    let (rows, end) = (db.scan(&n.to_be_bytes()[..]..), (n + 1).to_be_bytes());
    let mut rows = if reverse { db.scan(..&end[..]).rev() } else { rows }.limit(10);
    for at in 0..10 {
        let row = rows.next().await.unwrap().expect("a row");
        let n = if reverse { n - at } else { n + at };
        assert_eq!((&row.key[..], row.value.len()), (&n.to_be_bytes()[..], 1000));
    }
    assert!(rows.next().await.unwrap().is_none());
    drop(rows);
    let after = count();
    db.close().await.unwrap();
    (after.requests - before.requests, after.bytes - before.bytes)
}

/// Rows of a thousand bytes, sixteen a block, of which ten reach into the next block more often than not.
#[test]
fn a_short_scan_of_a_far_store_is_one_request_and_of_a_near_one_brings_no_block_in_vain() {
    simulated(async {
        let store = FaultyStore::memory(SimClock::shared(1), 1);
        let db = builder(64 << 20).object_store(Arc::new(store.clone())).clock(SimClock::shared(2));
        let db = db.open().await.unwrap();
        for n in 0..ROWS {
            db.put(n.to_be_bytes(), &value(n)[..1000]).accepted().await.unwrap();
        }
        db.flush().await.unwrap();
        db.close().await.unwrap();
        let (mut near, mut far) = ([0, 0], [0, 0]);
        for (is_far, sum) in [(false, &mut near), (true, &mut far)] {
            if is_far {
                store.add(
                    Rule::on(Operation::Get).path("sst/").meets(Fault::Delay(Duration::from_millis(15))),
                );
            }
            for at in 0..20 {
                let (requests, bytes) = ten_rows(&store, 1000 + 47 * at, at % 2 == 1).await;
                assert!(
                    !is_far || requests == 1,
                    "{requests} requests for the ten rows at {}",
                    1000 + 47 * at
                );
                // Each brought one block that was needed, of 16 KiB and a row at most.
                let most = if is_far { 2 } else { requests } * 18_000;
                assert!(bytes <= most, "{bytes} bytes in {requests} requests, far {is_far}");
                *sum = [sum[0] + requests, sum[1] + bytes];
            }
        }
        assert!(near[0] > 25, "ten rows should reach into a second block: {near:?}");
        assert!(near[1] < far[1], "near {near:?}, far {far:?}");
    });
}
