//! Counts what an SST holds: the one place where a builder and a verifier agree on the numbers.
//!
//! Always true: the same entries give the same tally, whoever counts them.

use bytes::Bytes;

use crate::{
    codec::sum::Sum,
    key::{EntryRef, Kind, NEVER},
    sst::SstMeta,
};

/// Running counts over entries in order.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) entries: u64,
    pub(crate) keys: u64,
    tombstones: u64,
    expiring: u64,
    min_expire_ms: u64,
    max_expire_ms: u64,
    min_seq: u64,
    max_seq: u64,
    raw_bytes: u64,
    sum: Sum,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            entries: 0,
            keys: 0,
            tombstones: 0,
            expiring: 0,
            min_expire_ms: u64::MAX,
            max_expire_ms: NEVER,
            min_seq: u64::MAX,
            max_seq: 0,
            raw_bytes: 0,
            sum: Sum::default(),
        }
    }

    /// Counts one more entry; `new_key`: it is not a version of the key before.
    #[inline]
    pub(crate) fn add(&mut self, entry: EntryRef<'_>, new_key: bool) {
        self.entries += 1;
        self.keys += new_key as u64;
        self.tombstones += (entry.kind == Kind::Delete) as u64;
        if entry.expire_at_ms != NEVER {
            self.expiring += 1;
            self.min_expire_ms = self.min_expire_ms.min(entry.expire_at_ms);
            self.max_expire_ms = self.max_expire_ms.max(entry.expire_at_ms);
        }
        self.min_seq = self.min_seq.min(entry.seq);
        self.max_seq = self.max_seq.max(entry.seq);
        self.raw_bytes += (entry.key.len() + entry.value.len()) as u64;
        self.sum.add_entry(entry);
    }

    /// The manifest's entry with these counts; what is not counted (id, sizes, bounds of keys, hash) is empty.
    pub(crate) fn meta(&self) -> SstMeta {
        SstMeta {
            min_seq: self.min_seq,
            max_seq: self.max_seq,
            entries: self.entries,
            tombstones: self.tombstones,
            expiring: self.expiring,
            min_expire_ms: if self.expiring == 0 { NEVER } else { self.min_expire_ms },
            max_expire_ms: self.max_expire_ms,
            raw_bytes: self.raw_bytes,
            sum: Bytes::copy_from_slice(&self.sum.to_bytes()),
            keys: self.keys,
            ..SstMeta::default()
        }
    }
}
