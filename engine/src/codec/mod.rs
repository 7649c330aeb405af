//! Words to bytes: varints, framing, compression, hashes.
pub mod varint;
pub mod frame;
pub mod sum;
