//! Compactors and the collector of the engine, driven along the model of takeover: each compactor is a real one, with its
//! job log, and merges real SSTs.
//!
//! The first input has three rows, and SSTs are cut after the first full block: a job has two outputs. The first, with
//! two rows, is the output of the model, and is recorded; the rest goes up when the model commits. After a commit somebody
//! writes the last row again, so that there is a next job.
//!
//! A request is let go when the model says so: every append to the job log, every look at its floor, uploads, the edit, and
//! of the collector the lists, reads and deletes. What the engine does more coarsely restricts the walks ([`Engine`]):
//!
//! - it looks at the manifest before it reads the log, before a job and before it raises a floor: who is fenced by then stops;
//! - it uploads before it records, gives up only what it has uploaded, and raises floors between two jobs only (a mark that it
//!   had sent by then may land when it is fenced);
//! - it adopts the newest unfinished job above the floor, or ends it, and never passes one over;
//! - it stops at a record of a newer epoch in its way or, when it reads the log, anywhere in it, and when its own record
//!   lies under the floor;
//! - its collector deletes the records under the floor before it reads the versions.
//!
//! Left out: how the GETs of a merge and the requests of one commit interleave with others; a lease; jobs of several
//! records. Records may be deleted from outside, by another pass.
//!
//! After each step: the request that each of them waits for; each record of the log, the floor, the SSTs in the store; what
//! the newest version names, who holds the role, which outputs are settled; whatever a version names is there.
//! At the end: one more compactor comes, merges everything and collects: all others are fenced, nothing that is
//! named is gone, and no garbage is left.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use esker::{
    ErrorKind,
    compaction::{
        Collected, Compactor, collect,
        job::JobOptions,
        record::{self, Event, JobRef},
    },
    manifest::{Edit, StoredOptions, View},
    stats::Cause,
    store::{Folder, Name, ObjectId, Role},
};
use futures::lock::Mutex;

use super::{
    BOTH, Takeover,
    state::{At, Compactor as Seat, EPOCHS, INPUTS, Kind, Pass, Record, SLOTS, State, Step, bits, name_of},
};
use crate::drive::{Answer, Place, Process, Request, along_some, made, retrace};

const WALKS: usize = 500;

/// What a compactor that is between two jobs is ready to do without looking at the manifest once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Ready {
    #[default]
    Nothing,
    Merge,
    RaiseFloor,
}

/// What is known of a compactor of the engine beside the state of the model.
#[derive(Debug, Clone, Copy, Default)]
struct Mind {
    was: At,
    ready: Ready,
    /// Whether it had the role when it looked, before it read the log; and what the version named.
    is_holder: bool,
    seen: u8,
}

/// Which steps of the model the engine takes.
#[derive(Debug, Default)]
struct Engine([Mind; EPOCHS]);

impl Engine {
    fn mind(&self, e: u8) -> Mind {
        self.0[usize::from(e - 1)]
    }

    /// Takes a look at `s`, which comes after the one seen before.
    fn see(&mut self, s: &State) {
        for (e, mind) in (1..).zip(&mut self.0) {
            let c = &s.compactors[usize::from(e - 1)];
            let (was, holds) = (mind.was, s.epoch == e);
            mind.was = c.at;
            match c.at {
                At::Read if was != At::Read => (mind.is_holder, mind.seen) = (holds, s.latest),
                At::Idle if holds => {
                    mind.seen = s.latest;
                    let raises = c.takeover.saturating_sub(1) > s.floor && s.counter_floor >= c.counter;
                    mind.ready = if raises { Ready::RaiseFloor } else { Ready::Merge };
                }
                // Having read the log it goes on to merge.
                At::Idle if was == At::Read => mind.ready = Ready::Merge,
                At::Idle if was == At::Idle => {}
                _ => mind.ready = Ready::Nothing,
            }
        }
    }

