//! Many point reads whose round trips do not grow with the keys.
use bytes::Bytes;
use crate::{error::Result, key::Seq, read::{Fetcher, SuperVersion}};
/// Answers in the order of `full_keys`.
pub async fn multi_get(fetcher: &Fetcher, sv: &SuperVersion, full_keys: &[Bytes], seq: Seq, now_ms: u64) -> Result<Vec<Option<Bytes>>> { todo!() }
