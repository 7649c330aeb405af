//! Garbage collection (design §4.5). The only file that deletes.
use std::time::Duration;
use crate::{error::Result, manifest::Manifest, store::Name};
/// What a pass deleted (or would have), and what it kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected { pub deleted: Vec<(Name, u64)>, pub bytes: u64, /// unreferenced, but its producer may still publish it
    pub waiting: usize, pub floor: u64 }
/// One pass. `retention` bounds how far the manifest floor may move; it never decides safety.
pub async fn collect(manifest: &Manifest, retention: Option<Duration>, dry_run: bool) -> Result<Collected> { todo!() }
