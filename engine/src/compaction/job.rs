//! A job: reads the inputs of a plan by big ranges, merges them, uploads the outputs. Commits nothing.
//!
//! ```text
//!  run 1 ─▶ Ahead ─┐
//!  run 2 ─▶ Ahead ─┼─▶ Merging (CPU pool, turn by turn) ─▶ pieces ─▶ Upload ─▶ read the tails back
//!  run n ─▶ Ahead ─┘         bounded queue: parts go up while later parts are built
//! ```
//!
//! When a good deal of output is complete, the job log is told how far the job has come (`JobLog`); a job that
//! crashed is resumed from there, by its own compactor or by the next one, with the outputs that were complete.
//!
//! Always true: the entries written plus the entries dropped are the entries of the inputs, by count and by
//! conservation sum, over all runs of the job, or it fails with `Corruption`; what it reads ahead, builds and sends is
//! charged to one budget and shrinks with it, but never below what lets it finish; a job that fails or is dropped leaves garbage, at most
//! what its successor adopts, and nothing else.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::AtomicU64},
};

use bytes::Bytes;
use futures::future::try_join_all;
use tokio::sync::mpsc;

use crate::{
    chaos,
    clock::on_cpu,
    codec::{frame::Codec, sum::Sum},
    compaction::{
        ahead::Ahead,
        levels::Hull,
        log::JobLog,
        merging::{Consumed, Cuts, Merging, Namer, Pause, Piece},
        outputs::Outputs,
        plan::{EXPIRY_MARGIN_MS, Plan},
        record::SoFar,
    },
    error::{Error, ErrorKind, Result},
    manifest::{StoredOptions, View},
    memory::{Account, Charge, Memory, Use},
    merge::{Direction, Retain, Source, Tree},
    range::FullRange,
    sst::{OpenSst, SstCache, SstMeta, SstOptions, Tail, verify_object},
    stats::Cause,
    store::{Name, ObjectId, Store},
};

/// Called now and then while a job runs: the plan, the bytes read so far, and the bytes there are to read.
pub type Progress = dyn Fn(&Plan, u64, u64) + Send + Sync;

/// No merge is given less: its chunks would be smaller than blocks.
const LEAST_MEMORY_BYTES: u64 = 1 << 20;

/// How a job runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobOptions {
    /// Memory of a merge, in bytes: one half for blocks read ahead, one for what is built and sent. 256 MiB by default.
    /// With less than some 8 MiB a run, requests become many and small; more than 64 MiB a run gains nothing. A merge
    /// beside a writer takes from the writer's budget instead. Less than 1 MiB is taken for 1 MiB.
    pub memory_bytes: u64,
    /// Whether to read every output back whole and check everything in it, and not just its tail. Off by
    /// default: it doubles the bytes read, and stores check what they receive.
    pub read_back: bool,
    /// Bytes of output after which the job log is told how far the job has come: what a crash costs at most, against
    /// a small request each time. 256 MiB by default, so that a small job writes no record. A long job tells it
    /// each time a sixteenth more is complete, because a record names everything that is.
    pub record_bytes: u64,
}

impl Default for JobOptions {
    fn default() -> Self {
        Self { memory_bytes: 256 << 20, read_back: false, record_bytes: 256 << 20 }
    }
}

impl JobOptions {
    /// A budget for merges alone.
    pub(super) fn memory(&self) -> Arc<Memory> {
        Memory::of_merges(usize::try_from(self.memory_bytes.max(LEAST_MEMORY_BYTES)).unwrap_or(usize::MAX))
    }
}

/// How much a job did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JobStats {
    /// Bytes of input SSTs, as stored.
    pub read_bytes: u64,
    /// Bytes of output SSTs, as stored.
    pub written_bytes: u64,
    /// Bytes of keys and values read, before any encoding.
    pub raw_bytes: u64,
    /// Entries read.
    pub read_entries: u64,
    /// Entries written.
    pub written_entries: u64,
    /// Entries that nobody can see any more.
    pub dropped_entries: u64,
    /// How many of the entries read had been read by an earlier run of the job, and were not read again.
    pub adopted_entries: u64,
    /// From picking to published, in milliseconds.
    pub elapsed_ms: u64,
}

/// What a job made: uploaded, verified, and not yet part of any version.
#[derive(Debug)]
pub struct Output {
    /// The new SSTs, in key order.
    pub ssts: Vec<SstMeta>,
    /// The conservation sum of the entries that were dropped.
    pub dropped: Sum,
    /// How much was done.
    pub stats: JobStats,
}

