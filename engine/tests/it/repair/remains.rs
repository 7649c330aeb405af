//! Where little is left: no identity and no version, no version, no mark; and what a copy has that is not here.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use esker::{
    Db, Error, ErrorKind,
    compaction::{Compactor, collect},
    manifest::Manifest,
    repair::{Outcome, RepairOptions, repair},
    store::{Folder, Name},
};
use object_store::{ObjectStoreExt as _, path::Path};

use super::{Place, check, fill, key, merge_all};

fn from(copy: &Place, unproved: bool) -> RepairOptions {
    RepairOptions { from: Some(copy.store()), unproved, ..RepairOptions::default() }
}

fn says(outcome: &Outcome, what: &str) -> bool {
    outcome.actions.iter().any(|action| action.what.contains(what))
}

async fn put(place: &Place, db_key: usize, model: &mut BTreeMap<String, String>) {
    let db = place.open().await;
    db.put(key(db_key), "later").await.expect("put");
    model.insert(key(db_key), "later".to_owned());
    drop(db);
}

async fn collected(place: &Place, retention: Option<Duration>) -> Result<collect::Collected, Error> {
    collect(&Manifest::open(place.store()).await.expect("there"), retention, false).await
}

/// A database with something in every folder: merged, collected, with a checkpoint and a log.
async fn full() -> (Place, BTreeMap<String, String>) {
    let place = Place::new();
    let db = place.open().await;
    let mut model = BTreeMap::new();
    for round in ["a", "b", "c"] {
        fill(&db, 0..60, round, &mut model).await;
    }
    db.checkpoint("kept").await.expect("made");
    drop(db);
    merge_all(&place).await;
    put(&place, 3, &mut model).await;
    collected(&place, Some(Duration::ZERO)).await.expect("collected");
    (place, model)
}

async fn only(place: &Place, keep: impl Fn(&Name) -> bool) -> Place {
    let left = place.copy();
    for path in left.all().await.keys() {
        if !Name::parse(path).is_some_and(|name| keep(&name)) {
            left.0.delete(&Path::from(path.as_str())).await.expect("removed");
        }
    }
    left
}

#[tokio::test]
async fn nothing_is_created_over_what_remains_of_a_database() {
    let (whole, _) = full().await;
    let mut folders = 0;
    for folder in Folder::ALL {
        let left = only(&whole, |name| name.folder() == Some(folder)).await;
        let before = left.all().await;
        if before.is_empty() {
            continue;
        }
        folders += 1;
        let opened = Db::builder("memory://repair").object_store(Arc::clone(&left.0) as _).open().await;
        let error = opened.expect_err("there is something to lose");
        assert_eq!(
            (error.kind(), error.object()),
            (ErrorKind::Corruption, Some("DB")),
            "{folder:?}: {error}"
        );
        assert!(error.hint_text().is_some_and(|hint| hint.contains("--from")), "{folder:?}: {error}");
        assert_eq!(folder == Folder::Manifest, !error.to_string().contains("every version"), "{error}");
        assert_eq!(left.all().await, before, "{folder:?}: something was created");
        assert!(!left.verify().await.is_whole());
    }
    assert!(folders >= 6, "{folders} folders had something");
    // What a test of the store left is no database.
    let place = Place::new();
    place.0.put(&Path::from("probe/00/left"), "by a probe".into()).await.expect("put");
    place.open().await.close().await.expect("closed");
}

#[tokio::test]
async fn what_remains_without_identity_and_versions_comes_back_from_a_copy() {
    let (whole, mut model) = full().await;
    let lost = [None, Some(Folder::Manifest), Some(Folder::Wal), Some(Folder::ManifestFloor)];
    let left = only(&whole, |name| !lost.contains(&name.folder())).await;
    let told = left.repair(from(&whole, false)).await;
    // Which database it is the SSTs prove, which version was the newest nothing does.
    assert!(says(&told, "put back DB") && says(&told, "`--unproved` would put it in"), "{:?}", told.actions);
    let outcome = left.repair(from(&whole, true)).await;
    // What was only in the log is not asked for by anything that is here, and that is said.
    assert!(says(&outcome, "log objects to slot"), "{:?}", outcome.actions);
    assert!(outcome.after.is_some_and(|after| after.is_whole()), "{:?}", outcome.actions);
    model.insert(key(3), "c of 3".to_owned());
    assert_eq!(check(&left.read(&model).await, &model), 0);
}

#[tokio::test]
async fn versions_that_are_all_lost_come_back_from_a_copy() {
    let (whole, model) = full().await;
    for unproved in [false, true] {
        let left = only(&whole, |name| name.folder() != Some(Folder::Manifest)).await;
        let outcome = left.repair(from(&whole, unproved)).await;
        assert!(!says(&outcome, "the same bytes"), "{:?}", outcome.actions);
        if unproved {
            assert!(outcome.after.is_some_and(|after| after.is_whole()), "{:?}", outcome.actions);
            assert_eq!(left.all().await, whole.all().await);
            assert_eq!(check(&left.read(&model).await, &model), 0);
        } else {
            assert!(outcome.after.is_none() && says(&outcome, "`--unproved`"), "{:?}", outcome.actions);
        }
    }
}

