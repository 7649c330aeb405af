//! What a read reads: memtables and a version, as one immutable value.
use std::sync::Arc;
use crate::{manifest::View, memtable::Memtable};
/// Swapped as a whole (ArcSwap) whenever a memtable freezes, a flush or a compaction commits, a manifest is followed.
#[derive(Debug, Clone)]
pub struct SuperVersion { pub active: Arc<Memtable>, /// newest first
    pub frozen: Vec<Arc<Memtable>>, pub view: Arc<View> }
