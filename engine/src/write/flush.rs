//! The flush task: a frozen memtable becomes one run of level-0 SSTs.
//!
//! ```text
//!  frozen memtable ─► its log has landed ─► build (CPU pool, turn by turn) ═blocks═► upload
//!                                                 │ sums and counts agree
//!                                                 ▼
//!          memtable dropped ◄─ publish ◄─ commit Flush { SSTs, replay point, counter floor }
//! ```
//!
//! Blocks travel from the CPU pool to the upload by a queue bounded in bytes, so that parts go up
//! while later ones are built and a flush holds little more than what is on its way. A turn never waits:
//! what it has built is handed over between turns.
//!
//! Always true: a memtable is flushed only when all of it is durable in the log, and oldest first; a key
//! never spans two SSTs of the run; the sum and the count of what went up are those of the memtable, or
//! nothing is committed. A failed attempt leaves garbage under names below the next counter floor.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::{
    chaos::{Bug, bug},
    clock::{self, SharedClock},
    codec::sum::Sum,
    compaction::{job::sst_options, outputs::Outputs},
    error::{Error, ErrorKind, Result},
    key::Seq,
    manifest::{Edit, Manifest, View, edit::check_writer_epoch},
    memory::{Account, Charge, Use},
    memtable::{MemCursor, Memtable},
    sst::{SstBuilder, SstCache, SstMeta, SstOptions, Warmth},
    stats::Cause,
    store::{Name, ObjectId, Role},
    write::head::{Frozen, Writer},
};

/// Bytes of keys and values after which a turn of building ends, so that they can go up while the next one runs.
const TURN_BYTES: usize = 1 << 20;
/// Entries of a memtable that are asked for at once.
const NEAR_ENTRIES: usize = 16;
/// Pieces between the building and the upload.
const PIECES: usize = 4;
/// The pause after a failed attempt.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Flushes for one writer.
#[derive(Debug)]
pub struct Flusher {
    writer: Arc<Writer>,
    manifest: Manifest,
    /// The counter of the next SST of this epoch.
    counter: Arc<AtomicU64>,
    /// Where goes what was read in the memtable.
    cache: SstCache,
}

impl Flusher {
    /// A flusher whose first SST gets the counter that the claim of the epoch left as its floor.
    pub fn new(writer: Arc<Writer>, manifest: Manifest, cache: SstCache) -> Self {
        let floor = writer.current().load().view.root.writer.counter_floor;
        Self { writer, manifest, counter: Arc::new(AtomicU64::new(floor)), cache }
    }

