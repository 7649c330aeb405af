//! Reads that collection cannot break: scans and snapshots of hours over a database that is overwritten, merged
//! and collected with retention zero, in virtual time; and what becomes of them when their pins fail.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use esker::{
    Compaction, Db, ErrorKind, Reader, Row, Scan,
    clock::SharedClock,
    compaction::{Collected, Compactor, Did},
    manifest::{Manifest, Pin, View, copy, pin::PIN_LIFE_MS},
    stats::Cause,
    store::{Folder, Name, Store},
    testing::{Fault, FaultyStore, Operation, Rule, SimClock},
};
use futures::{
    FutureExt as _,
    stream::{BoxStream, StreamExt as _},
};
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result as StoreResult, memory::InMemory,
    path::Path,
};
use parking_lot::Mutex;

use crate::virtual_time::simulated;

/// Rows, and every how many of them the world moves on.
const ROWS: usize = 600;
const STEP: usize = 50;

/// A store in memory whose own clock, which dates its objects, is the runtime's virtual time.
#[derive(Debug)]
struct Dated {
    objects: InMemory,
    clock: SharedClock,
    written: Mutex<BTreeMap<Path, Duration>>,
}

impl Dated {
    fn dates(&self, mut meta: ObjectMeta) -> ObjectMeta {
        let at = self.written.lock().get(&meta.location).copied().unwrap_or_default();
        meta.last_modified = Default::default();
        meta.last_modified += at;
        meta
    }
    fn now(&self) -> Duration {
        Duration::from_secs(1 << 30) + self.clock.monotonic()
    }
}

impl fmt::Display for Dated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dated")
    }
}

#[async_trait]
impl ObjectStore for Dated {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> StoreResult<PutResult> {
        let put = self.objects.put_opts(location, payload, opts).await?;
        self.written.lock().insert(location.clone(), self.now());
        Ok(put)
    }
    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        self.written.lock().insert(location.clone(), self.now());
        self.objects.put_multipart_opts(location, opts).await
    }
    async fn get_opts(&self, location: &Path, options: GetOptions) -> StoreResult<GetResult> {
        self.objects.get_opts(location, options).await
    }
    fn delete_stream(
        &self,
        locations: BoxStream<'static, StoreResult<Path>>,
    ) -> BoxStream<'static, StoreResult<Path>> {
        self.objects.delete_stream(locations)
    }
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        // The listing is that of this moment.
        let listed: Vec<_> = self.objects.list(prefix).collect().now_or_never().expect("memory");
        let dated: Vec<_> = listed.into_iter().map(|meta| meta.map(|meta| self.dates(meta))).collect();
        futures::stream::iter(dated).boxed()
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        self.objects.list_with_delimiter(prefix).await
    }
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> StoreResult<()> {
        self.objects.copy_opts(from, to, options).await
    }
}

/// A database that is written, merged and collected by others while somebody reads it.
struct World {
    clock: SharedClock,
    dated: Arc<Dated>,
    /// What readers go through.
    faulty: FaultyStore,
    db: Db,
    compactor: Compactor,
    round: u64,
}

impl World {
    async fn new(retention: Duration) -> Self {
        let clock = SimClock::shared(7);
        let dated =
            Arc::new(Dated { objects: InMemory::new(), clock: clock.clone(), written: Mutex::default() });
        let db = Db::builder("writer://")
            .object_store(dated.clone())
            .clock(clock.clone())
            .retention(retention)
            .block_bytes(512)
            .sst_bytes(4096)
            .compaction(Compaction::Off)
            .open()
            .await
            .expect("a database");
        let store = Store::from_object_store(dated.clone(), "compactor://", clock.clone());
        let manifest = Manifest::open(store).await.expect("the database");
        let compactor = Compactor::claim(manifest, "compactor", false).await.expect("the role");
        let faulty = FaultyStore::new(dated.clone(), clock.clone(), 7);
        let mut world = Self { clock, dated, faulty, db, compactor, round: 0 };
        world.overwrite().await;
        world.merge().await;
        world
    }

    fn store(&self) -> Store {
        Store::from_object_store(self.dated.clone(), "sound://", self.clock.clone())
    }

    /// A reader with a cache too small to be of help, which follows only when asked.
    async fn reader(&self) -> Reader {
        let builder = Reader::builder("reader://").store(self.faulty.store()).follow(false);
        builder.cache_bytes(1 << 10).open().await.expect("a reader")
    }

