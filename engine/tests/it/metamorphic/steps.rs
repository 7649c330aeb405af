//! The steps of a history.
//!
//! Always true: a step means the same whatever steps are left out around it, so that a history can be shortened.

use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};

/// One call, or a few that belong together. Keys and values are numbers; [`super::run`] spells them out.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Put {
        keyspace: u8,
        key: u16,
        bytes: u16,
    },
    Expiring {
        key: u16,
        seconds: u64,
    },
    Delete {
        keyspace: u8,
        key: u16,
    },
    Batch {
        keys: Vec<(u8, u16, Option<u16>)>,
    },
    Get {
        keyspace: u8,
        key: u16,
    },
    MultiGet {
        keys: Vec<u16>,
    },
    Scan {
        keyspace: u8,
        from: u16,
        to: u16,
        reverse: bool,
        limit: usize,
    },
    /// Holds a snapshot as number `slot`, instead of the one it held.
    Snapshot {
        slot: u8,
    },
    SnapshotGet {
        slot: u8,
        key: u16,
    },
    SnapshotScan {
        slot: u8,
        from: u16,
        limit: usize,
        reverse: bool,
    },
    ReaderGet {
        key: u16,
    },
    ReaderScan {
        from: u16,
        limit: usize,
        reverse: bool,
    },
    Flush,
    Compact,
    Collect,
    Later {
        seconds: u64,
    },
    Reopen,
}

const KEYS: u16 = 400;
pub(super) const SLOTS: u8 = 3;

/// The history of `seed`.
pub(super) fn draw(seed: u64, steps: usize) -> Vec<Step> {
    let mut chance = SmallRng::seed_from_u64(seed);
    (0..steps).map(|_| one(&mut chance)).collect()
}

fn one(chance: &mut SmallRng) -> Step {
    let keyspace = u8::from(chance.random_ratio(1, 5));
    // Some keys are hot.
    let mut key =
        || if chance.random_ratio(1, 3) { chance.random_range(0..20) } else { chance.random_range(0..KEYS) };
    let (key, from, to) = (key(), key(), key());
    let reverse = chance.random();
    let limit = if chance.random_ratio(1, 20) { usize::MAX } else { chance.random_range(1..30) };
    let slot = chance.random_range(0..SLOTS);
    let bytes = if chance.random_ratio(1, 40) {
        chance.random_range(2000..9000)
    } else {
        chance.random_range(0..200)
    };
    match chance.random_range(0..1000) {
        0..400 => Step::Put { keyspace, key, bytes },
        400..420 => Step::Expiring { key, seconds: chance.random_range(1..5000) },
        420..480 => Step::Delete { keyspace, key },
        480..540 => {
            let keys = (0..chance.random_range(1..8)).map(|n| {
                let value = (!chance.random_ratio(1, 4)).then_some(bytes % 300);
                (u8::from(n % 3 == 2), chance.random_range(0..KEYS), value)
            });
            Step::Batch { keys: keys.collect() }
        }
        540..700 => Step::Get { keyspace, key },
        700..740 => {
            Step::MultiGet { keys: (0..limit.min(20) as u16).map(|n| (from + n * 7) % KEYS).collect() }
        }
        740..850 => Step::Scan { keyspace, from, to, reverse, limit },
        850..865 => Step::Snapshot { slot },
        865..890 => Step::SnapshotGet { slot, key },
        890..910 => Step::SnapshotScan { slot, from, limit, reverse },
        910..925 => Step::ReaderGet { key },
        925..935 => Step::ReaderScan { from, limit, reverse },
        935..950 => Step::Flush,
        950..960 => Step::Compact,
        960..970 => Step::Collect,
        970..990 => Step::Later { seconds: chance.random_range(1..2000) },
        _ => Step::Reopen,
    }
}
