//! Jobs that broke off: recorded, adopted, given up; and what a collection beside them may take.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use esker::{
    ErrorKind,
    compaction::{
        Compactor, Did, Reason, collect,
        history::{End, History},
        job::JobOptions,
        log,
        record::{self, Event, Progress, Record},
    },
    manifest::{Manifest, StoredShape},
    stats::Cause,
    store::{Folder, Name},
    testing::{Fault, FaultyStore, Operation, Rule},
};
use object_store::{ObjectStore, memory::InMemory};

use super::fixture::{CRASHES, Crash, Database, TestClock, Write, delete, put, small};

const NONE: Option<Duration> = Some(Duration::ZERO);
/// Holds a call up for a moment: the test does something in the middle of it.
const PAUSE: Fault = Fault::Delay(Duration::from_millis(1));

/// Every output is recorded.
fn often() -> JobOptions {
    JobOptions { record_bytes: 1, ..JobOptions::default() }
}

/// Many versions of few keys, with deletes among them; text that hardly compresses.
fn rows(round: u64) -> Vec<Write> {
    rows_of(round, 240)
}

fn rows_of(round: u64, keys: u64) -> Vec<Write> {
    let mut state = (round + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (0..keys)
        .map(|n| {
            let name = format!("key-{:04}", n * 7 % keys);
            let mut next = || {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                format!("{state:016x}")
            };
            let text: String = (0..8).map(|_| next()).collect();
            if (n + round).is_multiple_of(4) { delete(&name) } else { put(&name, text) }
        })
        .collect()
}

async fn fill(db: Database) -> Database {
    fill_with(db, 240).await
}

async fn fill_with(mut db: Database, keys: u64) -> Database {
    for round in 0..5 {
        db.flush(&rows_of(round, keys)).await;
    }
    db
}

/// A database with work to do, over a store with faults.
async fn faulty() -> (Database, FaultyStore) {
    let clock = TestClock::new();
    let faulty = FaultyStore::memory(clock.clone(), 1);
    let db = fill(Database::create_in(faulty.store(), clock, small(&StoredShape::leveled())).await).await;
    (db, faulty)
}

async fn history(db: &Database) -> History {
    let uuid = db.manifest.identity().db_uuid;
    log::read(&db.store, uuid, Cause::Admin).await.expect("the job log").history()
}

/// The tree without names: what two runs of the same merges must agree on.
async fn tree(db: &Database) -> Vec<(u32, Bytes, Bytes, u64, Bytes)> {
    let view = db.latest().await;
    let ssts = view.runs.iter().flat_map(|run| run.ssts.iter().map(|sst| (run.level, sst.meta.clone())));
    ssts.map(|(level, meta)| (level, meta.first_key, meta.last_key, meta.entries, meta.sum)).collect()
}

async fn exists(db: &Database, name: &Name) -> bool {
    db.store.get(name, Cause::Admin).await.expect("a read").is_some()
}

/// What the log says is complete of a job that can be resumed: entries read, outputs.
async fn recorded(db: &Database) -> Option<(u64, Vec<Name>)> {
    let view = db.latest().await;
    let history = history(db).await;
    let (_, past) = history.unfinished().next()?;
    let job = past.job.as_ref()?;
    let so_far = past.so_far.as_ref()?;
    let is_there = job.plan().ids().all(|id| view.sst(id).is_some());
    is_there.then(|| (so_far.read_entries, so_far.ids().map(Name::Sst).collect()))
}

/// A database whose compactor crashed in the middle of a merge, with some outputs recorded.
async fn broken_off() -> (Database, FaultyStore) {
    let (db, faulty) = faulty().await;
    faulty.add(Rule::on(Operation::Put).path("job/").nth(4).meets(CRASHES[0]));
    let work = async {
        let mut compactor = db.claim("a").await.with_options(often());
        compactor.step().await.expect("a step");
    };
    assert!(Crash { future: Box::pin(work), faulty: &faulty }.await.is_none(), "it crashed");
    faulty.clear();
    assert!(recorded(&db).await.is_some(), "a job is left behind");
    (db, faulty)
}

#[tokio::test]
async fn a_small_job_writes_no_record() {
    let (db, _) = faulty().await;
    let mut compactor = db.claim("a").await;
    assert!(!db.settle(&mut compactor).await.is_empty());
    assert_eq!(
        db.store.list(Folder::Job, None, Cause::Admin).await.expect("a listing").len(),
        1,
        "the takeover"
    );
    db.holds_what_was_written().await;
}

#[tokio::test]
async fn a_job_with_records_makes_what_one_without_makes() {
    let (plain, _) = faulty().await;
    let mut compactor = plain.claim("a").await;
    plain.settle(&mut compactor).await;
    let (db, _) = faulty().await;
    let mut compactor = db.claim("a").await.with_options(often());
    db.settle(&mut compactor).await;
    assert_eq!(tree(&db).await, tree(&plain).await);
    let history = history(&db).await;
    assert!(!history.jobs.is_empty() && history.jobs.values().all(|job| job.end == Some(End::Published)));
    assert!(history.named().is_empty());
}

#[tokio::test]
async fn a_crash_at_any_call_is_carried_on_and_nothing_is_merged_twice() {
    let (plain, _) = faulty().await;
    let mut compactor = plain.claim("a").await;
    plain.settle(&mut compactor).await;
    let expected = tree(&plain).await;
    let mut most = 0;
    for fault in CRASHES {
        for n in 1.. {
            let (db, faulty) = faulty().await;
            faulty.add(Rule::on(Operation::Any).nth(n).meets(fault));
            let work = async {
                let mut compactor = db.claim("a").await.with_options(often());
                compactor.step().await.expect("a step");
            };
            let crashed = Crash { future: Box::pin(work), faulty: &faulty }.await.is_none();
            faulty.clear();
            let left = recorded(&db).await;
            // Whatever else runs beside it, the outputs that are recorded stay.
            collect(&db.manifest, NONE, false).await.expect("a pass");
            let mut next = db.claim("b").await.with_options(often());
            let did = next.step().await.expect("a step");
            if let Some((entries, outputs)) = left {
                let Did::Merged { stats, .. } = did else { panic!("at call {n}: {did:?}") };
                assert_eq!(stats.adopted_entries, entries, "at call {n}");
                assert_eq!(stats.read_entries, stats.written_entries + stats.dropped_entries);
                let view = db.latest().await;
                let named = |name: &Name| name.object_id().is_some_and(|id| view.sst(id).is_some());
                assert!(outputs.iter().all(named), "at call {n}: what was complete is used");
                most = most.max(outputs.len());
            }
            db.settle(&mut next).await;
            assert_eq!(tree(&db).await, expected, "at call {n}");
            db.holds_what_was_written().await;
            next.collect(false).await.expect("a collection");
            next.collect(false).await.expect("a collection");
            db.holds_no_garbage().await;
            db.holds_what_was_written().await;
            if !crashed {
                assert!(n > 30, "there were {n} calls to crash at");
                break;
            }
        }
    }
    assert!(most >= 4, "at most {most} outputs were adopted");
}

#[tokio::test]
async fn a_step_that_is_dropped_is_carried_on_by_its_own_compactor() {
    let mut adopted = 0;
    for n in 1.. {
        let (db, faulty) = faulty().await;
        let mut compactor = db.claim("a").await.with_options(often());
        faulty.add(Rule::on(Operation::Any).nth(n).meets(CRASHES[(n % 2) as usize]));
        let crashed = Crash { future: Box::pin(compactor.step()), faulty: &faulty }.await.is_none();
        faulty.clear();
        // It may not declare settled what it is going to publish.
        compactor.collect_with(NONE, false).await.expect("a collection");
        for did in db.settle(&mut compactor).await {
            if let Did::Merged { stats, .. } = did {
                adopted += stats.adopted_entries;
            }
        }
        db.holds_what_was_written().await;
        compactor.collect_with(NONE, false).await.expect("a collection");
        compactor.collect_with(NONE, false).await.expect("a collection");
        db.holds_no_garbage().await;
        if !crashed {
            assert!(n > 20 && adopted > 0, "{n} calls, {adopted} entries adopted");
            return;
        }
    }
}

#[tokio::test]
async fn a_chain_of_crashes_is_carried_on_from_epoch_to_epoch() {
    let (db, faulty) = faulty().await;
    let mut furthest = 0;
    for turn in 0..20 {
        faulty.add(Rule::on(Operation::Put).path("job/").nth(3).meets(CRASHES[turn % 2]));
        let work = async {
            let mut compactor = db.claim("one of many").await.with_options(often());
            db.settle(&mut compactor).await;
        };
        let crashed = Crash { future: Box::pin(work), faulty: &faulty }.await.is_none();
        faulty.clear();
        collect(&db.manifest, NONE, false).await.expect("a pass");
        if let Some((entries, _)) = recorded(&db).await {
            assert!(entries >= furthest, "a job goes on, and not back");
            furthest = entries;
        }
        if !crashed {
            break;
        }
    }
    assert!(furthest > 0);
    let mut last = db.claim("last").await;
    db.settle(&mut last).await;
    db.holds_what_was_written().await;
    last.collect(false).await.expect("a collection");
    last.collect(false).await.expect("a collection");
    db.holds_no_garbage().await;
}

/// Writes `event` of `epoch` into the next slot, as a compactor does that does not know it is fenced.
async fn write_record(db: &Database, epoch: u32, event: Event) {
    let log = log::read(&db.store, db.manifest.identity().db_uuid, Cause::Admin).await.expect("the log");
    let slot = log.records.last().map_or(1, |(slot, _)| slot + 1);
    let record = Record {
        slot,
        db_uuid: Bytes::copy_from_slice(&db.manifest.identity().db_uuid.to_le_bytes()),
        token: Bytes::from_static(&[5; 16]),
        epoch,
        written_ms: 0,
        event: Some(event),
    };
    let body = record::encode(&record).expect("a record");
    db.store.put_new(&Name::Job(slot), vec![body], Cause::Admin).await.expect("a put");
}

#[tokio::test]
async fn what_a_zombie_records_after_the_takeover_is_ignored_and_its_output_is_garbage() {
    let (db, _) = broken_off().await;
    let (entries, _) = recorded(&db).await.expect("a job");
    let past = history(&db).await.unfinished().next().map(|(_, past)| past.clone()).expect("a job");
    let mut next = db.claim("b").await.with_options(often());
    // The zombie has merged on: the next output is one that is not in the store.
    let mut so_far = past.so_far.expect("outputs");
    let mut id = so_far.outputs[0].object_id();
    id.counter += 1000;
    let last = so_far.outputs.last_mut().expect("an output");
    last.id = id.to_bytes().into();
    db.store
        .put_new(&Name::Sst(id), vec![Bytes::from_static(b"half of an SST")], Cause::Admin)
        .await
        .expect("a put");
    write_record(&db, next.epoch() - 1, Event::Progress(Progress { job: 1, so_far })).await;
    collect(&db.manifest, NONE, false).await.expect("a pass");
    assert!(!exists(&db, &Name::Sst(id)).await, "nobody can adopt it any more");
    let Did::Merged { stats, .. } = next.step().await.expect("a step") else { panic!("nothing was merged") };
    assert_eq!(stats.adopted_entries, entries);
    db.holds_what_was_written().await;
}

#[tokio::test]
async fn an_output_that_is_damaged_is_not_adopted_and_the_job_begins_again() {
    for damage in [None, Some(0), Some(700)] {
        let (db, _) = broken_off().await;
        let (_, outputs) = recorded(&db).await.expect("a job");
        let victim = outputs.last().expect("an output");
        let mut bytes =
            db.store.get(victim, Cause::Admin).await.expect("a read").expect("it is there").to_vec();
        db.store.delete(std::slice::from_ref(victim), Cause::Admin).await.expect("a delete");
        if let Some(at) = damage {
            let at: usize = at;
            bytes[at] ^= 1;
            db.store.put_new(victim, vec![bytes.into()], Cause::Admin).await.expect("a put");
        }
        let mut next = db.claim("b").await.with_options(often());
        let Did::Merged { stats, .. } = next.step().await.expect("a step") else {
            panic!("nothing was merged")
        };
        assert_eq!(stats.adopted_entries, 0);
        let ends: Vec<_> = history(&db).await.jobs.into_values().map(|job| job.end).collect();
        assert!(matches!(&ends[..], [Some(End::GivenUp(_)), Some(End::Published)]), "{ends:?}");
        db.settle(&mut next).await;
        db.holds_what_was_written().await;
        next.collect(false).await.expect("a collection");
        next.collect(false).await.expect("a collection");
        db.holds_no_garbage().await;
    }
}

#[tokio::test]
async fn a_record_that_cannot_be_read_costs_the_work_and_nothing_else() {
    let (db, _) = broken_off().await;
    let (_, outputs) = recorded(&db).await.expect("a job");
    let log = log::read(&db.store, db.manifest.identity().db_uuid, Cause::Admin).await.expect("the log");
    let slot = log.records.last().expect("records").0 + 1;
    db.store
        .put_new(&Name::Job(slot), vec![Bytes::from_static(b"damaged")], Cause::Admin)
        .await
        .expect("a put");
    let mut next = db.claim("b").await.with_options(often());
    let pass = collect(&db.manifest, NONE, false).await.expect("a pass");
    assert_eq!(pass.held_by, [Name::Job(slot)], "it could name anything");
    for output in &outputs {
        assert!(exists(&db, output).await);
    }
    let Did::Merged { stats, .. } = next.step().await.expect("a step") else { panic!("nothing was merged") };
    assert_eq!(stats.adopted_entries, 0);
    db.holds_what_was_written().await;
    // The holder has decided about what lies before its takeover, and the floor goes over it.
    next.collect(false).await.expect("a collection");
    assert!(next.collect(false).await.expect("a collection").held_by.is_empty());
    assert!(!exists(&db, &Name::Job(slot)).await);
    db.holds_no_garbage().await;
}

#[tokio::test]
async fn everything_into_one_run_gives_up_a_job_of_another_kind() {
    let (mut db, _) = broken_off().await;
    db.flush(&rows(9)).await;
    let mut next = db.claim("b").await;
    let Did::Merged { stats, plan } = next.step_all().await.expect("a step") else {
        panic!("nothing was merged")
    };
    assert_eq!((stats.adopted_entries, plan.reason), (0, Reason::Manual));
    assert!(history(&db).await.named().is_empty());
    db.holds_what_was_written().await;
    next.collect(false).await.expect("a collection");
    db.holds_no_garbage().await;
}

#[tokio::test]
async fn a_fenced_compactor_that_records_stops_there() {
    let mut fenced = 0;
    for n in 1.. {
        let (db, faulty) = faulty().await;
        let through = Manifest::open(faulty.store()).await.expect("the same database");
        let mut first =
            Compactor::claim(through, "one:1", true).await.expect("the role").with_options(often());
        faulty.add(Rule::on(Operation::Put).path("job/").nth(n).meets(PAUSE));
        {
            let mut step = Box::pin(first.step());
            let before = faulty.faults();
            let done = Crash { future: Box::pin(&mut step), faulty: &faulty }.await;
            faulty.clear();
            if done.is_some() && faulty.faults() == before {
                assert!(fenced >= 4, "it was fenced at {fenced} of {n} records");
                return;
            }
            let mut second = db.claim("two:2").await.with_options(often());
            db.settle(&mut second).await;
            match step.await {
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
                    fenced += 1;
                }
                // Only its Done was still to be written.
                Ok(did) => {
                    assert!(fenced >= 4 && matches!(did, Did::Merged { .. }), "at record {n}: {did:?}")
                }
            }
        }
        db.holds_what_was_written().await;
        let mut third = db.claim("three:3").await;
        db.settle(&mut third).await;
        third.collect(false).await.expect("a collection");
        third.collect(false).await.expect("a collection");
        db.holds_no_garbage().await;
        db.holds_what_was_written().await;
    }
}