    /// Whether the engine takes `step` from `s`.
    fn takes(&mut self, s: &State, step: Step) -> bool {
        self.see(s);
        let seat = |e: u8| s.compactors[usize::from(e - 1)];
        match step {
            Step::Append(e) => {
                let c = seat(e);
                let found = s.record(c.slot.clamp(1, SLOTS as u8));
                let lands = found.kind == Kind::Absent || Takeover::next_record(&c, e) == Some(found);
                let is_void = lands && c.slot <= s.floor && c.at != At::Take;
                (c.at != At::Job || c.is_uploaded) && found.epoch <= e && !is_void
            }
            Step::AppendLater(e) => seat(e).at != At::Job || seat(e).is_uploaded,
            Step::CheckFloor(e) => seat(e).at != At::CheckAdopt || seat(e).job > s.floor,
            Step::ReadLog(e, from) => {
                let is_next = match Self::unfinished(s, e) {
                    None => from == 0,
                    Some(slot) => from == slot && self.makes_sense(s, e, slot),
                };
                self.mind(e).is_holder && !Self::is_overtaken(s, e) && is_next
            }
            Step::Decline(e, from) => {
                let is_next = Self::unfinished(s, e) == Some(from) && !self.makes_sense(s, e, from);
                self.mind(e).is_holder && !Self::is_overtaken(s, e) && is_next
            }
            Step::Start(e, input) => {
                let mind = self.mind(e);
                let is_ready = mind.ready == Ready::Merge || s.epoch == e;
                is_ready && mind.seen & input != 0 && s.stored & input != 0
            }
            Step::GiveUp(e) => seat(e).is_uploaded,
            Step::RaiseJobFloor(e) => seat(e).at == At::Idle && self.mind(e).ready == Ready::RaiseFloor,
            Step::ReadVersions => (1..=s.floor).all(|slot| s.record(slot).kind == Kind::Absent),
            _ => true,
        }
    }

    /// Whether compactor `e` would find in the log that another has taken over.
    fn is_overtaken(s: &State, e: u8) -> bool {
        let newer = |slot| s.record(slot).kind == Kind::Takeover && s.record(slot).epoch > e;
        (s.floor + 1..=SLOTS as u8).any(newer)
    }

    /// The job that compactor `e` has to decide about. One that names what an older one names carries that on.
    fn unfinished(s: &State, e: u8) -> Option<u8> {
        let (mut newest, mut open) = (0, Vec::<u8>::new());
        for slot in s.floor + 1..s.compactors[usize::from(e - 1)].takeover {
            let record = s.record(slot);
            match record.kind {
                Kind::Takeover => newest = newest.max(record.epoch),
                Kind::Job if record.epoch >= newest => {
                    open.retain(|older| s.record(*older).names != record.names);
                    open.push(slot);
                }
                Kind::Done if record.epoch >= newest => open.retain(|job| *job != record.names),
                _ => {}
            }
        }
        assert!(open.len() <= 1, "a compactor decides before it begins: {open:?}");
        open.pop()
    }

    /// Whether the input of the job in `slot` was in the version that compactor `e` saw, and its output is there.
    fn makes_sense(&self, s: &State, e: u8, slot: u8) -> bool {
        let job = s.record(slot);
        self.mind(e).seen & job.input != 0 && s.stored & job.names == job.names
    }
}

/// A compactor of the engine.
struct Node {
    process: Process<()>,
    compactor: Arc<Mutex<Option<Compactor>>>,
    /// What the process is at while the compactor is between two jobs.
    ready: Ready,
}

impl Node {
    fn new(place: &Place, seed: u64) -> Self {
        Self {
            process: Process::new(place, seed, options()),
            compactor: Arc::default(),
            ready: Ready::Nothing,
        }
    }

    fn claim(&mut self) {
        let (manifest, place) = (self.process.manifest.clone(), self.compactor.clone());
        let options = JobOptions { record_bytes: 1, ..JobOptions::default() };
        self.process.begin(async move {
            let claimed = Compactor::claim(manifest, "compactor", true).await?;
            *place.lock().await = Some(claimed.with_options(options));
            Ok(())
        });
    }

    fn merge(&mut self) {
        let compactor = self.compactor.clone();
        self.process.begin(async move {
            let mut compactor = compactor.lock().await;
            compactor.as_mut().expect("it has claimed").step_all().await.map(drop)
        });
    }

    fn collect(&mut self) {
        let compactor = self.compactor.clone();
        self.process.begin(async move {
            let mut compactor = compactor.lock().await;
            let compactor = compactor.as_mut().expect("it has claimed");
            compactor.collect_with(Some(Duration::ZERO), false).await.map(drop)
        });
    }

