//! A log that has lost objects: what can be proved is `Corruption` that names the slot, for whoever opens the
//! database to write or to read, and for verify; what a crash leaves behind is not.

mod foreign;
mod polling;
mod versions;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use esker::{
    Compaction, Db, Error, ErrorKind, Reader, Result,
    clock::{SharedClock, SystemClock},
    codec::frame::Codec,
    key::{Kind, Seq},
    manifest::{Edit, Manifest, View},
    repair::{Outcome, RepairOptions, Rung, repair},
    stats::{Cause, RequestKind},
    store::{Folder, Name, Sequence, Store},
    verify::{self, Report, VerifyOptions},
    wal::{
        Author, LogBuffer, Op, Opening, WalHeader,
        record::{encode_data, encode_fence},
    },
};
use object_store::{ObjectStoreExt as _, memory::InMemory, path::Path};

/// K of every database here.
const K: u64 = 8;

/// A database in memory from which a test takes objects away.
#[derive(Clone)]
struct Place(Arc<InMemory>);

impl Place {
    fn new() -> Self {
        Self(Arc::new(InMemory::new()))
    }
    /// The same objects, and from here on its own.
    fn copy(&self) -> Self {
        Self(Arc::new(self.0.fork()))
    }
    fn store_with(&self, clock: SharedClock) -> Store {
        Store::from_object_store(self.0.clone(), "memory://losses", clock)
    }
    fn store(&self) -> Store {
        self.store_with(SystemClock::shared())
    }
    async fn open(&self) -> Result<Db> {
        let builder = Db::builder("memory://losses").object_store(self.0.clone());
        builder.compaction(Compaction::Off).open().await
    }
    /// A reader that follows only when asked.
    async fn reader(&self) -> Result<Reader> {
        Reader::builder("memory://losses").store(self.store()).follow(false).open().await
    }
    async fn manifest(&self) -> Manifest {
        Manifest::open(self.store()).await.expect("there")
    }
    async fn view(&self) -> Arc<View> {
        self.manifest().await.latest(Cause::Admin).await.expect("read")
    }
    async fn slots(&self) -> Vec<u64> {
        let listed = self.store().list(Folder::Wal, None, Cause::Admin).await.expect("listed");
        listed.iter().filter_map(|listed| listed.name.number()).collect()
    }
    async fn lose(&self, slots: &[u64]) {
        let names: Vec<_> = slots.iter().map(|slot| Name::Wal(*slot)).collect();
        self.store().delete(&names, Cause::Gc).await.expect("deleted");
    }
    /// A byte of the object in `slot` is another from here on.
    async fn rot(&self, slot: u64) {
        let name = Name::Wal(slot);
        let mut bytes = self.store().get(&name, Cause::Admin).await.expect("read").expect("there").to_vec();
        *bytes.last_mut().expect("not empty") ^= 1;
        self.0.put(&Path::from(name.path()), bytes.into()).await.expect("put");
    }
    /// Everything that says that the log is whole says that `slot` is lost, and nobody writes anything.
    async fn is_known_to_have_lost(&self, slot: u64) {
        let (slots, version) = (self.slots().await, self.view().await.id());
        is_loss_of(slot, &self.reader().await.expect_err("a reader has opened"));
        is_loss_of(slot, &self.open().await.expect_err("a writer has opened"));
        for quick in [false, true] {
            let report = verified(self, quick).await;
            let found = report.damage().any(|finding| finding.object == Name::Wal(slot));
            assert!(found, "quick {quick}: {:?}", report.findings);
        }
        assert_eq!(self.slots().await, slots, "a slot may have been used twice");
        assert_eq!(self.view().await.id(), version, "an open that is refused commits nothing");
    }
    /// A cut of the log is offered, and done, and says what is `lost`; then everything works, also for a reader that was
    /// there before the loss (`old`), and no slot up to `used` is used again.
    async fn is_mended_by_a_cut(&self, used: u64, lost: &str, old: &Reader) -> Db {
        let told = repair(&self.store(), &RepairOptions::default(), &|_, _| {}).await.expect("told");
        assert!(told.actions.iter().any(|action| action.what.contains("--cut-log")), "{:?}", told.actions);
        let before = self.slots().await;
        let options = RepairOptions { cut_log: true, act: true, ..RepairOptions::default() };
        let done = repair(&self.store(), &options, &|_, _| {}).await.expect("cut");
        let cut = |what: &str| what.contains("the log was cut") && what.contains(lost);
        let says = done.actions.iter().any(|action| action.rung == Rung::CutLog && cut(&action.what));
        assert!(says, "not that {lost}: {:?}", done.actions);
        let after = done.after.expect("something was done");
        assert!(after.is_whole(), "{:?}", after.findings);
        let db = self.open().await.expect("opened");
        db.put("after", "all").await.expect("put");
        let new: Vec<_> = self.slots().await.into_iter().filter(|slot| !before.contains(slot)).collect();
        assert!(new.iter().all(|slot| *slot > used) && new.len() == 3, "{new:?} are new, {used} was used");
        for reader in [old, &self.reader().await.expect("opened")] {
            let now = reader.strong().await.expect("mended");
            assert_eq!(now.get("after").await.expect("read").as_deref(), Some(&b"all"[..]));
        }
        db
    }
}

