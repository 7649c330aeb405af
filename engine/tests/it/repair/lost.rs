//! Objects that are missing and that nobody counts on the way: the identity, the newest version, a checkpoint.

use std::{collections::BTreeMap, sync::Arc};

use esker::{
    Db, Error, ErrorKind,
    compaction::Compactor,
    manifest::Manifest,
    repair::{Outcome, RepairOptions, Rung},
    stats::Cause,
    store::{Folder, Name},
};
use object_store::{ObjectStoreExt as _, path::Path};

use super::{Place, check, fill, key, merge_all};

fn from(copy: &Place) -> RepairOptions {
    RepairOptions { from: Some(copy.store()), ..RepairOptions::default() }
}

fn roll_back() -> RepairOptions {
    RepairOptions { roll_back: true, name: "a test".to_owned(), ..RepairOptions::default() }
}

fn says(outcome: &Outcome, what: &str) -> bool {
    outcome.actions.iter().any(|action| action.what.contains(what))
}

async fn refused(place: &Place) -> Error {
    let opened = Db::builder("memory://repair").object_store(Arc::clone(&place.0) as _).open().await;
    opened.expect_err("there is something to lose")
}

/// A database with `rounds` of rows in SSTs, and some in the log.
async fn filled(rounds: &[&str]) -> (Place, BTreeMap<String, String>) {
    let place = Place::new();
    let db = place.open().await;
    let mut model = BTreeMap::new();
    for round in rounds {
        fill(&db, 0..60, round, &mut model).await;
    }
    for n in 0..5 {
        db.put(key(n), "only in the log").await.expect("put");
        model.insert(key(n), "only in the log".to_owned());
    }
    drop(db);
    (place, model)
}

async fn newest_version(place: &Place) -> Name {
    Name::Manifest(place.view().await.id())
}

#[tokio::test]
async fn an_identity_that_is_missing_or_damaged_is_made_again_from_the_versions() {
    let (whole, model) = filled(&["first"]).await;
    let bytes = whole.bytes(&Name::Identity).await;
    for flipped in [None, Some(2), Some(12), Some(40), Some(50), Some(60)] {
        let place = whole.copy();
        match flipped {
            None => place.remove(&Name::Identity).await,
            Some(at) => place.flip(&Name::Identity, at).await,
        }
        let error = Manifest::open(place.store()).await.expect_err("there is no identity");
        assert_eq!((error.kind(), error.object()), (ErrorKind::Corruption, Some("DB")), "{error}");
        assert_eq!(refused(&place).await.kind(), ErrorKind::Corruption);
        let report = place.verify().await;
        assert!(report.damage().any(|finding| finding.object == Name::Identity), "{:?}", report.findings);
        let outcome = place.repair(RepairOptions::default()).await;
        assert!(outcome.actions.iter().any(|action| action.rung == Rung::Rebuild && action.done));
        assert!(outcome.after.is_some_and(|after| after.is_whole()), "{flipped:?}: {:?}", outcome.actions);
        assert_eq!(check(&place.read(&model).await, &model), 0);
        // With the token still there, it is what it was.
        if matches!(flipped, Some(at) if !(8..24).contains(&at)) {
            assert_eq!(place.bytes(&Name::Identity).await, bytes, "{flipped:?}");
        }
        let copied = whole.copy();
        copied.remove(&Name::Identity).await;
        copied.repair(from(&whole)).await;
        assert_eq!(copied.all().await, whole.all().await);
    }
}

#[tokio::test]
async fn an_identity_is_not_made_up_where_the_versions_do_not_agree() {
    let (place, _) = filled(&["first"]).await;
    let (other, _) = filled(&["first", "second", "third"]).await;
    let theirs = newest_version(&other).await;
    place.0.put(&Path::from(theirs.path()), other.bytes(&theirs).await.into()).await.expect("put");
    place.remove(&Name::Identity).await;
    let outcome = place.repair(RepairOptions::default()).await;
    assert!(outcome.after.is_none() && says(&outcome, "not all of one database"), "{:?}", outcome.actions);
}

