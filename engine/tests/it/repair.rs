//! Damage × remedy: what was readable stays readable, what is lost is said to be lost, and nothing is deleted.

mod beside;
mod diverged;
mod lost;
mod remains;
mod salvaged;

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use esker::{
    Compaction, Db, ErrorKind, Reader,
    clock::SystemClock,
    compaction::{Compactor, Did, collect},
    manifest::{Manifest, StoredShape, View},
    repair::{Outcome, RepairOptions, Rung, repair},
    sst::Tail,
    stats::Cause,
    store::{Folder, Name, Store},
    verify::{self, Report, Severity, VerifyOptions},
};
use futures::TryStreamExt as _;
use object_store::{ObjectStore, ObjectStoreExt as _, memory::InMemory, path::Path};

/// A database in memory whose bytes a test can reach.
#[derive(Clone)]
struct Place(Arc<InMemory>);

impl Place {
    fn new() -> Self {
        Self(Arc::new(InMemory::new()))
    }
    /// The same bytes, and from here on its own.
    fn copy(&self) -> Self {
        Self(Arc::new(self.0.fork()))
    }
    fn store(&self) -> Store {
        let objects: Arc<dyn ObjectStore> = Arc::clone(&self.0) as _;
        Store::from_object_store(objects, "memory://repair", SystemClock::shared())
    }
    async fn open(&self) -> Db {
        let shape = StoredShape { l0_runs: 2, middle_runs: 1, last_runs: 1, ratio: 4, base_bytes: 4096 };
        let builder = Db::builder("memory://repair").object_store(Arc::clone(&self.0) as _);
        builder
            .block_bytes(256)
            .shape(shape)
            .sst_bytes(64 << 10)
            .compaction(Compaction::Off)
            .open()
            .await
            .expect("opened")
    }
    async fn view(&self) -> Arc<View> {
        Manifest::open(self.store()).await.expect("there").latest(Cause::Admin).await.expect("read")
    }
    async fn bytes(&self, name: &Name) -> Bytes {
        self.0.get(&Path::from(name.path())).await.expect("there").bytes().await.expect("read")
    }
    async fn flip(&self, name: &Name, at: usize) {
        let mut bytes = self.bytes(name).await.to_vec();
        bytes[at] ^= 0x20;
        self.0.put(&Path::from(name.path()), bytes.into()).await.expect("damaged");
    }
    async fn remove(&self, name: &Name) {
        self.0.delete(&Path::from(name.path())).await.expect("removed");
    }
    async fn all(&self) -> BTreeMap<String, Bytes> {
        let listed: Vec<_> = self.0.list(None).try_collect().await.expect("listed");
        let mut all = BTreeMap::new();
        for meta in listed {
            let bytes = self.0.get(&meta.location).await.expect("there").bytes().await.expect("read");
            all.insert(meta.location.to_string(), bytes);
        }
        all
    }
    async fn verify(&self) -> Report {
        verify::verify(&self.store(), &VerifyOptions::default(), &|_, _| {}).await.expect("verified")
    }
    async fn repair(&self, options: RepairOptions) -> Outcome {
        let before = self.all().await;
        let told = repair(&self.store(), &RepairOptions { act: false, ..options.clone() }, &|_, _| {})
            .await
            .expect("told");
        assert_eq!(self.all().await, before, "a dry run changed something");
        assert!(told.after.is_none() && told.actions.iter().all(|action| !action.done));
        let done = repair(&self.store(), &RepairOptions { act: true, ..options }, &|_, _| {})
            .await
            .expect("repaired");
        let rungs = |of: &Outcome| {
            of.actions.iter().map(|action| action.rung).filter(|rung| *rung != Rung::Told).collect::<Vec<_>>()
        };
        assert!(
            rungs(&told).len() <= rungs(&done).len(),
            "{:?} was told, {:?} done",
            told.actions,
            done.actions
        );
        let after = self.all().await;
        assert!(before.keys().all(|name| after.contains_key(name)), "an object was deleted");
        done
    }
    /// Every key as a fresh reader sees it.
    async fn read(
        &self,
        keys: &BTreeMap<String, String>,
    ) -> BTreeMap<String, Result<Option<Bytes>, ErrorKind>> {
        let reader = self.reader().await;
        let mut read = BTreeMap::new();
        for key in keys.keys() {
            read.insert(key.clone(), reader.get(key).await.map_err(|error| error.kind()));
        }
        read
    }
    async fn reader(&self) -> Reader {
        Reader::builder("memory://repair").store(self.store()).follow(false).open().await.expect("a reader")
    }
}

