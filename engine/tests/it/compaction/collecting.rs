//! What is collected, and what never is.

use std::time::Duration;

use bytes::Bytes;
use esker::{
    ErrorKind,
    codec::frame::Codec,
    compaction::collect,
    key::Kind,
    manifest::{Edit, Manifest, StoredShape},
    stats::Cause,
    store::{Folder, Name, ObjectId, Role},
    testing::{FaultyStore, Operation, Rule},
    wal::{
        LogBuffer, Op, WalHeader,
        record::{encode_data, encode_fence},
    },
};

use super::fixture::{CRASHES, Crash, Database, TestClock, key, put, small};

const NONE: Option<Duration> = Some(Duration::ZERO);

async fn merged() -> Database {
    merged_in(Database::create(small(&StoredShape::leveled())).await).await
}

async fn merged_in(mut db: Database) -> Database {
    for n in 0..4 {
        db.flush(&[put("a", format!("{n}")), put("b", format!("{n}"))]).await;
    }
    let mut compactor = db.claim("a").await;
    db.settle(&mut compactor).await;
    db
}

#[tokio::test]
async fn nothing_is_left_after_two_passes_but_what_the_latest_version_names() {
    let db = merged().await;
    let first = collect(&db.manifest, NONE, false).await.expect("a pass");
    assert_eq!(first.deleted.iter().filter(|(name, _)| matches!(name, Name::Sst(_))).count(), 4);
    assert!(first.bytes > 0);
    let second = collect(&db.manifest, NONE, false).await.expect("a pass");
    assert!(second.deleted.is_empty(), "{second:?}");
    assert_eq!((second.waiting, second.held_by.len()), (0, 0));
    db.holds_no_garbage().await;
    db.holds_what_was_written().await;
}

#[tokio::test]
async fn a_dry_run_says_what_a_pass_would_do_and_does_nothing() {
    let db = merged().await;
    let objects = async || {
        let mut all = Vec::new();
        for folder in [Folder::Sst, Folder::Manifest, Folder::ManifestFloor, Folder::Wal, Folder::Part] {
            all.extend(db.store.list(folder, None, Cause::Admin).await.expect("a listing"));
        }
        all
    };
    let before = objects().await;
    let dry = collect(&db.manifest, NONE, true).await.expect("a dry run");
    assert_eq!(objects().await, before);
    let wet = collect(&db.manifest, NONE, false).await.expect("a pass");
    assert_eq!(dry, wet);
}

#[tokio::test]
async fn versions_within_the_retention_keep_their_ssts() {
    let mut db = Database::create(small(&StoredShape::leveled())).await;
    for n in 0..4 {
        db.flush(&[put("a", format!("{n}"))]).await;
    }
    let before = db.latest().await;
    let mut compactor = db.claim("a").await;
    db.settle(&mut compactor).await;
    let minute = Some(Duration::from_secs(60));
    assert!(collect(&db.manifest, minute, false).await.expect("a pass").deleted.is_empty());
    for sst in before.runs.iter().flat_map(|run| run.ssts.iter()) {
        assert!(db.store.get(&Name::Sst(sst.id), Cause::Admin).await.expect("a read").is_some());
    }
    db.clock.forward(Duration::from_secs(61));
    assert!(!collect(&db.manifest, minute, false).await.expect("a pass").deleted.is_empty());
    db.holds_no_garbage().await;
    db.holds_what_was_written().await;
}

#[tokio::test]
async fn an_sst_that_may_still_be_published_waits_for_its_producer() {
    let mut db = merged().await;
    let stray = db.upload(&[put("z", "not committed yet")]).await;
    let name = Name::Sst(stray.object_id());
    let exists = async |db: &Database| db.store.get(&name, Cause::Admin).await.expect("a read").is_some();
    let pass = collect(&db.manifest, NONE, false).await.expect("a pass");
    assert_eq!(pass.waiting, 1);
    assert!(exists(&db).await, "its writer may be about to commit it");
    // The next flush of the same epoch declares the lower counters settled.
    db.flush(&[put("y", "1")]).await;
    let pass = collect(&db.manifest, NONE, false).await.expect("a pass");
    assert_eq!(pass.waiting, 0);
    assert!(!exists(&db).await);
    db.holds_what_was_written().await;
}

