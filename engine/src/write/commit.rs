//! The put path: check, charge, one short lock.
//!
//! ```text
//!  put(k, v).accepted()   limits ─► budget: one atomic ─► lock { log buffer, number, memtable } ─► visible
//!  put(k, v).await        the same, then wait until the log object with it has landed
//! ```
//!
//! No task hop, no channel, and no allocation but the log's chunk and the memtable's node. The future is
//! boxed for the durable form only, which costs a round trip to the store anyway.

use std::{
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use smallvec::SmallVec;

use crate::{
    chaos::{Bug, bug},
    error::Result,
    key::{KEYSPACE_BYTES, KeyspaceId, Kind, NEVER, check_key, check_value},
    memtable::ENTRY_OVERHEAD_BYTES,
    read::Token,
    wal::{Op, pipe::Landing},
    write::{
        batch::{WriteBatch, expire_at},
        head::Writer,
    },
};

/// A future of the durable form.
type Durable<'a> = Pin<Box<dyn Future<Output = Result<Token>> + Send + 'a>>;

/// `db.put(key, value)`: await it to have it durable, or ask only for [`accepted`](Put::accepted).
#[must_use = "a put does nothing until it is awaited"]
pub struct Put<'a, K, V> {
    writer: &'a Writer,
    keyspace: KeyspaceId,
    key: K,
    value: V,
    ttl: Option<Duration>,
}

/// `db.delete(key)`: await it to have it durable, or ask only for [`accepted`](Delete::accepted).
#[must_use = "a delete does nothing until it is awaited"]
pub struct Delete<'a, K> {
    writer: &'a Writer,
    keyspace: KeyspaceId,
    key: K,
}

/// `db.write(batch)`: await it to have it durable, or ask only for [`accepted`](Write::accepted).
#[must_use = "a write does nothing until it is awaited"]
#[derive(Debug)]
pub struct Write<'a> {
    writer: &'a Writer,
    batch: WriteBatch,
}

/// A write that is visible, and not yet known to be durable.
#[derive(Debug, Clone)]
pub struct Accepted {
    token: Token,
    /// `None`: it was durable before anything could be waited for.
    landing: Option<Arc<Landing>>,
}

impl<'a, K: AsRef<[u8]>, V: AsRef<[u8]>> Put<'a, K, V> {
    pub(crate) fn new(writer: &'a Writer, keyspace: KeyspaceId, key: K, value: V) -> Self {
        Self { writer, keyspace, key, value, ttl: None }
    }

    /// Lets the row expire this long after it is written. It is gone for reads from then on, and from the
    /// store after the next merge.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Visible when this returns, durable later: `accepted.durable().await`.
    ///
    /// Fails with `Invalid` if key or value is over its limit, `Unavailable` if the memory budget stayed
    /// full, `Fenced` or `Closed` if this handle is finished. Nothing was written then.
    pub async fn accepted(self) -> Result<Accepted> {
        let bytes = checked_bytes(self.key.as_ref(), self.value.as_ref())?;
        let room = self.writer.room(bytes).await?;
        let expire_at_ms = match self.ttl {
            Some(ttl) => expire_at(self.writer.settings().clock.wall_ms(), ttl),
            None => NEVER,
        };
        let full_key = full_key(self.keyspace, self.key.as_ref());
        let op = Op { kind: Kind::Put, key: &full_key, expire_at_ms, value: self.value.as_ref() };
        self.writer.apply(room, std::iter::once(op))
    }
}

impl<'a, K: AsRef<[u8]>> Delete<'a, K> {
    pub(crate) fn new(writer: &'a Writer, keyspace: KeyspaceId, key: K) -> Self {
        Self { writer, keyspace, key }
    }