/// One run of one plan.
pub(super) struct Job {
    pub(super) store: Store,
    pub(super) view: Arc<View>,
    pub(super) plan: Plan,
    pub(super) epoch: u32,
    pub(super) counter: Arc<AtomicU64>,
    pub(super) now_ms: u64,
    pub(super) options: JobOptions,
    /// What it holds is charged to this.
    pub(super) memory: Arc<Memory>,
    /// Of those who read beside it.
    pub(super) cache: Option<SstCache>,
    pub(super) progress: Option<Arc<Progress>>,
    /// How far an earlier run of it came.
    pub(super) so_far: Option<SoFar>,
}

impl Job {
    /// Reads, merges, uploads, verifies, and tells `log` how far it has come. Fails with `Corruption` if the sums
    /// do not balance or an input is not what the manifest says it is.
    pub(super) async fn run(self, log: &mut JobLog) -> Result<Output> {
        let runs = self.inputs()?;
        let inputs: Vec<&SstMeta> = runs.iter().flat_map(|run| run.iter()).map(|sst| &sst.meta).collect();
        let adopted = self.so_far.as_ref().map_or(&[][..], |so_far| &so_far.outputs);
        let (send, receive) = mpsc::channel(2);
        let record_bytes =
            if chaos::rare("a job is recorded at every output") { 1 } else { self.options.record_bytes };
        let (merged, made) = futures::try_join!(
            self.merge(&runs, send),
            upload(
                &self.store,
                self.account(),
                receive,
                adopted,
                Recorder { log, record_bytes, recorded: 0, complete: 0 }
            )
        )?;
        let ssts = [adopted, &made].concat();
        let consumed = merged.consumed();
        let stats = JobStats {
            read_bytes: inputs.iter().map(|meta| meta.bytes).sum(),
            written_bytes: ssts.iter().map(|meta| meta.bytes).sum(),
            raw_bytes: inputs.iter().map(|meta| meta.raw_bytes).sum(),
            read_entries: consumed.read_entries,
            written_entries: ssts.iter().map(|meta| meta.entries).sum(),
            dropped_entries: consumed.dropped_entries,
            adopted_entries: self.so_far.as_ref().map_or(0, |so_far| so_far.read_entries),
            elapsed_ms: 0,
        };
        let output = Output { ssts, dropped: consumed.dropped, stats };
        self.check(&runs, &output)?;
        read_all_back(&self.store, &self.memory, &output.ssts, self.options.read_back).await?;
        Ok(output)
    }

    async fn merge(&self, runs: &[Arc<[Arc<OpenSst>]>], send: mpsc::Sender<Built>) -> Result<Merging> {
        let from = self.before().boundary;
        let mut reading: Vec<Ahead> = runs
            .iter()
            .map(|run| {
                let room = (Arc::clone(&self.memory), runs.len());
                Ahead::start(self.store.clone(), self.cache.clone(), Arc::clone(run), room, &from)
            })
            .collect();
        let place: HashMap<ObjectId, usize> =
            runs.iter().enumerate().flat_map(|(at, run)| run.iter().map(move |sst| (sst.id, at))).collect();
        let total: u64 = runs.iter().flat_map(|run| run.iter()).map(|sst| sst.meta.bytes).sum();
        let mut done = 0;

        let mut merging = self.merging(runs)?;
        let mut open = self.account().hold(0);
        loop {
            let part = self.memory.part(Use::MergeOutputs);
            let (back, pause, pieces) = on_cpu(move || {
                let pause = merging.turn(part);
                let pieces = merging.take_pieces();
                (merging, pause, pieces)
            })
            .await?;
            merging = back;
            open.becomes(merging.bytes_held());
            let charge = self.account().hold(pieces.iter().map(Piece::bytes).sum());
            if !pieces.is_empty() && send.send(Built { pieces, charge }).await.is_err() {
                return Err(Error::closed("the upload of a merge has stopped"));
            }
            match pause? {
                Pause::Full => {}
                Pause::Done => return Ok(merging),
                Pause::Missing(missing) => {
                    let mut waiting: Vec<usize> =
                        missing.iter().filter_map(|m| place.get(&m.sst().id)).copied().collect();
                    waiting.sort_unstable();
                    waiting.dedup();
                    for at in waiting {
                        done += merging.windows.show(at, reading[at].next().await?);
                    }
                    if let Some(progress) = &self.progress {
                        progress(&self.plan, done, total);
                    }
                }
            }
        }
    }

    /// Who is charged for what is built and sent.
    fn account(&self) -> Account {
        Account { memory: Arc::clone(&self.memory), what: Use::MergeOutputs }
    }

