//! Tests of reading: gets, scans and snapshots over memtables and SSTs laid out by hand, compared
//! with a map; bytes that are missing, gone or wrong.

use std::{cell::RefCell, collections::BTreeMap, ops::Bound, sync::Arc};

use bytes::Bytes;
use esker::{
    ErrorKind, KeyRange, Row, Scan, Snapshot,
    block::Block,
    clock::SystemClock,
    codec::frame::Codec,
    key::{DEFAULT_KEYSPACE, Entry, KeyspaceId, Kind, full_key},
    manifest::{Root, Run, StoredOptions, View},
    memtable::Memtable,
    merge::{BlockSource, Direction, Missing, Source, Step, Tree},
    range::FullRange,
    read::{Fetched, Fetcher, SuperVersion, get, get_cached, multi_get},
    sst::{OpenSst, SstBuilder, SstMeta, SstOptions, Tail},
    stats::{Cause, RequestKind},
    store::{Name, ObjectId, Role, Store},
};
use esker_cache::BlockCache;
use object_store::{ObjectStoreExt as _, memory::InMemory, path::Path};
use proptest::prelude::*;

/// A key that every op is about: few of them, so that versions pile up.
fn key(n: u8) -> Vec<u8> {
    match n % 4 {
        0 => vec![n / 4],
        1 => vec![n / 4, 0],
        2 => format!("user{:03}", n).into_bytes(),
        _ => [vec![0xFF; 3], vec![n]].concat(),
    }
}

/// One write. Its number is its place in the list, from 1.
#[derive(Debug, Clone)]
struct Op {
    key: u8,
    kind: Kind,
    expire_at_ms: u64,
    value_bytes: usize,
    keyspace: u32,
}

fn entry(op: &Op, seq: u64) -> Entry {
    let value = match op.kind {
        Kind::Put => Bytes::from(format!("{seq}:").repeat(1 + op.value_bytes)),
        _ => Bytes::new(),
    };
    let key = full_key(KeyspaceId(op.keyspace), &key(op.key)).unwrap();
    Entry { key, seq, kind: op.kind, expire_at_ms: op.expire_at_ms, value }
}

/// A place to lay out a database by hand.
struct Lab {
    objects: Arc<InMemory>,
    store: Store,
    fetcher: Fetcher,
    /// How many entries an SST holds, about.
    per_sst: usize,
}

impl Lab {
    fn new(cache_bytes: usize) -> Self {
        let objects = Arc::new(InMemory::new());
        let store = Store::from_object_store(objects.clone(), "memory", SystemClock::shared());
        let fetcher =
            Fetcher::new(store.clone(), BlockCache::in_memory(cache_bytes), 7).pin_tails(cache_bytes / 4);
        Self { objects, store, fetcher, per_sst: 7 }
    }

    /// Stores sorted entries as a run of SSTs of about `per_sst` entries, never splitting a key.
    async fn run(&self, id: u64, level: u32, entries: &[Entry], per_sst: usize, block_bytes: usize) -> Run {
        let mut ssts = Vec::new();
        let mut from = 0;
        while from < entries.len() {
            let mut to = (from + per_sst).min(entries.len());
            while to < entries.len() && entries[to].key == entries[to - 1].key {
                to += 1;
            }
            ssts.push(self.sst(id << 16 | ssts.len() as u64, &entries[from..to], block_bytes).await);
            from = to;
        }
        Run { id, level, ssts, parts: Vec::new() }
    }

    async fn sst(&self, counter: u64, entries: &[Entry], block_bytes: usize) -> SstMeta {
        let id = ObjectId { role: Role::Writer, epoch: 1, counter, nonce: counter };
        let codec = [Codec::None, Codec::Lz4, Codec::Zstd][counter as usize % 3];
        let options = SstOptions { block_bytes, restart_interval: 4, codec, filter_bits_per_key: 10 };
        let mut builder = SstBuilder::new(id, options);
        entries.iter().for_each(|entry| builder.add(entry.as_ref()).unwrap());
        let mut chunks = builder.take_ready();
        let finished = builder.finish().unwrap();
        chunks.extend(finished.chunks);
        self.store.put_new(&Name::Sst(id), chunks, Cause::Flush).await.unwrap();
        finished.meta
    }

    /// Lays `ops` out: cut at `cuts` into layers, the oldest in a run at level 1, then runs at level 0, a
    /// frozen memtable, an active one.
    async fn layers(&self, ops: &[Op], cuts: &[usize], block_bytes: usize) -> Arc<SuperVersion> {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (ops.len() + 1)).collect();
        cuts.extend([0, ops.len()]);
        cuts.sort_unstable();
        let mut layers = Vec::new();
        for pair in cuts.windows(2) {
            let mut layer: Vec<_> = (pair[0]..pair[1]).map(|at| entry(&ops[at], at as u64 + 1)).collect();
            layer.sort_by(|a, b| a.key.cmp(&b.key).then(b.seq.cmp(&a.seq)));
            layers.push(layer);
        }
        let memtable = |layer: Option<Vec<Entry>>| {
            let memtable = Memtable::new();
            let mut entries = layer.unwrap_or_default();
            entries.sort_by_key(|entry| entry.seq);
            entries.into_iter().for_each(|entry| memtable.insert(entry));
            Arc::new(memtable)
        };
        let active = memtable(layers.pop());
        let frozen = vec![memtable(layers.pop())];
        let mut runs = Vec::new();
        for (at, layer) in layers.iter().enumerate().filter(|(_, layer)| !layer.is_empty()) {
            runs.insert(
                0,
                self.run(at as u64 + 1, u32::from(at == 0), layer, self.per_sst, block_bytes).await,
            );
        }
        Arc::new(SuperVersion { active, frozen, view: Arc::new(view(runs)) })
    }

    fn scan(&self, sv: &Arc<SuperVersion>, range: KeyRange, seq: u64, now_ms: u64) -> Scan {
        Scan::new(self.fetcher.clone(), Arc::clone(sv), DEFAULT_KEYSPACE, Ok(range), seq, now_ms)
    }

    /// Scans both ways, over everything and between two keys, give the rows of `model`, up to each of the `limits`.
    async fn shows(
        &self,
        model: &BTreeMap<Vec<u8>, Entry>,
        sv: &Arc<SuperVersion>,
        (seq, now_ms): (u64, u64),
        bounds: (u8, u8),
        limits: [usize; 2],
    ) -> Result<(), TestCaseError> {
        let (a, b) = (key(bounds.0), key(bounds.1));
        let bounds = KeyRange::new(a.clone().min(b.clone())..a.max(b)).unwrap();
        for range in [KeyRange::all(), bounds] {
            for limit in limits {
                let within = || model.iter().filter(|(key, _)| range.contains(key));
                let scan = || self.scan(sv, range.clone(), seq, now_ms).limit(limit);
                expect(&collect(scan()).await.unwrap(), within().take(limit).collect())?;
                let reversed = within().collect::<Vec<_>>().into_iter().rev().take(limit).collect();
                expect(&collect(scan().rev()).await.unwrap(), reversed)?;
            }
        }
        Ok(())
    }

    fn gets(&self) -> u64 {
        self.store.stats().snapshot().total(RequestKind::Get)
    }

    /// Overwrites an object's bytes: what no part of Esker ever does.
    async fn tamper(&self, meta: &SstMeta, change: impl FnOnce(&mut Vec<u8>)) {
        let path = Path::from(Name::Sst(meta.object_id()).path());
        let mut bytes = self.objects.get(&path).await.unwrap().bytes().await.unwrap().to_vec();
        change(&mut bytes);
        self.objects.put(&path, bytes.into()).await.unwrap();
    }
}