#[tokio::test]
async fn whoever_would_write_behind_a_lost_version_is_refused_before_an_epoch_is_given_out_again() {
    let (before, mut model) = filled(&["first"]).await;
    let place = before.copy();
    let db = place.open().await;
    for n in 3..9 {
        db.put(key(n), "by the second writer").await.expect("put");
        model.insert(key(n), "by the second writer".to_owned());
    }
    drop(db);
    let whole = place.copy();
    // The claim of the second writer's epoch, and the version that says that its fence is there.
    let fenced = place.view().await.id();
    let lost = Name::Manifest(fenced - 1);
    for id in [fenced, fenced - 1] {
        place.remove(&Name::Manifest(id)).await;
    }
    let left = place.all().await;
    let error = refused(&place).await;
    assert_eq!(
        (error.kind(), error.object()),
        (ErrorKind::Corruption, Some(lost.path().as_str())),
        "{error}"
    );
    assert!(error.hint_text().is_some_and(|hint| hint.contains("--from") && hint.contains("--rollback")));
    let error = Compactor::claim(Manifest::open(place.store()).await.expect("there"), "a test", true).await;
    let error = error.expect_err("a compactor takes the place of the lost version as well");
    assert_eq!(
        (error.kind(), error.object()),
        (ErrorKind::Corruption, Some(lost.path().as_str())),
        "{error}"
    );
    assert_eq!(place.all().await, left, "the place of the lost version was taken");
    let report = place.verify().await;
    // Once, and not of each object of the log that says so.
    assert!(report.damage().map(|finding| &finding.object).eq([&lost]), "{:?}", report.findings);
    assert!(says(&place.copy().repair(RepairOptions::default()).await, "`esker repair --rollback` would"));

    let mended = place.copy();
    let outcome = mended.repair(from(&whole)).await;
    assert!(!says(&outcome, "cannot be had"), "{:?}", outcome.actions);
    assert!(outcome.after.is_some_and(|after| after.is_whole()), "{:?}", outcome.actions);
    // The log proves that the claim is the one that was there. Nothing misses the version after it.
    assert_eq!(mended.bytes(&lost).await, whole.bytes(&lost).await);
    assert_eq!(check(&mended.read(&model).await, &model), 0);

    // A copy that another writer took over has another version of that number.
    before.open().await.close().await.expect("closed");
    let outcome = place.copy().repair(from(&before)).await;
    let refuted = says(&outcome, "another writer had epoch");
    assert!(outcome.after.is_none() && refuted, "{:?}", outcome.actions);

    let outcome = place.repair(roll_back()).await;
    assert!(outcome.after.is_some_and(|after| after.is_whole()), "{:?}", outcome.actions);
    assert_eq!(check(&place.read(&model).await, &model), 0);
    let db = place.open().await;
    assert!(place.view().await.root.writer.epoch > whole.view().await.root.writer.epoch + 1);
    fill(&db, 0..20, "afterwards", &mut model).await;
    db.close().await.expect("closed");
    assert_eq!(check(&place.read(&model).await, &model), 0);
    assert!(place.verify().await.is_whole());
}

#[tokio::test]
async fn the_rows_of_a_keyspace_whose_version_is_lost_are_nobody_elses() {
    let (place, model) = filled(&["first"]).await;
    let db = place.open().await;
    db.keyspace("late").await.expect("created").put("k", "v").await.expect("put");
    drop(db);
    let (whole, lost) = (place.copy(), newest_version(&place).await);
    place.remove(&lost).await;
    let left = place.all().await;
    for _ in 0..2 {
        let error = refused(&place).await;
        assert_eq!(
            (error.kind(), error.object()),
            (ErrorKind::Corruption, Some(lost.path().as_str())),
            "{error}"
        );
        assert!(error.to_string().contains("keyspace 1"), "{error}");
        assert!(error.hint_text().is_some_and(|hint| hint.contains("--from") && hint.contains("--rollback")));
    }
    assert_eq!(place.all().await, left, "the place of the lost version was taken");
    let mended = place.copy();
    let outcome = mended.repair(from(&whole)).await;
    assert!(outcome.after.is_some_and(|after| after.is_whole()), "{:?}", outcome.actions);
    assert_eq!(mended.bytes(&lost).await, whole.bytes(&lost).await);
    let db = mended.open().await;
    let found = db.keyspace("late").await.expect("it is back").get("k").await.expect("read");
    assert_eq!(found.as_deref(), Some(&b"v"[..]));
    drop(db);

    let told = place.repair(RepairOptions::default()).await;
    assert!(told.after.is_none() && says(&told, "`esker repair --rollback` would"), "{:?}", told.actions);
    let outcome = place.repair(roll_back()).await;
    assert!(outcome.after.is_some_and(|after| after.is_whole()), "{:?}", outcome.actions);
    assert!(outcome.actions.iter().any(|action| action.what.contains("lost-1")), "{:?}", outcome.actions);
    let db = place.open().await;
    let found = db.keyspace("lost-1").await.expect("it has a name").get("k").await.expect("read");
    assert_eq!(found.as_deref(), Some(&b"v"[..]));
    assert_eq!(db.keyspace("other").await.expect("created").get("k").await.expect("read"), None);
    db.close().await.expect("closed");
    assert_eq!(check(&place.read(&model).await, &model), 0);
}

