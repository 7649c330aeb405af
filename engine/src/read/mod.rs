//! From a key to an answer.
//!
//! ```text
//! get, multi_get ─┐                        ┌─ memtables            (no bytes missing, ever)
//! scan ── merge ──┼─ SuperVersion + number ┤
//! snapshot ───────┘                        └─ runs ─ Fetcher ─ cache ─ SSD ─ one ranged GET
//!                                  keeper ─ pins what long reads are at
//! reader ─ follow ─ keeps a SuperVersion up to date from the manifest and the log of another process
//! ```
//!
//! Searching and merging are synchronous; what they find missing is brought by the [`Fetcher`], all of
//! it in one parallel round, and they resume.
//!
//! Always true: a read sees one [`SuperVersion`] and one sequence number from beginning to end.

mod distance;
pub mod fetch;
mod follow;
mod holds;
mod keeper;

pub mod freshness;
pub mod get;
pub mod multi_get;
pub mod reader;
pub mod scan;
pub mod snapshot;
pub mod superversion;
mod tails;
mod window;

pub use fetch::{Fetched, Fetcher};
pub use freshness::Token;
pub use get::{get, get_cached};
pub use multi_get::multi_get;
pub use reader::{Reader, ReaderBuilder};
pub use scan::{Row, Scan};
pub use snapshot::Snapshot;
pub use superversion::SuperVersion;
