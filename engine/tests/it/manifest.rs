//! Tests of the manifest on a store: creating, committing, racing, following, and what faults do to them.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use esker::{
    ErrorKind,
    clock::{Clock, SharedClock, SystemClock},
    codec::sum::Sum,
    key::{EntryRef, Kind},
    manifest::{Edit, Identity, Manifest, StoredOptions, View, codec},
    sst::SstMeta,
    stats::{Cause, RequestKind},
    store::{Folder, Name, ObjectId, Role, Sequence, Store},
    testing::{Fault, FaultyStore, Operation, Rule},
};

fn options() -> StoredOptions {
    StoredOptions { block_bytes: 4096, retention_ms: 900_000, wal_window: 4, ..StoredOptions::default() }
}

fn memory() -> FaultyStore {
    FaultyStore::memory(SystemClock::shared(), 7)
}

async fn create(store: Store) -> (Manifest, Arc<View>) {
    let manifest = Manifest::open_or_create(store, options()).await.expect("created");
    let view = manifest.latest(Cause::Open).await.expect("there is a first version");
    (manifest, view)
}

fn claim(name: &str) -> Edit {
    Edit::ClaimWriter { uuid: 1, name: name.to_owned() }
}

fn keyspace(epoch: u32, name: &str) -> Edit {
    Edit::CreateKeyspace { epoch, name: name.to_owned() }
}

fn names(view: &View) -> Vec<&str> {
    view.root.keyspaces.iter().map(|keyspace| keyspace.name.as_str()).collect()
}

/// An SST entry of one row, and the flush that brings it.
fn flush(n: u64) -> Edit {
    let key = Bytes::from(format!("\0\0\0\0key {n:08}"));
    let mut sum = Sum::default();
    sum.add_entry(EntryRef { key: &key, seq: n, kind: Kind::Put, expire_at_ms: 0, value: b"v" });
    let id = ObjectId { role: Role::Writer, epoch: 1, counter: n, nonce: n };
    let sst = SstMeta {
        id: id.to_bytes().into(),
        bytes: 1000,
        tail_offset: 500,
        last_key: key.clone(),
        first_key: key,
        min_seq: n,
        max_seq: n,
        entries: 1,
        blocks: 1,
        hash: Bytes::from_static(&[7; 16]),
        sum: Bytes::copy_from_slice(&sum.to_bytes()),
        ..SstMeta::default()
    };
    Edit::Flush {
        epoch: 1,
        ssts: vec![sst],
        replay_from: n + 1,
        tail_hint: n,
        last_seq: n,
        counter_floor: n + 1,
    }
}

#[tokio::test]
async fn a_place_without_a_database_is_named() {
    let error = Manifest::open(memory().store()).await.expect_err("there is none");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(
        error.to_string().contains("there is no database at faulty://") && error.hint_text().is_some(),
        "{error}"
    );
}

#[tokio::test]
async fn a_database_is_created_once_and_opened_by_url_alone() {
    let place = memory();
    let (made, first) = create(place.store()).await;
    let opened = Manifest::open(place.store()).await.expect("it is there");
    assert_eq!(opened.identity(), made.identity());
    let again = Manifest::open_or_create(place.store(), StoredOptions { wal_window: 9, ..options() })
        .await
        .expect("opened");
    let view = again.latest(Cause::Open).await.expect("read");
    assert_eq!(view.root, first.root);
    assert_eq!((view.id(), again.identity().wal_window, names(&view)), (1, 4, vec!["default"]));
}

#[tokio::test]
async fn processes_that_create_at_once_agree() {
    let place = memory();
    let creators = (0..6).map(|_| create(place.store()));
    let made = futures::future::join_all(creators).await;
    assert!(
        made.iter().all(
            |(manifest, view)| manifest.identity() == made[0].0.identity() && view.root == made[0].1.root
        )
    );
}

#[tokio::test]
async fn data_without_its_identity_is_never_created_over() {
    let place = memory();
    let (manifest, _) = create(place.store()).await;
    manifest.store().delete(&[Name::Identity], Cause::Gc).await.expect("deleted");
    for error in [
        Manifest::open(place.store()).await.expect_err("refused"),
        Manifest::open_or_create(place.store(), options()).await.expect_err("refused"),
    ] {
        assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
        assert!(error.to_string().contains("identity object is missing"), "{error}");
    }
}

