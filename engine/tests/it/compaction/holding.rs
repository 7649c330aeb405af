//! What pins and checkpoints keep from collection, at every moment of it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use esker::{
    compaction::collect::{collect, delete_checkpoint},
    manifest::{Manifest, Pin, StoredShape, View, checkpoint},
    stats::Cause,
    store::{Folder, Name},
    testing::{Fault, FaultyStore, Operation, Rule, SimClock},
};

use super::fixture::{CRASHES, Crash, Database, TestClock, put, rows, small};

const NONE: Option<Duration> = Some(Duration::ZERO);

/// A database whose version `then` has been merged away, but not collected yet.
struct Merged {
    db: Database,
    then: Arc<View>,
    /// What the version holds.
    held: Vec<(Bytes, Bytes)>,
}

impl Merged {
    async fn new() -> Self {
        Self::grown(Database::create(small(&StoredShape::leveled())).await).await
    }

    async fn grown(mut db: Database) -> Self {
        for n in 0..4 {
            db.flush(&[put("a", format!("{n}")), put("b", format!("{n}"))]).await;
        }
        let then = db.latest().await;
        let held = rows(&db.store, &then, 0).await.into_iter().collect();
        db.flush(&[put("a", "after"), put("c", "after")]).await;
        Self { db, then, held }
    }

    async fn merge(&mut self) {
        let mut compactor = self.db.claim("a").await;
        self.db.settle(&mut compactor).await;
    }

    async fn pinned(&self) -> Pin {
        let pin = Pin::on(&self.then, &*self.db.clock.clone());
        assert!(pin.write(&self.db.manifest).await.expect("a pin"), "nothing has been collected yet");
        pin
    }

    /// Asserts that every object of the version is there, and holds what it held.
    #[track_caller]
    fn is_held(&self) -> impl Future<Output = ()> + '_ {
        let at = std::panic::Location::caller();
        async move {
            let found: Vec<_> = rows(&self.db.store, &self.then, 0).await.into_iter().collect();
            assert_eq!(found, self.held, "at {at}");
        }
    }

    async fn collect(&self) -> esker::compaction::Collected {
        collect(&self.db.manifest, NONE, false).await.expect("a pass")
    }
}

#[tokio::test]
async fn a_pin_keeps_what_it_names_and_nothing_else() {
    let mut merged = Merged::new().await;
    let pin = merged.pinned().await;
    merged.merge().await;
    // What came after the pinned version and was merged away is garbage all the same.
    merged.db.flush(&[put("d", "soon merged")]).await;
    let mut compactor = merged.db.claim("b").await;
    compactor.step_all().await.expect("a merge");
    let pass = merged.collect().await;
    assert_eq!((&pass.kept_for[..], &pass.held_by[..]), (std::slice::from_ref(pin.name()), &[][..]));
    assert!(pass.deleted.iter().any(|(name, _)| matches!(name, Name::Sst(_))), "{pass:?}");
    merged.is_held().await;
    merged.db.holds_what_was_written().await;

    pin.release(&merged.db.manifest).await.expect("a release");
    let pass = merged.collect().await;
    assert!(pass.kept_for.is_empty());
    assert!(pass.deleted.iter().any(|(name, _)| name == pin.name()), "{pass:?}");
    merged.db.holds_no_garbage().await;
    assert!(merged.db.store.list(Folder::Pin, None, Cause::Admin).await.expect("a listing").is_empty());
}

#[tokio::test]
async fn a_pin_that_comes_after_the_floor_does_not_hold() {
    let mut merged = Merged::new().await;
    merged.merge().await;
    merged.collect().await;
    let pin = Pin::on(&merged.then, &*merged.db.clock.clone());
    assert!(!pin.write(&merged.db.manifest).await.expect("a pin"), "its version is under the floor");
}

