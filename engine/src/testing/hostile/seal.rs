//! Mends what guards an object, so that what lies behind the guard is reached.
//!
//! Nearly every mutated object ends at its checksum. These functions put right checksums, lengths and places
//! into one, wherever they find room for them, and leave everything else as hostile as it was.
//!
//! Always true: they never panic, whatever the bytes; an object that was sound stays what it was.

use bytes::Bytes;
use prost::Message;

use super::{DB_UUID, ID, SLOT};
use crate::{
    block::TRAILER_BYTES,
    codec::{
        envelope::{BODY_AT, VERSION_AT},
        frame::{checksum, place_seed},
    },
    compaction::record,
    manifest::{codec, copy},
    sst::{
        SstMeta,
        footer::{FOOTER_BYTES, Footer, Properties},
        object_hash,
    },
    store::Name,
};

/// Makes the parts of a raw block fit it, and its trailer one that is known.
pub(super) fn block(bytes: &mut [u8]) {
    let Some(trailer_at) = bytes.len().checked_sub(TRAILER_BYTES) else { return };
    let (parts, trailer) = bytes.split_at_mut(trailer_at);
    let room = parts.len() as u64;
    let mut entries = u64::from(get32(trailer, 16)).max(1);
    let interval = u64::from(u16::from_le_bytes([trailer[28], trailer[29]]).max(1));
    trailer[30] %= 9;
    trailer[31] %= 9;
    if trailer[32] > 4 {
        trailer[32] = 0xFF;
    }
    trailer[33..36].copy_from_slice(&[0, 0, 1]);
    let columns = u64::from(trailer[30]) + u64::from(trailer[31]) + u64::from(trailer[32] == 0xFF);
    let taken = |entries: u64| entries * columns + entries.div_ceil(interval) * 8;
    while taken(entries) > room && entries > 1 {
        entries /= 2;
    }
    let keys = u64::from(get32(trailer, 20)).min(room.saturating_sub(taken(entries)));
    let values = room.saturating_sub(taken(entries) + keys);
    put(trailer, 16, &(entries as u32).to_le_bytes());
    put(trailer, 20, &(keys as u32).to_le_bytes());
    put(trailer, 24, &(values as u32).to_le_bytes());
    put(trailer, 28, &(interval as u16).to_le_bytes());
}

/// What an SST says of itself, as the manifest would say it.
pub(super) fn meta_of(object: &[u8]) -> SstMeta {
    let meta = parts_of(object)
        .and_then(|[_, _, properties]| Properties::decode(properties).ok())
        .map_or_else(SstMeta::default, |properties| properties.meta);
    SstMeta {
        id: ID.to_bytes().into(),
        bytes: object.len() as u64,
        tail_offset: tail_offset(object).unwrap_or(0),
        hash: object_hash(object),
        ..meta
    }
}

/// The SST with right checksums, a footer and properties that fit, and its manifest entry.
pub(super) fn sst(object: &[u8]) -> (SstMeta, Bytes) {
    let (Some([filter, index, properties]), Some(tail_offset)) = (parts_of(object), tail_offset(object))
    else {
        return (meta_of(object), Bytes::copy_from_slice(object));
    };
    let mut blocks = object[..tail_offset as usize].to_vec();
    seal_blocks(&mut blocks, index);
    let mut said = Properties::decode(properties).unwrap_or_default();
    said.meta = SstMeta { id: ID.to_bytes().into(), bytes: 0, tail_offset, hash: Bytes::new(), ..said.meta };
    let properties = said.encode_to_vec();
    let footer = Footer::of(ID, tail_offset, [filter, index, &properties]);
    let mut sealed = blocks;
    sealed.extend_from_slice(filter);
    sealed.extend_from_slice(index);
    sealed.extend_from_slice(&properties);
    let at = sealed.len() as u64;
    footer.write(ID, at, &mut sealed);
    let meta = SstMeta { bytes: sealed.len() as u64, hash: object_hash(&sealed), ..said.meta };
    (meta, sealed.into())
}

/// Filter, index and properties, where the sizes in the footer put them.
fn parts_of(object: &[u8]) -> Option<[&[u8]; 3]> {
    let footer_at = object.len().checked_sub(FOOTER_BYTES)?;
    let footer = &object[footer_at..];
    let mut at = usize::try_from(tail_offset(object)?).ok()?;
    let mut parts = [&[][..]; 3];
    for (n, part) in parts.iter_mut().enumerate() {
        let end = at.checked_add(get32(footer, n * 4) as usize)?.min(footer_at);
        *part = object.get(at..end)?;
        at = end;
    }
    Some(parts)
}

