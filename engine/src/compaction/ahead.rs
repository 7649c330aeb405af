//! Reading ahead of a merge: big ranged GETs of consecutive blocks, one chunk in use and one under way a run.
//!
//! ```text
//! run ──▶ fetch chunk n+1 ──▶ check and decompress (CPU pool) ──▶ wait ──▶ Window (the merge takes blocks)
//! ```
//!
//! The first chunk of an SST and its tail come in one parallel round; an SST not larger than a chunk comes
//! whole, in one request. A tail is dropped when its SST has been passed, so a job over many SSTs holds a few.
//!
//! Always true: at most two chunks a run are held, and a third while one takes the place of another; each is charged while
//! it is held, and as large as memory allows when it is asked for; dropping an [`Ahead`] stops its request.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::{
    block::Block,
    clock::{Task, on_cpu},
    error::{Error, Result},
    memory::{Charge, Memory, Use},
    merge::BlockSource,
    sst::{OpenSst, SstCache, Tail, Warmth, reader::decode_block},
    stats::Cause,
    store::{Name, ObjectId, Store},
};

/// What the merge can see of each run: a stretch of blocks of one SST.
#[derive(Debug, Default)]
pub(crate) struct Windows(Vec<Option<Window>>);

#[derive(Debug)]
struct Window {
    id: ObjectId,
    tail: Arc<Tail>,
    first: usize,
    blocks: Vec<Block>,
    warmth: Vec<Warmth>,
    _charge: Charge,
}

impl Windows {
    pub(crate) fn new(runs: usize) -> Self {
        Self((0..runs).map(|_| None).collect())
    }

    /// Lets the merge see `chunk` of a run in place of the one before. Returns its stored bytes.
    pub(crate) fn show(&mut self, run: usize, chunk: Chunk) -> u64 {
        let Chunk { id, tail, first, blocks, warmth, stored_bytes, charge } = chunk;
        self.0[run] = Some(Window { id, tail, first, blocks, warmth, _charge: charge });
        stored_bytes
    }

    /// How warm a block that can be seen of a run was when it was read.
    pub(crate) fn warmth(&self, run: usize, block: Option<usize>) -> Warmth {
        let of = |window: &Window| window.warmth.get(block?.checked_sub(window.first)?).copied();
        self.0.get(run).and_then(Option::as_ref).and_then(of).unwrap_or(Warmth::Cold)
    }

    fn find(&self, id: ObjectId) -> Option<&Window> {
        self.0.iter().flatten().find(|window| window.id == id)
    }
}

impl BlockSource for Windows {
    fn block(&self, sst: &Arc<OpenSst>, index: usize) -> Option<Block> {
        let window = self.find(sst.id)?;
        window.blocks.get(index.checked_sub(window.first)?).cloned()
    }

    fn tail(&self, sst: &Arc<OpenSst>) -> Option<Arc<Tail>> {
        self.find(sst.id).map(|window| Arc::clone(&window.tail))
    }
}

/// Some consecutive blocks of an SST, checked and decompressed.
#[derive(Debug)]
pub(crate) struct Chunk {
    id: ObjectId,
    tail: Arc<Tail>,
    first: usize,
    blocks: Vec<Block>,
    /// Of each, if there is a cache to ask.
    warmth: Vec<Warmth>,
    stored_bytes: u64,
    charge: Charge,
}

/// Fetches one run from its beginning to its end.
#[derive(Debug)]
pub(crate) struct Ahead {
    store: Store,
    cache: Option<SstCache>,
    ssts: Arc<[Arc<OpenSst>]>,
    memory: Arc<Memory>,
    /// How many runs share it.
    runs: usize,
    /// Bytes as stored, and as they are searched.
    stored: u64,
    raw: u64,
    /// Where the next chunk begins.
    sst: usize,
    block: usize,
    tail: Option<Arc<Tail>>,
    /// Where the merge begins, until its block in the first SST is known.
    from: Bytes,
    under_way: Option<UnderWay>,
}

#[derive(Debug)]
struct UnderWay {
    answer: oneshot::Receiver<Result<Chunk>>,
    /// Held so that the request ends with us.
    _task: Task,
}

