//! Sustained overwriting with merging beside, and what lies there when all is quiet.
//!
//! ```text
//! rows loaded, quiet ──▶ updates of any row, accepted, --overwrites times the rows ──▶ flush, merge until quiet, --rest ──▶ look
//! ```
//!
//! | bytes | an engine of objects | an engine of files |
//! |---|---|---|
//! | given | keys and values of the updates | the same |
//! | written | bodies of PUTs, counted below the engine | what its process handed to `write` calls |
//! | stored | sizes of all objects it left, deleted ones not | blocks that its files occupy |
//! | live | keys and values of the rows, raw | the same |
//! | tree | what its own account of its tree says | the same |
//!
//! Always true: written bytes include those of the merging after the last update; every row is read back at its newest version.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use anyhow::{Context as _, Result};
use esker_bench::{measure::written_bytes, sample::Volume, workload::UPDATE};

use super::{Said, Stage};
use crate::{
    clients::{self, Load, Until},
    engine::{Engine, Order},
};

impl<E: Engine> Stage<'_, E> {
    pub(super) async fn overwrite(&mut self, name: &str) -> Result<()> {
        let plan = self.plan();
        let engine = self.warm().await?;
        let updates = (plan.rows as f64 * plan.overwrites / plan.clients as f64).ceil() as u64;
        let load = Load {
            mix: UPDATE,
            until: Until::Operations(updates.max(1)),
            rate: plan.rate,
            ..self.base_load()
        };
        let keeps_objects = self.session.engine.keeps_objects();
        let (before, written) = (self.before(), written_bytes());
        let ran = clients::run(&engine, &self.data, &load).await?;
        (self.tell)(Said::Doing(format!("{name}, until quiet")));
        self.settle(&engine).await?;
        if keeps_objects {
            tokio::time::sleep(plan.rest).await;
        }
        let mut sample = self.sample(name, &before, &ran);
        let written = match sample.requests {
            Some(requests) => Some(requests.put_bytes),
            None => written_bytes().zip(written).map(|(now, before)| now.saturating_sub(before)),
        };
        let stored = if keeps_objects {
            self.place.objects_bytes("rows").await?
        } else {
            files_bytes(&self.home.folder)?
        };
        sample.volume = Some(Volume {
            given_bytes: ran.operations * self.data.row_bytes(),
            written_bytes: written,
            live_bytes: Some(self.data.rows() * self.data.row_bytes()),
            stored_bytes: Some(stored),
            tree_bytes: engine.tree_bytes(),
            budget_bytes: engine.write_budget().map(|writes| writes + plan.cache_bytes),
        });
        (self.tell)(Said::Measured(Box::new(sample)));
        (self.tell)(Said::Doing(format!("{name}, reading it back")));
        self.place.shape(false);
        let sum = self.data.sum();
        clients::scan_all(&engine, &self.data, Order::Ascending, None, sum)
            .await
            .context("while reading back")?;
        Ok(())
    }
}

/// What the files below `folder` occupy: a file that is longer than what was written to it counts what was written.
fn files_bytes(folder: &Path) -> Result<u64> {
    const BLOCK: u64 = 512;
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // A file that a merge has deleted meanwhile occupies nothing.
        let Ok(about) = entry.metadata() else { continue };
        sum += if about.is_dir() { files_bytes(&entry.path())? } else { about.blocks() * BLOCK };
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_only_made_long_occupies_next_to_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("below");
        fs::create_dir(&below).unwrap();
        fs::File::create(below.join("sparse")).unwrap().set_len(64 << 20).unwrap();
        fs::write(folder.path().join("full"), vec![7; 1 << 20]).unwrap();
        fs::File::open(folder.path().join("full")).unwrap().sync_all().unwrap();
        let bytes = files_bytes(folder.path()).unwrap();
        assert!((1 << 20..2 << 20).contains(&bytes), "{bytes}");
    }
}
