//! Hostile bytes: a target for each thing that is decoded, shared by fuzzers and by our own mutation tests.
//!
//! A target takes any bytes and returns. On the way it asserts what must hold whatever they are: nothing
//! panics; what is refused is refused as `Corruption`, `Unsupported` or `Invalid`, naming the object (and for
//! a corruption the byte); what is accepted means the same after it has been written and read again, and the
//! same from front to back as from back to front. How much memory it may take is [`Target::ceiling`], which
//! whoever has a counting allocator asserts.
//!
//! ```text
//! input = flags u8 ‖ the object
//! flags   bit 0: seal it first, that is, mend its checksums and lengths, so that what lies behind them is
//!         reached (structure-aware fuzzing); the other bits are the target's own
//! ```
//!
//! `cargo test` runs each with a small mutation engine (`tests/it/hostile`), `engine/fuzz` with libFuzzer.
//!
//! Always true: the same input does the same; nothing here reads a clock, but for [`operations`].

mod block;
mod cache;
mod frame;
mod log;
mod metadata;
mod names;
mod operations;
mod seal;
mod sst;

pub use block::{block, packed};
pub use cache::entry;
pub use frame::frame;
pub use log::wal;
pub use metadata::{identity, job, manifest, part, pin};
pub use names::names;
pub use operations::operations;
pub use sst::sst;

use crate::{
    error::{Error, ErrorKind},
    key::{Entry, EntryRef, Kind},
    store::{ObjectId, Role},
};

/// In the first byte of an input: mend checksums and lengths first.
pub const SEAL: u8 = 1;

/// Whose SSTs and parts the targets take theirs for.
pub const ID: ObjectId = ObjectId { role: Role::Writer, epoch: 3, counter: 7, nonce: 0x0123_4567_89AB_CDEF };
/// Which database the targets are of.
pub const DB_UUID: u128 = 0x0123_4567_89AB_CDEF_0011_2233_4455_6677;
/// In which slot the targets' log objects and versions lie.
pub const SLOT: u64 = 7;

/// The most entries of one object that are kept to be compared with each other.
const MOST_ENTRIES: usize = 512;
/// The most bytes of their keys.
const MOST_KEY_BYTES: usize = 64 << 10;

/// Something that decodes bytes, with what is asserted of it.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, in file names too.
    pub name: &'static str,
    /// Takes any input, and panics only if something is wrong with the engine.
    pub run: fn(&[u8]),
    /// The most bytes that `run` may hold at one moment, by the bytes of the input.
    pub ceiling: fn(usize) -> usize,
    /// Inputs to start from: sound objects of every shape, sealed and not.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// What no decoder's fixed costs exceed: contexts of a decompressor, tables, scratch.
const FIXED_BYTES: usize = 2 << 20;

/// Every target.
pub const TARGETS: [Target; 13] = [
    Target { name: "block", run: block, ceiling: |n| FIXED_BYTES + 64 * n, seeds: block::seeds },
    // LZ4 may give 255 bytes for one, which are there as they came, built again, and packed again.
    Target { name: "packed", run: packed, ceiling: |n| FIXED_BYTES + 4096 * n, seeds: block::packed_seeds },
    Target { name: "sst", run: sst, ceiling: sst::ceiling, seeds: sst::seeds },
    // LZ4 may give 256 bytes for one, and an entry takes a dozen times its least encoding.
    Target { name: "wal", run: wal, ceiling: |n| FIXED_BYTES + 4096 * n, seeds: log::seeds },
    Target {
        name: "manifest",
        run: manifest,
        ceiling: |n| FIXED_BYTES + 64 * n,
        seeds: metadata::manifest_seeds,
    },
    Target { name: "part", run: part, ceiling: |n| FIXED_BYTES + 64 * n, seeds: metadata::part_seeds },
    Target {
        name: "identity",
        run: identity,
        ceiling: |n| FIXED_BYTES + 4 * n,
        seeds: metadata::identity_seeds,
    },
    Target { name: "pin", run: pin, ceiling: |n| FIXED_BYTES + 64 * n, seeds: metadata::pin_seeds },
    Target { name: "job", run: job, ceiling: |n| FIXED_BYTES + 64 * n, seeds: metadata::job_seeds },
    Target { name: "frame", run: frame, ceiling: frame::ceiling, seeds: frame::seeds },
    Target { name: "entry", run: entry, ceiling: |n| FIXED_BYTES + 8 * n, seeds: cache::seeds },
    Target { name: "names", run: names, ceiling: |n| FIXED_BYTES + 64 * n, seeds: names::seeds },
    Target { name: "operations", run: operations, ceiling: |_| usize::MAX, seeds: operations::seeds },
];

