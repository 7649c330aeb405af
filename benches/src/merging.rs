//! The merge of a compaction, alone: eight sorted runs in memory, no store, one thread.
//!
//! ```text
//! merge                                          decoded blocks ──▶ Tree ──▶ Retain
//! merge_whole   stored blocks ──▶ check, decompress ──▶ decoded blocks ──▶ Tree ──▶ Retain ──▶ SstBuilder
//! ```
//!
//! The micro-benchmark and the page of results run the same code, so that one explains the other.
//!
//! Always true: every pass sees every entry, in order; what is counted is bytes of keys and values, not of blocks.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use esker::{
    block::Block,
    codec::frame::Codec,
    key::{EntryRef, Kind},
    merge::{BlockSource, Direction, Retain, Source, Step, Tree},
    range::FullRange,
    sst::{BlockRef, OpenSst, SstBuilder, SstOptions, Tail, reader::decode_block},
    store::{ObjectId, Role},
};

use crate::{dataset::Dataset, measure::Usage};

/// Sorted runs that are merged, fewer than a compaction may take and more than one usually does.
pub const RUNS: u64 = 8;
/// The keyspace that full keys begin with.
const KEYSPACE: [u8; 4] = [0; 4];

/// Which run an entry goes to, 0 to [`RUNS`].
pub type RunOf = fn(u64) -> u64;

/// Every entry to any run: the worst case for the tree.
pub fn at_random(entry: u64) -> u64 {
    entry.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 61
}

/// Fifty after each other to the same run: the usual case, for which the runner-up is remembered.
pub fn in_stretches(entry: u64) -> u64 {
    entry / 50 % RUNS
}

/// Runs, one SST each, whose blocks are all in memory.
#[derive(Debug)]
pub struct Runs {
    /// One a run.
    pub sources: Vec<Source>,
    /// All blocks, decoded.
    pub here: Here,
    stored: Stored,
    entries: u64,
    bytes: u64,
}

/// Blocks that are decoded already.
#[derive(Debug, Default)]
pub struct Here(HashMap<(u64, usize), Block>);

/// Blocks as an SST has them; each is checked and decompressed when it is asked for.
#[derive(Debug, Default)]
struct Stored(HashMap<(u64, usize), (BlockRef, Bytes)>);

/// What a pass did, again and again.
#[derive(Debug, Clone, Copy)]
pub struct Passes {
    /// Entries that went through.
    pub entries: u64,
    /// Their keys and values.
    pub bytes: u64,
    /// How long it took.
    pub took: Duration,
    /// How much of a processor it took.
    pub cpu: Duration,
}

impl Runs {
    /// The rows of `data`, whose keys must ascend with their numbers; row `n` lies in run `run_of(n)`.
    ///
    /// # Errors
    /// When the engine refuses an SST, which would be a bug.
    pub fn new(data: &Dataset, codec: Codec, run_of: RunOf) -> Result<Self> {
        let (mut here, mut stored) = (Here::default(), Stored::default());
        let mut sources = Vec::new();
        for run in 0..RUNS {
            let id = ObjectId { role: Role::Writer, epoch: 1, counter: run, nonce: 0 };
            let mut builder = SstBuilder::new(id, SstOptions { codec, ..SstOptions::default() });
            let (mut row_key, mut value) = (Vec::new(), Vec::new());
            for row in (0..data.rows()).filter(|row| run_of(*row) == run) {
                data.key(row, &mut row_key);
                data.value(row, 1, &mut value);
                let key = [&KEYSPACE[..], &row_key].concat();
                builder.add(EntryRef {
                    key: &key,
                    seq: row + 1,
                    kind: Kind::Put,
                    expire_at_ms: 0,
                    value: &value,
                })?;
            }
            let mut bytes: Vec<u8> = builder.take_ready().concat();
            let finished = builder.finish()?;
            finished.chunks.iter().for_each(|chunk| bytes.extend_from_slice(chunk));
            let bytes = Bytes::from(bytes);
            let sst = OpenSst::new(finished.meta)?;
            let tail = bytes.slice(usize::try_from(sst.meta.tail_offset)?..);
            let tail = Arc::new(Tail::decode(&sst.meta, tail)?);
            for (index, place) in tail.places().enumerate() {
                let first = usize::try_from(place.offset)?;
                let block = bytes.slice(first..first + place.bytes as usize);
                here.0.insert((run, index), decode_block(id, place, block.clone())?);
                stored.0.insert((run, index), (place, block));
            }
            sst.tail.store(Some(tail));
            sources.push(Source::Run(Arc::from([sst])));
        }
        let bytes = data.rows() * (KEYSPACE.len() as u64 + data.row_bytes());
        Ok(Self { sources, here, stored, entries: data.rows(), bytes })
    }

