//! What the calls of a [`Db`](crate::Db) and its background tasks share.
//!
//! A read whose SSTs are gone, because another process merged and collected them, is repeated on the newest
//! version, as often as that is a newer one than before: that is how a database learns of an external compactor without asking the store for news.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;

use crate::{
    clock::{self, SharedClock},
    error::{Error, Result},
    key::{self, DEFAULT_KEYSPACE, KeyspaceId, full_key},
    manifest::{Edit, Manifest, View, checkpoint},
    range::KeyRange,
    read::{Fetcher, Scan, Snapshot, SuperVersion, get, multi_get, scan::Again},
    stats::Cause,
    store::{self, Name},
    write::Writer,
};

/// How often a read is repeated because what it was reading has been collected: each time there is a newer
/// version, so more than once or twice means merges and collections without pause.
const MOST_READS: usize = 16;

/// The name of the keyspace that the database itself is.
pub(super) const DEFAULT_NAME: &str = "default";

/// The shared parts of an open database.
pub(super) struct Core {
    writer: Arc<Writer>,
    manifest: Manifest,
    fetcher: Fetcher,
    clock: SharedClock,
    closed: AtomicBool,
    /// For scans that have not given a row yet.
    again: Again,
}

impl Core {
    pub(super) fn new(writer: Arc<Writer>, manifest: Manifest, fetcher: Fetcher) -> Self {
        let clock = writer.settings().clock.clone();
        let again = newest(&writer, &manifest);
        Self { writer, manifest, fetcher, clock, closed: AtomicBool::new(false), again }
    }

    pub(super) fn writer(&self) -> &Arc<Writer> {
        &self.writer
    }
    pub(super) fn manifest(&self) -> &Manifest {
        &self.manifest
    }
    pub(super) fn fetcher(&self) -> &Fetcher {
        &self.fetcher
    }
    pub(super) fn clock(&self) -> &SharedClock {
        &self.clock
    }
    pub(super) fn deadline(&self) -> Duration {
        self.writer.settings().deadline
    }

