//! A small mutation engine: from sound inputs to nearly sound ones.
//!
//! Always true: the same seed gives the same inputs.

/// Chance from a seed (SplitMix64).
#[derive(Debug, Clone)]
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    }
    /// A number under `end`; 0 if that is 0.
    pub(super) fn under(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { (self.next() % end as u64) as usize }
    }
    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.under(of.len())]
    }
}

/// The longest input that is made.
const MOST_BYTES: usize = 64 << 10;

/// Numbers at which decoders break.
const INTERESTING: [u64; 22] = [
    0,
    1,
    2,
    7,
    8,
    16,
    36,
    127,
    128,
    255,
    256,
    1 << 12,
    0x7FFF,
    0xFFFF,
    1 << 16,
    (1 << 31) - 1,
    1 << 31,
    u32::MAX as u64,
    1 << 32,
    1 << 62,
    i64::MAX as u64,
    u64::MAX,
];

/// An input: a seed of the corpus, changed in one to six ways.
pub(super) fn mutated(corpus: &[Vec<u8>], chance: &mut Chance) -> Vec<u8> {
    let mut input = chance.pick(corpus).clone();
    if input.is_empty() {
        input.push(0);
    }
    if chance.under(2) == 0 {
        // Sealed, more often than the corpus has it.
        input[0] |= 1;
    }
    for _ in 0..1 + chance.under(6) {
        change(&mut input, corpus, chance);
    }
    input.truncate(MOST_BYTES);
    input
}

fn change(input: &mut Vec<u8>, corpus: &[Vec<u8>], chance: &mut Chance) {
    let at = chance.under(input.len());
    match chance.under(12) {
        // A bit, a byte.
        0 | 1 => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << chance.under(8);
            }
        }
        2 => {
            if let Some(byte) = input.get_mut(at) {
                *byte = *chance.pick(&[0, 1, 0x7F, 0x80, 0xFE, 0xFF, chance.clone().next() as u8]);
            }
        }
        // A field: near the front, near the end, anywhere.
        3..=5 => {
            let width = *chance.pick(&[2usize, 4, 8]);
            let window = 160.min(input.len());
            let at = match chance.under(3) {
                0 => chance.under(window),
                1 => input.len() - window + chance.under(window),
                _ => at,
            };
            let value = *chance.pick(&INTERESTING);
            let near = chance.under(3) as u64;
            if let Some(field) = input.get_mut(at..at + width) {
                let mut old = [0; 8];
                old[..width].copy_from_slice(field);
                let old = u64::from_le_bytes(old);
                let new = match chance.under(4) {
                    0 => old.wrapping_add(1 + near),
                    1 => old.wrapping_sub(1 + near),
                    _ => value.wrapping_sub(near),
                };
                field.copy_from_slice(&new.to_le_bytes()[..width]);
            }
        }
        // A varint in place of a byte.
        6 => {
            let mut varint = Vec::new();
            esker::codec::varint::put_varint(&mut varint, *chance.pick(&INTERESTING));
            let end = (at + 1).min(input.len());
            input.splice(at..end, varint);
        }
        // A stretch is cut out, doubled, or moved.
        7 => {
            let end = (at + 1 + chance.under(64)).min(input.len());
            input.drain(at..end);
        }
        8 => {
            let end = (at + 1 + chance.under(64)).min(input.len());
            let stretch = input[at..end].to_vec();
            let to = chance.under(input.len());
            input.splice(to..to, stretch);
        }
        // The end of another, or a piece of one.
        9 => {
            let other = chance.pick(corpus);
            let from = chance.under(other.len());
            input.truncate(at.max(1));
            input.extend_from_slice(&other[from..]);
        }
        10 => {
            let other = chance.pick(corpus);
            let from = chance.under(other.len());
            let piece = &other[from..(from + 1 + chance.under(80)).min(other.len())];
            let end = (at + piece.len()).min(input.len());
            input.splice(at.max(1).min(end)..end, piece.iter().copied());
        }
        // Cut off, or longer.
        _ => {
            if chance.under(2) == 0 {
                input.truncate(at.max(1));
            } else {
                let byte = chance.next() as u8;
                input.extend(std::iter::repeat_n(byte, 1 + chance.under(40)));
            }
        }
    }
    if input.is_empty() {
        input.push(1);
    }
}
