//! The merge of a job: synchronous, from blocks that are here to bytes of new SSTs.
//!
//! An output ends where the first of these is met, and never between two versions of one key:
//!
//! ```text
//! it is as large as SSTs are to be
//! the next key is of another keyspace                        dropping a keyspace drops files
//! an SST that stays in the target run begins before it       the run remains disjoint
//! it overlaps ten SSTs' worth of the level below             merging it down later stays affordable
//! ```
//!
//! When an output ends before another, the merge says what it has consumed up to there ([`Consumed`]): a job that
//! crashes later is resumed from such a place, and never inside a key (slatedb#1769: merge operands were lost).
//!
//! Always true: between two turns nothing is lost; what was read is what was written plus what was dropped.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;

use crate::{
    chaos::{Bug, bug},
    clock::SharedClock,
    codec::sum::Sum,
    compaction::{ahead::Windows, levels::overlapping, plan::Plan},
    error::{Error, Result},
    key::KEYSPACE_BYTES,
    manifest::View,
    merge::{Missing, Retain, Step, Tree},
    sst::{OpenSst, SstBuilder, SstCache, SstMeta, SstOptions},
    store::{ObjectId, Role},
};

/// Bytes of output after which a turn ends, so that they can go up while the next turn runs: at most, and where there is
/// little memory.
const TURN_BYTES: usize = 4 << 20;
const LEAST_TURN_BYTES: usize = 256 << 10;
/// How many turns' output may be somewhere between the merge and the upload, and as much again for the upload.
const TURNS: usize = 10;

/// How many SSTs' worth of the level below an output may overlap.
const BELOW_SSTS: u64 = 10;

/// A merge between two turns.
#[derive(Debug)]
pub(super) struct Merging {
    pub(super) windows: Windows,
    tree: Tree,
    retain: Retain,
    /// What was consumed before this merge began.
    before: Consumed,
    cuts: Cuts,
    namer: Namer,
    sst_options: SstOptions,
    cache: Option<SstCache>,
    output: Option<(ObjectId, SstBuilder)>,
    last_key: Vec<u8>,
    read_entries: u64,
    pieces: Vec<Piece>,
    pending_bytes: usize,
}

/// Bytes of an output, in order.
#[derive(Debug)]
pub(super) enum Piece {
    /// More of the output with this id.
    More(ObjectId, Vec<Bytes>),
    /// The end of it, and what the merge had consumed when it went on to the next; `None` at the very end.
    End(Box<SstMeta>, Vec<Bytes>, Option<Box<Consumed>>),
}

/// How much of the inputs is consumed: all versions of all keys before the boundary, and nothing from it on.
#[derive(Debug, Clone, Default)]
pub(super) struct Consumed {
    /// The first full key that is not consumed; empty if nothing is.
    pub(super) boundary: Bytes,
    pub(super) read_entries: u64,
    pub(super) dropped: Sum,
    pub(super) dropped_entries: u64,
}

/// Why a turn ended.
#[derive(Debug)]
pub(super) enum Pause {
    /// There are bytes to send.
    Full,
    /// Blocks have to be fetched.
    Missing(Vec<Missing>),
    /// Everything has been merged.
    Done,
}

/// Gives outputs their never-reused names.
#[derive(Debug)]
pub(super) struct Namer {
    pub(super) epoch: u32,
    pub(super) counter: Arc<AtomicU64>,
    pub(super) clock: SharedClock,
}

/// Where outputs have to end.
#[derive(Debug)]
pub(super) struct Cuts {
    sst_bytes: u64,
    /// First keys of SSTs that stay in the target run, ascending.
    barriers: Vec<Bytes>,
    /// Last keys and bytes of the SSTs one level below the target, ascending.
    below: Vec<(Bytes, u64)>,
    next_barrier: usize,
    next_below: usize,
    /// Bytes of the level below that the output has passed over.
    below_bytes: u64,
}

impl Merging {
    pub(super) fn new(
        tree: Tree,
        runs: usize,
        retain: Retain,
        before: Consumed,
        cuts: Cuts,
        namer: Namer,
        sst_options: SstOptions,
    ) -> Self {
        Self {
            windows: Windows::new(runs),
            tree,
            retain,
            before,
            cuts,
            namer,
            sst_options,
            cache: None,
            output: None,
            last_key: Vec::new(),
            read_entries: 0,
            pieces: Vec::new(),
            pending_bytes: 0,
        }
    }

    /// Keeps what is warm in `cache` warm.
    pub(super) fn warming(mut self, cache: Option<SstCache>) -> Self {
        self.cache = cache;
        self
    }

