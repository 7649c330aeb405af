//! A fixed view of the whole database.
//!
//! A snapshot is a superversion and a number: it holds its memtables and the description of its SSTs,
//! so it costs next to nothing to take, writers do not know of it, and compaction has no list of snapshots to
//! respect. What is superseded stays for the database's retention; a snapshot that is held for longer than half
//! of that pins its version, and lets it go when the last clone is dropped. Where a pin cannot be written or kept
//! up, reads fail with `SnapshotExpired` once objects have been collected.
//!
//! Always true: every read of one snapshot sees the same writes; only expiry moves on, by the clock.

use std::{ops::RangeBounds, sync::Arc};

use bytes::Bytes;

use super::{
    Fetcher, Scan, SuperVersion,
    get::{get, get_cached, stack_key},
    keeper::Hold,
    multi_get::multi_get,
};
use crate::{
    clock::SharedClock,
    error::Result,
    key::{DEFAULT_KEYSPACE, KeyspaceId, Seq, full_key},
    range::{self, KeyRange},
};

/// The name of the keyspace that a database itself is.
const DEFAULT_NAME: &str = "default";

/// The whole database as of one write. Cheap to take and to clone.
///
/// ```no_run
/// # async fn f(db: esker::Db) -> esker::Result<()> {
/// let before = db.snapshot();
/// db.put("k", "new").await?;
/// assert_eq!(before.get("k").await?, None);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Snapshot {
    fetcher: Fetcher,
    sv: Arc<SuperVersion>,
    seq: Seq,
    keyspace: KeyspaceId,
    clock: SharedClock,
    hold: Option<Arc<Hold>>,
}

impl Snapshot {
    /// What is visible in `sv` at `seq`; the two go together (see [`pin`](super::superversion::pin)).
    pub fn new(fetcher: Fetcher, sv: Arc<SuperVersion>, seq: Seq, clock: SharedClock) -> Self {
        let hold = fetcher.hold(&sv.view);
        Self { fetcher, sv, seq, keyspace: DEFAULT_KEYSPACE, clock, hold }
    }

    /// The number of the newest write it sees.
    pub fn seq(&self) -> Seq {
        self.seq
    }

    /// The same snapshot, looking at another keyspace; `None` if there is no keyspace of that name.
    pub fn keyspace(&self, name: &str) -> Option<Self> {
        let id = match name {
            DEFAULT_NAME => DEFAULT_KEYSPACE,
            name => self.sv.view.keyspace(name)?,
        };
        Some(self.in_keyspace(id))
    }

    /// Names of all keyspaces; the default keyspace is "default" and comes first.
    pub fn keyspaces(&self) -> Vec<String> {
        let others = self.sv.view.root.keyspaces.iter().filter(|entry| entry.id != DEFAULT_KEYSPACE.0);
        std::iter::once(DEFAULT_NAME.to_owned()).chain(others.map(|entry| entry.name.clone())).collect()
    }

    /// The ranges of keys of which no entry is lost, ascending: all keys, unless there is a [hole](crate::sst::hole). Elsewhere
    /// a scan fails with `Corruption`, and so does a read, unless something newer than the loss is there.
    ///
    /// ```no_run
    /// # async fn f(snapshot: esker::Snapshot) -> esker::Result<()> {
    /// for range in snapshot.intact() {
    ///     let mut rows = snapshot.scan_range(range);
    ///     while let Some(row) = rows.next().await? {
    ///         println!("{}", row.key.escape_ascii());
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    pub fn intact(&self) -> Vec<KeyRange> {
        let holes = self.sv.view.root.ssts().filter(|sst| sst.is_hole());
        range::around(self.keyspace, holes.map(|hole| (&hole.first_key[..], &hole.last_key[..])).collect())
    }

    /// The value of `key`; `None` if it has none. Fails with `Invalid` if the key is too long, with
    /// `SnapshotExpired`, `Corruption`, or as the store does.
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Bytes>> {
        let key = stack_key(self.keyspace, key.as_ref())?;
        if let Some(answer) = get_cached(&self.fetcher, &self.sv, &key, self.seq, self.clock.wall_ms()) {
            return answer;
        }
        self.secure().await?;
        match get(&self.fetcher, &self.sv, &key, self.seq, self.clock.wall_ms()).await {
            Err(error) => Err(self.fetcher.expired(error).await),
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
        self.secure().await?;
        match multi_get(&self.fetcher, &self.sv, &keys, self.seq, self.clock.wall_ms()).await {
            Err(error) => Err(self.fetcher.expired(error).await),
            answers => answers,
        }
    }

    /// The rows with keys in `range`; an inverted range is reported by the first `next`.
    pub fn scan<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Scan {
        self.scan_result(KeyRange::new(range))
    }

    /// The rows whose keys begin with `prefix`.
    pub fn scan_prefix(&self, prefix: impl AsRef<[u8]>) -> Scan {
        self.scan_range(KeyRange::prefix(prefix))
    }

    /// The rows with keys in `range`.
    pub fn scan_range(&self, range: KeyRange) -> Scan {
        self.scan_result(Ok(range))
    }

    /// The same snapshot, looking at the keyspace with this number.
    pub(super) fn in_keyspace(&self, keyspace: KeyspaceId) -> Self {
        Self { keyspace, ..self.clone() }
    }

    /// The number of the keyspace it looks at.
    pub(super) fn keyspace_id(&self) -> KeyspaceId {
        self.keyspace
    }

    fn scan_result(&self, range: Result<KeyRange>) -> Scan {
        let (fetcher, sv, hold) = (self.fetcher.clone(), Arc::clone(&self.sv), self.hold.clone());
        Scan::held(fetcher, sv, self.keyspace, range, self.seq, self.clock.wall_ms(), hold)
    }

    /// To be awaited before fetching.
    async fn secure(&self) -> Result<()> {
        match &self.hold {
            Some(hold) => hold.secure().await,
            None => Ok(()),
        }
    }
}
