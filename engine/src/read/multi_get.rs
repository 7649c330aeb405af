//! Many point reads whose round trips do not grow with the keys.
//!
//! Keys are looked up in order, so that neighbours find the same SST and block still in the CPU's
//! cache; everything that is missing for all of them is fetched in one parallel round (neighbouring
//! blocks together), and the keys that waited are looked up again.
//!
//! Always true: a batch of [`BATCH_KEYS`] takes as many rounds as its unluckiest key would alone.

use std::collections::HashSet;

use bytes::Bytes;

use super::{
    Fetcher, SuperVersion,
    fetch::Overlay,
    get::{Look, look},
};
use crate::{error::Result, key::Seq, merge::Missing, stats::Cause, store::ObjectId};

/// Keys that are read together; what they fetch is held until all of them are answered.
pub const BATCH_KEYS: usize = 4096;

/// The visible values of `full_keys` at `seq` and `now_ms`, in the order of the keys. Fails as
/// [`get`](super::get()) does.
pub async fn multi_get(
    fetcher: &Fetcher,
    sv: &SuperVersion,
    full_keys: &[Bytes],
    seq: Seq,
    now_ms: u64,
) -> Result<Vec<Option<Bytes>>> {
    let mut answers = vec![None; full_keys.len()];
    let mut order: Vec<usize> = (0..full_keys.len()).collect();
    order.sort_unstable_by(|a, b| full_keys[*a].cmp(&full_keys[*b]));
    for batch in order.chunks(BATCH_KEYS) {
        let mut overlay = Overlay::new(fetcher);
        let mut open = batch.to_vec();
        loop {
            let mut missing = Vec::new();
            let mut asked = HashSet::new();
            let mut waiting = Vec::new();
            for at in open {
                match look(&overlay, sv, &full_keys[at], seq, now_ms)? {
                    Look::Found(value) => answers[at] = value,
                    Look::Missing(more) => {
                        waiting.push(at);
                        missing.extend(more.into_iter().filter(|one| asked.insert(identity(one))));
                    }
                }
            }
            if waiting.is_empty() {
                break;
            }
            overlay.fetch(&missing, Cause::Read).await?;
            open = waiting;
        }
    }
    Ok(answers)
}

fn identity(missing: &Missing) -> (ObjectId, Option<usize>) {
    match missing {
        Missing::Tail(sst) => (sst.id, None),
        Missing::Block(sst, index) => (sst.id, Some(*index)),
    }
}