fn view(runs: Vec<Run>) -> View {
    View::new(Root { runs, ..Root::first(7, StoredOptions::default()) }, None).unwrap()
}

/// What is visible at `seq` and `now_ms`, by user key.
fn model(ops: &[Op], keyspace: u32, seq: u64, now_ms: u64) -> BTreeMap<Vec<u8>, Entry> {
    let mut model = BTreeMap::new();
    for (op, at) in ops.iter().zip(1..=seq).filter(|(op, _)| op.keyspace == keyspace) {
        model.insert(key(op.key), entry(op, at));
    }
    model.retain(|_, entry| {
        entry.kind == Kind::Put && (entry.expire_at_ms == 0 || entry.expire_at_ms > now_ms)
    });
    model
}

async fn collect(mut scan: Scan) -> esker::Result<Vec<Row>> {
    let mut rows = Vec::new();
    while let Some(row) = scan.next().await? {
        rows.push(row);
    }
    assert!(scan.next().await?.is_none(), "an ended scan stays ended");
    Ok(rows)
}

fn expect(rows: &[Row], model: Vec<(&Vec<u8>, &Entry)>) -> Result<(), TestCaseError> {
    let got: Vec<_> =
        rows.iter().map(|row| (row.key.to_vec(), row.value.clone(), row.seq, row.expire_at_ms)).collect();
    let want: Vec<_> =
        model.into_iter().map(|(key, e)| (key.clone(), e.value.clone(), e.seq, e.expire_at_ms)).collect();
    prop_assert_eq!(got, want);
    Ok(())
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = (0u8..48, 0u8..10, 0u64..4, 0usize..30, 0u32..8).prop_map(
        |(key, kind, expiry, value_bytes, keyspace)| Op {
            key,
            kind: if kind < 3 { Kind::Delete } else { Kind::Put },
            expire_at_ms: if kind == 9 { 1000 * expiry } else { 0 },
            value_bytes,
            keyspace: u32::from(keyspace == 0),
        },
    );
    prop::collection::vec(op, 0..160)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn reads_agree_with_a_map_however_the_writes_are_laid_out(
        ops in ops(),
        cuts in prop::collection::vec(0usize..200, 2..6),
        block_bytes in prop_oneof![Just(1usize), Just(64), Just(400), Just(16384)],
        cache_bytes in prop_oneof![Just(1usize), Just(1 << 20)],
        back in 0u64..40,
        now_ms in 0u64..4000,
        bounds in (0u8..48, 0u8..48, 0u8..3, 0u8..3),
        limit in 0usize..12,
    ) {
        runtime().block_on(async {
            let lab = Lab::new(cache_bytes);
            let sv = lab.layers(&ops, &cuts, block_bytes).await;
            let seq = (ops.len() as u64).saturating_sub(back);
            let model = model(&ops, 0, seq, now_ms);

            let mut keys = Vec::new();
            for n in 0..48 {
                let full = full_key(DEFAULT_KEYSPACE, &key(n)).unwrap();
                let expected = model.get(&key(n)).map(|entry| entry.value.clone());
                if n % 2 == 0 {
                    prop_assert_eq!(&get(&lab.fetcher, &sv, &full, seq, now_ms).await.unwrap(), &expected);
                    if let Some(cached) = get_cached(&lab.fetcher, &sv, &full, seq, now_ms) {
                        prop_assert_eq!(&cached.unwrap(), &expected);
                    }
                }
                keys.push((full, expected));
            }
            let (asked, expected): (Vec<_>, Vec<_>) = keys.into_iter().rev().unzip();
            prop_assert_eq!(multi_get(&lab.fetcher, &sv, &asked, seq, now_ms).await.unwrap(), expected);

            let all = KeyRange::all();
            expect(&collect(lab.scan(&sv, all.clone(), seq, now_ms)).await.unwrap(), model.iter().collect())?;
            let reversed = collect(lab.scan(&sv, all.clone(), seq, now_ms).rev()).await.unwrap();
            expect(&reversed, model.iter().rev().collect())?;
            let limited = collect(lab.scan(&sv, all, seq, now_ms).rev().limit(limit)).await.unwrap();
            expect(&limited, model.iter().rev().take(limit).collect())?;
            let prefixed = collect(lab.scan(&sv, KeyRange::prefix("user"), seq, now_ms).limit(limit)).await.unwrap();
            expect(&prefixed, model.iter().filter(|(key, _)| key.starts_with(b"user")).take(limit).collect())?;

            let bound = |n: u8, how: u8| match how {
                0 => Bound::Included(key(n)),
                1 => Bound::Excluded(key(n)),
                _ => Bound::Unbounded,
            };
            let range = (bound(bounds.0, bounds.2), bound(bounds.1, bounds.3));
            if let Ok(range) = KeyRange::new(range) {
                let within = || model.iter().filter(|(key, _)| range.contains(key));
                expect(&collect(lab.scan(&sv, range.clone(), seq, now_ms)).await.unwrap(), within().collect())?;
                let reversed = collect(lab.scan(&sv, range.clone(), seq, now_ms).rev()).await.unwrap();
                let mut expected: Vec<_> = within().collect();
                expected.reverse();
                expect(&reversed, expected)?;
            }
            Ok(())
        })?;
    }

    /// Whole blocks of the run come before whatever few writes lie above it: there a scan goes by blocks.
    #[test]
    fn a_scan_by_blocks_shows_what_one_by_entries_shows(
        stored in ops(),
        above in ops(),
        most_above in 0usize..4,
        block_bytes in prop_oneof![Just(1usize), Just(64), Just(400), Just(16384)],
        back in 0u64..60,
        now_ms in 0u64..4000,
        limit in 0usize..40,
        bounds in (0u8..48, 0u8..48),
    ) {
        runtime().block_on(async {
            let lab = Lab::new(1 << 20);
            let run_ends = stored.len();
            let ops: Vec<_> = stored.into_iter().chain(above.into_iter().take(most_above)).collect();
            let sv = lab.layers(&ops, &[run_ends, run_ends], block_bytes).await;
            let seq = (ops.len() as u64).saturating_sub(back);
            let model = model(&ops, 0, seq, now_ms);
            lab.shows(&model, &sv, (seq, now_ms), bounds, [limit, usize::MAX]).await
        })?;
    }

    /// Blocks of many entries in runs over the same keys: a scan takes a stretch of one up to the next key of another.
    #[test]
    fn a_scan_over_runs_that_overlap_shows_what_a_map_shows(
        writes in prop::collection::vec(ops(), 3),
        cuts in prop::collection::vec(0usize..480, 2..6),
        block_bytes in prop_oneof![Just(400usize), Just(2000), Just(16384)],
        back in 0u64..200,
        now_ms in 0u64..4000,
        limit in 0usize..40,
        bounds in (0u8..48, 0u8..48),
    ) {
        runtime().block_on(async {
            let lab = Lab { per_sst: 1000, ..Lab::new(1 << 20) };
            let ops = writes.concat();
            let sv = lab.layers(&ops, &cuts, block_bytes).await;
            let seq = (ops.len() as u64).saturating_sub(back);
            let model = model(&ops, 0, seq, now_ms);
            // The second time round the blocks are in the cache.
            lab.shows(&model, &sv, (seq, now_ms), bounds, [usize::MAX, limit]).await
        })?;
    }

    #[test]
    fn a_merge_resumes_where_it_was_whichever_byte_is_missing(
        ops in ops(),
        cuts in prop::collection::vec(0usize..200, 2..6),
        reverse: bool,
    ) {
        runtime().block_on(async {
            let lab = Lab::new(1 << 20);
            let sv = lab.layers(&ops, &cuts, 64).await;
            let direction = if reverse { Direction::Reverse } else { Direction::Forward };
            let sources = || sv.memtables().cloned().map(Source::Mem)
                .chain(sv.view.runs.iter().map(|run| Source::Run(Arc::clone(&run.ssts))));
            let mut tree = Tree::new(sources(), &FullRange::all(), direction);
            let grudging = Grudging::default();
            let mut seen = Vec::new();
            loop {
                match tree.advance(&grudging).unwrap() {
                    Step::End => break,
                    Step::Ready => seen.push((tree.peek().unwrap().key.to_vec(), tree.peek().unwrap().seq)),
                    Step::Missing(_) => {
                        prop_assert!(tree.peek().is_none(), "nothing is shown while bytes are missing");
                        // Only the last of what is missing comes.
                        let one = tree.missing().last().unwrap().clone();
                        let fetched = lab.fetcher.fetch(std::slice::from_ref(&one), Cause::Read).await.unwrap();
                        grudging.bring(&one, fetched.into_iter().next().unwrap());
                    }
                }
            }
            let mut expected: Vec<_> =
                (1..).zip(&ops).map(|(seq, op)| entry(op, seq)).map(|entry| (entry.key.to_vec(), entry.seq)).collect();
            expected.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
            if reverse {
                expected.reverse();
            }
            prop_assert_eq!(seen, expected);
            Ok(())
        })?;
    }
}

