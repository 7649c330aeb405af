//! The compaction job log: read by everyone, appended to by the holder of the compactor role.
//!
//! ```text
//! take over   after the claim was committed: LIST, create the slot after the last one with a Takeover
//! decide      read what lies before it: resume one unfinished job, end the others
//! append      Job, Progress, Done: slot by slot from there on, seeing every slot that another took
//! raise       create floor/job/F: F lies before our newest Takeover, and everything up to it is decided
//! ```
//!
//! A slot is created once, and its bytes decide whose it is ([`Sequence`]). One that collection had emptied could
//! be created twice, so an append counts only if its slot lies above the floor when it has landed.
//!
//! **A log without holes.** A slot is created only after the one before it, and only slots up to the floor are
//! deleted, so whoever reads from the floor on sees every record there is, and an appender that walks from its
//! last slot meets every takeover there has been. Two things rest on that: a fenced compactor never raises the floor
//! over a takeover it has not seen, and a record that is void is void for everyone.
//!
//! **Nothing is decided twice.** A job of an earlier epoch stays unfinished, and its outputs named, until the record
//! of the job that carries it on has landed, or its Done. The floor goes over it only after that.
//!
//! Always true: at most one job is open, and while it has records, `JobLog::counter_floor` stays under the first
//! number it took: what a job may still publish is never declared abandoned. Every call may be dropped at any
//! await; a record whose landing is not known is written again or followed by one that settles it.

use std::time::Duration;

use bytes::Bytes;
use futures::future::try_join_all;

use crate::{
    chaos,
    compaction::{
        collect,
        history::{History, PastJob},
        plan::Plan,
        record::{self, Done, Event, Job, JobRef, Progress, Record, SoFar, Takeover},
    },
    error::{Error, ErrorKind, Result},
    manifest::{Manifest, edit},
    stats::Cause,
    store::{Folder, Listed, Name, Sequence, Slot, Store, Token, floor_of},
};

/// How many records make the holder repeat its takeover, so that the floor can follow.
pub const LONG_LOG: u64 = 64;

/// How long one record may be on its way.
const RECORD_TIME: Duration = Duration::from_secs(30);
/// How often a read or an append begins again because the floor was raised under it.
const MAX_TRIES: u32 = 20;
const PARALLEL: usize = 16;

/// What the job log held at one moment.
#[derive(Debug)]
pub struct Log {
    /// Records at or under this slot are void.
    pub floor: u64,
    /// Every record that was there, those under the floor included, in the order of slots.
    pub listed: Vec<Listed>,
    /// The marks of floors, in order.
    pub marks: Vec<Listed>,
    /// The records above the floor.
    pub records: Vec<(u64, Result<Record>)>,
}

impl Log {
    /// What the records say, taken together.
    pub fn history(&self) -> History {
        History::of(self.records.iter().cloned())
    }
}

/// Reads the job log of the database `db_uuid`: all of what was there when it was listed, or it begins again. A slot
/// that is missing between others, and a record that cannot be decoded, are errors in their places.
///
/// Fails with `Conflict` if the floor overtakes it again and again.
pub async fn read(store: &Store, db_uuid: u128, cause: Cause) -> Result<Log> {
    let mut tries = 0;
    loop {
        tries += 1;
        // The floor first: what it declared decided before the listing is recorded again, in what is listed.
        let marks = store.list(Folder::JobFloor, None, cause).await?;
        let floor = floor_of(&marks);
        let listed = store.list(Folder::Job, None, cause).await?;
        let slots: Vec<u64> =
            listed.iter().filter_map(|one| one.name.number()).filter(|slot| *slot > floor).collect();
        let mut records = Vec::with_capacity(slots.len());
        let mut next = floor + 1;
        for some in slots.chunks(PARALLEL) {
            let bodies = some.iter().map(|slot| async { store.get(&Name::Job(*slot), cause).await });
            for (slot, body) in some.iter().zip(try_join_all(bodies).await?) {
                if *slot > next {
                    records.push((next, Err(missing(next))));
                }
                next = slot + 1;
                let record = body.ok_or_else(|| missing(*slot));
                records.push((*slot, record.and_then(|body| record::decode(*slot, db_uuid, &body))));
            }
        }
        // If the floor has been raised meanwhile, what was read may be gone, or a late PUT in the place of what was
        // there. If it has not, a hole is a hole.
        if slots.is_empty() || floor == floor_of(&store.list(Folder::JobFloor, None, cause).await?) {
            return Ok(Log { floor, listed, marks, records });
        }
        if tries >= MAX_TRIES {
            return Err(Error::new(ErrorKind::Conflict, "the job log was collected while it was being read")
                .hint("another collection is running; run this again"));
        }
    }
}