#[tokio::test]
async fn a_checkpoint_keeps_its_version_until_it_is_deleted() {
    let mut merged = Merged::new().await;
    let kept = checkpoint::create(&merged.db.manifest, "before").await.expect("a checkpoint");
    let held = rows(&merged.db.store, &kept, 0).await;
    merged.merge().await;
    for _ in 0..3 {
        let pass = merged.collect().await;
        assert_eq!(pass.kept_for, [Name::checkpoint("before").expect("a name")]);
        assert_eq!(rows(&merged.db.store, &kept, 0).await, held);
    }
    let copy = checkpoint::load(&merged.db.manifest, "before", Cause::Admin).await.expect("it is there");
    let view = copy.view(&merged.db.manifest, None, Cause::Admin).await.expect("it is whole");
    assert_eq!((view.id(), view.stored_hash()), (kept.id(), kept.stored_hash()));

    let error = checkpoint::create(&merged.db.manifest, "before").await.expect_err("the name is taken");
    assert!(error.to_string().contains("already"), "{error}");
    delete_checkpoint(&merged.db.manifest, "before").await.expect("a deletion");
    let error = delete_checkpoint(&merged.db.manifest, "before").await.expect_err("it is gone");
    assert!(error.to_string().contains("no checkpoint"), "{error}");
    merged.collect().await;
    merged.db.holds_no_garbage().await;
}

#[tokio::test]
async fn a_pin_or_checkpoint_that_cannot_be_read_keeps_everything() {
    for at in [0, 30, 60] {
        let mut merged = Merged::new().await;
        let pin = merged.pinned().await;
        merged.merge().await;
        let store = &merged.db.store;
        let mut bytes = store.get(pin.name(), Cause::Admin).await.expect("a read").expect("the pin").to_vec();
        bytes[at] ^= 1;
        store.replace(pin.name(), bytes.into(), Cause::Admin).await.expect("a put");
        let before = merged.db.ssts().await;
        assert_eq!(merged.collect().await.held_by, std::slice::from_ref(pin.name()));
        assert_eq!(merged.db.ssts().await, before);
        merged.is_held().await;
    }
}

#[tokio::test]
async fn a_pass_that_crashes_anywhere_keeps_what_is_pinned_and_is_finished_by_the_next() {
    for fault in CRASHES {
        for n in 1.. {
            let clock = TestClock::new();
            let faulty = FaultyStore::memory(clock.clone(), n);
            let db = Database::create_in(faulty.store(), clock, small(&StoredShape::leveled())).await;
            let mut merged = Merged::grown(db).await;
            let pin = merged.pinned().await;
            let released = Pin::on(&merged.then, &*merged.db.clock.clone());
            released.release(&merged.db.manifest).await.expect("a release");
            checkpoint::create(&merged.db.manifest, "kept").await.expect("a checkpoint");
            merged.merge().await;
            faulty.add(Rule::on(Operation::Any).nth(n).meets(fault));
            let pass = collect(&merged.db.manifest, NONE, false);
            let crashed = Crash { future: Box::pin(pass), faulty: &faulty }.await.is_none();
            faulty.clear();
            merged.is_held().await;
            merged.db.holds_what_was_written().await;
            merged.collect().await;
            merged.is_held().await;
            pin.release(&merged.db.manifest).await.expect("a release");
            delete_checkpoint(&merged.db.manifest, "kept").await.expect("a deletion");
            merged.collect().await;
            merged.db.holds_no_garbage().await;
            merged.db.holds_what_was_written().await;
            if !crashed {
                assert!(n > 15, "there were {n} requests to crash at");
                break;
            }
        }
    }
}

