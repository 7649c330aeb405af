//! Entries of the block cache, as the SSD gives them back.

use super::{SEAL, as_inputs};

/// The target of a cache entry: an id, then what is stored under it.
pub fn entry(input: &[u8]) {
    let Some((flags, bytes)) = input.split_first() else { return };
    esker_cache::testing::entry(bytes, flags & SEAL != 0);
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    as_inputs([8, 9, 108, 5_000].map(|value_bytes| {
        let id = [7; 24];
        [&id[..], &vec![3; value_bytes]].concat()
    }))
}
