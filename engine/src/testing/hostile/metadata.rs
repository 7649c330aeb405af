//! What a database says of itself: identity, versions, parts.
//!
//! Always true: a version that decodes can be shown, planned over and edited without a panic or a hang, and
//! what an edit makes of it decodes again.

use bytes::Bytes;
use prost::Message;

use super::{DB_UUID, ID, SEAL, SLOT, as_inputs, assert_refused, sample_entries, seal};
use crate::{
    codec::sum::Sum,
    compaction::{
        plan::{Plan, Reason, debt_bytes, pick, pick_all},
        record::{self, Done, Event, Job, JobRef, Progress, Record, SoFar, Takeover},
    },
    manifest::{Edit, Identity, RingSlot, Root, Run, StoredOptions, VersionCopy, View, codec, copy, part},
    sst::{SstBuilder, SstMeta, SstOptions},
    store::{Name, ObjectId, Role, Token},
    wal::Cursor,
};

/// The target of the identity object.
pub fn identity(input: &[u8]) {
    let Some((flags, bytes)) = input.split_first() else { return };
    let mut bytes = bytes.to_vec();
    if flags & SEAL != 0 {
        seal::identity(&mut bytes);
    }
    match Identity::decode(&bytes) {
        Ok(identity) => {
            let token = *bytes[8..].first_chunk().expect("it decoded");
            assert_eq!(identity.encode(token), bytes, "an identity has one encoding");
        }
        Err(error) => assert_refused(&error, Some(&Name::Identity.path())),
    }
}

/// The target of a part of a manifest.
pub fn part(input: &[u8]) {
    let Some((flags, bytes)) = input.split_first() else { return };
    let mut bytes = bytes.to_vec();
    if flags & SEAL != 0 {
        seal::part(&mut bytes);
        if let Some(room) = bytes.get_mut(12..16) {
            // How many there are, unless that is what is to be hostile.
            if flags & 2 == 0 {
                room.copy_from_slice(&1u32.to_le_bytes());
                seal::part(&mut bytes);
            }
        }
    }
    match part::decode(ID, &Bytes::from(bytes)) {
        Ok(ssts) => {
            let again = part::decode(ID, &part::encode(ID, &ssts)).expect("what was encoded is decoded");
            assert_eq!(again, ssts, "a part means the same when it is encoded again");
        }
        Err(error) => assert_refused(&error, Some(&Name::Part(ID).path())),
    }
}

/// The target of a record of the job log.
pub fn job(input: &[u8]) {
    let Some((flags, bytes)) = input.split_first() else { return };
    let mut bytes = bytes.to_vec();
    if flags & SEAL != 0 {
        seal::job(&mut bytes);
    }
    let record = match record::decode(SLOT, DB_UUID, &Bytes::from(bytes)) {
        Ok(record) => record,
        Err(error) => return assert_refused(&error, Some(&Name::Job(SLOT).path())),
    };
    if let Some(Event::Job(job)) = &record.event {
        let plan = job.plan();
        assert!(plan.ssts() > 0 && job.so_far.ids().count() == job.so_far.outputs.len());
        let _ = (job.so_far.bytes(), job.so_far.dropped());
    }
    let again = record::encode(&record).expect("what was read is within its limit");
    let again = record::decode(SLOT, DB_UUID, &again).expect("what was encoded is decoded");
    assert_eq!(again, record, "a record means the same when it is encoded again");
}

/// The target of a pin (flag bit 1: of a checkpoint).
pub fn pin(input: &[u8]) {
    let Some((flags, bytes)) = input.split_first() else { return };
    let name = if flags & 2 == 0 { Name::Pin(5) } else { Name::Checkpoint("before-migration".into()) };
    let mut bytes = bytes.to_vec();
    if flags & SEAL != 0 {
        seal::copy(&name, &mut bytes);
    }
    let token = Token::of(&bytes);
    let decoded = match copy::decode(&name, DB_UUID, &Bytes::from(bytes)) {
        Ok(decoded) => decoded,
        Err(error) => return assert_refused(&error, Some(&name.path())),
    };
    let again = copy::encode(&name, token.expect("it decoded"), decoded.as_ref());
    let again = copy::decode(&name, DB_UUID, &again).expect("what was encoded is decoded");
    assert_eq!(again, decoded, "a copy means the same when it is encoded again");
}