async fn verified(place: &Place, quick: bool) -> Report {
    let options = VerifyOptions { quick, ..VerifyOptions::default() };
    verify::verify(&place.store(), &options, &|_, _| {}).await.expect("verified")
}

#[track_caller]
fn is_loss_of(slot: u64, error: &Error) {
    assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
    assert_eq!(error.object(), Some(&*Name::Wal(slot).path()), "{error}");
    assert!(error.hint_text().is_some_and(|hint| hint.contains("--cut-log")), "{error}");
}

/// Writes `keys`, each into a log object of its own.
async fn put_all(db: &Db, keys: &[&str]) {
    for key in keys {
        db.put(key, "v").await.expect("put");
    }
}

/// The writer that a version which is there gave `epoch` out to.
async fn writer_of(manifest: &Manifest, epoch: u32) -> u128 {
    let mut view = manifest.latest(Cause::Admin).await.expect("read");
    while view.root.writer.epoch != epoch {
        view = manifest.version(view.id() - 1, Cause::Admin).await.expect("read").expect("there");
    }
    Author::of_version(&view.root).expect("claimed").uuid
}

async fn header(manifest: &Manifest, epoch: u32, slot: u64, first_seq: Seq, durable_to: u64) -> WalHeader {
    let token = manifest.store().clock().random().to_le_bytes();
    let (db_uuid, writer_uuid) = (manifest.identity().db_uuid, writer_of(manifest, epoch).await);
    WalHeader { db_uuid, writer_uuid, epoch, slot, token, first_seq, durable_to }
}

async fn put_body(manifest: &Manifest, slot: u64, body: Bytes) {
    let log = Sequence::new(manifest.store().clone(), Folder::Wal);
    log.create(slot, vec![body], Cause::Wal, None).await.expect("created");
}

/// Puts an object of one entry into `slot`, sent when everything up to `durable_to` was durable.
async fn put_data(manifest: &Manifest, epoch: u32, slot: u64, seq: Seq, durable_to: u64) {
    put_value(manifest, epoch, slot, seq, durable_to, b"v").await;
}

async fn put_value(manifest: &Manifest, epoch: u32, slot: u64, seq: Seq, durable_to: u64, value: &[u8]) {
    let mut log = LogBuffer::new(seq);
    let op = Op { kind: Kind::Put, key: b"\0\0\0\0k", expire_at_ms: 0, value };
    log.append(seq, [op].into_iter(), drop);
    let body =
        encode_data(&header(manifest, epoch, slot, seq, durable_to).await, &log.seal(seq + 1), Codec::Lz4);
    put_body(manifest, slot, body).await;
}

#[tokio::test]
async fn a_hole_that_a_later_object_proves_is_never_read_over() {
    let place = Place::new();
    let db = place.open().await.expect("created");
    put_all(&db, &["a"]).await;
    let reader = place.reader().await.expect("opened");
    put_all(&db, &["b", "c", "d"]).await;
    // A writer that goes on, or has crashed: no version says more than that its fence is there.
    drop(db);
    let first = 1 + K;
    assert_eq!(place.view().await.root.writer.tail_hint, 1);
    for (slot, keys) in [(first + 1, 1), (first + 2, 2), (first, 0)] {
        let place = place.copy();
        let old = place.reader().await.expect("opened");
        place.lose(&[slot]).await;
        place.is_known_to_have_lost(slot).await;
        let lost = format!("lost: number {}", keys + 1);
        let db = place.is_mended_by_a_cut(first + 3, &lost, &old).await;
        let kept = ["a", "b", "c", "d"];
        for (n, key) in kept.iter().enumerate() {
            let value = db.get(key).await.expect("read");
            assert_eq!(value.is_none(), n == keys, "{key} without slot {slot}");
        }
    }
    // A reader that was there before, and came to the hole as to the end of the log.
    place.lose(&[first + 1]).await;
    is_loss_of(first + 1, &reader.strong().await.expect_err("it is not the end"));
    is_loss_of(first + 1, &reader.bounded(Duration::ZERO).await.expect_err("it is not the end"));
    assert_eq!(reader.get("a").await.expect("what it has").as_deref(), Some(&b"v"[..]));
    assert_eq!(reader.get("d").await.expect("what it has"), None);
}

