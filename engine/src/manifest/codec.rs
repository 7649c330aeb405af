//! The stored manifest object.
//!
//! An envelope (`codec/envelope.rs`) with the magic "eskerMAN" around a `manifest::Root`, seeded with the slot.
//!
//! The seed makes an object that was copied or renamed to another slot an error like a flipped bit.
//! Protobuf decoders drop fields they do not know, so `min_reader`, `min_writer` and the feature bits
//! gate: a program that does not understand a version refuses it by name, and never rewrites it. A bit is set
//! while something needs it, so that a database without holes is open to programs that do not know them.
//!
//! Always true: the envelope is the same in every version, so damage is told from novelty; what
//! [`decode`] returns keeps the rules at the head of [`crate::manifest`].

use std::collections::HashSet;

use bytes::Bytes;
use twox_hash::XxHash3_128;

use crate::{
    codec::{
        envelope::{BODY_AT, Envelope, TOKEN_BYTES, VERSION_AT},
        frame::place_seed,
        sum::Sum,
    },
    error::{Error, Result},
    manifest::{MAX_LEVEL, RING_SLOTS, Root, Run, part, wire},
    sst::SstMeta,
    store::{Folder, MAX_NUMBER, Name, ObjectId},
};

/// What this program reads up to.
pub const READER_VERSION: u32 = 1;
/// What this program writes.
pub const WRITER_VERSION: u32 = 1;
/// The required features this program knows, a bit each.
pub const KNOWN_FEATURES: u64 = FEATURE_HOLES;
/// Feature 0: there are [holes](crate::sst::hole). A program that does not know them would take an entry without an
/// object for damage, or worse, what was lost for absent.
pub const FEATURE_HOLES: u64 = 1 << 0;
/// The most bytes of a manifest object's body.
pub const MAX_BODY_BYTES: u64 = 256 << 20;
const _: () = assert!(MAX_BODY_BYTES + (64 << 10) < Folder::Manifest.most_object_bytes());

const ENVELOPE: Envelope = Envelope {
    magic: b"eskerMAN",
    max_body_bytes: MAX_BODY_BYTES,
    not_this: "this is not a manifest object",
    damaged: "the checksum does not match: the bytes are damaged, or belong to another slot",
};
const FORMAT_VERSION: u32 = 1;
/// Keeps a manifest's seeds apart from those of other kinds of objects.
const SEED: u64 = 0x6D61_6E69_6665_7374;

/// The object for `root`, which is in its stored form. The root's token is 16 bytes.
pub fn encode(root: &Root) -> Bytes {
    ENVELOPE.seal(&root.token, FORMAT_VERSION, seed(root.id), root)
}

/// Checks and decodes the object in `slot` of the database `db_uuid`. The root is in its stored form.
///
/// Fails with `Corruption` naming object and offset, or with `Unsupported` naming the version or the
/// feature that this program does not know.
pub fn decode(slot: u64, db_uuid: u128, bytes: &Bytes) -> Result<Root> {
    let root = open(slot, bytes)?;
    check_stored(&root, db_uuid, &Name::Manifest(slot).path(), BODY_AT)?;
    Ok(root)
}

/// The same of whichever database it is a version of; gives which.
pub(crate) fn decode_any(slot: u64, bytes: &Bytes) -> Result<(u128, Root)> {
    let root = open(slot, bytes)?;
    // A uuid of another length is refused by the check.
    let db_uuid = root.db_uuid[..].try_into().map_or(0, u128::from_le_bytes);
    check_stored(&root, db_uuid, &Name::Manifest(slot).path(), BODY_AT)?;
    Ok((db_uuid, root))
}

fn open(slot: u64, bytes: &Bytes) -> Result<Root> {
    let name = Name::Manifest(slot).path();
    let opened = ENVELOPE.open(seed(slot), bytes).map_err(|bad| bad.of(name.as_str(), 0))?;
    if opened.version != FORMAT_VERSION {
        let what = format!("format {}, and {FORMAT_VERSION} is known", opened.version);
        return Err(newer(&name, VERSION_AT, &what));
    }
    let root: Root = wire::decode(opened.body, &wire::ROOT, &name, BODY_AT)?;
    check_readable(&root, &name, BODY_AT)?;
    if root.id != slot || root.token[..] != opened.token {
        return Err(Error::corruption(name, BODY_AT, "the body belongs to another slot or attempt"));
    }
    Ok(root)
}

/// Fails with `Unsupported` if this program does not understand `root`, which lies at `offset` of the object `name`.
pub(crate) fn check_readable(root: &Root, name: &str, offset: u64) -> Result<()> {
    if root.min_reader > READER_VERSION {
        let what = format!("it asks for reader version {}, and this is {READER_VERSION}", root.min_reader);
        return Err(newer(name, offset, &what));
    }
    let unknown = root.required_features & !KNOWN_FEATURES;
    if unknown != 0 {
        let what = format!("it needs feature {}, which is not known here", unknown.trailing_zeros());
        return Err(newer(name, offset, &what));
    }
    Ok(())
}

/// Fails with `Corruption` if the stored form of `root` breaks a rule, or is not of the database `db_uuid`.
pub(crate) fn check_stored(root: &Root, db_uuid: u128, name: &str, offset: u64) -> Result<()> {
    if root.db_uuid[..] != db_uuid.to_le_bytes() {
        return Err(Error::corruption(name, offset, "this version belongs to another database"));
    }
    check_root(root).map_err(|what| Error::corruption(name, offset, what))
}