/// The target of a version of the manifest. Flag bit 1: six bytes come before the object, three pairs of a
/// field and of a number that is put into it.
pub fn manifest(input: &[u8]) {
    let Some((flags, bytes)) = input.split_first() else { return };
    let (pokes, mut bytes) = match bytes.split_first_chunk::<6>() {
        Some((pokes, object)) if flags & POKE != 0 => (&pokes[..], object.to_vec()),
        _ => (&[][..], bytes.to_vec()),
    };
    if flags & POKE != 0
        && let Some(body) = bytes.get(36..bytes.len().saturating_sub(8))
        && let Ok(mut root) = Root::decode(body)
        && root.token.len() == size_of::<Token>()
    {
        for poke in pokes.chunks_exact(2) {
            put_number(&mut root, poke[0], NUMBERS[poke[1] as usize % NUMBERS.len()]);
        }
        bytes = codec::encode(&root).to_vec();
    }
    if flags & SEAL != 0 {
        seal::manifest(&mut bytes);
    }
    let path = Name::Manifest(SLOT).path();
    let root = match codec::decode(SLOT, DB_UUID, &Bytes::from(bytes)) {
        Ok(root) => root,
        Err(error) => return assert_refused(&error, Some(&path)),
    };
    let again = codec::decode(SLOT, DB_UUID, &codec::encode(&root)).expect("what was encoded is decoded");
    assert_eq!(again, root, "a version means the same when it is encoded again");
    if root.runs.iter().any(|run| !run.parts.is_empty()) {
        return;
    }
    match View::new(root, None) {
        Ok(view) => use_version(&view),
        Err(error) => assert_refused(&error, Some(&path)),
    }
}

/// In the first byte of an input: numbers are put into fields.
const POKE: u8 = 2;

/// Numbers at which arithmetic breaks.
const NUMBERS: [u64; 12] =
    [0, 1, 15, 16, 255, 1 << 20, u32::MAX as u64, 1 << 40, 1 << 62, i64::MAX as u64, u64::MAX - 1, u64::MAX];

/// Puts `number` into one of the fields of a version or of an SST in it.
fn put_number(root: &mut Root, field: u8, number: u64) {
    let small = number as u32;
    let slot = field as usize >> 5;
    let options = &mut root.options;
    match field & 31 {
        0 => root.next_run = number,
        1 => root.next_keyspace = small,
        2 => root.committed_ms = number,
        3 => root.writer.epoch = small,
        4 => root.writer.counter_floor = number,
        5 => root.writer.replay_from = number,
        6 => (root.writer.tail_hint, root.writer.fence_slot) = (number, number / 2),
        7 => root.writer.last_seq = number,
        8 => root.compactor.epoch = small,
        9 => root.compactor.counter_floor = number,
        10 => root.compactor.busy_until_ms = number,
        11 => options.shape.l0_runs = small,
        12 => options.shape.middle_runs = small,
        13 => options.shape.last_runs = small,
        14 => options.shape.ratio = small,
        15 => options.shape.base_bytes = number,
        16 => options.retention_ms = number,
        17 => root.min_writer = small,
        18 | 19 => {
            if let Some(run) = root.runs.last_mut() {
                if field & 1 == 0 { run.level = small } else { run.id = number }
            }
        }
        field => {
            let mut ssts = root.runs.iter_mut().flat_map(|run| &mut run.ssts);
            let Some(sst) = ssts.nth(slot) else { return };
            match field {
                20 => sst.bytes = number,
                21 => sst.tail_offset = number,
                22 => sst.min_seq = number,
                23 => sst.max_seq = number,
                24 => sst.entries = number,
                25 => sst.tombstones = number,
                26 => sst.range_deletes = number,
                27 => sst.expiring = number,
                28 => (sst.min_expire_ms, sst.max_expire_ms) = (number, number),
                29 => sst.raw_bytes = number,
                30 => sst.keys = number,
                _ => sst.blocks = number,
            }
        }
    }
}