#[tokio::test]
async fn what_a_writer_has_in_flight_and_what_a_crash_leaves_is_no_hole() {
    let place = Place::new();
    drop(place.open().await.expect("created"));
    let manifest = place.manifest().await;
    // K in flight, and all but the first have landed.
    let first = 1 + K;
    for n in 1..K {
        put_data(&manifest, 1, first + n, n + 1, 1).await;
    }
    let reader = place.reader().await.expect("opened");
    reader.strong().await.expect("nothing is missing");
    let report = verified(&place, false).await;
    assert!(report.is_whole(), "{:?}", report.findings);
    // The writer goes on, and everything counts.
    let goes_on = place.copy();
    put_data(&goes_on.manifest().await, 1, first, 1, 1).await;
    let snapshot = goes_on.reader().await.expect("opened").strong().await.expect("read");
    assert_eq!(snapshot.seq(), K);
    // It was taken over instead: they are strays, and whatever they say nobody reads them.
    let db = place.open().await.expect("taken over");
    db.put("b", "v").await.expect("put");
    assert_eq!(db.get("k").await.expect("read"), None);
    let snapshot = reader.strong().await.expect("read");
    assert_eq!((snapshot.get("k").await.expect("read"), snapshot.seq()), (None, 1));
    assert_eq!(place.view().await.root.writer.fence_slot, first);
}

#[tokio::test]
async fn a_damaged_object_behind_the_end_of_the_log_proves_nothing_and_stops_nobody() {
    for large in [false, true] {
        let place = Place::new();
        drop(place.open().await.expect("created"));
        let (manifest, end) = (place.manifest().await, 1 + K);
        // The writer crashed with several in flight; the first never landed, and one behind it rots.
        put_value(&manifest, 1, end + 2, 3, 1, &noise(if large { 4_000 } else { 1 })).await;
        place.rot(end + 2).await;
        let reader = place.reader().await.expect("opened");
        reader.strong().await.expect("nothing is missing");
        let report = verified(&place, false).await;
        assert!(report.is_whole(), "{:?}", report.findings);
        let db = place.open().await.expect("what is damaged never counted");
        db.put("a", "v").await.expect("put");
        let snapshot = reader.strong().await.expect("read");
        assert_eq!(snapshot.get("a").await.expect("read").as_deref(), Some(&b"v"[..]));
        assert_eq!(place.view().await.root.writer.fence_slot, end);
    }
}

#[tokio::test]
async fn where_the_last_object_is_damaged_the_one_before_it_says_what_was_durable() {
    let place = Place::new();
    let db = place.open().await.expect("created");
    put_all(&db, &["a", "b"]).await;
    drop(db);
    let (manifest, lost) = (place.manifest().await, 1 + K + 2);
    put_value(&manifest, 1, lost + 1, 4, lost, &noise(4_000)).await;
    put_value(&manifest, 1, lost + 2, 5, lost, &noise(4_000)).await;
    place.rot(lost + 2).await;
    is_loss_of(lost, &place.reader().await.expect_err("a reader has opened"));
    is_loss_of(lost, &place.open().await.expect_err("a writer has opened"));
    let report = verified(&place, false).await;
    assert!(report.damage().any(|finding| finding.object == Name::Wal(lost)), "{:?}", report.findings);
}

/// Bytes that do not compress.
fn noise(bytes: usize) -> Vec<u8> {
    let clock = SystemClock::shared();
    (0..bytes.div_ceil(16)).flat_map(|_| clock.random().to_le_bytes()).take(bytes).collect()
}