#[tokio::test]
async fn an_sst_of_a_fenced_writer_is_garbage() {
    let mut db = merged().await;
    let stray = db.upload(&[put("z", "never committed")]).await;
    let claim = Edit::ClaimWriter { uuid: 2, name: "next".to_owned() };
    db.manifest.commit(&db.latest().await, &claim, Cause::Manifest).await.expect("a claim");
    collect(&db.manifest, NONE, false).await.expect("a pass");
    let found = db.store.get(&Name::Sst(stray.object_id()), Cause::Admin).await.expect("a read");
    assert!(found.is_none());
    db.holds_no_garbage().await;
}

#[tokio::test]
async fn pins_checkpoints_and_job_records_hold_every_sst() {
    for name in [Name::Pin(1), Name::checkpoint("before").expect("a name"), Name::Job(1)] {
        let db = merged().await;
        let before = db.ssts().await;
        db.store
            .put_new(&name, vec![Bytes::from_static(b"in a form of the future")], Cause::Admin)
            .await
            .expect("a put");
        let pass = collect(&db.manifest, NONE, false).await.expect("a pass");
        assert_eq!(pass.held_by, std::slice::from_ref(&name));
        assert_eq!(db.ssts().await, before, "held by {name}");
        assert!(db.store.get(&name, Cause::Admin).await.expect("a read").is_some());
    }
}

#[tokio::test]
async fn blobs_and_what_is_not_ours_are_left_alone() {
    let db = merged().await;
    let id = ObjectId { role: Role::Writer, epoch: 0, counter: 0, nonce: 0 };
    db.store.put_new(&Name::Blob(id), vec![Bytes::from_static(b"blob")], Cause::Admin).await.expect("a put");
    collect(&db.manifest, NONE, false).await.expect("a pass");
    assert!(db.store.get(&Name::Blob(id), Cause::Admin).await.expect("a read").is_some());
    assert!(db.store.get(&Name::Identity, Cause::Admin).await.expect("a read").is_some());
}

#[tokio::test]
async fn a_pass_that_crashes_anywhere_is_finished_by_the_next() {
    for fault in CRASHES {
        for n in 1.. {
            let clock = TestClock::new();
            let faulty = FaultyStore::memory(clock.clone(), n);
            let db =
                merged_in(Database::create_in(faulty.store(), clock, small(&StoredShape::leveled())).await)
                    .await;
            faulty.add(Rule::on(Operation::Any).nth(n).meets(fault));
            let pass = collect(&db.manifest, NONE, false);
            let crashed = Crash { future: Box::pin(pass), faulty: &faulty }.await.is_none();
            faulty.clear();
            db.holds_what_was_written().await;
            collect(&db.manifest, NONE, false).await.expect("a pass");
            db.holds_no_garbage().await;
            db.holds_what_was_written().await;
            if !crashed {
                assert!(n > 8, "there were {n} requests to crash at");
                break;
            }
        }
    }
}

/// The slots after a version that somebody has read are free once collection has deleted what was in them, and
/// must not count from the moment when the first of them is: a commit into one would be heard of by nobody.
#[tokio::test]
async fn a_commit_on_an_old_version_counts_wherever_a_pass_has_crashed() {
    for fault in CRASHES {
        for n in 1.. {
            let clock = TestClock::new();
            let faulty = FaultyStore::memory(clock.clone(), n);
            let db = Database::create_in(faulty.store(), clock, small(&StoredShape::leveled())).await;
            let slow = Manifest::open(faulty.store()).await.expect("the same database");
            let base = slow.latest(Cause::Manifest).await.expect("a version that will be old");
            let db = merged_in(db).await;
            faulty.add(Rule::on(Operation::Any).nth(n).meets(fault));
            let pass = collect(&db.manifest, NONE, false);
            let crashed = Crash { future: Box::pin(pass), faulty: &faulty }.await.is_none();
            faulty.clear();
            let late = Edit::CreateKeyspace { epoch: db.epoch, name: "late".to_owned() };
            let said = slow.commit(&base, &late, Cause::Manifest).await.expect("rebased on the latest");
            collect(&db.manifest, NONE, false).await.expect("a pass");
            let latest = db.latest().await;
            assert!(
                latest.keyspace("late").is_some(),
                "after {fault:?} at request {n} it was committed as version {}, and version {} does not know of it",
                said.id(),
                latest.id()
            );
            db.holds_what_was_written().await;
            if !crashed {
                assert!(n > 8, "there were {n} requests to crash at");
                break;
            }
        }
    }
}

