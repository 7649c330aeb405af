//! What the calls of a [`Db`](crate::Db) and its background tasks share.
//!
//! A read takes the version first and the visible number after it: whatever the version's SSTs hold was
//! visible before the version was in use, so the number covers it, and no merge needs to know of readers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use smallvec::SmallVec;

use crate::{
    clock::{self, SharedClock},
    error::{Error, ErrorKind, Result},
    key::{DEFAULT_KEYSPACE, KEYSPACE_BYTES, KeyspaceId, Seq, check_key, full_key},
    manifest::{Edit, Manifest},
    range::KeyRange,
    read::{Fetcher, Scan, Snapshot, SuperVersion, get, multi_get},
    stats::Cause,
    write::Writer,
};

/// The name of the keyspace that the database itself is.
pub(super) const DEFAULT_NAME: &str = "default";

/// The shared parts of an open database.
#[derive(Debug)]
pub(super) struct Core {
    writer: Arc<Writer>,
    manifest: Manifest,
    fetcher: Fetcher,
    clock: SharedClock,
    closed: AtomicBool,
}

impl Core {
    pub(super) fn new(writer: Arc<Writer>, manifest: Manifest, fetcher: Fetcher) -> Self {
        let clock = writer.settings().clock.clone();
        Self { writer, manifest, fetcher, clock, closed: AtomicBool::new(false) }
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
        if let Some(answer) = self.get_cached(keyspace, user_key) {
            return answer;
        }
        let full = full_key(keyspace, user_key)?;
        let (sv, seq) = self.now();
        let now_ms = self.clock.wall_ms();
        match get::get(&self.fetcher, &sv, &full, seq, now_ms).await {
            Err(error) if self.has_moved_on(&sv, &error).await? => {
                let (sv, seq) = self.now();
                get::get(&self.fetcher, &sv, &full, seq, now_ms).await
            }
            answer => answer,
        }
    }

    /// The point read, if it can be answered without waiting.
    pub(super) fn get_cached(&self, keyspace: KeyspaceId, user_key: &[u8]) -> Option<Result<Option<Bytes>>> {
        if let Err(error) = self.open().and_then(|()| check_key(user_key)) {
            return Some(Err(error));
        }
        let mut full: SmallVec<[u8; 124]> = SmallVec::with_capacity(KEYSPACE_BYTES + user_key.len());
        full.extend_from_slice(&keyspace.0.to_be_bytes());
        full.extend_from_slice(user_key);
        let sv = self.writer.current().load();
        let seq = self.writer.visible();
        get::get_cached(&self.fetcher, &sv, &full, seq, self.clock.wall_ms())
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
        let (sv, seq) = self.now();
        let now_ms = self.clock.wall_ms();
        match multi_get::multi_get(&self.fetcher, &sv, &full_keys, seq, now_ms).await {
            Err(error) if self.has_moved_on(&sv, &error).await? => {
                let (sv, seq) = self.now();
                multi_get::multi_get(&self.fetcher, &sv, &full_keys, seq, now_ms).await
            }
            answer => answer,
        }
    }

    pub(super) fn scan(&self, keyspace: KeyspaceId, range: Result<KeyRange>) -> Scan {
        if let Err(closed) = self.open() {
            return Scan::failed(closed);
        }
        let (sv, seq) = self.now();
        Scan::new(self.fetcher.clone(), sv, keyspace, range, seq, self.clock.wall_ms())
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let (sv, seq) = self.now();
        Snapshot::new(self.fetcher.clone(), sv, seq, self.clock.clone())
    }

    /// The number of the keyspace `name`, which is created if it is new.
    pub(super) async fn keyspace(&self, name: &str) -> Result<KeyspaceId> {
        self.open()?;
        if name == DEFAULT_NAME {
            return Ok(DEFAULT_KEYSPACE);
        }
        if name.is_empty() || name.len() > 255 {
            return Err(Error::invalid(format!("a keyspace's name of {} bytes is not 1 to 255 bytes", name.len())));
        }
        let view = self.writer.current().load().view.clone();
        if let Some(id) = view.keyspace(name) {
            return Ok(id);
        }
        let edit = Edit::CreateKeyspace { epoch: self.writer.settings().epoch, name: name.to_owned() };
        let view = self.manifest.commit(&view, &edit, Cause::Manifest).await?;
        self.writer.publish(&view);
        view.keyspace(name).ok_or_else(|| {
            Error::corruption(crate::store::Name::Manifest(view.id()).path(), 0, format!("the keyspace {name:?} is not in it"))
        })
    }

    /// Freezes the memtable and waits until everything up to here is in SSTs.
    pub(super) async fn flush(&self) -> Result<()> {
        self.open()?;
        let target = self.writer.freeze()?;
        let mut progress = self.writer.progress();
        clock::deadline(&*self.clock, self.deadline(), "the flush", async {
            let reached = progress.wait_for(|now| now.flushed_seq >= target || now.stopped.is_some()).await;
            let now = reached.map_err(|_| Error::closed("the database was dropped"))?;
            match &now.stopped {
                Some(error) if now.flushed_seq < target => Err(error.clone()),
                _ => Ok(()),
            }
        })
        .await
    }

    /// A version, and a number that covers it and is not above it.
    fn now(&self) -> (Arc<SuperVersion>, Seq) {
        loop {
            let sv = self.writer.current().load_full();
            let seq = self.writer.visible();
            // If a memtable was frozen in between, the number may lie in one that this version lacks.
            if Arc::ptr_eq(&sv.active, &self.writer.current().load().active) {
                return (sv, seq);
            }
        }
    }

    /// Whether `error` may come from reading a version whose SSTs have been merged and collected by another
    /// process: then the newest version is in use when this returns, and the read is worth repeating.
    async fn has_moved_on(&self, sv: &SuperVersion, error: &Error) -> Result<bool> {
        if error.kind() != ErrorKind::Corruption && error.kind() != ErrorKind::SnapshotExpired {
            return Ok(false);
        }
        let newest = self.manifest.latest(Cause::Read).await?;
        self.writer.publish(&newest);
        Ok(newest.id() > sv.view.id())
    }
}
