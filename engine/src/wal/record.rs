//! A WAL object: a header, then batches of operations; or a fence.
//!
//! ```text
//!   0  magic "eskerWAL"                      8
//!   8  attempt token                        16    whose object this is (store::sequence)
//!  24  format version                      u16
//!  26  object kind: 1 DATA, 2 FENCE         u8
//!  27  codec of the body                    u8
//!  28  writer epoch                        u32
//!  32  slot                                u64
//!  40  first sequence number               u64    0 in a FENCE, as the next three
//!  48  last sequence number                u64
//!  56  database uuid                        16
//!  72  writer uuid                          16
//!  88  batches                             u32
//!  92  entries                             u32
//!  96  body bytes, raw                     u64
//! 104  body bytes, as stored               u64
//! 112  durable up to slot                  u64    not in format version 1; 0 in a FENCE
//! 120  body                                       DATA: batches; FENCE: the writer's name, UTF-8
//!   …  XXH3-64 of everything before        u64    seeded with database uuid and slot
//!
//! batch = bytes of the whole batch u32 ‖ varint (first number − the header's first) ‖ varint ops
//!         ‖ op … ‖ XXH3-64 of the batch before it
//! op    = kind u8 ‖ varint key bytes ‖ varint value bytes ‖ varint expiry ms ‖ full key ‖ value
//! ```
//!
//! All integers are little-endian. Numbers inside are relative to the header's first, so an object
//! can be re-based without re-encoding. The whole-object checksum covers what is stored and knows its
//! place; a batch's own checksum is made when the batch is, before it waits in memory to be sent.
//!
//! "Durable up to" tells a hole from a crash: every slot of the walk up to it had been acknowledged when the
//! object was sent, so one of them that is absent has been lost, not never written.
//!
//! Always true: the envelope (magic, token, lengths, checksum at the end) is the same in every
//! version, so a damaged object is told from a newer one; limits are checked before anything is
//! allocated; the numbers in an object ascend.

use bytes::{BufMut, Bytes};

use crate::{
    codec::{
        frame::{self, Codec, checksum},
        varint::{BadInput, Input, MAX_VARINT_BYTES, put_varint, varint_bytes},
    },
    error::{Error, ErrorKind, Result},
    key::{Entry, KEYSPACE_BYTES, Kind, MAX_KEY_BYTES, MAX_SEQ, MAX_VALUE_BYTES, Seq},
    store::{Folder, Name},
};

/// The most raw bytes of batches in one object.
pub const MAX_BODY_BYTES: usize = 1 << 30;
const _: () =
    assert!(MAX_BODY_BYTES + HEADER_BYTES + CHECKSUM_BYTES < Folder::Wal.most_object_bytes() as usize);
/// The longest writer name in a FENCE, in bytes; a longer one is cut.
pub const MAX_WRITER_NAME_BYTES: usize = 255;
/// No FENCE is larger than this, in bytes: what is, need not be read to know that it is none.
pub const MAX_FENCE_BYTES: u64 = 1024;
/// The version of the format written.
pub const FORMAT_VERSION: u16 = 2;

pub(crate) const BATCH_LENGTH_BYTES: usize = 4;
pub(crate) const CHECKSUM_BYTES: usize = 8;
/// A batch does not know its place yet; the object's checksum does.
pub(crate) const BATCH_SEED: u64 = 0;

const MAGIC: &[u8; 8] = b"eskerWAL";
const HEADER_BYTES: usize = 120;
/// Of format version 1, which does not say what was durable.
const HEADER_BYTES_V1: usize = 112;
const VERSION_AT: u64 = 24;
const KIND_AT: u64 = 26;
const CODEC_AT: u64 = 27;
const SLOT_AT: u64 = 32;
const FIRST_SEQ_AT: u64 = 40;
const UUID_AT: u64 = 56;
const COUNTS_AT: u64 = 88;
const LENGTHS_AT: u64 = 96;
const STORED_BYTES_AT: usize = 104;
const DATA: u8 = 1;
const FENCE: u8 = 2;
/// The best that LZ4 can do, rounded up: a declared length beyond it is hostile.
const MAX_RATIO: u64 = 256;
/// The most entries that room is made for before they are seen.
const RESERVED_ENTRIES: usize = 1 << 12;
/// Kind, three varints of a byte and the shortest full key.
const MIN_OP_BYTES: usize = 4 + KEYSPACE_BYTES;

