//! The write-ahead log: a numbered sequence of DATA and FENCE objects.
//!
//! [`LogBuffer`] is where a write is encoded once, [`record`] is what one object looks like, [`pipe`] is where those wait who
//! want it durable, [`writer`] sends objects to their slots, `pace` says when, and [`replay`] walks the slots: to take the log over from
//! a writer that may still be alive, and to follow one that is. `fence` puts what ends an older epoch, `loss` tells
//! the end of the log from a hole in it, `behind` a newest version from one that only looks like it, and `author` an
//! object of this history from one of another copy's.

mod author;
pub(crate) mod behind;
pub mod buffer;
pub(crate) mod fence;
pub(crate) mod loss;
mod pace;
pub mod pipe;
pub(crate) mod read;
pub mod record;
pub mod replay;
pub mod writer;

pub use author::Author;
pub use buffer::LogBuffer;
pub use record::{Op, SealedLog, WalHeader, WalObject};
pub use replay::{Cursor, Opened, Opening, ReplayedObject, Walk};

#[cfg(test)]
mod tests;
