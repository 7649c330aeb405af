//! Opening a database: options, store, manifest, fence, replay, tasks.

use std::{path::PathBuf, sync::Arc, time::Duration};

use crate::{
    clock::{SharedClock, SystemClock},
    db::{Db, Handle, background::Tasks, core::Core},
    error::{Error, Result},
    manifest::{Manifest, StoredOptions, StoredShape},
    options::{Compaction, Options},
    read::Fetcher,
    store::{Folder, ObjectStore, Sequence, Store},
    wal::writer::LogWriter,
    write::{
        Writer,
        fence::{self, Opened},
        head::Settings,
    },
};

/// How to open a database; made by [`Db::builder`].
///
/// ```no_run
/// # async fn run() -> esker::Result<()> {
/// let db = esker::Db::builder("s3://bucket/prefix")
///     .memory_bytes(512 << 20)
///     .cache_dir("/var/cache/esker", 100 << 30)
///     .compaction(esker::Compaction::Off)
///     .open()
///     .await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "a builder opens nothing until open() is awaited"]
pub struct Builder {
    url: String,
    options: Options,
    memtable_bytes: Option<usize>,
    stored: StoredOptions,
    object_store: Option<Arc<dyn ObjectStore>>,
    clock: Option<SharedClock>,
}

impl Builder {
    pub(super) fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            options: Options::default(),
            memtable_bytes: None,
            stored: StoredOptions::standard(),
            object_store: None,
            clock: None,
        }
    }

    /// All process options at once; see [`Options`].
    pub fn options(mut self, options: Options) -> Self {
        self.memtable_bytes = Some(options.memtable_bytes);
        self.options = options;
        self
    }
    /// The memory budget for writing, scans and merges, in bytes; see [`Options::memory_bytes`].
    pub fn memory_bytes(mut self, bytes: usize) -> Self {
        self.options.memory_bytes = bytes;
        self
    }
    /// The size at which a memtable is flushed, in bytes; see [`Options::memtable_bytes`].
    pub fn memtable_bytes(mut self, bytes: usize) -> Self {
        self.memtable_bytes = Some(bytes);
        self
    }
    /// The memory of the block cache, in bytes; see [`Options::cache_bytes`].
    pub fn cache_bytes(mut self, bytes: usize) -> Self {
        self.options.cache_bytes = bytes;
        self
    }
    /// A directory on SSD for the block cache, and its size in bytes. One process at a time uses it.
    pub fn cache_dir(mut self, dir: impl Into<PathBuf>, bytes: u64) -> Self {
        self.options.cache_dir = Some((dir.into(), bytes));
        self
    }
    /// Who merges.
    pub fn compaction(mut self, who: Compaction) -> Self {
        self.options.compaction = who;
        self
    }
    /// Every wait ends after this; see [`Options::deadline`].
    pub fn deadline(mut self, limit: Duration) -> Self {
        self.options.deadline = limit;
        self
    }
    /// Fail instead of creating when there is no database.
    pub fn must_exist(mut self) -> Self {
        self.options.create = false;
        self
    }
    /// A name for this process in the messages of those it fences.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.options.name = Some(name.into());
        self
    }

    /// Bytes of a block before compression: the unit of cache and checksum. This setting and those below are
    /// stored at creation and read by everyone afterwards; for a database that exists they are ignored.
    pub fn block_bytes(mut self, bytes: u32) -> Self {
        self.stored.block_bytes = bytes;
        self
    }
    /// SSTs are cut at this size, in bytes.
    pub fn sst_bytes(mut self, bytes: u64) -> Self {
        self.stored.sst_bytes = bytes;
        self
    }
    /// The shape of the tree: how many runs a level may have, and how much larger the next one is.
    pub fn shape(mut self, shape: StoredShape) -> Self {
        self.stored.shape = shape;
        self
    }
    /// How long superseded versions are kept. Reads that take longer than half of it pin their version, for two
    /// requests and another now and then; with zero every read that fetches is pinned first.
    pub fn retention(mut self, keep: Duration) -> Self {
        self.stored.retention_ms = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX);
        self
    }
    /// K, the log objects that may be in flight at once: more hide a slow store better, fewer bound what an
    /// opener has to probe.
    pub fn wal_window(mut self, slots: u32) -> Self {
        self.stored.wal_window = slots;
        self
    }
    /// Your own store instead of one from the URL, which is only a label then.
    pub fn object_store(mut self, store: Arc<dyn ObjectStore>) -> Self {
        self.object_store = Some(store);
        self
    }
    /// Your own clock: time, chance and sleeping, for tests and simulation.
    pub fn clock(mut self, clock: SharedClock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Opens the database and takes over writing: whoever wrote before is fenced.
    ///
    /// Fails with `Invalid` for an option or URL that cannot be, and for a database that must exist and does
    /// not; `Fenced` if yet another process took over meanwhile; `Unavailable` if the store does not answer;
    /// `Corruption` if what is there cannot be trusted; `Unsupported` if it was written by a newer version, or
    /// the store cannot do what is needed.
    pub async fn open(self) -> Result<Db> {
        let mut options = self.options;
        options.memtable_bytes =
            self.memtable_bytes.unwrap_or_else(|| Options::memtable_for(options.memory_bytes));
        options.check()?;
        self.stored.check()?;
        let clock = self.clock.unwrap_or_else(SystemClock::shared);
        let store = match self.object_store {
            Some(own) => Store::from_object_store(own, &self.url, clock.clone()),
            None => Store::open(&self.url, clock.clone())?,
        };
        let cache = open_cache(&options).await?;
        let create = options.create.then_some(self.stored);
        let (manifest, newest) = Manifest::open_to_commit(store, create).await?;
        let name = options.name.clone().unwrap_or_else(process_name);
        let Opened { start, epoch, writer_uuid } =
            fence::open(&manifest, newest, &name, options.memtable_bytes).await?;

        let settings = Settings {
            epoch,
            memtable_bytes: options.memtable_bytes,
            memory_bytes: options.memory_bytes,
            deadline: options.deadline,
            heed_l0: options.compaction == Compaction::InProcess,
            clock: clock.clone(),
        };
        let writer = Arc::new(Writer::new(settings, start));
        let identity = manifest.identity();
        let log = LogWriter {
            sequence: Sequence::new(manifest.store().clone(), Folder::Wal),
            db_uuid: identity.db_uuid,
            writer_uuid,
            epoch,
            window: identity.wal_window.max(1) as usize,
            memory: writer.budget().memory().clone(),
            clock,
        };
        let fetcher = Fetcher::new(manifest.store().clone(), cache, identity.db_uuid)
            .pin_tails(options.cache_bytes / 4)
            .asks(manifest.clone())
            .keeps(manifest.clone())
            .charging(writer.budget().memory().clone());
        let core = Arc::new(Core::new(writer, manifest, fetcher));
        let tasks = Tasks::start(&core, log, options.compaction, name);
        Ok(Db { handle: Arc::new(Handle { core, tasks, closed: tokio::sync::OnceCell::new() }) })
    }
}

async fn open_cache(options: &Options) -> Result<esker_cache::BlockCache> {
    let ssd = options.cache_dir.clone().map(|(dir, bytes)| esker_cache::SsdOptions { dir, bytes });
    let wanted = esker_cache::CacheOptions {
        memory_bytes: options.cache_bytes,
        ssd,
        ..esker_cache::CacheOptions::default()
    };
    esker_cache::BlockCache::open(wanted).await.map_err(|error| {
        Error::invalid(format!("the block cache could not be opened: {}", error.message))
            .hint("give another cache directory, or none")
    })
}

/// Host and process, for the sentence that a fenced writer prints.
fn process_name() -> String {
    let host = ["HOSTNAME", "COMPUTERNAME"]
        .iter()
        .find_map(|variable| std::env::var(variable).ok())
        .or_else(|| std::fs::read_to_string("/proc/sys/kernel/hostname").ok())
        .map(|host| host.trim().chars().take(200).collect::<String>())
        .filter(|host| !host.is_empty())
        .unwrap_or_else(|| "a process".to_owned());
    format!("{host}:{}", std::process::id())
}
