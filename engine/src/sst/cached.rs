//! SSTs in a cache: what their bytes are called there, and putting blocks there as they are built.
//!
//! A flush or a merge makes blocks anew that people read: if the cache waited for them to ask, each would cost a request,
//! and a merge would make everything it moves cold. So whoever builds an SST beside readers says of each entry how
//! [warm](Warmth) it was where it came from, and a block in which enough of them were goes into the cache as it is built.
//! (RocksDB's `prepopulate_block_cache` is the same for flushes, of all blocks.)
//!
//! Names are 128 bits: a hash of the database's uuid and the object's id, neither of which is ever reused, so nothing in
//! the cache ever becomes wrong, nor does what was put there for an SST that no version ever names.

use bytes::Bytes;
use esker_cache::{BlockCache, BlockId, CachedObject, Class};

use crate::{
    block::{Block, pack},
    chaos::{Bug, bug},
    sst::OpenSst,
    store::{ObjectId, Role},
};

/// In a block of so many entries one warm one makes it worth keeping.
const WARM_PART: usize = 8;
/// What is merged at once may be this part of the cache, to be kept warm: until it is published the cache holds it twice.
const MERGED_PART: usize = 8;

/// One cache, for the SSTs of one database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SstCache {
    cache: BlockCache,
    db_uuid: u128,
}

/// How near to its readers something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Warmth {
    /// Not in memory.
    Cold,
    /// In memory, packed.
    Packed,
    /// In memory as it is searched, or read not long ago.
    Plain,
}

/// The warmth of a block, by its entries.
#[derive(Debug, Default)]
pub(super) struct WarmEntries {
    entries: usize,
    packed: usize,
    plain: usize,
}

impl SstCache {
    /// For the database `db_uuid`.
    pub fn new(cache: BlockCache, db_uuid: u128) -> Self {
        Self { cache, db_uuid }
    }

    /// The cache.
    pub fn cache(&self) -> &BlockCache {
        &self.cache
    }

    /// The name of what lies at `offset` of `sst`. As long as `sst` lives, the cache keeps what is of it longer than what is of
    /// SSTs that are gone.
    #[inline]
    pub fn block_id(&self, sst: &OpenSst, offset: u64) -> BlockId {
        BlockId { object: sst.cached.get_or_init(|| self.read(sst.id)).id(), offset }
    }

    /// How warm the block at `offset` of `sst` is. Asking leaves it as it is.
    pub fn warmth(&self, sst: &OpenSst, offset: u64) -> Warmth {
        let Some(bytes) = self.cache.peek(&self.block_id(sst, offset), Class::Data) else {
            return Warmth::Cold;
        };
        let is_packed = Block::parse_cached(bytes).is_ok_and(|block| block.is_packed());
        if is_packed { Warmth::Packed } else { Warmth::Plain }
    }

    /// Whether a merge of so many bytes of keys and values leaves enough of the cache to those who read meanwhile.
    pub fn has_room_beside(&self, raw_bytes: u64) -> bool {
        raw_bytes <= (self.cache.memory_budget(Class::Data) / MERGED_PART) as u64
    }

    /// Puts the block at `offset` of the object `id` into the cache, in the form that `warmth` says.
    pub(super) fn put_block(&self, id: ObjectId, offset: u64, raw: &[u8], warmth: Warmth) {
        if warmth == Warmth::Cold {
            return;
        }
        let plain = Bytes::copy_from_slice(raw);
        let bytes = match warmth {
            Warmth::Packed => pack(&plain).unwrap_or(plain),
            Warmth::Cold | Warmth::Plain => plain,
        };
        self.cache.insert_known(BlockId { object: object(self.db_uuid, id), offset }, Class::Data, bytes);
    }

    /// Puts the tail, which begins at `offset` of the object `id`, into the cache.
    pub(super) fn put_tail(&self, id: ObjectId, offset: u64, tail: &Bytes) {
        self.cache.insert_known(
            BlockId { object: object(self.db_uuid, id), offset },
            Class::Meta,
            tail.clone(),
        );
    }

    fn read(&self, id: ObjectId) -> CachedObject {
        self.cache.object(object(self.db_uuid, id))
    }
}

impl WarmEntries {
    pub(super) fn add(&mut self, warmth: Warmth) {
        self.entries += 1;
        self.packed += usize::from(warmth == Warmth::Packed);
        self.plain += usize::from(warmth == Warmth::Plain);
    }

    /// The warmth of the block that ends here; the next one begins.
    pub(super) fn take(&mut self) -> Warmth {
        let Self { entries, packed, plain } = std::mem::take(self);
        if (packed + plain) * WARM_PART < entries {
            Warmth::Cold
        } else if plain >= packed {
            Warmth::Plain
        } else {
            Warmth::Packed
        }
    }
}

/// XXH3-128 of the database's uuid and the object's id.
fn object(db_uuid: u128, id: ObjectId) -> u128 {
    let mut name = [0u8; 37];
    name[..16].copy_from_slice(&db_uuid.to_le_bytes());
    name[16] = match id.role {
        Role::Writer => b'w',
        Role::Compactor => b'c',
    };
    name[17..21].copy_from_slice(&id.epoch.to_le_bytes());
    // foyer #1004, #743: another object's block under the same key.
    if bug(Bug::StaleCacheKey) {
        return twox_hash::XxHash3_128::oneshot(&name);
    }
    name[21..29].copy_from_slice(&id.counter.to_le_bytes());
    name[29..].copy_from_slice(&id.nonce.to_le_bytes());
    twox_hash::XxHash3_128::oneshot(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_as_warm_as_most_of_what_is_warm_in_it_and_cold_if_little_is() {
        let warmth = |cold: usize, packed: usize, plain: usize| {
            let mut tally = WarmEntries::default();
            for (count, warmth) in [(cold, Warmth::Cold), (packed, Warmth::Packed), (plain, Warmth::Plain)] {
                (0..count).for_each(|_| tally.add(warmth));
            }
            (tally.take(), tally.entries)
        };
        assert_eq!(warmth(8, 0, 0), (Warmth::Cold, 0));
        assert_eq!(warmth(8, 0, 1), (Warmth::Cold, 0));
        assert_eq!(warmth(7, 0, 1), (Warmth::Plain, 0));
        assert_eq!(warmth(7, 1, 1), (Warmth::Plain, 0));
        assert_eq!(warmth(7, 2, 1), (Warmth::Packed, 0));
    }
}
