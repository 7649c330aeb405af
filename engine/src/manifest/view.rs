//! A version as readers use it.
use std::sync::Arc;
use crate::{manifest::Root, sst::{OpenSst, SstMeta}, store::ObjectId, error::Result};
/// A sorted run of a version.
#[derive(Debug, Clone)]
pub struct RunView { pub id: u64, pub level: u32, pub ssts: Arc<[Arc<OpenSst>]> }
/// One version, decoded, parts loaded. Immutable.
#[derive(Debug)]
pub struct View { pub root: Root, pub runs: Vec<RunView> }
impl View {
    /// Shares the OpenSsts of `previous` by id.
    pub fn new(root: Root, previous: Option<&View>) -> Result<View> { todo!() }
    pub fn id(&self) -> u64 { self.root.id }
    pub fn sst(&self, id: ObjectId) -> Option<&Arc<OpenSst>> { todo!() }
    pub fn keyspace(&self, name: &str) -> Option<crate::key::KeyspaceId> { todo!() }
}