/// The hash by which the next version names this object.
pub fn object_hash(bytes: &[u8]) -> u128 {
    XxHash3_128::oneshot(bytes)
}

/// Fails if this program is too old to commit on top of `root`.
pub fn check_writer(root: &Root) -> Result<()> {
    if root.min_writer > WRITER_VERSION {
        let what = format!("it asks for writer version {}, and this is {WRITER_VERSION}", root.min_writer);
        return Err(newer(&Name::Manifest(root.id).path(), BODY_AT, &what));
    }
    Ok(())
}

/// Fails, saying what is wrong, if the SSTs of a complete run overlap or are out of order.
pub(crate) fn check_order(run: &Run) -> Result<(), String> {
    if run.ssts.iter().any(SstMeta::is_hole) && !run.ssts.iter().all(SstMeta::is_hole) {
        return Err(format!("run {} holds SSTs beside holes", run.id));
    }
    for pair in run.ssts.windows(2) {
        if pair[0].last_key >= pair[1].first_key {
            let (a, b) = (sst_name(&pair[0]), sst_name(&pair[1]));
            return Err(format!("{a} and {b} of run {} overlap or are out of order", run.id));
        }
    }
    Ok(())
}

/// Fails, saying what is wrong, if the sum of a complete version is not the sum of its SSTs' sums.
pub(crate) fn check_sum(root: &Root) -> Result<(), String> {
    let mut total = Sum::default();
    for sst in root.ssts() {
        let sum = Sum::from_bytes(&sst.sum);
        total.add(&sum.ok_or_else(|| format!("the sum of {} is malformed", sst_name(sst)))?);
    }
    if root.sum[..] == total.to_bytes() {
        return Ok(());
    }
    Err(format!("the conservation sum is not the sum of the SSTs' sums, which is {total}"))
}

/// Fails, saying what is wrong, if an SST's entry is not well formed.
pub(crate) fn check_sst(sst: &SstMeta) -> Result<(), String> {
    sst.check().map_err(|e| format!("the entry of {} is malformed, {e}", sst_name(sst)))
}

/// The SST's path, for sentences.
pub(crate) fn sst_name(sst: &SstMeta) -> String {
    ObjectId::from_bytes(&sst.id)
        .map_or_else(|| "an SST without a name".to_owned(), |id| Name::Sst(id).path())
}

/// What can be told from the stored form alone; overlap is checked once the parts are loaded.
fn check_root(root: &Root) -> Result<(), String> {
    let say = |ok: bool, what: &str| if ok { Ok(()) } else { Err(what.to_owned()) };
    let (writer, compactor) = (&root.writer, &root.compactor);
    let numbers = [
        root.id,
        root.next_run,
        writer.counter_floor,
        writer.replay_from,
        writer.tail_hint,
        writer.fence_slot,
        writer.last_seq,
        compactor.counter_floor,
    ];
    say(numbers.iter().all(|number| *number <= MAX_NUMBER), "a number is past its limit")?;
    say(writer.fence_slot <= writer.tail_hint, "the last fence lies behind the end of the log")?;
    say(writer.fence_epoch <= writer.epoch, "the last fence is of an epoch that was not given out")?;
    say(root.prev_hash.len() == 16, "the previous version's hash is malformed")?;
    say(Sum::from_bytes(&root.sum).is_some(), "the conservation sum is malformed")?;
    let ring_fits = root.ring.len() <= RING_SLOTS
        && root.ring.iter().all(|slot| slot.id <= root.id && slot.token.len() == TOKEN_BYTES);
    say(ring_fits, "the ring of commits is malformed")?;
    let mut names = HashSet::new();
    let keyspaces_fit = root
        .keyspaces
        .iter()
        .all(|k| k.id < root.next_keyspace && !k.name.is_empty() && names.insert(k.name.as_str()));
    say(keyspaces_fit, "the keyspaces are malformed")?;
    say(root.runs.is_sorted_by_key(|run| run.level), "the runs are not in the order of their levels")?;
    let holds = |run: &Run| !run.ssts.is_empty() || !run.parts.is_empty();
    say(root.runs.iter().all(holds), "a run holds nothing")?;
    say(root.runs.iter().all(|run| run.level <= MAX_LEVEL), "a level is past the deepest")?;
    let mut parts = HashSet::new();
    // A part named often would be fetched, and held, as often.
    let parts_fit = root.runs.iter().flat_map(|run| &run.parts).all(|part| {
        part.object_id().is_some()
            && part.hash.len() == 16
            && part.bytes <= part::MAX_OBJECT_BYTES
            && parts.insert(&part.id[..])
    });
    say(parts_fit, "the parts are malformed, or one is named twice")?;
    let mut ids = HashSet::new();
    say(
        root.runs.iter().all(|run| run.id < root.next_run && ids.insert(run.id)),
        "the ids of runs are malformed",
    )?;
    let marked = root.required_features & FEATURE_HOLES != 0;
    say(marked || !root.ssts().any(SstMeta::is_hole), "there are holes, and the feature is not marked")?;
    root.ssts().try_for_each(check_sst)
}

/// The features that a complete `root` needs.
pub(crate) fn required_features(root: &Root) -> u64 {
    if root.ssts().any(SstMeta::is_hole) { FEATURE_HOLES } else { 0 }
}

fn newer(name: &str, offset: u64, what: &str) -> Error {
    Error::unsupported(format!("this version was written by a newer esker: {what}"))
        .at(name, offset)
        .hint("open this database with a newer esker")
}

/// The seed of the checksum of the object in `slot`.
pub(crate) fn seed(slot: u64) -> u64 {
    place_seed(SEED, slot)
}