/// The epoch of the newest record of the job log, which is the highest: a compactor appends nothing behind a later
/// one's takeover. 0 if there is none, or it cannot be read. One LIST, and a GET.
pub(crate) async fn last_epoch(store: &Store, db_uuid: u128, cause: Cause) -> Result<u32> {
    let records = Sequence::new(store.clone(), Folder::Job);
    let Some(slot) = records.latest(0, cause).await? else { return Ok(0) };
    let Some(body) = records.get(slot, cause).await? else { return Ok(0) };
    Ok(record::decode(slot, db_uuid, &body).map_or(0, |record| record.epoch))
}

fn missing(slot: u64) -> Error {
    Error::corruption(
        Name::Job(slot).path(),
        0,
        "a record of the job log is missing, and later ones are there",
    )
}

/// The holder's side of the job log.
#[derive(Debug)]
pub(super) struct JobLog {
    store: Store,
    records: Sequence,
    marks: Sequence,
    db_uuid: u128,
    uuid: u128,
    name: String,
    epoch: u32,
    /// The slot of our newest takeover, once it has landed.
    takeover: Option<u64>,
    /// The slot of the next record, unless another took it.
    next: u64,
    /// The floor as far as we know.
    floor: u64,
    /// Unfinished jobs of earlier epochs that are not decided, oldest first; `None` until the log has been read.
    older: Option<Vec<(JobRef, PastJob)>>,
    /// Whether something lies before our takeover that a newer program wrote: that is left to it.
    is_newer: bool,
    /// How many jobs were begun in this epoch.
    jobs: u64,
    open: Option<Open>,
}

/// A job that was begun and has not ended.
#[derive(Debug)]
struct Open {
    at: JobRef,
    plan: Plan,
    /// The first counter it could give to an output.
    first_counter: u64,
    /// How far it came, recorded or not.
    so_far: Option<SoFar>,
    /// The job it carries on, and the slot of the newest record of that.
    from: Option<JobRef>,
    slot: u64,
    /// Whether a record of it may have landed.
    attempted: bool,
    /// Whether its first record has.
    landed: bool,
    /// How it is to end; from then on it is not resumed.
    end: Option<Done>,
}

impl JobLog {
    /// The log of the compactor `uuid`, which has claimed `epoch`.
    pub(super) fn new(manifest: &Manifest, uuid: u128, name: &str, epoch: u32) -> Self {
        let store = manifest.store().clone();
        Self {
            records: Sequence::new(store.clone(), Folder::Job),
            marks: Sequence::new(store.clone(), Folder::JobFloor),
            store,
            db_uuid: manifest.identity().db_uuid,
            uuid,
            name: name.to_owned(),
            epoch,
            takeover: None,
            next: 1,
            floor: 0,
            older: None,
            is_newer: false,
            jobs: 0,
            open: None,
        }
    }