impl Ahead {
    /// Starts with the first chunk of the run at once, the one that holds the full key `from` or what comes
    /// after it. `memory` is shared with the other `runs` of the merge; `cache` says how warm blocks are.
    pub(crate) fn start(
        store: Store,
        cache: Option<SstCache>,
        ssts: Arc<[Arc<OpenSst>]>,
        (memory, runs): (Arc<Memory>, usize),
        from: &Bytes,
    ) -> Self {
        let (stored, raw) = ssts
            .iter()
            .fold((1, 1), |(stored, raw), sst| (stored + sst.meta.bytes, raw + sst.meta.raw_bytes));
        let sst = ssts.partition_point(|sst| sst.meta.last_key < *from);
        let from = from.clone();
        let mut ahead = Self {
            store,
            cache,
            ssts,
            memory,
            runs: runs.max(1),
            stored,
            raw,
            sst,
            block: 0,
            tail: None,
            from,
            under_way: None,
        };
        ahead.fetch();
        ahead
    }

    /// The next chunk, as soon as it is here; the one after it is asked for before this returns.
    pub(crate) async fn next(&mut self) -> Result<Chunk> {
        let Some(under_way) = &mut self.under_way else {
            return Err(Error::corruption(
                self.last_name(),
                0,
                "the merge asked for a block after the end of the run",
            ));
        };
        let chunk = (&mut under_way.answer)
            .await
            .map_err(|e| Error::closed("a read stopped, the runtime is shutting down").because(e))??;
        self.under_way = None;
        self.from = Bytes::new();
        self.block = chunk.first + chunk.blocks.len();
        if self.block >= chunk.tail.blocks() {
            (self.sst, self.block, self.tail) = (self.sst + 1, 0, None);
        } else {
            self.tail = Some(Arc::clone(&chunk.tail));
        }
        self.fetch();
        Ok(chunk)
    }

    fn fetch(&mut self) {
        let Some(sst) = self.ssts.get(self.sst) else { return };
        let (send, answer) = oneshot::channel();
        let (store, sst, tail) = (self.store.clone(), Arc::clone(sst), self.tail.clone());
        let (first, cache) = (self.block, self.cache.clone());
        let mut charge = self.charge();
        let chunk_bytes = self.stored_part(charge.bytes());
        let from = Some(self.from.clone()).filter(|from| sst.meta.first_key < *from);
        let task = Task::spawn(async move {
            // Nobody waits any more if the receiver is gone.
            let read = || fetch(&store, &sst, tail.clone(), first, from.clone(), chunk_bytes);
            let fetched = store.reread(&Name::Sst(sst.id), read).await;
            let mut fetched = fetched.map(|read| {
                charge.becomes(read.bytes_held());
                read.charged(charge)
            });
            if let (Ok(chunk), Some(cache)) = (&mut fetched, &cache) {
                let blocks = chunk.first..chunk.first + chunk.blocks.len();
                chunk.warmth = blocks.map(|at| cache.warmth(&sst, chunk.tail.block(at).offset)).collect();
            }
            let _ = send.send(fetched);
        });
        self.under_way = Some(UnderWay { answer, _task: task });
    }

    /// Memory for the next chunk. It is asked for while the run still holds the chunk in use and the one that is next, so
    /// three are to fit.
    fn charge(&self) -> Charge {
        let memory = &self.memory;
        let want = (memory.part(Use::MergeInputs) / (3 * self.runs)).min(MOST_CHUNK_BYTES);
        let least = (memory.limit() / LEASTS_PART / (3 * self.runs)).min(LEAST_CHUNK_BYTES);
        memory.ask(Use::MergeInputs, want, least)
    }

    /// Of `bytes` of memory, those for what is fetched; the rest is for what it is decompressed into.
    fn stored_part(&self, bytes: usize) -> u64 {
        let all = u128::from(self.stored) + u128::from(self.raw.max(self.stored));
        u64::try_from(bytes as u128 * u128::from(self.stored) / all).unwrap_or(u64::MAX)
    }

    fn last_name(&self) -> String {
        self.ssts.last().map_or_else(String::new, |sst| Name::Sst(sst.id).to_string())
    }
}

/// The largest chunk of a run in memory, as stored and as searched. Requests for half of this are bandwidth and no longer
/// latency.
const MOST_CHUNK_BYTES: usize = 16 << 20;
/// Where there is no more memory, a chunk has this much, or what one part in so many of the limit gives each.
const LEAST_CHUNK_BYTES: usize = 512 << 10;
const LEASTS_PART: usize = 32;

