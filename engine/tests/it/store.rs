//! Tests of the store floor through its public API: every kind of store does the same.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use esker::{
    ErrorKind,
    clock::{Clock, SharedClock, SystemClock},
    stats::{Cause, RequestKind},
    store::{
        Folder, Name, ObjectId, Role, Sequence, Slot, Store, Token, is_missing,
        probe::{Depth, probe},
    },
    testing::{Fault, FaultyStore, Minio, Operation, Rule},
};

/// A clock whose short waits (those between attempts) take no time; its long ones (the limit of an
/// attempt) are the machine's. So a test of a 30-second deadline takes milliseconds.
#[derive(Debug)]
struct Impatient {
    machine: SharedClock,
    skipped_ms: AtomicU64,
}

fn impatient() -> SharedClock {
    Arc::new(Impatient { machine: SystemClock::shared(), skipped_ms: AtomicU64::new(0) })
}

impl Clock for Impatient {
    fn wall_ms(&self) -> u64 {
        self.machine.wall_ms()
    }
    fn monotonic(&self) -> Duration {
        self.machine.monotonic() + Duration::from_millis(self.skipped_ms.load(Ordering::Relaxed))
    }
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        if duration > Duration::from_secs(3) {
            return self.machine.sleep(duration);
        }
        self.skipped_ms.fetch_add(duration.as_millis() as u64, Ordering::Relaxed);
        Box::pin(tokio::task::yield_now())
    }
    fn random(&self) -> u128 {
        self.machine.random()
    }
}

fn faulty() -> FaultyStore {
    FaultyStore::memory(impatient(), 1)
}

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

#[tokio::test]
async fn a_writer_whose_every_reply_is_lost_knows_its_own_win() {
    let faulty = faulty();
    faulty.add(Rule::on(Operation::Put).meets(Fault::DropReply));
    let store = faulty.store();
    for folder in [Folder::Manifest, Folder::Wal, Folder::Job, Folder::ManifestFloor] {
        let sequence = Sequence::new(store.clone(), folder);
        for slot in 1..=3 {
            let ours = sequence.create(slot, body(&store, "ours"), Cause::Manifest, None).await.unwrap();
            assert_eq!(ours, Slot::Ours);
        }
    }
    assert_eq!(store.stats().snapshot().count(RequestKind::Put, Cause::Manifest).failures, 12);
}

