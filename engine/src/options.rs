//! The options a process may set. Few, and none must be set. (Options that change bytes live in the manifest: manifest::StoredOptions.)
use std::{path::PathBuf, time::Duration};
/// Who merges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compaction { #[default] InProcess, Off }
#[derive(Debug, Clone)]
pub struct Options {
    /// The one memory budget for log buffers, memtables, uploads (bytes).
    pub memory_bytes: usize,
    /// A memtable is frozen at this size.
    pub memtable_bytes: usize,
    /// Block cache: memory, and SSD directory and size.
    pub cache_bytes: usize,
    pub cache_dir: Option<(PathBuf, u64)>,
    pub compaction: Compaction,
    /// Every wait ends after this.
    pub deadline: Duration,
    /// Create the database if there is none.
    pub create: bool,
    /// A name for this process in fencing messages; host:pid by default.
    pub name: Option<String>,
}
