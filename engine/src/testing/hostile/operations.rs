//! Bytes as a program: puts, deletes, scans, flushes, compactions and reopenings, held against a sorted map.
//!
//! ```text
//! program = log window u8 ‖ operation …
//! operation = opcode u8 ‖ what it needs, byte by byte; a program that ends early reads zeroes
//! ```
//!
//! Always true: whatever the program, every read agrees with the map; no operation fails.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use object_store::memory::InMemory;

use crate::{
    Compaction, Db, KeyRange, Keyspace, Reader, Scan, WriteBatch,
    clock::SystemClock,
    error::{ErrorKind, Result},
    store::{ObjectStore, Store},
    testing::single_threaded,
};

/// The most operations of one program.
const MOST_OPERATIONS: usize = 400;
/// The most of those that open the database.
const MOST_OPENINGS: usize = 8;

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// The target of a program.
///
/// # Panics
///
/// If an answer is not what the map says, or an operation fails.
pub fn operations(input: &[u8]) {
    let _one_thread = single_threaded();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime can be made").block_on(async {
        World::run(Program { bytes: input }).await.expect("nothing fails on a sound store");
    });
}

/// The bytes that are left.
struct Program<'a> {
    bytes: &'a [u8],
}

impl Program<'_> {
    fn u8(&mut self) -> u8 {
        let (first, rest) = self.bytes.split_first().unwrap_or((&0, &[]));
        self.bytes = rest;
        *first
    }
    /// A key of a few letters, so that programs meet the same one again; now and then a long one.
    fn key(&mut self) -> Vec<u8> {
        let shape = self.u8();
        let letters = [0, b'a', b'b', 0xFF];
        let mut key: Vec<u8> =
            (0..shape & 3).map(|at| letters[(shape >> (2 + 2 * at) & 3) as usize]).collect();
        if shape == 0xFF {
            key.extend(std::iter::repeat_n(b'k', 16 * self.u8() as usize));
        }
        key
    }
    fn value(&mut self) -> Vec<u8> {
        let (byte, size) = (self.u8(), self.u8() as usize);
        let mut value = vec![byte; if size == 0xFF { 5_000 } else { size }];
        // Something that does not compress.
        value.iter_mut().enumerate().for_each(|(at, b)| *b = b.wrapping_add((at * at) as u8));
        value
    }
}

struct World {
    store: Arc<InMemory>,
    db: Db,
    keyspaces: [Keyspace; 2],
    model: [Rows; 2],
    openings: usize,
    wal_window: u32,
}

impl World {
    async fn run(mut program: Program<'_>) -> Result<()> {
        let store = Arc::new(InMemory::new());
        let wal_window = 1 + u32::from(program.u8() % 8);
        let (db, keyspaces) = Self::open(&store, wal_window).await?;
        let mut world = Self { store, db, keyspaces, model: Default::default(), openings: 1, wal_window };
        for _ in 0..MOST_OPERATIONS {
            if program.bytes.is_empty() {
                break;
            }
            world.step(&mut program).await?;
        }
        world.check_all().await?;
        world.reopen(false).await?;
        world.check_all().await?;
        world.db.close().await
    }

    async fn open(store: &Arc<InMemory>, wal_window: u32) -> Result<(Db, [Keyspace; 2])> {
        let objects: Arc<dyn ObjectStore> = Arc::clone(store) as _;
        let db = Db::builder("memory://operations")
            .object_store(objects)
            .compaction(Compaction::Off)
            .memory_bytes(1 << 20)
            .memtable_bytes(8 << 10)
            .cache_bytes(64 << 10)
            .block_bytes(256)
            .sst_bytes(4 << 10)
            .wal_window(wal_window)
            .open()
            .await?;
        let keyspaces = [db.default_keyspace(), db.keyspace("second").await?];
        Ok((db, keyspaces))
    }

    async fn step(&mut self, program: &mut Program<'_>) -> Result<()> {
        let opcode = program.u8();
        let which = (opcode >> 7) as usize;
        match opcode & 0x0F {
            0..=4 => {
                let (key, value) = (program.key(), program.value());
                self.keyspaces[which].put(&key, &value).accepted().await?;
                self.model[which].insert(key, value);
            }
            5 => {
                let (key, value) = (program.key(), program.value());
                self.keyspaces[which].put(&key, &value).await?;
                self.model[which].insert(key, value);
            }
            6 | 7 => {
                let key = program.key();
                self.keyspaces[which].delete(&key).accepted().await?;
                self.model[which].remove(&key);
            }
            8 => self.batch(program).await?,
            9 => {
                let key = program.key();
                let found = self.keyspaces[which].get(&key).await?.map(|value| value.to_vec());
                assert_eq!(found.as_ref(), self.model[which].get(&key), "get of {:?}", key.escape_ascii());
            }
            10 | 11 => self.scan(program, which).await?,
            12 => self.db.flush().await?,
            13 => match self.db.compact().await {
                // Who dropped the handle without closing it asked others to stay away for a while.
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                merged => merged?,
            },
            14 => self.reopen(which == 1).await?,
            _ => self.follow().await?,
        }
        Ok(())
    }

