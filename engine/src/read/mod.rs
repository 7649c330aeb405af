//! From a key to an answer.
pub mod superversion; pub mod fetch; pub mod get; pub mod multi_get; pub mod scan; pub mod snapshot; pub mod reader; pub mod freshness;
pub use fetch::Fetcher; pub use reader::{Reader, ReaderBuilder}; pub use scan::{Scan, Row}; pub use superversion::SuperVersion; pub use snapshot::Snapshot; pub use freshness::Token;
