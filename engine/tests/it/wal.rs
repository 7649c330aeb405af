//! Tests of taking the log over: fences, strays, zombies, holes; and of following it.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use esker::{
    ErrorKind,
    clock::SystemClock,
    codec::frame::Codec,
    key::{Kind, Seq},
    manifest::{Edit, Manifest, StoredOptions, View},
    stats::{Cause, RequestKind},
    store::{Folder, Name, Sequence, Slot, Store},
    testing::{Fault, FaultyStore, Latency, Operation, Rule, SimClock},
    wal::{
        Cursor, LogBuffer, Op, Opened, Opening, WalHeader, WalObject, Walk,
        record::{encode_data, encode_fence},
    },
};
use proptest::prelude::*;

use crate::virtual_time::simulated;

/// How many times a writer in these tests fills its window before it looks at the manifest.
const WINDOWS_A_FLUSH: u32 = 200;

/// A database with window `k`.
async fn database(k: u32) -> Manifest {
    database_in(FaultyStore::memory(SystemClock::shared(), 1).store(), k).await
}

async fn database_in(store: Store, k: u32) -> Manifest {
    let options = StoredOptions { retention_ms: 900_000, wal_window: k, ..StoredOptions::default() };
    Manifest::open_or_create(store, options).await.expect("created")
}

/// A second process on the same database.
async fn elsewhere(manifest: &Manifest) -> Manifest {
    Manifest::open(manifest.store().clone()).await.expect("opened")
}

async fn claim(manifest: &Manifest, name: &str) -> Arc<View> {
    let base = manifest.latest(Cause::Open).await.expect("read");
    let edit = Edit::ClaimWriter { uuid: 1, name: name.to_owned() };
    manifest.commit(&base, &edit, Cause::Open).await.expect("claimed")
}

/// What a takeover replays: the values, in order.
async fn take_over(
    manifest: &Manifest,
    claimed: Arc<View>,
    name: &str,
) -> esker::Result<(Opened, Vec<Bytes>)> {
    let mut opening = Opening::begin(manifest, claimed, 1, name);
    let (mut values, mut last) = (Vec::new(), 0);
    while let Some(object) = opening.next().await? {
        for entry in object.entries {
            assert!(entry.seq > last, "sequence numbers must ascend");
            last = entry.seq;
            values.push(entry.value);
        }
    }
    Ok((opening.finish().await?, values))
}

/// A DATA object with one put of `value`.
fn data(manifest: &Manifest, epoch: u32, slot: u64, seq: Seq, value: &str) -> Bytes {
    let mut log = LogBuffer::new(seq);
    let op = Op { kind: Kind::Put, key: b"\0\0\0\0k", expire_at_ms: 0, value: value.as_bytes() };
    log.append(seq, [op].into_iter(), drop);
    encode_data(&header(manifest, epoch, slot, seq), &log.seal(seq + 1), Codec::Lz4)
}

fn header(manifest: &Manifest, epoch: u32, slot: u64, first_seq: Seq) -> WalHeader {
    let token = manifest.store().clock().random().to_le_bytes();
    WalHeader {
        db_uuid: manifest.identity().db_uuid,
        writer_uuid: 1,
        epoch,
        slot,
        token,
        first_seq,
        durable_to: 0,
    }
}

async fn put(manifest: &Manifest, slot: u64, body: Bytes) -> Slot {
    let log = Sequence::new(manifest.store().clone(), Folder::Wal);
    log.create(slot, vec![body], Cause::Wal, None).await.expect("the store is sound")
}

async fn walk(manifest: &Manifest) -> Vec<Bytes> {
    let view = manifest.latest(Cause::Read).await.expect("read");
    let mut walk = Walk::new(manifest, Cursor::start(&view.root), Cause::Read);
    let mut values = Vec::new();
    while let Some(object) = walk.next().await.expect("sound") {
        let WalObject::Data { entries, .. } = object else { panic!("a walk gives DATA only") };
        values.extend(entries.into_iter().map(|entry| entry.value));
    }
    values
}

#[tokio::test]
async fn an_empty_log_is_fenced_at_its_first_slot() {
    for k in [1, 2, 8] {
        let manifest = database(k).await;
        let claimed = claim(&manifest, "w").await;
        let (opened, values) = take_over(&manifest, claimed, "w").await.expect("ours");
        assert_eq!((opened.fence_slot, opened.next_slot, opened.last_seq), (1, 1 + k as u64, 0));
        assert!(values.is_empty());
    }
}

