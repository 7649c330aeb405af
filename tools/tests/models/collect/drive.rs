//! The collector of the engine, driven along the model of collection: passes beside writers, pins and checkpoints.
//!
//! What is real: a pass is `compaction::collect`, a reader holds by a `Pin`, the maker runs `checkpoint::create`; writers and
//! the compactor are edits, committed at once. Each request of a pass is let go when the model says so, deletes one by
//! one. A pass is given the retention by which it chooses the F of the model.
//!
//! Left out: who decides when a version is pinned and renewed (`read/keeper.rs`), and what counter floor a flush commits
//! (`write/flush.rs`); how the requests of one task of a pass, such as the list of pins and their GETs, interleave with
//! others. An SST that lands between the engine's list and the one that the model may have made later is deleted from
//! outside. A late PUT of a pin lands under another name while its reader is still at it: the model tells the two apart.
//!
//! After each step: the request that each of them waits for, or what it was told; the SSTs, the versions, the floor and the
//! checkpoint in the store; what the newest version names; and when a pass begins to delete, all that it will.
//!
//! The engine's versions are four ahead of the model's, and its writers one epoch.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use esker::{
    ErrorKind, Result,
    codec::sum::Sum,
    compaction::{Collected, collect, collect::delete_checkpoint},
    manifest::{Edit, Pin, StoredOptions, View, checkpoint},
    sst::SstMeta,
    stats::Cause,
    store::{Folder, Name, ObjectId, Role},
};

use super::{
    ALL, Collect,
    state::{At, COLLECTORS, COMPACTED, FIRST, Holder, Pass, READERS, State, Step, bits, name_of},
};
use crate::drive::{Answer, Place, Process, Request, along, list_of, made, object_of, put_of, retrace};

const WALKS: usize = 500;
/// How far the engine's versions are ahead.
const AHEAD: u64 = 4;
const CHECKPOINT: &str = "kept";
/// Every SST has this one row, in versions of its own.
const KEY: &str = "key";

struct Driver<'a> {
    model: &'a Collect,
    place: Place,
    /// Who commits what writers and the compactor do.
    editor: Process<()>,
    readers: Vec<Process<bool>>,
    pins: [Option<(Arc<View>, Pin)>; READERS],
    maker: Process<Arc<View>>,
    makers_pin: Option<Name>,
    /// Whether that lapsed before the checkpoint was there.
    has_lapsed_early: bool,
    collectors: Vec<Process<Collected>>,
    /// The floor when each pass began.
    floors: [u8; COLLECTORS],
    ssts: BTreeMap<u8, (SstMeta, Bytes)>,
    latest: Arc<View>,
    late_pin: Option<(usize, (Arc<View>, Pin), Bytes)>,
    late_checkpoint: Option<Bytes>,
    left_behind: Vec<Name>,
}

/// When the engine's version `id` is committed, by the clock of its committer.
fn time_of(id: u64) -> u64 {
    id * 1000
}

impl<'a> Driver<'a> {
    fn new(model: &'a Collect, seed: u64) -> Self {
        let place = Place::default();
        let options = StoredOptions { wal_window: 2, retention_ms: 0, ..StoredOptions::default() };
        let seed = |n: u64| seed * 16 + n;
        let editor = Process::new(&place, seed(0), options.clone());
        let first = editor.at_once(editor.manifest.latest(Cause::Open)).expect("read");
        let mut driver = Self {
            model,
            readers: (1..3).map(|n| Process::new(&place, seed(n), options.clone())).collect(),
            maker: Process::new(&place, seed(3), options.clone()),
            collectors: (4..6).map(|n| Process::new(&place, seed(n), options.clone())).collect(),
            place,
            editor,
            pins: [None, None],
            makers_pin: None,
            has_lapsed_early: false,
            floors: [0; COLLECTORS],
            ssts: BTreeMap::new(),
            latest: first,
            late_pin: None,
            late_checkpoint: None,
            left_behind: Vec::new(),
        };
        // The model begins with an SST that no one can publish again.
        let role = |epoch: u32| Edit::ClaimWriter { uuid: epoch.into(), name: format!("writer {epoch}") };
        driver.commit(&role(1)).expect("claimed");
        let (uuid, name) = (1, "compactor".to_owned());
        let compactor = Edit::ClaimCompactor { uuid, name, busy_until_ms: 0, now_ms: 0, force: true };
        driver.commit(&compactor).expect("claimed");
        driver.make(FIRST, ObjectId { role: Role::Writer, epoch: 1, counter: 0, nonce: 1 });
        driver.upload(FIRST);
        driver.flush(1, &[FIRST], 1).expect("committed");
        driver.commit(&role(2)).expect("claimed");
        let collector = &driver.collectors[0];
        collector.clock.set_wall_ms(time_of(1000));
        let pass = collect(&collector.manifest, Some(Duration::ZERO), false);
        collector.at_once(pass).expect("nobody is in its way");
        driver
    }