/// One operation of a batch, before it has a number. `key` is a full key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Op<'a> {
    /// What it does.
    pub kind: Kind,
    /// The full key.
    pub key: &'a [u8],
    /// When it expires, in wall-clock milliseconds; 0 if it does not.
    pub expire_at_ms: u64,
    /// The value; empty unless the kind carries one.
    pub value: &'a [u8],
}

/// What will be one WAL object: cut off, not yet given its header.
#[derive(Debug, Clone)]
pub struct SealedLog {
    /// The number that the batches' numbers are relative to.
    pub first_seq: Seq,
    /// The last number in it; one below `first_seq` if it is empty.
    pub last_seq: Seq,
    /// Whole batches, in order.
    pub chunks: Vec<Bytes>,
    /// The bytes of all chunks.
    pub bytes: usize,
    /// How many batches there are.
    pub batches: u32,
    /// How many entries they hold.
    pub entries: u32,
}

/// Who wrote an object, and where it belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalHeader {
    /// The database it belongs to.
    pub db_uuid: u128,
    /// The writer that wrote it.
    pub writer_uuid: u128,
    /// That writer's epoch.
    pub epoch: u32,
    /// The slot it belongs in.
    pub slot: u64,
    /// The attempt that wrote it.
    pub token: [u8; 16],
    /// The first sequence number in it; 0 in a FENCE.
    pub first_seq: Seq,
    /// Every slot of the walk up to this one was durable when the object was sent; 0 if it does not say.
    pub durable_to: u64,
}

/// A decoded WAL object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WalObject {
    /// Entries, in the order they were written.
    Data {
        /// Who wrote it.
        header: WalHeader,
        /// The entries; their numbers ascend. They share the object's bytes, or those of its raw body.
        entries: Vec<Entry>,
        /// The last sequence number in it.
        last_seq: Seq,
    },
    /// The end of every older epoch: what they still had in flight can only lie in the K slots behind it.
    Fence {
        /// Who wrote it.
        header: WalHeader,
        /// The writer's name, for the sentence a fenced writer prints.
        writer_name: String,
    },
}

