//! Keys and values that can be checked: from a row's number and version every byte follows.
//!
//! ```text
//! key   = the row's number, permuted (so that load order is not key order) or not, in decimal, padded on the left
//! value = row number (8) ‖ version (4) ‖ random bytes from (seed, row, version), of which the second half repeats zeros
//! ```
//!
//! Always true: two clients never change one row at once (a lock per stripe of rows), so a read that began after version
//! `v` was confirmed and ended before `w` was issued must see a version in `v..=w`.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use anyhow::{Result, bail, ensure};

/// Odd, so multiplication by it permutes the 64-bit numbers.
const PERMUTE: u64 = 0x9E37_79B9_7F4A_7C15;
const HEAD: usize = 12;
const STRIPES: usize = 4096;
/// The version of a row that was never written, or is deleted.
const ABSENT: u32 = 0;

/// The rows of a run and what is known of each.
#[derive(Debug)]
pub(crate) struct Dataset {
    key_bytes: usize,
    value_bytes: usize,
    hashed: bool,
    seed: u64,
    rows: AtomicU64,
    /// Puts that have returned.
    written: AtomicU64,
    /// Highest version handed to a put.
    issued: Vec<AtomicU32>,
    /// Highest version a put has returned for.
    confirmed: Vec<AtomicU32>,
    stripes: Vec<tokio::sync::Mutex<()>>,
}

impl Dataset {
    /// Room for `capacity` rows; none exists yet.
    pub(crate) fn new(capacity: u64, key_bytes: usize, value_bytes: usize, hashed: bool, seed: u64) -> Self {
        let versions = || (0..capacity).map(|_| AtomicU32::new(ABSENT)).collect();
        Self {
            key_bytes,
            value_bytes,
            hashed,
            seed,
            rows: AtomicU64::new(0),
            written: AtomicU64::new(0),
            issued: versions(),
            confirmed: versions(),
            stripes: (0..STRIPES).map(|_| tokio::sync::Mutex::new(())).collect(),
        }
    }

    /// Rows that exist, or existed: the numbers below this.
    pub(crate) fn rows(&self) -> u64 {
        self.rows.load(Ordering::Acquire)
    }

    /// Puts that have returned so far.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// The number of a new row; `None` when the room is used up.
    pub(crate) fn add_row(&self) -> Option<u64> {
        let room = self.issued.len() as u64;
        self.rows
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |rows| (rows < room).then_some(rows + 1))
            .ok()
    }

    /// Bytes of one row, key and value.
    pub(crate) fn row_bytes(&self) -> u64 {
        (self.key_bytes + self.value_bytes) as u64
    }

    /// Writes the key of `row` into `out`.
    pub(crate) fn key(&self, row: u64, out: &mut Vec<u8>) {
        use std::io::Write as _;
        out.clear();
        let number = if self.hashed { row.wrapping_mul(PERMUTE) } else { row };
        write!(out, "{number:0width$}", width = self.key_bytes).expect("a Vec takes every write");
    }

    /// A key that no row has, near where `row`'s is.
    pub(crate) fn missing_key(&self, row: u64, out: &mut Vec<u8>) {
        self.key(row, out);
        out.push(b'x');
    }

    /// The row that has `key`.
    pub(crate) fn row_of(&self, key: &[u8]) -> Result<u64> {
        let number: u64 = std::str::from_utf8(key)?.parse()?;
        Ok(if self.hashed { number.wrapping_mul(inverse(PERMUTE)) } else { number })
    }

    /// Takes the next version of `row`; hold the guard until the put has returned, then call [`Change::confirm`].
    pub(crate) async fn change(&self, row: u64) -> Change<'_> {
        let guard = self.stripes[(row % STRIPES as u64) as usize].lock().await;
        let version = self.issued[row as usize].fetch_add(1, Ordering::AcqRel) + 1;
        Change { dataset: self, row, version, _guard: guard }
    }

    /// Writes the value of `row` at `version` into `out`.
    pub(crate) fn value(&self, row: u64, version: u32, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(&row.to_le_bytes());
        out.extend_from_slice(&version.to_le_bytes());
        let mut state = self.seed ^ row.wrapping_mul(PERMUTE) ^ u64::from(version).rotate_left(32) | 1;
        let random_end = HEAD + self.value_bytes.saturating_sub(HEAD) / 2;
        while out.len() < random_end {
            // xorshift64* (Vigna): quick, and as incompressible as a benchmark needs.
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            out.extend_from_slice(&state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes());
        }
        out.truncate(random_end);
        out.resize(self.value_bytes.max(HEAD), 0);
    }

    /// What is confirmed of `row` now; take it before a read and give it to [`Self::check`].
    pub(crate) fn confirmed(&self, row: u64) -> u32 {
        self.confirmed[row as usize].load(Ordering::Acquire)
    }

    /// Fails unless `value` is the value of `row` at a version in `at_least..=issued`.
    pub(crate) fn check(
        &self,
        row: u64,
        at_least: u32,
        value: Option<&[u8]>,
        expected: &mut Vec<u8>,
    ) -> Result<()> {
        let Some(value) = value else {
            ensure!(at_least == ABSENT, "row {row} is missing, version {at_least} of it was confirmed");
            return Ok(());
        };
        let Some((head, _)) = value.split_first_chunk::<HEAD>() else {
            bail!("row {row} has a value of {} bytes, {} were written", value.len(), self.value_bytes)
        };
        let version = u32::from_le_bytes([head[8], head[9], head[10], head[11]]);
        let issued = self.issued[row as usize].load(Ordering::Acquire);
        ensure!(
            (at_least..=issued).contains(&version) && version != ABSENT,
            "row {row} is at version {version}; confirmed was {at_least}, issued is {issued}"
        );
        self.value(row, version, expected);
        ensure!(
            value == &expected[..],
            "row {row} version {version}: the bytes are not those that were written"
        );
        Ok(())
    }
}

