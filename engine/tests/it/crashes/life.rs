//! The canonical life of a database, and what must be true of it whatever happens on the way.
//!
//! ```text
//! 1 writer A opens a new database, writes, flushes, makes two checkpoints     A
//! 2 compactor C claims, merges                              C
//! 3 A writes on, a scan is open over what follows           A
//! 4 C merges, collects with retention zero                  C
//! 5 writer B takes over, deletes a checkpoint; what A writes now is refused       B, A
//! 6 compactor D takes over, merges, collects; verifies, and finds nothing to repair       D
//! 7 B closes; what was late lands
//! 8 a sound process opens, reads everything and the checkpoints, deletes those, collects: nothing lost, nothing
//!   unwritten, no garbage
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    ops::RangeFull,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use esker::{
    Compaction, Db, ErrorKind, Reader, Result, WriteBatch,
    clock::SharedClock,
    compaction::{Compactor, Did, collect},
    manifest::{Manifest, StoredShape},
    repair::{RepairOptions, repair},
    stats::Cause,
    store::{Folder, Name, Store},
    testing::SimClock,
    verify::{VerifyOptions, verify},
};

use super::gate::{Gate, Meets, World};
use crate::virtual_time::simulated;

/// Who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    A,
    C,
    B,
    D,
}

pub(super) const ROLES: [Role; 4] = [Role::A, Role::C, Role::B, Role::D];

/// What one call of one role meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) role: Role,
    pub(super) call: u64,
    pub(super) meets: Meets,
}

const KEYS: u64 = 24;
/// The checkpoints that are made; the second is deleted again.
const CHECKPOINTS: [&str; 2] = ["kept", "deleted"];
/// Nothing in this life takes longer, by the clock of a world in which hours pass in milliseconds.
const LONG: Duration = Duration::from_secs(3600);

type Rows = BTreeMap<Bytes, Bytes>;

/// One write of a writer: what it sets, and what is known of it.
#[derive(Debug)]
struct Written {
    changes: Vec<(Bytes, Option<Bytes>)>,
    is_durable: bool,
}

/// Lives the life with `faults`; gives how many calls each role made. Panics if something is lost.
pub(super) fn live(faults: &[Fault]) -> [u64; 4] {
    simulated(async {
        let world = Arc::new(World::default());
        let gates = ROLES.map(|role| {
            let own = faults.iter().filter(|fault| fault.role == role);
            let own = own.map(|fault| (fault.call, fault.meets)).collect();
            Gate::new(&world, SimClock::shared(role as u64 + 1), own)
        });
        Life { world, gates: gates.clone() }.run().await;
        gates.map(|gate| gate.calls())
    })
}

struct Life {
    world: Arc<World>,
    gates: [Gate; 4],
}

/// A writer that is open, and all it has been asked to write.
#[derive(Default)]
struct Writer {
    db: Option<Db>,
    base: Rows,
    written: Vec<Written>,
    /// Whether everything up to now is in memory here: a refused or unknown call ends that certainty.
    is_certain: bool,
    /// Whether it was ever open, so that `base` is what it found.
    was_open: bool,
    /// The checkpoints that it was told of, with what was in them.
    kept: BTreeMap<&'static str, Rows>,
    /// What any checkpoint may hold, made or not.
    may_be_kept: Rows,
}

impl Life {
    async fn run(self) {
        let mut a = Writer::open(self.gate(Role::A), SimClock::shared(11)).await;
        self.write(Role::A, &mut a, 0..40).await;
        for name in CHECKPOINTS {
            self.keep(&mut a, name).await;
        }
        let mut c = self.claim(Role::C, false).await;
        self.merge(Role::C, &mut c, false).await;
        self.world.land_late().await;

        self.write(Role::A, &mut a, 40..90).await;
        let scan = a.db.as_ref().map(|db| db.scan::<&[u8]>(..));
        let expected = a.rows();
        self.merge(Role::C, &mut c, true).await;
        if let (Some(mut scan), true) = (scan, a.is_certain) {
            // Its files may have been collected under it: then it says so. It never shows wrong rows.
            let mut seen = Rows::new();
            let ended: Option<Result<()>> = within(Role::A, self.gate(Role::A), async {
                while let Some(row) = scan.next().await? {
                    seen.insert(row.key, row.value);
                }
                Ok(())
            })
            .await;
            match ended {
                Some(Ok(())) => assert_eq!(seen, expected, "a scan over a collection"),
                Some(Err(error)) => assert_ne!(error.kind(), ErrorKind::Corruption, "{error}"),
                None => {}
            }
        }
        self.world.land_late().await;

        let mut b = Writer::open(self.gate(Role::B), SimClock::shared(12)).await;
        if b.db.is_some() {
            a.check_survivors(&b.base);
            self.refused(&a).await;
        }
        self.write(Role::B, &mut b, 100..140).await;
        self.unkeep(&mut a, &b).await;
        let mut d = self.claim(Role::D, true).await;
        self.merge(Role::D, &mut d, true).await;
        self.look(Role::D, &d).await;
        if let Some(db) = &b.db
            && let Some(Err(error)) = within(Role::B, self.gate(Role::B), db.close()).await
        {
            assert!(may_happen(error.kind()), "closing: {error}");
        }
        drop((c, d));
        self.world.land_all().await;
        self.judge(&a, b).await;
    }

