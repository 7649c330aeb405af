//! The identity object `DB`: created once.
use crate::{error::Result, store::Store};
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity { pub db_uuid: u128, pub wal_window: u32 }
impl Identity {
    pub async fn load(store: &Store) -> Result<Option<Identity>> { todo!() }
    /// Creates `DB` (after the short probe) or loads what another process created at the same moment.
    pub async fn create(store: &Store, wal_window: u32) -> Result<Identity> { todo!() }
}