    async fn overwrite(&mut self) {
        self.round += 1;
        for n in 0..ROWS {
            let put = self.db.put(key(n), value(n, self.round)).accepted();
            put.await.expect("an accepted put");
        }
        self.db.flush().await.expect("a flush");
    }

    async fn merge(&mut self) {
        let done = self.compactor.step_all().await.expect("a merge");
        assert!(matches!(done, Did::Merged { .. }), "{done:?}");
    }

    async fn collect(&mut self) -> Collected {
        self.compactor.collect(false).await.expect("a collection")
    }

    /// All rows are written anew, everything is merged into other SSTs, and what was there is collected.
    async fn turn_over(&mut self) -> Collected {
        self.overwrite().await;
        self.merge().await;
        self.collect().await
    }

    async fn pass(&self, time: Duration) {
        self.clock.sleep(time).await;
    }

    async fn pins(&self) -> Vec<Name> {
        let listed = self.store().list(Folder::Pin, None, Cause::Admin).await.expect("a listing");
        listed.into_iter().map(|listed| listed.name).collect()
    }

    /// How often something was sent about a pin.
    fn sent(&self) -> usize {
        self.faulty.calls().iter().filter(|(_, path)| path.starts_with("pin")).count()
    }

    /// Asserts that after another turn nothing is left but what the latest version names.
    async fn comes_clean(&mut self) {
        self.pass(Duration::from_secs(60)).await;
        self.turn_over().await;
        self.collect().await;
        assert_eq!(self.pins().await, []);
        let view = self.compactor.view();
        let store = self.store();
        for listed in store.list(Folder::Sst, None, Cause::Admin).await.expect("a listing") {
            let id = listed.name.object_id().expect("an id");
            assert!(view.sst(id).is_some(), "{id} is garbage");
        }
        let parts: Vec<_> = view.root.runs.iter().flat_map(|run| &run.parts).collect();
        let stored = store.list(Folder::Part, None, Cause::Admin).await.expect("a listing");
        assert_eq!(stored.len(), parts.len(), "parts that nothing names");
    }
}

fn key(n: usize) -> String {
    format!("key {n:05}")
}

/// Hard to compress, so that SSTs are many.
fn value(n: usize, round: u64) -> String {
    let mut x = (n as u64) << 32 | round;
    let noise: String = std::iter::repeat_with(|| {
        x = x.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
        format!("{:016x}", x ^ (x >> 29))
    })
    .take(4)
    .collect();
    format!("{round}:{noise}")
}

/// Asserts that `rows` are all rows as of `round`, from row `from` on.
fn are_of(rows: &[Row], from: usize, round: u64) {
    for (at, row) in rows.iter().enumerate() {
        let n = from + at;
        assert_eq!(
            (&row.key[..], &row.value[..]),
            (key(n).as_bytes(), value(n, round).as_bytes()),
            "row {n}"
        );
    }
}

async fn take(scan: &mut Scan, rows: usize) -> esker::Result<Vec<Row>> {
    let mut taken = Vec::new();
    while taken.len() < rows
        && let Some(row) = scan.next().await?
    {
        taken.push(row);
    }
    Ok(taken)
}

#[test]
fn a_scan_of_hours_over_a_database_that_is_collected_all_the_time_is_complete_and_right() {
    simulated(async {
        let mut world = World::new(Duration::ZERO).await;
        let reader = world.reader().await;
        let round = world.round;
        let began = world.clock.monotonic();
        // Both are of this moment, however late the second begins.
        for (mut scan, reverse) in [(reader.scan::<&str>(..), false), (reader.scan::<&str>(..).rev(), true)] {
            let mut rows = Vec::new();
            while rows.len() < ROWS {
                rows.extend(take(&mut scan, STEP).await.expect("rows"));
                let pass = world.turn_over().await;
                assert_eq!(pass.kept_for.len(), 1, "one pin for all reads of a version");
                world.pass(Duration::from_secs(20 * 60)).await;
            }
            assert!(scan.next().await.expect("an end").is_none());
            if reverse {
                rows.reverse();
            }
            are_of(&rows, 0, round);
        }
        assert!(world.clock.monotonic() - began > Duration::from_secs(6 * 3600), "it took hours");
        world.comes_clean().await;
    });
}