    /// Takes `step`, which leads from `before` to `after` in the model.
    fn take(&mut self, step: Step, before: &State, after: &State) {
        match step {
            Step::Claim(e) => {
                let edit = Edit::ClaimWriter { uuid: e.into(), name: format!("writer {e}") };
                self.commit(&edit).expect("claimed");
            }
            Step::Start(e) => {
                let sst = after.given & !before.given;
                let (_, counter) = name_of(sst).expect("it is a writer's");
                let id = ObjectId {
                    role: Role::Writer,
                    epoch: u32::from(e) + 1,
                    counter: counter.into(),
                    nonce: 1,
                };
                self.make(sst, id);
            }
            Step::Upload(_, sst) | Step::LandSst(sst) => self.upload(sst),
            Step::Commit(e, sst) => {
                let floor = if before.epoch == e { after.counter_floor } else { before.counter_floor };
                let flushed = self.flush(u32::from(e) + 1, &[sst], floor.into());
                if before.epoch == e {
                    flushed.unwrap_or_else(|error| panic!("writer {e} holds the role: {error}"));
                } else {
                    let kind = flushed.err().map(|error| error.kind());
                    assert_eq!(kind, Some(ErrorKind::Fenced), "writer {e}");
                }
            }
            Step::RaiseCounterFloor(e) => {
                self.flush(u32::from(e) + 1, &[], after.counter_floor.into()).expect("it holds the role");
            }
            Step::Compact => self.compact(before, after),
            Step::UploadLater(..) | Step::GiveUp(..) => {}
            Step::Choose(r)
            | Step::WritePin(r)
            | Step::WritePinLater(r)
            | Step::CheckFloor(r)
            | Step::Read(r)
            | Step::Release(r)
            | Step::Lapse(r) => self.read(usize::from(r), step, before, after),
            Step::LandPin => self.land_pin(before),
            Step::LeftBehindLapses => self.left_behind.drain(..).for_each(|name| self.place.age(&name)),
            Step::MakerChooses
            | Step::MakerPins
            | Step::MakerChecksFloor
            | Step::Create
            | Step::CreateLater
            | Step::MakerGivesUp
            | Step::Confirm
            | Step::MakerLapses => self.make_checkpoint(step, before, after),
            Step::LandCheckpoint => {
                let body = self.late_checkpoint.take().expect("it is under way");
                self.place.create(&Name::checkpoint(CHECKPOINT).expect("a name"), &body);
            }
            Step::DeleteCheckpoint => {
                let deleted = delete_checkpoint(&self.editor.manifest, CHECKPOINT);
                self.editor.at_once(deleted).expect("it is there");
            }
            Step::Begin(g, _) | Step::Next(g) | Step::Delete(g, _) | Step::End(g) => {
                self.pass(usize::from(g), step, before, after);
            }
        }
        self.compare(before, after);
    }

