//! Keys and values that can be checked: from a row's number and version every byte follows.
//!
//! ```text
//! key   = the row's number, mixed (so that load order is not key order) or not, in 16 hexadecimal digits, padded on the left
//! value = row number (8) ‖ version (4) ‖ bytes cut from a random pool at a place that (seed, row, version) say, up to the
//!         half, then zeros
//! ```
//!
//! Making a value or checking one is a copy or a comparison of its bytes, some 20 ns, so that the harness does not hide
//! what it measures (the pool, of a mebibyte, is `db_bench`'s idea).
//!
//! Always true: two clients never change one row at once (a lock per stripe of rows), so a read that began after version
//! `v` was confirmed and ended before `w` was issued must see a version in `v..=w`.

use std::{
    ops::Range,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use anyhow::{Result, bail, ensure};

/// Odd, so multiplication by them permutes the 64-bit numbers (David Stafford's mixers).
const MIX: [u64; 2] = [0xBF58_476D_1CE4_E5B9, 0x94D0_49BB_1331_11EB];
const HEAD: usize = 12;
/// Hexadecimal digits of a row number.
const DIGITS: usize = 16;
/// What each byte is worth as a digit; 0xFF if it is none.
const VALUE_OF_DIGIT: [u8; 256] = {
    let mut values = [0xFF; 256];
    let mut value = 0;
    while value < 16 {
        values[b"0123456789abcdef"[value as usize] as usize] = value;
        value += 1;
    }
    values
};
const STRIPES: usize = 1 << 16;
/// Places in the pool that a value's bytes can begin at: little enough to stay in a processor's cache, so that checking costs
/// little, and enough that values in a block rarely share bytes.
const POOL: usize = 256 << 10;
/// The version of a row that was never written, or is deleted.
const ABSENT: u32 = 0;

/// The rows of a run and what is known of each.
#[derive(Debug)]
pub struct Dataset {
    key_bytes: usize,
    value_bytes: usize,
    hashed: bool,
    seed: u64,
    pool: Vec<u8>,
    zeros: Vec<u8>,
    rows: AtomicU64,
    versions: Vec<Versions>,
    stripes: Vec<tokio::sync::Mutex<()>>,
}

/// What is known of one row; side by side, for a check looks at both.
#[derive(Debug, Default)]
struct Versions {
    /// Highest version handed to a put.
    issued: AtomicU32,
    /// Highest version a put has returned for.
    confirmed: AtomicU32,
}

impl Dataset {
    /// The fewest bytes of a key.
    pub const LEAST_KEY_BYTES: usize = DIGITS;

    /// Room for `capacity` rows; none exists yet. `hashed`: rows in the order of their numbers are spread over the keys.
    pub fn new(capacity: u64, key_bytes: usize, value_bytes: usize, hashed: bool, seed: u64) -> Self {
        assert!(key_bytes >= Self::LEAST_KEY_BYTES, "a key holds {DIGITS} digits");
        let mut pool = Vec::new();
        let mut state = seed;
        while pool.len() < POOL + value_bytes {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            pool.extend_from_slice(&mix(state).to_le_bytes());
        }
        Self {
            key_bytes,
            value_bytes: value_bytes.max(HEAD),
            hashed,
            seed,
            pool,
            zeros: vec![0; value_bytes],
            rows: AtomicU64::new(0),
            versions: (0..capacity).map(|_| Versions::default()).collect(),
            stripes: (0..STRIPES).map(|_| tokio::sync::Mutex::new(())).collect(),
        }
    }

    /// Rows that exist, or existed: the numbers below this.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Acquire)
    }

    /// Puts that have returned so far. Looks at every row.
    pub fn written(&self) -> u64 {
        self.versions.iter().map(|v| u64::from(v.confirmed.load(Ordering::Relaxed))).sum()
    }

    /// The number of a new row; `None` when the room is used up.
    pub fn add_row(&self) -> Option<u64> {
        self.add_rows(1).next()
    }

    /// The numbers of up to `wanted` new rows; fewer, or none, when the room is used up.
    pub fn add_rows(&self, wanted: u64) -> Range<u64> {
        let room = self.versions.len() as u64;
        let take = |rows: u64| (rows < room).then(|| room.min(rows + wanted));
        match self.rows.fetch_update(Ordering::AcqRel, Ordering::Acquire, take) {
            Ok(first) => first..room.min(first + wanted),
            Err(all) => all..all,
        }
    }

    /// Bytes of one row, key and value.
    pub fn row_bytes(&self) -> u64 {
        (self.key_bytes + self.value_bytes) as u64
    }

    /// Writes the key of `row` into `out`.
    pub fn key(&self, row: u64, out: &mut Vec<u8>) {
        out.clear();
        out.resize(self.key_bytes - DIGITS, b'0');
        let number = if self.hashed { mix(row) } else { row };
        for shift in (0..DIGITS).rev() {
            out.push(b"0123456789abcdef"[(number >> (shift * 4) & 15) as usize]);
        }
    }

    /// A key that no row has, next to where `row`'s is, and as long.
    pub fn missing_key(&self, row: u64, out: &mut Vec<u8>) {
        self.key(row, out);
        if let Some(last) = out.last_mut() {
            *last = b'x';
        }
    }

    /// The row that has `key`.
    pub fn row_of(&self, key: &[u8]) -> Result<u64> {
        let strange = || format!("{:?} is no key of this run", key.escape_ascii().to_string());
        ensure!(key.len() == self.key_bytes, strange());
        let (mut number, mut wrong) = (0, 0);
        for digit in &key[key.len() - DIGITS..] {
            let digit = VALUE_OF_DIGIT[usize::from(*digit)];
            wrong |= digit & 0xF0;
            number = number << 4 | u64::from(digit);
        }
        ensure!(wrong == 0, strange());
        Ok(if self.hashed { unmix(number) } else { number })
    }

    /// Takes the next version of `row`; hold the guard until the put has returned, then call [`Change::confirm`].
    pub async fn change(&self, row: u64) -> Change<'_> {
        let guard = self.stripes[(row % STRIPES as u64) as usize].lock().await;
        let version = self.versions[row as usize].issued.fetch_add(1, Ordering::AcqRel) + 1;
        Change { dataset: self, row, version, _guard: guard }
    }

    /// The first version of a row of [`Self::add_rows`], which nobody else can be changing: no lock is taken. After the put has
    /// returned, call [`Self::confirm_first`].
    pub fn issue_first(&self, row: u64) -> u32 {
        self.versions[row as usize].issued.store(1, Ordering::Release);
        1
    }

    /// The put of a row's first version has returned.
    pub fn confirm_first(&self, row: u64) {
        self.versions[row as usize].confirmed.store(1, Ordering::Release);
    }

    /// Writes the value of `row` at `version` into `out`.
    pub fn value(&self, row: u64, version: u32, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(&row.to_le_bytes());
        out.extend_from_slice(&version.to_le_bytes());
        out.extend_from_slice(self.random_part(row, version));
        out.resize(self.value_bytes, 0);
    }

    /// The random bytes of the value of `row` at `version`.
    fn random_part(&self, row: u64, version: u32) -> &[u8] {
        let at = mix(self.seed ^ mix(row) ^ u64::from(version)) as usize % POOL;
        &self.pool[at..at + (self.value_bytes - HEAD) / 2]
    }

    /// What is confirmed of `row` now; take it before a read and give it to [`Self::check`].
    pub fn confirmed(&self, row: u64) -> u32 {
        self.versions[row as usize].confirmed.load(Ordering::Acquire)
    }

    /// Fails unless `value` is the value of `row` at a version in `at_least..=issued`.
    pub fn check(&self, row: u64, at_least: u32, value: Option<&[u8]>) -> Result<()> {
        let Some(value) = value else {
            ensure!(at_least == ABSENT, "row {row} is missing, version {at_least} of it was confirmed");
            return Ok(());
        };
        let (held, version) = self.head(value)?;
        ensure!(held == row, "row {row} has the value of row {held}");
        let issued = self.versions[row as usize].issued.load(Ordering::Acquire);
        ensure!(
            (at_least..=issued).contains(&version) && version != ABSENT,
            "row {row} is at version {version}; confirmed was {at_least}, issued is {issued}"
        );
        self.check_body(row, version, value)
    }

    /// Fails unless `key` and `value` are one row's, whole, at whatever version the value says; gives a number for the row and
    /// version. All rows of a scan, their numbers added up, must be [`Self::sum`]: so that a scan of everything is
    /// checked without a look at each row's versions, which lie all over memory.
    pub fn check_row(&self, key: &[u8], value: &[u8]) -> Result<u64> {
        let row = self.row_of(key)?;
        let (held, version) = self.head(value)?;
        ensure!(held == row, "row {row} has the value of row {held}");
        self.check_body(row, version, value)?;
        Ok(mark(row, version))
    }

    /// What [`Self::check_row`] must add up to over all rows, while nobody writes.
    pub fn sum(&self) -> u64 {
        let confirmed = self.versions.iter().map(|v| v.confirmed.load(Ordering::Acquire));
        let present = confirmed.zip(0u64..).filter(|(version, _)| *version != ABSENT);
        present.fold(0u64, |sum, (version, row)| sum.wrapping_add(mark(row, version)))
    }

    /// Row and version, as a value begins.
    fn head(&self, value: &[u8]) -> Result<(u64, u32)> {
        let Some((row, rest)) = value.split_first_chunk::<8>() else {
            bail!("a value has {} bytes, {} were written", value.len(), self.value_bytes)
        };
        let Some((version, _)) = rest.split_first_chunk::<4>() else {
            bail!("a value has {} bytes, {} were written", value.len(), self.value_bytes)
        };
        Ok((u64::from_le_bytes(*row), u32::from_le_bytes(*version)))
    }

    fn check_body(&self, row: u64, version: u32, value: &[u8]) -> Result<()> {
        let random = self.random_part(row, version);
        let matches = |value: &[u8]| {
            let (body, zeros) = value[HEAD..].split_at(random.len());
            body == random && *zeros == self.zeros[..zeros.len()]
        };
        ensure!(
            value.len() == self.value_bytes && matches(value),
            "row {row} version {version}: the bytes are not those that were written"
        );
        Ok(())
    }
}

