//! A record of the compaction job log, `job/{slot:020}`.
//!
//! An envelope (`codec/envelope.rs`) with the magic "eskerJOB" around a [`Record`], seeded with the database's uuid
//! and the slot.
//!
//! A record is what a compactor wants its successor to know ([`Event`]): that it holds the role, how far a job
//! has come, that a job needs no more looking after. The manifest is the only truth; a job log that is lost
//! costs work and no data.
//!
//! Always true of what [`decode`] returns: ids are well formed and named once; outputs ascend, do not overlap and
//! end before the boundary; what was read is what was written and what was dropped; no output is of a later
//! epoch than the record that names it.

use std::collections::HashSet;

use bytes::Bytes;
use prost::Message;

use crate::{
    block::MAX_FULL_KEY_BYTES,
    codec::{
        envelope::{BODY_AT, Envelope, VERSION_AT},
        frame::{checksum, place_seed},
        sum::Sum,
    },
    compaction::{
        plan::{Plan, Reason},
        shape::MAX_LEVEL,
    },
    error::{Error, Result},
    manifest::wire::{self, Repeated, SST_BYTES},
    sst::SstMeta,
    store::{Folder, Name, ObjectId, Role, names::OBJECT_ID_BYTES},
};

/// The most bytes of a record's body.
pub const MAX_BODY_BYTES: u64 = 64 << 20;
const _: () = assert!(MAX_BODY_BYTES + (64 << 10) < Folder::Job.most_object_bytes());

const ENVELOPE: Envelope = Envelope {
    magic: b"eskerJOB",
    max_body_bytes: MAX_BODY_BYTES,
    not_this: "this is not a record of the job log",
    damaged: "the checksum does not match: the bytes are damaged, or belong to another slot or database",
};
const FORMAT_VERSION: u32 = 1;
const UUID_BYTES: usize = 16;
/// The longest text in a record (a holder's name, why a job was given up), in bytes.
const MAX_TEXT_BYTES: usize = 255;
/// Keeps a record's seeds apart from those of other kinds of objects.
const SEED: u64 = 0x6A6F_6220_6C6F_6720;

/// What repeats in a record, so that few bytes do not become many: ids of inputs, entries of outputs.
const REPEATED: [Repeated; 2] = [
    Repeated {
        field: 11,
        least: 0,
        fields: &[
            Repeated { field: 2, least: OBJECT_ID_BYTES, fields: &INPUT_RUN },
            Repeated { field: 6, least: 0, fields: &SO_FAR },
        ],
    },
    Repeated { field: 12, least: 0, fields: &[Repeated { field: 2, least: 0, fields: &SO_FAR }] },
];
const INPUT_RUN: [Repeated; 1] = [Repeated { field: 2, least: OBJECT_ID_BYTES, fields: &[] }];
const SO_FAR: [Repeated; 1] = [Repeated { field: 1, least: SST_BYTES, fields: &[] }];

/// One record.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Record {
    /// The slot it lies in.
    #[prost(uint64, tag = "1")]
    pub slot: u64,
    /// The database it belongs to (16 bytes, little-endian).
    #[prost(bytes = "bytes", tag = "2")]
    pub db_uuid: Bytes,
    /// The attempt that created it (16 bytes).
    #[prost(bytes = "bytes", tag = "3")]
    pub token: Bytes,
    /// The epoch of the compactor that wrote it.
    #[prost(uint32, tag = "4")]
    pub epoch: u32,
    /// Wall clock of the compactor, for people.
    #[prost(uint64, tag = "5")]
    pub written_ms: u64,
    /// What it says.
    #[prost(oneof = "Event", tags = "10, 11, 12, 13")]
    pub event: Option<Event>,
}

/// What a record says.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Event {
    /// The writer of the record holds the role: records of lower epochs in later slots are void.
    #[prost(message, tag = "10")]
    Takeover(Takeover),
    /// A job, and how far it has come.
    #[prost(message, tag = "11")]
    Job(Job),
    /// A job has come further.
    #[prost(message, tag = "12")]
    Progress(Progress),
    /// A job is published or given up: nobody resumes it.
    #[prost(message, tag = "13")]
    Done(Done),
}

/// Who holds the role.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Takeover {
    /// The compactor's uuid (16 bytes, little-endian).
    #[prost(bytes = "bytes", tag = "1")]
    pub uuid: Bytes,
    /// Who: host and process.
    #[prost(string, tag = "2")]
    pub name: String,
}

/// A job, and how far it has come.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Job {
    /// Its number within the epoch of the record.
    #[prost(uint64, tag = "1")]
    pub job: u64,
    /// What it merges: the runs that take part, newest first.
    #[prost(message, repeated, tag = "2")]
    pub inputs: Vec<InputRun>,
    /// The level the outputs go to.
    #[prost(uint32, tag = "3")]
    pub level: u32,
    /// Whether tombstones go.
    #[prost(bool, tag = "4")]
    pub bottom: bool,
    /// What made it due: 1 L0, 2 runs, 3 size, 4 tombstones, 5 expiry, 6 manual.
    #[prost(uint32, tag = "5")]
    pub reason: u32,
    /// How far it has come.
    #[prost(message, required, tag = "6")]
    pub so_far: SoFar,
    /// The job of an earlier epoch that it carries on, which needs no more looking after.
    #[prost(message, optional, tag = "7")]
    pub from: Option<JobRef>,
}

