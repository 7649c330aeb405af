//! An entry on the SSD, and the account of those on their way to it.
//!
//! ```text
//! value   checksum u64 ‖ bytes          checksum = XXH3-64 of bytes, seeded with the hash of the id
//! key     object u128 ‖ offset u64      all little-endian
//! ```
//!
//! foyer frames this (header, value, key; padded to 4 KiB) and has a checksum of its own, which knows nothing of
//! where an entry belongs. Ours does: bytes of another block, however intact, do not pass for this one.
//!
//! Always true: the entries accepted and not yet on the SSD fit in one write buffer of the tier, so that foyer has
//! room for each of them. (Left to itself it drops what does not fit, and says nothing: foyer #1334.)

use std::{
    io::{Read, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use foyer::{Code, Error};
use parking_lot::Mutex;
use twox_hash::XxHash3_64;

use crate::id::BlockId;

/// Bytes of foyer's header and of our key and checksum, rounded up, in which an entry on the SSD is longer than its
/// bytes.
const FRAME_BYTES: usize = 128;

/// foyer aligns every entry to this.
const PAGE_BYTES: usize = 4096;

/// How many entries that left the write queue are remembered for [`Ledger::take_settled`].
const MAX_SETTLED: usize = 64;

/// A value in the SSD tier.
#[derive(Debug)]
pub(crate) struct SsdEntry {
    checksum: u64,
    bytes: Bytes,
    /// Released when foyer lets go of the entry: when it is on the SSD, or lost. None when read back.
    #[expect(dead_code, reason = "held for its drop")]
    ticket: Option<Ticket>,
}

/// What is on its way to the SSD, in bytes, and within which bound.
#[derive(Debug)]
pub(crate) struct Ledger {
    bound: usize,
    pending: AtomicUsize,
    pub(crate) accepted: AtomicU64,
    pub(crate) dropped: AtomicU64,
    settled: Mutex<Vec<BlockId>>,
}

/// Room in the write queue for one entry; gives it back when dropped.
#[derive(Debug)]
pub(crate) struct Ticket {
    ledger: Arc<Ledger>,
    id: BlockId,
    charge: usize,
}

/// How many bytes of the SSD an entry of `len` bytes takes.
pub(crate) fn footprint(len: usize) -> usize {
    len.saturating_add(FRAME_BYTES).next_multiple_of(PAGE_BYTES)
}

impl SsdEntry {
    /// An entry to be written. The checksum is computed here, as early as can be.
    pub(crate) fn new(id: &BlockId, bytes: Bytes, ticket: Ticket) -> Self {
        Self { checksum: checksum(id, &bytes), bytes, ticket: Some(ticket) }
    }

    /// The bytes, if they are those that were stored under `id`.
    pub(crate) fn verified(&self, id: &BlockId) -> Option<Bytes> {
        (checksum(id, &self.bytes) == self.checksum).then(|| self.bytes.clone())
    }
}

impl Code for SsdEntry {
    fn encode(&self, writer: &mut impl Write) -> Result<(), Error> {
        writer.write_all(&self.checksum.to_le_bytes()).map_err(Error::io_error)?;
        writer.write_all(&self.bytes).map_err(Error::io_error)
    }

    /// Allocates what `reader` holds, which foyer has bounded by the entry it read.
    fn decode(reader: &mut impl Read) -> Result<Self, Error> {
        let mut checksum = [0; 8];
        reader.read_exact(&mut checksum).map_err(Error::io_error)?;
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).map_err(Error::io_error)?;
        Ok(Self { checksum: u64::from_le_bytes(checksum), bytes: bytes.into(), ticket: None })
    }

    fn estimated_size(&self) -> usize {
        8 + self.bytes.len()
    }
}

impl Code for BlockId {
    fn encode(&self, writer: &mut impl Write) -> Result<(), Error> {
        writer.write_all(&self.object.to_le_bytes()).map_err(Error::io_error)?;
        writer.write_all(&self.offset.to_le_bytes()).map_err(Error::io_error)
    }

    fn decode(reader: &mut impl Read) -> Result<Self, Error> {
        let mut object = [0; 16];
        reader.read_exact(&mut object).map_err(Error::io_error)?;
        let mut offset = [0; 8];
        reader.read_exact(&mut offset).map_err(Error::io_error)?;
        Ok(Self { object: u128::from_le_bytes(object), offset: u64::from_le_bytes(offset) })
    }

    fn estimated_size(&self) -> usize {
        24
    }
}

impl Ledger {
    /// An account of at most `bound` bytes on their way.
    pub(crate) fn new(bound: usize) -> Arc<Self> {
        Arc::new(Self {
            bound,
            pending: AtomicUsize::new(0),
            accepted: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            settled: Mutex::new(Vec::new()),
        })
    }

    /// Room for an entry of `len` bytes, or a drop that is counted.
    pub(crate) fn ticket(self: &Arc<Self>, id: BlockId, len: usize) -> Option<Ticket> {
        let charge = footprint(len);
        let before = self.pending.fetch_add(charge, Relaxed);
        if before.saturating_add(charge) > self.bound {
            self.pending.fetch_sub(charge, Relaxed);
            self.dropped.fetch_add(1, Relaxed);
            return None;
        }
        self.accepted.fetch_add(1, Relaxed);
        Some(Ticket { ledger: self.clone(), id, charge })
    }

    /// Some of the entries that foyer let go of since the last call. They should be on the SSD now.
    pub(crate) fn take_settled(&self) -> Vec<BlockId> {
        std::mem::take(&mut *self.settled.lock())
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.ledger.pending.fetch_sub(self.charge, Relaxed);
        // May run inside foyer: takes no lock but this one, under which nothing else is called.
        let mut settled = self.ledger.settled.lock();
        if settled.len() < MAX_SETTLED {
            settled.push(self.id);
        }
    }
}

pub(crate) fn checksum(id: &BlockId, bytes: &[u8]) -> u64 {
    XxHash3_64::oneshot_with_seed(id.hash64(), bytes)
}
