//! Range reads.
use std::{pin::Pin, sync::Arc, task::{Context, Poll}};
use bytes::Bytes;
use crate::{error::{Error, Result}, key::{KeyspaceId, Seq}, range::KeyRange, read::{Fetcher, SuperVersion}};
/// A row. `key` is a user key. Key and value share the bytes they were read from where they can.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row { pub key: Bytes, pub value: Bytes, pub seq: Seq, pub expire_at_ms: u64 }
/// A scan: `'static + Send`, a `futures::Stream` of `Result<Row>`, and `next().await`.
#[derive(Debug)]
pub struct Scan {}
impl Scan {
    /// `range` is a Result so that a bad range is reported by the first `next`.
    pub fn new(fetcher: Fetcher, sv: Arc<SuperVersion>, keyspace: KeyspaceId, range: Result<KeyRange>, seq: Seq, now_ms: u64) -> Scan { todo!() }
    /// A scan that fails with `error` at once.
    pub fn failed(error: Error) -> Scan { todo!() }
    /// Descending order. Before the first `next` only.
    #[must_use] pub fn rev(self) -> Scan { todo!() }
    /// At most `rows` rows.
    #[must_use] pub fn limit(self, rows: usize) -> Scan { todo!() }
    pub async fn next(&mut self) -> Result<Option<Row>> { todo!() }
}
impl futures::Stream for Scan { type Item = Result<Row>; fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> { todo!() } }