#[test]
fn a_snapshot_that_is_held_for_hours_and_read_at_last_still_has_its_rows() {
    simulated(async {
        for retention in [Duration::ZERO, Duration::from_secs(900)] {
            let mut world = World::new(retention).await;
            let snapshot = world.reader().await.snapshot();
            let own = world.db.snapshot();
            let round = world.round;
            for _ in 0..10 {
                world.pass(Duration::from_secs(30 * 60)).await;
                world.turn_over().await;
            }
            for snapshot in [snapshot, own] {
                assert_eq!(snapshot.get(key(3)).await.expect("a read").expect("a row"), value(3, round));
                let many = snapshot.multi_get([key(9), key(ROWS)]).await.expect("a read");
                assert_eq!(many, [Some(value(9, round).into()), None]);
                let rows = take(&mut snapshot.scan::<&str>(..), usize::MAX).await.expect("rows");
                assert_eq!(rows.len(), ROWS);
                are_of(&rows, 0, round);
            }
            world.pass(Duration::from_secs(3600)).await;
            world.comes_clean_at(retention).await;
        }
    });
}

impl World {
    /// The same once what the retention keeps has gone.
    async fn comes_clean_at(&mut self, retention: Duration) {
        if retention.is_zero() {
            return self.comes_clean().await;
        }
        self.turn_over().await;
        self.pass(retention * 2).await;
        self.collect().await;
        assert_eq!(self.pins().await, []);
    }
}

#[test]
fn reads_that_are_over_before_the_grace_send_nothing_about_pins() {
    simulated(async {
        let mut world = World::new(Duration::from_secs(900)).await;
        let reader = world.reader().await;
        for _ in 0..20 {
            let rows = take(&mut reader.scan::<&str>(..), usize::MAX).await.expect("rows");
            assert_eq!(rows.len(), ROWS);
            let mut long = reader.scan::<&str>(..);
            take(&mut long, 10).await.expect("rows");
            assert!(reader.snapshot().get(key(1)).await.expect("a read").is_some());
            world.pass(Duration::from_secs(440)).await;
            take(&mut long, usize::MAX).await.expect("rows");
        }
        assert_eq!(world.sent(), 0);
        // One that outlives it: the pin, the look at the floor, and a release; and one for both who hold it.
        let (mut one, other) = (reader.scan::<&str>(..), reader.snapshot());
        take(&mut one, 10).await.expect("rows");
        world.pass(Duration::from_secs(460)).await;
        assert_eq!((world.sent(), world.pins().await.len()), (1, 1));
        drop((one, other));
        world.pass(Duration::from_secs(60)).await;
        assert_eq!(world.sent(), 2);
        world.overwrite().await;
    });
}

#[test]
fn a_pin_that_comes_too_late_ends_a_snapshot_and_a_fresh_scan_begins_at_a_newer_version() {
    simulated(async {
        let mut world = World::new(Duration::ZERO).await;
        let reader = world.reader().await;
        let (snapshot, own) = (reader.snapshot(), world.db.snapshot());
        let (mut fresh, mut of_db) = (reader.scan::<&str>(..), world.db.scan::<&str>(..));
        world.turn_over().await;
        for error in [
            snapshot.get(key(1)).await.expect_err("it is too late"),
            snapshot.scan::<&str>(..).next().await.expect_err("it is too late"),
            own.multi_get([key(1)]).await.expect_err("it is too late"),
        ] {
            assert_eq!(error.kind(), ErrorKind::SnapshotExpired, "{error}");
            assert!(error.hint_text().is_some());
        }
        for scan in [&mut fresh, &mut of_db] {
            let rows = take(scan, usize::MAX).await.expect("rows of the newer version");
            assert_eq!(rows.len(), ROWS);
            are_of(&rows, 0, world.round);
        }
        drop((snapshot, own, fresh, of_db));
        world.comes_clean().await;
    });
}

