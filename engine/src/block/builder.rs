//! Builds one block after another.
//!
//! Always true: the parts grow side by side and are laid end to end once, in
//! [`BlockBuilder::finish_into`], when the widths of the columns are known.

use bytes::BufMut;

use crate::{
    block::{
        KINDS_DIFFER, MAX_FULL_KEY_BYTES, MAX_VALUE_BYTES, RESTART_BYTES, TRAILER_BYTES, VERSION,
        search::common_prefix,
    },
    codec::varint::put_varint,
    key::{EntryRef, NEVER},
};

/// Collects entries, in order, into a block. Reused: finishing one begins the next.
///
/// ```
/// use esker::{block::{Block, BlockBuilder}, key::{EntryRef, Kind}};
///
/// let mut builder = BlockBuilder::new(16);
/// builder.add(EntryRef { key: b"\0\0\0\0k", seq: 1, kind: Kind::Put, expire_at_ms: 0, value: b"v" });
/// let block = Block::parse(builder.finish().into())?;
/// assert_eq!(block.get(b"\0\0\0\0k", u64::MAX)?.unwrap().value, "v");
/// # Ok::<(), esker::Error>(())
/// ```
#[derive(Debug)]
pub struct BlockBuilder {
    interval: usize,
    keys: Vec<u8>,
    values: Vec<u8>,
    seqs: Vec<u64>,
    expiries: Vec<u64>,
    kinds: Vec<u8>,
    restarts: Vec<(u32, u32)>,
    /// The key added last.
    last_key: Vec<u8>,
    bounds: Bounds,
}

/// What decides the widths of the columns.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    min_seq: u64,
    max_seq: u64,
    /// Of the entries that expire.
    min_expiry: u64,
    max_expiry: u64,
    kinds_differ: bool,
    any_never: bool,
}

impl Bounds {
    const NONE: Self = Self {
        min_seq: u64::MAX,
        max_seq: 0,
        min_expiry: u64::MAX,
        max_expiry: NEVER,
        kinds_differ: false,
        any_never: false,
    };

    fn seq_width(&self) -> usize {
        width(self.max_seq - self.min_seq)
    }
    fn expiry_width(&self) -> usize {
        let nobody_expires = self.max_expiry == NEVER;
        let all_alike = !self.any_never && self.min_expiry == self.max_expiry;
        if nobody_expires || all_alike { 0 } else { width(self.max_expiry - self.min_expiry + 1) }
    }
    fn base_expiry(&self) -> u64 {
        if self.max_expiry == NEVER { NEVER } else { self.min_expiry }
    }
    fn bytes_per_entry(&self) -> usize {
        self.seq_width() + self.expiry_width() + self.kinds_differ as usize
    }
}

impl BlockBuilder {
    /// Blocks with a restart at every `restart_interval`-th entry (1 to 65,535; 16 is a good one:
    /// fewer restarts share more, more of them are found faster).
    pub fn new(restart_interval: usize) -> Self {
        Self {
            interval: restart_interval.clamp(1, u16::MAX as usize),
            keys: Vec::new(),
            values: Vec::new(),
            seqs: Vec::new(),
            expiries: Vec::new(),
            kinds: Vec::new(),
            restarts: Vec::new(),
            last_key: Vec::new(),
            bounds: Bounds::NONE,
        }
    }