    fn merging(&self, runs: &[Arc<[Arc<OpenSst>]>]) -> Result<Merging> {
        let sources = runs.iter().map(|run| Source::Run(Arc::clone(run)));
        let before = self.before();
        let range = FullRange { start: before.boundary.clone(), end: None };
        let tree = Tree::new(sources, &range, Direction::Forward);
        let retain = Retain::new(self.plan.bottom, self.now_ms, EXPIRY_MARGIN_MS);
        let namer = Namer {
            epoch: self.epoch,
            counter: Arc::clone(&self.counter),
            clock: Arc::clone(self.store.clock()),
        };
        let options = sst_options(&self.view.root.options, self.plan.level)?;
        let cuts = Cuts::of(&self.view, &self.plan);
        Ok(Merging::new(tree, runs.len(), retain, before, cuts, namer, options).warming(self.cache.clone()))
    }

    /// What earlier runs of the job have consumed.
    fn before(&self) -> Consumed {
        self.so_far.as_ref().map_or_else(Consumed::default, |so_far| Consumed {
            boundary: so_far.boundary.clone(),
            read_entries: so_far.read_entries,
            dropped: so_far.dropped(),
            dropped_entries: so_far.dropped_entries,
        })
    }

    /// The SSTs of each input run, newest run first.
    fn inputs(&self) -> Result<Vec<Arc<[Arc<OpenSst>]>>> {
        let find = |id: &ObjectId| {
            if let Some(hole) = self.view.sst(*id).filter(|sst| sst.meta.is_hole()) {
                return Err(hole.meta.lost());
            }
            self.view.sst(*id).cloned().ok_or_else(|| {
                Error::invalid(format!("the plan takes an SST that version {} does not hold", self.view.id()))
                    .on(Name::Sst(*id).to_string())
            })
        };
        self.plan.inputs.iter().map(|(_, ids)| ids.iter().map(find).collect()).collect()
    }

    /// What came in is what went out: by number, by sum, and within the same range of keys.
    fn check(&self, runs: &[Arc<[Arc<OpenSst>]>], output: &Output) -> Result<()> {
        let inputs = || runs.iter().flat_map(|run| run.iter());
        let expected: u64 = inputs().map(|sst| sst.meta.entries).sum();
        let (mut came_in, mut went_out) = (Sum::default(), output.dropped);
        inputs().for_each(|sst| came_in.add(&sst.meta.sum()));
        output.ssts.iter().for_each(|meta| went_out.add(&meta.sum()));
        let stats = &output.stats;
        if stats.read_entries != expected || stats.written_entries + stats.dropped_entries != expected {
            return Err(self.imbalance(&format!(
                "its inputs hold {expected} entries; it read {}, wrote {} and dropped {}",
                stats.read_entries, stats.written_entries, stats.dropped_entries
            )));
        }
        if came_in != went_out {
            return Err(self.imbalance(&format!(
                "the conservation sums differ: {came_in} came in, {went_out} went out"
            )));
        }
        let within = |hull: Hull<'_>| output.ssts.iter().all(|meta| hull.holds(meta));
        if !Hull::of(inputs()).is_none_or(within) {
            return Err(self.imbalance("an output reaches beyond the keys of the inputs"));
        }
        Ok(())
    }

    fn imbalance(&self, what: &str) -> Error {
        let inputs: Vec<String> = self.plan.ids().map(|id| Name::Sst(id).to_string()).collect();
        let first = inputs.first().cloned().unwrap_or_default();
        Error::corruption(first, 0, format!("a merge of {} SSTs does not balance: {what}", inputs.len()))
            .hint("nothing was published; run esker verify to find the SST at fault")
    }
}

/// What a turn has built, on its way to the upload.
struct Built {
    pieces: Vec<Piece>,
    charge: Charge,
}

/// How many outputs are read back at a time, at most.
const PARALLEL_READ_BACKS: usize = 8;

/// How SSTs of `level` are written.
pub fn sst_options(options: &StoredOptions, level: u32) -> Result<SstOptions> {
    let codecs = &options.codecs;
    let codec = codecs.get(level as usize).or_else(|| codecs.last()).copied().unwrap_or_default();
    let codec = u8::try_from(codec)
        .map_err(|_| Error::unsupported(format!("codec {codec} is not known to this version")))
        .and_then(Codec::from_u8)?;
    Ok(SstOptions {
        block_bytes: options.block_bytes as usize,
        restart_interval: options.restart_interval as usize,
        codec,
        filter_bits_per_key: options.filter_bits_per_key,
    })
}

