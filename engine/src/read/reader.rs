//! A reader: another process's view of a database, as fresh as each read asks for.
//!
//! | asked for | what it costs |
//! |---|---|
//! | [`snapshot`](Reader::snapshot): what this reader has | nothing |
//! | [`bounded`](Reader::bounded): confirmed within some age | nothing, or a round (about two round trips) |
//! | [`at_least`](Reader::at_least): includes a given write | nothing, or rounds until it does |
//! | [`strong`](Reader::strong): everything acknowledged before the call | a round, shared by all who ask |
//!
//! Always true: a reader writes nothing but pins, and those only for reads that last (and goes on without where
//! it may not); what it shows never goes back in time; every wait ends after the deadline.

use std::{ops::RangeBounds, path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use bytes::Bytes;
use esker_cache::{BlockCache, CacheOptions, CacheStats, SsdOptions};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::{
    Fetcher, Scan, Snapshot, Token,
    fetch::SCAN_BYTES,
    follow::{Ask, Current, Follower},
    get::{get, get_cached, stack_key},
    keeper::Hold,
    multi_get::multi_get,
};
use crate::{
    clock::{SharedClock, SystemClock, Task, deadline},
    error::{Error, ErrorKind, Result},
    key::{DEFAULT_KEYSPACE, KeyspaceId, full_key},
    manifest::{Manifest, View, checkpoint},
    memory::{Memory, MemoryStats},
    range::KeyRange,
    stats::Cause,
    store::{Store, is_missing},
};

/// Every wait of a reader ends after this unless [`ReaderBuilder::deadline`] says otherwise.
const DEADLINE: Duration = Duration::from_secs(30);

/// The block cache in memory unless [`ReaderBuilder::cache_bytes`] says otherwise.
const CACHE_BYTES: usize = 256 << 20;

/// Requests for rounds that may wait at once; more wait to be taken.
const ASKS: usize = 1024;

/// A wait for a write asks again after this, doubling.
const ASK_AGAIN: Duration = Duration::from_millis(10);
const ASK_AGAIN_MOST: Duration = Duration::from_millis(500);

/// A wait for a write that has lasted longer makes sure that the reader has not fallen behind.
const PATIENCE: Duration = Duration::from_secs(1);

/// Follows a database that another process writes. Cheap to clone; the last clone dropped stops the
/// background work.
///
/// ```no_run
/// # async fn f(token: esker::Token) -> esker::Result<()> {
/// let reader = esker::Reader::open("s3://bucket/prefix").await?;
/// let value = reader.get("k").await?;                        // what it has
/// let value = reader.at_least(token).await?.get("k").await?; // includes the write that gave `token`
/// let value = reader.strong().await?.get("k").await?;        // everything acknowledged before now
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Reader {
    core: Arc<Core>,
    keyspace: KeyspaceId,
}

#[derive(Debug)]
struct Core {
    fetcher: Fetcher,
    current: Arc<ArcSwap<Current>>,
    clock: SharedClock,
    deadline: Duration,
    /// None if the reader is fixed at a version.
    asks: Option<mpsc::Sender<Ask>>,
    following: Mutex<Option<Task>>,
    /// On the version that the reader is fixed at.
    _hold: Option<Arc<Hold>>,
}

/// Settings of a [`Reader`]; none must be set.
#[derive(Debug)]
pub struct ReaderBuilder {
    url: String,
    cache_bytes: usize,
    cache_dir: Option<(PathBuf, u64)>,
    memory_bytes: usize,
    deadline: Duration,
    follow: bool,
    at: At,
    store: Option<Store>,
}

/// Which version to read.
#[derive(Debug)]
enum At {
    /// The latest, and those that come after it.
    Latest,
    Version(u64),
    Checkpoint(String),
}

impl Reader {
    /// Opens the database at `url` for reading. The right to list and to get objects is enough; with the right to
    /// put objects under `pin/` as well, what a long scan or a snapshot reads is not collected meanwhile. Fails with `Invalid` if there is none, with
    /// `Unsupported` if a newer version wrote it, or as the store does.
    pub async fn open(url: impl AsRef<str>) -> Result<Self> {
        Self::builder(url).open().await
    }

    /// Settings first.
    pub fn builder(url: impl AsRef<str>) -> ReaderBuilder {
        ReaderBuilder {
            url: url.as_ref().to_owned(),
            cache_bytes: CACHE_BYTES,
            cache_dir: None,
            memory_bytes: SCAN_BYTES,
            deadline: DEADLINE,
            follow: true,
            at: At::Latest,
            store: None,
        }
    }

    /// What this reader has now, without waiting.
    pub fn snapshot(&self) -> Snapshot {
        let current = self.core.current.load();
        Snapshot::new(
            self.core.fetcher.clone(),
            Arc::clone(&current.sv),
            current.seq,
            Arc::clone(&self.core.clock),
        )
        .in_keyspace(self.keyspace)
    }

    /// Waits until the write of `token` is visible here, then gives a snapshot: a process that was handed
    /// the token reads what its giver wrote. Fails with `Unavailable` after the deadline, not before, however
    /// often the store fails meanwhile; at once with `Corruption`, `Unsupported` or `Closed`.
    pub async fn at_least(&self, token: Token) -> Result<Snapshot> {
        let clock = &self.core.clock;
        let (began, mut pause) = (clock.monotonic(), ASK_AGAIN);
        let mut last = None;
        loop {
            if self.core.current.load().seq >= token.seq {
                return Ok(self.snapshot());
            }
            let waited = clock.monotonic().saturating_sub(began);
            let left = self.core.deadline.saturating_sub(waited);
            if left.is_zero() {
                return Err(self.not_visible(token, last));
            }
            match self.core.ask(waited > PATIENCE, left).await {
                Ok(()) => last = None,
                Err(error) if error.kind() == ErrorKind::Unavailable => last = Some(error),
                Err(error) => return Err(error),
            }
            if self.core.current.load().seq < token.seq {
                let waited = clock.monotonic().saturating_sub(began);
                clock.sleep(pause.min(self.core.deadline.saturating_sub(waited))).await;
                pause = (pause * 2).min(ASK_AGAIN_MOST);
            }
        }
    }

    /// A snapshot that holds everything acknowledged before this call (linearizable): about two round
    /// trips, shared by all who ask meanwhile. Fails closed, with `Unavailable`, rather than show less.
    pub async fn strong(&self) -> Result<Snapshot> {
        self.core.ask(true, self.core.deadline).await?;
        Ok(self.snapshot())
    }

    /// A snapshot that was the newest at some moment within the last `age`.
    pub async fn bounded(&self, age: Duration) -> Result<Snapshot> {
        let confirmed = self.core.current.load().confirmed;
        if self.core.clock.monotonic().saturating_sub(confirmed) > age {
            self.core.ask(true, self.core.deadline).await?;
        }
        Ok(self.snapshot())
    }

    /// The same verbs on another keyspace. Fails with `Invalid`, naming those that exist, if there is none
    /// of that name.
    pub async fn keyspace(&self, name: &str) -> Result<Self> {
        let found = match self.snapshot().keyspace(name) {
            Some(snapshot) => Some(snapshot),
            None if self.core.asks.is_some() => self.strong().await?.keyspace(name),
            None => None,
        };
        match found {
            Some(snapshot) => Ok(Self { core: Arc::clone(&self.core), keyspace: snapshot.keyspace_id() }),
            None => Err(Error::invalid(format!("there is no keyspace {name:?}"))
                .hint(format!("this database has {}", self.snapshot().keyspaces().join(", ")))),
        }
    }

    /// The value of `key` in what this reader has; `None` if it has none. Fails with `Invalid` if the key
    /// is too long, with `Corruption`, or as the store does.
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Bytes>> {
        let key = stack_key(self.keyspace, key.as_ref())?;
        let now_ms = self.core.clock.wall_ms();
        let cached = {
            let current = self.core.current.load();
            get_cached(&self.core.fetcher, &current.sv, &key, current.seq, now_ms)
        };
        if let Some(answer) = cached {
            return answer;
        }
        let mut current = self.core.current.load_full();
        match get(&self.core.fetcher, &current.sv, &key, current.seq, now_ms).await {
            Err(error) if is_missing(&error) && self.core.asks.is_some() => {
                // Collected under us, which a newer version does not name any more.
                self.core.ask(true, self.core.deadline).await?;
                current = self.core.current.load_full();
                match get(&self.core.fetcher, &current.sv, &key, current.seq, now_ms).await {
                    Err(error) => Err(self.core.fetcher.expired(error).await),
                    answer => answer,
                }
            }
            answer => answer,
        }
    }

    /// The values of `keys`, in their order; round trips do not grow with their number. Fails as
    /// [`Self::get`] does.
    pub async fn multi_get<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Option<Bytes>>> {
        let keys =
            keys.into_iter().map(|key| full_key(self.keyspace, key.as_ref())).collect::<Result<Vec<_>>>()?;
        let now_ms = self.core.clock.wall_ms();
        let mut current = self.core.current.load_full();
        match multi_get(&self.core.fetcher, &current.sv, &keys, current.seq, now_ms).await {
            Err(error) if is_missing(&error) && self.core.asks.is_some() => {
                self.core.ask(true, self.core.deadline).await?;
                current = self.core.current.load_full();
                match multi_get(&self.core.fetcher, &current.sv, &keys, current.seq, now_ms).await {
                    Err(error) => Err(self.core.fetcher.expired(error).await),
                    answers => answers,
                }
            }
            answers => answers,
        }
    }

    /// The rows with keys in `range`, in what this reader has; an inverted range is reported by the first
    /// `next`.
    pub fn scan<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Scan {
        self.or_again(self.snapshot().scan(range))
    }

    /// The rows whose keys begin with `prefix`.
    pub fn scan_prefix(&self, prefix: impl AsRef<[u8]>) -> Scan {
        self.or_again(self.snapshot().scan_prefix(prefix))
    }

    /// The rows with keys in `range`.
    pub fn scan_range(&self, range: KeyRange) -> Scan {
        self.or_again(self.snapshot().scan_range(range))
    }

    /// The version of the manifest this reader is at.
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.core.current.load().sv.view)
    }

    /// The store, whose counters say what reading has cost.
    pub fn store(&self) -> &Store {
        self.core.fetcher.store()
    }

    /// Hits and misses of the block cache.
    pub fn cache_stats(&self) -> CacheStats {
        self.core.fetcher.cache().stats()
    }

    /// What scans hold.
    pub fn memory_stats(&self) -> MemoryStats {
        self.core.fetcher.memory().stats()
    }

    /// Stops following (for all clones) and writes what the cache has pending to its disk. Snapshots
    /// and scans go on.
    pub async fn close(self) -> Result<()> {
        let following = self.core.following.lock().take();
        drop(following);
        self.core.fetcher.close().await;
        Ok(())
    }

    /// A scan that nobody has seen a row of may as well begin at a newer version, if its own has been collected.
    fn or_again(&self, scan: Scan) -> Scan {
        if self.core.asks.is_none() {
            return scan;
        }
        let core = Arc::clone(&self.core);
        scan.or_again(Arc::new(move || {
            let core = Arc::clone(&core);
            Box::pin(async move {
                core.ask(true, core.deadline).await?;
                let current = core.current.load();
                Ok((Arc::clone(&current.sv), current.seq))
            })
        }))
    }

    /// The end of a wait for `token`; `last` is why the last round failed, if it did.
    fn not_visible(&self, token: Token, last: Option<Error>) -> Error {
        let has = self.core.current.load().seq;
        let error = Error::unavailable(format!(
            "the write {token} did not become visible within {:?}; this reader is at {has}",
            self.core.deadline
        ));
        match last {
            Some(last) => error.because(last),
            None => error.hint("was the write durable, and made to this database?"),
        }
    }
}