    /// Merges until bytes are missing, enough bytes are ready (more of them the more memory there is for outputs), or
    /// the end.
    pub(super) fn turn(&mut self, memory: usize) -> Result<Pause> {
        let turn_bytes = (memory / TURNS).clamp(LEAST_TURN_BYTES, TURN_BYTES);
        // slatedb #1769: a merge that went on lost entries.
        if self.read_entries > 0 && bug(Bug::MergeResumesTooFar) {
            self.tree.advance(&self.windows)?;
        }
        loop {
            match self.tree.advance(&self.windows)? {
                Step::Ready => {}
                Step::Missing(_) => return Ok(Pause::Missing(self.tree.missing().to_vec())),
                Step::End => {
                    end_output(&mut self.output, &mut self.pieces, None)?;
                    return Ok(Pause::Done);
                }
            }
            let Some(entry) = self.tree.peek() else {
                return Err(Error::closed("a merge that was ready has no entry"));
            };
            // Before anything is made of the entry: it is the first of its key here (an output that is due is due
            // at the first version it meets), so that what is consumed is whole keys.
            if let Some((_, output)) = &self.output
                && self.cuts.is_due(output, &self.last_key, entry.key)
                && entry.key != &self.last_key[..]
            {
                let boundary = Bytes::copy_from_slice(entry.key);
                let consumed = consumed(&self.before, &self.retain, self.read_entries, boundary);
                end_output(&mut self.output, &mut self.pieces, Some(Box::new(consumed)))?;
            }
            let warmth = self.windows.warmth(self.tree.source(), self.tree.block());
            self.read_entries += 1;
            if !self.retain.keep(entry)? {
                continue;
            }
            self.cuts.pass(entry.key);
            let (_, output) = self.output.get_or_insert_with(|| {
                // What lies before the first key of an output does not overlap it.
                self.cuts.below_bytes = 0;
                let id = self.namer.name();
                (id, SstBuilder::new(id, self.sst_options).warming(self.cache.clone()))
            });
            output.add_warm(entry, warmth)?;
            self.last_key.clear();
            self.last_key.extend_from_slice(entry.key);
            self.pending_bytes += entry.key.len() + entry.value.len();
            if self.pending_bytes >= turn_bytes {
                self.pending_bytes = 0;
                return Ok(Pause::Full);
            }
        }
    }

    /// The bytes that are ready, in order.
    pub(super) fn take_pieces(&mut self) -> Vec<Piece> {
        let mut pieces = std::mem::take(&mut self.pieces);
        if let Some((id, output)) = &mut self.output {
            let ready = output.take_ready();
            if !ready.is_empty() {
                pieces.push(Piece::More(*id, ready));
            }
        }
        pieces
    }

    /// Memory held by the open output and by pieces that were not taken.
    pub(super) fn bytes_held(&self) -> usize {
        let open = self.output.as_ref().map_or(0, |(_, output)| output.bytes_held());
        open + self.pieces.iter().map(Piece::bytes).sum::<usize>()
    }

    /// What has been consumed, with what was before this merge began.
    pub(super) fn consumed(&self) -> Consumed {
        consumed(&self.before, &self.retain, self.read_entries, Bytes::new())
    }
}

impl Piece {
    /// Its bytes.
    pub(super) fn bytes(&self) -> usize {
        let (Self::More(_, chunks) | Self::End(_, chunks, _)) = self;
        chunks.iter().map(Bytes::len).sum()
    }
}

impl Namer {
    fn name(&self) -> ObjectId {
        ObjectId {
            role: Role::Compactor,
            epoch: self.epoch,
            counter: self.counter.fetch_add(1, Ordering::Relaxed),
            nonce: self.clock.random() as u64,
        }
    }
}

impl Cuts {
    /// The places where the outputs of `plan` have to end.
    pub(super) fn of(view: &View, plan: &Plan) -> Self {
        let stays = |sst: &&Arc<OpenSst>| !plan.ids().any(|id| id == sst.id);
        let inputs: Vec<&SstMeta> = plan.ids().filter_map(|id| view.sst(id)).map(|sst| &sst.meta).collect();
        let target =
            view.runs.iter().find(|run| run.level == plan.level && !run.ssts.is_empty() && !run.is_hole());
        // Outputs join this run, unless something that stays in it overlaps an input.
        let joins = target
            .filter(|run| inputs.iter().all(|input| overlapping(run, input).iter().all(|sst| !stays(&sst))));
        let barriers =
            joins.map(|run| run.ssts.iter().filter(stays).map(|sst| sst.meta.first_key.clone()).collect());
        let mut below: Vec<(Bytes, u64)> = view
            .runs
            .iter()
            .filter(|run| run.level == plan.level + 1)
            .flat_map(|run| run.ssts.iter())
            .map(|sst| (sst.meta.last_key.clone(), sst.meta.bytes))
            .collect();
        below.sort();
        Self {
            sst_bytes: view.root.options.sst_bytes.max(1),
            barriers: barriers.unwrap_or_default(),
            below,
            next_barrier: 0,
            next_below: 0,
            below_bytes: 0,
        }
    }

    /// Whether `output`, which ends with `last_key`, is to end before `key`.
    #[inline]
    fn is_due(&self, output: &SstBuilder, last_key: &[u8], key: &[u8]) -> bool {
        output.bytes() >= self.sst_bytes
            || key.get(..KEYSPACE_BYTES) != last_key.get(..KEYSPACE_BYTES)
            || self.barriers.get(self.next_barrier).is_some_and(|barrier| key >= &barrier[..])
            || self.below_bytes > self.sst_bytes.saturating_mul(BELOW_SSTS)
    }

    /// Notes that the merge has come to `key`.
    #[inline]
    fn pass(&mut self, key: &[u8]) {
        while self.barriers.get(self.next_barrier).is_some_and(|barrier| key >= &barrier[..]) {
            self.next_barrier += 1;
        }
        while let Some((last, bytes)) = self.below.get(self.next_below)
            && key > &last[..]
        {
            self.below_bytes += bytes;
            self.next_below += 1;
        }
    }
}

fn end_output(
    output: &mut Option<(ObjectId, SstBuilder)>,
    pieces: &mut Vec<Piece>,
    consumed: Option<Box<Consumed>>,
) -> Result<()> {
    if let Some((_, output)) = output.take() {
        let finished = output.finish()?;
        pieces.push(Piece::End(Box::new(finished.meta), finished.chunks, consumed));
    }
    Ok(())
}

fn consumed(before: &Consumed, retain: &Retain, read_entries: u64, boundary: Bytes) -> Consumed {
    let mut dropped = before.dropped;
    dropped.add(retain.dropped());
    Consumed {
        boundary,
        read_entries: before.read_entries + read_entries,
        dropped,
        dropped_entries: before.dropped_entries + retain.dropped_entries(),
    }
}