fn tail_offset(object: &[u8]) -> Option<u64> {
    let footer_at = object.len().checked_sub(FOOTER_BYTES)?;
    let at = u64::from_le_bytes(*object[footer_at + 40..].first_chunk()?);
    (at <= footer_at as u64).then_some(at)
}

/// A right checksum at the end of every block that the index names.
fn seal_blocks(blocks: &mut [u8], index: &[u8]) {
    let Some(counts) = index.len().checked_sub(8) else { return };
    let count = get32(index, counts + 4) as usize;
    let Some(ends) = counts.checked_sub(count.saturating_mul(8)) else { return };
    let mut start = 0;
    for end in index[ends..counts].as_chunks::<8>().0 {
        let Ok(end) = usize::try_from(u64::from_le_bytes(*end)) else { return };
        let Some((checked, sum)) =
            blocks.get_mut(start..end).and_then(|block| block.split_last_chunk_mut::<8>())
        else {
            return;
        };
        *sum = checksum(place_seed(ID.seed(), start as u64), checked).to_le_bytes();
        start = end;
    }
}

/// A log object that lies in its place, with right lengths and checksums.
pub(super) fn wal(bytes: &mut [u8]) {
    let header_bytes = if bytes.get(24..26) == Some(&[1, 0]) { 112 } else { 120 };
    let Some(body_bytes) = bytes.len().checked_sub(header_bytes + 8) else { return };
    put(bytes, 0, b"eskerWAL");
    put(bytes, 32, &SLOT.to_le_bytes());
    put(bytes, 56, &DB_UUID.to_le_bytes());
    put(bytes, 104, &(body_bytes as u64).to_le_bytes());
    let (sealed, sum) = bytes.split_at_mut(header_bytes + body_bytes);
    let is_raw = sealed[27] == 0;
    if is_raw {
        put(sealed, 96, &(body_bytes as u64).to_le_bytes());
        let mut at = header_bytes;
        while let Some(length) = sealed.get(at..at + 4).map(|length| get32(length, 0) as usize)
            && let Some((batch, sum)) = at
                .checked_add(length)
                .and_then(|end| sealed.get_mut(at..end))
                .and_then(|batch| batch.split_last_chunk_mut::<8>())
        {
            *sum = checksum(0, batch).to_le_bytes();
            at += length;
        }
    }
    let seed = place_seed(DB_UUID as u64 ^ (DB_UUID >> 64) as u64, SLOT);
    put(sum, 0, &checksum(seed, sealed).to_le_bytes());
}

/// A version whose envelope is right.
pub(super) fn manifest(bytes: &mut [u8]) {
    envelope(bytes, b"eskerMAN", codec::seed(SLOT));
}

/// A pin or checkpoint whose envelope is right.
pub(super) fn copy(name: &Name, bytes: &mut [u8]) {
    let magic = if matches!(name, Name::Pin(_)) { b"eskerPIN" } else { b"eskerCPT" };
    envelope(bytes, magic, copy::seed(name));
}

/// A record of the job log whose envelope is right.
pub(super) fn job(bytes: &mut [u8]) {
    envelope(bytes, b"eskerJOB", record::seed(&DB_UUID.to_le_bytes(), SLOT));
}

fn envelope(bytes: &mut [u8], magic: &[u8; 8], seed: u64) {
    let Some(body_bytes) = bytes.len().checked_sub(BODY_AT as usize + 8) else { return };
    put(bytes, 0, magic);
    put(bytes, VERSION_AT as usize, &1u32.to_le_bytes());
    put(bytes, VERSION_AT as usize + 4, &(body_bytes as u64).to_le_bytes());
    seal_end(bytes, seed);
}

/// A part whose envelope is right.
pub(super) fn part(bytes: &mut [u8]) {
    const HEADER_BYTES: usize = 24;
    let Some(body_bytes) = bytes.len().checked_sub(HEADER_BYTES + 8) else { return };
    put(bytes, 0, b"eskerPRT");
    put(bytes, 8, &1u32.to_le_bytes());
    put(bytes, 16, &(body_bytes as u64).to_le_bytes());
    seal_end(bytes, ID.seed());
}

/// An identity with a right checksum.
pub(super) fn identity(bytes: &mut [u8]) {
    put(bytes, 0, b"eskerDB1");
    seal_end(bytes, 0);
}

/// XXH3-64 of everything before it, in the last eight bytes.
fn seal_end(bytes: &mut [u8], seed: u64) {
    if let Some((sealed, sum)) = bytes.split_last_chunk_mut::<8>() {
        *sum = checksum(seed, sealed).to_le_bytes();
    }
}

fn put(bytes: &mut [u8], at: usize, what: &[u8]) {
    if let Some(room) = bytes.get_mut(at..at + what.len()) {
        room.copy_from_slice(what);
    }
}

fn get32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |word| u32::from_le_bytes(*word))
}