/// A change of one row, under way.
#[derive(Debug)]
pub(crate) struct Change<'a> {
    dataset: &'a Dataset,
    pub(crate) row: u64,
    pub(crate) version: u32,
    _guard: tokio::sync::MutexGuard<'a, ()>,
}

impl Change<'_> {
    /// The put has returned.
    pub(crate) fn confirm(self) {
        self.dataset.confirmed[self.row as usize].fetch_max(self.version, Ordering::AcqRel);
        self.dataset.written.fetch_add(1, Ordering::Relaxed);
    }
}

/// The inverse of an odd number modulo 2^64 (Newton's iteration).
fn inverse(odd: u64) -> u64 {
    let mut x = odd;
    for _ in 0..6 {
        x = x.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(x)));
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_value_that_was_not_written_is_caught() {
        let data = Dataset::new(10, 20, 100, true, 7);
        let (mut key, mut value, mut scratch) = (Vec::new(), Vec::new(), Vec::new());
        let row = data.add_row().unwrap();
        data.key(row, &mut key);
        assert_eq!(data.row_of(&key).unwrap(), row);
        let change = data.change(row).await;
        data.value(row, change.version, &mut value);
        change.confirm();
        data.check(row, data.confirmed(row), Some(&value), &mut scratch).unwrap();
        assert!(data.check(row, 1, None, &mut scratch).is_err(), "a missing row");
        assert!(data.check(row, 2, Some(&value), &mut scratch).is_err(), "a stale version");
        for at in 0..value.len() {
            let mut wrong = value.clone();
            wrong[at] ^= 1;
            assert!(data.check(row, 1, Some(&wrong), &mut scratch).is_err(), "byte {at}");
        }
    }

    #[test]
    fn there_are_never_more_rows_than_room_for_them() {
        let data = Dataset::new(1000, 20, 16, true, 7);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| while data.add_row().is_some() {});
            }
            for _ in 0..100_000 {
                assert!(data.rows() <= 1000);
            }
        });
        assert_eq!((data.rows(), data.add_row()), (1000, None));
    }

    #[test]
    fn permuted_rows_have_keys_of_one_length_and_come_back() {
        let data = Dataset::new(1000, 20, 16, true, 7);
        let mut key = Vec::new();
        for row in 0..1000 {
            data.key(row, &mut key);
            assert_eq!((key.len(), data.row_of(&key).unwrap()), (20, row));
        }
    }
}
