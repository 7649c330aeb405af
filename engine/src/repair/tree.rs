//! Building SSTs in a repair: entries in order become objects, or are only counted in a dry run.
//!
//! Always true: what is told of an SST in a dry run is what it would be.

use std::sync::Arc;

use crate::{
    compaction::{job::sst_options, outputs::Outputs},
    error::{Error, Result},
    key::EntryRef,
    manifest::StoredOptions,
    memtable::Memtable,
    sst::{SstBuilder, SstMeta},
    stats::Cause,
    store::{ObjectId, Store},
};

/// Entries between two uploads of what is ready.
const TURN_ENTRIES: u64 = 4096;

/// An SST being built, and sent unless it is a dry run.
pub(super) struct Building {
    id: ObjectId,
    builder: SstBuilder,
    outputs: Option<Outputs>,
}

impl Building {
    /// An SST called `id` for `level`, sent to `store` if `act`.
    pub(super) fn new(
        store: &Store,
        id: ObjectId,
        options: &StoredOptions,
        level: u32,
        act: bool,
    ) -> Result<Self> {
        let builder = SstBuilder::new(id, sst_options(options, level)?);
        Ok(Self { id, builder, outputs: act.then(|| Outputs::new(store, Cause::Admin)) })
    }

    /// Adds the next entry.
    pub(super) fn add(&mut self, entry: EntryRef<'_>) -> Result<()> {
        self.builder.add(entry)
    }

    /// Sends what is ready.
    pub(super) async fn send(&mut self) -> Result<()> {
        let ready = self.builder.take_ready();
        match &mut self.outputs {
            Some(outputs) if !ready.is_empty() => outputs.push(self.id, ready, None).await,
            _ => Ok(()),
        }
    }

    /// The SST, complete in the store; `None` if it has no entries.
    pub(super) async fn finish(mut self) -> Result<Option<SstMeta>> {
        if self.builder.is_empty() {
            return Ok(None);
        }
        self.send().await?;
        let finished = self.builder.finish()?;
        if let Some(outputs) = &mut self.outputs {
            outputs.push(self.id, finished.chunks, Some(finished.meta.clone())).await?;
        }
        Ok(Some(finished.meta))
    }
}

/// A memtable as one SST of level 0.
pub(super) async fn flush(
    store: &Store,
    id: ObjectId,
    options: &StoredOptions,
    memtable: Memtable,
    act: bool,
) -> Result<SstMeta> {
    let mut building = Building::new(store, id, options, 0, act)?;
    let mut cursor = Arc::new(memtable).cursor();
    cursor.first();
    let mut entries = 0u64;
    while cursor.is_valid() {
        building.add(cursor.entry())?;
        cursor.next();
        entries += 1;
        if entries.is_multiple_of(TURN_ENTRIES) {
            building.send().await?;
        }
    }
    building.finish().await?.ok_or_else(|| Error::invalid("a memtable without entries is no SST"))
}