/// A database with a job broken off, and three ways into its store: the adopter's, the collector's, a sound one.
async fn three_ways() -> (Database, FaultyStore, FaultyStore) {
    let shared: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let clock = TestClock::new();
    let way = || FaultyStore::new(Arc::clone(&shared), clock.clone(), 1);
    let (adopter, collector, sound) = (way(), way(), way());
    let db = Database::create_in(sound.store(), clock.clone(), small(&StoredShape::leveled())).await;
    let db = fill_with(db, 130).await;
    sound.add(Rule::on(Operation::Put).path("job/").nth(3).meets(CRASHES[0]));
    let work = async {
        let mut compactor = db.claim("a").await.with_options(often());
        compactor.step().await.expect("a step");
    };
    assert!(Crash { future: Box::pin(work), faulty: &sound }.await.is_none(), "it crashed");
    sound.clear();
    (db, adopter, collector)
}

/// Runs an adoption and a collection so that each stops at one of its calls, in both orders: what is not whole
/// after any of these was collected from under the adopter.
async fn interleaved(adopter_stops: u64, collector_stops: u64) -> (bool, bool) {
    let (db, adopter, collector) = three_ways().await;
    let by_adopter = Manifest::open(adopter.store()).await.expect("the database");
    let by_collector = Manifest::open(collector.store()).await.expect("the database");
    adopter.add(Rule::on(Operation::Any).nth(adopter_stops).meets(PAUSE));
    collector.add(Rule::on(Operation::Any).nth(collector_stops).meets(PAUSE));
    let mut pass = Box::pin(collect(&by_collector, NONE, false));
    let mut take_over = Box::pin(async {
        let mut next = Compactor::claim(by_adopter, "b", true).await.expect("the role").with_options(often());
        db.settle(&mut next).await;
        next.collect_with(NONE, false).await
    });
    // The collector comes to its stop, the adopter to its own, then the collector ends, and then the adopter.
    let early_pass = Crash { future: Box::pin(&mut pass), faulty: &collector }.await;
    let early_take_over = Crash { future: Box::pin(&mut take_over), faulty: &adopter }.await;
    let pass_stopped = early_pass.is_none();
    let ended = match early_pass {
        Some(ended) => ended,
        None => pass.await,
    };
    assert!(ended.is_ok() || ended.is_err_and(|error| error.kind() == ErrorKind::Conflict));
    let adopter_stopped = early_take_over.is_none();
    let collected = match early_take_over {
        Some(collected) => collected,
        None => take_over.await,
    };
    assert!(collected.is_ok() || collected.is_err_and(|error| error.kind() == ErrorKind::Conflict));
    db.holds_what_was_written().await;
    (adopter_stopped, pass_stopped)
}