    fn gate(&self, role: Role) -> &Gate {
        &self.gates[ROLES.iter().position(|r| *r == role).expect("all roles are listed")]
    }

    async fn write(&self, role: Role, writer: &mut Writer, numbers: std::ops::Range<u64>) {
        let (gate, Some(db)) = (self.gate(role), writer.db.clone()) else { return };
        for n in numbers {
            let (changes, batch) = nth_write(&db, n);
            let accepted = match within(role, gate, db.write(batch).accepted()).await {
                Some(Ok(accepted)) => accepted,
                // Nothing was written.
                Some(Err(error)) => {
                    assert!(may_happen(error.kind()), "a write: {error}");
                    continue;
                }
                None => break,
            };
            writer.written.push(Written { changes, is_durable: false });
            if n.is_multiple_of(3) {
                match within(role, gate, accepted.durable()).await {
                    Some(Ok(_)) => writer.written.iter_mut().for_each(|written| written.is_durable = true),
                    Some(Err(error)) => assert!(may_happen(error.kind()), "a durable write: {error}"),
                    None => break,
                }
            }
            if n % 17 == 16
                && let Some(Err(error)) = within(role, gate, db.flush()).await
            {
                assert!(may_happen(error.kind()), "a flush: {error}");
            }
            if n % 7 == 0 {
                let key = nth_key(n);
                match within(role, gate, db.get(&key)).await {
                    Some(Ok(value)) => assert_eq!(value, writer.rows().remove(&key), "read after write {n}"),
                    Some(Err(error)) => assert!(may_happen(error.kind()), "a get: {error}"),
                    None => break,
                }
            }
        }
        if !matches!(within(role, gate, std::future::ready(())).await, Some(())) {
            (writer.db, writer.is_certain) = (None, false);
        }
    }

    async fn keep(&self, writer: &mut Writer, name: &'static str) {
        let Some(db) = writer.db.clone() else { return };
        writer.may_be_kept = writer.rows();
        match within(Role::A, self.gate(Role::A), db.checkpoint(name)).await {
            Some(Ok(_)) => drop(writer.kept.insert(name, writer.rows())),
            Some(Err(error)) => assert!(may_happen(error.kind()), "a checkpoint: {error}"),
            None => (writer.db, writer.is_certain) = (None, false),
        }
    }

    /// B deletes the second of A's checkpoints.
    async fn unkeep(&self, a: &mut Writer, b: &Writer) {
        let Some(db) = &b.db else { return };
        let was_made = a.kept.remove(CHECKPOINTS[1]).is_some();
        let deleted = within(Role::B, self.gate(Role::B), db.delete_checkpoint(CHECKPOINTS[1])).await;
        if let Some(Err(error)) = deleted {
            let is_not_there = error.kind() == ErrorKind::Invalid && !was_made;
            assert!(is_not_there || may_happen(error.kind()), "deleting a checkpoint: {error}");
        }
    }

    /// Verifies beside everybody, and repairs what is not damaged.
    async fn look(&self, role: Role, compactor: &Option<Compactor>) {
        if compactor.is_none() {
            return;
        }
        let store = store(self.gate(role), SimClock::shared(30 + role as u64));
        let looked: Option<Result<()>> = within(role, self.gate(role), async {
            let options = RepairOptions { act: true, name: "repair".to_owned(), ..RepairOptions::default() };
            let outcome = repair(&store, &options, &|_, _| {}).await?;
            assert!(outcome.before.is_whole(), "{:?}", outcome.before.findings);
            assert!(outcome.actions.is_empty(), "{:?}", outcome.actions);
            let quick = VerifyOptions { quick: true, ..VerifyOptions::default() };
            let report = verify(&store, &quick, &|_, _| {}).await?;
            assert!(report.is_whole(), "{:?}", report.findings);
            Ok(())
        })
        .await;
        if let Some(Err(error)) = looked {
            assert!(may_happen(error.kind()), "verifying: {error}");
        }
    }