#[tokio::test]
async fn a_creation_that_was_cut_short_is_finished_but_a_lost_manifest_is_not_replaced() {
    let place = memory();
    let identity = Identity::create(&place.store(), 4).await.expect("created");
    let cut_short = Manifest::open(place.store()).await.expect("it has an identity");
    let error = cut_short.latest(Cause::Open).await.expect_err("no version");
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    let (manifest, view) = create(place.store()).await;
    assert_eq!((manifest.identity(), view.id()), (&identity, 1));

    place
        .store()
        .put_new(&Name::Wal(1), vec![Bytes::from_static(b"a write")], Cause::Wal)
        .await
        .expect("put");
    place.store().delete(&[Name::Manifest(1)], Cause::Gc).await.expect("deleted");
    let error = Manifest::open_or_create(place.store(), options()).await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
    assert!(error.to_string().contains("every version of the manifest is missing"), "{error}");
}

#[tokio::test]
async fn a_first_version_that_comes_between_two_listings_is_found_and_not_called_lost() {
    let place = memory();
    let (manifest, view) = create(place.store()).await;
    let log = vec![Bytes::from_static(b"a fence of the first writer")];
    manifest.store().put_new(&Name::Wal(1), log, Cause::Wal).await.expect("put");
    for late in ["latest", "open"] {
        // The listing of versions was made before version 1 was there, that of the log after.
        let rule = Rule::on(Operation::List).path("manifest").node(late).nth(1);
        place.add(rule.meets(Fault::FalseMissing));
        let store = place.node(late).store();
        let found = match late {
            "latest" => {
                Manifest::open(store).await.expect("opened").latest(Cause::Open).await.expect("found")
            }
            _ => create(store).await.1,
        };
        assert_eq!(found.id(), view.id());
    }
    assert_eq!(place.faults(), 2, "both met the old listing");
}

#[tokio::test]
async fn racing_committers_all_succeed_and_nothing_is_lost() {
    let place = memory();
    let (manifest, view) = create(place.store()).await;
    let base = manifest.commit(&view, &claim("w"), Cause::Manifest).await.expect("claimed");
    let committers = (0..6).map(|who| {
        let (store, base) = (place.store(), base.clone());
        async move {
            let manifest = Manifest::open(store).await.expect("opened");
            let mut base = base;
            for n in 0..4 {
                base = manifest
                    .commit(&base, &keyspace(1, &format!("{who}.{n}")), Cause::Manifest)
                    .await
                    .expect("committed");
            }
        }
    });
    futures::future::join_all(committers).await;
    let latest = manifest.latest(Cause::Manifest).await.expect("read");
    assert_eq!((latest.id(), names(&latest).len()), (2 + 24, 25));
    let mut older: Option<Arc<View>> = None;
    for id in 1..=latest.id() {
        let view = manifest.version(id, Cause::Manifest).await.expect("read").expect("there");
        let hash = older.map_or(0, |older| older.stored_hash());
        assert_eq!(view.root.prev_hash[..], hash.to_le_bytes(), "the chain is broken at {id}");
        older = Some(view);
    }
}