/// The SSTs of one run that take part in a job.
#[derive(Clone, PartialEq, prost::Message)]
pub struct InputRun {
    /// The run.
    #[prost(uint64, tag = "1")]
    pub run: u64,
    /// The [`ObjectId`]s of its SSTs, in key order.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub ssts: Vec<Bytes>,
}

/// A job, by who began it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Message)]
pub struct JobRef {
    /// The epoch of the compactor.
    #[prost(uint32, tag = "1")]
    pub epoch: u32,
    /// Its number within that epoch.
    #[prost(uint64, tag = "2")]
    pub job: u64,
}

/// A job has come further.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Progress {
    /// The job, of the record's epoch.
    #[prost(uint64, tag = "1")]
    pub job: u64,
    /// How far it has come: all of it, not what is new.
    #[prost(message, required, tag = "2")]
    pub so_far: SoFar,
}

/// How far a job has come. All versions of all keys before the boundary are consumed, and none from it on.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SoFar {
    /// The outputs that are complete in the store, in key order.
    #[prost(message, repeated, tag = "1")]
    pub outputs: Vec<SstMeta>,
    /// The first full key that is not consumed.
    #[prost(bytes = "bytes", tag = "2")]
    pub boundary: Bytes,
    /// Conservation sum of the entries that were dropped (32 bytes).
    #[prost(bytes = "bytes", tag = "3")]
    pub dropped: Bytes,
    /// How many entries were dropped.
    #[prost(uint64, tag = "4")]
    pub dropped_entries: u64,
    /// How many entries were read.
    #[prost(uint64, tag = "5")]
    pub read_entries: u64,
}

/// A job that nobody is to resume.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Done {
    /// The job: of the record's epoch, or of an earlier one that its successor will not resume.
    #[prost(message, required, tag = "1")]
    pub of: JobRef,
    /// Whether what it made was published.
    #[prost(bool, tag = "2")]
    pub published: bool,
    /// Why it was given up; empty if it was published.
    #[prost(string, tag = "3")]
    pub why: String,
}

impl Takeover {
    /// The record of the compactor `uuid`; a long name is cut.
    pub fn new(uuid: u128, name: &str) -> Self {
        Self { uuid: Bytes::copy_from_slice(&uuid.to_le_bytes()), name: short(name) }
    }
}

impl Job {
    /// The job `job`, which runs `plan` and has come `so_far`.
    pub fn new(job: u64, plan: &Plan, so_far: SoFar, from: Option<JobRef>) -> Self {
        let ids = |ssts: &[ObjectId]| ssts.iter().map(|id| id.to_bytes().into()).collect();
        let inputs = plan.inputs.iter().map(|(run, ssts)| InputRun { run: *run, ssts: ids(ssts) }).collect();
        let reason = REASONS.iter().position(|reason| *reason == plan.reason).map_or(0, |at| at as u32 + 1);
        Self { job, inputs, level: plan.level, bottom: plan.bottom, reason, so_far, from }
    }

    /// The plan it runs.
    pub fn plan(&self) -> Plan {
        let ids = |run: &InputRun| run.ssts.iter().filter_map(|id| ObjectId::from_bytes(id)).collect();
        Plan {
            inputs: self.inputs.iter().map(|run| (run.run, ids(run))).collect(),
            level: self.level,
            bottom: self.bottom,
            moved: false,
            reason: reason(self.reason).unwrap_or(Reason::Manual),
        }
    }
}

impl SoFar {
    /// The conservation sum of what was dropped.
    pub fn dropped(&self) -> Sum {
        Sum::from_bytes(&self.dropped).unwrap_or_default()
    }

    /// The ids of the outputs.
    pub fn ids(&self) -> impl Iterator<Item = ObjectId> + '_ {
        self.outputs.iter().map(SstMeta::object_id)
    }

    /// The bytes of the outputs, as stored.
    pub fn bytes(&self) -> u64 {
        self.outputs.iter().map(|meta| meta.bytes).fold(0, u64::saturating_add)
    }
}

impl Done {
    /// `of` is published, or given up because of `why`.
    pub fn new(of: JobRef, published: bool, why: &str) -> Self {
        Self { of, published, why: short(why) }
    }
}

impl std::fmt::Display for JobRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "job {} of epoch {}", self.job, self.epoch)
    }
}

/// The object for `record`. Fails with `Invalid` if it would be larger than records may be.
pub fn encode(record: &Record) -> Result<Bytes> {
    let body_bytes = record.encoded_len();
    if body_bytes as u64 > MAX_BODY_BYTES {
        return Err(Error::invalid(format!("a job record of {body_bytes} bytes is over the limit")));
    }
    debug_assert_eq!(record.db_uuid.len(), UUID_BYTES);
    Ok(ENVELOPE.seal(&record.token, FORMAT_VERSION, seed(&record.db_uuid, record.slot), record))
}

