//! The compactor role: claims the epoch, runs jobs, publishes by edit.
use std::{sync::Arc, time::Duration};
use crate::{compaction::{plan::Plan, job::JobStats, collect::Collected}, error::Result, manifest::{Manifest, View}};
/// Holds the compactor epoch of one database.
#[derive(Debug)]
pub struct Compactor {}
/// What a step did.
#[derive(Debug, Clone)]
pub enum Did { Nothing, Moved { plan: Plan }, Merged { plan: Plan, stats: JobStats } }
impl Compactor {
    /// Claims the role. Conflict, naming the holder and until when, if another compactor is at work (`busy_until_ms` in the future) and `force` is off.
    pub async fn claim(manifest: Manifest, name: &str, force: bool) -> Result<Compactor> { todo!() }
    /// Picks and does one thing.
    pub async fn step(&mut self) -> Result<Did> { todo!() }
    /// One whole run: everything into one bottom run.
    pub async fn step_all(&mut self) -> Result<Did> { todo!() }
    pub fn view(&self) -> &Arc<View> { todo!() }
    /// One garbage collection pass (compaction/collect.rs).
    pub async fn collect(&mut self, dry_run: bool) -> Result<Collected> { todo!() }
    /// Gives the role up so that the next claims at once.
    pub async fn release(self) -> Result<()> { todo!() }
}
