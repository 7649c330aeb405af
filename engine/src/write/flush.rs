//! The flush task: a frozen memtable becomes one run of level-0 SSTs.
//!
//! ```text
//!  frozen memtable ─► its log has landed ─► build (CPU thread) ═blocks═► upload
//!                                                 │ sums and counts agree
//!                                                 ▼
//!          memtable dropped ◄─ publish ◄─ commit Flush { SSTs, replay point, counter floor }
//! ```
//!
//! Blocks travel from the CPU thread to the upload by a queue bounded in bytes, so that parts go up
//! while later ones are built and a flush holds little more than what is on its way.
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
    clock::{self, SharedClock},
    codec::sum::Sum,
    compaction::{job::sst_options, outputs::Outputs},
    error::{Error, ErrorKind, Result},
    key::{EntryRef, Seq},
    manifest::{Edit, Manifest, View, edit::check_writer_epoch},
    memtable::Memtable,
    sst::{SstBuilder, SstMeta, SstOptions},
    stats::Cause,
    store::{Name, ObjectId, Role},
    write::head::{Frozen, Writer},
};

/// Built blocks are handed to the upload in pieces of about this size.
const PIECE_BYTES: u64 = 1 << 20;
/// Pieces between the CPU thread and the upload.
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
}

impl Flusher {
    /// A flusher whose first SST gets the counter that the claim of the epoch left as its floor.
    pub fn new(writer: Arc<Writer>, manifest: Manifest) -> Self {
        let floor = writer.current().load().view.root.writer.counter_floor;
        Self { writer, manifest, counter: Arc::new(AtomicU64::new(floor)) }
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
            replay_from: frozen.replay_from,
            tail_hint: self.writer.pipe().durable_slot(),
            last_seq: frozen.last_seq,
            counter_floor: self.counter.load(Ordering::Relaxed),
        };
        let view = self.commit(base, &edit, frozen.last_seq).await?;
        drop(frozen);
        self.writer.publish(&view);
        Ok(())
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
            let error = match self.manifest.commit(&base, edit, Cause::Flush).await {
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
        let build = Build {
            memtable: memtable.clone(),
            options: sst_options(&view.root.options, 0)?,
            sst_bytes: view.root.options.sst_bytes,
            epoch: self.writer.settings().epoch,
            counter: self.counter.clone(),
            clock: self.writer.settings().clock.clone(),
            writer: self.writer.clone(),
            out: sender,
        };
        let (built, uploaded) = tokio::join!(clock::on_cpu(move || build.run()), self.upload(receiver));
        // If the upload failed, the build failed for want of a listener: the upload knows why.
        let ssts = uploaded?;
        let expected = built??;
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

    /// Sends what is built, as it is built.
    async fn upload(&self, mut pieces: mpsc::Receiver<Piece>) -> Result<Vec<SstMeta>> {
        let mut outputs = Outputs::new(self.manifest.store(), Cause::Flush);
        while let Some(Piece { id, blocks, end, _charge }) = pieces.recv().await {
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
    _charge: PieceCharge,
}

/// A built piece counts against the memory budget until the upload has taken it.
struct PieceCharge {
    writer: Arc<Writer>,
    bytes: usize,
}

impl Drop for PieceCharge {
    fn drop(&mut self) {
        self.writer.budget().release(self.bytes);
    }
}

/// The CPU thread's part.
struct Build {
    memtable: Arc<Memtable>,
    options: SstOptions,
    sst_bytes: u64,
    epoch: u32,
    counter: Arc<AtomicU64>,
    clock: SharedClock,
    writer: Arc<Writer>,
    out: mpsc::Sender<Piece>,
}

impl Build {
    /// Sends the SSTs piece by piece; gives the memtable's sum, taken in a pass of its own.
    fn run(self) -> Result<Sum> {
        let sum = self.memtable.sum();
        let mut open: Option<(ObjectId, SstBuilder, u64)> = None;
        let mut last_key: Vec<u8> = Vec::new();
        self.each(|entry| {
            if let Some((id, builder, _)) = open
                .take_if(|(_, builder, _)| builder.bytes() >= self.sst_bytes && entry.key != &last_key[..])
            {
                self.finish(id, builder)?;
            }
            let (id, builder, sent) = open.get_or_insert_with(|| {
                let id = self.next_id();
                (id, SstBuilder::new(id, self.options), 0)
            });
            builder.add(entry)?;
            if builder.bytes() - *sent >= PIECE_BYTES {
                *sent = builder.bytes();
                self.send(*id, builder.take_ready(), None)?;
            }
            last_key.clear();
            last_key.extend_from_slice(entry.key);
            Ok(())
        })?;
        if let Some((id, builder, _)) = open {
            self.finish(id, builder)?;
        }
        Ok(sum)
    }

    fn each(&self, mut visit: impl FnMut(EntryRef<'_>) -> Result<()>) -> Result<()> {
        let mut cursor = self.memtable.cursor();
        cursor.first();
        while cursor.is_valid() {
            visit(cursor.entry())?;
            cursor.next();
        }
        Ok(())
    }

    fn finish(&self, id: ObjectId, builder: SstBuilder) -> Result<()> {
        let finished = builder.finish()?;
        self.send(id, finished.chunks, Some(Box::new(finished.meta)))
    }

    fn send(&self, id: ObjectId, blocks: Vec<Bytes>, end: Option<Box<SstMeta>>) -> Result<()> {
        let bytes = blocks.iter().map(Bytes::len).sum();
        self.writer.budget().force(bytes);
        let charge = PieceCharge { writer: self.writer.clone(), bytes };
        self.out
            .blocking_send(Piece { id, blocks, end, _charge: charge })
            .map_err(|_| Error::closed("the upload of an SST broke off"))
    }

    fn next_id(&self) -> ObjectId {
        ObjectId {
            role: Role::Writer,
            epoch: self.epoch,
            counter: self.counter.fetch_add(1, Ordering::Relaxed),
            nonce: self.clock.random() as u64,
        }
    }
}

/// Waits until all of `frozen` is durable, however slow the log is.
async fn landed(frozen: &Frozen) -> Result<()> {
    let Some(landing) = &frozen.landing else { return Ok(()) };
    loop {
        match landing.durable().await {
            Err(error) if error.kind() == ErrorKind::OutcomeUnknown => {}
            done => return done,
        }
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
