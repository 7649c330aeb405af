//! An option set: all that must not matter.

use esker::{
    Compaction,
    manifest::{StoredOptions, StoredShape},
};
use rand::{SeedableRng as _, rngs::SmallRng, seq::IndexedRandom as _};

/// Where the objects lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In memory, in virtual time.
    Memory,
    /// In memory, behind faults: calls that fail, lose their reply, land late, come twice.
    Faulty,
    /// In a directory, in real time.
    Directory,
}

/// What a process and a database may be set to.
#[derive(Debug, Clone)]
pub(super) struct Choices {
    pub(super) place: Place,
    pub(super) stored: StoredOptions,
    pub(super) memory_bytes: usize,
    pub(super) memtable_bytes: usize,
    pub(super) cache_bytes: usize,
    pub(super) cache_on_ssd: bool,
    pub(super) compaction: Compaction,
    /// Whether flush, compact and collect do what they say, or nothing.
    pub(super) tends: bool,
    pub(super) chance: u64,
}

impl Choices {
    /// Everything in one memtable, nothing flushed, merged or collected.
    pub(super) fn plain() -> Self {
        Self {
            place: Place::Memory,
            stored: StoredOptions::standard(),
            memory_bytes: 256 << 20,
            memtable_bytes: 64 << 20,
            cache_bytes: 16 << 20,
            cache_on_ssd: false,
            compaction: Compaction::Off,
            tends: false,
            chance: 0,
        }
    }

    /// The `n`-th set for the history of `seed`.
    pub(super) fn draw(seed: u64, n: u64) -> Self {
        let chance = &mut SmallRng::seed_from_u64(seed.wrapping_mul(1000) + n);
        let mut pick = |from: &[u64]| *from.choose(chance).expect("there is a choice");
        let shapes = [StoredShape::leveled(), StoredShape::tiered(), StoredShape::lazy_leveled()];
        let shape = StoredShape {
            l0_runs: pick(&[1, 2, 4, 8]) as u32,
            base_bytes: pick(&[16 << 10, 64 << 10, 1 << 20]),
            ratio: pick(&[2, 4, 10]) as u32,
            ..shapes[pick(&[0, 1, 2]) as usize].clone()
        };
        let codecs = vec![pick(&[0, 1, 2]) as u32, pick(&[0, 1, 2]) as u32];
        let stored = StoredOptions {
            block_bytes: pick(&[256, 1024, 16 << 10]) as u32,
            restart_interval: pick(&[1, 3, 16, 64]) as u32,
            filter_bits_per_key: pick(&[0, 4, 10, 20]) as u32,
            codecs,
            sst_bytes: pick(&[4 << 10, 32 << 10, 64 << 20]),
            shape,
            retention_ms: pick(&[0, 900_000, 86_400_000]),
            wal_window: pick(&[1, 2, 8, 64]) as u32,
        };
        // Directories sync every object, which takes its time: few of them.
        let place = match pick(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]) {
            0 => Place::Directory,
            1..=5 => Place::Faulty,
            _ => Place::Memory,
        };
        Self {
            place,
            stored,
            memory_bytes: pick(&[1 << 20, 4 << 20, 64 << 20]) as usize,
            memtable_bytes: pick(&[4 << 10, 16 << 10, 256 << 10]) as usize,
            cache_bytes: pick(&[64 << 10, 1 << 20, 64 << 20]) as usize,
            cache_on_ssd: place == Place::Directory && pick(&[0, 1]) == 1,
            compaction: if pick(&[0, 1]) == 1 { Compaction::InProcess } else { Compaction::Off },
            tends: true,
            chance: pick(&[1, 2, 3, 4, 5, 6, 7]),
        }
    }
}
