//! Loading, following and committing versions (design §4.2).
use std::sync::Arc;
use crate::{error::Result, stats::Cause, store::Store, manifest::{Edit, View, StoredOptions, identity::Identity}};
/// The manifest of one database.
#[derive(Debug, Clone)]
pub struct Manifest {}
impl Manifest {
    /// Opens an existing database; Invalid with a hint if there is none at this place.
    pub async fn open(store: Store) -> Result<Manifest> { todo!() }
    /// Opens, or creates with `options` if nothing is there (probing the store first).
    pub async fn open_or_create(store: Store, options: StoredOptions) -> Result<Manifest> { todo!() }
    pub fn identity(&self) -> &Identity { todo!() }
    pub fn store(&self) -> &Store { todo!() }
    /// LIST, GET the highest, check it is above the floor, load parts.
    pub async fn latest(&self, cause: Cause) -> Result<Arc<View>> { todo!() }
    pub async fn version(&self, id: u64, cause: Cause) -> Result<Option<Arc<View>>> { todo!() }
    /// The version after `base` if it is there: one GET of n+1.
    pub async fn follow(&self, base: &View, cause: Cause) -> Result<Option<Arc<View>>> { todo!() }
    /// Commits `edit` on `base` or on what has superseded it; the five steps of design §4.2.
    pub async fn commit(&self, base: &Arc<View>, edit: &Edit, cause: Cause) -> Result<Arc<View>> { todo!() }
}