fn salvage() -> RepairOptions {
    RepairOptions { salvage: true, name: "a test".to_owned(), ..RepairOptions::default() }
}

fn key(n: usize) -> String {
    format!("key{n:04}")
}

/// Writes keys `range` with a value of this `round`, and flushes.
async fn fill(db: &Db, range: std::ops::Range<usize>, round: &str, model: &mut BTreeMap<String, String>) {
    for n in range {
        let value = format!("{round} of {n}");
        db.put(key(n), &value).accepted().await.expect("accepted");
        model.insert(key(n), value);
    }
    db.flush().await.expect("flushed");
}

/// What is readable is right, and the rest is an error; nothing is absent. Gives how many cannot be read.
fn check(
    read: &BTreeMap<String, Result<Option<Bytes>, ErrorKind>>,
    model: &BTreeMap<String, String>,
) -> usize {
    let mut unreadable = 0;
    for (key, value) in model {
        match &read[key] {
            Ok(Some(found)) => assert_eq!(found, value.as_bytes(), "{key} has a wrong value"),
            Ok(None) => panic!("{key} seems absent"),
            Err(kind) => {
                assert_eq!(*kind, ErrorKind::Corruption, "{key}");
                unreadable += 1;
            }
        }
    }
    unreadable
}

/// Scans both ways: right rows up to the hole, then `Corruption`; never a row passed over.
async fn scans_stop_at_a_hole(place: &Place, model: &BTreeMap<String, String>) {
    let reader = place.reader().await;
    for reverse in [false, true] {
        let rows = reader.scan::<&str>(..);
        let mut rows = if reverse { rows.rev() } else { rows };
        let mut expected: Vec<_> = model.iter().collect();
        if reverse {
            expected.reverse();
        }
        let mut expected = expected.into_iter();
        loop {
            match rows.next().await {
                Ok(Some(row)) => {
                    let (key, value) = expected.next().expect("no more rows than there are");
                    assert_eq!((&row.key[..], &row.value[..]), (key.as_bytes(), value.as_bytes()));
                }
                Ok(None) => panic!("a scan ended well over a hole; {:?} was left", expected.next()),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
                    break;
                }
            }
        }
    }
}

async fn only_sst(place: &Place) -> esker::sst::SstMeta {
    let view = place.view().await;
    let ssts: Vec<_> = view.root.ssts().cloned().collect();
    assert_eq!(ssts.len(), 1);
    ssts[0].clone()
}

#[test]
fn a_repair_can_be_given_to_a_runtime_of_many_threads() {
    fn is_send(_: &impl Send) {}
    let (store, options) = (Place::new().store(), RepairOptions::default());
    is_send(&repair(&store, &options, &|_, _| {}));
    is_send(&verify::verify(&store, &VerifyOptions::default(), &|_, _| {}));
}