    /// It gets ready for what comes next.
    fn prepare(&mut self, ready: Ready) {
        // It has read the log, or ended a job that it does not carry on, and goes on to merge.
        let is_on_its_way = ready == Ready::Merge && self.ready == Ready::Nothing;
        let is_ready = ready == self.ready || is_on_its_way;
        if !is_ready || !self.process.is_at_work() || ready == Ready::Nothing {
            self.process.stop();
            match ready {
                Ready::Merge => self.merge(),
                Ready::RaiseFloor => self.collect(),
                Ready::Nothing => {}
            }
        }
        self.ready = ready;
        match ready {
            Ready::Merge => self.process.let_go(|request| !is_of(Folder::Sst)(request)),
            Ready::RaiseFloor => self.process.let_go(|request| !put_of(Folder::JobFloor)(request)),
            Ready::Nothing => {}
        }
    }
}

fn options() -> StoredOptions {
    StoredOptions {
        wal_window: 2,
        retention_ms: 0,
        block_bytes: 64,
        sst_bytes: 1,
        ..StoredOptions::default()
    }
}

fn put_of(folder: Folder) -> impl Fn(&Request) -> bool {
    move |request| matches!(request, Request::Put(name, _) if name.folder() == Some(folder))
}

fn list_of(folder: Folder) -> impl Fn(&Request) -> bool {
    move |request| *request == Request::list(folder)
}

/// Whatever concerns objects of `folder`, but for lists of it.
fn is_of(folder: Folder) -> impl Fn(&Request) -> bool {
    move |request| match request {
        Request::Get(name) | Request::Put(name, _) | Request::Delete(name) => name.folder() == Some(folder),
        Request::List(_) => false,
    }
}

/// Whether a compactor asks for this once its record has landed, or another's is in its way.
fn looks(request: &Request) -> bool {
    matches!(request, Request::Get(Name::Job(_))) || list_of(Folder::JobFloor)(request)
}

struct Driver {
    place: Place,
    engine: Engine,
    nodes: Vec<Node>,
    collector: Process<Collected>,
    /// Who writes, and looks at the manifest.
    writer: Process<()>,
    written: u64,
    ssts: BTreeMap<u8, ObjectId>,
    /// The creates that may land later.
    late: Vec<((u8, Record), Bytes)>,
    /// The slots in which jobs were seen, and what the records there say.
    jobs: BTreeMap<JobRef, u8>,
    records: BTreeMap<(u8, Bytes), Record>,
}

impl Driver {
    fn new(seed: u64) -> Self {
        let place = Place::default();
        let seed = |n: u64| seed * 8 + n;
        let mut driver = Self {
            engine: Engine::default(),
            nodes: (1..=EPOCHS as u64).map(|n| Node::new(&place, seed(n))).collect(),
            collector: Process::new(&place, seed(5), options()),
            writer: Process::new(&place, seed(6), options()),
            place,
            written: 0,
            ssts: BTreeMap::new(),
            late: Vec::new(),
            jobs: BTreeMap::new(),
            records: BTreeMap::new(),
        };
        let claim = Edit::ClaimWriter { uuid: 1, name: "writer".to_owned() };
        let latest = driver.latest();
        let claimed = driver.writer.manifest.commit(&latest, &claim, Cause::Open);
        driver.writer.at_once(claimed).expect("claimed");
        let input = driver.write(&["a", "b", "c"]);
        driver.ssts.insert(INPUTS & (INPUTS << 1), input);
        // The model begins with a compactor.
        let first = &mut driver.nodes[0];
        first.claim();
        first.process.let_go(|_| true);
        first.process.done().expect("it is alone").expect("claimed");
        first.prepare(Ready::Merge);
        driver
    }

    fn latest(&self) -> Arc<View> {
        self.writer.at_once(self.writer.manifest.latest(Cause::Read)).expect("read")
    }

    /// A flush of these rows.
    fn write(&mut self, rows: &[&str]) -> ObjectId {
        let id = ObjectId { role: Role::Writer, epoch: 1, counter: self.written, nonce: 1 };
        let (sst, body) = made::sst(id, rows, 10 * self.written + 1);
        self.written += 1;
        self.place.put(&Name::Sst(id), &body);
        let latest = self.latest();
        let (replay_from, tail_hint) = (latest.root.writer.replay_from, 0);
        let (ssts, last_seq) = (vec![sst], 10 * self.written);
        let edit = Edit::Flush { epoch: 1, ssts, replay_from, tail_hint, last_seq, counter_floor: 0 };
        self.writer.at_once(self.writer.manifest.commit(&latest, &edit, Cause::Flush)).expect("flushed");
        id
    }

