//! Several changes that become visible and durable together.
use std::time::Duration;
/// An atomic batch, across keyspaces.
#[derive(Debug, Default, Clone)]
pub struct WriteBatch {}
impl WriteBatch {
    pub fn new() -> Self { todo!() }
    /// `keyspace`: a `&Keyspace` or a `&Db` (its default keyspace).
    pub fn put(&mut self, keyspace: &impl super::batch::In, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> &mut Self { todo!() }
    pub fn put_ttl(&mut self, keyspace: &impl super::batch::In, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>, ttl: Duration) -> &mut Self { todo!() }
    /// Absolute expiry, in wall-clock milliseconds (0: never). What `esker load` of an export uses.
    pub fn put_expiring_at(&mut self, keyspace: &impl super::batch::In, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>, expire_at_ms: u64) -> &mut Self { todo!() }
    pub fn delete(&mut self, keyspace: &impl super::batch::In, key: impl AsRef<[u8]>) -> &mut Self { todo!() }
    pub fn len(&self) -> usize { todo!() }
    pub fn is_empty(&self) -> bool { todo!() }
    /// Bytes of keys and values.
    pub fn bytes(&self) -> usize { todo!() }
}
/// What a batch entry can be put in.
pub trait In { fn keyspace_id(&self) -> crate::key::KeyspaceId; }