    /// Appends an entry. Whoever calls keeps the order, and the limits on keys and values.
    pub fn add(&mut self, entry: EntryRef<'_>) {
        debug_assert!(entry.key.len() <= MAX_FULL_KEY_BYTES && entry.value.len() <= MAX_VALUE_BYTES);
        let shared = if self.kinds.len().is_multiple_of(self.interval) {
            self.restarts.push((self.keys.len() as u32, self.values.len() as u32));
            0
        } else {
            common_prefix(&self.last_key, entry.key)
        };
        let unshared = &entry.key[shared..];
        if (shared | unshared.len() | entry.value.len()) < 0x80 {
            self.keys.extend_from_slice(&[shared as u8, unshared.len() as u8, entry.value.len() as u8]);
        } else {
            put_varint(&mut self.keys, shared as u64);
            put_varint(&mut self.keys, unshared.len() as u64);
            put_varint(&mut self.keys, entry.value.len() as u64);
        }
        self.keys.extend_from_slice(unshared);
        self.values.extend_from_slice(entry.value);
        self.last_key.truncate(shared);
        self.last_key.extend_from_slice(unshared);

        let bounds = &mut self.bounds;
        bounds.kinds_differ |= self.kinds.first().is_some_and(|first| *first != entry.kind as u8);
        bounds.min_seq = bounds.min_seq.min(entry.seq);
        bounds.max_seq = bounds.max_seq.max(entry.seq);
        if entry.expire_at_ms == NEVER {
            bounds.any_never = true;
        } else {
            bounds.min_expiry = bounds.min_expiry.min(entry.expire_at_ms);
            bounds.max_expiry = bounds.max_expiry.max(entry.expire_at_ms);
        }
        self.kinds.push(entry.kind as u8);
        self.seqs.push(entry.seq);
        self.expiries.push(entry.expire_at_ms);
    }

    /// The raw bytes that finishing now would give.
    pub fn size(&self) -> usize {
        let columns = if self.is_empty() { 0 } else { self.kinds.len() * self.bounds.bytes_per_entry() };
        self.keys.len() + self.values.len() + columns + self.restarts.len() * RESTART_BYTES + TRAILER_BYTES
    }
    /// How many entries were added since the last block was finished.
    pub fn entries(&self) -> usize {
        self.kinds.len()
    }
    /// Whether nothing was added since the last block was finished.
    pub fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }

    /// The raw bytes of the block; the builder is empty again.
    pub fn finish(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        self.finish_into(&mut out);
        out
    }

    /// Appends the raw bytes of the block to `out`; the builder is empty again and keeps its memory.
    /// A block is never empty: call only after [`Self::add`] (asserted).
    pub fn finish_into(&mut self, out: &mut Vec<u8>) {
        assert!(!self.is_empty(), "a block is never empty");
        let bounds = self.bounds;
        let (seq_width, expiry_width) = (bounds.seq_width(), bounds.expiry_width());
        let base_expiry = bounds.base_expiry();
        out.reserve_exact(self.size());
        out.extend_from_slice(&self.keys);
        out.extend_from_slice(&self.values);
        put_column(out, seq_width, self.seqs.iter().map(|seq| seq - bounds.min_seq));
        put_column(
            out,
            expiry_width,
            self.expiries.iter().map(|expiry| match *expiry {
                NEVER => 0,
                expiry => expiry - base_expiry + 1,
            }),
        );
        if bounds.kinds_differ {
            out.extend_from_slice(&self.kinds);
        }
        for (key_at, value_at) in &self.restarts {
            out.put_u32_le(*key_at);
            out.put_u32_le(*value_at);
        }
        out.put_u64_le(bounds.min_seq);
        out.put_u64_le(base_expiry);
        out.put_u32_le(self.kinds.len() as u32);
        out.put_u32_le(self.keys.len() as u32);
        out.put_u32_le(self.values.len() as u32);
        out.put_u16_le(self.interval as u16);
        let kind = if bounds.kinds_differ { KINDS_DIFFER } else { self.kinds[0] };
        let (flags, reserved) = (0, 0);
        out.extend_from_slice(&[seq_width as u8, expiry_width as u8, kind, flags, reserved, VERSION]);
        self.clear();
    }

    fn clear(&mut self) {
        self.keys.clear();
        self.values.clear();
        // One huge value must not be held for as long as the builder lives.
        self.values.shrink_to(KEPT_VALUE_BYTES);
        self.seqs.clear();
        self.expiries.clear();
        self.kinds.clear();
        self.restarts.clear();
        self.last_key.clear();
        self.bounds = Bounds::NONE;
    }
}

const KEPT_VALUE_BYTES: usize = 1 << 20;

/// The bytes that hold every number up to `largest`.
fn width(largest: u64) -> usize {
    (64 - largest.leading_zeros() as usize).div_ceil(8)
}

fn put_column(out: &mut Vec<u8>, width: usize, numbers: impl Iterator<Item = u64>) {
    if width > 0 {
        for number in numbers {
            out.extend_from_slice(&number.to_le_bytes()[..width]);
        }
    }
}