/// Gives out each block once, and only what was brought.
#[derive(Default)]
struct Grudging {
    tails: RefCell<BTreeMap<ObjectId, Arc<Tail>>>,
    blocks: RefCell<BTreeMap<(ObjectId, usize), Block>>,
}

impl Grudging {
    fn bring(&self, missing: &Missing, fetched: Fetched) {
        match (missing, fetched) {
            (Missing::Block(sst, index), Fetched::Block(block)) => {
                self.blocks.borrow_mut().insert((sst.id, *index), block);
            }
            (missing, Fetched::Tail(tail)) => {
                self.tails.borrow_mut().insert(missing.sst().id, tail);
            }
            other => panic!("{other:?}"),
        }
    }
}

impl BlockSource for Grudging {
    fn block(&self, sst: &Arc<OpenSst>, index: usize) -> Option<Block> {
        self.blocks.borrow_mut().remove(&(sst.id, index))
    }
    fn tail(&self, sst: &Arc<OpenSst>) -> Option<Arc<Tail>> {
        self.tails.borrow().get(&sst.id).cloned()
    }
}

/// Many puts of 100 keys a layer, all keys in all layers.
fn dense(layers: usize, keys: usize) -> (Vec<Op>, Vec<usize>) {
    let op = |key| Op { key, kind: Kind::Put, expire_at_ms: 0, value_bytes: 20, keyspace: 0 };
    let ops = (0..layers).flat_map(|_| (0..keys as u8).map(op)).collect();
    (ops, (1..layers).map(|layer| layer * keys).collect())
}

