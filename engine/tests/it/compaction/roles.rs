//! Whose turn it is.

use std::{sync::Arc, time::Duration};

use esker::{
    Db, ErrorKind,
    clock::{Clock as _, SystemClock},
    compaction::{Compactor, Did, collect, publish::LEASE_MS},
    manifest::{Edit, Manifest, StoredShape},
    stats::Cause,
    store::Store,
    testing::{Fault, FaultyStore, Operation, Rule, SimClock, single_threaded},
};
use object_store::{ObjectStore as _, ObjectStoreExt as _, memory::InMemory};

use super::fixture::{Database, TestClock, Write, put, reach_fault, small};

async fn with_work() -> Database {
    work_for(Database::create(small(&StoredShape::leveled())).await).await
}

/// A database on a sound store, and the same one seen through a store with faults.
async fn with_work_and_faults() -> (Database, FaultyStore, Manifest) {
    let clock = TestClock::new();
    let faulty = FaultyStore::memory(clock.clone(), 1);
    let options = small(&StoredShape::leveled());
    let db = work_for(Database::create_in(faulty.sound_store(), clock, options).await).await;
    let through = Manifest::open(faulty.store()).await.expect("the same database");
    (db, faulty, through)
}

async fn work_for(mut db: Database) -> Database {
    for n in 0..4 {
        db.flush(&[put("a", format!("{n}")), put("b", format!("{n}"))]).await;
    }
    db
}

async fn claim(db: &Database, name: &str, force: bool) -> esker::Result<Compactor> {
    Compactor::claim(db.manifest.clone(), name, force).await
}

#[tokio::test]
async fn the_second_of_two_compactors_is_told_whose_turn_it_is() {
    let db = with_work().await;
    let mut first = claim(&db, "one:1", false).await.expect("the role is free");
    let refused = claim(&db, "two:2", false).await.expect_err("the role is taken");
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert!(refused.to_string().contains("one:1"), "{refused}");
    assert!(refused.to_string().contains("60 s"), "{refused}");
    assert!(matches!(first.step().await.expect("a step"), Did::Merged { .. }));
    db.holds_what_was_written().await;
}

#[tokio::test]
async fn a_role_that_was_given_up_is_free_at_once() {
    let db = with_work().await;
    claim(&db, "one:1", false).await.expect("the role").release().await.expect("a release");
    let mut second = claim(&db, "two:2", false).await.expect("the role is free again");
    assert!(matches!(second.step().await.expect("a step"), Did::Merged { .. }));
}

#[tokio::test]
async fn a_holder_that_died_keeps_others_away_no_longer_than_its_lease() {
    let db = with_work().await;
    drop(claim(&db, "one:1", false).await.expect("the role"));
    claim(&db, "two:2", false).await.expect_err("the lease has not passed");
    let refused = claim(&db, "one:1", false).await.expect_err("the same name may be in two containers");
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    db.clock.forward(Duration::from_millis(LEASE_MS + 1));
    claim(&db, "two:2", false).await.expect("the lease has passed");
}

#[tokio::test]
async fn a_claim_rebased_on_anothers_is_refused_and_names_the_holder() {
    let db = with_work().await;
    let base = db.latest().await;
    let mut first = claim(&db, "host:1", false).await.expect("the role is free");
    let now_ms = db.clock.wall_ms();
    let late = Edit::ClaimCompactor {
        uuid: 7,
        name: "host:1".to_owned(),
        busy_until_ms: now_ms + LEASE_MS,
        now_ms,
        force: false,
    };
    let refused = db.manifest.commit(&base, &late, Cause::Compact).await.expect_err("the role is taken");
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert!(refused.to_string().contains("host:1"), "{refused}");
    assert!(matches!(first.step().await.expect("still the holder"), Did::Merged { .. }));
}

#[tokio::test]
async fn an_input_that_is_gone_because_the_role_was_lost_is_no_corruption() {
    let (db, faulty, through) = with_work_and_faults().await;
    let mut first = Compactor::claim(through, "one:1", false).await.expect("the role");
    faulty.add(Rule::on(Operation::Get).path("sst").meets(Fault::FalseMissing));
    // What an absence means is asked of the newest version: slowly, so that the role is lost meanwhile.
    faulty.add(Rule::on(Operation::List).path("manifest").meets(Fault::Delay(Duration::from_secs(3))));
    let takeover = async {
        let mut second = claim(&db, "two:2", true).await.expect("taken by force");
        db.settle(&mut second).await;
    };
    let (step, ()) = tokio::join!(first.step(), takeover);
    let error = step.expect_err("its inputs are gone");
    assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
    assert!(error.to_string().contains("two:2"), "{error}");
}

