//! The point read: synchronous while the bytes are here.
use std::sync::Arc;
use bytes::Bytes;
use crate::{error::Result, key::Seq, read::{Fetcher, SuperVersion}};
/// The visible value of `full_key` at `seq` and `now_ms`, with its entry's number and expiry. Sync when cached; one parallel round per miss.
pub async fn get(fetcher: &Fetcher, sv: &SuperVersion, full_key: &[u8], seq: Seq, now_ms: u64) -> Result<Option<Bytes>> { todo!() }
/// The same, only if every byte is in memory: `None` if not.
pub fn get_cached(fetcher: &Fetcher, sv: &SuperVersion, full_key: &[u8], seq: Seq, now_ms: u64) -> Option<Result<Option<Bytes>>> { todo!() }
