//! Esker: a log-structured merge-tree whose only durable home is an object store.

// The floors, from the ground up. A module may name only modules declared above it
// (checked by `tools/tests/tidy.rs`).
pub mod error;
pub mod clock;
pub mod chaos;
pub mod stats;
pub mod memory;
pub mod key;
pub mod range;
mod near;
pub mod codec;
pub mod block;
pub mod store;
pub mod sst;
pub mod manifest;
pub mod wal;
pub mod memtable;
pub mod merge;
pub mod compaction;
pub mod read;
pub mod verify;
pub mod repair;
pub mod write;
pub mod options;
pub mod db;
pub mod blocking;
pub mod testing;

pub use clock::blocking_threads;
pub use db::{Builder, Db, Keyspace};
pub use error::{Error, ErrorKind, Result};
pub use options::{Compaction, Options};
pub use range::KeyRange;
pub use read::{Reader, ReaderBuilder, Row, Scan, Snapshot, Token};
pub use write::{Accepted, WriteBatch};

/// The programs in README.md are compiled by `cargo test`.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
