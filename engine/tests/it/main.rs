//! The engine's tests through its public API, one binary; a module a subject.

mod compaction;
mod formats;
mod hostile;
mod manifest;
mod memory;
mod reading;
mod store;
mod wal;
mod writing;