/// A pass stops before its n-th request, the pin is written; it goes on to its m-th, and the reader looks at the
/// floor; it ends. Every n and m.
#[tokio::test(start_paused = true)]
async fn a_pin_written_and_looked_at_between_any_two_requests_of_a_pass_holds_or_says_that_it_does_not() {
    let (mut held, mut refused) = (0, 0);
    'written: for n in 1.. {
        for m in n.. {
            let clock = SimClock::shared(1);
            let faulty = FaultyStore::memory(clock, 1);
            let mut merged = {
                let clock = TestClock::new();
                let db =
                    Database::create_in(faulty.sound_store(), clock, small(&StoredShape::leveled())).await;
                Merged::grown(db).await
            };
            merged.merge().await;
            let manifest = Manifest::open(faulty.store()).await.expect("the database");
            let pause = |nth| Rule::on(Operation::Any).nth(nth).meets(Fault::Delay(Duration::from_secs(1)));
            let pin = Pin::on(&merged.then, &*merged.db.clock.clone());
            faulty.add(pause(n));
            if m > n {
                faulty.add(pause(m));
            }
            let mut pass = Box::pin(collect(&manifest, NONE, false));
            if !reaches_fault(&mut pass, &faulty).await {
                assert!(n > 10, "a pass of {n} requests");
                break 'written;
            }
            pin.renew(&merged.db.manifest).await.expect("a pin");
            let is_over = m > n && !reaches_fault(&mut pass, &faulty).await;
            let holds = pin.is_above_floor(&merged.db.manifest).await.expect("a listing");
            if !is_over {
                pass.await.expect("a pass");
            }
            // Another pass, as a database that is merged and collected all the time has it.
            merged.collect().await;
            if holds {
                held += 1;
                merged.is_held().await;
            } else {
                refused += 1;
            }
            if is_over {
                break;
            }
        }
    }
    assert!(held > 10 && refused > 10, "{held} held and {refused} did not");
}

/// Polls `future` until the next of its requests meets a fault (true), or it ends.
async fn reaches_fault<T>(
    future: &mut std::pin::Pin<Box<impl Future<Output = esker::Result<T>>>>,
    faulty: &FaultyStore,
) -> bool {
    let before = faulty.faults();
    std::future::poll_fn(|cx| {
        let polled = future.as_mut().poll(cx);
        if faulty.faults() > before {
            return std::task::Poll::Ready(true);
        }
        polled.map(|done| {
            assert!(done.is_ok(), "it failed");
            false
        })
    })
    .await
}

#[tokio::test]
async fn a_checkpoint_that_crashes_anywhere_is_whole_or_not_there() {
    for fault in CRASHES {
        for n in 1.. {
            let clock = TestClock::new();
            let faulty = FaultyStore::memory(clock.clone(), n);
            let db = Database::create_in(faulty.store(), clock, small(&StoredShape::leveled())).await;
            let mut merged = Merged::grown(db).await;
            faulty.add(Rule::on(Operation::Any).nth(n).meets(fault));
            let made = checkpoint::create(&merged.db.manifest, "kept");
            let crashed = Crash { future: Box::pin(made), faulty: &faulty }.await.is_none();
            faulty.clear();
            merged.merge().await;
            merged.collect().await;
            merged.collect().await;
            match checkpoint::load(&merged.db.manifest, "kept", Cause::Admin).await {
                Ok(copy) => {
                    let view = copy.view(&merged.db.manifest, None, Cause::Admin).await.expect("it is whole");
                    assert_eq!(rows(&merged.db.store, &view, 0).await.len(), 3);
                }
                Err(error) => {
                    assert!(crashed && error.to_string().contains("no checkpoint"), "{error}");
                }
            }
            if !crashed {
                assert!(n > 6, "there were {n} requests to crash at");
                break;
            }
        }
    }
}