impl WalObject {
    /// Checks and decodes the object in `slot`: checksum, place, database, limits, order.
    ///
    /// Fails with `Corruption` naming object and offset, or with `Unsupported` if a newer version wrote it.
    #[expect(clippy::needless_pass_by_value, reason = "it is kept: the entries are slices of it")]
    pub fn decode(slot: u64, db_uuid: u128, bytes: Bytes) -> Result<Self> {
        let name = Name::Wal(slot).path();
        let corrupt = |offset: u64, what: String| Error::corruption(name.as_str(), offset, what);
        let bad = |bad: BadInput| bad.of(name.as_str(), 0);

        let mut input = Input::new(&bytes);
        if input.array::<8>().map_err(bad)? != *MAGIC {
            return Err(corrupt(0, "this is not a WAL object".into()));
        }
        let token = input.array().map_err(bad)?;
        let version = input.u16().map_err(bad)?;
        let kind = input.u8().map_err(bad)?;
        let codec = input.u8().map_err(bad)?;
        let epoch = input.u32().map_err(bad)?;
        let stored_slot = input.u64().map_err(bad)?;
        let first_seq = input.u64().map_err(bad)?;
        let last_seq = input.u64().map_err(bad)?;
        let stored_uuid = u128::from_le_bytes(input.array().map_err(bad)?);
        let writer_uuid = u128::from_le_bytes(input.array().map_err(bad)?);
        let batches = input.u32().map_err(bad)?;
        let entries = input.u32().map_err(bad)?;
        let raw_bytes = input.u64().map_err(bad)?;
        let stored_bytes = input.u64().map_err(bad)?;
        let header_bytes = if version == 1 { HEADER_BYTES_V1 } else { HEADER_BYTES };
        let durable_to = if version == 1 { 0 } else { input.u64().map_err(bad)? };
        let whole = (header_bytes + CHECKSUM_BYTES) as u64;
        if stored_bytes.checked_add(whole) != Some(bytes.len() as u64) {
            let found = bytes.len();
            return Err(corrupt(
                LENGTHS_AT,
                format!("{stored_bytes} bytes of body do not fit an object of {found} bytes"),
            ));
        }
        let body = bytes.slice(header_bytes..bytes.len() - CHECKSUM_BYTES);
        let sealed = &bytes[..header_bytes + body.len()];
        let (found, expected) = (object_checksum(db_uuid, slot, sealed), &bytes[sealed.len()..]);
        if found.to_le_bytes() != *expected {
            let what =
                "the checksum does not match: the bytes are damaged, or belong to another slot or database";
            return Err(corrupt(sealed.len() as u64, what.into()));
        }
        if !(1..=FORMAT_VERSION).contains(&version) {
            let what = format!(
                "this log was written by a newer esker: format {version}, and {FORMAT_VERSION} is known"
            );
            return Err(Error::unsupported(what)
                .at(name, VERSION_AT)
                .hint("open this database with a newer esker"));
        }
        if stored_slot != slot {
            return Err(corrupt(SLOT_AT, format!("this object belongs in slot {stored_slot}")));
        }
        if stored_uuid != db_uuid {
            return Err(corrupt(
                UUID_AT,
                format!("this object belongs to database {stored_uuid:032x}, not {db_uuid:032x}"),
            ));
        }
        let header = WalHeader { db_uuid, writer_uuid, epoch, slot, token, first_seq, durable_to };
        match kind {
            DATA => {
                if first_seq == 0 || last_seq > MAX_SEQ {
                    return Err(corrupt(
                        FIRST_SEQ_AT,
                        "the sequence numbers are outside their limits".into(),
                    ));
                }
                let codec = Codec::from_u8(codec).map_err(|e| e.at(name.as_str(), CODEC_AT))?;
                let body = raw_body(codec, body, raw_bytes).map_err(|e| e.at(name.as_str(), LENGTHS_AT))?;
                let entries =
                    decode_batches(&name, &header, header_bytes, &body, (batches, entries), last_seq)?;
                Ok(Self::Data { header, entries, last_seq })
            }
            FENCE => {
                let writer_name = std::str::from_utf8(&body).map_err(|e| {
                    corrupt(header_bytes as u64, "a writer's name is not UTF-8".into()).because(e)
                })?;
                if writer_name.len() > MAX_WRITER_NAME_BYTES {
                    return Err(corrupt(LENGTHS_AT, "a writer's name is over its limit".into()));
                }
                Ok(Self::Fence { header, writer_name: writer_name.to_owned() })
            }
            _ => Err(Error::unsupported(format!("WAL object kind {kind} is not known to this version"))
                .at(name, KIND_AT)
                .hint("open this database with a newer esker")),
        }
    }

    /// Who wrote it.
    pub fn header(&self) -> &WalHeader {
        match self {
            Self::Data { header, .. } | Self::Fence { header, .. } => header,
        }
    }
}

/// A DATA object: the header, and the log, compressed with `codec` if that gains an eighth.
/// `header.first_seq` is what the log's numbers become relative to.
///
/// CPU work in proportion to the log's bytes, one copy of them included.
pub fn encode_data(header: &WalHeader, log: &SealedLog, codec: Codec) -> Bytes {
    let last_seq = (header.first_seq + (log.last_seq + 1 - log.first_seq)).saturating_sub(1);
    let raw_bytes = log.chunks.iter().map(Bytes::len).sum();
    let counts = (log.batches, log.entries);
    encode(header, DATA, last_seq, counts, raw_bytes, |object| {
        if codec == Codec::None {
            log.chunks.iter().for_each(|chunk| object.extend_from_slice(chunk));
            return Codec::None;
        }
        frame::compress(codec, &log.chunks.concat(), object)
    })
}

