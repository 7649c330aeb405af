//! The write-ahead log: a numbered sequence of DATA and FENCE objects.
pub mod record;
pub mod writer;
pub mod replay;
pub use record::{LogBuffer, SealedLog, WalObject};
