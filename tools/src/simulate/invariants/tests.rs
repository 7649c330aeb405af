//! A good run of the real engine passes every invariant; each way of spoiling it is found.

use std::{collections::BTreeMap, sync::OnceLock, time::Duration};

use esker::{
    Compaction, Db,
    compaction::collect,
    manifest::{Manifest, RingSlot, StoredShape, VersionCopy, WriterState},
    stats::Cause,
    store::{Folder, sequence::Token},
};

use super::*;
use crate::{merge, walk};

/// What the store was told, in order.
#[derive(Debug, Clone)]
enum Told {
    Put(Name, Bytes),
    Delete(Name),
}

/// A run: two writers, flushes, a merge, a collection.
fn good() -> Vec<Told> {
    static GOOD: OnceLock<Vec<Told>> = OnceLock::new();
    GOOD.get_or_init(|| {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
        runtime.block_on(record())
    })
    .clone()
}

async fn record() -> Vec<Told> {
    let mut told = Vec::new();
    let mut there = BTreeMap::new();
    let open = || {
        let shape = StoredShape { l0_runs: 2, middle_runs: 1, last_runs: 1, ratio: 4, base_bytes: 1 << 20 };
        let options = Db::builder("memory://invariants").compaction(Compaction::Off).shape(shape);
        options.retention(Duration::ZERO).wal_window(2).open()
    };
    let db = open().await.unwrap();
    look(&db, &mut there, &mut told).await;
    for round in 0..3 {
        for key in 0..4 {
            // Every round writes over half of the round before, and removes one.
            let name = format!("k{}", key + 2 * round);
            if key == 3 {
                db.delete(name).await.unwrap()
            } else {
                db.put(name, "value").await.unwrap()
            };
            look(&db, &mut there, &mut told).await;
        }
        db.flush().await.unwrap();
        look(&db, &mut there, &mut told).await;
    }
    db.put("late", "in the log").await.unwrap();
    look(&db, &mut there, &mut told).await;
    let db = open().await.unwrap();
    look(&db, &mut there, &mut told).await;
    db.put("later", "in the log").await.unwrap();
    look(&db, &mut there, &mut told).await;
    db.compact().await.unwrap();
    look(&db, &mut there, &mut told).await;
    let manifest = Manifest::open(db.store().clone()).await.unwrap();
    collect::collect(&manifest, Some(Duration::ZERO), false).await.unwrap();
    look(&db, &mut there, &mut told).await;
    db.put("last", "in the log").await.unwrap();
    look(&db, &mut there, &mut told).await;
    told
}

/// Notes what has changed since the last look, in the order in which it can have been.
async fn look(db: &Db, there: &mut BTreeMap<Name, Bytes>, told: &mut Vec<Told>) {
    let store = db.store();
    let mut now = vec![Name::Identity];
    let folders =
        [Folder::Sst, Folder::Part, Folder::Job, Folder::Manifest, Folder::Wal, Folder::ManifestFloor];
    for folder in folders {
        let listed = store.list(folder, None, Cause::Admin).await.unwrap();
        now.extend(listed.into_iter().map(|listed| listed.name));
    }
    let identity = store.get(&Name::Identity, Cause::Admin).await.unwrap().unwrap();
    let uuid = Identity::decode(&identity).unwrap().db_uuid;
    for name in &now {
        let bytes = store.get(name, Cause::Admin).await.unwrap().unwrap();
        if there.contains_key(name) {
            continue;
        }
        if let Name::Manifest(id) = name {
            // A fence lands before the version that says where it is.
            let fence = Name::Wal(codec::decode(*id, uuid, &bytes).unwrap().writer.fence_slot);
            if now.contains(&fence) && !there.contains_key(&fence) {
                let bytes = store.get(&fence, Cause::Admin).await.unwrap().unwrap();
                there.insert(fence.clone(), bytes.clone());
                told.push(Told::Put(fence, bytes));
            }
        }
        there.insert(name.clone(), bytes.clone());
        told.push(Told::Put(name.clone(), bytes));
    }
    let gone: Vec<Name> = there.keys().filter(|name| !now.contains(name)).cloned().collect();
    for name in gone {
        there.remove(&name);
        told.push(Told::Delete(name));
    }
}

