//! Builds an SST from entries in order, handing out finished bytes while later ones are built.
//!
//! Always true: bytes that were handed out never change; their checksums, the object's hash and the
//! conservation sum were computed over the very bytes and entries that went in.

use bytes::{BufMut, Bytes};
use prost::Message;
use twox_hash::XxHash3_128;

use crate::{
    block::{BlockBuilder, MAX_BLOCK_RAW, MAX_FULL_KEY_BYTES},
    codec::frame::{Codec, checksum, compress, place_seed},
    error::{Error, ErrorKind, Result},
    key::{EntryRef, KEYSPACE_BYTES, Kind, MAX_VALUE_BYTES, Seq},
    sst::{
        SstCache, SstMeta, Warmth, cached, filter,
        footer::{FOOTER_BYTES, Footer, Properties},
        index::{IndexBuilder, MAX_INDEX_BYTES},
        reader::key_hash,
        tally::Tally,
    },
    store::{Name, ObjectId},
};

/// How an SST is laid out. Stored in the database and in every SST; a reader needs none of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SstOptions {
    /// The raw size that blocks are cut at (default 16 KiB). Smaller ones read less per point read,
    /// larger ones compress better and need a smaller index. One entry that is larger has a block alone.
    pub block_bytes: usize,
    /// Entries from one restart to the next (default 16): fewer restarts share more, more are found faster.
    pub restart_interval: usize,
    /// How blocks are compressed.
    pub codec: Codec,
    /// Bits of filter per key (default 10: 1 % false maybes); 0 is no filter.
    pub filter_bits_per_key: u32,
}

impl Default for SstOptions {
    fn default() -> Self {
        Self { block_bytes: 16 << 10, restart_interval: 16, codec: Codec::Lz4, filter_bits_per_key: 10 }
    }
}

/// The end of an SST.
#[derive(Debug)]
pub struct Finished {
    /// What was not yet taken with [`SstBuilder::take_ready`], in order; the tail is the last.
    pub chunks: Vec<Bytes>,
    /// The manifest's entry.
    pub meta: SstMeta,
}

/// Builds one SST.
#[derive(Debug)]
pub struct SstBuilder {
    id: ObjectId,
    options: SstOptions,
    block: BlockBuilder,
    /// The raw bytes of the block being finished.
    raw: Vec<u8>,
    /// Stored blocks that are not yet a chunk.
    chunk: Vec<u8>,
    ready: Vec<Bytes>,
    /// Bytes of all stored blocks.
    offset: u64,
    hasher: Hasher,
    key_hashes: Vec<u64>,
    index: IndexBuilder,
    tally: Tally,
    first_key: Bytes,
    last_key: Vec<u8>,
    last_seq: Seq,
    raw_block_bytes: u64,
    compressed_blocks: u64,
    /// Where warm blocks go as they are built.
    cache: Option<SstCache>,
    warmth: cached::WarmEntries,
}

/// The running hash of the object.
struct Hasher(XxHash3_128);

/// Blocks are handed out in chunks of about this many bytes.
const CHUNK_BYTES: usize = 1 << 20;

impl SstBuilder {
    /// An SST that will be the object `id`: the id goes into every checksum.
    pub fn new(id: ObjectId, options: SstOptions) -> Self {
        // Whatever a version asks for, a block that is written can be read.
        let options = SstOptions { block_bytes: options.block_bytes.min(MAX_BLOCK_RAW), ..options };
        Self {
            id,
            options,
            block: BlockBuilder::new(options.restart_interval),
            raw: Vec::new(),
            chunk: Vec::new(),
            ready: Vec::new(),
            offset: 0,
            hasher: Hasher(XxHash3_128::new()),
            key_hashes: Vec::new(),
            index: IndexBuilder::default(),
            tally: Tally::new(),
            first_key: Bytes::new(),
            last_key: Vec::new(),
            last_seq: 0,
            raw_block_bytes: 0,
            compressed_blocks: 0,
            cache: None,
            warmth: cached::WarmEntries::default(),
        }
    }