    fn make(&mut self, sst: u8, id: ObjectId) {
        let seq = if sst == COMPACTED { 1 } else { 2 + u64::from(sst.trailing_zeros()) };
        let seq = if sst == FIRST { 1 } else { seq };
        self.ssts.insert(sst, made::sst(id, &[KEY], seq));
    }

    fn upload(&self, sst: u8) {
        let (meta, body) = &self.ssts[&sst];
        self.place.put(&Name::Sst(meta.object_id()), body);
    }

    fn commit(&mut self, edit: &Edit) -> Result<()> {
        let editor = &self.editor;
        editor.clock.set_wall_ms(time_of(self.latest.id() + 1));
        self.latest = editor.at_once(editor.manifest.commit(&self.latest, edit, Cause::Manifest))?;
        Ok(())
    }

    fn flush(&mut self, epoch: u32, ssts: &[u8], counter_floor: u64) -> Result<()> {
        let ssts: Vec<_> = ssts.iter().map(|sst| self.ssts[sst].0.clone()).collect();
        let writer = &self.latest.root.writer;
        let last_seq = if ssts.is_empty() { writer.last_seq } else { writer.last_seq.max(100) + 1 };
        let (replay_from, tail_hint) = (writer.replay_from, writer.tail_hint);
        self.commit(&Edit::Flush { epoch, ssts, replay_from, tail_hint, last_seq, counter_floor })
    }

    fn compact(&mut self, before: &State, after: &State) {
        let inputs: Vec<u8> = bits(before.names(before.latest)).collect();
        let mut dropped = Sum::default();
        inputs.iter().for_each(|sst| dropped.add(&self.ssts[sst].0.sum()));
        let mut outputs = Vec::new();
        if after.names(after.latest) == COMPACTED {
            self.make(COMPACTED, ObjectId { role: Role::Compactor, epoch: 1, counter: 0, nonce: 1 });
            self.upload(COMPACTED);
            dropped.remove(&self.ssts[&COMPACTED].0.sum());
            outputs.push(self.ssts[&COMPACTED].0.clone());
        }
        let inputs = inputs.iter().map(|sst| self.ssts[sst].0.object_id()).collect();
        let edit = Edit::Compact {
            epoch: 1,
            inputs,
            outputs,
            level: 1,
            dropped,
            counter_floor: 1,
            busy_until_ms: 0,
        };
        self.commit(&edit).expect("nobody else compacts");
    }

    fn read(&mut self, r: usize, step: Step, before: &State, after: &State) {
        let (is, reader) = (after.readers[r], &mut self.readers[r]);
        match step {
            Step::Choose(_) => {
                let view = reader.at_once(reader.manifest.latest(Cause::Read)).expect("read");
                let pin = Pin::on(&view, &*reader.clock);
                self.pins[r] = Some((view, pin.clone()));
                let manifest = reader.manifest.clone();
                reader.begin(async move { pin.write(&manifest).await });
            }
            Step::WritePin(_) => reader.answer(put_of(Folder::Pin), Answer::Do),
            Step::WritePinLater(_) => {
                let held = reader.held();
                let [Request::Put(_, body)] = &held[..] else { panic!("a pin is written with {held:?}") };
                let pin = self.pins[r].clone().expect("it has chosen");
                self.late_pin = Some((r, pin, body.clone()));
                reader.answer(put_of(Folder::Pin), Answer::Lose);
            }
            Step::CheckFloor(_) => {
                reader.answer(list_of(Folder::ManifestFloor), Answer::Do);
                let holds = reader.done().expect("it has looked").expect("the store answers");
                assert_eq!(holds, is.at == At::Held, "reader {r} counts on its pin");
                if !holds {
                    self.release(r);
                }
            }
            Step::Read(_) => {
                let sst = before.readers[r].unread & !is.unread;
                let name = Name::Sst(self.ssts[&sst].0.object_id());
                let store = reader.manifest.store();
                let found = reader.at_once(store.get(&name, Cause::Read)).expect("the store answers");
                assert!(found.is_some(), "reader {r} finds {name}");
            }
            Step::Release(_) => self.release(r),
            _ => {
                reader.stop();
                let (_, pin) = self.pins[r].as_ref().expect("it has one");
                self.place.age(pin.name());
            }
        }
    }