#[tokio::test]
async fn a_compactors_epoch_whose_claim_is_lost_is_not_given_out_again() {
    for merges in [false, true] {
        let (place, model) = filled(&["first", "second"]).await;
        let before = place.view().await.id();
        if merges {
            merge_all(&place).await;
        } else {
            let manifest = Manifest::open(place.store()).await.expect("there");
            drop(Compactor::claim(manifest, "idle", true).await.expect("claimed"));
        }
        let claimed = place.view().await;
        let whole = place.copy();
        for id in before + 1..=claimed.id() {
            place.remove(&Name::Manifest(id)).await;
        }
        let left = place.all().await;
        let manifest = || async { Manifest::open(place.store()).await.expect("there") };
        let error =
            Compactor::claim(manifest().await, "a test", true).await.expect_err("it is not the newest");
        let lost = Name::Manifest(before + 1);
        assert_eq!(
            (error.kind(), error.object()),
            (ErrorKind::Corruption, Some(lost.path().as_str())),
            "{error}"
        );
        assert_eq!(place.all().await, left, "the place of the lost version was taken");
        let report = place.verify().await;
        assert!(report.damage().any(|finding| finding.object == lost), "{merges}: {:?}", report.findings);

        // The takeover in the job log proves that it is the claim that was there.
        let mended = place.copy();
        let outcome = mended.repair(from(&whole)).await;
        assert!(outcome.after.is_some_and(|after| after.is_whole()), "{:?}", outcome.actions);
        assert_eq!(mended.bytes(&lost).await, whole.bytes(&lost).await);
        assert_eq!(check(&mended.read(&model).await, &model), 0);

        let outcome = place.repair(roll_back()).await;
        assert!(outcome.after.is_some_and(|after| after.is_whole()), "{:?}", outcome.actions);
        let next = Compactor::claim(manifest().await, "a test", true).await.expect("claimed");
        assert!(next.view().root.compactor.epoch > claimed.root.compactor.epoch);
        assert_eq!(check(&place.read(&model).await, &model), 0);
    }
}

#[tokio::test]
async fn a_keyspace_whose_name_is_lost_gets_one_that_is_free() {
    let (place, _) = filled(&["first"]).await;
    let db = place.open().await;
    // By chance, what the next keyspace would be called.
    db.keyspace("lost-2").await.expect("created").put("k", "its own").await.expect("put");
    db.keyspace("late").await.expect("created").put("k", "v").await.expect("put");
    drop(db);
    place.remove(&newest_version(&place).await).await;
    let outcome = place.repair(roll_back()).await;
    let mut called = outcome.actions.iter().filter_map(|action| action.what.split_once(" called "));
    let (_, name) = called.next().expect("it is told");
    let db = place.open().await;
    for (name, value) in [("lost-2", "its own"), (name, "v")] {
        let found = db.keyspace(name).await.expect("it has a name").get("k").await.expect("read");
        assert_eq!(found.as_deref(), Some(value.as_bytes()), "{name}: {:?}", outcome.actions);
    }
    db.close().await.expect("closed");
}

#[tokio::test]
async fn a_lost_flush_or_merge_at_the_end_loses_nothing() {
    for merged in [false, true] {
        let place = Place::new();
        let db = place.open().await;
        let mut model = BTreeMap::new();
        for round in ["a", "b", "c"] {
            fill(&db, 0..60, round, &mut model).await;
        }
        drop(db);
        if merged {
            merge_all(&place).await;
        }
        place.remove(&newest_version(&place).await).await;
        assert_eq!(check(&place.read(&model).await, &model), 0);
        let db = place.open().await;
        fill(&db, 50..70, "afterwards", &mut model).await;
        db.close().await.expect("closed");
        merge_all(&place).await;
        assert_eq!(check(&place.read(&model).await, &model), 0);
        assert!(place.verify().await.is_whole());
    }
}