#[tokio::test]
async fn what_was_written_is_replayed_in_order_and_strays_never_are() {
    for k in [1u32, 2, 8] {
        let manifest = database(k).await;
        let first = claim(&manifest, "first").await;
        let (opened, _) = take_over(&manifest, first, "first").await.expect("ours");
        let t = opened.next_slot;
        for n in 0..20 {
            put(&manifest, t + n, data(&manifest, 1, t + n, n + 1, &format!("a{n}"))).await;
        }
        // In flight when the writer is taken over: slots t+20 … t+20+K-1, of which the first has not landed.
        let strays: Vec<_> = (20..20 + k as u64).collect();
        if let Some(landed) = strays.get(1) {
            put(&manifest, t + landed, data(&manifest, 1, t + landed, landed + 1, "early stray")).await;
        }
        let (second, values) =
            take_over(&manifest, claim(&manifest, "second").await, "second").await.expect("ours");
        assert_eq!(values, (0..20).map(|n| format!("a{n}")).collect::<Vec<_>>());
        assert_eq!((second.fence_slot, second.last_seq), (t + 20, 20));
        let mut taken = 0;
        for n in strays {
            let late = put(&manifest, t + n, data(&manifest, 1, t + n, n + 1, "late stray")).await;
            taken += u32::from(matches!(late, Slot::Theirs(_)));
        }
        assert!(taken > 0, "the slot that a zombie waits for is taken by the fence");
        put(&manifest, second.next_slot, data(&manifest, 2, second.next_slot, 21, "b0")).await;
        let mut expected: Vec<_> = (0..20).map(|n| format!("a{n}")).collect();
        expected.push("b0".into());
        assert_eq!(walk(&manifest).await, expected, "K = {k}");
    }
}

#[tokio::test]
async fn the_older_of_two_openers_is_fenced_and_told_by_whom() {
    let manifest = database(4).await;
    let old = claim(&manifest, "old-host:1").await;
    let other = elsewhere(&manifest).await;
    let new = claim(&other, "new-host:2").await;
    take_over(&other, new, "new-host:2").await.expect("ours");
    let error = take_over(&manifest, old, "old-host:1").await.expect_err("fenced");
    assert_eq!(error.kind(), ErrorKind::Fenced);
    assert!(error.to_string().contains("new-host:2"), "{error}");
}

#[tokio::test]
async fn an_opener_that_is_superseded_between_fence_and_check_is_fenced() {
    let manifest = database(2).await;
    let mut opening = Opening::begin(&manifest, claim(&manifest, "old").await, 1, "old");
    assert!(opening.next().await.expect("nothing is in the way").is_none());
    claim(&elsewhere(&manifest).await, "new").await;
    let error = opening.finish().await.expect_err("the epoch is gone");
    assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
}

#[tokio::test]
async fn a_slot_that_must_exist_and_does_not_is_corruption_that_names_it() {
    let manifest = database(2).await;
    let (opened, _) = take_over(&manifest, claim(&manifest, "w").await, "w").await.expect("ours");
    let t = opened.next_slot;
    for n in 0..8 {
        put(&manifest, t + n, data(&manifest, 1, t + n, n + 1, "v")).await;
    }
    // A hole in the middle: what lies K behind it was sent only after it was acknowledged.
    let lost = Name::Wal(t + 3);
    manifest.store().delete(std::slice::from_ref(&lost), Cause::Gc).await.expect("deleted");
    let error = take_over(&manifest, claim(&manifest, "next").await, "next").await.expect_err("a hole");
    assert_eq!(
        (error.kind(), error.object()),
        (ErrorKind::Corruption, Some(lost.path().as_str())),
        "{error}"
    );

    // A hole at the end, which only the manifest's hint can tell.
    let manifest = database(2).await;
    let claimed = claim(&manifest, "w").await;
    let (opened, _) = take_over(&manifest, claimed, "w").await.expect("ours");
    put(&manifest, 3, data(&manifest, 1, 3, 1, "v")).await;
    let hint =
        Edit::Flush { epoch: 1, ssts: vec![], replay_from: 1, tail_hint: 4, last_seq: 0, counter_floor: 0 };
    manifest.commit(&opened.view, &hint, Cause::Flush).await.expect("committed");
    let error = take_over(&manifest, claim(&manifest, "next").await, "next").await.expect_err("a hole");
    assert_eq!(
        (error.kind(), error.object()),
        (ErrorKind::Corruption, Some(Name::Wal(4).path().as_str())),
        "{error}"
    );
}

