//! Records of the job log: their bytes, hostile bytes, and what they say together.

use std::path::PathBuf;

use bytes::Bytes;
use esker::{
    ErrorKind,
    codec::sum::Sum,
    compaction::{
        Plan, Reason,
        history::{End, History},
        record::{Done, Event, Job, JobRef, Progress, Record, SoFar, Takeover, decode, encode},
    },
    sst::SstMeta,
    store::{ObjectId, Role},
};

const DB: u128 = 0x0123_4567_89AB_CDEF_0011_2233_4455_6677;

fn id(epoch: u32, counter: u64) -> ObjectId {
    ObjectId { role: Role::Compactor, epoch, counter, nonce: 7 }
}

fn meta(id: ObjectId, first: &str, last: &str) -> SstMeta {
    SstMeta {
        id: id.to_bytes().into(),
        bytes: 4096,
        tail_offset: 2048,
        first_key: Bytes::copy_from_slice(first.as_bytes()),
        last_key: Bytes::copy_from_slice(last.as_bytes()),
        min_seq: 1,
        max_seq: 9,
        entries: 10,
        keys: 8,
        blocks: 2,
        raw_bytes: 5000,
        hash: Bytes::from_static(&[3; 16]),
        sum: Bytes::copy_from_slice(&Sum::default().to_bytes()),
        ..SstMeta::default()
    }
}

fn so_far(outputs: Vec<SstMeta>) -> SoFar {
    SoFar {
        read_entries: outputs.len() as u64 * 10 + 5,
        outputs,
        boundary: Bytes::from_static(b"z"),
        dropped: Bytes::copy_from_slice(&Sum::default().to_bytes()),
        dropped_entries: 5,
    }
}

fn plan() -> Plan {
    let writer = |counter| ObjectId { role: Role::Writer, epoch: 1, counter, nonce: 1 };
    Plan {
        inputs: vec![(4, vec![writer(3)]), (2, vec![writer(1), writer(2)])],
        level: 1,
        bottom: true,
        moved: false,
        reason: Reason::Size,
    }
}

fn record(slot: u64, epoch: u32, event: Event) -> Record {
    Record {
        slot,
        db_uuid: Bytes::copy_from_slice(&DB.to_le_bytes()),
        token: Bytes::from_static(&[9; 16]),
        epoch,
        written_ms: 1_700_000_000_000,
        event: Some(event),
    }
}

fn takeover(slot: u64, epoch: u32) -> Record {
    record(slot, epoch, Event::Takeover(Takeover::new(epoch.into(), "host:1")))
}

fn job(slot: u64, epoch: u32, outputs: Vec<SstMeta>, from: Option<JobRef>) -> Record {
    record(slot, epoch, Event::Job(Job::new(1, &plan(), so_far(outputs), from)))
}

fn progress(slot: u64, epoch: u32, outputs: Vec<SstMeta>) -> Record {
    record(slot, epoch, Event::Progress(Progress { job: 1, so_far: so_far(outputs) }))
}

fn done(slot: u64, epoch: u32, of: JobRef, published: bool) -> Record {
    record(slot, epoch, Event::Done(Done::new(of, published, if published { "" } else { "why not" })))
}

fn one_of_each() -> Vec<Record> {
    let (a, b) = (meta(id(1, 0), "a", "c"), meta(id(2, 1), "d", "f"));
    vec![
        takeover(1, 2),
        job(2, 2, vec![a.clone()], Some(JobRef { epoch: 1, job: 9 })),
        progress(3, 2, vec![a, b]),
        done(4, 2, JobRef { epoch: 2, job: 1 }, false),
    ]
}

#[test]
fn a_record_of_version_1_is_read_and_written_as_ever() {
    for (record, name) in one_of_each().into_iter().zip(["takeover", "job", "progress", "done"]) {
        let now = encode(&record).unwrap();
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/job_{name}_v1.bin"));
        if std::env::var("ESKER_GOLDEN").as_deref() == Ok("write") {
            std::fs::write(&path, &now).unwrap();
        }
        let then = Bytes::from(std::fs::read(&path).unwrap());
        assert_eq!(now, then, "the format of job records has changed: that needs a new version number");
        assert_eq!(decode(record.slot, DB, &then).unwrap(), record);
    }
}

#[test]
fn a_plan_comes_back_from_its_record_as_it_was() {
    let Some(Event::Job(job)) = &job(1, 1, vec![meta(id(1, 0), "a", "b")], None).event.clone() else {
        panic!()
    };
    assert_eq!(job.plan(), plan());
}

#[test]
fn every_flipped_byte_and_every_cut_of_a_record_is_corruption_with_a_place() {
    for record in one_of_each() {
        let whole = encode(&record).unwrap();
        let refused = |bytes: Bytes, what: String| {
            let error = decode(record.slot, DB, &bytes).expect_err(&what);
            assert_eq!(error.kind(), ErrorKind::Corruption, "{what}: {error}");
            assert!(error.object().is_some() && error.offset().is_some(), "{what}: {error}");
        };
        for at in 0..whole.len() {
            let mut flipped = whole.to_vec();
            flipped[at] ^= 1 << (at % 8);
            refused(flipped.into(), format!("byte {at} flipped"));
            refused(whole.slice(..at), format!("cut at {at}"));
        }
        refused([&whole[..], b"x"].concat().into(), "one byte more".to_owned());
        assert!(decode(record.slot + 1, DB, &whole).is_err(), "in another slot");
        assert!(decode(record.slot, DB + 1, &whole).is_err(), "in another database");
    }
}

