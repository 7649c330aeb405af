//! WAL objects: header, then batches of operations.
use bytes::Bytes;
use crate::{error::Result, key::{Entry, KeyspaceId, Kind, Seq}};
/// One operation of a batch, before it has a number. `key` is a full key.
#[derive(Debug, Clone, Copy)]
pub struct Op<'a> { pub kind: Kind, pub key: &'a [u8], pub expire_at_ms: u64, pub value: &'a [u8] }
/// The open log buffer: batches are encoded here once; the memtable shares the bytes.
#[derive(Debug)]
pub struct LogBuffer {}
impl LogBuffer {
    pub fn new(first_seq: Seq) -> Self { todo!() }
    /// Encodes a batch whose first op has number `first`; calls `each` with every op as an Entry sharing the buffer's bytes.
    pub fn append<'a>(&mut self, first: Seq, ops: impl ExactSizeIterator<Item = Op<'a>>, each: impl FnMut(Entry)) { todo!() }
    pub fn bytes(&self) -> usize { todo!() }
    pub fn is_empty(&self) -> bool { todo!() }
    /// Takes what is in the buffer; the buffer starts again at `next_seq`.
    pub fn seal(&mut self, next_seq: Seq) -> SealedLog { todo!() }
}
/// What will be one WAL object: cut off, not yet given its header.
#[derive(Debug, Clone)]
pub struct SealedLog { pub first_seq: Seq, pub last_seq: Seq, pub chunks: Vec<Bytes>, pub bytes: usize }
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalHeader { pub db_uuid: u128, pub writer_uuid: u128, pub epoch: u32, pub slot: u64, pub token: [u8; 16], pub first_seq: Seq }
/// A decoded WAL object.
#[derive(Debug, Clone)]
pub enum WalObject { Data { header: WalHeader, entries: Vec<Entry>, last_seq: Seq }, Fence { header: WalHeader, writer_name: String } }
impl WalObject {
    /// Checks everything: magic, place (slot), db uuid, checksums, limits before allocation. Entries share `bytes` (or the decompressed body).
    pub fn decode(slot: u64, db_uuid: u128, bytes: Bytes) -> Result<WalObject> { todo!() }
    pub fn header(&self) -> &WalHeader { todo!() }
}
/// The body of a DATA object; compressed with lz4 when that gains.
pub fn encode_data(header: &WalHeader, log: &SealedLog) -> Vec<Bytes> { todo!() }
pub fn encode_fence(header: &WalHeader, writer_name: &str) -> Bytes { todo!() }
