//! Memory is one budget: scans, merges and writes hold no more than it together, whatever they would like.
//!
//! What is held is counted twice: by the charges, and by the allocator, for which everything runs in one thread. What
//! the store has in memory, and the block cache, are not the budget's.

use std::{sync::Arc, time::Duration};

use esker::{
    Compaction, Db, Row, Scan,
    memory::MemoryStats,
    testing::{
        Fault, FaultyStore, Operation, Rule,
        sim_clock::{SimClock, single_threaded},
    },
};
use futures::{TryStreamExt, future::try_join_all};
use object_store::{ObjectStore, memory::InMemory};

use crate::hostile::allocator::peak_of;

const RUNS: u64 = 6;
const ROWS: u64 = 24_000;
const SCANS: u64 = 8;
const BUDGET: usize = 16 << 20;
const CACHE: usize = 1 << 20;
/// Manifests, lists of SSTs, tasks: what no charge is worth.
const SMALL: usize = 2 << 20;

/// A thousand bytes, of which half compress.
fn value(n: u64) -> Vec<u8> {
    let mut x = n + 1;
    let mut bytes = vec![7; 1000];
    for piece in bytes[..504].chunks_mut(8) {
        x = x.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(31) ^ n;
        piece.copy_from_slice(&x.to_le_bytes());
    }
    bytes
}

fn key(n: u64) -> Vec<u8> {
    [b"k".as_slice(), &n.to_be_bytes()].concat()
}

/// A store whose requests take time, so that as much is on its way as anybody likes to ask for.
fn store(objects: &InMemory) -> FaultyStore {
    let store = FaultyStore::new(Arc::new(objects.clone()), SimClock::shared(1), 1);
    let slow = || Fault::Delay(Duration::from_millis(20));
    store.add(Rule::on(Operation::Get).meets(slow()));
    store.add(Rule::on(Operation::Put).path("sst/").meets(slow()));
    store
}

async fn open(store: &FaultyStore, memory_bytes: usize) -> Db {
    Db::builder("memory://budget")
        .object_store(Arc::new(store.clone()))
        .clock(SimClock::shared(2))
        .compaction(Compaction::Off)
        .memory_bytes(memory_bytes)
        .memtable_bytes(4 << 20)
        .cache_bytes(CACHE)
        .sst_bytes(1 << 20)
        .open()
        .await
        .unwrap()
}

/// Runs of level 0, each with keys everywhere.
async fn fill(store: &FaultyStore) {
    let db = open(store, 64 << 20).await;
    for run in 0..RUNS {
        for n in (run..ROWS).step_by(RUNS as usize) {
            db.put(key(n), value(n)).accepted().await.unwrap();
        }
        db.flush().await.unwrap();
    }
    db.close().await.unwrap();
}

async fn stored_bytes(objects: &InMemory) -> usize {
    let sizes = objects.list(None).map_ok(|object| object.size as usize);
    sizes.try_fold(0, |sum, size| async move { Ok(sum + size) }).await.unwrap()
}

/// All rows, from one end to the other; others get their turn now and then.
async fn read(mut rows: Scan, reverse: bool) -> esker::Result<()> {
    for at in 0..ROWS {
        let n = if reverse { ROWS - 1 - at } else { at };
        let Row { key: found, value: bytes, .. } = rows.next().await?.expect("a row is not there");
        assert!(found == key(n) && bytes == value(n), "row {n}");
        if at % 50 == 0 {
            tokio::task::yield_now().await;
        }
    }
    assert!(rows.next().await?.is_none());
    Ok(())
}

/// Scans that begin together and go on side by side while everything is merged and new rows are written.
async fn work(db: &Db) -> MemoryStats {
    let scans = (0..SCANS).map(|n| {
        let rows = db.scan_prefix("k");
        let reverse = n % 2 == 1;
        read(if reverse { rows.rev() } else { rows }, reverse)
    });
    let writes = async {
        for n in 0..4_000 {
            db.put([b"w".as_slice(), &key(n)].concat(), value(n)).accepted().await?;
        }
        Ok(())
    };
    tokio::try_join!(try_join_all(scans), db.compact(), writes).unwrap();
    db.memory_stats()
}

/// What is allocated at most while the work is done with such a budget, beside what the store keeps; and what was charged.
#[expect(clippy::print_stdout, reason = "how much was held is for whoever runs it")]
fn measured(memory_bytes: usize) -> (usize, MemoryStats) {
    let _one_thread = single_threaded();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime");
    let objects = InMemory::new();
    let store = runtime.block_on(async { store(&objects) });
    runtime.block_on(fill(&store));
    let db = runtime.block_on(open(&store, memory_bytes));
    let before = runtime.block_on(stored_bytes(&objects));
    let (stats, peak) = peak_of(|| runtime.block_on(work(&db)));
    let after = runtime.block_on(stored_bytes(&objects));
    let idle = db.memory_stats();
    assert_eq!(idle.total_bytes() - idle.memtable_bytes, 0, "who does nothing holds nothing: {idle}");
    runtime.block_on(db.close()).unwrap();
    let peak = peak.saturating_sub(after - before);
    println!("a budget of {memory_bytes}: {peak} bytes allocated at once; charged {stats}");
    (peak, stats)
}

#[test]
fn long_scans_a_merge_and_writes_stay_within_a_small_budget_together() {
    let (peak, stats) = measured(BUDGET);
    assert!(stats.most_bytes <= BUDGET / 10 * 11, "charged: {stats}");
    let bound = BUDGET / 10 * 11 + CACHE + SMALL;
    assert!(peak <= bound, "{peak} bytes were allocated at once, and {bound} are allowed; charged: {stats}");

    let (unbounded, stats) = measured(1 << 30);
    assert!(
        unbounded > 2 * bound,
        "with room for more they take only {unbounded}: the check shows nothing; {stats}"
    );
}

#[tokio::test(start_paused = true)]
async fn scans_and_merges_finish_while_writes_hold_the_whole_budget() {
    let objects = InMemory::new();
    let store = store(&objects);
    fill(&store).await;
    let db = open(&store, 8 << 20).await;
    // Nothing becomes durable, so nothing is flushed.
    store.add(Rule::on(Operation::Put).path("wal/").meets(Fault::FailBefore));
    let mut written = 0;
    while db.put([b"w".as_slice(), &key(written)].concat(), value(written)).accepted().await.is_ok() {
        written += 1;
    }
    assert!(written > 1000, "only {written} writes fitted");
    let scans = (0..3).map(|n| {
        let rows = db.scan_prefix("k");
        read(if n == 1 { rows.rev() } else { rows }, n == 1)
    });
    tokio::try_join!(try_join_all(scans), db.compact()).unwrap();
    assert!(db.view().root.runs.iter().all(|run| run.level > 0), "everything was merged");
}