    /// Takes `step`, which leads from `before` to `after` in the model.
    fn take(&mut self, step: Step, before: &State, after: &State) {
        self.engine.see(before);
        match step {
            Step::Claim(e)
            | Step::FindTail(e)
            | Step::Append(e)
            | Step::AppendLater(e)
            | Step::CheckFloor(e)
            | Step::ReadLog(e, _)
            | Step::Decline(e, _)
            | Step::Start(e, _)
            | Step::Upload(e)
            | Step::Commit(e)
            | Step::GiveUp(e)
            | Step::RaiseCounterFloor(e)
            | Step::RaiseJobFloor(e) => {
                let seats = (before.compactors[usize::from(e - 1)], after.compactors[usize::from(e - 1)]);
                self.compact(e, step, seats);
            }
            Step::Land(flight) => {
                let landing = before.flights[usize::from(flight)];
                let at = self.late.iter().position(|(late, _)| *late == landing).expect("it was sent");
                let (_, body) = self.late.remove(at);
                assert!(self.place.create(&Name::Job(landing.0.into()), &body), "slot {} is free", landing.0);
            }
            Step::DeleteRecords => {
                self.collector.let_go(|request| matches!(request, Request::Delete(Name::Job(_))));
                (1..=before.floor).for_each(|slot| self.place.delete(&Name::Job(slot.into())));
            }
            Step::Begin
            | Step::ListLog
            | Step::ReadRecords
            | Step::ReadVersions
            | Step::Delete(_)
            | Step::End => {
                self.collect(step, before, after);
            }
        }
        self.engine.see(after);
        for e in 1..=EPOCHS as u8 {
            let (is, mind, holds) =
                (after.compactors[usize::from(e - 1)].at, self.engine.mind(e), after.epoch == e);
            let node = &mut self.nodes[usize::from(e - 1)];
            match is {
                At::Idle if holds => node.prepare(mind.ready),
                // It is fenced, and would see that next.
                At::Idle if mind.ready == Ready::Nothing => node.prepare(Ready::Nothing),
                // It had read the log before, and goes on.
                At::Idle if mind.ready == Ready::Merge => node.ready = Ready::Merge,
                At::Idle => {}
                _ => node.ready = Ready::Nothing,
            }
        }
        self.compare(step, after);
    }

