//! The manifest: the one truth about what a database consists of.
//!
//! A version is a [`Root`], stored as one small object of the numbered sequence `manifest/`. Readers
//! use it as a [`View`]; writers and compactors change it by committing an [`Edit`] through
//! [`Manifest`], under the commit rule (see `store::sequence`). Long runs move into immutable `part/` objects
//! that the root names ([`part`]), so a commit stays small however large the database is.
//!
//! Always true of every version (checked when it is read and when it is made): runs are ordered
//! newest data first, level 0 first; the SSTs of a run ascend and do not overlap; no SST is named
//! twice; a run holds SSTs or [holes](crate::sst::hole), not both; epochs, replay point, last sequence number and counter floors never go back; the
//! conservation sum is the sum of the SSTs' sums.

pub(crate) mod above;
pub mod checkpoint;
pub mod claim;
pub mod codec;
pub mod commit;
pub mod copy;
mod create;
pub mod edit;
pub mod identity;
pub mod part;
pub mod pin;
pub(crate) mod pinned;
pub mod replace;
pub mod salvage;
pub mod view;
pub(crate) mod wire;

use std::collections::HashMap;

use bytes::Bytes;

pub use commit::{Manifest, is_unfinished};
pub use copy::VersionCopy;
pub use edit::Edit;
pub use identity::Identity;
pub use pin::Pin;
pub use view::{RunView, View};

use crate::{codec::sum::Sum, error::Result, key::DEFAULT_KEYSPACE, sst::SstMeta};

#[cfg(test)]
mod tests;

/// The name of the keyspace that `db` itself is.
pub const DEFAULT_KEYSPACE_NAME: &str = "default";
/// How many of the last commits a root remembers, so that a committer whose answer was lost can find out.
pub const RING_SLOTS: usize = 64;
/// The id of the first version.
pub const FIRST_ID: u64 = 1;
/// The deepest level there can be. With the smallest base and ratio it holds more than any store does.
pub const MAX_LEVEL: u32 = 15;
/// The first slot of the log.
pub const FIRST_SLOT: u64 = 1;

/// One version of the database (protobuf).
///
/// In memory every run's `ssts` is complete. As stored, the stretches that `parts` cover are left out.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Root {
    /// The number of this version, and of the slot it lies in.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// The database it belongs to (16 bytes, little-endian).
    #[prost(bytes = "bytes", tag = "2")]
    pub db_uuid: Bytes,
    /// The lowest reader version that understands it.
    #[prost(uint32, tag = "3")]
    pub min_reader: u32,
    /// The lowest writer version that may commit on top of it: an older one would drop fields it does not know.
    #[prost(uint32, tag = "4")]
    pub min_writer: u32,
    /// Features without which it cannot be read, a bit each.
    #[prost(uint64, tag = "5")]
    pub required_features: u64,
    /// Features that a reader may ignore, a bit each.
    #[prost(uint64, tag = "6")]
    pub optional_features: u64,
    /// XXH3-128 of the previous version's object (16 bytes, little-endian); zeroes in the first.
    #[prost(bytes = "bytes", tag = "7")]
    pub prev_hash: Bytes,
    /// The attempt that created this version (16 bytes).
    #[prost(bytes = "bytes", tag = "8")]
    pub token: Bytes,
    /// The attempts that created the last [`RING_SLOTS`] versions, this one included, oldest first.
    #[prost(message, repeated, tag = "9")]
    pub ring: Vec<RingSlot>,
    /// The writer, and what of its log is not yet in SSTs.
    #[prost(message, required, tag = "10")]
    pub writer: WriterState,
    /// The compactor.
    #[prost(message, required, tag = "11")]
    pub compactor: CompactorState,
    /// All keyspaces, the default one included.
    #[prost(message, repeated, tag = "12")]
    pub keyspaces: Vec<KeyspaceEntry>,
    /// Newest data first: level 0 first; within a level, the newest run first.
    #[prost(message, repeated, tag = "13")]
    pub runs: Vec<Run>,
    /// Conservation sum of all entries in all SSTs (32 bytes).
    #[prost(bytes = "bytes", tag = "14")]
    pub sum: Bytes,
    /// Options that every process must share.
    #[prost(message, required, tag = "15")]
    pub options: StoredOptions,
    /// The id of the next run.
    #[prost(uint64, tag = "16")]
    pub next_run: u64,
    /// The id of the next keyspace.
    #[prost(uint32, tag = "17")]
    pub next_keyspace: u32,
    /// Wall clock of the committer, for people and for retention; never for safety.
    #[prost(uint64, tag = "18")]
    pub committed_ms: u64,
}

