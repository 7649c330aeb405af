//! A copy that was itself opened and written: the same uuid, and other objects under the same numbers.

use std::collections::BTreeMap;

use bytes::Bytes;
use esker::{
    manifest::identity::Identity,
    repair::{RepairOptions, Rung},
    store::Name,
    wal::WalObject,
};
use object_store::{ObjectStoreExt as _, path::Path};

use super::{Place, fill, key};

/// Damage of one object.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Damage {
    Missing,
    /// The token is gone as well.
    Cut,
    Flipped,
}

/// A database and a copy of it; then both were opened and written, the copy more often.
async fn two() -> (Place, Place) {
    let place = Place::new();
    let db = place.open().await;
    let mut model = BTreeMap::new();
    fill(&db, 0..30, "common", &mut model).await;
    for n in 0..5 {
        db.put(key(n), "common, in the log").await.expect("put");
    }
    drop(db);
    let copy = place.copy();
    for (place, times) in [(&place, 1), (&copy, 3)] {
        for _ in 0..times {
            let db = place.open().await;
            for n in 0..4 {
                db.put(key(n), format!("{times} times")).await.expect("put");
            }
            drop(db);
        }
    }
    (place, copy)
}

async fn damage(place: &Place, name: &Name, how: Damage) -> Place {
    let damaged = place.copy();
    let bytes = damaged.bytes(name).await;
    match how {
        Damage::Missing => damaged.remove(name).await,
        Damage::Cut => {
            damaged.0.put(&Path::from(name.path()), bytes.slice(..10).into()).await.expect("cut");
        }
        Damage::Flipped => damaged.flip(name, bytes.len() / 2).await,
    }
    damaged
}

fn from(copy: &Place, unproved: bool) -> RepairOptions {
    RepairOptions { from: Some(copy.store()), unproved, ..RepairOptions::default() }
}

#[tokio::test]
async fn a_copy_that_went_its_own_way_gives_what_was_common_and_nothing_else() {
    let (place, copy) = two().await;
    let (ours, theirs) = (place.all().await, copy.all().await);
    let (mut common, mut other) = (0, 0);
    for (path, bytes) in &ours {
        let name = Name::parse(path).expect("a name of ours");
        if matches!(name, Name::Job(_)) {
            continue;
        }
        for how in [Damage::Missing, Damage::Cut, Damage::Flipped] {
            let damaged = damage(&place, &name, how).await;
            if damaged.verify().await.is_whole() {
                continue;
            }
            let before = damaged.all().await;
            let outcome = damaged.repair(from(&copy, false)).await;
            let after = damaged.all().await;
            if theirs.get(path) == Some(bytes) {
                assert_eq!(after.get(path), Some(bytes), "{path}, {how:?}: {:?}", outcome.actions);
                common += 1;
            } else {
                assert_eq!(after, before, "{path}, {how:?}: {:?}", outcome.actions);
                assert!(!outcome.actions.is_empty(), "{path}, {how:?}: nothing was told");
                other += 1;
            }
        }
    }
    assert!(common > 10 && other > 8, "{common} common, {other} not");
}

#[tokio::test]
async fn a_version_that_gives_our_epoch_to_another_is_never_put_in() {
    let (place, copy) = two().await;
    let newest = Name::Manifest(place.view().await.id());
    // With or without the version by which the opener committed its fence: the one before it was made from common bytes.
    for remove in [false, true] {
        let newest = if remove {
            place.remove(&newest).await;
            Name::Manifest(place.view().await.id())
        } else {
            newest.clone()
        };
        assert_ne!(copy.bytes(&newest).await, place.bytes(&newest).await);
        for how in [Damage::Missing, Damage::Cut, Damage::Flipped] {
            // Nobody misses a version that only commits a fence.
            if how == Damage::Missing && !remove {
                continue;
            }
            let damaged = damage(&place, &newest, how).await;
            let before = damaged.all().await;
            let outcome = damaged.repair(from(&copy, true)).await;
            let why = outcome.actions.iter().any(|action| action.what.contains("another writer had epoch"));
            assert!(why, "{newest}, {how:?}: {:?}", outcome.actions);
            assert_eq!(damaged.all().await, before, "{newest}, {how:?}");
        }
    }
}

#[tokio::test]
async fn what_nothing_proves_is_told_and_put_in_only_if_asked() {
    let (place, copy) = two().await;
    // As if the opener had not come to commit its fence: then the newest version was made from common bytes.
    place.remove(&Name::Manifest(place.view().await.id())).await;
    let newest = Name::Manifest(place.view().await.id());
    let theirs: Bytes = copy.bytes(&newest).await;
    assert_ne!(theirs, place.bytes(&newest).await);
    // Nor to write its FENCE, or anything else that says who it was.
    let epoch = place.view().await.root.writer.epoch;
    let identity = Identity::load(&place.store()).await.expect("read").expect("there");
    for (path, bytes) in place.all().await {
        let name = Name::parse(&path).expect("a name of ours");
        if let Name::Wal(slot) = name
            && WalObject::decode(slot, identity.db_uuid, bytes).expect("whole").header().epoch == epoch
        {
            place.remove(&name).await;
        }
    }
    for how in [Damage::Cut, Damage::Flipped] {
        let damaged = damage(&place, &newest, how).await;
        let told = damaged.repair(from(&copy, false)).await;
        let said = |of: &[esker::repair::Action], words: &str| of.iter().any(|a| a.what.contains(words));
        assert!(told.after.is_none() && said(&told.actions, "`--unproved`"), "{:?}", told.actions);
        let done = damaged.repair(from(&copy, true)).await;
        let put = done.actions.iter().find(|action| action.rung == Rung::Copy).expect("put in");
        assert!(put.done && put.what.contains("unproved"), "{put}");
        assert_eq!(damaged.bytes(&newest).await, theirs);
    }
}

#[tokio::test]
async fn a_log_object_of_another_writer_is_never_put_in() {
    let (place, copy) = two().await;
    let slot = place.view().await.root.writer.tail_hint.max(1);
    let mut refuted = 0;
    for (path, bytes) in place.all().await {
        let name = Name::parse(&path).expect("a name of ours");
        let Name::Wal(at) = name else { continue };
        let of_copy = copy.all().await.get(&path).cloned();
        if at < slot || of_copy.is_none_or(|of_copy| of_copy == bytes) {
            continue;
        }
        let damaged = damage(&place, &name, Damage::Cut).await;
        let outcome = damaged.repair(from(&copy, true)).await;
        refuted += usize::from(outcome.actions.iter().any(|a| a.what.contains("another writer had epoch")));
    }
    assert!(refuted > 0, "nothing was refuted");
}