    fn compact(&mut self, e: u8, step: Step, (was, is): (Seat, Seat)) {
        let node = &mut self.nodes[usize::from(e - 1)];
        let process = &mut node.process;
        match step {
            Step::Claim(_) => {
                node.claim();
                node.process.let_go(|request| !list_of(Folder::JobFloor)(request));
            }
            Step::FindTail(_) => {
                process.answer(list_of(Folder::JobFloor), Answer::Do);
                process.answer(list_of(Folder::Job), Answer::Do);
            }
            Step::Append(_) => {
                process.answer(put_of(Folder::Job), Answer::Do);
                let is_looked_at_later = matches!(was.at, At::Take | At::Adopt);
                process.let_go(|request| {
                    looks(request) && !(is_looked_at_later && list_of(Folder::JobFloor)(request))
                });
            }
            Step::AppendLater(_) => {
                let name = Name::Job(was.slot.into());
                let held = process.held();
                let body = held.iter().find_map(|request| match request {
                    Request::Put(put, body) if *put == name => Some(body.clone()),
                    _ => None,
                });
                let body = body.unwrap_or_else(|| panic!("it creates {name}: {held:?}"));
                let record = Takeover::next_record(&was, e).expect("it appends");
                self.late.push(((was.slot, record), body));
                // Where something is already it would see that at once: then the request has only been sent twice.
                if !self.place.names(Folder::Job).contains(&name) {
                    process.answer(put_of(Folder::Job), Answer::Lose);
                    process.answer(|request| *request == Request::Get(name.clone()), Answer::Do);
                }
            }
            Step::CheckFloor(_) => {
                process.answer(list_of(Folder::JobFloor), Answer::Do);
                match is.at {
                    At::Read => {
                        process.done().expect("it is done").expect("its takeover counts");
                        self.look_before_reading(e);
                    }
                    At::CommitAdopted => process.let_go(|request| !put_of(Folder::Sst)(request)),
                    _ => {}
                }
            }
            Step::ReadLog(_, 0) => process.let_go(|request| !is_of(Folder::Sst)(request)),
            Step::ReadLog(..) | Step::Decline(..) => process.let_go(|request| !put_of(Folder::Job)(request)),
            Step::Start(..) => {
                if node.ready != Ready::Merge {
                    node.process.stop();
                    node.merge();
                }
                let process = &mut self.nodes[usize::from(e - 1)].process;
                process.let_go(|request| !put_of(Folder::Sst)(request));
                let held = process.held();
                let id = held.iter().find_map(|request| match request {
                    Request::Put(Name::Sst(id), _) => Some(*id),
                    _ => None,
                });
                self.ssts.insert(is.outputs, id.unwrap_or_else(|| panic!("it uploads an output: {held:?}")));
            }
            Step::Upload(_) => process.answer(put_of(Folder::Sst), Answer::Do),
            Step::Commit(_) => {
                process.let_go(|request| !put_of(Folder::Job)(request));
                if is.at == At::Fenced {
                    let error = process.done().expect("it ends").expect_err("it is fenced");
                    assert_eq!(error.kind(), ErrorKind::Fenced, "compactor {e}: {error}");
                } else {
                    self.write(&["c"]);
                }
            }
            Step::GiveUp(_) => {
                if was.job == 0 {
                    process.clock.pass_all_deadlines();
                    process.answer_all(is_of(Folder::Job), Answer::Lose);
                }
                process.answer(put_of(Folder::Sst), Answer::Refuse);
            }
            Step::RaiseCounterFloor(_) => {
                node.process.stop();
                node.collect();
                let floors = |request: &Request| {
                    put_of(Folder::JobFloor)(request) || put_of(Folder::ManifestFloor)(request)
                };
                node.process.let_go(|request| !floors(request));
                node.process.stop();
            }
            _ => {
                process.answer(put_of(Folder::JobFloor), Answer::Do);
                process.let_go(is_of(Folder::JobFloor));
                process.stop();
            }
        }
    }

    /// Compactor `e` looks at the manifest, and goes on to the log if it still has the role.
    fn look_before_reading(&mut self, e: u8) {
        let holds = self.latest().root.compactor.epoch == u32::from(e);
        let node = &mut self.nodes[usize::from(e - 1)];
        node.merge();
        if holds {
            let logs = |request: &Request| list_of(Folder::JobFloor)(request) || is_of(Folder::Sst)(request);
            node.process.let_go(|request| !logs(request));
        } else {
            node.process.let_go(|_| true);
            let error = node.process.done().expect("it ends").expect_err("it is fenced");
            assert_eq!(error.kind(), ErrorKind::Fenced, "compactor {e}: {error}");
        }
    }

    fn collect(&mut self, step: Step, before: &State, after: &State) {
        let process = &mut self.collector;
        let is_known = |name: &Name| self.ssts.values().any(|id| *name == Name::Sst(*id));
        let is_strange = |request: &Request| matches!(request, Request::Delete(name) if !is_known(name));
        match step {
            Step::Begin => {
                let manifest = process.manifest.clone();
                process.stop();
                process.begin(async move { collect(&manifest, Some(Duration::ZERO), false).await });
                process.let_go(|request| !list_of(Folder::JobFloor)(request));
                process.answer(list_of(Folder::JobFloor), Answer::Do);
            }
            Step::ListLog => process.answer(list_of(Folder::Job), Answer::Do),
            Step::ReadRecords => process.let_go(looks),
            Step::ReadVersions => {
                process.let_go(|request| !list_of(Folder::Sst)(request));
                if after.collector.at == Pass::Idle {
                    // It finds nothing but what the model does not know.
                    process.let_go(|_| true);
                    process.done().expect("it ends").expect("nothing is in its way");
                }
            }
            Step::Delete(sst) => {
                let name = |sst: u8| Name::Sst(self.ssts[&sst]);
                if process.waits_for(list_of(Folder::Sst)) {
                    process.answer(list_of(Folder::Sst), Answer::Do);
                    process.let_go(is_strange);
                    let deletes = |request: &Request| match request {
                        Request::Delete(name) => Some(name.path()),
                        _ => None,
                    };
                    let doomed: BTreeSet<_> = process.held().iter().filter_map(deletes).collect();
                    let expected: BTreeSet<_> =
                        bits(before.collector.doomed & before.stored).map(|sst| name(sst).path()).collect();
                    assert_eq!(doomed, expected, "what the pass deletes");
                }
                let delete = Request::Delete(name(sst));
                if process.waits_for(|request| *request == delete) {
                    process.answer(|request| *request == delete, Answer::Do);
                } else {
                    // It came after the engine's list, and before the one that the model may have made later.
                    self.place.delete(&name(sst));
                }
            }
            _ => process.stop(),
        }
    }