/// Who created a version.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RingSlot {
    /// The version.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// The attempt that created it (16 bytes).
    #[prost(bytes = "bytes", tag = "2")]
    pub token: Bytes,
}

/// The writer's part of a version.
#[derive(Clone, PartialEq, prost::Message)]
pub struct WriterState {
    /// Which writer may commit: the last one to have claimed the role. 0 before the first.
    #[prost(uint32, tag = "1")]
    pub epoch: u32,
    /// Objects of this epoch with a lower counter are committed or will never be.
    #[prost(uint64, tag = "2")]
    pub counter_floor: u64,
    /// The log slot at which replay begins.
    #[prost(uint64, tag = "3")]
    pub replay_from: u64,
    /// The highest log slot known to be durable when this was committed; 0 if none is. Slots up to it are never used
    /// again, and those of the walk from `replay_from` must be there.
    #[prost(uint64, tag = "4")]
    pub tail_hint: u64,
    /// The last sequence number that is in SSTs.
    #[prost(uint64, tag = "5")]
    pub last_seq: u64,
    /// The writer's uuid (16 bytes, little-endian).
    #[prost(bytes = "bytes", tag = "6")]
    pub uuid: Bytes,
    /// Who: host and process, for the sentence a fenced writer prints.
    #[prost(string, tag = "7")]
    pub name: String,
    /// The slot of the newest FENCE whose writer was let in; 0 if that is not known. A FENCE is never collected, so if
    /// this one is not there the log has lost objects, however little of it is still to be replayed.
    #[prost(uint64, tag = "8")]
    pub fence_slot: u64,
    /// The epoch of that FENCE.
    #[prost(uint32, tag = "9")]
    pub fence_epoch: u32,
}

/// The compactor's part of a version.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CompactorState {
    /// Which compactor may commit: the last one to have claimed the role. 0 before the first.
    #[prost(uint32, tag = "1")]
    pub epoch: u32,
    /// Objects of this epoch with a lower counter are committed or will never be.
    #[prost(uint64, tag = "2")]
    pub counter_floor: u64,
    /// The compactor's uuid (16 bytes, little-endian).
    #[prost(bytes = "bytes", tag = "3")]
    pub uuid: Bytes,
    /// Who: host and process.
    #[prost(string, tag = "4")]
    pub name: String,
    /// Wall clock until which the holder asks others to stay away (a courtesy; safety is the epoch).
    #[prost(uint64, tag = "5")]
    pub busy_until_ms: u64,
}

/// A keyspace.
#[derive(Clone, PartialEq, prost::Message)]
pub struct KeyspaceEntry {
    /// Its number, in front of every full key.
    #[prost(uint32, tag = "1")]
    pub id: u32,
    /// Its name; no two are the same.
    #[prost(string, tag = "2")]
    pub name: String,
}

/// A sorted run: SSTs with disjoint ranges, ascending.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Run {
    /// Its number, never used again.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Its level.
    #[prost(uint32, tag = "2")]
    pub level: u32,
    /// Its SSTs, ascending.
    #[prost(message, repeated, tag = "3")]
    pub ssts: Vec<SstMeta>,
    /// Stretches of `ssts` that are stored in objects of their own, ascending.
    #[prost(message, repeated, tag = "4")]
    pub parts: Vec<part::PartRef>,
}