/// The version of the checkpoint is pinned; then it is superseded, and a pass of collection begins; before its n-th
/// request the checkpoint is created and the pin released; the pass ends. Every n.
#[tokio::test(start_paused = true)]
async fn a_checkpoint_that_appears_between_any_two_requests_of_a_pass_is_whole() {
    for n in 1.. {
        let second = |seconds| Fault::Delay(Duration::from_secs(seconds));
        let faulty = FaultyStore::memory(SimClock::shared(1), 1);
        let maker = FaultyStore::new(Arc::new(faulty.clone()), SimClock::shared(2), 1);
        let clock = TestClock::new();
        let db = Database::create_in(faulty.sound_store(), clock, small(&StoredShape::leveled())).await;
        let mut merged = Merged::grown(db).await;
        let makers = Manifest::open(maker.store()).await.expect("the database");
        let collectors = Manifest::open(faulty.store()).await.expect("the database");
        maker.add(Rule::on(Operation::Put).path("checkpoint/").nth(1).meets(second(1)));
        let mut made = Box::pin(checkpoint::create(&makers, "kept"));
        assert!(reaches_fault(&mut made, &maker).await, "it is pinned, and about to be created");

        merged.merge().await;
        faulty.add(Rule::on(Operation::Any).nth(n).meets(second(2)));
        let mut pass = Box::pin(collect(&collectors, NONE, false));
        let is_over = !reaches_fault(&mut pass, &faulty).await;
        faulty.clear();
        let kept = made.await.expect("a checkpoint");
        if !is_over {
            pass.await.expect("a pass");
        }
        assert_eq!(rows(&merged.db.store, &kept, 0).await.len(), 3);
        merged.collect().await;
        assert_eq!(rows(&merged.db.store, &kept, 0).await.len(), 3);
        if is_over {
            assert!(n > 10, "a pass of {n} requests");
            break;
        }
    }
}

/// A version so large that a part of it lies in objects of its own; it is collected, and a pin on it appears all the same.
#[tokio::test]
async fn a_pin_that_came_too_late_and_whose_parts_are_gone_holds_nothing_up() {
    let mut db = Database::create(small(&StoredShape::leveled())).await;
    for n in 0..400 {
        db.flush(&[put(&format!("key {n}"), "a value")]).await;
    }
    let then = db.latest().await;
    assert!(then.root.runs.iter().any(|run| !run.parts.is_empty()), "the version has no parts");
    let mut merged = Merged { held: Vec::new(), then, db };
    for name in ["a", "b"] {
        let mut compactor = merged.db.claim(name).await;
        compactor.step_all().await.expect("a merge");
        merged.db.flush(&[put("d", name)]).await;
    }
    merged.collect().await;
    let pin = Pin::on(&merged.then, &*merged.db.clock.clone());
    assert!(!pin.write(&merged.db.manifest).await.expect("a pin"), "its version is under the floor");
    let mut compactor = merged.db.claim("c").await;
    compactor.step_all().await.expect("a merge");
    let pass = merged.collect().await;
    assert_eq!((&pass.held_by[..], &pass.kept_for[..]), (&[][..], &[][..]));
    assert!(pass.deleted.iter().any(|(name, _)| matches!(name, Name::Sst(_))), "{pass:?}");
}

/// Whoever makes a checkpoint stands still between pin and checkpoint for longer than pins live, and its clock with it.
#[tokio::test]
async fn a_checkpoint_made_after_its_pin_had_lapsed_is_not_said_to_be_kept() {
    let clock = TestClock::new();
    let faulty = FaultyStore::memory(clock.clone(), 1);
    let db = Database::create_in(faulty.sound_store(), clock, small(&StoredShape::leveled())).await;
    let mut merged = Merged::grown(db).await;
    let makers = Manifest::open(faulty.store()).await.expect("the database");
    faulty.add(Rule::on(Operation::Put).path("checkpoint/").nth(1).meets(Fault::FailBefore));
    let mut made = Box::pin(checkpoint::create(&makers, "kept"));
    assert!(reaches_fault(&mut made, &faulty).await, "it is pinned, and about to be created");
    let pins = merged.db.store.list(Folder::Pin, None, Cause::Admin).await.expect("a listing");
    // What a pass does that finds the pin lapsed.
    for pin in pins {
        merged.db.store.delete(&[pin.name], Cause::Gc).await.expect("a deletion");
    }
    merged.merge().await;
    merged.collect().await;
    let error = made.await.expect_err("its SSTs are gone");
    assert_eq!(error.kind(), esker::ErrorKind::OutcomeUnknown, "{error}");
    assert!(error.to_string().contains("make it again"), "{error}");
}