#[tokio::test]
async fn a_commit_means_what_it_says_whatever_the_store_does() {
    for fault in
        [Fault::DropReply, Fault::Duplicate, Fault::FalseConflict, Fault::FailBefore, Fault::Withhold]
    {
        for nth in 1..=6 {
            let place = memory();
            let (manifest, view) = create(place.store()).await;
            let base = manifest.commit(&view, &claim("w"), Cause::Manifest).await.expect("claimed");
            place.add(Rule::on(Operation::Put).path("manifest/").nth(nth).meets(fault));
            place.add(Rule::on(Operation::Get).path("manifest/").nth(nth).meets(Fault::FailBefore));
            let other = Manifest::open(place.store()).await.expect("opened");
            let (mut ours, mut theirs) = (base.clone(), base.clone());
            for n in 0..3 {
                let (our_edit, their_edit) = (keyspace(1, &format!("a{n}")), keyspace(1, &format!("b{n}")));
                let (a, b) = tokio::join!(
                    manifest.commit(&ours, &our_edit, Cause::Manifest),
                    other.commit(&theirs, &their_edit, Cause::Manifest),
                );
                (ours, theirs) = (a.expect("committed"), b.expect("committed"));
                place.release_withheld().await;
            }
            let latest = manifest.latest(Cause::Manifest).await.expect("read");
            let mut found = names(&latest);
            found.sort_unstable();
            assert_eq!(found, ["a0", "a1", "a2", "b0", "b1", "b2", "default"], "{fault:?} at {nth}");
            assert_eq!(latest.id(), 2 + 6, "{fault:?} at {nth}: something was committed twice");
        }
    }
}

#[tokio::test]
async fn two_writers_the_older_is_fenced_by_name() {
    let place = memory();
    let (manifest, view) = create(place.store()).await;
    let older = manifest.commit(&view, &claim("old-host:1"), Cause::Manifest).await.expect("claimed");
    let newer = Manifest::open(place.store()).await.expect("opened");
    newer.commit(&view, &claim("new-host:2"), Cause::Manifest).await.expect("rebased on the first claim");
    let error = manifest.commit(&older, &keyspace(1, "late"), Cause::Manifest).await.expect_err("fenced");
    assert_eq!(error.kind(), ErrorKind::Fenced);
    assert!(
        error.to_string().contains("new-host:2 has taken over writing to this database (epoch 2"),
        "{error}"
    );
}

#[tokio::test]
async fn following_costs_one_get_while_nothing_is_new_and_misses_no_version() {
    let place = memory();
    let (manifest, view) = create(place.store()).await;
    let reader = Manifest::open(place.store()).await.expect("opened");
    let mut seen = reader.latest(Cause::Open).await.expect("read");
    let before = reader.store().stats().snapshot();
    for _ in 0..10 {
        assert!(reader.follow(&seen, Cause::Poll).await.expect("answered").is_none());
    }
    let spent = reader.store().stats().snapshot().since(&before);
    assert_eq!(spent.count(RequestKind::Get, Cause::Poll).requests, 10);
    assert_eq!((spent.total(RequestKind::Put), spent.total(RequestKind::List)), (0, 0));

    let mut base = manifest.commit(&view, &claim("w"), Cause::Manifest).await.expect("claimed");
    for n in 0..5 {
        base =
            manifest.commit(&base, &keyspace(1, &n.to_string()), Cause::Manifest).await.expect("committed");
    }
    while let Some(next) = reader.follow(&seen, Cause::Poll).await.expect("answered") {
        assert_eq!(next.id(), seen.id() + 1);
        seen = next;
    }
    assert_eq!(seen.root, base.root);
    assert!(reader.newer(&seen, Cause::Poll).await.expect("answered").is_none());
}

/// Versions up to `floor` are declared void and deleted, as collection does it.
async fn collect(store: &Store, floor: u64) {
    let marks = Sequence::new(store.clone(), Folder::ManifestFloor);
    let body = Bytes::from(format!("eskerFLR{floor:016}"));
    marks.create(floor, vec![body], Cause::Gc, None).await.expect("the floor is raised");
    let ids: Vec<Name> = (1..=floor).map(Name::Manifest).collect();
    store.delete(&ids, Cause::Gc).await.expect("deleted");
}

/// A clock that a test moves.
#[derive(Debug)]
struct Moved {
    now_ms: AtomicU64,
    machine: SharedClock,
}

impl Clock for Moved {
    fn wall_ms(&self) -> u64 {
        1_000_000 + self.now_ms.load(Relaxed)
    }
    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.now_ms.load(Relaxed))
    }
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.machine.sleep(duration)
    }
    fn random(&self) -> u128 {
        self.machine.random()
    }
}