impl ReaderBuilder {
    /// Memory for cached blocks and tails, in bytes (256 MiB unless set). A quarter of it may be held by
    /// decoded filters and indexes besides.
    #[must_use]
    pub fn cache_bytes(mut self, bytes: usize) -> Self {
        self.cache_bytes = bytes;
        self
    }

    /// A directory on an SSD for `bytes` of cache that survive a restart (none unless set).
    #[must_use]
    pub fn cache_dir(mut self, dir: impl Into<PathBuf>, bytes: u64) -> Self {
        self.cache_dir = Some((dir.into(), bytes));
        self
    }

    /// Memory for what scans fetch ahead of their rows, in bytes over all scans (128 MiB unless set). Too little: long
    /// scans send many small requests, down to one a block. More than 64 MiB a long scan is not used.
    #[must_use]
    pub fn memory_bytes(mut self, bytes: usize) -> Self {
        self.memory_bytes = bytes;
        self
    }

    /// Every wait ends after this (30 s unless set) in `Unavailable`; opening, after this without progress.
    #[must_use]
    pub fn deadline(mut self, limit: Duration) -> Self {
        self.deadline = limit;
        self
    }

    /// Follow in the background (the default), or only when a read asks for freshness.
    #[must_use]
    pub fn follow(mut self, on: bool) -> Self {
        self.follow = on;
        self
    }