/// The target of this name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// Asserts that `error` is one that hostile bytes may cause, and says where they are.
fn assert_refused(error: &Error, object: Option<&str>) {
    assert!(
        matches!(error.kind(), ErrorKind::Corruption | ErrorKind::Unsupported | ErrorKind::Invalid),
        "bytes were refused as {error:?}"
    );
    if let Some(object) = object {
        assert_eq!(error.object(), Some(object), "the wrong object is named: {error:?}");
        assert!(
            error.offset().is_some() || error.kind() != ErrorKind::Corruption,
            "no byte is named: {error:?}"
        );
    }
}

/// An entry, with a hash in place of its value: a few bytes may declare a value of many.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    key: Vec<u8>,
    seq: u64,
    kind: Kind,
    expire_at_ms: u64,
    value: (usize, u64),
}

impl Seen {
    fn of(entry: EntryRef<'_>) -> Self {
        let EntryRef { key, seq, kind, expire_at_ms, value } = entry;
        let value = (value.len(), crate::codec::frame::checksum(0, value));
        Self { key: key.to_vec(), seq, kind, expire_at_ms, value }
    }
}

/// Entries as they were seen, up to the limits.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sightings {
    seen: Vec<Seen>,
    key_bytes: usize,
    /// How many there were in all.
    entries: u64,
}

impl Sightings {
    fn note(&mut self, entry: EntryRef<'_>) {
        self.entries += 1;
        if self.seen.len() < MOST_ENTRIES && self.key_bytes + entry.key.len() <= MOST_KEY_BYTES {
            self.key_bytes += entry.key.len();
            self.seen.push(Seen::of(entry));
        }
    }
    /// Whether none was left out.
    fn is_complete(&self) -> bool {
        self.seen.len() as u64 == self.entries
    }
    /// Asserts that `other`, seen in the other direction, is the same.
    fn assert_reverse_of(&self, other: &Self) {
        assert_eq!(self.entries, other.entries, "a walk back finds another number of entries");
        if self.is_complete() {
            assert!(self.seen.iter().eq(other.seen.iter().rev()), "a walk back finds other entries");
        }
    }
}

/// Entries of every kind and width, in internal order: `count` of them, alike for the same `variant`.
fn sample_entries(count: u64, variant: u64) -> Vec<Entry> {
    let mut entries: Vec<Entry> = (0..count)
        .map(|n| {
            let key = match variant % 3 {
                0 => format!("\0\0\0\0user/{:04}", n / 2),
                1 => format!("\0\0\0\0{}{:05}", "k".repeat((n % 7) as usize * 20 + 150), n),
                _ => format!("\0\0\0{}{:03}", (n / 20) as u8 as char, n),
            };
            let seq = (count - n) * [1, 300, 70_000, 1 << 40][(variant % 4) as usize];
            let kind = if n % 5 == 3 { Kind::Delete } else { Kind::Put };
            let expire_at_ms = if n % 4 == 1 { 1_700_000_000_000 + n * variant } else { 0 };
            let repeats = if kind == Kind::Put { (n % 4) as usize } else { 0 };
            let value = format!("value {n}").repeat(repeats);
            Entry { key: key.into_bytes().into(), seq, kind, expire_at_ms, value: value.into() }
        })
        .collect();
    entries.sort_by(|a, b| a.key.cmp(&b.key).then(b.seq.cmp(&a.seq)));
    entries
}

/// Each object as an input twice: as it is, and to be sealed.
fn as_inputs(objects: impl IntoIterator<Item = Vec<u8>>) -> Vec<Vec<u8>> {
    objects.into_iter().flat_map(|object| [0, SEAL].map(|flags| [&[flags][..], &object].concat())).collect()
}
