//! Object names, by a strict grammar; parsed and rebuilt, never joined from strings read back.
use crate::error::Result;
/// Who made an immutable object: w (writer) or c (compactor).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role { Writer, Compactor }
/// The never-reused id of an SST, part or blob: `{role}{epoch:08x}-{counter:010x}-{nonce:016x}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId { pub role: Role, pub epoch: u32, pub counter: u64, pub nonce: u64 }
/// An object of a database.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Name { Identity, Manifest(u64), Wal(u64), Job(u64), Sst(ObjectId), Part(ObjectId), Blob(ObjectId), ManifestFloor(u64), JobFloor(u64), Pin(u128), Checkpoint(String) }
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Folder { Manifest, Wal, Job, Sst, Part, Blob, ManifestFloor, JobFloor, Pin, Checkpoint }
impl Name { pub fn path(&self) -> String { todo!() } pub fn parse(path: &str) -> Option<Name> { todo!() } }
impl std::fmt::Display for ObjectId { fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { todo!() } }
impl std::fmt::Display for Name { fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { todo!() } }
impl ObjectId {
    pub fn parse(text: &str) -> Option<ObjectId> { todo!() }
    /// Seed for checksums by place.
    pub fn seed(&self) -> u64 { todo!() }
    /// As 21 bytes / protobuf bytes.
    pub fn to_bytes(&self) -> Vec<u8> { todo!() }
    pub fn from_bytes(bytes: &[u8]) -> Option<ObjectId> { todo!() }
}