#[tokio::test]
async fn opening_asks_for_each_log_object_once_and_for_none_that_is_not_there() {
    let place = Place::new();
    let db = place.open().await.expect("created");
    put_all(&db, &["a", "b", "c", "d", "e"]).await;
    db.close().await.expect("closed");
    let spent = place.open().await.expect("opened").stats();
    let count = |kind| spent.count(kind, Cause::Open).requests;
    // GET: the identity, the version, the fence and five objects.
    // PUT: the claim, our fence, the version that says that it is there.
    // LIST: versions and the log once, floors three times (the newest, and each commit).
    assert_eq!([RequestKind::Get, RequestKind::Put, RequestKind::List].map(count), [8, 3, 5]);
}

#[tokio::test]
async fn the_fence_of_an_opener_that_went_no_further_proves_what_it_had_walked_over() {
    let place = Place::new();
    let db = place.open().await.expect("created");
    put_all(&db, &["a", "b"]).await;
    drop(db);
    let manifest = place.manifest().await;
    let edit = Edit::ClaimWriter { uuid: 2, name: "crashes".into() };
    let claimed = manifest.commit(&place.view().await, &edit, Cause::Open).await.expect("claimed");
    let mut opening = Opening::begin(&manifest, claimed, 2, "crashes");
    while opening.next().await.expect("sound").is_some() {}
    drop(opening);
    let end = 1 + K + 1;
    assert_eq!(place.slots().await, [1, end - 1, end, end + 1]);
    assert_eq!(place.view().await.root.writer.fence_slot, 1);
    let old = place.reader().await.expect("opened");
    place.lose(&[end]).await;
    place.is_known_to_have_lost(end).await;
    place.is_mended_by_a_cut(end + 1, "numbers from 2 on may be lost", &old).await;
}

#[tokio::test]
async fn the_fence_of_an_older_epoch_than_the_last_proves_nothing() {
    let place = Place::new();
    drop(place.open().await.expect("created"));
    drop(place.open().await.expect("taken over"));
    let fence = place.view().await.root.writer.fence_slot;
    // As an opener puts it that a collection has led astray; the writer of epoch 2 has sent nothing yet.
    let manifest = place.manifest().await;
    let slot = fence + K + 1;
    put_body(&manifest, slot, encode_fence(&header(&manifest, 1, slot, 0, 0).await, "astray")).await;
    place.reader().await.expect("opened").strong().await.expect("nothing is missing");
    let report = verified(&place, false).await;
    assert!(report.is_whole(), "{:?}", report.findings);
}

#[tokio::test]
async fn an_end_of_the_log_that_is_lost_after_closing_is_missed() {
    for flushed in [false, true] {
        let place = Place::new();
        let db = place.open().await.expect("created");
        put_all(&db, &["a", "b"]).await;
        if flushed {
            db.flush().await.expect("flushed");
        }
        put_all(&db, &["c", "d", "e"]).await;
        db.close().await.expect("closed");
        let last = 1 + K + 4;
        assert_eq!(place.slots().await.last(), Some(&last));
        let old = place.reader().await.expect("opened");
        let token = old.strong().await.expect("all of it").seq();
        place.lose(&[last - 1, last]).await;
        place.is_known_to_have_lost(last - 1).await;
        let db = place.is_mended_by_a_cut(last, "numbers from 4 on may be lost", &old).await;
        let now = db.snapshot().seq();
        assert!(now > token, "{now} was given out before: {token} was durable");
        for (key, is_kept) in [("a", true), ("b", true), ("c", true), ("d", false), ("e", false)] {
            assert_eq!(db.get(key).await.expect("read").is_some(), is_kept, "{key}, flushed: {flushed}");
        }
    }
}

#[tokio::test]
async fn a_log_that_is_lost_whole_is_missed_however_its_writer_ended() {
    for (writes, flushes, closes) in [
        (0, false, false),
        (0, false, true),
        (3, false, false),
        (3, false, true),
        (3, true, false),
        (3, true, true),
    ] {
        let what = format!("{writes} writes, flushed: {flushes}, closed: {closes}");
        let place = Place::new();
        let db = place.open().await.expect("created");
        put_all(&db, &["a", "b", "c"][..writes]).await;
        if flushes {
            db.flush().await.expect("flushed");
        }
        if closes {
            db.close().await.expect("closed");
        }
        drop(db);
        let slots = place.slots().await;
        let writer = place.view().await.root.writer.clone();
        assert_eq!((writer.fence_slot, writer.fence_epoch), (1, 1), "{what}");
        let old = place.reader().await.expect("opened");
        place.lose(&slots).await;
        place.is_known_to_have_lost(1).await;
        let lost = format!("numbers from {} on may be lost", if flushes { writes + 1 } else { 1 });
        let db = place.is_mended_by_a_cut(writer.tail_hint, &lost, &old).await;
        for key in &["a", "b", "c"][..writes] {
            assert_eq!(db.get(key).await.expect("read").is_some(), flushes, "{key}: {what}");
        }
    }
}