    /// A fenced writer acknowledges nothing.
    async fn refused(&self, a: &Writer) {
        let Some(db) = &a.db else { return };
        if let Some(Ok(_)) = within(Role::A, self.gate(Role::A), db.put("late", "late").into_future()).await {
            panic!("a writer that was fenced has acknowledged a put");
        }
    }

    async fn claim(&self, role: Role, force: bool) -> Option<Compactor> {
        let gate = self.gate(role);
        let store = store(gate, SimClock::shared(20 + role as u64));
        let claimed = within(role, gate, async {
            let manifest = Manifest::open(store).await?;
            Compactor::claim(manifest, &format!("{role:?}"), force).await
        });
        match claimed.await? {
            Ok(compactor) => Some(compactor),
            Err(error) => {
                assert!(may_happen(error.kind()) || error.kind() == ErrorKind::Invalid, "a claim: {error}");
                None
            }
        }
    }

    async fn merge(&self, role: Role, compactor: &mut Option<Compactor>, collects: bool) {
        let Some(working) = compactor else { return };
        let worked: Option<Result<()>> = within(role, self.gate(role), async {
            while !matches!(working.step().await?, Did::Nothing) {}
            if collects {
                working.step_all().await?;
                working.collect_with(Some(Duration::ZERO), false).await?;
            }
            Ok(())
        })
        .await;
        match worked {
            Some(Ok(())) => {}
            Some(Err(error)) => assert!(may_happen(error.kind()), "merging: {error}"),
            None => *compactor = None,
        }
    }

    /// Everything is sound now: what is there?
    async fn judge(&self, a: &Writer, b: Writer) {
        let gate = Gate::new(&self.world, SimClock::shared(99), Vec::new());
        let last = Writer::open(&gate, SimClock::shared(98)).await;
        let db = last.db.expect("a sound process can open");
        if b.was_open {
            b.check_survivors(&last.base);
        } else {
            a.check_survivors(&last.base);
        }
        let expected = last.base;
        db.put("last", "word").await.expect("a sound process can write");
        db.delete("last").await.expect("a sound process can write");
        db.flush().await.expect("a sound process can flush");

        let store = store(&gate, SimClock::shared(97));
        let manifest = Manifest::open(store.clone()).await.expect("it is there");
        self.judge_checkpoints(a, &db, &store).await;
        self.world.pins_lapse().await;
        let mut compactor = Compactor::claim(manifest.clone(), "last", true).await.expect("a claim");
        while !matches!(compactor.step().await.expect("a merge"), Did::Nothing) {}
        compactor.step_all().await.expect("a merge");
        for _ in 0..2 {
            compactor.collect_with(Some(Duration::ZERO), false).await.expect("a collection");
        }
        let reader = Reader::builder("gate").store(store.clone()).open().await.expect("a reader");
        assert_eq!(rows_of(reader.scan::<&[u8]>(..)).await.expect("a scan"), expected, "after everything");
        let again = collect(&manifest, Some(Duration::ZERO), false).await.expect("a pass");
        assert_eq!((again.waiting, again.held_by.len()), (0, 0), "garbage is left");
        let view = manifest.latest(Cause::Admin).await.expect("the latest");
        let named: BTreeSet<Name> = view.root.ssts().map(|sst| Name::Sst(sst.object_id())).collect();
        let there = store.list(Folder::Sst, None, Cause::Admin).await.expect("a listing");
        assert_eq!(there.into_iter().map(|listed| listed.name).collect::<BTreeSet<_>>(), named);
        db.close().await.expect("a sound process can close");
    }
}

impl Life {
    /// The checkpoints that were promised are there and whole; then all are deleted, also those that a late PUT has
    /// brought back.
    async fn judge_checkpoints(&self, a: &Writer, db: &Db, store: &Store) {
        let names = db.checkpoints().await.expect("a listing");
        for name in a.kept.keys() {
            assert!(names.iter().any(|there| there == name), "the checkpoint {name} is lost");
        }
        for name in names {
            let reader = Reader::builder("gate").store(store.clone()).checkpoint(&name).open().await;
            let found = match reader {
                Ok(reader) => rows_of(reader.scan::<&[u8]>(..)).await,
                Err(error) => Err(error),
            };
            match (a.kept.get(&*name), found) {
                (Some(expected), found) => assert_eq!(&found.expect("it is whole"), expected, "{name}"),
                // Nobody was told of it. It may have been made too late, of what had been collected by then.
                (None, Ok(found)) => assert_eq!(found, a.may_be_kept, "{name}"),
                (None, Err(error)) => assert_eq!(error.kind(), ErrorKind::SnapshotExpired, "{name}: {error}"),
            }
            db.delete_checkpoint(&name).await.expect("a sound process can delete it");
        }
    }
}