#[tokio::test]
async fn a_lost_object_is_told_from_one_that_was_never_written_by_what_the_next_one_says() {
    for (durable_to, is_lost) in [(3, false), (4, true)] {
        let manifest = database(8).await;
        let (opened, _) = take_over(&manifest, claim(&manifest, "w").await, "w").await.expect("ours");
        let t = opened.next_slot;
        put(&manifest, t, data(&manifest, 1, t, 1, "kept")).await;
        // Slot t+1 is absent; the object in t+2 was sent when slots up to t, or up to t+1, were durable.
        let mut log = LogBuffer::new(3);
        let op = Op { kind: Kind::Put, key: b"\0\0\0\0k", expire_at_ms: 0, value: b"behind" };
        log.append(3, [op].into_iter(), drop);
        let header = WalHeader { durable_to: t + durable_to - 3, ..header(&manifest, 1, t + 2, 3) };
        put(&manifest, t + 2, encode_data(&header, &log.seal(4), Codec::None)).await;
        match take_over(&manifest, claim(&manifest, "next").await, "next").await {
            Ok((opened, values)) => {
                assert!(!is_lost, "slot {} was durable, and is gone", t + 1);
                assert_eq!((opened.fence_slot, values), (t + 1, vec![Bytes::from_static(b"kept")]));
            }
            Err(error) => {
                assert!(is_lost, "a crash is no loss: {error}");
                assert_eq!(error.object(), Some(Name::Wal(t + 1).path().as_str()), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn what_is_in_ssts_is_not_replayed() {
    let manifest = database(2).await;
    let (opened, _) = take_over(&manifest, claim(&manifest, "w").await, "w").await.expect("ours");
    for n in 0..4 {
        put(&manifest, 3 + n, data(&manifest, 1, 3 + n, n + 1, &format!("v{n}"))).await;
    }
    let flush =
        Edit::Flush { epoch: 1, ssts: vec![], replay_from: 4, tail_hint: 6, last_seq: 3, counter_floor: 0 };
    manifest.commit(&opened.view, &flush, Cause::Flush).await.expect("committed");
    let (opened, values) = take_over(&manifest, claim(&manifest, "w").await, "w").await.expect("ours");
    assert_eq!((values, opened.last_seq), (vec![Bytes::from_static(b"v3")], 4));
}

#[tokio::test]
async fn following_an_idle_log_costs_one_get_a_time() {
    let manifest = database(4).await;
    let (opened, _) = take_over(&manifest, claim(&manifest, "w").await, "w").await.expect("ours");
    let mut walk = Walk::new(&manifest, Cursor::start(&opened.view.root), Cause::Poll);
    assert!(walk.next().await.expect("sound").is_none());
    let before = manifest.store().stats().snapshot();
    for _ in 0..10 {
        assert!(walk.next().await.expect("sound").is_none());
    }
    let spent = manifest.store().stats().snapshot().since(&before);
    assert_eq!(spent.count(RequestKind::Get, Cause::Poll).requests, 10);
    let t = opened.next_slot;
    for n in 0..3 {
        put(&manifest, t + n, data(&manifest, 1, t + n, n + 1, "v")).await;
        assert!(walk.next().await.expect("sound").is_some());
    }
    let cursor = walk.cursor();
    assert_eq!((cursor.slot, cursor.max_epoch, cursor.after_seq), (t + 3, 1, 0));
}

#[tokio::test]
async fn a_cursor_steps_over_void_objects_of_either_kind() {
    let manifest = database(8).await;
    let object = |epoch, fence: bool| {
        let bytes = if fence {
            encode_fence(&header(&manifest, epoch, 5, 0), "w")
        } else {
            data(&manifest, epoch, 5, 1, "v")
        };
        WalObject::decode(5, manifest.identity().db_uuid, bytes).expect("sound")
    };
    let from = Cursor { slot: 5, max_epoch: 3, ..Cursor::default() };
    for (epoch, fence, counts, slot, max_epoch) in
        [(3, false, true, 6, 3), (4, true, true, 13, 4), (2, false, false, 6, 3), (2, true, false, 6, 3)]
    {
        let mut cursor = from;
        assert_eq!(cursor.pass(&object(epoch, fence), 8).expect("one writer wrote all"), counts);
        assert_eq!((cursor.slot, cursor.max_epoch), (slot, max_epoch));
    }
}

#[test]
fn an_opener_takes_the_log_from_a_writer_that_keeps_writing() {
    let mut fenced = 0;
    for (seed, k) in (0..20).flat_map(|seed| [1u32, 2, 8].map(|k| (seed, k))) {
        fenced += usize::from(simulated(take_over_while_it_writes(seed, k)));
    }
    assert!(fenced > 40, "the log itself fenced the writer in {fenced} of 60 runs only");
}

/// Every request takes a time of its own, so that each seed is another order of them; with every other seed the writer
/// rests between two windows, for with eight objects always on their way it is quicker than the opener at nearly every
/// slot, until it looks at the manifest. Gives whether it learned of the opener from the log, and not from the
/// manifest, which it asks now and then as a flush does.
async fn take_over_while_it_writes(seed: u64, k: u32) -> bool {
    let faulty = FaultyStore::memory(SimClock::shared(seed), seed);
    let slowly = Latency::Uniform(Duration::from_millis(1), Duration::from_millis(5));
    faulty.add(Rule::on(Operation::Any).meets(Fault::Latency(slowly)));
    let manifest = database_in(faulty.node("new").store(), k).await;
    let (opened, _) = take_over(&manifest, claim(&manifest, "old").await, "old").await.expect("ours");
    let old = Manifest::open(faulty.node("old").store()).await.expect("opened");
    let first = opened.next_slot;
    let writer = async {
        let mut acknowledged = 0;
        loop {
            for _ in 0..WINDOWS_A_FLUSH {
                let window = (0..k as u64).map(|n| {
                    let (slot, value) = (first + acknowledged + n, format!("{}", acknowledged + n));
                    put(&old, slot, data(&old, 1, slot, acknowledged + n + 1, &value))
                });
                for verdict in futures::future::join_all(window).await {
                    match verdict {
                        Slot::Ours => acknowledged += 1,
                        Slot::Theirs(_) => return (acknowledged, true),
                    }
                }
                if seed % 2 == 1 {
                    old.store().clock().sleep(Duration::from_millis(10)).await;
                }
            }
            if old.latest(Cause::Flush).await.expect("read").root.writer.epoch > 1 {
                return (acknowledged, false);
            }
        }
    };
    let opener = async {
        while manifest.store().get(&Name::Wal(first + 5), Cause::Wal).await.expect("read").is_none() {}
        let claimed = claim(&manifest, "new").await;
        take_over(&manifest, claimed, "new").await.expect("ours").1
    };
    let ((acknowledged, fenced), values) = tokio::join!(writer, opener);
    let expected: Vec<_> = (0..acknowledged).map(|n| n.to_string()).collect();
    assert_eq!(values, expected, "seed {seed}, K = {k}");
    fenced
}

/// One writer of the model below.
struct Writer {
    epoch: u32,
    first: u64,
    sent: u64,
    landed: HashSet<u64>,
    acknowledged: u64,
    in_flight: BTreeMap<u64, Bytes>,
    next_seq: Seq,
    fenced: bool,
}

#[derive(Debug, Clone)]
enum Step {
    /// A new writer takes over; the one before it lives on, if it can.
    TakeOver,
    /// The writer (counted from the newest) sends an object.
    Send(usize),
    /// One of its objects in flight lands.
    Land(usize, usize),
    /// The newest writer flushes what it has acknowledged.
    Flush,
    /// Collection deletes DATA before the replay point.
    Collect,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        1 => Just(Step::TakeOver),
        6 => (0usize..3).prop_map(Step::Send),
        8 => (0usize..3, any::<usize>()).prop_map(|(writer, which)| Step::Land(writer, which)),
        1 => Just(Step::Flush),
        1 => Just(Step::Collect),
    ];
    prop::collection::vec(step, 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// I5, I6 and I7 of the protocol, whatever lands when: an acknowledged write is replayed or flushed, in
    /// order; what a takeover has not seen never appears again.
    #[test]
    fn no_acknowledged_write_is_lost_and_no_dead_one_comes_back(k in prop::sample::select(vec![1u32, 2, 3, 8]), steps in steps()) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(async {
            let manifest = database(k).await;
            let mut writers: Vec<Writer> = Vec::new();
            let (mut acknowledged, mut dead, mut written) = (Vec::<String>::new(), HashSet::new(), HashSet::new());
            // Of the acknowledged, how many are in SSTs; and the view to commit on.
            let (mut flushed, mut flushed_to) = (0, 0);
            for step in steps.into_iter().chain([Step::TakeOver]) {
                match step {
                    Step::TakeOver => {
                        let claimed = claim(&manifest, "w").await;
                        let (opened, values) = take_over(&manifest, claimed, "w").await.expect("the newest opener wins");
                        let values: Vec<String> =
                            values.iter().map(|value| String::from_utf8_lossy(value).into_owned()).collect();
                        prop_assert!(values.starts_with(&acknowledged[flushed..]), "{values:?} lacks some of {acknowledged:?}");
                        prop_assert!(values.iter().all(|value| !dead.contains(value)), "{values:?} holds one of {dead:?}");
                        // From here on all that is replayed is as good as acknowledged, the rest is dead.
                        acknowledged.truncate(flushed);
                        acknowledged.extend(values);
                        dead = written.iter().filter(|value| !acknowledged.contains(value)).cloned().collect();
                        writers.push(Writer {
                            epoch: opened.view.root.writer.epoch,
                            first: opened.next_slot,
                            sent: 0,
                            landed: HashSet::new(),
                            acknowledged: 0,
                            in_flight: BTreeMap::new(),
                            next_seq: opened.last_seq + 1,
                            fenced: false,
                        });
                        flushed_to = opened.fence_slot;
                    }
                    Step::Send(who) => {
                        let Some(writer) = writers.iter_mut().nth_back(who) else { continue };
                        if writer.sent - writer.acknowledged < k as u64 && !writer.fenced {
                            let slot = writer.first + writer.sent;
                            let value = format!("{}.{}", writer.epoch, writer.sent);
                            let body = data(&manifest, writer.epoch, slot, writer.next_seq + writer.sent, &value);
                            writer.in_flight.insert(writer.sent, body);
                            written.insert(value);
                            writer.sent += 1;
                        }
                    }
                    Step::Land(who, which) => {
                        let newest = writers.len();
                        let Some((at, writer)) = writers.iter_mut().enumerate().nth_back(who) else { continue };
                        let Some(n) = writer.in_flight.keys().nth(which % writer.in_flight.len().max(1)).copied() else { continue };
                        let body = writer.in_flight.remove(&n).expect("it was there");
                        match put(&manifest, writer.first + n, body).await {
                            Slot::Ours => { writer.landed.insert(n); }
                            Slot::Theirs(_) => writer.fenced = true,
                        }
                        while writer.landed.contains(&writer.acknowledged) {
                            prop_assert_eq!(at + 1, newest, "a fenced writer has acknowledged a write");
                            acknowledged.push(format!("{}.{}", writer.epoch, writer.acknowledged));
                            writer.acknowledged += 1;
                        }
                    }
                    Step::Flush => {
                        let Some(writer) = writers.last() else { continue };
                        let base = manifest.latest(Cause::Flush).await.expect("read");
                        let to = if writer.acknowledged > 0 { writer.first + writer.acknowledged } else { flushed_to };
                        let last_seq = writer.next_seq + writer.acknowledged - 1;
                        let flush = Edit::Flush {
                            epoch: writer.epoch,
                            ssts: vec![],
                            replay_from: to,
                            tail_hint: to - 1,
                            last_seq,
                            counter_floor: 0,
                        };
                        manifest.commit(&base, &flush, Cause::Flush).await.expect("committed");
                        flushed = acknowledged.len();
                    }
                    Step::Collect => {
                        let view = manifest.latest(Cause::Gc).await.expect("read");
                        let uuid = manifest.identity().db_uuid;
                        for slot in 1..view.root.writer.replay_from {
                            let name = Name::Wal(slot);
                            let Some(bytes) = manifest.store().get(&name, Cause::Gc).await.expect("read") else { continue };
                            if matches!(WalObject::decode(slot, uuid, bytes).expect("sound"), WalObject::Data { .. }) {
                                manifest.store().delete(&[name], Cause::Gc).await.expect("deleted");
                            }
                        }
                    }
                }
            }
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn whoever_waits_for_a_log_that_the_disk_refuses_is_told_at_once_and_it_goes_on_when_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let (log, away) = (dir.path().join("db/wal"), dir.path().join("away"));
    let builder =
        esker::Db::builder(dir.path().join("db").to_str().unwrap()).compaction(esker::Compaction::Off);
    let db = builder.open().await.unwrap();
    db.put("a", "1").await.unwrap();
    std::fs::rename(&log, &away).unwrap();
    std::fs::write(&log, "a file").unwrap();
    let started = db.store().clock().monotonic();
    let error = db.put("b", "2").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error}");
    assert!(error.to_string().contains("a file lies where a directory should be"), "{error}");
    assert!(db.store().clock().monotonic() - started < Duration::from_secs(5), "{error}");
    std::fs::remove_file(&log).unwrap();
    std::fs::rename(&away, &log).unwrap();
    // Tried again before long; until then the reason stands.
    while let Err(error) = db.sync().await {
        assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error}");
        tokio::task::yield_now().await;
    }
    assert_eq!(db.get("b").await.unwrap().as_deref(), Some(&b"2"[..]));
    db.close().await.unwrap();
}