fn use_version(view: &View) {
    let root = &view.root;
    for now_ms in [0, 1_700_000_000_000, u64::MAX] {
        if let Some(plan) = pick(view, now_ms) {
            assert!(plan.ssts() > 0 && plan.keeps_order(view), "a plan keeps the order of the data");
        }
    }
    let _ = (pick_all(view), debt_bytes(view), Cursor::start(root));
    let sst = sample_sst(root.writer.last_seq.saturating_add(1));
    let edits = [
        Edit::ClaimWriter { uuid: 5, name: "host:2".into() },
        Edit::ClaimCompactor {
            uuid: 5,
            name: "host:2".into(),
            busy_until_ms: 9,
            now_ms: u64::MAX,
            force: true,
        },
        Edit::CreateKeyspace { epoch: root.writer.epoch, name: "fuzzed".into() },
        Edit::Fence { epoch: root.writer.epoch, slot: root.writer.tail_hint },
        Edit::Tail { epoch: root.writer.epoch, slot: root.writer.replay_from },
        Edit::Flush {
            epoch: root.writer.epoch,
            replay_from: root.writer.replay_from,
            tail_hint: root.writer.tail_hint,
            last_seq: sst.max_seq,
            counter_floor: root.writer.counter_floor,
            ssts: vec![sst],
        },
        Edit::Compact {
            epoch: root.compactor.epoch,
            inputs: root.ssts().take(2).map(SstMeta::object_id).collect(),
            outputs: Vec::new(),
            level: 1,
            dropped: root.ssts().take(2).fold(Sum::default(), |mut sum, sst| {
                sum.add(&sst.sum());
                sum
            }),
            counter_floor: 0,
            busy_until_ms: 0,
        },
    ];
    for edit in edits {
        let mut next = match edit.apply(root) {
            Ok(next) => next,
            // Which epochs and numbers it has run out of is the edit's to say, and names no object.
            Err(error) => {
                assert!(!error.to_string().is_empty());
                continue;
            }
        };
        next.id = SLOT + 1;
        let packed = part::pack(root, &mut next, || ID);
        if let Err(error) = codec::check_stored(&packed.root, DB_UUID, "a version", 0) {
            // A counter has come to its end: such a version is not committed.
            assert_refused(&error, Some("a version"));
            continue;
        }
        let bytes = codec::encode(&packed.root);
        let read = codec::decode(SLOT + 1, DB_UUID, &bytes).expect("what an edit makes can be read");
        assert_eq!(read, packed.root);
    }
}

/// The entry of a small SST, as a writer makes it.
fn sample_sst(first_seq: u64) -> SstMeta {
    let mut builder = SstBuilder::new(ObjectId { nonce: 99, ..ID }, SstOptions::default());
    for (n, entry) in sample_entries(4, 1).iter().enumerate() {
        let seq = first_seq.saturating_add(n as u64);
        builder.add(crate::key::EntryRef { seq, ..entry.as_ref() }).expect("the sample is in order");
    }
    builder.finish().expect("it has entries").meta
}

pub(super) fn identity_seeds() -> Vec<Vec<u8>> {
    as_inputs(
        [1, 8, 256].map(|wal_window| {
            Identity { db_uuid: DB_UUID, wal_window }.encode(*b"sixteen bytes...").to_vec()
        }),
    )
}

pub(super) fn job_seeds() -> Vec<Vec<u8>> {
    let outputs: Vec<SstMeta> = metas(3, 1)
        .into_iter()
        .map(|meta| {
            let id = ObjectId { role: Role::Compactor, ..meta.object_id() };
            SstMeta { id: id.to_bytes().into(), ..meta }
        })
        .collect();
    let entries: u64 = outputs.iter().map(|meta| meta.entries).sum();
    let so_far = SoFar {
        outputs,
        boundary: Bytes::from_static(b"\0\0\0\0zz"),
        dropped: Bytes::copy_from_slice(&Sum::default().to_bytes()),
        dropped_entries: 2,
        read_entries: entries + 2,
    };
    let plan = Plan {
        inputs: vec![(1, vec![ID]), (2, vec![ObjectId { nonce: 5, ..ID }])],
        level: 1,
        bottom: true,
        moved: false,
        reason: Reason::L0,
    };
    let of = JobRef { epoch: 3, job: 1 };
    let events = [
        Event::Takeover(Takeover::new(9, "host:1")),
        Event::Job(Job::new(1, &plan, so_far.clone(), Some(JobRef { epoch: 2, job: 4 }))),
        Event::Progress(Progress { job: 1, so_far }),
        Event::Done(Done::new(of, false, "it was not worth it")),
    ];
    as_inputs(events.map(|event| {
        let record = Record {
            slot: SLOT,
            db_uuid: Bytes::copy_from_slice(&DB_UUID.to_le_bytes()),
            token: Bytes::from_static(b"sixteen bytes..."),
            epoch: 3,
            written_ms: 9,
            event: Some(event),
        };
        record::encode(&record).expect("it is small").to_vec()
    }))
}