    fn release(&mut self, r: usize) {
        let (reader, (_, pin)) = (&self.readers[r], self.pins[r].take().expect("it has one"));
        reader.at_once(pin.release(&reader.manifest)).expect("released");
    }

    fn land_pin(&mut self, before: &State) {
        let (r, (view, pin), body) = self.late_pin.take().expect("it is under way");
        let is_own = self.pins[r].as_ref().is_some_and(|(_, own)| own.name() == pin.name());
        if is_own && before.readers[r].at != At::Idle {
            let pin = Pin::on(&view, &*self.editor.clock);
            self.editor.at_once(pin.renew(&self.editor.manifest)).expect("written");
            self.left_behind.push(pin.name().clone());
        } else {
            self.place.put(pin.name(), &body);
            self.left_behind.push(pin.name().clone());
        }
    }

    fn make_checkpoint(&mut self, step: Step, before: &State, after: &State) {
        let (was, is, maker) = (before.maker, after.maker, &mut self.maker);
        match step {
            Step::MakerChooses => {
                if !maker.is_at_work() {
                    let manifest = maker.manifest.clone();
                    maker.begin(async move { checkpoint::create(&manifest, CHECKPOINT).await });
                }
                maker.let_go(|request| !put_of(Folder::Pin)(request));
                self.makers_pin = maker.held().into_iter().find_map(|request| match request {
                    Request::Put(name, _) => Some(name),
                    _ => None,
                });
            }
            Step::MakerPins => maker.answer(put_of(Folder::Pin), Answer::Do),
            Step::MakerChecksFloor => {
                maker.answer(list_of(Folder::ManifestFloor), Answer::Do);
                if is.at == At::Idle {
                    maker.answer(put_of(Folder::Pin), Answer::Do);
                }
            }
            Step::Create => {
                maker.answer(put_of(Folder::Checkpoint), Answer::Do);
                maker.let_go(object_of(Folder::Checkpoint));
            }
            Step::CreateLater => {
                let held = maker.held();
                let [Request::Put(_, body)] = &held[..] else { panic!("a checkpoint is made with {held:?}") };
                self.late_checkpoint = Some(body.clone());
                // Its time is over when its pin has lapsed: then the request has only been sent twice.
                if !was.has_lapsed && before.checkpoint.is_none() {
                    maker.answer(put_of(Folder::Checkpoint), Answer::Lose);
                    maker.answer(|request| matches!(request, Request::Get(_)), Answer::Do);
                }
            }
            Step::MakerGivesUp => {
                maker.clock.pass_all_deadlines();
                maker.answer_all(|_| true, Answer::Lose);
                let error = maker.done().expect("it gives up").expect_err("it does not know");
                assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error}");
                self.place.age(self.makers_pin.as_ref().expect("it has one"));
            }
            Step::Confirm => {
                // A pin that lapsed once the checkpoint was there, and that no pass has missed yet, has done its work.
                let pin = self.makers_pin.as_ref().expect("it has one");
                let is_seen = !self.has_lapsed_early && self.place.names(Folder::Pin).contains(pin);
                let is_kept = !was.has_lapsed || was.version > before.floor || is_seen;
                maker.let_go(|_| true);
                let told = maker.done().expect("it is done").map_err(|error| error.kind());
                match told {
                    Ok(view) => {
                        assert!(is_kept, "the maker says that it is kept");
                        assert_eq!(view.id(), u64::from(was.version) + AHEAD, "the version kept");
                    }
                    Err(kind) => assert_eq!((kind, is_kept), (ErrorKind::OutcomeUnknown, false)),
                }
            }
            _ => {
                self.has_lapsed_early = was.at != At::Created;
                maker.clock.pass_all_deadlines();
                self.place.age(self.makers_pin.as_ref().expect("it has one"));
            }
        }
    }

    fn pass(&mut self, g: usize, step: Step, before: &State, after: &State) {
        let (was, is) = (before.collectors[g], after.collectors[g]);
        let collector = &mut self.collectors[g];
        match step {
            Step::Begin(_, floor) => {
                let now_ms = time_of(1000);
                collector.clock.set_wall_ms(now_ms);
                let retention_ms = now_ms - time_of(u64::from(floor) + AHEAD + 1);
                let manifest = collector.manifest.clone();
                let retention = Some(Duration::from_millis(retention_ms));
                collector.stop();
                collector.begin(async move { collect(&manifest, retention, false).await });
                collector.answer(list_of(Folder::Manifest), Answer::Do);
                collector.let_go(|request| {
                    !put_of(Folder::ManifestFloor)(request) && !list_of(Folder::Manifest)(request)
                });
                self.floors[g] = before.floor;
            }
            Step::Next(_) => {
                let Pass::Doing(task) = was.at else { panic!("it is at {was:?}") };
                let listed = [Folder::ManifestFloor, Folder::Manifest, Folder::Pin, Folder::Checkpoint];
                match listed.get(usize::from(task)) {
                    Some(Folder::ManifestFloor) => collector.let_go(object_of(Folder::ManifestFloor)),
                    Some(folder) => {
                        collector.answer(list_of(*folder), Answer::Do);
                        let objects = object_of(*folder);
                        collector.let_go(|request| {
                            objects(request) || matches!(request, Request::Delete(Name::ManifestFloor(_)))
                        });
                    }
                    None => {
                        collector.let_go(|request| !list_of(Folder::Sst)(request));
                        let is_overtaken = (was.known + 1..=before.latest).any(|id| !before.exists(id));
                        if is_overtaken {
                            let error = collector.done().expect("it ends").expect_err("it is overtaken");
                            assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
                        } else if is.at == Pass::Idle {
                            // It finds nothing.
                            collector.let_go(|_| true);
                            collector.done().expect("it ends").expect("nothing is in its way");
                        }
                    }
                }
            }
            Step::Delete(_, sst) => {
                if collector.waits_for(list_of(Folder::Sst)) {
                    collector.answer(list_of(Folder::Sst), Answer::Do);
                    let mut doomed: Vec<_> = collector.held();
                    let name = |sst: u8| Name::Sst(self.ssts[&sst].0.object_id());
                    let mut expected: Vec<_> =
                        bits(was.doomed & before.stored).map(|sst| Request::Delete(name(sst))).collect();
                    let order = |request: &Request| format!("{request:?}");
                    doomed.sort_by_key(order);
                    expected.sort_by_key(order);
                    assert_eq!(doomed, expected, "what pass {g} deletes");
                }
                let name = Name::Sst(self.ssts[&sst].0.object_id());
                let delete = Request::Delete(name.clone());
                if collector.waits_for(|request| *request == delete) {
                    collector.answer(|request| *request == delete, Answer::Do);
                } else {
                    self.place.delete(&name);
                }
            }
            _ => {
                let rest = [Folder::Part, Folder::Wal].map(Request::list);
                if was.at == Pass::Deleting && collector.waits_for(|request| rest.contains(request)) {
                    collector.let_go(|_| true);
                    collector.done().expect("it ends").expect("nothing is in its way");
                }
                collector.stop();
            }
        }
    }

    /// What everybody waits for, and what is in the store, is what the model says.
    fn compare(&self, before: &State, after: &State) {
        for r in 0..READERS {
            let expected = match after.readers[r].at {
                At::Chosen => put_of(Folder::Pin)(&self.readers[r].held()[0]),
                At::Pinned => self.readers[r].held() == [Request::list(Folder::ManifestFloor)],
                _ => self.readers[r].held().is_empty(),
            };
            assert!(expected, "reader {r}, {:?}, waits for {:?}", after.readers[r], self.readers[r].held());
        }
        self.compare_maker(&after.maker);
        for g in 0..usize::from(self.model.bounds.collectors) {
            let (gc, held) = (after.collectors[g], self.collectors[g].held());
            let floor = Name::ManifestFloor(u64::from(gc.floor) + AHEAD);
            let expected = match gc.at {
                Pass::Doing(0) if gc.floor > self.floors[g] => {
                    matches!(&held[..], [Request::Put(name, _)] if *name == floor)
                }
                Pass::Doing(0 | 1) => held == [Request::list(Folder::Manifest)],
                Pass::Doing(2) => held == [Request::list(Folder::Pin)],
                Pass::Doing(3) => held == [Request::list(Folder::Checkpoint)],
                Pass::Doing(_) => held == [Request::list(Folder::JobFloor)],
                Pass::Deleting => {
                    held.len() == 1 || held.iter().all(|request| matches!(request, Request::Delete(_)))
                }
                Pass::Idle => held.is_empty(),
            };
            assert!(expected, "pass {g}, {gc:?}, waits for {held:?}");
        }
        self.compare_store(before, after);
    }

    fn compare_maker(&self, is: &Holder) {
        let held = self.maker.held();
        let expected = match (is.at, &held[..]) {
            (At::Idle, []) => true,
            // Its pin came too late, and it looks for a newer version.
            (At::Idle, [request]) => *request == Request::list(Folder::Manifest),
            (At::Chosen, [request]) => put_of(Folder::Pin)(request),
            (At::Pinned | At::Created, [request]) => *request == Request::list(Folder::ManifestFloor),
            (At::Held, [request]) => put_of(Folder::Checkpoint)(request),
            _ => false,
        };
        assert!(expected, "the maker, {is:?}, waits for {held:?}");
    }

    fn compare_store(&self, before: &State, after: &State) {
        let is_there = |names: &std::collections::BTreeSet<Name>, sst: &u8| {
            names.contains(&Name::Sst(self.ssts[sst].0.object_id()))
        };
        let names = self.place.names(Folder::Sst);
        let stored: u8 = self.ssts.keys().filter(|sst| is_there(&names, sst)).sum();
        assert_eq!(stored, after.stored, "the SSTs in the store");
        assert_eq!(names.len(), stored.count_ones() as usize, "every SST is known: {names:?}");
        let versions: Vec<_> = self.place.numbered(Folder::Manifest).into_keys().collect();
        let existing: Vec<_> =
            bits(after.existing).map(|bit| u64::from(bit.trailing_zeros()) + 1 + AHEAD).collect();
        assert_eq!(versions, existing, "the versions");
        let floor = self.place.numbered(Folder::ManifestFloor).keys().next_back().copied();
        assert_eq!(floor, Some(u64::from(after.floor) + AHEAD), "the floor");
        let has_checkpoint = !self.place.names(Folder::Checkpoint).is_empty();
        assert_eq!(has_checkpoint, after.checkpoint.is_some(), "the checkpoint");
        if after.latest != before.latest {
            let root = &self.latest.root;
            let named: u8 = self
                .ssts
                .iter()
                .filter(|(_, (meta, _))| root.ssts().any(|sst| sst.id == meta.id))
                .map(|(sst, _)| sst)
                .sum();
            assert_eq!(named, after.names(after.latest), "what version {} names", after.latest);
            let writer = (root.id, root.writer.epoch, root.writer.counter_floor);
            let expected =
                (u64::from(after.latest) + AHEAD, u32::from(after.epoch) + 1, u64::from(after.counter_floor));
            assert_eq!(writer, expected, "the newest version, its writer's epoch and counter floor");
        }
    }
}

#[test]
fn the_collector_does_as_the_model_of_collection() {
    let model = Collect { bounds: ALL, mutation: None };
    let walks = along("collect", &model, WALKS, 80, |seed, steps| {
        let mut driver = Driver::new(&model, seed);
        retrace(&model, steps, |step, before, after| driver.take(*step, before, after));
    });
    assert!(walks >= WALKS);
}
