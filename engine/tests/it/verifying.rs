//! Verifying and scrubbing a database at work, beside strangers' objects and newer programs, over a store that fails.

mod beside;

use std::sync::Arc;

use esker::{
    Compaction, Db, Error, ErrorKind, Result,
    codec::frame::checksum,
    compaction::{Compactor, collect},
    manifest::{Manifest, View, copy},
    repair::{RepairOptions, repair},
    stats::{Cause, RequestKind},
    store::{Folder, MAX_NUMBER, Name, Store, Token},
    testing::{Fault, FaultyStore, Operation, Rule, SimClock},
    verify::{self, Place, Report, Scrub, Severity, Stepped, VerifyOptions},
};
use object_store::{ObjectStoreExt as _, PutPayload, path::Path};
use twox_hash::XxHash3_64;

/// A database of two SSTs behind a store that can fail.
struct World {
    faulty: FaultyStore,
}

impl World {
    async fn new() -> Self {
        let place = Self { faulty: FaultyStore::memory(SimClock::shared(1), 1) };
        let db = place.open().await.expect("created");
        for round in 0..2 {
            for n in 0..20 {
                db.put(format!("key{n}"), format!("{round}")).accepted().await.expect("accepted");
            }
            db.flush().await.expect("flushed");
        }
        db.close().await.expect("closed");
        place
    }
    async fn open(&self) -> Result<Db> {
        let builder = Db::builder("faulty://").object_store(Arc::new(self.faulty.clone()));
        builder.clock(self.store().clock().clone()).compaction(Compaction::Off).open().await
    }
    fn store(&self) -> Store {
        self.faulty.store()
    }
    async fn latest(&self) -> Result<Arc<View>> {
        Manifest::open(self.store()).await?.latest(Cause::Admin).await
    }
    async fn put(&self, path: &str, body: impl Into<PutPayload>) {
        self.faulty.put(&Path::from(path), body.into()).await.expect("put");
    }
    async fn flip(&self, name: &Name, at: usize) {
        let path = Path::from(name.path());
        let mut bytes = self.faulty.get(&path).await.expect("there").bytes().await.expect("read").to_vec();
        bytes[at] ^= 0x20;
        self.put(&name.path(), bytes).await;
    }
    async fn verify(&self) -> Result<Report> {
        verify::verify(&self.store(), &VerifyOptions::default(), &|_, _| {}).await
    }
    fn meets(&self, path: &str, which: impl FnOnce(Rule) -> Rule, fault: Fault) {
        self.faulty.add(which(Rule::on(Operation::Get).path(path)).meets(fault));
    }
}

fn told(report: &Report, severity: Severity) -> Vec<String> {
    report.findings.iter().filter(|f| f.severity == severity).map(ToString::to_string).collect()
}

#[tokio::test(start_paused = true)]
async fn a_number_that_nothing_counts_to_is_a_strangers_and_is_left_alone() {
    let place = World::new().await;
    let folders: Vec<_> = Folder::ALL.into_iter().filter(|folder| folder.numbered(0).is_some()).collect();
    let paths: Vec<String> = [u64::MAX, MAX_NUMBER + 1]
        .iter()
        .flat_map(|number| folders.iter().map(move |folder| format!("{}/{number:020}", folder.path())))
        .collect();
    for path in &paths {
        assert_eq!(Name::parse(path), None);
        place.put(path, "somebody else's").await;
    }
    let report = place.verify().await.expect("verified");
    assert!(report.is_whole() && report.garbage.is_some(), "{:?}", report.findings);
    let notices = told(&report, Severity::Notice);
    assert!(paths.iter().all(|path| notices.iter().any(|told| told.contains(path))), "{notices:?}");
    let db = place.open().await.expect("opened");
    db.put("after", "all").await.expect("put");
    db.close().await.expect("closed");
    let manifest = Manifest::open(place.store()).await.expect("there");
    let none = std::time::Duration::ZERO;
    assert!(!collect(&manifest, Some(none), false).await.expect("collected").deleted.is_empty());
    for path in &paths {
        place.faulty.head(&Path::from(path.as_str())).await.expect("left alone");
    }
    assert!(place.verify().await.expect("verified").is_whole());
}