pub(super) fn pin_seeds() -> Vec<Vec<u8>> {
    let copies = [&[][..], &[(0, 2), (1, 3)]].map(sample_root);
    let mut seeds = Vec::new();
    for (flags, name, life_ms) in
        [(0, Name::Pin(5), 600_000), (2, Name::Checkpoint("before-migration".into()), 0)]
    {
        let made = copies.iter().map(|root| VersionCopy { root: root.clone(), hash: 7, life_ms, made_ms: 9 });
        for copy in made.map(Some).chain([None]) {
            let object = copy::encode(&name, Token(*b"sixteen bytes..."), copy.as_ref());
            seeds.extend([flags, flags | SEAL].map(|flags| [&[flags][..], &object].concat()));
        }
    }
    seeds
}

pub(super) fn part_seeds() -> Vec<Vec<u8>> {
    as_inputs([0, 1, 3].map(|count| part::encode(ID, &metas(count, 1)).to_vec()))
}

pub(super) fn manifest_seeds() -> Vec<Vec<u8>> {
    let roots = [&[][..], &[(0, 1)], &[(0, 2), (0, 1), (1, 3), (2, 5)], &[(0, 9), (15, 30)]];
    let objects = roots.map(|runs| codec::encode(&sample_root(runs)).to_vec());
    let poked = objects.iter().flat_map(|object| {
        let pokes = (0..16u8).map(|n| [n * 2, 11 - n % 12, 20 + n % 12, 10, 20 + n % 12 + 32, 10]);
        pokes.map(|pokes| [&[SEAL | POKE][..], &pokes, object].concat()).collect::<Vec<_>>()
    });
    poked.chain(as_inputs(objects.iter().cloned())).collect()
}

/// A version with runs of (level, SSTs).
fn sample_root(runs: &[(u32, u64)]) -> Root {
    let mut root = Root::first(DB_UUID, StoredOptions::standard());
    root.id = SLOT;
    root.token = Bytes::from_static(b"sixteen bytes...");
    root.ring = (1..=SLOT).map(|id| RingSlot { id, token: root.token.clone() }).collect();
    (root.writer.epoch, root.compactor.epoch) = (2, 1);
    (root.writer.name, root.compactor.name) = ("host:1".into(), "host:1".into());
    (root.writer.last_seq, root.writer.replay_from, root.writer.tail_hint) = (5_000, 9, 12);
    let mut sum = Sum::default();
    for (level, count) in runs {
        let ssts = metas(*count, root.next_run);
        ssts.iter().for_each(|sst| sum.add(&sst.sum()));
        root.runs.push(Run { id: root.next_run, level: *level, ssts, parts: Vec::new() });
        root.next_run += 1;
    }
    root.sum = Bytes::copy_from_slice(&sum.to_bytes());
    root
}

/// Entries of SSTs side by side; `run` goes into their names.
fn metas(count: u64, run: u64) -> Vec<SstMeta> {
    let sample = sample_sst(1);
    (0..count)
        .map(|n| SstMeta {
            id: ObjectId { counter: run * 100 + n, nonce: n, ..ID }.to_bytes().into(),
            first_key: format!("\0\0\0\0{n:03}a").into(),
            last_key: format!("\0\0\0\0{n:03}z").into(),
            bytes: sample.bytes + n * 1_000_000,
            tail_offset: sample.tail_offset + n * 1_000_000,
            ..sample.clone()
        })
        .collect()
}