fn check(told: &[Told]) -> Result<Checker, Failure> {
    let mut checker = Checker::new();
    for one in told {
        match one {
            Told::Put(name, bytes) => checker.put(&name.path(), bytes)?,
            Told::Delete(name) => checker.delete(&name.path())?,
        }
    }
    Ok(checker)
}

#[track_caller]
fn broken(told: &[Told]) -> &'static str {
    check(told).expect_err("nothing was found").rule
}

/// The run up to (not including) the first thing told that `is_it`.
fn until(is_it: impl Fn(&Told) -> bool) -> Vec<Told> {
    let told = good();
    let at = told.iter().position(is_it).expect("it never happened");
    told[..at].to_vec()
}

/// The run with version `id` changed by `change`, up to it.
fn with_version(id: u64, change: impl FnOnce(&mut Root)) -> Vec<Told> {
    let mut told = until(|one| matches!(one, Told::Put(Name::Manifest(other), _) if *other == id));
    let mut root = version(id);
    change(&mut root);
    told.push(Told::Put(Name::Manifest(id), codec::encode(&root)));
    told
}

fn version(id: u64) -> Root {
    let told = good();
    let uuid = told.iter().find_map(|one| match one {
        Told::Put(Name::Identity, bytes) => Some(Identity::decode(bytes).unwrap().db_uuid),
        _ => None,
    });
    told.iter()
        .find_map(|one| match one {
            Told::Put(Name::Manifest(other), bytes) if *other == id => {
                Some(codec::decode(id, uuid.unwrap(), bytes).unwrap())
            }
            _ => None,
        })
        .unwrap_or_else(|| panic!("there is no version {id}"))
}

/// The ids of versions of which `is_it` is true of what they follow and what they are.
fn versions(is_it: impl Fn(&Root, &Root) -> bool) -> Vec<u64> {
    let ids = good().into_iter().filter_map(|one| match one {
        Told::Put(Name::Manifest(id), _) => Some(id),
        _ => None,
    });
    ids.collect::<Vec<_>>()
        .windows(2)
        .filter(|pair| is_it(&version(pair[0]), &version(pair[1])))
        .map(|pair| pair[1])
        .collect()
}

fn flushes() -> Vec<u64> {
    versions(|base, next| next.writer.last_seq > base.writer.last_seq)
}

/// The version of the merge.
fn merged() -> u64 {
    *versions(|base, next| next.ssts().count() < base.ssts().count()).first().expect("nothing was merged")
}

fn resum(root: &mut Root) {
    let mut sum = Sum::default();
    root.ssts().for_each(|meta| sum.add(&meta.sum()));
    root.sum = Bytes::copy_from_slice(&sum.to_bytes());
}

#[test]
fn a_good_run_passes_whole() {
    let told = good();
    let checker = check(&told).unwrap();
    let last = checker.durable_seq();
    assert_eq!(last, 15, "{told:#?}");
    checker.acknowledged(last).unwrap();
    assert_eq!(checker.acknowledged(last + 1).unwrap_err().rule, walk::rules::ACKNOWLEDGED);
    assert_eq!((flushes().len() >= 3, checker.floor > 0), (true, true));
}

#[test]
fn a_name_that_comes_to_stand_for_other_bytes_is_found() {
    let told = good();
    for (at, one) in told.iter().enumerate() {
        let Told::Put(name @ (Name::Sst(_) | Name::Identity | Name::Manifest(_)), bytes) = one else {
            continue;
        };
        let mut other = bytes.to_vec();
        other[20] ^= 1;
        let again = [Told::Put(name.clone(), other.into())];
        assert_eq!(broken(&[&told[..=at], &again].concat()), rules::NAMES, "{name}");
        check(&[&told[..=at], std::slice::from_ref(one)].concat()).unwrap();
    }
}

#[test]
fn an_object_that_a_version_names_and_that_is_not_there_or_damaged_is_found() {
    let told = good();
    let at = told.iter().position(|one| matches!(one, Told::Put(Name::Sst(_), _))).unwrap();
    let mut without = told.clone();
    without.remove(at);
    assert_eq!(broken(&without), rules::NAMED);
    let mut damaged = told;
    if let Told::Put(_, bytes) = &mut damaged[at] {
        let mut bad = bytes.to_vec();
        bad[3] ^= 1;
        *bytes = bad.into();
    }
    assert_eq!(broken(&damaged), rules::DECODES);
}