/// Checks and decodes the object in `slot` of the database `db_uuid`.
///
/// Fails with `Corruption` naming object and offset, or with `Unsupported` naming what this program does not know.
pub fn decode(slot: u64, db_uuid: u128, bytes: &Bytes) -> Result<Record> {
    let name = Name::Job(slot).path();
    let corrupt = |offset: u64, what: &str| Error::corruption(name.as_str(), offset, what);
    let newer = |offset: u64, what: String| {
        Error::unsupported(format!("this record was written by a newer esker: {what}"))
            .at(name.as_str(), offset)
            .hint("use a newer esker on this database")
    };
    let uuid = db_uuid.to_le_bytes();
    let opened = ENVELOPE.open(seed(&uuid, slot), bytes).map_err(|bad| bad.of(name.as_str(), 0))?;
    if opened.version != FORMAT_VERSION {
        return Err(newer(VERSION_AT, format!("format {}, and {FORMAT_VERSION} is known", opened.version)));
    }
    let body = BODY_AT;
    let record: Record = wire::decode(opened.body, &REPEATED, &name, body)?;
    if record.slot != slot || record.token[..] != opened.token || record.db_uuid[..] != uuid {
        return Err(corrupt(body, "the body belongs to another slot, attempt or database"));
    }
    match &record.event {
        None => Err(newer(body, "it says something that is not known here".to_owned())),
        Some(event) => check(&record, event).map(|()| record.clone()).map_err(|what| corrupt(body, &what)),
    }
}

/// In the order of their numbers, which begin at 1.
const REASONS: [Reason; 6] =
    [Reason::L0, Reason::Runs, Reason::Size, Reason::Tombstones, Reason::Expiry, Reason::Manual];

fn reason(number: u32) -> Option<Reason> {
    REASONS.get((number as usize).checked_sub(1)?).copied()
}

fn check(record: &Record, event: &Event) -> Result<(), String> {
    let say = |ok: bool, what: &str| if ok { Ok(()) } else { Err(what.to_owned()) };
    say(record.epoch > 0, "it is of no epoch")?;
    match event {
        Event::Takeover(takeover) => {
            say(takeover.uuid.len() == UUID_BYTES, "the compactor's uuid is malformed")?;
            say(takeover.name.len() <= MAX_TEXT_BYTES, "the compactor's name is too long")
        }
        Event::Job(job) => {
            let mut seen = HashSet::new();
            let ids = || job.inputs.iter().flat_map(|run| &run.ssts);
            say(
                job.inputs.iter().all(|run| !run.ssts.is_empty())
                    && !job.inputs.is_empty()
                    && ids().all(|id| ObjectId::from_bytes(id).is_some() && seen.insert(id)),
                "its inputs are malformed",
            )?;
            say(job.level <= MAX_LEVEL && reason(job.reason).is_some(), "its plan is malformed")?;
            say(job.from.is_none_or(|from| from.epoch < record.epoch), "it carries on a job of its future")?;
            check_so_far(record.epoch, &job.so_far)
        }
        Event::Progress(progress) => check_so_far(record.epoch, &progress.so_far),
        Event::Done(done) => {
            say(done.of.epoch <= record.epoch, "it ends a job of its future")?;
            say(done.why.len() <= MAX_TEXT_BYTES, "the reason it gives is too long")
        }
    }
}

fn check_so_far(epoch: u32, so_far: &SoFar) -> Result<(), String> {
    let say = |ok: bool, what: &str| if ok { Ok(()) } else { Err(what.to_owned()) };
    let mut ids = HashSet::new();
    for meta in &so_far.outputs {
        meta.check().map_err(|e| e.to_string())?;
        let id = meta.object_id();
        say(
            id.role == Role::Compactor && (1..=epoch).contains(&id.epoch) && ids.insert(id),
            "an output is not of this epoch or an earlier one, or is named twice",
        )?;
    }
    say(so_far.outputs.windows(2).all(|pair| pair[0].last_key < pair[1].first_key), "its outputs overlap")?;
    say(
        so_far.outputs.last().is_some_and(|last| last.last_key < so_far.boundary)
            && so_far.boundary.len() <= MAX_FULL_KEY_BYTES,
        "its boundary does not lie behind its outputs",
    )?;
    say(Sum::from_bytes(&so_far.dropped).is_some(), "the sum of what it dropped is malformed")?;
    let accounted =
        so_far.outputs.iter().try_fold(so_far.dropped_entries, |total, meta| total.checked_add(meta.entries));
    say(accounted == Some(so_far.read_entries), "what it read is not what it wrote and dropped")
}

fn short(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_TEXT_BYTES)].to_owned()
}

/// The seed of the checksum of the object in `slot`.
pub(crate) fn seed(db_uuid: &[u8], slot: u64) -> u64 {
    place_seed(checksum(SEED, db_uuid), slot)
}