#[tokio::test]
async fn any_damaged_block_becomes_a_hole_and_nothing_else_is_lost() {
    let place = Place::new();
    let db = place.open().await;
    let mut model = BTreeMap::new();
    // One key has more versions than fit a block.
    for n in 0..60 {
        db.put(key(30), format!("an older version, number {n}")).accepted().await.expect("accepted");
    }
    fill(&db, 0..60, "first", &mut model).await;
    db.close().await.expect("closed");
    let meta = only_sst(&place).await;
    let name = Name::Sst(meta.object_id());
    let whole = place.bytes(&name).await;
    let tail = Tail::decode(&meta, whole.slice(meta.tail_offset as usize..)).expect("a tail");
    assert!(tail.blocks() > 6, "{} blocks", tail.blocks());
    let mut lost_somewhere = 0;
    for block in 0..tail.blocks() {
        let place = place.copy();
        place.flip(&name, tail.block(block).offset as usize + 3).await;
        let before = place.read(&model).await;
        check(&before, &model);
        let outcome = place.repair(salvage()).await;
        assert!(outcome.before.damage().any(|finding| finding.object == name && finding.offset.is_some()));
        let after = outcome.after.expect("it acted");
        assert!(after.is_whole(), "block {block}: {:?}", after.findings);
        let holes = after.findings.iter().filter(|finding| finding.severity == Severity::Hole).count();
        assert_eq!(holes, 1, "block {block}: {:?}", after.findings);
        let read = place.read(&model).await;
        for (key, value) in &before {
            if value.is_ok() {
                assert_eq!(&read[key], value, "block {block}: {key} was readable");
            }
        }
        lost_somewhere += check(&read, &model);
        scans_stop_at_a_hole(&place, &model).await;
        // A key that is written anew can be read again.
        let db = place.open().await;
        let unreadable: Vec<String> =
            read.iter().filter(|(_, v)| v.is_err()).map(|(k, _)| k.clone()).collect();
        for key in &unreadable {
            db.put(key, "anew").await.expect("put");
            assert_eq!(db.get(key).await.expect("read"), Some(Bytes::from("anew")));
        }
        db.close().await.expect("closed");
    }
    assert!(lost_somewhere >= 40, "{lost_somewhere} keys were in damaged blocks");
}

async fn merge_all(place: &Place) -> usize {
    let manifest = Manifest::open(place.store()).await.expect("there");
    let mut compactor = Compactor::claim(manifest, "a test", true).await.expect("claimed");
    for steps in 0..200 {
        if matches!(compactor.step().await.expect("a step"), Did::Nothing) {
            return steps;
        }
    }
    panic!("merging does not come to an end");
}

#[tokio::test]
async fn a_lost_sst_stops_its_own_range_and_the_rest_is_merged() {
    let place = Place::new();
    let db = place.open().await;
    let mut model = BTreeMap::new();
    fill(&db, 0..120, "oldest", &mut model).await;
    fill(&db, 0..120, "old", &mut model).await;
    fill(&db, 0..120, "older", &mut model).await;
    merge_all(&place).await;
    // The range 40..80 is about to be lost; part of it is written again behind the loss.
    fill(&db, 40..80, "lost", &mut model).await;
    let lost = place.view().await.runs[0].ssts[0].id;
    fill(&db, 50..55, "newer", &mut model).await;
    db.delete(key(60)).await.expect("deleted");
    db.flush().await.expect("flushed");
    db.close().await.expect("closed");
    place.remove(&Name::Sst(lost)).await;
    model.remove(&key(60));
    let gone = BTreeMap::from([(key(60), String::new())]);

    let outcome = place.repair(salvage()).await;
    let after = outcome.after.expect("it acted");
    assert!(after.is_whole(), "{:?}", after.findings);
    let read = place.read(&model).await;
    assert_eq!(check(&read, &model), 40 - 5 - 1);
    assert_eq!(place.read(&gone).await[&key(60)], Ok(None), "a delete is newer than the loss");

    // More is written, over it and beside it, and merged.
    for round in 0..12 {
        let db = place.open().await;
        fill(&db, 0..30, &format!("round {round}"), &mut model).await;
        fill(&db, 70..100, &format!("round {round}"), &mut model).await;
        db.close().await.expect("closed");
        let before = place.read(&model).await;
        merge_all(&place).await;
        let view = place.view().await;
        let l0 = view.runs.iter().filter(|run| run.level == 0 && !run.is_hole()).count();
        assert!(l0 <= 4, "{l0} runs pile up in level 0");
        assert_eq!(place.read(&model).await, before, "a merge made something unreadable");
        assert_eq!(place.read(&gone).await[&key(60)], Ok(None), "a merge dropped a delete over a hole");
    }
    assert_eq!(check(&place.read(&model).await, &model), 40 - 5 - 1 - 10);
    let report = place.verify().await;
    assert!(
        report.is_whole() && report.findings.iter().any(|f| f.severity == Severity::Hole),
        "{:?}",
        report.findings
    );
    // Everything into one run: the hole stays, and what it holds up.
    let manifest = Manifest::open(place.store()).await.expect("there");
    let mut compactor = Compactor::claim(manifest, "a test", true).await.expect("claimed");
    let mut steps = 0;
    while !matches!(compactor.step_all().await.expect("a step"), Did::Nothing) {
        steps += 1;
        assert!(steps < 50, "merging everything does not come to an end");
    }
    assert_eq!(check(&place.read(&model).await, &model), 40 - 5 - 1 - 10);
    assert!(place.view().await.runs.iter().any(|run| run.is_hole()));
}