#[tokio::test]
async fn two_passes_at_once_do_no_harm() {
    let db = merged().await;
    let (one, two) = tokio::join!(collect(&db.manifest, NONE, false), collect(&db.manifest, NONE, false));
    for pass in [one, two] {
        assert!(pass.is_ok() || pass.is_err_and(|error| error.kind() == ErrorKind::Conflict));
    }
    collect(&db.manifest, NONE, false).await.expect("a pass");
    db.holds_no_garbage().await;
    db.holds_what_was_written().await;
}

#[tokio::test]
async fn a_stray_version_under_the_floor_is_removed_and_believed_by_nobody() {
    let db = merged().await;
    let old = db.store.get(&Name::Manifest(2), Cause::Admin).await.expect("a read").expect("version 2");
    collect(&db.manifest, NONE, false).await.expect("a pass");
    db.store.put_new(&Name::Manifest(2), vec![old], Cause::Admin).await.expect("a late PUT");
    db.holds_what_was_written().await;
    collect(&db.manifest, NONE, false).await.expect("a pass");
    db.holds_no_garbage().await;
}

#[tokio::test]
async fn log_objects_before_the_replay_point_go_but_never_a_fence() {
    let db = merged().await;
    let header = |slot| WalHeader {
        db_uuid: db.manifest.identity().db_uuid,
        writer_uuid: 1,
        epoch: db.epoch,
        slot,
        token: [7; 16],
        first_seq: 1,
        durable_to: 0,
    };
    let data = |slot, value: &[u8]| {
        let mut log = LogBuffer::new(1);
        let key = key(0, "k");
        log.append(1, std::iter::once(Op { kind: Kind::Put, key: &key, expire_at_ms: 0, value }), |_| {});
        encode_data(&header(slot), &log.seal(2), Codec::Lz4)
    };
    let fence = WalHeader { first_seq: 0, ..header(1) };
    // A fence, a stray of the writer it fenced, a small and a large object, and one that is still needed.
    db.store.put_new(&Name::Wal(1), vec![encode_fence(&fence, "test")], Cause::Admin).await.expect("a fence");
    let large: Vec<u8> = (0..5000u32).flat_map(|n| n.wrapping_mul(0x9E37_79B9).to_le_bytes()).collect();
    for (slot, value) in [(2, &b"stray"[..]), (5, b"small"), (6, &large), (7, b"needed")] {
        db.store
            .put_new(&Name::Wal(slot), vec![data(slot, value)], Cause::Admin)
            .await
            .expect("a log object");
    }
    db.store
        .put_new(&Name::Wal(3), vec![Bytes::from_static(b"not ours to judge")], Cause::Admin)
        .await
        .expect("a put");
    let base = db.latest().await;
    let edit = Edit::Flush {
        epoch: db.epoch,
        ssts: Vec::new(),
        replay_from: 7,
        tail_hint: 7,
        last_seq: base.root.writer.last_seq,
        counter_floor: base.root.writer.counter_floor,
    };
    db.manifest.commit(&base, &edit, Cause::Flush).await.expect("a flush of nothing");
    let slots = async || -> Vec<u64> {
        let listed = db.store.list(Folder::Wal, None, Cause::Admin).await.expect("a listing");
        listed.iter().filter_map(|listed| listed.name.number()).collect()
    };
    let hour = Some(Duration::from_secs(3600));
    collect(&db.manifest, hour, false).await.expect("a pass");
    assert_eq!(slots().await, [1, 2, 3, 5, 6, 7], "older versions still replay from the beginning");
    collect(&db.manifest, NONE, false).await.expect("a pass");
    assert_eq!(slots().await, [1, 3, 7]);
}