/// Sends pieces up as they come; the SSTs, complete in the store, in key order, without those `adopted`.
async fn upload(
    store: &Store,
    account: Account,
    mut built: mpsc::Receiver<Built>,
    adopted: &[SstMeta],
    mut recorder: Recorder<'_>,
) -> Result<Vec<SstMeta>> {
    let mut outputs = Outputs::new(store, Cause::Compact).charging(account);
    recorder.recorded = adopted.iter().map(|meta| meta.bytes).sum();
    while let Some(Built { pieces, mut charge }) = built.recv().await {
        for piece in pieces {
            // The upload charges what it takes.
            drop(charge.split(piece.bytes()));
            match piece {
                Piece::More(id, chunks) => outputs.push(id, chunks, None).await?,
                Piece::End(meta, chunks, consumed) => {
                    recorder.complete += meta.bytes;
                    outputs.push(meta.object_id(), chunks, Some(*meta)).await?;
                    if let Some(consumed) = consumed {
                        recorder.came_to(*consumed, adopted, outputs.complete()).await?;
                    }
                }
            }
        }
    }
    // If one broke off, the merge has failed in the middle of it and says why itself.
    Ok(outputs.finish().await.0)
}

/// Tells the job log now and then how far the job has come.
struct Recorder<'a> {
    log: &'a mut JobLog,
    record_bytes: u64,
    /// Bytes of output that the log knows of.
    recorded: u64,
    /// Bytes of output that are complete and that it does not know of.
    complete: u64,
}

impl Recorder<'_> {
    /// Fails only if another compactor has the role: a record that cannot be written saves work later, and a job
    /// that stops for it costs work now.
    async fn came_to(&mut self, consumed: Consumed, adopted: &[SstMeta], made: &[SstMeta]) -> Result<()> {
        if self.complete < self.record_bytes.max(self.recorded / 16) {
            return Ok(());
        }
        let so_far = SoFar {
            outputs: [adopted, made].concat(),
            boundary: consumed.boundary,
            dropped: Bytes::copy_from_slice(&consumed.dropped.to_bytes()),
            dropped_entries: consumed.dropped_entries,
            read_entries: consumed.read_entries,
        };
        self.recorded += std::mem::take(&mut self.complete);
        match self.log.record(so_far).await {
            Err(error) if error.kind() == ErrorKind::Fenced => Err(error),
            Err(error) => {
                tracing::warn!(%error, "how far a merge has come could not be recorded, it goes on");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }
}

/// Reads `outputs` back whole and checks everything in them. Fails as the store does, or with `Corruption` if one
/// is missing or not what its entry says.
pub(super) async fn verify(store: &Store, memory: &Arc<Memory>, outputs: &[SstMeta]) -> Result<()> {
    read_all_back(store, memory, outputs, true).await
}

/// Reads outputs back, whole or their tails, as many at a time as there is memory for; one in any case.
async fn read_all_back(
    store: &Store,
    memory: &Arc<Memory>,
    mut outputs: &[SstMeta],
    whole: bool,
) -> Result<()> {
    let bytes = |meta: &SstMeta| {
        let from = if whole { 0 } else { meta.tail_offset };
        usize::try_from(meta.bytes.saturating_sub(from)).unwrap_or(usize::MAX)
    };
    while let Some(first) = outputs.first() {
        let (mut some, mut held) = (1, bytes(first));
        let left = memory.left(Use::MergeInputs);
        while let Some(next) = outputs.get(some).filter(|_| some < PARALLEL_READ_BACKS) {
            let more = held.saturating_add(bytes(next));
            if more > left {
                break;
            }
            (some, held) = (some + 1, more);
        }
        let _charge = memory.hold(Use::MergeInputs, held);
        let (now, later) = outputs.split_at(some);
        try_join_all(now.iter().map(|meta| read_back(store, meta, whole))).await?;
        outputs = later;
    }
    Ok(())
}

/// Reads an output back from the store: its tail, or all of it.
async fn read_back(store: &Store, meta: &SstMeta, whole: bool) -> Result<()> {
    let name = Name::Sst(meta.object_id());
    let from = if whole { 0 } else { meta.tail_offset };
    let read = || async {
        let bytes = store.get_range(&name, from..meta.bytes, Cause::Compact).await?;
        let meta = meta.clone();
        on_cpu(
            move || if whole { verify_object(&meta, &bytes) } else { Tail::decode(&meta, bytes).map(drop) },
        )
        .await?
    };
    store.reread(&name, read).await
}