    /// From now on every call fails with `Closed`.
    pub(super) fn refuse(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// Fails if the database was closed.
    pub(super) fn open(&self) -> Result<()> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(Error::closed("the database was closed"));
        }
        Ok(())
    }

    /// The point read: a function call while every byte is in memory.
    pub(super) async fn get(&self, keyspace: KeyspaceId, user_key: &[u8]) -> Result<Option<Bytes>> {
        self.open()?;
        let full = get::stack_key(keyspace, user_key)?;
        let now_ms = self.clock.wall_ms();
        if let Some(answer) =
            self.writer.with_pinned(|sv, seq| get::get_cached(&self.fetcher, sv, &full, seq, now_ms))
        {
            return answer;
        }
        for _ in 0..MOST_READS {
            let (sv, seq) = self.writer.pin();
            match get::get(&self.fetcher, &sv, &full, seq, now_ms).await {
                Err(error) if self.has_moved_on(&sv, &error).await? => {}
                answer => return answer,
            }
        }
        Err(overtaken())
    }

    /// The point read, if it can be answered without waiting.
    pub(super) fn get_cached(&self, keyspace: KeyspaceId, user_key: &[u8]) -> Option<Result<Option<Bytes>>> {
        let full = match self.open().and_then(|()| get::stack_key(keyspace, user_key)) {
            Ok(full) => full,
            Err(error) => return Some(Err(error)),
        };
        let now_ms = self.clock.wall_ms();
        self.writer.with_pinned(|sv, seq| get::get_cached(&self.fetcher, sv, &full, seq, now_ms))
    }

    pub(super) fn full_keys<K: AsRef<[u8]>>(
        &self,
        keyspace: KeyspaceId,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Bytes>> {
        self.open()?;
        keys.into_iter().map(|key| full_key(keyspace, key.as_ref())).collect()
    }

    pub(super) async fn multi_get(&self, full_keys: Vec<Bytes>) -> Result<Vec<Option<Bytes>>> {
        let now_ms = self.clock.wall_ms();
        for _ in 0..MOST_READS {
            let (sv, seq) = self.writer.pin();
            match multi_get::multi_get(&self.fetcher, &sv, &full_keys, seq, now_ms).await {
                Err(error) if self.has_moved_on(&sv, &error).await? => {}
                answer => return answer,
            }
        }
        Err(overtaken())
    }

    pub(super) fn scan(&self, keyspace: KeyspaceId, range: Result<KeyRange>) -> Scan {
        if let Err(closed) = self.open() {
            return Scan::failed(closed);
        }
        let (sv, seq) = self.writer.pin();
        Scan::new(self.fetcher.clone(), sv, keyspace, range, seq, self.clock.wall_ms())
            .or_again(self.again.clone())
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let (sv, seq) = self.writer.pin();
        Snapshot::new(self.fetcher.clone(), sv, seq, self.clock.clone())
    }

    /// The number of the keyspace `name`, which is created if it is new.
    pub(super) async fn keyspace(&self, name: &str) -> Result<KeyspaceId> {
        self.open()?;
        if name == DEFAULT_NAME {
            return Ok(DEFAULT_KEYSPACE);
        }
        key::check_keyspace(name)?;
        let view = self.writer.current().load().view.clone();
        if let Some(id) = view.keyspace(name) {
            return Ok(id);
        }
        let edit = Edit::CreateKeyspace { epoch: self.writer.settings().epoch, name: name.to_owned() };
        let view = self.manifest.commit_if_there(&view, &edit, Cause::Manifest).await?;
        self.writer.publish(&view);
        view.keyspace(name).ok_or_else(|| {
            Error::corruption(
                Name::Manifest(view.id()).path(),
                0,
                format!("the keyspace {name:?} is not in it"),
            )
        })
    }

    /// Freezes the memtable and waits until everything up to here is in SSTs.
    pub(super) async fn flush(&self) -> Result<()> {
        self.open()?;
        let target = self.writer.freeze()?;
        let mut progress = self.writer.progress();
        clock::deadline(&*self.clock, self.deadline(), "the flush", async {
            let now = progress.wait_for(|now| now.flushed_seq >= target || now.stopped.is_some()).await;
            match now.stopped {
                Some(error) if now.flushed_seq < target => Err(error),
                _ => Ok(()),
            }
        })
        .await
    }

    /// Commits how far the log goes, if something has been written since a version said so: then a log that loses its
    /// end is told from one that ends there. A GET, a PUT and a LIST for a whole session; a flush says it for nothing.
    pub(super) async fn commit_tail(&self) -> Result<()> {
        let view = self.writer.current().load().view.clone();
        let slot = self.writer.pipe().durable_slot();
        if slot <= view.root.writer.tail_hint {
            return Ok(());
        }
        let edit = Edit::Tail { epoch: self.writer.settings().epoch, slot };
        let view = self.manifest.commit_if_there(&view, &edit, Cause::Manifest).await?;
        self.writer.publish(&view);
        Ok(())
    }

    /// Flushes, and keeps what there is then under `name`.
    pub(super) async fn checkpoint(&self, name: &str) -> Result<Arc<View>> {
        Name::checkpoint(name)?;
        self.flush().await?;
        checkpoint::create(&self.manifest, name).await
    }

    /// Whether `error` says that an SST is gone and there is a newer version, which is in use when this
    /// returns: then the read is worth repeating.
    async fn has_moved_on(&self, sv: &SuperVersion, error: &Error) -> Result<bool> {
        if !store::is_missing(error) {
            return Ok(false);
        }
        let newest = self.manifest.latest(Cause::Read).await?;
        self.writer.publish(&newest);
        Ok(newest.id() > sv.view.id())
    }
}

fn overtaken() -> Error {
    Error::unavailable(format!(
        "what a read needed was merged and collected {MOST_READS} times while it read"
    ))
    .hint("a longer retention, or collecting less often, leaves readers time")
}

/// Before its first row, a scan of a version that another process has collected may as well begin at the newest.
fn newest(writer: &Arc<Writer>, manifest: &Manifest) -> Again {
    let (writer, manifest) = (Arc::clone(writer), manifest.clone());
    Arc::new(move || {
        let (writer, manifest) = (Arc::clone(&writer), manifest.clone());
        Box::pin(async move {
            writer.publish(&manifest.latest(Cause::Read).await?);
            Ok(writer.pin())
        })
    })
}