    /// The same, and what is warm of it goes into `cache`, if there is one: see [`Self::add_warm`].
    #[must_use]
    pub fn warming(mut self, cache: Option<SstCache>) -> Self {
        self.cache = cache;
        self
    }

    /// Appends an entry. They come in internal order: full key ascending, seq descending.
    ///
    /// Fails with `Corruption` if they do not (what was being merged is not what was written), and
    /// with `Invalid` or `Unsupported` on a key, value or kind that no SST may hold among its points.
    pub fn add(&mut self, entry: EntryRef<'_>) -> Result<()> {
        self.add_warm(entry, Warmth::Cold)
    }

    /// The same of an entry that was so warm where it came from.
    pub fn add_warm(&mut self, entry: EntryRef<'_>, warmth: Warmth) -> Result<()> {
        let new_key = self.check(&entry)?;
        // Worst case of the entry's own bytes: its front, its part of a restart and of three columns.
        let more = entry.key.len() + entry.value.len() + 32;
        if !self.block.is_empty() && self.block.size() + more > self.options.block_bytes {
            self.finish_block(Some(entry.key))?;
        }
        if self.tally.entries == 0 {
            self.first_key = Bytes::copy_from_slice(entry.key);
        }
        if new_key {
            if self.options.filter_bits_per_key > 0 {
                self.key_hashes.push(key_hash(entry.key));
            }
            self.last_key.clear();
            self.last_key.extend_from_slice(entry.key);
        }
        self.last_seq = entry.seq;
        self.tally.add(entry, new_key);
        self.block.add(entry);
        self.warmth.add(warmth);
        Ok(())
    }