#[tokio::test]
async fn advice_names_the_one_command_that_works() {
    let place = Place::new();
    let db = place.open().await;
    let mut model = BTreeMap::new();
    fill(&db, 0..30, "first", &mut model).await;
    fill(&db, 30..60, "second", &mut model).await;
    drop(db);
    let damaged = place.view().await.runs[0].ssts[0].id;
    place.flip(&Name::Sst(damaged), 30).await;
    let log = place.store().list(Folder::Wal, None, Cause::Admin).await.expect("listed");
    // The log of the second round, which the version before it needs.
    place.remove(&log[log.len() - 1].name).await;
    let both = "`esker repair --rollback --cut-log`";
    assert!(says(&place.repair(RepairOptions::default()).await, both));
    let cut = RepairOptions { cut_log: true, ..RepairOptions::default() };
    assert!(says(&place.repair(cut).await, both));
    let half = place.repair(roll_back()).await;
    assert!(half.after.is_none() && says(&half, both), "{:?}", half.actions);
    let outcome = place.repair(RepairOptions { cut_log: true, ..roll_back() }).await;
    assert!(outcome.after.is_some_and(|after| after.is_whole()), "{:?}", outcome.actions);
    model.retain(|_, value| value.starts_with("first"));
    assert_eq!(check(&place.read(&model).await, &model), 0);
}

#[tokio::test]
async fn advice_over_a_newest_version_that_is_damaged_knows_how_far_the_log_went() {
    let place = Place::new();
    let db = place.open().await;
    let mut model = BTreeMap::new();
    fill(&db, 0..30, "first", &mut model).await;
    fill(&db, 30..60, "second", &mut model).await;
    let readable = place.view().await;
    fill(&db, 60..70, "third", &mut model).await;
    drop(db);
    // The newest version cannot be read, and the tree of the one before it is damaged. That one still says how far
    // the log went, of which the end is lost.
    let damaged = newest_version(&place).await;
    place.flip(&damaged, 60).await;
    place.flip(&Name::Sst(readable.runs[0].ssts[0].id), 30).await;
    let log = place.store().list(Folder::Wal, None, Cause::Admin).await.expect("listed");
    let before = readable.id() - 1;
    let of_before = Manifest::open(place.store()).await.expect("there");
    let replay_from =
        of_before.version(before, Cause::Admin).await.expect("read").expect("there").root.writer.replay_from;
    for object in log.iter().filter(|object| object.name.number() >= Some(replay_from)) {
        place.remove(&object.name).await;
    }
    let both = "`esker repair --rollback --cut-log`";
    let told = place.repair(RepairOptions::default()).await;
    assert!(says(&told, both), "{:?}", told.actions);
    let outcome = place.repair(RepairOptions { cut_log: true, ..roll_back() }).await;
    assert!(says(&outcome, "numbers from 61 on may be lost"), "{:?}", outcome.actions);
    // It stays as it is, and nothing needs it.
    let after = outcome.after.expect("it acted");
    let told: Vec<_> = after.findings.iter().filter(|finding| finding.object == damaged).collect();
    assert!(after.is_whole() && told.len() == 1 && told[0].is_superseded, "{:?}", after.findings);
    model.retain(|_, value| value.starts_with("first"));
    assert_eq!(check(&place.read(&model).await, &model), 0);
}

#[tokio::test]
async fn a_checkpoint_that_is_in_the_way_is_named_and_a_damaged_one_comes_from_a_copy() {
    let (place, _) = filled(&["first"]).await;
    let db = place.open().await;
    db.checkpoint("kept").await.expect("made");
    db.close().await.expect("closed");
    let checkpoint = Name::checkpoint("kept").expect("a name");
    let delete = "`esker checkpoint URL delete kept`";
    let whole = place.copy();

    let damaged = place.copy();
    damaged.flip(&checkpoint, 80).await;
    assert!(says(&damaged.repair(RepairOptions::default()).await, delete));
    let outcome = damaged.repair(from(&whole)).await;
    assert!(outcome.after.is_some_and(|after| after.is_whole()), "{:?}", outcome.actions);
    assert_eq!(damaged.all().await, whole.all().await);

    let ssts: Vec<_> = place.view().await.root.ssts().map(|meta| Name::Sst(meta.object_id())).collect();
    place.remove(&ssts[0]).await;
    let outcome = place.repair(super::salvage()).await;
    let after = outcome.after.as_ref().expect("it acted");
    assert_eq!(after.damage().count(), 1, "{:?}", after.findings);
    assert!(says(&outcome, delete), "{:?}", outcome.actions);
}
