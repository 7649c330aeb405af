//! The conservation sum: an order-independent set hash of entries (design §5.5).
use crate::key::EntryRef;
/// Eight 32-bit lanes, each added modulo a prime (2^32 - 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sum([u32; 8]);
impl Sum {
    pub fn add_entry(&mut self, entry: EntryRef<'_>) { todo!() }
    pub fn add(&mut self, other: &Sum) { todo!() }
    pub fn remove(&mut self, other: &Sum) { todo!() }
    pub fn to_bytes(&self) -> [u8; 32] { todo!() }
    pub fn from_bytes(bytes: &[u8]) -> Option<Sum> { todo!() }
}
