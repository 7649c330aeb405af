//! One SST, read in pieces and checked whole: checksums, order, index, filter, counts, sums, the object's hash.
//!
//! Always true: no more than the tail and `PIECE_BYTES` of blocks (or one block) are held; a piece that was found
//! damaged is read once more before it is believed.

use bytes::Bytes;

use crate::{
    clock::on_cpu,
    error::{Error, ErrorKind, Result},
    sst::{BlockRef, Check, SstMeta},
    stats::Cause,
    store::{Name, Store},
    verify::{Finding, Pace},
};

/// Bytes of blocks that are read at a time.
const PIECE_BYTES: u64 = 1 << 20;
/// More damaged blocks of one SST than this are only counted.
const MAX_BLOCKS: usize = 16;

/// Checks the SST that `meta` describes. What is wrong with it is in the answer; fails only as the store does.
pub async fn check(store: &Store, meta: &SstMeta, pace: &Pace) -> Result<Vec<Finding>> {
    let first = read(store, meta, pace).await?;
    if first.is_empty() {
        return Ok(first);
    }
    // Once more: what was wrong on the way is right now.
    let second = read(store, meta, pace).await?;
    if second.is_empty() {
        let what = format!("a first read was damaged and a second was not: {}", first[0].what);
        return Ok(vec![Finding::notice(Name::Sst(meta.object_id()), what)]);
    }
    Ok(second)
}

async fn read(store: &Store, meta: &SstMeta, pace: &Pace) -> Result<Vec<Finding>> {
    let name = Name::Sst(meta.object_id());
    let mut findings = Vec::new();
    let begun = async {
        pace.take(meta.tail_bytes()).await;
        let tail = store.get_range(&name, meta.tail_offset..meta.bytes, Cause::Admin).await?;
        let meta = meta.clone();
        on_cpu(move || Check::begin(&meta, tail)).await?
    };
    let mut check = match begun.await {
        Ok(check) => check,
        Err(error) => {
            findings.push(Finding::of(&name, error)?);
            return Ok(findings);
        }
    };
    let mut more = 0u64;
    loop {
        let places = check.next_blocks(PIECE_BYTES);
        let (Some(first), Some(last)) = (places.first(), places.last()) else { break };
        let range = first.offset..last.offset + u64::from(last.bytes);
        pace.take(range.end - range.start).await;
        let piece = match store.get_range(&name, range, Cause::Admin).await {
            Ok(piece) => piece,
            Err(error) => {
                findings.push(Finding::of(&name, error)?);
                return Ok(findings);
            }
        };
        let (back, errors) = on_cpu(move || blocks(check, &places, &piece)).await?;
        check = back;
        for error in errors {
            if findings.len() < MAX_BLOCKS {
                findings.push(Finding::of(&name, error)?);
            } else if error.kind() == ErrorKind::Corruption {
                more += 1;
            } else {
                return Err(error);
            }
        }
    }
    if let Err(error) = check.finish() {
        findings.push(Finding::of(&name, error)?);
    }
    if more > 0 {
        findings.push(Finding::damage(name, format!("{more} more blocks are damaged")));
    }
    Ok(findings)
}

/// Checks the blocks at `places`, which `piece` holds back to back.
fn blocks(mut check: Check, places: &[BlockRef], piece: &Bytes) -> (Check, Vec<Error>) {
    let mut errors = Vec::new();
    let mut at = 0;
    for place in places {
        let end = at + place.bytes as usize;
        if let Err(error) = check.block(piece.slice(at..end)) {
            errors.push(error);
        }
        at = end;
    }
    (check, errors)
}
