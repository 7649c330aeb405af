//! Edits: functions over the newest base.
use bytes::Bytes;
use crate::{error::Result, codec::sum::Sum, manifest::Root, sst::SstMeta, store::ObjectId};
#[derive(Debug, Clone)]
pub enum Edit {
    ClaimWriter { uuid: u128, name: String },
    ClaimCompactor { uuid: u128, name: String, busy_until_ms: u64 },
    /// A memtable became L0 SSTs (one run; possibly none if it was empty).
    Flush { epoch: u32, ssts: Vec<SstMeta>, replay_from: u64, tail_hint: u64, last_seq: u64, counter_floor: u64 },
    /// Inputs by id out, outputs in. Aborts if an input is missing. `dropped` is the sum of entries merged away.
    Compact { epoch: u32, inputs: Vec<ObjectId>, outputs: Vec<SstMeta>, level: u32, dropped: Sum, counter_floor: u64, busy_until_ms: u64 },
    CompactorState { epoch: u32, counter_floor: u64, busy_until_ms: u64 },
    CreateKeyspace { epoch: u32, name: String },
}
impl Edit {
    /// The next root (id, token, ring and hash are the committer's to fill). Fenced if our epoch is superseded.
    pub fn apply(&self, base: &Root) -> Result<Root> { todo!() }
}
