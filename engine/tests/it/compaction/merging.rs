//! What a merge makes of the data: the same rows, in fewer places.

use std::time::Duration;

use bytes::Bytes;
use esker::{
    ErrorKind,
    clock::Clock,
    compaction::{Did, Plan, Reason, plan::EXPIRY_MARGIN_MS},
    manifest::StoredShape,
    stats::Cause,
    store::{Name, Store},
    testing::{Fault, FaultyStore, Operation, Rule},
};

use super::fixture::{CRASHES, Crash, Database, TestClock, Write, delete, key, put, small};

/// Some writes over 500 keys, the same for the same round: mostly puts, some deletes.
fn round(round: u64, rows: u64) -> Vec<Write> {
    let mut state = round.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..rows)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let name = format!("key-{:05}", state % 500);
            if state.is_multiple_of(5) { delete(&name) } else { put(&name, random_text(state)) }
        })
        .collect()
}

/// Text that hardly compresses.
fn random_text(seed: u64) -> String {
    (1..8u64).map(|n| format!("{:016x}", seed.wrapping_mul(n * 2 + 1).rotate_left(n as u32 * 7))).collect()
}

fn merges(done: &[Did]) -> Vec<&Plan> {
    done.iter().filter_map(|did| if let Did::Merged { plan, .. } = did { Some(plan) } else { None }).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tree_of_any_shape_holds_what_was_written_after_every_step() {
    for shape in [StoredShape::leveled(), StoredShape::tiered(), StoredShape::lazy_leveled()] {
        let mut db = Database::create(small(&shape)).await;
        let mut compactor = db.claim("a").await;
        let mut done = Vec::new();
        for n in 0..40 {
            db.flush(&round(n, 120)).await;
            done.extend(db.settle(&mut compactor).await);
            if n % 8 == 7 {
                db.holds_what_was_written().await;
            }
        }
        assert!(merges(&done).len() >= 10, "{shape}: only {done:?}");
        let view = db.latest().await;
        assert!(view.runs.iter().any(|run| run.level >= 2), "{shape}: the tree is not deep");
        for run in view.runs.iter().filter(|run| run.level > 0) {
            assert!(run.ssts.iter().all(|sst| sst.meta.bytes < 3 * 4096), "{shape}: an SST is too large");
        }
    }
}

#[tokio::test]
async fn merging_everything_leaves_one_run_without_tombstones() {
    let mut db = Database::create(small(&StoredShape::leveled())).await;
    for n in 0..6 {
        db.flush(&round(n, 200)).await;
    }
    let mut compactor = db.claim("a").await;
    let did = compactor.step_all().await.expect("a step");
    let Did::Merged { plan, stats } = did else { panic!("{did:?}") };
    assert_eq!((plan.reason, plan.bottom), (Reason::Manual, true));
    assert_eq!(stats.read_entries, stats.written_entries + stats.dropped_entries);
    let view = db.latest().await;
    assert_eq!(view.runs.len(), 1);
    assert!(
        view.runs[0].ssts.iter().all(|sst| sst.meta.tombstones == 0 && sst.meta.entries == sst.meta.keys)
    );
    db.holds_what_was_written().await;
    assert!(matches!(compactor.step_all().await.expect("a step"), Did::Nothing));
}

#[tokio::test]
async fn a_delete_goes_only_when_nothing_older_lies_below() {
    let mut options = small(&StoredShape::leveled());
    options.shape.l0_runs = 1;
    options.shape.base_bytes = 1;
    let mut db = Database::create(options).await;
    let mut compactor = db.claim("a").await;
    // With one byte allowed a level, data sinks to the bottom of the tree.
    db.flush(&[put("a", "1"), put("b", "1"), put("c", "1")]).await;
    db.settle(&mut compactor).await;
    db.flush(&[delete("b")]).await;
    db.holds_what_was_written().await;
    db.settle(&mut compactor).await;
    db.holds_what_was_written().await;
    let view = db.latest().await;
    let left: u64 = view.runs.iter().flat_map(|run| run.ssts.iter()).map(|sst| sst.meta.tombstones).sum();
    assert_eq!(left, 0, "the delete met what it deletes");
}

#[tokio::test]
async fn a_database_of_which_everything_was_deleted_is_empty() {
    let mut db = Database::create(small(&StoredShape::leveled())).await;
    db.flush(&[put("a", "1"), put("b", "2")]).await;
    db.flush(&[delete("a"), delete("b")]).await;
    let mut compactor = db.claim("a").await;
    assert!(matches!(compactor.step_all().await.expect("a step"), Did::Merged { .. }));
    assert!(db.latest().await.runs.is_empty());
    compactor.collect(false).await.expect("a collection");
    assert_eq!(db.ssts().await, 0);
}

#[tokio::test]
async fn expired_rows_go_after_their_margin_and_hide_older_ones_until_then() {
    let mut db = Database::create(small(&StoredShape::leveled())).await;
    let mut compactor = db.claim("a").await;
    let soon = db.clock.wall_ms() + 1000;
    db.flush(&[put("a", "old"), put("b", "stays")]).await;
    compactor.step_all().await.expect("a step");
    db.flush(&[(key(0, "a"), Some(Bytes::from_static(b"new")), soon)]).await;
    db.holds_what_was_written().await;
    db.clock.forward(Duration::from_secs(2));
    db.holds_what_was_written().await;
    compactor.step_all().await.expect("a step");
    assert_eq!(db.entries().await, 2, "within the margin the expired row stays");
    db.clock.forward(Duration::from_millis(EXPIRY_MARGIN_MS));
    db.settle(&mut compactor).await;
    db.flush(&[put("c", "1")]).await;
    compactor.step_all().await.expect("a step");
    db.holds_what_was_written().await;
    assert_eq!(db.entries().await, 2, "b and c");
}

#[tokio::test]
async fn rows_written_in_order_are_moved_and_not_rewritten() {
    let mut db = Database::create(small(&StoredShape::leveled())).await;
    let mut compactor = db.claim("a").await;
    let mut done = Vec::new();
    for n in 0..24 {
        let rows: Vec<Write> = (0..100).map(|row| put(&format!("{n:04}-{row:04}"), vec![b'x'; 40])).collect();
        db.flush(&rows).await;
        done.extend(db.settle(&mut compactor).await);
    }
    assert!(!done.is_empty());
    assert!(merges(&done).is_empty(), "{done:?}");
    db.holds_what_was_written().await;
}

#[tokio::test]
async fn outputs_end_where_a_keyspace_ends() {
    let mut db = Database::create(small(&StoredShape::leveled())).await;
    for n in 0..4 {
        let rows: Vec<Write> =
            (0..9).map(|ks| (key(ks % 3, &format!("{n}{ks}")), Some(Bytes::from_static(b"v")), 0)).collect();
        db.flush(&rows).await;
    }
    let mut compactor = db.claim("a").await;
    db.settle(&mut compactor).await;
    let view = db.latest().await;
    let ends: Vec<(u8, u8)> =
        view.runs[0].ssts.iter().map(|sst| (sst.meta.first_key[3], sst.meta.last_key[3])).collect();
    assert_eq!(ends, [(0, 0), (1, 1), (2, 2)]);
    db.holds_what_was_written().await;
}

#[tokio::test]
async fn large_values_and_ssts_larger_than_a_chunk_are_merged() {
    let mut options = small(&StoredShape::leveled());
    (options.sst_bytes, options.block_bytes, options.shape.base_bytes) = (3 << 20, 16 << 10, 64 << 20);
    options.codecs = vec![0];
    let mut db = Database::create(options).await;
    for n in 0..4u8 {
        let mut rows: Vec<Write> = (0..100).map(|row| put(&format!("{row:03}"), vec![n; 50_000])).collect();
        rows.push(put("huge", vec![n; 5 << 20]));
        db.flush(&rows).await;
    }
    let little =
        esker::compaction::job::JobOptions { memory_bytes: 1 << 20, read_back: true, ..Default::default() };
    let mut compactor = db.claim("a").await.with_options(little);
    db.settle(&mut compactor).await;
    db.holds_what_was_written().await;
    assert!(db.latest().await.runs[0].ssts.len() >= 2);
}

#[tokio::test]
async fn a_damaged_input_stops_the_merge_and_changes_nothing() {
    let clock = TestClock::new();
    let faulty = FaultyStore::memory(clock.clone(), 1);
    let mut db = Database::create_in(faulty.store(), clock, small(&StoredShape::leveled())).await;
    for n in 0..4 {
        db.flush(&round(n, 50)).await;
    }
    let before = db.latest().await.id();
    let mut compactor = db.claim("a").await;
    faulty.add(Rule::on(Operation::Get).path("sst/").meets(Fault::Flip(700)));
    let error = compactor.step().await.expect_err("a flipped bit");
    assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
    assert!(error.object().is_some_and(|object| object.starts_with("sst/")), "{error:?}");
    faulty.clear();
    let after = db.latest().await;
    assert_eq!(after.runs.len(), 4);
    assert!(after.id() <= before + 2, "only the role was claimed and renewed");
    db.settle(&mut compactor).await;
    db.holds_what_was_written().await;
}

#[tokio::test]
async fn a_missing_input_is_named() {
    let mut db = Database::create(small(&StoredShape::leveled())).await;
    let mut last = None;
    for n in 0..4 {
        last = Some(db.flush(&round(n, 50)).await.runs[0].ssts[0].id);
    }
    let lost = Name::Sst(last.expect("four flushes"));
    db.store.delete(std::slice::from_ref(&lost), Cause::Admin).await.expect("a delete");
    let error = db.claim("a").await.step().await.expect_err("an SST is gone");
    assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
    assert_eq!(error.object(), Some(lost.path().as_str()));
}

#[tokio::test]
async fn an_answer_lost_at_any_call_changes_nothing() {
    for n in 1.. {
        let clock = TestClock::new();
        let faulty = FaultyStore::memory(clock.clone(), n);
        let mut db = Database::create_in(faulty.store(), clock, small(&StoredShape::leveled())).await;
        for n in 0..4 {
            db.flush(&round(n, 60)).await;
        }
        let before = faulty.calls().len() as u64;
        faulty.add(Rule::on(Operation::Any).nth(n).meets(Fault::DropReply));
        let mut compactor = db.claim("a").await;
        db.settle(&mut compactor).await;
        compactor.collect(false).await.expect("a collection");
        let calls = faulty.calls().len() as u64 - before;
        faulty.clear();
        db.holds_what_was_written().await;
        if calls < n {
            assert!(n > 10, "there were calls to fail");
            return;
        }
    }
}

/// A database with work to do, whose `n`-th request from now on meets `fault`.
async fn about_to_fail(n: u64, fault: Fault) -> (Database, FaultyStore) {
    let clock = TestClock::new();
    let faulty = FaultyStore::memory(clock.clone(), n);
    let mut db = Database::create_in(faulty.store(), clock, small(&StoredShape::leveled())).await;
    for n in 0..5 {
        db.flush(&round(n, 60)).await;
    }
    faulty.add(Rule::on(Operation::Any).nth(n).meets(fault));
    (db, faulty)
}

#[tokio::test]
async fn a_crash_at_any_request_loses_nothing_and_leaves_only_garbage() {
    for fault in CRASHES {
        for n in 1.. {
            let (db, faulty) = about_to_fail(n, fault).await;
            let work = async {
                let mut compactor = db.claim("a").await;
                compactor.step().await.expect("a step");
                compactor.collect(false).await.expect("a collection");
            };
            let crashed = Crash { future: Box::pin(work), faulty: &faulty }.await.is_none();
            faulty.clear();
            db.holds_what_was_written().await;
            let mut next = db.claim("b").await;
            db.settle(&mut next).await;
            db.holds_what_was_written().await;
            next.collect(false).await.expect("a collection");
            next.collect(false).await.expect("a collection");
            db.holds_no_garbage().await;
            db.holds_what_was_written().await;
            if !crashed {
                assert!(n > 20, "there were {n} requests to crash at");
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_step_that_is_dropped_leaves_its_compactor_usable() {
    for fault in CRASHES {
        for n in 1.. {
            let (db, faulty) = about_to_fail(1_000_000, fault).await;
            let mut compactor = db.claim("a").await;
            faulty.add(Rule::on(Operation::Any).nth(n).meets(fault));
            let crashed = Crash { future: Box::pin(compactor.step()), faulty: &faulty }.await.is_none();
            faulty.clear();
            db.settle(&mut compactor).await;
            db.holds_what_was_written().await;
            compactor.collect(false).await.expect("a collection");
            compactor.collect(false).await.expect("a collection");
            db.holds_no_garbage().await;
            if !crashed {
                assert!(n > 10, "there were {n} requests to drop it at");
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_compactor_needs_nothing_but_the_url() {
    let url = "memory://compaction-by-url/db";
    let clock = TestClock::new();
    let store = Store::open(url, clock.clone()).expect("a store");
    let mut db = Database::create_in(store, clock.clone(), small(&StoredShape::tiered())).await;
    for n in 0..4 {
        db.flush(&round(n, 60)).await;
    }
    let other = Store::open(url, clock).expect("the same store");
    let manifest = esker::manifest::Manifest::open(other).await.expect("the database");
    let mut compactor = esker::compaction::Compactor::claim(manifest, "b", false).await.expect("the role");
    let Did::Merged { plan, .. } = compactor.step().await.expect("a step") else {
        panic!("nothing was merged")
    };
    assert_eq!(plan.reason, Reason::L0);
    db.holds_what_was_written().await;
}
