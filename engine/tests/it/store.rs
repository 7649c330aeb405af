//! Tests of the store floor through its public API: every kind of store does the same.

use bytes::Bytes;
use esker::{
    ErrorKind,
    clock::SystemClock,
    stats::{Cause, RequestKind},
    store::{Folder, Name, ObjectId, Role, Sequence, Slot, Store, Token, is_missing},
};

fn id(counter: u64) -> ObjectId {
    ObjectId { role: Role::Writer, epoch: 1, counter, nonce: 7 }
}

fn pattern(bytes: usize) -> Bytes {
    (0..bytes).map(|i| (i * 7 + i / 251) as u8).collect::<Vec<_>>().into()
}

fn body(store: &Store, text: &str) -> Vec<Bytes> {
    let token = Token::fresh(&**store.clock());
    vec![
        Bytes::from_static(b"ESKTEST1"),
        Bytes::copy_from_slice(&token.0),
        Bytes::copy_from_slice(text.as_bytes()),
    ]
}

/// A memory store, and a directory whose path has a space in it and does not exist yet.
fn stores() -> (tempfile::TempDir, Vec<Store>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a place").join("db");
    let clock = SystemClock::shared();
    let stores = vec![
        Store::open("memory://", clock.clone()).unwrap(),
        Store::open(path.to_str().unwrap(), clock).unwrap(),
    ];
    (dir, stores)
}

/// Everything a store must do alike wherever it lies.
async fn behaves(store: &Store) {
    // Nothing there yet, and looking creates nothing.
    assert_eq!(store.get(&Name::Identity, Cause::Open).await.unwrap(), None);
    assert_eq!(store.list(Folder::Wal, None, Cause::Open).await.unwrap(), vec![]);
    let error = store.get_range(&Name::Sst(id(1)), 0..5, Cause::Read).await.unwrap_err();
    assert!(is_missing(&error), "{error}");
    assert_eq!(error.kind(), ErrorKind::Corruption);
    assert_eq!(error.object(), Some(Name::Sst(id(1)).path().as_str()));

    // What is written is read: whole, by range, by ranges.
    let bytes = pattern(1_000_000);
    let chunks = vec![bytes.slice(..10), bytes.slice(10..10), bytes.slice(10..)];
    store.put_new(&Name::Sst(id(1)), chunks, Cause::Flush).await.unwrap();
    assert_eq!(store.get(&Name::Sst(id(1)), Cause::Read).await.unwrap(), Some(bytes.clone()));
    let part = store.get_range(&Name::Sst(id(1)), 500..700, Cause::Read).await.unwrap();
    assert_eq!(part, bytes.slice(500..700));
    let ranges = [999_990..1_000_000, 0..10, 5..5, 5..600_000, 400_000..400_001, 900_000..900_100];
    let parts = store.get_ranges(&Name::Sst(id(1)), &ranges, Cause::Read).await.unwrap();
    for (range, part) in ranges.iter().zip(&parts) {
        assert_eq!(part, &bytes.slice(range.start as usize..range.end as usize), "{range:?}");
    }

    // Beyond the end is corruption, with the offset where the object ends.
    for range in [999_999..1_000_001, 1_000_000..1_000_001, 2_000_000..2_000_001] {
        let error = store.get_range(&Name::Sst(id(1)), range.clone(), Cause::Read).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corruption, "{range:?}: {error}");
        assert_eq!(error.offset(), Some(1_000_000), "{range:?}: {error}");
        assert!(!is_missing(&error));
    }

    // An empty object is an object.
    store.put_new(&Name::Pin(9), vec![], Cause::Read).await.unwrap();
    assert_eq!(store.get(&Name::Pin(9), Cause::Read).await.unwrap(), Some(Bytes::new()));

    // Listings are sorted, by folder, and from a name on.
    for slot in [3, 1, 20, 2] {
        store.put_new(&Name::Wal(slot), vec![pattern(slot as usize)], Cause::Wal).await.unwrap();
    }
    let listed = store.list(Folder::Wal, None, Cause::Open).await.unwrap();
    let slots: Vec<_> = listed.iter().map(|o| (o.name.clone(), o.bytes)).collect();
    let expected = [1, 2, 3, 20].map(|slot| (Name::Wal(slot), slot));
    assert_eq!(slots, expected);
    let listed = store.list(Folder::Wal, Some(&Name::Wal(2)), Cause::Open).await.unwrap();
    assert_eq!(listed.iter().map(|o| o.bytes).collect::<Vec<_>>(), [3, 20]);
    let sequence = Sequence::new(store.clone(), Folder::Wal);
    for hint in [0, 1, 3, 20, 21, u64::MAX] {
        assert_eq!(sequence.latest(hint, Cause::Open).await.unwrap(), Some(20), "hint {hint}");
    }

    // Streams: less than a part, exactly parts, and a bit more.
    for (counter, bytes) in [(10, 1000), (11, 16 << 20), (12, (16 << 20) + 1)] {
        let bytes = pattern(bytes);
        let mut upload = store.upload(&Name::Sst(id(counter)), Cause::Compact);
        for from in (0..bytes.len()).step_by(3 << 20) {
            upload.write(vec![bytes.slice(from..bytes.len().min(from + (3 << 20)))]).await.unwrap();
        }
        assert_eq!(upload.finish().await.unwrap(), bytes.len() as u64);
        assert!(store.get(&Name::Sst(id(counter)), Cause::Read).await.unwrap().unwrap() == bytes);
    }
    let mut given_up = store.upload(&Name::Sst(id(13)), Cause::Compact);
    given_up.write(vec![pattern(20 << 20)]).await.unwrap();
    given_up.abort().await;
    assert_eq!(store.get(&Name::Sst(id(13)), Cause::Read).await.unwrap(), None);

    // Deleting is done when nothing is there, however often.
    let names = [Name::Wal(1), Name::Wal(2), Name::Wal(77), Name::Sst(id(1))];
    store.delete(&names, Cause::Gc).await.unwrap();
    store.delete(&names, Cause::Gc).await.unwrap();
    store.delete(&[], Cause::Gc).await.unwrap();
    let listed = store.list(Folder::Wal, None, Cause::Open).await.unwrap();
    assert_eq!(listed.len(), 2);

    // A slot is taken once; the loser sees the winner's bytes.
    let manifest = Sequence::new(store.clone(), Folder::Manifest);
    let (ours, theirs) = (body(store, "ours"), body(store, "theirs"));
    assert_eq!(manifest.get(1, Cause::Manifest).await.unwrap(), None);
    assert_eq!(manifest.create(1, ours.clone(), Cause::Manifest, None).await.unwrap(), Slot::Ours);
    let Slot::Theirs(found) = manifest.create(1, theirs, Cause::Manifest, None).await.unwrap() else {
        panic!("a slot was taken twice");
    };
    assert_eq!(found, ours.concat());
    assert_eq!(Token::of(&found), Token::of(&ours.concat()));
    assert_eq!(manifest.create(1, ours, Cause::Manifest, None).await.unwrap(), Slot::Ours);
    let error = Sequence::new(store.clone(), Folder::Pin).get(1, Cause::Open).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_and_a_directory_behave_alike() {
    let (_dir, stores) = stores();
    for store in &stores {
        behaves(store).await;
    }
}