    /// Appends our takeover, if it has not landed yet. Fails with `Fenced` if another compactor's is there.
    pub(super) async fn take_over(&mut self) -> Result<()> {
        if self.takeover.is_some() {
            return Ok(());
        }
        for _ in 0..MAX_TRIES {
            self.floor = self.read_floor().await?;
            let last = self.records.latest(0, Cause::Compact).await?.unwrap_or(0);
            self.next = last.max(self.floor) + 1;
            if let Some(slot) = self.try_append(&self.takeover_event()).await? {
                self.takeover = Some(slot);
                chaos::mark("a compactor's takeover is in the job log");
                return Ok(());
            }
        }
        Err(Error::unavailable("the job log was collected again and again while it was being appended to"))
    }

    /// The job that is to be resumed before anything else is done, and how far it has come: our own that broke
    /// off, or one of an earlier epoch. `is_sensible` says what still speaks for it, or why it is given up.
    pub(super) async fn unfinished(
        &mut self,
        mut is_sensible: impl FnMut(&Plan) -> Result<Plan, String>,
    ) -> Result<Option<Unfinished>> {
        if self.open.as_ref().is_some_and(|open| open.end.is_some()) {
            self.settle().await?;
        }
        if let Some(open) = &self.open {
            match (is_sensible(&open.plan), &open.so_far) {
                (Ok(plan), Some(so_far)) => {
                    // What was adopted is looked at again; what we made ourselves is still here as we made it.
                    let is_ours = open.from.is_none();
                    let slot = open.slot;
                    return Ok(Some(Unfinished { at: open.at, slot, plan, so_far: so_far.clone(), is_ours }));
                }
                (Err(why), _) => self.end(false, &why).await?,
                (Ok(_), None) => self.end(false, "it had come to nothing").await?,
            }
        }
        self.read_older().await?;
        while let Some((at, past)) = self.older.as_ref().and_then(|older| older.last()).cloned() {
            let (Some(job), Some(so_far)) = (past.job, past.so_far) else {
                self.give_up(at, "its records are not to be relied on").await?;
                continue;
            };
            match is_sensible(&job.plan()) {
                Ok(plan) => {
                    return Ok(Some(Unfinished { at, slot: past.slot, plan, so_far, is_ours: false }));
                }
                Err(why) => self.give_up(at, &why).await?,
            }
        }
        Ok(None)
    }

    /// Ends `at`, a job of an earlier epoch or ours, without anyone resuming it.
    pub(super) async fn give_up(&mut self, at: JobRef, why: &str) -> Result<()> {
        chaos::mark("an unfinished job is given up");
        tracing::info!(job = %at, why, "an unfinished merge is given up");
        if self.open.as_ref().is_some_and(|open| open.at == at || open.from == Some(at)) {
            return self.end(false, why).await;
        }
        self.append(&Event::Done(Done::new(at, false, why))).await?;
        self.decided(at);
        Ok(())
    }

    /// A job begins, whose first output will take `first_counter` at least.
    pub(super) fn begin(&mut self, plan: &Plan, first_counter: u64) {
        debug_assert!(self.open.is_none(), "one job at a time");
        self.jobs += 1;
        let at = JobRef { epoch: self.epoch, job: self.jobs };
        self.open = Some(Open {
            at,
            plan: plan.clone(),
            first_counter,
            so_far: None,
            from: None,
            slot: 0,
            attempted: false,
            landed: false,
            end: None,
        });
    }

    /// Makes `unfinished` our job. One of an earlier epoch is recorded under ours before anything else happens to it:
    /// its outputs stay named when the floor goes over its own records.
    pub(super) async fn adopt(&mut self, unfinished: &Unfinished, first_counter: u64) -> Result<()> {
        if self.open.is_none() {
            self.begin(&unfinished.plan, first_counter);
            if let Some(open) = &mut self.open {
                open.from = Some(unfinished.at);
                open.slot = unfinished.slot;
                open.so_far = Some(unfinished.so_far.clone());
            }
        }
        if let Some(Open { landed: false, from: Some(from), .. }) = self.open {
            self.write_job().await?;
            // A holder between its epoch and ours that had decided about it would have said so in a record before
            // our takeover. The floor, which was read just now, says the same once more.
            if self.floor >= unfinished.slot {
                return Err(Error::new(ErrorKind::Conflict, "another compactor has decided about it"));
            }
            chaos::mark("a job of another epoch is adopted");
            self.decided(from);
        }
        Ok(())
    }

