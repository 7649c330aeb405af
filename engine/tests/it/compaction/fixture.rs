//! A database made by hand: flushes without a writer, reads without a reader, so that these tests stand on
//! the floors below compaction only.

use std::{
    collections::{BTreeMap, HashMap},
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use esker::{
    block::Block,
    clock::{Clock, SharedClock, SystemClock},
    compaction::{Compactor, Did, job::sst_options},
    key::{DEFAULT_KEYSPACE, Entry, KeyspaceId, Kind, NEVER, Seq, full_key, is_expired},
    manifest::{Edit, Manifest, StoredOptions, StoredShape, View},
    merge::{BlockSource, Direction, Source, Step, Tree, Visible},
    range::FullRange,
    sst::{OpenSst, SstBuilder, Tail, decode_block, verify_object},
    stats::Cause,
    store::{Folder, Name, ObjectId, Role, Store},
    testing::{Fault, FaultyStore},
};

/// The machine's clock, which a test can put forward.
#[derive(Debug)]
pub(super) struct TestClock {
    system: SharedClock,
    ahead_ms: AtomicU64,
}

impl TestClock {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { system: SystemClock::shared(), ahead_ms: AtomicU64::new(0) })
    }

    pub(super) fn forward(&self, time: Duration) {
        self.ahead_ms.fetch_add(time.as_millis() as u64, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn wall_ms(&self) -> u64 {
        self.system.wall_ms() + self.ahead_ms.load(Ordering::SeqCst)
    }
    fn monotonic(&self) -> Duration {
        self.system.monotonic()
    }
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.system.sleep(duration)
    }
    fn random(&self) -> u128 {
        self.system.random()
    }
}

/// What a row should be: value and expiry, or deleted.
type Model = BTreeMap<Bytes, Option<(Bytes, u64)>>;

/// A database, the role of its writer, and what it should hold.
pub(super) struct Database {
    pub(super) store: Store,
    pub(super) manifest: Manifest,
    pub(super) clock: Arc<TestClock>,
    pub(super) epoch: u32,
    counter: u64,
    seq: Seq,
    model: Model,
}

/// A write: full key, value or delete, expiry.
pub(super) type Write = (Bytes, Option<Bytes>, u64);

/// Small SSTs and levels, so that a few hundred rows make a deep tree.
pub(super) fn small(shape: &StoredShape) -> StoredOptions {
    StoredOptions {
        block_bytes: 512,
        restart_interval: 8,
        filter_bits_per_key: 10,
        codecs: vec![1, 2],
        sst_bytes: 4096,
        shape: StoredShape { base_bytes: 16 << 10, ratio: 3, ..shape.clone() },
        retention_ms: 0,
        wal_window: 4,
    }
}

pub(super) fn key(keyspace: u32, text: &str) -> Bytes {
    full_key(KeyspaceId(keyspace), text.as_bytes()).expect("a short key")
}

pub(super) fn put(text: &str, value: impl Into<Bytes>) -> Write {
    (key(DEFAULT_KEYSPACE.0, text), Some(value.into()), NEVER)
}

pub(super) fn delete(text: &str) -> Write {
    (key(DEFAULT_KEYSPACE.0, text), None, NEVER)
}

impl Database {
    pub(super) async fn create(options: StoredOptions) -> Self {
        let clock = TestClock::new();
        let store = Store::open("memory://", clock.clone()).expect("a store in memory");
        Self::create_in(store, clock, options).await
    }

    pub(super) async fn create_in(store: Store, clock: Arc<TestClock>, options: StoredOptions) -> Self {
        let manifest = Manifest::open_or_create(store.clone(), options).await.expect("a new database");
        let base = manifest.latest(Cause::Open).await.expect("the first version");
        let claim = Edit::ClaimWriter { uuid: 1, name: "test".to_owned() };
        let view = manifest.commit(&base, &claim, Cause::Manifest).await.expect("the writer's role");
        let epoch = view.root.writer.epoch;
        Self { store, manifest, clock, epoch, counter: 0, seq: 0, model: Model::new() }
    }