/// A FENCE object of the writer called `writer_name`.
pub fn encode_fence(header: &WalHeader, writer_name: &str) -> Bytes {
    let name = &writer_name[..writer_name.floor_char_boundary(MAX_WRITER_NAME_BYTES)];
    let header = WalHeader { first_seq: 0, durable_to: 0, ..header.clone() };
    encode(&header, FENCE, 0, (0, 0), name.len(), |object| {
        object.extend_from_slice(name.as_bytes());
        Codec::None
    })
}

impl Op<'_> {
    /// The bytes in front of the key.
    pub(crate) fn head_bytes(&self) -> usize {
        1 + varint_bytes(self.key.len() as u64)
            + varint_bytes(self.value.len() as u64)
            + varint_bytes(self.expire_at_ms)
    }
    /// All its bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.head_bytes() + self.key.len() + self.value.len()
    }
    /// Appends what lies in front of the key.
    pub(crate) fn put_head(&self, out: &mut Small) {
        out.put(&[self.kind as u8]);
        out.varint(self.key.len() as u64);
        out.varint(self.value.len() as u64);
        out.varint(self.expire_at_ms);
    }
}

/// The small fields between keys and values, gathered on the stack: one append to the buffer instead of six.
#[derive(Debug)]
pub(crate) struct Small {
    bytes: [u8; SMALL_BYTES],
    len: usize,
}

/// The heads of a batch and of an op at their longest.
const SMALL_BYTES: usize = BATCH_LENGTH_BYTES + 2 * MAX_VARINT_BYTES + 1 + 3 * MAX_VARINT_BYTES;

impl Default for Small {
    fn default() -> Self {
        Self { bytes: [0; SMALL_BYTES], len: 0 }
    }
}

impl Small {
    #[inline]
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }
    #[inline]
    pub(crate) fn varint(&mut self, value: u64) {
        let mut room = &mut self.bytes[self.len..];
        let before = room.len();
        put_varint(&mut room, value);
        self.len += before - room.len();
    }
    pub(crate) fn filled(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }
}

/// `put_body` appends the body, and says how it is stored.
fn encode(
    header: &WalHeader,
    kind: u8,
    last_seq: Seq,
    (batches, entries): (u32, u32),
    raw_bytes: usize,
    put_body: impl FnOnce(&mut Vec<u8>) -> Codec,
) -> Bytes {
    let mut object = Vec::with_capacity(HEADER_BYTES + raw_bytes + CHECKSUM_BYTES);
    object.put_slice(MAGIC);
    object.put_slice(&header.token);
    object.put_u16_le(FORMAT_VERSION);
    object.put_u8(kind);
    object.put_u8(Codec::None as u8);
    object.put_u32_le(header.epoch);
    object.put_u64_le(header.slot);
    object.put_u64_le(header.first_seq);
    object.put_u64_le(last_seq);
    object.put_u128_le(header.db_uuid);
    object.put_u128_le(header.writer_uuid);
    object.put_u32_le(batches);
    object.put_u32_le(entries);
    object.put_u64_le(raw_bytes as u64);
    object.put_u64_le(0);
    object.put_u64_le(header.durable_to);
    debug_assert_eq!(object.len(), HEADER_BYTES, "the picture at the head is wrong");
    let codec = put_body(&mut object);
    let stored_bytes = (object.len() - HEADER_BYTES) as u64;
    object[CODEC_AT as usize] = codec as u8;
    object[STORED_BYTES_AT..STORED_BYTES_AT + 8].copy_from_slice(&stored_bytes.to_le_bytes());
    let sum = object_checksum(header.db_uuid, header.slot, &object);
    object.put_u64_le(sum);
    object.into()
}

fn object_checksum(db_uuid: u128, slot: u64, object: &[u8]) -> u64 {
    checksum(frame::place_seed(db_uuid as u64 ^ (db_uuid >> 64) as u64, slot), object)
}

fn raw_body(codec: Codec, stored: Bytes, raw_bytes: u64) -> Result<Bytes> {
    if raw_bytes > MAX_BODY_BYTES as u64 || raw_bytes > (stored.len() as u64).saturating_mul(MAX_RATIO) {
        let what = format!("a body of {raw_bytes} bytes is over the limit");
        return Err(Error::new(ErrorKind::Corruption, what));
    }
    match codec {
        Codec::None if stored.len() as u64 == raw_bytes => Ok(stored),
        codec => frame::decompress(codec, &stored, raw_bytes as usize, MAX_BODY_BYTES).map(Bytes::from),
    }
}

