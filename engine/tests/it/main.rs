//! The engine's tests through its public API, one binary; a module a subject.

mod compaction;
mod faults;
mod formats;
mod manifest;
mod memory;
mod reading;
mod store;
mod wal;
mod writing;