    pub(super) async fn latest(&self) -> Arc<View> {
        self.manifest.latest(Cause::Admin).await.expect("the latest version")
    }

    /// Writes an SST object without committing it.
    pub(super) async fn upload(&mut self, writes: &[Write]) -> esker::sst::SstMeta {
        let id = ObjectId { role: Role::Writer, epoch: self.epoch, counter: self.counter, nonce: 9 };
        self.counter += 1;
        let mut entries: Vec<Entry> = writes
            .iter()
            .map(|(key, value, expire_at_ms)| {
                self.seq += 1;
                let kind = if value.is_some() { Kind::Put } else { Kind::Delete };
                let value = value.clone().unwrap_or_default();
                Entry { key: key.clone(), seq: self.seq, kind, expire_at_ms: *expire_at_ms, value }
            })
            .collect();
        entries.sort_by(|a, b| a.key.cmp(&b.key).then(b.seq.cmp(&a.seq)));
        let options = self.latest().await.root.options.clone();
        let mut builder = SstBuilder::new(id, sst_options(&options, 0).expect("known codecs"));
        for entry in &entries {
            builder.add(entry.as_ref()).expect("entries in order");
        }
        let mut chunks = builder.take_ready();
        let finished = builder.finish().expect("an SST");
        chunks.extend(finished.chunks);
        self.store.put_new(&Name::Sst(id), chunks, Cause::Flush).await.expect("an upload");
        finished.meta
    }

    /// Writes one L0 run.
    pub(super) async fn flush(&mut self, writes: &[Write]) -> Arc<View> {
        let meta = self.upload(writes).await;
        let base = self.latest().await;
        let edit = Edit::Flush {
            epoch: self.epoch,
            ssts: vec![meta],
            replay_from: base.root.writer.replay_from,
            tail_hint: 0,
            last_seq: self.seq,
            counter_floor: self.counter,
        };
        let view = self.manifest.commit(&base, &edit, Cause::Flush).await.expect("a flush");
        for (key, value, expire_at_ms) in writes {
            self.model.insert(key.clone(), value.clone().map(|value| (value, *expire_at_ms)));
        }
        view
    }

    pub(super) async fn claim(&self, name: &str) -> Compactor {
        Compactor::claim(self.manifest.clone(), name, true).await.expect("the compactor's role")
    }

    /// Merges until nothing is due; what was done.
    pub(super) async fn settle(&self, compactor: &mut Compactor) -> Vec<Did> {
        let mut done = Vec::new();
        loop {
            match compactor.step().await.expect("a step") {
                Did::Nothing => return done,
                did => done.push(did),
            }
            assert!(done.len() < 1000, "compaction does not come to an end");
        }
    }

    /// Asserts that the latest version holds what was written, and that all of its SSTs are sound.
    #[track_caller]
    pub(super) fn holds_what_was_written(&self) -> impl Future<Output = ()> + '_ {
        let at = std::panic::Location::caller();
        async move {
            let view = self.latest().await;
            let now_ms = self.clock.wall_ms();
            let expected: BTreeMap<Bytes, Bytes> = self
                .model
                .iter()
                .filter_map(|(key, row)| row.as_ref().map(|row| (key, row)))
                .filter(|(_, (_, expire_at_ms))| !is_expired(*expire_at_ms, now_ms))
                .map(|(key, (value, _))| (key.clone(), value.clone()))
                .collect();
            let found = rows(&self.store, &view, now_ms).await;
            assert!(found == expected, "at {at}: {} rows instead of {}", found.len(), expected.len());
        }
    }

    /// Asserts that no SST lies in the store but those that the latest version names.
    pub(super) async fn holds_no_garbage(&self) {
        let view = self.latest().await;
        for listed in self.store.list(Folder::Sst, None, Cause::Admin).await.expect("a listing") {
            let id = listed.name.object_id().expect("an SST has an id");
            assert!(view.sst(id).is_some(), "{id} is garbage");
        }
        let versions = self.store.list(Folder::Manifest, None, Cause::Admin).await.expect("a listing");
        assert_eq!(versions.len(), 1, "one version remains");
    }

    pub(super) async fn entries(&self) -> u64 {
        self.latest().await.runs.iter().flat_map(|run| run.ssts.iter()).map(|sst| sst.meta.entries).sum()
    }

    pub(super) async fn ssts(&self) -> usize {
        self.store.list(Folder::Sst, None, Cause::Admin).await.expect("a listing").len()
    }
}

