//! SSTs made by hand.

use bytes::Bytes;
use esker::{
    compaction::job::sst_options,
    key::{DEFAULT_KEYSPACE, EntryRef, Kind, NEVER, Seq, full_key},
    manifest::StoredOptions,
    sst::{SstBuilder, SstMeta},
    store::ObjectId,
};

/// The SST `id` with a row for each of `keys`, which ascend; their sequence numbers begin at `seq`. Each
/// is longer than a small block.
pub(crate) fn sst(id: ObjectId, keys: &[&str], seq: Seq) -> (SstMeta, Bytes) {
    let options = sst_options(&StoredOptions::default(), 0).expect("known codecs");
    let mut builder = SstBuilder::new(id, options);
    for (key, seq) in keys.iter().zip(seq..) {
        let key = full_key(DEFAULT_KEYSPACE, key.as_bytes()).expect("a short key");
        let entry = EntryRef { key: &key, seq, kind: Kind::Put, expire_at_ms: NEVER, value: &[b'v'; 200] };
        builder.add(entry).expect("the keys ascend");
    }
    let mut chunks = builder.take_ready();
    let finished = builder.finish().expect("an SST");
    chunks.extend(finished.chunks);
    (finished.meta, chunks.concat().into())
}
