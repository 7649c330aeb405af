//! From a call to durable.
pub mod batch; pub mod commit; pub mod fence; pub mod flush; pub mod budget;
pub use batch::WriteBatch; pub use commit::{Accepted, Put, Delete, Write};