impl Writer {
    async fn open(gate: &Gate, clock: SharedClock) -> Self {
        let none = Self::default();
        let opened: Option<Result<(Db, Rows)>> = within(Role::A, gate, async {
            let db = Db::builder("gate")
                .object_store(Arc::new(gate.clone()))
                .clock(clock)
                .memory_bytes(1 << 20)
                .memtable_bytes(4 << 10)
                .cache_bytes(64 << 10)
                .block_bytes(512)
                .sst_bytes(4 << 10)
                .shape(StoredShape { l0_runs: 2, base_bytes: 8 << 10, ratio: 3, ..StoredShape::leveled() })
                .retention(Duration::ZERO)
                .wal_window(3)
                .compaction(Compaction::Off)
                .name("a process")
                .open()
                .await?;
            let base = rows_of(db.scan::<&[u8]>(RangeFull)).await?;
            Ok((db, base))
        })
        .await;
        match opened {
            Some(Ok((db, base))) => Self { db: Some(db), base, is_certain: true, was_open: true, ..none },
            Some(Err(error)) => {
                assert!(may_happen(error.kind()), "opening: {error}");
                none
            }
            None => none,
        }
    }

    /// What this writer should see.
    fn rows(&self) -> Rows {
        let mut rows = self.base.clone();
        self.written.iter().for_each(|written| apply(&mut rows, written));
        rows
    }

    /// What the next one sees is a prefix of what was written here: all that was durable, and no hole.
    fn check_survivors(&self, seen: &Rows) {
        let durable = self.written.iter().rposition(|written| written.is_durable).map_or(0, |at| at + 1);
        let mut rows = self.base.clone();
        for (at, written) in self.written.iter().enumerate() {
            if at >= durable && rows == *seen {
                return;
            }
            apply(&mut rows, written);
        }
        assert_eq!(*seen, rows, "of {} writes {durable} were durable", self.written.len());
    }
}

fn apply(rows: &mut Rows, written: &Written) {
    for (key, value) in &written.changes {
        match value {
            Some(value) => rows.insert(key.clone(), value.clone()),
            None => rows.remove(key),
        };
    }
}

fn nth_key(n: u64) -> Bytes {
    format!("key {:02}", n % KEYS).into()
}

/// A batch of one to three rows, now and then with a delete in it.
fn nth_write(db: &Db, n: u64) -> (Vec<(Bytes, Option<Bytes>)>, WriteBatch) {
    let value = Bytes::from(format!("{n:-<200}"));
    let mut changes = vec![(nth_key(n), Some(value.clone()))];
    if n.is_multiple_of(5) {
        changes.push((nth_key(n + 7), None));
        changes.push((nth_key(n + 11), Some(value)));
    }
    let mut batch = WriteBatch::new();
    for (key, value) in &changes {
        match value {
            Some(value) => batch.put(db, key, value),
            None => batch.delete(db, key),
        };
    }
    (changes, batch)
}

async fn rows_of(mut scan: esker::Scan) -> Result<Rows> {
    let mut rows = Rows::new();
    while let Some(row) = scan.next().await? {
        assert!(rows.insert(row.key, row.value).is_none(), "a key came twice");
    }
    Ok(rows)
}

fn store(gate: &Gate, clock: SharedClock) -> Store {
    Store::from_object_store(Arc::new(gate.clone()), "gate", clock)
}

/// What `call` gives; `None` if its process died meanwhile.
async fn within<T>(role: Role, gate: &Gate, call: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        () = gate.death() => None,
        done = call => Some(done),
        () = SimClock::shared(0).sleep(LONG) => panic!("a call of {role:?} hangs"),
    }
}

/// Whether a call may end so in a world with a fault.
fn may_happen(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Fenced
            | ErrorKind::Conflict
            | ErrorKind::Unavailable
            | ErrorKind::OutcomeUnknown
            | ErrorKind::SnapshotExpired
            | ErrorKind::Closed
    )
}