#[tokio::test]
async fn an_input_that_is_gone_though_the_version_names_it_is_corruption() {
    let (_db, faulty, through) = with_work_and_faults().await;
    let mut first = Compactor::claim(through, "one:1", false).await.expect("the role");
    faulty.add(Rule::on(Operation::Get).path("sst").meets(Fault::FalseMissing));
    let error = first.step().await.expect_err("an SST is missing");
    assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
}

#[tokio::test]
async fn who_lost_the_role_stops_cleanly_and_says_to_whom() {
    let mut db = with_work().await;
    let mut first = claim(&db, "one:1", false).await.expect("the role");
    let mut second = claim(&db, "two:2", true).await.expect("taken by force");
    let fenced = first.step().await.expect_err("the role is lost");
    assert_eq!(fenced.kind(), ErrorKind::Fenced);
    assert!(fenced.to_string().contains("two:2"), "{fenced}");
    first.release().await.expect("nothing is left to release");
    db.settle(&mut second).await;
    for n in 0..4 {
        db.flush(&[put("a", format!("again {n}"))]).await;
    }
    assert!(!db.settle(&mut second).await.is_empty());
    db.holds_what_was_written().await;
}

/// A value that does not compress well, so that SSTs are many.
fn noise(mut x: u64) -> String {
    let next = || {
        x = x.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
        format!("{:016x}", x ^ (x >> 29))
    };
    std::iter::repeat_with(next).take(6).collect()
}

#[tokio::test(start_paused = true)]
async fn what_a_job_longer_than_its_lease_is_making_is_not_collected_by_another() {
    let _one = single_threaded();
    let clock = SimClock::shared(1);
    let faulty = FaultyStore::memory(clock.clone(), 1);
    let options = small(&StoredShape::leveled());
    let mut db = Database::create_in(faulty.sound_store(), TestClock::new(), options).await;
    for n in 0..4 {
        let writes: Vec<Write> = (0..800).map(|row| put(&format!("{row:03}"), noise(row << 8 | n))).collect();
        db.flush(&writes).await;
    }
    let through = Manifest::open(faulty.store()).await.expect("the same database");
    let mut slow = Compactor::claim(through, "one:1", false).await.expect("the role");
    // While it uploads, and when all is uploaded and read back but not committed, another collects every second.
    faulty.add(Rule::on(Operation::Put).path("sst/").meets(Fault::Delay(Duration::from_secs(5))));
    faulty.add(Rule::on(Operation::Put).path("manifest/").meets(Fault::Delay(Duration::from_secs(2))));
    let (began, mut waiting) = (clock.monotonic(), 0);
    let collecting = async {
        loop {
            clock.sleep(Duration::from_secs(1)).await;
            let pass = collect(&db.manifest, Some(Duration::ZERO), false).await.expect("a pass");
            waiting = waiting.max(pass.waiting);
        }
    };
    tokio::select! {
        biased;
        did = slow.step() => assert!(matches!(did.expect("a step"), Did::Merged { .. })),
        () = collecting => {}
    }
    let took = clock.monotonic() - began;
    assert!(took > Duration::from_millis(LEASE_MS), "the job took {took:?}");
    assert!(waiting > 10, "{waiting} SSTs waited for their producer");
    db.holds_what_was_written().await;
}

#[tokio::test]
async fn of_two_that_race_one_publishes_and_the_other_is_fenced() {
    let db = with_work().await;
    let (one, two) = tokio::join!(claim(&db, "one:1", true), claim(&db, "two:2", true));
    let (mut one, mut two) = (one.expect("a role"), two.expect("a role"));
    assert_ne!(one.epoch(), two.epoch());
    let (did_one, did_two) = tokio::join!(one.step(), two.step());
    let merged = [&did_one, &did_two].into_iter().filter(|did| matches!(did, Ok(Did::Merged { .. }))).count();
    let fenced = [&did_one, &did_two]
        .into_iter()
        .filter(|did| did.as_ref().is_err_and(|error| error.kind() == ErrorKind::Fenced))
        .count();
    assert_eq!((merged, fenced), (1, 1), "{did_one:?} {did_two:?}");
    db.holds_what_was_written().await;
}