#[test]
fn a_version_that_does_not_follow_on_the_latest_is_found() {
    let id = flushes()[1];
    assert_eq!(broken(&with_version(id, |root| root.prev_hash = Bytes::from_static(&[7; 16]))), rules::CHAIN);
    let mut told = good();
    told.retain(|one| !matches!(one, Told::Put(Name::Manifest(other), _) if *other == id));
    assert_eq!(broken(&told), rules::CHAIN, "a version is missing");
    assert_eq!(broken(&with_version(id, |root| drop(root.ring.remove(root.ring.len() - 2)))), rules::RING);
    assert_eq!(
        broken(&with_version(id, |root| root.ring[0].token = Bytes::from_static(&[7; 16]))),
        rules::RING
    );
}

#[test]
fn what_goes_back_is_found() {
    let id = flushes()[1];
    let spoils: [fn(&mut Root); 5] = [
        |root| root.writer.epoch -= 1,
        |root| root.writer.replay_from = 1,
        |root| root.writer.counter_floor = 0,
        |root| root.next_run = 1,
        |root| root.writer.tail_hint = 0,
    ];
    for (number, spoil) in spoils.into_iter().enumerate() {
        let spoilt = with_version(id, |root| {
            spoil(root);
            root.runs.iter_mut().for_each(|run| run.id %= root.next_run.max(1));
        });
        // A run id that does not fit is refused before anything else is looked at.
        let rule = broken(&spoilt);
        assert!([rules::BACK, rules::DECODES, rules::EPOCH].contains(&rule), "{number}: {rule}");
    }
    assert_eq!(broken(&with_version(id, |root| root.writer.replay_from = 1)), rules::BACK);
    let epoch_back = with_version(merged(), |root| {
        root.writer.epoch -= 1;
        root.writer.fence_epoch -= 1;
    });
    assert_eq!(broken(&epoch_back), rules::BACK);
}

#[test]
fn a_replay_point_ahead_of_the_data_is_found() {
    let id = flushes()[1];
    let ahead = with_version(id, |root| root.writer.replay_from += 1);
    assert_eq!(broken(&ahead), walk::rules::REPLAY_POINT);
    // The place moves without the data.
    let before = version(id - 1).writer.clone();
    let bare = with_version(id, |root| {
        let replay_from = root.writer.replay_from;
        root.writer = WriterState { replay_from, ..before };
        root.runs = version(id - 1).runs;
        resum(root);
    });
    assert_eq!(broken(&bare), walk::rules::REPLAY_POINT);
}

#[test]
fn a_flush_that_lacks_a_write_or_brings_another_is_found() {
    let id = flushes()[1];
    assert_eq!(broken(&with_version(id, |root| root.writer.last_seq -= 1)), merge::rules::FLUSH);
    let nothing = with_version(id, |root| {
        root.runs.remove(0);
        resum(root);
    });
    assert_eq!(broken(&nothing), merge::rules::FLUSH);
}

#[test]
fn a_merge_that_loses_or_invents_entries_is_found() {
    let id = merged();
    let lost = with_version(id, |root| {
        root.runs.iter_mut().for_each(|run| drop(run.ssts.pop()));
        root.runs.retain(|run| !run.ssts.is_empty());
        resum(root);
    });
    assert_eq!(broken(&lost), merge::rules::LOST);
    assert_eq!(broken(&with_version(id, |root| root.sum = Bytes::from_static(&[0; 32]))), rules::SUM);
    let moved = with_version(id, |root| root.writer.tail_hint += 1);
    assert_eq!(broken(&moved), merge::rules::PLACE);
    // What was merged away comes back beside what it became.
    let old = version(flushes()[0]).runs[0].clone();
    let at = |one: &Told| matches!(one, Told::Put(Name::Manifest(other), _) if *other == id);
    let mut back = good();
    back.truncate(back.iter().position(at).unwrap() + 1);
    let Some(Told::Put(_, bytes)) = back.last() else { panic!() };
    let mut root = version(id);
    root.prev_hash = Bytes::copy_from_slice(&codec::object_hash(bytes).to_le_bytes());
    root.id += 1;
    root.token = Bytes::from_static(&[9; 16]);
    root.ring.push(RingSlot { id: root.id, token: root.token.clone() });
    back.push(Told::Put(Name::Manifest(root.id), codec::encode(&root)));
    check(&back).unwrap();
    back.pop();
    root.runs.insert(0, old);
    resum(&mut root);
    back.push(Told::Put(Name::Manifest(root.id), codec::encode(&root)));
    assert_eq!(broken(&back), merge::rules::FLUSH);
}