#[tokio::test]
async fn a_cold_get_is_a_round_for_tails_and_a_round_for_one_block() {
    let (ops, cuts) = dense(6, 40);
    let lab = Lab::new(8 << 20);
    let sv = lab.layers(&ops, &cuts, 64).await;
    let full = full_key(DEFAULT_KEYSPACE, &key(8)).unwrap();
    // Number 41 is in the second-oldest layer, so the runs above have the key and no version of it.
    let before = lab.gets();
    let value = get(&lab.fetcher, &sv, &full, 80, 0).await.unwrap().unwrap();
    assert!(value.starts_with(b"49:"), "{value:?}");
    assert_eq!(lab.gets() - before, 4 + 4, "a tail and a block of each of four runs");
    assert!(get_cached(&lab.fetcher, &sv, &full, 80, 0).is_some(), "everything is here now");
    assert_eq!(get(&lab.fetcher, &sv, &full, 80, 0).await.unwrap().unwrap(), value);
    assert_eq!(lab.gets() - before, 8);
}

#[tokio::test]
async fn a_multi_get_asks_for_what_all_keys_miss_together() {
    let (ops, cuts) = dense(4, 48);
    let lab = Lab::new(8 << 20);
    let sv = lab.layers(&ops, &cuts, 64).await;
    let keys: Vec<_> = (0..48).map(|n| full_key(DEFAULT_KEYSPACE, &key(n)).unwrap()).collect();
    let values = multi_get(&lab.fetcher, &sv, &keys, 96, 0).await.unwrap();
    assert!(values.iter().all(Option::is_some));
    let ssts = sv.view.runs.iter().map(|run| run.ssts.len() as u64).sum::<u64>();
    assert!(
        lab.gets() <= 2 * ssts,
        "{} gets for {ssts} SSTs: one for the tail, one for the blocks",
        lab.gets()
    );
}

#[tokio::test]
async fn a_short_scan_fetches_one_block_of_each_source_and_a_long_one_reads_ahead() {
    let ops: Vec<_> = (0..250)
        .map(|n| Op { key: n, kind: Kind::Put, expire_at_ms: 0, value_bytes: 200, keyspace: 0 })
        .collect();
    let lab = Lab::new(64 << 20);
    let mut entries: Vec<_> = (1..).zip(&ops).map(|(seq, op)| entry(op, seq)).collect();
    entries.sort_by(|a, b| a.key.cmp(&b.key));
    let run = lab.run(1, 0, &entries, 250, 64).await;
    let blocks = run.ssts[0].blocks;
    let memtable = || Arc::new(Memtable::new());
    let sv = Arc::new(SuperVersion { active: memtable(), frozen: vec![], view: Arc::new(view(vec![run])) });
    assert!(blocks > 200, "{blocks}");

    let rows = collect(lab.scan(&sv, KeyRange::all(), 250, 0).limit(1)).await.unwrap();
    assert_eq!((rows.len(), lab.gets()), (1, 2), "a tail and a block");
    assert_eq!(collect(lab.scan(&sv, KeyRange::all(), 250, 0)).await.unwrap().len(), 250);
    assert!(lab.gets() < 12, "{} gets for {blocks} blocks", lab.gets());
    let before = lab.gets();
    assert_eq!(collect(lab.scan(&sv, KeyRange::all(), 250, 0).rev()).await.unwrap().len(), 250);
    assert_eq!(lab.gets(), before, "a second scan is served from the cache");
}

#[tokio::test]
async fn readers_of_one_missing_block_share_its_request() {
    let (ops, _) = dense(1, 40);
    let lab = Lab::new(8 << 20);
    let sv = lab.layers(&ops, &[40, 40], 16384).await;
    let full = full_key(DEFAULT_KEYSPACE, &key(8)).unwrap();
    let reads = (0..20).map(|_| get(&lab.fetcher, &sv, &full, 80, 0));
    for value in futures::future::join_all(reads).await {
        assert!(value.unwrap().is_some());
    }
    assert_eq!(lab.gets(), 2);
}