#[tokio::test]
async fn what_a_copy_has_is_put_back_byte_for_byte() {
    let place = Place::new();
    let db = place.open().await;
    let mut model = BTreeMap::new();
    fill(&db, 0..60, "first", &mut model).await;
    fill(&db, 20..80, "second", &mut model).await;
    merge_all(&place).await;
    for n in 0..5 {
        db.put(key(n), "only in the log").await.expect("put");
        model.insert(key(n), "only in the log".to_owned());
    }
    drop(db);
    let report = place.verify().await;
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    let whole = place.all().await;
    let newest = |folder: &str| whole.keys().rfind(|name| name.starts_with(folder)).expect("some").clone();
    // That the last of a sequence is gone is known to nobody.
    let ends = [newest("manifest/"), newest("wal/")];
    let view = place.view().await;
    let mut cases = 0;
    for (path, bytes) in &whole {
        let name = Name::parse(path).expect("a name of ours");
        let needed = match &name {
            Name::Wal(slot) => *slot >= view.root.writer.replay_from,
            Name::Sst(id) => view.sst(*id).is_some(),
            // What a compactor tells its successor is worth a notice: losing it costs a merge begun again.
            Name::Job(_) => false,
            _ => true,
        };
        if !needed {
            continue;
        }
        for missing in [false, true] {
            if missing && ends.contains(path) {
                continue;
            }
            let damaged = place.copy();
            if missing {
                damaged.remove(&name).await;
            } else {
                damaged.flip(&name, bytes.len() / 2).await;
            }
            assert!(!damaged.verify().await.is_whole(), "{path}, missing: {missing}: nobody noticed");
            let options = RepairOptions { from: Some(place.store()), ..RepairOptions::default() };
            let outcome = damaged.repair(options).await;
            assert!(
                outcome.after.is_some_and(|after| after.is_whole()),
                "{path}, missing: {missing}: {:?}",
                outcome.actions
            );
            assert_eq!(damaged.all().await, whole, "{path}, missing: {missing}");
            cases += 1;
        }
    }
    assert!(cases > 15, "{cases} cases");
    // The copy of another database is no copy.
    let other = Place::new();
    other.open().await.close().await.expect("closed");
    let damaged = place.copy();
    let name = Name::Sst(view.root.ssts().next().expect("an SST").object_id());
    damaged.remove(&name).await;
    let outcome =
        damaged.repair(RepairOptions { from: Some(other.store()), ..RepairOptions::default() }).await;
    assert!(outcome.after.is_none() && outcome.actions.iter().any(|a| a.what.contains("another database")));
}

