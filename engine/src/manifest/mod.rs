//! The manifest: the one truth about what a database consists of.
pub mod codec;
pub mod edit;
pub mod commit;
pub mod view;
pub mod part;
pub mod identity;
pub use edit::Edit;
pub use commit::Manifest;
pub use view::{View, RunView};
use bytes::Bytes;
use crate::sst::SstMeta;
/// One version of the database, as stored (protobuf).
#[derive(Clone, PartialEq, prost::Message)]
pub struct Root {
    #[prost(uint64, tag = "1")] pub id: u64,
    #[prost(bytes = "bytes", tag = "2")] pub db_uuid: Bytes,
    #[prost(uint32, tag = "3")] pub min_reader: u32,
    #[prost(uint32, tag = "4")] pub min_writer: u32,
    #[prost(uint64, tag = "5")] pub required_features: u64,
    #[prost(uint64, tag = "6")] pub optional_features: u64,
    #[prost(bytes = "bytes", tag = "7")] pub prev_hash: Bytes,
    #[prost(bytes = "bytes", tag = "8")] pub token: Bytes,
    #[prost(message, repeated, tag = "9")] pub ring: Vec<RingSlot>,
    #[prost(message, required, tag = "10")] pub writer: WriterState,
    #[prost(message, required, tag = "11")] pub compactor: CompactorState,
    #[prost(message, repeated, tag = "12")] pub keyspaces: Vec<KeyspaceEntry>,
    /// Newest data first: level 0 first; within a level, the newest run first.
    #[prost(message, repeated, tag = "13")] pub runs: Vec<Run>,
    #[prost(bytes = "bytes", tag = "14")] pub sum: Bytes,
    #[prost(message, required, tag = "15")] pub options: StoredOptions,
    #[prost(uint64, tag = "16")] pub next_run: u64,
    #[prost(uint32, tag = "17")] pub next_keyspace: u32,
    /// Wall clock of the committer, for people and for retention; never for safety.
    #[prost(uint64, tag = "18")] pub committed_ms: u64,
}
#[derive(Clone, PartialEq, prost::Message)]
pub struct RingSlot { #[prost(uint64, tag = "1")] pub id: u64, #[prost(bytes = "bytes", tag = "2")] pub token: Bytes }
#[derive(Clone, PartialEq, prost::Message)]
pub struct WriterState {
    #[prost(uint32, tag = "1")] pub epoch: u32,
    #[prost(uint64, tag = "2")] pub counter_floor: u64,
    #[prost(uint64, tag = "3")] pub replay_from: u64,
    #[prost(uint64, tag = "4")] pub tail_hint: u64,
    #[prost(uint64, tag = "5")] pub last_seq: u64,
    #[prost(bytes = "bytes", tag = "6")] pub uuid: Bytes,
    /// Who: host and process, for the sentence a fenced writer prints.
    #[prost(string, tag = "7")] pub name: String,
}
#[derive(Clone, PartialEq, prost::Message)]
pub struct CompactorState {
    #[prost(uint32, tag = "1")] pub epoch: u32,
    #[prost(uint64, tag = "2")] pub counter_floor: u64,
    #[prost(bytes = "bytes", tag = "3")] pub uuid: Bytes,
    #[prost(string, tag = "4")] pub name: String,
    /// Wall clock until which the holder asks others to stay away (a courtesy; safety is the epoch).
    #[prost(uint64, tag = "5")] pub busy_until_ms: u64,
}
#[derive(Clone, PartialEq, prost::Message)]
pub struct KeyspaceEntry { #[prost(uint32, tag = "1")] pub id: u32, #[prost(string, tag = "2")] pub name: String }
/// A sorted run: SSTs with disjoint ranges, ascending.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Run {
    #[prost(uint64, tag = "1")] pub id: u64,
    #[prost(uint32, tag = "2")] pub level: u32,
    #[prost(message, repeated, tag = "3")] pub ssts: Vec<SstMeta>,
    #[prost(message, repeated, tag = "4")] pub parts: Vec<part::PartRef>,
}
/// Options that change bytes or meaning, stored once and read by everyone (design §2.5).
#[derive(Clone, PartialEq, prost::Message)]
pub struct StoredOptions {
    #[prost(uint32, tag = "1")] pub block_bytes: u32,
    #[prost(uint32, tag = "2")] pub restart_interval: u32,
    #[prost(uint32, tag = "3")] pub filter_bits_per_key: u32,
    /// Codec of levels 0.., the last repeats.
    #[prost(uint32, repeated, tag = "4")] pub codecs: Vec<u32>,
    #[prost(uint64, tag = "5")] pub sst_bytes: u64,
    #[prost(message, required, tag = "6")] pub shape: StoredShape,
    /// How long superseded manifest versions are kept (ms).
    #[prost(uint64, tag = "7")] pub retention_ms: u64,
    /// WAL window K.
    #[prost(uint32, tag = "8")] pub wal_window: u32,
}
/// Runs allowed per level and size ratio: tiered, leveled and lazy-leveled are three settings.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StoredShape {
    /// L0 runs that make a compaction due.
    #[prost(uint32, tag = "1")] pub l0_runs: u32,
    /// Runs allowed in each level between L0 and the last.
    #[prost(uint32, tag = "2")] pub middle_runs: u32,
    /// Runs allowed in the last level.
    #[prost(uint32, tag = "3")] pub last_runs: u32,
    /// Size ratio between levels.
    #[prost(uint32, tag = "4")] pub ratio: u32,
    /// Bytes of level 1.
    #[prost(uint64, tag = "5")] pub base_bytes: u64,
}