#[tokio::test]
async fn a_lost_fence_behind_the_replay_point_is_missed_also_by_a_reader_at_work() {
    let place = Place::new();
    let db = place.open().await.expect("created");
    put_all(&db, &["a"]).await;
    db.flush().await.expect("flushed");
    let reader = place.reader().await.expect("opened");
    db.close().await.expect("closed");
    assert!(place.view().await.root.writer.replay_from > 1);
    place.lose(&[1]).await;
    is_loss_of(1, &reader.strong().await.expect_err("no fence is ever deleted"));
    place.is_known_to_have_lost(1).await;
    let db = place.is_mended_by_a_cut(1 + K, "numbers from 2 on may be lost", &reader).await;
    assert_eq!(db.get("a").await.expect("read").as_deref(), Some(&b"v"[..]));
    // The reader goes on with the version that the repair has made.
    assert_eq!(
        reader.strong().await.expect("mended").get("after").await.expect("read").as_deref(),
        Some(&b"all"[..])
    );
}

#[tokio::test]
async fn closing_says_how_far_the_log_goes_and_only_if_no_version_does() {
    let place = Place::new();
    for (keys, flushes, commits) in
        [(&[][..], false, 0), (&["a"][..], false, 1), (&["b", "c"][..], true, 0), (&[][..], false, 0)]
    {
        let db = place.open().await.expect("opened");
        put_all(&db, keys).await;
        if flushes {
            db.flush().await.expect("flushed");
        }
        let (before, spent) = (place.view().await, db.stats());
        db.close().await.expect("closed");
        let after = place.view().await;
        assert_eq!(after.id() - before.id(), commits, "{keys:?}");
        let spent = db.stats().since(&spent);
        assert_eq!(spent.total(RequestKind::Put), commits, "{keys:?}");
        assert!(spent.total(RequestKind::List) <= commits, "{keys:?}");
        let writer = &after.root.writer;
        let last = place.slots().await.last().copied();
        assert_eq!(last, Some(writer.tail_hint), "{keys:?}");
        assert!(writer.fence_slot <= writer.tail_hint && writer.fence_epoch == writer.epoch, "{keys:?}");
    }
}

#[tokio::test]
async fn an_opener_commits_its_fence_and_asks_the_manifest_for_nothing_else() {
    let place = Place::new();
    place.open().await.expect("created").close().await.expect("closed");
    let manifest = place.manifest().await;
    let edit = Edit::ClaimWriter { uuid: 2, name: "counted".into() };
    let claimed = manifest.commit(&place.view().await, &edit, Cause::Open).await.expect("claimed");
    let mut opening = Opening::begin(&manifest, claimed, 2, "counted");
    while opening.next().await.expect("sound").is_some() {}
    let before = manifest.store().stats().snapshot();
    let opened = opening.finish().await.expect("ours");
    let spent = manifest.store().stats().snapshot().since(&before);
    let count = |kind| spent.total(kind);
    // The version, and whether it is above the floor. Reading the newest one was a LIST more, and a GET.
    assert_eq!([RequestKind::Put, RequestKind::List, RequestKind::Get].map(count), [1, 1, 0]);
    let writer = &opened.view.root.writer;
    assert_eq!((writer.fence_slot, writer.fence_epoch), (opened.fence_slot, 2));
}

#[tokio::test]
async fn a_version_that_no_fence_is_known_of_is_read_and_written_as_ever() {
    // As every version was before: nothing says what was there, so nothing is missed.
    let place = Place::new();
    let manifest = {
        drop(place.open().await.expect("created"));
        place.manifest().await
    };
    let first = manifest.version(1, Cause::Admin).await.expect("read").expect("there");
    assert_eq!((first.root.writer.fence_slot, first.root.writer.tail_hint), (0, 0));
    // Version 2 is the claim, 3 the fence.
    let store = place.store();
    store.delete(&[Name::Manifest(3), Name::Wal(1)], Cause::Gc).await.expect("deleted");
    assert_eq!(place.view().await.root.writer.fence_slot, 0);
    place.reader().await.expect("opened").strong().await.expect("read");
    let db = place.open().await.expect("opened");
    db.put("a", "v").await.expect("put");
    assert_eq!(place.view().await.root.writer.fence_slot, 1);
}