#[tokio::test]
async fn a_follower_catches_up_though_what_came_next_was_collected_between_two_looks() {
    for walks_first in [false, true] {
        let place = memory();
        let (manifest, view) = create(place.store()).await;
        let clock = Arc::new(Moved { now_ms: AtomicU64::new(0), machine: SystemClock::shared() });
        let within = Arc::new(place.clone());
        let follower = Manifest::open(Store::from_object_store(within, "followed", clock.clone()))
            .await
            .expect("opened");
        let mut seen = follower.latest(Cause::Open).await.expect("read");
        let mut base = manifest.commit(&view, &claim("w"), Cause::Manifest).await.expect("claimed");
        if walks_first {
            // It learns of version 2 late, by when 3 to 5 have come and gone.
            clock.now_ms.fetch_add(60_000, Relaxed);
            seen = follower.follow(&seen, Cause::Poll).await.expect("answered").expect("version 2");
        }
        for n in 0..4 {
            base = manifest
                .commit(&base, &keyspace(1, &n.to_string()), Cause::Manifest)
                .await
                .expect("committed");
        }
        collect(&place.store(), base.id() - 1).await;
        // Polled more often than versions are supposed to be collected.
        let mut found = None;
        for _ in 0..20 {
            clock.now_ms.fetch_add(1_000, Relaxed);
            if let Some(newer) = follower.follow(&seen, Cause::Poll).await.expect("answered") {
                found = Some(newer);
                break;
            }
        }
        assert_eq!(found.expect("it catches up").root, base.root, "walks_first: {walks_first}");
        let before = follower.store().stats().snapshot();
        for _ in 0..40 {
            clock.now_ms.fetch_add(1_000, Relaxed);
            assert!(follower.follow(&base, Cause::Poll).await.expect("answered").is_none());
        }
        let spent = follower.store().stats().snapshot().since(&before);
        assert_eq!(spent.total(RequestKind::List), 0, "an idle follower lists nothing");
        assert!(spent.total(RequestKind::Get) <= 45, "{} GETs", spent.total(RequestKind::Get));
    }
}

#[tokio::test]
async fn a_slot_that_collection_has_freed_is_not_committed_to() {
    let place = memory();
    let (manifest, view) = create(place.store()).await;
    let slow = Manifest::open(place.store()).await.expect("opened");
    let reader = Manifest::open(place.store()).await.expect("opened");
    let mut base = manifest.commit(&view, &claim("w"), Cause::Manifest).await.expect("claimed");
    for n in 0..5 {
        base =
            manifest.commit(&base, &keyspace(1, &n.to_string()), Cause::Manifest).await.expect("committed");
    }
    collect(&place.store(), 4).await;

    // Its base is version 1, so it creates version 2 again; and finds out.
    let late = slow.commit(&view, &claim("late"), Cause::Manifest).await.expect("rebased");
    assert_eq!((late.id(), late.root.writer.epoch, names(&late).len()), (base.id() + 1, 2, 6));
    let zombie = place.store().get(&Name::Manifest(2), Cause::Admin).await.expect("read");
    assert!(zombie.is_some(), "the slot was free, so the object is there");
    // Nobody ever serves it.
    assert!(reader.version(2, Cause::Read).await.expect("read").is_none());
    let next = reader.follow(&view, Cause::Poll).await.expect("answered").expect("there are newer ones");
    assert_eq!(next.root, late.root);
}

#[tokio::test]
async fn an_attempt_that_the_ring_forgot_has_an_unknown_outcome() {
    let place = memory();
    let (manifest, view) = create(place.store()).await;
    let slow = Manifest::open(place.store()).await.expect("opened");
    let mut base = manifest.commit(&view, &claim("w"), Cause::Manifest).await.expect("claimed");
    for n in 0..70 {
        base =
            manifest.commit(&base, &keyspace(1, &n.to_string()), Cause::Manifest).await.expect("committed");
    }
    collect(&place.store(), 4).await;
    let error = slow.commit(&view, &claim("late"), Cause::Manifest).await.expect_err("nobody knows");
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error}");
}

