//! The filter: whether an SST may hold a key, from one cache line.
//!
//! The split-block Bloom filter of Parquet ("Cache-, Hash- and Space-Efficient Bloom Filters", Putze,
//! Sanders, Singler; the layout and salts of parquet-format/BloomFilter.md), with XXH3-64 of the
//! full key in place of XXH64.
//!
//! ```text
//! filter = n blocks × 8 words × u32
//! block  = ((hash >> 32) × n) >> 32
//! bit in word i = (low 32 bits of hash × SALT[i]) >> 27
//! ```
//!
//! Always true: a key that was added is always "maybe"; no filter at all is "maybe" for every key.

use bytes::Bytes;

/// The bytes of a filter block: half a cache line.
pub const FILTER_BLOCK_BYTES: usize = 32;
/// The most bits for a key that are of any use, and that a stored option can ask for.
const MAX_BITS_PER_KEY: u32 = 64;
/// The largest filter; more keys than fit share it and find more false maybes.
pub const MAX_FILTER_BYTES: usize = 256 << 20;

/// Odd numbers that spread 32 bits over eight words (published with the layout).
const SALTS: [u32; 8] =
    [0x47b6_137b, 0x4497_4d91, 0x8824_ad5b, 0xa2b7_289d, 0x7054_95c7, 0x2df1_424b, 0x9efc_4947, 0x5c6b_fb31];

/// A filter, probed where it lies.
#[derive(Debug, Clone)]
pub struct Filter(Bytes);

impl Filter {
    /// The filter in these bytes; `None` if they are not whole blocks. No bytes are no filter.
    pub fn parse(bytes: Bytes) -> Option<Self> {
        bytes.len().is_multiple_of(FILTER_BLOCK_BYTES).then_some(Self(bytes))
    }
    /// Its size.
    pub fn bytes(&self) -> usize {
        self.0.len()
    }
    /// Whether a key with this hash may have been added.
    #[inline]
    pub fn may_contain(&self, hash: u64) -> bool {
        let start = block_of(hash, self.0.len() / FILTER_BLOCK_BYTES) * FILTER_BLOCK_BYTES;
        // Without a filter there is no block.
        let Some(block) = self.0.get(start..).and_then(|rest| rest.first_chunk::<FILTER_BLOCK_BYTES>())
        else {
            return true;
        };
        let mut missing = 0;
        for (word, bit) in block.as_chunks::<4>().0.iter().zip(bits(hash)) {
            missing |= !u32::from_le_bytes(*word) & bit;
        }
        missing == 0
    }
}

/// The bytes of a filter over these hashes at `bits_per_key` (0: no filter, no bytes).
/// Ten bits a key find about 1 % false maybes.
pub fn build(hashes: &[u64], bits_per_key: u32) -> Vec<u8> {
    let wanted = (hashes.len() as u64 * bits_per_key.min(MAX_BITS_PER_KEY) as u64)
        .div_ceil(FILTER_BLOCK_BYTES as u64 * 8);
    let blocks = wanted.min((MAX_FILTER_BYTES / FILTER_BLOCK_BYTES) as u64) as usize;
    let mut words = vec![[0u32; 8]; blocks];
    for &hash in hashes {
        if let Some(block) = words.get_mut(block_of(hash, blocks)) {
            for (word, bit) in block.iter_mut().zip(bits(hash)) {
                *word |= bit;
            }
        }
    }
    words.iter().flatten().flat_map(|word| word.to_le_bytes()).collect()
}

#[inline]
fn block_of(hash: u64, blocks: usize) -> usize {
    (((hash >> 32) * blocks as u64) >> 32) as usize
}

#[inline]
fn bits(hash: u64) -> [u32; 8] {
    SALTS.map(|salt| 1 << ((hash as u32).wrapping_mul(salt) >> 27))
}