/// Whatever goes wrong on the way, the verdict is what the slot says.
#[tokio::test]
async fn no_error_kind_decides_who_owns_a_slot() {
    let on = |operation| Rule::on(operation).first(3);
    let faults = [
        vec![on(Operation::Put).meets(Fault::FailBefore)],
        vec![on(Operation::Put).meets(Fault::FalseConflict)],
        vec![on(Operation::Put).meets(Fault::FalseMissing)],
        vec![on(Operation::Put).meets(Fault::Duplicate)],
        vec![on(Operation::Put).meets(Fault::DropReply), on(Operation::Get).meets(Fault::FalseMissing)],
        vec![on(Operation::Put).meets(Fault::DropReply), on(Operation::Get).meets(Fault::Truncate(30))],
        vec![on(Operation::Put).meets(Fault::DropReply), on(Operation::Get).meets(Fault::FailBefore)],
        vec![
            Rule::on(Operation::Put).meets(Fault::DropReply),
            Rule::on(Operation::Get).nth(1).meets(Fault::Flip(30)),
        ],
    ];
    for rules in faults {
        let faulty = faulty();
        rules.iter().cloned().for_each(|rule| faulty.add(rule));
        let store = faulty.store();
        let sequence = Sequence::new(store.clone(), Folder::Manifest);
        let ours = body(&store, "ours");
        let verdict = sequence.create(1, ours.clone(), Cause::Manifest, None).await;
        assert_eq!(verdict.unwrap(), Slot::Ours, "{rules:?}");
        assert!(faulty.faults() >= 1);
        faulty.clear();
        rules.iter().cloned().for_each(|rule| faulty.add(rule));
        let theirs = sequence.create(1, body(&store, "late"), Cause::Manifest, None).await.unwrap();
        match theirs {
            Slot::Theirs(found) if found == ours.concat() => {}
            // A flipped body is another's as well: its checksum tells the caller.
            Slot::Theirs(_) if format!("{rules:?}").contains("Flip") => {}
            other => panic!("{rules:?}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_create_that_gives_up_says_so_and_may_still_land() {
    let faulty = faulty();
    faulty.add(Rule::on(Operation::Put).meets(Fault::Withhold));
    let store = faulty.store();
    let sequence = Sequence::new(store.clone(), Folder::Manifest);
    let give_up = Some(Duration::from_secs(5));
    let error = sequence.create(1, body(&store, "ours"), Cause::Manifest, give_up).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(error.object(), Some(Name::Manifest(1).path().as_str()));
    assert_eq!(sequence.get(1, Cause::Manifest).await.unwrap(), None);
    assert!(faulty.release_withheld().await > 1);
    assert!(sequence.get(1, Cause::Manifest).await.unwrap().is_some());

    // Another takes the slot first: the late bytes change nothing.
    faulty.clear();
    faulty.add(Rule::on(Operation::Put).nth(1).meets(Fault::Withhold));
    let other = Sequence::new(faulty.sound_store(), Folder::Wal);
    let winner = body(&store, "winner");
    assert_eq!(other.create(1, winner.clone(), Cause::Wal, None).await.unwrap(), Slot::Ours);
    let wal = Sequence::new(store.clone(), Folder::Wal);
    let verdict = wal.create(1, body(&store, "late"), Cause::Wal, None).await.unwrap();
    assert_eq!(verdict, Slot::Theirs(winner.concat().into()));
    faulty.release_withheld().await;
    assert_eq!(other.get(1, Cause::Wal).await.unwrap().unwrap(), winner.concat());
}

/// The first attempt may have landed, so that a later refusal does not say that nothing was written.
#[tokio::test]
async fn a_create_that_is_refused_after_an_uncertain_attempt_is_not_known_to_have_failed() {
    let faulty = faulty();
    faulty.add(Rule::on(Operation::Put).nth(1).meets(Fault::Withhold));
    faulty.add(Rule::on(Operation::Put).meets(Fault::Refuse));
    let store = faulty.store();
    let sequence = Sequence::new(store.clone(), Folder::Manifest);
    let give_up = Some(Duration::from_secs(5));
    let error = sequence.create(1, body(&store, "ours"), Cause::Manifest, give_up).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("refused access"), "{error}");
    assert_eq!(faulty.release_withheld().await, 1);
    assert!(sequence.get(1, Cause::Manifest).await.unwrap().is_some(), "it was written after all");

    // Refused from the beginning, it is known that nothing was written.
    let error = sequence.create(2, body(&store, "ours"), Cause::Manifest, give_up).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
}

#[tokio::test]
async fn a_short_body_is_fetched_again_and_then_corrupt() {
    let faulty = faulty();
    let store = faulty.store();
    let (name, bytes) = (Name::Sst(id(1)), pattern(1000));
    store.put_new(&name, vec![bytes.clone()], Cause::Flush).await.unwrap();

    faulty.add(Rule::on(Operation::Get).first(2).meets(Fault::Truncate(10)));
    assert_eq!(store.get(&name, Cause::Read).await.unwrap().unwrap(), bytes);

    faulty.clear();
    faulty.add(Rule::on(Operation::Get).meets(Fault::Truncate(10)));
    for error in [
        store.get(&name, Cause::Read).await.unwrap_err(),
        store.get_range(&name, 100..200, Cause::Read).await.unwrap_err(),
        store.get_ranges(&name, &[0..50, 100..200], Cause::Read).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
        assert_eq!(error.object(), Some(name.path().as_str()));
        assert_eq!(error.offset(), Some(10));
        assert!(!is_missing(&error));
    }
}

#[tokio::test]
async fn of_an_object_larger_than_any_of_its_kind_only_that_much_is_read() {
    let (_dir, stores) = stores();
    for store in stores {
        for name in [Name::Identity, Name::ManifestFloor(3)] {
            let most = name.most_bytes() as usize;
            let huge = pattern(1 << 20);
            store.put_new(&name, vec![huge.clone()], Cause::Admin).await.unwrap();
            let before = store.stats().snapshot().count(RequestKind::Get, Cause::Read).bytes;
            assert_eq!(store.get(&name, Cause::Read).await.unwrap().unwrap(), huge[..=most]);
            let received = store.stats().snapshot().count(RequestKind::Get, Cause::Read).bytes - before;
            assert_eq!(received, most as u64 + 1, "{name} of {}", store.url());
        }
    }
    // A slot that holds such a one is another's.
    let faulty = faulty();
    let store = faulty.store();
    store.put_new(&Name::ManifestFloor(1), vec![pattern(1 << 20)], Cause::Admin).await.unwrap();
    let sequence = Sequence::new(store.clone(), Folder::ManifestFloor);
    let slot = sequence.create(1, body(&store, "ours"), Cause::Manifest, None).await.unwrap();
    assert!(
        matches!(slot, Slot::Theirs(found) if found.len() as u64 == Name::ManifestFloor(1).most_bytes() + 1)
    );
}

#[tokio::test]
async fn a_listing_that_breaks_off_is_no_listing() {
    let faulty = faulty();
    let store = faulty.store();
    for slot in 1..=10 {
        store.put_new(&Name::Wal(slot), vec![pattern(1)], Cause::Wal).await.unwrap();
    }
    faulty.add(Rule::on(Operation::List).first(3).meets(Fault::DropReply));
    assert_eq!(store.list(Folder::Wal, None, Cause::Gc).await.unwrap().len(), 10);
    faulty.clear();
    faulty.add(Rule::on(Operation::List).meets(Fault::DropReply));
    let error = store.list(Folder::Wal, None, Cause::Gc).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}

#[tokio::test]
async fn a_dead_store_is_unavailable_after_the_deadline_and_says_what_was_tried() {
    let faulty = faulty();
    faulty.add(Rule::on(Operation::Any));
    let store = faulty.store();
    let start = store.clock().monotonic();
    let error = store.get(&Name::Manifest(3), Cause::Open).await.unwrap_err();
    let tried = store.clock().monotonic() - start;
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    for words in ["GET at faulty://", "attempts", "manifest/00000000000000000003", "on purpose"] {
        assert!(error.to_string().contains(words), "{error}");
    }
    assert!(tried > Duration::from_secs(25) && tried < Duration::from_secs(35), "{tried:?}");
    let short = store.clone().with_deadline(Duration::from_millis(200));
    assert_eq!(short.get(&Name::Manifest(3), Cause::Open).await.unwrap_err().kind(), ErrorKind::Unavailable);
    let seen = store.stats().snapshot().count(RequestKind::Get, Cause::Open);
    assert_eq!(seen.requests, faulty.faults());
    assert_eq!(seen.failures, seen.requests);
}

#[tokio::test]
async fn a_hanging_request_ends_by_its_limit_and_is_tried_again() {
    let faulty = FaultyStore::memory(SystemClock::shared(), 1);
    let store = faulty.store().with_deadline(Duration::from_millis(300));
    store.put_new(&Name::Identity, vec![pattern(5)], Cause::Open).await.unwrap();
    faulty.add(Rule::on(Operation::Get).meets(Fault::Delay(Duration::from_secs(3600))));
    let error = store.get(&Name::Identity, Cause::Open).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("no answer within"), "{error}");
}

#[tokio::test]
async fn a_deletion_goes_on_where_it_failed() {
    let faulty = faulty();
    let store = faulty.store();
    let names: Vec<_> = (1..=20).map(Name::Wal).collect();
    for name in &names {
        store.put_new(name, vec![pattern(1)], Cause::Wal).await.unwrap();
    }
    faulty.add(Rule::on(Operation::Delete).path("00005").nth(1).meets(Fault::FailBefore));
    faulty.add(Rule::on(Operation::Delete).path("00007").nth(1).meets(Fault::DropReply));
    faulty.add(Rule::on(Operation::Delete).path("00009").meets(Fault::FalseMissing));
    store.delete(&names, Cause::Gc).await.unwrap();
    assert_eq!(store.list(Folder::Wal, None, Cause::Gc).await.unwrap().len(), 1);
    assert_eq!(faulty.faults(), 3);
}

#[tokio::test]
async fn an_upload_survives_what_can_be_survived() {
    let faulty = faulty();
    let store = faulty.store();
    let large = pattern(65 << 20);
    // A part is lost: the whole is sent again.
    faulty.add(Rule::on(Operation::Part).nth(3).meets(Fault::DropReply));
    faulty.add(Rule::on(Operation::Begin).nth(1).meets(Fault::FailBefore));
    store.put_new(&Name::Sst(id(1)), vec![large.clone()], Cause::Compact).await.unwrap();
    assert_eq!(faulty.faults(), 2);
    assert!(faulty.sound_store().get(&Name::Sst(id(1)), Cause::Read).await.unwrap().unwrap() == large);
    // The answer of the last step is lost: the size says that it was done.
    faulty.clear();
    faulty.add(Rule::on(Operation::Complete).nth(1).meets(Fault::DropReply));
    let mut upload = store.upload(&Name::Sst(id(2)), Cause::Compact);
    upload.write(vec![large.slice(..20 << 20)]).await.unwrap();
    assert_eq!(upload.finish().await.unwrap(), 20 << 20);
    // The last step was not done: an error, and no object.
    faulty.clear();
    faulty.add(Rule::on(Operation::Complete).nth(1).meets(Fault::FailBefore));
    let mut upload = store.upload(&Name::Sst(id(3)), Cause::Compact);
    upload.write(vec![large.slice(..20 << 20)]).await.unwrap();
    assert_eq!(upload.finish().await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(store.get(&Name::Sst(id(3)), Cause::Read).await.unwrap(), None);
}

#[tokio::test]
async fn through_a_store_that_fails_a_third_of_the_time_everything_arrives() {
    for seed in 0..10 {
        let faulty = FaultyStore::memory(impatient(), seed);
        for (operation, fault) in [
            (Operation::Any, Fault::FailBefore),
            (Operation::Any, Fault::DropReply),
            (Operation::Put, Fault::FalseConflict),
            (Operation::Put, Fault::Duplicate),
            (Operation::Get, Fault::Truncate(20)),
        ] {
            faulty.add(Rule::on(operation).chance(0.1).meets(fault));
        }
        let store = faulty.store();
        let wal = Sequence::new(store.clone(), Folder::Wal);
        for n in 1..=20u64 {
            let bytes = body(&store, &format!("number {n}"));
            assert_eq!(wal.create(n, bytes, Cause::Wal, None).await.unwrap(), Slot::Ours);
            store.put_new(&Name::Sst(id(n)), vec![pattern(100)], Cause::Flush).await.ok();
        }
        assert_eq!(wal.latest(0, Cause::Open).await.unwrap(), Some(20), "seed {seed}");
        assert!(faulty.faults() > 10);
    }
}

#[cfg(feature = "s3")]
#[tokio::test]
async fn a_wrong_endpoint_is_named_after_a_few_seconds() {
    let url = "s3://b/p?endpoint=http://127.0.0.1:1&access_key_id=CANARY&secret_access_key=CANARY";
    let store = Store::open(url, impatient()).unwrap();
    let start = store.clock().monotonic();
    let error = store.get(&Name::Identity, Cause::Open).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("check that the endpoint"), "{error}");
    assert!(!error.to_string().contains("CANARY"), "{error}");
    assert!(store.clock().monotonic() - start < Duration::from_secs(8));
}

#[tokio::test]
async fn a_directory_below_a_file_is_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let store = Store::open(file.join("db").to_str().unwrap(), impatient()).unwrap();
    let error = store.put_new(&Name::Identity, vec![pattern(1)], Cause::Open).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(error.to_string().contains("a file lies where a directory should be"), "{error}");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn what_a_file_system_never_takes_is_refused_at_once_with_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("loop", dir.path().join("loop")).unwrap();
    std::fs::create_dir_all(dir.path().join("taken/DB")).unwrap();
    let long = dir.path().join("x".repeat(300));
    for (place, why) in [
        (std::path::Path::new("/proc/nowhere"), "no directory can be made there"),
        (&dir.path().join("loop"), "a loop of symbolic links"),
        (&long, "does not take this name"),
        (&dir.path().join("taken"), "a directory lies where a file should be"),
    ] {
        let store = Store::open(place.to_str().unwrap(), SystemClock::shared()).unwrap();
        let started = store.clock().monotonic();
        let error = store.put_new(&Name::Identity, vec![pattern(100)], Cause::Open).await.unwrap_err();
        let created = store.create(&Name::Wal(1), body(&store, "x"), Cause::Wal, None);
        if !why.contains("lies") {
            let error = created.await.unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
        assert!(error.to_string().contains(why) && error.hint_text().is_some(), "{error}");
        assert!(store.clock().monotonic() - started < Duration::from_secs(2), "{error}");
    }
    let nowhere = Store::open("/proc/nowhere", SystemClock::shared()).unwrap();
    let started = nowhere.clock().monotonic();
    let error = probe(&nowhere, Depth::Short).await.unwrap_err();
    assert!(error.to_string().contains("no directory can be made there"), "{error}");
    assert!(nowhere.clock().monotonic() - started < Duration::from_secs(2));
}

#[cfg(feature = "s3")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn minio_behaves_like_memory_and_says_what_is_wrong() {
    let clock = SystemClock::shared();
    let Some(minio) = Minio::start(&clock).await.unwrap() else {
        eprintln!("skipped: no minio binary");
        return;
    };
    let store = Store::open(&minio.url("bucket/some/prefix"), clock.clone()).unwrap();
    behaves(&store).await;
    let report = probe(&store, Depth::Short).await.unwrap();
    assert!(report.is_ok(), "{report}");
    // The second database in the bucket sees nothing of the first.
    let beside = Store::open(&minio.url("bucket/some"), clock.clone()).unwrap();
    assert_eq!(beside.get(&Name::Manifest(1), Cause::Open).await.unwrap(), None);

    let missing = Store::open(&minio.url("no-such-bucket/db"), clock.clone()).unwrap();
    let sequence = Sequence::new(missing.clone(), Folder::Manifest);
    for error in [
        missing.get(&Name::Identity, Cause::Open).await.unwrap_err(),
        missing.list(Folder::Manifest, None, Cause::Open).await.unwrap_err(),
        missing.put_new(&Name::Identity, vec![pattern(1)], Cause::Open).await.unwrap_err(),
        sequence.create(1, body(&missing, "x"), Cause::Open, Some(Duration::from_secs(9))).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert!(error.to_string().contains("the bucket does not exist"), "{error}");
    }
    let url = minio.url("bucket/db");
    for (from, to, words) in [
        ("secret_access_key=s", "secret_access_key=CANARY", "the secret access key is wrong"),
        ("access_key_id=k", "access_key_id=CANARY", "the access key id is not known"),
    ] {
        let wrong = Store::open(&url.replace(from, to), clock.clone()).unwrap();
        let error = wrong.get(&Name::Identity, Cause::Open).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert!(error.to_string().contains(words), "{error}");
        assert!(!error.to_string().contains("CANARY"), "{error}");
    }
}

/// What the engine does in tasks must be possible in tasks; a future that is not `Send` fails here to
/// compile, and not three floors up.
#[test]
fn every_future_of_the_store_can_go_to_a_task() {
    fn is_send(_: impl Send) {}
    let store = Store::open("memory://", SystemClock::shared()).unwrap();
    let sequence = Sequence::new(store.clone(), Folder::Wal);
    let mut upload = store.upload(&Name::Identity, Cause::Flush);
    is_send(upload.write(vec![]));
    is_send(upload.finish());
    is_send(store.upload(&Name::Identity, Cause::Flush).abort());
    is_send(store.get(&Name::Identity, Cause::Open));
    is_send(store.get_range(&Name::Identity, 0..1, Cause::Open));
    is_send(store.get_ranges(&Name::Identity, &[], Cause::Open));
    is_send(store.put_new(&Name::Identity, vec![], Cause::Open));
    is_send(store.list(Folder::Wal, None, Cause::Open));
    is_send(store.delete(&[], Cause::Open));
    is_send(sequence.create(1, vec![], Cause::Open, None));
    is_send(sequence.latest(1, Cause::Open));
    is_send(probe(&store, Depth::Short));
    is_send(Minio::start(store.clock()));
}
