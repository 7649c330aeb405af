//! Esker: a log-structured merge-tree whose only durable home is an object store.

// The floors, from the ground up. A module may name only modules declared above it
// (checked by `tools/tests/tidy.rs`).
pub mod block;
pub mod blocking;
pub mod clock;
pub mod codec;
pub mod compaction;
pub mod db;
pub mod error;
pub mod key;
pub mod manifest;
pub mod memtable;
pub mod merge;
pub mod options;
pub mod range;
pub mod read;
pub mod sst;
pub mod stats;
pub mod store;
pub mod testing;
pub mod wal;
pub mod write;

pub use db::{Builder, Db, Keyspace};
pub use error::{Error, ErrorKind, Result};
pub use options::{Compaction, Options};
pub use range::KeyRange;
pub use read::{Reader, ReaderBuilder, Row, Scan, Snapshot, Token};
pub use write::{Accepted, WriteBatch};