#[tokio::test]
async fn a_collection_between_any_two_calls_takes_nothing_that_is_adopted() {
    let mut runs = 0;
    for collector_stops in 1.. {
        let mut pass_stopped = false;
        for adopter_stops in 1.. {
            let stopped = interleaved(adopter_stops, collector_stops).await;
            runs += 1;
            pass_stopped |= stopped.1;
            if !stopped.0 {
                break;
            }
        }
        if !pass_stopped {
            break;
        }
    }
    assert!(runs > 500, "{runs} interleavings");
}

#[tokio::test]
async fn a_long_log_is_cut_and_keeps_the_newest_takeover() {
    let mut db = Database::create(small(&StoredShape::leveled())).await;
    let mut compactor = db.claim("a").await.with_options(often());
    let mut longest = 0;
    for round in 0..200 {
        if longest as u64 > log::LONG_LOG {
            break;
        }
        db.flush(&rows(round)).await;
        db.settle(&mut compactor).await;
        longest = longest.max(db.store.list(Folder::Job, None, Cause::Admin).await.expect("a listing").len());
    }
    assert!(longest as u64 > log::LONG_LOG, "{longest} records");
    compactor.collect(false).await.expect("a collection");
    compactor.collect(false).await.expect("a collection");
    let left = db.store.list(Folder::Job, None, Cause::Admin).await.expect("a listing");
    assert_eq!(left.len(), 1, "{left:?}");
    let holder = history(&db).await.holder.expect("a takeover is left");
    assert_eq!(holder.epoch, compactor.epoch());
    // Put back by a late PUT, a record under the floor is void, and goes again.
    let late = Name::Job(holder.slot - 1);
    db.store.put_new(&late, vec![Bytes::from_static(b"late")], Cause::Admin).await.expect("a put");
    assert!(collect(&db.manifest, NONE, false).await.expect("a pass").held_by.is_empty());
    assert!(!exists(&db, &late).await);
    db.flush(&rows(40)).await;
    db.settle(&mut compactor).await;
    db.holds_what_was_written().await;
}

