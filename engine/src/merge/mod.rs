//! Merging sorted sources into one order: synchronous, over bytes already here.
//!
//! ```text
//! memtables ─ MemWalk ─┐
//!                      ├─ Tree ── Visible ── rows of a scan
//! sorted runs ─ RunCursor ─┘  └── Retain ─── entries of a compaction
//! ```
//!
//! Where entries of a block come before all that other sources have, a scan takes them at once (`rows.rs`).
//!
//! Nothing here does I/O or awaits. When a byte is needed that is not here, a step answers
//! [`Step::Missing`] and changes nothing; the driver (a scan, a compaction) brings the byte, makes it
//! visible through its [`BlockSource`], and takes the same step again. Before the first entry every
//! source needs its first block, and [`Tree::missing`] names them all at once: one parallel round.
//!
//! Always true: entries come in full key order (ascending forward, descending in reverse), versions of
//! one key newest first forward and oldest first in reverse.

pub mod retain;
mod rows;
pub mod run;
pub mod source;
pub mod tree;
pub mod visible;

use std::sync::Arc;

use crate::{
    block::Block,
    error::{Error, Result},
    key::{Kind, is_expired},
    sst::{OpenSst, Tail},
};

pub use retain::Retain;
pub use run::RunCursor;
pub use source::{MemWalk, Source};
pub use tree::Tree;
pub use visible::Visible;

/// Bytes that are not here. Fetch them, make them visible through the [`BlockSource`], take the step again.
#[derive(Debug, Clone)]
pub enum Missing {
    /// The filter, index and properties of an SST.
    Tail(Arc<OpenSst>),
    /// The block with this index.
    Block(Arc<OpenSst>, usize),
}

impl Missing {
    /// The SST whose bytes are missing.
    pub fn sst(&self) -> &Arc<OpenSst> {
        match self {
            Self::Tail(sst) | Self::Block(sst, _) => sst,
        }
    }

    /// About what it has in the store, in bytes. Blocks of one SST count alike.
    pub fn stored_bytes(&self) -> u64 {
        let meta = &self.sst().meta;
        match self {
            Self::Tail(_) => meta.bytes.saturating_sub(meta.tail_offset),
            Self::Block(..) => meta.tail_offset / meta.blocks.max(1),
        }
    }

    /// About what bringing it takes of memory, in bytes: as it is stored, and as it is searched. Blocks of one SST count
    /// alike.
    pub fn memory_bytes(&self) -> usize {
        let meta = &self.sst().meta;
        let bytes = match self {
            Self::Tail(_) => 2 * meta.bytes.saturating_sub(meta.tail_offset),
            Self::Block(..) => (meta.tail_offset + meta.raw_bytes.max(meta.tail_offset)) / meta.blocks.max(1),
        };
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }
}

/// Where bytes that are already here can be found: a cache, or what a compaction has prefetched.
pub trait BlockSource {
    /// The block with this index of `sst`, if it is here.
    fn block(&self, sst: &Arc<OpenSst>, index: usize) -> Option<Block>;
    /// The tail of `sst`, if it is here.
    fn tail(&self, sst: &Arc<OpenSst>) -> Option<Arc<Tail>> {
        sst.tail.load_full()
    }
}

/// What a cursor says when told to move.
#[derive(Debug)]
pub enum Step {
    /// It is on an entry.
    Ready,
    /// There are no more entries; it says so again if asked again.
    End,
    /// It cannot move until these bytes are here, and has not moved.
    Missing(Missing),
}

/// Which way a cursor goes; fixed when it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Keys ascend, versions of a key come newest first.
    Forward,
    /// Keys descend, versions of a key come oldest first: the exact reverse.
    Reverse,
}

/// Whether the newest visible version of a key is a row: a put that has not expired. Fails with
/// `Unsupported`, naming the kind, for kinds that need more than the version itself.
#[inline]
pub fn is_row(kind: Kind, expire_at_ms: u64, now_ms: u64) -> Result<bool> {
    match kind {
        Kind::Put => Ok(!is_expired(expire_at_ms, now_ms)),
        Kind::Delete => Ok(false),
        Kind::Merge | Kind::RangeDelete | Kind::PutIndirect => Err(refuse(kind)),
    }
}

/// The refusal of a kind whose meaning this version does not implement.
fn refuse(kind: Kind) -> Error {
    Error::unsupported(format!("an entry is a {}, which this version cannot read", kind.name()))
        .hint("open this database with a newer esker")
}
