//! Compressed bytes: decompressed into the length that is declared, or refused.
//!
//! ```text
//! input = flags u8 (bits 1 and 2: the codec) ‖ declared length u32 ‖ compressed bytes
//! ```

use super::{FIXED_BYTES, assert_refused};
use crate::{
    block::MAX_BLOCK_RAW,
    codec::frame::{Codec, compress, decompress},
};

const LIMIT: usize = MAX_BLOCK_RAW;

/// The target of compressed bytes.
pub fn frame(input: &[u8]) {
    let Some((head, stored)) = input.split_first_chunk::<5>() else { return };
    let Ok(codec) = Codec::from_u8(head[0] >> 1 & 3) else { return };
    let declared = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
    match decompress(codec, stored, declared, LIMIT) {
        Ok(raw) => {
            assert!(raw.len() == declared && declared <= LIMIT, "what is declared is what comes");
            let mut again = Vec::new();
            let used = compress(codec, &raw, &mut again);
            let back = decompress(used, &again, declared, LIMIT).expect("what was compressed decompresses");
            assert!(back == raw, "compressing keeps the bytes");
        }
        Err(error) => assert_refused(&error, None),
    }
}

/// What came out, that once more, and it compressed.
pub(super) fn ceiling(input_bytes: usize) -> usize {
    FIXED_BYTES + 8 * input_bytes + 4 * LIMIT.min(input_bytes.saturating_mul(32_768))
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let raw: [Vec<u8>; 3] =
        [b"as it is".to_vec(), b"sediment laid down by streams under ice. ".repeat(20), vec![0; 70_000]];
    let mut seeds = Vec::new();
    for codec in [Codec::None, Codec::Lz4, Codec::Zstd] {
        for raw in &raw {
            let mut stored = Vec::new();
            let used = compress(codec, raw, &mut stored);
            let head = [&[(used as u8) << 1][..], &(raw.len() as u32).to_le_bytes()].concat();
            seeds.push([head, stored].concat());
        }
    }
    seeds
}
