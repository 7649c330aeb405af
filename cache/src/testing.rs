//! For fuzzers: an entry of the SSD as hostile bytes, without an SSD.
//!
//! Always true: nothing here is used by the cache itself.

use foyer::Code;

use crate::{
    entry::{SsdEntry, checksum},
    id::BlockId,
};

/// Takes any bytes for an entry of the SSD: an id (24 bytes), then a value as it is stored; with `seal` the
/// value's checksum is made right first.
///
/// # Panics
///
/// If the entry passes for another block's, passes with a wrong checksum, or means something else when it is
/// stored again.
pub fn entry(bytes: &[u8], seal: bool) {
    let Some((key, value)) = bytes.split_first_chunk::<24>() else {
        let cut = BlockId::decode(&mut &bytes[..]);
        return assert!(cut.is_err(), "an id that is cut off was read: {cut:?}");
    };
    let id = BlockId::decode(&mut &key[..]).expect("24 bytes are an id");
    let mut again = Vec::new();
    id.encode(&mut again).expect("memory takes it");
    assert_eq!(again, key, "an id has one encoding");

    let mut value = value.to_vec();
    if seal && let Some((sum, bytes)) = value.split_first_chunk_mut::<8>() {
        *sum = checksum(&id, bytes).to_le_bytes();
    }
    let Ok(entry) = SsdEntry::decode(&mut &value[..]) else {
        return assert!(value.len() < 8, "an entry with a checksum was not read");
    };
    let Some(bytes) = entry.verified(&id) else {
        return assert!(!seal, "an entry with a right checksum was refused");
    };
    assert_eq!(value[8..], bytes[..], "an entry gives the bytes that were stored");
    for other in [BlockId { offset: id.offset ^ 1, ..id }, BlockId { object: id.object ^ 1, ..id }] {
        assert!(entry.verified(&other).is_none(), "an entry passes for another block's");
    }
    let mut again = Vec::new();
    entry.encode(&mut again).expect("memory takes it");
    assert_eq!(again, value, "an entry has one encoding");
}