#[test]
fn runs_in_the_wrong_order_are_found() {
    let id = flushes()[2];
    let swapped = with_version(id, |root| root.runs.swap(0, 1));
    assert_eq!(broken(&swapped), merge::rules::DEPTH);
    let twice = with_version(id, |root| {
        let again = root.runs[0].ssts[0].clone();
        root.runs[0].ssts.push(again);
        resum(root);
    });
    assert_eq!(broken(&twice), rules::RUNS);
}

#[test]
fn a_log_with_a_hole_a_wrong_epoch_or_too_much_in_flight_is_found() {
    let is_log = |one: &Told| matches!(one, Told::Put(Name::Wal(_), _));
    let told = good();
    let slots: Vec<usize> = (0..told.len()).filter(|at| is_log(&told[*at])).collect();
    let without = |at: usize| [&told[..at], &told[at + 1..]].concat();
    // The next object has the next number: what follows cannot be walked to, or is too far ahead.
    assert_eq!(broken(&without(slots[2])), walk::rules::WINDOW);
    let fence = told.iter().position(|one| matches!(one, Told::Put(Name::Wal(1), _))).unwrap();
    let claim = told
        .iter()
        .position(|one| matches!(one, Told::Put(Name::Manifest(id), _) if version(*id).writer.epoch == 1));
    let mut early = told.clone();
    let fence = early.remove(fence);
    early.insert(claim.unwrap(), fence);
    assert_eq!(broken(&early), walk::rules::EPOCHS);
    let mut damaged = told.clone();
    if let Told::Put(_, bytes) = &mut damaged[slots[1]] {
        *bytes = bytes.slice(..bytes.len() - 1);
    }
    assert_eq!(broken(&damaged), walk::rules::DECODES);
}

#[test]
fn a_collection_that_takes_too_much_is_found() {
    let told = good();
    let end = told.iter().position(|one| matches!(one, Told::Delete(_))).expect("nothing was collected");
    let before = &told[..end];
    let then = |more: Told| [before, &[more]].concat();
    let checker = check(before).unwrap();
    let latest = checker.latest().unwrap().clone();
    assert_eq!(broken(&then(Told::Delete(Name::Manifest(latest.id)))), rules::FLOOR);
    assert_eq!(
        broken(&then(Told::Put(Name::ManifestFloor(latest.id), Bytes::from_static(b"f")))),
        rules::FLOOR
    );
    let sst = latest.ssts().next().unwrap().object_id();
    assert_eq!(broken(&then(Told::Delete(Name::Sst(sst)))), rules::NAMED);
    assert_eq!(broken(&then(Told::Delete(Name::Wal(1)))), walk::rules::FENCES);
    let needed = latest.writer.replay_from..;
    let data = checker.objects.keys().find_map(|name| match name {
        Name::Wal(slot) if needed.contains(slot) && checker.objects[name].len() > 200 => Some(*slot),
        Name::Wal(slot) if needed.contains(slot) => Some(*slot),
        _ => None,
    });
    let rule = broken(&then(Told::Delete(Name::Wal(data.unwrap()))));
    assert!([walk::rules::NEEDED, walk::rules::FENCES].contains(&rule), "{rule}");
    // What a producer has uploaded and not published.
    let id = ObjectId { role: Role::Compactor, epoch: latest.compactor.epoch, counter: 1 << 30, nonce: 7 };
    let upload = [before, &[Told::Put(Name::Sst(id), Bytes::from_static(b"x")), Told::Delete(Name::Sst(id))]];
    assert_eq!(broken(&upload.concat()), rules::PUBLISHABLE);
}