#[tokio::test]
async fn without_a_takeover_in_the_log_what_a_fenced_compactor_left_is_kept() {
    let (db, _) = broken_off().await;
    let (_, outputs) = recorded(&db).await.expect("a job");
    drop(db.claim("b").await);
    let log = db.store.list(Folder::Job, None, Cause::Admin).await.expect("a listing");
    let names: Vec<Name> = log.into_iter().map(|listed| listed.name).collect();
    db.store.delete(&names, Cause::Admin).await.expect("the log is lost");
    let pass = collect(&db.manifest, NONE, false).await.expect("a pass");
    assert!(pass.waiting >= outputs.len());
    for output in &outputs {
        assert!(exists(&db, output).await);
    }
    let mut next = db.claim("c").await;
    db.settle(&mut next).await;
    next.collect(false).await.expect("a collection");
    db.holds_no_garbage().await;
    db.holds_what_was_written().await;
}

#[tokio::test]
async fn a_reply_lost_at_any_call_of_an_adoption_changes_nothing() {
    for n in 1.. {
        let (db, faulty) = broken_off().await;
        faulty.add(Rule::on(Operation::Any).nth(n).meets(Fault::DropReply));
        let before = faulty.faults();
        let mut next = db.claim("b").await.with_options(often());
        db.settle(&mut next).await;
        next.collect(false).await.expect("a collection");
        let met = faulty.faults() > before;
        faulty.clear();
        db.holds_what_was_written().await;
        if !met {
            assert!(n > 20, "{n} calls");
            return;
        }
    }
}
