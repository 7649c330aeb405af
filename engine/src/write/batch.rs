//! Several changes that become visible and durable together.
//!
//! A batch is one arena of full keys and values, and a list that says where each change lies in it: two
//! growing buffers, however many changes.
//!
//! Always true: a batch is applied whole or not at all; within it, the later change of a key wins.

use std::time::Duration;

use crate::{
    error::{Error, Result},
    key::{KEYSPACE_BYTES, KeyspaceId, Kind, NEVER, check_key, check_value},
    wal::Op,
};

/// The most bytes of keys and values one batch may hold. A batch is one object of the log.
pub const MAX_BATCH_BYTES: usize = 256 << 20;

/// An atomic batch, across keyspaces.
///
/// ```
/// # async fn run(db: &esker::Db, users: &esker::Keyspace) -> esker::Result<()> {
/// let mut batch = esker::WriteBatch::new();
/// batch.put(users, "ada", "countess").delete(db, "stale");
/// db.write(batch).await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Default, Clone)]
pub struct WriteBatch {
    arena: Vec<u8>,
    changes: Vec<Change>,
    /// The first change that can never be written; reported when the batch is.
    refused: Option<Error>,
}

/// What a batch entry can be put in: a `&Db` (its default keyspace) or a `&Keyspace`.
pub trait In {
    /// The keyspace's number.
    fn keyspace_id(&self) -> KeyspaceId;
}

#[derive(Debug, Clone, Copy)]
struct Change {
    kind: Kind,
    start: usize,
    key_bytes: usize,
    value_bytes: usize,
    expiry: Expiry,
}

#[derive(Debug, Clone, Copy)]
enum Expiry {
    /// At this wall-clock millisecond; [`NEVER`] for never.
    At(u64),
    /// This long after the batch is written.
    After(Duration),
}

impl WriteBatch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `key` to `value`. A key or value over its limit is reported when the batch is written.
    pub fn put(&mut self, keyspace: &impl In, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> &mut Self {
        self.push(keyspace, Kind::Put, key.as_ref(), value.as_ref(), Expiry::At(NEVER))
    }

    /// Sets `key` to `value` for `ttl`, counted from when the batch is written.
    pub fn put_ttl(
        &mut self,
        keyspace: &impl In,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        ttl: Duration,
    ) -> &mut Self {
        self.push(keyspace, Kind::Put, key.as_ref(), value.as_ref(), Expiry::After(ttl))
    }

    /// Sets `key` to `value` until `expire_at_ms`, in wall-clock milliseconds since 1970 (0: never). What
    /// loading an export uses.
    pub fn put_expiring_at(
        &mut self,
        keyspace: &impl In,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        expire_at_ms: u64,
    ) -> &mut Self {
        self.push(keyspace, Kind::Put, key.as_ref(), value.as_ref(), Expiry::At(expire_at_ms))
    }

    /// Removes `key`, whether or not it is there.
    pub fn delete(&mut self, keyspace: &impl In, key: impl AsRef<[u8]>) -> &mut Self {
        self.push(keyspace, Kind::Delete, key.as_ref(), &[], Expiry::At(NEVER))
    }

    /// The number of changes.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether there is no change in it.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.refused.is_none()
    }

    /// Bytes of keys and values.
    pub fn bytes(&self) -> usize {
        self.arena.len() - self.changes.len() * KEYSPACE_BYTES
    }

    /// Fails if the batch can never be written.
    pub(super) fn check(&self) -> Result<()> {
        match &self.refused {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    /// Whether any change counts its expiry from now, so that the clock must be read.
    pub(super) fn needs_now(&self) -> bool {
        self.changes.iter().any(|change| matches!(change.expiry, Expiry::After(_)))
    }

    /// The changes in order; expiries counted from `now_ms`.
    pub(super) fn ops(&self, now_ms: u64) -> impl ExactSizeIterator<Item = Op<'_>> + Clone {
        self.changes.iter().map(move |change| {
            let (key, rest) = self.arena[change.start..].split_at(change.key_bytes);
            Op {
                kind: change.kind,
                key,
                expire_at_ms: match change.expiry {
                    Expiry::At(ms) => ms,
                    Expiry::After(ttl) => expire_at(now_ms, ttl),
                },
                value: &rest[..change.value_bytes],
            }
        })
    }

    fn push(
        &mut self,
        keyspace: &impl In,
        kind: Kind,
        key: &[u8],
        value: &[u8],
        expiry: Expiry,
    ) -> &mut Self {
        if self.refused.is_some() {
            return self;
        }
        if let Err(error) =
            check_key(key).and_then(|()| check_value(value)).and_then(|()| self.check_room(key, value))
        {
            self.refused = Some(error);
            return self;
        }
        let start = self.arena.len();
        self.arena.extend_from_slice(&keyspace.keyspace_id().0.to_be_bytes());
        self.arena.extend_from_slice(key);
        self.arena.extend_from_slice(value);
        self.changes.push(Change {
            kind,
            start,
            key_bytes: KEYSPACE_BYTES + key.len(),
            value_bytes: value.len(),
            expiry,
        });
        self
    }

    fn check_room(&self, key: &[u8], value: &[u8]) -> Result<()> {
        if self.arena.len() + KEYSPACE_BYTES + key.len() + value.len() > MAX_BATCH_BYTES {
            return Err(Error::invalid(format!(
                "a batch may hold at most {MAX_BATCH_BYTES} bytes of keys and values"
            ))
            .hint("write it in several batches"));
        }
        Ok(())
    }
}

/// When something written at `now_ms` for `ttl` expires. Never [`NEVER`]: a zero there would mean for ever.
pub(super) fn expire_at(now_ms: u64, ttl: Duration) -> u64 {
    now_ms.saturating_add(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)).max(1)
}
