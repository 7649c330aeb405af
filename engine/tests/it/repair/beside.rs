//! Going back while a collection, which needs no role, raises the floor over the version that is gone back to.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use esker::{
    Error, ErrorKind,
    compaction::collect,
    manifest::Manifest,
    repair::{Outcome, RepairOptions, repair},
    store::{Folder, Name},
    testing::{Fault, FaultyStore, Operation, Rule, SimClock},
};

use super::{Cause, Place, check, fill, key, merge_all};
use crate::virtual_time::simulated;

/// A merge that is damaged, and what was written behind it: `flushed`, or only in the log.
async fn damaged_merge(flushed: bool) -> (Place, BTreeMap<String, String>) {
    let place = Place::new();
    let db = place.open().await;
    let mut model = BTreeMap::new();
    for round in ["a", "b", "c"] {
        fill(&db, 0..60, round, &mut model).await;
    }
    merge_all(&place).await;
    for n in 0..30 {
        db.put(key(n), "behind the merge").await.expect("put");
        model.insert(key(n), "behind the merge".to_owned());
    }
    if flushed {
        db.flush().await.expect("flushed");
    }
    drop(db);
    let view = place.view().await;
    let merged = view.runs.iter().find(|run| run.level > 0).expect("it was merged").ssts[0].id;
    place.flip(&Name::Sst(merged), 50).await;
    (place, model)
}

/// Goes back through a store on which the first object under `folder` takes its time, and meanwhile collects
/// everything that only superseded versions name. Gives what became of it, and how often a pin was put.
async fn go_back_beside_a_collection(place: &Place, folder: &str) -> (Result<Outcome, Error>, usize) {
    let clock = SimClock::shared(7);
    let faulty = FaultyStore::new(Arc::clone(&place.0) as _, clock.clone(), 7);
    let slow = Duration::from_secs(10);
    faulty.add(Rule::on(Operation::Put).path(format!("^{folder}/*")).nth(1).meets(Fault::Delay(slow)));
    // So that the replay outlives several heartbeats.
    faulty.add(Rule::on(Operation::Get).path("^wal/*").meets(Fault::Delay(slow)));
    let puts = |under: &str| {
        let calls = faulty.calls();
        calls.iter().filter(|(of, path)| *of == Operation::Put && path.starts_with(under)).count()
    };
    let collecting = async {
        for _ in 0..10_000 {
            if puts(folder) > 0 {
                break;
            }
            clock.sleep(Duration::from_secs(1)).await;
        }
        let manifest = Manifest::open(place.store()).await.expect("there");
        collect(&manifest, Some(Duration::ZERO), false).await.expect("collected")
    };
    let options =
        RepairOptions { act: true, roll_back: true, name: "a test".to_owned(), ..RepairOptions::default() };
    let store = faulty.store();
    let (outcome, collected) = tokio::join!(repair(&store, &options, &|_, _| {}), collecting);
    let versions = collected.deleted.iter().filter(|(name, _)| matches!(name, Name::Manifest(_))).count();
    assert!(versions > 0 && collected.held_by.is_empty(), "nothing was collected meanwhile: {collected:?}");
    (outcome, puts("pin"))
}

#[test]
fn a_version_that_is_collected_while_it_is_put_back_was_pinned_and_stays_whole() {
    simulated(async {
        let (place, model) = damaged_merge(false).await;
        let newest = place.view().await.id();
        // Without a pin its SSTs go.
        let unpinned = Manifest::open(place.copy().store()).await.expect("there");
        let taken = collect(&unpinned, Some(Duration::ZERO), false).await.expect("collected").deleted;
        assert!(taken.iter().any(|(name, _)| matches!(name, Name::Sst(_))), "{taken:?}");
        let (outcome, pins) = go_back_beside_a_collection(&place, "manifest").await;
        let outcome = outcome.expect("repaired");
        let after = outcome.after.expect("it acted");
        assert!(after.is_whole(), "{:?}", after.findings);
        assert!(place.view().await.id() > newest);
        assert_eq!(check(&place.read(&model).await, &model), 0);
        assert!(pins >= 4, "written, renewed in a replay of five minutes, released: {pins} puts");
        // It was released: nothing is held by it any more.
        let manifest = Manifest::open(place.store()).await.expect("there");
        collect(&manifest, Some(Duration::ZERO), false).await.expect("collected");
        assert!(place.store().list(Folder::Pin, None, Cause::Admin).await.expect("listed").is_empty());
        assert!(place.verify().await.is_whole());
        assert_eq!(check(&place.read(&model).await, &model), 0);
    });
}

#[test]
fn a_version_that_is_collected_before_it_is_pinned_is_not_put_back() {
    simulated(async {
        let (place, _) = damaged_merge(false).await;
        let newest = place.view().await.id();
        let (outcome, _) = go_back_beside_a_collection(&place, "pin").await;
        let error = outcome.expect_err("what it names may be gone");
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
        assert!(error.to_string().contains("before it could be pinned"), "{error}");
        assert_eq!(place.view().await.id(), newest, "a role was taken for nothing");
    });
}

#[test]
fn log_that_is_collected_while_a_version_is_put_back_is_not_passed_over() {
    simulated(async {
        let (place, _) = damaged_merge(true).await;
        let before = place.view().await;
        let (outcome, _) = go_back_beside_a_collection(&place, "manifest").await;
        let error = outcome.expect_err("the flush would be lost");
        assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
        assert!(error.to_string().contains("while it was put back"), "{error}");
        assert_eq!(place.view().await.root.runs, before.root.runs, "the tree was changed");
    });
}
