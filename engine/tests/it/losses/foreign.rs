//! A log object of a copy that went its own way: the same database, epoch and slot, and another writer.

use super::*;
use esker::verify::Severity;

impl Place {
    async fn object(&self, slot: u64) -> Bytes {
        self.store().get(&Name::Wal(slot), Cause::Admin).await.expect("read").expect("there")
    }
    /// Puts what `other` has in `slot` into ours.
    async fn take_over_from(&self, other: &Place, slot: u64) {
        let bytes = other.object(slot).await;
        self.0.put(&Path::from(Name::Wal(slot).path()), bytes.into()).await.expect("put");
    }
    async fn row(&self, key: &str) -> Option<Bytes> {
        self.reader().await.expect("opened").get(key).await.expect("read")
    }
}

/// Two copies of a database, each of which was opened and written; the second more.
async fn forks() -> (Place, Place) {
    let one = Place::new();
    let db = one.open().await.expect("created");
    put_all(&db, &["a", "b"]).await;
    drop(db);
    let two = one.copy();
    for (place, value) in [(&one, "one"), (&two, "two")] {
        let db = place.open().await.expect("taken over");
        db.put("fork", value).await.expect("put");
        db.put("also", value).await.expect("put");
    }
    (one, two)
}

/// The slot of `fork` in both.
const FORK: u64 = 1 + K + 2 + K;

#[track_caller]
fn is_foreign(slot: u64, error: &Error) {
    assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
    assert_eq!(error.object(), Some(&*Name::Wal(slot).path()), "{error}");
    assert!(error.to_string().contains("another copy of this database"), "{error}");
    let hint = error.hint_text().expect("a way out");
    assert!(["verify", "--from", "--cut-log"].iter().all(|way| hint.contains(way)), "{hint}");
}

/// The slots that verify calls damaged.
async fn damaged(place: &Place, quick: bool) -> Vec<Name> {
    let report = verified(place, quick).await;
    report.damage().map(|finding| finding.object.clone()).collect()
}

async fn mend(place: &Place, options: RepairOptions) -> Outcome {
    repair(&place.store(), &RepairOptions { act: true, ..options }, &|_, _| {}).await.expect("repaired")
}

#[tokio::test]
async fn an_object_of_a_copy_that_went_its_own_way_is_read_by_nobody_and_is_mended() {
    let (original, other) = forks().await;
    assert_eq!(original.slots().await[3..], [FORK - K, FORK, FORK + 1]);
    let fence = FORK - K;
    for slots in [&[FORK][..], &[FORK + 1], &[FORK, FORK + 1], &[fence], &[fence, FORK, FORK + 1]] {
        let place = original.copy();
        for slot in slots {
            place.take_over_from(&other, *slot).await;
        }
        let before = (place.slots().await, place.view().await.id());
        is_foreign(slots[0], &place.reader().await.expect_err("a reader has opened"));
        is_foreign(slots[0], &place.open().await.expect_err("a writer has opened"));
        assert_eq!((place.slots().await, place.view().await.id()), before, "who is refused commits nothing");
        let names: Vec<_> = slots.iter().map(|slot| Name::Wal(*slot)).collect();
        for quick in [false, true] {
            assert_eq!(damaged(&place, quick).await, names, "quick: {quick}");
        }
        // The other copy has the same bytes, or more of its own.
        let refused = mend(&place, RepairOptions { from: Some(other.store()), ..Default::default() }).await;
        assert!(refused.after.is_none(), "{:?}", refused.actions);
        assert!(refused.actions.iter().any(|action| action.what.contains("--cut-log")));
        let mended = place.copy();
        let done = mend(&mended, RepairOptions { from: Some(original.store()), ..Default::default() }).await;
        assert!(done.after.is_some_and(|after| after.is_whole()), "{:?}", done.actions);
        for slot in slots {
            assert_eq!(mended.object(*slot).await, original.object(*slot).await, "{slot}");
        }
        assert_eq!(mended.row("fork").await.as_deref(), Some(&b"one"[..]));
        // Without a copy: the rest is kept.
        let done = mend(&place, RepairOptions { cut_log: true, ..Default::default() }).await;
        assert!(done.after.is_some_and(|after| after.is_whole()), "{:?}", done.actions);
        for (key, slot) in [("fork", FORK), ("also", FORK + 1)] {
            let value = place.row(key).await;
            assert_eq!(value.as_deref(), (!slots.contains(&slot)).then_some(&b"one"[..]), "{slots:?}: {key}");
        }
        assert!(place.row("a").await.is_some());
        place.open().await.expect("opened").put("after", "all").await.expect("put");
        assert!(damaged(&place, false).await.is_empty());
    }
}