    /// The open job has come `so_far`. An error leaves it open, and as far as it has come.
    pub(super) async fn record(&mut self, so_far: SoFar) -> Result<()> {
        let Some(open) = &mut self.open else { return Ok(()) };
        open.so_far = Some(so_far.clone());
        if !open.landed {
            return self.write_job().await;
        }
        let job = open.at.job;
        chaos::mark("a job's progress is recorded");
        self.append(&Event::Progress(Progress { job, so_far })).await.map(drop)
    }

    /// The open job ends: published, or given up because of `why`. Nothing is written if nobody was told of it.
    pub(super) async fn end(&mut self, published: bool, why: &str) -> Result<()> {
        let Some(open) = &mut self.open else { return Ok(()) };
        open.end.get_or_insert_with(|| Done::new(open.at, published, why));
        self.settle().await
    }

    /// The counter that may be declared settled when no merge runs and `counter` is the next one.
    pub(super) fn counter_floor(&self, counter: u64) -> u64 {
        self.open.as_ref().map_or(counter, |open| open.first_counter.min(counter))
    }

    /// Raises the floor to just before our newest takeover, if everything before it is decided. A takeover that
    /// lies far back is repeated, so that the next call can raise it further.
    ///
    /// To be called when a version has been seen, since the takeover landed, in which the role is ours: then
    /// no later holder's takeover can lie under the floor, whatever became of its bytes.
    pub(super) async fn raise_floor(&mut self) -> Result<()> {
        self.take_over().await?;
        self.read_older().await?;
        if self.is_newer || self.older.as_ref().is_none_or(|older| !older.is_empty()) {
            return Ok(());
        }
        let Some(takeover) = self.takeover else { return Ok(()) };
        let floor = takeover - 1;
        if floor > self.floor {
            let body = collect::floor_mark(&self.store);
            // Whoever creates the mark, it is there when this returns.
            self.marks.create(floor, body, Cause::Gc, Some(RECORD_TIME)).await?;
            self.floor = floor;
            chaos::mark("the floor of the job log is raised");
        }
        let is_long = self.next - takeover > LONG_LOG || chaos::rare("a takeover is repeated early");
        if is_long && self.open.is_none() {
            self.takeover = Some(self.append(&self.takeover_event()).await?);
        }
        Ok(())
    }

    /// Reads what lies before our takeover, once.
    async fn read_older(&mut self) -> Result<()> {
        if self.older.is_some() {
            return Ok(());
        }
        self.take_over().await?;
        if self.takeover == Some(self.floor + 1) {
            self.older = Some(Vec::new());
            return Ok(());
        }
        let log = read(&self.store, self.db_uuid, Cause::Compact).await?;
        let history = log.history();
        if let Some(holder) = &history.holder
            && holder.epoch > self.epoch
        {
            return Err(edit::fenced("compacting", &holder.name, holder.epoch, self.epoch));
        }
        self.is_newer = history.unreadable.iter().any(|(_, e)| e.kind() == ErrorKind::Unsupported);
        let is_ours = history.holder.as_ref().is_some_and(|holder| holder.epoch == self.epoch);
        let mut older: Vec<(JobRef, PastJob)> = history
            .unfinished()
            .filter(|(at, _)| at.epoch < self.epoch)
            .map(|(at, past)| (at, past.clone()))
            .collect();
        older.reverse();
        if history.is_doubtful() || !is_ours {
            for (slot, error) in &history.unreadable {
                tracing::warn!(slot, %error, "a record of the job log cannot be read, no merge is resumed");
            }
            for (_, past) in &mut older {
                past.job = None;
            }
        }
        self.older = Some(older);
        Ok(())
    }

