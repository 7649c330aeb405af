//! The open log buffer: a batch is encoded here once, and the memtable shares the bytes.
//!
//! The caller's slices are copied exactly once, into a chunk; the entries handed on are slices of
//! that chunk, and so is what is uploaded later. A batch never spans chunks, because a key or value
//! must lie in one piece; a large batch gets a chunk of its own, cut to measure, so that at most a
//! quarter of a chunk is ever left unused.
//!
//! Always true: bytes that have been handed out are never moved or written again; sequence numbers
//! only ascend.

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    codec::{frame::checksum, varint::varint_bytes},
    key::{Entry, Seq},
    wal::record::{BATCH_LENGTH_BYTES, BATCH_SEED, CHECKSUM_BYTES, Op, SealedLog, Small},
};

/// The bytes of a chunk. A memtable entry keeps its whole chunk alive.
const CHUNK_BYTES: usize = 64 << 10;
/// A batch above this gets a chunk of its own.
const LARGE_BATCH_BYTES: usize = CHUNK_BYTES / 4;

/// Encodes batches as they will lie in a WAL object. Owned by whoever holds the writer's lock.
///
/// ```
/// use esker::{key::Kind, wal::{LogBuffer, Op}};
///
/// let mut log = LogBuffer::new(1);
/// let put = Op { kind: Kind::Put, key: b"\0\0\0\0k", expire_at_ms: 0, value: b"v" };
/// let mut entries = Vec::new();
/// log.append(1, [put].into_iter(), |entry| entries.push(entry));
/// assert_eq!(entries[0].as_ref().value, b"v");
/// assert_eq!(log.seal(2).last_seq, 1);
/// assert!(log.is_empty());
/// ```
#[derive(Debug)]
pub struct LogBuffer {
    first_seq: Seq,
    next_seq: Seq,
    open: BytesMut,
    batches: Vec<Bytes>,
    bytes: usize,
    entries: u32,
}

impl LogBuffer {
    /// An empty buffer, whose first entry will have number `first_seq` or a later one.
    pub fn new(first_seq: Seq) -> Self {
        Self {
            first_seq,
            next_seq: first_seq,
            open: BytesMut::new(),
            batches: Vec::new(),
            bytes: 0,
            entries: 0,
        }
    }

    /// Encodes a batch whose first op has number `first`, the next `first + 1` and so on; then calls
    /// `each` with every op as an [`Entry`] that shares the buffer's bytes. An empty batch is nothing.
    ///
    /// # Panics
    ///
    /// If `first` is not above every number already here, or the batch is 4 GiB or more: the caller
    /// gives out the numbers and bounds the batch.
    pub fn append<'a, I>(&mut self, first: Seq, ops: I, mut each: impl FnMut(Entry))
    where
        I: ExactSizeIterator<Item = Op<'a>> + Clone,
    {
        let count = ops.len();
        if count == 0 {
            return;
        }
        assert!(first >= self.next_seq, "sequence number {first} was given out before {}", self.next_seq);
        let delta = first - self.first_seq;
        let head = BATCH_LENGTH_BYTES + varint_bytes(delta) + varint_bytes(count as u64);
        let bytes = head + ops.clone().map(|op| op.bytes()).sum::<usize>() + CHECKSUM_BYTES;
        let length = u32::try_from(bytes).expect("a batch is bounded far below 4 GiB by its builder");

        let mut own;
        let out = if bytes > LARGE_BATCH_BYTES {
            own = BytesMut::with_capacity(bytes);
            &mut own
        } else {
            if self.open.capacity() < bytes {
                self.open = BytesMut::with_capacity(CHUNK_BYTES);
            }
            &mut self.open
        };
        let mut small = Small::default();
        small.put(&length.to_le_bytes());
        small.varint(delta);
        small.varint(count as u64);
        for op in ops.clone() {
            op.put_head(&mut small);
            out.put_slice(small.filled());
            out.put_slice(op.key);
            out.put_slice(op.value);
            small.clear();
        }
        out.put_u64_le(checksum(BATCH_SEED, out));
        debug_assert_eq!(out.len(), bytes, "the batch was measured wrongly");
        // The filled part goes out for good; what is left of the chunk's capacity stays here.
        let batch = out.split().freeze();

        let mut at = head;
        for (op, seq) in ops.zip(first..) {
            at += op.head_bytes();
            let key = batch.slice(at..at + op.key.len());
            at += op.key.len();
            let value = batch.slice(at..at + op.value.len());
            at += op.value.len();
            each(Entry { key, seq, kind: op.kind, expire_at_ms: op.expire_at_ms, value });
        }
        self.next_seq = first + count as u64;
        self.entries += count as u32;
        self.bytes += bytes;
        self.batches.push(batch);
    }

    /// The encoded bytes since the last seal.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing has been appended since the last seal.
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Takes what is in the buffer; the buffer starts again at `next_seq`.
    pub fn seal(&mut self, next_seq: Seq) -> SealedLog {
        assert!(next_seq >= self.next_seq, "the log goes on at {next_seq}, below {}", self.next_seq);
        let sealed = SealedLog {
            first_seq: self.first_seq,
            last_seq: self.next_seq.saturating_sub(1),
            batches: self.batches.len() as u32,
            entries: self.entries,
            bytes: self.bytes,
            chunks: std::mem::take(&mut self.batches),
        };
        (self.first_seq, self.next_seq) = (next_seq, next_seq);
        (self.bytes, self.entries) = (0, 0);
        sealed
    }
}