/// A pin or checkpoint `name` on the version `root`.
fn copied(name: &Name, root: &Root, life_ms: u64) -> Bytes {
    let copied = VersionCopy { root: part::stored(root), hash: 0, life_ms, made_ms: 0 };
    copy::encode(name, Token([7; 16]), Some(&copied))
}

/// What came before the first version that was superseded and then collected with an SST of its own: the store
/// until then, that version, and one of its SSTs that is deleted later.
fn before_a_collection() -> (Vec<Told>, Root, Name) {
    let told = good();
    let end = told.iter().position(|one| matches!(one, Told::Delete(Name::Sst(_)))).unwrap();
    let Told::Delete(victim) = told[end].clone() else { panic!() };
    let raised = told.iter().position(|one| matches!(one, Told::Put(Name::ManifestFloor(_), _))).unwrap();
    let checker = check(&told[..raised]).unwrap();
    let version = checker.versions.values().rev().find(|version| version.names.contains(&victim)).unwrap();
    (told[..raised].to_vec(), version.root.clone(), victim)
}

/// The floor is raised over `root`, whose versions go, and then `victim` goes.
fn take(checker: &mut Checker, root: &Root, victim: &Name) -> Result<(), Failure> {
    let mark = Name::ManifestFloor(checker.latest().unwrap().id - 1);
    assert!(checker.latest().unwrap().id > root.id, "the latest version cannot be collected");
    checker.put(&mark.path(), &Bytes::from_static(b"floor")).unwrap();
    checker.delete(&victim.path())
}

#[test]
fn what_a_pin_names_is_not_to_be_deleted_while_the_pin_is_there_and_lives() {
    let (told, root, victim) = before_a_collection();
    let pin = Name::Pin(7);
    let body = copied(&pin, &root, 1_000);
    let pinned = || {
        let mut checker = check(&told).unwrap();
        checker.put(&pin.path(), &body).unwrap();
        checker
    };
    assert_eq!(take(&mut pinned(), &root, &victim).unwrap_err().rule, rules::NAMED);

    let mut lapsed = pinned();
    lapsed.at(1_001);
    take(&mut lapsed, &root, &victim).unwrap();

    let mut renewed = pinned();
    renewed.at(900);
    renewed.put(&pin.path(), &body).unwrap();
    renewed.at(1_800);
    assert_eq!(take(&mut renewed, &root, &victim).unwrap_err().rule, rules::NAMED);

    let mut deleted = pinned();
    deleted.delete(&pin.path()).unwrap();
    take(&mut deleted, &root, &victim).unwrap();

    let mut released = pinned();
    released.put(&pin.path(), &copy::encode(&pin, Token([8; 16]), None)).unwrap();
    take(&mut released, &root, &victim).unwrap();
}

#[test]
fn a_pin_that_comes_when_its_version_is_void_holds_nothing() {
    let (told, root, victim) = before_a_collection();
    let mut checker = check(&told).unwrap();
    take(&mut checker, &root, &victim).unwrap();
    let pin = Name::Pin(7);
    checker.put(&pin.path(), &copied(&pin, &root, 1_000)).unwrap();
    assert!(checker.holds.is_empty());
}

#[test]
fn a_checkpoint_made_under_a_pin_holds_on_when_the_pin_has_gone() {
    let (told, root, victim) = before_a_collection();
    let mut checker = check(&told).unwrap();
    let (pin, checkpoint) = (Name::Pin(7), Name::checkpoint("kept").unwrap());
    checker.put(&pin.path(), &copied(&pin, &root, 1_000)).unwrap();
    let mark = Name::ManifestFloor(checker.latest().unwrap().id - 1);
    checker.put(&mark.path(), &Bytes::from_static(b"floor")).unwrap();
    checker.put(&checkpoint.path(), &copied(&checkpoint, &root, 0)).unwrap();
    checker.delete(&pin.path()).unwrap();
    checker.at(u64::MAX - 1);
    assert_eq!(checker.delete(&victim.path()).unwrap_err().rule, rules::NAMED);
}

#[test]
fn what_lands_late_in_a_void_slot_is_nobodys() {
    let told = good();
    let mut checker = check(&told).unwrap();
    assert!(checker.floor > 0);
    checker
        .put(&Name::Manifest(checker.floor).path(), &Bytes::from_static(b"a zombie's, whatever it says"))
        .unwrap();
}