    /// The task: flushes whatever is frozen, oldest first. Ends only when nothing more can be written: what
    /// passes, be it a store that is away or a key that has expired, is waited out.
    pub async fn run(self) -> Error {
        let clock = self.writer.settings().clock.clone();
        let mut pause = FIRST_PAUSE;
        loop {
            let Some(frozen) = self.writer.oldest_frozen() else {
                self.writer.frozen().await;
                continue;
            };
            // What stops the log is final, and so is what a commit does not try again.
            if let Err(error) = landed(&frozen).await {
                return error;
            }
            match self.store(&frozen.memtable).await {
                Ok(ssts) => {
                    pause = FIRST_PAUSE;
                    if let Err(error) = self.publish(frozen, ssts).await {
                        return error;
                    }
                }
                Err(error) if is_final(&error) => return error,
                Err(error) => {
                    tracing::warn!(%error, "a flush failed; trying again");
                    clock.sleep(pause).await;
                    // slatedb #1687, #640: asleep, with work to do.
                    if bug(Bug::FlushSleepsOn) {
                        self.writer.frozen().await;
                    }
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
            self.writer.budget().sweep();
        }
    }

    /// Publishes the version that has the SSTs of `frozen`.
    async fn publish(&self, frozen: Frozen, ssts: Vec<SstMeta>) -> Result<()> {
        let base = self.writer.current().load().view.clone();
        let edit = Edit::Flush {
            epoch: self.writer.settings().epoch,
            ssts,
            // slatedb #1857: the watermark of the moment, and not of the memtable.
            replay_from: if bug(Bug::ReplayPointAtPublish) {
                frozen.replay_from.max(self.writer.pipe().durable_slot() + 1)
            } else {
                frozen.replay_from
            },
            tail_hint: self.writer.pipe().durable_slot(),
            last_seq: frozen.last_seq,
            // slatedb #604, PR #1029: what is about to be uploaded counted as abandoned.
            counter_floor: self.counter.load(Ordering::Relaxed)
                + if bug(Bug::FlushCounterAhead) { 8 } else { 0 },
        };
        let view = self.commit(base, &edit, frozen.last_seq).await?;
        drop(frozen);
        let departed = self.writer.replace(&view);
        let freed = clock::on_cpu(move || departed.free()).await;
        self.writer.replaced(&view);
        freed
    }

    /// The SSTs are there: only the commit is tried again while the store is away. An attempt whose outcome
    /// was unknown may have come to something, and a merge may even have taken its SSTs away already: the
    /// latest version says so by the last number that it holds. `Invalid` is final if the edit breaks a rule
    /// on the latest version, and not if it is the store's answer (a 403 while keys are rotated).
    async fn commit(&self, mut base: Arc<View>, edit: &Edit, last_seq: Seq) -> Result<Arc<View>> {
        let clock = &self.writer.settings().clock;
        let epoch = self.writer.settings().epoch;
        let mut pause = FIRST_PAUSE;
        loop {
            let error = match self.manifest.commit_if_there(&base, edit, Cause::Flush).await {
                Err(error) if !is_final(&error) => error,
                done => return done,
            };
            tracing::warn!(%error, "a flush could not be committed; looking what came of it");
            clock.sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            match self.manifest.latest(Cause::Flush).await {
                Ok(latest) => {
                    check_writer_epoch(&latest.root, epoch)?;
                    if latest.root.writer.last_seq >= last_seq {
                        return Ok(latest);
                    }
                    edit.apply(&latest.root)?;
                    base = latest;
                }
                Err(error) if is_final(&error) => return Err(error),
                Err(_) => {}
            }
        }
    }

    /// Builds and uploads the run, and checks that it holds exactly the memtable's entries.
    async fn store(&self, memtable: &Arc<Memtable>) -> Result<Vec<SstMeta>> {
        let view = self.writer.current().load().view.clone();
        let (sender, receiver) = mpsc::channel(PIECES);
        let building = Building {
            cursor: memtable.cursor(),
            begun: false,
            options: sst_options(&view.root.options, 0)?,
            sst_bytes: view.root.options.sst_bytes,
            epoch: self.writer.settings().epoch,
            counter: self.counter.clone(),
            cache: self.cache.clone(),
            clock: self.writer.settings().clock.clone(),
            open: None,
            last_key: Vec::new(),
            pieces: Vec::new(),
        };
        let (built, uploaded) = tokio::join!(self.build(memtable, building, sender), self.upload(receiver));
        // If the upload failed, the build failed for want of a listener: the upload knows why.
        let ssts = uploaded?;
        let expected = built?;
        let mut stored = Sum::default();
        for sst in &ssts {
            stored.add(&sum_of(sst)?);
        }
        let entries: u64 = ssts.iter().map(|sst| sst.entries).sum();
        if stored != expected || entries != memtable.len() as u64 {
            let first =
                ssts.first().map_or_else(|| "nothing".into(), |sst| Name::Sst(sst.object_id()).path());
            return Err(Error::corruption(
                first,
                0,
                format!(
                    "a flush does not balance: the memtable has {} entries, the SSTs have {entries}",
                    memtable.len()
                ),
            )
            .hint("nothing was committed and the log still has every write; open the database again, and report this"));
        }
        Ok(ssts)
    }

    /// Builds turn by turn and hands over what is ready; gives the memtable's sum, taken in a pass of its own.
    async fn build(
        &self,
        memtable: &Arc<Memtable>,
        mut building: Building,
        out: mpsc::Sender<Piece>,
    ) -> Result<Sum> {
        let summed = memtable.clone();
        let sum = clock::on_cpu(move || summed.sum()).await?;
        let mut open = self.account().hold(0);
        loop {
            let (back, turn) = clock::on_cpu(move || {
                let turn = building.turn();
                (building, turn)
            })
            .await?;
            building = back;
            open.becomes(building.bytes_held());
            let more = turn?;
            for Built { id, blocks, end } in building.pieces.drain(..) {
                let bytes = blocks.iter().map(Bytes::len).sum();
                let piece = Piece { id, blocks, end, charge: self.account().hold(bytes) };
                out.send(piece).await.map_err(|_| Error::closed("the upload of an SST broke off"))?;
            }
            if !more {
                return Ok(sum);
            }
        }
    }

    /// Who is charged for what is built and sent.
    fn account(&self) -> Account {
        Account { memory: Arc::clone(self.writer.budget().memory()), what: Use::Flushes }
    }

    /// Sends what is built, as it is built.
    async fn upload(&self, mut pieces: mpsc::Receiver<Piece>) -> Result<Vec<SstMeta>> {
        let mut outputs = Outputs::new(self.manifest.store(), Cause::Flush).charging(self.account());
        while let Some(Piece { id, blocks, end, charge }) = pieces.recv().await {
            // The upload charges what it takes.
            drop(charge);
            outputs.push(id, blocks, end.map(|meta| *meta)).await?;
        }
        match outputs.finish().await {
            (ssts, false) => Ok(ssts),
            (_, true) => Err(Error::closed("the building of an SST broke off")),
        }
    }
}

/// Consecutive bytes of one SST; with the last of them, what the manifest records of it.
struct Piece {
    id: ObjectId,
    blocks: Vec<Bytes>,
    end: Option<Box<SstMeta>>,
    charge: Charge,
}

/// Bytes as they were built, not yet charged.
struct Built {
    id: ObjectId,
    blocks: Vec<Bytes>,
    end: Option<Box<SstMeta>>,
}

/// The run while it is built: the CPU pool's part.
struct Building {
    cursor: MemCursor,
    begun: bool,
    options: SstOptions,
    sst_bytes: u64,
    epoch: u32,
    counter: Arc<AtomicU64>,
    cache: SstCache,
    clock: SharedClock,
    open: Option<(ObjectId, SstBuilder)>,
    last_key: Vec<u8>,
    /// What is ready to go up.
    pieces: Vec<Built>,
}

impl Building {
    /// Builds until a piece is ready; false once everything has been built.
    fn turn(&mut self) -> Result<bool> {
        if !self.begun {
            self.begun = true;
            self.cursor.first();
        }
        let mut raw_bytes = 0;
        for walked in 0.. {
            if !self.cursor.is_valid() {
                break;
            }
            if walked % NEAR_ENTRIES == 0 {
                self.cursor.bring_near(NEAR_ENTRIES);
            }
            let entry = self.cursor.entry();
            if let Some((_, builder)) = self
                .open
                .take_if(|(_, builder)| builder.bytes() >= self.sst_bytes && entry.key != &self.last_key[..])
            {
                finish(builder, &mut self.pieces)?;
            }
            let (_, builder) = self.open.get_or_insert_with(|| {
                let id = ObjectId {
                    role: Role::Writer,
                    epoch: self.epoch,
                    counter: self.counter.fetch_add(1, Ordering::Relaxed),
                    nonce: self.clock.random() as u64,
                };
                (id, SstBuilder::new(id, self.options).warming(Some(self.cache.clone())))
            });
            let warmth = if self.cursor.was_read() { Warmth::Plain } else { Warmth::Cold };
            builder.add_warm(entry, warmth)?;
            self.last_key.clear();
            self.last_key.extend_from_slice(entry.key);
            raw_bytes += entry.key.len() + entry.value.len();
            self.cursor.next();
            if raw_bytes >= TURN_BYTES {
                self.hand_over();
                return Ok(true);
            }
        }
        if let Some((_, builder)) = self.open.take() {
            finish(builder, &mut self.pieces)?;
        }
        Ok(false)
    }

    /// Memory held by the open SST.
    fn bytes_held(&self) -> usize {
        self.open.as_ref().map_or(0, |(_, builder)| builder.bytes_held())
    }

    /// The blocks of the open SST that are ready.
    fn hand_over(&mut self) {
        if let Some((id, builder)) = &mut self.open {
            let blocks = builder.take_ready();
            if !blocks.is_empty() {
                self.pieces.push(Built { id: *id, blocks, end: None });
            }
        }
    }
}

fn finish(builder: SstBuilder, pieces: &mut Vec<Built>) -> Result<()> {
    let finished = builder.finish()?;
    let id = finished.meta.object_id();
    pieces.push(Built { id, blocks: finished.chunks, end: Some(Box::new(finished.meta)) });
    Ok(())
}

/// Waits until all of `frozen` is durable, however slow the log is.
async fn landed(frozen: &Frozen) -> Result<()> {
    match &frozen.landing {
        Some(landing) => landing.settled().await,
        None => Ok(()),
    }
}

/// Whether trying again cannot help. `Invalid` is not among it: of a store it may pass.
fn is_final(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Fenced | ErrorKind::Corruption | ErrorKind::Closed | ErrorKind::Unsupported
    )
}

fn sum_of(sst: &SstMeta) -> Result<Sum> {
    Sum::from_bytes(&sst.sum).ok_or_else(|| {
        Error::corruption(Name::Sst(sst.object_id()).path(), 0, "the SST's sum is not 32 bytes")
    })
}