/// A chunk that is not charged yet.
struct Read {
    id: ObjectId,
    tail: Arc<Tail>,
    first: usize,
    blocks: Vec<Block>,
    stored_bytes: u64,
}

impl Read {
    /// What it holds from now on.
    fn bytes_held(&self) -> usize {
        self.tail.bytes() + self.blocks.iter().map(|block| block.bytes().len()).sum::<usize>()
    }

    fn charged(self, charge: Charge) -> Chunk {
        let Self { id, tail, first, blocks, stored_bytes } = self;
        Chunk { id, tail, first, blocks, warmth: Vec::new(), stored_bytes, charge }
    }
}

async fn fetch(
    store: &Store,
    sst: &Arc<OpenSst>,
    tail: Option<Arc<Tail>>,
    first: usize,
    from: Option<Bytes>,
    chunk_bytes: u64,
) -> Result<Read> {
    let name = Name::Sst(sst.id);
    let meta = &sst.meta;
    let (tail, head) = match tail {
        Some(tail) => (tail, Bytes::new()),
        None if meta.bytes <= chunk_bytes => {
            let whole = store.get_range(&name, 0..meta.bytes, Cause::Compact).await?;
            let tail = Tail::decode(meta, slice(&name, &whole, 0, meta.tail_offset..meta.bytes)?)?;
            (Arc::new(tail), whole)
        }
        None if from.is_some() => {
            let tail = store.get_range(&name, meta.tail_offset..meta.bytes, Cause::Compact).await?;
            (Arc::new(Tail::decode(meta, tail)?), Bytes::new())
        }
        None => {
            let (tail, head) = futures::try_join!(
                store.get_range(&name, meta.tail_offset..meta.bytes, Cause::Compact),
                store.get_range(&name, 0..chunk_bytes.min(meta.tail_offset), Cause::Compact),
            )?;
            (Arc::new(Tail::decode(meta, tail)?), head)
        }
    };
    let first = from.and_then(|from| tail.find(&from)).unwrap_or(first);
    let wanted = stretch(&tail, first, chunk_bytes);
    let here = wanted.clone().take_while(|at| end(&tail, *at) <= head.len() as u64).count();
    let (blocks, start, stored) = if here > 0 {
        (wanted.start..wanted.start + here, 0, head)
    } else {
        let range = tail.block(wanted.start).offset..end(&tail, wanted.end - 1);
        (wanted, range.start, store.get_range(&name, range, Cause::Compact).await?)
    };
    let id = sst.id;
    let stored_bytes = end(&tail, blocks.end - 1) - tail.block(blocks.start).offset;
    let (tail, decoded) = on_cpu(move || {
        let decoded: Result<Vec<Block>> = blocks
            .map(|at| {
                let place = tail.block(at);
                decode_block(id, place, slice(&Name::Sst(id), &stored, start, place.offset..end(&tail, at))?)
            })
            .collect();
        (tail, decoded)
    })
    .await?;
    Ok(Read { id, tail, first, blocks: decoded?, stored_bytes })
}

/// The blocks from `first` on that fit into `chunk_bytes`; at least one.
fn stretch(tail: &Tail, first: usize, chunk_bytes: u64) -> Range<usize> {
    let limit = tail.block(first).offset.saturating_add(chunk_bytes);
    let more = (first + 1..tail.blocks()).take_while(|at| end(tail, *at) <= limit).count();
    first..first + 1 + more
}

fn end(tail: &Tail, block: usize) -> u64 {
    let place = tail.block(block);
    place.offset.saturating_add(u64::from(place.bytes))
}

/// The bytes `range` of an object of which `bytes` begins at offset `start`.
fn slice(name: &Name, bytes: &Bytes, start: u64, range: Range<u64>) -> Result<Bytes> {
    let place = |offset: u64| offset.checked_sub(start).and_then(|at| usize::try_from(at).ok());
    match (place(range.start), place(range.end)) {
        (Some(from), Some(to)) if from <= to && to <= bytes.len() => Ok(bytes.slice(from..to)),
        _ => Err(Error::corruption(
            name.to_string(),
            range.start,
            "a block lies outside the bytes of its object",
        )),
    }
}