#[test]
fn a_scan_whose_pin_is_deleted_by_hand_ends_in_snapshot_expired_and_shows_no_wrong_row() {
    simulated(async {
        let mut world = World::new(Duration::ZERO).await;
        let (reader, round) = (world.reader().await, world.round);
        let mut scan = reader.scan::<&str>(..);
        are_of(&take(&mut scan, STEP).await.expect("rows"), 0, round);
        let pins = world.pins().await;
        assert_eq!(pins.len(), 1);
        world.store().delete(&pins, Cause::Admin).await.expect("a deletion");
        world.turn_over().await;
        let mut seen = STEP;
        let error = loop {
            match take(&mut scan, 1).await {
                Ok(rows) => {
                    assert_eq!(rows.len(), 1, "it ended as if nothing more were there");
                    are_of(&rows, seen, round);
                    seen += 1;
                }
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::SnapshotExpired, "{error}");
        drop(scan);
        // Its heartbeat may have put it back before it was released.
        world.pass(Duration::from_secs(3600)).await;
        world.comes_clean().await;
    });
}

#[test]
fn a_scan_whose_heartbeat_stops_ends_in_snapshot_expired_before_its_pin_is_dropped() {
    simulated(async {
        let mut world = World::new(Duration::ZERO).await;
        let (reader, round) = (world.reader().await, world.round);
        let mut scan = reader.scan::<&str>(..);
        are_of(&take(&mut scan, STEP).await.expect("rows"), 0, round);
        world.faulty.add(Rule::on(Operation::Put).path("pin/").meets(Fault::FailBefore));
        let minute = Duration::from_secs(60);
        let (mut seen, mut minutes) = (STEP, 0);
        let error = loop {
            // Nothing is lost as long as rows come.
            assert_eq!(world.collect().await.kept_for.len(), 1, "after {minutes} minutes");
            match take(&mut scan, 40).await {
                Ok(rows) => {
                    are_of(&rows, seen, round);
                    seen += rows.len();
                    assert!(seen < ROWS, "it came to its end after {minutes} minutes");
                }
                Err(error) => break error,
            }
            world.turn_over().await;
            world.pass(minute).await;
            minutes += 1;
        };
        assert_eq!(error.kind(), ErrorKind::SnapshotExpired, "{error}");
        let counted = Pin::counts_for().as_secs() / 60;
        assert!((counted..counted + 3).contains(&minutes), "it ended after {minutes} minutes");
        assert_eq!(world.collect().await.kept_for.len(), 1);
        world.pass(Duration::from_millis(PIN_LIFE_MS)).await;
        world.comes_clean().await;
    });
}

#[test]
fn a_heartbeat_that_fails_now_and_then_ends_nothing() {
    simulated(async {
        let mut world = World::new(Duration::ZERO).await;
        let (reader, round) = (world.reader().await, world.round);
        let mut scan = reader.scan::<&str>(..);
        let mut rows = take(&mut scan, STEP).await.expect("rows");
        world.faulty.add(Rule::on(Operation::Put).path("pin/").chance(0.6).meets(Fault::FailBefore));
        world.faulty.add(Rule::on(Operation::Put).path("pin/").chance(0.5).meets(Fault::DropReply));
        while rows.len() < ROWS {
            world.turn_over().await;
            world.pass(Duration::from_secs(600)).await;
            rows.extend(take(&mut scan, STEP).await.expect("rows"));
        }
        are_of(&rows, 0, round);
        drop(scan);
        world.faulty.clear();
        world.comes_clean().await;
    });
}

#[test]
fn without_the_permission_to_write_pins_reads_go_on_until_what_they_read_is_collected() {
    simulated(async {
        let mut world = World::new(Duration::ZERO).await;
        world.faulty.add(Rule::on(Operation::Put).meets(Fault::Refuse));
        let (reader, round) = (world.reader().await, world.round);
        let mut long = reader.scan::<&str>(..);
        are_of(&take(&mut long, STEP).await.expect("rows"), 0, round);
        for _ in 0..50 {
            assert_eq!(take(&mut reader.scan::<&str>(..), usize::MAX).await.expect("rows").len(), ROWS);
        }
        assert_eq!(world.sent(), 1, "it is not asked again at once");
        world.turn_over().await;
        let error = take(&mut long, usize::MAX).await.expect_err("its SSTs are gone");
        assert_eq!(error.kind(), ErrorKind::SnapshotExpired, "{error}");
        // A scan that has shown nothing begins at the newest version.
        let rows = take(&mut reader.scan::<&str>(..), usize::MAX).await.expect("rows");
        are_of(&rows, 0, world.round);
        assert_eq!(rows.len(), ROWS);
        // When the permission has been given, it is tried again.
        world.faulty.clear();
        let snapshot = reader.snapshot();
        world.pass(Duration::from_secs(3600)).await;
        assert_eq!(world.pins().await.len(), 1);
        drop(snapshot);
        world.comes_clean().await;
    });
}

#[test]
fn a_read_dropped_at_any_moment_leaves_no_pin_behind() {
    simulated(async {
        let mut world = World::new(Duration::ZERO).await;
        let reader = world.reader().await;
        for polls in 0..40 {
            let snapshot = reader.snapshot();
            let mut read = Box::pin(async move { snapshot.get(key(5)).await });
            for _ in 0..polls {
                let polled = futures::poll!(&mut read);
                if polled.is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        world.comes_clean().await;
        let (mut scan, round) = (reader.strong().await.expect("a snapshot").scan::<&str>(..), world.round);
        take(&mut scan, 1).await.expect("a row");
        // The handle may go before the scan does.
        reader.close().await.expect("closed");
        world.turn_over().await;
        world.pass(Duration::from_secs(3600)).await;
        let rows = take(&mut scan, usize::MAX).await.expect("rows");
        are_of(&rows, 1, round);
        drop(scan);
        world.comes_clean().await;
    });
}

#[test]
fn closing_a_reader_waits_until_its_pins_are_released() {
    simulated(async {
        let mut world = World::new(Duration::ZERO).await;
        let reader = world.reader().await;
        let mut scan = reader.scan::<&str>(..);
        take(&mut scan, STEP).await.expect("rows");
        drop(scan);
        reader.close().await.expect("closed");
        let manifest = Manifest::open(world.store()).await.expect("the database");
        for name in world.pins().await {
            let bytes = world.store().get(&name, Cause::Admin).await.expect("a read").expect("the pin");
            let held = copy::decode(&name, manifest.identity().db_uuid, &bytes).expect("a pin");
            assert!(held.is_none(), "{name} was not released");
        }
        world.comes_clean().await;
    });
}

#[test]
fn what_a_crashed_reader_held_goes_when_the_store_says_that_its_pin_is_old() {
    simulated(async {
        let mut world = World::new(Duration::ZERO).await;
        let manifest = Manifest::open(world.store()).await.expect("the database");
        let pin = Pin::on(&manifest.latest(Cause::Admin).await.expect("a version"), &*world.clock);
        assert!(pin.write(&manifest).await.expect("a pin"));
        world.turn_over().await;
        world.pass(Duration::from_millis(PIN_LIFE_MS - 1000)).await;
        assert_eq!(world.collect().await.kept_for, std::slice::from_ref(pin.name()));
        // Nothing is written meanwhile that would say what time it is at the store.
        world.pass(Duration::from_secs(2)).await;
        let pass = world.collect().await;
        assert!(pass.kept_for.is_empty(), "{pass:?}");
        assert!(pass.deleted.iter().any(|(name, _)| name == pin.name()));
        assert_eq!(world.pins().await, []);
        world.comes_clean().await;
    });
}

#[test]
fn a_collector_whose_clock_is_years_ahead_drops_no_pin_that_is_renewed() {
    simulated(async {
        let mut world = World::new(Duration::ZERO).await;
        let (reader, round) = (world.reader().await, world.round);
        let mut scan = reader.scan::<&str>(..);
        let mut rows = take(&mut scan, STEP).await.expect("rows");
        let ahead: SharedClock = Arc::new(SimClock::new(9, 10 * 365 * 24 * 3600 * 1000, 50_000));
        let store = Store::from_object_store(world.dated.clone(), "ahead://", ahead);
        let elsewhere = Manifest::open(store).await.expect("the database");
        while rows.len() < ROWS {
            world.overwrite().await;
            world.merge().await;
            let pass = esker::compaction::collect(&elsewhere, None, false).await.expect("a collection");
            assert_eq!(pass.kept_for.len(), 1);
            world.pass(Duration::from_secs(420)).await;
            rows.extend(take(&mut scan, STEP).await.expect("rows"));
        }
        are_of(&rows, 0, round);
        drop(scan);
        world.comes_clean().await;
    });
}

#[test]
fn a_reader_fixed_at_a_version_keeps_it() {
    simulated(async {
        let mut world = World::new(Duration::ZERO).await;
        let (id, round) = (world.compactor.view().id(), world.round);
        let builder = Reader::builder("reader://").store(world.faulty.store()).version(id);
        let reader = builder.cache_bytes(1 << 10).open().await.expect("a reader");
        world.pass(Duration::from_secs(60)).await;
        for _ in 0..5 {
            world.turn_over().await;
            world.pass(Duration::from_secs(1800)).await;
        }
        let rows = take(&mut reader.scan::<&str>(..), usize::MAX).await.expect("rows");
        assert_eq!(rows.len(), ROWS);
        are_of(&rows, 0, round);
        drop(reader);
        world.comes_clean().await;
    });
}

#[test]
fn checkpoints_keep_what_was_accepted_until_they_are_deleted() {
    simulated(async {
        let mut world = World::new(Duration::ZERO).await;
        world.db.put("only in the log", "yes").accepted().await.expect("a put");
        world.db.checkpoint("first").await.expect("a checkpoint");
        let first = world.round;
        world.turn_over().await;
        world.db.checkpoint("second").await.expect("a checkpoint");
        for _ in 0..3 {
            world.pass(Duration::from_secs(24 * 3600)).await;
            world.turn_over().await;
        }
        let open = async |world: &World, name: &str| {
            let builder = Reader::builder("reader://").store(world.faulty.store());
            builder.cache_bytes(1 << 10).checkpoint(name).open().await
        };
        for (name, round) in [("first", first), ("second", first + 1)] {
            let reader = open(&world, name).await.expect("a checkpoint");
            let rows = take(&mut reader.scan_prefix("key"), usize::MAX).await.expect("rows");
            assert_eq!(rows.len(), ROWS);
            are_of(&rows, 0, round);
            assert_eq!(reader.get("only in the log").await.expect("a read").expect("a row"), "yes");
            assert_eq!(reader.strong().await.expect_err("it is fixed").kind(), ErrorKind::Invalid);
        }
        assert_eq!(world.sent(), 0, "a checkpoint needs no pin to be read");
        let error = world.db.checkpoint("first").await.expect_err("the name is taken");
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        let error = world.db.checkpoint("no/name").await.expect_err("it cannot be a name");
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        let error = open(&world, "third").await.expect_err("there is none");
        assert!(error.to_string().contains("this database has first, second"), "{error}");
        assert_eq!(world.db.checkpoints().await.expect("names"), ["first", "second"]);

        let reader = open(&world, "first").await.expect("a checkpoint");
        world.db.delete_checkpoint("first").await.expect("a deletion");
        world.turn_over().await;
        let error = reader.scan::<&str>(..).next().await.expect_err("it is gone");
        assert_eq!(error.kind(), ErrorKind::SnapshotExpired, "{error}");
        world.db.delete_checkpoint("second").await.expect("a deletion");
        assert_eq!(world.db.checkpoints().await.expect("names"), [""; 0]);
        world.comes_clean().await;
    });
}

#[test]
fn the_parts_of_a_large_version_are_kept_with_it() {
    simulated(async {
        const MANY: usize = 1000;
        let mut world = World::new(Duration::ZERO).await;
        let large = |n: usize, round: u64| (0..100).map(|at| value(n * 1000 + at, round)).collect::<String>();
        let names = |view: &View| -> Vec<Name> {
            let parts = view.root.runs.iter().flat_map(|run| &run.parts);
            parts.map(|part| Name::Part(part.object_id().expect("an id"))).collect()
        };
        let fill = async |world: &mut World, round| {
            for n in 0..MANY {
                let put = world.db.put(format!("large {n:05}"), large(n, round)).accepted();
                put.await.expect("an accepted put");
            }
            world.db.flush().await.expect("a flush");
            world.merge().await;
        };
        fill(&mut world, 1).await;
        let then = names(world.compactor.view());
        assert!(!then.is_empty(), "{} SSTs need parts", world.compactor.view().root.ssts().count());
        let mut scan = world.reader().await.scan_prefix("large");
        let mut rows = take(&mut scan, 3).await.expect("rows");
        world.db.checkpoint("large").await.expect("a checkpoint");
        for round in 2..5 {
            fill(&mut world, round).await;
            world.collect().await;
            world.pass(Duration::from_secs(1800)).await;
        }
        let now = names(world.compactor.view());
        let store = world.store();
        for part in &then {
            assert!(!now.contains(part), "the latest version has parts of its own");
            assert!(store.get(part, Cause::Admin).await.expect("a read").is_some(), "{part} is kept");
        }
        rows.extend(take(&mut scan, usize::MAX).await.expect("rows"));
        let builder = Reader::builder("reader://").store(world.store()).checkpoint("large");
        let kept = builder.cache_bytes(1 << 10).open().await.expect("the checkpoint");
        let again = take(&mut kept.scan_prefix("large"), usize::MAX).await.expect("rows");
        assert!(rows == again && rows.len() == MANY, "{} and {} rows", rows.len(), again.len());
        for (n, row) in rows.iter().enumerate() {
            assert_eq!(row.value, large(n, 1), "row {n}");
        }
        drop(scan);
        world.db.delete_checkpoint("large").await.expect("a deletion");
        world.comes_clean().await;
        for part in &then {
            assert!(store.get(part, Cause::Admin).await.expect("a read").is_none(), "{part} is garbage");
        }
    });
}