#[tokio::test]
async fn an_object_of_an_older_epoch_is_told_by_its_fence_and_by_its_neighbours() {
    let (original, other) = forks().await;
    // The epoch is over: the newest version says nothing of it.
    drop(original.open().await.expect("taken over"));
    for slot in [FORK, FORK + 1] {
        let place = original.copy();
        place.take_over_from(&other, slot).await;
        is_foreign(slot, &place.reader().await.expect_err("a reader has opened"));
        is_foreign(slot, &place.open().await.expect_err("a writer has opened"));
        for quick in [false, true] {
            assert_eq!(damaged(&place, quick).await, [Name::Wal(slot)], "quick: {quick}");
        }
        let done = mend(&place, RepairOptions { from: Some(original.store()), ..Default::default() }).await;
        assert!(done.after.is_some_and(|after| after.is_whole()), "{:?}", done.actions);
        assert_eq!(place.object(slot).await, original.object(slot).await);
    }
    // Nor is its fence walked over.
    let (original, other) = forks().await;
    let writes = |place: Place| async move {
        let db = place.open().await.expect("taken over");
        put_all(&db, &["c"]).await;
        db.flush().await.expect("flushed");
        put_all(&db, &["d", "e"]).await;
        drop(db);
        let epoch = place.view().await.root.writer.epoch;
        assert_eq!(place.open().await.expect("taken over").view().root.writer.epoch, epoch + 1);
    };
    writes(original.clone()).await;
    writes(other.clone()).await;
    let from = original.view().await.root.writer.replay_from;
    for slot in [from, from + 1] {
        let place = original.copy();
        place.take_over_from(&other, slot).await;
        is_foreign(from + 1, &place.reader().await.expect_err("a reader has opened"));
        is_foreign(from + 1, &place.open().await.expect_err("a writer has opened"));
        // It reads the fence, and knows which.
        assert_eq!(damaged(&place, false).await, [Name::Wal(slot)]);
        let done = mend(&place, RepairOptions { from: Some(original.store()), ..Default::default() }).await;
        assert!(done.after.is_some_and(|after| after.is_whole()), "{:?}", done.actions);
        assert_eq!(place.object(slot).await, original.object(slot).await);
    }
}

#[tokio::test]
async fn a_reader_at_work_shows_nothing_of_another_copy() {
    let (original, other) = forks().await;
    let reader = original.reader().await.expect("opened");
    assert_eq!(reader.snapshot().seq(), 4);
    let db = other.open().await.expect("taken over");
    put_all(&db, &["c"]).await;
    drop(db);
    let ours = original.open().await.expect("taken over");
    put_all(&ours, &["d"]).await;
    let slot = *original.slots().await.last().expect("of the log");
    let whole = original.copy();
    original.take_over_from(&other, slot).await;
    for _ in 0..2 {
        is_foreign(slot, &reader.strong().await.expect_err("it is none of ours"));
        is_foreign(slot, &reader.bounded(Duration::ZERO).await.expect_err("it is none of ours"));
        assert_eq!(reader.get("c").await.expect("read"), None);
    }
    original.take_over_from(&whole, slot).await;
    let snapshot = reader.strong().await.expect("mended");
    assert_eq!(snapshot.get("d").await.expect("read").as_deref(), Some(&b"v"[..]));
}

#[tokio::test]
async fn what_nothing_replays_any_more_is_only_noticed() {
    let (original, other) = forks().await;
    let db = original.open().await.expect("taken over");
    db.flush().await.expect("flushed");
    drop(db);
    original.take_over_from(&other, FORK).await;
    let report = verified(&original, false).await;
    let found = report.findings.iter().find(|finding| finding.object == Name::Wal(FORK)).expect("noticed");
    assert_eq!(found.severity, Severity::Notice, "{found}");
    assert_eq!(original.row("fork").await.as_deref(), Some(&b"one"[..]));
    original.open().await.expect("nobody needs it");
}