    /// Bytes of the blocks finished so far, as stored: without the block being built and without the tail.
    pub fn bytes(&self) -> u64 {
        self.offset
    }
    /// Memory held, in bytes, but for the first and last key.
    pub fn bytes_held(&self) -> usize {
        let ready: usize = self.ready.iter().map(Bytes::len).sum();
        let hashes = self.key_hashes.capacity() * size_of::<u64>();
        ready + hashes + self.chunk.capacity() + self.raw.capacity() + self.block.size() + self.index.size()
    }
    /// How many entries were added.
    pub fn entries(&self) -> u64 {
        self.tally.entries
    }
    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.tally.entries == 0
    }
    /// The full key added last; empty if none was.
    pub fn last_key(&self) -> &[u8] {
        &self.last_key
    }
    /// Stored bytes that are ready to upload, in order, in chunks of about a MiB. The rest follow
    /// later, the last with [`Self::finish`].
    pub fn take_ready(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.ready)
    }

    /// Ends the SST. Fails with `Invalid` if nothing was added.
    pub fn finish(mut self) -> Result<Finished> {
        if self.is_empty() {
            return Err(Error::invalid("an SST without entries cannot be written"));
        }
        self.finish_block(None)?;
        self.end_chunk();
        let meta = SstMeta {
            id: self.id.to_bytes().into(),
            tail_offset: self.offset,
            first_key: self.first_key.clone(),
            last_key: Bytes::copy_from_slice(&self.last_key),
            blocks: self.index.blocks() as u64,
            ..self.tally.meta()
        };
        let properties = Properties {
            meta: meta.clone(),
            block_bytes: self.options.block_bytes as u64,
            restart_interval: self.options.restart_interval as u32,
            codec: self.options.codec as u32,
            filter_bits_per_key: self.options.filter_bits_per_key,
            raw_block_bytes: self.raw_block_bytes,
            compressed_blocks: self.compressed_blocks,
        }
        .encode_to_vec();
        let filter = filter::build(&self.key_hashes, self.options.filter_bits_per_key);
        let index = self.index.finish();
        let footer = Footer::of(self.id, self.offset, [&filter, &index, &properties]);
        let mut tail = Vec::with_capacity(filter.len() + index.len() + properties.len() + FOOTER_BYTES);
        tail.extend_from_slice(&filter);
        tail.extend_from_slice(&index);
        tail.extend_from_slice(&properties);
        let footer_at = self.offset + tail.len() as u64;
        footer.write(self.id, footer_at, &mut tail);
        self.hasher.0.write(&tail);
        let meta = SstMeta {
            bytes: self.offset + tail.len() as u64,
            hash: Bytes::copy_from_slice(&self.hasher.0.finish_128().to_le_bytes()),
            ..meta
        };
        let tail = Bytes::from(tail);
        if let Some(cache) = &self.cache {
            cache.put_tail(self.id, self.offset, &tail);
        }
        let mut chunks = self.ready;
        chunks.push(tail);
        Ok(Finished { chunks, meta })
    }

    /// Whether the entry may come now, and whether its key is a new one.
    fn check(&self, entry: &EntryRef<'_>) -> Result<bool> {
        let new_key = match entry.key.cmp(&self.last_key) {
            std::cmp::Ordering::Greater => true,
            std::cmp::Ordering::Equal if self.is_empty() => true,
            std::cmp::Ordering::Equal if entry.seq < self.last_seq => false,
            _ => {
                return Err(Error::new(
                    ErrorKind::Corruption,
                    format!(
                        "entries came out of order while writing {}: {:?} at sequence number {} after {:?} at {}",
                        Name::Sst(self.id),
                        entry.key.escape_ascii().to_string(),
                        entry.seq,
                        self.last_key.escape_ascii().to_string(),
                        self.last_seq
                    ),
                ));
            }
        };
        if entry.key.len() < KEYSPACE_BYTES {
            return Err(Error::invalid("a key without a keyspace cannot be written to an SST"));
        }
        if entry.key.len() > MAX_FULL_KEY_BYTES || entry.value.len() > MAX_VALUE_BYTES {
            return Err(Error::invalid(format!(
                "an entry with a key of {} bytes and a value of {} is over the limits",
                entry.key.len(),
                entry.value.len()
            )));
        }
        if entry.kind == Kind::RangeDelete {
            return Err(Error::unsupported(
                "a range delete among the points of an SST is not known to this version",
            ));
        }
        Ok(new_key)
    }

    /// Compresses, checks and stores the block; `next` is the key that the next one begins with.
    fn finish_block(&mut self, next: Option<&[u8]>) -> Result<()> {
        self.raw.clear();
        self.block.finish_into(&mut self.raw);
        if self.chunk.capacity() == 0 {
            self.chunk.reserve(CHUNK_BYTES + self.options.block_bytes);
        }
        let warmth = self.warmth.take();
        if let Some(cache) = &self.cache {
            cache.put_block(self.id, self.offset, &self.raw, warmth);
        }
        let start = self.chunk.len();
        let codec = compress(self.options.codec, &self.raw, &mut self.chunk);
        self.chunk.put_u8(codec as u8);
        self.chunk.put_u32_le(self.raw.len() as u32);
        let sum = checksum(place_seed(self.id.seed(), self.offset), &self.chunk[start..]);
        self.chunk.put_u64_le(sum);
        self.hasher.0.write(&self.chunk[start..]);
        self.offset += (self.chunk.len() - start) as u64;
        self.raw_block_bytes += self.raw.len() as u64;
        self.compressed_blocks += (codec != Codec::None) as u64;
        self.raw.shrink_to(CHUNK_BYTES);
        self.index.add(self.offset, &self.last_key, next);
        if self.index.size() > MAX_INDEX_BYTES {
            return Err(Error::invalid("an SST has outgrown its index").hint("cut SSTs at a smaller size"));
        }
        if self.chunk.len() >= CHUNK_BYTES {
            self.end_chunk();
        }
        Ok(())
    }

    fn end_chunk(&mut self) {
        if !self.chunk.is_empty() {
            self.ready.push(std::mem::take(&mut self.chunk).into());
        }
    }
}

impl std::fmt::Debug for Hasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("XXH3-128")
    }
}