#[tokio::test]
async fn a_lost_mark_holds_collections_up_for_the_retention_and_comes_back_from_a_copy() {
    let (whole, mut model) = full().await;
    let left = only(&whole, |name| name.folder() != Some(Folder::ManifestFloor)).await;
    put(&left, 4, &mut model).await;
    let oldest = left.store().list(Folder::Manifest, None, esker::stats::Cause::Admin).await.expect("listed");
    let lost = oldest[0].name.number().expect("a number") - 1;
    let pass = collected(&left, None).await.expect("it is not in the way");
    assert_eq!((pass.held_by, pass.deleted.len()), (vec![Name::Manifest(lost)], 0));

    let told = left.repair(RepairOptions::default()).await;
    let advice = told.actions.iter().filter(|action| action.what.contains("esker gc")).count();
    assert_eq!(advice, 1, "{:?}", told.actions);
    let mended = left.copy();
    let outcome = mended.repair(from(&whole, false)).await;
    assert!(outcome.after.is_some_and(|after| after.is_whole()), "{:?}", outcome.actions);
    assert!(collected(&mended, None).await.expect("collected").held_by.is_empty());
    assert_eq!(check(&mended.read(&model).await, &model), 0);

    collected(&left, Some(Duration::ZERO)).await.expect("collected");
    assert!(left.verify().await.is_whole());
    assert_eq!(check(&left.read(&model).await, &model), 0);

    // A mark that would void a version that is here is not put in.
    let behind = whole.copy();
    put(&whole, 5, &mut model).await;
    collected(&whole, Some(Duration::ZERO)).await.expect("collected");
    let newest = Name::Manifest(behind.view().await.id());
    behind.flip(&newest, 60).await;
    let outcome = behind.repair(from(&whole, true)).await;
    assert!(!says(&outcome, "floor"), "{:?}", outcome.actions);
}

#[tokio::test]
async fn nothing_is_collected_where_the_newest_version_is_lost() {
    let (place, mut model) = full().await;
    let before = place.view().await.id();
    put(&place, 5, &mut model).await;
    put(&place, 6, &mut model).await;
    for id in before + 1..=place.view().await.id() {
        place.remove(&Name::Manifest(id)).await;
    }
    let left = place.all().await;
    for retention in [None, Some(Duration::ZERO)] {
        let error = collected(&place, retention).await.expect_err("a version is lost");
        let lost = Name::Manifest(before + 1).path();
        assert_eq!((error.kind(), error.object()), (ErrorKind::Corruption, Some(lost.as_str())), "{error}");
    }
    let claimed = Compactor::claim(Manifest::open(place.store()).await.expect("there"), "a test", true).await;
    assert_eq!(claimed.expect_err("a version is lost").kind(), ErrorKind::Corruption);
    assert_eq!(place.all().await, left, "something was deleted");
}

#[tokio::test]
async fn a_newest_version_of_a_copy_that_went_its_own_way_is_changed_for_the_right_one() {
    let (place, mut model) = full().await;
    let other = place.copy();
    put(&place, 7, &mut model).await;
    put(&other, 8, &mut BTreeMap::new()).await;
    let newest = Name::Manifest(place.view().await.id());
    let (right, foreign) = (place.copy(), other.bytes(&newest).await);
    place.0.put(&Path::from(newest.path()), foreign.clone().into()).await.expect("put");
    let told = place.repair(from(&right, false)).await;
    assert!(says(&told, "`--unproved`"), "{:?}", told.actions);
    assert_eq!(place.bytes(&newest).await, foreign);
    let outcome = place.repair(from(&right, true)).await;
    assert!(outcome.after.is_some_and(|after| after.is_whole()), "{:?}", outcome.actions);
    assert_eq!(place.all().await, right.all().await);
    assert_eq!(check(&place.read(&model).await, &model), 0);
}

#[tokio::test]
async fn a_junk_newest_version_that_was_gone_back_over_is_no_damage() {
    let (place, model) = full().await;
    let junk = Name::Manifest(place.view().await.id() + 1);
    place.0.put(&Path::from(junk.path()), "junk that nobody wrote".into()).await.expect("put");
    let options = RepairOptions { roll_back: true, name: "a test".to_owned(), ..RepairOptions::default() };
    let outcome = place.repair(options).await;
    let after = outcome.after.expect("it acted");
    assert!(after.is_whole(), "{:?}", after.findings);
    assert!(after.findings.iter().any(|found| found.object == junk && found.is_superseded));
    assert_eq!(check(&place.read(&model).await, &model), 0);
    // Junk that nobody went back over is.
    place.0.put(&Path::from(junk.path()), "other junk".into()).await.expect("put");
    assert!(place.verify().await.damage().any(|found| found.object == junk));
}

#[tokio::test]
async fn a_copy_that_goes_on_behind_what_is_here_is_told_of() {
    let (place, _) = full().await;
    let whole = place.copy();
    put(&whole, 9, &mut BTreeMap::new()).await;
    let (here, there) = (place.view().await.id(), whole.view().await.id());
    let outcome = repair(&place.store(), &from(&whole, false), &|_, _| {}).await.expect("told");
    assert!(outcome.before.is_whole());
    assert!(says(&outcome, &format!("versions to {there} ({here} here)")), "{:?}", outcome.actions);
    assert!(says(&outcome, "log objects to slot") && says(&outcome, "was made from version"));
    let outcome = whole.repair(from(&place, false)).await;
    assert!(outcome.actions.is_empty(), "{:?}", outcome.actions);
}