    /// Visible when this returns, durable later. Fails as [`Put::accepted`] does.
    pub async fn accepted(self) -> Result<Accepted> {
        let bytes = checked_bytes(self.key.as_ref(), &[])?;
        let room = self.writer.room(bytes).await?;
        let full_key = full_key(self.keyspace, self.key.as_ref());
        let op = Op { kind: Kind::Delete, key: &full_key, expire_at_ms: NEVER, value: &[] };
        self.writer.apply(room, std::iter::once(op))
    }
}

impl<'a> Write<'a> {
    pub(crate) fn new(writer: &'a Writer, batch: WriteBatch) -> Self {
        Self { writer, batch }
    }

    /// Visible as a whole when this returns, durable as a whole later. Fails as [`Put::accepted`] does.
    pub async fn accepted(self) -> Result<Accepted> {
        self.batch.check()?;
        // slatedb PR #1733: cancelled in the middle.
        if bug(Bug::HalfABatch) {
            let mut accepted = self.writer.accepted();
            for op in self.batch.ops(self.writer.settings().clock.wall_ms()) {
                accepted = self.writer.apply(self.writer.room(1).await?, std::iter::once(op))?;
                tokio::task::yield_now().await;
            }
            return Ok(accepted);
        }
        let room = self.writer.room(self.batch.bytes() + self.batch.len() * ENTRY_OVERHEAD_BYTES).await?;
        let now_ms = if self.batch.needs_now() { self.writer.settings().clock.wall_ms() } else { 0 };
        self.writer.apply(room, self.batch.ops(now_ms))
    }
}

impl Accepted {
    pub(super) fn new(token: Token, landing: Option<Arc<Landing>>) -> Self {
        Self { token, landing }
    }

    /// The place of the write in the order of writes. A reader in another process that is given it can
    /// wait until it sees this write. It counts only once the write is [`durable`](Self::durable): if that
    /// fails, the number goes to another write after the next opening, and the token with it.
    pub fn token(&self) -> Token {
        self.token
    }

    /// Returns when the write can no longer be lost. May be called again, and by clones.
    ///
    /// Fails with `Fenced` if another process took writing over before the write was stored: then it was not
    /// applied and never will be. Fails with `OutcomeUnknown` at the deadline; the write is still being sent.
    pub async fn durable(&self) -> Result<Token> {
        if let Some(landing) = &self.landing {
            landing.durable().await?;
        }
        Ok(self.token)
    }
}

impl<'a, K: AsRef<[u8]> + Send + 'a, V: AsRef<[u8]> + Send + 'a> IntoFuture for Put<'a, K, V> {
    type Output = Result<Token>;
    type IntoFuture = Durable<'a>;
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.accepted().await?.durable().await })
    }
}

impl<'a, K: AsRef<[u8]> + Send + 'a> IntoFuture for Delete<'a, K> {
    type Output = Result<Token>;
    type IntoFuture = Durable<'a>;
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.accepted().await?.durable().await })
    }
}

impl<'a> IntoFuture for Write<'a> {
    type Output = Result<Token>;
    type IntoFuture = Durable<'a>;
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.accepted().await?.durable().await })
    }
}

impl<K, V> fmt::Debug for Put<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Put")
            .field("keyspace", &self.keyspace)
            .field("ttl", &self.ttl)
            .finish_non_exhaustive()
    }
}

impl<K> fmt::Debug for Delete<'_, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delete").field("keyspace", &self.keyspace).finish_non_exhaustive()
    }
}

/// What a write of one entry is charged, once its key and value are found to be within their limits.
fn checked_bytes(key: &[u8], value: &[u8]) -> Result<usize> {
    check_key(key)?;
    check_value(value)?;
    Ok(KEYSPACE_BYTES + key.len() + value.len() + ENTRY_OVERHEAD_BYTES)
}

/// A full key on the stack, unless it is long.
fn full_key(keyspace: KeyspaceId, user_key: &[u8]) -> SmallVec<[u8; 124]> {
    let mut full = SmallVec::with_capacity(KEYSPACE_BYTES + user_key.len());
    full.extend_from_slice(&keyspace.0.to_be_bytes());
    full.extend_from_slice(user_key);
    full
}
