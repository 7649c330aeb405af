//! From a call to durable.
//!
//! | file | holds |
//! |---|---|
//! | `commit` | the verbs: limits, budget, and the wait for durability |
//! | `batch` | several changes as one |
//! | `head` | the one lock: log buffer, numbers, memtables, the version in use |
//! | `budget` | one memory budget, and the slow-down before it is full |
//! | `progress` | how far background work has come |
//! | `room` | waiting for memory |
//! | `fence` | opening: read the log, claim the epoch, fence the log, replay the rest |
//! | `flush` | the task that turns frozen memtables into level-0 SSTs |
//!
//! The task that sends the log lives a floor below, in `wal/writer`; what an opener is refused for, in `wal/behind`.

pub mod batch;
pub mod budget;
pub mod commit;
pub mod fence;
pub mod flush;
pub mod head;
pub mod progress;
mod room;

pub use batch::WriteBatch;
pub use commit::{Accepted, Delete, Put, Write};
pub use head::Writer;
