//! The point read: synchronous while the bytes are here.
//!
//! ```text
//! active memtable → frozen, newest first → runs, newest first:
//!     SST by first and last key → filter → block by index → entry in the block; a hole ends the walk in an error
//! ```
//!
//! Numbers of one key descend along that way (a run holds nothing newer than the runs above it), so
//! the first version at or below the number is the newest. A miss does not end the walk: the runs
//! below are asked as well, up to the first one that surely has the key, and all that is missing is
//! fetched in one parallel round. So a cold read is one round for tails that are not cached, and one for blocks.
//!
//! Always true: nothing on the way of a hit allocates, locks or awaits.

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use super::{
    Fetcher, SuperVersion,
    fetch::{Overlay, touch},
};
use crate::{
    block::Found,
    chaos::{Bug, bug},
    error::Result,
    key::{KeyspaceId, Seq, check_key},
    merge::{BlockSource, Missing, is_row},
    sst::{OpenSst, Tail, reader::key_hash},
    stats::Cause,
    store::Name,
};

/// The visible value of `full_key` at `seq` and `now_ms`: without waiting when cached, else after one
/// parallel round for what is missing. Fails with `Corruption`, or as the store does; if an SST is gone
/// [`store::is_missing`](crate::store::is_missing) holds of the error, and the caller's version is too old.
pub async fn get(
    fetcher: &Fetcher,
    sv: &SuperVersion,
    full_key: &[u8],
    seq: Seq,
    now_ms: u64,
) -> Result<Option<Bytes>> {
    match look(fetcher, sv, full_key, seq, now_ms)? {
        Look::Found(value) => Ok(value),
        Look::Missing(missing) => get_cold(fetcher, sv, full_key, seq, now_ms, missing).await,
    }
}

/// The same, only if every byte is in memory: `None` if not.
pub fn get_cached(
    fetcher: &Fetcher,
    sv: &SuperVersion,
    full_key: &[u8],
    seq: Seq,
    now_ms: u64,
) -> Option<Result<Option<Bytes>>> {
    match look(fetcher, sv, full_key, seq, now_ms) {
        Ok(Look::Found(value)) => Some(Ok(value)),
        Ok(Look::Missing(_)) => None,
        Err(error) => Some(Err(error)),
    }
}

/// A full key on the stack, unless it is long: what a point read searches for. Fails with `Invalid` if
/// the user key is over the limit.
pub fn stack_key(keyspace: KeyspaceId, user_key: &[u8]) -> Result<SmallVec<[u8; 128]>> {
    check_key(user_key)?;
    let mut full = SmallVec::new();
    full.extend_from_slice(&keyspace.0.to_be_bytes());
    full.extend_from_slice(user_key);
    Ok(full)
}

/// What a look without waiting gives.
#[derive(Debug)]
pub(super) enum Look {
    /// The answer.
    Found(Option<Bytes>),
    /// What is needed for the answer, of all runs that may have a part in it.
    Missing(MissingList),
}

/// Most reads miss in few runs.
pub(super) type MissingList = SmallVec<[Missing; 2]>;

/// Searches everything that is here.
pub(super) fn look(
    blocks: &impl BlockSource,
    sv: &SuperVersion,
    full_key: &[u8],
    seq: Seq,
    now_ms: u64,
) -> Result<Look> {
    let hash = key_hash(full_key);
    for memtable in sv.memtables() {
        if let Some(found) = memtable.get_hashed(full_key, hash, seq) {
            return answer(found, now_ms).map(Look::Found);
        }
    }
    let mut missing = MissingList::new();
    for run in &sv.view.runs {
        let Some(sst) = covering(&run.ssts, full_key) else { continue };
        if sst.meta.is_hole() {
            // ZeroFS #586, the other way round: reads went on as if nothing were missing.
            if bug(Bug::HoleReadsAsAbsent) {
                continue;
            }
            // What is missing above may still have the key; what lies below is older than what was lost.
            if missing.is_empty() {
                return Err(sst.meta.lost());
            }
            break;
        }
        let guard = sst.tail.load();
        let brought;
        let tail = match &*guard {
            Some(tail) => {
                touch(sst);
                tail
            }
            None => match blocks.tail(sst) {
                Some(tail) => {
                    brought = tail;
                    &brought
                }
                None => {
                    missing.push(Missing::Tail(Arc::clone(sst)));
                    continue;
                }
            },
        };
        if !tail.may_contain(hash) {
            continue;
        }
        match search(blocks, sst, tail, full_key, seq)? {
            InSst::Found(found) if missing.is_empty() => return answer(found, now_ms).map(Look::Found),
            // Whatever lies below is older; what is missing above decides.
            InSst::Found(_) => break,
            InSst::Absent => {}
            InSst::Missing(index) => missing.push(Missing::Block(Arc::clone(sst), index)),
        }
    }
    Ok(if missing.is_empty() { Look::Found(None) } else { Look::Missing(missing) })
}

/// The SST of a run that may hold the key.
fn covering<'a>(ssts: &'a [Arc<OpenSst>], full_key: &[u8]) -> Option<&'a Arc<OpenSst>> {
    let at = ssts.partition_point(|sst| &sst.meta.last_key[..] < full_key);
    ssts.get(at).filter(|sst| &sst.meta.first_key[..] <= full_key)
}

enum InSst {
    Found(Found),
    Absent,
    Missing(usize),
}

/// Searches one SST whose filter said maybe.
fn search(
    blocks: &impl BlockSource,
    sst: &Arc<OpenSst>,
    tail: &Tail,
    full_key: &[u8],
    seq: Seq,
) -> Result<InSst> {
    let Some(mut index) = tail.find(full_key) else { return Ok(InSst::Absent) };
    loop {
        let Some(block) = blocks.block(sst, index) else { return Ok(InSst::Missing(index)) };
        match block.get(full_key, seq) {
            Ok(Some(found)) => return Ok(InSst::Found(found)),
            Ok(None) if tail.goes_on(index, full_key) => index += 1,
            Ok(None) => return Ok(InSst::Absent),
            Err(error) => return Err(error.at(Name::Sst(sst.id).path(), tail.block(index).offset)),
        }
    }
}

fn answer(found: Found, now_ms: u64) -> Result<Option<Bytes>> {
    Ok(is_row(found.kind, found.expire_at_ms, now_ms)?.then_some(found.value))
}

/// Rounds until nothing is missing: at most one for tails and one for blocks, but for a key whose
/// versions fill more than a block.
#[cold]
async fn get_cold(
    fetcher: &Fetcher,
    sv: &SuperVersion,
    full_key: &[u8],
    seq: Seq,
    now_ms: u64,
    mut missing: MissingList,
) -> Result<Option<Bytes>> {
    let mut overlay = Overlay::new(fetcher);
    loop {
        overlay.fetch(&missing, Cause::Read).await?;
        match look(&overlay, sv, full_key, seq, now_ms)? {
            Look::Found(value) => return Ok(value),
            Look::Missing(more) => missing = more,
        }
    }
}