    async fn batch(&mut self, program: &mut Program<'_>) -> Result<()> {
        let mut batch = WriteBatch::new();
        for _ in 0..program.u8() % 8 {
            let (opcode, key) = (program.u8(), program.key());
            let which = (opcode & 1) as usize;
            if opcode & 2 == 0 {
                let value = program.value();
                batch.put(&self.keyspaces[which], &key, &value);
                self.model[which].insert(key, value);
            } else {
                batch.delete(&self.keyspaces[which], &key);
                self.model[which].remove(&key);
            }
        }
        if batch.is_empty() { Ok(()) } else { self.db.write(batch).accepted().await.map(drop) }
    }

    async fn scan(&mut self, program: &mut Program<'_>, which: usize) -> Result<()> {
        let (shape, mut start, mut end) = (program.u8(), program.key(), program.key());
        if start > end {
            std::mem::swap(&mut start, &mut end);
        }
        let bound = |kind: u8, key: Vec<u8>| match kind % 3 {
            0 => Bound::Unbounded,
            1 => Bound::Included(key),
            // Both ends excluded at one key is no range.
            _ => Bound::Excluded(key),
        };
        let same = start == end;
        let bounds =
            (bound(if same { 1 } else { shape }, start), bound(if same { 1 } else { shape >> 2 }, end));
        let limit = if shape & 0x40 == 0 { usize::MAX } else { 3 };
        let scan = self.keyspaces[which].scan_range(KeyRange::new(bounds.clone())?).limit(limit);
        let expected = self.model[which].range(bounds).map(|(key, value)| (key.clone(), value.clone()));
        if shape & 0x80 == 0 {
            assert_eq!(collect(scan).await?, expected.take(limit).collect::<Vec<_>>(), "a scan");
        } else {
            assert_eq!(
                collect(scan.rev()).await?,
                expected.rev().take(limit).collect::<Vec<_>>(),
                "a scan back"
            );
        }
        Ok(())
    }

    /// The database, opened by somebody else: after a clean end, or over the head of the one that is open.
    async fn reopen(&mut self, clean: bool) -> Result<()> {
        if self.openings >= MOST_OPENINGS {
            return Ok(());
        }
        self.openings += 1;
        self.db.sync().await?;
        if clean {
            self.db.close().await?;
        }
        (self.db, self.keyspaces) = Self::open(&self.store, self.wal_window).await?;
        Ok(())
    }

    /// Another process reads everything.
    async fn follow(&mut self) -> Result<()> {
        if self.openings >= MOST_OPENINGS {
            return Ok(());
        }
        self.openings += 1;
        self.db.sync().await?;
        let objects: Arc<dyn ObjectStore> = Arc::clone(&self.store) as _;
        let store = Store::from_object_store(objects, "memory://operations", SystemClock::shared());
        let reader = Reader::builder("memory://operations")
            .store(store)
            .cache_bytes(64 << 10)
            .follow(false)
            .open()
            .await?;
        for (name, rows) in [("default", &self.model[0]), ("second", &self.model[1])] {
            let scan = reader.keyspace(name).await?.strong().await?.scan_prefix("");
            let expected: Vec<_> = rows.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
            assert_eq!(collect(scan).await?, expected, "a reader of {name}");
        }
        reader.close().await
    }

    async fn check_all(&self) -> Result<()> {
        for (keyspace, rows) in self.keyspaces.iter().zip(&self.model) {
            let expected: Vec<_> = rows.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
            assert_eq!(collect(keyspace.scan_prefix("")).await?, expected, "all rows");
            let back: Vec<_> = expected.into_iter().rev().collect();
            assert_eq!(collect(keyspace.scan_prefix("").rev()).await?, back, "all rows back");
        }
        Ok(())
    }
}

async fn collect(mut scan: Scan) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut rows = Vec::new();
    while let Some(row) = scan.next().await? {
        rows.push((row.key.to_vec(), row.value.to_vec()));
    }
    Ok(rows)
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut chance = 0x9E37_79B9_7F4A_7C15_u64;
    let mut drawn = |n: usize| -> Vec<u8> {
        let next = |_| {
            chance ^= chance << 13;
            chance ^= chance >> 7;
            chance ^= chance << 17;
            (chance >> 24) as u8
        };
        (0..n).map(next).collect()
    };
    // Something of everything, and long stretches of writing with a flush at their end.
    let mut seeds = vec![drawn(60), drawn(300), drawn(900)];
    for opcode in [0x00, 0x80, 0x85] {
        let mut program = vec![3];
        for _ in 0..40 {
            program.push(opcode);
            program.extend(drawn(3));
        }
        program.extend([12, 0, 5, 1, 40, 12, 13, 10, 0, 0, 0, 14, 15, 0x8E, 11, 0x80, 0, 0]);
        seeds.push(program);
    }
    seeds
}