#[tokio::test]
async fn a_bad_range_is_reported_by_the_first_row() {
    let lab = Lab::new(1 << 20);
    let sv = lab.layers(&[], &[], 64).await;
    let snapshot = Snapshot::new(lab.fetcher.clone(), sv, 0, SystemClock::shared());
    let mut scan = snapshot.scan("b".."a").rev().limit(3);
    assert_eq!(scan.next().await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(scan.next().await.unwrap(), None);
    assert_eq!(snapshot.get(vec![0; 70_000]).await.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn a_snapshot_looks_at_keyspaces_by_name() {
    let op = |keyspace| Op { key: 8, kind: Kind::Put, expire_at_ms: 0, value_bytes: 0, keyspace };
    let lab = Lab::new(1 << 20);
    let sv = lab.layers(&[op(0), op(1)], &[], 64).await;
    let mut root = sv.view.root.clone();
    root.keyspaces.push(esker::manifest::KeyspaceEntry { id: 1, name: "users".into() });
    let sv = SuperVersion { view: Arc::new(View::new(root, None).unwrap()), ..(*sv).clone() };
    let snapshot = Snapshot::new(lab.fetcher.clone(), Arc::new(sv), 2, SystemClock::shared());
    assert_eq!(snapshot.keyspaces(), ["default", "users"]);
    assert_eq!(snapshot.get(key(8)).await.unwrap().unwrap(), "1:");
    let users = snapshot.keyspace("users").unwrap();
    assert_eq!(users.get(key(8)).await.unwrap().unwrap(), "2:");
    assert_eq!(collect(users.scan_prefix("")).await.unwrap().len(), 1);
    assert!(snapshot.keyspace("orders").is_none());
    assert_eq!(users.keyspace("default").unwrap().get(key(8)).await.unwrap().unwrap(), "1:");
}

#[tokio::test]
async fn an_object_that_is_gone_expires_the_snapshot_and_is_named() {
    let (ops, cuts) = dense(3, 40);
    let lab = Lab::new(1 << 20);
    let sv = lab.layers(&ops, &cuts, 64).await;
    let sst = &sv.view.runs[0].ssts[0];
    lab.store.delete(&[Name::Sst(sst.id)], Cause::Gc).await.unwrap();
    let snapshot = Snapshot::new(lab.fetcher.clone(), Arc::clone(&sv), 120, SystemClock::shared());
    let error = collect(lab.scan(&sv, KeyRange::all(), 1, 0)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SnapshotExpired, "{error}");
    assert!(error.to_string().contains(&sst.id.to_string()), "{error}");
    let gone = esker::key::split_full_key(&sst.meta.first_key).unwrap().1;
    let error = Snapshot::new(lab.fetcher.clone(), Arc::clone(&sv), 1, SystemClock::shared())
        .get(gone)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SnapshotExpired, "{error}");
    assert!(snapshot.multi_get([gone]).await.is_ok(), "found in the memtable above");
}

#[tokio::test]
async fn a_flipped_byte_anywhere_is_corruption_that_names_the_object() {
    let ops: Vec<_> = (0..40)
        .map(|n| Op { key: n, kind: Kind::Put, expire_at_ms: 0, value_bytes: 3, keyspace: 0 })
        .collect();
    let mut entries: Vec<_> = (1..).zip(&ops).map(|(seq, op)| entry(op, seq)).collect();
    entries.sort_by(|a, b| a.key.cmp(&b.key));
    let lab = Lab::new(1 << 20);
    let run = lab.run(1, 0, &entries, 40, 200).await;
    let meta = run.ssts[0].clone();
    let memtable = || Arc::new(Memtable::new());
    for at in (0..meta.bytes).step_by(7) {
        // Fresh caches, so that every byte is read again.
        let fetcher = Fetcher::new(lab.store.clone(), BlockCache::in_memory(1 << 20), 7);
        let view = Arc::new(view(vec![run.clone()]));
        let sv = Arc::new(SuperVersion { active: memtable(), frozen: vec![], view });
        lab.tamper(&meta, |bytes| bytes[at as usize] ^= 0x10).await;
        let scan = Scan::new(fetcher.clone(), sv, DEFAULT_KEYSPACE, Ok(KeyRange::all()), 40, 0);
        let error = collect(scan).await.expect_err(&format!("byte {at} was flipped and nobody noticed"));
        assert!(matches!(error.kind(), ErrorKind::Corruption | ErrorKind::Unsupported), "byte {at}: {error}");
        assert!(
            error.object().is_some_and(|o| o.contains(&meta.object_id().to_string())),
            "byte {at}: {error}"
        );
        lab.tamper(&meta, |bytes| bytes[at as usize] ^= 0x10).await;
    }
    lab.tamper(&meta, |bytes| bytes.truncate(bytes.len() / 2)).await;
    let view = Arc::new(view(vec![run]));
    let sv = Arc::new(SuperVersion { active: memtable(), frozen: vec![], view });
    let error = collect(lab.scan(&sv, KeyRange::all(), 40, 0)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
}

#[tokio::test]
async fn pinned_tails_stay_within_their_limit_and_reads_still_work() {
    let (ops, cuts) = dense(8, 48);
    let lab = Lab::new(8 << 20);
    let sv = lab.layers(&ops, &cuts, 64).await;
    let fetcher = Fetcher::new(lab.store.clone(), BlockCache::in_memory(8 << 20), 7).pin_tails(4000);
    let scan =
        Scan::new(fetcher.clone(), Arc::clone(&sv), DEFAULT_KEYSPACE, Ok(KeyRange::all()), u64::MAX, 0);
    assert_eq!(collect(scan).await.unwrap().len(), 48);
    assert!(fetcher.tail_bytes() <= 4000, "{}", fetcher.tail_bytes());
    let pinned =
        sv.view.runs.iter().flat_map(|run| run.ssts.iter()).filter(|sst| sst.tail.load().is_some()).count();
    assert!(pinned > 0 && (pinned as u64) < 42, "{pinned}");
    for n in 0..48 {
        let full = full_key(DEFAULT_KEYSPACE, &key(n)).unwrap();
        assert!(get(&fetcher, &sv, &full, 48, 0).await.unwrap().is_some());
    }
}

#[test]
fn tokens_are_read_as_they_are_printed_and_nothing_else_is() {
    let token = esker::Token { epoch: 3, seq: 12345 };
    assert_eq!(token.to_string().parse::<esker::Token>().unwrap(), token);
    for bad in [
        "",
        "3",
        "3-",
        "-3",
        "3-+4",
        "03-4",
        "3-4 ",
        "3-4-5",
        "4294967296-1",
        "a-b",
        "3-18446744073709551616",
    ] {
        assert_eq!(bad.parse::<esker::Token>().unwrap_err().kind(), ErrorKind::Invalid, "{bad:?}");
    }
}

mod following {
    //! A reader beside a real writer, over one store.

    use std::{
        future::Future,
        pin::Pin,
        sync::{
            Arc,
            atomic::{AtomicU64, Ordering::Relaxed},
        },
        time::Duration,
    };

    use esker::{
        Compaction, Db, ErrorKind, Reader, Token,
        clock::{Clock, SharedClock, SystemClock},
        stats::{Cause, RequestKind},
        store::{Folder, Name, Store},
        testing::{Fault, FaultyStore, Operation, Rule},
    };
    use object_store::memory::InMemory;

    use crate::hasty::Hasty;

    struct Pair {
        objects: Arc<InMemory>,
        db: Db,
    }

    impl Pair {
        async fn new() -> Self {
            let objects = Arc::new(InMemory::new());
            Self { db: Self::writer(&objects).await, objects }
        }
        async fn writer(objects: &Arc<InMemory>) -> Db {
            let builder = Db::builder("memory").object_store(objects.clone());
            builder.compaction(Compaction::Off).open().await.unwrap()
        }
        fn store(&self, clock: SharedClock) -> Store {
            Store::from_object_store(self.objects.clone(), "memory", clock)
        }
        /// A reader that follows only when asked.
        async fn reader(&self) -> Reader {
            let store = self.store(SystemClock::shared());
            Reader::builder("memory").store(store).follow(false).open().await.unwrap()
        }
    }

    /// A clock whose short sleeps move it and pass at once; the long ones end when it has got that far.
    #[derive(Debug, Default)]
    struct Stepping {
        now_ms: Arc<AtomicU64>,
    }

    impl Clock for Stepping {
        fn wall_ms(&self) -> u64 {
            1_000_000 + self.now_ms.load(Relaxed)
        }
        fn monotonic(&self) -> Duration {
            Duration::from_millis(self.now_ms.load(Relaxed))
        }
        fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
            let (now_ms, length) = (Arc::clone(&self.now_ms), duration.as_millis() as u64);
            if duration < Duration::from_secs(6) {
                now_ms.fetch_add(length, Relaxed);
                return Box::pin(tokio::task::yield_now());
            }
            let due = now_ms.load(Relaxed) + length;
            Box::pin(async move {
                while now_ms.load(Relaxed) < due {
                    tokio::task::yield_now().await;
                }
            })
        }
        fn random(&self) -> u128 {
            SystemClock::shared().random()
        }
    }

    /// A builder of readers of what `pair` writes, through faults and a clock of its own.
    fn faulty(pair: &Pair) -> (FaultyStore, Arc<Stepping>, esker::ReaderBuilder) {
        let clock = Arc::new(Stepping::default());
        let faulty = FaultyStore::new(pair.objects.clone(), clock.clone(), 7);
        let builder = Reader::builder("memory").store(faulty.store()).follow(false);
        (faulty, clock, builder)
    }

    #[tokio::test]
    async fn a_round_that_failed_half_way_confirms_nothing() {
        let pair = Pair::new().await;
        let (faulty, clock, builder) = faulty(&pair);
        let reader = builder.deadline(Duration::from_secs(10)).open().await.unwrap();
        pair.db.put("a", "1").await.unwrap();
        pair.db.flush().await.unwrap();
        let from = pair.db.view().root.writer.replay_from;
        let store = pair.store(SystemClock::shared());
        let log = store.list(Folder::Wal, None, Cause::Gc).await.unwrap();
        let flushed: Vec<_> = log.into_iter().map(|listed| listed.name).collect();
        let flushed: Vec<_> = flushed
            .into_iter()
            .filter(|name| name.number().is_some_and(|slot| 1 < slot && slot < from))
            .collect();
        store.delete(&flushed, Cause::Gc).await.unwrap();
        pair.db.put("b", "2").await.unwrap();

        // The walk finds nothing, a newer version overtakes it, and the second walk fails.
        clock.now_ms.fetch_add(100_000, Relaxed);
        // The walk; the fence that must be there, what lies behind the absent slot, and that slot once more.
        faulty.add(Rule::on(Operation::Get).path("wal/").first(4).meets(Fault::Delay(Duration::ZERO)));
        faulty.add(Rule::on(Operation::Get).path("wal/").meets(Fault::FailBefore));
        assert_eq!(reader.strong().await.unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(reader.get("a").await.unwrap().unwrap(), "1", "it has adopted the newer version");
        faulty.clear();
        let bounded = reader.bounded(Duration::from_secs(60)).await.unwrap();
        assert_eq!(bounded.get("b").await.unwrap().unwrap(), "2", "it was durable 60 seconds ago");
    }

    #[tokio::test]
    async fn a_wait_for_a_write_outlasts_rounds_that_fail() {
        let pair = Pair::new().await;
        let (faulty, clock, builder) = faulty(&pair);
        let reader = builder.deadline(Duration::from_secs(300)).open().await.unwrap();
        let token = pair.db.put("a", "1").await.unwrap();
        faulty.add(Rule::on(Operation::Get).path("wal/").meets(Fault::FailBefore));
        let mended = async {
            while clock.now_ms.load(Relaxed) < 200_000 {
                tokio::task::yield_now().await;
            }
            faulty.clear();
        };
        let (seen, ()) = futures::join!(reader.at_least(token), mended);
        assert_eq!(seen.unwrap().get("a").await.unwrap().unwrap(), "1");
    }

    #[tokio::test]
    async fn a_long_log_behind_a_slow_link_is_opened_though_it_takes_longer_than_the_deadline() {
        let pair = Pair::new().await;
        for n in 0..40 {
            pair.db.put(format!("{n}"), "x").await.unwrap();
        }
        let (faulty, clock, builder) = faulty(&pair);
        faulty.add(Rule::on(Operation::Get).path("wal/").meets(Fault::Delay(Duration::from_secs(2))));
        let reader = builder.deadline(Duration::from_secs(20)).open().await.unwrap();
        assert!(clock.now_ms.load(Relaxed) > 60_000, "it took {} ms", clock.now_ms.load(Relaxed));
        assert_eq!(reader.get("39").await.unwrap().unwrap(), "x");
    }

    #[tokio::test]
    async fn an_sst_that_is_lost_is_corruption_for_scans_too_and_one_that_was_collected_is_not() {
        let pair = Pair::new().await;
        pair.db.put("a", "1").await.unwrap();
        pair.db.flush().await.unwrap();
        let reader = pair.reader().await;
        let lost: Vec<_> = reader.view().root.ssts().map(|sst| Name::Sst(sst.object_id())).collect();
        pair.store(SystemClock::shared()).delete(&lost, Cause::Gc).await.unwrap();
        for error in [
            reader.scan::<&str>(..).next().await.unwrap_err(),
            reader.get("a").await.unwrap_err(),
            reader.snapshot().get("a").await.unwrap_err(),
            pair.db.snapshot().scan::<&str>(..).next().await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
            assert!(error.to_string().contains("missing although the latest version names it"), "{error}");
            assert_eq!(error.object(), Some(lost[0].path().as_str()));
        }
    }

    #[tokio::test]
    async fn a_reader_opens_with_what_is_flushed_and_what_is_only_in_the_log() {
        let pair = Pair::new().await;
        pair.db.put("flushed", "1").await.unwrap();
        pair.db.flush().await.unwrap();
        pair.db.put("logged", "2").await.unwrap();
        pair.db.delete("nothing").await.unwrap();
        let reader = pair.reader().await;
        assert_eq!(reader.get("flushed").await.unwrap().unwrap(), "1");
        assert_eq!(reader.get("logged").await.unwrap().unwrap(), "2");
        assert_eq!(reader.get("nothing").await.unwrap(), None);
        let mut rows = reader.scan::<&str>(..).rev();
        assert_eq!(rows.next().await.unwrap().unwrap().key, "logged");
        assert_eq!(rows.next().await.unwrap().unwrap().key, "flushed");
        assert_eq!(rows.next().await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_token_waits_for_its_write_through_flushes_and_a_new_writer() {
        let pair = Pair::new().await;
        let reader = pair.reader().await;
        let mut db = pair.db.clone();
        for round in 0..40u32 {
            let token = db.put("k", round.to_string()).await.unwrap();
            assert_eq!(
                reader.at_least(token).await.unwrap().get("k").await.unwrap().unwrap(),
                round.to_string()
            );
            assert_eq!(
                reader.get("k").await.unwrap().unwrap(),
                round.to_string(),
                "what it has never goes back"
            );
            if round % 3 == 0 {
                db.put(format!("other {round}"), "").await.unwrap();
                db.flush().await.unwrap();
            }
            if round % 10 == 9 {
                db.close().await.unwrap();
                db = Pair::writer(&pair.objects).await;
            }
        }
        let mut rows = reader.strong().await.unwrap().scan_prefix("other");
        let mut count = 0;
        while rows.next().await.unwrap().is_some() {
            count += 1;
        }
        assert_eq!(count, 14);
    }

    #[tokio::test]
    async fn a_strong_read_sees_everything_acknowledged_before_it() {
        let pair = Pair::new().await;
        let reader = pair.reader().await;
        for round in 0..30u32 {
            pair.db.put("k", round.to_string()).await.unwrap();
            if round % 4 == 1 {
                pair.db.flush().await.unwrap();
            }
            let snapshots = futures::future::join_all((0..5).map(|_| reader.strong())).await;
            for snapshot in snapshots {
                assert_eq!(snapshot.unwrap().get("k").await.unwrap().unwrap(), round.to_string());
            }
        }
        let old = reader.snapshot();
        pair.db.put("k", "new").await.unwrap();
        assert_eq!(reader.strong().await.unwrap().get("k").await.unwrap().unwrap(), "new");
        assert_eq!(old.get("k").await.unwrap().unwrap(), "29", "a snapshot stays where it is");
    }

    #[tokio::test]
    async fn a_delete_that_was_compacted_away_does_not_show_the_key_again() {
        let pair = Pair::new().await;
        pair.db.put("k", "old").await.unwrap();
        let reader = pair.reader().await;
        assert!(reader.get("k").await.unwrap().is_some(), "it is in the reader's memtable");
        pair.db.delete("k").await.unwrap();
        pair.db.flush().await.unwrap();
        pair.db.compact().await.unwrap();
        assert_eq!(reader.strong().await.unwrap().get("k").await.unwrap(), None);
        assert_eq!(reader.get("k").await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_wait_for_a_write_that_never_comes_ends_in_unavailable() {
        let pair = Pair::new().await;
        let store = pair.store(Arc::new(Hasty::default()));
        let builder = Reader::builder("memory").store(store).follow(false).deadline(Duration::from_secs(20));
        let reader = builder.open().await.unwrap();
        let error = reader.at_least(Token { epoch: 1, seq: 1_000 }).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains("1-1000"), "{error}");
        assert!(error.hint_text().is_some());
    }

    #[tokio::test]
    async fn an_idle_reader_asks_for_two_or_three_objects_at_ever_longer_intervals_and_writes_nothing() {
        let pair = Pair::new().await;
        pair.db.put("k", "v").await.unwrap();
        let clock = Arc::new(Hasty::default());
        let reader = Reader::builder("memory").store(pair.store(clock.clone())).open().await.unwrap();
        let before = reader.store().stats().snapshot();
        let naps = clock.naps(100).await;
        let spent = reader.store().stats().snapshot().since(&before);
        assert!(naps.windows(2).all(|pair| pair[0] <= pair[1]), "{naps:?}");
        assert_eq!(*naps.last().unwrap(), Duration::from_secs(5));
        assert_eq!([RequestKind::Put, RequestKind::Delete].map(|kind| spent.total(kind)), [0; 2]);
        // After 8, 16, 32 and 64 rounds at the same end of the log it looks behind that.
        assert_eq!(spent.total(RequestKind::List), 4);
        let gets = spent.total(RequestKind::Get);
        assert!(
            // The log's next slot and the manifest's, and now and then the version it has.
            gets <= 3 * naps.len() as u64 && gets >= naps.len() as u64,
            "{gets} GETs in {} rounds",
            naps.len()
        );
        assert_eq!(reader.get("k").await.unwrap().unwrap(), "v");

        let token = pair.db.put("k", "w").await.unwrap();
        while reader.snapshot().seq() < token.seq {
            tokio::task::yield_now().await;
        }
        assert_eq!(reader.get("k").await.unwrap().unwrap(), "w", "followed without being asked");
        reader.close().await.unwrap();
    }

    #[tokio::test]
    async fn a_reader_that_fell_behind_the_floor_finds_the_latest_version_again() {
        let pair = Pair::new().await;
        pair.db.put("a", "1").await.unwrap();
        pair.db.flush().await.unwrap();
        let store = pair.store(Arc::new(Hasty::default()));
        let reader = Reader::builder("memory").store(store).follow(false).open().await.unwrap();
        let own = reader.view().id();
        for round in 0..5u32 {
            pair.db.put("a", round.to_string()).await.unwrap();
            pair.db.flush().await.unwrap();
        }
        let token = pair.db.put("b", "2").await.unwrap();
        // Everything but the latest version is collected, and the log that it does not need.
        let store = pair.store(SystemClock::shared());
        let latest = pair.db.view();
        let versions = store.list(Folder::Manifest, None, Cause::Gc).await.unwrap();
        let log = store.list(Folder::Wal, None, Cause::Gc).await.unwrap();
        let collected: Vec<_> = versions
            .into_iter()
            .chain(log)
            .map(|listed| listed.name)
            .filter(|name| match name {
                Name::Manifest(id) => *id < latest.id(),
                // A fence is never collected.
                Name::Wal(slot) => {
                    *slot < latest.root.writer.replay_from && *slot != latest.root.writer.fence_slot
                }
                _ => false,
            })
            .collect();
        store.delete(&collected, Cause::Gc).await.unwrap();
        assert!(collected.len() > 5);
        assert_eq!(reader.view().id(), own);
        assert_eq!(reader.at_least(token).await.unwrap().get("b").await.unwrap().unwrap(), "2");
        assert_eq!(reader.get("a").await.unwrap().unwrap(), "4");
        assert!(reader.view().id() > own);
    }

    #[tokio::test]
    async fn a_get_that_finds_its_sst_collected_follows_and_tries_again() {
        let pair = Pair::new().await;
        for key in ["a", "b"] {
            pair.db.put(key, key).await.unwrap();
            pair.db.flush().await.unwrap();
        }
        let reader = pair.reader().await;
        let old: Vec<_> = reader.view().root.ssts().map(|sst| Name::Sst(sst.object_id())).collect();
        let snapshot = reader.snapshot();
        for _ in 0..6 {
            pair.db.put("c", "c").await.unwrap();
            pair.db.flush().await.unwrap();
        }
        pair.db.compact().await.unwrap();
        let kept: Vec<_> = pair.db.view().root.ssts().map(|sst| Name::Sst(sst.object_id())).collect();
        assert!(old.iter().all(|name| !kept.contains(name)), "the compaction replaced them");
        pair.store(SystemClock::shared()).delete(&old, Cause::Gc).await.unwrap();
        assert_eq!(snapshot.get("a").await.unwrap_err().kind(), ErrorKind::SnapshotExpired);
        assert_eq!(reader.get("a").await.unwrap().unwrap(), "a");
        assert_eq!(
            reader.multi_get(["b", "x", "c"]).await.unwrap(),
            [Some("b".into()), None, Some("c".into())]
        );

        let lost: Vec<_> = reader.view().root.ssts().map(|sst| Name::Sst(sst.object_id())).collect();
        pair.store(SystemClock::shared()).delete(&lost, Cause::Gc).await.unwrap();
        let fresh = pair.reader().await;
        let error = fresh.get("a").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corruption, "what the latest version names is lost: {error}");
        assert!(error.object().is_some());
    }

    #[tokio::test]
    async fn a_hole_in_the_log_is_corruption_and_never_an_end() {
        let pair = Pair::new().await;
        pair.db.put("a", "1").await.unwrap();
        pair.db.flush().await.unwrap();
        pair.db.put("b", "2").await.unwrap();
        pair.db.put("c", "3").await.unwrap();
        let window = u64::from(pair.db.view().root.options.wal_window);
        for n in 0..window + 2 {
            pair.db.put(format!("more {n}"), "x").await.unwrap();
        }
        let reader = pair.reader().await;
        assert_eq!(reader.get("c").await.unwrap().unwrap(), "3");

        // The object of "b" is the first behind the replay point. More than a window of objects follows it.
        let store = pair.store(SystemClock::shared());
        let lost = Name::Wal(pair.db.view().root.writer.replay_from);
        store.delete(std::slice::from_ref(&lost), Cause::Gc).await.unwrap();
        let opened = Reader::builder("memory").store(store).follow(false).open().await;
        let error = opened.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
        assert_eq!(error.object(), Some(&*lost.path()));
    }

    #[tokio::test]
    async fn keyspaces_are_found_by_name_also_after_they_were_made() {
        let pair = Pair::new().await;
        let reader = pair.reader().await;
        let error = reader.keyspace("users").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("default"), "{error}");
        let users = pair.db.keyspace("users").await.unwrap();
        users.put("u", "1").await.unwrap();
        let there = reader.keyspace("users").await.unwrap();
        assert_eq!(there.strong().await.unwrap().get("u").await.unwrap().unwrap(), "1");
        assert_eq!(there.get("u").await.unwrap().unwrap(), "1");
        assert_eq!(reader.get("u").await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_reader_of_a_version_stays_there() {
        let pair = Pair::new().await;
        pair.db.put("a", "1").await.unwrap();
        pair.db.flush().await.unwrap();
        let id = pair.db.view().id();
        pair.db.put("a", "2").await.unwrap();
        let store = || pair.store(SystemClock::shared());
        let reader = Reader::builder("memory").store(store()).version(id).open().await.unwrap();
        pair.db.flush().await.unwrap();
        assert_eq!(reader.get("a").await.unwrap().unwrap(), "1");
        assert_eq!(reader.strong().await.unwrap_err().kind(), ErrorKind::Invalid);
        let missing = Reader::builder("memory").store(store()).version(id + 99).open().await;
        assert_eq!(missing.unwrap_err().kind(), ErrorKind::Invalid);
    }

    #[tokio::test]
    async fn a_closed_reader_says_so_and_what_was_open_goes_on() {
        let pair = Pair::new().await;
        let token = pair.db.put("a", "1").await.unwrap();
        let reader = pair.reader().await;
        let clone = reader.clone();
        reader.close().await.unwrap();
        assert_eq!(clone.get("a").await.unwrap().unwrap(), "1");
        assert!(clone.at_least(token).await.is_ok(), "it has it already");
        assert_eq!(clone.strong().await.unwrap_err().kind(), ErrorKind::Closed);
    }
}
