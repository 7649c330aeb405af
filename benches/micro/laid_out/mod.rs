//! A database laid out by hand for the read benchmarks: runs of one SST each in a store in memory.

use std::sync::Arc;

use bytes::Bytes;
use esker::{
    clock::SystemClock,
    codec::frame::Codec,
    key::{EntryRef, Kind},
    manifest::{Root, Run, StoredOptions, View},
    memtable::Memtable,
    read::{Fetcher, SuperVersion},
    sst::{SstBuilder, SstOptions},
    stats::Cause,
    store::{Name, ObjectId, Role, Store},
};
use esker_cache::BlockCache;

/// What a read needs.
pub struct LaidOut {
    /// Fetches through a cache that is larger than the data.
    pub fetcher: Fetcher,
    /// The runs, and an empty memtable.
    pub sv: Arc<SuperVersion>,
}

impl LaidOut {
    /// `count` keys with values of 100 bytes; key `n` goes to the run `run_of(n)`, 0 the newest.
    pub async fn new(count: u64, runs: u64, run_of: impl Fn(u64) -> u64, key: impl Fn(u64) -> Bytes) -> Self {
        let store = Store::open("memory://bench", SystemClock::shared()).expect("a store in memory");
        let fetcher = Fetcher::new(store.clone(), BlockCache::in_memory(1 << 30), u128::from(runs));
        let mut views = Vec::new();
        for run in 0..runs {
            let id =
                ObjectId { role: Role::Writer, epoch: 1, counter: run, nonce: store.clock().random() as u64 };
            let options = SstOptions {
                block_bytes: 16 << 10,
                restart_interval: 16,
                codec: Codec::Lz4,
                filter_bits_per_key: 10,
            };
            let mut builder = SstBuilder::new(id, options);
            for n in (0..count).filter(|n| run_of(*n) == run) {
                let key = key(n);
                let entry =
                    EntryRef { key: &key, seq: n + 1, kind: Kind::Put, expire_at_ms: 0, value: &[7; 100] };
                builder.add(entry).expect("in order");
            }
            let mut chunks = builder.take_ready();
            let finished = builder.finish().expect("not empty");
            chunks.extend(finished.chunks);
            store.put_new(&Name::Sst(id), chunks, Cause::Flush).await.expect("a store in memory");
            views.push(Run { id: run + 1, level: 0, ssts: vec![finished.meta], parts: Vec::new() });
        }
        let root = Root { runs: views, ..Root::first(1, StoredOptions::default()) };
        let view = Arc::new(View::new(root, None).expect("laid out well"));
        Self {
            fetcher,
            sv: Arc::new(SuperVersion { active: Arc::new(Memtable::new()), frozen: Vec::new(), view }),
        }
    }
}
