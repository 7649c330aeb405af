//! The newest versions are lost, and the log goes on with what they gave out: readers answer nothing on what is left.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::*;

impl Place {
    async fn lose_versions(&self, ids: &[u64]) {
        let names: Vec<_> = ids.iter().map(|id| Name::Manifest(*id)).collect();
        self.store().delete(&names, Cause::Gc).await.expect("deleted");
    }
    /// Readers, writers and verify all say that the version `id` is missing, and how to go on.
    async fn is_known_to_miss(&self, id: u64, why: &str) {
        for error in [
            self.reader().await.expect_err("a reader has opened"),
            self.open().await.expect_err("a writer has opened"),
        ] {
            is_miss_of(id, &error, why);
        }
        let report = verified(self, false).await;
        assert!(report.damage().any(|finding| finding.object == Name::Manifest(id)), "{:?}", report.findings);
    }
}

#[track_caller]
fn is_miss_of(id: u64, error: &Error, why: &str) {
    assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
    assert_eq!(error.object(), Some(&*Name::Manifest(id).path()), "{error}");
    assert!(error.to_string().contains(why), "{error}");
    let hint = error.hint_text().expect("a way out");
    assert!(hint.contains("--from") && hint.contains("--rollback"), "{hint}");
}

#[tokio::test]
async fn who_reads_misses_the_version_that_gave_a_keyspace_out() {
    let place = Place::new();
    let db = place.open().await.expect("created");
    put_all(&db, &["a"]).await;
    let lags = place.reader().await.expect("opened");
    let new = db.keyspace("new").await.expect("created");
    new.put("n1", "v1").await.expect("put");
    let token = db.sync().await.expect("durable");
    drop((new, db));
    let (whole, lost) = (place.copy(), place.view().await.id());
    place.lose_versions(&[lost]).await;
    let why = "entries of keyspace 1 in the log";
    place.is_known_to_miss(lost, why).await;
    for _ in 0..2 {
        is_miss_of(lost, &lags.at_least(token).await.expect_err("it would wait in vain"), why);
        is_miss_of(lost, &lags.strong().await.expect_err("it would answer short"), why);
        is_miss_of(lost, &lags.bounded(Duration::ZERO).await.expect_err("it would answer short"), why);
        assert_eq!(lags.snapshot().seq(), 1, "nothing behind it is shown");
    }
    let options = RepairOptions { from: Some(whole.store()), act: true, ..RepairOptions::default() };
    let done = repair(&place.store(), &options, &|_, _| {}).await.expect("repaired");
    assert!(done.after.is_some_and(|after| after.is_whole()), "{:?}", done.actions);
    for reader in [lags, place.reader().await.expect("opened")] {
        reader.strong().await.expect("the version is there again");
        let new = reader.keyspace("new").await.expect("it knows of it");
        assert_eq!(new.get("n1").await.expect("read").as_deref(), Some(&b"v1"[..]));
    }
}

#[tokio::test]
async fn who_reads_misses_the_version_that_gave_an_epoch_out() {
    for writes in [0, 1] {
        let place = Place::new();
        let db = place.open().await.expect("created");
        put_all(&db, &["a"]).await;
        drop(db);
        let (lags, claimed) = (place.reader().await.expect("opened"), place.view().await.id() + 1);
        let db = place.open().await.expect("taken over");
        put_all(&db, &["b"][..writes]).await;
        drop(db);
        // The claim, and the version that says that the fence is there.
        assert_eq!(place.view().await.id(), claimed + 1);
        place.lose_versions(&[claimed, claimed + 1]).await;
        let why = "objects of writer epoch 2";
        place.is_known_to_miss(claimed, why).await;
        is_miss_of(claimed, &lags.strong().await.expect_err("it would answer short"), why);
        assert_eq!(lags.snapshot().seq(), 1);
        // What gives the lost version up is taken up by the reader that was there.
        let options = RepairOptions { roll_back: true, act: true, ..RepairOptions::default() };
        let done = repair(&place.store(), &options, &|_, _| {}).await.expect("repaired");
        assert!(done.after.is_some_and(|after| after.is_whole()), "{:?}", done.actions);
        let snapshot = lags.strong().await.expect("gone on from");
        assert_eq!(snapshot.get("b").await.expect("read").is_some(), writes == 1);
    }
}

#[tokio::test]
async fn a_reader_that_lags_asks_for_nothing_more_than_the_versions_it_has_not_got() {
    let place = Place::new();
    let db = place.open().await.expect("created");
    let reader = place.reader().await.expect("opened");
    let lists = || reader.store().stats().snapshot().count(RequestKind::List, Cause::Poll).requests;
    put_all(&db, &["a"]).await;
    reader.at_least(db.sync().await.expect("durable")).await.expect("followed");
    assert_eq!(lists(), 0);
    // A keyspace, another writer, and another keyspace: four versions.
    db.keyspace("one").await.expect("created").put("k", "1").await.expect("put");
    drop(db);
    let db = place.open().await.expect("taken over");
    db.keyspace("two").await.expect("created").put("k", "2").await.expect("put");
    reader.at_least(db.sync().await.expect("durable")).await.expect("followed");
    // One for each version: whether it is above the floor.
    assert_eq!(lists(), 4);
    assert!(reader.keyspace("two").await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_beside_writers_that_give_keyspaces_and_epochs_out_never_misses_a_version() {
    let place = Place::new();
    drop(place.open().await.expect("created"));
    let done = AtomicBool::new(false);
    let reads = async {
        let reader = place.reader().await.expect("opened");
        while !done.load(Relaxed) {
            reader.bounded(Duration::ZERO).await.expect("nothing is lost");
            reader.strong().await.expect("nothing is lost");
            place.reader().await.expect("nothing is lost");
        }
    };
    let writes = async {
        for round in 0..12 {
            let db = place.open().await.expect("taken over");
            for n in 0..3 {
                let keyspace = db.keyspace(&format!("{round} {n}")).await.expect("created");
                keyspace.put("k", "v").await.expect("put");
            }
            if round % 3 == 0 {
                db.flush().await.expect("flushed");
            }
        }
        done.store(true, Relaxed);
    };
    tokio::join!(reads, writes);
}
