//! Compression and checksums by place.
/// How a block is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Codec { None = 0, Lz4 = 1, Zstd = 2 }