    fn compare(&mut self, step: Step, after: &State) {
        for e in 1..=EPOCHS as u8 {
            self.compare_compactor(e, after);
        }
        self.compare_log(after);
        let names = self.place.names(Folder::Sst);
        let stored: u8 =
            self.ssts.iter().filter(|(_, id)| names.contains(&Name::Sst(**id))).map(|(sst, _)| sst).sum();
        assert_eq!(stored, after.stored, "the SSTs in the store");
        let latest = self.latest();
        let named: u8 =
            self.ssts.iter().filter(|(_, id)| latest.sst(**id).is_some()).map(|(sst, _)| sst).sum();
        let compactor = &latest.root.compactor;
        assert_eq!(
            (named, compactor.epoch),
            (after.latest, after.epoch.into()),
            "what the newest version names"
        );
        for (sst, id) in self.ssts.iter().filter(|(sst, _)| name_of(**sst).0 == after.epoch) {
            let is_settled = id.counter < compactor.counter_floor;
            assert_eq!(is_settled, name_of(*sst).1 < after.counter_floor, "output {sst:#b} is settled");
        }
        if matches!(step, Step::Delete(_) | Step::ReadVersions | Step::End) {
            for id in self.place.numbered(Folder::Manifest).into_keys() {
                let read = self.writer.manifest.stored_version(id, None, Cause::Read);
                let view = self.writer.at_once(read).expect("read").expect("it was listed");
                self.is_whole(&view);
            }
        }
    }

    /// Whatever `view` names is there.
    fn is_whole(&self, view: &View) {
        let names = self.place.names(Folder::Sst);
        let lost: Vec<_> = view
            .root
            .ssts()
            .map(|sst| Name::Sst(sst.object_id()))
            .filter(|name| !names.contains(name))
            .collect();
        assert!(lost.is_empty(), "version {} has lost {lost:?}", view.id());
    }

    fn compare_compactor(&self, e: u8, after: &State) {
        let (c, node, mind) =
            (after.compactors[usize::from(e - 1)], &self.nodes[usize::from(e - 1)], self.engine.mind(e));
        let held = node.process.held();
        let waits_for = |wanted: &dyn Fn(&Request) -> bool| held.iter().any(wanted);
        let slot = Name::Job(c.slot.into());
        let appends = |request: &Request| matches!(request, Request::Put(name, _) if *name == slot);
        let mark = Name::JobFloor(u64::from(c.takeover.saturating_sub(1)));
        let raises = |request: &Request| matches!(request, Request::Put(name, _) if *name == mark);
        let is_right = match c.at {
            At::Away | At::Fenced | At::CommitFinished => held.is_empty(),
            At::Tail | At::CheckTake | At::CheckAdopt => waits_for(&list_of(Folder::JobFloor)),
            At::Read if !mind.is_holder => held.is_empty(),
            At::Read => waits_for(&list_of(Folder::JobFloor)) || waits_for(&is_of(Folder::Sst)),
            At::Take | At::Adopt | At::Finish => waits_for(&appends),
            At::Job if c.is_uploaded && c.job == 0 => waits_for(&appends),
            At::Job | At::CommitAdopted => waits_for(&put_of(Folder::Sst)),
            At::Idle => match node.ready {
                Ready::Nothing => held.is_empty(),
                Ready::Merge => waits_for(&is_of(Folder::Sst)),
                Ready::RaiseFloor => held.is_empty() || waits_for(&raises),
            },
        };
        assert!(is_right, "compactor {e}, {c:?}, {mind:?}, {:?}, waits for {held:?}", node.ready);
    }