    /// One pass over decoded blocks; gives how many entries a compaction would keep.
    ///
    /// # Errors
    /// When a block is missing, which would be a bug.
    pub fn merge(&self) -> Result<u64> {
        self.pass(&self.here, |_| Ok(()))
    }

    /// One pass from stored blocks to blocks stored with `codec`, which is what a compaction does but for its store; gives the
    /// same.
    ///
    /// # Errors
    /// The same.
    pub fn merge_whole(&self, codec: Codec) -> Result<u64> {
        let id = ObjectId { role: Role::Compactor, epoch: 1, counter: 1, nonce: 0 };
        let mut builder = SstBuilder::new(id, SstOptions { codec, ..SstOptions::default() });
        let kept = self.pass(&self.stored, |entry| {
            builder.add(entry)?;
            // Where an upload would begin.
            drop(builder.take_ready());
            Ok(())
        })?;
        drop(builder.finish()?);
        Ok(kept)
    }

    fn pass(
        &self,
        blocks: &impl BlockSource,
        mut out: impl FnMut(EntryRef<'_>) -> Result<()>,
    ) -> Result<u64> {
        let mut tree = Tree::new(self.sources.clone(), &FullRange::all(), Direction::Forward);
        let (mut retain, mut kept) = (Retain::new(true, 0, 0), 0);
        loop {
            match tree.advance(blocks)? {
                Step::Ready => {
                    let entry = tree.peek().context("a tree that is on an entry has one")?;
                    if retain.keep(entry)? {
                        out(entry)?;
                        kept += 1;
                    }
                }
                Step::End => return Ok(kept),
                Step::Missing(missing) => bail!("bytes of an SST in memory are missing: {missing:?}"),
            }
        }
    }

    /// Passes of `pass` until `limit` is over; at least one.
    ///
    /// # Errors
    /// What a pass fails with, and when one loses entries.
    pub fn repeat(&self, limit: Duration, pass: impl Fn(&Self) -> Result<u64>) -> Result<Passes> {
        let (started, usage) = (Instant::now(), Usage::now());
        let mut passes = 0;
        while passes == 0 || started.elapsed() < limit {
            let kept = pass(self)?;
            ensure!(kept == self.entries, "a merge of {} entries kept {kept}", self.entries);
            passes += 1;
        }
        let (took, cpu) = usage.elapsed();
        Ok(Passes { entries: self.entries * passes, bytes: self.bytes * passes, took, cpu })
    }
}

impl BlockSource for Here {
    fn block(&self, sst: &Arc<OpenSst>, index: usize) -> Option<Block> {
        self.0.get(&(sst.id.counter, index)).cloned()
    }
}

impl BlockSource for Stored {
    fn block(&self, sst: &Arc<OpenSst>, index: usize) -> Option<Block> {
        let (place, stored) = self.0.get(&(sst.id.counter, index))?;
        decode_block(sst.id, *place, stored.clone()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_merge_keeps_every_entry_decoded_or_stored_wherever_it_lies() {
        let data = Dataset::new(5000, 16, 100, false, 1);
        data.add_rows(5000);
        for run_of in [at_random, in_stretches] {
            let runs = Runs::new(&data, Codec::Lz4, run_of).unwrap();
            assert_eq!(runs.merge().unwrap(), 5000);
            assert_eq!(runs.merge_whole(Codec::Zstd).unwrap(), 5000);
            let passes = runs.repeat(Duration::ZERO, Runs::merge).unwrap();
            assert_eq!((passes.entries, passes.bytes), (5000, 5000 * 120));
        }
    }
}
