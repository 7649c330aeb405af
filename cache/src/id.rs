//! What a block is called, and how its name is hashed.
//!
//! The hash is part of the layout on the SSD (foyer files an entry under it, and our checksum is seeded with it),
//! so it is computed here, without a random key, and is the same on every machine and in every run. A change of it
//! is a change of [`LAYOUT`](crate::directory::LAYOUT).
//!
//! Always true: two ids that are equal hash equally, in this process and in the next.

use std::hash::{BuildHasherDefault, Hash, Hasher};

/// The identity of an immutable run of bytes: which object, and where in it.
///
/// `object` is a 128-bit id that is never reused, mixed with the uuid of its database, so that one cache can serve
/// several databases. Since bytes under an id never change, an entry may be missing but never stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BlockId {
    /// The object, never reused, mixed with the database's uuid.
    pub object: u128,
    /// Where in the object the bytes begin, in bytes.
    pub offset: u64,
}

/// What the bytes are for, which decides how long they are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Filters, indexes, properties: needed by every read of an SST, and small. They have their own share of memory
    /// and of the SSD, so that no amount of data traffic can push them out.
    Meta,
    /// Data blocks.
    Data,
}

impl BlockId {
    /// The 64-bit hash of this id: two folded multiplications (the mixing step of wyhash), about 2 ns.
    pub(crate) fn hash64(&self) -> u64 {
        let low = self.object as u64;
        let high = (self.object >> 64) as u64;
        let object = fold(low ^ 0x9E37_79B9_7F4A_7C15, high ^ 0xD1B5_4A32_D192_ED03);
        fold(object ^ self.offset, 0xA24B_AED4_963E_E407)
    }
}

impl Hash for BlockId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash64());
    }
}

/// Builds [`IdHasher`]s: for maps whose keys hash themselves well.
pub(crate) type IdHash = BuildHasherDefault<IdHasher>;

/// Passes on the hash that a [`BlockId`] computed itself.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = fold(self.0 ^ u64::from(*byte), 0x9E37_79B9_7F4A_7C15);
        }
    }
}

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}