    /// Read at this version of the manifest, which must still exist, and stay there: flushed data only,
    /// nothing is followed.
    #[must_use]
    pub fn version(mut self, id: u64) -> Self {
        self.at = At::Version(id);
        self
    }

    /// Read the checkpoint of this name (see [`Db::checkpoint`](crate::Db::checkpoint)), and stay there. If it is
    /// deleted meanwhile, reads end in `SnapshotExpired`.
    ///
    /// ```no_run
    /// # async fn f() -> esker::Result<()> {
    /// let then = esker::Reader::builder("s3://bucket/prefix").checkpoint("before-migration").open().await?;
    /// let value = then.get("k").await?;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn checkpoint(mut self, name: impl Into<String>) -> Self {
        self.at = At::Checkpoint(name.into());
        self
    }

    /// Your own store instead of one from the URL.
    #[must_use]
    pub fn store(mut self, store: Store) -> Self {
        self.store = Some(store);
        self
    }

    /// Opens. Fails as [`Reader::open`] does; with `Invalid` if the asked version or checkpoint does not
    /// exist or the cache's directory cannot be used.
    pub async fn open(self) -> Result<Reader> {
        let store = match self.store {
            Some(store) => store,
            None => Store::open(&self.url, SystemClock::shared())?,
        };
        let clock = Arc::clone(store.clock());
        let (manifest, view) = match &self.at {
            At::Latest => Manifest::open_newest(store.clone()).await?,
            At::Version(id) => {
                let manifest = Manifest::open(store.clone()).await?;
                let view = manifest.version(*id, Cause::Open).await?.ok_or_else(|| {
                    Error::invalid(format!("there is no manifest version {id}"))
                        .hint("it may have been collected; `esker manifest` lists those that exist")
                })?;
                (manifest, view)
            }
            At::Checkpoint(name) => {
                let manifest = Manifest::open(store.clone()).await?;
                let copy = checkpoint::load(&manifest, name, Cause::Open).await?;
                let view = copy.view(&manifest, None, Cause::Open).await?;
                (manifest, view)
            }
        };
        let cache = BlockCache::open(CacheOptions {
            memory_bytes: self.cache_bytes,
            ssd: self.cache_dir.map(|(dir, bytes)| SsdOptions { dir, bytes }),
            ..CacheOptions::default()
        })
        .await
        .map_err(|error| Error::invalid(error.message))?;
        let mut fetcher = Fetcher::new(store, cache, manifest.identity().db_uuid)
            .pin_tails(self.cache_bytes / 4)
            .charging(Memory::of_one_use(self.memory_bytes))
            .asks(manifest.clone());
        // A checkpoint is kept as it is.
        if !matches!(self.at, At::Checkpoint(_)) {
            fetcher = fetcher.keeps(manifest.clone());
        }
        let is_fixed = !matches!(self.at, At::Latest);
        let hold = if is_fixed { fetcher.hold(&view) } else { None };

        let mut follower = Follower::new(manifest, view, Arc::clone(&clock), self.deadline);
        let current = follower.current();
        let (asks, following) = if is_fixed {
            (None, None)
        } else {
            follower.catch_up(Cause::Open).await?;
            let (asks, asked) = mpsc::channel(ASKS);
            (Some(asks), Some(Task::spawn(follower.run(asked, self.follow))))
        };
        let (deadline, following) = (self.deadline, Mutex::new(following));
        let core = Core { fetcher, current, clock, deadline, asks, following, _hold: hold };
        Ok(Reader { core: Arc::new(core), keyspace: DEFAULT_KEYSPACE })
    }
}

impl Core {
    /// Asks for a round that begins after this call, and waits for it, but not longer than `limit`.
    async fn ask(&self, certain: bool, limit: Duration) -> Result<()> {
        let Some(asks) = &self.asks else {
            return Err(Error::invalid("this reader is fixed at a version and does not follow the database")
                .hint("open it without `version` or `checkpoint`"));
        };
        let closed = || Error::closed("this reader has been closed");
        deadline(&*self.clock, limit, "following the database", async {
            let (reply, answer) = oneshot::channel();
            asks.send(Ask { certain, reply }).await.map_err(|_| closed())?;
            answer.await.map_err(|_| closed())?
        })
        .await
    }
}