/// The entries of a raw body. Offsets in errors count as if the body were stored raw.
fn decode_batches(
    name: &str,
    header: &WalHeader,
    header_bytes: usize,
    body: &Bytes,
    (batches, count): (u32, u32),
    last_seq: Seq,
) -> Result<Vec<Entry>> {
    let corrupt = |offset: u64, what: &str| Error::corruption(name, offset, what);
    // No more room than the bytes that are here could fill.
    let room = (count as usize).min(body.len() / MIN_OP_BYTES).min(RESERVED_ENTRIES);
    let mut entries = Vec::with_capacity(room);
    let mut at = 0;
    let mut next_seq = header.first_seq;
    for _ in 0..batches {
        let base = (header_bytes + at) as u64;
        let bad = |bad: BadInput| bad.of(name, base);
        let length = Input::new(&body[at..]).u32().map_err(bad)? as usize;
        let checked = length.checked_sub(CHECKSUM_BYTES).filter(|n| *n >= BATCH_LENGTH_BYTES);
        let (Some(checked), Some(batch)) = (checked, body.get(at..at + length)) else {
            return Err(corrupt(base, "a batch's length does not fit the body"));
        };
        let (ops, sum) = batch.split_at(checked);
        if checksum(BATCH_SEED, ops).to_le_bytes() != *sum {
            return Err(corrupt(base + checked as u64, "the checksum of a batch does not match"));
        }
        let mut input = Input::new(ops);
        input.u32().map_err(bad)?;
        let delta = input.varint().map_err(bad)?;
        let ops = input.varint().map_err(bad)?;
        let first = header.first_seq.checked_add(delta).filter(|first| *first >= next_seq);
        let end =
            first.and_then(|first| first.checked_add(ops)).filter(|end| *end <= last_seq.saturating_add(1));
        let (Some(first), Some(end)) = (first, end) else {
            return Err(corrupt(base, "the sequence numbers of a batch are out of order"));
        };
        for seq in first..end {
            let entry = decode_op(&mut input, body, seq).map_err(|e| match e {
                BadOp::Bytes(e) => bad(e),
                BadOp::Kind(e) => e.at(name, base),
            })?;
            entries.push(entry);
        }
        input.finish().map_err(bad)?;
        next_seq = end;
        at += length;
    }
    if at != body.len() || entries.len() != count as usize {
        return Err(corrupt(
            COUNTS_AT,
            "the body does not hold as many batches and entries as the header says",
        ));
    }
    // One past the last, or an empty object: `last` is then one below `first`.
    if next_seq.saturating_sub(1) != last_seq {
        return Err(corrupt(FIRST_SEQ_AT, "the last sequence number is not the one the header says"));
    }
    Ok(entries)
}

enum BadOp {
    Bytes(BadInput),
    Kind(Error),
}

impl From<BadInput> for BadOp {
    fn from(bad: BadInput) -> Self {
        Self::Bytes(bad)
    }
}

fn decode_op(input: &mut Input<'_>, body: &Bytes, seq: Seq) -> Result<Entry, BadOp> {
    let kind = Kind::from_u8(input.u8()?).map_err(BadOp::Kind)?;
    let at = input.clone();
    let (key_bytes, value_bytes) = (input.varint()?, input.varint()?);
    if key_bytes > (KEYSPACE_BYTES + MAX_KEY_BYTES) as u64 || key_bytes < KEYSPACE_BYTES as u64 {
        return Err(at.bad("the length of a key is outside its limits").into());
    }
    if value_bytes > MAX_VALUE_BYTES as u64 {
        return Err(at.bad("the length of a value is over its limit").into());
    }
    let expire_at_ms = input.varint()?;
    let key = body.slice_ref(input.take(key_bytes as usize)?);
    let value = body.slice_ref(input.take(value_bytes as usize)?);
    Ok(Entry { key, seq, kind, expire_at_ms, value })
}
