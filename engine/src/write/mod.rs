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
//! | `behind` | opening: refusing to go on behind a version that was lost |
//! | `fence` | opening: claim the epoch, fence the log, replay it |
//! | `flush` | the task that turns frozen memtables into level-0 SSTs |
//!
//! The task that sends the log lives a floor below, in `wal/writer`.

pub(crate) mod behind;
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