#[test]
fn a_record_that_makes_no_sense_is_refused_though_its_checksum_is_right() {
    let a = || meta(id(1, 0), "a", "c");
    let refused = |record: Record, what: &str| {
        let error = decode(record.slot, DB, &encode(&record).unwrap()).expect_err(what);
        assert_eq!(error.kind(), ErrorKind::Corruption, "{what}: {error}");
    };
    refused(takeover(1, 0), "no epoch");
    refused(progress(1, 1, vec![]), "no output");
    refused(progress(1, 1, vec![meta(id(2, 0), "a", "c")]), "an output of a later epoch");
    refused(progress(1, 1, vec![a(), meta(id(1, 1), "c", "d")]), "outputs that overlap");
    refused(progress(1, 1, vec![a(), meta(id(1, 0), "d", "e")]), "an output named twice");
    refused(progress(1, 1, vec![meta(id(1, 0), "a", "z")]), "an output that reaches the boundary");
    refused(progress(1, 1, vec![SstMeta { hash: Bytes::new(), ..a() }]), "an output without a hash");
    let of_writer = ObjectId { role: Role::Writer, ..id(1, 0) };
    refused(progress(1, 1, vec![meta(of_writer, "a", "c")]), "an output of the writer");
    let miscounted = SoFar { read_entries: 14, ..so_far(vec![a()]) };
    refused(
        record(1, 1, Event::Progress(Progress { job: 1, so_far: miscounted })),
        "entries that went nowhere",
    );
    let overflown = SoFar { dropped_entries: u64::MAX, ..so_far(vec![a()]) };
    refused(record(1, 1, Event::Progress(Progress { job: 1, so_far: overflown })), "a count that overflows");
    let mut twice = plan();
    twice.inputs[0] = twice.inputs[1].clone();
    refused(record(1, 1, Event::Job(Job::new(1, &twice, so_far(vec![a()]), None))), "an input twice");
    let none = Plan { inputs: vec![], ..plan() };
    refused(record(1, 1, Event::Job(Job::new(1, &none, so_far(vec![a()]), None))), "no inputs");
    refused(job(1, 1, vec![a()], Some(JobRef { epoch: 1, job: 2 })), "a job from its own epoch");
    refused(done(1, 1, JobRef { epoch: 2, job: 1 }, true), "the end of a job of the future");
}

#[test]
fn a_record_that_says_something_new_asks_for_a_newer_program() {
    let unknown = Record { event: None, ..takeover(1, 1) };
    let error = decode(1, DB, &encode(&unknown).unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
}

fn history(records: Vec<Record>) -> History {
    History::of(records.into_iter().map(|record| (record.slot, Ok(record))))
}

#[test]
fn what_a_fenced_compactor_records_after_the_takeover_is_void() {
    let (a, b) = (meta(id(1, 0), "a", "c"), meta(id(1, 1), "d", "f"));
    let first = JobRef { epoch: 1, job: 1 };
    let history = history(vec![
        takeover(1, 1),
        job(2, 1, vec![a.clone()], None),
        takeover(3, 2),
        progress(4, 1, vec![a.clone(), b]),
        done(5, 1, first, true),
        takeover(6, 1),
    ]);
    assert_eq!(history.void, [4, 5, 6]);
    assert_eq!(history.holder.as_ref().map(|holder| (holder.slot, holder.epoch)), Some((3, 2)));
    assert_eq!(history.named().into_iter().collect::<Vec<_>>(), [id(1, 0)]);
    let (at, past) = history.unfinished().next().expect("the job is unfinished");
    assert_eq!((at, past.so_far.as_ref().map(|so_far| &so_far.outputs[..])), (first, Some(&[a][..])));
}

#[test]
fn a_job_ends_with_its_done_or_with_the_job_that_carries_it_on() {
    let (a, b) = (meta(id(1, 0), "a", "c"), meta(id(2, 0), "d", "f"));
    let (old, new) = (JobRef { epoch: 1, job: 1 }, JobRef { epoch: 2, job: 1 });
    let mut records = vec![
        takeover(1, 1),
        job(2, 1, vec![a.clone()], None),
        takeover(3, 2),
        job(4, 2, vec![a.clone()], Some(old)),
        progress(5, 2, vec![a, b]),
    ];
    let carried_on = history(records.clone());
    assert_eq!(carried_on.jobs[&old].end, Some(End::CarriedOn(new)));
    assert_eq!(carried_on.unfinished().map(|(at, _)| at).collect::<Vec<_>>(), [new]);
    assert_eq!(carried_on.named().into_iter().collect::<Vec<_>>(), [id(1, 0), id(2, 0)]);
    records.push(done(6, 2, new, true));
    let finished = history(records);
    assert_eq!(finished.jobs[&new].end, Some(End::Published));
    assert!(finished.named().is_empty() && !finished.is_doubtful());
}

#[test]
fn a_record_of_an_epoch_that_never_took_over_makes_the_log_doubtful() {
    let history = history(vec![takeover(1, 1), job(2, 2, vec![meta(id(2, 0), "a", "c")], None)]);
    assert!(history.is_doubtful());
    assert_eq!(history.named().len(), 1, "what it names is kept all the same");
}
