//! The engine's tests through its public API, one binary; a module a subject.

mod ahead;
mod budget;
mod cancelled;
mod compaction;
mod crashes;
mod faults;
mod formats;
mod hasty;
mod hostile;
mod losses;
mod manifest;
mod memory;
mod metamorphic;
mod pins;
mod reading;
mod refetch;
mod repair;
mod store;
mod uncollected;
mod verifying;
mod virtual_time;
mod wal;
mod writing;
