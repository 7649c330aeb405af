//! Compactors and the collector of the engine, driven along the model of takeover: each compactor is a real one, with its
//! job log, and merges real SSTs.
//!
//! The first input has three rows, and SSTs are cut after the first full block: a job has two outputs. The first, with
//! two rows, is the output of the model, and is recorded; the rest goes up when the model commits. After a commit somebody
//! writes the last row again, so that there is a next job.
//!
//! A request is let go when the model says so: every append to the job log, every look at its floor, uploads, the edit, and
//! of the collector the lists, reads and deletes. What the engine does more coarsely restricts the walks
//! (`engine.rs`).
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
        Collected, collect,
        record::{self, Event, JobRef},
    },
    manifest::{Edit, View},
    stats::Cause,
    store::{Folder, Name, ObjectId, Role},
};

use super::{
    BOTH, Takeover,
    engine::{Engine, Ready},
    node::{Node, options},
    state::{At, Compactor as Seat, EPOCHS, INPUTS, Kind, Pass, Record, SLOTS, State, Step, bits, name_of},
};
use crate::drive::{Answer, Place, Process, Request, along_some, list_of, made, object_of, put_of, retrace};

const WALKS: usize = 500;

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
            Step::ReadLog(_, 0) => process.let_go(|request| !object_of(Folder::Sst)(request)),
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
                    process.answer_all(object_of(Folder::Job), Answer::Lose);
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
                process.let_go(object_of(Folder::JobFloor));
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
            let logs =
                |request: &Request| list_of(Folder::JobFloor)(request) || object_of(Folder::Sst)(request);
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
            At::Read => waits_for(&list_of(Folder::JobFloor)) || waits_for(&object_of(Folder::Sst)),
            At::Take | At::Adopt | At::Finish => waits_for(&appends),
            At::Job if c.is_uploaded && c.job == 0 => waits_for(&appends),
            At::Job | At::CommitAdopted => waits_for(&put_of(Folder::Sst)),
            At::Idle => match node.ready {
                Ready::Nothing => held.is_empty(),
                Ready::Merge => waits_for(&object_of(Folder::Sst)),
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