/// Options that change bytes or meaning, stored once and read by everyone.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StoredOptions {
    /// Raw bytes at which a block is closed.
    #[prost(uint32, tag = "1")]
    pub block_bytes: u32,
    /// Entries between two restart points of a block.
    #[prost(uint32, tag = "2")]
    pub restart_interval: u32,
    /// Bits a key that filters spend.
    #[prost(uint32, tag = "3")]
    pub filter_bits_per_key: u32,
    /// Codec of levels 0.., the last repeats.
    #[prost(uint32, repeated, tag = "4")]
    pub codecs: Vec<u32>,
    /// Bytes at which a compaction closes an SST.
    #[prost(uint64, tag = "5")]
    pub sst_bytes: u64,
    /// The shape of the tree.
    #[prost(message, required, tag = "6")]
    pub shape: StoredShape,
    /// How long superseded manifest versions are kept (ms).
    #[prost(uint64, tag = "7")]
    pub retention_ms: u64,
    /// WAL window K. The identity object's copy is the one that counts.
    #[prost(uint32, tag = "8")]
    pub wal_window: u32,
}

/// Runs allowed per level and size ratio: tiered, leveled and lazy-leveled are three settings.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StoredShape {
    /// L0 runs that make a compaction due.
    #[prost(uint32, tag = "1")]
    pub l0_runs: u32,
    /// Runs allowed in each level between L0 and the last.
    #[prost(uint32, tag = "2")]
    pub middle_runs: u32,
    /// Runs allowed in the last level.
    #[prost(uint32, tag = "3")]
    pub last_runs: u32,
    /// Size ratio between levels.
    #[prost(uint32, tag = "4")]
    pub ratio: u32,
    /// Bytes of level 1.
    #[prost(uint64, tag = "5")]
    pub base_bytes: u64,
}

impl Run {
    /// Whether it stands for entries that were lost, and holds no SST.
    pub fn is_hole(&self) -> bool {
        self.ssts.first().is_some_and(SstMeta::is_hole)
    }
}

impl Root {
    /// The first version of the database `db_uuid`: no data, the default keyspace. The token is the committer's to fill.
    pub fn first(db_uuid: u128, options: StoredOptions) -> Self {
        Self {
            id: FIRST_ID,
            db_uuid: Bytes::copy_from_slice(&db_uuid.to_le_bytes()),
            min_reader: codec::READER_VERSION,
            min_writer: codec::WRITER_VERSION,
            prev_hash: Bytes::from_static(&[0; 16]),
            writer: WriterState { replay_from: FIRST_SLOT, ..WriterState::default() },
            keyspaces: vec![KeyspaceEntry { id: DEFAULT_KEYSPACE.0, name: DEFAULT_KEYSPACE_NAME.to_owned() }],
            sum: Bytes::copy_from_slice(&Sum::default().to_bytes()),
            options,
            next_run: 1,
            next_keyspace: DEFAULT_KEYSPACE.0 + 1,
            ..Self::default()
        }
    }

    /// Every SST, newest run first.
    pub fn ssts(&self) -> impl Iterator<Item = &SstMeta> {
        self.runs.iter().flat_map(|run| &run.ssts)
    }

    /// One of `new` that this version names already.
    pub(crate) fn named_twice<'a>(&self, new: &'a [SstMeta]) -> Option<&'a SstMeta> {
        let ids: HashMap<&Bytes, &SstMeta> = new.iter().map(|sst| (&sst.id, sst)).collect();
        self.ssts().find_map(|old| ids.get(&old.id).copied())
    }

    /// Fails, naming versions, if this program is too old to commit on top of this version.
    pub fn check_writable(&self) -> Result<()> {
        codec::check_writer(self)
    }
}