/// A change of one row, under way.
#[derive(Debug)]
pub struct Change<'a> {
    dataset: &'a Dataset,
    /// The row.
    pub row: u64,
    /// The version to write.
    pub version: u32,
    _guard: tokio::sync::MutexGuard<'a, ()>,
}

impl Change<'_> {
    /// The put has returned.
    pub fn confirm(self) {
        self.dataset.versions[self.row as usize].confirmed.fetch_max(self.version, Ordering::AcqRel);
    }
}

/// A permutation of the 64-bit numbers without a pattern.
fn mix(mut x: u64) -> u64 {
    for odd in MIX {
        x = (x ^ x >> 32).wrapping_mul(odd);
    }
    x ^ x >> 32
}

/// What [`mix`] made `x` of. A shift by half the bits or more undoes itself.
fn unmix(mut x: u64) -> u64 {
    const BACK: [u64; 2] = [inverse(MIX[1]), inverse(MIX[0])];
    for odd in BACK {
        x = (x ^ x >> 32).wrapping_mul(odd);
    }
    x ^ x >> 32
}

/// A number for a row at a version.
fn mark(row: u64, version: u32) -> u64 {
    mix(mix(row).wrapping_add(u64::from(version)))
}

/// The inverse of an odd number modulo 2^64 (Newton's iteration).
const fn inverse(odd: u64) -> u64 {
    let mut x = odd;
    let mut step = 0;
    while step < 6 {
        x = x.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(x)));
        step += 1;
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_value_that_was_not_written_is_caught() {
        let data = Dataset::new(10, 20, 100, true, 7);
        let (mut key, mut value) = (Vec::new(), Vec::new());
        let row = data.add_row().unwrap();
        data.key(row, &mut key);
        assert_eq!(data.row_of(&key).unwrap(), row);
        let change = data.change(row).await;
        data.value(row, change.version, &mut value);
        change.confirm();
        data.check(row, data.confirmed(row), Some(&value)).unwrap();
        assert!(data.check(row, 1, None).is_err(), "a missing row");
        assert!(data.check(row, 2, Some(&value)).is_err(), "a stale version");
        for at in 0..value.len() {
            let mut wrong = value.clone();
            wrong[at] ^= 1;
            assert!(data.check(row, 1, Some(&wrong)).is_err(), "byte {at}");
            assert!(data.check_row(&key, &wrong).is_err(), "byte {at}");
        }
        for cut in 0..value.len() {
            assert!(data.check(row, 1, Some(&value[..cut])).is_err(), "{cut} bytes");
        }
        assert_eq!(data.check_row(&key, &value).unwrap(), data.sum());
        data.missing_key(row, &mut key);
        assert!(data.check_row(&key, &value).is_err(), "a key that no row has");
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
    fn keys_have_one_length_come_back_and_are_in_order_unless_they_are_mixed() {
        for (hashed, key_bytes) in [(true, 16), (true, 20), (false, 16)] {
            let data = Dataset::new(1000, key_bytes, 16, hashed, 7);
            let (mut key, mut last, mut ascents) = (Vec::new(), Vec::new(), 0);
            for row in 0..1000 {
                data.key(row, &mut key);
                assert_eq!((key.len(), data.row_of(&key).unwrap()), (key_bytes, row));
                ascents += u32::from(last < key);
                last.clone_from(&key);
            }
            assert!(
                if hashed { (400..600).contains(&ascents) } else { ascents == 1000 },
                "{ascents} ascents"
            );
        }
    }

    #[test]
    fn what_a_scan_must_add_up_to_changes_with_every_row_and_version() {
        let data = Dataset::new(100, 16, 40, true, 7);
        let (mut key, mut value, mut sum) = (Vec::new(), Vec::new(), 0u64);
        for row in data.add_rows(100) {
            let version = data.issue_first(row);
            data.confirm_first(row);
            data.key(row, &mut key);
            data.value(row, version, &mut value);
            sum = sum.wrapping_add(data.check_row(&key, &value).unwrap());
        }
        assert_eq!((sum, data.written()), (data.sum(), 100));
        assert_ne!(sum.wrapping_sub(mark(7, 1)), data.sum(), "a row too few");
        assert_ne!(sum.wrapping_sub(mark(7, 1)).wrapping_add(mark(7, 2)), data.sum(), "another version");
    }

    #[test]
    fn values_compress_to_about_the_half_and_no_further() {
        let data = Dataset::new(1000, 16, 400, true, 7);
        let (mut value, mut block) = (Vec::new(), Vec::new());
        for row in 0..40 {
            data.value(row, 1, &mut value);
            block.extend_from_slice(&value);
        }
        let mut seen = std::collections::HashSet::new();
        let zeros = block.iter().filter(|b| **b == 0).count();
        assert!((0.45..0.55).contains(&(zeros as f64 / block.len() as f64)), "{zeros} zeros");
        let repeated =
            block.windows(8).step_by(8).filter(|w| w.iter().any(|b| *b != 0) && !seen.insert(*w)).count();
        assert!(repeated < 40, "{repeated} repeated words");
    }
}
