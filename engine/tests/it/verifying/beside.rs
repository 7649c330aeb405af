//! A check that lasts, of a sound database that is written, merged, collected and taken over under it.

use std::{sync::Arc, time::Duration};

use esker::{
    Compaction, Db,
    clock::SharedClock,
    compaction::{Compactor, Did, collect},
    manifest::{Manifest, StoredShape},
    stats::Cause,
    store::Store,
    testing::{Fault, FaultyStore, Operation, Rule, SimClock},
    verify::{self, Place, Scrub, Stepped, VerifyOptions},
};

use crate::virtual_time::simulated;

/// A database that a check, which is a node of its own, looks at while others work on it.
struct World {
    faulty: FaultyStore,
    clock: SharedClock,
}

impl World {
    fn new() -> Self {
        let clock = SimClock::shared(3);
        Self { faulty: FaultyStore::memory(clock.clone(), 3), clock }
    }
    /// The store as the check sees it.
    fn checked(&self) -> Store {
        self.faulty.node("check").store()
    }
    async fn open(&self) -> Db {
        let shape = StoredShape { l0_runs: 2, middle_runs: 1, last_runs: 1, ratio: 4, base_bytes: 4096 };
        let builder = Db::builder("faulty://").object_store(Arc::new(self.faulty.node("writer")));
        let builder = builder.clock(self.clock.clone()).compaction(Compaction::Off);
        builder.block_bytes(256).shape(shape).open().await.expect("opened")
    }
    async fn manifest(&self) -> Manifest {
        Manifest::open(self.faulty.sound_store()).await.expect("there")
    }
    /// Everything is merged.
    async fn merge(&self) {
        let mut compactor = Compactor::claim(self.manifest().await, "a test", true).await.expect("claimed");
        while !matches!(compactor.step().await.expect("a step"), Did::Nothing) {}
        compactor.release().await.expect("released");
    }
    /// How many calls there were of this kind under this path.
    fn calls(&self, of: Operation, path: &str) -> usize {
        let calls = self.faulty.calls();
        calls.iter().filter(|(operation, on)| *operation == of && on.starts_with(path)).count()
    }
    /// Ready once there is a call of this kind under this path that was not there `before`.
    async fn meets(&self, of: Operation, path: &str, before: usize) {
        for _ in 0..10_000 {
            if self.calls(of, path) > before {
                return;
            }
            self.clock.sleep(Duration::from_secs(1)).await;
        }
        panic!("{of:?} of {path} never came");
    }
}

async fn fill(db: &Db, round: usize) {
    for n in 0..40 {
        db.put(format!("key{n:03}"), format!("{round} of {n}")).accepted().await.expect("accepted");
    }
    db.flush().await.expect("flushed");
}

#[test]
fn a_check_that_outlives_merges_and_collections_calls_a_sound_database_whole() {
    // Collections that keep everything for the stored 15 minutes, and such that keep nothing; a check that may not write.
    for (retention, pins) in [(None, true), (None, false), (Some(Duration::ZERO), true)] {
        simulated(async {
            let world = World::new();
            if !pins {
                world.faulty.add(Rule::on(Operation::Put).node("check").meets(Fault::Refuse));
            }
            let db = world.open().await;
            for round in 0..3 {
                fill(&db, round).await;
            }
            let view = world.manifest().await.latest(Cause::Admin).await.expect("read");
            let bytes: u64 = view.root.ssts().map(|sst| sst.bytes).sum();
            // So slow that everything is merged and collected under it again and again.
            let options =
                VerifyOptions { bytes_per_second: Some(1), parallel: 1, ..VerifyOptions::default() };
            let (store, asked) = (world.checked(), world.calls(Operation::Get, "sst/"));
            let began = world.clock.monotonic();
            let mut deleted = 0;
            let busy = async {
                world.meets(Operation::Get, "sst/", asked).await;
                let mut round = 3;
                loop {
                    fill(&db, round).await;
                    fill(&db, round + 1).await;
                    world.merge().await;
                    let manifest = world.manifest().await;
                    let collected = collect(&manifest, retention, false).await.expect("collected");
                    deleted += collected.deleted.len();
                    round += 2;
                    world.clock.sleep(Duration::from_secs(100)).await;
                }
            };
            let report = tokio::select! {
                biased;
                report = verify::verify(&store, &options, &|_, _| {}) => report.expect("verified"),
                () = busy => unreachable!("it never ends"),
            };
            let lasted = world.clock.monotonic() - began;
            assert!(deleted > 0 && lasted > Duration::from_secs(1800), "{deleted} deleted in {lasted:?}");
            assert!(report.is_whole(), "{retention:?}, {pins}: {:?}", report.findings);
            assert!(lasted < Duration::from_secs(4 * bytes), "{lasted:?}: it was read again and again");
            if retention.is_none() && pins {
                assert!(report.sst_bytes >= bytes, "{} of {bytes} bytes were read", report.sst_bytes);
                assert!(report.garbage.is_some(), "{:?}", report.findings);
                assert!(world.calls(Operation::Put, "pin/") >= 3, "written, renewed and released");
            }
        });
    }
}

#[test]
fn a_takeover_while_a_scrub_or_a_check_looks_is_no_damage() {
    for scrubs in [false, true] {
        simulated(async {
            let world = World::new();
            fill(&world.open().await, 0).await;
            // Behind the versions, and before the log.
            let slow = Fault::Delay(Duration::from_secs(10));
            world.faulty.add(Rule::on(Operation::List).path("sst").node("check").nth(1).meets(slow));
            let (store, asked) = (world.checked(), world.calls(Operation::List, "sst"));
            let look = async {
                if scrubs {
                    match Scrub::new(store, Place::default(), None).step().await.expect("a step") {
                        Stepped::Surveyed(findings) => findings,
                        other => panic!("{other:?}"),
                    }
                } else {
                    let options = VerifyOptions::default();
                    verify::verify(&store, &options, &|_, _| {}).await.expect("verified").findings
                }
            };
            let take_over = async {
                world.meets(Operation::List, "sst", asked).await;
                world.open().await
            };
            let (findings, db) = tokio::join!(look, take_over);
            assert_eq!(findings, [], "scrubs: {scrubs}");
            db.close().await.expect("closed");
        });
    }
}

#[test]
fn a_scrub_tells_of_a_version_that_is_lost() {
    simulated(async {
        let world = World::new();
        fill(&world.open().await, 0).await;
        let before = world.manifest().await.latest(Cause::Admin).await.expect("read").id();
        drop(world.open().await);
        let lost: Vec<_> = (1..=2).map(|n| esker::store::Name::Manifest(before + n)).collect();
        world.faulty.sound_store().delete(&lost, Cause::Gc).await.expect("deleted");
        let mut scrub = Scrub::new(world.checked(), Place::default(), None);
        let Stepped::Surveyed(findings) = scrub.step().await.expect("a step") else { panic!("no survey") };
        let damage: Vec<_> = findings.iter().map(|finding| &finding.object).collect();
        assert_eq!(damage, [&lost[0]], "once, and not of each object that says so: {findings:?}");
    });
}