    /// The log says what the model's says, and its floor is the model's.
    fn compare_log(&mut self, after: &State) {
        let log = self.place.numbered(Folder::Job);
        for slot in 1..=SLOTS as u8 {
            let found = log.get(&slot.into()).map_or_else(Record::default, |body| self.record(slot, body));
            assert_eq!(found, after.record(slot), "slot {slot} of the job log");
        }
        let floor = self.place.numbered(Folder::JobFloor).keys().next_back().copied();
        assert_eq!(floor.unwrap_or(0), u64::from(after.floor), "the floor of the job log");
    }

    /// What lies in `slot`, in the words of the model. A Done names the slot in which its job was when it was first seen.
    fn record(&mut self, slot: u8, body: &Bytes) -> Record {
        if let Some(record) = self.records.get(&(slot, body.clone())) {
            return *record;
        }
        let uuid = self.writer.manifest.identity().db_uuid;
        let found = record::decode(slot.into(), uuid, body).expect("it is sound");
        let sst = |id: &ObjectId| self.ssts.iter().find(|(_, known)| *known == id).map_or(0, |(sst, _)| *sst);
        let (kind, names, input) = match found.event.expect("it says something") {
            Event::Takeover(_) => (Kind::Takeover, 0, 0),
            Event::Job(job) => {
                self.jobs.insert(JobRef { epoch: found.epoch, job: job.job }, slot);
                let names = job.so_far.ids().map(|id| sst(&id)).sum();
                (Kind::Job, names, job.plan().ids().map(|id| sst(&id)).sum())
            }
            Event::Done(done) => (Kind::Done, self.jobs.get(&done.of).copied().unwrap_or(0), 0),
            Event::Progress(_) => panic!("a job of one record has no progress"),
        };
        let record = Record { kind, epoch: found.epoch as u8, names, input };
        self.records.insert((slot, body.clone()), record);
        record
    }

    /// All others stop, one more compactor comes, and takes what is left in order.
    fn end(mut self, last: &State) {
        for (e, node) in (1..=last.epoch).zip(&mut self.nodes) {
            if e < last.epoch && node.process.is_at_work() {
                node.process.let_go(|_| true);
                is_stopped(e, &mut node.process);
            }
        }
        self.is_whole(&self.latest());
        let mut next = Node::new(&self.place, 7);
        for work in [Node::claim, Node::merge, Node::collect, Node::collect] {
            work(&mut next);
            next.process.let_go(|_| true);
            next.process.done().expect("nobody is in its way").expect("nothing is in its way");
        }
        let latest = self.latest();
        self.is_whole(&latest);
        let strays = self.place.names(Folder::Sst).into_iter().filter(|name| {
            let id = name.object_id().expect("it is an SST");
            id.role == Role::Compactor && latest.sst(id).is_none()
        });
        assert_eq!(strays.collect::<Vec<_>>(), [], "garbage is left");
        for (e, node) in (1..=last.epoch).zip(&mut self.nodes) {
            node.process.let_go(|_| true);
            is_stopped(e, &mut node.process);
        }
        self.is_whole(&self.latest());
    }
}

/// If what compactor `e` was at has failed, then because it is fenced, or because its upload was refused before.
fn is_stopped(e: u8, process: &mut Process<()>) {
    if let Some(Err(error)) = process.done() {
        let is_expected = matches!(error.kind(), ErrorKind::Fenced | ErrorKind::Invalid);
        assert!(is_expected, "compactor {e}: {:?}: {error}", error.kind());
    }
}

#[test]
fn compactors_do_as_the_model_of_takeover() {
    let model = Takeover { bounds: BOTH, mutation: None };
    let takes = || {
        let mut engine = Engine::default();
        move |s: &State, step: &Step| engine.takes(s, *step)
    };
    let walks = along_some("takeover", &model, WALKS, 80, takes, |seed, steps| {
        let mut driver = Driver::new(seed);
        let last = retrace(&model, steps, |step, before, after| driver.take(*step, before, after));
        driver.end(&last);
    });
    assert!(walks >= WALKS);
}
