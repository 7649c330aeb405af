//! A numbered sequence of immutable objects, each created once by put-if-absent: the commit rule.
use bytes::Bytes;
use crate::{error::Result, stats::Cause, store::{Folder, Name, Store}};
/// 16 fresh random bytes in every body, by which a writer knows its own object again. All sequence bodies carry it
/// at bytes 8..24, after an 8-byte magic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token(pub [u8; 16]);
/// Whose bytes are in the slot.
#[derive(Debug, Clone)]
pub enum Slot { Ours, Theirs(Bytes) }
/// One sequence: manifest, WAL or job log.
#[derive(Debug, Clone)]
pub struct Sequence {}
impl Sequence {
    pub fn new(store: Store, folder: Folder) -> Sequence { todo!() }
    pub async fn get(&self, id: u64, cause: Cause) -> Result<Option<Bytes>> { todo!() }
    /// The highest id present (LIST after `hint`).
    pub async fn latest(&self, hint: u64, cause: Cause) -> Result<Option<u64>> { todo!() }
    /// Steps 2 and 3 of the commit rule: create slot `id` with `body`, until the slot is occupied; the verdict is
    /// by the bytes in the slot (token at 8..24), never by an error kind. Retries with the same bytes while absent;
    /// returns Err(Unavailable) only after `give_up` has passed (None: never gives up).
    pub async fn create(&self, id: u64, body: Vec<Bytes>, cause: Cause, give_up: Option<std::time::Duration>) -> Result<Slot> { todo!() }
}