    fn decided(&mut self, at: JobRef) {
        if let Some(older) = &mut self.older {
            older.retain(|(job, _)| *job != at);
        }
    }

    /// Writes the first record of the open job.
    async fn write_job(&mut self) -> Result<()> {
        let Some(open) = &mut self.open else { return Ok(()) };
        let Some(so_far) = &open.so_far else { return Ok(()) };
        open.attempted = true;
        let event = Event::Job(Job::new(open.at.job, &open.plan, so_far.clone(), open.from));
        chaos::mark("a job is recorded");
        self.append(&event).await?;
        if let Some(open) = &mut self.open {
            open.landed = true;
        }
        Ok(())
    }

    /// Writes the end of the open job, if there may be records of it.
    async fn settle(&mut self) -> Result<()> {
        let Some(open) = &self.open else { return Ok(()) };
        if open.attempted
            && let Some(end) = &open.end
        {
            let (end, from) = (end.clone(), open.from);
            self.append(&Event::Done(end.clone())).await?;
            // Ours may have landed or not; the job that it was to carry on is not tried twice.
            if let Some(from) = from
                && self.older.iter().flatten().any(|(at, _)| *at == from)
            {
                self.append(&Event::Done(Done::new(from, false, &end.why))).await?;
                self.decided(from);
            }
        }
        self.open = None;
        Ok(())
    }

    fn takeover_event(&self) -> Event {
        Event::Takeover(Takeover::new(self.uuid, &self.name))
    }

    async fn append(&mut self, event: &Event) -> Result<u64> {
        match self.try_append(event).await? {
            Some(slot) => Ok(slot),
            // We have a takeover, and nobody but a later holder raises the floor over it.
            None => Err(Error::new(ErrorKind::Fenced, "another process has taken over the job log")
                .on(Name::Job(self.next).path())
                .hint("this handle is finished; open again to take the role back")),
        }
    }

    /// Creates the first free slot from `next` on; `None` if it lies at or under the floor and is void.
    async fn try_append(&mut self, event: &Event) -> Result<Option<u64>> {
        let clock = self.store.clock();
        let slot = loop {
            let slot = self.next;
            let Token(token) = Token::fresh(&**clock);
            let body = record::encode(&Record {
                slot,
                db_uuid: Bytes::copy_from_slice(&self.db_uuid.to_le_bytes()),
                token: Bytes::copy_from_slice(&token),
                epoch: self.epoch,
                written_ms: clock.wall_ms(),
                event: Some(event.clone()),
            })?;
            match self.records.create(slot, vec![body], Cause::Compact, Some(RECORD_TIME)).await? {
                Slot::Ours => break slot,
                Slot::Theirs(bytes) => {
                    // What cannot be decoded is passed over: who is fenced learns it at the next commit, and
                    // looks at a version before the floor is raised.
                    if let Ok(found) = record::decode(slot, self.db_uuid, &bytes)
                        && found.epoch > self.epoch
                    {
                        let name = match &found.event {
                            Some(Event::Takeover(takeover)) => takeover.name.as_str(),
                            _ => "",
                        };
                        return Err(edit::fenced("compacting", name, found.epoch, self.epoch));
                    }
                    self.next = slot + 1;
                }
            }
        };
        self.floor = self.read_floor().await?;
        if slot <= self.floor {
            return Ok(None);
        }
        self.next = slot + 1;
        Ok(Some(slot))
    }

    async fn read_floor(&self) -> Result<u64> {
        Ok(floor_of(&self.store.list(Folder::JobFloor, None, Cause::Compact).await?))
    }
}

/// A job that broke off.
#[derive(Debug, Clone)]
pub(super) struct Unfinished {
    pub(super) at: JobRef,
    /// The slot of the newest record of it that was read; of a job of ours, of the job it carries on.
    pub(super) slot: u64,
    pub(super) plan: Plan,
    pub(super) so_far: SoFar,
    /// Whether it was begun in this epoch, by this very compactor.
    pub(super) is_ours: bool,
}
