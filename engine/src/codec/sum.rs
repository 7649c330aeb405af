//! The conservation sum: an order-independent hash of a set of entries.
//!
//! Eight lanes of 32 bits, each a sum modulo the prime 2³² − 5 of the entries' hashes, as in the
//! "setsum" of Chroma's wal3. Adding commutes and removing undoes it, so a flush or a
//! compaction can be held to `inputs = outputs + dropped` without sorting or remembering anything.
//!
//! ```text
//! record = XXH3-128(key) ‖ XXH3-128(value) ‖ seq u64 ‖ expire_at_ms u64 ‖ key bytes u32 ‖ value bytes u32 ‖ kind u8
//! hash   = XXH3-128(record, seed 1) ‖ XXH3-128(record, seed 2)         eight little-endian u32 lanes
//! sum    = Σ hash, lane by lane, modulo 2³² − 5
//! ```
//!
//! Hashing key and value once and the record twice reads a value once, needs no copy of it, and
//! costs the same whether the 256 bits are wanted or not. It finds faults, not attackers.
//!
//! Always true: every lane is below the prime; the sum of nothing is all zeroes.

use std::fmt;

use twox_hash::XxHash3_128;

use crate::key::EntryRef;

/// The largest prime below 2³².
const PRIME: u32 = u32::MAX - 4;
const LANES: usize = 8;
/// The bytes of a sum, as stored.
pub const SUM_BYTES: usize = LANES * 4;
const RECORD_BYTES: usize = 16 + 16 + 8 + 8 + 4 + 4 + 1;

/// The sum of a set of entries. [`Sum::default`] is the sum of none.
///
/// ```
/// use esker::{codec::sum::Sum, key::{EntryRef, Kind}};
///
/// let a = EntryRef { key: b"\0\0\0\0a", seq: 1, kind: Kind::Put, expire_at_ms: 0, value: b"x" };
/// let b = EntryRef { key: b"\0\0\0\0b", seq: 2, ..a };
/// let (mut ab, mut ba) = (Sum::default(), Sum::default());
/// ab.add_entry(a);
/// ab.add_entry(b);
/// ba.add_entry(b);
/// ba.add_entry(a);
/// assert_eq!(ab, ba);
/// ab.remove_entry(a);
/// ab.remove_entry(b);
/// assert_eq!(ab, Sum::default());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Sum([u32; LANES]);

impl Sum {
    /// Adds one entry.
    #[inline]
    pub fn add_entry(&mut self, entry: EntryRef<'_>) {
        self.add(&Self::of(entry));
    }
    /// Takes one entry away again.
    #[inline]
    pub fn remove_entry(&mut self, entry: EntryRef<'_>) {
        self.remove(&Self::of(entry));
    }

    /// Adds all entries of another sum.
    #[inline]
    pub fn add(&mut self, other: &Self) {
        for (lane, more) in self.0.iter_mut().zip(other.0) {
            let sum = *lane as u64 + more as u64;
            *lane = sum.checked_sub(PRIME as u64).unwrap_or(sum) as u32;
        }
    }
    /// Takes all entries of another sum away.
    #[inline]
    pub fn remove(&mut self, other: &Self) {
        for (lane, less) in self.0.iter_mut().zip(other.0) {
            *lane = if *lane >= less { *lane - less } else { *lane + (PRIME - less) };
        }
    }

    /// The sum of one entry.
    #[inline]
    pub fn of(entry: EntryRef<'_>) -> Self {
        let mut record = [0; RECORD_BYTES];
        record[..16].copy_from_slice(&XxHash3_128::oneshot(entry.key).to_le_bytes());
        record[16..32].copy_from_slice(&XxHash3_128::oneshot(entry.value).to_le_bytes());
        record[32..40].copy_from_slice(&entry.seq.to_le_bytes());
        record[40..48].copy_from_slice(&entry.expire_at_ms.to_le_bytes());
        record[48..52].copy_from_slice(&(entry.key.len() as u32).to_le_bytes());
        record[52..56].copy_from_slice(&(entry.value.len() as u32).to_le_bytes());
        record[56] = entry.kind as u8;
        let halves = [1, 2].map(|seed| XxHash3_128::oneshot_with_seed(seed, &record));
        Self(std::array::from_fn(|lane| {
            let bits = (halves[lane / 4] >> (32 * (lane % 4))) as u32;
            if bits >= PRIME { bits - PRIME } else { bits }
        }))
    }

    /// The eight lanes, little-endian.
    pub fn to_bytes(&self) -> [u8; SUM_BYTES] {
        let mut bytes = [0; SUM_BYTES];
        for (chunk, lane) in bytes.chunks_exact_mut(4).zip(self.0) {
            chunk.copy_from_slice(&lane.to_le_bytes());
        }
        bytes
    }
    /// The sum with these bytes; `None` if they are not [`SUM_BYTES`] long or a lane is not below the prime.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; SUM_BYTES] = bytes.try_into().ok()?;
        let (lanes, _) = bytes.as_chunks::<4>();
        let mut sum = Self::default();
        for (lane, chunk) in sum.0.iter_mut().zip(lanes) {
            *lane = u32::from_le_bytes(*chunk);
        }
        sum.0.iter().all(|lane| *lane < PRIME).then_some(sum)
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sum({self})")
    }
}