/// A future that is dropped when the store meets its next fault: a crash in the middle of a request.
pub(super) struct Crash<'a, F> {
    pub(super) future: Pin<Box<F>>,
    pub(super) faulty: &'a FaultyStore,
}

/// What becomes of the request in whose middle a crash comes: never done, or done and not heard of.
pub(super) const CRASHES: [Fault; 2] = [Fault::Delay(Duration::from_secs(3600)), Fault::DropReply];

impl<F: Future> Future for Crash<'_, F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let polled = self.future.as_mut().poll(cx).map(Some);
        if self.faulty.faults() > 0 {
            return Poll::Ready(None);
        }
        // The fault may be met by a task of its own, which does not wake this one.
        cx.waker().wake_by_ref();
        polled
    }
}

/// Polls `future` until the store has met its next fault, and then lets it lie: what the test does next
/// happens in the middle of that request.
pub(super) async fn reach_fault(future: &mut Pin<Box<impl Future>>, faulty: &FaultyStore) {
    let before = faulty.faults();
    poll_fn(|cx| {
        assert!(future.as_mut().poll(cx).is_pending(), "it did not wait for what met a fault");
        // The fault may be met by a task of its own, which does not wake this one.
        cx.waker().wake_by_ref();
        if faulty.faults() > before { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// All SSTs of a version, in memory, verified.
struct Loaded(HashMap<ObjectId, (Arc<Tail>, Vec<Block>)>);

impl BlockSource for Loaded {
    fn block(&self, sst: &Arc<OpenSst>, index: usize) -> Option<Block> {
        self.0.get(&sst.id)?.1.get(index).cloned()
    }
    fn tail(&self, sst: &Arc<OpenSst>) -> Option<Arc<Tail>> {
        self.0.get(&sst.id).map(|(tail, _)| tail.clone())
    }
}

pub(super) async fn rows(store: &Store, view: &View, now_ms: u64) -> BTreeMap<Bytes, Bytes> {
    let mut loaded = HashMap::new();
    for sst in view.runs.iter().flat_map(|run| run.ssts.iter()) {
        let object =
            store.get(&Name::Sst(sst.id), Cause::Read).await.expect("a read").expect("a named SST exists");
        verify_object(&sst.meta, &object).expect("a sound SST");
        let tail = Tail::decode(&sst.meta, object.slice(sst.meta.tail_offset as usize..)).expect("a tail");
        let blocks = (0..tail.blocks())
            .map(|at| {
                let place = tail.block(at);
                let from = place.offset as usize;
                decode_block(sst.id, place, object.slice(from..from + place.bytes as usize)).expect("a block")
            })
            .collect();
        loaded.insert(sst.id, (Arc::new(tail), blocks));
    }
    let loaded = Loaded(loaded);
    let sources = view.runs.iter().map(|run| Source::Run(run.ssts.clone()));
    let tree = Tree::new(sources, &FullRange::all(), Direction::Forward);
    let mut visible = Visible::new(tree, Seq::MAX, now_ms);
    let mut rows = BTreeMap::new();
    while let Step::Ready = visible.step(&loaded).expect("sound blocks") {
        let row = visible.row().expect("a row");
        rows.insert(Bytes::copy_from_slice(row.key), visible.value());
    }
    rows
}