#[tokio::test]
async fn looking_at_a_mistyped_directory_does_not_create_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("typo");
    let store = Store::open(path.to_str().unwrap(), SystemClock::shared()).unwrap();
    assert_eq!(store.get(&Name::Identity, Cause::Open).await.unwrap(), None);
    assert!(store.list(Folder::Manifest, None, Cause::Open).await.unwrap().is_empty());
    assert!(!path.exists());
}

#[tokio::test]
async fn memory_stores_are_the_same_by_name() {
    let clock = SystemClock::shared();
    let [a, again, other, private] =
        ["memory://the-same", "memory://the-same", "memory://another", "memory://"]
            .map(|url| Store::open(url, clock.clone()).unwrap());
    a.put_new(&Name::Identity, vec![Bytes::from_static(b"x")], Cause::Open).await.unwrap();
    assert!(again.get(&Name::Identity, Cause::Open).await.unwrap().is_some());
    assert!(other.get(&Name::Identity, Cause::Open).await.unwrap().is_none());
    assert!(private.get(&Name::Identity, Cause::Open).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_a_hundred_racers_one_wins_each_slot() {
    let (_dir, stores) = stores();
    for store in &stores {
        let sequence = Sequence::new(store.clone(), Folder::Manifest);
        for slot in 1..=4u64 {
            let mut racers = tokio::task::JoinSet::new();
            for racer in 0..100 {
                let (sequence, body) = (sequence.clone(), body(store, &format!("racer {racer}")));
                racers.spawn(async move {
                    let verdict = sequence.create(slot, body.clone(), Cause::Manifest, None).await.unwrap();
                    (body.concat(), verdict)
                });
            }
            let (mut winners, mut seen) = (Vec::new(), Vec::new());
            for (bytes, verdict) in racers.join_all().await {
                match verdict {
                    Slot::Ours => winners.push(bytes),
                    Slot::Theirs(found) => seen.push(found),
                }
            }
            assert_eq!(winners.len(), 1, "slot {slot} of {}", store.url());
            assert!(seen.iter().all(|found| *found == winners[0]));
            assert_eq!(sequence.get(slot, Cause::Manifest).await.unwrap().unwrap(), winners[0]);
        }
        assert_eq!(sequence.latest(0, Cause::Open).await.unwrap(), Some(4));
    }
}

#[tokio::test]
async fn every_request_is_counted_with_its_bytes() {
    let store = Store::open("memory://", SystemClock::shared()).unwrap();
    let name = Name::Sst(id(1));
    store.put_new(&name, vec![pattern(100)], Cause::Flush).await.unwrap();
    store.get_range(&name, 0..30, Cause::Read).await.unwrap();
    store.get(&Name::Wal(1), Cause::Poll).await.unwrap();
    store.list(Folder::Sst, None, Cause::Gc).await.unwrap();
    store.delete(&[name], Cause::Gc).await.unwrap();
    let seen = store.stats().snapshot();
    assert_eq!(seen.count(RequestKind::Put, Cause::Flush).bytes, 100);
    assert_eq!(seen.count(RequestKind::Get, Cause::Read).bytes, 30);
    assert_eq!(seen.count(RequestKind::Get, Cause::Poll).requests, 1);
    assert_eq!(seen.total(RequestKind::List), 1);
    assert_eq!(seen.total(RequestKind::Delete), 1);
    assert!(seen.requests.iter().all(|count| count.failures == 0), "{seen}");
}