#[tokio::test]
async fn a_claim_that_another_followed_before_it_was_heard_of_does_not_work_in_the_others_epoch() {
    let (db, faulty, through) = with_work_and_faults().await;
    // The second look at the floor is the one after the claim was created.
    faulty.add(Rule::on(Operation::List).path("floor").nth(2).meets(Fault::FailBefore));
    let mut first = Box::pin(Compactor::claim(through, "one:1", false));
    reach_fault(&mut first, &faulty).await;
    let mut second = claim(&db, "two:2", true).await.expect("taken by force");
    collect(&db.manifest, Some(Duration::ZERO), false).await.expect("a pass, which raises the floor");
    let fenced = first.await.expect_err("the role is lost");
    assert_eq!(fenced.kind(), ErrorKind::Fenced);
    assert!(fenced.to_string().contains("two:2"), "{fenced}");
    assert!(matches!(second.step().await.expect("a step"), Did::Merged { .. }));
    db.holds_what_was_written().await;
}

#[tokio::test]
async fn a_database_that_lost_the_role_says_conflict_and_claims_it_again_when_it_is_free() {
    let store = Arc::new(InMemory::new());
    let db = Db::builder("memory://roles").object_store(store.clone()).open().await.expect("a database");
    db.put("a", "1").await.expect("a write");
    db.compact().await.expect("the role is free");
    let place = Store::from_object_store(store, "memory://roles", SystemClock::shared());
    let manifest = Manifest::open(place).await.expect("the same database");
    let other = Compactor::claim(manifest, "two:2", true).await.expect("taken by force");
    let refused = db.compact().await.expect_err("another is at work");
    assert_eq!(refused.kind(), ErrorKind::Conflict, "{refused}");
    assert!(refused.to_string().contains("two:2"), "{refused}");
    other.release().await.expect("a release");
    db.compact().await.expect("the role is free again");
    db.put("a", "2").await.expect("the writer is as sound as before");
}

#[tokio::test(start_paused = true)]
async fn a_database_that_is_closed_while_it_claims_the_role_leaves_it_free() {
    let clock = SimClock::shared(1);
    let store = FaultyStore::memory(clock.clone(), 1);
    let builder = Db::builder("roles").object_store(Arc::new(store.clone())).clock(clock.clone());
    let db = builder.open().await.expect("a database");
    db.put("a", "1").await.expect("a write");
    db.flush().await.expect("something to merge");
    // The claim is granted, and who asked does not hear of it before it has stopped waiting.
    store.add(Rule::on(Operation::Put).path("manifest").nth(1).meets(Fault::HangReply));
    let mut compact = Box::pin(db.compact());
    reach_fault(&mut compact, &store).await;
    db.close().await.expect("it can be closed");
    let manifest = Manifest::open(Store::from_object_store(Arc::new(store), "roles", clock)).await;
    let other = Compactor::claim(manifest.expect("the same database"), "two:2", false).await;
    other.expect("nobody is at work");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_committed_where_the_database_was_removed_or_another_was_begun() {
    let _one = single_threaded();
    for begun_anew in [false, true] {
        let objects = Arc::new(InMemory::new());
        let open = async || {
            let builder = Db::builder("memory://removed").object_store(objects.clone());
            builder
                .clock(SimClock::shared(1))
                .compaction(esker::Compaction::Off)
                .open()
                .await
                .expect("opened")
        };
        let db = open().await;
        for n in 0..5_u32 {
            db.put(n.to_be_bytes(), "old").await.expect("put");
            db.flush().await.expect("flushed");
        }
        let compactor =
            Compactor::claim(Manifest::open(db.store().clone()).await.expect("there"), "one:1", false);
        let compactor = compactor.await.expect("the role is free");
        let listed: Vec<_> = futures::StreamExt::collect(objects.list(None)).await;
        for object in listed {
            objects.delete(&object.expect("listed").location).await.expect("removed");
        }
        if begun_anew {
            let anew = open().await;
            anew.put("new", "row").await.expect("put");
            anew.close().await.expect("closed");
        }
        let error = compactor.release().await.expect_err("there is nothing to release");
        assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
        if begun_anew {
            drop(db);
            let anew = open().await;
            assert_eq!(anew.get("new").await.expect("read").expect("a row"), "row");
            continue;
        }
        db.put("late", "row").accepted().await.expect("accepted");
        let error = db.flush().await.expect_err("there is nothing to flush into");
        assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
        drop(db);
        let versions = objects.list_with_delimiter(Some(&"manifest".into())).await.expect("listed").objects;
        assert!(versions.is_empty(), "{versions:?}");
    }
}
