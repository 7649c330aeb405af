//! Words to bytes: varints, compression and checksums by place, envelopes, the conservation sum.
//!
//! Pure functions over bytes already here. Nothing in this floor knows an object's name, so its
//! errors carry what was wrong and where in the bytes, and the caller adds the object.
//!
//! Always true: little-endian or varint, never `usize`; a length is checked before it is allocated.

pub(crate) mod envelope;
pub mod frame;
pub mod sum;
pub mod varint;

#[cfg(test)]
mod tests;