#[tokio::test(start_paused = true)]
async fn a_mark_over_every_version_is_named_with_a_way_out() {
    for above in [0, 5, MAX_NUMBER] {
        let place = World::new().await;
        let newest = place.latest().await.expect("read").id();
        let mark = Name::ManifestFloor(above.max(newest + above.min(5)));
        place.put(&mark.path(), "eskerFLR and a token of 16").await;
        let error: Error = place.latest().await.expect_err("every version is void");
        assert_eq!((error.kind(), error.object()), (ErrorKind::Corruption, Some(mark.path().as_str())));
        assert!(error.hint_text().is_some_and(|hint| hint.contains("delete that object")), "{error}");
        let report = place.verify().await.expect("verified");
        let damage: Vec<_> = report.damage().map(|finding| finding.object.clone()).collect();
        assert_eq!(damage, std::slice::from_ref(&mark), "{:?}", report.findings);
        let outcome = repair(&place.store(), &RepairOptions::default(), &|_, _| {}).await.expect("told");
        assert!(outcome.actions.iter().any(|a| a.what.contains(&mark.path())), "{:?}", outcome.actions);
    }
}

#[tokio::test(start_paused = true)]
async fn a_newest_version_that_goes_before_it_is_read_is_looked_for_again() {
    let place = World::new().await;
    let newest = Name::Manifest(place.latest().await.expect("read").id()).path();
    place.meets(&newest, |rule| rule.nth(1), Fault::FalseMissing);
    let report = place.verify().await.expect("verified");
    assert!(report.is_whole() && report.wal_objects > 0 && report.garbage.is_some(), "{report:?}");
    assert_eq!(report.versions, place.verify().await.expect("verified").versions);
    // Never is "whole" said of what nobody looked at.
    place.faulty.clear();
    place.meets(&newest, |rule| rule, Fault::FalseMissing);
    let error = place.verify().await.expect_err("no newest version was looked at");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_newest_version_that_can_be_read_after_all_is_not_gone_over() {
    let place = World::new().await;
    let newest = Name::Manifest(place.latest().await.expect("read").id()).path();
    // Damaged for the check, for what the repair begins with, and no longer.
    place.meets(&newest, |rule| rule.first(6), Fault::Flip(60));
    let options = RepairOptions { roll_back: true, act: true, ..RepairOptions::default() };
    let error = repair(&place.store(), &options, &|_, _| {}).await.expect_err("there is nothing to mend");
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert_eq!(Name::Manifest(place.latest().await.expect("read").id()).path(), newest);
    assert!(place.verify().await.expect("verified").is_whole());
}

#[tokio::test(start_paused = true)]
async fn a_scrub_that_cannot_ask_whether_a_damaged_sst_is_still_named_tells_of_it_later() {
    let place = World::new().await;
    let mut ids: Vec<_> =
        place.latest().await.expect("read").root.ssts().map(esker::sst::SstMeta::object_id).collect();
    ids.sort();
    place.flip(&Name::Sst(ids[0]), 30).await;
    let mut scrub = Scrub::new(place.store(), Place::default(), None);
    assert_eq!(scrub.step().await.expect("a step"), Stepped::Surveyed(Vec::new()));
    place.meets("DB", |rule| rule, Fault::FailBefore);
    assert_eq!(scrub.step().await.expect_err("no answer").kind(), ErrorKind::Unavailable);
    assert_eq!(scrub.place(), Place::default());
    place.faulty.clear();
    for (id, count) in [(ids[0], 1), (ids[1], 0)] {
        match scrub.step().await.expect("a step") {
            Stepped::Read(read, findings) => assert_eq!((read, findings.len()), (id, count)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(scrub.step().await.expect("a step"), Stepped::Finished);
}

#[tokio::test(start_paused = true)]
async fn a_pin_or_checkpoint_of_a_newer_program_is_a_notice_and_holds_collections_up() {
    let place = World::new().await;
    let holders = [Name::Pin(7), Name::checkpoint("newer").expect("a name")];
    for name in &holders {
        // The format version lies at byte 24, the checksum at the end.
        let mut bytes = copy::encode(name, Token([1; 16]), None).to_vec();
        bytes[24..28].copy_from_slice(&2_u32.to_le_bytes());
        let (body, sum) = bytes.split_last_chunk_mut::<8>().expect("a checksum");
        *sum = checksum(XxHash3_64::oneshot(name.path().as_bytes()), body).to_le_bytes();
        place.put(&name.path(), bytes).await;
    }
    let report = place.verify().await.expect("the rest is verified");
    assert!(report.is_whole(), "{:?}", report.findings);
    let notices = told(&report, Severity::Notice);
    for name in &holders {
        assert!(
            notices.iter().any(|told| told.contains(&name.path()) && told.contains("newer")),
            "{notices:?}"
        );
    }
    let mut held_by = report.garbage.expect("foretold").held_by;
    held_by.sort();
    assert_eq!(held_by, holders);
    let mut scrub = Scrub::new(place.store(), Place::default(), None);
    assert!(
        matches!(scrub.step().await.expect("a step"), Stepped::Surveyed(findings) if findings.len() == 2)
    );
    repair(&place.store(), &RepairOptions::default(), &|_, _| {}).await.expect("nothing to mend");
}

#[tokio::test(start_paused = true)]
async fn a_strangers_object_among_the_floors_is_told_of() {
    let place = World::new().await;
    place.put("floor/zzz", "somebody else's").await;
    let report = place.verify().await.expect("verified");
    let notices = told(&report, Severity::Notice);
    assert!(report.is_whole() && notices.iter().any(|told| told.contains("floor/zzz")), "{notices:?}");
}

#[tokio::test(start_paused = true)]
async fn a_damaged_job_record_is_a_notice_of_scrubs_too_until_a_compactor_has_decided_about_it() {
    let place = World::new().await;
    let claim = || async {
        let manifest = Manifest::open(place.store()).await.expect("there");
        Compactor::claim(manifest, "a test", true).await.expect("claimed")
    };
    claim().await.release().await.expect("released");
    place.flip(&Name::Job(1), 50).await;
    let seen = async || {
        let verified = place.verify().await.expect("verified");
        assert!(verified.is_whole());
        let mut scrub = Scrub::new(place.store(), Place::default(), None);
        let Stepped::Surveyed(scrubbed) = scrub.step().await.expect("a step") else { panic!("no survey") };
        assert_eq!(verified.findings, scrubbed);
        scrubbed.len()
    };
    assert_eq!(seen().await, 1);
    let mut compactor = claim().await;
    compactor.step().await.expect("a step");
    compactor.settle_log().await.expect("settled");
    compactor.release().await.expect("released");
    assert_eq!(seen().await, 0);
}

#[tokio::test(start_paused = true)]
async fn each_object_of_the_log_is_read_once() {
    let place = World::new().await;
    let db = place.open().await.expect("opened");
    let reads = async || {
        let store = place.store();
        let objects = store.list(Folder::Wal, None, Cause::Admin).await.expect("listed").len() as u64;
        let report = verify::verify(&store, &VerifyOptions::default(), &|_, _| {}).await.expect("verified");
        assert!(report.is_whole(), "{:?}", report.findings);
        (objects, store.stats().snapshot().count(RequestKind::Get, Cause::Admin).requests)
    };
    let before = reads().await;
    for n in 0..10 {
        db.put(format!("late{n}"), "in the log").await.expect("put");
    }
    let after = reads().await;
    assert_eq!((after.0 - before.0, after.1 - before.1), (10, 10));
    drop(db);
}

#[tokio::test(start_paused = true)]
async fn a_check_that_ends_at_the_identity_says_so_and_the_next_one_after_its_repair_goes_on() {
    let place = World::new().await;
    let sst = place.latest().await.expect("read").root.ssts().next().expect("an SST").object_id();
    place.flip(&Name::Sst(sst), 10).await;
    place.flip(&Name::Identity, 10).await;
    let report = place.verify().await.expect("verified");
    assert!(report.damage().all(|found| found.object == Name::Identity), "{:?}", report.findings);
    let notices = told(&report, Severity::Notice);
    assert!(notices.iter().any(|told| told.contains("nothing else was checked")), "{notices:?}");
    let act = RepairOptions { act: true, ..RepairOptions::default() };
    repair(&place.store(), &act, &|_, _| {}).await.expect("rebuilt");
    let report = place.verify().await.expect("verified");
    let damage: Vec<_> = report.damage().map(|found| found.object.clone()).collect();
    assert_eq!((damage, told(&report, Severity::Notice)), (vec![Name::Sst(sst)], Vec::new()));
}
