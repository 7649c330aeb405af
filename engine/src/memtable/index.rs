//! Which entry of a key is the newest: a hash table that one thread fills and any number read, without locks.
//!
//! ```text
//! table = power of two of words, half of them empty at least; linear probing
//! word  = 0, or tag (32 bits of the key's hash) ‖ number of the key's newest entry + 1
//! ```
//!
//! A table that is half full is followed by one of twice its size. The old one stays until the memtable goes, because
//! readers may be in it: it lacks only what came later than those reads. Who inserts moves all words at once, and writers
//! wait for it: a MiB or two where rows have hundreds of bytes, some milliseconds for the last table where they have ten.
//!
//! Always true: a word only ever changes from 0 to a key, or from one entry of a key to a newer one of the same key; a
//! reader sees every entry whose insert had returned when it began.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

/// The words of the first table.
const FIRST_WORDS: usize = 256;
/// Tables, each twice the one before: the last has a word for more numbers than there are.
const TABLES: usize = 26;

#[derive(Debug)]
pub(super) struct HashIndex {
    tables: [OnceLock<Box<[AtomicU64]>>; TABLES],
    /// The table to read.
    newest: AtomicUsize,
    keys: AtomicUsize,
}

/// Where a key's word lies in the newest table, and what it says.
pub(super) struct Located {
    at: usize,
    /// The newest entry so far.
    pub(super) number: Option<u32>,
}

impl HashIndex {
    pub(super) fn new() -> Self {
        let tables = [const { OnceLock::new() }; TABLES];
        let first = tables[0].get_or_init(|| empty(FIRST_WORDS));
        debug_assert_eq!(first.len(), FIRST_WORDS);
        Self { tables, newest: AtomicUsize::new(0), keys: AtomicUsize::new(0) }
    }

    /// The number of keys.
    pub(super) fn keys(&self) -> usize {
        self.keys.load(Ordering::Relaxed)
    }

    /// The newest entry of the key that has this hash and of which `is_it` says so.
    #[inline]
    pub(super) fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        locate(self.table(), tag_of(hash), is_it)?.number
    }

    /// Where the key's newest entry is to be [set](Self::set). Only by the thread that inserts.
    pub(super) fn locate(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<Located> {
        if self.keys() * 2 >= self.table().len() {
            self.grow();
        }
        locate(self.table(), tag_of(hash), is_it)
    }

    /// Makes `number` the newest entry of the key at `place`. Only by the thread that inserts.
    pub(super) fn set(&self, place: &Located, hash: u64, number: u32) {
        if place.number.is_none() {
            self.keys.store(self.keys() + 1, Ordering::Relaxed);
        }
        self.table()[place.at].store(word(tag_of(hash), number), Ordering::Release);
    }

    #[inline]
    fn table(&self) -> &[AtomicU64] {
        self.tables[self.newest.load(Ordering::Acquire)].get().map_or(&[], |table| table)
    }

    /// The last table of all takes keys until it is full.
    #[cold]
    fn grow(&self) {
        let old = self.table();
        let newest = self.newest.load(Ordering::Relaxed);
        let Some(next) = self.tables.get(newest + 1) else { return };
        let table = empty(old.len() * 2);
        for word in old.iter().map(|word| word.load(Ordering::Relaxed)).filter(|word| *word != 0) {
            let mut at = (word >> 32) as usize & (table.len() - 1);
            while table[at].load(Ordering::Relaxed) != 0 {
                at = (at + 1) & (table.len() - 1);
            }
            table[at].store(word, Ordering::Relaxed);
        }
        if next.set(table).is_ok() {
            self.newest.store(newest + 1, Ordering::Release);
        }
    }
}

/// `None` if the table is full of other keys.
#[inline]
fn locate(table: &[AtomicU64], tag: u32, is_it: impl Fn(u32) -> bool) -> Option<Located> {
    let mask = table.len().checked_sub(1)?;
    let mut at = tag as usize & mask;
    for _ in 0..table.len() {
        let found = table[at].load(Ordering::Acquire);
        if found == 0 {
            return Some(Located { at, number: None });
        }
        if (found >> 32) as u32 == tag {
            let number = (found as u32).wrapping_sub(1);
            if is_it(number) {
                return Some(Located { at, number: Some(number) });
            }
        }
        at = (at + 1) & mask;
    }
    None
}

fn empty(words: usize) -> Box<[AtomicU64]> {
    (0..words).map(|_| AtomicU64::new(0)).collect()
}

/// The half of the hash that the filters' cache lines are not chosen by.
#[inline]
fn tag_of(hash: u64) -> u32 {
    (hash >> 32) as u32
}

#[inline]
fn word(tag: u32, number: u32) -> u64 {
    u64::from(tag) << 32 | u64::from(number + 1)
}