#[tokio::test]
async fn going_back_over_a_bad_merge_loses_nothing() {
    let place = Place::new();
    let db = place.open().await;
    let mut model = BTreeMap::new();
    for round in ["a", "b", "c"] {
        fill(&db, 0..60, round, &mut model).await;
    }
    merge_all(&place).await;
    fill(&db, 10..20, "behind the merge", &mut model).await;
    db.put(key(5), "only in the log").await.expect("put");
    model.insert(key(5), "only in the log".to_owned());
    drop(db);
    let view = place.view().await;
    let merged = view.runs.iter().find(|run| run.level > 0).expect("it was merged").ssts[0].id;
    place.flip(&Name::Sst(merged), 50).await;
    let options = RepairOptions { roll_back: true, name: "a test".to_owned(), ..RepairOptions::default() };
    let outcome = place.repair(options).await;
    assert!(
        outcome.actions.iter().any(|action| action.what.contains("nothing is lost")),
        "{:?}",
        outcome.actions
    );
    let after = outcome.after.expect("it acted");
    assert!(after.is_whole(), "{:?}", after.findings);
    assert_eq!(check(&place.read(&model).await, &model), 0);
    let now = place.view().await;
    assert!(
        now.root.writer.epoch > view.root.writer.epoch
            && now.root.compactor.epoch > view.root.compactor.epoch
    );
    assert!(now.root.writer.last_seq >= view.root.writer.last_seq);
    // Life goes on, and a collection of everything old leaves it whole.
    let db = place.open().await;
    fill(&db, 0..60, "afterwards", &mut model).await;
    db.close().await.expect("closed");
    merge_all(&place).await;
    let manifest = Manifest::open(place.store()).await.expect("there");
    collect(&manifest, Some(std::time::Duration::ZERO), false).await.expect("collected");
    assert!(place.verify().await.findings.is_empty());
    assert_eq!(check(&place.read(&model).await, &model), 0);
}

#[tokio::test]
async fn a_lost_flush_is_made_again_from_the_log() {
    let place = Place::new();
    let db = place.open().await;
    let mut model = BTreeMap::new();
    fill(&db, 0..60, "first", &mut model).await;
    fill(&db, 30..90, "second", &mut model).await;
    db.close().await.expect("closed");
    for sst in place.view().await.root.ssts() {
        place.remove(&Name::Sst(sst.object_id())).await;
    }
    let options = RepairOptions { roll_back: true, name: "a test".to_owned(), ..RepairOptions::default() };
    let outcome = place.repair(options).await;
    assert!(outcome.after.as_ref().is_some_and(Report::is_whole), "{:?}", outcome.actions);
    assert_eq!(check(&place.read(&model).await, &model), 0);
}

#[tokio::test]
async fn a_newest_version_that_cannot_be_read_is_gone_over() {
    let place = Place::new();
    let db = place.open().await;
    let mut model = BTreeMap::new();
    fill(&db, 0..60, "first", &mut model).await;
    fill(&db, 30..90, "second", &mut model).await;
    drop(db);
    let newest = place.view().await.id();
    place.flip(&Name::Manifest(newest), 60).await;
    let options = RepairOptions { roll_back: true, name: "a test".to_owned(), ..RepairOptions::default() };
    let outcome = place.repair(options).await;
    assert!(outcome.actions.iter().any(|action| action.done), "{:?}", outcome.actions);
    assert_eq!(check(&place.read(&model).await, &model), 0);
    let db = place.open().await;
    fill(&db, 0..10, "afterwards", &mut model).await;
    db.close().await.expect("closed");
    let manifest = Manifest::open(place.store()).await.expect("there");
    collect(&manifest, Some(std::time::Duration::ZERO), false).await.expect("collected");
    let report = place.verify().await;
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    assert_eq!(check(&place.read(&model).await, &model), 0);
}

/// The newest version and an SST of the one before it are damaged: the tree is an older one's, and the keyspaces are not.
#[tokio::test]
async fn going_back_over_a_damaged_newest_version_keeps_the_keyspaces_of_the_one_before_it() {
    let place = Place::new();
    let db = place.open().await;
    let mut model = BTreeMap::new();
    for round in ["a", "b", "c"] {
        fill(&db, 0..60, round, &mut model).await;
    }
    db.keyspace("late").await.expect("created").put("k", "v").await.expect("put");
    drop(db);
    merge_all(&place).await;
    let view = place.view().await;
    let merged = view.runs.iter().find(|run| run.level > 0).expect("it was merged").ssts[0].id;
    place.open().await.close().await.expect("one more version");
    place.flip(&Name::Manifest(place.view().await.id()), 60).await;
    place.flip(&Name::Sst(merged), 50).await;
    let options = RepairOptions { roll_back: true, name: "a test".to_owned(), ..RepairOptions::default() };
    let outcome = place.repair(options).await;
    assert!(outcome.actions.iter().any(|action| action.done), "{:?}", outcome.actions);
    assert_eq!(check(&place.read(&model).await, &model), 0);
    let late = place.open().await.keyspace("late").await.expect("it is there");
    assert_eq!(late.get("k").await.expect("read").as_deref(), Some(&b"v"[..]));
}

