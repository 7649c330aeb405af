//! Reading ahead of a merge: big ranged GETs of consecutive blocks, one chunk in use and one under way a run.
//!
//! ```text
//! run ──▶ fetch chunk n+1 ──▶ check and decompress (CPU pool) ──▶ wait ──▶ Window (the merge takes blocks)
//! ```
//!
//! The first chunk of an SST and its tail come in one parallel round; an SST not larger than a chunk comes
//! whole, in one request. A tail is dropped when its SST has been passed, so a job over many SSTs holds a few.
//!
//! Always true: at most two chunks a run are held; dropping an [`Ahead`] stops its request.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::{
    block::Block,
    clock::{Task, on_cpu},
    error::{Error, Result},
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
}

impl Windows {
    pub(crate) fn new(runs: usize) -> Self {
        Self((0..runs).map(|_| None).collect())
    }

    /// Lets the merge see `chunk` of a run in place of the one before. Returns its stored bytes.
    pub(crate) fn show(&mut self, run: usize, chunk: Chunk) -> u64 {
        let Chunk { id, tail, first, blocks, warmth, stored_bytes } = chunk;
        self.0[run] = Some(Window { id, tail, first, blocks, warmth });
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
}

/// Fetches one run from its beginning to its end.
#[derive(Debug)]
pub(crate) struct Ahead {
    store: Store,
    cache: Option<SstCache>,
    ssts: Arc<[Arc<OpenSst>]>,
    chunk_bytes: u64,
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
    /// after it. `raw_bytes` is what a decompressed chunk may hold; `cache` says how warm blocks are.
    pub(crate) fn start(
        store: Store,
        cache: Option<SstCache>,
        ssts: Arc<[Arc<OpenSst>]>,
        raw_bytes: u64,
        from: &Bytes,
    ) -> Self {
        let (stored, raw) = ssts
            .iter()
            .fold((1, 1), |(stored, raw), sst| (stored + sst.meta.bytes, raw + sst.meta.raw_bytes));
        // What compresses well fills more memory than it takes to fetch.
        let chunk_bytes = u128::from(raw_bytes) * u128::from(stored) / u128::from(raw.max(stored));
        let chunk_bytes = u64::try_from(chunk_bytes).unwrap_or(raw_bytes).max(MIN_CHUNK_BYTES);
        let sst = ssts.partition_point(|sst| sst.meta.last_key < *from);
        let from = from.clone();
        let mut ahead =
            Self { store, cache, ssts, chunk_bytes, sst, block: 0, tail: None, from, under_way: None };
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
        let (first, chunk_bytes, cache) = (self.block, self.chunk_bytes, self.cache.clone());
        let from = Some(self.from.clone()).filter(|from| sst.meta.first_key < *from);
        let task = Task::spawn(async move {
            // Nobody waits any more if the receiver is gone.
            let read = || fetch(&store, &sst, tail.clone(), first, from.clone(), chunk_bytes);
            let mut fetched = store.reread(&Name::Sst(sst.id), read).await;
            if let (Ok(chunk), Some(cache)) = (&mut fetched, &cache) {
                let blocks = chunk.first..chunk.first + chunk.blocks.len();
                chunk.warmth = blocks.map(|at| cache.warmth(&sst, chunk.tail.block(at).offset)).collect();
            }
            let _ = send.send(fetched);
        });
        self.under_way = Some(UnderWay { answer, _task: task });
    }

    fn last_name(&self) -> String {
        self.ssts.last().map_or_else(String::new, |sst| Name::Sst(sst.id).to_string())
    }
}

const MIN_CHUNK_BYTES: u64 = 256 << 10;

async fn fetch(
    store: &Store,
    sst: &Arc<OpenSst>,
    tail: Option<Arc<Tail>>,
    first: usize,
    from: Option<Bytes>,
    chunk_bytes: u64,
) -> Result<Chunk> {
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
    Ok(Chunk { id, tail, first, blocks: decoded?, warmth: Vec::new(), stored_bytes })
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