#[tokio::test]
async fn a_flush_whose_outcome_was_unknown_may_be_committed_again() {
    let place = memory();
    let (manifest, view) = create(place.store()).await;
    let base = manifest.commit(&view, &claim("w"), Cause::Manifest).await.expect("claimed");
    let once = manifest.commit(&base, &flush(1), Cause::Flush).await.expect("committed");
    let again = manifest.commit(&base, &flush(1), Cause::Flush).await.expect("found to be in");
    assert_eq!((once.id(), again.id(), again.root.runs.len()), (3, 3, 1));
}

#[tokio::test]
async fn a_large_version_is_read_back_by_another_process_and_shares_what_it_knows() {
    let place = memory();
    let (manifest, view) = create(place.store()).await;
    let mut base = manifest.commit(&view, &claim("w"), Cause::Manifest).await.expect("claimed");
    for n in 1..=400 {
        base = manifest.commit(&base, &flush(n), Cause::Flush).await.expect("committed");
    }
    assert!(base.root.runs.iter().any(|run| !run.parts.is_empty()), "400 entries do not fit in the root");
    let reader = Manifest::open(place.store()).await.expect("opened");
    let seen = reader.latest(Cause::Open).await.expect("read");
    assert_eq!(seen.root, base.root);
    assert_eq!(seen.runs.len(), 400);
    let last = manifest.commit(&base, &flush(401), Cause::Flush).await.expect("committed");
    let next = reader.follow(&seen, Cause::Poll).await.expect("answered").expect("one more");
    assert_eq!(next.root, last.root);
    let id = next.runs[7].ssts[0].id;
    assert!(Arc::ptr_eq(next.sst(id).expect("there"), seen.sst(id).expect("there")));

    let part = base.root.runs.iter().find_map(|run| run.parts.first()).expect("there is one");
    let name = Name::Part(part.object_id().expect("sound"));
    place.store().delete(std::slice::from_ref(&name), Cause::Gc).await.expect("deleted");
    let error = Manifest::open(place.store())
        .await
        .expect("opened")
        .latest(Cause::Open)
        .await
        .expect_err("a part is gone");
    assert_eq!(
        (error.kind(), error.object()),
        (ErrorKind::Corruption, Some(name.path().as_str())),
        "{error}"
    );
}

#[tokio::test]
async fn a_fork_between_two_versions_that_were_read_is_reported() {
    let place = memory();
    let (manifest, view) = create(place.store()).await;
    let reader = Manifest::open(place.store()).await.expect("opened");
    let seen = reader.latest(Cause::Open).await.expect("read");
    place.store().delete(&[Name::Manifest(1)], Cause::Gc).await.expect("deleted");
    let other = Manifest::open_or_create(place.store(), options()).await.expect("made anew");
    let first = other.latest(Cause::Open).await.expect("read");
    other.commit(&first, &claim("w"), Cause::Manifest).await.expect("claimed");
    let error = reader.follow(&seen, Cause::Poll).await.expect_err("another history");
    assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
    assert!(error.to_string().contains("does not follow version 1"), "{error}");
    drop((manifest, view));
}

#[tokio::test]
async fn a_version_whose_conservation_sum_is_off_is_refused() {
    let place = memory();
    let (manifest, view) = create(place.store()).await;
    let base = manifest.commit(&view, &claim("w"), Cause::Manifest).await.expect("claimed");
    let base = manifest.commit(&base, &flush(1), Cause::Flush).await.expect("committed");
    let sequence = Sequence::new(place.store(), Folder::Manifest);
    for (slot, off) in [(base.id() + 1, true), (base.id() + 2, false)] {
        let mut root = base.root.clone();
        root.id = slot;
        if off {
            root.sum = Bytes::copy_from_slice(&Sum::default().to_bytes());
        }
        sequence.create(slot, vec![codec::encode(&root)], Cause::Manifest, None).await.expect("put");
        let read = Manifest::open(place.store()).await.expect("opened").latest(Cause::Open).await;
        if !off {
            assert_eq!(read.expect("sound").id(), slot);
            continue;
        }
        let error = read.expect_err("an SST is not accounted for");
        assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
        assert!(error.to_string().contains("conservation sum"), "{error}");
        assert_eq!(error.object(), Some(Name::Manifest(slot).path().as_str()));
    }
}