#[tokio::test]
async fn a_hole_in_the_log_is_told_by_number_and_cut_only_if_asked() {
    for damage in ["missing", "flipped"] {
        let place = Place::new();
        let db = place.open().await;
        let mut model = BTreeMap::new();
        for n in 0..8 {
            db.put(key(n), "logged").await.expect("put");
            model.insert(key(n), "logged".to_owned());
        }
        drop(db);
        let slots: Vec<u64> = place
            .store()
            .list(Folder::Wal, None, Cause::Admin)
            .await
            .expect("listed")
            .into_iter()
            .filter_map(|object| object.name.number())
            .collect();
        // The fence of the opener, then one object a put: the fourth has number 4.
        let name = Name::Wal(slots[4]);
        if damage == "missing" {
            place.remove(&name).await;
        } else {
            place.flip(&name, 130).await;
        }
        let refused = Db::builder("memory://repair").object_store(Arc::clone(&place.0) as _).open().await;
        assert_eq!(refused.expect_err("acknowledged writes are lost").kind(), ErrorKind::Corruption);
        let only_told = place.repair(RepairOptions::default()).await;
        assert!(only_told.after.is_none());
        assert!(
            only_told.actions.iter().any(|a| a.what.contains("number 4 is lost")),
            "{:?}",
            only_told.actions
        );
        let options = RepairOptions { cut_log: true, name: "a test".to_owned(), ..RepairOptions::default() };
        let outcome = place.repair(options).await;
        assert!(outcome.actions.iter().any(|a| a.what.contains("lost: number 4")), "{:?}", outcome.actions);
        let after = outcome.after.expect("it acted");
        assert!(after.is_whole(), "{damage}: {:?}", after.findings);
        model.remove(&key(3));
        assert_eq!(check(&place.read(&model).await, &model), 0);
        let db = place.open().await;
        assert_eq!(db.get(key(3)).await.expect("read"), None);
        fill(&db, 0..8, "afterwards", &mut model).await;
        db.close().await.expect("closed");
        assert_eq!(check(&place.read(&model).await, &model), 0);
        assert!(place.verify().await.is_whole());
    }
}

#[tokio::test]
async fn a_scrub_goes_on_where_it_stopped() {
    use esker::verify::{Place as At, Scrub, Stepped};
    let place = Place::new();
    let db = place.open().await;
    let mut model = BTreeMap::new();
    for from in [0, 100, 200, 300] {
        fill(&db, from..from + 50, "first", &mut model).await;
    }
    db.close().await.expect("closed");
    let mut ids: Vec<_> = place.view().await.root.ssts().map(esker::sst::SstMeta::object_id).collect();
    ids.sort();
    place.flip(&Name::Sst(ids[1]), 30).await;
    place.flip(&Name::Sst(ids[2]), 30).await;
    let mut read = Vec::new();
    let mut at = At::default();
    let mut rounds = 0;
    while rounds < 1 {
        // Stopped after every SST.
        let mut scrub = Scrub::new(place.store(), at, None);
        loop {
            match scrub.step().await.expect("a step") {
                Stepped::Surveyed(findings) => assert!(findings.is_empty(), "{findings:?}"),
                Stepped::Read(id, findings) => {
                    read.push((id, findings.len()));
                    break;
                }
                Stepped::Finished => {
                    rounds += 1;
                    break;
                }
            }
        }
        at = scrub.place();
    }
    assert_eq!(read, [(ids[0], 0), (ids[1], 1), (ids[2], 1), (ids[3], 0)]);
    assert_eq!(at, At { rounds: 1, after: None });
}
